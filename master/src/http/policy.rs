//! What a request needs, by its method and path: the one table of who may do what.

use axum::http::Method;
use quipu_shared::access::AccessRole;
use quipu_shared::api::{
    CHECK_PATH, EVAL_PATH, HEALTH_PATH, LOGIN_PATH, LOGOUT_PATH, NODES_PATH, READY_PATH, TOKENS_PATH,
};

/// Evaluations at once: they change nothing, so the audit log leaves them out.
const EVAL_PATHS: [&str; 2] = [EVAL_PATH, CHECK_PATH];

/// What it takes to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// Nothing: probes, which are answered whatever else is going on.
    Nothing,
    /// No token, but a place among the requests: who logs in has none yet.
    Place,
    /// A token of this role.
    Role(AccessRole),
}

/// Calls that change nothing of what there is.
const READING_CALLS: [&str; 4] = ["GetJob", "Watch", "Results", "Evaluate"];

/// What a call needs, where the path is one; all of them are POST.
fn need_of_call(path: &str) -> Option<Need> {
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    let role = match (service, method) {
        // As `/readyz`, and as every other GET.
        ("grpc.health.v1.Health", "Check") => return Some(Need::Nothing),
        ("grpc.health.v1.Health" | "grpc.reflection.v1.ServerReflection", _) => AccessRole::Read,
        ("quipu.v1.Quipu", "GetJob" | "Watch" | "Results") => AccessRole::Read,
        ("quipu.v1.Quipu", _) => AccessRole::Submit,
        _ => return None,
    };
    Some(Need::Role(role))
}

/// What a request needs.
pub(super) fn need(method: &Method, path: &str) -> Need {
    let reads = matches!(*method, Method::GET | Method::HEAD);
    let under = |prefix: &str| path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    if let Some(need) = need_of_call(path).filter(|_| *method == Method::POST) {
        return need;
    }
    match path {
        HEALTH_PATH | READY_PATH => Need::Nothing,
        LOGIN_PATH => Need::Place,
        CHECK_PATH | LOGOUT_PATH => Need::Role(AccessRole::Read),
        _ if under(TOKENS_PATH) || under("/debug") => Need::Role(AccessRole::Operate),
        // What is done to a node is done to everybody.
        _ if under(NODES_PATH) && !reads => Need::Role(AccessRole::Operate),
        _ if reads => Need::Role(AccessRole::Read),
        _ => Need::Role(AccessRole::Submit),
    }
}

/// Whether the audit log has a request that was let in: everything that may change something.
pub(super) fn is_audited(method: &Method, path: &str) -> bool {
    let reads = match path.strip_prefix("/quipu.v1.Quipu/") {
        Some(call) => READING_CALLS.contains(&call),
        None => EVAL_PATHS.contains(&path) || path.starts_with("/grpc."),
    };
    !matches!(*method, Method::GET | Method::HEAD) && !reads
}

#[cfg(test)]
mod tests {
    use super::*;
    use AccessRole::{Operate, Read, Submit};

    #[test]
    fn reading_takes_read_writing_submit_and_what_concerns_everybody_operate() {
        let table = [
            ("GET", "/healthz", Need::Nothing),
            ("GET", "/readyz", Need::Nothing),
            ("GET", "/login", Need::Place),
            ("POST", "/login", Need::Place),
            ("GET", "/", Need::Role(Read)),
            ("GET", "/v1/jobs", Need::Role(Read)),
            ("HEAD", "/v1/jobs/1/results", Need::Role(Read)),
            ("GET", "/metrics", Need::Role(Read)),
            ("GET", "/v1/nodes", Need::Role(Read)),
            ("POST", "/v1/check", Need::Role(Read)),
            ("POST", "/logout", Need::Role(Read)),
            ("POST", "/v1/eval", Need::Role(Submit)),
            ("POST", "/v1/jobs", Need::Role(Submit)),
            ("POST", "/v1/jobs/1:cancel", Need::Role(Submit)),
            ("DELETE", "/v1/jobs/1", Need::Role(Submit)),
            ("PUT", "/v1/uploads", Need::Role(Submit)),
            ("POST", "/v1/schedules", Need::Role(Submit)),
            ("POST", "/v1/nodes/worker-1:drain", Need::Role(Operate)),
            ("GET", "/v1/tokens", Need::Role(Operate)),
            ("POST", "/v1/tokens", Need::Role(Operate)),
            ("DELETE", "/v1/tokens/1", Need::Role(Operate)),
            ("GET", "/debug/pprof/profile", Need::Role(Operate)),
            ("PATCH", "/nowhere", Need::Role(Submit)),
            ("POST", "/grpc.health.v1.Health/Check", Need::Nothing),
            ("POST", "/grpc.health.v1.Health/Watch", Need::Role(Read)),
            ("POST", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Need::Role(Read)),
            ("POST", "/quipu.v1.Quipu/Watch", Need::Role(Read)),
            ("POST", "/quipu.v1.Quipu/Submit", Need::Role(Submit)),
            ("POST", "/quipu.v1.Quipu/Cancel", Need::Role(Submit)),
            ("POST", "/quipu.v1.Quipu/Evaluate", Need::Role(Submit)),
            ("POST", "/quipu.v1.Quipu/Nothing", Need::Role(Submit)),
        ];
        for (method, path, needed) in table {
            assert_eq!(need(&method.parse().unwrap(), path), needed, "{method} {path}");
        }
    }

    #[test]
    fn paths_that_only_begin_like_others_are_not_theirs() {
        assert_eq!(need(&Method::GET, "/v1/tokensX"), Need::Role(Read));
        assert_eq!(need(&Method::GET, "/healthz/"), Need::Role(Read));
    }

    #[test]
    fn the_audit_log_has_what_changes_something() {
        assert!(is_audited(&Method::POST, "/v1/jobs") && is_audited(&Method::DELETE, "/v1/tokens/1"));
        assert!(!is_audited(&Method::GET, "/v1/jobs") && !is_audited(&Method::POST, "/v1/eval"));
        assert!(is_audited(&Method::POST, "/quipu.v1.Quipu/Submit"));
        assert!(!is_audited(&Method::POST, "/quipu.v1.Quipu/Watch"));
    }
}
