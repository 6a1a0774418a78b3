//! Schemas: overriding types, and checking what others made.

use super::columnar::check_columnar;
use super::{COLUMNS_MAX, HEADER_BYTES_MAX, TableError, check_delimiter, names};
use crate::spec::{ColumnType, TableColumn, TableFormat, TableSchema};
use std::collections::HashSet;

/// Columns that an error lists; more would hide the message.
const LISTED_MAX: usize = 20;
/// How alike two names must be for one to be suggested for the other, of 1.
const ALIKE_MIN: f64 = 0.75;

/// The column that a formula calls `variable`.
pub fn column_of(schema: &TableSchema, variable: &str) -> Option<usize> {
    schema.columns.iter().position(|column| column.variable == variable)
}

/// Sets types as `--types` says: `NAME=TYPE,...`, where NAME is a column's variable or its header.
pub fn apply_types(schema: &mut TableSchema, types: &str) -> Result<(), TableError> {
    let mut given = HashSet::new();
    for part in types.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (name, ty) = part.rsplit_once('=').ok_or_else(|| TableError::BadTypes { part: part.to_string() })?;
        let (name, ty) = (name.trim(), ty.trim());
        let index = column_of(schema, name)
            .or_else(|| schema.columns.iter().position(|column| column.name.trim() == name))
            .ok_or_else(|| unknown_column(schema, name))?;
        if !given.insert(index) {
            return Err(TableError::TypeGivenTwice { column: name.to_string() });
        }
        schema.columns[index].ty =
            parse_type(ty).ok_or_else(|| TableError::UnknownType { column: name.to_string(), ty: ty.to_string() })?;
    }
    check_columnar(schema)
}

fn parse_type(text: &str) -> Option<ColumnType> {
    [ColumnType::Int, ColumnType::Float, ColumnType::Boolean, ColumnType::String]
        .into_iter()
        .find(|ty| ty.name() == text)
}

fn unknown_column(schema: &TableSchema, name: &str) -> TableError {
    let folded = name.to_lowercase();
    let nearest = schema
        .columns
        .iter()
        .map(|column| (strsim::jaro_winkler(&folded, &column.variable.to_lowercase()), &column.variable))
        .filter(|(alike, _)| *alike >= ALIKE_MIN)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, variable)| format!("; did you mean {variable:?}?"))
        .unwrap_or_default();
    let mut columns = names_of(&schema.columns).take(LISTED_MAX).collect::<Vec<_>>().join(", ");
    if schema.columns.len() > LISTED_MAX {
        columns.push_str(&format!(" and {} more", schema.columns.len() - LISTED_MAX));
    }
    TableError::UnknownColumn { column: name.to_string(), nearest, columns }
}

fn names_of(columns: &[TableColumn]) -> impl Iterator<Item = &str> {
    columns.iter().map(|column| column.variable.as_str())
}

/// Refuses a name of the computed column that the table has already, or that would spoil the output.
pub fn check_output_name(schema: &TableSchema, name: &str) -> Result<(), TableError> {
    let refuse = |reason| Err(TableError::OutputName { name: name.to_string(), reason });
    if name.is_empty() {
        return refuse("it is empty");
    }
    if name.len() > super::VARIABLE_BYTES_MAX {
        return refuse("it is longer than 256 bytes");
    }
    if name.chars().any(char::is_control) {
        return refuse("it has a control character");
    }
    if schema.columns.iter().any(|column| column.name == name || column.variable == name) {
        return Err(TableError::OutputNameTaken { name: name.to_string() });
    }
    Ok(())
}

/// Checks a schema that came from elsewhere: within the limits, every variable an identifier of its own.
pub fn check_schema(schema: &TableSchema) -> Result<(), TableError> {
    if schema.format == TableFormat::Csv {
        check_delimiter(schema.delimiter)?;
        if schema.columns.is_empty() {
            return Err(TableError::NoHeader);
        }
    }
    if schema.columns.len() > COLUMNS_MAX {
        return Err(TableError::TooManyColumns { max: COLUMNS_MAX });
    }
    // A variable is at most its header and a number, or a number alone.
    let (header, variables) = schema
        .columns
        .iter()
        .fold((0, 0), |(names, variables), column| (names + column.name.len(), variables + column.variable.len()));
    if header > HEADER_BYTES_MAX || variables > HEADER_BYTES_MAX + COLUMNS_MAX * 16 {
        return Err(TableError::HeaderTooLong { max: HEADER_BYTES_MAX });
    }
    let (mut seen, mut keys) = (HashSet::new(), HashSet::new());
    for TableColumn { name, variable, .. } in &schema.columns {
        if !names::is_identifier(variable) {
            return Err(TableError::BadSchema { reason: format!("{variable:?} is no identifier") });
        }
        if !seen.insert(variable) {
            return Err(TableError::BadSchema { reason: format!("two columns have the variable {variable:?}") });
        }
        if schema.format == TableFormat::Ndjson && !keys.insert(name) {
            return Err(TableError::BadSchema { reason: format!("two columns are the key {name:?}") });
        }
    }
    check_columnar(schema)
}

