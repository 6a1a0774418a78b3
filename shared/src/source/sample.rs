//! Samples: independent random draws.
//!
//! Draw i of a variable is a pure function of the seed, the variable's name and i. It is made from the i-th 64-bit word
//! of the variable's [`Stream`]:
//! - `uniform(a,b)`: a + (b - a) * u with the upper 53 bits as u in [0, 1); what rounds up to b becomes the float
//!   below b.
//! - `normal(mean,sd)`: mean + sd * z, where z is the normal quantile of (k + 1/2) / 2^52 with the upper 52 bits as k.
//! - `exponential(rate)`: -ln(u) / rate with (k + 1) / 2^53 as u in (0, 1].
//! - `bernoulli(p)`: u < p.
//! - `integer(lo,hi)` and `choice`: the high half of word * n (128 bits), where n is how many there are; the few words
//!   that would make some values likelier than others are replaced by those of the draw's next attempts (Lemire 2019),
//!   so there is no bias at all.

use super::draw::check;
use super::error::SourceError;
use super::normal;
use super::philox::Stream;
use super::text::check_names;
use super::{ROWS_MAX, RowSource, begin_block, booleans, floats, ints, list_column, strings};
use crate::block::{Block, Column};
use crate::math::Function1;
use crate::spec::{ColumnType, Distribution, Draw};
use multiversion::multiversion;

/// Words that are made at once: they stay in the first-level cache.
const CHUNK: usize = 512;
/// 2^-53 and 2^-52: the spacing of uniform fractions.
const SPACING_53: f64 = 1.0 / 9_007_199_254_740_992.0;
const SPACING_52: f64 = 1.0 / 4_503_599_627_370_496.0;

/// The draws of a sample.
#[derive(Clone, Debug)]
pub struct SampleSource {
    variables: Vec<String>,
    types: Vec<ColumnType>,
    draws: Vec<(Stream, Law)>,
    rows: u64,
}

/// A distribution, with what can be computed ahead.
#[derive(Clone, Debug)]
enum Law {
    Uniform {
        a: f64,
        b: f64,
    },
    Normal {
        mean: f64,
        sd: f64,
    },
    Exponential {
        rate: f64,
    },
    Bernoulli {
        p: f64,
    },
    /// `span` is how many there are; 0 stands for 2^64.
    Integer {
        lo: i64,
        span: u64,
    },
    Choice(Column),
}

impl SampleSource {
    /// Checks draws.
    ///
    /// # Errors
    /// For names, distributions and numbers of rows that can't be taken.
    pub fn new(draws: &[Draw], rows: u64, seed: u64) -> Result<Self, SourceError> {
        let variables = check_names("draw", draws.iter().map(|draw| &draw.name))?;
        if rows > ROWS_MAX {
            return Err(SourceError::TooMany { what: "rows", found: rows.to_string(), max: ROWS_MAX });
        }
        let mut types = Vec::with_capacity(draws.len());
        let mut laws = Vec::with_capacity(draws.len());
        for draw in draws {
            let ty =
                check(&draw.distribution).map_err(|problem| SourceError::Draw { input: draw.name.clone(), problem })?;
            let law = match &draw.distribution {
                Distribution::Uniform(a, b) => Law::Uniform { a: *a, b: *b },
                Distribution::Normal(mean, sd) => Law::Normal { mean: *mean, sd: *sd },
                Distribution::Exponential(rate) => Law::Exponential { rate: *rate },
                Distribution::Bernoulli(p) => Law::Bernoulli { p: *p },
                Distribution::Integer(lo, hi) => Law::Integer { lo: *lo, span: lo.abs_diff(*hi).wrapping_add(1) },
                Distribution::Choice(values) => Law::Choice(list_column(values, ty)),
            };
            types.push(ty);
            laws.push((Stream::new(seed, &draw.name), law));
        }
        Ok(Self { variables, types, draws: laws, rows })
    }
}

impl RowSource for SampleSource {
    fn variables(&self) -> &[String] {
        &self.variables
    }

    fn column_types(&self) -> &[ColumnType] {
        &self.types
    }

    fn rows(&self) -> u64 {
        self.rows
    }

