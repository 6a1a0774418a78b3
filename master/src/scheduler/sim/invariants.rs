//! What holds in every history, one function each. [`ON_EFFECT`] is asked before an effect is carried out,
//! [`AFTER_STEP`] once a step is over, [`SAMPLED`] after some. Most look only at the [`Ledger`]; a few hold the core's
//! sets against its state.

use super::fairness::{
    group_stays_within_its_rate, quarantine_has_a_reason, somebody_may_always_work, worker_in_quarantine_gets_nothing,
    worker_on_trial_has_one_probe, worker_that_keeps_failing_is_in_quarantine,
    worker_under_pressure_gets_nothing_while_another_is_fit,
};
use super::ledger::{Ledger, SeenJob};
use crate::scheduler::breaker::Standing;
use crate::scheduler::fitness::Census;
use crate::scheduler::job::Job;
use crate::scheduler::{Effect, JobOutcome, Scheduler, TimerKey};
use quipu_shared::ids::WorkerId;
use quipu_shared::wire::{HeldShard, Lease};
use std::cmp::Reverse;
use std::collections::BTreeSet;

type OnEffect = fn(&Ledger, &Effect) -> bool;
type AfterStep = fn(&Ledger, &Scheduler) -> bool;

macro_rules! named {
    ($($check:ident),+ $(,)?) => { &[$((stringify!($check), $check)),+] };
}

/// Steps between the invariants that are asked now and then.
pub const SAMPLED_STEPS: u64 = 8;

/// Asked before each effect.
pub const ON_EFFECT: &[(&str, OnEffect)] = named![
    lease_id_never_repeats,
    adopted_shard_is_held_and_free,
    shard_id_of_a_recorded_shard_is_not_used_again,
    shard_keeps_its_range,
    shard_boundary_is_a_whole_granule,
    shard_has_known_rows_only,
    shard_grows_by_a_bounded_factor,
    shard_stays_in_the_window_or_is_the_lowest,
    done_row_is_not_leased,
    row_above_the_failing_row_is_not_leased,
    lower_priority_is_served_after_a_higher_one,
    failed_shard_is_not_leased_at_once,
    held_shard_is_ended_only_if_it_cannot_be_adopted,
    job_past_its_deadline_gets_no_lease,
    live_worker_is_not_oversubscribed,
    only_a_joined_worker_gets_a_lease,
    draining_worker_gets_no_lease,
    silent_worker_gets_no_lease,
    rejecting_worker_gets_a_pause,
    second_live_attempt_is_speculative_and_elsewhere,
    speculation_waits_for_a_straggler,
    shard_in_quarantine_is_alone_on_its_worker,
    row_is_recorded_once,
    record_is_of_an_attempt_that_was_issued_and_completed,
    acknowledged_output_is_recorded_or_useless,
    ended_job_has_no_more_effects,
    succeeded_job_has_every_row,
    failed_row_is_the_lowest_and_all_below_are_done,
    poison_shard_died_often_enough,
    deadline_outcome_is_not_early,
    closed_worker_left_a_cancel_unanswered,
    timer_is_armed_only_to_come_earlier,
    group_stays_within_its_rate,
];

/// Asked after each step.
pub const AFTER_STEP: &[(&str, AfterStep)] = named![
    live_lease_ends_only_by_silence_or_uselessness,
    no_live_attempt_of_what_is_not_wanted,
    timer_is_armed_for_what_is_due,
    nothing_is_overdue,
    free_workers_are_those_with_room,
    ready_jobs_are_those_with_something_to_lease,
    higher_priority_does_not_wait_for_a_lower_one,
    held_shards_are_adopted_or_ended,
    shards_pause_within_bounds,
    nothing_leasable_waits_for_a_free_worker,
    held_leases_are_the_attempts,
    stragglers_are_the_shards_with_one_live_attempt,
    worker_in_quarantine_gets_nothing,
    worker_on_trial_has_one_probe,
    worker_that_keeps_failing_is_in_quarantine,
    quarantine_has_a_reason,
    somebody_may_always_work,
    worker_under_pressure_gets_nothing_while_another_is_fit,
];

/// Asked after every [`SAMPLED_STEPS`]th step: they look at everything, and what breaks them stays broken.
pub const SAMPLED: &[(&str, AfterStep)] = named![
    counts_are_what_was_seen,
    attempts_are_live_or_have_one_outcome,
    every_row_is_open_done_or_uncut,
    uncut_rows_are_all_others,
    connections_are_those_of_the_workers,
];

