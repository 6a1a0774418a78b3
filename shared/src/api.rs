//! What the HTTP API and its client both know: paths, headers, media types, bodies, and how errors travel.
//!
//! A job's spec is the body of `POST /v1/jobs` as it is; the idempotency key and the trace context are headers.

use crate::service::{ErrorKind, JobView, NodeView, Place, ScheduleView, ServiceError};
use crate::spec::ResultFormat;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Jobs: `POST` submits, `GET` lists.
pub const JOBS_PATH: &str = "/v1/jobs";
/// Many jobs: `POST` takes a [`SubmitRequest`](crate::service::SubmitRequest) a line, and answers a [`BatchLine`] each.
pub const BATCH_PATH: &str = "/v1/jobs:batch";
/// Formulas that are answered at once: `POST` takes an [`EvalRequest`](crate::eval::EvalRequest).
pub const EVAL_PATH: &str = "/v1/eval";
/// What can be said of a formula before it is evaluated: `POST` takes a [`CheckRequest`](crate::eval::CheckRequest).
pub const CHECK_PATH: &str = "/v1/check";
/// Recurring jobs: `GET` lists, `POST` adds.
pub const SCHEDULES_PATH: &str = "/v1/schedules";
/// Uploads: `PUT` takes a table's bytes.
pub const UPLOADS_PATH: &str = "/v1/uploads";
/// Nodes: `GET` lists.
pub const NODES_PATH: &str = "/v1/nodes";
/// The cluster at one moment: its nodes and the jobs that run.
pub const CLUSTER_PATH: &str = "/v1/cluster";
/// The same now and at each change, at most twice a second, as server-sent events.
pub const EVENTS_PATH: &str = "/v1/events";
/// Tokens: `GET` lists, `POST` makes one, `DELETE` of one revokes it.
pub const TOKENS_PATH: &str = "/v1/tokens";
/// Browsers: `GET` gives the form, `POST` opens a session.
pub const LOGIN_PATH: &str = "/login";
/// Browsers: `POST` ends the session.
pub const LOGOUT_PATH: &str = "/logout";
/// Versions of the product, its protocol and its numerics.
pub const VERSION_PATH: &str = "/v1/version";
/// The API as an OpenAPI document.
pub const DOCUMENT_PATH: &str = "/openapi.json";
/// The same to browse.
pub const DOCS_PATH: &str = "/docs";
/// Figures of the master for Prometheus.
pub const METRICS_PATH: &str = "/metrics";
/// What the master's processors do, as a profile in pprof's form.
pub const CPU_PROFILE_PATH: &str = "/debug/pprof/profile";
/// What the master's memory is taken by.
pub const HEAP_PATH: &str = "/debug/pprof/heap";
/// The master's threads.
pub const THREADS_PATH: &str = "/debug/threads";
/// Answers while the process runs; needs no token.
pub const HEALTH_PATH: &str = "/healthz";
/// Answers 200 while jobs are accepted; needs no token.
pub const READY_PATH: &str = "/readyz";

/// The header with which a client names its attempt to submit; the same key never makes two jobs.
pub const IDEMPOTENCY_KEY_HEADER: &str = "idempotency-key";
/// The header of the W3C trace context.
pub const TRACEPARENT_HEADER: &str = "traceparent";
/// Media type of batches and their answers: one JSON document a line.
pub const NDJSON_MEDIA_TYPE: &str = "application/x-ndjson";
/// Media type of errors (RFC 9457).
pub const PROBLEM_MEDIA_TYPE: &str = "application/problem+json";

/// Jobs in a page when the request does not say.
pub const PAGE_JOBS_DEFAULT: usize = 100;
/// Jobs in a page at most: a page is built in memory.
pub const PAGE_JOBS_MAX: usize = 1000;
/// Bytes of an idempotency key at most; it is kept with its job for as long as that.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 128;

/// Every token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TokenList {
    /// By id.
    pub tokens: Vec<crate::access::TokenView>,
}

/// A page of jobs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobPage {
    /// Oldest first, or newest first where that was asked for.
    pub jobs: Vec<JobView>,
    /// What to give as `after` for the next page; null on the last.
    pub next: Option<crate::ids::JobId>,
}

/// What became of one line of a batch: either member is there, in the order of the lines that are not blank.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BatchLine {
    /// The accepted job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<crate::ids::JobId>,
    /// Why there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Problem>,
    /// Seconds after which to try this line again, where that helps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_s: Option<u64>,
}

