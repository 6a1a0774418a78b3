use super::TableReader;
use crate::BLOCK_ROWS;
use crate::block::{Block, Column};
use crate::spec::{ColumnType, RowFormat, TableColumn, TableFormat, TableSchema};
use crate::table::{InferOptions, RECORD_BYTES_MAX, RecordIndexer, STRING_CELL_BYTES_MAX, infer_bytes};
use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

/// A schema from `name:type ...`.
fn schema(format: TableFormat, columns: &str) -> TableSchema {
    let column = |text: &str| {
        let (name, ty) = text.split_once(':').unwrap();
        let ty = match ty {
            "int" => ColumnType::Int,
            "float" => ColumnType::Float,
            "boolean" => ColumnType::Boolean,
            _ => ColumnType::String,
        };
        TableColumn { name: name.to_string(), variable: name.to_string(), ty }
    };
    TableSchema { format, delimiter: b',', columns: columns.split(' ').map(column).collect(), arrow: None }
}

/// The first block, and the records' texts.
fn read(schema: &TableSchema, wanted: &[usize], bytes: &[u8]) -> (Block, Vec<Vec<u8>>) {
    let (mut block, mut records) = (Block::default(), Vec::new());
    let rows = TableReader::new(schema, wanted, bytes, 0).unwrap().next_block(&mut block, &mut records).unwrap();
    assert_eq!((rows, rows), (block.len, records.len()));
    for (column, nulls) in block.columns.iter().zip(&block.nulls) {
        assert_eq!(column.len(), rows);
        assert!(nulls.as_ref().is_none_or(|nulls| nulls.len() == rows));
    }
    (block, records.into_iter().map(|range| bytes[range].to_vec()).collect())
}

fn faults(block: &Block) -> Vec<(u64, &str)> {
    block.bad_rows.iter().map(|bad| (bad.row, bad.code.as_str())).collect()
}

fn messages(block: &Block) -> Vec<&str> {
    block.bad_rows.iter().map(|bad| bad.message.as_str()).collect()
}

#[test]
fn wanted_columns_come_in_the_order_asked_for() {
    let schema = schema(TableFormat::Csv, "i:int f:float b:boolean s:string");
    let (block, records) = read(&schema, &[3, 0], b"1,2.5,true,\"a \"\"b\"\"\"\r\n-7,nan,false, c\n\n,,,\"\"\n");
    assert_eq!(block.columns[0], Column::String(vec!["a \"b\"".into(), " c".into(), String::new()]));
    assert_eq!(block.columns[1], Column::Int(vec![1, -7, 0]));
    assert_eq!(block.nulls, [Some(vec![false, false, true]), Some(vec![false, false, true])]);
    assert!(block.bad_rows.is_empty());
    assert_eq!(records, [&b"1,2.5,true,\"a \"\"b\"\"\""[..], b"-7,nan,false, c", b",,,\"\""]);
    let (block, _) = read(&schema, &[2, 1], b"1, 2.5 , true,x\n");
    assert_eq!(block.columns, [Column::Boolean(vec![true]), Column::Float(vec![2.5])]);
    assert_eq!(block.nulls, [None, None]);
    let (block, records) = read(&schema, &[], b"1,2,true,x\n");
    assert_eq!((block.len, block.columns.len(), records.len()), (1, 0, 1));
}

#[test]
fn cells_that_do_not_fit_name_row_column_and_types() {
    let schema = schema(TableFormat::Csv, "i:int f:float b:boolean");
    let text = "1.5,1,true\n007,1,true\nabc,x,maybe\n1,1e400,true\n1,1,1\n";
    let (block, records) = read(&schema, &[0, 1, 2], text.as_bytes());
    assert_eq!(records.len(), 5);
    assert_eq!(
        messages(&block),
        [
            "row 1: column \"i\" holds \"1.5\", which is no int; --types i=float reads it",
            "row 2: column \"i\" holds \"007\", which is no int; --types i=string reads it",
            "row 3: column \"i\" holds \"abc\", which is no int; --types i=string reads it",
            "row 4: column \"f\" holds \"1e400\", which is no float; --types f=string reads it",
            "row 5: column \"b\" holds \"1\", which is no boolean; --types b=string reads it",
        ]
    );
    assert!(faults(&block).iter().all(|(_, code)| *code == "cell_type"));
    // Only what a formula reads can fail it.
    assert!(read(&schema, &[], text.as_bytes()).0.bad_rows.is_empty());
}