/// A shard that is given to a worker, anew or under a new lease.
struct Grant {
    worker: WorkerId,
    lease: Lease,
    first_row: u64,
    end_row: u64,
}

fn grant(effect: &Effect) -> Option<Grant> {
    match *effect {
        Effect::LeaseShard { worker, lease, first_row, rows, .. }
        | Effect::AdoptShard { worker, lease, first_row, rows, .. } => {
            Some(Grant { worker, lease, first_row, end_row: first_row + rows })
        }
        _ => None,
    }
}

fn job<'a>(ledger: &'a Ledger, effect: &Effect) -> Option<&'a SeenJob> {
    match effect {
        Effect::LeaseShard { lease, .. }
        | Effect::AdoptShard { lease, .. }
        | Effect::AcknowledgeShard { lease, .. } => ledger.jobs.get(&lease.job),
        Effect::RecordCompletion { job, .. } | Effect::EndJob { job, .. } => ledger.jobs.get(job),
        _ => None,
    }
}

/// An attempt id is used once in an epoch, and leases carry the epoch of their master.
fn lease_id_never_repeats(ledger: &Ledger, effect: &Effect) -> bool {
    let Some(Grant { lease, .. }) = grant(effect) else { return true };
    lease.epoch == ledger.epoch && !ledger.issued.contains(&(lease.epoch, lease.attempt))
}

/// A shard has the same rows in all its attempts.
fn shard_keeps_its_range(ledger: &Ledger, effect: &Effect) -> bool {
    let Some(Grant { lease, first_row, end_row, .. }) = grant(effect) else { return true };
    let range = ledger.jobs[&lease.job].ranges.get(&lease.shard);
    range.is_none_or(|&(first, rows)| (first, first + rows) == (first_row, end_row))
}

/// After a restart, new shards get ids above those that are recorded.
fn shard_id_of_a_recorded_shard_is_not_used_again(ledger: &Ledger, effect: &Effect) -> bool {
    let Some(Grant { lease, .. }) = grant(effect) else { return true };
    let job = &ledger.jobs[&lease.job];
    let recorded = job.ranges.get(&lease.shard).and_then(|(first_row, _)| job.records.get(first_row));
    recorded.is_none_or(|(_, shard)| *shard != lease.shard)
}

/// Both ends of a shard are multiples of the granule, or the end of the rows.
fn shard_boundary_is_a_whole_granule(ledger: &Ledger, effect: &Effect) -> bool {
    let Some(Grant { first_row, end_row, .. }) = grant(effect) else { return true };
    let Some(job) = job(ledger, effect) else { return false };
    let at_end = job.rows_final && end_row == job.rows_known;
    end_row > first_row && first_row % job.plan.granule == 0 && (end_row % job.plan.granule == 0 || at_end)
}

/// No row is leased before it exists.
fn shard_has_known_rows_only(ledger: &Ledger, effect: &Effect) -> bool {
    let Some(Grant { end_row, .. }) = grant(effect) else { return true };
    job(ledger, effect).is_some_and(|job| end_row <= job.rows_known)
}

/// A fresh shard is at most as large as the first ones, or four times the largest that its worker completed.
fn shard_grows_by_a_bounded_factor(ledger: &Ledger, effect: &Effect) -> bool {
    let Effect::LeaseShard { worker, lease, rows, .. } = effect else { return true };
    let Some(job) = job(ledger, effect) else { return false };
    let proven = ledger.workers.get(worker).and_then(|seen| seen.proven.get(&lease.job)).copied();
    let rows_max = proven.map_or(job.plan.initial_rows, |rows| rows * ledger.config.shard_growth_max);
    job.ranges.contains_key(&lease.shard) || *rows <= rows_max.max(job.plan.granule)
}

/// No shard ends beyond the window, but for the one with the lowest row that is not done.
fn shard_stays_in_the_window_or_is_the_lowest(ledger: &Ledger, effect: &Effect) -> bool {
    let Effect::LeaseShard { first_row, rows, .. } = effect else { return true };
    job(ledger, effect).is_some_and(|job| first_row + rows <= job.window || *first_row <= job.prefix())
}

