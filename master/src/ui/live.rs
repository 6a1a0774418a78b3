//! What changes on a page, as events: each is an object of HTML by the id of its place, and has only what is new.

use super::{Ui, UiState, Who, job, jobs, node, overview};
use crate::http::events::{beats, event_stream, watcher_place};
use crate::pulse::event;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{Stream, StreamExt};
use maud::{Markup, html};
use quipu_shared::access::Caller;
use quipu_shared::api::status_of;
use quipu_shared::ids::JobId;
use quipu_shared::service::{JobQuery, JobState, JobView, ServiceError};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};

/// Between two events of one stream.
const PERIOD: Duration = Duration::from_millis(500);
/// A job that stands still is looked at this often: its time goes on.
const JOB_REFRESH: Duration = Duration::from_secs(2);
/// Why a job stands where it stands is asked this often.
const EXPLAIN_PERIOD: Duration = Duration::from_secs(5);
/// A list, and a node, is looked at this often.
const LOOK_PERIOD: Duration = Duration::from_secs(1);
/// Jobs of a list that are looked at.
const LIST_JOBS_MAX: usize = 50;
/// Rates are those of about so many last seconds.
const RATE_SECONDS: f64 = 3.0;

/// HTML by the id of its place.
type Parts = Vec<(&'static str, Markup)>;

/// An event with parts of a page; none where nothing is new. Keeps what was told.
#[derive(Default)]
struct Told {
    number: u64,
    parts: BTreeMap<&'static str, String>,
}

impl Told {
    fn news(&mut self, parts: Parts) -> Option<Bytes> {
        let mut new = serde_json::Map::new();
        for (id, markup) in parts {
            let html = markup.0;
            if self.parts.get(id) != Some(&html) {
                new.insert(id.into(), html.clone().into());
                self.parts.insert(id, html);
            }
        }
        if new.is_empty() {
            return None;
        }
        self.number += 1;
        Some(event(self.number, &serde_json::Value::Object(new).to_string()))
    }
}

fn refused(error: &ServiceError) -> Response {
    let status = StatusCode::from_u16(status_of(error.kind)).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, error.message.clone()).into_response()
}

fn respond(ui: &Ui, news: BoxStream<'static, Bytes>) -> Response {
    match watcher_place(&ui.watchers) {
        Ok(place) => event_stream(news, ui.keep_alive, &ui.stop, place),
        Err(response) => *response,
    }
}

/// `GET /live/overview`: the same bytes for everybody who may see the same.
pub(super) async fn overview(State(ui): UiState, Extension(caller): Who) -> Response {
    let written = |view: &quipu_shared::detail::ClusterView| {
        let parts = overview::parts(view).into_iter().map(|(id, markup)| (id.to_owned(), markup.0.into()));
        serde_json::Value::Object(parts.collect()).to_string()
    };
    let news = beats(ui.pulse.watch(caller.namespace)).map(move |beat| beat.page(written));
    respond(&ui, news.boxed())
}

/// `GET /live/jobs/{id}`: ends after the job.
pub(super) async fn job(State(ui): UiState, Extension(caller): Who, Path(id): Path<String>) -> Response {
    let watched = async {
        let view = ui.job(&caller, &id).await?;
        Ok((view.id, ui.service.watch(view.id).await?))
    };
    match watched.await {
        Ok((job, views)) => {
            let watching = JobWatch {
                ui: Arc::clone(&ui),
                caller,
                job,
                views,
                told: Told::default(),
                pace: None,
                explained: None,
                ended: false,
            };
            respond(&ui, watching.into_stream().boxed())
        }
        Err(error) => refused(&error),
    }
}

struct JobWatch {
    ui: Arc<Ui>,
    caller: Caller,
    job: JobId,
    views: BoxStream<'static, JobView>,
    told: Told,
    pace: Option<Pace>,
    /// Why it stands where it stands: when and in which state that was asked for, and the answer. It is the dispatcher's
    /// to say, which has other work.
    explained: Option<(Instant, JobState, Vec<String>)>,
    ended: bool,
}

/// How fast a job is.
#[derive(Clone, Copy)]
struct Pace {
    at: Instant,
    rows: u64,
    rows_per_s: f64,
}

impl JobWatch {
    fn into_stream(self) -> impl Stream<Item = Bytes> + Send {
        stream::unfold(self, |mut watching| async {
            let news = watching.next().await?;
            Some((news, watching))
        })
    }

    async fn next(&mut self) -> Option<Bytes> {
        while !self.ended {
            if self.told.number > 0 {
                sleep(PERIOD).await;
            }
            let view = match timeout(JOB_REFRESH, self.views.next()).await {
                Ok(view) => view?,
                // Forgotten is ended, too.
                Err(_) => self.ui.service.job(self.job).await.ok()?,
            };
            self.ended = view.state.is_final();
            let rows_per_s = self.pace(&view);
            let lines = self.explained(&view).await;
            let parts = job::parts(&self.ui, &self.caller, &view, rows_per_s, lines).await.ok()?;
            let parts = parts.into_iter().map(|(id, _, markup)| (id, markup)).collect();
            if let Some(news) = self.told.news(parts) {
                return Some(news);
            }
        }
        None
    }

