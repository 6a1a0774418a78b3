//! Files as others write them, whole and broken.

use super::{ColumnarFile, Decode, Source, infer_columnar};
use crate::BLOCK_ROWS;
use crate::block::{Block, Column};
use crate::spec::{ColumnType, TableFormat, TableSchema};
use crate::table::apply_types;
use arrow_array::builder::{ListBuilder, StringBuilder};
use arrow_array::types::Int32Type;
use arrow_array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, DictionaryArray, Float32Array, Float64Array, Int8Array,
    Int64Array, LargeStringArray, ListArray, NullArray, RecordBatch, StringArray, TimestampMicrosecondArray,
    UInt64Array,
};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding};
use parquet::file::properties::{WriterProperties, WriterVersion};
use std::sync::Arc;

/// A table of every type, with nulls in every column but the first.
fn table(rows: i64) -> RecordBatch {
    let some = |row: &i64| row % 5 != 2;
    let opt = |row: i64| some(&row).then_some(row);
    let mut lists = ListBuilder::new(StringBuilder::new());
    for row in 0..rows {
        lists.append_option(opt(row).map(|row| (0..row % 4).map(|item| Some(format!("{item}"))).collect::<Vec<_>>()));
    }
    let lists: ListArray = lists.finish();
    let dictionary: DictionaryArray<Int32Type> =
        (0..rows).map(|row| some(&row).then_some(["red", "green", "blue"][row as usize % 3])).collect();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(Int64Array::from_iter_values(0..rows))),
        ("tiny", Arc::new((0..rows).map(|row| opt(row).map(|row| (row % 100) as i8)).collect::<Int8Array>())),
        ("huge", Arc::new((0..rows).map(|row| opt(row).map(|row| row as u64)).collect::<UInt64Array>())),
        ("half", Arc::new((0..rows).map(|row| opt(row).map(|row| row as f32 / 8.0)).collect::<Float32Array>())),
        ("x", Arc::new((0..rows).map(|row| opt(row).map(|row| (row as f64).sqrt())).collect::<Float64Array>())),
        ("flag", Arc::new((0..rows).map(|row| opt(row).map(|row| row % 3 == 0)).collect::<BooleanArray>())),
        ("text", Arc::new((0..rows).map(|row| opt(row).map(|row| format!("text {row}"))).collect::<StringArray>())),
        (
            "long",
            Arc::new((0..rows).map(|row| opt(row).map(|row| format!("{}", row % 7))).collect::<LargeStringArray>()),
        ),
        ("colour", Arc::new(dictionary)),
        ("day", Arc::new((0..rows).map(|row| opt(row).map(|row| row as i32 - 9)).collect::<Date32Array>())),
        (
            "at",
            Arc::new((0..rows).map(|row| opt(row).map(|row| row * 1_000_003)).collect::<TimestampMicrosecondArray>()),
        ),
        (
            "price",
            Arc::new(
                (0..rows)
                    .map(|row| opt(row).map(i128::from))
                    .collect::<Decimal128Array>()
                    .with_precision_and_scale(12, 2)
                    .unwrap(),
            ),
        ),
        ("tags", Arc::new(lists)),
        ("nothing", Arc::new(NullArray::new(rows as usize))),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, name != "id")))
        .unwrap()
}

fn written(batch: &RecordBatch, properties: WriterProperties) -> Bytes {
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
    writer.write(batch).unwrap();
    writer.into_inner().unwrap().into()
}

/// Ways in which writers differ.
fn ways(group_rows: usize) -> Vec<WriterProperties> {
    let builder = || WriterProperties::builder().set_max_row_group_row_count(Some(group_rows));
    vec![
        builder().build(),
        builder().set_compression(Compression::SNAPPY).set_data_page_row_count_limit(700).build(),
        builder().set_writer_version(WriterVersion::PARQUET_2_0).set_dictionary_enabled(false).build(),
        builder()
            .set_compression(Compression::ZSTD(Default::default()))
            .set_dictionary_enabled(false)
            .set_column_encoding("text".into(), Encoding::DELTA_LENGTH_BYTE_ARRAY)
            .set_column_encoding("id".into(), Encoding::DELTA_BINARY_PACKED)
            .set_offset_index_disabled(true)
            .build(),
        builder().set_compression(Compression::LZ4_RAW).set_data_page_size_limit(3_000).build(),
    ]
}

fn schema(bytes: &Bytes) -> TableSchema {
    infer_columnar(TableFormat::Parquet, Source::bytes(bytes.clone())).unwrap().schema
}