/// A shard with a recorded row is not leased.
fn done_row_is_not_leased(ledger: &Ledger, effect: &Effect) -> bool {
    let Some(Grant { first_row, end_row, .. }) = grant(effect) else { return true };
    job(ledger, effect).is_some_and(|job| !overlaps_record(job, first_row, end_row))
}

/// Once a row is known to fail a job, nothing above it is leased.
fn row_above_the_failing_row_is_not_leased(ledger: &Ledger, effect: &Effect) -> bool {
    let Some(Grant { first_row, .. }) = grant(effect) else { return true };
    job(ledger, effect).and_then(|job| job.failing).is_none_or(|row| first_row < row)
}

/// A job whose time is over gets no lease.
fn job_past_its_deadline_gets_no_lease(ledger: &Ledger, effect: &Effect) -> bool {
    let Some(_) = grant(effect) else { return true };
    job(ledger, effect).and_then(|job| job.plan.deadline_at).is_none_or(|at| ledger.now < at)
}

/// A worker never holds more unreported leases than it has credits, however long it is silent.
fn live_worker_is_not_oversubscribed(ledger: &Ledger, effect: &Effect) -> bool {
    let Some(Grant { worker, .. }) = grant(effect) else { return true };
    ledger.workers.get(&worker).is_none_or(|seen| seen.held.len() < seen.credits as usize)
}

/// A worker that never joined or is lost gets nothing.
fn only_a_joined_worker_gets_a_lease(ledger: &Ledger, effect: &Effect) -> bool {
    let Some(Grant { worker, .. }) = grant(effect) else { return true };
    ledger.workers.contains_key(&worker)
}

/// A draining worker gets nothing.
fn draining_worker_gets_no_lease(ledger: &Ledger, effect: &Effect) -> bool {
    let Effect::LeaseShard { worker, .. } = effect else { return true };
    ledger.workers.get(worker).is_none_or(|seen| !seen.draining)
}

/// A worker with an expired lease that was not heard of since gets nothing.
fn silent_worker_gets_no_lease(ledger: &Ledger, effect: &Effect) -> bool {
    let Effect::LeaseShard { worker, .. } = effect else { return true };
    let Some(seen) = ledger.workers.get(worker) else { return true };
    let expired = seen.held.iter().filter_map(|lease| ledger.leases.get(lease)).filter(|lease| lease.expired);
    expired.filter_map(|lease| lease.cancelled_at).all(|at| at <= seen.heard_at)
}

/// A worker that rejected a lease gets nothing for a moment.
fn rejecting_worker_gets_a_pause(ledger: &Ledger, effect: &Effect) -> bool {
    let Effect::LeaseShard { worker, .. } = effect else { return true };
    ledger.workers.get(worker).is_none_or(|seen| seen.paused_until <= ledger.now)
}

/// A shard with a live attempt gets at most one other, marked as speculative, on another worker.
fn second_live_attempt_is_speculative_and_elsewhere(ledger: &Ledger, effect: &Effect) -> bool {
    let Effect::LeaseShard { worker, lease, speculative, .. } = effect else { return true };
    let live: Vec<_> = ledger.live(lease.job, lease.shard).map(|seen| seen.worker).collect();
    match live[..] {
        [] => !speculative,
        [other] => *speculative && other != *worker,
        _ => false,
    }
}

/// No attempt is duplicated before the least time of a straggler.
fn speculation_waits_for_a_straggler(ledger: &Ledger, effect: &Effect) -> bool {
    let Effect::LeaseShard { lease, speculative: true, .. } = effect else { return true };
    let mut running = ledger.live(lease.job, lease.shard);
    running.next().is_some_and(|seen| ledger.now >= seen.granted_at + ledger.config.straggler_min_ms)
}

/// A shard that died repeatedly has no neighbour on its worker, from its lease to its report.
fn shard_in_quarantine_is_alone_on_its_worker(ledger: &Ledger, effect: &Effect) -> bool {
    let Effect::LeaseShard { worker, lease, .. } = effect else { return true };
    let Some(seen) = ledger.workers.get(worker) else { return true };
    let suspects = seen.held.iter().any(|held| ledger.leases.get(held).is_some_and(|held| held.quarantined));
    !suspects && (!ledger.is_quarantined(lease) || seen.held.is_empty())
}

