//! Loops over a block, compiled for each width of vectors that the machine may have.
//!
//! Every loop works in [`LANES`] fixed lanes, or has a result that no order changes, so its bits do not depend on the
//! width that is chosen. None contracts a product and a sum into one operation.

use super::lanes::{Dense, LANES, Mask, add};
use multiversion::multiversion;

/// Grids of the exact sum: three have all bits of ordinary data.
pub(super) const GRIDS: usize = 3;
/// Squares of magnitudes between 2^-480 and 2^500, and their errors, are normal floats.
const SQUARE_MIN: f64 = f64::from_bits((1023 - 480) << 52);
const SQUARE_MAX: f64 = f64::from_bits((1023 + 500) << 52);
/// 2^27 + 1 splits 53 bits into 26 and 26 and a sign.
const SPLITTER: f64 = 134_217_729.0;
/// Values that a histogram or a sketch looks at together.
pub(super) const PIECE: usize = 1024;

/// Calls `f(lane, value, whether it counts)` for each row of a block in order, and then for lanes without a row until all
/// have had as many.
///
/// A loop that ended early would need the lanes in memory: with this one they stay in vector registers.
#[inline(always)]
fn each_row<M: Mask, T: Copy + Default>(values: &[T], mask: M, mut f: impl FnMut(usize, T, bool)) {
    let (chunks, rest) = values.as_chunks::<LANES>();
    for (c, chunk) in chunks.iter().enumerate() {
        let valid = mask.chunk(c);
        for l in 0..LANES {
            f(l, chunk[l], M::DENSE || valid[l]);
        }
    }
    if !rest.is_empty() {
        let (mut chunk, mut valid) = ([T::default(); LANES], [false; LANES]);
        chunk[..rest.len()].copy_from_slice(rest);
        valid[..rest.len()].copy_from_slice(&mask.chunk(chunks.len())[..rest.len()]);
        for l in 0..LANES {
            f(l, chunk[l], valid[l]);
        }
    }
}

/// The same with `neutral` for what doesn't count.
#[inline(always)]
fn each<M: Mask, T: Copy + Default>(values: &[T], mask: M, neutral: T, mut f: impl FnMut(usize, T)) {
    each_row(values, mask, |l, x, valid| f(l, if valid { x } else { neutral }));
}

/// Folds what counts with a law that no order changes: the compiler chooses the lanes.
#[inline(always)]
fn fold<M: Mask, T: Copy, A>(values: &[T], mask: M, neutral: T, start: A, f: impl Fn(A, T) -> A) -> A {
    match mask.flags() {
        None => values.iter().fold(start, |a, x| f(a, *x)),
        Some(flags) => values.iter().zip(flags).fold(start, |a, (x, valid)| f(a, if *valid { *x } else { neutral })),
    }
}

/// Sum of a block's floats.
///
/// A lane begins at +0 and is therefore never -0, so adding +0 for a row that doesn't count changes no bit.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn sum<M: Mask>(values: &[f64], mask: M) -> f64 {
    let mut lanes = [0.0; LANES];
    each(values, mask, 0.0, |l, x| {
        lanes[l] += x;
    });
    add(lanes)
}

/// Sum of the differences from `origin`.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn sum_of_differences<M: Mask>(values: &[f64], mask: M, origin: f64) -> f64 {
    let mut lanes = [0.0; LANES];
    each(values, mask, origin, |l, x| {
        lanes[l] += x - origin;
    });
    add(lanes)
}

/// Sum of the differences from `mean`, and of their squares.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn deviations<M: Mask>(values: &[f64], mask: M, mean: f64) -> (f64, f64) {
    let (mut sums, mut squares) = ([0.0; LANES], [0.0; LANES]);
    each(values, mask, mean, |l, x| {
        let d = x - mean;
        sums[l] += d;
        squares[l] += d * d;
    });
    (add(sums), add(squares))
}

