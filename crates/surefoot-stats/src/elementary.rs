//! Logarithms and exponentials of many numbers at once.
//!
//! A block asks for hundreds of them, and a library's function takes one at a time. These are straight
//! lines of additions and multiplications, so that the compiler takes as many at a time as a register of
//! this processor holds. No two of them are contracted into one: the results are the same to the bit
//! on every processor.

use std::f64::consts::{FRAC_1_SQRT_2, LOG2_E};

use multiversion::multiversion;

/// ln 2 in two parts: the first has so few digits that a multiple of up to 2^11 of it is exact.
const LN_2: (f64, f64) = (0.693_147_180_369_123_8, 1.908_214_929_270_588e-10);
/// Bits of a float before its exponent.
const MANTISSA: u32 = 52;
/// What is added to an exponent where it is stored.
const BIAS: u64 = 1023;
/// A float whose last digit is 1: the bits of a small whole number put into its own give their sum.
const UNITS: f64 = 4_503_599_627_370_496.0;
/// Added to a float and taken away again this rounds it to a whole number.
const ROUNDS: f64 = 1.5 * UNITS;
/// An exponential of less is no normal number: taken for this one.
const LEAST: f64 = -700.0;
/// How many terms are summed side by side, so that the sum is the same however wide the registers are.
const LANES: usize = 8;

/// ln(1 + x) in place of every x > −1, without cancellation where x is small; within 5e-16 of its size.
#[multiversion(targets("x86_64+avx+avx2"))]
pub(crate) fn ln_1p(xs: &mut [f64]) {
    for x in xs {
        *x = ln_1p_of(*x);
    }
}

/// The largest x and Σ exp(x − largest). (−∞, 0) of nothing.
#[multiversion(targets("x86_64+avx+avx2"))]
pub(crate) fn sum_of_exponentials(xs: &[f64]) -> (f64, f64) {
    let (chunks, rest) = xs.as_chunks::<LANES>();
    let mut last = [f64::NEG_INFINITY; LANES];
    for (last, x) in last.iter_mut().zip(rest) {
        *last = *x;
    }
    let mut tops = last;
    for chunk in chunks {
        for (top, x) in tops.iter_mut().zip(chunk) {
            *top = larger(*x, *top);
        }
    }
    let mut top = f64::NEG_INFINITY;
    for x in tops {
        top = larger(x, top);
    }
    if top.is_infinite() {
        return (top, 0.0);
    }
    let mut sums = [0.0; LANES];
    for (sum, x) in sums.iter_mut().zip(last) {
        *sum += exp_of(x - top);
    }
    for chunk in chunks {
        for (sum, x) in sums.iter_mut().zip(chunk) {
            *sum += exp_of(*x - top);
        }
    }
    let mut sum = 0.0;
    for part in sums {
        sum += part;
    }
    (top, sum)
}

/// As registers compare: `max` would ask for more than is needed of numbers.
#[inline(always)]
fn larger(x: f64, y: f64) -> f64 {
    if x > y { x } else { y }
}

/// 1 + x = m·2^e with m in [√½, √2) and ln m = 2 artanh((m − 1)/(m + 1)); what the sum 1 + x loses is
/// put back into m.
#[inline(always)]
fn ln_1p_of(x: f64) -> f64 {
    let sum = 1.0 + x;
    let lost = x - (sum - 1.0);
    let bits = sum.to_bits();
    let from_least = bits.wrapping_sub(FRAC_1_SQRT_2.to_bits());
    let exponent = from_least.wrapping_add(BIAS << MANTISSA) >> MANTISSA;
    let m = f64::from_bits(bits.wrapping_sub(exponent << MANTISSA).wrapping_add(BIAS << MANTISSA));
    let scale = f64::from_bits((2 * BIAS).wrapping_sub(exponent) << MANTISSA);
    let e = f64::from_bits(exponent | UNITS.to_bits()) - (UNITS + 1023.0);
    let more = (m - 1.0) + lost * scale;
    let s = more / (2.0 + more);
    let (z, twice) = (s * s, 2.0 * s);
    let (z2, z4) = (z * z, z * z * (z * z));
    let low = (1.0 / 3.0 + z * (1.0 / 5.0)) + z2 * (1.0 / 7.0 + z * (1.0 / 9.0));
    let middle = (1.0 / 11.0 + z * (1.0 / 13.0)) + z2 * (1.0 / 15.0 + z * (1.0 / 17.0));
    let high = 1.0 / 19.0 + z * (1.0 / 21.0);
    let series = low + z4 * (middle + z4 * high);
    e * LN_2.0 + (twice + (twice * z * series + e * LN_2.1))
}

