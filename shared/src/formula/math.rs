//! The one definition of each math function, named by [`crate::NUMERICS_VERSION`].
//!
//! What IEEE 754 defines exactly is the standard library's; the rest is libm's port of musl in Rust, pinned by the
//! lock file, so that every platform computes the same bits.

/// Natural logarithm.
pub(super) fn ln(x: f64) -> f64 {
    libm::log(x)
}

/// Logarithm to any base, as the quotient of two natural ones.
pub(super) fn log(x: f64, base: f64) -> f64 {
    libm::log(x) / libm::log(base)
}

/// Inverse hyperbolic cosine; NaN below 1, where libm's gives infinity for some large negative numbers.
pub(super) fn acosh(x: f64) -> f64 {
    if x < 1.0 { f64::NAN } else { libm::acosh(x) }
}

/// Power; `power(1, y)` and `power(x, 0)` are 1 for every `x` and `y`, NaN included.
pub(super) fn power(x: f64, y: f64) -> f64 {
    libm::pow(x, y)
}

/// The lower of two floats: NaN gives way to a number, and -0 is below +0.
pub(super) fn lower(a: f64, b: f64) -> f64 {
    if a.is_nan() {
        b
    } else if b.is_nan() || a.total_cmp(&b).is_le() {
        a
    } else {
        b
    }
}

/// The higher of two floats: NaN gives way to a number, and +0 is above -0.
pub(super) fn higher(a: f64, b: f64) -> f64 {
    if a.is_nan() {
        b
    } else if b.is_nan() || a.total_cmp(&b).is_ge() {
        a
    } else {
        b
    }
}

/// The one NaN that leaves the engine, so that its sign and payload never depend on the platform.
pub(super) fn canonical(x: f64) -> f64 {
    if x.is_nan() { f64::from_bits(0x7ff8_0000_0000_0000) } else { x }
}
