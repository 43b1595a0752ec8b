//! The absolute test: is the canary's failure rate more than d above stable's?
//!
//! A Poisson likelihood ratio of a predicted pair of rates (θ1, θ0) against the nearest pair of the
//! null, its reverse information projection (θ1*, θ0*).
//!
//! What is guaranteed: for independent requests with any rates of the null, failures being Binomial
//! (or Poisson), E\[e\] ≤ 1 whatever (θ1, θ0) was predicted from earlier blocks. A block has
//! E\[e\] = Π (1 + p(θ/θ* − 1))ⁿ · e^(−n(θ−θ*)) ≤ exp Σ n(p(θ/θ* − 1) − (θ − θ*)), and because the
//! projection is stationary along the edge p1 = p0 + d that sum is 0 on all of it; inside of the
//! null p1 only makes it smaller. The slack of 1 + x ≤ eˣ is what a Binomial loses against the
//! Poisson: little for rare failures, much for rates near 1.

use crate::block::{Arm, Block, count};
use crate::elementary;
use crate::grid::ABSOLUTE;

/// Lowest rate predicted for stable.
pub const FLOOR: f64 = 1e-6;

/// The rate θ0 predicted for stable from its requests *before* the block that it is used for:
/// (k + ½)/(n + 1), at least [`FLOOR`].
#[must_use]
pub fn predicted(past: Arm) -> f64 {
    ((count(past.k()) + 0.5) / (count(past.n()) + 1.0)).max(FLOOR)
}

/// The pair (θ1*, θ0*) with θ1* − θ0* = d that is nearest to (θ1, θ0) for these numbers of requests:
/// the positive root t of n t² + (n d − n1 θ1 − n0 θ0) t − n0 θ0 d = 0 is θ0*.
#[must_use]
pub fn project(n1: f64, n0: f64, th1: f64, th0: f64, d: f64) -> (f64, f64) {
    let n = n1 + n0;
    let b = n * d - n1 * th1 - n0 * th0;
    let c = -(n0 * th0 * d);
    let root = (b * b - 4.0 * n * c).max(0.0).sqrt();
    // Of the two forms of the positive root the one without cancellation.
    let t = if b > 0.0 { -2.0 * c / (b + root) } else { (root - b) / (2.0 * n) };
    (t + d, t)
}

/// ln e of one block for the predicted pair (θ1, θ0), both > 0, against the null's edge d > 0.
///
/// 0 without canary requests: stable alone says nothing of a difference.
#[must_use]
pub fn log_e(block: &Block, th1: f64, th0: f64, d: f64) -> f64 {
    let [log] = log_es(block, [th1], th0, d, 1.0);
    log
}

/// [`log_e`] for every θ1, divided by the dispersion.
fn log_es<const N: usize>(
    block: &Block,
    th1: [f64; N],
    th0: f64,
    d: f64,
    dispersion: f64,
) -> [f64; N] {
    let (n1, k1, n0, k0) = block.floats();
    if n1 == 0.0 {
        return [0.0; N];
    }
    let stars = th1.map(|th1| project(n1, n0, th1, th0, d));
    let mut logs = [[0.0; N]; 2];
    let [canary, stable] = &mut logs;
    for (((canary, stable), th1), (star1, star0)) in
        canary.iter_mut().zip(stable).zip(th1).zip(stars)
    {
        *canary = (th1 - star1) / star1;
        // Without stable requests θ0* may be 0, and nothing of stable is observed.
        *stable = if n0 == 0.0 { 0.0 } else { (th0 - star0) / star0 };
    }
    elementary::ln_1p(logs.as_flattened_mut());
    let mut all = [0.0; N];
    let [canary, stable] = logs;
    for ((((log, canary), stable), th1), (star1, star0)) in
        all.iter_mut().zip(canary).zip(stable).zip(th1).zip(stars)
    {
        let of_stable = if n0 == 0.0 { 0.0 } else { k0 * stable - n0 * (th0 - star0) };
        *log = (k1 * canary - n1 * (th1 - star1) + of_stable) / dispersion;
    }
    all
}

/// One block's ln e of harm at the alternatives θ1 = θ0 + d·h: null p1 − p0 ≤ d.
///
/// An alternative above 1 is taken as 1; where even 1 is within the tolerance there is no harm that
/// could be shown and ln e is 0. Without stable requests it is 0 too: stable might fail as often.
#[must_use]
pub fn harm(block: &Block, th0: f64, d: f64, dispersion: f64) -> [f64; ABSOLUTE.len()] {
    if block.stable.n() == 0 {
        return [0.0; ABSOLUTE.len()];
    }
    let th1 = ABSOLUTE.map(|h| (th0 + d * h).min(1.0));
    let mut logs = log_es(block, th1, th0, d, dispersion);
    for (log, th1) in logs.iter_mut().zip(th1) {
        if th1 <= th0 + d {
            *log = 0.0;
        }
    }
    logs
}