/// Sums of the lower and of the upper 32 bits of integers, which a block can't overflow.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn sum_of_halves<M: Mask>(values: &[i64], mask: M) -> (u64, i64) {
    // Two passes: of one with both, the compiler makes no vectors.
    let low = fold(values, mask, 0, 0, |low: u64, x: i64| low.wrapping_add(x as u64 & 0xffff_ffff));
    let high = fold(values, mask, 0, 0, |high: i64, x: i64| high.wrapping_add(x >> 32));
    (low, high)
}

/// Least and greatest of a block's floats, NaN left out, and whether there was one. Which of two zeros is found is left
/// open. Of no values, infinities the wrong way round.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn bounds<M: Mask>(values: &[f64], mask: M) -> (f64, f64, bool) {
    let (mut least, mut greatest) = ([f64::INFINITY; LANES], [f64::NEG_INFINITY; LANES]);
    let mut nan = [0_u64; LANES];
    // Written as comparisons: `f64::min` leaves the choice between zeros to the machine.
    each_row(values, mask, |l, x, valid| {
        least[l] = if valid & (x < least[l]) { x } else { least[l] };
        greatest[l] = if valid & (x > greatest[l]) { x } else { greatest[l] };
        nan[l] |= u64::from(valid & x.is_nan());
    });
    let least = least.into_iter().fold(f64::INFINITY, |a, b| if b < a { b } else { a });
    let greatest = greatest.into_iter().fold(f64::NEG_INFINITY, |a, b| if b > a { b } else { a });
    (least, greatest, nan.into_iter().any(|lane| lane != 0))
}

/// Least and greatest of a block's integers; of none, the ends of their range the wrong way round.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn int_bounds<M: Mask>(values: &[i64], mask: M) -> (i64, i64) {
    let least = fold(values, mask, i64::MAX, i64::MAX, i64::min);
    let greatest = fold(values, mask, i64::MIN, i64::MIN, i64::max);
    (least, greatest)
}

/// The first row that counts and is `wanted`, bit for bit.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn position<M: Mask>(values: &[f64], mask: M, wanted: f64) -> Option<usize> {
    let wanted = wanted.to_bits();
    let (chunks, rest) = values.as_chunks::<LANES>();
    for (c, chunk) in chunks.iter().enumerate() {
        // A chunk is asked as a whole first, which takes a comparison or two.
        if chunk.iter().fold(false, |any, x| any | (x.to_bits() == wanted))
            && let Some(l) = (0..LANES).find(|&l| chunk[l].to_bits() == wanted && mask.valid(c * LANES + l))
        {
            return Some(c * LANES + l);
        }
    }
    let start = chunks.len() * LANES;
    (0..rest.len()).find(|&l| rest[l].to_bits() == wanted && mask.valid(start + l)).map(|l| start + l)
}

/// How many booleans are true.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn truths<M: Mask>(values: &[bool], mask: M) -> u64 {
    // Counted in bytes, piece by piece, since that is what vectorises.
    const BYTE: usize = u8::MAX as usize;
    let count = |piece: &[bool], flags: Option<&[bool]>| match flags {
        None => piece.iter().fold(0_u8, |n, truth| n.wrapping_add(u8::from(*truth))),
        Some(flags) => piece.iter().zip(flags).fold(0_u8, |n, (a, b)| n.wrapping_add(u8::from(*a & *b))),
    };
    match mask.flags() {
        None => values.chunks(BYTE).map(|piece| u64::from(count(piece, None))).sum(),
        Some(flags) => {
            values.chunks(BYTE).zip(flags.chunks(BYTE)).map(|(piece, flags)| u64::from(count(piece, Some(flags)))).sum()
        }
    }
}

/// Integers as the floats next to them.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn to_floats(ints: &[i64], floats: &mut [f64]) {
    for (float, int) in floats.iter_mut().zip(ints) {
        *float = *int as f64;
    }
}

