//! What a cell's text means: the one grammar of numbers and booleans, for inference and for reading.
//!
//! - Spaces and tabs around a number or a boolean don't count; a cell of nothing else is empty.
//! - int: `0`, or digits without a leading zero, with an optional `-`, within i64. `-0` is a float, as i64 has none.
//! - float: what Rust's `f64` parser takes (`1.5 .5 5. 1e3 +5 007 nan inf -infinity`, any case), unless the digits
//!   overflow to infinity. Inference is stricter: it takes `+5` and `007` for text, since telephone numbers and post
//!   codes look like that; `--types NAME=float` reads them as numbers.
//! - boolean: `true` or `false`.

use crate::spec::ColumnType;

/// Longest text that is tried as a number; f64's exact decimal forms end before 800 digits.
const NUMBER_BYTES_MAX: usize = 1024;
/// Digits that can't overflow an i64.
const SAFE_DIGITS: usize = 18;

/// Digits, and one more byte, that can't overflow a u64.
const WORD_DIGITS: usize = 19;
/// Whole numbers up to here are floats without loss.
const EXACT_INT_MAX: u64 = 1 << 53;
/// Powers of ten that are floats without loss, as far as [`WORD_DIGITS`] reach.
const POWERS_OF_TEN: [f64; WORD_DIGITS] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18];

/// What a cell looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CellKind {
    /// Nothing, or only blanks.
    Empty,
    /// An i64.
    Int,
    /// An f64.
    Float,
    /// `true` or `false`.
    Boolean,
    /// Anything else.
    Text,
}

/// The cell without spaces and tabs around it.
pub fn trim(cell: &[u8]) -> &[u8] {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let Some(start) = cell.iter().position(|byte| !blank(byte)) else { return &[] };
    let end = cell.iter().rposition(|byte| !blank(byte)).map_or(start, |last| last + 1);
    &cell[start..end]
}

/// The cell as an int.
pub fn parse_int(cell: &[u8]) -> Option<i64> {
    plain_int(cell).or_else(|| any_int(cell))
}

/// Most ints: a few digits without a sign. `None` where it is not one of those.
pub(super) fn plain_int(cell: &[u8]) -> Option<i64> {
    if cell.len() > SAFE_DIGITS || cell.is_empty() || (cell.first() == Some(&b'0') && cell.len() > 1) {
        return None;
    }
    let mut value = 0_i64;
    for byte in cell {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value.wrapping_mul(10).wrapping_add(i64::from(digit));
    }
    Some(value)
}

fn any_int(cell: &[u8]) -> Option<i64> {
    let cell = trim(cell);
    let (negative, digits) = match cell {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    match digits {
        [] => return None,
        [b'0'] if !negative => return Some(0),
        [b'0', ..] => return None,
        _ => {}
    }
    if digits.len() <= SAFE_DIGITS {
        let mut value = 0_i64;
        for byte in digits {
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 {
                return None;
            }
            value = value * 10 + i64::from(digit);
        }
        return Some(if negative { -value } else { value });
    }
    // Nineteen digits fit an i64 at most; the standard parser knows which.
    if digits.len() > SAFE_DIGITS + 1 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(cell).ok()?.parse().ok()
}

/// The cell as a float.
pub fn parse_float(cell: &[u8]) -> Option<f64> {
    plain_float(cell).or_else(|| any_float(cell))
}

/// Most floats: `-` or not, digits, and a point or not, where the digits are a whole number that is a float without
/// loss. So is the power of ten by which it is divided, and one division rounds correctly (Clinger's fast path).
/// `None` where it is not one of those.
pub(super) fn plain_float(cell: &[u8]) -> Option<f64> {
    let (negative, text) = match cell {
        [b'-', text @ ..] => (true, text),
        text => (false, text),
    };
    if text.len() > WORD_DIGITS {
        return None;
    }
    let mut number = 0_u64;
    let mut rest = text;
    while let [byte, after @ ..] = rest {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            break;
        }
        number = number.wrapping_mul(10).wrapping_add(u64::from(digit));
        rest = after;
    }
    let decimals = match rest {
        [] => &[],
        [b'.', decimals @ ..] => decimals,
        _ => return None,
    };
    for byte in decimals {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number = number.wrapping_mul(10).wrapping_add(u64::from(digit));
    }
    // An empty text has no digit, nor has a point alone.
    if number > EXACT_INT_MAX || text.len() == usize::from(!rest.is_empty()) {
        return None;
    }
    let value = number as f64 / POWERS_OF_TEN.get(decimals.len())?;
    Some(if negative { -value } else { value })
}

