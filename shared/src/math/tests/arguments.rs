//! Arguments that are hard for some function, and random ones.

use std::f64::consts::{FRAC_PI_2, LN_2};

/// Where some kernel takes another path.
const THRESHOLDS: &[f64] = &[
    f64::MIN_POSITIVE,
    1e-140,
    3.725290298461914e-9,
    0.25,
    LN_2 / 2.0,
    0.41421356237309503,
    0.5,
    0.55,
    std::f64::consts::FRAC_1_SQRT_2,
    1.0,
    std::f64::consts::SQRT_2,
    1.5,
    2.0,
    2.414213562373095,
    4.0,
    22.0,
    708.3964185322641,
    709.782712893384,
    710.4758600739439,
    745.1332191019411,
    1022.0,
    1024.0,
    1074.0,
    26_000_000.0,
    268_435_456.0,
    4503599627370496.0,
    9007199254740992.0,
    1e140,
    1e300,
    8.98846567431158e307,
    f64::MAX,
];

/// Arguments at which IEEE 754 or the kernels have something to decide.
pub(super) const SPECIAL: &[f64] = &[
    0.0,
    0.5,
    1.0,
    1.5,
    2.0,
    3.0,
    2.5,
    5e-324,
    f64::MIN_POSITIVE,
    0.9999999999999999,
    1.0000000000000002,
    4503599627370495.5,
    4503599627370497.0,
    9007199254740993.0,
    1e19,
    1e300,
    f64::MAX,
    f64::INFINITY,
    f64::NAN,
];

/// A fixed sequence of random words (Steele, Lea and Flood's SplitMix).
pub(super) struct Words(u64);

impl Words {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.word() % end
    }

    /// In [0, 1).
    pub(super) fn unit(&mut self) -> f64 {
        (self.word() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn power_of_two(&mut self, count: u64) -> f64 {
        0.5_f64.powi(i32::try_from(self.below(count)).unwrap_or(0))
    }

    /// A few floats up or down.
    fn near(&mut self, x: f64) -> f64 {
        let steps = self.below(9);
        (0..steps / 2).fold(x, |x, _| if steps & 1 == 0 { x.next_up() } else { x.next_down() })
    }

    /// A finite float: any bits, of every usual size, near 1, near multiples of pi/2, near thresholds.
    pub(super) fn float(&mut self) -> f64 {
        let unit = self.unit();
        let size = match self.below(12) {
            0 => loop {
                let any = f64::from_bits(self.word()).abs();
                if any.is_finite() {
                    break any;
                }
            },
            1 | 2 => unit,
            3 => unit * 2.0,
            4 => unit * 10.0,
            5 => unit * 1000.0,
            6 => 1.0 + (unit - 0.5) * self.power_of_two(50),
            7 => unit * self.power_of_two(60),
            8 => unit * 1e9,
            9 => {
                let bits = self.below(26);
                let multiple = self.below(2 << bits) as f64 * FRAC_PI_2;
                self.near(multiple)
            }
            10 => {
                let at = usize::try_from(self.below(THRESHOLDS.len() as u64)).unwrap_or(0);
                self.near(THRESHOLDS[at])
            }
            _ => 700.0 + unit * 50.0,
        };
        let size = if size.is_finite() { size } else { 1.0 };
        if self.word() & 1 == 0 { size } else { -size }
    }

    /// A second argument that goes with the first: of its own, of a similar size, of a very different one, or such that
    /// a power is finite or near the ends of the range.
    pub(super) fn partner(&mut self, x: f64) -> f64 {
        let found = match self.below(6) {
            0 => self.float(),
            1 => x * self.unit() * 2.0,
            2 => x * self.power_of_two(80),
            3 => (self.below(40) as f64 - 20.0) / 2.0,
            4 => (self.unit() - 0.5) * 1490.0 / x.abs().ln(),
            _ => (700.0 + self.unit() * 46.0) / x.abs().ln(),
        };
        if found.is_nan() { 1.0 } else { found }
    }
}
