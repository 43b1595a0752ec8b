//! Where a falling step function crosses zero.
//!
//! The libraries at hand stop anywhere within their tolerance; on a step function "anywhere" is
//! visible in the result. R's `wilcox.test` follows the classic `zeroin` step by step, and of the
//! methods tried that one alone gave the reference values of Kayenta's judge: so that is what is
//! written down here.

/// A zero of `f` between `low` and `high` to within `tolerance`, by Brent's method as in `zeroin` of
/// Forsythe, Malcolm and Moler ("Computer Methods for Mathematical Computations", 1977): secant or
/// inverse quadratic interpolation where that shrinks the bracket fast enough, else bisection.
///
/// Wants values of different signs at the ends. At most 1,000 evaluations.
pub(super) fn zero(f: impl Fn(f64) -> f64, low: f64, high: f64, tolerance: f64) -> f64 {
    // The root lies between `best` and `other`; `last` is the best one before.
    let (mut last, mut best) = ((low, f(low)), (high, f(high)));
    let mut other = last;
    for _ in 0..1000 {
        if other.1.abs() < best.1.abs() {
            (last, best, other) = (best, other, best);
        }
        let least = 2.0 * f64::EPSILON * best.0.abs() + tolerance / 2.0;
        let half = (other.0 - best.0) / 2.0;
        if half.abs() <= least || best.1 == 0.0 {
            break;
        }
        let before = best.0 - last.0;
        let mut step = half;
        if before.abs() >= least && last.1.abs() > best.1.abs() {
            let (p, q) = interpolate(last, best, other);
            if p < (0.75 * (2.0 * half) * q - (least * q).abs() / 2.0)
                && p < (before * q / 2.0).abs()
            {
                step = p / q;
            }
        }
        if step.abs() < least {
            step = least.copysign(step);
        }
        last = best;
        best.0 += step;
        best.1 = f(best.0);
        if (best.1 > 0.0 && other.1 > 0.0) || (best.1 < 0.0 && other.1 < 0.0) {
            other = last;
        }
    }
    best.0
}

/// The step p/q, p ≥ 0: a secant where only two points differ, else a parabola through three.
#[expect(clippy::float_cmp, reason = "whether it is the same point")]
fn interpolate(last: (f64, f64), best: (f64, f64), other: (f64, f64)) -> (f64, f64) {
    let (width, slope) = (other.0 - best.0, best.1 / last.1);
    let (p, q) = if last.0 == other.0 {
        (width * slope, 1.0 - slope)
    } else {
        let (a, b) = (last.1 / other.1, best.1 / other.1);
        let p = slope * (width * a * (a - b) - (best.0 - last.0) * (b - 1.0));
        (p, (a - 1.0) * (b - 1.0) * (slope - 1.0))
    };
    if p > 0.0 { (p, -q) } else { (-p, q) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_of_smooth_and_of_stepped_functions() {
        let cubic = zero(|x| x * x * x - 2.0, 0.0, 3.0, 1e-12);
        assert!((cubic - 2f64.cbrt()).abs() < 1e-11, "{cubic}");
        let falling = zero(|x| if x < 0.3 { 1.0 } else { -2.0 }, -5.0, 7.0, 1e-4);
        assert!((falling - 0.3).abs() < 1e-4, "{falling}");
    }
}
