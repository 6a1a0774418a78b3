//! Runs recursive code on a stack that is known to be deep enough.

/// Stack for one level of the deepest recursion (evaluate, clone, drop or parse a tree), in unoptimised builds too.
/// Measured without optimisation: evaluate 0.6 KiB, clone 0.9 KiB, drop 0.2 KiB, parse 1.5 KiB.
const LEVEL_BYTES: usize = 4 * 1024;
/// Stack for what the recursion calls at its deepest point, such as formatting a float.
const BASE_BYTES: usize = 128 * 1024;

/// Runs `work`, which recurses at most `levels` deep, on this stack where that is enough, else on a new one.
pub(super) fn with_levels<R>(levels: usize, work: impl FnOnce() -> R) -> R {
    let needed = levels.saturating_mul(LEVEL_BYTES) + BASE_BYTES;
    stacker::maybe_grow(needed, needed + BASE_BYTES, work)
}
