//! Kernels over blocks of rows, compiled for the vector widths of several machines and chosen at run time.

use multiversion::multiversion;

/// Rows between two looks at whether any was left aside: they stay in the first-level cache.
const PIECE: usize = 512;

/// A function of one float.
pub(super) trait Kernel1 {
    /// The value, wherever the argument is not hard; without branches.
    fn fast(x: f64) -> f64;

    /// Whether the value is [`Self::slow`]'s.
    #[inline(always)]
    fn is_hard(_x: f64) -> bool {
        false
    }

    /// The value of a hard argument.
    fn slow(x: f64) -> f64 {
        Self::fast(x)
    }

    /// Of one value.
    #[inline(always)]
    fn of(x: f64) -> f64 {
        if Self::is_hard(x) { Self::slow(x) } else { Self::fast(x) }
    }
}

/// A function of two floats.
pub(super) trait Kernel2 {
    /// The value, wherever the arguments are not hard; without branches.
    fn fast(x: f64, y: f64) -> f64;

    /// Whether the value is [`Self::slow`]'s.
    #[inline(always)]
    fn is_hard(_x: f64, _y: f64) -> bool {
        false
    }

    /// The value of hard arguments.
    fn slow(x: f64, y: f64) -> f64 {
        Self::fast(x, y)
    }

    /// Of one pair.
    #[inline(always)]
    fn of(x: f64, y: f64) -> f64 {
        if Self::is_hard(x, y) { Self::slow(x, y) } else { Self::fast(x, y) }
    }
}

#[multiversion(targets("x86_64+avx512f+avx512dq+avx512vl+avx512bw+avx2+avx", "x86_64+avx2+avx"))]
pub(super) fn each1<K: Kernel1>(x: &[f64], out: &mut [f64]) {
    for (x, out) in x.chunks(PIECE).zip(out.chunks_mut(PIECE)) {
        let mut hard = false;
        for (x, out) in x.iter().zip(out.iter_mut()) {
            *out = K::fast(*x);
            hard |= K::is_hard(*x);
        }
        if hard {
            for (x, out) in x.iter().zip(out).filter(|(x, _)| K::is_hard(**x)) {
                *out = K::slow(*x);
            }
        }
    }
}

#[multiversion(targets("x86_64+avx512f+avx512dq+avx512vl+avx512bw+avx2+avx", "x86_64+avx2+avx"))]
pub(super) fn each2<K: Kernel2>(x: &[f64], y: &[f64], out: &mut [f64]) {
    for ((x, y), out) in x.chunks(PIECE).zip(y.chunks(PIECE)).zip(out.chunks_mut(PIECE)) {
        let mut hard = false;
        for ((x, y), out) in x.iter().zip(y).zip(out.iter_mut()) {
            *out = K::fast(*x, *y);
            hard |= K::is_hard(*x, *y);
        }
        if hard {
            for ((x, y), out) in x.iter().zip(y).zip(out).filter(|((x, y), _)| K::is_hard(**x, **y)) {
                *out = K::slow(*x, *y);
            }
        }
    }
}

/// With the same second argument for all rows.
#[multiversion(targets("x86_64+avx512f+avx512dq+avx512vl+avx512bw+avx2+avx", "x86_64+avx2+avx"))]
pub(super) fn each_first<K: Kernel2>(x: &[f64], y: f64, out: &mut [f64]) {
    for (x, out) in x.chunks(PIECE).zip(out.chunks_mut(PIECE)) {
        let mut hard = false;
        for (x, out) in x.iter().zip(out.iter_mut()) {
            *out = K::fast(*x, y);
            hard |= K::is_hard(*x, y);
        }
        if hard {
            for (x, out) in x.iter().zip(out).filter(|(x, _)| K::is_hard(**x, y)) {
                *out = K::slow(*x, y);
            }
        }
    }
}
