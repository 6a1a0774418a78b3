//! Patterns and times, across the days on which clocks are changed.

use super::{CalendarError, CronPattern, parse_time, rfc3339};
use proptest::prelude::{any, prop_assert, proptest};
use std::time::{Duration, Instant};

/// A moment as its RFC 3339 text has it.
fn at(text: &str) -> u64 {
    parse_time(text, 0, "UTC").unwrap()
}

/// The first moments after `from`.
fn runs(pattern: &str, zone: &str, from: &str, count: usize) -> Vec<String> {
    let pattern = CronPattern::parse(pattern, zone).unwrap();
    let mut moment = at(from);
    let next = || {
        moment = pattern.next_after(moment)?;
        Some(rfc3339(moment))
    };
    std::iter::from_fn(next).take(count).collect()
}

#[test]
fn moments_are_strictly_after() {
    let pattern = CronPattern::parse("0 6 * * *", "UTC").unwrap();
    let six = at("2026-12-01T06:00:00Z");
    assert_eq!(pattern.next_after(six - 1), Some(six));
    assert_eq!(pattern.next_after(six - 999), Some(six));
    assert_eq!(pattern.next_after(six), Some(at("2026-12-02T06:00:00Z")));
    assert_eq!(pattern.next_after(six + 1), Some(at("2026-12-02T06:00:00Z")));
}

#[test]
fn five_fields_six_fields_and_nicknames() {
    let from = "2026-11-27T20:23:26Z";
    for (pattern, first, second) in [
        ("*/15 * * * *", "2026-11-27T20:30:00Z", "2026-11-27T20:45:00Z"),
        ("*/20 * * * * *", "2026-11-27T20:23:40Z", "2026-11-27T20:24:00Z"),
        ("30 6 * * MON-FRI", "2026-11-30T06:30:00Z", "2026-12-01T06:30:00Z"),
        ("0 0 1 jan *", "2027-01-01T00:00:00Z", "2028-01-01T00:00:00Z"),
        ("0 12 L * *", "2026-11-30T12:00:00Z", "2026-12-31T12:00:00Z"),
        ("0 0 29 2 *", "2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"),
        ("@hourly", "2026-11-27T21:00:00Z", "2026-11-27T22:00:00Z"),
        (" @Daily ", "2026-11-28T00:00:00Z", "2026-11-29T00:00:00Z"),
        ("@weekly", "2026-11-29T00:00:00Z", "2026-12-06T00:00:00Z"),
        ("@monthly", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"),
        ("@yearly", "2027-01-01T00:00:00Z", "2028-01-01T00:00:00Z"),
    ] {
        assert_eq!(runs(pattern, "UTC", from, 2), [first, second], "{pattern}");
    }
}

#[test]
fn patterns_are_read_in_their_zone() {
    let from = "2026-11-27T20:00:00Z";
    assert_eq!(runs("0 6 * * *", "Asia/Kathmandu", from, 1), ["2026-11-28T00:15:00Z"]);
    assert_eq!(runs("0 6 * * *", "America/New_York", from, 1), ["2026-11-28T11:00:00Z"]);
}

#[test]
fn fixed_time_in_a_gap_runs_at_the_first_moment_after_it() {
    // In Paris on 2026-03-29 there is no time from 02:00 to 03:00, which is 01:00 UTC.
    assert_eq!(
        runs("30 2 * * *", "Europe/Paris", "2026-03-28T00:00:00Z", 3),
        ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]
    );
    // On Lord Howe Island clocks move by half an hour, from 02:00 to 02:30 on 2026-10-04.
    assert_eq!(
        runs("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T00:00:00Z", 2),
        ["2026-10-03T15:30:00Z", "2026-10-04T15:15:00Z"]
    );
}

#[test]
fn repeating_pattern_goes_on_behind_a_gap() {
    assert_eq!(
        runs("30 * * * *", "Europe/Paris", "2026-03-29T00:00:00Z", 3),
        ["2026-03-29T00:30:00Z", "2026-03-29T01:30:00Z", "2026-03-29T02:30:00Z"]
    );
}

#[test]
fn fixed_time_that_occurs_twice_runs_once() {
    // In Paris on 2026-10-25 the time from 02:00 to 03:00 comes twice: at 00:00 and at 01:00 UTC.
    assert_eq!(
        runs("30 2 * * *", "Europe/Paris", "2026-10-24T00:00:00Z", 3),
        ["2026-10-24T00:30:00Z", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]
    );
    // Also when the search begins between the two.
    assert_eq!(runs("30 2 * * *", "Europe/Paris", "2026-10-25T01:15:00Z", 1), ["2026-10-26T01:30:00Z"]);
}

#[test]
fn repeating_pattern_runs_in_both_hours() {
    assert_eq!(
        runs("30 * * * *", "Europe/Paris", "2026-10-24T23:45:00Z", 3),
        ["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-25T02:30:00Z"]
    );
}

