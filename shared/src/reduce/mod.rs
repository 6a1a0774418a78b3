//! Reductions whose bits do not depend on sharding.
//!
//! A [`ReducerSet`] takes blocks ([`ReducerSet::push`]), merges with other sets of the same job in any order
//! ([`ReducerSet::merge`]) and gives one JSON document ([`ReducerSet::finish`]). The laws, one a file: [`sum`](self)
//! exact over block sums that are made in fixed lanes; variance over the aligned tree of block numbers; extremes by a
//! total order of (value, row); histograms and quantiles by counting.
//!
//! A row without a value (null, filtered, failed) counts nowhere. Of no values, `count` and `sum` are 0, `any` is
//! false, `all` is true, `histogram` has zeros, and everything else is null; `variance` and `stddev` need two values.
//!
//! An exact set adds every element as it is, and its square, to wide accumulators: `sum`, `mean`, `variance` and
//! `stddev` are then the floats next to the true values, rounded once. The other reductions are exact anyway, but for
//! `quantile`, which an exact set refuses.

mod error;
mod exact;
mod extremes;
mod histogram;
mod kernels;
mod lanes;
mod moments;
mod parse;
mod partial;
mod sketch;
mod sum;
mod wide;

#[cfg(test)]
mod tests;

pub use error::ReduceError;
pub use parse::{BINS_MAX, REDUCTIONS_MAX, parse_reductions, reduction_name};
pub use partial::PARTIAL_BYTES_MAX;

use crate::BLOCK_ROWS;
use crate::block::{Block, Column, RowError, RowState, Values};
use crate::spec::{Reduction, Scalar};
use extremes::{Cell, End, Extreme, Number};
use histogram::Histogram;
use lanes::{Dense, Mask, Sparse};
use moments::{Moments, Tree};
use serde_json::{Map, Value};
use sketch::Sketch;
use sum::{Split, Squares, Sums, Total};

/// The reductions of a job over some of its blocks.
#[derive(Clone, Debug)]
pub struct ReducerSet {
    reductions: Vec<Reduction>,
    inputs: Vec<String>,
    exact: bool,
    /// Rows with a value.
    count: u64,
    truth: Truth,
    sums: Option<Sums>,
    moments: Option<Tree>,
    squares: Option<Squares>,
    lowest: Option<Extreme>,
    highest: Option<Extreme>,
    histogram: Option<Histogram>,
    sketch: Option<Sketch>,
    wants_inputs: bool,
    wants_numbers: bool,
    wants_booleans: bool,
    scratch: Scratch,
}

/// What `any` and `all` keep.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Truth {
    truths: u64,
    falsehoods: u64,
}

/// Buffers that live from block to block.
#[derive(Clone, Debug, Default)]
struct Scratch {
    mask: Vec<bool>,
    floats: Vec<f64>,
    split: Split,
}

impl ReducerSet {
    /// No rows yet. `input_names` are the source's variables, in the order of a block's columns; `exact` is for results
    /// that are rounded once.
    ///
    /// # Errors
    /// What [`parse_reductions`] refuses is refused here too: specs also come as JSON. Quantiles can't be exact.
    pub fn new(reductions: &[Reduction], input_names: &[String], exact: bool) -> Result<Self, ReduceError> {
        parse::check(reductions)?;
        if exact {
            parse::check_exact(reductions)?;
        }
        let has = |wanted: &[Reduction]| reductions.iter().any(|reduction| wanted.contains(reduction));
        let wants_booleans = has(&[Reduction::Any, Reduction::All]);
        let other = |r: &Reduction| !matches!(r, Reduction::Count | Reduction::Any | Reduction::All);
        let histogram = reductions.iter().find_map(|reduction| match *reduction {
            Reduction::Histogram { lo, hi, bins } => Some(Histogram::new(lo, hi, bins)),
            _ => None,
        });
        let spread = has(&[Reduction::Variance, Reduction::Stddev]);
        let quantile = |reduction: &Reduction| matches!(reduction, Reduction::Quantile(_));
        Ok(Self {
            reductions: reductions.to_vec(),
            inputs: input_names.to_vec(),
            exact,
            count: 0,
            truth: Truth::default(),
            sums: (has(&[Reduction::Sum, Reduction::Mean]) || (spread && exact)).then(Sums::default),
            moments: (spread && !exact).then(Tree::default),
            squares: (spread && exact).then(Squares::default),
            lowest: has(&[Reduction::Min, Reduction::Argmin]).then(|| Extreme::new(End::Lowest)),
            highest: has(&[Reduction::Max, Reduction::Argmax]).then(|| Extreme::new(End::Highest)),
            histogram,
            sketch: reductions.iter().any(quantile).then(Sketch::default),
            wants_inputs: has(&[Reduction::Argmin, Reduction::Argmax]),
            wants_numbers: reductions.iter().any(other),
            wants_booleans,
            scratch: Scratch::default(),
        })
    }

