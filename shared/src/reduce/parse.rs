//! Reductions as users write them: `sum,mean,histogram(0,1,10),quantile(0.5)`.

use super::error::ReduceError;
use super::histogram;
use crate::spec::Reduction;

/// Reductions of one job. Each costs a pass over every block; nobody has use for more.
pub const REDUCTIONS_MAX: usize = 64;
/// Bins of a histogram: its partial then stays below a megabyte, and its JSON below four.
pub const BINS_MAX: u32 = 100_000;

const KNOWN: &str = "count sum mean min max argmin argmax variance stddev any all histogram(lo,hi,bins) quantile(p)";
const NAMES: [&str; 13] = [
    "count",
    "sum",
    "mean",
    "min",
    "max",
    "argmin",
    "argmax",
    "variance",
    "stddev",
    "any",
    "all",
    "histogram",
    "quantile",
];

/// Reads a comma-separated list of reductions; commas within parentheses belong to arguments.
pub fn parse_reductions(text: &str) -> Result<Vec<Reduction>, ReduceError> {
    let mut reductions = Vec::new();
    for part in split(text)? {
        reductions.push(parse_one(part, text)?);
    }
    check(&reductions)?;
    Ok(reductions)
}

/// The name of a reduction's result: `sum`, `histogram`, `quantile(0.5)`.
pub fn reduction_name(reduction: &Reduction) -> String {
    match reduction {
        Reduction::Quantile(p) => format!("quantile({p})"),
        other => base_name(other).to_owned(),
    }
}

/// The name without arguments.
pub(super) fn base_name(reduction: &Reduction) -> &'static str {
    match reduction {
        Reduction::Count => "count",
        Reduction::Sum => "sum",
        Reduction::Mean => "mean",
        Reduction::Min => "min",
        Reduction::Max => "max",
        Reduction::Argmin => "argmin",
        Reduction::Argmax => "argmax",
        Reduction::Variance => "variance",
        Reduction::Stddev => "stddev",
        Reduction::Any => "any",
        Reduction::All => "all",
        Reduction::Histogram { .. } => "histogram",
        Reduction::Quantile(_) => "quantile",
    }
}

