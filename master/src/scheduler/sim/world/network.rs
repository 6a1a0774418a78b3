//! The network: links keep the order of messages, unless a fault strikes, and are dialled again after a loss.

use super::{Act, Link, World};
use crate::scheduler::sim::chance::Counted;
use crate::scheduler::sim::process::{Command, Report};
use crate::scheduler::{Event, WorkerFacts};
use quipu_shared::ids::{NodeId, WorkerId};

impl World {
    pub(super) fn send(&mut self, link: WorkerId, direction: usize, act: impl Fn() -> Act) {
        if !self.links.get(&link).is_some_and(|link| link.up) || self.fault(5, Counted::MessageDropped) {
            return;
        }
        let mut at = self.now + self.chance.within(1..20);
        if self.fault(10, Counted::MessageOvertaken) {
            at += self.chance.within(20..3_000);
        } else if let Some(link) = self.links.get_mut(&link) {
            at = at.max(link.next_at[direction]);
            link.next_at[direction] = at;
        }
        self.at(at, act());
        if self.fault(5, Counted::MessageDuplicated) {
            let again_at = at + self.chance.within(0..3_000);
            self.at(again_at, act());
        }
    }

    pub(super) fn send_command(&mut self, link: WorkerId, command: Command) {
        self.send(link, 0, || Act::ToWorker(link, command));
    }

    pub(super) fn send_report(&mut self, process: usize, report: Report) {
        if let Some(link) = self.processes[process].link {
            self.send(link, 1, || Act::ToMaster(link, report.clone()));
        }
    }

    /// Cuts a link; each side learns of it in its own time, and the worker dials again.
    pub(super) fn break_link(&mut self, id: WorkerId) {
        let Some(link) = self.links.get_mut(&id).filter(|link| link.up) else { return };
        link.up = false;
        let process = link.process;
        let closed_at = self.now + self.chance.pick(&[1, 2, 50, 3_000]);
        let back_at = self.now + self.chance.within(5..1_000);
        self.at(closed_at, Act::LinkSeenClosed(id));
        if self.processes[process].link == Some(id) {
            self.processes[process].link = None;
            // Leased to others by now, as far as the worker knows.
            self.processes[process].queue.clear();
            let incarnation = self.processes[process].incarnation;
            self.at(back_at, Act::Connect(process, incarnation));
        }
    }

    pub(super) fn connect(&mut self, index: usize, incarnation: u64) {
        let process = &self.processes[index];
        if !process.up || process.incarnation != incarnation || process.link.is_some() {
            return;
        }
        let ready_at = process.paused_until.max(self.master_paused_until);
        if ready_at > self.now {
            self.at(ready_at, Act::Connect(index, incarnation));
            return;
        }
        if self.links.values().any(|link| link.process == index && link.epoch == self.ledger.epoch) {
            self.counts.note(Counted::LinkHalfOpen);
        }
        self.last_link += 1;
        let (worker, epoch) = (WorkerId(self.last_link), self.ledger.epoch);
        self.links.insert(worker, Link { process: index, up: true, epoch, next_at: [0, 0] });
        let process = &mut self.processes[index];
        process.link = Some(worker);
        process.epoch = epoch;
        let facts = WorkerFacts {
            node: NodeId::try_from(format!("worker-{index}")).expect("a node id"),
            slots: process.slots as u32,
            credits: process.credits as u32,
            zone: process.zone.to_owned(),
            weight: process.weight,
        };
        let held = process.held();
        self.deliver(Event::WorkerJoined { worker, facts, held });
        self.offer_outputs(index, |lease| lease.epoch == epoch);
        if self.processes[index].draining {
            self.send_report(index, Report::DrainStarted(Vec::new()));
        }
    }
}
