//! The cluster at a glance: its nodes, and the jobs that run.

use super::layout::{self, Frame, Place};
use super::{UiState, Who, format, icons};
use crate::nodes::LEFT_NOTE;
use crate::pulse;
use axum::extract::{Extension, State};
use axum::http::HeaderMap;
use axum::response::Response;
use maud::{Markup, html};
use quipu_shared::access::AccessRole;
use quipu_shared::detail::{ClusterView, RunningJob};
use quipu_shared::ids::Role;
use quipu_shared::service::{JobView, NodeState, NodeView};
use std::collections::BTreeMap;

/// Slots that are drawn one by one; more are told as a number.
const SLOTS_DRAWN_MAX: u32 = 32;
/// Nodes that get a large card; beyond, cards are small.
const LARGE_CARDS_MAX: usize = 24;
/// Nodes that are down and are shown; the rest is counted.
const DOWN_SHOWN_MAX: usize = 12;

/// `GET /`.
pub(super) async fn page(State(ui): UiState, Extension(caller): Who, headers: HeaderMap) -> Response {
    let frame = Frame {
        caller: &caller,
        headers: &headers,
        place: Place::Overview,
        title: "Overview",
        live: Some("/live/overview".into()),
        script: None,
    };
    let view = match ui.service.cluster().await {
        Ok(view) => pulse::seen(&view, &caller.namespace),
        Err(error) => return layout::trouble(&frame, &error),
    };
    let may_submit = caller.role >= AccessRole::Submit;
    layout::page(&frame, &content(&view, may_submit))
}

/// The parts that change, by the ids of their places.
pub(super) fn parts(view: &ClusterView) -> Vec<(&'static str, Markup)> {
    vec![("summary", summary(view)), ("tiles", tiles(view)), ("nodes", nodes(view)), ("running", running(view))]
}

fn content(view: &ClusterView, may_submit: bool) -> Markup {
    let mut parts: BTreeMap<&str, Markup> = parts(view).into_iter().collect();
    let mut part = |id: &str| parts.remove(id).unwrap_or_default();
    html! {
        div.heading {
            h1 { "Cluster" }
            @if may_submit { a.button.primary href="/try" { "Try a formula" } }
        }
        p.visually-hidden id="summary" aria-live="polite" { (part("summary")) }
        section aria-label="Totals" { div.tiles id="tiles" { (part("tiles")) } }
        section aria-labelledby="nodes-title" {
            h2 id="nodes-title" { "Nodes" }
            div id="nodes" { (part("nodes")) }
        }
        section aria-labelledby="running-title" {
            div.heading { h2 id="running-title" { "Running jobs" } a href="/jobs" { "All jobs" } }
            div id="running" { (part("running")) }
        }
    }
}

/// How many workers are how.
#[derive(Default)]
struct Totals {
    workers: usize,
    up: usize,
    draining: usize,
    down: usize,
    slots: u64,
    busy: u64,
}

impl Totals {
    fn of(view: &ClusterView) -> Self {
        let mut totals = Self::default();
        for node in view.nodes.iter().filter(|node| node.role == Role::Worker && !left(node)) {
            totals.workers += 1;
            match node.state {
                NodeState::Up => totals.up += 1,
                NodeState::Draining => totals.draining += 1,
                NodeState::Down => totals.down += 1,
                NodeState::Known => {}
            }
            if matches!(node.state, NodeState::Up | NodeState::Draining) {
                totals.slots += u64::from(node.slots);
                totals.busy += u64::from(node.leased.min(node.slots));
            }
        }
        totals
    }
}

/// Whether a node is away because it was asked to leave.
pub(super) fn left(node: &NodeView) -> bool {
    node.state == NodeState::Down && node.note.as_deref() == Some(LEFT_NOTE)
}

