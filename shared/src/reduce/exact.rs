//! Every element exactly: what `--exact` adds up, and how it stays near the speed of a loop.
//!
//! A piece of values is cut along grids that are the same for all of them. Adding and taking off `1.5 * 2^k` rounds a
//! value to a multiple of 2^(k-52) without any other error, and 1,024 such multiples, each below 2^(k-10), add up to
//! less than 2^(k+1): exact in a float, in any order. What the rounding left is 44 bits smaller and goes to the next
//! grid (Rump, Ogita, Oishi 2008: "Accurate floating-point summation", the extraction of high-order parts). Three grids
//! have all bits of ordinary data; what is left below them is cut again a few times, and then, like what is too large for
//! a grid, goes into the accumulator one by one. The result is the exact sum, however it was cut.
//!
//! Squares are exact as two floats each (Dekker 1971, Veltkamp's splitting), which are added in the same way. Where
//! they would leave the range of floats, they are made of integers.

use super::kernels::{self, GRIDS};
use super::lanes::Mask;
use super::wide::Wide;

/// Values that share grids. The bounds above hold for up to 2^10.
const PIECE: usize = 1 << PIECE_BITS;
const PIECE_BITS: i32 = 10;
/// How often what is left is cut again before it is added one by one: data of all magnitudes has little left then.
const ROUNDS: usize = 4;
/// Bits that a grid takes off, sign and bound included.
const GRID_STEP: i32 = 44;
/// The greatest exponent of a grid, far enough below the end of the floats for its sums.
const GRID_MAX: i32 = 1020;
/// The least one: its multiples are those of the least float.
const GRID_MIN: i32 = -1022;
/// Hands over floats whose exact sum is that of the values.
pub(super) fn sum<M: Mask>(values: &[f64], mask: M, mut add: impl FnMut(f64)) {
    pieces(values, mask, |piece| sum_piece(piece, &mut add));
}

/// Adds the squares of the values; of one that is not finite it adds a number without meaning.
pub(super) fn squares<M: Mask>(values: &[f64], mask: M, total: &mut Wide) {
    let (mut products, mut errors) = ([0.0; PIECE], [0.0; PIECE]);
    pieces(values, mask, |piece| {
        let (products, errors) = (&mut products[..piece.len()], &mut errors[..piece.len()]);
        if kernels::squares(piece, products, errors) {
            sum_piece(products, &mut |x| total.add(x));
            sum_piece(errors, &mut |x| total.add(x));
        } else {
            piece.iter().for_each(|x| total.add_square(*x));
        }
    });
}

/// Adds the squares of integers.
pub(super) fn int_squares<M: Mask>(values: &[i64], mask: M, total: &mut Wide) {
    // Halves apart: 2^64 of them fit.
    let (mut low, mut high) = (0_u128, 0_u128);
    for (i, x) in values.iter().enumerate() {
        let x = if mask.valid(i) { u128::from(x.unsigned_abs()) } else { 0 };
        let square = x.wrapping_mul(x);
        low = low.wrapping_add(square & u128::from(u64::MAX));
        high = high.wrapping_add(square >> 64);
    }
    total.add_integer(low, 0);
    total.add_integer(high, 64);
}

/// Cuts a block into pieces, with 0 for the rows that don't count.
fn pieces<M: Mask>(values: &[f64], mask: M, mut each: impl FnMut(&[f64])) {
    if M::DENSE {
        return values.chunks(PIECE).for_each(each);
    }
    let mut buffer = [0.0; PIECE];
    for (p, piece) in values.chunks(PIECE).enumerate() {
        let chosen = &mut buffer[..piece.len()];
        kernels::choose(piece, mask, p * PIECE, chosen);
        each(chosen);
    }
}

fn sum_piece(piece: &[f64], add: &mut impl FnMut(f64)) {
    let mut buffer = [0.0; PIECE];
    let rests = &mut buffer[..piece.len()];
    for round in 0..ROUNDS {
        let values = if round == 0 { piece } else { &*rests };
        let greatest = kernels::greatest_magnitude(values);
        if greatest == 0 {
            return;
        }
        // Of a subnormal this is more than it has, which does no harm.
        let first = (greatest >> 52) as i32 - 1023 + PIECE_BITS;
        if first > GRID_MAX {
            return values.iter().for_each(|x| add(*x));
        }
        let grids: [f64; GRIDS] = std::array::from_fn(|i| {
            let k = (first - GRID_STEP * i as i32).max(GRID_MIN);
            f64::from_bits(((k + 1023) as u64) << 52 | 1 << 51)
        });
        let (sums, left) = kernels::extract(values, grids);
        sums.into_iter().for_each(&mut *add);
        if !left {
            return;
        }
        if round == 0 {
            rests.copy_from_slice(piece);
        }
        kernels::keep_rests(rests, grids);
    }
    rests.iter().filter(|rest| **rest != 0.0).for_each(|rest| add(*rest));
}
