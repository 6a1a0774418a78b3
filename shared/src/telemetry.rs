//! Logs and traces.
//!
//! Logs go to stderr; stdout belongs to data. A line has a constant lower-case message and its data in fields, which are
//! named the same everywhere:
//!
//! | field | meaning |
//! |---|---|
//! | `job_id shard_id attempt epoch` | the piece of work |
//! | `node_id worker_id role generation` | the node; `worker_id` is one connection of one worker |
//! | `elapsed_ms bytes rows` | quantities, with their units |
//! | `error` | what went wrong, with `%` |
//! | `trace_id` | ties together what one command caused, on all nodes |
//!
//! ERROR means that a person must act, WARN that one might want to know, INFO is the course of things, one line for each
//! job or node and none for each shard; DEBUG has the shards.
//!
//! One trace id goes from the client's command to the executor's span. The client makes a [`TraceParent`], or takes the
//! one of its caller, and sends it with the job; each side hands on what it was given or, where it exports traces, the
//! context of its own [`spans::TraceSpan`], which has the same trace id. Lines of the log name that id (by [`span!`] or
//! by a field), so that a line leads to its trace and back, whether or not traces are exported ([`export`]).

pub mod export;
pub mod spans;

use crate::config::LogFormat;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io::IsTerminal;
use std::str::FromStr;
use std::sync::OnceLock;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{EnvFilter, Registry, reload};

/// Libraries that tell at INFO or DEBUG what only their authors need; a directive of one's own for them comes first.
const QUIET: [&str; 12] = [
    "fjall=warn",
    "lsm_tree=warn",
    "ractor=warn",
    "ractor_cluster=warn",
    "foca=warn",
    "hyper=warn",
    "hyper_util=warn",
    "h2=warn",
    "rustls=warn",
    "reqwest=warn",
    "tonic=warn",
    "tower=warn",
];

/// The level that may be changed later.
static LEVEL: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// Why logging could not start, or its level not be changed.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The level is neither a level nor a list of directives.
    #[error("log level {level:?}: {source}; use error, warn, info, debug, trace or off, or info,quipu_master=debug")]
    BadLevel {
        /// As given.
        level: String,
        /// What the parser says.
        source: tracing_subscriber::filter::ParseError,
    },
    /// There is no log whose level could be changed.
    #[error("change the log level: logging was not started")]
    NotStarted,
    /// Something has set up logging in this process before.
    #[error("start logging: {0}")]
    AlreadyStarted(#[from] TryInitError),
    /// Traces can't be sent there.
    #[error("export traces to {endpoint}: {problem}; telemetry.otlp_endpoint is such as http://127.0.0.1:4317")]
    Collector {
        /// As configured.
        endpoint: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// Sends this process's logs to stderr; call it once, first thing.
///
/// Colours are for terminals only, and never where `NO_COLOR` is set to anything.
///
/// # Errors
/// Where `level` does not parse, or logging was started before.
pub fn init(format: LogFormat, level: &str) -> Result<(), TelemetryError> {
    let (filter, handle) = reload::Layer::new(filter(level)?);
    // Set once, as logging itself.
    let _ = LEVEL.set(handle);
    let registry = tracing_subscriber::registry().with(filter);
    match format {
        LogFormat::Text => {
            let colours = colours(std::io::stderr().is_terminal(), std::env::var_os("NO_COLOR").as_deref());
            let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(colours);
            registry.with(layer).try_init()?;
        }
        LogFormat::Json => {
            let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).json().flatten_event(true);
            registry.with(layer).try_init()?;
        }
    }
    Ok(())
}

/// Changes the level of what [`init`] has started.
///
/// # Errors
/// Where `level` does not parse, or logging was not started.
pub fn set_level(level: &str) -> Result<(), TelemetryError> {
    let filter = filter(level)?;
    LEVEL.get().ok_or(TelemetryError::NotStarted)?.reload(filter).map_err(|_| TelemetryError::NotStarted)
}

/// The level with [`QUIET`] in front, so that what the user says of the same library wins.
fn filter(level: &str) -> Result<EnvFilter, TelemetryError> {
    let bad = |source| TelemetryError::BadLevel { level: level.to_owned(), source };
    // On its own first: an empty or odd text must not be hidden by what stands before it.
    EnvFilter::try_new(level).map_err(bad)?;
    let own = |library: &str| {
        level.split(',').any(|directive| directive.trim().split_once('=').is_some_and(|(name, _)| name == library))
    };
    // "off" and "error" are quieter than the quiet.
    let louder =
        |directive: &&&str| !matches!(level.trim(), "off" | "error") && !own(directive.split('=').next().unwrap_or(""));
    let quiet = QUIET.iter().filter(louder).copied();
    let directives: Vec<&str> = quiet.chain(std::iter::once(level)).collect();
    EnvFilter::try_new(directives.join(",")).map_err(bad)
}

/// See <https://no-color.org>: any value but the empty one counts.
fn colours(terminal: bool, no_color: Option<&std::ffi::OsStr>) -> bool {
    terminal && no_color.is_none_or(std::ffi::OsStr::is_empty)
}

/// A W3C trace context, version 00: which trace something belongs to, and which span caused it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TraceParent {
    trace_id: u128,
    parent_id: u64,
    flags: u8,
}

