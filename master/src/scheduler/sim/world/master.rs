//! The master: the core and its shell, which makes durable what must be before anyone is told.

use super::{Act, STEPS_MAX, World};
use crate::scheduler::sim::chance::Counted;
use crate::scheduler::sim::invariants::{AFTER_STEP, ON_EFFECT, SAMPLED, SAMPLED_STEPS};
use crate::scheduler::sim::process::{Command, Output, Report};
use crate::scheduler::sim::store::Record;
use crate::scheduler::{Effect, Event, JobOutcome, Scheduler};
use quipu_shared::ids::{Epoch, JobId, WorkerId};
use quipu_shared::wire::Lease;

impl World {
    /// Steps the core, holds it against the invariants and carries its effects out.
    pub(super) fn deliver(&mut self, event: Event) {
        if self.ledger.armed_at.is_some_and(|at| at <= self.now) && event != Event::TimerFired {
            self.deliver(Event::TimerFired);
        }
        self.steps += 1;
        assert!(self.steps < STEPS_MAX, "invariant no_hot_loop: {event:?} at {}", self.now);
        self.ledger.now = self.now;
        self.ledger.see_event(&event);
        self.count_event(&event);
        let mut effects = Vec::new();
        self.core.step(self.now, event.clone(), &mut effects);
        for effect in effects {
            if self.crashes_now() {
                return;
            }
            for (name, holds) in ON_EFFECT {
                assert!(holds(&self.ledger, &effect), "invariant {name}: {effect:?} after {event:?} at {}", self.now);
            }
            self.count_effect(&effect);
            self.ledger.see_effect(&effect);
            self.carry_out(effect);
        }
        let sampled = if self.steps.is_multiple_of(SAMPLED_STEPS) { SAMPLED } else { &[] };
        for (name, holds) in AFTER_STEP.iter().chain(sampled) {
            assert!(
                holds(&self.ledger, &self.core),
                "invariant {name}: after {event:?} at {}: {:#?}",
                self.now,
                self.core
            );
        }
        self.ledger.end_step();
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::LeaseShard { worker, lease, first_row, rows, .. } => {
                self.send_command(worker, Command::Lease { lease, first_row, rows });
            }
            Effect::CancelAttempt { worker, lease } => self.send_command(worker, Command::Cancel(lease)),
            Effect::AdoptShard { worker, held, lease, .. } => self.send_command(worker, Command::Adopt { held, lease }),
            Effect::AcknowledgeShard { .. } if self.store.proposed() > self.store.committed() => {
                self.counts.note(Counted::AcknowledgementHeld);
                self.held_back.push_back((self.store.proposed(), effect));
            }
            Effect::AcknowledgeShard { worker, lease } => self.acknowledge_shard(worker, lease),
            Effect::CloseWorker { worker } => self.break_link(worker),
            Effect::ShowBreaker { .. } => {}
            Effect::ArmTimer(at) => self.at(at, Act::Timer(self.ledger.epoch, at)),
            Effect::RecordCompletion { job, shard, first_row, rows, .. } => {
                let failed_row = self.ledger.completed.and_then(|(.., row)| row);
                self.propose(Record::Completed { job, shard, first_row, rows, failed_row });
            }
            Effect::EndJob { job, outcome } => self.propose(Record::Ended { job, outcome }),
        }
    }

    /// Whether the master crashes before what it is about to do.
    fn crashes_now(&mut self) -> bool {
        if self.crash_after == Some(0) {
            self.crash_master();
            return true;
        }
        self.crash_after = self.crash_after.map(|left| left - 1);
        false
    }

    // The store.

    pub(super) fn propose(&mut self, record: Record) {
        self.store.propose(record);
        self.begin_commit();
    }

    /// Syncs what is proposed by now; what comes meanwhile is for the next time.
    fn begin_commit(&mut self) {
        if self.is_committing || self.store.proposed() == self.store.committed() {
            return;
        }
        self.is_committing = true;
        let mut delay_ms = self.chance.within(0..20);
        if self.fault(5, Counted::StoreStalled) {
            delay_ms += self.chance.within(1_000..8_000);
        }
        self.at(self.now + delay_ms, Act::Commit(self.ledger.epoch, self.store.proposed()));
    }

    pub(super) fn commit(&mut self, epoch: Epoch, up_to: u64) {
        if epoch != self.ledger.epoch {
            return;
        }
        if self.master_paused_until > self.now {
            self.at(self.master_paused_until, Act::Commit(epoch, up_to));
            return;
        }
        self.is_committing = false;
        for record in self.store.commit(up_to) {
            if self.crashes_now() {
                return;
            }
            match record {
                Record::Submitted { job, plan } => {
                    self.acknowledged_submits.insert(job);
                    self.deliver(Event::JobSubmitted { job, plan });
                }
                Record::Ended { job, outcome } => self.acknowledge_end(job, outcome),
                Record::Completed { .. } => {}
            }
            if epoch != self.ledger.epoch {
                return;
            }
        }
        while let Some((_, effect)) = self.held_back.pop_front_if(|(position, _)| *position <= up_to) {
            if self.crashes_now() {
                return;
            }
            if let Effect::AcknowledgeShard { worker, lease } = effect {
                self.acknowledge_shard(worker, lease);
            }
        }
        self.begin_commit();
    }

    pub(super) fn acknowledge_end(&mut self, job: JobId, outcome: JobOutcome) {
        self.acknowledged_submits.insert(job);
        let told = *self.acknowledged_ends.entry(job).or_insert(outcome);
        assert!(told == outcome, "invariant acknowledged_end_never_changes: {job} {told:?} {outcome:?}");
    }

    /// The worker may drop its output: the rows are durable, or will never be wanted, whoever crashes.
    fn acknowledge_shard(&mut self, worker: WorkerId, lease: Lease) {
        let durable = self.store.recover().get(&lease.job).filter(|job| job.outcome.is_none());
        if let (Some(job), Some(seen)) = (durable, self.ledger.leases.get(&lease)) {
            let is_void = job.failed_row.is_some_and(|row| row <= seen.first_row);
            let is_durable = job.overlaps(seen.first_row, seen.first_row + seen.rows);
            assert!(is_void || is_durable, "invariant acknowledged_shard_is_durable: {lease:?} at {}", self.now);
        }
        self.send_command(worker, Command::Acknowledge(lease));
    }

    /// What clients were told is what the store says.
    pub(super) fn check_promises(&self) {
        let durable = self.store.recover();
        for job in &self.acknowledged_submits {
            assert!(durable.contains_key(job), "invariant acknowledged_submit_is_durable: {job}");
        }
        for (job, &outcome) in &self.acknowledged_ends {
            let found = durable.get(job).and_then(|job| job.outcome);
            assert!(found == Some(outcome), "invariant acknowledged_end_is_durable: {job} {outcome:?} {found:?}");
        }
    }

    /// Only what is durable survives, and perhaps a little more than anyone was told.
    fn crash_master(&mut self) {
        self.counts.note(Counted::MasterCrash);
        self.crash_after = None;
        let epoch = Epoch(self.ledger.epoch.0 + 1);
        for link in self.links.keys().copied().collect::<Vec<_>>() {
            self.break_link(link);
        }
        let pending = self.store.proposed() - self.store.committed();
        let durable = if self.chance.permille(500) { 0 } else { self.chance.within(0..pending + 1) };
        if durable > 0 {
            self.counts.note(Counted::DurableUnacknowledged);
        }
        if self.store.crash(durable) > 0 {
            self.counts.note(Counted::RecordsLost);
        }
        self.held_back.clear();
        self.is_committing = false;
        self.check_promises();
        self.ledger.restart(epoch, &self.store);
        self.core = Scheduler::new(epoch, self.ledger.config.clone());
        self.set_rate();
        let open: Vec<JobId> =
            self.store.recover().iter().filter(|(_, job)| job.outcome.is_none()).map(|(&id, _)| id).collect();
        for job in open {
            let durable = &self.store.recover()[&job];
            let (mut plan, done) = (durable.plan.clone(), durable.done());
            if !plan.rows_final && self.chance.permille(300) {
                // Its input is read again from where the last recorded shard ends.
                let read_row = durable.ranges.values().map(|&(end_row, _)| end_row).max().unwrap_or(0);
                if let Some(seen) = self.ledger.jobs.get_mut(&job) {
                    (seen.rows_known, seen.rows_final) = (read_row, false);
                }
            }
            let seen = &self.ledger.jobs[&job];
            (plan.rows_known, plan.rows_final, plan.up_to_row) = (seen.rows_known, seen.rows_final, seen.window);
            self.deliver(Event::JobRecovered { job, plan, done });
        }
    }

    // The links.

    /// Whether the master is there to see something of this link; puts it off while the master is paused.
    pub(super) fn master_holds<A>(
        &mut self,
        link: WorkerId,
        again: fn(WorkerId, A, Output) -> Act,
        what: A,
        output: Output,
    ) -> bool {
        if self.master_paused_until > self.now {
            self.at(self.master_paused_until, again(link, what, output));
            return false;
        }
        self.links.get(&link).is_some_and(|link| link.up && link.epoch == self.ledger.epoch)
    }

    pub(super) fn reach_master(&mut self, worker: WorkerId, report: Report) {
        let no_output = Output { busy_us: 0, failed_row: None };
        if !self.master_holds(worker, |link, report, _| Act::ToMaster(link, report), report.clone(), no_output) {
            return;
        }
        match report {
            Report::Accepted(lease) => self.deliver(Event::ShardAccepted { worker, lease }),
            Report::Rejected(lease) => self.deliver(Event::ShardRejected { worker, lease }),
            Report::Progressed(lease, rows_done) => self.deliver(Event::ShardProgressed { worker, lease, rows_done }),
            Report::Failed(lease) => self.deliver(Event::ShardFailed { worker, lease }),
            Report::Host(host) => self.deliver(Event::HostReported { worker, host }),
            Report::DrainStarted(returned) => self.deliver(Event::WorkerDraining { worker, returned }),
            Report::Completed(lease, output) => {
                if !self.core.wants(&lease) || self.chance.permille(700) {
                    self.deliver_completion(worker, lease, output);
                } else if self.fault(50, Counted::OutputGone) {
                    self.deliver(Event::ShardFailed { worker, lease });
                } else {
                    let fetched_at = self.now + self.chance.within(1..2_000);
                    self.at(fetched_at, Act::Fetched(worker, lease, output));
                }
            }
        }
    }

    pub(super) fn deliver_completion(&mut self, worker: WorkerId, lease: Lease, output: Output) {
        let Output { busy_us, failed_row } = output;
        self.deliver(Event::ShardCompleted { worker, lease, busy_us, failed_row });
    }
}
