//! Draws what [`App`] knows. Works from 40 columns and 10 lines on; with less it shows less. Colours only add to words.

use super::app::{App, Order, Overlay, Pane};
use crate::cmd::state_name;
use crate::failure::sanitise;
use crate::output::progress::rate;
use quipu_shared::ids::Role;
use quipu_shared::service::{JobState, JobView, NodeState, NodeView};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Block, Clear, Paragraph, Row, Sparkline, Table, TableState, Wrap};

/// Below this height only the pane with the keys is shown.
const BOTH_PANES_LINES_MIN: u16 = 18;
/// From this height on there is a line of bars.
const BARS_LINES_MIN: u16 = 14;
/// From this width on tables have their lesser columns.
const WIDE_COLUMNS_MIN: u16 = 72;
/// Lines of an error in the details.
const ROW_ERRORS_MAX: usize = 5;

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, app: &App) {
    let area = frame.area();
    let bars = if area.height >= BARS_LINES_MIN { 2 } else { 0 };
    let [head, chart, body, foot] =
        Layout::vertical([Constraint::Length(2), Constraint::Length(bars), Constraint::Min(1), Constraint::Length(1)])
            .areas(area);
    draw_head(frame, app, head);
    if bars > 0 {
        let history = app.meter.history(chart.width.into());
        let rates = Sparkline::default().data(history).style(style(app, Color::Cyan));
        frame.render_widget(rates, chart);
    }
    match app.overlay {
        Overlay::Details => draw_details(frame, app, body),
        _ if body.height < BOTH_PANES_LINES_MIN - 5 => draw_pane(frame, app, body, app.pane),
        _ => {
            let nodes = u16::try_from(app.nodes().len()).unwrap_or(u16::MAX).saturating_add(2);
            let share = nodes.clamp(4, (body.height / 2).max(4));
            let [nodes, jobs] = Layout::vertical([Constraint::Length(share), Constraint::Min(3)]).areas(body);
            draw_pane(frame, app, nodes, Pane::Nodes);
            draw_pane(frame, app, jobs, Pane::Jobs);
        }
    }
    draw_foot(frame, app, foot);
    if app.overlay == Overlay::Help {
        draw_help(frame, app, area);
    }
}

fn style(app: &App, colour: Color) -> Style {
    if app.colour { Style::new().fg(colour) } else { Style::new() }
}

fn strong(app: &App, colour: Color) -> Style {
    style(app, colour).add_modifier(Modifier::BOLD)
}

fn draw_head(frame: &mut Frame<'_>, app: &App, area: Rect) {
    let count = |is: &dyn Fn(&&NodeView) -> bool| app.all_nodes().iter().filter(is).count();
    let worker = |node: &&NodeView| node.role == Role::Worker;
    let up = count(&|node| worker(node) && node.state == NodeState::Up);
    let away = count(&|node| worker(node) && matches!(node.state, NodeState::Down | NodeState::Known));
    let draining = count(&|node| worker(node) && node.state == NodeState::Draining);
    let usable = app.all_nodes().iter().filter(|node| worker(node) && node.state == NodeState::Up);
    let (slots, leased) = usable.fold((0, 0), |sum, node| (sum.0 + node.slots, sum.1 + node.leased.min(node.slots)));
    let mut workers = format!("workers {up} up");
    for (count, what) in [(draining, "draining"), (away, "down")] {
        if count > 0 {
            workers.push_str(&format!(", {count} {what}"));
        }
    }
    let jobs = |state: JobState| app.all_jobs().iter().filter(|job| job.state == state).count();
    let queued = jobs(JobState::Queued) + jobs(JobState::Scheduled) + jobs(JobState::Waiting);
    let first = match app.away() {
        Some(why) => Line::from(vec![
            Span::styled("reconnecting", strong(app, Color::Red)),
            Span::raw(format!(" to {}: {}", sanitise(&app.cluster), sanitise(why))),
        ]),
        None => Line::from(vec![
            Span::styled("quipu top", strong(app, Color::Cyan)),
            Span::raw(format!("  {}  {workers}  {leased}/{slots} slots busy", sanitise(&app.cluster))),
        ]),
    };
    let failed = jobs(JobState::Failed);
    let mut second = vec![
        Span::styled(format!("{} rows/s", rate(app.meter.total() as f64)), strong(app, Color::Cyan)),
        Span::raw(format!("  {} running  {queued} waiting  ", jobs(JobState::Running))),
    ];
    let failed_style = if failed > 0 { strong(app, Color::Red) } else { Style::new() };
    second.push(Span::styled(format!("{failed} failed"), failed_style));
    if !app.filter.is_empty() && app.overlay != Overlay::Filter {
        second.push(Span::raw(format!("  only {:?}", app.filter)));
    }
    frame.render_widget(Paragraph::new(vec![first, Line::from(second)]), area);
}