/// One block's ln e of harm of a canary that has no stable beside it, against stable's past: null
/// p1 ≤ θ0 + d with θ0 taken for known. That is a prediction and not a comparison: right as long as
/// stable would still fail as it did.
#[must_use]
pub fn harm_alone(canary: Arm, th0: f64, d: f64) -> [f64; ABSOLUTE.len()] {
    let edge = th0 + d;
    ABSOLUTE.map(|h| {
        let th1 = (th0 + d * h).min(1.0);
        if th1 <= edge {
            return 0.0;
        }
        count(canary.k()) * (th1 / edge).ln() - count(canary.n()) * (th1 - edge)
    })
}

/// One block's ln e of safety at the alternatives θ1 = θ0/2, θ0 and θ0 + d/4: null p1 − p0 ≥ d.
///
/// Says something even without stable requests: a canary that fails less than d can't be d above
/// stable.
#[must_use]
pub fn promote(block: &Block, th0: f64, d: f64, dispersion: f64) -> [f64; 3] {
    log_es(block, [th0 / 2.0, th0, th0 + d / 4.0], th0, d, dispersion)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::objective::tests::{block, expectation};

    #[test]
    fn expectation_is_at_most_one_all_over_the_null() {
        for (n1, n0) in [(0, 4), (4, 0), (1, 1), (1, 6), (5, 3), (4, 4)] {
            for d in [0.005, 0.1, 0.5] {
                for th0 in [FLOOR, 0.01, 0.3, 0.97] {
                    for p0 in [0.0, 1e-3, 0.2, 0.5] {
                        for p1 in [p0 + d, p0 + d / 2.0, p0, 0.0] {
                            for g in 0..ABSOLUTE.len() {
                                let e =
                                    expectation(n1, n0, p1, p0, |b| harm(b, th0, d, 1.0)[g].exp());
                                assert!(
                                    e <= 1.0 + 1e-12,
                                    "harm {n1} {n0} {d} {th0} {p0} {p1}: {e}"
                                );
                            }
                        }
                        for p1 in [p0 + d, (p0 + 1.5 * d).min(1.0), 1.0] {
                            for g in 0..3 {
                                let e = expectation(n1, n0, p1, p0, |b| {
                                    promote(b, th0, d, 1.0)[g].exp()
                                });
                                assert!(
                                    e <= 1.0 + 1e-12,
                                    "safe {n1} {n0} {d} {th0} {p0} {p1}: {e}"
                                );
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn where_nothing_can_exceed_the_tolerance_nothing_is_held_against_it() {
        // θ0 + d > 1: the capped alternative would lie inside of the null.
        assert_eq!(harm(&block(50, 50, 0.0, 1.0), 0.97, 0.1, 1.0), [0.0; 8]);
    }

    #[test]
    fn without_stable_there_is_no_harm_but_there_may_be_safety() {
        let alone = block(5000, 0, 1.0, 0.0);
        assert_eq!(harm(&alone, 1e-3, 0.1, 1.0), [0.0; 8]);
        let good = block(5000, 0, 0.0, 0.0);
        assert!(promote(&good, 1e-3, 0.1, 1.0).iter().all(|log| *log > 100.0));
    }

    #[test]
    fn alone_it_is_held_against_the_past() {
        for p1 in [0.0, 0.05, 0.11] {
            for g in 0..ABSOLUTE.len() {
                let e = expectation(6, 0, p1, 0.0, |b| harm_alone(b.canary, 0.01, 0.1)[g].exp());
                assert!(e <= 1.0 + 1e-12, "{p1}: {e}");
            }
        }
        assert!(harm_alone(Arm::new(20, 20).unwrap(), 0.01, 0.1)[3] > 10.0);
    }

    #[test]
    fn the_prediction_has_a_floor() {
        assert_eq!(predicted(Arm::default()), 0.5);
        assert_eq!(predicted(Arm::new(10_000_000_000, 0).unwrap()), FLOOR);
        assert_eq!(predicted(Arm::new(99, 1).unwrap()), 0.015);
    }

    proptest! {
        #[test]
        fn the_projection_is_on_the_edge_and_optimal(
            n1 in 1.0..1e12_f64, n0 in 1.0..1e12_f64, th1 in 1e-6..1.0_f64,
            th0 in 1e-6..1.0_f64, d in 1e-6..1.0_f64,
        ) {
            let (star1, star0) = project(n1, n0, th1, th0, d);
            prop_assert!(star0 > 0.0 && star1 >= d);
            // Stationary: n1(1 − θ1/θ1*) + n0(1 − θ0/θ0*) = 0.
            let slope = n1 * (1.0 - th1 / star1) + n0 * (1.0 - th0 / star0);
            let size = n1 * (1.0 + th1 / star1) + n0 * (1.0 + th0 / star0);
            prop_assert!((slope / size).abs() < 1e-9, "{slope} of {size}");
        }

        #[test]
        fn any_counts_give_a_number(
            n1 in 0_u64..1_000_000_000_000, n0 in 0_u64..1_000_000_000_000,
            part1 in 0.0..=1.0_f64, part0 in 0.0..=1.0_f64,
            th0 in FLOOR..=1.0_f64, d in 1e-6..=1.0_f64,
        ) {
            let block = block(n1, n0, part1, part0);
            for log in harm(&block, th0, d, 1.0).into_iter().chain(promote(&block, th0, d, 3.0)) {
                prop_assert!(log.is_finite());
            }
        }
    }
}
