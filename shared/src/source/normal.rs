//! The quantile function of the normal distribution.
//!
//! Wichura's algorithm AS 241 (1988), routine PPND16: ratios of polynomials, good to about 1e-16 of the result. In the
//! middle 85 % it takes no function at all; in the tails a square root, which IEEE 754 defines exactly, and a logarithm
//! from `libm`, which is the same code on every machine.

// The digits are those published, though a float keeps fewer.
#![allow(clippy::excessive_precision)]

use multiversion::multiversion;

/// Numerator and denominator for |u - 1/2| <= 0.425, highest power first.
const MIDDLE: [[f64; 8]; 2] = [
    [
        2_509.080_928_730_122_672_7,
        33_430.575_583_588_128_105,
        67_265.770_927_008_700_853,
        45_921.953_931_549_871_457,
        13_731.693_765_509_461_125,
        1_971.590_950_306_551_442_7,
        133.141_667_891_784_377_45,
        3.387_132_872_796_366_608,
    ],
    [
        5_226.495_278_852_854_561,
        28_729.085_735_721_942_674,
        39_307.895_800_092_710_61,
        21_213.794_301_586_595_867,
        5_394.196_021_424_751_107_7,
        687.187_007_492_057_908_3,
        42.313_330_701_600_911_252,
        1.0,
    ],
];
/// For tails down to exp(-25).
const TAIL: [[f64; 8]; 2] = [
    [
        7.745_450_142_783_414_076_4e-4,
        0.022_723_844_989_269_184_583_3,
        0.241_780_725_177_450_611_77,
        1.270_458_252_452_368_382_58,
        3.647_848_324_763_204_605_04,
        5.769_497_221_460_691_405_5,
        4.630_337_846_156_545_295_9,
        1.423_437_110_749_683_577_34,
    ],
    [
        1.050_750_071_644_416_843_24e-9,
        5.475_938_084_995_344_946e-4,
        0.015_198_666_563_616_457_196_6,
        0.148_103_976_427_480_074_59,
        0.689_767_334_985_100_004_55,
        1.676_384_830_183_803_849_4,
        2.053_191_626_637_758_821_87,
        1.0,
    ],
];
/// For tails beyond.
const FAR_TAIL: [[f64; 8]; 2] = [
    [
        2.010_334_399_292_288_132_65e-7,
        2.711_555_568_743_487_578_15e-5,
        1.242_660_947_388_078_438_6e-3,
        0.026_532_189_526_576_123_093,
        0.296_560_571_828_504_891_23,
        1.784_826_539_917_291_335_8,
        5.463_784_911_164_114_369_9,
        6.657_904_643_501_103_777_2,
    ],
    [
        2.044_263_103_389_939_785_64e-15,
        1.421_511_758_316_445_888_7e-7,
        1.846_318_317_510_054_681_8e-5,
        7.868_691_311_456_132_591e-4,
        0.014_875_361_290_850_614_852_5,
        0.136_929_880_922_735_805_31,
        0.599_832_206_555_887_937_69,
        1.0,
    ],
];

/// How far from 1/2 the middle goes.
const MIDDLE_MAX: f64 = 0.425;

/// The z with probability `u` below it, for 0 < u < 1.
pub(super) fn quantile(u: f64) -> f64 {
    let q = u - 0.5;
    if q.abs() <= MIDDLE_MAX {
        return middle(q);
    }
    let tail = if q < 0.0 { u } else { 1.0 - u };
    let r = (-libm::log(tail)).sqrt();
    let z = if r <= 5.0 { ratio(&TAIL, r - 1.6) } else { ratio(&FAR_TAIL, r - 5.0) };
    if q < 0.0 { -z } else { z }
}

#[inline(always)]
fn middle(q: f64) -> f64 {
    q * ratio(&MIDDLE, 0.180_625 - q * q)
}

/// Makes probabilities the values of a normal distribution with this mean and standard deviation.
pub(super) fn quantiles(values: &mut [f64], mean: f64, sd: f64) {
    for piece in values.chunks_mut(PIECE) {
        let mut probabilities = [0.0; PIECE];
        let probabilities = &mut probabilities[..piece.len()];
        probabilities.copy_from_slice(piece);
        middles(piece, mean, sd);
        for (z, u) in piece.iter_mut().zip(probabilities) {
            if (*u - 0.5).abs() > MIDDLE_MAX {
                *z = mean + sd * quantile(*u);
            }
        }
    }
}

/// Values that are made together.
const PIECE: usize = 512;

/// Treats every probability as one of the middle.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn middles(values: &mut [f64], mean: f64, sd: f64) {
    for value in values {
        *value = mean + sd * middle(*value - 0.5);
    }
}

#[inline(always)]
fn ratio([numerator, denominator]: &[[f64; 8]; 2], x: f64) -> f64 {
    let horner = |coefficients: &[f64; 8]| coefficients.iter().fold(0.0, |sum, c| sum * x + c);
    horner(numerator) / horner(denominator)
}

#[cfg(test)]
mod tests {
    use super::quantile;

    /// Probability below z, by the complementary error function.
    fn below(z: f64) -> f64 {
        libm::erfc(-z / std::f64::consts::SQRT_2) / 2.0
    }

    #[test]
    fn quantile_inverts_the_distribution() {
        let mut z = -8.2;
        while z <= 8.2 {
            // Above 0 the probability is near 1 and has lost its digits: use the symmetry.
            let found = if z <= 0.0 { quantile(below(z)) } else { -quantile(below(-z)) };
            assert!((found - z).abs() <= 2e-14 * f64::max(1.0, z.abs()), "{z} came back as {found}");
            z += 0.013;
        }
    }

    #[test]
    fn many_at_once_are_the_same_as_one_by_one() {
        let mut values: Vec<f64> = (1..5000).map(|i| f64::from(i) / 5000.0).collect();
        let expected: Vec<u64> = values.iter().map(|u| (3.0 + 0.7 * quantile(*u)).to_bits()).collect();
        super::quantiles(&mut values, 3.0, 0.7);
        assert_eq!(values.iter().map(|x| x.to_bits()).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn tails_mirror_each_other() {
        for k in [1_u64, 2, 1000, 1 << 40, (1 << 51) - 1] {
            let u = k as f64 / (1_u64 << 52) as f64;
            assert_eq!(quantile(u), -quantile(1.0 - u));
        }
        assert_eq!(quantile(0.5), 0.0);
    }
}
