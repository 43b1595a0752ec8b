//! How long a release will take, foretold: closed forms that are about right. What they leave out
//! (the weights' shares of the budget beyond `metrics`, the windows' votes, blocks that end only
//! every 15 seconds) a simulation of the exact policy adds.

/// How much longer than half of the releases nine in ten take, about.
pub const P90: f64 = 1.8;

/// A regression that is expected, and who watches for it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Regression {
    /// Requests a second, of both versions together.
    pub rps: f64,
    /// The canary's share of them, in (0, 1).
    pub weight: f64,
    /// The canary's rate of bad requests, in \[0, 1\].
    pub canary: f64,
    /// Stable's, in \[0, 1\].
    pub stable: f64,
    /// Chance of rolling back a release within its tolerances, in (0, 1).
    pub false_rollback: f64,
    /// φ ≥ 1.
    pub dispersion: f64,
    /// Alternatives in the grid.
    pub alternatives: f64,
    /// Metrics that share the budget equally.
    pub metrics: f64,
}

impl Regression {
    /// Seconds until half of the releases with it are rolled back:
    /// φ·(ln(1/α) + ln G + ln M)/(λ·KL(q1‖w)), with λ bad requests a second of which q1 are the
    /// canary's, where w would be. Infinite where the canary is no worse than stable.
    #[must_use]
    pub fn t50(&self) -> f64 {
        let needed = -self.false_rollback.ln() + self.alternatives.ln() + self.metrics.ln();
        let information = self.bad_per_second() * self.divergence();
        if self.canary > self.stable && information > 0.0 {
            self.dispersion * needed / information
        } else {
            f64::INFINITY
        }
    }

    /// Seconds until nine in ten are.
    #[must_use]
    pub fn p90(&self) -> f64 {
        P90 * self.t50()
    }

    /// λ: bad requests a second.
    #[must_use]
    pub fn bad_per_second(&self) -> f64 {
        self.rps * (self.weight * self.canary + (1.0 - self.weight) * self.stable)
    }

    /// q1: the canary's share of the bad requests, in \[0, 1\]; its weight where nothing is bad.
    #[must_use]
    pub fn share_of_bad(&self) -> f64 {
        let bad = self.weight * self.canary;
        let all = bad + (1.0 - self.weight) * self.stable;
        if all > 0.0 { bad / all } else { self.weight }
    }

    /// KL(q1‖w): what one bad request tells, in nats.
    #[must_use]
    pub fn divergence(&self) -> f64 {
        let (q, w) = (self.share_of_bad(), self.weight);
        let part = |q: f64, w: f64| if q > 0.0 { q * (q / w).ln() } else { 0.0 };
        // Never negative but by rounding.
        (part(q, w) + part(1.0 - q, 1.0 - w)).max(0.0)
    }
}

/// Canary requests until a canary that fails as often as stable, at rate `p0` in \[0, 1\], has
/// shown that it fails less than `d` in (0, 1] more: φ(ln(1/β) + ½)/(d − p0 ln(1 + d/p0)).
#[must_use]
pub fn requests_to_pass(p0: f64, d: f64, false_pass: f64, dispersion: f64) -> f64 {
    let needed = dispersion * (-false_pass.ln() + 0.5);
    let x = d / p0;
    let information = if p0 <= 0.0 {
        d
    } else if x < 1e-4 {
        // x − ln(1 + x) without cancellation.
        p0 * x * x * (0.5 - x / 3.0)
    } else {
        d - p0 * x.ln_1p()
    };
    needed / information
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAULT: Regression = Regression {
        rps: 50.0,
        weight: 0.1,
        canary: 0.01,
        stable: 0.001,
        false_rollback: 0.01,
        dispersion: 1.0,
        alternatives: 12.0,
        metrics: 2.0,
    };

    #[test]
    fn a_stable_that_never_fails_makes_each_failure_worth_its_weight() {
        let clean = Regression { stable: 0.0, ..FAULT };
        assert_eq!(clean.share_of_bad(), 1.0);
        assert!((clean.divergence() - 10f64.ln()).abs() < 1e-12);
        assert!(clean.t50() < FAULT.t50() * 3.0 && clean.p90() == P90 * clean.t50());
    }

    #[test]
    fn what_is_no_worse_is_never_rolled_back() {
        for (canary, stable) in [(0.0, 0.0), (0.01, 0.01), (0.001, 0.01)] {
            let same = Regression { canary, stable, ..FAULT };
            assert!(same.t50().is_infinite() && same.divergence() >= 0.0);
        }
    }

    #[test]
    fn dispersion_takes_as_many_times_the_time() {
        let three = Regression { dispersion: 3.0, ..FAULT };
        assert!((three.t50() / FAULT.t50() - 3.0).abs() < 1e-12);
    }

    #[test]
    fn requests_to_pass_are_continuous_in_stables_rate() {
        let at = |p0| requests_to_pass(p0, 0.005, 0.05, 3.0);
        // At a rate of 0: 3(ln 20 + ½)/0.005.
        assert!((at(0.0) - 3.0 * (20f64.ln() + 0.5) / 0.005).abs() < 1e-9);
        assert!((at(1e-12) / at(0.0) - 1.0).abs() < 1e-6);
        assert!(at(0.001) > at(0.0) && at(0.01) > at(0.001) && at(1.0).is_finite());
        let (near, far) = (
            requests_to_pass(1.0, 0.999e-4, 0.05, 1.0),
            requests_to_pass(1.0, 1.001e-4, 0.05, 1.0),
        );
        assert!((near / far - (1.001_f64 / 0.999).powi(2)).abs() < 1e-6, "{near} {far}");
    }
}
