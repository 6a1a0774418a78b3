//! Times as people write them: cron patterns of recurring jobs, and the time of `--at`. No clock is read here: what
//! "now" is comes in as an argument.
//!
//! Time zones are IANA's, out of the system's database, or out of the one that is compiled in where the system has
//! none. All times that go in and out are milliseconds since the Unix epoch.

use croner::errors::CronError;
use croner::parser::{CronParser, Seconds, Year};
use jiff::civil::{DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan, Zoned};

/// Bytes of a pattern, of a time and of a zone's name at most: real ones are far shorter.
const TEXT_BYTES_MAX: usize = 256;
/// A pattern that names no moment within so many years has none: it bounds the search.
const YEARS_MAX: i16 = 5;
/// Every combination of leap year and day of the week has come within so many years.
const CYCLE_YEARS: i16 = 40;
/// Where the search for a pattern's first moment begins: any year will do.
const CYCLE_START_YEAR: i16 = 2000;
/// The last year that patterns know.
const YEAR_MAX: i16 = 5000;

/// A pattern, a time or a zone that can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CalendarError {
    /// Too long to be meant.
    #[error("the {what} is longer than {TEXT_BYTES_MAX} bytes")]
    TooLong {
        /// Pattern, time or zone.
        what: &'static str,
    },
    /// No such time zone.
    #[error("there is no time zone {name:?}; give an IANA name such as Europe/Paris, or UTC")]
    UnknownZone {
        /// As given.
        name: String,
    },
    /// The pattern has too few or too many fields.
    #[error(
        "the cron pattern {pattern:?} has {fields} fields; write five (minute hour day month weekday), or six with \
         seconds first, or @hourly, @daily, @weekly, @monthly or @yearly"
    )]
    Fields {
        /// As given.
        pattern: String,
        /// How many.
        fields: usize,
    },
    /// A field does not parse.
    #[error("the cron pattern {pattern:?} does not parse: {problem}; such as '30 6 * * MON-FRI', at 06:30 on workdays")]
    Pattern {
        /// As given.
        pattern: String,
        /// What is wrong with which field.
        problem: String,
    },
    /// The pattern names no day that exists.
    #[error("the cron pattern {pattern:?} names no day that there is; look at its day and month")]
    Never {
        /// As given.
        pattern: String,
    },
    /// The time does not parse.
    #[error("{text:?} is no time; write 2026-12-01T06:00:00Z, or '2026-12-01 06:00' or 06:00 in the time zone of --tz")]
    Time {
        /// As given.
        text: String,
    },
    /// The time is before 1970 or after 9999.
    #[error("{text:?} is out of range; give a time from 1970 on")]
    Range {
        /// As given.
        text: String,
    },
}

/// When a recurring job is due.
///
/// Five fields (minute, hour, day of the month, month, day of the week), or six with seconds first; or `@hourly`,
/// `@daily`, `@weekly`, `@monthly`, `@yearly`, `@annually`. Names of months and days, lists, ranges and steps are taken,
/// and `L`, `W` and `#` for last, nearest workday and n-th. Where day of the month and day of the week are both
/// given, either is enough, as in Vixie's cron.
///
/// Where clocks go forward, a pattern with a fixed time of the day (`30 2 * * *`) that does not exist on that day
/// runs at the first moment after the gap; one that repeats within the day (`*/15 * * * *`) goes on behind the gap.
/// Where clocks go back, a fixed time that occurs twice runs once, the first time; a repeating one runs in both hours,
/// as time goes on.
#[derive(Clone, Debug)]
pub struct CronPattern {
    /// Six fields, seconds first.
    fields: String,
    zone: TimeZone,
}

impl CronPattern {
    /// Reads a pattern, to be understood in a time zone of this IANA name.
    pub fn parse(pattern: &str, time_zone: &str) -> Result<Self, CalendarError> {
        let zone = zone(time_zone)?;
        if pattern.len() > TEXT_BYTES_MAX {
            return Err(CalendarError::TooLong { what: "cron pattern" });
        }
        let fields = six_fields(pattern)?;
        parser()
            .parse(&format!("{fields} *"))
            .map_err(|error| CalendarError::Pattern { pattern: pattern.to_owned(), problem: problem(&error) })?;
        let read = Self { fields, zone };
        let somewhen = DateTime::constant(CYCLE_START_YEAR, 1, 1, 0, 0, 0, 0).to_zoned(TimeZone::UTC);
        let found = somewhen.ok().and_then(|from| read.first_after(&from, CYCLE_YEARS));
        if found.is_none() {
            return Err(CalendarError::Never { pattern: pattern.to_owned() });
        }
        Ok(read)
    }

    /// The first moment after this one, strictly, at which the pattern is due; none if that is further away than the
    /// fifth year from now.
    pub fn next_after(&self, unix_ms: u64) -> Option<u64> {
        // Moments are whole seconds: what is after a second is after every part of it that has begun.
        let second = i64::try_from(unix_ms / 1000).ok()?;
        let from = Timestamp::from_second(second).ok()?.to_zoned(self.zone.clone());
        let next = self.first_after(&from, YEARS_MAX)?;
        u64::try_from(next.timestamp().as_millisecond()).ok().filter(|next| *next > unix_ms)
    }

