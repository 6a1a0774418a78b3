//! CSV records of bytes that are in memory.

use std::borrow::Cow;
use std::ops::Range;

/// One field of a record, as bytes of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Field {
    start: usize,
    end: usize,
    quoted: bool,
}

impl Field {
    /// What the field says: without its quotes, doubled quotes made single.
    pub(crate) fn text<'a>(&self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        let raw = &bytes[self.start..self.end];
        if self.quoted { unquote(&raw[1..]) } else { Cow::Borrowed(raw) }
    }
}

/// The text after an opening quote. What follows the closing quote belongs to the field as it stands.
fn unquote(rest: &[u8]) -> Cow<'_, [u8]> {
    let Some(first) = memchr::memchr(b'"', rest) else { return Cow::Borrowed(rest) };
    if first + 1 == rest.len() {
        return Cow::Borrowed(&rest[..first]);
    }
    let mut text = Vec::with_capacity(rest.len());
    let mut rest = rest;
    while let Some(quote) = memchr::memchr(b'"', rest) {
        text.extend_from_slice(&rest[..quote]);
        rest = &rest[quote + 1..];
        if rest.first() != Some(&b'"') {
            break;
        }
        text.push(b'"');
        rest = &rest[1..];
    }
    text.extend_from_slice(rest);
    Cow::Owned(text)
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CsvRecord {
    /// Its bytes, without the line end.
    pub(crate) range: Range<usize>,
    /// How many fields it has.
    pub(crate) fields: usize,
    /// Whether the bytes ended within quotes.
    pub(crate) unclosed: bool,
}

/// Goes through the records of a CSV file or of a part of it that begins with a record.
#[derive(Debug)]
pub(crate) struct CsvCursor<'a> {
    bytes: &'a [u8],
    position: usize,
    /// Bytes that end a field which is not quoted.
    ends: [bool; 256],
}

impl<'a> CsvCursor<'a> {
    /// Begins at the first byte.
    pub(crate) fn new(bytes: &'a [u8], delimiter: u8) -> Self {
        let mut ends = [false; 256];
        for end in [delimiter, b'\n', b'\r'] {
            ends[usize::from(end)] = true;
        }
        Self { bytes, position: 0, ends }
    }

    /// The next record; its first `fields_max` fields replace what `fields` held.
    pub(crate) fn next_record(&mut self, fields: &mut Vec<Field>, fields_max: usize) -> Option<CsvRecord> {
        fields.clear();
        let bytes = self.bytes;
        let blank_lines = bytes[self.position..].iter().position(|byte| !matches!(byte, b'\n' | b'\r'))?;
        let record_start = self.position + blank_lines;
        let mut start = record_start;
        let mut count = 0;
        loop {
            let quoted = bytes.get(start) == Some(&b'"');
            let (plain, unclosed) = if quoted { self.after_quotes(start + 1) } else { (start, false) };
            let end = bytes[plain..]
                .iter()
                .position(|byte| self.ends[usize::from(*byte)])
                .map_or(bytes.len(), |length| plain + length);
            if count < fields_max {
                fields.push(Field { start, end, quoted });
            }
            count += 1;
            match bytes.get(end) {
                Some(b'\n' | b'\r') | None => {
                    self.position = end;
                    return Some(CsvRecord { range: record_start..end, fields: count, unclosed });
                }
                Some(_) => start = end + 1,
            }
        }
    }

    /// Where the quotes that were opened before `position` are closed, and whether the bytes ended first.
    fn after_quotes(&self, mut position: usize) -> (usize, bool) {
        while let Some(quote) = memchr::memchr(b'"', &self.bytes[position..]) {
            position += quote + 1;
            if self.bytes.get(position) != Some(&b'"') {
                return (position, false);
            }
            position += 1;
        }
        (self.bytes.len(), true)
    }
}

#[cfg(test)]
mod tests {
    use super::CsvCursor;
    use proptest::prelude::{any, prop_assert_eq, proptest};

    type Rows = Vec<Vec<Vec<u8>>>;

    fn ours(bytes: &[u8], delimiter: u8) -> Rows {
        let mut cursor = CsvCursor::new(bytes, delimiter);
        let (mut rows, mut fields) = (Vec::new(), Vec::new());
        while let Some(record) = cursor.next_record(&mut fields, usize::MAX) {
            assert_eq!(record.fields, fields.len());
            rows.push(fields.iter().map(|field| field.text(bytes).into_owned()).collect());
        }
        rows
    }

    fn csv_crate(bytes: &[u8], delimiter: u8) -> Rows {
        let mut reader =
            csv::ReaderBuilder::new().has_headers(false).flexible(true).delimiter(delimiter).from_reader(bytes);
        reader.byte_records().map(|record| record.unwrap().iter().map(<[u8]>::to_vec).collect()).collect()
    }

    #[test]
    fn odd_records_are_what_the_csv_crate_says() {
        for text in [
            "",
            "\n\r\n",
            "a",
            "a,b\nc\n",
            "a,",
            ",\n,",
            "\"a\"b,c",
            "\"a\"b\"c\",d",
            "\"a\"\"b\"",
            "a\"b\",c",
            "\"",
            "\"\"",
            "\"\"\"",
            "\"\"\"\"",
            "\"a\nb\r\"\r\n\rc",
            "a\rb\r\r\nc",
            "\"a,b\nc",
            "x,\"y",
            " \"a\",b",
            "\"a\" ,b",
        ] {
            assert_eq!(ours(text.as_bytes(), b','), csv_crate(text.as_bytes(), b','), "{text:?}");
        }
    }

    #[test]
    fn fields_beyond_the_limit_are_counted_only() {
        let (mut cursor, mut fields) = (CsvCursor::new(b"a,b,c,d", b','), Vec::new());
        assert_eq!(cursor.next_record(&mut fields, 2).unwrap().fields, 4);
        assert_eq!(fields.len(), 2);
    }

    #[test]
    fn only_quotes_that_the_bytes_end_in_are_unclosed() {
        let unclosed = |text: &'static str| {
            CsvCursor::new(text.as_bytes(), b',').next_record(&mut Vec::new(), 9).unwrap().unclosed
        };
        assert!(unclosed("a,\"b\nc,d"));
        assert!(unclosed("\"a\"\""));
        assert!(!unclosed("\"a\""));
        assert!(!unclosed("a\"b"));
    }

    proptest! {
        #[test]
        fn soups_are_what_the_csv_crate_says(text in "[\",\r\nab;]{0,60}", semicolon in any::<bool>()) {
            let delimiter = if semicolon { b';' } else { b',' };
            prop_assert_eq!(ours(text.as_bytes(), delimiter), csv_crate(text.as_bytes(), delimiter));
        }
    }
}