/// A text that is not a W3C `traceparent`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "traceparent is not of the form 00-<32 hex digits>-<16 hex digits>-<2 hex digits>, lower case and not all zero"
)]
pub struct TraceParentError;

impl TraceParent {
    /// Length of its text.
    const TEXT_BYTES: usize = 55;

    /// Begins a new trace, marked as sampled.
    pub fn new_random() -> Self {
        // All bits, for samplers decide by the lower ones; never the zero that stands for "none".
        let trace_id = rand::random::<u128>().max(1);
        Self { trace_id, parent_id: random_span(), flags: SAMPLED }
    }

    /// Begins a new trace, which is marked as sampled so often. Where its spans are exported, the same traces are sampled.
    pub fn new_sampled(ratio: f64) -> Self {
        let begun = Self::new_random();
        // As the SDK does it: by 63 bits of the trace's id. The product is far from the ends of a double's whole numbers.
        let bound = (ratio.clamp(0.0, 1.0) * (1_u64 << 63) as f64) as u64;
        let sampled = (begun.trace_id as u64) >> 1 < bound;
        Self { flags: if sampled { SAMPLED } else { 0 }, ..begun }
    }

    /// Whether its spans are to be exported.
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// The same trace with a fresh span id: what a step hands to those that it causes.
    pub fn child(&self) -> Self {
        Self { parent_id: random_span(), ..*self }
    }

    /// The trace's id as 32 hexadecimal digits, for the field `trace_id`.
    pub fn trace_id(&self) -> String {
        format!("{:032x}", self.trace_id)
    }

    /// The span's id as 16 hexadecimal digits.
    pub fn parent_id(&self) -> String {
        format!("{:016x}", self.parent_id)
    }

    /// The given context if it is there and valid, else a new one. A bad one must not fail the request that it came
    /// with, says W3C.
    pub fn continue_or_new(text: Option<&str>) -> Self {
        text.and_then(|text| text.parse().ok()).unwrap_or_else(Self::new_random)
    }
}

/// The flag of traces that are exported.
const SAMPLED: u8 = 1;

/// Random, and never the zero that stands for "none".
fn random_span() -> u64 {
    rand::random::<u64>().max(1)
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.parent_id, self.flags)
    }
}

impl FromStr for TraceParent {
    type Err = TraceParentError;

    fn from_str(text: &str) -> Result<Self, TraceParentError> {
        let bytes = text.as_bytes();
        let dashes = [2, 35, 52];
        let shaped = bytes.len() == Self::TEXT_BYTES
            && bytes.iter().enumerate().all(|(at, byte)| match byte {
                b'-' => dashes.contains(&at),
                b'0'..=b'9' | b'a'..=b'f' => !dashes.contains(&at),
                _ => false,
            });
        if !shaped || &text[..2] != "00" {
            return Err(TraceParentError);
        }
        let trace_id = u128::from_str_radix(&text[3..35], 16).map_err(|_| TraceParentError)?;
        let parent_id = u64::from_str_radix(&text[36..52], 16).map_err(|_| TraceParentError)?;
        let flags = u8::from_str_radix(&text[53..], 16).map_err(|_| TraceParentError)?;
        if trace_id == 0 || parent_id == 0 {
            return Err(TraceParentError);
        }
        Ok(Self { trace_id, parent_id, flags })
    }
}

/// Opens an INFO span that carries the trace: `telemetry::span!("run shard", trace, job_id = %job)`, where `trace` is an
/// `Option<&str>` (as specs and messages carry it). The field `trace_id` is empty where there is no valid trace.
#[macro_export]
macro_rules! traced_span {
    ($name:literal, $traceparent:expr $(, $($fields:tt)*)?) => {
        ::tracing::info_span!(
            $name,
            trace_id = %$crate::telemetry::trace_id_of($traceparent)
            $(, $($fields)*)?
        )
    };
}

pub use traced_span as span;

