use super::{InferOptions, Inferred, infer, infer_bytes};
use crate::spec::{ColumnType, TableFormat};
use crate::table::{COLUMNS_MAX, INFER_ROWS_MAX, NOTES_MAX, TableError, check_schema};
use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

fn csv(text: &str) -> Inferred {
    infer(text.as_bytes(), InferOptions::default()).unwrap()
}

fn json(text: &str) -> Inferred {
    infer(text.as_bytes(), InferOptions { format: TableFormat::Ndjson, delimiter: b',' }).unwrap()
}

/// `name:type` of each column.
fn columns(inferred: &Inferred) -> String {
    let column = |column: &crate::spec::TableColumn| format!("{}:{:?}", column.variable, column.ty).to_lowercase();
    inferred.schema.columns.iter().map(column).collect::<Vec<_>>().join(" ")
}

#[test]
fn types_are_what_all_cells_fit() {
    let inferred = csv("i,f,b,s,mixed,empty,zip\n1,1,true,x,1,,01234\n-2,2.5,false,y,z,  ,56789\n,,,,,,\n");
    assert_eq!(columns(&inferred), "i:int f:float b:boolean s:string mixed:string empty:string zip:string");
    assert_eq!(inferred.rows_seen, 3);
    assert_eq!(
        inferred.notes,
        [
            "column \"mixed\" is taken as string: 1 of 2 cells are numbers, but row 2 holds \"z\"",
            "column \"empty\" is empty so far and taken as string; --types empty=float reads numbers",
            "column \"zip\" is taken as string: 1 of 2 cells are numbers, but row 1 holds \"01234\"",
        ]
    );
}

#[test]
fn headers_are_read_through_marks_quotes_and_line_ends() {
    let inferred = csv("\u{feff}\r\n\"unit \"\"price\"\"\",x,x,,nan\r\n1,2,3,4,5\r\n");
    assert_eq!(columns(&inferred), "unit_price:int x:int x_2:int column_4:int _nan:int");
    let names: Vec<_> = inferred.schema.columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(names, ["unit \"price\"", "x", "x", "", "nan"]);
    assert_eq!(
        inferred.notes,
        [
            "column 1 \"unit \\\"price\\\"\": formulas call it unit_price",
            "column 3 \"x\": formulas call it x_2",
            "column 4 \"\": formulas call it column_4",
            "column 5 \"nan\": formulas call it _nan",
        ]
    );
    assert!(check_schema(&inferred.schema).is_ok());
}

#[test]
fn blanks_around_headers_and_numbers_do_not_count() {
    let inferred = csv("a, b\n1, 2\n3,\t4 \n");
    assert_eq!(columns(&inferred), "a:int b:int");
    assert_eq!(inferred.notes, Vec::<String>::new());
    assert_eq!(inferred.schema.columns[1].name, " b");
}

#[test]
fn numbers_that_floats_round_are_noted() {
    let note = |text: &str| csv(text).notes.concat();
    assert!(note("id\n99999999999999999999\n").contains("rounds whole numbers such as \"99999999999999999999\""));
    assert!(note("id\n9007199254740993\n0.5\n").contains("--types id=string"));
    assert_eq!(note("id\n9007199254740993\n"), "");
    assert_eq!(note("id\n1.5\n1e300\n-0\n9007199254740992\n"), "");
}

#[test]
fn ragged_rows_are_noted() {
    assert_eq!(csv("a,b\n1,2\n3\n4,5,6\n").notes, ["row 2 has 1 fields, but the header has 2; such rows fail"]);
}

#[test]
fn tables_without_rows_have_a_schema() {
    for text in ["a,b", "a,b\n", "a,b\r\n\r\n"] {
        let inferred = csv(text);
        assert_eq!((columns(&inferred).as_str(), inferred.rows_seen), ("a:string b:string", 0));
        assert!(inferred.notes.is_empty());
    }
}

#[test]
fn what_is_no_table_is_refused() {
    let error = |bytes: &[u8], format| infer(bytes, InferOptions { format, delimiter: b',' }).unwrap_err();
    for text in ["", "\n\r\n", "\u{feff}"] {
        assert!(matches!(error(text.as_bytes(), TableFormat::Csv), TableError::NoHeader));
        assert!(matches!(error(text.as_bytes(), TableFormat::Ndjson), TableError::NoRecords));
    }
    let utf16: Vec<u8> = b"\xff\xfea\0,\0b\0\n\0".to_vec();
    assert!(error(&utf16, TableFormat::Csv).to_string().contains("it seems to be UTF-16"));
    assert!(error(b"caf\xe9\n1\n", TableFormat::Csv).to_string().contains("header is not UTF-8; convert"));
    let many = ",".repeat(COLUMNS_MAX);
    assert!(matches!(error(many.as_bytes(), TableFormat::Csv), TableError::TooManyColumns { .. }));
    assert_eq!(csv(&many[1..]).notes.len(), NOTES_MAX + 1);
    let csv_as_json = error(b"\na,b\n1,2\n", TableFormat::Ndjson).to_string();
    assert!(csv_as_json.starts_with("line 2 is no JSON object: expected value at byte 1"), "{csv_as_json}");
    let broken = std::io::Error::other("disk on fire");
    struct Broken(Option<std::io::Error>);
    impl std::io::Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(self.0.take().unwrap_or_else(|| std::io::Error::other("again")))
        }
    }
    let error = infer(Broken(Some(broken)), InferOptions::default()).unwrap_err().to_string();
    assert_eq!(error, "read the table: disk on fire");
}