#[test]
fn rows_of_another_width_are_bad_whatever_is_wanted() {
    let schema = schema(TableFormat::Csv, "a:int b:int");
    for wanted in [&[][..], &[0], &[1, 0]] {
        let (block, _) = read(&schema, wanted, b"1\n1,2\n1,2,3\nx\n\"1\",\"2\n3,4");
        let expected = [(0, "missing_cell"), (2, "extra_cells"), (3, "missing_cell"), (4, "unclosed_quote")];
        assert_eq!(faults(&block), expected, "{wanted:?}");
    }
    let (block, _) = read(&schema, &[0], b"1\n1,2,3\n");
    assert_eq!(
        messages(&block),
        [
            "row 1: it has 1 of 2 fields; an empty cell needs its delimiter too",
            "row 2: it has 3 fields, but the header has 2; quote delimiters in cells",
        ]
    );
}

#[test]
fn text_must_be_utf8_and_short_where_it_is_read() {
    let schema = schema(TableFormat::Csv, "a:string b:int");
    let mut bytes = b"caf\xe9,1\n".to_vec();
    bytes.extend(vec![b'x'; STRING_CELL_BYTES_MAX]);
    bytes.extend(b",1\n");
    bytes.extend(vec![b'x'; STRING_CELL_BYTES_MAX + 1]);
    bytes.extend(b",1\n");
    let (block, _) = read(&schema, &[0], &bytes);
    assert_eq!(faults(&block), [(0, "invalid_utf8"), (2, "cell_too_long")]);
    assert_eq!(
        messages(&block),
        [
            "row 1: column \"a\" holds \"caf\u{fffd}\", which is not UTF-8; convert the file first",
            "row 3: column \"a\" holds 32769 bytes of text; a formula reads at most 32768",
        ]
    );
    assert!(read(&schema, &[1], &bytes).0.bad_rows.is_empty());
}

#[test]
fn blocks_follow_each_other_and_buffers_are_used_again() {
    let schema = schema(TableFormat::Csv, "i:int s:string");
    let rows = BLOCK_ROWS + 10;
    let text: String = (0..rows)
        .map(|row| if row == 4100 { ",\n".to_string() } else { format!("{row},{}\n", "s".repeat(row as usize % 400)) })
        .collect();
    let mut reader = TableReader::new(&schema, &[0, 1], text.as_bytes(), 3 * BLOCK_ROWS).unwrap();
    let (mut block, mut records) = (Block::default(), Vec::new());
    assert_eq!(reader.next_block(&mut block, &mut records).unwrap(), 4096);
    assert_eq!((block.first_row, block.columns[0].len(), &block.nulls[0]), (3 * BLOCK_ROWS, 4096, &None));
    assert_eq!(reader.next_block(&mut block, &mut records).unwrap(), 10);
    assert_eq!((block.first_row, records.len()), (4 * BLOCK_ROWS, 10));
    assert_eq!(block.columns[0], Column::Int((4096..4106).map(|i| if i == 4100 { 0 } else { i }).collect()));
    let strings: Vec<String> =
        (4096..4106).map(|i| if i == 4100 { String::new() } else { "s".repeat(i % 400) }).collect();
    assert_eq!(block.columns[1], Column::String(strings));
    assert_eq!(block.nulls[0], Some((4096..4106).map(|i| i == 4100).collect()));
    assert_eq!(reader.next_block(&mut block, &mut records).unwrap(), 0);
    assert_eq!((block.len, records.len(), block.columns[1].len()), (0, 0, 0));
}

#[test]
fn a_byte_order_mark_within_a_shard_is_text() {
    let (block, records) = read(&schema(TableFormat::Csv, "s:string"), &[0], "\u{feff}x\n".as_bytes());
    assert_eq!(block.columns[0], Column::String(vec!["\u{feff}x".into()]));
    assert_eq!(records, ["\u{feff}x".as_bytes()]);
}