/// Within a step, whoever has the higher priority comes first.
fn lower_priority_is_served_after_a_higher_one(ledger: &Ledger, effect: &Effect) -> bool {
    let Effect::LeaseShard { speculative: false, .. } = effect else { return true };
    job(ledger, effect).is_some_and(|job| ledger.served.is_none_or(|served| job.plan.priority <= served))
}

/// A shard whose attempt failed gets a moment.
fn failed_shard_is_not_leased_at_once(ledger: &Ledger, effect: &Effect) -> bool {
    let Effect::LeaseShard { lease, .. } = effect else { return true };
    let failed_at = job(ledger, effect).and_then(|job| job.failed_at.get(&lease.shard));
    failed_at.is_none_or(|at| at + ledger.config.retry_backoff_ms / 2 <= ledger.now)
}

/// Only what the joining worker says it holds is adopted, once, and only rows that nobody else has.
fn adopted_shard_is_held_and_free(ledger: &Ledger, effect: &Effect) -> bool {
    let Effect::AdoptShard { held, lease, first_row, rows, .. } = *effect else { return true };
    held.job == lease.job
        && ledger.held.contains(&HeldShard { lease: held, first_row, rows })
        && job(ledger, effect).is_some_and(|job| job.is_adoptable(first_row, rows))
}

/// Work of before a restart is thrown away only if it is of no use, or beyond what its worker may hold.
fn held_shard_is_ended_only_if_it_cannot_be_adopted(ledger: &Ledger, effect: &Effect) -> bool {
    let Effect::AcknowledgeShard { worker, lease } = effect else { return true };
    let Some(held) = ledger.held.iter().find(|held| held.lease == *lease) else { return true };
    let is_full = ledger.workers.get(worker).is_none_or(|seen| seen.held.len() >= seen.credits as usize);
    is_full || job(ledger, effect).is_none_or(|job| !job.is_adoptable(held.first_row, held.rows))
}

fn overlaps_record(job: &SeenJob, first_row: u64, end_row: u64) -> bool {
    job.records.range(..end_row).next_back().is_some_and(|(_, &(recorded_end, _))| recorded_end > first_row)
}

/// No row is recorded twice, in whatever epochs.
fn row_is_recorded_once(ledger: &Ledger, effect: &Effect) -> bool {
    let Effect::RecordCompletion { first_row, rows, .. } = effect else { return true };
    job(ledger, effect).is_some_and(|job| !overlaps_record(job, *first_row, first_row + rows))
}

/// A record is of the attempt whose completion has just come, issued in this epoch for this range.
fn record_is_of_an_attempt_that_was_issued_and_completed(ledger: &Ledger, effect: &Effect) -> bool {
    let Effect::RecordCompletion { job, shard, lease, first_row, rows } = effect else { return true };
    let issued = ledger.leases.get(lease).is_some_and(|seen| (seen.first_row, seen.rows) == (*first_row, *rows));
    let completed = ledger.completed.is_some_and(|(_, completed, _)| completed == *lease);
    issued && completed && lease.epoch == ledger.epoch && (lease.job, lease.shard) == (*job, *shard)
}

/// An output is given up only once it is recorded, or is of no use: stale, duplicate, or of what nobody waits for.
fn acknowledged_output_is_recorded_or_useless(ledger: &Ledger, effect: &Effect) -> bool {
    let Effect::AcknowledgeShard { lease, .. } = effect else { return true };
    lease.epoch <= ledger.epoch && !ledger.is_wanted(lease)
}

/// A job ends once, and nothing is leased, recorded or ended after.
fn ended_job_has_no_more_effects(ledger: &Ledger, effect: &Effect) -> bool {
    matches!(effect, Effect::AcknowledgeShard { .. }) || job(ledger, effect).is_none_or(|job| job.outcome.is_none())
}

/// Success means that every row is recorded, and that the rows are final.
fn succeeded_job_has_every_row(ledger: &Ledger, effect: &Effect) -> bool {
    let Effect::EndJob { outcome: JobOutcome::Succeeded, .. } = effect else { return true };
    job(ledger, effect).is_some_and(|job| job.rows_final && job.prefix() == job.rows_known && job.failing.is_none())
}

