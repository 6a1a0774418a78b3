//! Small drawings. Each state has a shape of its own, so that none is told by its colour alone.

use super::overview;
use maud::{Markup, PreEscaped, html};
use quipu_shared::detail::AttemptOutcome;
use quipu_shared::service::{BreakerState, JobState, NodeState, NodeView};

/// A drawing of 16 by 16 that says nothing to a screen reader: a word stands beside it.
fn icon(shapes: &'static str) -> Markup {
    html! {
        svg class="icon" viewBox="0 0 16 16" width="16" height="16" aria-hidden="true" focusable="false" {
            (PreEscaped(shapes))
        }
    }
}

const DISC: &str = r#"<circle cx="8" cy="8" r="5" fill="currentColor"/>"#;
const RING: &str = r#"<circle cx="8" cy="8" r="5" fill="none" stroke="currentColor" stroke-width="2"/>"#;
const HALF: &str = r#"<circle cx="8" cy="8" r="5" fill="none" stroke="currentColor" stroke-width="2"/><path d="M8 3a5 5 0 0 1 0 10z" fill="currentColor"/>"#;
const CROSS: &str =
    r#"<path d="M4 4l8 8M12 4l-8 8" fill="none" stroke="currentColor" stroke-width="2.4" stroke-linecap="round"/>"#;
const TICK: &str = r#"<path d="M3 8.5l3.5 3.5L13 4.5" fill="none" stroke="currentColor" stroke-width="2.4" stroke-linecap="round" stroke-linejoin="round"/>"#;
const PLAY: &str =
    r#"<path d="M5 3.2v9.6a.6.6 0 0 0 .9.5l7.4-4.8a.6.6 0 0 0 0-1L5.9 2.7a.6.6 0 0 0-.9.5z" fill="currentColor"/>"#;
const CLOCK: &str = r#"<circle cx="8" cy="8" r="5.5" fill="none" stroke="currentColor" stroke-width="1.8"/><path d="M8 5v3.2l2 1.4" fill="none" stroke="currentColor" stroke-width="1.8" stroke-linecap="round" stroke-linejoin="round"/>"#;
const PAUSE: &str =
    r#"<path d="M5.5 3.5v9M10.5 3.5v9" stroke="currentColor" stroke-width="2.4" stroke-linecap="round"/>"#;
const BARRED: &str = r#"<circle cx="8" cy="8" r="5.5" fill="none" stroke="currentColor" stroke-width="1.8"/><path d="M4.2 11.8l7.6-7.6" stroke="currentColor" stroke-width="1.8"/>"#;
const BACK: &str = r#"<path d="M6 4L3 7l3 3M3 7h6.5a3 3 0 0 1 0 6H7" fill="none" stroke="currentColor" stroke-width="1.8" stroke-linecap="round" stroke-linejoin="round"/>"#;
const SUN: &str = r#"<circle cx="8" cy="8" r="3.2" fill="currentColor"/><path d="M8 1v1.6M8 13.4V15M1 8h1.6M13.4 8H15M3 3l1.2 1.2M11.8 11.8L13 13M3 13l1.2-1.2M11.8 4.2L13 3" stroke="currentColor" stroke-width="1.5" stroke-linecap="round"/>"#;

/// A cord with its pendants and their knots: what a quipu is.
pub(super) fn logo(class: &'static str) -> Markup {
    html! {
        svg class=(class) viewBox="0 0 32 32" width="32" height="32" aria-hidden="true" focusable="false" {
            (PreEscaped(concat!(
                r#"<path class="cord" d="M2 6.5c6-2.6 22-2.6 28 0" fill="none" stroke-width="2.6" stroke-linecap="round"/>"#,
                r#"<path class="c1" d="M7 6v21" fill="none" stroke-width="2" stroke-linecap="round"/>"#,
                r#"<path class="c2" d="M13 5v24" fill="none" stroke-width="2" stroke-linecap="round"/>"#,
                r#"<path class="c3" d="M19 5v18" fill="none" stroke-width="2" stroke-linecap="round"/>"#,
                r#"<path class="c4" d="M25 6v23" fill="none" stroke-width="2" stroke-linecap="round"/>"#,
                r#"<g class="k1"><circle cx="7" cy="13" r="2.6"/><circle cx="7" cy="20" r="2.6"/></g>"#,
                r#"<g class="k2"><circle cx="13" cy="17" r="2.6"/><circle cx="13" cy="23" r="2.6"/></g>"#,
                r#"<g class="k3"><circle cx="19" cy="12" r="2.6"/></g>"#,
                r#"<g class="k4"><circle cx="25" cy="14" r="2.6"/><circle cx="25" cy="19.5" r="2.6"/><circle cx="25" cy="25" r="2.6"/></g>"#,
            )))
        }
    }
}

pub(super) fn theme() -> Markup {
    icon(SUN)
}

/// A node's state: a shape, a word, a colour.
pub(super) fn node_state(node: &NodeView) -> Markup {
    let shape = match (node.state, node.breaker) {
        (NodeState::Up, BreakerState::Open | BreakerState::HalfOpen) => BARRED,
        (NodeState::Up, BreakerState::Closed) => DISC,
        (NodeState::Draining, _) => HALF,
        (NodeState::Down, _) if overview::left(node) => BACK,
        (NodeState::Down, _) => CROSS,
        (NodeState::Known, _) => RING,
    };
    let (class, word) = overview::state(node);
    html! { span class={ "state " (class) } { (icon(shape)) (word) } }
}

/// A job's state.
pub(super) fn job_state(state: JobState) -> Markup {
    let shape = match state {
        JobState::Scheduled => CLOCK,
        JobState::Waiting => PAUSE,
        JobState::Queued => RING,
        JobState::Running => PLAY,
        JobState::Succeeded => TICK,
        JobState::Failed => CROSS,
        JobState::Cancelled => BARRED,
    };
    html! { span class={ "state " (state.name()) } { (icon(shape)) (state.name()) } }
}

/// An attempt's outcome.
pub(super) fn outcome(outcome: AttemptOutcome) -> Markup {
    let shape = match outcome {
        AttemptOutcome::Running => PLAY,
        AttemptOutcome::Completed => TICK,
        AttemptOutcome::Superseded => HALF,
        AttemptOutcome::Failed | AttemptOutcome::Lost => CROSS,
        AttemptOutcome::Expired => CLOCK,
        AttemptOutcome::Rejected | AttemptOutcome::Stopped => BARRED,
        AttemptOutcome::Returned => BACK,
    };
    html! { span class={ "state o-" (outcome.name()) } { (icon(shape)) (outcome.name()) } }
}
