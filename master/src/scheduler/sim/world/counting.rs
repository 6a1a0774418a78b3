//! What went on in a simulation, for people and so that nothing is missing.

use super::World;
use crate::scheduler::sim::chance::Counted;
use crate::scheduler::{Effect, Event, JobOutcome};
use quipu_shared::config::PlacementPolicy;
use quipu_shared::service::BreakerState;
use std::cmp::Reverse;

impl World {
    pub(super) fn count_event(&mut self, event: &Event) {
        match event {
            Event::ShardCompleted { lease, .. } if lease.epoch < self.ledger.epoch => {
                self.counts.note(Counted::StaleCompletion);
            }
            Event::ShardCompleted { lease, .. } if !self.ledger.is_wanted(lease) => {
                self.counts.note(Counted::DuplicateCompletion);
            }
            Event::ShardFailed { lease, .. } => {
                let job = self.ledger.jobs.get(&lease.job);
                if job.is_some_and(|job| job.failed_at.contains_key(&lease.shard)) {
                    self.counts.note(Counted::ShardPaused);
                }
            }
            Event::WorkerDraining { returned, .. } if !returned.is_empty() => self.counts.note(Counted::Returned),
            Event::JobRecovered { done, .. } => {
                self.counts.note(Counted::Recovered);
                if done.failed_row.is_some() {
                    self.counts.note(Counted::RecoveredFailing);
                }
            }
            _ => {}
        }
    }

    pub(super) fn count_effect(&mut self, effect: &Effect) {
        match effect {
            Effect::LeaseShard { speculative: true, .. } => self.counts.note(Counted::Speculation),
            Effect::LeaseShard { lease, worker, .. } => {
                self.counts.note(match self.core.config.placement {
                    PlacementPolicy::LeastLoaded => Counted::PlacedLeastLoaded,
                    PlacementPolicy::RoundRobin => Counted::PlacedRoundRobin,
                    PlacementPolicy::Weighted => Counted::PlacedWeighted,
                    PlacementPolicy::ConsistentHash => Counted::PlacedConsistentHash,
                    PlacementPolicy::ZoneSpread => Counted::PlacedZoneSpread,
                });
                if self.core.workers.get(worker).is_some_and(|worker| worker.strained) {
                    self.counts.note(Counted::StrainedServed);
                }
                if self.core.jobs.values().any(|job| self.core.groups.waits(job.group)) {
                    self.counts.note(Counted::GroupWaited);
                }
                if self.ledger.is_quarantined(lease) {
                    self.counts.note(Counted::Quarantine);
                }
                let mut leases = self.ledger.leases.iter();
                if leases.any(|(of, seen)| seen.adopted && (of.job, of.shard) == (lease.job, lease.shard)) {
                    self.counts.note(Counted::RequeuedAdopted);
                }
                let priority = self.ledger.jobs[&lease.job].plan.priority;
                if self.core.ready.last().is_some_and(|&((Reverse(lowest), _), _)| lowest < priority) {
                    self.counts.note(Counted::PriorityServed);
                }
            }
            Effect::RecordCompletion { lease, .. } => {
                let seen = &self.ledger.leases[lease];
                if seen.expired {
                    self.counts.note(Counted::LateCompletion);
                }
                if seen.adopted {
                    self.counts.note(Counted::CompletedAdopted);
                }
            }
            Effect::AcknowledgeShard { lease, .. } if self.ledger.held.iter().any(|held| held.lease == *lease) => {
                self.counts.note(Counted::HeldEnded);
            }
            Effect::ShowBreaker { state, .. } => self.counts.note(match state {
                BreakerState::Closed => Counted::BreakerClosed,
                BreakerState::Open => Counted::BreakerOpened,
                BreakerState::HalfOpen => Counted::BreakerHalfOpened,
            }),
            Effect::CloseWorker { .. } => self.counts.note(Counted::WorkerClosed),
            Effect::EndJob { outcome, .. } => self.counts.note(match outcome {
                JobOutcome::Succeeded => Counted::Succeeded,
                JobOutcome::FailedRow { .. } => Counted::FailedRow,
                JobOutcome::Poisoned { .. } => Counted::Poisoned,
                JobOutcome::DeadlinePassed => Counted::DeadlinePassed,
                JobOutcome::Cancelled => Counted::JobCancelled,
            }),
            _ => {}
        }
    }
}
