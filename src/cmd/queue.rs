//! When a detached job runs: after a time, after other jobs, or again and again.

use crate::cmd::select::{self, FilterArgs, Selectors};
use crate::cmd::{Session, parse};
use crate::failure::{Exit, Failure};
use clap::{Args, ValueEnum};
use quipu_shared::calendar::{CronPattern, parse_time, rfc3339};
use quipu_shared::spec::{Dependency, DependencyEnd, JobSpec, MissedRuns, QueueOptions, ScheduleSpec};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// When a job runs, and how long it is kept.
#[derive(Debug, Args)]
#[command(next_help_heading = "Queue")]
pub(crate) struct QueueArgs {
    /// Run once these jobs have succeeded; if one does not, the job fails. Repeats
    #[arg(long, value_name = "JOB,..", value_parser = select::selectors)]
    after_job: Vec<Selectors>,

    /// Run once these jobs have ended, whatever their end; repeats
    #[arg(long, value_name = "JOB,..", value_parser = select::selectors)]
    after_job_any: Vec<Selectors>,

    /// Run after this time has passed, such as 10m
    #[arg(long, value_name = "DURATION", value_parser = parse::duration, conflicts_with = "at")]
    after: Option<Duration>,

    /// Run at this time: 2026-12-01T06:00:00Z, or '2026-12-01 06:00' or 06:00 in the time zone
    #[arg(long, value_name = "TIME")]
    at: Option<String>,

    /// Run again and again: a cron pattern such as '30 6 * * MON-FRI', or @daily
    ///
    /// Minute, hour, day of the month, month and day of the week; with six fields, seconds are first. Makes a schedule
    /// and prints its number; see quipu schedule.
    #[arg(long, value_name = "PATTERN", conflicts_with_all = ["after", "at", "after_job", "after_job_any"])]
    pub(crate) cron: Option<String>,

    /// Time zone of --at and --cron, such as Europe/Paris [default: that of this machine]
    #[arg(long, value_name = "ZONE")]
    tz: Option<String>,

    /// What becomes of runs that were due while no master ran
    #[arg(long, value_name = "WHAT", default_value = "skip", requires = "cron")]
    missed: MissedArg,

    /// Try the job again so often after trouble that is not its own, such as a full disk
    #[arg(long, value_name = "N", default_value_t = 0)]
    retries: u32,

    /// Keep the ended job and its result for this time, such as 7d [default: as the master is configured]
    #[arg(long, value_name = "DURATION", value_parser = parse::duration)]
    retention: Option<Duration>,
}

/// [`MissedRuns`] on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum MissedArg {
    /// They are left out
    Skip,
    /// They are made up for
    Run,
}

