//! Formulas that are answered at once: evaluate, check.

use super::ApiState;
use super::body::{parse_json, read_body_within, require_json};
use super::refusal::Refusal;
use crate::eval::failure_error;
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use quipu_shared::eval::{CheckAnswer, CheckRequest, EvalRequest, EvalSubject, Outcome};
use quipu_shared::render::{write_eval_object, write_typed_value};
use quipu_shared::service::ErrorKind;

/// What an outcome takes in an answer, about.
const OUTCOME_BYTES: usize = 48;

/// `POST /v1/eval`: one value, or a list of outcomes in which formulas fail one by one.
pub(super) async fn evaluate(State(api): ApiState, headers: HeaderMap, body: Body) -> Result<Response, Refusal> {
    require_json(&headers)?;
    let body = read_body_within(&api, &headers, body, api.limits.eval_bytes_max).await?;
    let request: EvalRequest = parse_json(&body)?;
    drop(body);
    let alone = match &request.subject {
        EvalSubject::One(formula) => Some(formula.clone()),
        EvalSubject::Rows(..) | EvalSubject::Many(_) => None,
    };
    let mut outcomes = api.eval.evaluate(request).await?;
    let answer = match alone {
        Some(formula) => match outcomes.pop() {
            Some(Ok(value)) => {
                let mut out = Vec::with_capacity(OUTCOME_BYTES);
                out.push(b'{');
                write_typed_value(&mut out, &value);
                out.push(b'}');
                out
            }
            Some(Err(failure)) => return Err(failure_error(&formula, failure).into()),
            None => return Err(Refusal::new(ErrorKind::Internal, "no_outcome", "a formula has no outcome")),
        },
        None => write_outcomes(&outcomes),
    };
    Ok(([(header::CONTENT_TYPE, "application/json")], answer).into_response())
}

/// The same objects as `quipu eval -O json` has.
fn write_outcomes(outcomes: &[Outcome]) -> Vec<u8> {
    let mut out = Vec::with_capacity(outcomes.len() * OUTCOME_BYTES + 16);
    out.extend_from_slice(b"{\"results\":[");
    for (index, outcome) in outcomes.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write_eval_object(&mut out, index as u64, outcome);
    }
    out.extend_from_slice(b"]}");
    out
}

/// `POST /v1/check`: what `quipu explain` tells of a formula. One that is refused is an answer too.
pub(super) async fn check(State(api): ApiState, headers: HeaderMap, body: Body) -> Result<Json<CheckAnswer>, Refusal> {
    require_json(&headers)?;
    let body = read_body_within(&api, &headers, body, api.limits.eval_bytes_max).await?;
    let request: CheckRequest = parse_json(&body)?;
    Ok(Json(api.eval.check(request).await?))
}