impl From<Result<crate::ids::JobId, ServiceError>> for BatchLine {
    fn from(result: Result<crate::ids::JobId, ServiceError>) -> Self {
        match result {
            Ok(job) => Self { job: Some(job), ..Self::default() },
            Err(error) => Self {
                job: None,
                retry_after_s: error.retry_after_s,
                error: Some(Problem::new(&error, status_of(error.kind))),
            },
        }
    }
}

impl BatchLine {
    /// What it tells of; none where it tells of nothing.
    pub fn into_result(self) -> Option<Result<crate::ids::JobId, ServiceError>> {
        match (self.job, self.error) {
            (Some(job), None) => Some(Ok(job)),
            (None, Some(problem)) => Some(Err(problem.into_error(self.retry_after_s))),
            _ => None,
        }
    }
}

/// Why a job stands where it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Explanation {
    /// For people.
    pub lines: Vec<String>,
}

/// Every recurring job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ScheduleList {
    /// By id.
    pub schedules: Vec<ScheduleView>,
}

/// The nodes of the cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NodeList {
    /// By id.
    pub nodes: Vec<NodeView>,
}

/// What the master runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VersionView {
    /// Version of the product.
    pub version: String,
    /// [`crate::PROTOCOL_VERSION`].
    pub protocol: u32,
    /// [`crate::NUMERICS_VERSION`].
    pub numerics: u32,
}

/// The media type of a results stream.
pub fn result_media_type(format: ResultFormat) -> &'static str {
    match format {
        ResultFormat::Csv => "text/csv; charset=utf-8",
        ResultFormat::Ndjson => "application/x-ndjson",
        ResultFormat::Plain => "text/plain; charset=utf-8",
        ResultFormat::Json => "application/json",
        ResultFormat::Parquet => "application/vnd.quipu.parquet-parts",
        ResultFormat::Arrow => "application/vnd.apache.arrow.stream",
    }
}

/// An error as the API writes it: RFC 9457 with the members `code`, `kind` and `place`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// A URI that names the problem: `urn:quipu:problem:` and the code.
    #[serde(rename = "type")]
    pub type_uri: String,
    /// What sort of problem, the same for every one of its kind.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// This problem: names the input, the place and the fix.
    pub detail: String,
    /// Stable code, such as `unknown_variable`.
    pub code: String,
    /// The sort as programs read it: some share a status.
    pub kind: ErrorKind,
    /// Formula, line and column, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
}

impl Problem {
    /// The problem that tells of `error` with `status`. Its `retry_after_s` is no part: it travels as `Retry-After`.
    pub fn new(error: &ServiceError, status: u16) -> Self {
        Self {
            type_uri: format!("urn:quipu:problem:{}", error.code),
            title: title(error.kind).into(),
            status,
            detail: error.message.clone(),
            code: error.code.clone(),
            kind: error.kind,
            place: error.place.clone(),
        }
    }

    /// The error that this problem tells of.
    pub fn into_error(self, retry_after_s: Option<u64>) -> ServiceError {
        ServiceError { kind: self.kind, code: self.code, message: self.detail, place: self.place, retry_after_s }
    }
}

/// The HTTP status for a sort of errors.
pub fn status_of(kind: ErrorKind) -> u16 {
    match kind {
        ErrorKind::Usage => 400,
        ErrorKind::Unauthenticated => 401,
        ErrorKind::Forbidden => 403,
        ErrorKind::NotFound => 404,
        ErrorKind::Conflict | ErrorKind::Cancelled => 409,
        ErrorKind::TooLarge => 413,
        // Who set a deadline, or wrote a formula that takes so long, has to change that; the master is well.
        ErrorKind::Invalid | ErrorKind::Evaluation | ErrorKind::Deadline => 422,
        ErrorKind::Busy => 429,
        ErrorKind::Internal => 500,
        ErrorKind::Unreachable => 503,
    }
}

/// The sort of errors that a bare status means, for answers that are no [`Problem`]: those of a proxy, or of something
/// that is no master.
pub fn kind_of(status: u16) -> ErrorKind {
    match status {
        401 => ErrorKind::Unauthenticated,
        403 => ErrorKind::Forbidden,
        404 => ErrorKind::NotFound,
        409 => ErrorKind::Conflict,
        413 | 414 | 431 => ErrorKind::TooLarge,
        422 => ErrorKind::Invalid,
        408 | 429 => ErrorKind::Busy,
        400..=499 => ErrorKind::Usage,
        502..=504 => ErrorKind::Unreachable,
        _ => ErrorKind::Internal,
    }
}