#[test]
fn json_keys_are_united_in_order_of_appearance() {
    let inferred = json(
        "{\"b\":1,\"a\":\"x\"}\n\n{\"a\":null,\"c\":1.5,\"b\":2.0}\n{\"c\":3,\"d\":true,\"e\":[1],\"f\":{},\"g g\":\"\"}\r\n{\"h\":1}\n{\"h\":\"1\"}",
    );
    assert_eq!(columns(&inferred), "b:float a:string c:float d:boolean e:string f:string g_g:string h:string");
    assert_eq!(inferred.rows_seen, 5);
    let notes = inferred.notes.join("\n");
    assert!(notes.contains("\"e\" holds objects or arrays, which a formula can't read"), "{notes}");
    assert!(notes.contains("formulas call it g_g"), "{notes}");
    assert!(notes.contains("\"h\" is taken as string: 1 of 2 cells are numbers, but row 5 holds"), "{notes}");
}

#[test]
fn json_words_for_floats_are_floats_among_numbers() {
    assert_eq!(
        columns(&json("{\"x\":1,\"y\":\"NaN\",\"z\":\"inf\"}\n{\"x\":\"NaN\",\"y\":\"NaN\",\"z\":\"q\"}")),
        "x:float y:string z:string"
    );
    assert_eq!(columns(&json("{\"x\":-0,\"y\":1e2,\"z\":1e400}")), "x:float y:float z:string");
}

#[test]
fn broken_objects_are_noted_and_leave_no_keys() {
    let inferred = json("{\"a\":1}\n{\"b\":2,\"c\n{\"a\":3}\n");
    assert_eq!(columns(&inferred), "a:int");
    assert_eq!(inferred.notes.len(), 1);
    assert!(inferred.notes[0].starts_with("row 2 is no JSON object: "), "{}", inferred.notes[0]);
}

#[test]
fn only_the_first_records_count() {
    let mut text = String::from("a\n");
    text.push_str(&"1\n".repeat(INFER_ROWS_MAX as usize));
    text.push_str("x\n");
    let inferred = csv(&text);
    assert_eq!((columns(&inferred).as_str(), inferred.rows_seen), ("a:int", INFER_ROWS_MAX));
    let mut lines = "{\"a\":1}\n".repeat(INFER_ROWS_MAX as usize);
    lines.push_str("{\"a\":\"x\"}\n");
    assert_eq!((columns(&json(&lines)).as_str(), json(&lines).rows_seen), ("a:int", INFER_ROWS_MAX));
}

#[test]
fn a_cut_record_does_not_count() {
    let options = InferOptions::default();
    let cut = infer_bytes(b"a,b\n1,2\n3,x", false, options).unwrap();
    assert_eq!((columns(&cut).as_str(), cut.rows_seen), ("a:int b:int", 1));
    assert_eq!(infer_bytes(b"a,b\n1,2\n3,x", true, options).unwrap().rows_seen, 2);
    let options = InferOptions { format: TableFormat::Ndjson, ..options };
    assert_eq!(infer_bytes(b"{}\n{\"a\":", false, options).unwrap().rows_seen, 1);
}

#[test]
fn memory_is_bounded_on_an_endless_table() {
    /// Rows of 64 KiB without end.
    struct Endless(u64);
    impl std::io::Read for Endless {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            for byte in buffer.iter_mut() {
                self.0 += 1;
                *byte = if self.0.is_multiple_of(65_536) { b'\n' } else { b'x' };
            }
            assert!(self.0 < 40 * 1024 * 1024, "inference must stop");
            Ok(buffer.len())
        }
    }
    assert_eq!(infer(Endless(0), InferOptions::default()).unwrap().rows_seen, 511);
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80), complete in any::<bool>()) {
        for format in [TableFormat::Csv, TableFormat::Ndjson] {
            if let Ok(inferred) = infer_bytes(&bytes, complete, InferOptions { format, delimiter: b',' }) {
                prop_assert!(check_schema(&inferred.schema).is_ok());
            }
        }
    }

    #[test]
    fn columns_of_one_kind_have_its_type(ints in proptest::collection::vec(any::<i64>(), 1..20), floats in proptest::collection::vec(any::<f64>(), 1..20)) {
        let text = |cells: Vec<String>| format!("x\n{}", cells.join("\n"));
        let of = |text: String| csv(&text).schema.columns[0].ty;
        prop_assert_eq!(of(text(ints.iter().map(i64::to_string).collect())), ColumnType::Int);
        prop_assert_eq!(of(text(floats.iter().map(|x| format!("{x:?}")).collect())), ColumnType::Float);
    }
}
