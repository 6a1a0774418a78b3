//! The faults that come at a time of their own.

use super::{Act, World};
use crate::scheduler::sim::chance::Counted;
use crate::scheduler::sim::process::Report;
use quipu_shared::wire::Lease;

impl World {
    pub(super) fn inject_fault(&mut self) {
        if self.is_calm() {
            return;
        }
        self.counts.note(Counted::FaultInjected);
        let index = self.chance.within(0..self.processes.len() as u64) as usize;
        match self.chance.within(0..12) {
            0..3 => {
                if let Some(link) = self.processes[index].link {
                    self.counts.note(Counted::LinkLost);
                    self.break_link(link);
                }
            }
            3..5 => {
                if self.processes[index].up {
                    self.counts.note(Counted::WorkerKilled);
                    self.kill(index);
                }
            }
            5..8 => {
                let (what, least_ms, most_ms) = self.chance.pick(&[
                    (Counted::WorkerPausedShort, 500, 5_000),
                    (Counted::WorkerPausedLong, 12_000, 30_000),
                    (Counted::WorkerPausedVeryLong, 75_000, 90_000),
                ]);
                self.counts.note(what);
                self.processes[index].paused_until = self.now + self.chance.within(least_ms..most_ms);
            }
            8 => {
                let process = &mut self.processes[index];
                if process.up && !process.draining {
                    self.counts.note(Counted::WorkerDrained);
                    process.draining = true;
                    let returned: Vec<Lease> = process.queue.drain(..).map(|run| run.lease).collect();
                    self.send_report(index, Report::DrainStarted(returned));
                    self.leave_if_drained(index);
                }
            }
            9..11 => self.crash_after = Some(self.chance.within(0..10)),
            _ => {
                self.counts.note(Counted::MasterPaused);
                self.master_paused_until = self.now + self.chance.within(11_000..20_000);
            }
        }
        self.faults_left -= 1;
        if self.faults_left > 0 {
            let next_at = self.now + self.chance.within(1..2 * self.fault_spacing_ms);
            self.at(next_at, Act::Fault);
        }
    }
}
