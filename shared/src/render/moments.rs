//! Dates, times and decimals of columnar tables as text.

use std::io::Write;

const SECONDS_A_DAY: i64 = 86_400;
/// Days from 0000-03-01 to 1970-01-01: years are counted from March, so that a leap day ends its year.
const EPOCH_DAYS: i64 = 719_468;
/// Days of 400 years, after which the calendar repeats.
const ERA_DAYS: i64 = 146_097;

/// `2024-02-29`; years beyond 9999 have a sign.
pub(super) fn write_date(out: &mut Vec<u8>, days: i64) {
    let days = days + EPOCH_DAYS;
    let era = days.div_euclid(ERA_DAYS);
    let day_of_era = days.rem_euclid(ERA_DAYS);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    // Writing into a Vec does not fail.
    let _ = match year {
        0..=9999 => write!(out, "{year:04}-{month:02}-{day:02}"),
        _ => write!(out, "{year:+05}-{month:02}-{day:02}"),
    };
}

/// `13:05:00`, with as many digits of the fraction as `per_second` has zeros, where it is not 0.
pub(super) fn write_time(out: &mut Vec<u8>, units: i64, per_second: i64) {
    let (seconds, fraction) = (units.div_euclid(per_second), units.rem_euclid(per_second));
    let _ = write!(out, "{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    if fraction != 0 {
        let digits = per_second.ilog10() as usize;
        let _ = write!(out, ".{fraction:0digits$}");
    }
}

/// `2024-02-29T13:05:00`, with `Z` behind it where the moment is one of UTC.
pub(super) fn write_timestamp(out: &mut Vec<u8>, units: i64, per_second: i64, utc: bool) {
    let per_day = SECONDS_A_DAY * per_second;
    write_date(out, units.div_euclid(per_day));
    out.push(b'T');
    write_time(out, units.rem_euclid(per_day), per_second);
    if utc {
        out.push(b'Z');
    }
}

/// A decimal's digits with the point where its scale has it.
pub(super) fn write_decimal(out: &mut Vec<u8>, digits: &str, scale: i8) {
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits), |digits| ("-", digits));
    out.extend_from_slice(sign.as_bytes());
    let places = usize::from(scale.unsigned_abs());
    if scale <= 0 {
        out.extend_from_slice(digits.as_bytes());
        let zeros = if digits == "0" { 0 } else { places };
        out.extend(std::iter::repeat_n(b'0', zeros));
    } else if digits.len() > places {
        let (whole, fraction) = digits.split_at(digits.len() - places);
        let _ = write!(out, "{whole}.{fraction}");
    } else {
        let _ = write!(out, "0.{digits:0>places$}");
    }
}

#[cfg(test)]
mod tests {
    use super::{write_date, write_decimal, write_timestamp};

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (days, date) in [
            (0, "1970-01-01"),
            (-1, "1969-12-31"),
            (11_016, "2000-02-29"),
            (11_017, "2000-03-01"),
            (19_782, "2024-02-29"),
            (-25_509, "1900-02-28"),
            (-25_508, "1900-03-01"),
            (-719_528, "0000-01-01"),
            (-719_529, "-0001-12-31"),
            (2_932_897, "+10000-01-01"),
        ] {
            assert_eq!(text(|out| write_date(out, days)), date);
        }
        // The ends of what a file may hold.
        assert_eq!(text(|out| write_date(out, i64::from(i32::MAX))), "+5881580-07-11");
        assert_eq!(text(|out| write_date(out, i64::from(i32::MIN))), "-5877641-06-23");
    }

    #[test]
    fn moments_before_1970_count_from_their_day() {
        assert_eq!(text(|out| write_timestamp(out, -1, 1_000, false)), "1969-12-31T23:59:59.999");
        assert_eq!(text(|out| write_timestamp(out, 0, 1_000_000, true)), "1970-01-01T00:00:00Z");
        assert_eq!(text(|out| write_timestamp(out, i64::MAX, 1_000_000_000, true)), "2262-04-11T23:47:16.854775807Z");
        assert!(text(|out| write_timestamp(out, i64::MIN, 1, true)).starts_with("-292277022657-"));
    }

    #[test]
    fn decimals_keep_their_digits() {
        for (digits, scale, expected) in [
            ("12345", 2, "123.45"),
            ("5", 2, "0.05"),
            ("-5", 1, "-0.5"),
            ("0", 2, "0.00"),
            ("12", 0, "12"),
            ("12", -2, "1200"),
            ("0", -2, "0"),
        ] {
            assert_eq!(text(|out| write_decimal(out, digits, scale)), expected);
        }
    }
}
