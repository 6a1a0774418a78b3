//! Loops over a block, compiled for each width of vectors that the machine may have.
//!
//! Every loop works in [`LANES`] fixed lanes, or has a result that no order changes, so its bits do not depend on the
//! width that is chosen. None contracts a product and a sum into one operation.

use super::lanes::LANES;
use multiversion::multiversion;

/// Grids of the exact sum: three have all bits of ordinary data.
pub(super) const GRIDS: usize = 3;
/// Squares of magnitudes between 2^-480 and 2^500, and their errors, are normal floats.
const SQUARE_MIN: f64 = f64::from_bits((1023 - 480) << 52);
const SQUARE_MAX: f64 = f64::from_bits((1023 + 500) << 52);
/// 2^27 + 1 splits 53 bits into 26 and 26 and a sign.
const SPLITTER: f64 = 134_217_729.0;

/// The bits of the greatest magnitude; those of NaN and infinity are greater than those of any finite float.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn greatest_magnitude(values: &[f64]) -> u64 {
    let mut lanes = [0_u64; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane = (*lane).max(x.abs().to_bits());
        }
    }
    for (lane, x) in lanes.iter_mut().zip(rest) {
        *lane = (*lane).max(x.abs().to_bits());
    }
    lanes.into_iter().fold(0, u64::max)
}

/// Cuts a value along grids: a multiple of each, and what is left.
#[inline(always)]
pub(super) fn cut(x: f64, grids: [f64; GRIDS]) -> ([f64; GRIDS], f64) {
    let mut rest = x;
    let mut multiples = [0.0; GRIDS];
    for (multiple, grid) in multiples.iter_mut().zip(grids) {
        *multiple = (rest + grid) - grid;
        rest -= *multiple;
    }
    (multiples, rest)
}

/// Sums of the multiples of each grid, and whether of any value something is left. The grids are such that every sum is
/// exact.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn extract(values: &[f64], grids: [f64; GRIDS]) -> ([f64; GRIDS], bool) {
    let mut sums = [[0.0; LANES]; GRIDS];
    let mut left = [0_u64; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for l in 0..LANES {
            let (multiples, rest) = cut(chunk[l], grids);
            for g in 0..GRIDS {
                sums[g][l] += multiples[g];
            }
            // The sign of a zero that is left says nothing.
            left[l] |= rest.abs().to_bits();
        }
    }
    for (l, x) in rest.iter().enumerate() {
        let (multiples, rest) = cut(*x, grids);
        for g in 0..GRIDS {
            sums[g][l] += multiples[g];
        }
        left[l] |= rest.abs().to_bits();
    }
    (sums.map(|lanes| lanes.iter().sum()), left.iter().any(|left| *left != 0))
}

/// Writes squares as rounded products and their errors; false where some of them would not be exact. All slices are of
/// one length.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn squares(values: &[f64], products: &mut [f64], errors: &mut [f64]) -> bool {
    let mut wild = 0_u64;
    for ((x, product), error) in values.iter().zip(products.iter_mut()).zip(errors.iter_mut()) {
        let size = x.abs();
        let exact = (size >= SQUARE_MIN) & (size <= SQUARE_MAX) | (size == 0.0);
        wild |= u64::from(!exact);
        let splitter = SPLITTER * x;
        let high = splitter - (splitter - x);
        let low = x - high;
        *product = x * x;
        *error = low * low - ((*product - high * high) - (high + high) * low);
    }
    wild == 0
}
