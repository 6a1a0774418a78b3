//! Messages and statuses, from and to what the service speaks.

use super::proto::{EvaluateRequest, EvaluateResponse, Job, JobState, Problem, Tuple, Value, evaluate_response, value};
use axum::http::StatusCode;
use quipu_shared::eval::{EvalRequest, Outcome, Variables};
use quipu_shared::service::{ErrorKind, JobState as State, JobView, Place, ServiceError};
use quipu_shared::spec::Scalar;
use std::collections::HashMap;
use std::time::Duration;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// Metadata of a status: the code that problem+json has.
const CODE_KEY: &str = "quipu-code";
/// Whose codes these are.
const DOMAIN: &str = "quipu";
/// Values within values; the guards on formulas are far below.
const VALUE_DEPTH_MAX: usize = 64;

/// The status that says what a refusal says.
pub(super) fn status_of(error: &ServiceError) -> Status {
    if error.kind == ErrorKind::Internal {
        tracing::error!(code = error.code, error = error.message, "call failed");
    }
    let mut facts = HashMap::new();
    if let Some(Place { formula, line, column }) = &error.place {
        facts.extend([
            ("formula".to_owned(), formula.clone()),
            ("line".to_owned(), line.to_string()),
            ("column".to_owned(), column.to_string()),
        ]);
    }
    let mut details = ErrorDetails::new();
    details.set_error_info(error.code.clone(), DOMAIN, facts);
    if let Some(seconds) = error.retry_after_s {
        details.set_retry_info(Some(Duration::from_secs(seconds)));
    }
    let mut metadata = MetadataMap::new();
    if let Ok(code) = MetadataValue::try_from(&error.code) {
        metadata.insert(CODE_KEY, code);
    }
    Status::with_error_details_and_metadata(code_of(error.kind), error.message.clone(), details, metadata)
}

fn code_of(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::Usage | ErrorKind::Invalid => Code::InvalidArgument,
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::Conflict | ErrorKind::Evaluation => Code::FailedPrecondition,
        ErrorKind::Cancelled => Code::Cancelled,
        ErrorKind::Deadline => Code::DeadlineExceeded,
        ErrorKind::Busy | ErrorKind::TooLarge => Code::ResourceExhausted,
        ErrorKind::Unauthenticated => Code::Unauthenticated,
        ErrorKind::Forbidden => Code::PermissionDenied,
        ErrorKind::Unreachable => Code::Unavailable,
        ErrorKind::Internal => Code::Internal,
    }
}

/// The status of an answer that is not ours, as the protocol maps them.
pub(super) fn status_of_http(status: StatusCode) -> Status {
    let code = match status.as_u16() {
        400 => Code::Internal,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::Unimplemented,
        429 | 502..=504 => Code::Unavailable,
        _ => Code::Unknown,
    };
    Status::new(code, format!("HTTP status {status}"))
}

/// A job as its message.
pub(super) fn job(view: JobView) -> Result<Job, Status> {
    let view_json = serde_json::to_string(&view).map_err(|error| Status::internal(format!("write a job: {error}")))?;
    Ok(Job {
        id: view.id.0,
        kind: view.kind,
        name: view.name.unwrap_or_default(),
        state: state(view.state).into(),
        submitted_at_ms: view.submitted_at_ms,
        elapsed_ms: view.elapsed_ms,
        rows_total: view.rows_total,
        rows_done: view.rows_done,
        rows_failed: view.rows_failed,
        error: view.error.map(problem),
        traceparent: view.traceparent.unwrap_or_default(),
        view_json,
    })
}

fn state(state: State) -> JobState {
    match state {
        State::Scheduled => JobState::Scheduled,
        State::Waiting => JobState::Waiting,
        State::Queued => JobState::Queued,
        State::Running => JobState::Running,
        State::Succeeded => JobState::Succeeded,
        State::Failed => JobState::Failed,
        State::Cancelled => JobState::Cancelled,
    }
}

pub(super) fn problem(error: ServiceError) -> Problem {
    let (line, column) = error.place.map_or((0, 0), |place| (place.line, place.column));
    let retry_after_s = error.retry_after_s.unwrap_or_default();
    Problem { code: error.code, message: error.message, line, column, retry_after_s }
}

