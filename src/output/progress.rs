//! Progress on standard error: a bar on a terminal, a line a few seconds apart elsewhere (`--progress always`).

use clap::ValueEnum;
use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use quipu_shared::service::JobView;
use std::fmt::Write as _;
use std::io::Write as _;
use std::time::{Duration, Instant};

/// Whether progress is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProgressMode {
    /// On a terminal, where it does not mix with the output
    #[default]
    Auto,
    /// Always; as lines where standard error is no terminal
    Always,
    /// Never
    Never,
}

/// A job that is done sooner shows no bar.
const QUIET: Duration = Duration::from_millis(400);
/// Lines off a terminal are this far apart.
const LINE_EVERY: Duration = Duration::from_secs(2);

/// Shows how far a job is.
pub(crate) enum Progress {
    /// A bar that redraws itself.
    Bar {
        /// Drawn from the first update after [`QUIET`].
        bar: ProgressBar,
        /// When the job was submitted.
        started: Instant,
    },
    /// Lines.
    Lines {
        /// When the last one was written.
        last: Instant,
    },
    /// Nothing.
    Off,
}

impl Progress {
    /// `terminal`: standard error is one; `mixes`: rows go to the same terminal.
    pub(crate) fn new(mode: ProgressMode, quiet: bool, terminal: bool, mixes: bool) -> Self {
        let wanted = match mode {
            ProgressMode::Always => true,
            ProgressMode::Never => false,
            ProgressMode::Auto => terminal && !mixes && !quiet,
        };
        match (wanted, terminal) {
            (false, _) => Self::Off,
            (true, false) => Self::Lines { last: Instant::now() },
            (true, true) => {
                let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
                Self::Bar { bar, started: Instant::now() }
            }
        }
    }

    /// Whether anything is to be shown: if not, nobody needs to watch the job.
    pub(crate) fn is_on(&self) -> bool {
        !matches!(self, Self::Off)
    }

    /// The job as it is now.
    pub(crate) fn update(&mut self, job: &JobView) {
        match self {
            Self::Bar { bar, started } => {
                if started.elapsed() < QUIET || job.state.is_final() {
                    return;
                }
                if bar.is_hidden() {
                    bar.set_style(style(job.rows_total.is_some()));
                    bar.set_draw_target(ProgressDrawTarget::stderr());
                    bar.set_elapsed(started.elapsed());
                }
                if job.rows_total != bar.length() {
                    bar.set_style(style(job.rows_total.is_some()));
                    if let Some(total) = job.rows_total {
                        bar.set_length(total);
                    }
                }
                bar.set_position(job.rows_done);
            }
            Self::Lines { last } => {
                if last.elapsed() >= LINE_EVERY || job.state.is_final() {
                    *last = Instant::now();
                    let _ = writeln!(std::io::stderr(), "{}", line(job));
                }
            }
            Self::Off => {}
        }
    }

    /// Takes the bar off the terminal.
    pub(crate) fn clear(&self) {
        if let Self::Bar { bar, .. } = self {
            bar.finish_and_clear();
        }
    }
}

fn style(total_known: bool) -> ProgressStyle {
    let template = if total_known {
        "{percent:>3} % [{bar:30}] {rows} of {total} rows  {rate} rows/s  {eta} left"
    } else {
        "{spinner} {rows} rows  {rate} rows/s  {elapsed}"
    };
    // A template that does not parse would be a typing error here; the default bar is no disaster.
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .with_key("rows", |state: &ProgressState, w: &mut dyn std::fmt::Write| {
            let _ = write!(w, "{}", HumanCount(state.pos()));
        })
        .with_key("total", |state: &ProgressState, w: &mut dyn std::fmt::Write| {
            let _ = write!(w, "{}", HumanCount(state.len().unwrap_or(0)));
        })
        .with_key("rate", |state: &ProgressState, w: &mut dyn std::fmt::Write| {
            let _ = w.write_str(&rate(state.per_sec()));
        })
        .progress_chars("=> ")
}

/// `1.25 M`, `980`: four figures at most.
pub(crate) fn rate(per_s: f64) -> String {
    match per_s {
        r if r >= 1e9 => format!("{:.2} G", r / 1e9),
        r if r >= 1e6 => format!("{:.2} M", r / 1e6),
        r if r >= 1e4 => format!("{:.1} k", r / 1e3),
        r => format!("{r:.0}"),
    }
}

fn line(job: &JobView) -> String {
    let mut text = format!("progress: {}", job.rows_done);
    if let Some(total) = job.rows_total {
        let _ = write!(text, " of {total}");
    }
    text.push_str(" rows");
    if job.elapsed_ms > 0 {
        let _ = write!(text, ", {} rows/s", rate(job.rows_done as f64 * 1000.0 / job.elapsed_ms as f64));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_have_a_unit() {
        assert_eq!(rate(12.3), "12");
        assert_eq!(rate(12_345.0), "12.3 k");
        assert_eq!(rate(2_500_000.0), "2.50 M");
        assert_eq!(rate(2.7e9), "2.70 G");
    }

    #[test]
    fn shown_only_where_it_does_not_mix() {
        assert!(Progress::new(ProgressMode::Auto, false, true, false).is_on());
        assert!(!Progress::new(ProgressMode::Auto, false, true, true).is_on());
        assert!(!Progress::new(ProgressMode::Auto, true, true, false).is_on());
        assert!(!Progress::new(ProgressMode::Auto, false, false, false).is_on());
        assert!(!Progress::new(ProgressMode::Never, false, true, false).is_on());
        assert!(matches!(Progress::new(ProgressMode::Always, true, false, true), Progress::Lines { .. }));
    }

    #[test]
    fn templates_parse() {
        for known in [true, false] {
            let _ = style(known);
        }
        assert!(ProgressStyle::with_template("{percent:>3} % [{bar:30}] {rows}").is_ok());
    }
}
