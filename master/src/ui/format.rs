//! Numbers as people read them.

/// Thin enough to group digits, and it does not break a line.
const GROUP: char = '\u{202f}';

/// A count with its digits in groups of three.
pub(super) fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut grouped = String::with_capacity(digits.len() * 2);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(GROUP);
        }
        grouped.push(digit);
    }
    grouped
}

/// A large number in three digits and a letter: `12.3 M`.
pub(super) fn short(value: f64) -> String {
    if !value.is_finite() {
        return "–".into();
    }
    for (unit, letter) in [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")] {
        if value >= unit * 0.9995 {
            return format!("{}{GROUP}{letter}", digits(value / unit));
        }
    }
    digits(value)
}

/// Three digits that count.
fn digits(value: f64) -> String {
    match value {
        v if v >= 99.95 || v == 0.0 => format!("{v:.0}"),
        v if v >= 9.995 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

/// Rows a second.
pub(super) fn rate(rows_per_s: f64) -> String {
    format!("{}{GROUP}rows/s", short(rows_per_s))
}

/// A time: `840 ms`, `12.3 s`, `4 min 05 s`, `3 h 07 min`, `5 d 2 h`.
pub(super) fn duration(ms: u64) -> String {
    let s = ms / 1000;
    match ms {
        0..1_000 => format!("{ms}{GROUP}ms"),
        1_000..60_000 => format!("{s}.{}{GROUP}s", ms % 1000 / 100),
        60_000..3_600_000 => format!("{}{GROUP}min {:02}{GROUP}s", s / 60, s % 60),
        3_600_000..86_400_000 => format!("{}{GROUP}h {:02}{GROUP}min", s / 3600, s / 60 % 60),
        _ => format!("{}{GROUP}d {}{GROUP}h", s / 86_400, s / 3600 % 24),
    }
}

/// A part of a whole in percent; whole only where it is.
pub(super) fn percent(part: u64, whole: u64) -> String {
    if part >= whole {
        return "100 %".replace(' ', "\u{202f}");
    }
    let tenths = (u128::from(part) * 1000 / u128::from(whole.max(1))).min(999);
    format!("{}.{}{GROUP}%", tenths / 10, tenths % 10)
}

/// A Unix time for a `datetime` attribute, in UTC to the second.
pub(super) fn iso(unix_ms: u64) -> String {
    let second = i64::try_from(unix_ms / 1000).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(second).unwrap_or(jiff::Timestamp::MAX).to_string()
}

/// A Unix time for people, in UTC; the page's script turns it into local time.
pub(super) fn moment(unix_ms: u64) -> String {
    iso(unix_ms).replace('T', " ").replace('Z', " UTC")
}

#[cfg(test)]
mod tests {
    use super::{count, duration, iso, percent, short};

    fn plain(text: &str) -> String {
        text.replace('\u{202f}', " ")
    }

    #[test]
    fn numbers_are_short_and_grouped() {
        for (value, text) in [(0, "0"), (999, "999"), (1000, "1 000"), (1_234_567, "1 234 567")] {
            assert_eq!(plain(&count(value)), text);
        }
        for (value, text) in [
            (0.0, "0"),
            (0.126, "0.13"),
            (9.5, "9.50"),
            (42.0, "42.0"),
            (999.0, "999"),
            (1000.0, "1.00 k"),
            (999_999.0, "1.00 M"),
            (12_345_678.0, "12.3 M"),
            (f64::NAN, "–"),
        ] {
            assert_eq!(plain(&short(value)), text);
        }
    }

    #[test]
    fn times_have_the_units_of_their_size() {
        for (ms, text) in [
            (7, "7 ms"),
            (12_345, "12.3 s"),
            (245_000, "4 min 05 s"),
            (11_220_000, "3 h 07 min"),
            (439_200_000, "5 d 2 h"),
        ] {
            assert_eq!(plain(&duration(ms)), text);
        }
        for (ms, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400_000, "2000-02-29T00:00:00Z"),
            (1_796_254_772_123, "2026-12-02T23:39:32Z"),
        ] {
            assert_eq!(iso(ms), text);
        }
    }

    #[test]
    fn nothing_short_of_the_whole_is_a_hundred_percent() {
        assert_eq!(plain(&percent(999_999, 1_000_000)), "99.9 %");
        assert_eq!(plain(&percent(1, 8)), "12.5 %");
        assert_eq!(plain(&percent(0, 0)), "100 %");
        assert_eq!(plain(&percent(u64::MAX - 1, u64::MAX)), "99.9 %");
    }
}