    /// Takes a block's values; `block` has their inputs.
    ///
    /// # Errors
    /// The first row whose value is of a type that a reduction does not take. The block has then left no trace, so a
    /// caller may turn that row into a null or a hole and push again.
    ///
    /// # Panics
    /// Where the values are no block: not aligned, too long, or without a state for each value.
    pub fn push(&mut self, block: &Block, values: &Values) -> Result<(), RowError> {
        assert!(
            values.first_row.is_multiple_of(BLOCK_ROWS)
                && values.states.len() as u64 <= BLOCK_ROWS
                && values.column.len() == values.states.len(),
            "values of rows from {} on are no block",
            values.first_row
        );
        let valid = count_valid(&values.states);
        self.check_types(values, valid)?;
        let number = values.first_row / BLOCK_ROWS;
        if let Some(tree) = &self.moments
            && tree.overlaps(number, 1)
        {
            let message = format!("rows from {} on have been reduced before", values.first_row);
            return Err(RowError { row: values.first_row, code: "repeated_rows".into(), message });
        }
        // Taken out, so that the mask can be lent while the reducers change.
        let mut scratch = std::mem::take(&mut self.scratch);
        if valid == values.states.len() {
            self.push_masked(block, values, Dense, &mut scratch, valid as u64);
        } else {
            let mut mask = std::mem::take(&mut scratch.mask);
            mask.clear();
            mask.extend(values.states.iter().map(|state| *state == RowState::Valid));
            self.push_masked(block, values, Sparse(&mask), &mut scratch, valid as u64);
            scratch.mask = mask;
        }
        self.scratch = scratch;
        Ok(())
    }

    fn check_types(&self, values: &Values, valid: usize) -> Result<(), RowError> {
        if valid == 0 {
            return Ok(());
        }
        let fits = |value: &Scalar| {
            let number = matches!(value, Scalar::Int(_) | Scalar::Float(_));
            let boolean = matches!(value, Scalar::Boolean(_));
            (number || !self.wants_numbers) && (boolean || !self.wants_booleans)
        };
        let mut rows = (0..values.states.len()).filter(|&i| values.states[i] == RowState::Valid);
        let found = match &values.column {
            Column::Mixed(mixed) => rows.find(|&i| !fits(&mixed[i])),
            // All values are of one type, so the first one speaks for them.
            column => rows.next().filter(|&i| !fits(&column.get(i))),
        };
        match found {
            None => Ok(()),
            Some(i) => Err(self.type_error(values.first_row + i as u64, &values.column.get(i))),
        }
    }

    fn type_error(&self, row: u64, value: &Scalar) -> RowError {
        let names = |wanted: fn(&Reduction) -> bool| {
            self.reductions.iter().find(|reduction| wanted(reduction)).map_or("reduction", parse::base_name)
        };
        let ty = match value {
            Scalar::Int(_) => "an int",
            Scalar::Float(_) => "a float",
            Scalar::Boolean(_) => "a boolean",
            Scalar::String(_) => "a string",
            Scalar::Tuple(_) => "a tuple",
            Scalar::Empty => "empty",
        };
        let boolean = |r: &Reduction| matches!(r, Reduction::Any | Reduction::All);
        if self.wants_numbers && !matches!(value, Scalar::Int(_) | Scalar::Float(_)) {
            let name = names(|r| !matches!(r, Reduction::Count | Reduction::Any | Reduction::All));
            let fix = if ty == "a boolean" { "; write if(.., 1, 0) around the formula" } else { "" };
            let message = format!("{name} takes numbers, but the value of row {row} is {ty}{fix}");
            RowError { row, code: "not_a_number".into(), message }
        } else {
            let message = format!(
                "{} takes booleans, but the value of row {row} is {ty}; compare it, as in x > 0",
                names(boolean)
            );
            RowError { row, code: "not_a_boolean".into(), message }
        }
    }

