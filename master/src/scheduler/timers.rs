//! What becomes due by time.

use super::counts::LeaseEnd;
use super::types::Effect;
use super::{End, JobOutcome, Scheduler, TimerKey};
use quipu_shared::ids::AttemptId;

impl Scheduler {
    pub(super) fn run_timers(&mut self, effects: &mut Vec<Effect>) {
        if let Some(&(at, _)) = self.timers.first()
            && at + self.config.lease_ttl_ms / 2 <= self.now
        {
            // The master itself was paused: the news of its workers may wait in its mailbox.
            self.awake_since = self.now;
        }
        while let Some(&(at, key)) = self.timers.first()
            && at <= self.now
        {
            self.timers.pop_first();
            match key {
                TimerKey::Attempt(id) => self.check_attempt(id, effects),
                TimerKey::Backoff(worker) => {
                    if let Some(state) = self.workers.get_mut(&worker) {
                        state.backoff_until = None;
                        self.refresh_worker(worker);
                    }
                }
                TimerKey::Breaker(worker) => self.half_open(worker, effects),
                TimerKey::Group(group) => self.resume_group(group),
                TimerKey::Deadline(job) => self.end_job(job, JobOutcome::DeadlinePassed, effects),
                TimerKey::Pause(job, first_row) => {
                    if let Some(state) = self.jobs.get_mut(&job)
                        && let Some(shard) = state.shards.get_mut(&first_row)
                    {
                        shard.paused_until = None;
                        state.queue(first_row, self.config.quarantine_deaths);
                        self.refresh_job(job);
                    }
                }
            }
        }
    }

    /// An attempt's time may be over, or its worker owes an answer.
    fn check_attempt(&mut self, id: AttemptId, effects: &mut Vec<Effect>) {
        let Some(attempt) = self.attempts.get_mut(&id) else { return };
        if let Some(ended_at) = attempt.ended_at {
            if ended_at.max(self.awake_since) + self.config.answer_ttl_ms <= self.now {
                let worker = attempt.worker;
                effects.push(Effect::CloseWorker { worker });
                self.lose_worker(worker, effects);
                return;
            }
            attempt.timer_at = self.now + self.config.lease_ttl_ms;
            self.timers.insert((attempt.timer_at, TimerKey::Attempt(id)));
            effects.push(Effect::CancelAttempt { worker: attempt.worker, lease: attempt.lease });
            return;
        }
        // One that waits in its worker's queue has no progress of its own: any sign of the worker is its sign.
        let heard_at = self.workers.get(&attempt.worker).map_or(0, |worker| worker.heard_at);
        let waits = attempt.accepted && attempt.progress.is_none();
        let renewed_at = if waits { attempt.renewed_at.max(heard_at) } else { attempt.renewed_at };
        let expires_at = renewed_at.max(self.awake_since) + self.config.lease_ttl_ms;
        if expires_at > self.now {
            attempt.timer_at = expires_at;
            self.timers.insert((expires_at, TimerKey::Attempt(id)));
            return;
        }
        let attempt = attempt.clone();
        self.end_attempt(id, LeaseEnd::Expired, effects);
        let was_suspect = self.workers.get_mut(&attempt.worker).is_none_or(|worker| {
            let was_suspect = worker.suspect;
            worker.suspect = true;
            was_suspect || worker.draining
        });
        self.refresh_worker(attempt.worker);
        if !was_suspect {
            self.blame_worker(attempt.node, std::slice::from_ref(&attempt), effects);
        } else if attempt.accepted {
            self.note_expiry(&attempt);
        }
        // One that the worker never had cannot have died of its shard.
        self.detach(&attempt, if attempt.accepted { End::Died } else { End::Unused }, effects);
    }

    pub(super) fn arm_timer(&mut self, effects: &mut Vec<Effect>) {
        let due_at = self.timers.first().map(|&(at, _)| at);
        let straggler_at = self.stragglers.first_at().filter(|_| self.has_idle_slot());
        let Some(at) = due_at.into_iter().chain(straggler_at).min() else { return };
        if self.armed_at.is_none_or(|armed_at| at < armed_at) {
            self.armed_at = Some(at);
            effects.push(Effect::ArmTimer(at));
        }
    }
}
