//! The list of jobs, newest first.

use super::layout::{self, Frame, Place};
use super::{UiState, Who, format, icons, overview};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use maud::{Markup, html};
use quipu_shared::access::Caller;
use quipu_shared::ids::JobId;
use quipu_shared::service::{JobQuery, JobState, JobView};
use serde::Deserialize;

/// Jobs of one page.
const PAGE_JOBS: usize = 25;

/// What the page is asked for; what is not understood is left out.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    state: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    before: String,
}

impl Asked {
    fn states(&self) -> Vec<JobState> {
        match self.state.as_str() {
            "waiting" => vec![JobState::Scheduled, JobState::Waiting, JobState::Queued],
            name => JobState::ALL.into_iter().filter(|state| state.name() == name).collect(),
        }
    }

    fn query(&self, caller: &Caller) -> JobQuery {
        JobQuery {
            after: self.before.parse().ok().map(JobId),
            // One more than is shown says whether there is another page.
            limit: PAGE_JOBS + 1,
            newest_first: true,
            states: self.states(),
            name: Some(self.name.trim().to_owned()).filter(|name| !name.is_empty()),
            namespace: caller.namespace.clone(),
            ..JobQuery::default()
        }
    }

    fn link(&self, state: &str, before: Option<JobId>) -> String {
        let mut members = Vec::new();
        if !state.is_empty() {
            members.push(format!("state={state}"));
        }
        if !self.name.is_empty() {
            let name: String = form_urlencoded::byte_serialize(self.name.as_bytes()).collect();
            members.push(format!("name={name}"));
        }
        members.extend(before.map(|job| format!("before={job}")));
        if members.is_empty() { "/jobs".into() } else { format!("/jobs?{}", members.join("&")) }
    }
}

/// The filters, each with the name of its states in the address.
const FILTERS: [(&str, &str); 6] = [
    ("", "All"),
    ("running", "Running"),
    ("waiting", "Waiting"),
    ("succeeded", "Succeeded"),
    ("failed", "Failed"),
    ("cancelled", "Cancelled"),
];

/// `GET /jobs`.
pub(super) async fn page(
    State(ui): UiState,
    Extension(caller): Who,
    headers: HeaderMap,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Response {
    let asked = asked.map(|Query(asked)| asked).unwrap_or_default();
    let mut frame =
        Frame { caller: &caller, headers: &headers, place: Place::Jobs, title: "Jobs", live: None, script: None };
    let mut jobs = match ui.service.jobs(asked.query(&caller)).await {
        Ok(jobs) => jobs,
        Err(error) => return layout::trouble(&frame, &error),
    };
    let more = jobs.len() > PAGE_JOBS;
    jobs.truncate(PAGE_JOBS);
    let next = jobs.last().map(|job| job.id).filter(|_| more);
    let ids: Vec<String> = jobs.iter().map(|job| job.id.to_string()).collect();
    let newest = match asked.before.is_empty() {
        true => {
            let query =
                JobQuery { namespace: caller.namespace.clone(), limit: 1, newest_first: true, ..JobQuery::default() };
            let newest = ui.service.jobs(query).await.unwrap_or_default();
            format!("&newest={}", newest.first().map_or(0, |job| job.id.0))
        }
        false => String::new(),
    };
    frame.live = Some(format!("/live/jobs?ids={}{newest}", ids.join(",")));
    let content = html! {
        div.heading { h1 { "Jobs" } }
        div.filters {
            nav aria-label="Filter by state" {
                ul {
                    @for (state, text) in FILTERS {
                        li {
                            a href=(asked.link(state, None)) aria-current=[(asked.state == state).then_some("true")] { (text) }
                        }
                    }
                }
            }
            form method="get" action="/jobs" role="search" {
                @if !asked.state.is_empty() { input type="hidden" name="state" value=(asked.state); }
                label.visually-hidden for="name" { "Name of the job" }
                input id="name" name="name" type="search" value=(asked.name) placeholder="Exact name" autocomplete="off";
                button type="submit" { "Find" }
            }
        }
        div id="newer" aria-live="polite" {}
        @if jobs.is_empty() {
            div.empty {
                @if asked.state.is_empty() && asked.name.is_empty() && asked.before.is_empty() {
                    p { "No job has been submitted yet." }
                    p { a href="/try" { "Try a formula" } ", or use the command line: " code { "quipu submit eval '1 + 2'" } "." }
                } @else {
                    p { "No job fits." }
                    p { a href="/jobs" { "Show all jobs" } }
                }
            }
        } @else {
            div id="list" { (table(&jobs)) }
        }
        @if next.is_some() || !asked.before.is_empty() {
            nav.pages aria-label="Pages of jobs" {
                @if !asked.before.is_empty() { a.button href=(asked.link(&asked.state, None)) { "Newest" } }
                @if next.is_some() { a.button href=(asked.link(&asked.state, next)) rel="next" { "Older" } }
            }
        }
    };
    layout::page(&frame, &content)
}

/// The jobs as a table.
pub(super) fn table(jobs: &[JobView]) -> Markup {
    html! {
        table.jobs {
            caption.visually-hidden { "Jobs, newest first" }
            thead {
                tr {
                    th scope="col" { "Job" }
                    th scope="col" { "State" }
                    th.wide scope="col" { "Progress" }
                    th.num scope="col" { "Rows" }
                    th.num scope="col" { "Failed" }
                    th.num scope="col" { "Time" }
                    th scope="col" { "Submitted" }
                }
            }
            tbody { @for job in jobs { (row(job)) } }
        }
    }
}

fn row(job: &JobView) -> Markup {
    html! {
        tr data-key={ "job-" (job.id) } {
            th scope="row" {
                a.name href={ "/jobs/" (job.id) } { (overview::title(job)) }
                span.sub { span.kind { (job.kind) } " #" (job.id) }
            }
            td data-label="State" { (icons::job_state(job.state)) }
            td.wide data-label="Progress" { div.bar { (overview::progress(job)) span.num { (overview::done(job)) } } }
            td.num data-label="Rows" { (job.rows_total.map_or_else(|| "–".into(), format::count)) }
            td.num data-label="Failed" {
                @if job.rows_failed > 0 { span.bad { (format::count(job.rows_failed)) } } @else { "0" }
            }
            td.num data-label="Time" { (format::duration(job.elapsed_ms)) }
            td data-label="Submitted" { (time(job.submitted_at_ms)) }
        }
    }
}

/// A moment, which the page's script turns into local time.
pub(super) fn time(unix_ms: u64) -> Markup {
    html! { time datetime=(format::iso(unix_ms)) { (format::moment(unix_ms)) } }
}