/// Every block of some rows, with the columns that are wanted.
fn read(
    bytes: &Bytes,
    schema: &TableSchema,
    wanted: &[usize],
    decode: Decode,
    first_row: u64,
    rows: u64,
) -> Vec<Block> {
    let file = ColumnarFile::open(schema.format, Source::bytes(bytes.clone())).unwrap();
    let mut reader = file.read(schema, wanted, decode, first_row, rows).unwrap();
    let mut blocks = Vec::new();
    let mut block = Block::default();
    while let Some(batch) = reader.next_block(&mut block).unwrap() {
        assert_eq!(batch.num_rows(), block.len);
        assert_eq!(batch.num_columns(), if decode == Decode::Wanted { wanted.len() } else { schema.columns.len() });
        blocks.push(block.clone());
    }
    blocks
}

/// A block's column as text, nulls as such.
fn cells(blocks: &[Block], slot: usize) -> Vec<Option<String>> {
    let mut cells = Vec::new();
    for block in blocks {
        for row in 0..block.len {
            let null = block.nulls[slot].as_ref().is_some_and(|nulls| nulls[row]);
            cells.push((!null).then(|| match &block.columns[slot] {
                Column::Int(values) => values[row].to_string(),
                Column::Float(values) => values[row].to_string(),
                Column::Boolean(values) => values[row].to_string(),
                Column::String(values) => values[row].clone(),
                Column::Mixed(_) => unreachable!("inputs have types"),
            }));
        }
    }
    cells
}

#[test]
fn every_type_is_read_as_the_table_of_types_says() {
    let bytes = written(&table(10), WriterProperties::default());
    let schema = schema(&bytes);
    let types: Vec<_> = schema.columns.iter().map(|column| column.ty).collect();
    use ColumnType::{Boolean as B, Float as F, Int as I, String as S};
    assert_eq!(types, [I, I, I, F, F, B, S, S, S, I, I, F, S, S]);
    let blocks = read(&bytes, &schema, &(0..12).collect::<Vec<_>>(), Decode::All, 0, 10);
    let row = |number: usize| -> Vec<String> {
        (0..12).map(|slot| cells(&blocks, slot)[number].clone().unwrap_or("null".into())).collect()
    };
    let x = 8.0_f64.sqrt().to_string();
    assert_eq!(row(8), ["8", "8", "8", "1", &x, "false", "text 8", "1", "blue", "-1", "8000024", "0.08"]);
    assert_eq!(row(7)[1..], ["null"; 11]);
    assert_eq!(row(7)[0], "7");
}

#[test]
fn shards_of_any_row_groups_and_writers_give_the_same_rows() {
    let rows = 20_000;
    let batch = table(rows);
    let wanted = [6, 0, 3, 8];
    let mut expected: Option<Vec<Vec<Option<String>>>> = None;
    for group_rows in [1_000, 7_777, 1 << 20] {
        for properties in ways(group_rows) {
            let bytes = written(&batch, properties);
            let schema = schema(&bytes);
            let shards = [(BLOCK_ROWS, Decode::Wanted), (3 * BLOCK_ROWS, Decode::AllTyped), (1 << 20, Decode::All)];
            for (shard_rows, decode) in shards {
                let mut blocks = Vec::new();
                let mut first = 0;
                while first < rows as u64 {
                    let len = shard_rows.min(rows as u64 - first);
                    blocks.extend(read(&bytes, &schema, &wanted, decode, first, len));
                    first += len;
                }
                assert!(blocks.iter().all(|block| block.first_row.is_multiple_of(BLOCK_ROWS)));
                let found: Vec<_> = (0..wanted.len()).map(|slot| cells(&blocks, slot)).collect();
                assert_eq!(found[1].len(), rows as usize);
                assert!(*expected.get_or_insert_with(|| found.clone()) == found, "{group_rows} {shard_rows}");
            }
        }
    }
}

fn arrow_file(batches: &[RecordBatch]) -> Bytes {
    let mut writer = arrow_ipc::writer::FileWriter::try_new(Vec::new(), &batches[0].schema()).unwrap();
    batches.iter().for_each(|batch| writer.write(batch).unwrap());
    writer.into_inner().unwrap().into()
}

