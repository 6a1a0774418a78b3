//! What workers still have from before a restart of the master, and the pause of a shard that failed.

use super::Scheduler;
use super::job::Shard;
use super::types::{Effect, Millis, SchedulerConfig};
use quipu_shared::ids::{JobId, WorkerId};
use quipu_shared::wire::HeldShard;

impl Scheduler {
    /// Adopts what a worker that has just joined holds of older epochs, or ends it. What it holds of this epoch speaks
    /// for itself: the completion of any attempt that was issued is good. What is of a newer one is of its master.
    pub(super) fn adopt_held(&mut self, worker: WorkerId, held: &[HeldShard], effects: &mut Vec<Effect>) {
        let epoch = self.epoch;
        for &HeldShard { lease, first_row, rows } in held.iter().filter(|held| held.lease.epoch < epoch) {
            let has_credit = self.workers.get(&worker).is_some_and(|state| state.held.len() < state.credits as usize);
            let is_adopted = has_credit && self.jobs.get_mut(&lease.job).is_some_and(|job| job.adopt(first_row, rows));
            if is_adopted {
                self.grant(worker, lease.job, first_row, Some(lease), effects);
            } else {
                // Whichever it is: an output is dropped, a running attempt is stopped.
                effects.push(Effect::AcknowledgeShard { worker, lease });
                effects.push(Effect::CancelAttempt { worker, lease });
            }
        }
    }
}

/// How long a shard with so many deaths waits after a failure: twice as long each time, and spread by half either way,
/// so that shards that failed together do not come back together.
pub(super) fn retry_pause_ms(config: &SchedulerConfig, job: JobId, shard: &Shard) -> Millis {
    let doublings = shard.deaths.saturating_sub(1).min(16);
    let pause_ms = (config.retry_backoff_ms << doublings).min(config.retry_backoff_max_ms);
    let seed = mix(mix(mix(job.0) ^ shard.id.0) ^ u64::from(shard.deaths));
    pause_ms / 2 + seed % (pause_ms + 1)
}

/// The finaliser of SplitMix64: the core has no random source, and equal histories must stay equal.
pub(super) fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