/// What a screen reader is told when it changes; so it has nothing in it that always changes.
fn summary(view: &ClusterView) -> Markup {
    let totals = Totals::of(view);
    let down = view.nodes.iter().filter(|node| node.state == NodeState::Down && !left(node));
    let down: Vec<&str> = down.map(|node| node.id.as_str()).take(3).collect();
    html! {
        (totals.up) " of " (totals.workers) " workers up"
        @if totals.draining > 0 { ", " (totals.draining) " draining" }
        @if !down.is_empty() { ", down: " (down.join(", ")) }
        "; " (view.jobs_running) " jobs run."
    }
}

fn tiles(view: &ClusterView) -> Markup {
    let totals = Totals::of(view);
    let rate: f64 = view.jobs.iter().map(|job| job.rows_per_s).sum();
    let waiting = view.jobs_pending.saturating_sub(view.jobs_running);
    html! {
        div.tile {
            h3 { "Workers up" }
            p.figure { (totals.up) span.of { " of " (totals.workers) } }
            p.note {
                @if totals.down > 0 { span.bad { (totals.down) " down" } }
                @if totals.down > 0 && totals.draining > 0 { ", " }
                @if totals.draining > 0 { span.warn { (totals.draining) " draining" } }
                @if totals.down == 0 && totals.draining == 0 {
                    @if totals.workers == 0 { "none has joined" } @else { "all well" }
                }
            }
        }
        div.tile {
            h3 { "Slots busy" }
            p.figure { (totals.busy) span.of { " of " (totals.slots) } }
            progress max=(totals.slots.max(1)) value=(totals.busy) aria-label="Slots that are busy" {}
        }
        div.tile data-spark=(format!("{rate:.0}")) {
            h3 { "Rows a second" }
            p.figure { (format::short(rate)) }
            div.spark data-keep {}
        }
        div.tile {
            h3 { "Jobs running" }
            p.figure { (format::count(view.jobs_running)) }
            p.note { @if waiting > 0 { (format::count(waiting)) " waiting" } @else { "none waiting" } }
        }
    }
}

fn nodes(view: &ClusterView) -> Markup {
    let (down, here): (Vec<&NodeView>, Vec<&NodeView>) =
        view.nodes.iter().partition(|node| node.state == NodeState::Down);
    let hidden =
        down.len().saturating_sub(DOWN_SHOWN_MAX) as u64 + view.nodes_total.saturating_sub(view.nodes.len() as u64);
    let mut zones: BTreeMap<&str, Vec<&NodeView>> = BTreeMap::new();
    let (masters, here): (Vec<&NodeView>, Vec<&NodeView>) =
        here.into_iter().partition(|node| node.role == Role::Master);
    for &node in here.iter().chain(down.iter().take(DOWN_SHOWN_MAX)) {
        zones.entry(&node.zone).or_default().push(node);
    }
    for nodes in zones.values_mut() {
        nodes.sort_by_key(|node| &node.id);
    }
    let small = here.len() > LARGE_CARDS_MAX;
    let plain = zones.keys().all(|zone| zone.is_empty());
    let workers = view.nodes.iter().any(|node| node.role == Role::Worker);
    html! {
        div.zone data-key="masters" {
            h3 { "Master" }
            ul.nodes.small[small] { @for node in masters { (card(node)) } }
        }
        @for (zone, nodes) in &zones {
            div.zone data-key={ "zone-" (zone) } {
                h3 { @if plain { "Workers" } @else if zone.is_empty() { "Workers without a zone" } @else { "Zone " span.mono { (zone) } } }
                ul.nodes.small[small] {
                    @for node in nodes { (card(node)) }
                }
            }
        }
        @if hidden > 0 { p.note { (format::count(hidden)) " more nodes are down and not shown." } }
        @if !workers {
            div.empty {
                p { "No worker has joined yet, so nothing runs." }
                p { "Start one on any machine that has the cluster's secret:" }
                pre { code { "quipu worker --seed " (seed(view)) " --secret-file FILE" } }
            }
        }
    }
}

/// Where a worker may join.
fn seed(view: &ClusterView) -> &str {
    let master = view.nodes.iter().find(|node| node.role == Role::Master);
    master.and_then(|node| node.gossip.as_deref()).unwrap_or("MASTER:7400")
}