fn draw_pane(frame: &mut Frame<'_>, app: &App, area: Rect, pane: Pane) {
    let wide = area.width >= WIDE_COLUMNS_MIN;
    let (title, header, rows, widths) = match pane {
        Pane::Nodes => nodes_table(app, wide),
        Pane::Jobs => jobs_table(app, wide),
    };
    let active = app.pane == pane;
    let title_style = if active { strong(app, Color::Cyan) } else { Style::new() };
    let mark = if active { "> " } else { "  " };
    let chosen = Style::new().add_modifier(if active { Modifier::REVERSED } else { Modifier::UNDERLINED });
    let table = Table::new(rows, widths)
        .header(Row::new(header).style(Style::new().add_modifier(Modifier::DIM)))
        .column_spacing(1)
        .row_highlight_style(chosen)
        .block(Block::new().title(Line::styled(format!("{mark}{title}"), title_style)));
    let mut state = TableState::new().with_selected(app.chosen_index(pane));
    frame.render_stateful_widget(table, area, &mut state);
}

type TableParts<'a> = (String, Vec<&'static str>, Vec<Row<'a>>, Vec<Constraint>);

fn nodes_table<'a>(app: &App, wide: bool) -> TableParts<'a> {
    use Constraint::{Fill, Length};
    let nodes = app.nodes();
    let title = shown("nodes", nodes.len(), app.all_nodes().len());
    let rows = nodes.into_iter().map(|node| {
        let mut cells = vec![
            Text::from(sanitise(node.id.as_str()).into_owned()),
            Text::from(Span::styled(state_name(node.state), node_style(app, node.state))),
        ];
        let is_worker = node.role == Role::Worker;
        cells.push(Text::from(if is_worker { slots(node, wide) } else { "master".to_owned() }));
        cells.push(Text::from(if is_worker { rate(node.rows_per_s) } else { String::new() }));
        if wide {
            cells.push(Text::from(if is_worker { node.shards_done.to_string() } else { String::new() }));
            cells.push(Text::from(sanitise(&node.zone).into_owned()));
            cells.push(Text::from(sanitise(&node.version).into_owned()));
        }
        Row::new(cells)
    });
    let rows = rows.collect();
    if wide {
        let widths = vec![Fill(1), Length(8), Length(14), Length(8), Length(8), Length(8), Length(7)];
        (title, vec!["NODE", "STATE", "SLOTS", "ROWS/S", "SHARDS", "ZONE", "VERSION"], rows, widths)
    } else {
        (title, vec!["NODE", "STATE", "SLOTS", "ROWS/S"], rows, vec![Fill(1), Length(8), Length(7), Length(8)])
    }
}

fn jobs_table<'a>(app: &App, wide: bool) -> TableParts<'a> {
    use Constraint::{Fill, Length};
    let jobs = app.jobs();
    let title = shown("jobs", jobs.len(), app.all_jobs().len());
    let bar = if wide { 12 } else { 6 };
    let rows = jobs.into_iter().map(|job| {
        let name = job.name.as_deref().unwrap_or(&job.kind);
        let speed = app.meter.rate(job.id).map(rate).unwrap_or_default();
        let mut cells = vec![
            Text::from(job.id.to_string()),
            Text::from(sanitise(name).into_owned()),
            Text::from(Span::styled(job.state.name(), job_style(app, job.state))),
            Text::from(progress(job, bar)),
            Text::from(speed),
        ];
        if wide {
            cells.push(Text::from(format!("{}+{}", job.shards.done, job.shards.leased)));
            cells.push(Text::from(age(job.elapsed_ms)));
        }
        Row::new(cells)
    });
    let rows = rows.collect();
    if wide {
        let widths = vec![Length(7), Fill(1), Length(9), Length(18), Length(8), Length(11), Length(7)];
        (title, vec!["JOB", "NAME", "STATE", "PROGRESS", "ROWS/S", "SHARDS", "TIME"], rows, widths)
    } else {
        let widths = vec![Length(5), Fill(1), Length(9), Length(12), Length(7)];
        (title, vec!["JOB", "NAME", "STATE", "PROGRESS", "ROWS/S"], rows, widths)
    }
}

