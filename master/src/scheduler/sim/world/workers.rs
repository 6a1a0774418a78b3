//! What worker processes do on their own and when told.

use super::{Act, PERIODS_UNANSWERED_MAX, PROGRESS_MS, World};
use crate::scheduler::sim::chance::Counted;
use crate::scheduler::sim::process::{Command, Fate, Kept, Output, Report, Run};
use quipu_shared::host::HostLoad;
use quipu_shared::ids::WorkerId;
use quipu_shared::wire::Lease;

impl World {
    pub(super) fn reach_worker(&mut self, link: WorkerId, command: Command) {
        let Some(index) = self.links.get(&link).filter(|link| link.up).map(|link| link.process) else { return };
        let process = &mut self.processes[index];
        if process.link != Some(link) {
            return;
        }
        if process.paused_until > self.now {
            let resumed_at = process.paused_until;
            self.at(resumed_at, Act::ToWorker(link, command));
            return;
        }
        match command {
            Command::Acknowledge(lease) => {
                process.outputs.remove(&lease);
                self.leave_if_drained(index);
            }
            Command::Cancel(lease) => {
                let report = match process.outputs.get(&lease) {
                    Some(kept) => Report::Completed(lease, kept.output),
                    None => Report::Rejected(lease),
                };
                process.stop(&lease);
                self.send_report(index, report);
                self.start_runs(index);
            }
            Command::Adopt { held, lease } => self.adopt(index, held, lease),
            Command::Lease { lease, first_row, rows } => {
                if lease.epoch < process.epoch {
                    return;
                }
                let is_spurious = self.fault(10, Counted::SpuriousRejection);
                let process = &self.processes[index];
                let report = match process.outputs.get(&lease) {
                    Some(kept) => Report::Completed(lease, kept.output),
                    None if process.has(&lease) => Report::Accepted(lease),
                    None if process.draining || process.is_full() || is_spurious => Report::Rejected(lease),
                    None => {
                        self.last_run += 1;
                        let run = Run { number: self.last_run, lease, first_row, rows };
                        self.processes[index].queue.push_back(run);
                        Report::Accepted(lease)
                    }
                };
                self.send_report(index, report);
                self.start_runs(index);
            }
        }
    }

    /// What is here of an older epoch goes on under a new lease. (Adoption may come twice.)
    fn adopt(&mut self, index: usize, held: Lease, lease: Lease) {
        let process = &mut self.processes[index];
        if lease.epoch != process.epoch {
            return;
        }
        if let Some(kept) = process.outputs.remove(&held) {
            let run = Run { lease, ..kept.run };
            process.outputs.insert(lease, Kept { run, ..kept });
            self.counts.note(Counted::AdoptedFinished);
        } else if let Some(run) = process.running.iter_mut().find(|run| run.lease == held) {
            run.lease = lease;
            self.counts.note(Counted::AdoptedRunning);
        }
        let process = &self.processes[index];
        let report = match process.outputs.get(&lease) {
            Some(kept) => Report::Completed(lease, kept.output),
            None if process.has(&lease) => Report::Accepted(lease),
            None => {
                self.counts.note(Counted::AdoptedTooLate);
                Report::Rejected(lease)
            }
        };
        self.send_report(index, report);
    }

    /// Sends finished attempts, again perhaps.
    pub(super) fn offer_outputs(&mut self, index: usize, which: impl Fn(&Lease) -> bool) {
        for (lease, kept) in self.processes[index].outputs.clone() {
            if which(&lease) {
                self.send_report(index, Report::Completed(lease, kept.output));
            }
        }
    }

