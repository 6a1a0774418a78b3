//! Values of options. What the whole product writes the same way (literals, axes, draws, reductions) is parsed in
//! `quipu_shared`; here is what only a command line has.

use crate::cmd::args::{Reductions, VarsOnly};
use crate::cmd::argv;
use crate::failure::Failure;
use quipu_shared::spec::{Axis, ColumnType, Draw, Scalar};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// `name=literal`.
pub(crate) fn binding(text: &str) -> Result<(String, Scalar), String> {
    let (name, value) = text.split_once('=').ok_or("write it as NAME=VALUE, such as x=3")?;
    let name = variable(name)?;
    let value = quipu_shared::formula::parse_literal(value.trim()).map_err(|error| error.to_string())?;
    Ok((name, value))
}

/// `x=0:10:1`.
pub(crate) fn axis(text: &str) -> Result<Axis, String> {
    quipu_shared::source::parse_axis(text).map_err(|error| error.to_string())
}

/// `u=uniform(0,1)`.
pub(crate) fn draw(text: &str) -> Result<Draw, String> {
    quipu_shared::source::parse_draw(text).map_err(|error| error.to_string())
}

/// `sum,mean,quantile(0.5)`.
pub(crate) fn reductions(text: &str) -> Result<Reductions, String> {
    quipu_shared::reduce::parse_reductions(text).map(Arc::from).map_err(|error| error.to_string())
}

/// `a,b:float`.
pub(crate) fn vars_only(text: &str) -> Result<VarsOnly, String> {
    let mut list: Vec<(String, Option<ColumnType>)> = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (name, ty) = match part.split_once(':') {
            Some((name, ty)) => (variable(name)?, Some(column_type(ty.trim())?)),
            None => (variable(part)?, None),
        };
        if list.iter().any(|(earlier, _)| *earlier == name) {
            return Err(format!("{name} is named twice"));
        }
        list.push((name, ty));
    }
    Ok(list.into())
}

/// The list of `--types`, as one value for clap.
pub(crate) type Types = Arc<[(String, ColumnType)]>;

/// `a=float,b=int`.
pub(crate) fn types(text: &str) -> Result<Types, String> {
    let part = |part: &str| {
        let (name, ty) = part.split_once('=').ok_or("write it as NAME=TYPE, such as x=float")?;
        Ok((variable(name)?, column_type(ty.trim())?))
    };
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(part).collect()
}

/// `int`, `float`, `boolean` or `string`.
pub(crate) fn column_type(text: &str) -> Result<ColumnType, String> {
    match text {
        "int" => Ok(ColumnType::Int),
        "float" => Ok(ColumnType::Float),
        "boolean" | "bool" => Ok(ColumnType::Boolean),
        "string" => Ok(ColumnType::String),
        _ => Err(format!("{text:?} is no type; use int, float, boolean or string")),
    }
}

/// One ASCII character, or `tab`.
pub(crate) fn delimiter(text: &str) -> Result<u8, String> {
    match text {
        "tab" | "\\t" => Ok(b'\t'),
        _ => match text.as_bytes() {
            [byte] if byte.is_ascii() => Ok(*byte),
            _ => Err("write one ASCII character, or tab".into()),
        },
    }
}

/// `key=value`.
pub(crate) fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.to_owned())),
        _ => Err("write it as KEY=VALUE, such as team=pricing".into()),
    }
}

/// Labels by their keys; each key has one value.
pub(crate) fn labels(pairs: &[(String, String)]) -> Result<BTreeMap<String, String>, Failure> {
    let mut labels = BTreeMap::new();
    for (key, value) in pairs {
        if labels.insert(key.clone(), value.clone()).is_some_and(|earlier| earlier != *value) {
            return Err(Failure::usage(format!("label {key} is given twice, with two values")));
        }
    }
    Ok(labels)
}

/// -100 to 100. A negative one has the mark of a formula.
pub(crate) fn priority(text: &str) -> Result<i8, String> {
    let Ok(text) = argv::formula(text);
    match text.parse::<i8>() {
        Ok(priority) if (-100..=100).contains(&priority) => Ok(priority),
        _ => Err("write a whole number from -100 to 100".into()),
    }
}

