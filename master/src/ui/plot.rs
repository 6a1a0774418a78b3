//! Lines and bars, as SVG. Colours come from the styles; a line that is not the first is dashed as well.

use super::format;
use maud::{Markup, html};

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 34.0;
/// Labels on an axis, about.
const TICKS: f64 = 5.0;

/// Points that belong together.
pub(super) struct Line {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
}

/// A range of values and where they are drawn.
struct Scale {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Scale {
    fn new(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Option<Self> {
        let finite = values.filter(|value| value.is_finite());
        let (low, high) = finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)));
        if low > high {
            return None;
        }
        // One value has room around it.
        let room = if low == high { low.abs().max(1.0) * 0.5 } else { 0.0 };
        let (low, high) = (low - room, high + room);
        (high - low).is_finite().then_some(Self { low, high, from, to })
    }

    fn at(&self, value: f64) -> f64 {
        self.from + (value - self.low) / (self.high - self.low) * (self.to - self.from)
    }

    /// Round numbers within the range.
    fn ticks(&self) -> Vec<f64> {
        let rough = (self.high - self.low) / TICKS;
        let power = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|digit| digit * power).find(|step| *step >= rough);
        let Some(step) = step.filter(|step| step.is_normal()) else { return Vec::new() };
        let first = (self.low / step).ceil();
        // Steps of the smallest size are some ten.
        (0..16).map(|n| (first + f64::from(n)) * step).take_while(|tick| *tick <= self.high + step * 1e-9).collect()
    }
}

/// A number beside an axis.
fn tick(value: f64) -> String {
    if value != 0.0 && !(1e-3..1e6).contains(&value.abs()) {
        return format!("{value:.1e}");
    }
    if value.abs() >= 1e4 && value.fract() == 0.0 {
        // Below a million, and so exact.
        let digits = format::count(value.abs() as u64);
        return if value < 0.0 { format!("−{digits}") } else { digits };
    }
    // Steps are round, so that what is behind the sixth digit is noise.
    let text = format!("{value:.6}");
    let short = text.trim_end_matches('0').trim_end_matches('.');
    if short == "-0" { "0".into() } else { short.replace('-', "−") }
}

fn frame(x: &Scale, y: &Scale, x_name: &str, y_name: &str) -> Markup {
    let bottom = HEIGHT - BOTTOM;
    html! {
        @for value in y.ticks() {
            line.rule x1=(LEFT) x2=(WIDTH - RIGHT) y1=(px(y.at(value))) y2=(px(y.at(value))) {}
            text x=(LEFT - 8.0) y=(px(y.at(value) + 4.0)) text-anchor="end" { (tick(value)) }
        }
        @for value in x.ticks() {
            line.rule x1=(px(x.at(value))) x2=(px(x.at(value))) y1=(bottom) y2=(bottom + 5.0) {}
            text x=(px(x.at(value))) y=(bottom + 18.0) text-anchor="middle" { (tick(value)) }
        }
        line.axis x1=(LEFT) x2=(WIDTH - RIGHT) y1=(bottom) y2=(bottom) {}
        text.axis-name x=(WIDTH - RIGHT) y=(HEIGHT - 3.0) text-anchor="end" { (x_name) }
        text.axis-name x=(LEFT + 6.0) y=(TOP + 10.0) { (y_name) }
    }
}

/// A place with what matters of its digits.
fn px(place: f64) -> String {
    format!("{place:.1}")
}

/// Lines over one axis; nothing where no point can be drawn.
pub(super) fn lines(lines: &[Line], x_name: &str, y_name: &str) -> Option<Markup> {
    let points = || lines.iter().flat_map(|line| &line.points);
    let x = Scale::new(points().map(|point| point.0), LEFT, WIDTH - RIGHT)?;
    let y = Scale::new(points().map(|point| point.1), HEIGHT - BOTTOM, TOP)?;
    let label = format!(
        "{y_name} over {x_name} from {} to {}; between {} and {}",
        tick(x.low),
        tick(x.high),
        tick(y.low),
        tick(y.high)
    );
    Some(html! {
        figure.plot {
            svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" aria-label=(label) {
                (frame(&x, &y, x_name, y_name))
                @for (at, line) in lines.iter().enumerate() {
                    path class={ "line s" (at % 6) } d=(path(line, &x, &y)) {}
                }
            }
            @if lines.len() > 1 {
                figcaption {
                    ul.legend { @for (at, line) in lines.iter().enumerate() { li { i class={ "stroke s" (at % 6) } {} (line.name) } } }
                }
            }
        }
    })
}

