//! Who asks: bearer tokens, the cookies of browsers, and what belongs to a caller.

use super::Api;
use super::guard::single;
use super::refusal::Refusal;
use crate::access::sessions::Credential;
use crate::access::tokens::Token;
use crate::jobs::opening::gone;
use axum::http::{HeaderMap, Method, header};
use quipu_shared::access::{Caller, Namespace};
use quipu_shared::ids::JobId;
use quipu_shared::service::{ErrorKind, JobView};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Code of the answer to who asks more often than their token is good for.
pub(super) const TOKEN_RATE: &str = "token_rate";
/// The cookie of a session.
pub(super) const SESSION_COOKIE: &str = "quipu_session";

/// Finds out who asks, and counts the request.
///
/// Neither a token nor a part of one may reach the error.
pub(super) fn authenticate(api: &Api, method: &Method, headers: &HeaderMap) -> Result<Caller, Refusal> {
    let refuse = |code, message: &str| Err(Refusal::new(ErrorKind::Unauthenticated, code, message));
    if let Some(value) = single(headers, &header::AUTHORIZATION)? {
        let bearer = value.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let Some((_, token)) = bearer else {
            return refuse("no_token", "the Authorization header has no bearer token");
        };
        return match holder_of(api, token.trim()) {
            Some(holder) => counted(holder),
            None => refuse(
                "wrong_token",
                "the bearer token is not one of this cluster's, or is no longer good; `quipu secret token` prints the \
                 cluster's own",
            ),
        };
    }
    let Some(credential) = cookie(headers).and_then(|id| api.sessions.find(id, Instant::now())) else {
        return refuse("no_token", "there is no bearer token; `quipu secret token` prints the cluster's");
    };
    // A browser says where a write comes from; what does not is no page of ours, whatever cookies it sends.
    if !matches!(*method, Method::GET | Method::HEAD) {
        let Some(origin) = single(headers, &header::ORIGIN)? else {
            let message =
                "a write with a session's cookie needs the Origin header that browsers send; use a bearer token";
            return Err(Refusal::new(ErrorKind::Forbidden, "no_origin", message));
        };
        if api.cors_origins.iter().any(|other| other == origin) {
            let message = "pages of other origins write with a bearer token, not with this host's cookie";
            return Err(Refusal::new(ErrorKind::Forbidden, "origin_not_allowed", message));
        }
    }
    let holder = match credential {
        Credential::Cluster => Some(Holder::Cluster),
        Credential::Token(id) => api.token_table.get(id).map(Holder::Token),
    };
    match holder {
        Some(holder) => counted(holder),
        None => refuse("wrong_token", "the token that this session was opened with is no longer good"),
    }
}

/// Whom a token stands for.
pub(super) enum Holder {
    /// Whoever has the cluster's own.
    Cluster,
    /// Whoever has one of the table.
    Token(Arc<Token>),
}

impl Holder {
    /// What a session is opened with.
    pub(super) fn credential(&self) -> Credential {
        match self {
            Self::Cluster => Credential::Cluster,
            Self::Token(token) => Credential::Token(token.id()),
        }
    }
}

/// Whom a text stands for, if it is a token.
pub(super) fn holder_of(api: &Api, text: &str) -> Option<Holder> {
    if (api.tokens)(text) { Some(Holder::Cluster) } else { api.token_table.find(text).map(Holder::Token) }
}

/// The session that a request names.
pub(super) fn cookie(headers: &HeaderMap) -> Option<&str> {
    let pairs = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    pairs.flat_map(|text| text.split(';')).find_map(|pair| pair.trim().strip_prefix(SESSION_COOKIE)?.strip_prefix('='))
}

fn counted(holder: Holder) -> Result<Caller, Refusal> {
    let Holder::Token(token) = holder else { return Ok(Caller::cluster()) };
    token.count_request().map_err(|wait| too_fast(&token, wait))?;
    Ok(token.caller.clone())
}

fn too_fast(token: &Token, wait: Duration) -> Refusal {
    let message = format!(
        "the token {:?} is good for fewer requests a second; wait, or have one made with a higher rate \
         (limits.token_requests_per_s_max, quipu token new --requests-per-second)",
        token.caller.name
    );
    Refusal::new(ErrorKind::Busy, TOKEN_RATE, message).retry_after_s(wait.as_secs() + 1)
}

/// A job as its caller may see it; those of other namespaces are not there.
pub(super) async fn visible(api: &Api, caller: &Caller, job: JobId) -> Result<JobView, Refusal> {
    let view = api.service.job(job).await?;
    if caller.sees(&view.namespace) { Ok(view) } else { Err(gone(job).into()) }
}

/// Puts something new into its caller's namespace.
pub(super) fn place(caller: &Caller, namespace: &mut Namespace) -> Result<(), Refusal> {
    match &caller.namespace {
        Some(own) if namespace.is_default() => *namespace = own.clone(),
        Some(own) if own != namespace => {
            let message = format!("this token is kept to namespace {own}, and the request names {namespace}");
            return Err(Refusal::new(ErrorKind::Forbidden, "other_namespace", message));
        }
        _ => {}
    }
    Ok(())
}
