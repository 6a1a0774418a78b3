//! Recurring jobs: a schedule is a record in the store, and each of its runs a submission that moves the record on in
//! the same commit. So no run is submitted twice, whatever crashes in between.

use crate::jobs::opening::{error, store_error};
use crate::service::MasterService;
use crate::store::command::{Command, Outcome};
use crate::store::reads::Reads;
use crate::store::record::ScheduleRecord;
use crate::store::sequencer::unix_ms;
use quipu_shared::calendar::CronPattern;
use quipu_shared::ids::ScheduleId;
use quipu_shared::service::{ErrorKind, ScheduleChange, ScheduleView, ServiceError};
use quipu_shared::spec::{MissedRuns, ScheduleSpec};

/// A run that is this late is missed: the master was away, or the schedule was paused.
const LATE_MS: u64 = 5_000;
/// Schedules at once: each is looked at when one of them is due.
const SCHEDULES_MAX: usize = 10_000;
/// Runs that are looked at in one go, so that a pattern of seconds and a long absence do not keep the master busy.
const LOOK_MAX: u32 = 10_000;

/// What is to be done about a schedule now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Nothing before this time, or ever.
    Wait(Option<u64>),
    /// Submit the run that was due at this time.
    Run(u64),
    /// Leave out so many runs, up to this time.
    Skip {
        /// How many.
        runs: u64,
        /// The last one that is left out.
        up_to_ms: u64,
    },
}

/// What is to be done about a schedule whose runs up to `decided_ms` are decided. Of missed runs `catch_up_max` are made
/// up for, the newest ones.
pub fn turn(pattern: &CronPattern, decided_ms: u64, missed: MissedRuns, catch_up_max: u32, now_ms: u64) -> Turn {
    let Some(first_ms) = pattern.next_after(decided_ms) else { return Turn::Wait(None) };
    if first_ms > now_ms {
        return Turn::Wait(Some(first_ms));
    }
    // The runs that are due, as far as it matters how many there are.
    let (mut runs, mut last_ms, mut late) = (1_u64, first_ms, u64::from(is_late(first_ms, now_ms)));
    let mut last_late_ms = if late > 0 { Some(first_ms) } else { None };
    let mut window: std::collections::VecDeque<u64> = [first_ms].into();
    while runs < u64::from(LOOK_MAX)
        && let Some(next_ms) = pattern.next_after(last_ms).filter(|next_ms| *next_ms <= now_ms)
    {
        runs += 1;
        last_ms = next_ms;
        if is_late(next_ms, now_ms) {
            late += 1;
            last_late_ms = Some(next_ms);
        }
        window.push_back(next_ms);
        if window.len() > catch_up_max as usize {
            window.pop_front();
        }
    }
    match (missed, last_late_ms) {
        (MissedRuns::Skip, Some(up_to_ms)) => Turn::Skip { runs: late, up_to_ms },
        (MissedRuns::Skip, None) => Turn::Run(first_ms),
        (MissedRuns::Run, _) if runs <= u64::from(catch_up_max.max(1)) => Turn::Run(first_ms),
        (MissedRuns::Run, _) => {
            let kept = window.len() as u64;
            let up_to_ms = window.front().map_or(last_ms, |first_ms| first_ms - 1);
            Turn::Skip { runs: runs - kept, up_to_ms }
        }
    }
}

fn is_late(due_ms: u64, now_ms: u64) -> bool {
    due_ms.saturating_add(LATE_MS) < now_ms
}

/// A schedule's accepted spec.
///
/// # Errors
/// Where it does not read as one.
pub fn spec_of(record: &ScheduleRecord) -> Result<ScheduleSpec, ServiceError> {
    serde_json::from_slice(&record.spec)
        .map_err(|cause| error(ErrorKind::Internal, "bad_spec", format!("read a schedule's spec: {cause}")))
}

fn view_of(id: ScheduleId, record: &ScheduleRecord) -> Result<ScheduleView, ServiceError> {
    let spec = spec_of(record)?;
    let pattern = CronPattern::parse(&spec.cron, &spec.time_zone).ok();
    let next_at_ms = pattern.filter(|_| !record.paused).and_then(|pattern| pattern.next_after(record.decided_ms));
    Ok(ScheduleView {
        id,
        spec,
        paused: record.paused,
        next_at_ms,
        last_at_ms: record.last_at_ms,
        last_job: record.last_job,
        runs: record.runs,
        missed: record.missed,
    })
}

