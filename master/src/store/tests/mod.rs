//! Tests of the store: its law, its files, its crashes.

mod backup;
pub mod crash;
mod law;
mod trouble;

use super::command::{Command, Completion, Conclusion, NewJob, Outcome};
use super::record::{JobFacts, JobRecord, OutputRecord, ResultHead};
use super::{Opened, Store};
use bytes::Bytes;
use quipu_shared::access::Namespace;
use quipu_shared::ids::{Epoch, JobId, ShardId};
use quipu_shared::service::JobState;
use quipu_shared::spec::{Dependency, DependencyEnd, ResultFormat};
use std::path::Path;
use std::sync::Arc;

/// What is fixed with a plain job.
pub fn job_facts() -> JobFacts {
    JobFacts {
        namespace: Namespace::default(),
        kind: "eval".into(),
        name: None,
        format: ResultFormat::Ndjson,
        submitted_at_ms: 1_000,
        deadline_at_ms: None,
        traceparent: None,
        labels: Default::default(),
        priority: 0,
        after: Vec::new(),
        retries_max: 0,
        retention_ms: None,
        idempotency_key: None,
        spec_bytes: 2,
        rows_total: Some(1),
        upload: None,
        retry_of: None,
        schedule: None,
    }
}

/// A plain job's record.
pub fn job_record(state: JobState) -> JobRecord {
    JobRecord {
        state,
        fixed: job_facts(),
        not_before_ms: None,
        retries: 0,
        error: None,
        ended_at_ms: None,
        rows_total: None,
        rows_done: 0,
        rows_failed: 0,
        row_errors: Vec::new(),
        shards_done: 0,
    }
}

/// A plain job to be accepted.
pub fn new_job(key: Option<&str>) -> NewJob {
    let mut facts = job_facts();
    facts.idempotency_key = key.map(Into::into);
    NewJob {
        facts,
        not_before_ms: None,
        spec: Bytes::from_static(b"{}"),
        digest: [1; 32],
        due_ms: None,
        dependents_max: 100,
    }
}

/// A job that waits for others.
fn waiting_job(after: &[(u64, DependencyEnd)]) -> NewJob {
    let mut job = new_job(None);
    job.facts.after = after.iter().map(|(job, on)| Dependency { job: JobId(*job), on: *on }).collect();
    job
}

fn submit(job: NewJob) -> Command {
    Command::Submit(Box::new(job))
}

fn complete(job: u64, epoch: Epoch, first_row: u64, rows: u64, output: OutputRecord) -> Command {
    Command::Complete(Box::new(Completion {
        job: JobId(job),
        epoch,
        shard: ShardId(first_row),
        first_row,
        rows,
        failed: 0,
        errors: Vec::new(),
        output,
    }))
}

fn conclude(job: u64, epoch: Epoch, state: JobState) -> Command {
    let result = ResultHead::Rows { header: Bytes::new(), rows: 1 };
    Command::Conclude(Box::new(Conclusion {
        job: JobId(job),
        epoch,
        state,
        error: None,
        now_ms: 5_000,
        only_row: None,
        result: (state == JobState::Succeeded).then_some(result),
    }))
}

/// Proposes and waits.
fn decide(store: &Store, commands: Vec<Command>) -> Vec<Outcome> {
    try_decide(store, commands).expect("decided")
}

fn try_decide(store: &Store, commands: Vec<Command>) -> Result<Vec<Outcome>, super::StoreError> {
    let (sender, receiver) = std::sync::mpsc::channel();
    store.propose(commands, Box::new(move |decided| drop(sender.send(decided))));
    receiver.recv().expect("an answer")
}

fn lead(store: &Store) -> Epoch {
    match decide(store, vec![Command::BeginLeader])[..] {
        [Outcome::Leading(epoch)] => epoch,
        ref other => panic!("{other:?}"),
    }
}

fn start(opened: Opened) -> Store {
    opened.start(Arc::new(|_, _| {})).expect("starts")
}

fn open(data_dir: &Path) -> Store {
    start(Opened::on_disk(data_dir).expect("opens"))
}