/// The trace id within a `traceparent`'s text; empty where there is none.
pub fn trace_id_of(traceparent: Option<&str>) -> String {
    let parsed = traceparent.and_then(|text| text.parse::<TraceParent>().ok());
    parsed.map(|trace| trace.trace_id()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    const EXAMPLE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Captured {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    fn logged(level: &str, log: impl FnOnce()) -> String {
        let captured = Captured::default();
        let writer = captured.clone();
        let layer = tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(move || writer.clone());
        let subscriber = tracing_subscriber::registry().with(filter(level).unwrap()).with(layer);
        tracing::subscriber::with_default(subscriber, log);
        captured.text()
    }

    #[test]
    fn traceparent_round_trips() {
        let parsed: TraceParent = EXAMPLE.parse().unwrap();
        assert_eq!(parsed.to_string(), EXAMPLE);
        assert_eq!(parsed.trace_id(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(parsed.parent_id(), "b7ad6b7169203331");
        let random = TraceParent::new_random();
        assert_eq!(random.to_string().parse(), Ok(random));
    }

    #[test]
    fn malformed_traceparents_are_refused() {
        let zero_trace = "00-00000000000000000000000000000000-b7ad6b7169203331-01";
        let zero_span = "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01";
        let mut bad =
            vec![String::new(), zero_trace.into(), zero_span.into(), EXAMPLE.to_uppercase(), format!("{EXAMPLE}-")];
        bad.extend([
            format!(" {EXAMPLE}"),
            format!("{EXAMPLE}\n"),
            EXAMPLE.replacen("00", "01", 1),
            EXAMPLE.replacen("00", "ff", 1),
        ]);
        bad.extend((0..EXAMPLE.len()).map(|len| EXAMPLE[..len].to_owned()));
        for at in 0..EXAMPLE.len() {
            for wrong in ["g", "-", "é", "+"] {
                let changed = format!("{}{wrong}{}", &EXAMPLE[..at], &EXAMPLE[at + 1..]);
                if changed != EXAMPLE {
                    bad.push(changed);
                }
            }
        }
        for text in bad {
            assert_eq!(text.parse::<TraceParent>(), Err(TraceParentError), "{text:?}");
        }
    }

    #[test]
    fn child_keeps_the_trace_and_changes_the_span() {
        let parent: TraceParent = EXAMPLE.parse().unwrap();
        let children: HashSet<String> = (0..100).map(|_| parent.child().parent_id()).collect();
        assert_eq!(children.len(), 100);
        assert!(!children.contains(&parent.parent_id()));
        assert_eq!(parent.child().trace_id(), parent.trace_id());
        assert!(parent.child().to_string().ends_with("-01"));
    }

    #[test]
    fn bad_context_begins_a_new_trace() {
        assert_eq!(TraceParent::continue_or_new(Some(EXAMPLE)).to_string(), EXAMPLE);
        assert_ne!(TraceParent::continue_or_new(Some("nonsense")), TraceParent::continue_or_new(None));
    }

    #[test]
    fn ratio_says_how_many_new_traces_are_sampled() {
        let sampled = |ratio| (0..2000).filter(|_| TraceParent::new_sampled(ratio).is_sampled()).count();
        assert_eq!((sampled(0.0), sampled(1.0)), (0, 2000));
        // Twenty standard deviations either way.
        assert!((553..=1447).contains(&sampled(0.5)));
    }

    #[test]
    fn span_carries_the_trace_id_into_each_line() {
        let text = logged("info", || {
            let _span = span!("run shard", Some(EXAMPLE), job_id = %7).entered();
            tracing::info!(rows = 3, "shard done");
        });
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["message"], "shard done");
        assert_eq!(line["rows"], 3);
        assert_eq!(line["span"]["trace_id"], "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(line["span"]["job_id"], "7");
        assert_eq!(trace_id_of(Some("nonsense")), "");
        assert_eq!(trace_id_of(None), "");
    }

    #[test]
    fn chatty_libraries_are_quiet_unless_asked_for() {
        let chat = || {
            tracing::info!(target: "ractor::actor", "chatter");
            tracing::warn!(target: "ractor::actor", "trouble");
            tracing::debug!(target: "quipu_master", "detail");
        };
        let lines = |level| logged(level, chat).lines().count();
        assert_eq!(lines("info"), 1);
        assert_eq!(lines("debug"), 2);
        assert_eq!(lines("info,ractor=info"), 2);
        assert_eq!(lines("error"), 0);
        assert_eq!(lines("off"), 0);
    }

    #[test]
    fn bad_level_is_named() {
        let error = filter("quipu=loud").err().unwrap().to_string();
        assert!(error.contains("quipu=loud") && error.contains("debug"), "{error}");
    }

    #[test]
    fn colours_are_for_terminals_without_no_color() {
        let set = |value: &'static str| Some(std::ffi::OsStr::new(value));
        assert!(colours(true, None));
        assert!(colours(true, set("")));
        assert!(!colours(true, set("1")));
        assert!(!colours(false, None));
    }

    #[test]
    fn second_start_is_an_error_and_no_panic() {
        let first = init(LogFormat::Json, "warn");
        let second = init(LogFormat::Text, "info");
        assert!(first.is_ok());
        assert!(matches!(second, Err(TelemetryError::AlreadyStarted(_))));
    }
}
