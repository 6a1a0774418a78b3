use super::MapRenderer;
use crate::block::{Block, Column, RowState, Values};
use crate::spec::{RowFormat, Scalar, TableFormat, TableSchema};
use crate::table::{InferOptions, RecordIndexer, TableReader, apply_types, infer_bytes};
use proptest::prelude::{prop_assert_eq, proptest};

fn schema_of(text: &str, format: TableFormat, delimiter: u8, types: &str) -> TableSchema {
    let mut schema = infer_bytes(text.as_bytes(), true, InferOptions { format, delimiter }).unwrap().schema;
    apply_types(&mut schema, types).unwrap();
    schema
}

/// The table with a column `r` that counts rows from 0: null where the row is bad, a hole where `holes` says so.
fn mapped(text: &str, schema: &TableSchema, format: RowFormat, holes: &[usize]) -> String {
    let mut indexer = RecordIndexer::new(schema).unwrap();
    indexer.push(text.as_bytes()).unwrap();
    let index = indexer.finish().unwrap();
    let mut renderer = MapRenderer::new(schema, "r", format);
    let mut out = renderer.header().unwrap_or_default();
    if let Some(range) = index.range(0, index.records) {
        let bytes = &text.as_bytes()[range.start as usize..range.end as usize];
        let wanted: Vec<usize> = (0..schema.columns.len()).collect();
        let mut reader = TableReader::new(schema, &wanted, bytes, 0).unwrap().for_output(format, "r");
        let (mut block, mut records) = (Block::default(), Vec::new());
        let rows = reader.next_block(&mut block, &mut records).unwrap();
        let mut states = vec![RowState::Valid; rows];
        for bad in &block.bad_rows {
            states[bad.row as usize] = RowState::Null;
        }
        for hole in holes {
            states[*hole] = RowState::Hole;
        }
        let column = Column::Int((0..rows as i64).collect());
        renderer.render(
            bytes,
            &records,
            &block,
            &Values { first_row: 0, column, states, errors: Vec::new() },
            &mut out,
        );
    }
    String::from_utf8(out).unwrap()
}

fn csv_to(text: &str, format: RowFormat, holes: &[usize]) -> String {
    mapped(text, &schema_of(text, TableFormat::Csv, b',', ""), format, holes)
}

fn json_to(text: &str, format: RowFormat, holes: &[usize]) -> String {
    mapped(text, &schema_of(text, TableFormat::Ndjson, b',', ""), format, holes)
}

#[test]
fn csv_records_stay_as_they_are() {
    let text = "\u{feff}a,\"b, c\"\r\n 1,\"x\"\"\ny\"\r\n\r\n2,\"q\"z\r3,\n4,5";
    assert_eq!(csv_to(text, RowFormat::Csv, &[2]), "a,\"b, c\",r\n 1,\"x\"\"\ny\",0\n2,\"q\"z,1\n4,5,3\n");
    assert_eq!(csv_to(text, RowFormat::Plain, &[2]), "0\n1\n3\n");
    assert_eq!(csv_to("a,b\n", RowFormat::Csv, &[]), "a,b,r\n");
    let tabs = "a\tb\n1\t\"x,y\"\n";
    assert_eq!(
        mapped(tabs, &schema_of(tabs, TableFormat::Csv, b'\t', ""), RowFormat::Csv, &[]),
        "a\tb\tr\n1\t\"x,y\"\t0\n"
    );
}

#[test]
fn csv_rows_become_typed_objects() {
    let text = "i,f,b,s,i,\n 1 ,2.50,true,\"a\"\"b\",NaN,x\n,,, ,,\n-3,1e300,false,c,1,\n";
    assert_eq!(
        csv_to(text, RowFormat::Ndjson, &[]),
        concat!(
            "{\"i\":1,\"f\":2.5,\"b\":true,\"s\":\"a\\\"b\",\"i_2\":\"NaN\",\"column_6\":\"x\",\"r\":0}\n",
            "{\"i\":null,\"f\":null,\"b\":null,\"s\":\" \",\"i_2\":null,\"column_6\":null,\"r\":1}\n",
            "{\"i\":-3,\"f\":1e300,\"b\":false,\"s\":\"c\",\"i_2\":1.0,\"column_6\":null,\"r\":2}\n",
        )
    );
}

#[test]
fn csv_rows_that_could_not_be_read_keep_the_table_whole() {
    let text = "a,b\n1\n1,2,3\nx,5\n7,\"8\n9";
    let schema = schema_of(text, TableFormat::Csv, b',', "a=int,b=int");
    assert_eq!(mapped(text, &schema, RowFormat::Csv, &[]), "a,b,r\n1,,\n1,2,\nx,5,\n7,\"8\n9\",\n");
    assert_eq!(
        mapped(text, &schema, RowFormat::Ndjson, &[]),
        "{\"a\":1,\"b\":null,\"r\":null}\n{\"a\":1,\"b\":2,\"r\":null}\n{\"a\":\"x\",\"b\":5,\"r\":null}\n{\"a\":7,\"b\":\"8\\n9\",\"r\":null}\n"
    );
}