/// A path with gaps where there is no value.
fn path(line: &Line, x: &Scale, y: &Scale) -> String {
    let (mut path, mut pen_down) = (String::new(), false);
    for &(at, value) in &line.points {
        if at.is_finite() && value.is_finite() {
            let command = if pen_down { 'L' } else { 'M' };
            path.push_str(&format!("{command}{} {}", px(x.at(at)), px(y.at(value))));
            pen_down = true;
        } else {
            pen_down = false;
        }
    }
    path
}

/// Counts in bins, each between two edges; nothing where there is no bin.
pub(super) fn histogram(edges: &[f64], counts: &[u64]) -> Option<Markup> {
    if counts.is_empty() || edges.len() != counts.len() + 1 {
        return None;
    }
    let x = Scale::new(edges.iter().copied(), LEFT, WIDTH - RIGHT)?;
    let y = Scale::new(counts.iter().map(|count| *count as f64).chain([0.0]), HEIGHT - BOTTOM, TOP)?;
    let peak = counts.iter().enumerate().max_by_key(|(_, count)| **count).map_or(0, |(at, _)| at);
    let label = format!(
        "Histogram of {} values in {} bins from {} to {}; most, {}, from {} to {}",
        counts.iter().sum::<u64>(),
        counts.len(),
        tick(x.low),
        tick(x.high),
        counts[peak],
        tick(edges[peak]),
        tick(edges[peak + 1])
    );
    let floor = HEIGHT - BOTTOM;
    Some(html! {
        figure.plot {
            svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" aria-label=(label) {
                (frame(&x, &y, "value", "rows"))
                @for (at, &count) in counts.iter().enumerate() {
                    @let (left, right, top) = (x.at(edges[at]), x.at(edges[at + 1]), y.at(count as f64));
                    rect.column x=(px(left + 0.5)) width=(px((right - left - 1.0).max(0.5))) y=(px(top)) height=(px(floor - top)) {
                        title { (tick(edges[at])) " to " (tick(edges[at + 1])) ": " (format::count(count)) }
                    }
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::{Line, Scale, histogram, lines, tick};

    #[test]
    fn axes_have_round_numbers() {
        let scale = Scale::new([-6.0, 6.0].into_iter(), 0.0, 100.0).unwrap();
        assert_eq!(scale.ticks().iter().map(|x| tick(*x)).collect::<Vec<_>>(), ["−5", "0", "5"]);
        let scale = Scale::new([0.0, 0.00123].into_iter(), 0.0, 100.0).unwrap();
        assert!(scale.ticks().len() >= 3);
        assert_eq!(
            (tick(1e-9), tick(0.25), tick(-0.0), tick(1e9)),
            ("1.0e-9".into(), "0.25".into(), "0".into(), "1.0e9".into())
        );
    }

    #[test]
    fn values_that_are_no_numbers_leave_gaps() {
        let points = vec![(0.0, 1.0), (1.0, f64::NAN), (2.0, 3.0), (3.0, f64::INFINITY)];
        let drawn = lines(&[Line { name: String::new(), points }], "x", "<b>").unwrap().into_string();
        assert_eq!(drawn.matches('M').count(), 2, "{drawn}");
        assert!(drawn.contains("&lt;b&gt;") && !drawn.contains("NaN") && !drawn.contains("inf"));
        assert!(lines(&[Line { name: String::new(), points: vec![(0.0, f64::NAN)] }], "x", "y").is_none());
        let extreme = vec![(0.0, f64::MIN), (1.0, f64::MAX)];
        assert!(lines(&[Line { name: String::new(), points: extreme }], "x", "y").is_none());
    }

    #[test]
    fn every_bin_has_a_bar() {
        let drawn = histogram(&[0.0, 1.0, 2.0], &[3, 0]).unwrap().into_string();
        assert_eq!(drawn.matches("<rect").count(), 2);
        assert!(drawn.contains("3 values in 2 bins"));
        assert!(histogram(&[0.0], &[]).is_none() && histogram(&[0.0, 1.0], &[1, 2]).is_none());
    }
}
