//! CSV records of bytes that are in memory.

use super::scan::{BLOCK, Marks, State, WINDOW, scan};
use std::borrow::Cow;
use std::ops::Range;

/// One field of a record, as bytes of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Field {
    start: usize,
    end: usize,
}

impl Field {
    /// The field as it stands in the bytes.
    pub(crate) fn raw(self, bytes: &[u8]) -> &[u8] {
        bytes.get(self.start..self.end).unwrap_or_default()
    }

    /// What the field says: without its quotes, doubled quotes made single.
    pub(crate) fn text(self, bytes: &[u8]) -> Cow<'_, [u8]> {
        match self.raw(bytes) {
            [b'"', rest @ ..] => unquote(rest),
            raw => Cow::Borrowed(raw),
        }
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
    delimiter: u8,
    /// Where the next record is looked for.
    position: usize,
    marks: Marks,
    /// First byte that is not scanned, and the state there.
    scanned: usize,
    state: State,
    /// Word of the marks at hand: its number, the byte that its lowest bit stands for, and the bits that are left.
    word: usize,
    base: usize,
    left: u64,
}

impl<'a> CsvCursor<'a> {
    /// Begins at the first byte.
    pub(crate) fn new(bytes: &'a [u8], delimiter: u8) -> Self {
        let (marks, state) = (Marks::NONE, State::Open);
        Self { bytes, delimiter, position: 0, marks, scanned: 0, state, word: 0, base: 0, left: 0 }
    }

    /// The next record; its first `fields_max` fields replace what `fields` held.
    pub(crate) fn next_record(&mut self, fields: &mut Vec<Field>, fields_max: usize) -> Option<CsvRecord> {
        fields.clear();
        let (mut record_start, mut start, mut count) = (self.position, self.position, 0_usize);
        loop {
            while self.left == 0 {
                if !self.next_word() {
                    let end = self.bytes.len();
                    self.position = end;
                    if start == end && count == 0 {
                        return None;
                    }
                    if count < fields_max {
                        fields.push(Field { start, end });
                    }
                    let unclosed = self.state == State::Quoted;
                    return Some(CsvRecord { range: record_start..end, fields: count + 1, unclosed });
                }
            }
            let at = self.base + self.left.trailing_zeros() as usize;
            self.left &= self.left.wrapping_sub(1);
            let is_end = matches!(self.bytes.get(at), Some(b'\n' | b'\r'));
            if is_end && at == record_start {
                // A blank line, or the second half of a line end.
                (record_start, start) = (at + 1, at + 1);
                continue;
            }
            if count < fields_max {
                fields.push(Field { start, end: at });
            }
            count += 1;
            start = at + 1;
            if is_end {
                self.position = start;
                return Some(CsvRecord { range: record_start..at, fields: count, unclosed: false });
            }
        }
    }

    /// Goes to the next word of marks; false at the end.
    fn next_word(&mut self) -> bool {
        self.word += 1;
        self.base += BLOCK;
        if self.base >= self.scanned {
            let from = self.scanned;
            let end = self.bytes.len().min(from + WINDOW);
            if from == end {
                return false;
            }
            self.state = scan(&self.bytes[from..end], self.delimiter, self.state, &mut self.marks);
            (self.word, self.base, self.scanned) = (0, from, end);
        }
        self.left = self.marks.delimiters[self.word] | self.marks.ends[self.word];
        true
    }
}

#[cfg(test)]
mod tests {
    use super::CsvCursor;
    use proptest::prelude::{prop_assert_eq, proptest};

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
        fn soups_are_what_the_csv_crate_says(text in "[\",\r\nab;\t|]{0,200}", delimiter in proptest::sample::select(b",;\t| b".to_vec())) {
            // Repeated, a record crosses the edge of a window of the scanner.
            for text in [&text, &text.repeat(40)] {
                prop_assert_eq!(ours(text.as_bytes(), delimiter), csv_crate(text.as_bytes(), delimiter));
            }
        }

        #[test]
        fn tables_are_what_the_csv_crate_says(
            records in proptest::collection::vec("([a1]{0,9},|\"([a,\n]|\"\"){0,40}\",){0,4}([a1]{0,70}|\"[a,\r\n]{0,9}\"|\"a\"b\"|a\"b)\r?\n", 0..60)
        ) {
            let text = records.concat();
            prop_assert_eq!(ours(text.as_bytes(), b','), csv_crate(text.as_bytes(), b','));
        }
    }
}