/// A failed row is the lowest that is recorded, and every row below it is done.
fn failed_row_is_the_lowest_and_all_below_are_done(ledger: &Ledger, effect: &Effect) -> bool {
    let Effect::EndJob { outcome: JobOutcome::FailedRow { row }, .. } = effect else { return true };
    job(ledger, effect).is_some_and(|job| job.failing == Some(*row) && job.prefix() > *row)
}

/// Only a shard that died as often as the limit says is poison.
fn poison_shard_died_often_enough(ledger: &Ledger, effect: &Effect) -> bool {
    let Effect::EndJob { outcome: JobOutcome::Poisoned { shard, attempts, first_row, rows }, .. } = effect else {
        return true;
    };
    let Some(job) = job(ledger, effect) else { return false };
    *attempts >= ledger.config.attempts_max
        && job.deaths.get(shard) == Some(attempts)
        && job.ranges.get(shard) == Some(&(*first_row, *rows))
}

/// A job does not end by its deadline before it.
fn deadline_outcome_is_not_early(ledger: &Ledger, effect: &Effect) -> bool {
    let Effect::EndJob { outcome: JobOutcome::DeadlinePassed, .. } = effect else { return true };
    job(ledger, effect).and_then(|job| job.plan.deadline_at).is_some_and(|at| at <= ledger.now)
}

/// A connection is closed only after a cancellation was left unanswered for long.
fn closed_worker_left_a_cancel_unanswered(ledger: &Ledger, effect: &Effect) -> bool {
    let Effect::CloseWorker { worker } = effect else { return true };
    ledger.workers.get(worker).is_some_and(|seen| {
        let cancelled = seen.held.iter().filter_map(|lease| ledger.leases.get(lease)?.cancelled_at);
        cancelled.min().is_some_and(|at| at + ledger.config.answer_ttl_ms <= ledger.now)
    })
}

/// A timer is armed when there is none or when it is to come earlier; else it is left to fire.
fn timer_is_armed_only_to_come_earlier(ledger: &Ledger, effect: &Effect) -> bool {
    let Effect::ArmTimer(at) = effect else { return true };
    ledger.armed_at.is_none_or(|armed_at| *at < armed_at)
}

/// A live lease is taken away only after its time without news, or because nobody waits for its result.
fn live_lease_ends_only_by_silence_or_uselessness(ledger: &Ledger, _: &Scheduler) -> bool {
    ledger.cancelled.iter().all(|lease| {
        let seen = &ledger.leases[lease];
        let heard_at = ledger.workers.get(&seen.worker).map_or(0, |worker| worker.heard_of_work_at);
        let waits = seen.accepted && !seen.progressed;
        let renewed_at = if waits { seen.renewed_at.max(heard_at) } else { seen.renewed_at };
        !ledger.is_wanted(lease) || renewed_at + ledger.config.lease_ttl_ms <= ledger.now
    })
}

/// What is done, void or of an ended job has no live attempt: each was cancelled.
fn no_live_attempt_of_what_is_not_wanted(ledger: &Ledger, _: &Scheduler) -> bool {
    ledger.live.iter().all(|lease| ledger.is_wanted(lease))
}

/// Whatever is due at some time has a timer that comes no later.
fn timer_is_armed_for_what_is_due(ledger: &Ledger, core: &Scheduler) -> bool {
    let due_at = core.timers.first().map(|&(at, _)| at);
    let straggler_at = core.stragglers.first_at().filter(|_| core.has_idle_slot());
    ledger.armed_at == core.armed_at
        && due_at.into_iter().chain(straggler_at).all(|at| core.armed_at.is_some_and(|armed_at| armed_at <= at))
}

/// Every attempt and every pause has its timer, and none is in the past. (Deadlines show in what is leased.)
fn nothing_is_overdue(_: &Ledger, core: &Scheduler) -> bool {
    let attempts = core.attempts.iter().map(|(&id, attempt)| (attempt.timer_at, TimerKey::Attempt(id)));
    let pauses = core.workers.iter().filter_map(|(&id, worker)| Some((worker.backoff_until?, TimerKey::Backoff(id))));
    let shards = core.jobs.iter().flat_map(|(&id, job)| job.shards.values().map(move |shard| (id, shard)));
    let breakers = core.workers.iter().filter_map(|(&id, worker)| match worker.breaker.standing {
        Standing::Open { until, .. } => Some((until, TimerKey::Breaker(id))),
        _ => None,
    });
    let paused = shards.filter_map(|(id, shard)| Some((shard.paused_until?, TimerKey::Pause(id, shard.first_row))));
    let expected: BTreeSet<_> =
        attempts.chain(pauses).chain(paused).chain(breakers).chain(core.groups.timers()).collect();
    let timers = core.timers.iter().copied().filter(|(_, key)| !matches!(key, TimerKey::Deadline(_)));
    expected == timers.collect() && core.timers.first().is_none_or(|&(at, _)| at > core.now)
}