/// A request's formula; the id is the caller's to keep.
pub(super) fn evaluation(request: EvaluateRequest) -> Result<EvalRequest, Problem> {
    let EvaluateRequest { id: _, formula, variables, cache } = request;
    let variables: Option<Vec<_>> =
        variables.into_iter().map(|(name, value)| Some((name, scalar(value, 0)?))).collect();
    let too_deep = || Problem {
        code: "value_too_deep".into(),
        message: format!("a variable's value has more than {VALUE_DEPTH_MAX} tuples within each other"),
        ..Problem::default()
    };
    let variables = Variables(variables.ok_or_else(too_deep)?);
    Ok(EvalRequest { cache, ..EvalRequest::one(formula, variables) })
}

fn scalar(value: Value, depth: usize) -> Option<Scalar> {
    Some(match value.kind {
        None => Scalar::Empty,
        Some(value::Kind::Int(int)) => Scalar::Int(int),
        Some(value::Kind::Float(float)) => Scalar::Float(float),
        Some(value::Kind::Boolean(boolean)) => Scalar::Boolean(boolean),
        Some(value::Kind::Text(text)) => Scalar::String(text),
        Some(value::Kind::Tuple(_)) if depth == VALUE_DEPTH_MAX => return None,
        Some(value::Kind::Tuple(Tuple { values })) => {
            Scalar::Tuple(values.into_iter().map(|value| scalar(value, depth + 1)).collect::<Option<_>>()?)
        }
    })
}

/// What became of a formula, as its message.
pub(super) fn evaluated(id: u64, outcomes: Result<Vec<Outcome>, ServiceError>) -> EvaluateResponse {
    let outcome = match outcomes.map(|mut outcomes| outcomes.pop()) {
        Ok(Some(Ok(scalar))) => evaluate_response::Outcome::Value(value(scalar)),
        Ok(Some(Err(failure))) => evaluate_response::Outcome::Error(Problem {
            code: failure.code,
            message: failure.message,
            line: failure.line.unwrap_or_default(),
            column: failure.column.unwrap_or_default(),
            retry_after_s: 0,
        }),
        Ok(None) => evaluate_response::Outcome::Error(Problem {
            code: "no_outcome".into(),
            message: "a formula has no outcome".into(),
            ..Problem::default()
        }),
        Err(error) => evaluate_response::Outcome::Error(problem(error)),
    };
    EvaluateResponse { id, outcome: Some(outcome) }
}

fn value(scalar: Scalar) -> Value {
    let kind = match scalar {
        Scalar::Empty => None,
        Scalar::Int(int) => Some(value::Kind::Int(int)),
        Scalar::Float(float) => Some(value::Kind::Float(float)),
        Scalar::Boolean(boolean) => Some(value::Kind::Boolean(boolean)),
        Scalar::String(text) => Some(value::Kind::Text(text)),
        Scalar::Tuple(values) => Some(value::Kind::Tuple(Tuple { values: values.into_iter().map(value).collect() })),
    };
    Value { kind }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_their_types_and_bits() {
        let nested =
            Scalar::Tuple(vec![Scalar::Int(i64::MIN), Scalar::Float(-0.0), Scalar::Tuple(vec![Scalar::Empty])]);
        for scalar_in in [nested, Scalar::Float(f64::INFINITY), Scalar::Boolean(true), Scalar::String("é".into())] {
            assert_eq!(format!("{:?}", scalar(value(scalar_in.clone()), 0)), format!("{:?}", Some(scalar_in)));
        }
    }

    #[test]
    fn deep_values_are_refused_before_they_are_walked() {
        let deep = (0..=VALUE_DEPTH_MAX).fold(Value { kind: None }, |value, _| Value {
            kind: Some(value::Kind::Tuple(Tuple { values: vec![value] })),
        });
        let request = EvaluateRequest { variables: [("x".to_owned(), deep)].into(), ..EvaluateRequest::default() };
        assert_eq!(evaluation(request).unwrap_err().code, "value_too_deep");
    }

    #[test]
    fn statuses_carry_the_code_the_place_and_the_pause() {
        let place = Some(Place { formula: "1 +".into(), line: 1, column: 3 });
        let error = ServiceError {
            kind: ErrorKind::Busy,
            code: "too_many_requests".into(),
            message: "wait".into(),
            place,
            retry_after_s: Some(3),
        };
        let status = status_of(&error);
        assert_eq!((status.code(), status.message()), (Code::ResourceExhausted, "wait"));
        assert_eq!(status.metadata().get(CODE_KEY).unwrap(), "too_many_requests");
        let details = status.get_error_details();
        assert_eq!(details.retry_info().unwrap().retry_delay, Some(Duration::from_secs(3)));
        let info = details.error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.metadata["column"].as_str()), ("too_many_requests", "3"));
    }
}
