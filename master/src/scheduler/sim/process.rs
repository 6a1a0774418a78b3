//! A worker process as far as the scheduler can tell: slots, a queue, outputs kept until acknowledged.

use crate::scheduler::Millis;
use quipu_shared::host::HostLoad;
use quipu_shared::ids::{Epoch, WorkerId};
use quipu_shared::wire::{HeldShard, Lease};
use std::collections::{BTreeMap, VecDeque};

/// From master to worker.
#[derive(Clone, Copy, Debug)]
pub enum Command {
    Lease { lease: Lease, first_row: u64, rows: u64 },
    Adopt { held: Lease, lease: Lease },
    Cancel(Lease),
    Acknowledge(Lease),
}

/// From worker to master.
#[derive(Clone, Debug)]
pub enum Report {
    Accepted(Lease),
    Rejected(Lease),
    Progressed(Lease, u64),
    Completed(Lease, Output),
    Failed(Lease),
    DrainStarted(Vec<Lease>),
    Host(HostLoad),
}

/// A finished attempt.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    pub busy_us: u64,
    pub failed_row: Option<u64>,
}

/// A finished attempt, kept until it is acknowledged.
#[derive(Clone, Copy, Debug)]
pub struct Kept {
    pub run: Run,
    pub output: Output,
}

/// How a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Completes,
    Panics,
    KillsItsProcess,
}

/// An attempt in a slot or waiting for one.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// Its name in its process, whatever lease it runs under.
    pub number: u64,
    pub lease: Lease,
    pub first_row: u64,
    pub rows: u64,
}

/// One worker process; its number stays over restarts, its incarnation does not.
#[derive(Debug)]
pub struct Process {
    pub up: bool,
    pub incarnation: u64,
    pub slots: usize,
    pub credits: usize,
    /// Rows a millisecond of a job of speed 1, in thousandths.
    pub speed_permille: u64,
    pub link: Option<WorkerId>,
    pub epoch: Epoch,
    pub running: Vec<Run>,
    pub queue: VecDeque<Run>,
    pub outputs: BTreeMap<Lease, Kept>,
    pub draining: bool,
    pub paused_until: Millis,
    pub zone: &'static str,
    pub weight: u32,
    /// Until when every attempt fails here, over restarts.
    pub broken_until: Millis,
    /// Its host, and until when that is so.
    pub host: HostLoad,
    pub host_until: Millis,
}

impl Process {
    pub fn new(slots: usize, credits: usize, speed_permille: u64) -> Self {
        Self {
            up: false,
            incarnation: 0,
            slots,
            credits,
            speed_permille,
            link: None,
            epoch: Epoch(0),
            running: Vec::new(),
            queue: VecDeque::new(),
            outputs: BTreeMap::new(),
            draining: false,
            paused_until: 0,
            zone: "",
            weight: 1,
            broken_until: 0,
            host: HostLoad::default(),
            host_until: 0,
        }
    }

    /// Forgets everything, as `kill -9` does.
    pub fn die(&mut self) {
        self.up = false;
        self.incarnation += 1;
        self.link = None;
        self.running.clear();
        self.queue.clear();
        self.outputs.clear();
        self.draining = false;
        self.paused_until = 0;
    }

    pub fn has(&self, lease: &Lease) -> bool {
        self.running.iter().chain(&self.queue).any(|run| run.lease == *lease)
    }

    /// What survives a restart of the master, finished attempts first.
    pub fn held(&self) -> Vec<HeldShard> {
        let kept = self.outputs.values().map(|kept| &kept.run);
        let held = |run: &Run| HeldShard { lease: run.lease, first_row: run.first_row, rows: run.rows };
        kept.chain(&self.running).map(held).collect()
    }

    pub fn is_full(&self) -> bool {
        self.running.len() + self.queue.len() >= self.credits
    }

    /// Stops an attempt; false if there is none.
    pub fn stop(&mut self, lease: &Lease) -> bool {
        let had = self.has(lease);
        self.running.retain(|run| run.lease != *lease);
        self.queue.retain(|run| run.lease != *lease);
        had
    }

    /// Moves the next waiting attempt into a free slot.
    pub fn start_next(&mut self) -> Option<Run> {
        if self.running.len() >= self.slots {
            return None;
        }
        let run = self.queue.pop_front()?;
        self.running.push(run);
        Some(run)
    }
}