/// Refuses what [`parse_reductions`] would refuse; specs also come as JSON.
pub(super) fn check(reductions: &[Reduction]) -> Result<(), ReduceError> {
    if reductions.is_empty() {
        return Err(ReduceError::Empty);
    }
    if reductions.len() > REDUCTIONS_MAX {
        return Err(ReduceError::TooMany(reductions.len()));
    }
    for (i, reduction) in reductions.iter().enumerate() {
        let name = reduction_name(reduction);
        if reductions[..i].iter().any(|earlier| reduction_name(earlier) == name) {
            return Err(ReduceError::Repeated(name));
        }
        match *reduction {
            Reduction::Histogram { lo, hi, bins } => histogram::check(lo, hi, bins)?,
            Reduction::Quantile(p) if !(0.0..=1.0).contains(&p) => {
                return Err(argument("quantile", format!("{p} is not from 0 to 1")));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Refuses reductions that are approximate by their nature.
pub(super) fn check_exact(reductions: &[Reduction]) -> Result<(), ReduceError> {
    match reductions.iter().find(|reduction| matches!(reduction, Reduction::Quantile(_))) {
        Some(quantile) => Err(ReduceError::NeverExact(reduction_name(quantile))),
        None => Ok(()),
    }
}

pub(super) fn argument(reduction: &'static str, problem: impl Into<String>) -> ReduceError {
    ReduceError::Argument { reduction, problem: problem.into() }
}

/// Splits at commas outside parentheses.
fn split(text: &str) -> Result<Vec<&str>, ReduceError> {
    let syntax = |problem: &str| ReduceError::Syntax { text: text.to_owned(), problem: problem.to_owned() };
    let mut parts = Vec::new();
    let mut start = 0;
    let mut open = false;
    for (i, c) in text.char_indices() {
        match c {
            '(' if open => return Err(syntax("parentheses do not nest")),
            '(' => open = true,
            ')' if !open => return Err(syntax("a ) has no (")),
            ')' => open = false,
            ',' if !open => {
                parts.push(text[start..i].trim());
                start = i + 1;
            }
            _ => {}
        }
    }
    if open {
        return Err(syntax("a ( is not closed"));
    }
    parts.push(text[start..].trim());
    if text.trim().is_empty() {
        return Err(ReduceError::Empty);
    }
    if parts.iter().any(|part| part.is_empty()) {
        return Err(syntax("there is nothing between two commas"));
    }
    Ok(parts)
}

fn parse_one(part: &str, text: &str) -> Result<Reduction, ReduceError> {
    let (name, arguments) = match part.split_once('(') {
        None => (part, None),
        Some((name, rest)) => {
            let Some(inner) = rest.strip_suffix(')') else {
                return Err(ReduceError::Syntax {
                    text: text.to_owned(),
                    problem: format!("{part:?} goes on after its )"),
                });
            };
            (name.trim_end(), Some(inner.split(',').map(str::trim).collect::<Vec<_>>()))
        }
    };
    let reduction = match name {
        "count" => Reduction::Count,
        "sum" => Reduction::Sum,
        "mean" => Reduction::Mean,
        "min" => Reduction::Min,
        "max" => Reduction::Max,
        "argmin" => Reduction::Argmin,
        "argmax" => Reduction::Argmax,
        "variance" => Reduction::Variance,
        "stddev" => Reduction::Stddev,
        "any" => Reduction::Any,
        "all" => Reduction::All,
        "histogram" => {
            const USAGE: &str = "it takes a lower edge, an upper edge and a number of bins, as in histogram(0,1,10)";
            let Some([lo, hi, bins]) = arguments.as_deref() else { return Err(argument("histogram", USAGE)) };
            let bins: u64 = bins.parse().map_err(|_| {
                argument("histogram", format!("{bins:?} is not a number of bins; write a positive integer"))
            })?;
            return Ok(Reduction::Histogram {
                lo: number("histogram", lo)?,
                hi: number("histogram", hi)?,
                bins: u32::try_from(bins).map_err(|_| ReduceError::TooManyBins(bins))?,
            });
        }
        "quantile" => {
            const USAGE: &str = "it takes one number from 0 to 1, as in quantile(0.5)";
            let Some([p]) = arguments.as_deref() else { return Err(argument("quantile", USAGE)) };
            // Adding zero makes one name of -0 and 0.
            return Ok(Reduction::Quantile(number("quantile", p)? + 0.0));
        }
        _ => return Err(unknown(name)),
    };
    match arguments {
        None => Ok(reduction),
        Some(_) => Err(argument(base_name(&reduction), "it takes no arguments")),
    }
}

fn unknown(name: &str) -> ReduceError {
    let close = NAMES.iter().map(|known| (strsim::damerau_levenshtein(known, name), known)).min();
    let hint = match close {
        Some((distance, known)) if distance <= 2 => format!("; did you mean {known}?"),
        _ => String::new(),
    };
    ReduceError::Unknown { name: name.to_owned(), hint, known: KNOWN }
}

fn number(reduction: &'static str, text: &str) -> Result<f64, ReduceError> {
    match text.parse::<f64>() {
        Ok(x) if x.is_finite() => Ok(x),
        _ => Err(argument(reduction, format!("{text:?} is not a finite number"))),
    }
}

#[cfg(test)]
mod tests {
    use super::{parse_reductions, reduction_name};
    use crate::reduce::ReduceError;
    use crate::spec::Reduction;

    #[test]
    fn list_is_read_in_order_with_commas_inside_parentheses() {
        let parsed = parse_reductions(" sum, mean ,histogram(0, 1e1 ,10),quantile(0.5)").unwrap();
        assert_eq!(
            parsed,
            [
                Reduction::Sum,
                Reduction::Mean,
                Reduction::Histogram { lo: 0.0, hi: 10.0, bins: 10 },
                Reduction::Quantile(0.5)
            ]
        );
        let names: Vec<String> = parsed.iter().map(reduction_name).collect();
        assert_eq!(names, ["sum", "mean", "histogram", "quantile(0.5)"]);
    }

    #[test]
    fn every_name_without_arguments_reads_back_as_itself() {
        let all = "count,sum,mean,min,max,argmin,argmax,variance,stddev,any,all";
        let names: Vec<String> = parse_reductions(all).unwrap().iter().map(reduction_name).collect();
        assert_eq!(names.join(","), all);
    }

    #[test]
    fn refusals_name_the_input_and_the_fix() {
        let cases = [
            ("", "no reduction given; write for example sum,mean"),
            ("sum,,mean", "can't read the reductions \"sum,,mean\": there is nothing between two commas"),
            ("quantile(0.5", "can't read the reductions \"quantile(0.5\": a ( is not closed"),
            ("quantile)0.5(", "can't read the reductions \"quantile)0.5(\": a ) has no ("),
            ("quantile((0.5))", "can't read the reductions \"quantile((0.5))\": parentheses do not nest"),
            ("sum(1)x", "can't read the reductions \"sum(1)x\": \"sum(1)x\" goes on after its )"),
            ("sum(1)", "sum: it takes no arguments"),
            ("quantile", "quantile: it takes one number from 0 to 1, as in quantile(0.5)"),
            ("quantile(1.5)", "quantile: 1.5 is not from 0 to 1"),
            ("quantile(nan)", "quantile: \"nan\" is not a finite number"),
            ("sum,sum", "sum is asked for twice; each result of a job has one name, so leave one out"),
            (
                "quantile(0),quantile(-0.0)",
                "quantile(0) is asked for twice; each result of a job has one name, so leave one out",
            ),
            (
                "histogram(0,1)",
                "histogram: it takes a lower edge, an upper edge and a number of bins, as in histogram(0,1,10)",
            ),
            ("histogram(0,1,0)", "histogram: there must be at least one bin"),
            ("histogram(0,1,5000000000)", "histogram: 5000000000 bins; at most 100000 are taken"),
            ("histogram(0,1,200000)", "histogram: 200000 bins; at most 100000 are taken"),
            ("histogram(1,0,5)", "histogram: the lower edge 1 is not below the upper edge 0"),
        ];
        for (text, message) in cases {
            assert_eq!(parse_reductions(text).unwrap_err().to_string(), message, "{text}");
        }
    }

    #[test]
    fn misspelt_name_is_answered_with_the_nearest() {
        let error = parse_reductions("medan").unwrap_err();
        assert!(error.to_string().starts_with("unknown reduction \"medan\"; did you mean mean?; known are count sum"));
        assert_eq!(error.code(), "unknown_reduction");
        assert!(matches!(parse_reductions("frobnicate"), Err(ReduceError::Unknown { hint, .. }) if hint.is_empty()));
    }

    #[test]
    fn too_many_reductions_are_refused() {
        let text = (0..65).map(|i| format!("quantile(0.{i:02})")).collect::<Vec<_>>().join(",");
        assert_eq!(parse_reductions(&text), Err(ReduceError::TooMany(65)));
    }
}
