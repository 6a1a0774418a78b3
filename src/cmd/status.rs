//! `quipu status`: the cluster in a few lines.

use crate::cmd::{Context, Session};
use crate::failure::Failure;
use crate::output::Format;
use crate::output::progress::rate;
use clap::Args;
use quipu_shared::ids::{JobId, Role};
use quipu_shared::service::{JobQuery, JobState, JobView, NodeState, NodeView};
use serde::Serialize;
use std::io::{self, Write};

/// Show the cluster in a few lines
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  quipu status --cluster https://10.0.0.1:7402
  quipu status -O json --cluster https://10.0.0.1:7402")]
pub(crate) struct StatusArgs {
    /// Form of the output: table or json
    #[arg(short = 'O', long, value_name = "FORM", default_value = "table")]
    format: Format,
}

/// Jobs that are asked for at once.
const PAGE: usize = 500;

/// The cluster in numbers. The JSON form is stable: members may be added.
#[derive(Debug, Default, PartialEq, Serialize)]
struct Status {
    version: u32,
    cluster: String,
    masters: u64,
    workers_up: u64,
    workers_draining: u64,
    workers_down: u64,
    slots: u64,
    leased: u64,
    rows_per_s: f64,
    jobs_scheduled: u64,
    jobs_waiting: u64,
    jobs_queued: u64,
    jobs_running: u64,
    jobs_succeeded: u64,
    jobs_failed: u64,
    jobs_cancelled: u64,
}

impl StatusArgs {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        context.require_cluster()?;
        let session = Session::open(context).await?;
        let nodes = session.service.nodes().await?;
        let mut jobs = Vec::new();
        let mut after: Option<JobId> = None;
        loop {
            let page = session.service.jobs(JobQuery { after, limit: PAGE, ..JobQuery::default() }).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.id);
            jobs.extend(page);
        }
        let status = count(context.config().client.cluster.clone().unwrap_or_default(), &nodes, &jobs);
        print(self.format, &status, &mut io::stdout().lock())
            .map_err(|error| Failure::write(&error, &"standard output"))
    }
}

fn count(cluster: String, nodes: &[NodeView], jobs: &[JobView]) -> Status {
    let mut status = Status { version: 1, cluster, ..Status::default() };
    for node in nodes {
        match (node.role, node.state) {
            (Role::Master, _) => status.masters += 1,
            (Role::Worker, NodeState::Up) => status.workers_up += 1,
            (Role::Worker, NodeState::Draining) => status.workers_draining += 1,
            (Role::Worker, NodeState::Down | NodeState::Known) => status.workers_down += 1,
        }
        if node.role == Role::Worker && node.state == NodeState::Up {
            status.slots += u64::from(node.slots);
            status.rows_per_s += node.rows_per_s;
        }
        status.leased += u64::from(node.leased);
    }
    for job in jobs {
        match job.state {
            JobState::Scheduled => status.jobs_scheduled += 1,
            JobState::Waiting => status.jobs_waiting += 1,
            JobState::Queued => status.jobs_queued += 1,
            JobState::Running => status.jobs_running += 1,
            JobState::Succeeded => status.jobs_succeeded += 1,
            JobState::Failed => status.jobs_failed += 1,
            JobState::Cancelled => status.jobs_cancelled += 1,
        }
    }
    status
}

fn print(format: Format, s: &Status, out: &mut dyn Write) -> io::Result<()> {
    if matches!(format, Format::Parquet | Format::Arrow) {
        return Err(io::Error::other("a status is not written in columns; give -O json"));
    }
    if format != Format::Table && format != Format::Plain {
        serde_json::to_writer(&mut *out, s)?;
        return writeln!(out);
    }
    writeln!(out, "cluster  {}", s.cluster)?;
    writeln!(out, "masters  {}", s.masters)?;
    write!(out, "workers  {} up", s.workers_up)?;
    for (n, what) in [(s.workers_draining, "draining"), (s.workers_down, "not in the schedule")] {
        if n > 0 {
            write!(out, ", {n} {what}")?;
        }
    }
    writeln!(out, "\nslots    {} ({} shards leased, {} rows/s)", s.slots, s.leased, rate(s.rows_per_s))?;
    write!(out, "jobs     ")?;
    for (n, what) in [(s.jobs_scheduled, "scheduled"), (s.jobs_waiting, "waiting")] {
        if n > 0 {
            write!(out, "{n} {what}, ")?;
        }
    }
    writeln!(
        out,
        "{} queued, {} running, {} succeeded, {} failed, {} cancelled",
        s.jobs_queued, s.jobs_running, s.jobs_succeeded, s.jobs_failed, s.jobs_cancelled
    )
}
