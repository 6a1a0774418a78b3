//! What the columns of such a file are to a formula, and how their types travel with a job.

use super::file::ColumnarFile;
use super::guard::{guarded, name};
use super::source::Source;
use crate::spec::{ColumnType, RowFormat, TableColumn, TableFormat, TableSchema};
use crate::table::{COLUMNS_MAX, HEADER_BYTES_MAX, Inferred, NOTES_MAX, TableError, names, shorten};
use arrow_schema::{DataType, Field, FieldRef, Fields, Schema};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use std::sync::Arc;

/// Longest form of a file's types in a job: wide tables of nested columns stay below it, and it travels in every job.
const TYPES_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The schema of a columnar file; no value is looked at.
///
/// # Errors
/// Where the file is not what `format` says, or has too many columns.
pub fn infer_columnar(format: TableFormat, source: Source) -> Result<Inferred, TableError> {
    let file = ColumnarFile::open(format, source)?;
    let types = file.types();
    if types.fields().len() > COLUMNS_MAX {
        return Err(TableError::TooManyColumns { max: COLUMNS_MAX });
    }
    let headers: Vec<String> = types.fields().iter().map(|field| field.name().clone()).collect();
    if headers.iter().map(String::len).sum::<usize>() > HEADER_BYTES_MAX {
        return Err(TableError::HeaderTooLong { max: HEADER_BYTES_MAX });
    }
    let variables = names::variables(&headers);
    let mut notes = Vec::new();
    let mut columns = Vec::new();
    for (index, ((name, variable), field)) in headers.into_iter().zip(variables).zip(types.fields()).enumerate() {
        if name.trim() != variable {
            notes.push(format!("column {} {}: formulas call it {variable}", index + 1, shorten(name.as_bytes())));
        }
        if default_type(field.data_type()).is_none() {
            notes.push(format!("column {variable:?} is {}, which a formula can't read", field.data_type()));
        }
        let ty = default_type(field.data_type()).unwrap_or(ColumnType::String);
        columns.push(TableColumn { name, variable, ty });
    }
    if notes.len() > NOTES_MAX {
        let more = notes.len() - NOTES_MAX;
        notes.truncate(NOTES_MAX);
        notes.push(format!("and {more} more such notes"));
    }
    let arrow = encode(types);
    if arrow.len() > TYPES_BYTES_MAX {
        return Err(TableError::HeaderTooLong { max: TYPES_BYTES_MAX });
    }
    let schema = TableSchema { format, delimiter: b',', columns, arrow: Some(arrow) };
    Ok(Inferred { schema, rows_seen: file.rows(), notes })
}

/// The Arrow types of a table's columns; `None` for a table of text.
///
/// # Errors
/// Where they don't decode, or are not those of the schema's columns.
pub fn arrow_schema(schema: &TableSchema) -> Result<Option<Schema>, TableError> {
    let bad = |reason: &str| TableError::BadSchema { reason: reason.to_string() };
    match (&schema.arrow, schema.format) {
        (None, TableFormat::Csv | TableFormat::Ndjson) => Ok(None),
        (Some(_), TableFormat::Csv | TableFormat::Ndjson) => Err(bad("a table of text has no Arrow types")),
        (None, TableFormat::Parquet | TableFormat::Arrow) => Err(bad("a table in columns misses its Arrow types")),
        (Some(text), _) if text.len() > TYPES_BYTES_MAX => Err(TableError::HeaderTooLong { max: TYPES_BYTES_MAX }),
        (Some(text), format) => {
            let types = decode(text, format)?;
            let names = types.fields().iter().map(|field| field.name());
            if !names.eq(schema.columns.iter().map(|column| &column.name)) {
                return Err(bad("the Arrow types are not those of its columns"));
            }
            Ok(Some(types))
        }
    }
}

/// Checks the types of a columnar table: that they are there, and that each column can be read as its type says.
pub(crate) fn check_columnar(schema: &TableSchema) -> Result<(), TableError> {
    let Some(types) = arrow_schema(schema)? else { return Ok(()) };
    for (column, field) in schema.columns.iter().zip(types.fields()) {
        let default = default_type(field.data_type()).unwrap_or(ColumnType::String);
        let widened = default == ColumnType::Int && column.ty == ColumnType::Float;
        if column.ty != default && !widened {
            return Err(TableError::TypeOfFile {
                column: column.variable.clone(),
                stored: field.data_type().to_string(),
                ty: column.ty.name(),
            });
        }
    }
    Ok(())
}

/// Refuses columns that no formula can read, by name.
///
/// # Errors
/// Where one of `inputs`, which are variables, is of such a type.
pub fn check_formula_inputs(schema: &TableSchema, inputs: &[String]) -> Result<(), TableError> {
    let Some(types) = arrow_schema(schema)? else { return Ok(()) };
    for (column, field) in schema.columns.iter().zip(types.fields()) {
        if inputs.contains(&column.variable) && default_type(field.data_type()).is_none() {
            return Err(TableError::Unreadable {
                column: column.variable.clone(),
                stored: field.data_type().to_string(),
            });
        }
    }
    Ok(())
}

