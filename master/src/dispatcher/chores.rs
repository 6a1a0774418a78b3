//! What is due by the clock: jobs whose time comes, deadlines of jobs that wait, ended jobs that may go, runs of
//! schedules.

use super::ending::deadline_passed;
use super::{DispatcherMessage, DispatcherState};
use crate::jobs::admission::Admission;
use crate::jobs::opening::new_job;
use crate::schedules::{Turn, spec_of, turn};
use crate::store::command::{Command, Outcome};
use crate::store::reads::Reads;
use crate::store::record::ScheduleRecord;
use crate::store::sequencer::unix_ms;
use quipu_shared::calendar::CronPattern;
use quipu_shared::ids::{JobId, ScheduleId};
use quipu_shared::service::{JobState, ServiceError};
use quipu_shared::spec::ScheduleSpec;
use quipu_shared::telemetry::spans::{SpanKind, TraceSpan};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::AbortHandle;

/// Changes of one kind that are made at once.
const BATCH_MAX: usize = 1_000;
/// The clock is looked at this often at least: it may have been set.
const PERIOD_MAX: Duration = Duration::from_secs(1);

/// Uploads are looked through this often.
const SWEEP_PERIOD: Duration = Duration::from_secs(600);
/// An upload without a job is kept this long: its job may be on its way.
const UPLOAD_KEPT_MIN: Duration = Duration::from_secs(3600);

/// State of the chores.
#[derive(Default)]
pub(super) struct Chores {
    /// Whether some are under way.
    under_way: bool,
    timer: Option<AbortHandle>,
    swept_at: Option<Instant>,
    schedules_read: bool,
    schedules: Vec<Recurring>,
    /// When one of these is due.
    schedule_due_ms: Option<u64>,
}

/// A schedule with its pattern, which takes longer to read than to follow.
struct Recurring {
    id: ScheduleId,
    record: ScheduleRecord,
    spec: ScheduleSpec,
    pattern: CronPattern,
}

impl DispatcherState {
    /// Does what is due, and sets the clock for what is due next.
    pub(super) fn do_chores(&mut self) {
        if self.chores.under_way {
            return;
        }
        self.sweep_uploads();
        let now_ms = unix_ms();
        let kept_max = self.args.jobs_kept_max;
        let (due, overdue, outdated) = self.args.jobs.index(|index| {
            let outdated = index.outdated(now_ms, kept_max, BATCH_MAX);
            (index.due(now_ms, BATCH_MAX), index.overdue(now_ms, BATCH_MAX), outdated)
        });
        for job in overdue {
            if !self.opening.contains_key(&job) {
                let record = self.args.store().job(job).ok().flatten();
                let deadline_ms = record.map_or(0, |record| {
                    record.fixed.deadline_at_ms.unwrap_or(0).saturating_sub(record.fixed.submitted_at_ms)
                });
                let error = deadline_passed(job, deadline_ms);
                self.end_unserved(job, JobState::Failed, error);
            }
        }
        let (schedule_commands, submitted) = self.follow_schedules(now_ms);
        let more = !schedule_commands.is_empty() || due.len() == BATCH_MAX || outdated.len() == BATCH_MAX;
        let mut commands: Vec<Command> = due.iter().map(|&job| Command::Release { job, now_ms }).collect();
        commands.extend(outdated.iter().map(|&job| Command::Forget { job }));
        commands.extend(schedule_commands);
        if commands.is_empty() {
            return self.watch_clock();
        }
        self.chores.under_way = true;
        let myself = self.myself.clone();
        self.args.store().propose(
            commands,
            Box::new(move |decided| {
                if let Ok(outcomes) = decided {
                    let refused = |outcome: &&Outcome| matches!(outcome, Outcome::Unknown | Outcome::KeyReused(_));
                    if let Some(outcome) = outcomes.iter().rev().take(submitted).find(refused) {
                        tracing::warn!(outcome = ?outcome, "run of a schedule not submitted");
                    }
                    // A dispatcher that is gone is started again, and finds what is due.
                    let _ = myself.cast(DispatcherMessage::ChoresDone { forgotten: outdated, more });
                }
            }),
        );
    }

