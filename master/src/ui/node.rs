//! A node: what it is, what it does, and its way out.

use super::layout::{self, Frame, Place};
use super::{Ui, UiState, Who, format, icons, overview, timeline};
use crate::http::detail::attempts_seen;
use axum::extract::{Extension, Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use maud::{Markup, html};
use quipu_shared::access::{AccessRole, Caller};
use quipu_shared::detail::NodeAttempt;
use quipu_shared::ids::Role;
use quipu_shared::service::{NodeState, NodeView, ServiceError};

/// `GET /nodes/{id}`.
pub(super) async fn page(
    State(ui): UiState,
    Extension(caller): Who,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Response {
    let title = format!("Node {id:.64}");
    let mut frame =
        Frame { caller: &caller, headers: &headers, place: Place::Elsewhere, title: &title, live: None, script: None };
    match parts(&ui, &caller, &id).await {
        Ok((node, parts)) => {
            frame.live = Some(format!("/live/nodes/{}", node.id));
            let content = content(&node, parts);
            layout::page(&frame, &content)
        }
        Err(error) => layout::trouble(&frame, &error),
    }
}

fn content(node: &NodeView, parts: Vec<(&'static str, Markup)>) -> Markup {
    html! {
        nav.crumbs aria-label="Where this is" { a href="/" { "Overview" } " / " span aria-current="page" { (node.id) } }
        @for (id, part) in parts {
            @match id {
                "summary" => { p.visually-hidden id="summary" aria-live="polite" { (part) } }
                "attempts" => {
                    section aria-labelledby="attempts-title" {
                        h2 id="attempts-title" { "Latest attempts" }
                        div id="attempts" { (part) }
                    }
                }
                id => { div id=(id) { (part) } }
            }
        }
    }
}

/// The parts that change, by the ids of their places.
pub(super) async fn parts(
    ui: &Ui,
    caller: &Caller,
    id: &str,
) -> Result<(NodeView, Vec<(&'static str, Markup)>), ServiceError> {
    let node = ui.node(id).await?;
    let attempts = attempts_seen(&*ui.service, caller, node.id.clone()).await?;
    let parts = vec![
        ("summary", html! { (node.id) " is " (state_word(&node)) }),
        ("head", head(&node, may_drain(caller))),
        ("facts", facts(&node)),
        ("attempts", latest(&node, &attempts)),
    ];
    Ok((node, parts))
}

/// What is done to a node is done to everybody, so that who is kept to a namespace may not.
fn may_drain(caller: &Caller) -> bool {
    caller.role >= AccessRole::Operate && caller.namespace.is_none()
}

fn state_word(node: &NodeView) -> &'static str {
    match node.state {
        NodeState::Up => "up",
        NodeState::Draining => "draining",
        NodeState::Down if overview::left(node) => "gone, as it was asked to",
        NodeState::Down => "down",
        NodeState::Known => "not linked",
    }
}

fn head(node: &NodeView, may_drain: bool) -> Markup {
    html! {
        div.heading {
            div.title { h1.mono { (node.id) } (icons::node_state(node.state, overview::left(node))) }
            @if may_drain && node.role == Role::Worker && node.state == NodeState::Up {
                button type="button" data-key="drain" data-action="POST" data-path={ "/v1/nodes/" (node.id) ":drain" }
                    data-confirm={ "Drain " (node.id) "? It finishes what it has, takes nothing new, and leaves." }
                    data-done={ (node.id) " drains" } { "Drain" }
            }
        }
        @if let Some(note) = &node.note { p.note.wrap { (note) } }
    }
}

fn facts(node: &NodeView) -> Markup {
    html! {
        div.card {
            @if node.role == Role::Worker { (overview::pips(node)) }
            dl.wide-facts {
                div { dt { "Role" } dd { (node.role) } }
                div { dt { "Zone" } dd { @if node.zone.is_empty() { "none" } @else { span.mono { (node.zone) } } } }
                div { dt { "Version" } dd { @if node.version.is_empty() { "–" } @else { (node.version) } } }
                div { dt { "Gossip" } dd.mono { (node.gossip.as_deref().unwrap_or("–")) } }
                @if node.role == Role::Worker {
                    div { dt { "Measured rate" } dd { (format::rate(node.rows_per_s)) } }
                    div { dt { "Shards completed" } dd { (format::count(node.shards_done)) } }
                    div { dt { "Leases held" } dd { (node.leased) } }
                }
            }
        }
    }
}

fn latest(node: &NodeView, attempts: &[NodeAttempt]) -> Markup {
    html! {
        @if attempts.is_empty() {
            div.empty {
                @if node.role == Role::Master {
                    p { "A master runs no shards; it leases them to workers." }
                } @else {
                    p { "Nothing was leased to this node since the master was started." }
                }
            }
        } @else {
            table.attempts {
                caption.visually-hidden { "Latest attempts, the newest first" }
                thead {
                    tr {
                        th scope="col" { "Job" }
                        th.num scope="col" { "Shard" }
                        th.num scope="col" { "First row" }
                        th.num scope="col" { "Rows" }
                        th scope="col" { "Began" }
                        th.num scope="col" { "Took" }
                        th scope="col" { "Outcome" }
                    }
                }
                tbody {
                    @for NodeAttempt { job, attempt } in attempts {
                        tr data-key={ "attempt-" (job) "-" (attempt.attempt) } {
                            th scope="row" { a href={ "/jobs/" (job) } { "Job " (job) } }
                            td.num data-label="Shard" { (attempt.shard) }
                            td.num data-label="First row" { (format::count(attempt.first_row)) }
                            td.num data-label="Rows" { (format::count(attempt.rows)) }
                            td data-label="Began" { (super::jobs::time(attempt.started_at_ms)) }
                            td.num data-label="Took" { (timeline::took(attempt)) }
                            td data-label="Outcome" { (timeline::outcome(attempt)) }
                        }
                    }
                }
            }
        }
    }
}
