//! Quantiles from a DDSketch: counts in buckets of bounded relative width.
//!
//! Each power of two is cut into [`BUCKETS_PER_OCTAVE`] equal buckets, so that a value's bucket is a shift of its bits:
//! the same on every machine, with no logarithm in sight. A bucket `[a, b)` answers with `2ab / (a + b)`, which is off
//! by at most `(b - a) / (b + a)`, and that is below 2^-10 (0.098 %). Buckets hold counts, so merging is exact.

use super::kernels;
use super::lanes::Mask;
use super::partial;
use serde::{Deserialize, Serialize};

/// The nine leading bits of the mantissa choose the bucket.
const MANTISSA_BITS_KEPT: u32 = 9;
const BUCKETS_PER_OCTAVE: u64 = 1 << MANTISSA_BITS_KEPT;
const SHIFT: u32 = 52 - MANTISSA_BITS_KEPT;
/// Subnormals are scaled up by 2^54, into the octaves of their own below the normal ones.
const SUBNORMAL_SCALE: f64 = 18_014_398_509_481_984.0;
const SUBNORMAL_OCTAVES: u64 = 54;
/// Buckets of one sign: of every finite float. It bounds the memory of a sketch to 17 MB, for data that has all of them.
pub(super) const BUCKETS: u64 = (2046 + SUBNORMAL_OCTAVES) * BUCKETS_PER_OCTAVE;
/// Counters are allocated by the page, so that ordinary data takes a few kilobytes.
const PAGE: usize = BUCKETS_PER_OCTAVE as usize;

/// Counts of one sign's buckets.
#[derive(Clone, Debug, Default)]
struct Buckets {
    pages: Vec<Option<Box<[u64; PAGE]>>>,
}

impl PartialEq for Buckets {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Buckets {
    #[inline]
    fn at(&mut self, bucket: u64) -> &mut u64 {
        let bucket = bucket as usize;
        let page = bucket / PAGE;
        if self.pages.len() <= page {
            self.pages.resize(page + 1, None);
        }
        &mut self.pages[page].get_or_insert_with(|| Box::new([0; PAGE]))[bucket % PAGE]
    }

    /// The counters of normal numbers with this exponent field, once there are some: a page is an octave.
    #[inline(always)]
    fn octave(&mut self, field: usize) -> Option<&mut [u64; PAGE]> {
        // Subnormals share field 0 among octaves of their own; infinities and NaN lie behind the last page.
        if field == 0 {
            return None;
        }
        self.pages.get_mut(field + (SUBNORMAL_OCTAVES - 1) as usize)?.as_deref_mut()
    }

    /// Buckets that are not empty, rising.
    fn iter(&self) -> impl DoubleEndedIterator<Item = (u64, u64)> {
        self.pages.iter().enumerate().filter_map(|(p, page)| page.as_ref().map(|page| (p, page))).flat_map(
            |(p, page)| {
                let counts = page.iter().enumerate().filter(|(_, count)| **count > 0);
                counts.map(move |(i, count)| ((p * PAGE + i) as u64, *count))
            },
        )
    }

    fn merge(&mut self, other: &Self) {
        for (bucket, count) in other.iter() {
            let mine = self.at(bucket);
            *mine = mine.saturating_add(count);
        }
    }
}

/// The bucket of a positive, finite float.
#[inline]
fn bucket(x: f64) -> u64 {
    // Exponent field 1 is the lowest octave of the normal numbers.
    if x >= f64::MIN_POSITIVE {
        (x.to_bits() >> SHIFT) + (SUBNORMAL_OCTAVES - 1) * BUCKETS_PER_OCTAVE
    } else {
        ((x * SUBNORMAL_SCALE).to_bits() >> SHIFT) - BUCKETS_PER_OCTAVE
    }
}

/// The value that a bucket answers with.
fn value(bucket: u64) -> f64 {
    let normal = SUBNORMAL_OCTAVES * BUCKETS_PER_OCTAVE;
    let (low_bits, scale) = if bucket >= normal {
        (bucket - normal + BUCKETS_PER_OCTAVE, 1.0)
    } else {
        (bucket + BUCKETS_PER_OCTAVE, 1.0 / SUBNORMAL_SCALE)
    };
    let low = f64::from_bits(low_bits << SHIFT);
    // The width of the bucket over its lower end; a product of the two ends could overflow.
    let width = f64::from_bits((low_bits / BUCKETS_PER_OCTAVE) << 52) / BUCKETS_PER_OCTAVE as f64;
    let ratio = width / low;
    low * (2.0 * (1.0 + ratio) / (2.0 + ratio)) * scale
}

/// What all quantiles of a job share.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Sketch {
    negative: Buckets,
    positive: Buckets,
    zero: u64,
    minus_infinity: u64,
    plus_infinity: u64,
    /// Apart: not part of any quantile.
    nan: u64,
    /// Least and greatest finite value, which answers do not go beyond.
    range: Option<(f64, f64)>,
}