    async fn explained(&mut self, view: &JobView) -> Vec<String> {
        if let Some((at, state, lines)) = &self.explained
            && *state == view.state
            && at.elapsed() < EXPLAIN_PERIOD
        {
            return lines.clone();
        }
        // A job that was just forgotten has nothing to say.
        let lines = self.ui.service.explain(view.id).await.unwrap_or_default();
        self.explained = Some((Instant::now(), view.state, lines.clone()));
        lines
    }

    /// Its rate over the last seconds; of a job that has ended, over all of it.
    fn pace(&mut self, view: &JobView) -> f64 {
        let average = view.rows_done as f64 * 1000.0 / view.elapsed_ms.max(1) as f64;
        if view.state != JobState::Running {
            return average;
        }
        let now = Instant::now();
        let rows_per_s = self.pace.map_or(average, |before| {
            let seconds = now.duration_since(before.at).as_secs_f64();
            let measured = view.rows_done.saturating_sub(before.rows) as f64 / seconds.max(1e-3);
            before.rows_per_s + (1.0 - (-seconds / RATE_SECONDS).exp()) * (measured - before.rows_per_s)
        });
        self.pace = Some(Pace { at: now, rows: view.rows_done, rows_per_s });
        rows_per_s
    }
}

/// `GET /live/nodes/{id}`.
pub(super) async fn node(State(ui): UiState, Extension(caller): Who, Path(id): Path<String>) -> Response {
    if let Err(error) = ui.node(&id).await {
        return refused(&error);
    }
    let watching = (Arc::clone(&ui), caller, id, Told::default());
    let news = stream::unfold(watching, |(ui, caller, id, mut told)| async move {
        loop {
            if told.number > 0 {
                sleep(LOOK_PERIOD).await;
            }
            let (_, parts) = node::parts(&ui, &caller, &id).await.ok()?;
            if let Some(news) = told.news(parts) {
                return Some((news, (ui, caller, id, told)));
            }
        }
    });
    respond(&ui, news.boxed())
}

/// The jobs that a list shows, and the newest that there was.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Listed {
    #[serde(default)]
    ids: String,
    newest: Option<u64>,
}

/// `GET /live/jobs?ids=3,2,1&newest=3`: the rows of the list, and whether there are newer jobs.
pub(super) async fn jobs(
    State(ui): UiState,
    Extension(caller): Who,
    listed: Result<Query<Listed>, QueryRejection>,
) -> Response {
    let listed = listed.map(|Query(listed)| listed).unwrap_or_default();
    let mut views = Vec::new();
    for id in listed.ids.split(',').filter(|id| !id.is_empty()).take(LIST_JOBS_MAX) {
        // One that was forgotten meanwhile is left out.
        views.extend(ui.job(&caller, id).await.ok());
    }
    let watching = ListWatch { ui: Arc::clone(&ui), caller, views, newest: listed.newest, told: Told::default() };
    let news = stream::unfold(watching, |mut watching| async {
        let news = watching.next().await?;
        Some((news, watching))
    });
    respond(&ui, news.boxed())
}

struct ListWatch {
    ui: Arc<Ui>,
    caller: Caller,
    views: Vec<JobView>,
    newest: Option<u64>,
    told: Told,
}

impl ListWatch {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if self.told.number > 0 {
                sleep(LOOK_PERIOD).await;
            }
            for view in self.views.iter_mut().filter(|view| !view.state.is_final()) {
                if let Ok(now) = self.ui.service.job(view.id).await {
                    *view = now;
                }
            }
            let mut parts = Vec::new();
            if !self.views.is_empty() {
                parts.push(("list", jobs::table(&self.views)));
            }
            if let Some(newest) = self.newest {
                let query = JobQuery {
                    limit: 1,
                    newest_first: true,
                    namespace: self.caller.namespace.clone(),
                    ..JobQuery::default()
                };
                let last = self.ui.service.jobs(query).await.ok()?.first().map_or(0, |job| job.id.0);
                let newer =
                    html! { @if last > newest { p.newer { a href="/jobs" { "Newer jobs have come. Show them" } } } };
                parts.push(("newer", newer));
            }
            if parts.is_empty() {
                return None;
            }
            if let Some(news) = self.told.news(parts) {
                return Some(news);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Told;
    use maud::html;

    #[test]
    fn only_what_is_new_is_told() {
        let mut told = Told::default();
        let first = told.news(vec![("a", html! { b { "1" } }), ("b", html! { "2" })]).unwrap();
        assert_eq!(&*first, b"id: 1\ndata: {\"a\":\"<b>1</b>\",\"b\":\"2\"}\n\n".as_slice());
        assert!(told.news(vec![("a", html! { b { "1" } })]).is_none());
        let line_ends = told.news(vec![("a", html! { "x\ny" }), ("b", html! { "2" })]).unwrap();
        assert_eq!(&*line_ends, b"id: 2\ndata: {\"a\":\"x\\ny\"}\n\n".as_slice());
    }
}
