use super::{RecordIndex, RecordIndexer};
use crate::BLOCK_ROWS;
use crate::spec::TableFormat;
use crate::table::{RECORD_BYTES_MAX, TableError};
use proptest::prelude::{ProptestConfig, any, prop_assert_eq, prop_oneof, proptest};
use proptest::strategy::{Just, Strategy};

fn index_in(format: TableFormat, pieces: &[&[u8]]) -> Result<RecordIndex, TableError> {
    let mut indexer = RecordIndexer::with_format(format, b',')?;
    for piece in pieces {
        indexer.push(piece)?;
    }
    indexer.finish()
}

/// What the csv crate says: where each record but the first begins.
fn csv_crate(bytes: &[u8]) -> Vec<u64> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(bytes);
    let mut starts = Vec::new();
    let mut record = csv::ByteRecord::new();
    while reader.read_byte_record(&mut record).unwrap() {
        // The crate's position is where it began to look, which may be before blank lines and the mark.
        let mut start = record.position().unwrap().byte() as usize;
        if start == 0 && bytes.starts_with(b"\xef\xbb\xbf") {
            start = 3;
        }
        start += bytes[start..].iter().take_while(|byte| matches!(byte, b'\n' | b'\r')).count();
        starts.push(start as u64);
    }
    starts.into_iter().skip(1).collect()
}

/// Splits bytes at places drawn from `cuts`.
fn pieces<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut rest = bytes;
    let mut pieces = Vec::new();
    for cut in cuts {
        let (piece, tail) = rest.split_at(cut % (rest.len() + 1));
        pieces.push(piece);
        rest = tail;
    }
    pieces.push(rest);
    pieces
}

#[test]
fn blocks_begin_where_their_first_records_do() {
    let mut text = String::from("\u{feff}a,b\r\n\r\n");
    let mut starts = Vec::new();
    let rows = 2 * BLOCK_ROWS + 5;
    for row in 0..rows {
        if row % BLOCK_ROWS == 0 {
            starts.push(text.len() as u64);
        }
        text.push_str(&format!("{row},\"x\n\"\"{row}\"\r\n"));
        if row % 7 == 0 {
            text.push('\n');
            // A blank line before a block belongs to the block before.
        }
    }
    let bytes = text.as_bytes();
    // Blank lines move the starts of later records only.
    let expected: Vec<u64> = starts
        .iter()
        .map(|start| {
            let start = *start as usize;
            (start + bytes[start..].iter().take_while(|byte| matches!(byte, b'\n' | b'\r')).count()) as u64
        })
        .collect();
    let whole = index_in(TableFormat::Csv, &[bytes]).unwrap();
    assert_eq!(whole, RecordIndex { blocks: expected, records: rows, bytes: bytes.len() as u64 });
    let bytewise: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(index_in(TableFormat::Csv, &bytewise).unwrap(), whole);

    assert_eq!(whole.range(0, BLOCK_ROWS), Some(whole.blocks[0]..whole.blocks[1]));
    assert_eq!(whole.range(BLOCK_ROWS, BLOCK_ROWS + 5), Some(whole.blocks[1]..whole.bytes));
    assert_eq!(whole.range(0, rows), Some(whole.blocks[0]..whole.bytes));
    for (first, rows) in [(1, BLOCK_ROWS), (0, 5), (0, 0), (0, rows + 1), (3 * BLOCK_ROWS, 1), (0, u64::MAX)] {
        assert_eq!(whole.range(first, rows), None, "{first} {rows}");
    }
}

#[test]
fn blocks_are_known_before_the_file_ends() {
    let mut indexer = RecordIndexer::with_format(TableFormat::Ndjson, b',').unwrap();
    indexer.push("{}\n".repeat(4096).as_bytes()).unwrap();
    assert_eq!(indexer.offsets(), [0]);
    indexer.push(b" \n{").unwrap();
    assert_eq!((indexer.offsets(), indexer.records()), (&[0, 3 * 4096 + 2][..], 4097));
}

#[test]
fn files_without_rows_have_no_blocks() {
    for text in ["", "a,b", "a,b\n", "\n\n", "\u{feff}", "\u{feff}a\n\n"] {
        let index = index_in(TableFormat::Csv, &[text.as_bytes()]).unwrap();
        assert_eq!((index.records, index.blocks.len()), (0, 0), "{text:?}");
        assert_eq!(index.range(0, 0), None);
    }
    assert_eq!(index_in(TableFormat::Ndjson, &[b"\xef\xbb", b"\xbf \r\n"]).unwrap().records, 0);
}