#[test]
fn json_values_are_read_by_key() {
    let schema = schema(TableFormat::Ndjson, "i:int f:float b:boolean s:string");
    let text = r#" {"s":"a\n\u00e9","f":1,"i":-5,"b":false,"new":[{}]}
{}
{"i":null,"f":"NaN","s":"","b":"true"}

{"i":"7","i":8,"s":1.50,"f":"-inf"}"#;
    let (block, records) = read(&schema, &[0, 1, 2, 3], text.as_bytes());
    assert_eq!(messages(&block), Vec::<&str>::new());
    assert_eq!(block.columns[0], Column::Int(vec![-5, 0, 0, 8]));
    let Column::Float(floats) = &block.columns[1] else { panic!("no floats") };
    assert!(floats[0] == 1.0 && floats[2].is_nan() && floats[3] == f64::NEG_INFINITY);
    assert_eq!(block.columns[2], Column::Boolean(vec![false, false, true, false]));
    assert_eq!(block.columns[3], Column::String(vec!["a\né".into(), String::new(), String::new(), "1.50".into()]));
    assert_eq!(
        block.nulls,
        [
            Some(vec![false, true, true, false]),
            Some(vec![false, true, false, false]),
            Some(vec![false, true, false, true]),
            // Empty text is no null: JSON has null for that.
            Some(vec![false, true, false, false]),
        ]
    );
    assert_eq!(records.len(), 4);
    assert_eq!(records[1], b"{}");
}

#[test]
fn json_that_does_not_fit_is_named() {
    let schema = schema(TableFormat::Ndjson, "i:int s:string");
    let lines = [
        r#"{"i":1.0}"#,
        r#"{"i":true}"#,
        r#"{"i":""}"#,
        r#"{"i":[1]}"#,
        r#"{"s":{"a":1}}"#,
        r#"{"s":"\ud800"}"#,
        r#"{"i":1"#,
        "[1]",
        r#"{"i":1} x"#,
    ];
    let (block, _) = read(&schema, &[0, 1], lines.join("\n").as_bytes());
    assert_eq!(
        messages(&block)[..6],
        [
            "row 1: column \"i\" holds \"1.0\", which is no int; --types i=float reads it",
            "row 2: column \"i\" holds \"true\", which is no int; --types i=string reads it",
            "row 3: column \"i\" holds \"\", which is no int; --types i=string reads it",
            "row 4: column \"i\" holds an array, which a formula can't read",
            "row 5: column \"s\" holds an object, which a formula can't read",
            "row 6: column \"s\" holds text with half a surrogate pair",
        ]
    );
    assert_eq!(faults(&block)[6..], [(6, "bad_record"), (7, "bad_record"), (8, "bad_record")]);
    assert_eq!(messages(&block)[6], "row 7: it is no JSON object: EOF while parsing an object at byte 6");
}

#[test]
fn keys_that_spoil_the_output_are_bad_rows() {
    let schema = schema(TableFormat::Ndjson, "i:int");
    let text = b"{\"i\":1}\n{\"i\":1,\"z\":2}\n{\"result\":1}\n";
    let read = |format| {
        let reader = TableReader::new(&schema, &[0], text, 0).unwrap();
        let mut block = Block::default();
        reader.for_output(format, "result").next_block(&mut block, &mut Vec::new()).unwrap();
        faults(&block).iter().map(|(row, code)| format!("{row} {code}")).collect::<Vec<_>>()
    };
    assert_eq!(read(RowFormat::Csv), ["1 new_key", "2 new_key"]);
    assert_eq!(read(RowFormat::Ndjson), ["2 name_taken"]);
    assert_eq!(read(RowFormat::Plain), Vec::<String>::new());
}

#[test]
fn readers_that_make_no_sense_are_refused() {
    let schema = schema(TableFormat::Csv, "a:int b:int");
    assert!(TableReader::new(&schema, &[0], b"", 1).is_err());
    assert!(TableReader::new(&schema, &[2], b"", 0).is_err());
    assert!(TableReader::new(&schema, &[1, 1], b"", 0).is_err());
    let schema = TableSchema { delimiter: b'\n', ..schema };
    assert!(TableReader::new(&schema, &[0], b"", 0).is_err());
}

#[test]
fn records_that_grew_after_indexing_are_refused() {
    let schema = schema(TableFormat::Csv, "a:string");
    let mut bytes = b"x\n".to_vec();
    bytes.extend(vec![b'y'; RECORD_BYTES_MAX as usize + 1]);
    let mut reader = TableReader::new(&schema, &[0], &bytes, 0).unwrap();
    let error = reader.next_block(&mut Block::default(), &mut Vec::new()).unwrap_err().to_string();
    assert!(error.starts_with("row 2, which begins at line 2, is longer"), "{error}");
}

