//! The one definition of each math function, named by [`crate::NUMERICS_VERSION`].
//!
//! Every path of the product computes a function of a value here: the interpreter of rows through its table of
//! functions, the engine a block at a time. A block's value at an index is what the function of one value gives, bit
//! for bit, whatever the vector width of the machine.
//!
//! What IEEE 754 defines exactly is the standard library's. The rest are kernels of our own, without branches, tables or
//! fused operations, so that the compiler makes vector code of a loop over them, with the same bits for every width. No
//! crate gives that: `sleef` needs nightly; `wide` and `pxfm` fuse where the target can, and their bits differ with it;
//! `pxfm`, `core-math` (C) and `libm` compute one value at a time. libm's sine, cosine and tangent serve arguments beyond
//! 26 million.

mod blocks;
mod exp;
mod hyperbolic;
mod inverse;
mod kernels;
mod log;
mod parts;
mod power;
mod root;
#[cfg(test)]
mod tests;
mod trig;

use blocks::{Kernel1, Kernel2};
use kernels::Swapped;

/// `$body` with the kernel of a function as type `$kernel`.
macro_rules! with_kernel1 {
    ($function:expr, $kernel:ident => $body:expr) => {
        with_kernel1!(@ $function, $kernel => $body; Cbrt Exp Exp2 Ln Log2 Log10 Sin Cos Tan Asin Acos Atan Sinh Cosh Tanh Asinh Acosh Atanh)
    };
    (@ $function:expr, $kernel:ident => $body:expr; $($name:ident)+) => {
        match $function {
            $(Self::$name => {
                type $kernel = kernels::$name;
                $body
            })+
        }
    };
}

/// `$body` with the kernel of a function as type `$kernel`.
macro_rules! with_kernel2 {
    ($function:expr, $kernel:ident => $body:expr) => {
        with_kernel2!(@ $function, $kernel => $body; Pow Log Atan2 Hypot Rem)
    };
    (@ $function:expr, $kernel:ident => $body:expr; $($name:ident)+) => {
        match $function {
            $(Self::$name => {
                type $kernel = kernels::$name;
                $body
            })+
        }
    };
}

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
        with_kernel1!(self, K => K::of(x))
    }

    /// Of each value of a block; `out` is as long as `x`.
    pub fn over(self, x: &[f64], out: &mut [f64]) {
        with_kernel1!(self, K => blocks::each1::<K>(x, out));
    }
}

impl Function2 {
    /// Every function.
    pub const ALL: [Self; 5] = [Self::Pow, Self::Log, Self::Atan2, Self::Hypot, Self::Rem];

    /// Of one pair; `Pow` of (1, y) and (x, 0) is 1 for every x and y, NaN included.
    pub fn of(self, x: f64, y: f64) -> f64 {
        with_kernel2!(self, K => K::of(x, y))
    }

    /// Of each pair of a block; slices are as long as `out`.
    pub fn over(self, x: Argument<'_>, y: Argument<'_>, out: &mut [f64]) {
        match (x, y) {
            (Argument::Each(x), Argument::Each(y)) => with_kernel2!(self, K => blocks::each2::<K>(x, y, out)),
            (Argument::Each(x), Argument::All(y)) => self.over_firsts(x, y, out),
            (Argument::All(x), Argument::Each(y)) => {
                with_kernel2!(self, K => blocks::each_first::<Swapped<K>>(y, x, out));
            }
            (Argument::All(x), Argument::All(y)) => out.fill(self.of(x, y)),
        }
    }

    /// One second argument for all rows, which for powers may be one that takes a single operation.
    fn over_firsts(self, x: &[f64], y: f64, out: &mut [f64]) {
        match self {
            Self::Pow if y == 2.0 => blocks::each1::<kernels::Square>(x, out),
            Self::Pow if y == 0.5 => blocks::each1::<kernels::Root>(x, out),
            Self::Pow if y == -1.0 => blocks::each1::<kernels::Inverse>(x, out),
            _ => with_kernel2!(self, K => blocks::each_first::<K>(x, y, out)),
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