fn card(node: &NodeView) -> Markup {
    let left = left(node);
    let class = match node.state {
        NodeState::Up => "up",
        NodeState::Draining => "draining",
        NodeState::Down if left => "left",
        NodeState::Down => "down",
        NodeState::Known => "known",
    };
    html! {
        li class={ "node " (class) } data-key={ "node-" (node.id) } {
            div.node-head {
                a.name href={ "/nodes/" (node.id) } { (node.id) }
                (icons::node_state(node.state, left))
            }
            @if node.role == Role::Master {
                p.note { "accepts jobs, leases their shards" }
            } @else {
                (pips(node))
                dl.facts {
                    div { dt { "rate" } dd { @if node.rows_per_s > 0.0 && node.state != NodeState::Down { (format::rate(node.rows_per_s)) } @else { "–" } } }
                    div { dt { "shards" } dd { (format::count(node.shards_done)) } }
                }
            }
            @if let Some(note) = &node.note { p.note.wrap { (note) } }
        }
    }
}

/// A node's slots, each busy or not.
pub(super) fn pips(node: &NodeView) -> Markup {
    let busy = node.leased.min(node.slots);
    let waiting = node.leased.saturating_sub(node.slots);
    let away = node.state == NodeState::Down;
    html! {
        div.slots {
            @if node.slots <= SLOTS_DRAWN_MAX && !away {
                span.pips aria-hidden="true" {
                    @for slot in 0..node.slots { i.on[slot < busy] {} }
                }
            }
            span.note {
                @if away { (node.slots) " slots" } @else {
                    (busy) " of " (node.slots) " slots busy"
                    @if waiting > 0 { ", " (waiting) " waiting" }
                }
            }
        }
    }
}

fn running(view: &ClusterView) -> Markup {
    let hidden = view.jobs_running.saturating_sub(view.jobs.len() as u64);
    html! {
        @if view.jobs.is_empty() {
            div.empty {
                p { "Nothing runs at this moment." }
                p {
                    a href="/try" { "Try a formula" } ", or submit a job: "
                    code { "quipu submit sweep 'x * x' --over x=0:1000" } "."
                }
            }
        } @else {
            ul.running-jobs {
                @for job in &view.jobs { (row(job)) }
            }
        }
        @if hidden > 0 { p.note { "and " (format::count(hidden)) " more" } }
    }
}

fn row(job: &RunningJob) -> Markup {
    let view = &job.view;
    html! {
        li data-key={ "job-" (view.id) } {
            div.row-head {
                a.name href={ "/jobs/" (view.id) } { (title(view)) }
                span.kind { (view.kind) }
                span.id { "#" (view.id) }
            }
            (progress(view))
            dl.facts {
                div { dt { "done" } dd { (done(view)) } }
                div { dt { "rows" } dd { (format::count(view.rows_done)) } }
                div { dt { "rate" } dd { (format::rate(job.rows_per_s)) } }
                div { dt { "leased" } dd { (view.shards.leased) " shards" } }
                @if view.rows_failed > 0 { div { dt { "failed" } dd.bad { (format::count(view.rows_failed)) } } }
                div { dt { "time" } dd { (format::duration(view.elapsed_ms)) } }
            }
        }
    }
}

/// What a job is called.
pub(super) fn title(view: &JobView) -> String {
    view.name.clone().unwrap_or_else(|| format!("Job {}", view.id))
}

/// How much of a job is done, in percent; nothing where its length is not known.
pub(super) fn done(view: &JobView) -> String {
    view.rows_total.map_or_else(|| "–".into(), |total| format::percent(view.rows_done, total))
}

/// A job's progress as a bar.
pub(super) fn progress(view: &JobView) -> Markup {
    const STEPS: u64 = 1000;
    let part = view.rows_total.map(|total| match total {
        0 => STEPS,
        // Below the steps, and so small enough.
        _ => (u128::from(view.rows_done.min(total)) * u128::from(STEPS) / u128::from(total)) as u64,
    });
    let label = format!("Progress of job {}", view.id);
    html! {
        progress class=(view.state.name()) max=(STEPS) value=[part] aria-label=(label) {}
    }
}
