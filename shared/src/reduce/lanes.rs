//! Folding a block in a fixed number of lanes, so that its bits do not depend on the machine's vector width.
//!
//! A row's lane is its number modulo [`LANES`], in row order; rows without a value leave their lane as it is.

/// Lanes of a fold: wide enough for the widest vectors in use, and to hide the latency of an addition.
pub(super) const LANES: usize = 16;

/// Which rows of a block count.
pub(super) trait Mask: Copy {
    /// Whether every row counts, whatever the rows.
    const DENSE: bool;
    /// For the rows of chunk `c`, counted in lanes.
    fn chunk(self, c: usize) -> [bool; LANES];
    /// One for each row, unless every row counts.
    fn flags(&self) -> Option<&[bool]>;
    /// For one row of the block.
    fn valid(self, i: usize) -> bool;
}

/// Every row counts.
#[derive(Clone, Copy)]
pub(super) struct Dense;

impl Mask for Dense {
    const DENSE: bool = true;
    #[inline(always)]
    fn chunk(self, _c: usize) -> [bool; LANES] {
        [true; LANES]
    }
    #[inline(always)]
    fn flags(&self) -> Option<&[bool]> {
        None
    }
    #[inline(always)]
    fn valid(self, _i: usize) -> bool {
        true
    }
}

/// The rows that are true count.
#[derive(Clone, Copy)]
pub(super) struct Sparse<'a>(pub(super) &'a [bool]);

impl Mask for Sparse<'_> {
    const DENSE: bool = false;
    #[inline(always)]
    fn chunk(self, c: usize) -> [bool; LANES] {
        let (chunks, rest) = self.0.as_chunks::<LANES>();
        match chunks.get(c) {
            Some(chunk) => *chunk,
            None => {
                let mut chunk = [false; LANES];
                chunk[..rest.len()].copy_from_slice(rest);
                chunk
            }
        }
    }
    #[inline(always)]
    fn flags(&self) -> Option<&[bool]> {
        Some(self.0)
    }
    #[inline(always)]
    fn valid(self, i: usize) -> bool {
        self.0[i]
    }
}

/// Adds the lanes in their fixed order: halves onto each other.
#[inline(always)]
pub(super) fn add(mut lanes: [f64; LANES]) -> f64 {
    let mut half = LANES / 2;
    while half > 0 {
        let (low, high) = lanes.split_at_mut(half);
        for (a, b) in low.iter_mut().zip(high) {
            *a += *b;
        }
        half /= 2;
    }
    lanes[0]
}

#[cfg(test)]
mod tests {
    use super::{Dense, Sparse, add};
    use crate::reduce::kernels::sum;

    #[test]
    fn lanes_are_added_as_halves() {
        let mut lanes = [0.0; 16];
        lanes[0] = 1e16;
        lanes[8] = 1.0;
        lanes[4] = -1e16;
        // (1e16 + 1) loses the 1, and then (1e16 + -1e16) is 0; another order would give 1.
        assert_eq!(add(lanes), 0.0);
    }

    #[test]
    fn row_that_does_not_count_leaves_the_others_in_their_lanes() {
        let values: Vec<f64> = (0..100).map(|i| 1.0 / f64::from(i + 1)).collect();
        let mask: Vec<bool> = (0..100).map(|i| i % 7 != 3).collect();
        let mut lanes = [0.0; 16];
        for (i, x) in values.iter().enumerate() {
            if mask[i] {
                lanes[i % 16] += x;
            }
        }
        assert_eq!(sum(&values, Sparse(&mask)).to_bits(), add(lanes).to_bits());
        assert_eq!(sum(&values, Sparse(&[true; 100])).to_bits(), sum(&values, Dense).to_bits());
    }
}
