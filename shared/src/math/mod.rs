//! The one definition of each math function, named by [`crate::NUMERICS_VERSION`].
//!
//! Every path of the product computes a function of a value here: the interpreter of rows through its table of
//! functions, the engine a block at a time. A block's value at an index is what the function of one value gives, bit
//! for bit, whatever the vector width of the machine.
//!
//! What IEEE 754 defines exactly is the standard library's; the rest is libm's port of musl in Rust, pinned by the
//! lock file, so that every platform computes the same bits.

/// Functions of one float that are not exact operations of IEEE 754.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Function1 {
    /// Cube root.
    Cbrt,
    /// e to the power.
    Exp,
    /// 2 to the power.
    Exp2,
    /// Natural logarithm.
    Ln,
    /// Logarithm to base 2.
    Log2,
    /// Logarithm to base 10.
    Log10,
    /// Sine of radians.
    Sin,
    /// Cosine of radians.
    Cos,
    /// Tangent of radians.
    Tan,
    /// Arc sine.
    Asin,
    /// Arc cosine.
    Acos,
    /// Arc tangent.
    Atan,
    /// Hyperbolic sine.
    Sinh,
    /// Hyperbolic cosine.
    Cosh,
    /// Hyperbolic tangent.
    Tanh,
    /// Inverse hyperbolic sine.
    Asinh,
    /// Inverse hyperbolic cosine.
    Acosh,
    /// Inverse hyperbolic tangent.
    Atanh,
}

/// Functions of two floats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Function2 {
    /// First to the power of the second.
    Pow,
    /// Logarithm of the first to the base of the second.
    Log,
    /// Angle of the point (second, first).
    Atan2,
    /// Square root of the sum of both squares.
    Hypot,
    /// Remainder with the sign of the first.
    Rem,
}

/// An argument over a block of rows.
#[derive(Clone, Copy, Debug)]
pub enum Argument<'a> {
    /// One value a row.
    Each(&'a [f64]),
    /// The same value for all rows.
    All(f64),
}

impl Function1 {
    /// Every function.
    pub const ALL: [Self; 18] = [
        Self::Cbrt,
        Self::Exp,
        Self::Exp2,
        Self::Ln,
        Self::Log2,
        Self::Log10,
        Self::Sin,
        Self::Cos,
        Self::Tan,
        Self::Asin,
        Self::Acos,
        Self::Atan,
        Self::Sinh,
        Self::Cosh,
        Self::Tanh,
        Self::Asinh,
        Self::Acosh,
        Self::Atanh,
    ];

    /// Of one value.
    pub fn of(self, x: f64) -> f64 {
        match self {
            Self::Cbrt => libm::cbrt(x),
            Self::Exp => libm::exp(x),
            Self::Exp2 => libm::exp2(x),
            Self::Ln => libm::log(x),
            Self::Log2 => libm::log2(x),
            Self::Log10 => libm::log10(x),
            Self::Sin => libm::sin(x),
            Self::Cos => libm::cos(x),
            Self::Tan => libm::tan(x),
            Self::Asin => libm::asin(x),
            Self::Acos => libm::acos(x),
            Self::Atan => libm::atan(x),
            Self::Sinh => libm::sinh(x),
            Self::Cosh => libm::cosh(x),
            Self::Tanh => libm::tanh(x),
            Self::Asinh => libm::asinh(x),
            // NaN below 1, where libm's gives infinity for some large negative numbers.
            Self::Acosh if x < 1.0 => f64::NAN,
            Self::Acosh => libm::acosh(x),
            Self::Atanh => libm::atanh(x),
        }
    }

    /// Of each value of a block; `out` is as long as `x`.
    pub fn over(self, x: &[f64], out: &mut [f64]) {
        for (out, x) in out.iter_mut().zip(x) {
            *out = self.of(*x);
        }
    }
}

impl Function2 {
    /// Every function.
    pub const ALL: [Self; 5] = [Self::Pow, Self::Log, Self::Atan2, Self::Hypot, Self::Rem];

    /// Of one pair; `Pow` of (1, y) and (x, 0) is 1 for every x and y, NaN included.
    pub fn of(self, x: f64, y: f64) -> f64 {
        match self {
            Self::Pow => libm::pow(x, y),
            Self::Log => libm::log(x) / libm::log(y),
            Self::Atan2 => libm::atan2(x, y),
            Self::Hypot => libm::hypot(x, y),
            Self::Rem => x % y,
        }
    }

    /// Of each pair of a block; slices are as long as `out`.
    pub fn over(self, x: Argument<'_>, y: Argument<'_>, out: &mut [f64]) {
        for (i, out) in out.iter_mut().enumerate() {
            *out = self.of(x.at(i), y.at(i));
        }
    }
}

impl Argument<'_> {
    #[inline(always)]
    fn at(self, i: usize) -> f64 {
        match self {
            Self::Each(values) => values[i],
            Self::All(value) => value,
        }
    }
}

/// The lower of two floats: NaN gives way to a number, and -0 is below +0.
#[inline(always)]
pub fn lower(a: f64, b: f64) -> f64 {
    if a.is_nan() {
        b
    } else if b.is_nan() || a.total_cmp(&b).is_le() {
        a
    } else {
        b
    }
}

/// The higher of two floats: NaN gives way to a number, and +0 is above -0.
#[inline(always)]
pub fn higher(a: f64, b: f64) -> f64 {
    if a.is_nan() {
        b
    } else if b.is_nan() || a.total_cmp(&b).is_ge() {
        a
    } else {
        b
    }
}

/// The one NaN that leaves the engine, so that its sign and payload never depend on the platform.
#[inline(always)]
pub fn canonical(x: f64) -> f64 {
    if x.is_nan() { f64::from_bits(0x7ff8_0000_0000_0000) } else { x }
}