/// [`Sketch`] as it travels: buckets as steps from the one before, each with its count.
#[derive(Serialize, Deserialize)]
pub(super) struct SketchForm {
    #[serde(deserialize_with = "partial::buckets")]
    negative: Vec<(u64, u64)>,
    #[serde(deserialize_with = "partial::buckets")]
    positive: Vec<(u64, u64)>,
    zero: u64,
    minus_infinity: u64,
    plus_infinity: u64,
    nan: u64,
    range: Option<(u64, u64)>,
}

impl Sketch {
    pub(super) fn push<M: Mask>(&mut self, values: &[f64], mask: M) {
        for (i, x) in values.iter().enumerate() {
            let bits = x.to_bits();
            let buckets = if bits >> 63 == 0 { &mut self.positive } else { &mut self.negative };
            // Nearly always the value is a normal number whose page is there.
            let key = (bits & (u64::MAX >> 1)) >> SHIFT;
            let octave = (key / BUCKETS_PER_OCTAVE) as usize;
            match buckets.octave(octave) {
                Some(page) => {
                    let counter = &mut page[(key % BUCKETS_PER_OCTAVE) as usize];
                    *counter = counter.wrapping_add(u64::from(M::DENSE || mask.valid(i)));
                }
                None if mask.valid(i) => self.count(*x),
                None => {}
            }
        }
        let (mut least, mut greatest, _) = kernels::bounds(values, mask);
        if !(least.is_finite() && greatest.is_finite()) {
            let finite = (0..values.len()).filter(|&i| mask.valid(i)).map(|i| values[i]).filter(|x| x.is_finite());
            (least, greatest) = finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(least, greatest), x| {
                (if x < least { x } else { least }, if x > greatest { x } else { greatest })
            });
        }
        if let Some((a, b)) = self.range {
            least = if a < least { a } else { least };
            greatest = if b > greatest { b } else { greatest };
        }
        // Adding zero makes one zero of both, whose order in the rows would otherwise show.
        self.range = (least <= greatest).then_some((least + 0.0, greatest + 0.0));
    }

    /// Counts a value of any kind.
    #[cold]
    fn count(&mut self, x: f64) {
        let counter = if x.is_finite() {
            if x > 0.0 {
                self.positive.at(bucket(x))
            } else if x < 0.0 {
                self.negative.at(bucket(-x))
            } else {
                &mut self.zero
            }
        } else if x.is_nan() {
            &mut self.nan
        } else if x > 0.0 {
            &mut self.plus_infinity
        } else {
            &mut self.minus_infinity
        };
        *counter = counter.wrapping_add(1);
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.negative.merge(&other.negative);
        self.positive.merge(&other.positive);
        self.zero = self.zero.saturating_add(other.zero);
        self.minus_infinity = self.minus_infinity.saturating_add(other.minus_infinity);
        self.plus_infinity = self.plus_infinity.saturating_add(other.plus_infinity);
        self.nan = self.nan.saturating_add(other.nan);
        self.range = match (self.range, other.range) {
            (Some((a, b)), Some((c, d))) => Some((if c < a { c } else { a }, if d > b { d } else { b })),
            (mine, theirs) => mine.or(theirs),
        };
    }

    /// The value of rank `floor(p * (n - 1))` among the n values that are not NaN; NaN where there are only NaN, and
    /// `None` where there is nothing.
    pub(super) fn quantile(&self, p: f64) -> Option<f64> {
        let negative = self.negative.iter().rev().map(|(bucket, count)| (-value(bucket), count));
        let positive = self.positive.iter().map(|(bucket, count)| (value(bucket), count));
        let n = self
            .negative
            .iter()
            .chain(self.positive.iter())
            .map(|(_, count)| count)
            .chain([self.zero, self.minus_infinity, self.plus_infinity])
            .fold(0, u64::saturating_add);
        if n == 0 {
            return (self.nan > 0).then_some(f64::NAN);
        }
        // At p = 1 the product is exact or rounds to a rank within the last one's reach.
        let rank = ((p * (n - 1) as f64) as u64).min(n - 1);
        let all = std::iter::once((f64::NEG_INFINITY, self.minus_infinity))
            .chain(negative)
            .chain([(0.0, self.zero)])
            .chain(positive)
            .chain([(f64::INFINITY, self.plus_infinity)]);
        let mut passed = 0_u64;
        for (x, count) in all {
            passed = passed.saturating_add(count);
            if passed > rank {
                return Some(match self.range {
                    Some((least, greatest)) if x.is_finite() => x.clamp(least, greatest),
                    _ => x,
                });
            }
        }
        None
    }

    pub(super) fn to_form(&self) -> SketchForm {
        let steps = |buckets: &Buckets| {
            let mut next = 0;
            let step = |(bucket, count)| {
                let step = bucket - next;
                next = bucket + 1;
                (step, count)
            };
            buckets.iter().map(step).collect()
        };
        SketchForm {
            negative: steps(&self.negative),
            positive: steps(&self.positive),
            zero: self.zero,
            minus_infinity: self.minus_infinity,
            plus_infinity: self.plus_infinity,
            nan: self.nan,
            range: self.range.map(|(least, greatest)| (least.to_bits(), greatest.to_bits())),
        }
    }

    pub(super) fn from_form(form: &SketchForm) -> Option<Self> {
        let buckets = |steps: &[(u64, u64)]| {
            let mut buckets = Buckets::default();
            let mut next = 0_u64;
            for &(step, count) in steps {
                let bucket = next.checked_add(step).filter(|bucket| *bucket < BUCKETS && count > 0)?;
                *buckets.at(bucket) = count;
                next = bucket + 1;
            }
            Some(buckets)
        };
        let range = match form.range.map(|(least, greatest)| (f64::from_bits(least), f64::from_bits(greatest))) {
            Some((least, greatest)) if !(least <= greatest && least.is_finite() && greatest.is_finite()) => {
                return None;
            }
            range => range,
        };
        Some(Self {
            negative: buckets(&form.negative)?,
            positive: buckets(&form.positive)?,
            zero: form.zero,
            minus_infinity: form.minus_infinity,
            plus_infinity: form.plus_infinity,
            nan: form.nan,
            range,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{BUCKETS, bucket, value};
    use proptest::prelude::{prop_assert, proptest};

    fn check(x: f64) -> (u64, f64) {
        let b = bucket(x);
        (b, (value(b) - x).abs() / x)
    }

    proptest! {
        #[test]
        fn answer_is_within_a_tenth_of_a_percent(bits in (1_u64 << 52)..(0x7ff << 52)) {
            let x = f64::from_bits(bits);
            let (b, error) = check(x);
            prop_assert!(b < BUCKETS);
            prop_assert!(error <= 1e-3, "{x:e} is answered with {:e}", value(b));
            prop_assert!(bucket(x.next_down()) <= b);
        }

        #[test]
        fn subnormal_answer_is_as_near_as_subnormals_allow(bits in 1_u64..(1 << 52)) {
            let x = f64::from_bits(bits);
            let b = bucket(x);
            let off = (value(b) - x).abs();
            prop_assert!(off <= x * 1e-3 || off <= f64::from_bits(1), "{x:e} is answered with {:e}", value(b));
            prop_assert!(bucket(x.next_up()) >= b);
        }
    }

    #[test]
    fn buckets_begin_and_end_with_the_positive_floats() {
        assert!(bucket(f64::from_bits(1)) < BUCKETS);
        assert_eq!(bucket(f64::MAX), BUCKETS - 1);
        assert!(value(BUCKETS - 1).is_finite());
        let boundary = bucket(f64::MIN_POSITIVE);
        assert_eq!(bucket(f64::MIN_POSITIVE.next_down()), boundary - 1);
    }
}