    /// The types are right, as far as any row is valid.
    fn push_masked<M: Mask>(&mut self, block: &Block, values: &Values, mask: M, scratch: &mut Scratch, valid: u64) {
        self.count = self.count.saturating_add(valid);
        let number = values.first_row / BLOCK_ROWS;
        match &values.column {
            Column::Float(floats) => {
                self.push_floats(block, values.first_row, floats, mask, valid);
                self.push_as_floats(number, floats, mask, valid);
            }
            Column::Int(ints) => {
                self.push_ints(block, values.first_row, ints, mask, valid);
                if self.moments.is_some() || self.histogram.is_some() || self.sketch.is_some() {
                    scratch.floats.resize(ints.len(), 0.0);
                    kernels::to_floats(ints, &mut scratch.floats);
                    self.push_as_floats(number, &scratch.floats, mask, valid);
                }
            }
            Column::Boolean(booleans) => {
                if self.wants_booleans {
                    let truths = kernels::truths(booleans, mask);
                    self.push_truths(truths, valid - truths);
                }
                self.push_as_floats(number, &[], mask, 0);
            }
            Column::String(_) => self.push_as_floats(number, &[], mask, 0),
            Column::Mixed(mixed) => self.push_mixed(block, values.first_row, mixed, mask, scratch, valid),
        }
    }

    fn push_mixed<M: Mask>(
        &mut self,
        block: &Block,
        first_row: u64,
        mixed: &[Scalar],
        mask: M,
        scratch: &mut Scratch,
        valid: u64,
    ) {
        let Scratch { floats, split, .. } = scratch;
        split.clear();
        floats.clear();
        let (mut ints_valid, mut truths, mut falsehoods) = (0, 0, 0);
        for (i, value) in mixed.iter().enumerate() {
            let (mut int, mut float) = (None, None);
            match value {
                _ if !mask.valid(i) => {}
                Scalar::Int(x) => int = Some(*x),
                Scalar::Float(x) => float = Some(*x),
                Scalar::Boolean(true) => truths += 1,
                Scalar::Boolean(false) => falsehoods += 1,
                Scalar::String(_) | Scalar::Tuple(_) | Scalar::Empty => {}
            }
            ints_valid += u64::from(int.is_some());
            split.push(int, float);
            floats.push(int.map(|x| x as f64).or(float).unwrap_or(0.0));
        }
        self.push_truths(truths, falsehoods);
        let numbers_valid = if self.wants_numbers { valid } else { 0 };
        let (ints, int_mask) = split.ints();
        self.push_ints(block, first_row, ints, int_mask, ints_valid);
        let (own_floats, float_mask) = split.floats();
        self.push_floats(block, first_row, own_floats, float_mask, numbers_valid.saturating_sub(ints_valid));
        self.push_as_floats(first_row / BLOCK_ROWS, floats, mask, numbers_valid);
    }

    fn push_truths(&mut self, truths: u64, falsehoods: u64) {
        if self.wants_booleans {
            self.truth.truths = self.truth.truths.saturating_add(truths);
            self.truth.falsehoods = self.truth.falsehoods.saturating_add(falsehoods);
        }
    }

