//! The span of a whole command, as OpenTelemetry has it for programs of a command line.

use super::Command;
use crate::failure::{Exit, Failure};
use quipu_shared::config::Config;
use quipu_shared::telemetry::export::{self, Service};
use quipu_shared::telemetry::spans::{SpanKind, TraceSpan};

/// The context of whoever has started this command, where that belongs to a trace.
const TRACEPARENT_VARIABLE: &str = "TRACEPARENT";

/// Begins a command that talks to a cluster; within the runtime. Nodes live on, and begin to export when they know
/// their names.
pub(super) fn begin(config: &Config, command: &Command) -> Result<TraceSpan, Failure> {
    if command.is_node() || !command.needs_runtime() {
        return Ok(TraceSpan::default());
    }
    export::start(&config.telemetry, Service::Client, &config.cluster.id, None)
        .map_err(|error| Failure::new(Exit::Config, error.to_string()))?;
    let parent = std::env::var(TRACEPARENT_VARIABLE).ok().and_then(|text| text.parse().ok());
    let mut span = TraceSpan::begin(format!("quipu {}", command.name()), SpanKind::Internal, parent);
    span.set("process.executable.name", "quipu");
    // Not its arguments: these are formulas and paths.
    Ok(span)
}

/// What became of it.
pub(super) fn end(span: &mut TraceSpan, result: &Result<(), Failure>) {
    let exit = result.as_ref().map_or_else(|failure| failure.exit as u8, |()| 0);
    span.set("process.exit.code", i64::from(exit));
    if let Err(failure) = result {
        span.fail(&exit.to_string(), &failure.message);
    }
}
