//! What came out of a job, as far as it fits a page: the first rows, the reductions, a plot where there is one to draw.

use super::plot::{self, Line};
use super::{Ui, UiState, Who, format};
use axum::extract::{Extension, Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use maud::{Markup, html};
use quipu_shared::service::{JobState, JobView};
use quipu_shared::spec::ResultFormat;
use serde_json::Value;
use std::time::Duration;
use tokio::time::timeout;

/// Rows that are drawn.
pub(super) const PLOT_ROWS_MAX: u64 = 5_000;
/// Lines of one plot.
const PLOT_LINES_MAX: usize = 6;
/// Bytes of results that are read for a plot or a document.
const WHOLE_BYTES_MAX: usize = 1 << 20;
/// Bytes of results that are read for their first rows.
const FIRST_BYTES_MAX: usize = 16 << 10;
/// Rows that are shown.
const ROWS_SHOWN_MAX: usize = 20;
/// How long the results may take: they are on the disk.
const PATIENCE: Duration = Duration::from_secs(2);

/// `GET /ui/jobs/{id}/results`: the preview alone, for the page on which formulas are tried.
pub(super) async fn fragment(State(ui): UiState, Extension(caller): Who, Path(id): Path<String>) -> Response {
    match ui.job(&caller, &id).await {
        Ok(view) => {
            let html = preview(&ui, &view).await;
            ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], html.0).into_response()
        }
        Err(error) => (StatusCode::NOT_FOUND, error.message).into_response(),
    }
}

/// The name of a file with the results.
pub(super) fn file_name(view: &JobView) -> String {
    let ending = match view.format {
        ResultFormat::Csv => "csv",
        ResultFormat::Ndjson => "ndjson",
        ResultFormat::Plain => "txt",
        ResultFormat::Json => "json",
        ResultFormat::Parquet => "parquet-parts",
        ResultFormat::Arrow => "arrows",
    };
    format!("quipu-job-{}.{ending}", view.id)
}

/// What came out.
pub(super) async fn preview(ui: &Ui, view: &JobView) -> Markup {
    html! { div.card.results { (shown(ui, view).await) } }
}

async fn shown(ui: &Ui, view: &JobView) -> Markup {
    if view.state != JobState::Succeeded {
        return html! { p.note { "There are no results: the job is " (view.state.name()) "." } };
    }
    let drawn = view.kind == "sweep" && view.rows_total.is_some_and(|rows| rows <= PLOT_ROWS_MAX);
    let max = match view.format {
        ResultFormat::Parquet | ResultFormat::Arrow => {
            return html! { p.note { "Results in columns are not shown here; download them." } };
        }
        ResultFormat::Json => WHOLE_BYTES_MAX,
        ResultFormat::Csv if drawn => WHOLE_BYTES_MAX,
        _ => FIRST_BYTES_MAX,
    };
    let Ok((bytes, whole)) = timeout(PATIENCE, read(ui, view, max)).await else {
        return html! { p.note { "The results took too long to read; download them." } };
    };
    let text = String::from_utf8_lossy(&bytes);
    match view.format {
        ResultFormat::Json => document(&text),
        ResultFormat::Csv => match swept(&text).filter(|_| drawn && whole) {
            Some(plot) => html! { (plot) details { summary { "The first rows" } (first_lines(&text, whole, true)) } },
            None => first_lines(&text, whole, true),
        },
        ResultFormat::Ndjson => objects(&text, whole),
        _ => first_lines(&text, whole, false),
    }
}

/// The first bytes of the results, and whether these are all.
async fn read(ui: &Ui, view: &JobView, max: usize) -> (Vec<u8>, bool) {
    let mut bytes = Vec::new();
    let Ok(mut pieces) = ui.service.results(view.id).await else { return (bytes, false) };
    while let Some(piece) = pieces.next().await {
        let Ok(piece) = piece else { return (bytes, false) };
        let room = max - bytes.len();
        bytes.extend_from_slice(&piece[..piece.len().min(room)]);
        if piece.len() > room {
            return (bytes, false);
        }
    }
    (bytes, true)
}

/// Whole lines of a text that may be cut off within one.
fn whole_lines(text: &str, whole: bool) -> Vec<&str> {
    let end = if whole { text.len() } else { text.rfind('\n').map_or(0, |end| end + 1) };
    text[..end].lines().collect()
}

fn first_lines(text: &str, whole: bool, header: bool) -> Markup {
    let lines = whole_lines(text, whole);
    let max = ROWS_SHOWN_MAX + usize::from(header);
    let more = !whole || lines.len() > max;
    html! {
        @if lines.is_empty() { p.note { "There are no rows." } } @else {
            pre.listing tabindex="0" role="region" aria-label="First rows" {
                code { (lines[..lines.len().min(max)].join("\n")) }
            }
            @if more { p.note { "The first " (ROWS_SHOWN_MAX) " rows." } }
        }
    }
}

/// Lines of JSON objects as a table.
fn objects(text: &str, whole: bool) -> Markup {
    let lines = whole_lines(text, whole);
    let rows: Vec<serde_json::Map<String, Value>> =
        lines.iter().take(ROWS_SHOWN_MAX).filter_map(|line| serde_json::from_str(line).ok()).collect();
    let mut names: Vec<&String> = Vec::new();
    for name in rows.iter().flat_map(serde_json::Map::keys) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    html! {
        @if rows.is_empty() { p.note { "There are no rows." } } @else {
            div.scroll tabindex="0" role="region" aria-label="First rows" {
                table.data {
                    thead { tr { @for name in &names { th scope="col" { (name) } } } }
                    tbody { @for row in &rows { tr { @for name in &names { td.num { (row.get(*name).map_or_else(String::new, cell)) } } } } }
                }
            }
            @if !whole || lines.len() > ROWS_SHOWN_MAX { p.note { "The first " (rows.len()) " rows." } }
        }
    }
}