    pub(super) fn start_runs(&mut self, index: usize) {
        while let Some(run) = self.processes[index].start_next() {
            let truth = &self.jobs[run.lease.job.0 as usize - 1];
            let mut busy_us = run.rows * 1_000_000 / (truth.rows_per_ms * self.processes[index].speed_permille);
            let mut fate = truth.fate(run.first_row, run.rows);
            let failed_row = truth.failed_row(run.first_row, run.rows);
            if self.fault(10, Counted::Straggler) {
                busy_us *= self.chance.within(10..80);
            }
            if fate == Fate::Completes && self.fault(5, Counted::ExecutorPanicked) {
                fate = Fate::Panics;
            }
            if self.processes[index].broken_until > self.now {
                fate = Fate::Panics;
                busy_us = 1_000;
            }
            let incarnation = self.processes[index].incarnation;
            let ends_at = self.now + busy_us / 1_000;
            self.at(ends_at, Act::RunEnds(index, incarnation, run.number, fate, Output { busy_us, failed_row }));
        }
    }

    pub(super) fn end_run(&mut self, index: usize, incarnation: u64, number: u64, fate: Fate, output: Output) {
        let process = &mut self.processes[index];
        // By its number: the lease may be another one by now.
        let found = process.running.iter().find(|run| run.number == number).copied();
        let Some(run) = found.filter(|_| process.incarnation == incarnation) else { return };
        let lease = run.lease;
        if process.paused_until > self.now {
            let resumed_at = process.paused_until;
            self.at(resumed_at, Act::RunEnds(index, incarnation, number, fate, output));
            return;
        }
        process.stop(&lease);
        let is_poison = self.jobs[lease.job.0 as usize - 1].poison.is_some();
        match fate {
            Fate::Completes => {
                process.outputs.insert(lease, Kept { run, output });
                if lease.epoch == process.epoch {
                    self.send_report(index, Report::Completed(lease, output));
                }
            }
            Fate::Panics => {
                if is_poison {
                    self.counts.note(Counted::PoisonPanic);
                }
                self.send_report(index, Report::Failed(lease));
            }
            Fate::KillsItsProcess => {
                self.counts.note(Counted::PoisonKill);
                self.kill(index);
                return;
            }
        }
        self.start_runs(index);
        self.leave_if_drained(index);
    }

    pub(super) fn report_progress(&mut self, index: usize, incarnation: u64) {
        let process = &self.processes[index];
        if process.incarnation != incarnation {
            return;
        }
        if process.paused_until > self.now {
            let resumed_at = process.paused_until;
            self.at(resumed_at, Act::ProgressTick(index, incarnation));
            return;
        }
        for run in process.running.clone() {
            self.send_report(index, Report::Progressed(run.lease, 0));
        }
        self.report_host(index);
        // What nobody acknowledged is offered again, also of older epochs: the message that adopts it may be lost.
        let ticks = self.now / PROGRESS_MS;
        if ticks.is_multiple_of(PERIODS_UNANSWERED_MAX) {
            self.offer_outputs(index, |_| true);
        }
        self.at(self.now + PROGRESS_MS, Act::ProgressTick(index, incarnation));
    }

    /// Each second if there is anything to say, and now and then in any case: a message may be lost.
    fn report_host(&mut self, index: usize) {
        let process = &mut self.processes[index];
        let is_over = process.host != HostLoad::default() && process.host_until <= self.now;
        if is_over {
            process.host = HostLoad::default();
        }
        let host = process.host;
        if is_over || host != HostLoad::default() || (self.now / PROGRESS_MS).is_multiple_of(PERIODS_UNANSWERED_MAX) {
            self.send_report(index, Report::Host(host));
        }
    }

    pub(super) fn kill(&mut self, index: usize) {
        if let Some(link) = self.processes[index].link.take() {
            self.break_link(link);
        }
        self.processes[index].die();
        let back_at = self.now + self.chance.within(100..4_000);
        self.at(back_at, Act::Start(index));
    }

    pub(super) fn leave_if_drained(&mut self, index: usize) {
        let process = &self.processes[index];
        if process.draining && process.running.is_empty() && process.outputs.is_empty() {
            self.kill(index);
        }
    }
}