    fn push_floats<M: Mask>(&mut self, block: &Block, first_row: u64, floats: &[f64], mask: M, valid: u64) {
        if valid == 0 {
            return;
        }
        if let Some(sums) = &mut self.sums {
            if self.exact {
                sums.push_floats_exactly(floats, mask, valid);
            } else {
                sums.push_floats(floats, mask, valid);
            }
        }
        if let Some(squares) = &mut self.squares {
            squares.push_floats(floats, mask);
        }
        let wants_inputs = self.wants_inputs;
        if self.lowest.is_some() || self.highest.is_some() {
            let bounds = kernels::bounds(floats, mask);
            for extreme in [&mut self.lowest, &mut self.highest].into_iter().flatten() {
                extreme.push_floats(floats, mask, bounds, first_row, |i| row_inputs(block, i, wants_inputs));
            }
        }
    }

    fn push_ints<M: Mask>(&mut self, block: &Block, first_row: u64, ints: &[i64], mask: M, valid: u64) {
        if valid == 0 {
            return;
        }
        if let Some(sums) = &mut self.sums {
            sums.push_ints(ints, mask, valid);
        }
        if let Some(squares) = &mut self.squares {
            squares.push_ints(ints, mask);
        }
        let wants_inputs = self.wants_inputs;
        if self.lowest.is_some() || self.highest.is_some() {
            let bounds = kernels::int_bounds(ints, mask);
            for extreme in [&mut self.lowest, &mut self.highest].into_iter().flatten() {
                extreme.push_ints(ints, mask, bounds, first_row, |i| row_inputs(block, i, wants_inputs));
            }
        }
    }

    /// For the laws that take every number as a float. A block without values is pushed too: it completes the tree.
    fn push_as_floats<M: Mask>(&mut self, number: u64, floats: &[f64], mask: M, valid: u64) {
        if let Some(tree) = &mut self.moments {
            // `push` has made sure that the block is new.
            let _ = tree.push(number, Moments::of_block(floats, mask, valid));
        }
        if valid == 0 {
            return;
        }
        if let Some(histogram) = &mut self.histogram {
            histogram.push(floats, mask);
        }
        if let Some(sketch) = &mut self.sketch {
            sketch.push(floats, mask);
        }
    }

    /// Takes over another partial of the same job, of other blocks. The order of merging changes nothing.
    ///
    /// # Errors
    /// Partials of other reductions or inputs, and (where the law can tell) of the same blocks; `self` is then as it was.
    pub fn merge(&mut self, other: Self) -> Result<(), ReduceError> {
        if self.reductions != other.reductions || self.inputs != other.inputs || self.exact != other.exact {
            return Err(ReduceError::Mismatch);
        }
        if let (Some(mine), Some(theirs)) = (&mut self.moments, &other.moments) {
            mine.merge(theirs).map_err(|overlap| ReduceError::Overlap { row: overlap.0.saturating_mul(BLOCK_ROWS) })?;
        }
        self.count = self.count.saturating_add(other.count);
        self.push_truths(other.truth.truths, other.truth.falsehoods);
        if let (Some(mine), Some(theirs)) = (&mut self.sums, &other.sums) {
            mine.merge(theirs);
        }
        if let (Some(mine), Some(theirs)) = (&mut self.squares, &other.squares) {
            mine.merge(theirs);
        }
        if let (Some(mine), Some(theirs)) = (&mut self.lowest, other.lowest) {
            mine.merge(theirs);
        }
        if let (Some(mine), Some(theirs)) = (&mut self.highest, other.highest) {
            mine.merge(theirs);
        }
        if let (Some(mine), Some(theirs)) = (&mut self.histogram, &other.histogram) {
            mine.merge(theirs);
        }
        if let (Some(mine), Some(theirs)) = (&mut self.sketch, &other.sketch) {
            mine.merge(theirs);
        }
        Ok(())
    }

    /// The job's result: `{"version":1,"rows":..,"failed":..,"result":{..}}`, results in the order of the reductions.
    ///
    /// # Errors
    /// [`ReduceError::IntOverflow`] where a sum of integers is outside i64.
    pub fn finish(self, rows: u64, failed: u64) -> Result<Value, ReduceError> {
        let mut result = Map::new();
        for reduction in &self.reductions {
            result.insert(reduction_name(reduction), self.value(reduction)?);
        }
        Ok(serde_json::json!({ "version": 1, "rows": rows, "failed": failed, "result": result }))
    }