fn shown(what: &str, shown: usize, all: usize) -> String {
    if shown == all { format!("{what} ({all})") } else { format!("{what} ({shown} of {all})") }
}

fn node_style(app: &App, state: NodeState) -> Style {
    match state {
        NodeState::Up => style(app, Color::Green),
        NodeState::Draining => style(app, Color::Yellow),
        NodeState::Down => strong(app, Color::Red),
        NodeState::Known => Style::new().add_modifier(Modifier::DIM),
    }
}

fn job_style(app: &App, state: JobState) -> Style {
    match state {
        JobState::Running => style(app, Color::Green),
        JobState::Failed => strong(app, Color::Red),
        JobState::Cancelled => style(app, Color::Yellow),
        JobState::Scheduled | JobState::Waiting | JobState::Queued => style(app, Color::Cyan),
        JobState::Succeeded => Style::new().add_modifier(Modifier::DIM),
    }
}

/// Executors at work, as a bar and as numbers.
fn slots(node: &NodeView, wide: bool) -> String {
    let busy = node.leased.min(node.slots);
    let numbers = format!("{busy}/{}", node.slots);
    if !wide || node.slots == 0 {
        return numbers;
    }
    format!("{} {numbers}", filled(f64::from(busy) / f64::from(node.slots), 6))
}

fn progress(job: &JobView, bar: usize) -> String {
    match job.rows_total {
        Some(0) => filled(1.0, bar) + " 100%",
        Some(total) => {
            let part = job.rows_done as f64 / total as f64;
            // Not 100 before the last row.
            format!("{} {:>3}%", filled(part, bar), (part * 100.0).floor() as u64)
        }
        None => format!("{} rows", rate(job.rows_done as f64)),
    }
}

fn filled(part: f64, width: usize) -> String {
    let full = (part.clamp(0.0, 1.0) * width as f64).floor() as usize;
    "█".repeat(full) + &"░".repeat(width - full)
}

/// `850 ms`, `12.3 s`, `4m05s`, `3h12m`, `2d04h`.
fn age(ms: u64) -> String {
    let s = ms / 1_000;
    match s {
        0 => format!("{ms}ms"),
        1..60 => format!("{s}.{}s", ms % 1_000 / 100),
        60..3_600 => format!("{}m{:02}s", s / 60, s % 60),
        3_600..86_400 => format!("{}h{:02}m", s / 3_600, s % 3_600 / 60),
        _ => format!("{}d{:02}h", s / 86_400, s % 86_400 / 3_600),
    }
}

fn draw_details(frame: &mut Frame<'_>, app: &App, area: Rect) {
    let (title, lines) = match app.pane {
        Pane::Nodes => match app.chosen_node() {
            Some(node) => (format!("node {}", node.id), node_details(node)),
            None => ("no node".to_owned(), Vec::new()),
        },
        Pane::Jobs => match app.chosen_job() {
            Some(job) => (format!("job {}", job.id), job_details(app, job)),
            None => ("no job".to_owned(), Vec::new()),
        },
    };
    let title = Line::styled(format!("> {}", sanitise(&title)), strong(app, Color::Cyan));
    let lines: Vec<Line<'_>> = lines.into_iter().map(|line| Line::raw(sanitise(&line).into_owned())).collect();
    frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: false }).block(Block::new().title(title)), area);
}

fn fact(name: &str, value: impl std::fmt::Display) -> String {
    format!("{name:<10} {value}")
}

