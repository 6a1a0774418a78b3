//! What went wrong, in words that name the place and the fix.

use super::read_answer;
use quipu_shared::api::{PROBLEM_MEDIA_TYPE, Problem, kind_of};
use quipu_shared::service::{ErrorKind, ServiceError};
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Response, Url};
use rustls::CertificateError;
use std::error::Error;
use std::io;
use std::time::Duration;

/// Code of an answer that is no master's.
pub(super) const FOREIGN_ANSWER: &str = "foreign_answer";

/// A request without an answer.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: ServiceError,
    /// Whether another try could do better.
    pub(super) may_retry: bool,
}

pub(super) fn fault(kind: ErrorKind, code: &str, message: impl Into<String>) -> ServiceError {
    ServiceError { kind, code: code.into(), message: message.into(), place: None, retry_after_s: None }
}

impl Failure {
    pub(super) fn from_reqwest(base: &Url, error: &reqwest::Error) -> Self {
        let tls = chain(error).find_map(as_tls);
        let refused = chain(error).find_map(as_io).is_some_and(|e| e.kind() == io::ErrorKind::ConnectionRefused);
        let fix = match tls {
            Some(tls) => tls_fix(tls),
            None if refused => "is a master running there?",
            None if error.is_dns() => "check the host's name",
            None if error.is_timeout() => "check the address, and that nothing on the way blocks it",
            None if error.is_connect() => "check the address and the network",
            // A TLS server closes on plain HTTP, or answers with what is no HTTP.
            None if base.scheme() == "http" => "if it keeps happening: does the server want https://?",
            None => "the connection was lost; try again",
        };
        let cause = root_cause(error);
        Self {
            error: fault(ErrorKind::Unreachable, "unreachable", format!("reach the cluster at {base}: {cause}; {fix}")),
            may_retry: tls.is_none() && !error.is_builder(),
        }
    }

    pub(super) fn timed_out(base: &Url, after: Duration) -> Self {
        let message =
            format!("reach the cluster at {base}: no answer within {} ms; is the master well?", after.as_millis());
        Self { error: fault(ErrorKind::Unreachable, "no_answer", message), may_retry: true }
    }
}

fn tls_fix(error: &rustls::Error) -> &'static str {
    match error {
        rustls::Error::InvalidCertificate(problem) => match problem {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "its certificate is not of a known authority: give the cluster's with --ca-file or --secret-file"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "call it by a name that its certificate has"
            }
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => "compare the clocks of both machines",
            _ => "its certificate is not usable",
        },
        rustls::Error::InvalidMessage(_) => "does the server speak TLS? http:// is for loopback without it",
        _ => "TLS could not be agreed on",
    }
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| match error.downcast_ref::<io::Error>() {
        // An io error's source is that of what it wraps, which would leave out what it wraps.
        Some(io) => io.get_ref().map(|inner| inner as &(dyn Error + 'static)),
        None => error.source(),
    })
}

fn as_tls<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    error.downcast_ref()
}

fn as_io<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a io::Error> {
    error.downcast_ref()
}

/// The innermost cause. The outer ones only say that a request failed, and to which URL.
pub(super) fn root_cause(error: &(dyn Error + 'static)) -> String {
    chain(error).last().unwrap_or(error).to_string()
}

/// The answer if it is a success, else the error that it tells of.
pub(super) async fn answered(base: &Url, response: Response) -> Result<Response, ServiceError> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
    let retry_after_s = header(RETRY_AFTER).and_then(|text| text.trim().parse().ok());
    if header(CONTENT_TYPE).is_some_and(|media_type| media_type.starts_with(PROBLEM_MEDIA_TYPE))
        && let Ok(problem) = serde_json::from_slice::<Problem>(&read_answer(base, response).await?)
    {
        return Err(problem.into_error(retry_after_s));
    }
    let message = format!("{base} answered {status}, and not as a Quipu master does; is the URL right?");
    let mut error = fault(kind_of(status.as_u16()), FOREIGN_ANSWER, message);
    error.retry_after_s = retry_after_s;
    Err(error)
}
