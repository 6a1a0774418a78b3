//! The one table of functions and their kernels.

use super::blocks::{Kernel1, Kernel2};
use super::{exp, hyperbolic, inverse, log, power, root, trig};

macro_rules! plain1 {
    ($($name:ident = $function:path),+ $(,)?) => {$(
        pub(super) struct $name;

        impl Kernel1 for $name {
            #[inline(always)]
            fn fast(x: f64) -> f64 {
                $function(x)
            }
        }
    )+};
}

macro_rules! reduced1 {
    ($($name:ident = $function:path, far: $far:path),+ $(,)?) => {$(
        pub(super) struct $name;

        impl Kernel1 for $name {
            #[inline(always)]
            fn fast(x: f64) -> f64 {
                $function(x)
            }

            #[inline(always)]
            fn is_hard(x: f64) -> bool {
                trig::is_far(x)
            }

            fn slow(x: f64) -> f64 {
                super::parts::settle($far(x))
            }
        }
    )+};
}

macro_rules! plain2 {
    ($($name:ident = $function:path),+ $(,)?) => {$(
        pub(super) struct $name;

        impl Kernel2 for $name {
            #[inline(always)]
            fn fast(x: f64, y: f64) -> f64 {
                $function(x, y)
            }
        }
    )+};
}

plain1!(
    Cbrt = root::cbrt,
    Exp = exp::exp,
    Exp2 = exp::exp2,
    Ln = log::ln,
    Log2 = log::log2,
    Log10 = log::log10,
    Asin = inverse::asin,
    Acos = inverse::acos,
    Atan = inverse::atan,
    Sinh = hyperbolic::sinh,
    Cosh = hyperbolic::cosh,
    Tanh = hyperbolic::tanh,
    Asinh = hyperbolic::asinh,
    Acosh = hyperbolic::acosh,
    Atanh = hyperbolic::atanh,
    Square = power::square,
    Root = power::root,
    Inverse = power::inverse,
);

reduced1!(
    Sin = trig::sin, far: libm::sin,
    Cos = trig::cos, far: libm::cos,
    Tan = trig::tan, far: libm::tan,
);

plain2!(Log = power::log, Atan2 = inverse::atan2, Hypot = root::hypot, Rem = rem,);

/// Exact, as IEEE 754 defines it; machines have no instruction for it.
fn rem(x: f64, y: f64) -> f64 {
    super::parts::settle(x % y)
}

pub(super) struct Pow;

impl Kernel2 for Pow {
    #[inline(always)]
    fn fast(x: f64, y: f64) -> f64 {
        power::pow(x, y)
    }

    #[inline(always)]
    fn is_hard(_x: f64, y: f64) -> bool {
        power::is_plain(y)
    }

    fn slow(x: f64, y: f64) -> f64 {
        power::pow_plain(x, y)
    }
}

/// A kernel with its arguments in the other order.
pub(super) struct Swapped<K>(std::marker::PhantomData<K>);

impl<K: Kernel2> Kernel2 for Swapped<K> {
    #[inline(always)]
    fn fast(x: f64, y: f64) -> f64 {
        K::fast(y, x)
    }

    #[inline(always)]
    fn is_hard(x: f64, y: f64) -> bool {
        K::is_hard(y, x)
    }

    fn slow(x: f64, y: f64) -> f64 {
        K::slow(y, x)
    }
}