    fn fill(&self, first_row: u64, len: usize, block: &mut Block) {
        begin_block(block, self.draws.len(), first_row, len);
        for ((stream, law), column) in self.draws.iter().zip(&mut block.columns) {
            let stream = *stream;
            match law {
                Law::Uniform { a, b } => {
                    let out = floats(column);
                    pieces(stream, first_row, len, out, |_, words, piece| uniform(words, piece, *a, *b));
                }
                Law::Normal { mean, sd } => {
                    let out = floats(column);
                    pieces(stream, first_row, len, out, |_, words, piece| {
                        probabilities(words, piece);
                        normal::quantiles(piece, *mean, *sd);
                    });
                }
                Law::Exponential { rate } => exponential(stream, first_row, len, *rate, floats(column)),
                Law::Bernoulli { p } => {
                    let out = booleans(column);
                    pieces(stream, first_row, len, out, |_, words, piece| bernoulli(words, piece, *p));
                }
                Law::Integer { lo, span } => each(stream, first_row, len, ints(column), |i, word| {
                    lo.wrapping_add(below(stream, *span, i, word) as i64)
                }),
                Law::Choice(Column::Int(values)) => choose(stream, first_row, len, ints(column), values),
                Law::Choice(Column::Float(values)) => choose(stream, first_row, len, floats(column), values),
                Law::Choice(Column::Boolean(values)) => choose(stream, first_row, len, booleans(column), values),
                Law::Choice(Column::String(values)) => {
                    let (out, span) = (strings(column), values.len() as u64);
                    out.resize(len, String::new());
                    for (row, slot) in (first_row..).zip(out) {
                        slot.clone_from(&values[below(stream, span, row, stream.word(row, 0)) as usize]);
                    }
                }
                Law::Choice(Column::Mixed(_)) => unreachable!("a choice has values of one type"),
            }
        }
    }
}

/// The upper 53 bits as a fraction in [0, 1).
#[inline(always)]
fn fraction(word: u64) -> f64 {
    // Through i64, which machines convert in one instruction.
    (word >> 11) as i64 as f64 * SPACING_53
}

/// Uniform below `span` (0 stands for 2^64), from the word of draw `i` and, where that is refused, its next attempts.
#[inline(always)]
fn below(stream: Stream, span: u64, i: u64, word: u64) -> u64 {
    if span == 0 {
        return word;
    }
    // Two words of 64 bits can't overflow 128, and a check would cost more than the product.
    let product = |word: u64| u128::from(word).wrapping_mul(u128::from(span));
    let mut scaled = product(word);
    if (scaled as u64) < span {
        let refused = span.wrapping_neg() % span;
        let mut attempt = 1;
        while (scaled as u64) < refused {
            scaled = product(stream.word(i, attempt));
            attempt = attempt.wrapping_add(1);
        }
    }
    (scaled >> 64) as u64
}

/// Floats over `[a, b)`.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn uniform(words: &[u64], out: &mut [f64], a: f64, b: f64) {
    let (width, top) = (b - a, b.next_down());
    for (slot, word) in out.iter_mut().zip(words) {
        let x = a + width * fraction(*word);
        *slot = if x < b { x } else { top };
    }
}

/// Fractions in the middle of their steps of 2^-52, so neither 0 nor 1.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn probabilities(words: &[u64], out: &mut [f64]) {
    for (slot, word) in out.iter_mut().zip(words) {
        *slot = ((word >> 12) as i64 as f64 + 0.5) * SPACING_52;
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn bernoulli(words: &[u64], out: &mut [bool], p: f64) {
    for (slot, word) in out.iter_mut().zip(words) {
        *slot = fraction(*word) < p;
    }
}

/// Writes a draw for each row, piece by piece: `law(first row, words, draws)`.
#[inline(always)]
fn pieces<T: Copy + Default>(
    stream: Stream,
    first_row: u64,
    len: usize,
    out: &mut Vec<T>,
    law: impl Fn(u64, &[u64], &mut [T]),
) {
    out.resize(len, T::default());
    let mut words = [0; CHUNK];
    let mut row = first_row;
    for piece in out.chunks_mut(CHUNK) {
        let words = &mut words[..piece.len()];
        stream.words(row, words);
        law(row, words, piece);
        row += piece.len() as u64;
    }
}

/// Writes a draw for each row: `law(row, word)`.
#[inline(always)]
fn each<T: Copy + Default>(stream: Stream, first_row: u64, len: usize, out: &mut Vec<T>, law: impl Fn(u64, u64) -> T) {
    pieces(stream, first_row, len, out, |row, words, piece| {
        for (i, (slot, word)) in (row..).zip(piece.iter_mut().zip(words)) {
            *slot = law(i, *word);
        }
    });
}

fn exponential(stream: Stream, first_row: u64, len: usize, rate: f64, out: &mut Vec<f64>) {
    each(stream, first_row, len, out, |_, word| ((word >> 11) + 1) as i64 as f64 * SPACING_53);
    let mut logs = [0.0; CHUNK];
    for piece in out.chunks_mut(CHUNK) {
        let logs = &mut logs[..piece.len()];
        Function1::Ln.over(piece, logs);
        for (slot, log) in piece.iter_mut().zip(logs) {
            // Taken from 0, so that ln 1 gives +0.
            *slot = (0.0 - *log) / rate;
        }
    }
}

fn choose<T: Copy + Default>(stream: Stream, first_row: u64, len: usize, out: &mut Vec<T>, values: &[T]) {
    let span = values.len() as u64;
    each(stream, first_row, len, out, |i, word| values[below(stream, span, i, word) as usize]);
}
