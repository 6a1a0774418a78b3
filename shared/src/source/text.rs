//! What axes and draws have in common as text: `name=...`, lists of literals, names.

use super::VARIABLES_MAX;
use super::error::SourceError;
use crate::formula::parse_literal;
use crate::spec::{ColumnType, Scalar};
use crate::table::{VARIABLE_BYTES_MAX, is_identifier};
use std::collections::HashSet;

/// Listed values of one variable; they travel in the job's record.
pub const LIST_LEN_MAX: usize = 100_000;
/// Bytes of all strings in one list, for the same reason.
pub const LIST_BYTES_MAX: usize = 1 << 20;

/// Splits `name=rest`; the name is checked.
pub(super) fn split_name(text: &str) -> Option<(&str, &str)> {
    text.split_once('=').map(|(name, rest)| (name.trim(), rest.trim()))
}

/// Splits at a separator outside double quotes, within which a backslash takes the next character along.
pub(super) fn split(text: &str, separator: char) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut quoted, mut escaped) = (0, false, false);
    for (i, c) in text.char_indices() {
        if escaped {
            escaped = false;
        } else if quoted && c == '\\' {
            escaped = true;
        } else if c == '"' {
            quoted = !quoted;
        } else if c == separator && !quoted {
            parts.push(text[start..i].trim());
            start = i + c.len_utf8();
        }
    }
    parts.push(text[start..].trim());
    parts
}

/// Reads one literal; the error is a problem for people.
pub(super) fn literal(text: &str) -> Result<Scalar, String> {
    parse_literal(text).map_err(|error| error.message)
}

/// Reads a list of literals of one type. Integers beside floats become floats, as long as that loses nothing.
pub(super) fn list(parts: &[&str]) -> Result<Vec<Scalar>, String> {
    if let Some(i) = parts.iter().position(|part| part.is_empty()) {
        return Err(format!("value {} of the list is empty", i + 1));
    }
    let mut values = parts.iter().map(|part| literal(part)).collect::<Result<Vec<_>, _>>()?;
    if values.iter().any(|value| matches!(value, Scalar::Float(_))) {
        for value in &mut values {
            if let Scalar::Int(x) = *value {
                let float = x as f64;
                if float as i128 != i128::from(x) {
                    return Err(format!("{x} stands beside floats, but is no float itself: {float} is the nearest"));
                }
                *value = Scalar::Float(float);
            }
        }
    }
    list_type(&values)?;
    Ok(values)
}

/// The type of a list's values.
pub(super) fn list_type(values: &[Scalar]) -> Result<ColumnType, String> {
    if values.len() > LIST_LEN_MAX {
        return Err(format!("the list has {} values; at most {LIST_LEN_MAX} are taken", values.len()));
    }
    let of = |value: &Scalar| match value {
        Scalar::Int(_) => Ok(ColumnType::Int),
        Scalar::Float(_) => Ok(ColumnType::Float),
        Scalar::Boolean(_) => Ok(ColumnType::Boolean),
        Scalar::String(_) => Ok(ColumnType::String),
        Scalar::Tuple(_) | Scalar::Empty => Err("a list takes numbers, booleans and strings only".to_owned()),
    };
    let mut first = None;
    let mut bytes = 0_usize;
    for (i, value) in values.iter().enumerate() {
        let ty = of(value)?;
        if *first.get_or_insert(ty) != ty {
            return Err(format!("value {} is of another type than the first; a list has values of one type", i + 1));
        }
        match value {
            Scalar::Float(x) if x.is_nan() => return Err(format!("value {} is NaN", i + 1)),
            Scalar::String(text) => bytes = bytes.saturating_add(text.len()),
            _ => {}
        }
    }
    if bytes > LIST_BYTES_MAX {
        return Err(format!("the list's strings have {bytes} bytes; at most {LIST_BYTES_MAX} are taken"));
    }
    first.ok_or_else(|| "the list has no values".to_owned())
}

/// Refuses names that formulas can't use for a variable.
pub(super) fn check_name(name: &str) -> Result<(), SourceError> {
    if is_identifier(name) {
        return Ok(());
    }
    let problem = if name.is_empty() {
        "a name must stand before the =".into()
    } else if name.len() > VARIABLE_BYTES_MAX {
        format!("it has {} bytes; at most {VARIABLE_BYTES_MAX} are taken", name.len())
    } else if name.parse::<f64>().is_ok() || name.parse::<bool>().is_ok() {
        "formulas read it as a literal".into()
    } else if name.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        "a name begins with a letter or _".into()
    } else {
        "a name has no blanks, quotes or operators; take letters, digits and _".into()
    };
    Err(SourceError::Name { name: name.to_owned(), problem })
}

/// Refuses what no source can have as its variables.
pub(super) fn check_names<'a>(
    what: &'static str,
    names: impl ExactSizeIterator<Item = &'a String>,
) -> Result<Vec<String>, SourceError> {
    if names.len() == 0 {
        return Err(SourceError::Missing(what));
    }
    if names.len() > VARIABLES_MAX {
        let found = names.len().to_string();
        return Err(SourceError::TooMany { what: "variables", found, max: VARIABLES_MAX as u64 });
    }
    let mut seen = HashSet::new();
    names
        .map(|name| {
            check_name(name)?;
            if seen.insert(name) { Ok(name.clone()) } else { Err(SourceError::Repeated(name.clone())) }
        })
        .collect()
}