    fn value(&self, reduction: &Reduction) -> Result<Value, ReduceError> {
        let exact = self.squares.as_ref().zip(self.sums.as_ref());
        let variance = || self.moments.as_ref().and_then(Tree::variance);
        Ok(match *reduction {
            Reduction::Count => self.count.into(),
            Reduction::Sum => match self.sums.as_ref().map_or(Total::Int(0), Sums::total) {
                Total::Float(x) => float_json(x),
                Total::Int(x) => i64::try_from(x)
                    .map_err(|_| ReduceError::IntOverflow { reduction: parse::base_name(reduction), value: x })?
                    .into(),
            },
            Reduction::Mean => optional(self.sums.as_ref().and_then(Sums::mean)),
            Reduction::Min => self.extreme_value(self.lowest.as_ref()),
            Reduction::Max => self.extreme_value(self.highest.as_ref()),
            Reduction::Argmin => self.extreme_row(self.lowest.as_ref()),
            Reduction::Argmax => self.extreme_row(self.highest.as_ref()),
            Reduction::Variance => match exact {
                Some((squares, sums)) => optional(squares.variance(sums)),
                None => optional(variance()),
            },
            Reduction::Stddev => match exact {
                Some((squares, sums)) => optional(squares.stddev(sums)),
                None => optional(variance().map(f64::sqrt)),
            },
            Reduction::Any => (self.truth.truths > 0).into(),
            Reduction::All => (self.truth.falsehoods == 0).into(),
            Reduction::Histogram { .. } => self.histogram.as_ref().map_or(Value::Null, Histogram::to_json),
            Reduction::Quantile(p) => optional(self.sketch.as_ref().and_then(|sketch| sketch.quantile(p))),
        })
    }

    fn extreme_value(&self, extreme: Option<&Extreme>) -> Value {
        extreme.and_then(Extreme::best).map_or(Value::Null, |(value, _, _)| number_json(value))
    }

    fn extreme_row(&self, extreme: Option<&Extreme>) -> Value {
        let Some((value, row, cells)) = extreme.and_then(Extreme::best) else { return Value::Null };
        let inputs: Map<String, Value> =
            self.inputs.iter().zip(cells).map(|(name, cell)| (name.clone(), cell_json(cell))).collect();
        serde_json::json!({ "value": number_json(value), "row": row, "inputs": inputs })
    }
}

/// How many rows have a value. Counted in bytes, piece by piece, since that is what vectorises.
fn count_valid(states: &[RowState]) -> usize {
    let piece = |states: &[RowState]| states.iter().fold(0_u8, |n, s| n.wrapping_add(u8::from(*s == RowState::Valid)));
    states.chunks(u8::MAX as usize).map(|states| usize::from(piece(states))).sum()
}

/// The inputs of the block's row `i`, where they are wanted.
fn row_inputs(block: &Block, i: usize, wanted: bool) -> Vec<Cell> {
    if !wanted {
        return Vec::new();
    }
    let null = |c: usize| block.nulls.get(c).and_then(Option::as_ref).is_some_and(|nulls| nulls[i]);
    let cell = |(c, column): (usize, &Column)| if null(c) { Cell::Empty } else { column.get(i).into() };
    block.columns.iter().enumerate().map(cell).collect()
}

fn number_json(number: Number) -> Value {
    match number {
        Number::Int(x) => x.into(),
        Number::Float(x) => float_json(x),
    }
}

fn cell_json(cell: &Cell) -> Value {
    match cell {
        Cell::Int(x) => (*x).into(),
        Cell::Float(bits) => float_json(f64::from_bits(*bits)),
        Cell::Boolean(x) => (*x).into(),
        Cell::String(x) => x.clone().into(),
        Cell::Empty => Value::Null,
    }
}

/// A float in shortest round-trip form, or the name of what JSON has no number for.
fn float_json(x: f64) -> Value {
    match serde_json::Number::from_f64(x) {
        Some(number) => number.into(),
        None if x.is_nan() => "NaN".into(),
        None if x > 0.0 => "inf".into(),
        None => "-inf".into(),
    }
}

fn optional(x: Option<f64>) -> Value {
    x.map_or(Value::Null, float_json)
}
