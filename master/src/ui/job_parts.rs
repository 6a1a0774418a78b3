//! What was asked for: a job's formula, its typed form and its settings.

use super::{format, job};
use maud::{Markup, html};
use quipu_shared::detail::{FormulaForm, JobDetail};
use quipu_shared::reduce::reduction_name;
use quipu_shared::service::JobView;
use quipu_shared::spec::{
    Axis, AxisValues, DependencyEnd, Distribution, Draw, FunctionSet, JobKind, JobSpec, OnError, Scalar, TableInput,
};

/// Formulas of an `eval` that are shown.
const FORMULAS_SHOWN_MAX: usize = 20;
/// Listed values that are shown.
const VALUES_SHOWN_MAX: usize = 12;

/// Formula, typed form, settings.
pub(super) fn detail(view: &JobView, detail: &JobDetail) -> Markup {
    let spec = &detail.spec;
    html! {
        div.card {
            @match &spec.kind {
                JobKind::Eval { formulas } => { (several(formulas, detail.formulas)) }
                JobKind::Map { formula, condition, .. } => {
                    (code(formula))
                    @if let Some(condition) = condition { p.note { "where" } (code(condition)) }
                }
                JobKind::Sweep { formula, .. } | JobKind::Sample { formula, .. } => { (code(formula)) }
            }
            @if let Some(form) = &detail.form { (typed(form)) }
            (settings(view, spec))
        }
    }
}

fn code(formula: &str) -> Markup {
    html! { pre.formula tabindex="0" role="region" aria-label="Formula" { code { (formula) } } }
}

fn several(formulas: &[String], total: u64) -> Markup {
    let shown = formulas.len().min(FORMULAS_SHOWN_MAX);
    html! {
        @if total == 1 {
            @for formula in formulas { (code(formula)) }
        } @else {
            ol.formulas start="0" { @for formula in formulas.iter().take(FORMULAS_SHOWN_MAX) { li { code { (formula) } } } }
            @if total > shown as u64 { p.note { "The first " (shown) " of " (format::count(total)) " formulas." } }
        }
    }
}

fn typed(form: &FormulaForm) -> Markup {
    html! {
        p.verdict {
            @match &form.value_type {
                Some(ty) => { "gives " span.tag { (ty) } }
                None => "type depends on the row",
            }
            ", about " (format::short(form.cost_ns)) "\u{202f}ns a row on one core"
        }
        @if let Some(because) = &form.because { p.note { "evaluated row by row: " (because) } }
        @if !form.lines.is_empty() {
            details {
                summary { "Typed form, " (form.lines.len().saturating_sub(1)) " instructions" }
                @if !form.columns.is_empty() {
                    p.note {
                        "Columns: "
                        @for (at, column) in form.columns.iter().enumerate() { @if at > 0 { ", " } (at) " is " code { (column) } }
                    }
                }
                pre.listing tabindex="0" role="region" aria-label="Typed form" { code { (form.lines.join("\n")) } }
            }
        }
    }
}