fn any_float(cell: &[u8]) -> Option<f64> {
    let cell = trim(cell);
    if cell.is_empty() || cell.len() > NUMBER_BYTES_MAX {
        return None;
    }
    let value: f64 = std::str::from_utf8(cell).ok()?.parse().ok()?;
    if value.is_nan() {
        // One NaN only: its bits are part of the results.
        return Some(f64::NAN);
    }
    if value.is_infinite() && cell.iter().any(u8::is_ascii_digit) {
        return None;
    }
    Some(value)
}

/// The cell as a boolean.
pub fn parse_boolean(cell: &[u8]) -> Option<bool> {
    match trim(cell) {
        b"true" => Some(true),
        b"false" => Some(false),
        _ => None,
    }
}

/// What inference takes the cell for.
pub fn classify(cell: &[u8]) -> CellKind {
    let cell = trim(cell);
    if cell.is_empty() {
        CellKind::Empty
    } else if parse_int(cell).is_some() {
        CellKind::Int
    } else if parse_boolean(cell).is_some() {
        CellKind::Boolean
    } else if !looks_like_code(cell) && parse_float(cell).is_some() {
        CellKind::Float
    } else {
        CellKind::Text
    }
}

/// Whether a cell that might be a number is written as codes are: `+49`, `007`, `-01.5`.
fn looks_like_code(cell: &[u8]) -> bool {
    let digits = cell.strip_prefix(b"-").unwrap_or(cell);
    matches!(digits, [b'+', ..]) || matches!(digits, [b'0', next, ..] if next.is_ascii_digit())
}

/// The type for which to ask where a cell does not fit its column's: float where that reads it, else string.
pub(crate) fn type_that_reads(cell: &[u8], ty: ColumnType) -> ColumnType {
    let is_float = ty == ColumnType::Int && matches!(classify(cell), CellKind::Int | CellKind::Float);
    if is_float { ColumnType::Float } else { ColumnType::String }
}

