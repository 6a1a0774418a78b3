//! How fast refusals are answered. Some come at once; those beyond wait, so that who floods the master with requests that
//! come to nothing gets one answer a second and connection, and the machine's time goes to others.

use super::callers::TOKEN_RATE;
use super::refusal::Refused;
use axum::http::StatusCode;
use axum::response::Response;
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use quipu_shared::access::Caller;
use quipu_shared::ids::TokenId;
use quipu_shared::service::ErrorKind;
use std::num::NonZeroU32;
use std::time::Duration;

/// How long a refusal waits while there are too many of them.
const DELAY: Duration = Duration::from_secs(1);
/// gRPC's code for a call that makes no sense.
const GRPC_INVALID_ARGUMENT: &str = "3";

/// Who is refused. The cluster's own token is one of them, and whoever has no token that is good is another. There are
/// never more of them than tokens were made.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    Nobody,
    Cluster,
    Token(TokenId),
}

/// Counts refusals by who gets them.
pub(super) struct Pacing(DefaultKeyedRateLimiter<Key>);

impl Pacing {
    /// So many a second and token at once.
    pub(super) fn new(refusals_per_s: u32) -> Self {
        Self(RateLimiter::keyed(Quota::per_second(NonZeroU32::new(refusals_per_s).unwrap_or(NonZeroU32::MIN))))
    }

    /// How long an answer is to wait.
    pub(super) fn delay(&self, caller: Option<&Caller>, response: &Response) -> Duration {
        if !is_refusal(response) {
            return Duration::ZERO;
        }
        let key = match caller.map(|caller| caller.token) {
            None => Key::Nobody,
            Some(None) => Key::Cluster,
            Some(Some(token)) => Key::Token(token),
        };
        if self.0.check_key(&key).is_ok() { Duration::ZERO } else { DELAY }
    }
}

/// Whether somebody asked for what is not theirs, more often than they may, or for nothing that makes sense. A value that
/// a formula does not have is an answer like any other, and "try again" has a time of its own.
fn is_refusal(response: &Response) -> bool {
    let refused = response.extensions().get::<Refused>().map(|Refused(error)| error);
    match response.status() {
        StatusCode::TOO_MANY_REQUESTS => refused.is_some_and(|error| error.code == TOKEN_RATE),
        status if status.is_client_error() => refused.is_none_or(|error| error.kind != ErrorKind::Evaluation),
        // Calls of gRPC say so in a header, where there is no answer beside it.
        _ => response.headers().get("grpc-status").is_some_and(|code| code == GRPC_INVALID_ARGUMENT),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::refusal::Refusal;
    use axum::response::IntoResponse;

    #[test]
    fn refusals_beyond_the_rate_wait_and_nothing_else_does() {
        let pacing = Pacing::new(2);
        let wrong = || Refusal::new(ErrorKind::Invalid, "syntax", "").into_response();
        let mut delays = Vec::new();
        // Two may come at once; that four take half a second is not to be feared.
        for _ in 0..20 {
            delays.push(pacing.delay(None, &wrong()));
        }
        assert_eq!((delays[0], delays.contains(&DELAY)), (Duration::ZERO, true));
        assert_eq!(pacing.delay(Some(&Caller::cluster()), &wrong()), Duration::ZERO, "another caller's refusals");
        for harmless in [
            StatusCode::OK.into_response(),
            Refusal::new(ErrorKind::Busy, "busy", "").into_response(),
            Refusal::new(ErrorKind::Evaluation, "zero_divisor", "").into_response(),
            Refusal::new(ErrorKind::Internal, "panic", "").into_response(),
        ] {
            for _ in 0..20 {
                assert_eq!(pacing.delay(None, &harmless), Duration::ZERO, "{harmless:?}");
            }
        }
        for refusal in [
            wrong(),
            StatusCode::METHOD_NOT_ALLOWED.into_response(),
            Refusal::new(ErrorKind::Busy, TOKEN_RATE, "").into_response(),
            Refusal::new(ErrorKind::Unauthenticated, "no_token", "").into_response(),
            ([("grpc-status", GRPC_INVALID_ARGUMENT)], "").into_response(),
        ] {
            assert!(is_refusal(&refusal), "{refusal:?}");
        }
    }
}