/// The set of free workers is what a look at every worker gives.
fn free_workers_are_those_with_room(_: &Ledger, core: &Scheduler) -> bool {
    let expected: BTreeSet<_> = core
        .workers
        .iter()
        .filter(|(id, worker)| {
            core.is_willing(worker) && worker.held.len() < worker.credits as usize && core.reserved != Some(**id)
        })
        .map(|(&id, worker)| (worker.load_permille(), id))
        .collect();
    let slots: u64 =
        core.workers.values().filter(|worker| !worker.draining).map(|worker| u64::from(worker.facts.slots)).sum();
    let mut census = Census::default();
    core.workers.values().for_each(|worker| census.add(Census::of(worker)));
    expected == core.free && slots == core.slots && census == core.census
}

/// The sets of ready jobs and of quarantines are what a look at every job gives.
fn ready_jobs_are_those_with_something_to_lease(_: &Ledger, core: &Scheduler) -> bool {
    let priority = |job: &Job| Reverse(job.plan.priority);
    let order = |job: &Job| (priority(job), job.leased);
    let ready: BTreeSet<_> = core
        .jobs
        .iter()
        .filter(|(_, job)| job.is_ready() && !core.groups.waits(job.group))
        .map(|(&id, job)| (order(job), id))
        .collect();
    let quarantines: BTreeSet<_> =
        core.jobs.iter().filter(|(_, job)| !job.quarantined.is_empty()).map(|(&id, job)| (priority(job), id)).collect();
    ready == core.ready && quarantines == core.quarantines
}

/// Whoever got a lease in this step had nobody of a higher priority before it.
fn higher_priority_does_not_wait_for_a_lower_one(ledger: &Ledger, core: &Scheduler) -> bool {
    let Some(served) = ledger.served else { return true };
    core.ready.first().is_none_or(|&((Reverse(waiting), _), _)| waiting <= served)
}

/// A worker that joins is told of everything that it holds of older epochs.
fn held_shards_are_adopted_or_ended(ledger: &Ledger, _: &Scheduler) -> bool {
    ledger.held.len() == ledger.answered
}

/// A pause is at least half and at most one and a half of what the deaths of its shard say.
fn shards_pause_within_bounds(ledger: &Ledger, core: &Scheduler) -> bool {
    core.jobs.iter().all(|(id, job)| {
        job.paused.iter().all(|row| {
            let Some(shard) = job.shards.get(row) else { return false };
            let Some(failed_at) = ledger.jobs[id].failed_at.get(&shard.id) else { return false };
            let doubled = core.config.retry_backoff_ms << (shard.deaths - 1);
            let pause_ms = doubled.min(core.config.retry_backoff_max_ms);
            let bounds = failed_at + pause_ms / 2..=failed_at + pause_ms + pause_ms / 2;
            shard.live.is_empty() && shard.paused_until.is_some_and(|at| bounds.contains(&at))
        })
    })
}

/// No free worker stands beside a job with something to lease, and none is reserved in vain.
fn nothing_leasable_waits_for_a_free_worker(_: &Ledger, core: &Scheduler) -> bool {
    (core.free.is_empty() || core.ready.is_empty()) && (core.reserved.is_none() || !core.quarantines.is_empty())
}

/// A worker's credits are taken by exactly its attempts, and these are the leases that the onlooker sees unreported.
fn held_leases_are_the_attempts(ledger: &Ledger, core: &Scheduler) -> bool {
    let held: usize = core.workers.values().map(|worker| worker.held.len()).sum();
    held == core.attempts.len()
        && core.workers.keys().eq(ledger.workers.keys())
        && core.workers.iter().all(|(id, worker)| {
            let seen: BTreeSet<_> = ledger.workers[id].held.iter().map(|lease| lease.attempt).collect();
            seen == worker.held
                && worker.held.iter().all(|attempt| core.attempts.get(attempt).is_some_and(|a| a.worker == *id))
        })
}