impl ColumnType {
    /// Its name, as `--types` takes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Int => "int",
            Self::Float => "float",
            Self::Boolean => "boolean",
            Self::String => "string",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{CellKind, classify, parse_float, parse_int, trim};
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};
    use std::fmt::Write as _;

    #[test]
    fn cells_are_taken_for_what_the_grammar_says() {
        let table: &[(&str, CellKind)] = &[
            ("", CellKind::Empty),
            (" \t ", CellKind::Empty),
            ("0", CellKind::Int),
            (" 5", CellKind::Int),
            ("-5\t", CellKind::Int),
            ("9223372036854775807", CellKind::Int),
            ("-9223372036854775808", CellKind::Int),
            ("9223372036854775808", CellKind::Float),
            ("-9223372036854775809", CellKind::Float),
            ("99999999999999999999", CellKind::Float),
            ("-0", CellKind::Float),
            ("1.0", CellKind::Float),
            (".5", CellKind::Float),
            ("5.", CellKind::Float),
            ("-1e-3", CellKind::Float),
            ("1E5", CellKind::Float),
            ("0.007", CellKind::Float),
            ("NaN", CellKind::Float),
            ("-inf", CellKind::Float),
            ("Infinity", CellKind::Float),
            ("true", CellKind::Boolean),
            (" false ", CellKind::Boolean),
            ("True", CellKind::Text),
            ("007", CellKind::Text),
            ("-007", CellKind::Text),
            ("00", CellKind::Text),
            ("01.5", CellKind::Text),
            ("+5", CellKind::Text),
            ("1_000", CellKind::Text),
            ("1,5", CellKind::Text),
            ("0x1f", CellKind::Text),
            ("1e400", CellKind::Text),
            ("--1", CellKind::Text),
            ("-", CellKind::Text),
            ("1 2", CellKind::Text),
            ("\u{a0}5", CellKind::Text),
            ("٣", CellKind::Text),
        ];
        for (cell, kind) in table {
            assert_eq!(classify(cell.as_bytes()), *kind, "{cell:?}");
        }
    }

    #[test]
    fn floats_read_what_inference_takes_for_codes() {
        assert_eq!(parse_float(b"+5"), Some(5.0));
        assert_eq!(parse_float(b"007"), Some(7.0));
        assert_eq!(parse_int(b"007"), None);
        assert_eq!(parse_int(b"+5"), None);
    }

    #[test]
    fn nan_is_canonical_and_overflow_is_no_number() {
        for text in ["nan", "NaN", "-nan", "+NAN"] {
            assert_eq!(parse_float(text.as_bytes()).map(f64::to_bits), Some(f64::NAN.to_bits()), "{text}");
        }
        assert_eq!(parse_float(b"1e309"), None);
        assert_eq!(parse_float(b"inf"), Some(f64::INFINITY));
        assert_eq!(parse_float(b"1e-400"), Some(0.0));
        assert_eq!(parse_float(&[b'1'; 2000]), None);
        assert_eq!(parse_float(b"\xff"), None);
    }

    #[test]
    fn trim_keeps_what_is_inside() {
        assert_eq!(trim(b"  a b\t"), b"a b");
        assert_eq!(trim(b"\n"), b"\n");
    }

    /// The same bits as the standard parser, or no number where that overflows or finds none.
    fn check_float(text: &str) {
        let expected = text.parse::<f64>().ok().filter(|value| value.is_finite());
        assert_eq!(parse_float(text.as_bytes()).map(f64::to_bits), expected.map(f64::to_bits), "{text:?}");
    }

    /// Decimals as tables have them: up to 19 digits with the point anywhere, in millions.
    #[test]
    fn short_decimals_round_like_the_standard_parser() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut text = String::new();
        for _ in 0..2_000_000 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let digits = (state >> 8) % 10_u64.pow((state % 19) as u32 + 1);
            let scale = (state >> 3) as usize % 21;
            text.clear();
            if state & 1 == 1 {
                text.push('-');
            }
            let _ = write!(text, "{digits}");
            let point = text.len().saturating_sub(scale).max((state & 1) as usize);
            text.insert(point, '.');
            check_float(&text);
        }
        for text in
            ["", "-", ".", "-.", "0", "-0", "0.", "-.0", "9007199254740992", "9007199254740993", "0.30000000000000004"]
        {
            check_float(text);
        }
    }

    #[test]
    fn short_texts_are_what_the_standard_parser_says() {
        let mut texts = vec![String::new()];
        for from in 0.. {
            let Some(text) = texts.get(from).cloned() else { break };
            check_float(&text);
            let is_plain = text == "0" || !text.strip_prefix('-').unwrap_or(&text).starts_with(['0', '+']);
            assert_eq!(parse_int(text.as_bytes()), text.parse().ok().filter(|_| is_plain), "{text:?}");
            if text.len() < 5 {
                texts.extend("059./:-+e\u{7f}".chars().map(|next| format!("{text}{next}")));
            }
        }
        assert_eq!(texts.len(), 111_111);
    }

    proptest! {
        #[test]
        fn every_int_and_float_reads_back(int in any::<i64>(), float in any::<f64>()) {
            prop_assert_eq!(parse_int(int.to_string().as_bytes()), Some(int));
            let back = parse_float(format!("{float:?}").as_bytes());
            prop_assert!(back.is_some_and(|back| back == float || (back.is_nan() && float.is_nan())));
        }

        #[test]
        fn int_agrees_with_the_standard_parser(text in "-?[0-9+ _]{0,22}") {
            let trimmed = text.trim_matches([' ', '\t']);
            let digits = trimmed.strip_prefix('-').unwrap_or(trimmed);
            let plain = !digits.starts_with('+') && (digits == "0" && !trimmed.starts_with('-') || !digits.starts_with('0'));
            let expected = trimmed.parse::<i64>().ok().filter(|_| plain);
            prop_assert_eq!(parse_int(text.as_bytes()), expected);
        }

        #[test]
        fn float_agrees_with_the_standard_parser(text in "-?[0-9]{0,20}(\\.[0-9]{0,20})?(e-?[0-9]{1,3})?") {
            check_float(&text);
        }

        #[test]
        fn no_cell_panics(cell in proptest::collection::vec(any::<u8>(), 0..40)) {
            let kind = classify(&cell);
            prop_assert_eq!(kind == CellKind::Int, parse_int(&cell).is_some());
            prop_assert!(kind != CellKind::Float || parse_float(&cell).is_some());
        }
    }
}