/// A key that fits a header.
pub(crate) fn idempotency_key(text: &str) -> Result<String, String> {
    quipu_shared::api::check_idempotency_key(text).map(|()| text.to_owned()).map_err(|error| error.message)
}

/// A name that a formula can use.
fn variable(text: &str) -> Result<String, String> {
    let name = text.trim();
    let starts = name.starts_with(|c: char| c.is_alphabetic() || c == '_');
    if starts && name.chars().all(|c| c.is_alphanumeric() || c == '_') {
        Ok(name.to_owned())
    } else {
        Err(format!("{name:?} is no name that a formula can use; write letters, digits and _"))
    }
}

/// Rows: `1000000` or `1_000_000`.
pub(crate) fn count(text: &str) -> Result<u64, String> {
    let digits = text.replace('_', "");
    match digits.parse::<u64>() {
        Ok(0) | Err(_) => Err("write a whole number from 1 on, such as 1_000_000".into()),
        Ok(n) => Ok(n),
    }
}

/// `500ms`, `90s`, `5m`, `1h30m`, `2d`; a number alone is seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    const FORM: &str = "write it like 90s, 5m, 1h30m or 500ms";
    let mut rest = text.trim();
    if let Ok(seconds) = rest.parse::<u64>() {
        return positive(Duration::from_secs(seconds));
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or(FORM)?;
        let (number, tail) = rest.split_at(digits);
        let unit_len = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_len);
        let unit_s = match unit {
            "ms" => 1e-3,
            "s" => 1.0,
            "m" | "min" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            _ => return Err(FORM.into()),
        };
        let number: f64 = number.parse().map_err(|_| FORM)?;
        let part = Duration::try_from_secs_f64(number * unit_s).map_err(|_| FORM)?;
        total = total.checked_add(part).ok_or(FORM)?;
        rest = tail;
    }
    positive(total)
}

fn positive(time: Duration) -> Result<Duration, String> {
    if time.as_millis() == 0 { Err("give at least a millisecond".into()) } else { Ok(time) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        for (text, ms) in [
            ("90", 90_000),
            ("90s", 90_000),
            ("1h30m", 5_400_000),
            ("500ms", 500),
            ("1.5s", 1_500),
            ("2d", 172_800_000),
        ] {
            assert_eq!(duration(text).unwrap().as_millis(), ms, "{text}");
        }
        for text in ["", "s", "5", "1y", "-1s", "0", "0ms", "1e3s", "1h x", "9999999999999999999999d", "1.2.3s"] {
            assert_eq!(duration(text).is_ok(), text == "5", "{text}");
        }
    }

    #[test]
    fn labels_have_one_value() {
        assert_eq!(label("k=v=w"), Ok(("k".into(), "v=w".into())));
        assert_eq!(label("k="), Ok(("k".into(), String::new())));
        assert!(label("k").is_err() && label("=v").is_err());
        let pair = |value: &str| ("k".to_owned(), value.to_owned());
        assert_eq!(labels(&[pair("v"), pair("v")]).unwrap().len(), 1);
        assert!(labels(&[pair("v"), pair("w")]).unwrap_err().message.contains("label k"));
    }

    #[test]
    fn priorities_are_bounded_and_may_be_negative() {
        assert_eq!((priority("-100"), priority("\u{1}-5"), priority("100")), (Ok(-100), Ok(-5), Ok(100)));
        for text in ["101", "-101", "", "1.5", "high", "999"] {
            assert!(priority(text).is_err(), "{text}");
        }
    }

    #[test]
    fn counts_may_be_grouped() {
        assert_eq!(count("1_000_000"), Ok(1_000_000));
        for text in ["0", "", "-1", "1e6", "1.5", "99999999999999999999"] {
            assert!(count(text).is_err(), "{text}");
        }
    }

    #[test]
    fn vars_only_takes_types() {
        let list = vars_only("a, b:float").unwrap();
        assert_eq!(&list[..], [("a".into(), None), ("b".into(), Some(ColumnType::Float))]);
        assert_eq!(vars_only("").unwrap().len(), 0);
        for text in ["a,a", "1a", "a:number", "a b"] {
            assert!(vars_only(text).is_err(), "{text}");
        }
    }
}