#[test]
fn patterns_that_name_no_day_are_refused_soon() {
    let begun = Instant::now();
    for pattern in ["0 0 30 2 *", "0 0 31 4,6,9,11 *", "* * * 31 2 *", "0 0 30,31 feb ?"] {
        let refused = CronPattern::parse(pattern, "UTC").unwrap_err();
        assert_eq!(refused, CalendarError::Never { pattern: pattern.into() });
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[test]
fn far_away_is_never() {
    // 29 February on a Monday, of both: 2044 is next.
    let pattern = CronPattern::parse("0 0 29 2 +MON", "UTC").unwrap();
    assert_eq!(pattern.next_after(at("2026-01-01T00:00:00Z")), None);
    assert_eq!(pattern.next_after(at("2043-01-01T00:00:00Z")), Some(at("2044-02-29T00:00:00Z")));
    for end in [u64::MAX, i64::MAX as u64, at("5000-12-31T23:59:59Z"), at("5500-01-01T00:00:00Z")] {
        assert_eq!(CronPattern::parse("* * * * *", "UTC").unwrap().next_after(end), None, "{end}");
    }
}

#[test]
fn wrong_patterns_say_what_and_where() {
    let long = "0,".repeat(200) + "0 * * * *";
    for (pattern, words) in [
        ("", "has 0 fields"),
        ("* * * *", "has 4 fields"),
        ("* * * * * * 2026", "has 7 fields"),
        ("60 * * * *", "60"),
        ("x * * * *", "'X'"),
        ("0 24 * * *", "24"),
        ("*/0 * * * *", "does not parse"),
        ("5-1 * * * *", "does not parse"),
        ("@reboot", "@hourly"),
        ("0 0 * * ☃", "'☃'"),
        (long.as_str(), "longer than 256 bytes"),
    ] {
        let refused = CronPattern::parse(pattern, "UTC").unwrap_err().to_string();
        assert!(refused.contains(words), "{pattern:?}: {refused}");
        assert!(!refused.ends_with('.'), "{refused}");
    }
    for name in ["Europe/Atlantis", "", "../../etc/passwd", "EST5EDT,M3.2.0,M11.1.0", &"x".repeat(300)] {
        assert!(CronPattern::parse("@daily", name).is_err(), "{name:?}");
    }
}

proptest! {
    #[test]
    fn no_pattern_panics_and_moments_rise(
        pattern in "([0-9*/,LW#?+@a-zA-Z-]{1,6} ){4}[0-9*/,LW#?+a-zA-Z-]{1,6}",
        from in any::<u64>(),
    ) {
        if let Ok(pattern) = CronPattern::parse(&pattern, "Europe/Paris") {
            let from = from % at("4990-01-01T00:00:00Z");
            prop_assert!(pattern.next_after(from).is_none_or(|next| next > from));
        }
    }

    #[test]
    fn no_time_panics(text in "\\PC{0,40}", now in any::<u64>()) {
        let _ = parse_time(&text, now, "UTC");
    }
}

#[test]
fn times_are_absolute_or_of_their_zone() {
    let now = at("2026-11-27T20:23:26Z");
    for (text, zone, moment) in [
        ("2026-12-01T06:00:00Z", "Europe/Paris", "2026-12-01T06:00:00Z"),
        ("2026-12-01T06:00:00+02:00", "UTC", "2026-12-01T04:00:00Z"),
        ("2026-12-01T06:00:00.25Z", "UTC", "2026-12-01T06:00:00.25Z"),
        ("2026-12-01 06:00", "Europe/Paris", "2026-12-01T05:00:00Z"),
        ("2026-12-01T06:00:30", "Europe/Paris", "2026-12-01T05:00:30Z"),
        ("2026-12-01", "Europe/Paris", "2026-11-30T23:00:00Z"),
        // In Paris it is 21:23 now.
        ("21:30", "Europe/Paris", "2026-11-27T20:30:00Z"),
        ("21:00", "Europe/Paris", "2026-11-28T20:00:00Z"),
        ("20:23:26", "UTC", "2026-11-28T20:23:26Z"),
        ("20:23:27", "UTC", "2026-11-27T20:23:27Z"),
        // Neither 02:30 exists here, nor is there only one.
        ("2026-03-29 02:30", "Europe/Paris", "2026-03-29T01:30:00Z"),
        ("2026-10-25 02:30", "Europe/Paris", "2026-10-25T00:30:00Z"),
    ] {
        assert_eq!(rfc3339(parse_time(text, now, zone).unwrap()), moment, "{text} in {zone}");
    }
}

#[test]
fn what_is_no_time_is_named() {
    for text in ["", "soon", "25:00", "6:00", "06:60", "2026-13-01", "2026-02-30 06:00", "12", "1e9", "06:00 tomorrow"]
    {
        let refused = parse_time(text, 0, "UTC").unwrap_err();
        assert_eq!(refused, CalendarError::Time { text: text.into() });
        assert!(refused.to_string().contains("2026-12-01T06:00:00Z"), "{refused}");
    }
    assert_eq!(parse_time("1969-12-31", 0, "UTC").unwrap_err(), CalendarError::Range { text: "1969-12-31".into() });
    assert!(matches!(parse_time("06:00", 0, "Mars/Base"), Err(CalendarError::UnknownZone { .. })));
    assert!(matches!(parse_time(&"0".repeat(300), 0, "UTC"), Err(CalendarError::TooLong { .. })));
}