/// For each value about where its bin is, from 0 to `last`; `last + 1` below `lo`, `last + 2` above `hi`, `last + 3` for
/// NaN.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn bins_near(values: &[f64], bins: &mut [u32; PIECE], (lo, hi): (f64, f64), bins_per_unit: f64, last: u32) {
    /// Adding it leaves an integer in the lowest bits, which is quicker than a conversion that looks at the range.
    const TO_BITS: f64 = 4_503_599_627_370_496.0; // 2^52
    /// Nearly a half: rounding to nearest is then rounding down, but for values close below an edge.
    const DOWN: f64 = 0.499_999;
    let top = f64::from(last);
    for (bin, &x) in bins.iter_mut().zip(values) {
        let place = (x - lo) * bins_per_unit - DOWN;
        let place = if place < top { place } else { top };
        let place = if place > 0.0 { place } else { 0.0 };
        let inside = (place + TO_BITS).to_bits() as u32;
        let outside = last.wrapping_add(if x < lo { 1 } else { 2 });
        let outside = if x.is_nan() { last.wrapping_add(3) } else { outside };
        *bin = if (x >= lo) & (x <= hi) { inside } else { outside };
    }
}

/// Writes the values that count, and 0 for the others; the mask is that of a block in which they stand from `start` on.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn choose<M: Mask>(values: &[f64], mask: M, start: usize, chosen: &mut [f64]) {
    match mask.flags().and_then(|flags| flags.get(start..)) {
        None => chosen.copy_from_slice(values),
        Some(flags) => {
            for ((slot, x), valid) in chosen.iter_mut().zip(values).zip(flags) {
                *slot = if *valid { *x } else { 0.0 };
            }
        }
    }
}

/// The bits of the greatest magnitude; those of NaN and infinity are greater than those of any finite float.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn greatest_magnitude(values: &[f64]) -> u64 {
    fold(values, Dense, 0.0, 0, |greatest, x| x.abs().to_bits().max(greatest))
}

/// Sums of the multiples of each grid, and whether of any value something is left. The grids are
/// such that every sum is exact.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn extract(values: &[f64], grids: [f64; GRIDS]) -> ([f64; GRIDS], bool) {
    let [mut first, mut second, mut third] = [[0.0; LANES]; GRIDS];
    let mut left = [0_u64; LANES];
    each(values, Dense, 0.0, |l, x| {
        let a = (x + grids[0]) - grids[0];
        let x = x - a;
        let b = (x + grids[1]) - grids[1];
        let x = x - b;
        let c = (x + grids[2]) - grids[2];
        first[l] += a;
        second[l] += b;
        third[l] += c;
        // The sign of a zero that is left says nothing.
        left[l] |= (x - c).abs().to_bits();
    });
    ([add(first), add(second), add(third)], left.iter().any(|left| *left != 0))
}

/// What the grids of [`extract`] leave of each value.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn keep_rests(values: &mut [f64], grids: [f64; GRIDS]) {
    for x in values {
        for grid in grids {
            *x -= (*x + grid) - grid;
        }
    }
}

/// Writes squares as rounded products and their errors; false where some of them would not be exact. All slices are of
/// one length.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn squares(values: &[f64], products: &mut [f64], errors: &mut [f64]) -> bool {
    let mut wild = 0_u64;
    for ((x, product), error) in values.iter().zip(products.iter_mut()).zip(errors.iter_mut()) {
        let size = x.abs();
        let (large_enough, small_enough) = (size >= SQUARE_MIN, size <= SQUARE_MAX);
        let exact = large_enough & small_enough | (size == 0.0);
        wild |= u64::from(!exact);
        let splitter = SPLITTER * x;
        let high = splitter - (splitter - x);
        let low = x - high;
        *product = x * x;
        *error = low * low - ((*product - high * high) - (high + high) * low);
    }
    wild == 0
}
