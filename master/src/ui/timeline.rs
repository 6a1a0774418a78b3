//! A job's attempts: a line for each worker with a bar for each attempt, and the same as a table.

use super::{format, icons};
use maud::{Markup, html};
use quipu_shared::detail::{AttemptList, AttemptOutcome, AttemptView};
use quipu_shared::ids::NodeId;
use std::collections::BTreeMap;

/// Width of a line in its own units.
const WIDTH: u64 = 1000;
/// Height of a bar, and from one to the next.
const BAR: usize = 7;
const STEP: usize = 9;
/// Attempts of one worker that are drawn side by side; more lie on one another.
const TRACKS_MAX: usize = 8;
/// Attempts that are drawn.
const DRAWN_MAX: usize = 128;
/// Attempts in the table.
const ROWS_MAX: usize = 40;

/// The drawing and the table.
pub(super) fn timeline(list: &AttemptList, submitted_at_ms: u64, now_ms: u64) -> Markup {
    if list.attempts.is_empty() {
        return html! {
            div.empty {
                p { "No attempt is known." }
                p { "Attempts are kept since the master was started, of the jobs that ended last." }
            }
        };
    }
    // What went wrong long ago is in the table, and would leave little room for the rest.
    let drawn = &list.attempts[list.attempts.len().saturating_sub(DRAWN_MAX)..];
    let first = drawn.iter().map(|attempt| attempt.started_at_ms).min().unwrap_or(now_ms);
    let last = drawn.iter().map(|attempt| attempt.ended_at_ms.unwrap_or(now_ms)).max().unwrap_or(now_ms);
    let span = last.saturating_sub(first).max(1);
    let mut lines: BTreeMap<&NodeId, Vec<&AttemptView>> = BTreeMap::new();
    for attempt in drawn {
        lines.entry(&attempt.node).or_default().push(attempt);
    }
    let shown = list.attempts.len().min(ROWS_MAX);
    let wrong: Vec<&AttemptView> = list.attempts.iter().rev().filter(|attempt| attempt.outcome.went_wrong()).collect();
    html! {
        div.lines role="img" aria-label={
            (drawn.len()) " attempts on " (lines.len()) " workers over " (format::duration(span)) "; the table below has them"
        } {
            @for (node, attempts) in &lines {
                div.line data-key={ "line-" (node) } {
                    span.mono.line-name { (node) }
                    (bars(attempts, first, span, now_ms))
                }
            }
            div.line.scale {
                span.line-name {}
                span.scale-ends {
                    span { "+" (format::duration(first.saturating_sub(submitted_at_ms))) }
                    span { "+" (format::duration(last.saturating_sub(submitted_at_ms))) }
                }
            }
        }
        ul.legend {
            li { i.swatch.o-completed {} "completed" }
            li { i.swatch.o-running {} "running" }
            li { i.swatch.o-superseded {} "superseded" }
            li { i.swatch.o-failed {} "failed, lost or expired" }
        }
        @if !wrong.is_empty() {
            details open {
                summary { (wrong.len()) " attempts that failed, were lost, rejected or expired" }
                (table(wrong.into_iter(), submitted_at_ms))
            }
        }
        details open {
            summary {
                "The last " (shown) " attempts"
                @if list.total > shown as u64 { " of " (format::count(list.total)) }
            }
            (table(list.attempts.iter().rev().take(ROWS_MAX), submitted_at_ms))
        }
    }
}

fn table<'a>(attempts: impl Iterator<Item = &'a AttemptView>, submitted_at_ms: u64) -> Markup {
    html! {
        table.attempts {
            caption.visually-hidden { "Attempts, the newest first" }
            thead {
                tr {
                    th.num scope="col" { "Attempt" }
                    th.num scope="col" { "Shard" }
                    th.num scope="col" { "First row" }
                    th.num scope="col" { "Rows" }
                    th scope="col" { "Worker" }
                    th.num scope="col" { "Began" }
                    th.num scope="col" { "Took" }
                    th scope="col" { "Outcome" }
                }
            }
            tbody {
                @for attempt in attempts {
                    tr data-key={ "attempt-" (attempt.attempt) } {
                        th.num scope="row" { (attempt.attempt) }
                        td.num data-label="Shard" { (attempt.shard) }
                        td.num data-label="First row" { (format::count(attempt.first_row)) }
                        td.num data-label="Rows" { (format::count(attempt.rows)) }
                        td data-label="Worker" { a.mono href={ "/nodes/" (attempt.node) } { (attempt.node) } }
                        td.num data-label="Began" { "+" (format::duration(attempt.started_at_ms.saturating_sub(submitted_at_ms))) }
                        td.num data-label="Took" { (took(attempt)) }
                        td data-label="Outcome" { (outcome(attempt)) }
                    }
                }
            }
        }
    }
}

/// How long an attempt took; of one that runs, how far it is.
pub(super) fn took(attempt: &AttemptView) -> Markup {
    html! {
        @match attempt.ended_at_ms {
            Some(ended) => { (format::duration(ended.saturating_sub(attempt.started_at_ms))) }
            None if attempt.rows_done > 0 => { (format::percent(attempt.rows_done, attempt.rows)) }
            None => "–",
        }
    }
}

/// What became of an attempt, in words.
pub(super) fn outcome(attempt: &AttemptView) -> Markup {
    html! {
        (icons::outcome(attempt.outcome))
        @if attempt.speculative { span.tag { "speculative" } }
        @if let Some(note) = &attempt.note { span.sub.wrap { (note) } }
    }
}

/// One worker's attempts, those at the same time in tracks below one another.
fn bars(attempts: &[&AttemptView], first: u64, span: u64, now_ms: u64) -> Markup {
    // To scale; the width is small, so that it fits.
    let at = |ms: u64| (u128::from(ms.saturating_sub(first)) * u128::from(WIDTH) / u128::from(span)) as u64;
    let mut tracks: Vec<u64> = Vec::new();
    let mut placed = Vec::new();
    for attempt in attempts {
        let end_ms = attempt.ended_at_ms.unwrap_or(now_ms).max(attempt.started_at_ms);
        let free = tracks.iter().position(|&until| until <= attempt.started_at_ms);
        let track = free.unwrap_or_else(|| tracks.len().min(TRACKS_MAX - 1));
        match tracks.get_mut(track) {
            Some(until) => *until = end_ms.max(*until),
            None => tracks.push(end_ms),
        }
        let x = at(attempt.started_at_ms);
        placed.push((x, (at(end_ms) - x).max(2), track * STEP, attempt.outcome));
    }
    let height = tracks.len() * STEP;
    html! {
        svg.bars viewBox={ "0 0 " (WIDTH) " " (height) } preserveAspectRatio="none" width="100%" height=(height) aria-hidden="true" focusable="false" {
            @for (x, width, y, outcome) in placed {
                rect class=(bar_class(outcome)) x=(x) y=(y) width=(width) height=(BAR) {}
            }
        }
    }
}

fn bar_class(outcome: AttemptOutcome) -> &'static str {
    match outcome {
        AttemptOutcome::Completed => "o-completed",
        AttemptOutcome::Running => "o-running",
        AttemptOutcome::Failed | AttemptOutcome::Lost | AttemptOutcome::Expired => "o-failed",
        AttemptOutcome::Superseded | AttemptOutcome::Rejected | AttemptOutcome::Returned | AttemptOutcome::Stopped => {
            "o-superseded"
        }
    }
}