#[test]
fn arrow_files_of_any_batches_give_the_rows_of_parquet() {
    let rows = 10_000;
    let batch = table(rows);
    let wanted: Vec<usize> = (0..12).collect();
    let parquet = written(&batch, WriterProperties::default());
    let of_parquet = schema(&parquet);
    let expected = read(&parquet, &of_parquet, &wanted, Decode::Wanted, 0, rows as u64);
    for batch_rows in [1_000, 4_096, 9_999, 10_000] {
        let batches: Vec<_> = (0..rows as usize)
            .step_by(batch_rows)
            .map(|first| batch.slice(first, batch_rows.min(rows as usize - first)))
            .collect();
        let file = arrow_file(&batches);
        let schema = infer_columnar(TableFormat::Arrow, Source::bytes(file.clone())).unwrap().schema;
        assert_eq!(schema.columns, of_parquet.columns);
        for (decode, shard_rows) in [(Decode::Wanted, BLOCK_ROWS), (Decode::AllTyped, 2 * BLOCK_ROWS)] {
            let firsts = (0..rows as u64).step_by(shard_rows as usize);
            let blocks: Vec<Block> = firsts
                .flat_map(|first| read(&file, &schema, &wanted, decode, first, shard_rows.min(rows as u64 - first)))
                .collect();
            for slot in 0..wanted.len() {
                assert!(cells(&blocks, slot) == cells(&expected, slot), "{batch_rows} {slot}");
            }
        }
    }
}

#[test]
fn broken_arrow_files_are_errors_and_nothing_worse() {
    let file = arrow_file(&[table(400), table(300)]);
    assert!(survives(TableFormat::Arrow, file.clone()));
    let mut random = random();
    let mut broken = 0;
    for round in 0..2_000 {
        let mut bytes = file.to_vec();
        if round % 3 == 0 {
            bytes.truncate(random(bytes.len()));
        } else {
            for _ in 0..=random(4) {
                let reach = if round % 3 == 1 { bytes.len().min(3_000) } else { bytes.len() };
                let at = bytes.len() - 1 - random(reach);
                bytes[at] = random(256) as u8;
            }
        }
        broken += usize::from(!survives(TableFormat::Arrow, bytes.into()));
    }
    assert!(broken > 700, "{broken} of 2000 files were seen to be broken");
    let stream = infer_columnar(TableFormat::Arrow, Source::bytes(Bytes::from_static(&[0xff; 64])));
    assert!(stream.unwrap_err().to_string().contains("stream"));
}

/// Numbers below a bound, the same in each run.
fn random() -> impl FnMut(usize) -> usize {
    let mut state = 7_u64;
    move |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    }
}

#[test]
fn rows_count_where_no_column_is_read() {
    let bytes = written(&table(5_000), WriterProperties::default());
    let blocks = read(&bytes, &schema(&bytes), &[], Decode::Wanted, 4_096, 904);
    assert_eq!(blocks.iter().map(|block| (block.first_row, block.len)).collect::<Vec<_>>(), [(4_096, 904)]);
}

#[test]
fn cells_that_no_int_holds_fail_their_rows() {
    let values: ArrayRef = Arc::new(UInt64Array::from(vec![Some(7), None, Some(u64::MAX), Some(1 << 63)]));
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["", "b", "c", &"x".repeat(40_000)]));
    let bytes =
        written(&RecordBatch::try_from_iter([("n", values), ("t", texts)]).unwrap(), WriterProperties::default());
    let mut schema = schema(&bytes);
    let blocks = read(&bytes, &schema, &[0, 1], Decode::Wanted, 0, 4);
    let bad: Vec<_> = blocks[0].bad_rows.iter().map(|bad| (bad.row, bad.code.as_str())).collect();
    assert_eq!(bad, [(2, "cell_type"), (3, "cell_type")]);
    assert!(blocks[0].bad_rows[0].message.contains("--types n=float"), "{}", blocks[0].bad_rows[0].message);
    // Empty text is text.
    assert_eq!(cells(&blocks, 1)[0], Some(String::new()));
    apply_types(&mut schema, "n=float").unwrap();
    let blocks = read(&bytes, &schema, &[0, 1], Decode::Wanted, 0, 4);
    assert_eq!(cells(&blocks, 0)[3], Some(2.0_f64.powi(63).to_string()));
    let bad: Vec<_> = blocks[0].bad_rows.iter().map(|bad| (bad.row, bad.code.as_str())).collect();
    assert_eq!(bad, [(3, "cell_too_long")]);
}

#[test]
fn types_that_the_file_has_not_are_refused_by_name() {
    let bytes = written(&table(3), WriterProperties::default());
    for types in ["x=int", "text=float", "flag=string", "day=string", "tags=int"] {
        let message = apply_types(&mut schema(&bytes), types).unwrap_err().to_string();
        assert!(message.contains(types.split('=').next().unwrap()), "{message}");
    }
    for types in ["id=float", "day=float", "at=float", "price=float", "tags=string"] {
        apply_types(&mut schema(&bytes), types).unwrap();
    }
    let inputs = |name: &str| super::check_formula_inputs(&schema(&bytes), &[name.to_string()]);
    assert!(inputs("tags").unwrap_err().to_string().contains("List"));
    assert!(inputs("price").is_ok());
}

