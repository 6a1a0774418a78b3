//! How jobs are shown.

use crate::failure::sanitise;
use crate::output::Format;
use crate::output::table::Table;
use quipu_shared::calendar::rfc3339;
use quipu_shared::service::{JobState, JobView};
use quipu_shared::spec::{Dependency, DependencyEnd};
use std::io::{self, Write};

const HEADER: [&str; 8] = ["job", "kind", "state", "priority", "rows", "failed", "seconds", "name"];

/// A list of jobs.
pub(super) fn jobs(format: Format, jobs: &[JobView], out: &mut dyn Write) -> io::Result<()> {
    print_list(format, jobs, &HEADER, list_cells, out)
}

fn list_cells(job: &JobView) -> Vec<String> {
    let rows = match job.rows_total {
        Some(total) if job.state == JobState::Succeeded || total == job.rows_done => total.to_string(),
        Some(total) => format!("{} of {total}", job.rows_done),
        None => job.rows_done.to_string(),
    };
    vec![
        job.id.to_string(),
        job.kind.clone(),
        job.state.name().to_owned(),
        job.priority.to_string(),
        rows,
        job.rows_failed.to_string(),
        seconds(job.elapsed_ms),
        job.name.clone().unwrap_or_default(),
    ]
}

/// A list of things that are JSON objects for machines and rows for people.
pub(crate) fn print_list<T: serde::Serialize>(
    format: Format,
    things: &[T],
    header: &[&str],
    cells: impl Fn(&T) -> Vec<String>,
    out: &mut dyn Write,
) -> io::Result<()> {
    match format {
        Format::Json => {
            serde_json::to_writer_pretty(&mut *out, things)?;
            writeln!(out)
        }
        Format::Ndjson => things.iter().try_for_each(|thing| {
            serde_json::to_writer(&mut *out, thing)?;
            writeln!(out)
        }),
        Format::Csv => {
            let line = |cells: Vec<String>| {
                cells.iter().map(|c| crate::output::reductions::csv_cell(c)).collect::<Vec<_>>().join(",")
            };
            writeln!(out, "{}", header.join(","))?;
            things.iter().try_for_each(|thing| writeln!(out, "{}", line(cells(thing))))
        }
        Format::Plain => things
            .iter()
            .try_for_each(|thing| writeln!(out, "{}", sanitise(cells(thing).first().map_or("", String::as_str)))),
        Format::Table => {
            let mut table = Table::new(header.iter().copied());
            for thing in things {
                table.row(cells(thing), out)?;
            }
            table.finish(out)
        }
        Format::Parquet | Format::Arrow => {
            Err(io::Error::other("a list is not written in columns; give -O json or csv"))
        }
    }
}

/// Everything about a job.
pub(super) fn job(format: Format, job: &JobView, out: &mut dyn Write) -> io::Result<()> {
    if format != Format::Table {
        return if format == Format::Json {
            serde_json::to_writer_pretty(&mut *out, job)?;
            writeln!(out)
        } else {
            print_list(format, std::slice::from_ref(job), &HEADER, list_cells, out)
        };
    }
    let mut lines = vec![
        ("job", job.id.to_string()),
        ("kind", job.kind.clone()),
        ("name", job.name.clone().unwrap_or_default()),
        ("state", job.state.name().to_owned()),
        ("priority", job.priority.to_string()),
        ("labels", job.labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")),
        ("submitted", rfc3339(job.submitted_at_ms)),
        ("not before", job.not_before_ms.map(rfc3339).unwrap_or_default()),
        ("after", job.after.iter().map(dependency).collect::<Vec<_>>().join(", ")),
        ("schedule", job.schedule.map(|id| id.to_string()).unwrap_or_default()),
        ("retry of", job.retry_of.map(|id| id.to_string()).unwrap_or_default()),
        ("retries", job.retries.to_string()),
        ("ended", job.ended_at_ms.map(rfc3339).unwrap_or_default()),
        ("seconds", seconds(job.elapsed_ms)),
        ("rows", job.rows_total.map_or_else(|| "not known yet".into(), |n| n.to_string())),
        ("rows done", job.rows_done.to_string()),
        ("rows failed", job.rows_failed.to_string()),
        ("shards done", job.shards.done.to_string()),
        ("shards leased", job.shards.leased.to_string()),
        ("shards waiting", job.shards.queued.to_string()),
        ("attempts retried", job.shards.retried.to_string()),
        ("attempts speculative", job.shards.speculative.to_string()),
        ("trace", job.traceparent.clone().unwrap_or_default()),
    ];
    lines.extend(job.error.iter().map(|error| ("error", format!("{} ({})", error.message, error.code))));
    let row = |e: &quipu_shared::block::RowError| format!("row {}: {} ({})", e.row, e.message, e.code);
    lines.extend(job.row_errors.iter().map(|error| ("failed row", row(error))));
    for (name, value) in lines {
        writeln!(out, "{name:<21} {}", sanitise(&value))?;
    }
    Ok(())
}

fn dependency(dependency: &Dependency) -> String {
    match dependency.on {
        DependencyEnd::Success => format!("success of {}", dependency.job),
        DependencyEnd::Any => format!("any end of {}", dependency.job),
    }
}

fn seconds(ms: u64) -> String {
    format!("{}.{:03}", ms / 1000, ms % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmd::fake::view;
    use quipu_shared::ids::{JobId, ScheduleId};

    #[test]
    fn everything_about_a_job_is_shown() {
        let on = |job, on| Dependency { job: JobId(job), on };
        let shown = JobView {
            labels: [("team".into(), "pricing".into()), ("tier".into(), "1".into())].into(),
            priority: -5,
            after: vec![on(3, DependencyEnd::Success), on(4, DependencyEnd::Any)],
            not_before_ms: Some(1_800_000_000_000),
            ended_at_ms: Some(1_800_000_000_500),
            retries: 2,
            retry_of: Some(JobId(7)),
            schedule: Some(ScheduleId(8)),
            ..view(JobId(17))
        };
        let mut out = Vec::new();
        job(Format::Table, &shown, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        for (name, value) in [
            ("priority", "-5"),
            ("labels", "team=pricing tier=1"),
            ("not before", "2027-01-15T08:00:00Z"),
            ("after", "success of 3, any end of 4"),
            ("schedule", "8"),
            ("retry of", "7"),
            ("retries", "2"),
            ("ended", "2027-01-15T08:00:00.5Z"),
        ] {
            assert!(text.contains(&format!("{name:<21} {value}\n")), "{name}: {text}");
        }
    }

    #[test]
    fn list_has_a_column_a_cell() {
        assert_eq!(list_cells(&view(JobId(17))).len(), HEADER.len());
    }
}
