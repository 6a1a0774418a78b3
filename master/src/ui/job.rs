//! A job: what was asked for, how far it is, who works on it, what came out.

use super::layout::{self, Frame, Place};
use super::{Ui, UiState, Who, format, grid, icons, job_parts, overview, results, timeline};
use crate::store::sequencer::unix_ms;
use axum::extract::{Extension, Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use maud::{Markup, html};
use quipu_shared::access::{AccessRole, Caller};
use quipu_shared::ids::JobId;
use quipu_shared::service::{JobState, JobView, ServiceError};

/// The parts that change, by the ids of their places, with the heads of their sections where these have one.
type Parts = Vec<(&'static str, Option<&'static str>, Markup)>;

/// `GET /jobs/{id}`.
pub(super) async fn page(
    State(ui): UiState,
    Extension(caller): Who,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Response {
    let title = format!("Job {id:.20}");
    let mut frame =
        Frame { caller: &caller, headers: &headers, place: Place::Jobs, title: &title, live: None, script: None };
    match content(&ui, &caller, &id, &mut frame).await {
        Ok(content) => layout::page(&frame, &content),
        Err(error) => layout::trouble(&frame, &error),
    }
}

async fn content(ui: &Ui, caller: &Caller, id: &str, frame: &mut Frame<'_>) -> Result<Markup, ServiceError> {
    let view = ui.job(caller, id).await?;
    if !view.state.is_final() {
        frame.live = Some(format!("/live/jobs/{}", view.id));
    }
    let detail = ui.service.job_detail(view.id).await?;
    let rows_per_s = view.rows_done as f64 * 1000.0 / view.elapsed_ms.max(1) as f64;
    // A job that was just forgotten has nothing to say.
    let lines = ui.service.explain(view.id).await.unwrap_or_default();
    let parts = parts(ui, caller, &view, rows_per_s, lines).await?;
    Ok(html! {
        nav.crumbs aria-label="Where this is" {
            a href="/jobs" { "Jobs" } " / " span aria-current="page" { "Job " (view.id) }
        }
        @for (id, head, part) in parts {
            @match (id, head) {
                ("summary", _) => { p.visually-hidden id="summary" aria-live="polite" { (part) } }
                (id, None) => { div id=(id) { (part) } }
                (id, Some(head)) => {
                    section aria-labelledby={ (id) "-title" } hidden[part.0.is_empty()] {
                        h2 id={ (id) "-title" } { (head) }
                        div id=(id) { (part) }
                    }
                }
            }
            // What was asked for stands before how it went.
            @if id == "progress" {
                section aria-labelledby="formula-title" {
                    h2 id="formula-title" { "Formula" }
                    (job_parts::detail(&view, &detail))
                }
            }
        }
    })
}

/// The parts that change.
pub(super) async fn parts(
    ui: &Ui,
    caller: &Caller,
    view: &JobView,
    rows_per_s: f64,
    lines: Vec<String>,
) -> Result<Parts, ServiceError> {
    let shards = ui.service.job_shards(view.id).await?;
    let attempts = ui.service.job_attempts(view.id).await?;
    let mut parts: Parts = vec![
        ("summary", None, summary(view)),
        ("head", None, head(view, caller.role >= AccessRole::Submit)),
        ("progress", None, progress(view, rows_per_s)),
    ];
    let results = match view.state {
        JobState::Succeeded => results::preview(ui, view).await,
        _ => Markup::default(),
    };
    parts.push(("results", Some("Results"), results));
    parts.push(("errors", Some("Failed rows"), errors(view)));
    parts.push(("shards", Some("Shards"), grid::grid(view, &shards)));
    parts.push(("attempts", Some("Attempts"), timeline::timeline(&attempts, view.submitted_at_ms, unix_ms())));
    parts.push(("explain", Some("Why it stands where it stands"), explained(&lines)));
    Ok(parts)
}

fn summary(view: &JobView) -> Markup {
    // In quarters, so that nobody is told of every row.
    let quarter = view.rows_total.filter(|total| *total > 0).map(|total| view.rows_done.saturating_mul(4) / total * 25);
    html! {
        "Job " (view.id) " is " (view.state.name())
        @if let (JobState::Running, Some(quarter)) = (view.state, quarter) { ", " (quarter) " % done" }
    }
}

fn head(view: &JobView, may_change: bool) -> Markup {
    let path = format!("/v1/jobs/{}", view.id);
    html! {
        div.heading {
            div.title {
                h1 { (overview::title(view)) }
                span.kind { (view.kind) }
                (icons::job_state(view.state))
            }
            div.actions {
                @if view.state == JobState::Succeeded {
                    a.button href={ (path) "/results" } download=(results::file_name(view)) { "Download results" }
                }
                @if may_change {
                    @if view.state.is_final() {
                        button type="button" data-key="retry" data-action="POST" data-path={ (path) ":retry" } data-follow="/jobs/" { "Run again" }
                        button.danger type="button" data-key="forget" data-action="DELETE" data-path=(path) data-next="/jobs"
                            data-confirm={ "Forget job " (view.id) " and its results? This can't be undone." } { "Forget" }
                    } @else {
                        button.danger type="button" data-key="cancel" data-action="POST" data-path={ (path) ":cancel" }
                            data-confirm={ "Cancel job " (view.id) "? What it has done so far is lost." }
                            data-done={ "Job " (view.id) " is being cancelled" } { "Cancel" }
                    }
                }
            }
        }
        @if let Some(error) = &view.error {
            @if view.state != JobState::Cancelled {
                p.error { strong { (error.code) } " " (error.message) }
            }
        }
    }
}

fn progress(view: &JobView, rows_per_s: f64) -> Markup {
    let left = view.rows_total.map(|total| total.saturating_sub(view.rows_done)).filter(|left| *left > 0);
    let left_ms = left.filter(|_| view.state == JobState::Running && rows_per_s > 0.0);
    let left_ms = left_ms.map(|left| (left as f64 / rows_per_s * 1000.0) as u64);
    html! {
        div.card.progress-card {
            div.bar { (overview::progress(view)) span.num.strong { (overview::done(view)) } }
            dl.wide-facts {
                div.span {
                    dt { "Rows" }
                    dd { (format::count(view.rows_done)) @if let Some(total) = view.rows_total { span.of { " of " (format::count(total)) } } }
                }
                div { dt { @if view.state.is_final() { "Average rate" } @else { "Rate" } } dd { (format::rate(rows_per_s)) } }
                div { dt { "Time" } dd { (format::duration(view.elapsed_ms)) } }
                @if let Some(ms) = left_ms { div { dt { "About" } dd { (format::duration(ms)) " left" } } }
                div { dt { "Failed rows" } dd.bad[view.rows_failed > 0] { (format::count(view.rows_failed)) } }
                div { dt { "Submitted" } dd { (super::jobs::time(view.submitted_at_ms)) } }
                @if let Some(ended) = view.ended_at_ms { div { dt { "Ended" } dd { (super::jobs::time(ended)) } } }
                @if let Some(at) = view.not_before_ms.filter(|_| view.state == JobState::Scheduled) {
                    div { dt { "Due" } dd { (super::jobs::time(at)) } }
                }
            }
        }
    }
}

fn errors(view: &JobView) -> Markup {
    if view.row_errors.is_empty() {
        return Markup::default();
    }
    let shown = view.row_errors.len() as u64;
    html! {
        @if view.rows_failed > shown {
            p.note { "The first " (shown) " of " (format::count(view.rows_failed)) " rows that failed." }
        }
        table {
            caption.visually-hidden { "Rows that failed" }
            thead { tr { th.num scope="col" { "Row" } th scope="col" { "Error" } th scope="col" { "What happened" } } }
            tbody {
                @for error in &view.row_errors {
                    tr data-key={ "row-" (error.row) } {
                        th.num scope="row" { (format::count(error.row)) }
                        td data-label="Error" { code { (error.code) } }
                        td.wrap data-label="What happened" { (error.message) }
                    }
                }
            }
        }
    }
}

fn explained(lines: &[String]) -> Markup {
    html! {
        @if lines.is_empty() { p.note { "There is nothing to say." } } @else {
            ul.plain { @for line in lines { li { (line) } } }
        }
    }
}

/// A link to a job.
pub(super) fn link(job: JobId) -> Markup {
    html! { a href={ "/jobs/" (job) } { "job " (job) } }
}