/// Refuses columns that this form of text can't keep, by name.
///
/// # Errors
/// Where the output keeps the table's columns and one is of such a type.
pub fn check_text_output(schema: &TableSchema, format: RowFormat) -> Result<(), TableError> {
    let Some(types) = arrow_schema(schema)? else { return Ok(()) };
    if !matches!(format, RowFormat::Csv | RowFormat::Ndjson) {
        return Ok(());
    }
    for (column, field) in schema.columns.iter().zip(types.fields()) {
        if !has_text(field.data_type()) {
            return Err(TableError::NoText {
                column: column.variable.clone(),
                stored: field.data_type().to_string(),
                format: name(schema.format),
            });
        }
    }
    Ok(())
}

/// What a formula sees of a column of this type; `None` where it sees nothing.
pub(super) fn default_type(ty: &DataType) -> Option<ColumnType> {
    use DataType as T;
    match ty {
        T::Int8 | T::Int16 | T::Int32 | T::Int64 | T::UInt8 | T::UInt16 | T::UInt32 | T::UInt64 => {
            Some(ColumnType::Int)
        }
        T::Date32 | T::Date64 | T::Time32(_) | T::Time64(_) | T::Timestamp(..) | T::Duration(_) => {
            Some(ColumnType::Int)
        }
        T::Float16 | T::Float32 | T::Float64 => Some(ColumnType::Float),
        T::Decimal32(..) | T::Decimal64(..) | T::Decimal128(..) | T::Decimal256(..) => Some(ColumnType::Float),
        T::Boolean => Some(ColumnType::Boolean),
        T::Utf8 | T::LargeUtf8 | T::Utf8View | T::Null => Some(ColumnType::String),
        _ => None,
    }
}

/// Whether values of this type have a text.
fn has_text(ty: &DataType) -> bool {
    match ty {
        DataType::List(field)
        | DataType::LargeList(field)
        | DataType::FixedSizeList(field, _)
        | DataType::Map(field, _) => has_text(field.data_type()),
        DataType::Struct(fields) => fields.iter().all(|field| has_text(field.data_type())),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => true,
        ty => default_type(ty).is_some(),
    }
}

/// The types with each type replaced by `replace` where that gives one, also within nested ones.
pub(super) fn map_types(schema: &Schema, replace: &dyn Fn(&DataType) -> Option<DataType>) -> Schema {
    Schema::new(map_fields(schema.fields(), replace))
}

fn map_fields(fields: &Fields, replace: &dyn Fn(&DataType) -> Option<DataType>) -> Fields {
    fields.iter().map(|field| map_field(field, replace)).collect()
}

fn map_field(field: &FieldRef, replace: &dyn Fn(&DataType) -> Option<DataType>) -> FieldRef {
    let ty = map_type(field.data_type(), replace);
    Arc::new(Field::new(field.name(), ty, field.is_nullable()).with_metadata(field.metadata().clone()))
}

fn map_type(ty: &DataType, replace: &dyn Fn(&DataType) -> Option<DataType>) -> DataType {
    if let Some(other) = replace(ty) {
        return map_type_within(&other, replace);
    }
    map_type_within(ty, replace)
}

fn map_type_within(ty: &DataType, replace: &dyn Fn(&DataType) -> Option<DataType>) -> DataType {
    match ty {
        DataType::List(field) => DataType::List(map_field(field, replace)),
        DataType::LargeList(field) => DataType::LargeList(map_field(field, replace)),
        DataType::FixedSizeList(field, len) => DataType::FixedSizeList(map_field(field, replace), *len),
        DataType::Map(field, sorted) => DataType::Map(map_field(field, replace), *sorted),
        DataType::Struct(fields) => DataType::Struct(map_fields(fields, replace)),
        ty => ty.clone(),
    }
}

/// Dictionaries are a way to store values: tables have the values.
pub(super) fn without_dictionaries(schema: &Schema) -> Schema {
    map_types(schema, &|ty| match ty {
        DataType::Dictionary(_, value) => Some((**value).clone()),
        _ => None,
    })
}

fn encode(schema: &Schema) -> String {
    parquet::arrow::encode_arrow_schema(schema)
}

fn decode(text: &str, format: TableFormat) -> Result<Schema, TableError> {
    let bad = |reason: String| TableError::BadSchema { reason };
    let bytes = BASE64_STANDARD.decode(text).map_err(|error| bad(format!("its Arrow types: {error}")))?;
    // Four bytes of a mark, four of the length.
    let message = bytes.get(8..).ok_or_else(|| bad("its Arrow types are cut off".into()))?;
    let schema = guarded(format, || arrow_ipc::convert::try_schema_from_flatbuffer_bytes(message))
        .map_err(|error| bad(error.to_string()))?;
    Ok(schema)
}
