//! `quipu schedule`: recurring jobs.

use crate::cmd::job::print_list;
use crate::cmd::{Context, Session};
use crate::failure::{Exit, Failure, sanitise};
use crate::output::Format;
use clap::{Args, Subcommand};
use quipu_shared::calendar::rfc3339;
use quipu_shared::ids::ScheduleId;
use quipu_shared::service::{ScheduleChange, ScheduleView};
use quipu_shared::spec::MissedRuns;
use std::io::{self, Write};

/// List, pause and remove recurring jobs
#[derive(Debug, Subcommand)]
#[command(after_long_help = "\
Examples:
  quipu submit eval '1 + 1' --cron '30 6 * * MON-FRI' --tz Europe/Paris
  quipu schedule list
  quipu schedule pause 3
  quipu schedule remove 3 4")]
pub(crate) enum ScheduleCommand {
    /// List schedules
    List(ListArgs),
    /// Show everything about a schedule
    Show(ShowArgs),
    /// Submit nothing until they are resumed
    Pause(IdsArgs),
    /// Go on; what was due in between counts as missed
    Resume(IdsArgs),
    /// End them; jobs that they have submitted stay
    Remove(IdsArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Form of the output: table, json, ndjson or csv
    #[arg(short = 'O', long, value_name = "FORM", default_value = "table")]
    format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// A schedule, by number
    #[arg(value_name = "SCHEDULE")]
    schedule: u64,
    /// Form of the output: table or json
    #[arg(short = 'O', long, value_name = "FORM", default_value = "table")]
    format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct IdsArgs {
    /// Schedules, by number
    #[arg(required = true, value_name = "SCHEDULE")]
    schedules: Vec<u64>,
}

const HEADER: [&str; 7] = ["schedule", "cron", "zone", "next", "last job", "runs", "name"];

impl ScheduleCommand {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        context.require_cluster()?;
        let session = Session::open(context).await?;
        match self {
            Self::List(args) => {
                let schedules = session.service.schedules().await?;
                print_list(args.format, &schedules, &HEADER, cells, &mut io::stdout().lock())
                    .map_err(|error| Failure::write(&error, &"standard output"))
            }
            Self::Show(args) => {
                let schedules = session.service.schedules().await?;
                let found = schedules.into_iter().find(|view| view.id.0 == args.schedule).ok_or_else(|| {
                    Failure::new(Exit::NoInput, format!("there is no schedule {}", args.schedule))
                        .hint("quipu schedule list names them")
                })?;
                show(args.format, &found, &mut io::stdout().lock())
                    .map_err(|error| Failure::write(&error, &"standard output"))
            }
            Self::Pause(args) => change(&session, args, ScheduleChange::Pause).await,
            Self::Resume(args) => change(&session, args, ScheduleChange::Resume).await,
            Self::Remove(args) => change(&session, args, ScheduleChange::Remove).await,
        }
    }
}

async fn change(session: &Session, args: IdsArgs, change: ScheduleChange) -> Result<(), Failure> {
    for schedule in args.schedules {
        let view = session.service.change_schedule(ScheduleId(schedule), change).await?;
        match (change, view.next_at_ms) {
            (ScheduleChange::Pause, _) => session.note(format_args!("schedule {schedule} is paused")),
            (ScheduleChange::Resume, Some(at)) => {
                session.note(format_args!("schedule {schedule} runs next at {}", rfc3339(at)));
            }
            (ScheduleChange::Resume, None) => session.note(format_args!("schedule {schedule} has no further run")),
            (ScheduleChange::Remove, _) => session.note(format_args!("schedule {schedule} is removed")),
        }
    }
    Ok(())
}

fn next(view: &ScheduleView) -> String {
    match view.next_at_ms {
        _ if view.paused => "paused".into(),
        Some(at) => rfc3339(at),
        None => "never".into(),
    }
}

fn cells(view: &ScheduleView) -> Vec<String> {
    vec![
        view.id.to_string(),
        view.spec.cron.clone(),
        view.spec.time_zone.clone(),
        next(view),
        view.last_job.map(|job| job.to_string()).unwrap_or_default(),
        view.runs.to_string(),
        view.spec.job.name.clone().unwrap_or_default(),
    ]
}

fn show(format: Format, view: &ScheduleView, out: &mut dyn Write) -> io::Result<()> {
    match format {
        Format::Json => {
            serde_json::to_writer_pretty(&mut *out, view)?;
            writeln!(out)
        }
        Format::Table => {
            let missed = match view.spec.missed {
                MissedRuns::Skip => "left out",
                MissedRuns::Run => "made up for",
            };
            for (name, value) in [
                ("schedule", view.id.to_string()),
                ("cron", view.spec.cron.clone()),
                ("time zone", view.spec.time_zone.clone()),
                ("kind", view.spec.job.kind.name().to_owned()),
                ("name", view.spec.job.name.clone().unwrap_or_default()),
                ("next", next(view)),
                ("last", view.last_at_ms.map(rfc3339).unwrap_or_default()),
                ("last job", view.last_job.map(|job| job.to_string()).unwrap_or_default()),
                ("runs", view.runs.to_string()),
                ("missed", format!("{}; they are {missed}", view.missed)),
            ] {
                writeln!(out, "{name:<10} {}", sanitise(&value))?;
            }
            Ok(())
        }
        Format::Plain | Format::Ndjson | Format::Csv | Format::Parquet | Format::Arrow => {
            print_list(format, std::slice::from_ref(view), &HEADER, cells, out)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quipu_shared::ids::JobId;

    fn view() -> ScheduleView {
        let spec =
            r#"{"cron":"@daily","time_zone":"Asia/Tokyo","job":{"kind":{"eval":{"formulas":["1"]}},"name":"n"}}"#;
        ScheduleView {
            id: ScheduleId(3),
            spec: serde_json::from_str(spec).unwrap(),
            paused: false,
            next_at_ms: Some(1_800_000_000_000),
            last_at_ms: Some(1_799_913_600_000),
            last_job: Some(JobId(17)),
            runs: 2,
            missed: 1,
        }
    }

    #[test]
    fn a_schedule_is_a_row_and_a_page() {
        assert_eq!(cells(&view()), ["3", "@daily", "Asia/Tokyo", "2027-01-15T08:00:00Z", "17", "2", "n"]);
        assert_eq!(cells(&ScheduleView { paused: true, ..view() })[3], "paused");
        assert_eq!(cells(&ScheduleView { next_at_ms: None, ..view() })[3], "never");
        let mut out = Vec::new();
        show(Format::Table, &view(), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("last       2027-01-14T08:00:00Z\n"), "{text}");
        assert!(text.contains("missed     1; they are left out\n"), "{text}");
    }
}