fn node_details(node: &NodeView) -> Vec<String> {
    let mut lines = vec![
        fact("role", node.role),
        fact("state", state_name(node.state)),
        fact("slots", format!("{} of {} busy, {} attempts held", node.leased.min(node.slots), node.slots, node.leased)),
        fact("rows/s", rate(node.rows_per_s)),
        fact("shards", node.shards_done),
        fact("zone", &node.zone),
        fact("version", &node.version),
        fact("gossip", node.gossip.as_deref().unwrap_or("-")),
    ];
    let waits = [(node.cpu_pressure, "a processor"), (node.memory_pressure, "memory")];
    let waits: Vec<String> =
        waits.iter().filter_map(|(part, what)| Some(format!("{} % waits for {what}", (*part)?))).collect();
    if !waits.is_empty() {
        lines.push(fact("host", waits.join(", ")));
    }
    lines.extend(node.note.iter().map(|note| fact("note", note)));
    lines
}

fn job_details(app: &App, job: &JobView) -> Vec<String> {
    let total = job.rows_total.map_or_else(|| "?".to_owned(), |total| total.to_string());
    let shards = &job.shards;
    let mut lines = vec![
        fact("kind", &job.kind),
        fact("name", job.name.as_deref().unwrap_or("-")),
        fact("state", job.state.name()),
        fact("rows", format!("{} of {total}, {} failed", job.rows_done, job.rows_failed)),
        fact("progress", progress(job, 30)),
        fact("time", age(job.elapsed_ms)),
        fact(
            "shards",
            format!(
                "{} done, {} leased, {} queued, {} retried, {} speculative",
                shards.done, shards.leased, shards.queued, shards.retried, shards.speculative
            ),
        ),
    ];
    if let Some(speed) = app.meter.rate(job.id) {
        lines.push(fact("rows/s", rate(speed)));
    }
    if !job.labels.is_empty() {
        let labels: Vec<String> = job.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        lines.push(fact("labels", labels.join(" ")));
    }
    if let Some(error) = &job.error {
        lines.push(fact("error", format!("{} ({})", error.message, error.code)));
    }
    for error in job.row_errors.iter().take(ROW_ERRORS_MAX) {
        lines.push(fact("row error", format!("row {}: {} ({})", error.row, error.message, error.code)));
    }
    let explanation = app.explanation(job.id);
    if !explanation.is_empty() {
        lines.push(String::new());
        lines.extend(explanation.iter().cloned());
    }
    lines
}

fn draw_foot(frame: &mut Frame<'_>, app: &App, area: Rect) {
    let line = match &app.overlay {
        Overlay::Filter => Line::from(format!("filter: {}_  (enter keeps it, esc clears it)", app.filter)),
        Overlay::Confirm(order) => {
            let question = match order {
                Order::Cancel(job) => format!("cancel job {job}?"),
                Order::Drain(node) => format!("drain {}?", sanitise(node.as_str())),
                Order::Explain(_) | Order::Quit => String::new(),
            };
            Line::styled(format!("{question} y does it, any other key does not"), strong(app, Color::Yellow))
        }
        Overlay::Details => foot(app, "esc back  j/k next  c cancel  d drain  ? help  q quit"),
        Overlay::None | Overlay::Help => {
            foot(app, "q quit  tab pane  j/k move  enter details  c cancel  d drain  / filter  ? help")
        }
    };
    frame.render_widget(Paragraph::new(line), area);
}

fn foot<'a>(app: &App, keys: &'static str) -> Line<'a> {
    match app.notice() {
        Some(notice) => Line::styled(sanitise(notice).into_owned(), strong(app, Color::Yellow)),
        None => Line::styled(keys, Style::new().add_modifier(Modifier::DIM)),
    }
}

const HELP: &str = "\
q, ctrl-c    quit
tab          nodes or jobs
j k, arrows  next, previous (g G: first, last)
enter        everything about what is chosen
c            cancel the chosen job
d            drain the chosen worker
/            show only what has these words
esc          back; clears the filter
?            this help";

fn draw_help(frame: &mut Frame<'_>, app: &App, area: Rect) {
    let lines = HELP.lines().count() as u16;
    let width = HELP.lines().map(str::len).max().unwrap_or_default() as u16;
    let (width, height) = ((width + 4).min(area.width), (lines + 2).min(area.height));
    let place = Rect { x: (area.width - width) / 2, y: (area.height - height) / 2, width, height };
    let title = Line::styled(" keys ", strong(app, Color::Cyan));
    frame.render_widget(Clear, place);
    frame.render_widget(Paragraph::new(HELP).block(Block::bordered().title(title)), place);
}
