//! JSON-lines: the lines, and the fields of an object.

use serde::de::{DeserializeSeed, Deserializer as _, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;
use std::ops::Range;

/// Longest part of a parser's message that is passed on; it may quote the input.
const REASON_CHARS_MAX: usize = 200;

/// JSON's blanks, but for the line feed.
pub(crate) fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r')
}

/// Goes through the lines that hold anything.
#[derive(Debug)]
pub(crate) struct JsonCursor<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> JsonCursor<'a> {
    /// Begins at the first byte.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    /// The next line that is not blank, without the blanks around it.
    pub(crate) fn next_record(&mut self) -> Option<Range<usize>> {
        while self.position < self.bytes.len() {
            let start = self.position;
            let end = memchr::memchr(b'\n', &self.bytes[start..]).map_or(self.bytes.len(), |length| start + length);
            self.position = (end + 1).min(self.bytes.len());
            let line = &self.bytes[start..end];
            let first = line.iter().position(|byte| !is_blank(*byte));
            let last = line.iter().rposition(|byte| !is_blank(*byte));
            if let (Some(first), Some(last)) = (first, last) {
                return Some(start + first..start + last + 1);
            }
        }
        None
    }

    /// Whether the record that ends at `end` was ended by a line feed, and not by the end of the bytes.
    pub(crate) fn is_complete(&self, end: usize) -> bool {
        memchr::memchr(b'\n', &self.bytes[end..]).is_some()
    }
}

/// Takes an object's fields as they come.
pub(crate) trait KeySink<'a> {
    /// What to call the value; `None` passes over it.
    fn key(&mut self, key: &str) -> Option<usize>;
    /// The value's JSON text. Of a key that an object has twice, the last value counts.
    fn value(&mut self, slot: usize, json: &'a str);
}

/// Reads one object. Every byte of the record is checked to be JSON, also where no one wants the value.
pub(crate) fn scan_object<'a>(record: &'a [u8], sink: &mut impl KeySink<'a>) -> Result<(), String> {
    let mut deserializer = serde_json::Deserializer::from_slice(record);
    let result = deserializer.deserialize_map(ObjectVisitor(sink)).and_then(|()| deserializer.end());
    result.map_err(|error| {
        let text = error.to_string();
        // The record is one line, so the parser's line number would only mislead.
        let reason = text.rsplit_once(" at line ").map_or(text.as_str(), |(reason, _)| reason);
        let reason: String = reason.chars().take(REASON_CHARS_MAX).collect();
        format!("{reason} at byte {}", error.column())
    })
}

struct ObjectVisitor<'s, S>(&'s mut S);

impl<'a, S: KeySink<'a>> Visitor<'a> for ObjectVisitor<'_, S> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(slot) = map.next_key_seed(KeySeed(self.0))? {
            match slot {
                Some(slot) => self.0.value(slot, map.next_value::<&'a RawValue>()?.get()),
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

struct KeySeed<'s, S>(&'s mut S);

impl<'a, S: KeySink<'a>> DeserializeSeed<'a> for KeySeed<'_, S> {
    type Value = Option<usize>;

    fn deserialize<D: serde::Deserializer<'a>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'a, S: KeySink<'a>> Visitor<'a> for KeySeed<'_, S> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.key(key))
    }
}

#[cfg(test)]
mod tests {
    use super::{JsonCursor, KeySink, scan_object};
    use proptest::prelude::{any, prop_assert_eq, proptest};

    #[derive(Default)]
    struct Collect(Vec<String>, Vec<String>);

    impl<'a> KeySink<'a> for Collect {
        fn key(&mut self, key: &str) -> Option<usize> {
            self.0.push(key.to_string());
            (!key.starts_with('_')).then_some(self.0.len())
        }
        fn value(&mut self, slot: usize, json: &'a str) {
            self.1.push(format!("{slot}:{json}"));
        }
    }

    #[test]
    fn values_come_as_their_json_text() {
        let mut sink = Collect::default();
        scan_object(br#" {"a": 1.50 ,"\u0062":"x\"y","_c":[1,{}],"d":{"e":[]}, "f":-0} "#, &mut sink).unwrap();
        assert_eq!(sink.0, ["a", "b", "_c", "d", "f"]);
        assert_eq!(sink.1, ["1:1.50", r#"2:"x\"y""#, r#"4:{"e":[]}"#, "5:-0"]);
    }

    #[test]
    fn what_is_no_object_is_an_error() {
        let reason = |text: &[u8]| scan_object(text, &mut Collect::default()).unwrap_err();
        assert!(reason(b"[1]").contains("expected a JSON object"), "{}", reason(b"[1]"));
        assert_eq!(reason(br#"{"a":1"#), "EOF while parsing an object at byte 6");
        assert!(reason(br#"{"a":1} {}"#).starts_with("trailing characters"));
        assert!(reason(b"{\"a\":\"\xff\"}").contains("unicode"));
        assert!(reason(b"{\"a\":01}").len() < 100);
        let long = format!("\"{}\"", "x".repeat(100_000));
        assert!(reason(long.as_bytes()).len() < 300);
    }

    #[test]
    fn deep_nesting_is_no_recursion() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(300_000), "]".repeat(300_000));
        let mut sink = Collect::default();
        scan_object(deep.as_bytes(), &mut sink).unwrap();
        let unwanted = deep.replacen("\"a\"", "\"_\"", 1);
        scan_object(unwanted.as_bytes(), &mut sink).unwrap();
        assert_eq!(sink.1.len(), 1);
    }

    #[test]
    fn blank_lines_are_no_records() {
        let bytes = b"\n \t\r\n {\"a\":1} \r\n\n{}";
        let mut cursor = JsonCursor::new(bytes);
        let mut records = Vec::new();
        while let Some(range) = cursor.next_record() {
            records.push((&bytes[range.clone()], cursor.is_complete(range.end)));
        }
        assert_eq!(records, [(&b"{\"a\":1}"[..], true), (&b"{}"[..], false)]);
    }

    proptest! {
        #[test]
        fn no_record_panics_and_valid_ones_are_taken(bytes in proptest::collection::vec(any::<u8>(), 0..40), soup in r#"[{}",:a1\[\]\\]{0,12}"#) {
            let _ = scan_object(&bytes, &mut Collect::default());
            let object = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&soup);
            prop_assert_eq!(scan_object(soup.as_bytes(), &mut Collect::default()).is_ok(), object.is_ok());
        }
    }
}