/// x = k·ln 2 + r with |r| ≤ ½ ln 2, and Taylor's series for e^r. x ≤ 0.
#[inline(always)]
fn exp_of(x: f64) -> f64 {
    let x = larger(x, LEAST);
    let rounded = x * LOG2_E + ROUNDS;
    let k = rounded - ROUNDS;
    let r = (x - k * LN_2.0) - k * LN_2.1;
    let (r2, r4) = (r * r, r * r * (r * r));
    let low = (1.0 + r) + r2 * (1.0 / 2.0 + r * (1.0 / 6.0));
    let middle = (1.0 / 24.0 + r * (1.0 / 120.0)) + r2 * (1.0 / 720.0 + r * (1.0 / 5040.0));
    let high = (1.0 / 40_320.0 + r * (1.0 / 362_880.0))
        + r2 * (1.0 / 3_628_800.0 + r * (1.0 / 39_916_800.0))
        + r4 * (1.0 / 479_001_600.0);
    let power = f64::from_bits(rounded.to_bits().wrapping_add(BIAS) << MANTISSA);
    (low + r4 * (middle + r4 * high)) * power
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn near(have: f64, want: f64, digits: f64) -> bool {
        have == want || ((have - want) / want).abs() <= digits
    }

    fn of(x: f64) -> f64 {
        let mut xs = [x];
        ln_1p(&mut xs);
        xs[0]
    }

    #[test]
    fn at_the_ends() {
        assert_eq!(of(0.0), 0.0);
        assert_eq!(of(1e-300), 1e-300);
        assert_eq!(sum_of_exponentials(&[]), (f64::NEG_INFINITY, 0.0));
        assert_eq!(sum_of_exponentials(&[f64::NEG_INFINITY; 3]), (f64::NEG_INFINITY, 0.0));
        let (top, sum) = sum_of_exponentials(&[1e6, f64::NEG_INFINITY, -1e6, 1e6]);
        assert_eq!(top, 1e6);
        assert!(near(sum, 2.0, 1e-15), "{sum}");
    }

    proptest! {
        #[test]
        fn they_are_the_librarys(
            small in -0.999_f64..1.0, power in -300.0..15.0_f64,
            xs in prop::collection::vec(-800.0..800.0_f64, 1..40),
        ) {
            for x in [small, 10f64.powf(power), small * 1e-9] {
                prop_assert!(near(of(x), x.ln_1p(), 5e-16), "{x}: {} {}", of(x), x.ln_1p());
            }
            let top = xs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let want: f64 = xs.iter().map(|x| (x - top).exp()).sum();
            let (at, have) = sum_of_exponentials(&xs);
            prop_assert!(at == top && near(have, want, 2e-15), "{have} {want}");
        }

        /// Each of many is what it is alone, wherever it stands.
        #[test]
        fn the_registers_width_changes_nothing(xs in prop::collection::vec(-0.999_f64..1e4, 0..40)) {
            let mut all = xs.clone();
            ln_1p(&mut all);
            for (one, x) in all.iter().zip(xs) {
                prop_assert_eq!(one.to_bits(), ln_1p_of(x).to_bits());
            }
        }
    }
}