#[test]
fn objects_stay_as_they_are() {
    let text = " {\"a\" : 1.50, \"s\":\"\\u00e9\" } \r\n{}\n{ }\n{\"z\":\"}\"}";
    assert_eq!(
        json_to(text, RowFormat::Ndjson, &[]),
        "{\"a\" : 1.50, \"s\":\"\\u00e9\" ,\"r\":0}\n{\"r\":1}\n{ \"r\":2}\n{\"z\":\"}\",\"r\":3}\n"
    );
    // An array is nothing that a formula reads, but it goes through.
    assert_eq!(json_to("{\"a\":[1, 2]}", RowFormat::Ndjson, &[]), "{\"a\":[1, 2],\"r\":null}\n");
}

#[test]
fn objects_that_could_not_be_read_become_objects() {
    let text = "{\"a\":1}\n{\"a\":\n[1]\n{\"a\":2,\"r\":5,\"b\":3}\n{\"r\":1}";
    let schema = schema_of("{\"a\":1}", TableFormat::Ndjson, b',', "");
    assert_eq!(
        mapped(text, &schema, RowFormat::Ndjson, &[]),
        "{\"a\":1,\"r\":0}\n{\"r\":null}\n{\"r\":null}\n{\"a\":2,\"b\":3,\"r\":null}\n{\"r\":null}\n"
    );
    assert_eq!(mapped(text, &schema, RowFormat::Csv, &[]), "a,r\n1,0\n,\n,\n2,\n,\n");
}

#[test]
fn objects_become_csv_by_the_schema() {
    let text = "{\"b\":\"x,\\\"y\\\"\",\"a\":1.50}\n{\"a\":null}\n{\"b\":\"\",\"c\":{\"k\":[1,2]}}\n{\"c\":true}\n";
    assert_eq!(
        json_to(text, RowFormat::Csv, &[]),
        "b,a,c,r\n\"x,\"\"y\"\"\",1.50,,0\n,,,1\n\"\",,\"{\"\"k\"\":[1,2]}\",\n,,true,3\n"
    );
    assert_eq!(json_to("{}\n{}\n", RowFormat::Csv, &[1]), "r\n0\n");
}

#[test]
fn values_of_every_type_are_written() {
    let schema = schema_of("a\n1\n", TableFormat::Csv, b',', "");
    let values = vec![Scalar::Float(1.0), Scalar::String("x,y".into()), Scalar::Tuple(vec![Scalar::Int(1)])];
    let render = |format| {
        let states = vec![RowState::Valid; 3];
        let values = Values { first_row: 0, column: Column::Mixed(values.clone()), states, errors: Vec::new() };
        let mut out = Vec::new();
        MapRenderer::new(&schema, "r", format).render(
            b"1\n2\n3",
            &[0..1, 2..3, 4..5],
            &Block::default(),
            &values,
            &mut out,
        );
        String::from_utf8(out).unwrap()
    };
    assert_eq!(render(RowFormat::Csv), "1,1.0\n2,\"x,y\"\n3,\"(1)\"\n");
    assert_eq!(render(RowFormat::Ndjson), "{\"a\":1,\"r\":1.0}\n{\"a\":2,\"r\":\"x,y\"}\n{\"a\":3,\"r\":[1]}\n");
    assert_eq!(render(RowFormat::Plain), "1\nx,y\n(1)\n");
}

proptest! {
    /// Whatever the records are, CSV output has the input's cells and one more; bad rows are made to fit.
    #[test]
    fn csv_output_is_the_input_and_a_column(text in "a,b\n[\",\r\nab]{0,40}") {
        let schema = schema_of(&text, TableFormat::Csv, b',', "a=string,b=string");
        let out = mapped(&text, &schema, RowFormat::Csv, &[]);
        let mut before = csv::ReaderBuilder::new().flexible(true).from_reader(text.as_bytes());
        let mut after = csv::ReaderBuilder::new().flexible(true).from_reader(out.as_bytes());
        let before: Vec<_> = before.records().map(Result::unwrap).collect();
        let after: Vec<_> = after.records().map(Result::unwrap).collect();
        prop_assert_eq!(before.len(), after.len());
        for (before, after) in before.iter().zip(&after) {
            prop_assert_eq!(after.len(), 3);
            for index in 0..2 {
                prop_assert_eq!(before.get(index).unwrap_or(""), &after[index]);
            }
        }
    }

    #[test]
    fn json_output_is_json_whatever_comes_in(lines in proptest::collection::vec("[{}\":ar1,\\[\\] ]{0,10}|\\{\"[ar]\":[0-9]\\}", 0..8)) {
        let schema = schema_of("{\"a\":1}", TableFormat::Ndjson, b',', "a=string");
        let out = mapped(&lines.join("\n"), &schema, RowFormat::Ndjson, &[]);
        let rows = lines.iter().filter(|line| !line.trim().is_empty()).count();
        prop_assert_eq!(out.lines().count(), rows);
        for line in out.lines() {
            let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(line).unwrap();
            prop_assert_eq!(line.matches("\"r\":").count() >= 1, object.contains_key("r"));
        }
    }
}