fn cell(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Object(error) => {
            error.get("message").and_then(Value::as_str).map_or_else(|| value.to_string(), Into::into)
        }
        value => value.to_string(),
    }
}

/// The values of reductions, with their histograms.
fn document(text: &str) -> Markup {
    let parsed: Value = serde_json::from_str(text).unwrap_or_default();
    let Some(result) = parsed["result"].as_object() else { return first_lines(text, true, false) };
    let histograms = result.iter().filter_map(|(name, value)| {
        let edges: Vec<f64> = value["edges"].as_array()?.iter().filter_map(Value::as_f64).collect();
        let counts: Vec<u64> = value["counts"].as_array()?.iter().filter_map(Value::as_u64).collect();
        Some((name, value, plot::histogram(&edges, &counts)?))
    });
    let plain = result.iter().filter(|(_, value)| value.get("edges").is_none());
    html! {
        @for (name, value, plot) in histograms {
            (plot)
            p.note {
                code { (name) }
                @for (key, word) in [("under", "below"), ("over", "above"), ("nan", "no number")] {
                    @if let Some(count) = value[key].as_u64().filter(|count| *count > 0) { ", " (format::count(count)) " " (word) }
                }
            }
        }
        dl.wide-facts.values {
            div { dt { "rows" } dd { (parsed["rows"].as_u64().map_or_else(|| "–".into(), format::count)) } }
            @for (name, value) in plain { div { dt { (name) } dd.mono { (reduced(value)) } } }
        }
    }
}

fn reduced(value: &Value) -> Markup {
    match value.as_object() {
        Some(extreme) => html! {
            (extreme.get("value").map_or_else(String::new, cell))
            @if let Some(row) = extreme.get("row").and_then(Value::as_u64) { span.of { " at row " (format::count(row)) } }
            @if let Some(inputs) = extreme.get("inputs").and_then(Value::as_object) {
                @for (name, input) in inputs { span.sub { (name) " = " (cell(input)) } }
            }
        },
        None => html! { (cell(value)) },
    }
}

/// The plot of a sweep over one axis, or over two where the first has few values; nothing where that is no plot.
fn swept(csv: &str) -> Option<Markup> {
    let mut rows = csv.lines();
    let names: Vec<&str> = rows.next()?.split(',').collect();
    let numbers = |row: &str| -> Option<Vec<f64>> { row.split(',').map(number).collect() };
    let rows: Vec<Vec<f64>> = rows.map(numbers).collect::<Option<_>>()?;
    if rows.len() < 2 || rows.iter().any(|row| row.len() != names.len()) {
        return None;
    }
    match names[..] {
        [x, y] => {
            let points = rows.iter().map(|row| (row[0], row[1])).collect();
            plot::lines(&[Line { name: y.to_owned(), points }], x, y)
        }
        [first, x, y] => {
            let mut lines: Vec<(f64, Line)> = Vec::new();
            for row in &rows {
                let at = lines.iter().position(|(value, _)| *value == row[0]);
                let at = at.unwrap_or_else(|| {
                    lines.push((row[0], Line { name: format!("{first} = {}", row[0]), points: Vec::new() }));
                    lines.len() - 1
                });
                if lines.len() > PLOT_LINES_MAX {
                    return None;
                }
                lines[at].1.points.push((row[1], row[2]));
            }
            let lines: Vec<Line> = lines.into_iter().map(|(_, line)| line).collect();
            plot::lines(&lines, x, y)
        }
        _ => None,
    }
}

/// A number of our own output; a null or a boolean is a gap or a step.
fn number(text: &str) -> Option<f64> {
    match text {
        "" => Some(f64::NAN),
        "true" => Some(1.0),
        "false" => Some(0.0),
        text => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::{document, first_lines, objects, swept};

    #[test]
    fn sweeps_of_one_axis_or_of_few_lines_are_drawn() {
        assert!(swept("x,result\n0,1\n1,\n2,3\n").is_some());
        let two = swept("a,x,y\n1,0,5\n1,1,6\n2,0,7\n2,1,8\n").unwrap().into_string();
        assert_eq!(two.matches("class=\"line ").count(), 2, "{two}");
        let many: String = (0..9).map(|a| format!("{a},0,1\n{a},1,2\n")).collect();
        assert!(swept(&format!("a,x,y\n{many}")).is_none());
        assert!(
            swept("x,result\n0,word\n1,2\n").is_none() && swept("x,result\n0,1\n").is_none() && swept("").is_none()
        );
    }

    #[test]
    fn what_came_out_is_text() {
        let hostile = "<script>alert(1)</script>";
        let json = serde_json::json!({ "index": 0, "value": hostile, hostile: 1 }).to_string();
        let reduced = serde_json::json!({ "rows": 1, "result": { hostile: { "value": hostile } } }).to_string();
        for shown in [
            objects(&json, true).into_string(),
            document(&reduced).into_string(),
            document(hostile).into_string(),
            first_lines(hostile, true, false).into_string(),
        ] {
            assert!(shown.contains("&lt;script&gt;") && !shown.contains("<script"), "{shown}");
        }
    }

    #[test]
    fn line_that_is_cut_off_is_left_out() {
        let shown = first_lines("1\n2\n3", false, false).into_string();
        assert!(shown.contains("1\n2<") && !shown.contains('3'), "{shown}");
    }
}