impl QueueArgs {
    /// Finds wrong options before anything is sent.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        if let Some(pattern) = &self.cron {
            CronPattern::parse(pattern, &self.zone()?).map_err(|error| Failure::usage(error.to_string()))?;
        }
        self.not_before(now_ms()).map(drop)
    }

    fn zone(&self) -> Result<String, Failure> {
        if let Some(zone) = &self.tz {
            return Ok(zone.clone());
        }
        match jiff::tz::TimeZone::system().iana_name() {
            // A machine that is set to no zone shows UTC everywhere else, too.
            Some("Etc/Unknown") => Ok("UTC".into()),
            Some(name) => Ok(name.into()),
            None => Err(Failure::new(Exit::Config, "the time zone of this machine has no name")
                .hint("give --tz with an IANA name such as Europe/Paris, or UTC")),
        }
    }

    fn not_before(&self, now_ms: u64) -> Result<Option<u64>, Failure> {
        if let Some(delay) = self.after {
            return Ok(Some(now_ms.saturating_add(ms(delay))));
        }
        let Some(text) = &self.at else { return Ok(None) };
        parse_time(text, now_ms, &self.zone()?).map(Some).map_err(|error| Failure::usage(format!("--at: {error}")))
    }

    /// Completes the options that every job has.
    pub(crate) async fn complete(&self, session: &Session, queue: &mut QueueOptions) -> Result<(), Failure> {
        for (selections, on) in [(&self.after_job, DependencyEnd::Success), (&self.after_job_any, DependencyEnd::Any)] {
            if !selections.is_empty() {
                let jobs = select::resolve(session, selections, &FilterArgs::default()).await?;
                queue.after.extend(jobs.into_iter().map(|job| Dependency { job, on }));
            }
        }
        let now_ms = now_ms();
        queue.not_before_ms = self.not_before(now_ms)?;
        if let Some(at_ms) = queue.not_before_ms.filter(|at_ms| *at_ms < now_ms) {
            session.ui.warn(&format!("{} has passed: the job runs at once", rfc3339(at_ms)));
        }
        queue.retries = self.retries;
        queue.retention_ms = self.retention.map(ms);
        Ok(())
    }

    /// The schedule, where the job is to recur.
    pub(crate) fn schedule(&self, job: JobSpec) -> Result<Result<ScheduleSpec, Box<JobSpec>>, Failure> {
        let Some(cron) = self.cron.clone() else { return Ok(Err(Box::new(job))) };
        let missed = match self.missed {
            MissedArg::Skip => MissedRuns::Skip,
            MissedArg::Run => MissedRuns::Run,
        };
        Ok(Ok(ScheduleSpec { cron, time_zone: self.zone()?, missed, job }))
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, ms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmd::fake::{FakeCluster, session};
    use clap::Parser;
    use quipu_shared::ids::JobId;
    use std::sync::Arc;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        queue: QueueArgs,
    }

    fn parsed(args: &[&str]) -> Result<QueueArgs, clap::Error> {
        Line::try_parse_from(["x"].iter().chain(args)).map(|line| line.queue)
    }

    #[tokio::test]
    async fn options_are_completed() {
        let (_interrupt, session) = session(Arc::new(FakeCluster::with_jobs(5)));
        let mut queue = QueueOptions { priority: 3, ..QueueOptions::default() };
        let args = ["--after-job", "last:2", "--after-job-any", "1", "--retries", "2", "--retention", "7d"];
        parsed(&args).unwrap().complete(&session, &mut queue).await.unwrap();
        let on = |job, on| Dependency { job: JobId(job), on };
        let expected = [on(4, DependencyEnd::Success), on(5, DependencyEnd::Success), on(1, DependencyEnd::Any)];
        assert_eq!(queue.after, expected);
        assert_eq!((queue.priority, queue.retries, queue.retention_ms), (3, 2, Some(604_800_000)));
        assert_eq!(queue.not_before_ms, None);
    }

    #[test]
    fn times_are_absolute_or_relative() {
        let at = |args: &[&str]| parsed(args).unwrap().not_before(1_000_000).map_err(|failure| failure.exit);
        assert_eq!(at(&["--after", "10m"]), Ok(Some(1_600_000)));
        assert_eq!(at(&["--at", "1970-01-02 00:00", "--tz", "UTC"]), Ok(Some(86_400_000)));
        assert_eq!(at(&["--at", "00:20", "--tz", "UTC"]), Ok(Some(1_200_000)));
        assert_eq!(at(&["--at", "soon", "--tz", "UTC"]), Err(Exit::Usage));
        assert_eq!(at(&["--at", "00:20", "--tz", "Mars/Base"]), Err(Exit::Usage));
        assert!(parsed(&["--at", "00:20", "--after", "1s"]).is_err());
    }

    #[test]
    fn patterns_are_checked_before_anything_is_sent() {
        let check = |args: &[&str]| parsed(args).unwrap().check().map_err(|failure| failure.exit);
        assert_eq!(check(&["--cron", "@daily", "--tz", "Europe/Paris"]), Ok(()));
        assert_eq!(check(&["--cron", "0 0 30 2 *", "--tz", "UTC"]), Err(Exit::Usage));
        assert_eq!(check(&["--cron", "nonsense", "--tz", "UTC"]), Err(Exit::Usage));
        assert!(parsed(&["--cron", "@daily", "--after", "1s"]).is_err());
        assert!(parsed(&["--missed", "run"]).is_err());
        let spec: JobSpec = serde_json::from_str(r#"{"kind":{"eval":{"formulas":["1"]}}}"#).unwrap();
        let args = parsed(&["--cron", "@daily", "--tz", "Asia/Tokyo", "--missed", "run"]).unwrap();
        let schedule = args.schedule(spec.clone()).unwrap().unwrap();
        assert_eq!((schedule.cron.as_str(), schedule.time_zone.as_str()), ("@daily", "Asia/Tokyo"));
        assert_eq!((schedule.missed, &schedule.job), (MissedRuns::Run, &spec));
        assert_eq!(parsed(&[]).unwrap().schedule(spec.clone()).unwrap(), Err(Box::new(spec)));
    }
}