/// Rows of the whole file, and of its shards as the indexer cuts them.
fn check_shards(text: &[u8], schema: &TableSchema, cut_rows: u64) {
    let mut indexer = RecordIndexer::new(schema).unwrap();
    indexer.push(text).unwrap();
    let index = indexer.finish().unwrap();
    let wanted: Vec<usize> = (0..schema.columns.len()).collect();
    let (mut row, mut records_seen) = (0, Vec::new());
    while row < index.records {
        let rows = cut_rows.min(index.records - row);
        let range = index.range(row, rows).unwrap();
        let bytes = &text[range.start as usize..range.end as usize];
        let mut reader = TableReader::new(schema, &wanted, bytes, row).unwrap();
        let (mut block, mut records) = (Block::default(), Vec::new());
        let mut seen = 0;
        while reader.next_block(&mut block, &mut records).unwrap() > 0 {
            seen += block.len as u64;
            records_seen.extend(records.iter().map(|range| bytes[range.clone()].to_vec()));
        }
        assert_eq!(seen, rows);
        row += rows;
    }
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(text);
    let mut expected = reader.byte_records().map(Result::unwrap);
    for record in records_seen {
        let mut again = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(&record[..]);
        let again = again.byte_records().next().unwrap().unwrap();
        assert_eq!(expected.next().unwrap(), again);
    }
    assert!(expected.next().is_none());
}

#[test]
fn shards_hold_the_records_of_the_file() {
    let fragments = ["a,b\n", "\"x\ny\",\"\"\"\"\r\n", "\r1\"2,3\n\n", "\"p\"q\",r\r", "\"\n\",\n"];
    let text: String = (0..12_500).map(|i| fragments[(i * 7 + i / 11) % fragments.len()]).collect();
    let schema = schema(TableFormat::Csv, "a:string b:string");
    check_shards(text.as_bytes(), &schema, BLOCK_ROWS);
    check_shards(text.as_bytes(), &schema, 2 * BLOCK_ROWS);
}

proptest! {
    #[test]
    fn what_inference_saw_is_read_without_faults(text in "[a-c],[ab]\n([-0-9.,e \"nt]{0,8}\n){0,8}") {
        let inferred = infer_bytes(text.as_bytes(), true, InferOptions::default()).unwrap();
        let wanted: Vec<usize> = (0..inferred.schema.columns.len()).collect();
        let mut indexer = RecordIndexer::new(&inferred.schema).unwrap();
        indexer.push(text.as_bytes()).unwrap();
        let index = indexer.finish().unwrap();
        prop_assert_eq!(index.records, inferred.rows_seen);
        if let Some(range) = index.range(0, index.records) {
            let bytes = &text.as_bytes()[range.start as usize..range.end as usize];
            let (block, _) = read(&inferred.schema, &wanted, bytes);
            prop_assert_eq!(block.len as u64, inferred.rows_seen);
            prop_assert!(block.bad_rows.iter().all(|bad| bad.code != "cell_type"), "{:?}", block.bad_rows);
        }
    }

    #[test]
    fn json_that_inference_saw_is_read_without_faults(
        values in proptest::collection::vec(("[ab]", "-?[0-9]{1,20}(\\.[0-9]{1,3})?(e[0-9]{1,3})?|true|null|\"[0-9a]{0,3}\"|\"NaN\""), 1..8)
    ) {
        let text: String = values.iter().map(|(key, value)| format!("{{\"{key}\":{value}}}\n")).collect();
        let options = InferOptions { format: TableFormat::Ndjson, delimiter: b',' };
        if let Ok(inferred) = infer_bytes(text.as_bytes(), true, options) {
            let wanted: Vec<usize> = (0..inferred.schema.columns.len()).collect();
            let (block, _) = read(&inferred.schema, &wanted, text.as_bytes());
            prop_assert!(block.bad_rows.iter().all(|bad| bad.code == "bad_record"), "{:?}", block.bad_rows);
        }
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        for format in [TableFormat::Csv, TableFormat::Ndjson] {
            read(&schema(format, "a:int b:string c:float"), &[1, 0, 2], &bytes);
        }
    }
}