fn settings(view: &JobView, spec: &JobSpec) -> Markup {
    html! {
        dl.settings {
            @match &spec.kind {
                JobKind::Eval { .. } => {}
                JobKind::Map { name, schema, input, .. } => {
                    (setting("Table", match input {
                        TableInput::Shared { path } => html! { code { (path) } },
                        TableInput::Uploaded { digest } => html! { "upload " code { (digest.get(..12).unwrap_or(digest)) "…" } },
                    }))
                    (setting("Columns", html! {
                        @for (at, column) in schema.columns.iter().enumerate() {
                            @if at > 0 { ", " }
                            code { (column.variable) ": " (column.ty.name()) }
                        }
                    }))
                    (setting("Result", html! { code { (name) } }))
                }
                JobKind::Sweep { name, axes, .. } => {
                    @for axis in axes { (setting("Over", html! { code { (axis_text(axis)) } })) }
                    (setting("Result", html! { code { (name) } }))
                }
                JobKind::Sample { name, rows, seed, draws, .. } => {
                    (setting("Rows", html! { (format::count(*rows)) }))
                    @for draw in draws { (setting("Draw", html! { code { (draw_text(draw)) } })) }
                    (setting("Seed", html! { (seed) }))
                    (setting("Result", html! { code { (name) } }))
                }
            }
            @for (name, value) in &spec.bindings { (setting("Variable", html! { code { (name) " = " (scalar(value)) } })) }
            @if !spec.reductions.is_empty() {
                (setting("Reduce", html! {
                    @for (at, reduction) in spec.reductions.iter().enumerate() {
                        @if at > 0 { ", " }
                        code { (reduction_name(reduction)) }
                    }
                    @if spec.exact { " (exact)" }
                }))
            } @else {
                (setting("Form", html! { (format_name(view)) }))
            }
            (setting("Failed rows", html! {
                @match spec.on_error {
                    OnError::Fail => "fail the job",
                    OnError::Null => "give null",
                    OnError::Skip => "are left out",
                }
            }))
            @match spec.symbols.functions {
                FunctionSet::All => {}
                FunctionSet::Math => { (setting("Functions", html! { "of mathematics only" })) }
                FunctionSet::None => { (setting("Functions", html! { "none" })) }
            }
            @if let Some(ms) = spec.deadline_ms { (setting("Deadline", html! { (format::duration(ms)) })) }
            @if view.priority != 0 { (setting("Priority", html! { (view.priority) })) }
            @if spec.queue.retries > 0 { (setting("Retries", html! { (view.retries) " of " (spec.queue.retries) })) }
            @for (key, value) in &view.labels { (setting("Label", html! { code { (key) "=" (value) } })) }
            @if !view.after.is_empty() {
                (setting("After", html! {
                    @for (at, dependency) in view.after.iter().take(VALUES_SHOWN_MAX).enumerate() {
                        @if at > 0 { ", " }
                        (job::link(dependency.job))
                        @if dependency.on == DependencyEnd::Any { " (any end)" }
                    }
                    @if view.after.len() > VALUES_SHOWN_MAX { " and " (view.after.len() - VALUES_SHOWN_MAX) " more" }
                }))
            }
            @if let Some(job) = view.retry_of { (setting("Repeats", job::link(job))) }
            @if let Some(schedule) = view.schedule { (setting("Schedule", html! { (schedule) })) }
            @if !view.namespace.is_default() { (setting("Namespace", html! { code { (view.namespace) } })) }
            @if let Some(trace) = view.traceparent.as_deref().and_then(|text| text.split('-').nth(1)) {
                (setting("Trace", html! { code { (trace) } }))
            }
        }
    }
}

fn setting(name: &str, value: Markup) -> Markup {
    html! { div { dt { (name) } dd { (value) } } }
}

fn format_name(view: &JobView) -> &'static str {
    use quipu_shared::spec::ResultFormat as F;
    match view.format {
        F::Csv => "CSV",
        F::Ndjson => "JSON lines",
        F::Plain => "plain values",
        F::Parquet => "Parquet",
        F::Arrow => "Arrow",
        F::Json => "JSON",
    }
}

/// A value as a formula would have it.
fn scalar(value: &Scalar) -> String {
    match value {
        Scalar::Int(x) => x.to_string(),
        Scalar::Float(x) => format!("{x:?}"),
        Scalar::Boolean(x) => x.to_string(),
        Scalar::String(text) => format!("{text:?}"),
        Scalar::Tuple(values) => format!("({})", listed(values)),
        Scalar::Empty => "()".into(),
    }
}

fn listed(values: &[Scalar]) -> String {
    let mut texts: Vec<String> = values.iter().take(VALUES_SHOWN_MAX).map(scalar).collect();
    if values.len() > VALUES_SHOWN_MAX {
        texts.push("…".into());
    }
    texts.join(", ")
}

/// An axis as the command line takes it.
fn axis_text(axis: &Axis) -> String {
    let values = match &axis.values {
        AxisValues::IntRange { start, stop, step: 1 } => format!("{start}:{stop}"),
        AxisValues::IntRange { start, stop, step } => format!("{start}:{stop}:{step}"),
        AxisValues::FloatRange { start, stop, step } => {
            format!("{}:{}:{}", scalar(start), scalar(stop), scalar(step))
        }
        AxisValues::Linspace { start, stop, count } => format!("{}:{}/{count}", scalar(start), scalar(stop)),
        AxisValues::List(values) => listed(values),
    };
    format!("{} = {values}", axis.name)
}

fn draw_text(draw: &Draw) -> String {
    let distribution = match &draw.distribution {
        Distribution::Uniform(a, b) => format!("uniform({a}, {b})"),
        Distribution::Normal(mean, sd) => format!("normal({mean}, {sd})"),
        Distribution::Exponential(rate) => format!("exponential({rate})"),
        Distribution::Bernoulli(p) => format!("bernoulli({p})"),
        Distribution::Integer(lo, hi) => format!("integer({lo}, {hi})"),
        Distribution::Choice(values) => format!("choice({})", listed(values)),
    };
    format!("{} = {distribution}", draw.name)
}
