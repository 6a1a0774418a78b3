//! A job's rows as a grid of small cells.

use super::format;
use maud::{Markup, html};
use quipu_shared::detail::{ShardCell, ShardMap};
use quipu_shared::service::{JobView, ShardCounts};

/// Steps in which a cell fills.
const STEPS: u64 = 8;

/// The grid with its legend.
pub(super) fn grid(view: &JobView, map: &ShardMap) -> Markup {
    let counts = &view.shards;
    html! {
        (legend(counts))
        @if map.cells.is_empty() {
            p.note {
                @if map.rows == 0 { "How many rows there are is not known yet." }
                @else { "Which rows were done is not kept of a job that ended before the master was started." }
            }
        } @else {
            div.grid role="img" aria-label=(label(view, counts)) {
                @for (at, cell) in map.cells.iter().enumerate() {
                    i class=(class(cell, map.rows_of(at))) title=(tip(map, at, cell)) {}
                }
            }
            p.note {
                "Each cell is " (format::count(map.rows_per_cell.min(map.rows))) " rows of " (format::count(map.rows))
                ". Shards are cut as they are leased."
            }
        }
    }
}

fn legend(counts: &ShardCounts) -> Markup {
    html! {
        ul.legend {
            li { i.cell.d8 {} (format::count(counts.done)) " done" }
            li { i.cell.leased {} (format::count(counts.leased)) " leased" }
            li { i.cell.queued {} (format::count(counts.queued)) " queued again" }
            li { i.cell.d8.retried {} (format::count(counts.retried)) " further attempts" }
            @if counts.speculative > 0 { li { (format::count(counts.speculative)) " of them speculative" } }
        }
    }
}

fn label(view: &JobView, counts: &ShardCounts) -> String {
    let of = view.rows_total.map_or_else(String::new, |total| format!(" of {total}"));
    format!(
        "{}{of} rows done; {} shards leased, {} queued again, {} further attempts",
        view.rows_done, counts.leased, counts.queued, counts.retried
    )
}

fn class(cell: &ShardCell, rows: u64) -> String {
    let part = if cell.done >= rows { STEPS } else { (cell.done.saturating_mul(STEPS) / rows.max(1)).min(STEPS - 1) };
    // Something is something, however little.
    let part = if cell.done > 0 { part.max(1) } else { 0 };
    let mut class = format!("cell d{part}");
    for (count, name) in [(cell.leased, " leased"), (cell.queued, " queued"), (cell.retried, " retried")] {
        if count > 0 {
            class.push_str(name);
        }
    }
    class
}

fn tip(map: &ShardMap, at: usize, cell: &ShardCell) -> String {
    let first = map.rows_per_cell.saturating_mul(at as u64);
    let rows = map.rows_of(at);
    let mut words = Vec::new();
    if cell.done >= rows {
        words.push("done".to_owned());
    } else {
        let parts = [(cell.done, "done"), (cell.leased, "leased"), (cell.queued, "queued again")];
        words.extend(parts.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")));
        if words.is_empty() {
            words.push("not cut yet".to_owned());
        }
    }
    if cell.retried > 0 {
        words.push("retried".to_owned());
    }
    format!("rows {first} to {}: {}", first + rows.saturating_sub(1), words.join(", "))
}

#[cfg(test)]
mod tests {
    use super::{class, tip};
    use quipu_shared::detail::{ShardCell, ShardMap};

    #[test]
    fn cells_fill_in_steps_and_are_full_only_when_done() {
        let cell = |done| ShardCell { done, ..ShardCell::default() };
        for (done, expected) in [(0, "cell d0"), (1, "cell d1"), (500, "cell d4"), (999, "cell d7"), (1000, "cell d8")]
        {
            assert_eq!(class(&cell(done), 1000), expected);
        }
        let busy = ShardCell { done: 1, leased: 2, queued: 3, retried: 4 };
        assert_eq!(class(&busy, 1000), "cell d1 leased queued retried");
    }

    #[test]
    fn tip_of_a_cell_says_in_words_what_its_colours_do() {
        let mut map = ShardMap::new(10, 4);
        map.count(0, 5, |cell| &mut cell.done);
        map.count(5, 8, |cell| &mut cell.leased);
        map.count(4, 8, |cell| &mut cell.retried);
        let tips: Vec<String> = map.cells.iter().enumerate().map(|(at, cell)| tip(&map, at, cell)).collect();
        assert_eq!(tips, ["rows 0 to 3: done", "rows 4 to 7: 1 done, 3 leased, retried", "rows 8 to 9: not cut yet"]);
    }
}