fn title(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Usage => "The request is malformed",
        ErrorKind::Invalid => "A formula or its data is refused",
        ErrorKind::NotFound => "There is no such thing",
        ErrorKind::Conflict => "The request conflicts with what is there",
        ErrorKind::Evaluation => "A row failed",
        ErrorKind::Cancelled => "The job was cancelled",
        ErrorKind::Deadline => "The deadline passed",
        ErrorKind::Busy => "Over a limit, try again",
        ErrorKind::TooLarge => "Larger than a limit allows",
        ErrorKind::Unauthenticated => "A valid token is needed",
        ErrorKind::Forbidden => "Not allowed",
        ErrorKind::Unreachable => "The cluster can't be reached",
        ErrorKind::Internal => "The service failed",
    }
}

/// Checks an idempotency key: 1 to [`IDEMPOTENCY_KEY_BYTES_MAX`] visible ASCII characters, so that it fits a header.
pub fn check_idempotency_key(key: &str) -> Result<(), ServiceError> {
    if (1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic()) {
        return Ok(());
    }
    Err(ServiceError {
        kind: ErrorKind::Usage,
        code: "bad_idempotency_key".into(),
        message: format!("the idempotency key is not 1 to {IDEMPOTENCY_KEY_BYTES_MAX} visible ASCII characters"),
        place: None,
        retry_after_s: None,
    })
}

/// Whether this is a trace context of W3C's version 00 that names a trace and a span. Others are ignored, as the
/// standard says.
pub fn is_traceparent(text: &str) -> bool {
    let hex =
        |part: &str, len: usize| part.len() == len && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let named = |part: &str| part.bytes().any(|b| b != b'0');
    match text.split('-').collect::<Vec<_>>()[..] {
        ["00", trace, span, flags] => hex(trace, 32) && hex(span, 16) && hex(flags, 2) && named(trace) && named(span),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::{BatchLine, Problem, check_idempotency_key, is_traceparent, kind_of, status_of};
    use crate::ids::JobId;
    use crate::service::{ErrorKind, Place, ServiceError};

    #[test]
    fn problem_keeps_an_error_whole() {
        let error = ServiceError {
            kind: ErrorKind::Evaluation,
            code: "int_overflow".into(),
            message: "row 3 overflows".into(),
            place: Some(Place { formula: "a*b".into(), line: 1, column: 2 }),
            retry_after_s: Some(7),
        };
        let problem = Problem::new(&error, status_of(error.kind));
        let json = serde_json::to_value(&problem).unwrap();
        assert_eq!(json["type"], "urn:quipu:problem:int_overflow");
        assert_eq!(json["status"], 422);
        assert_eq!(json["kind"], "evaluation");
        assert_eq!(json["place"]["column"], 2);
        let back: Problem = serde_json::from_value(json).unwrap();
        assert_eq!(back.into_error(Some(7)), error);
    }

    #[test]
    fn batch_lines_tell_of_a_job_or_of_an_error() {
        let error = ServiceError {
            kind: ErrorKind::Busy,
            code: "queue_full".into(),
            message: "too many".into(),
            place: None,
            retry_after_s: Some(2),
        };
        for result in [Ok(JobId(17)), Err(error)] {
            let json = serde_json::to_string(&BatchLine::from(result.clone())).unwrap();
            let back: BatchLine = serde_json::from_str(&json).unwrap();
            assert_eq!(back.into_result(), Some(result), "{json}");
        }
        assert_eq!(serde_json::to_string(&BatchLine::from(Ok(JobId(17)))).unwrap(), r#"{"job":17}"#);
        assert_eq!(BatchLine::default().into_result(), None);
    }

    #[test]
    fn bare_status_means_the_kind_that_answers_with_it() {
        for kind in [
            ErrorKind::Usage,
            ErrorKind::Invalid,
            ErrorKind::NotFound,
            ErrorKind::Conflict,
            ErrorKind::Busy,
            ErrorKind::TooLarge,
            ErrorKind::Unauthenticated,
            ErrorKind::Forbidden,
            ErrorKind::Unreachable,
            ErrorKind::Internal,
        ] {
            assert_eq!(kind_of(status_of(kind)), kind);
        }
        assert_eq!(kind_of(502), ErrorKind::Unreachable);
        assert_eq!(kind_of(418), ErrorKind::Usage);
        assert_eq!(kind_of(302), ErrorKind::Internal);
    }

    #[test]
    fn idempotency_keys_fit_a_header() {
        assert!(check_idempotency_key("3f9c-a").is_ok());
        for bad in ["", "a b", "a\nb", "clé", &"x".repeat(129)] {
            assert_eq!(check_idempotency_key(bad).unwrap_err().code, "bad_idempotency_key", "{bad:?}");
        }
    }

    #[test]
    fn trace_contexts_are_told_from_other_text() {
        assert!(is_traceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"));
        for bad in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            assert!(!is_traceparent(bad), "{bad:?}");
        }
    }
}
