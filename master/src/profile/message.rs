//! `profile.proto`, pprof's form of a profile, as far as it is needed; declared by hand, so that no compiler for it is.

use pprof::{Frames, Symbol};
use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Profile {
    #[prost(message, repeated, tag = "1")]
    pub sample_type: Vec<ValueType>,
    #[prost(message, repeated, tag = "2")]
    pub sample: Vec<Sample>,
    #[prost(message, repeated, tag = "4")]
    pub location: Vec<Location>,
    #[prost(message, repeated, tag = "5")]
    pub function: Vec<Function>,
    /// Every text; the first is empty.
    #[prost(string, repeated, tag = "6")]
    pub string_table: Vec<String>,
    #[prost(int64, tag = "9")]
    pub time_nanos: i64,
    #[prost(int64, tag = "10")]
    pub duration_nanos: i64,
    #[prost(message, optional, tag = "11")]
    pub period_type: Option<ValueType>,
    #[prost(int64, tag = "12")]
    pub period: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ValueType {
    #[prost(int64, tag = "1")]
    pub r#type: i64,
    #[prost(int64, tag = "2")]
    pub unit: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Sample {
    /// Innermost first.
    #[prost(uint64, repeated, tag = "1")]
    pub location_id: Vec<u64>,
    /// One for each of the profile's types.
    #[prost(int64, repeated, tag = "2")]
    pub value: Vec<i64>,
    #[prost(message, repeated, tag = "3")]
    pub label: Vec<Label>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Label {
    #[prost(int64, tag = "1")]
    pub key: i64,
    #[prost(int64, tag = "2")]
    pub str: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Location {
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// More than one where functions are inlined, the innermost first.
    #[prost(message, repeated, tag = "4")]
    pub line: Vec<Line>,
}

#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub(super) struct Line {
    #[prost(uint64, tag = "1")]
    pub function_id: u64,
    #[prost(int64, tag = "2")]
    pub line: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Function {
    #[prost(uint64, tag = "1")]
    pub id: u64,
    #[prost(int64, tag = "2")]
    pub name: i64,
    #[prost(int64, tag = "3")]
    pub system_name: i64,
    #[prost(int64, tag = "4")]
    pub filename: i64,
}

/// Ids of what a profile has already. They begin at 1.
#[derive(Default)]
struct Known {
    texts: HashMap<String, i64>,
    functions: HashMap<(i64, i64), u64>,
    locations: HashMap<Vec<Line>, u64>,
}

/// A profile of what was sampled.
pub(super) fn profile(
    stacks: &HashMap<Frames, isize>,
    begun: SystemTime,
    length: Duration,
    frequency_hz: u32,
) -> Profile {
    let ns = |time: Duration| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
    let mut profile = Profile {
        time_nanos: ns(begun.duration_since(UNIX_EPOCH).unwrap_or_default()),
        duration_nanos: ns(length),
        period: 1_000_000_000 / i64::from(frequency_hz.max(1)),
        ..Profile::default()
    };
    let mut known = Known::default();
    known.text(&mut profile, "");
    let samples = known.value_type(&mut profile, "samples", "count");
    let cpu = known.value_type(&mut profile, "cpu", "nanoseconds");
    profile.sample_type = vec![samples, cpu.clone()];
    profile.period_type = Some(cpu);
    let thread = known.text(&mut profile, "thread");
    for (stack, &count) in stacks {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        let location_id = stack.frames.iter().map(|frame| known.location(&mut profile, frame)).collect();
        let name = known.text(&mut profile, &stack.thread_name);
        profile.sample.push(Sample {
            location_id,
            value: vec![count, count.saturating_mul(profile.period)],
            label: vec![Label { key: thread, str: name }],
        });
    }
    profile
}

impl Known {
    fn text(&mut self, profile: &mut Profile, text: &str) -> i64 {
        if let Some(index) = self.texts.get(text) {
            return *index;
        }
        let index = profile.string_table.len() as i64;
        profile.string_table.push(text.to_owned());
        self.texts.insert(text.to_owned(), index);
        index
    }

    fn value_type(&mut self, profile: &mut Profile, name: &str, unit: &str) -> ValueType {
        ValueType { r#type: self.text(profile, name), unit: self.text(profile, unit) }
    }

    fn function(&mut self, profile: &mut Profile, symbol: &Symbol) -> u64 {
        let system_name = self.text(profile, &symbol.sys_name());
        let filename = self.text(profile, &symbol.filename());
        if let Some(id) = self.functions.get(&(system_name, filename)) {
            return *id;
        }
        let name = self.text(profile, &symbol.name());
        let id = profile.function.len() as u64 + 1;
        profile.function.push(Function { id, name, system_name, filename });
        self.functions.insert((system_name, filename), id);
        id
    }

    fn location(&mut self, profile: &mut Profile, frame: &[Symbol]) -> u64 {
        let line: Vec<Line> = frame
            .iter()
            .map(|symbol| Line { function_id: self.function(profile, symbol), line: i64::from(symbol.lineno()) })
            .collect();
        if let Some(id) = self.locations.get(&line) {
            return *id;
        }
        let id = profile.location.len() as u64 + 1;
        profile.location.push(Location { id, line: line.clone() });
        self.locations.insert(line, id);
        id
    }
}