/// Shards with one live attempt (and no more) stand in the set of possible stragglers, once each.
fn stragglers_are_the_shards_with_one_live_attempt(_: &Ledger, core: &Scheduler) -> bool {
    let expected = core.jobs.iter().flat_map(|(&id, job)| {
        job.shards
            .values()
            .filter(|shard| shard.live.len() == 1 && shard.deaths < core.config.quarantine_deaths)
            .map(move |shard| (job.plan.priority, (shard.straggler_at, id, shard.first_row)))
    });
    expected.collect::<BTreeSet<_>>()
        == core.stragglers.iter().map(|(priority, (at, id, row))| (priority, (Some(at), id, row))).collect()
}

/// The counts that people see are what the onlooker saw.
fn counts_are_what_was_seen(ledger: &Ledger, core: &Scheduler) -> bool {
    core.jobs.keys().all(|id| {
        let (Some(counts), Some(seen)) = (core.job_counts(*id), ledger.jobs.get(id)) else { return false };
        let live: BTreeSet<_> = ledger.live.iter().filter(|lease| lease.job == *id).map(|lease| lease.shard).collect();
        let rows_done: u64 = seen.records.iter().map(|(row, (end_row, _))| end_row - row).sum();
        counts.leased == live.len() as u64
            && counts.done == seen.records.len() as u64
            && core.job_rows(*id) == Some((rows_done, seen.rows_known))
    })
}

/// A node's connections are found by its key, all of them and no others.
fn connections_are_those_of_the_workers(_ledger: &Ledger, core: &Scheduler) -> bool {
    let expected: BTreeSet<_> = core.workers.iter().map(|(&id, worker)| (worker.node, id)).collect();
    core.connections == expected
}

/// Every attempt that was granted is counted as live, or under one outcome.
fn attempts_are_live_or_have_one_outcome(_ledger: &Ledger, core: &Scheduler) -> bool {
    let live = core.attempts.values().filter(|attempt| attempt.ended_at.is_none()).count() as u64;
    let counts = core.attempt_counts();
    let ended: u64 = counts.outcomes().iter().map(|(_, count)| count).sum();
    counts.granted == live + ended && counts.live() == live
}

/// Below the cursor, each row is done or in exactly one open shard; queued shards are the open ones without attempts.
fn every_row_is_open_done_or_uncut(ledger: &Ledger, core: &Scheduler) -> bool {
    core.jobs.iter().all(|(id, job)| {
        let seen = &ledger.jobs[id];
        let mut ranges: Vec<(u64, u64)> = seen.records.iter().map(|(&row, &(end_row, _))| (row, end_row)).collect();
        ranges.extend(job.shards.values().map(|shard| (shard.first_row, shard.end_row())));
        ranges.sort_unstable();
        let disjoint = ranges.windows(2).all(|pair| pair[0].1 <= pair[1].0);
        // Above a failing row nothing is open, and nothing needs to be.
        let needed_row = job.cursor.min(job.failing.unwrap_or(u64::MAX));
        let mut covered_row = 0;
        for &(first_row, end_row) in &ranges {
            if first_row <= covered_row {
                covered_row = end_row;
            }
        }
        // In one of the three, and in one only.
        let apart = |job: &Job| {
            let sets = [&job.queued, &job.quarantined, &job.paused];
            let all: BTreeSet<u64> = sets.into_iter().flatten().copied().collect();
            if all.len() == sets.iter().map(|set| set.len()).sum::<usize>() { all } else { BTreeSet::new() }
        };
        let waiting: BTreeSet<u64> =
            job.shards.values().filter(|shard| shard.live.is_empty()).map(|shard| shard.first_row).collect();
        disjoint && covered_row >= needed_row && waiting == apart(job)
    })
}

/// Rows known are uncut, or done or open: none is forgotten and none counted twice, wherever shards were adopted.
fn uncut_rows_are_all_others(ledger: &Ledger, core: &Scheduler) -> bool {
    core.jobs.iter().filter(|(_, job)| job.failing.is_none()).all(|(id, job)| {
        let done: u64 = ledger.jobs[id].records.iter().map(|(row, (end_row, _))| end_row - row).sum();
        let open: u64 = job.shards.values().map(|shard| shard.rows).sum();
        job.uncut_rows() + done + open == job.rows_known
    })
}
