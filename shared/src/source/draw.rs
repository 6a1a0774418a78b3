//! Draws: `u=uniform(0,1)`, `n=normal(0,1)`, `t=exponential(2)`, `b=bernoulli(0.5)`, `k=integer(1,6)`,
//! `c=choice("a","b")`.

use super::error::SourceError;
use super::text::{check_name, list, list_type, literal, split, split_name};
use crate::spec::{ColumnType, Distribution, Draw, Scalar};

const KNOWN: &str = "uniform(a,b) normal(mean,sd) exponential(rate) bernoulli(p) integer(lo,hi) choice(a,b,..)";
const NAMES: [&str; 6] = ["uniform", "normal", "exponential", "bernoulli", "integer", "choice"];

/// Reads one draw.
pub fn parse_draw(text: &str) -> Result<Draw, SourceError> {
    let fail = |problem: String| SourceError::Draw { input: text.to_owned(), problem };
    let Some((name, rest)) = split_name(text) else {
        return Err(fail("write a name, = and a distribution, as in u=uniform(0,1)".into()));
    };
    check_name(name)?;
    let distribution = distribution(rest).map_err(fail)?;
    check(&distribution).map_err(fail)?;
    Ok(Draw { name: name.to_owned(), distribution })
}

fn distribution(text: &str) -> Result<Distribution, String> {
    let Some((name, arguments)) = text.strip_suffix(')').and_then(|text| text.split_once('(')) else {
        return Err(format!("{text:?} is no distribution; known are {KNOWN}"));
    };
    let name = name.trim();
    let arguments = split(arguments, ',');
    let wrong = |usage: &str| Err(format!("{name} takes {usage}"));
    match (name, &arguments[..]) {
        ("uniform", [a, b]) => Ok(Distribution::Uniform(float(a)?, float(b)?)),
        ("uniform", _) => wrong("a lower and an upper bound, as in uniform(0,1)"),
        ("normal", [mean, sd]) => Ok(Distribution::Normal(float(mean)?, float(sd)?)),
        ("normal", _) => wrong("a mean and a standard deviation, as in normal(0,1)"),
        ("exponential", [rate]) => Ok(Distribution::Exponential(float(rate)?)),
        ("exponential", _) => wrong("a rate, as in exponential(2)"),
        ("bernoulli", [p]) => Ok(Distribution::Bernoulli(float(p)?)),
        ("bernoulli", _) => wrong("a probability, as in bernoulli(0.5)"),
        ("integer", [lo, hi]) => Ok(Distribution::Integer(int(lo)?, int(hi)?)),
        ("integer", _) => wrong("the least and the greatest integer, as in integer(1,6)"),
        ("choice", values) => Ok(Distribution::Choice(list(values)?)),
        _ => {
            let close = NAMES.iter().map(|known| (strsim::damerau_levenshtein(known, name), known)).min();
            let hint = match close {
                Some((distance, known)) if distance <= 3 => format!("; did you mean {known}?"),
                _ => String::new(),
            };
            Err(format!("unknown distribution {name:?}{hint}; known are {KNOWN}"))
        }
    }
}

fn float(text: &str) -> Result<f64, String> {
    match literal(text) {
        Ok(Scalar::Int(x)) => Ok(x as f64),
        Ok(Scalar::Float(x)) if x.is_finite() => Ok(x),
        _ => Err(format!("{text:?} is not a finite number")),
    }
}

fn int(text: &str) -> Result<i64, String> {
    match literal(text) {
        Ok(Scalar::Int(x)) => Ok(x),
        _ => Err(format!("{text:?} is not an int (64 bits)")),
    }
}

/// Refuses parameters that make no distribution; the error is a problem for people.
pub(super) fn check(distribution: &Distribution) -> Result<ColumnType, String> {
    match distribution {
        Distribution::Uniform(a, b) => {
            if !(a.is_finite() && b.is_finite() && a < b) {
                return Err(format!("uniform({a},{b}) is empty; the lower bound must be below the upper one"));
            }
            if !(b - a).is_finite() {
                return Err(format!("uniform({a},{b}) is wider than a float can tell"));
            }
            Ok(ColumnType::Float)
        }
        Distribution::Normal(mean, sd) => {
            // No draw lies further out than 8.3 standard deviations.
            if !(*sd >= 0.0 && (mean.abs() + 9.0 * sd).is_finite()) {
                return Err(format!(
                    "normal({mean},{sd}): the standard deviation must be 0 or more, and both within range"
                ));
            }
            Ok(ColumnType::Float)
        }
        Distribution::Exponential(rate) => {
            // No draw is greater than 36.8 / rate.
            if !(*rate > 0.0 && rate.is_finite() && (40.0 / rate).is_finite()) {
                return Err(format!("exponential({rate}): the rate must be above 0, and within range"));
            }
            Ok(ColumnType::Float)
        }
        Distribution::Bernoulli(p) => {
            if !(0.0..=1.0).contains(p) {
                return Err(format!("bernoulli({p}): the probability must be from 0 to 1"));
            }
            Ok(ColumnType::Boolean)
        }
        Distribution::Integer(lo, hi) => {
            if lo > hi {
                return Err(format!("integer({lo},{hi}) is empty; write the lower end first"));
            }
            Ok(ColumnType::Int)
        }
        Distribution::Choice(values) => list_type(values),
    }
}
