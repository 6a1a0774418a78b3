//! Executors: one a slot, each on an OS thread of its own.
//!
//! Owned by the worker's supervisor, which starts one again when it panics; the new one reports to the agent, which
//! then hands the shard back to the master. CPU work stays on these threads, so the runtime never stalls.

pub mod columnar;
pub mod prepare;
pub mod run;

use crate::agent::AgentMessage;
use crate::core::{RawOutput, Slot};
use crate::task::Task;
use quipu_shared::telemetry::spans::{SpanKind, TraceSpan};
use ractor::thread_local::ThreadLocalActor;
use ractor::{ActorProcessingErr, ActorRef};
use std::sync::Arc;
use std::time::Instant;

/// Called with each task before it runs; tests use it to panic.
pub type BeforeTask = Arc<dyn Fn(&Task) + Send + Sync>;

/// What an executor starts with.
#[derive(Clone)]
pub struct ExecutorArgs {
    /// Its slot.
    pub slot: Slot,
    /// Whom it works for.
    pub agent: ActorRef<AgentMessage>,
    /// Called with each task before it runs.
    pub before_task: Option<BeforeTask>,
}

/// Messages to an executor.
pub enum ExecutorMessage {
    /// Run an attempt and report to the agent.
    Execute(Task),
    /// The agent was started again: report to this one from now on.
    ServeAgent(ActorRef<AgentMessage>),
}

impl ractor::Message for ExecutorMessage {}

/// The executor actor.
#[derive(Default)]
pub struct Executor;

impl ThreadLocalActor for Executor {
    type Msg = ExecutorMessage;
    type State = ExecutorArgs;
    type Arguments = ExecutorArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<ExecutorMessage>,
        args: ExecutorArgs,
    ) -> Result<ExecutorArgs, ActorProcessingErr> {
        args.agent.cast(AgentMessage::ExecutorReady { slot: args.slot, executor: myself })?;
        Ok(args)
    }

    async fn handle(
        &self,
        myself: ActorRef<ExecutorMessage>,
        message: ExecutorMessage,
        state: &mut ExecutorArgs,
    ) -> Result<(), ActorProcessingErr> {
        let task = match message {
            ExecutorMessage::Execute(task) => task,
            ExecutorMessage::ServeAgent(agent) => {
                agent.cast(AgentMessage::ExecutorReady { slot: state.slot, executor: myself })?;
                state.agent = agent;
                return Ok(());
            }
        };
        let span = tracing::info_span!(
            "execute",
            job_id = %task.lease.job,
            shard_id = %task.lease.shard,
            attempt = %task.lease.attempt,
            trace_id = task.job.trace_id(),
        );
        let _entered = span.enter();
        if let Some(before_task) = &state.before_task {
            before_task(&task);
        }
        let mut traced = TraceSpan::within("execute shard", SpanKind::Server, task.trace);
        let start = Instant::now();
        let result = run::run_shard(&task).map_err(|failure| failure.to_string());
        describe(&mut traced, &task, &result);
        drop(traced);
        let elapsed = start.elapsed();
        tracing::debug!(
            rows = task.rows,
            elapsed_ms = elapsed.as_millis() as u64,
            ok = result.is_ok(),
            "shard executed"
        );
        // An agent that is gone is being started again, and says so with `ServeAgent`.
        let _ = state.agent.cast(AgentMessage::AttemptFinished {
            slot: state.slot,
            lease: task.lease,
            busy_us: u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX),
            result,
        });
        Ok(())
    }
}

/// What the exported span says of an attempt.
fn describe(span: &mut TraceSpan, task: &Task, result: &Result<RawOutput, String>) {
    if !span.is_recording() {
        return;
    }
    span.set_number("quipu.job.id", task.lease.job.0);
    span.set_number("quipu.shard.id", task.lease.shard.0);
    span.set_number("quipu.attempt.id", task.lease.attempt.0);
    span.set_number("quipu.rows.first", task.first_row);
    span.set_number("quipu.rows.count", task.rows);
    match result {
        Ok(output) => {
            span.set_number("quipu.rows.failed", output.failed);
            span.set_number("quipu.output.bytes", output.bytes.len() as u64);
        }
        Err(_) if task.control.is_cancelled() => span.set("quipu.attempt.outcome", "cancelled"),
        Err(reason) => span.fail("attempt_failed", reason),
    }
}
