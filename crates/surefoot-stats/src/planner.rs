//! How much it will take, in closed form: rough, and at once. `surefoot plan` plays the very policy.

use crate::grid::HARM;

/// Traffic of a step and a canary that is worse.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Regression {
    /// Requests a second of both versions, above 0.
    pub rps: f64,
    /// The canary's share of them, in (0, 1).
    pub weight: f64,
    /// Stable's failure rate, in \[0, 1\].
    pub stable: f64,
    /// The canary's, above it.
    pub canary: f64,
}

impl Regression {
    /// Failures a second of both versions: λ.
    #[must_use]
    pub fn failures(&self) -> f64 {
        self.rps * (self.weight * self.canary + (1.0 - self.weight) * self.stable)
    }

    /// The canary's share of the failures: q1.
    #[must_use]
    pub fn share(&self) -> f64 {
        self.rps * self.weight * self.canary / self.failures()
    }

    /// What each failure tells on average: KL(q1 ‖ w), in nats.
    #[must_use]
    pub fn information(&self) -> f64 {
        let (q, w) = (self.share(), self.weight);
        let term = |a: f64, b: f64| if a == 0.0 { 0.0 } else { a * (a / b).ln() };
        term(q, w) + term(1.0 - q, 1.0 - w)
    }

    /// About how many seconds until half of such releases are rolled back at `alpha`, by one of
    /// `metrics` equal shares of the budget: T50 ≈ φ(ln 1/α + ln G + ln M)/(λ·KL). 90% take about
    /// 1.8 times as long. Infinite where the canary is no worse.
    #[must_use]
    pub fn seconds(&self, alpha: f64, metrics: f64, dispersion: f64) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "twelve")]
        let grid = HARM.len() as f64;
        let needed = dispersion * (grid.ln() + metrics.ln() - alpha.ln());
        if self.canary > self.stable {
            needed / (self.failures() * self.information())
        } else {
            f64::INFINITY
        }
    }
}

/// About how many canary requests it takes to pass a canary just like stable: with the failure rate
/// `stable`, the excess `margin` in (0, 1], and `beta` the chance of a false pass:
/// n1 ≈ φ(ln 1/β + ½)/(d − p0 ln(1 + d/p0)).
#[must_use]
pub fn requests_to_pass(stable: f64, margin: f64, beta: f64, dispersion: f64) -> f64 {
    let lost = if stable > 0.0 { stable * (margin / stable).ln_1p() } else { 0.0 };
    dispersion * (0.5 - beta.ln()) / (margin - lost)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_of_anything_is_seen_sooner() {
        let one = Regression { rps: 50.0, weight: 0.1, stable: 0.001, canary: 0.01 };
        let t = |r: Regression| r.seconds(0.01, 2.0, 1.0);
        for better in [
            Regression { rps: 100.0, ..one },
            Regression { weight: 0.3, ..one },
            Regression { canary: 0.02, ..one },
        ] {
            assert!(t(better) < t(one), "{better:?}");
        }
        assert!((one.seconds(0.01, 2.0, 3.0) - 3.0 * t(one)).abs() < 1e-9);
        assert_eq!(t(Regression { canary: 0.001, ..one }), f64::INFINITY);
        assert!(t(Regression { stable: 0.0, ..one }).is_finite());
    }

    #[test]
    fn a_perfect_stable_needs_the_fewest_requests() {
        let n = |stable| requests_to_pass(stable, 0.005, 0.05, 1.0);
        // (ln 20 + ½)/0.005.
        assert!((n(0.0) - 699.146).abs() < 0.01, "{}", n(0.0));
        assert!(n(0.001) > n(0.0) && n(0.01) > n(0.001));
    }
}