    /// Commands for schedules that are due, at most one for each, and how many of these submit a job.
    fn follow_schedules(&mut self, now_ms: u64) -> (Vec<Command>, usize) {
        // A dispatcher that was started again has none of them, whatever became of the last one's.
        if self.args.jobs.take_schedules_changed() || !std::mem::replace(&mut self.chores.schedules_read, true) {
            match self.args.store().schedules() {
                Ok(records) => self.chores.schedules = records.into_iter().filter_map(recurring).collect(),
                Err(error) => tracing::error!(error = %error, "read the schedules"),
            }
            self.chores.schedule_due_ms = Some(now_ms);
        }
        if self.chores.schedule_due_ms.is_none_or(|due_ms| due_ms > now_ms) {
            return (Vec::new(), 0);
        }
        self.chores.schedule_due_ms = None;
        let (mut commands, mut submitted) = (Vec::new(), 0);
        for schedule in self.chores.schedules.iter().filter(|schedule| !schedule.record.paused) {
            let decided_ms = schedule.record.decided_ms;
            match turn(&schedule.pattern, decided_ms, schedule.spec.missed, self.args.catch_up_max, now_ms) {
                Turn::Wait(at_ms) => {
                    let due = &mut self.chores.schedule_due_ms;
                    *due = due.iter().copied().chain(at_ms).min();
                }
                Turn::Skip { runs, up_to_ms } => {
                    tracing::warn!(schedule_id = %schedule.id, runs, "runs of a schedule left out");
                    commands.push(Command::SkipRuns { schedule: schedule.id, up_to_ms, runs });
                }
                Turn::Run(due_ms) => match run(schedule, due_ms, now_ms, &self.args.opener.admission.get()) {
                    Ok(command) => {
                        submitted += 1;
                        commands.push(command);
                    }
                    Err(error) => {
                        tracing::error!(schedule_id = %schedule.id, error = %error, "run of a schedule refused, and left out");
                        commands.push(Command::SkipRuns { schedule: schedule.id, up_to_ms: due_ms, runs: 1 });
                    }
                },
            }
        }
        (commands, submitted)
    }

    /// Removes uploads that no job reads, now and then. One that was just taken waits for its job.
    fn sweep_uploads(&mut self) {
        if self.chores.swept_at.is_some_and(|at| at.elapsed() < SWEEP_PERIOD) {
            return;
        }
        self.chores.swept_at = Some(Instant::now());
        let Some(uploads) = self.args.opener.uploads.clone() else { return };
        let jobs = Arc::clone(&self.args.jobs);
        tokio::task::spawn_blocking(move || {
            uploads.sweep(UPLOAD_KEPT_MIN, |digest| jobs.index(|index| index.uses_upload(digest)));
        });
    }

    /// What was due is done.
    pub(super) fn chores_done(&mut self, forgotten: &[JobId], more: bool) {
        self.chores.under_way = false;
        if !forgotten.is_empty() {
            let (opener, jobs) = (self.args.opener.clone(), forgotten.to_vec());
            tokio::task::spawn_blocking(move || jobs.into_iter().for_each(|job| opener.remove_results(job)));
        }
        self.serve_next();
        if more { self.do_chores() } else { self.watch_clock() }
    }

    /// Sets the clock for what is due next.
    pub(super) fn watch_clock(&mut self) {
        let now_ms = unix_ms();
        let due_ms = self.args.jobs.index(|index| index.next_due_ms());
        let due_ms = due_ms.into_iter().chain(self.chores.schedule_due_ms).min();
        let wait = due_ms.map_or(PERIOD_MAX, |at_ms| Duration::from_millis(at_ms.saturating_sub(now_ms).max(1)));
        if let Some(timer) = self.chores.timer.take() {
            timer.abort();
        }
        let timer = self.myself.send_after(wait.min(PERIOD_MAX), || DispatcherMessage::Tick);
        self.chores.timer = Some(timer.abort_handle());
    }
}

fn recurring((id, record): (ScheduleId, ScheduleRecord)) -> Option<Recurring> {
    let spec = spec_of(&record).map_err(|error| error.message);
    let pattern = spec.and_then(|spec| match CronPattern::parse(&spec.cron, &spec.time_zone) {
        Ok(pattern) => Ok((spec, pattern)),
        Err(error) => Err(error.to_string()),
    });
    match pattern {
        Ok((spec, pattern)) => Some(Recurring { id, record, spec, pattern }),
        Err(error) => {
            tracing::error!(schedule_id = %id, error, "schedule can't be followed");
            None
        }
    }
}

/// Submits a run.
fn run(schedule: &Recurring, due_ms: u64, now_ms: u64, admission: &Admission) -> Result<Command, ServiceError> {
    let admitted = admission.admit(&schedule.spec.job)?;
    let mut new = new_job(&schedule.spec.job, &admitted, now_ms, admission.dependents_max)?;
    new.facts.schedule = Some(schedule.id);
    // Nobody has asked for it: a trace begins here, where traces are exported.
    let mut span = TraceSpan::begin("submit scheduled job", SpanKind::Internal, None);
    span.set_number("quipu.schedule.id", schedule.id.0);
    new.facts.traceparent = span.context().map(|context| context.to_string());
    new.due_ms = Some(due_ms);
    Ok(Command::Submit(Box::new(new)))
}
