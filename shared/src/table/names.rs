//! The names that formulas use for columns.
//!
//! A header that is an identifier is its own name (blanks around it don't count). Any other gets a replacement:
//! 1. each run of characters that no identifier has becomes one `_`, and those at the ends go;
//! 2. what begins with a digit or a point, or is a literal (`nan`, `inf`, `true`), gets a `_` in front;
//! 3. what is empty then, or longer than [`VARIABLE_BYTES_MAX`], becomes `column_N`, N counted from 1;
//! 4. a name that is taken gets `_2`, `_3`, ... Headers that are identifiers choose first.

use super::VARIABLE_BYTES_MAX;
use std::collections::{HashMap, HashSet};

/// Room for `_` and a column's number.
const NUMBER_BYTES: usize = 8;

/// Whether a formula can have the character in an identifier: evalexpr takes for one whatever is no blank, quote or
/// operator. Control characters, which it would take too, only make names that look alike.
fn is_name_char(c: char) -> bool {
    !(c.is_whitespace() || c.is_control() || "+-*/%^(),;=!><&|\"".contains(c))
}

/// Whether a formula reads the text as a literal: a boolean, or what Rust takes for a number.
fn is_literal(text: &str) -> bool {
    text.parse::<bool>().is_ok() || text.parse::<f64>().is_ok()
}

/// Whether a formula can name a column so. What begins with a digit or a point is never taken, as `5e` would be a
/// number in `5e-3`.
pub fn is_identifier(text: &str) -> bool {
    text.len() <= VARIABLE_BYTES_MAX
        && !text.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && !text.is_empty()
        && text.chars().all(is_name_char)
        && !is_literal(text)
}

/// Whether the name stays within the limit with a number behind it.
fn has_room(name: &str) -> bool {
    name.len() + NUMBER_BYTES <= VARIABLE_BYTES_MAX
}

/// A header as an identifier, by rules 1 to 3.
fn replacement(header: &str, number: usize) -> String {
    let mut name = String::new();
    for part in header.split(|c: char| !is_name_char(c)).filter(|part| !part.is_empty()) {
        if !name.is_empty() {
            name.push('_');
        }
        name.push_str(part);
    }
    if name.starts_with(|c: char| c.is_ascii_digit() || c == '.') || is_literal(&name) {
        name.insert(0, '_');
    }
    if is_identifier(&name) && has_room(&name) { name } else { format!("column_{number}") }
}

/// The variables of columns with these headers.
pub(crate) fn variables(headers: &[String]) -> Vec<String> {
    let mut taken = HashSet::new();
    let mut variables: Vec<Option<String>> = headers
        .iter()
        .map(|header| header.trim())
        .map(|name| (is_identifier(name) && taken.insert(name.to_string())).then(|| name.to_string()))
        .collect();
    // The next number to try for each name, so that thousands of equal headers take linear time.
    let mut numbers: HashMap<String, u64> = HashMap::new();
    for (index, variable) in variables.iter_mut().enumerate() {
        if variable.is_some() {
            continue;
        }
        let header = headers[index].trim();
        let base =
            if is_identifier(header) && has_room(header) { header.to_string() } else { replacement(header, index + 1) };
        let mut name = base.clone();
        while !taken.insert(name.clone()) {
            let number = numbers.entry(base.clone()).or_insert(1);
            *number += 1;
            name = format!("{base}_{number}");
        }
        *variable = Some(name);
    }
    variables.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::{is_identifier, variables};
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    fn of(headers: &[&str]) -> Vec<String> {
        variables(&headers.iter().map(|header| header.to_string()).collect::<Vec<_>>())
    }

    #[test]
    fn headers_get_names_by_the_rules() {
        let table = [
            ("price", "price"),
            (" price ", "price"),
            ("a.b", "a.b"),
            ("geo:lat", "geo:lat"),
            ("größe", "größe"),
            ("if", "if"),
            ("unit price (EUR)", "unit_price_EUR"),
            ("a-b", "a_b"),
            ("2024", "_2024"),
            ("1e5", "_1e5"),
            ("5e", "_5e"),
            (".5e", "_.5e"),
            ("nan", "_nan"),
            ("Infinity", "_Infinity"),
            ("true", "_true"),
            ("True", "True"),
            ("", "column_1"),
            ("--", "column_1"),
            ("a\"b", "a_b"),
            ("a\u{7}b", "a_b"),
            ("a\nb", "a_b"),
        ];
        for (header, variable) in table {
            assert_eq!(of(&[header]), [variable], "{header:?}");
        }
        assert_eq!(of(&[&"x".repeat(300)]), ["column_1"]);
    }

    #[test]
    fn taken_names_are_numbered_and_identifiers_choose_first() {
        assert_eq!(of(&["x", "x", "x"]), ["x", "x_2", "x_3"]);
        assert_eq!(of(&["x", "x", "x_2"]), ["x", "x_3", "x_2"]);
        assert_eq!(of(&["a b", "a_b"]), ["a_b_2", "a_b"]);
        assert_eq!(of(&["", "", "column_2"]), ["column_1", "column_2_2", "column_2"]);
        assert_eq!(of(&["x", " x"]), ["x", "x_2"]);
    }

    #[test]
    fn thousands_of_equal_headers_are_named_in_linear_time() {
        let headers = vec![String::new(); super::super::COLUMNS_MAX];
        let equal = vec!["x".to_string(); super::super::COLUMNS_MAX];
        assert_eq!(variables(&headers).len(), headers.len());
        assert_eq!(variables(&equal).last().map(String::as_str), Some("x_16384"));
    }

    proptest! {
        #[test]
        fn every_header_gets_an_identifier_of_its_own(
            headers in proptest::collection::vec("[ab_2.\\-\" é]{0,4}|\\PC{0,8}|nan|inf|true", 0..12)
        ) {
            let names = variables(&headers);
            prop_assert_eq!(names.len(), headers.len());
            let unique: std::collections::HashSet<_> = names.iter().collect();
            prop_assert_eq!(unique.len(), names.len());
            for name in &names {
                prop_assert!(is_identifier(name), "{:?}", name);
            }
        }

        #[test]
        fn evalexpr_reads_identifiers_as_variables(name in "[a-z_é€\\[\\]'.:#0-9eE]{1,6}", number in any::<i64>()) {
            if is_identifier(&name) {
                let mut context = evalexpr::HashMapContext::new();
                let value = evalexpr::Value::Int(number);
                evalexpr::ContextWithMutableVariables::set_value(&mut context, name.clone(), value.clone()).unwrap();
                prop_assert_eq!(evalexpr::eval_with_context(&name, &context).unwrap(), value);
                prop_assert_eq!(evalexpr::eval_boolean_with_context(&format!("{name}-3.0 == {name} -3.0"), &context), Ok(true));
            }
        }
    }
}