impl MasterService {
    /// Accepts a recurring job.
    pub(crate) async fn add_schedule(
        &self,
        spec: ScheduleSpec,
        idempotency_key: Option<String>,
    ) -> Result<ScheduleView, ServiceError> {
        let store = &self.opener.store;
        if !store.is_durable() {
            let message = "an embedded cluster ends with its command; a recurring job needs a master with --cluster";
            return Err(error(ErrorKind::Usage, "no_schedules", message.into()));
        }
        self.disk.check()?;
        CronPattern::parse(&spec.cron, &spec.time_zone)
            .map_err(|cause| error(ErrorKind::Usage, "bad_cron", cause.to_string()))?;
        self.opener.admission.get().admit(&spec.job)?;
        if spec.job.queue.not_before_ms.is_some() || !spec.job.queue.after.is_empty() {
            let message = "a recurring job runs by its pattern; it can't wait for a time or for jobs as well";
            return Err(error(ErrorKind::Usage, "bad_schedule", message.into()));
        }
        if store.schedules().map_err(store_error)?.len() >= SCHEDULES_MAX {
            return Err(error(
                ErrorKind::TooLarge,
                "too_many_schedules",
                format!("there are {SCHEDULES_MAX} schedules"),
            ));
        }
        let json = serde_json::to_vec(&spec)
            .map_err(|cause| error(ErrorKind::Internal, "bad_spec", format!("write the schedule: {cause}")))?;
        // The same key for a job is another body.
        let digest = *blake3::Hasher::new().update(b"schedule").update(&json).finalize().as_bytes();
        let key = idempotency_key.map(|key| (key, digest));
        let command = Command::AddSchedule { spec: json.into(), key, now_ms: unix_ms() };
        let outcome = store.decide(vec![command]).await.map_err(store_error)?;
        let id = match outcome[..] {
            [Outcome::Scheduled(id)] => id,
            [Outcome::Known(id)] => ScheduleId(id),
            [Outcome::KeyReused(id)] => {
                let message = format!("this idempotency key was used for {id} with another body; choose a new key");
                return Err(error(ErrorKind::Conflict, "idempotency_key_reused", message));
            }
            _ => return Err(error(ErrorKind::Internal, "store", format!("the store answered {outcome:?}"))),
        };
        self.schedule(id)
    }

    fn schedule(&self, id: ScheduleId) -> Result<ScheduleView, ServiceError> {
        match self.opener.store.schedule(id).map_err(store_error)? {
            Some(record) => view_of(id, &record),
            None => Err(unknown(id)),
        }
    }

    /// Every schedule.
    pub(crate) fn schedules(&self) -> Result<Vec<ScheduleView>, ServiceError> {
        let records = self.opener.store.schedules().map_err(store_error)?;
        records.iter().map(|(id, record)| view_of(*id, record)).collect()
    }

    /// Pauses, resumes or removes a schedule.
    pub(crate) async fn change_schedule(
        &self,
        id: ScheduleId,
        change: ScheduleChange,
    ) -> Result<ScheduleView, ServiceError> {
        let before = self.schedule(id)?;
        let command = Command::ChangeSchedule { schedule: id, change };
        let outcome = self.opener.store.decide(vec![command]).await.map_err(store_error)?;
        match (&outcome[..], change) {
            ([Outcome::Done], ScheduleChange::Remove) => Ok(before),
            ([Outcome::Done], _) => self.schedule(id),
            _ => Err(unknown(id)),
        }
    }
}

fn unknown(id: ScheduleId) -> ServiceError {
    let message = format!("there is no schedule {id}; `quipu schedule list` shows those there are");
    error(ErrorKind::NotFound, "unknown_schedule", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000;

    fn turn_at(minutes: f64, missed: MissedRuns) -> Turn {
        let pattern = CronPattern::parse("* * * * *", "UTC").expect("a pattern");
        turn(&pattern, 0, missed, 3, (minutes * MINUTE as f64) as u64)
    }

    #[test]
    fn a_run_that_is_due_is_submitted_once_its_time_has_come() {
        assert_eq!(turn_at(0.5, MissedRuns::Skip), Turn::Wait(Some(MINUTE)));
        assert_eq!(turn_at(1.0, MissedRuns::Skip), Turn::Run(MINUTE));
        assert_eq!(turn_at(1.05, MissedRuns::Run), Turn::Run(MINUTE));
    }

    #[test]
    fn missed_runs_are_left_out_where_that_is_asked_for() {
        assert_eq!(turn_at(4.5, MissedRuns::Skip), Turn::Skip { runs: 4, up_to_ms: 4 * MINUTE });
        assert_eq!(
            turn_at(4.01, MissedRuns::Skip),
            Turn::Skip { runs: 3, up_to_ms: 3 * MINUTE },
            "the fourth is not late"
        );
    }

    #[test]
    fn missed_runs_are_made_up_for_oldest_first_up_to_the_limit() {
        assert_eq!(turn_at(3.5, MissedRuns::Run), Turn::Run(MINUTE));
        assert_eq!(turn_at(5.5, MissedRuns::Run), Turn::Skip { runs: 2, up_to_ms: 3 * MINUTE - 1 });
    }

    #[test]
    fn a_long_absence_is_looked_at_in_bounded_pieces() {
        let pattern = CronPattern::parse("* * * * * *", "UTC").expect("a pattern");
        let now_ms = 365 * 24 * 60 * MINUTE;
        match turn(&pattern, 0, MissedRuns::Run, 3, now_ms) {
            Turn::Skip { runs, .. } => assert_eq!(runs, u64::from(LOOK_MAX) - 3),
            other => panic!("{other:?}"),
        }
    }
}
