//! The dashboard: the cluster as people see it, in a browser.
//!
//! Pages are written here, on the master, with what is there when they are asked for ([`overview`], [`jobs`], [`job`],
//! [`node`], [`tryout`]); the parts of them that change come again over a stream of events ([`live`]), as the same HTML,
//! and a small script of ours ([`assets`]) puts them in place. So there is one template for each thing, everything works
//! as far as it can without the script, and what a page shows is escaped in one way. Whatever changes something goes to
//! the API, like anybody else's request, with the session's cookie.

mod assets;
mod format;
mod grid;
mod icons;
mod job;
mod job_parts;
mod jobs;
mod layout;
mod live;
pub(crate) mod login;
mod node;
mod overview;
mod plot;
mod results;
#[cfg(test)]
mod tests;
mod timeline;
mod tryout;

pub(crate) use assets::KEPT_FOR_GOOD;

use crate::pulse::Pulse;
use axum::Router;
use axum::extract::{Extension, State};
use axum::routing::get;
use quipu_shared::access::Caller;
use quipu_shared::ids::JobId;
use quipu_shared::service::{ErrorKind, JobService, JobView, NodeView, ServiceError};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// What the pages are made from.
pub(crate) struct Ui {
    pub(crate) service: Arc<dyn JobService>,
    pub(crate) pulse: Arc<Pulse>,
    /// Places of those who watch.
    pub(crate) watchers: Arc<Semaphore>,
    pub(crate) keep_alive: Duration,
    /// Cancelled when the server is to stop.
    pub(crate) stop: CancellationToken,
}

type UiState = State<Arc<Ui>>;
type Who = Extension<Caller>;

/// The pages, what they are made of, and their streams.
pub(crate) fn routes<S: Clone + Send + Sync + 'static>(ui: Ui) -> Router<S> {
    Router::new()
        .route("/", get(overview::page))
        .route("/jobs", get(jobs::page))
        .route("/jobs/{job}", get(job::page))
        .route("/nodes/{node}", get(node::page))
        .route("/try", get(tryout::page))
        .route("/ui/{build}/{file}", get(assets::file))
        .route("/ui/jobs/{job}/results", get(results::fragment))
        .route("/live/overview", get(live::overview))
        .route("/live/jobs", get(live::jobs))
        .route("/live/jobs/{job}", get(live::job))
        .route("/live/nodes/{node}", get(live::node))
        .with_state(Arc::new(ui))
}

impl Ui {
    /// A job that the caller may see. One of another namespace is not there.
    async fn job(&self, caller: &Caller, text: &str) -> Result<JobView, ServiceError> {
        let number = text.parse::<u64>().ok().filter(|number| number.to_string() == text);
        let Some(number) = number else { return Err(nothing("job", text)) };
        let view = self.service.job(JobId(number)).await?;
        if caller.sees(&view.namespace) { Ok(view) } else { Err(nothing("job", text)) }
    }

    /// A node by its id.
    async fn node(&self, text: &str) -> Result<NodeView, ServiceError> {
        let nodes = self.service.nodes().await?;
        nodes.into_iter().find(|node| node.id.as_str() == text).ok_or_else(|| nothing("node", text))
    }
}

fn nothing(what: &str, text: &str) -> ServiceError {
    ServiceError {
        kind: ErrorKind::NotFound,
        code: format!("unknown_{what}"),
        message: format!("there is no {what} {:.70}", text.escape_debug().to_string()),
        place: None,
        retry_after_s: None,
    }
}