#[test]
fn half_a_byte_order_mark_is_text() {
    assert_eq!(index_in(TableFormat::Csv, &[b"\xef", b"\xbb\n1\n"]).unwrap().blocks, [3]);
    assert_eq!(index_in(TableFormat::Csv, &[b"\xef", b"\xbb"]).unwrap().records, 0);
    assert_eq!(index_in(TableFormat::Ndjson, &[b"\xef"]).unwrap().records, 1);
}

#[test]
fn records_over_the_limit_are_named() {
    let long = vec![b'x'; RECORD_BYTES_MAX as usize];
    let error = index_in(TableFormat::Csv, &[b"a\n1\n\"2\n\n\"\n\"open\n", &long]).unwrap_err().to_string();
    assert_eq!(
        error,
        "row 3, which begins at line 6, is longer than 16777216 bytes; a quote is opened and never closed"
    );
    let many = format!("a\n{}\"open\n", "\"x\n\",1\r\n\n".repeat(5000));
    let error = index_in(TableFormat::Csv, &[many.as_bytes(), &long]).unwrap_err().to_string();
    assert!(error.starts_with("row 5001, which begins at line 15002, is longer"), "{error}");
    let error = index_in(TableFormat::Csv, &[b"\n", &long, b"y\n1\n"]).unwrap_err().to_string();
    assert!(error.starts_with("the header, which begins at line 2, is longer"), "{error}");
    assert!(index_in(TableFormat::Csv, &[&long, b"\n1\n"]).is_ok());
    assert!(
        index_in(TableFormat::Ndjson, &[b"{}\n", &long, b"x"]).unwrap_err().to_string().starts_with("row 2, which")
    );
}

#[test]
fn blocks_over_the_limit_are_named() {
    let mut line = vec![b'x'; RECORD_BYTES_MAX as usize - 1];
    line.push(b'\n');
    let mut indexer = RecordIndexer::with_format(TableFormat::Csv, b',').unwrap();
    indexer.push(b"a\n").unwrap();
    let error = (0..20).find_map(|_| indexer.push(&line).err()).unwrap().to_string();
    assert!(error.starts_with("rows 1 to 17 take more than 268435456 bytes"), "{error}");
}

#[test]
fn delimiters_that_mean_something_else_are_refused() {
    for delimiter in [b'"', b'\n', b'\r', 0, 0xe9] {
        assert!(RecordIndexer::with_format(TableFormat::Csv, delimiter).is_err());
    }
}

fn soup() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        8 => "[\",\r\nab]{0,12}".prop_map(String::into_bytes),
        1 => Just(b"\xef\xbb\xbf".to_vec()),
        1 => Just(b"\xef\xbb".to_vec()),
        2 => Just(b"\"\"".to_vec()),
        2 => Just(b"\r\n".to_vec()),
        1 => "[a-z]{20,70}".prop_map(String::into_bytes),
    ];
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn records_are_what_the_csv_crate_says(text in soup(), cuts in proptest::collection::vec(any::<usize>(), 0..6)) {
        let expected = csv_crate(&text);
        let index = index_in(TableFormat::Csv, &pieces(&text, &cuts)).unwrap();
        prop_assert_eq!(index.records, expected.len() as u64);
        prop_assert_eq!(index.blocks.first(), expected.first());
        prop_assert_eq!(index.bytes, text.len() as u64);
    }

    #[test]
    fn json_lines_are_lines_that_hold_anything(text in "[ \t\r\n{}a]{0,60}", cuts in proptest::collection::vec(any::<usize>(), 0..6)) {
        let blank = |line: &str| line.chars().all(|c| matches!(c, ' ' | '\t' | '\r'));
        let records = text.split('\n').filter(|line| !blank(line)).count() as u64;
        let index = index_in(TableFormat::Ndjson, &pieces(text.as_bytes(), &cuts)).unwrap();
        prop_assert_eq!(index.records, records);
        let first = text.find(|c: char| !matches!(c, ' ' | '\t' | '\r' | '\n')).map(|start| start as u64);
        prop_assert_eq!(index.blocks.first().copied(), first);
    }
}

/// With blocks of one header and many short records, every block's start must agree, not only the first.
#[test]
fn every_block_start_is_what_the_csv_crate_says() {
    let fragments = ["a,b\n", "\"x\ny\",\"\"\"\"\r\n", "\r1\"2,3\n\n", "\"p\"q\",r\r", "\"\n\",\n"];
    let text: String = (0..9_000).map(|i| fragments[(i * 7 + i / 11) % fragments.len()]).collect();
    let expected: Vec<u64> = csv_crate(text.as_bytes()).into_iter().step_by(BLOCK_ROWS as usize).collect();
    let chunks: Vec<&[u8]> = text.as_bytes().chunks(4093).collect();
    assert_eq!(index_in(TableFormat::Csv, &chunks).unwrap().blocks, expected);
    assert!(expected.len() > 2);
}