#[test]
fn files_that_have_changed_are_noticed() {
    let bytes = written(&table(5_000), WriterProperties::default());
    let other = written(&table(3).project(&[0, 1]).unwrap(), WriterProperties::default());
    let file = ColumnarFile::open(TableFormat::Parquet, Source::bytes(other)).unwrap();
    assert!(file.read(&schema(&bytes), &[0], Decode::Wanted, 0, 3).err().unwrap().to_string().contains("changed"));
    let file = ColumnarFile::open(TableFormat::Parquet, Source::bytes(bytes.clone())).unwrap();
    assert!(file.read(&schema(&bytes), &[0], Decode::Wanted, 4_096, 905).is_err());
    assert!(file.read(&schema(&bytes), &[0], Decode::Wanted, u64::MAX - 4_095, 4_096).is_err());
    assert!(file.read(&schema(&bytes), &[0], Decode::Wanted, 1, 1).is_err());
    assert!(file.read(&schema(&bytes), &[99], Decode::Wanted, 0, 1).is_err());
}

/// Reads whatever the bytes hold, as far as it goes; says whether all of it could be read.
fn survives(format: TableFormat, bytes: Bytes) -> bool {
    let Ok(inferred) = infer_columnar(format, Source::bytes(bytes.clone())) else { return false };
    let Ok(file) = ColumnarFile::open(format, Source::bytes(bytes)) else { return false };
    let wanted: Vec<usize> = (0..inferred.schema.columns.len()).collect();
    let rows = file.rows().min(10_000);
    let Ok(mut reader) = file.read(&inferred.schema, &wanted, Decode::All, 0, rows) else { return false };
    let mut block = Block::default();
    loop {
        match reader.next_block(&mut block) {
            Ok(Some(batch)) => assert_eq!(batch.num_rows(), block.len),
            Ok(None) => return true,
            Err(error) => {
                assert!(!error.to_string().is_empty());
                return false;
            }
        }
    }
}

#[test]
fn broken_files_are_errors_and_nothing_worse() {
    let files: Vec<Bytes> = ways(150).into_iter().map(|properties| written(&table(400), properties)).collect();
    assert!(files.iter().all(|file| survives(TableFormat::Parquet, file.clone())));
    let mut random = random();
    let mut broken = 0;
    for round in 0..2_000 {
        let file = &files[round % files.len()];
        let mut bytes = file.to_vec();
        match round % 3 {
            0 => bytes.truncate(random(bytes.len())),
            // The footer holds what decoders believe.
            1 => {
                for _ in 0..=random(3) {
                    let at = bytes.len() - 1 - random(bytes.len().min(6_000));
                    bytes[at] = random(256) as u8;
                }
            }
            _ => {
                for _ in 0..=random(8) {
                    let at = random(bytes.len());
                    bytes[at] ^= 1 << random(8);
                }
            }
        }
        broken += usize::from(!survives(TableFormat::Parquet, bytes.into()));
    }
    assert!(broken > 1_000, "{broken} of 2000 files were seen to be broken");
}

#[test]
fn what_is_no_parquet_is_said_to_be_none() {
    let said = |bytes: &[u8]| {
        let source = Source::bytes(Bytes::copy_from_slice(bytes));
        infer_columnar(TableFormat::Parquet, source).unwrap_err().to_string()
    };
    assert!(said(b"").contains("too short"));
    assert!(said(b"a,b\n1,2\n3,4\n").contains("no valid Parquet"));
    assert!(said(b"PAR1\xff\xff\xff\xffPAR1").contains("over"));
    assert!(said(b"PAR1\xff\xff\0\0PAR1").contains("more than the file"));
    assert!(said(b"PAR1\0\0\0\0PAR1").contains("cut off"));
    assert!(said(b"PARE\0\0\0\0PARE").contains("encrypted"));
}

#[test]
fn dictionaries_that_repeat_a_long_text_do_not_fill_the_memory() {
    let long = "x".repeat(1_000_000);
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values((0..1_000).map(|_| &long)));
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let bytes = written(&RecordBatch::try_from_iter([("t", texts)]).unwrap(), properties);
    assert!(bytes.len() < 1_000_000, "{} bytes", bytes.len());
    let schema = schema(&bytes);
    let file = ColumnarFile::open(schema.format, Source::bytes(bytes)).unwrap();
    let mut reader = file.read(&schema, &[], Decode::All, 0, 1_000).unwrap();
    let error = reader.next_block(&mut Block::default()).unwrap_err().to_string();
    assert!(error.contains("rows 1 to 1000"), "{error}");
}