#[cfg(test)]
mod tests {
    use super::{apply_types, check_output_name, check_schema};
    use crate::spec::{ColumnType, TableColumn, TableFormat, TableSchema};

    fn schema(names: &[(&str, &str)]) -> TableSchema {
        let column = |(name, variable): &(&str, &str)| TableColumn {
            name: name.to_string(),
            variable: variable.to_string(),
            ty: ColumnType::String,
        };
        TableSchema {
            format: TableFormat::Csv,
            delimiter: b',',
            columns: names.iter().map(column).collect(),
            arrow: None,
        }
    }

    #[test]
    fn types_are_set_by_variable_or_header() {
        let mut schema = schema(&[("qty", "qty"), ("unit price", "unit_price"), ("x", "x"), ("x", "x_2")]);
        apply_types(&mut schema, " qty=int, unit price = float,x_2=boolean,").unwrap();
        let types: Vec<_> = schema.columns.iter().map(|column| column.ty).collect();
        assert_eq!(types, [ColumnType::Int, ColumnType::Float, ColumnType::String, ColumnType::Boolean]);
    }

    #[test]
    fn wrong_types_are_refused_by_name() {
        let mut schema = schema(&[("quantity", "quantity"), ("price", "price")]);
        let mut message = |types: &str| apply_types(&mut schema, types).unwrap_err().to_string();
        assert_eq!(
            message("quantty=int"),
            "--types: the table has no column \"quantty\"; did you mean \"quantity\"?; it has quantity, price"
        );
        assert_eq!(message("zzz=int"), "--types: the table has no column \"zzz\"; it has quantity, price");
        assert_eq!(message("price"), "--types: \"price\" is not NAME=TYPE");
        assert!(message("price=money").contains("\"money\" of column \"price\" is no type"));
        assert!(message("price=int,price=float").contains("given twice"));
    }

    #[test]
    fn many_columns_are_not_all_listed() {
        let names: Vec<_> = (0..50).map(|n| format!("c{n}")).collect();
        let pairs: Vec<_> = names.iter().map(|name| (name.as_str(), name.as_str())).collect();
        let message = apply_types(&mut schema(&pairs), "zz=int").unwrap_err().to_string();
        assert!(message.ends_with("c19 and 30 more"), "{message}");
    }

    #[test]
    fn output_names_that_are_taken_are_refused() {
        let schema = schema(&[("unit price", "unit_price")]);
        assert!(check_output_name(&schema, "result").is_ok());
        assert!(check_output_name(&schema, "my result").is_ok());
        for name in ["unit price", "unit_price", "", "a\nb"] {
            assert!(check_output_name(&schema, name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn schemas_that_no_inference_makes_are_refused() {
        assert!(check_schema(&schema(&[("a", "a"), ("a", "a_2")])).is_ok());
        assert!(check_schema(&schema(&[("a", "a"), ("b", "a")])).is_err());
        assert!(check_schema(&schema(&[("a", "a b")])).is_err());
        assert!(check_schema(&schema(&[])).is_err());
        assert!(check_schema(&TableSchema { delimiter: b'\n', ..schema(&[("a", "a")]) }).is_err());
        let ndjson = |names: &[(&str, &str)]| TableSchema { format: TableFormat::Ndjson, ..schema(names) };
        assert!(check_schema(&ndjson(&[])).is_ok());
        assert!(check_schema(&ndjson(&[("a", "a"), ("a", "a_2")])).is_err());
        let long = "n".repeat(super::HEADER_BYTES_MAX + 1);
        assert!(check_schema(&schema(&[(&long, "a")])).is_err());
    }
}