    /// The search goes through days, so the years that it may see bound it.
    fn first_after(&self, from: &Zoned, years: i16) -> Option<Zoned> {
        let first = from.year();
        let last = first.saturating_add(years).min(YEAR_MAX);
        let pattern = parser().parse(&format!("{} {first}-{last}", self.fields)).ok()?;
        pattern.find_next_occurrence(from, false).ok()
    }
}

fn parser() -> CronParser {
    CronParser::builder().seconds(Seconds::Required).year(Year::Required).build()
}

/// The pattern with seconds and without nicknames.
fn six_fields(pattern: &str) -> Result<String, CalendarError> {
    let lower = pattern.trim().to_ascii_lowercase();
    if lower.starts_with('@') {
        let fields = match lower.as_str() {
            "@yearly" | "@annually" => "0 0 0 1 1 *",
            "@monthly" => "0 0 0 1 * *",
            "@weekly" => "0 0 0 * * SUN",
            "@daily" | "@midnight" => "0 0 0 * * *",
            "@hourly" => "0 0 * * * *",
            _ => {
                let problem = "there are @hourly, @daily, @weekly, @monthly and @yearly".to_owned();
                return Err(CalendarError::Pattern { pattern: pattern.to_owned(), problem });
            }
        };
        return Ok(fields.to_owned());
    }
    let fields: Vec<&str> = pattern.split_whitespace().collect();
    match fields.len() {
        5 => Ok(format!("0 {}", fields.join(" "))),
        6 => Ok(fields.join(" ")),
        count => Err(CalendarError::Fields { pattern: pattern.to_owned(), fields: count }),
    }
}

/// What the parser says, as a part of a sentence.
fn problem(error: &CronError) -> String {
    let text = match error {
        CronError::InvalidPattern(text) | CronError::IllegalCharacters(text) | CronError::ComponentError(text) => {
            text.replace("CronPattern contains illegal", "illegal")
        }
        other => other.to_string(),
    };
    let text = text.trim_end_matches('.');
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| first.to_lowercase().chain(characters).collect())
}

fn zone(name: &str) -> Result<TimeZone, CalendarError> {
    if name.len() > TEXT_BYTES_MAX {
        return Err(CalendarError::TooLong { what: "name of the time zone" });
    }
    TimeZone::get(name).map_err(|_| CalendarError::UnknownZone { name: name.to_owned() })
}

/// The time that a text names: with `Z` or an offset as it is, else in the time zone of this IANA name; a time of the
/// day alone is the next such time after now. A time that clocks skip is as much later as they skip; of one that occurs
/// twice it is the first.
pub fn parse_time(text: &str, now_unix_ms: u64, time_zone: &str) -> Result<u64, CalendarError> {
    let zone = zone(time_zone)?;
    if text.len() > TEXT_BYTES_MAX {
        return Err(CalendarError::TooLong { what: "time" });
    }
    let text = text.trim();
    let not_a_time = || CalendarError::Time { text: text.to_owned() };
    let out_of_range = || CalendarError::Range { text: text.to_owned() };
    let in_zone = |time: DateTime| time.to_zoned(zone.clone()).map(|zoned| zoned.timestamp());
    let found = if let Ok(moment) = text.parse::<Timestamp>() {
        moment
    } else if is_time_of_day(text) {
        let time: Time = text.parse().map_err(|_| not_a_time())?;
        let now = i64::try_from(now_unix_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
        let now = now.ok_or_else(out_of_range)?;
        let today = now.to_zoned(zone.clone()).date();
        let days = (0..=2).filter_map(|days| today.checked_add(days.days()).ok());
        let mut moments = days.filter_map(|day| in_zone(day.to_datetime(time)).ok());
        moments.find(|moment| *moment > now).ok_or_else(out_of_range)?
    } else if text.starts_with(|c: char| c.is_ascii_digit()) && !text.ends_with(['Z', 'z']) {
        in_zone(text.parse().map_err(|_| not_a_time())?).map_err(|_| out_of_range())?
    } else {
        return Err(not_a_time());
    };
    u64::try_from(found.as_millisecond()).map_err(|_| out_of_range())
}

/// `06:00` or `06:00:30`.
fn is_time_of_day(text: &str) -> bool {
    let parts: Vec<&str> = text.split(':').collect();
    (2..=3).contains(&parts.len())
        && parts.iter().all(|part| part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit()))
}

/// A moment as people and programs read it: RFC 3339, in UTC.
pub fn rfc3339(unix_ms: u64) -> String {
    let moment = i64::try_from(unix_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    moment.map_or_else(|| format!("{unix_ms} ms after 1970"), |moment| moment.to_string())
}

#[cfg(test)]
mod tests;
