//! What is known of stable before the canary gets its first request, and fixed from then on.

use serde::{Deserialize, Serialize};

use crate::block::Arm;
use crate::grid::HARM;
use crate::history::History;
use crate::latency::{Baseline, BaselineError, SlowArm};
use crate::policy::valid_dispersion;
use crate::{dispersion, replay};

/// φ where history does not tell it: what is seen of services with retries.
pub const ASSUMED_PHI: f64 = 3.0;
/// η where history does not tell it: a window's vote does not care how its failures come in bursts,
/// and no number is better known than full trust. Votes are bounded, a release has few of them, and
/// half of the budget is all that they can spend.
pub const ASSUMED_ETA: f64 = 1.0;

/// Calibration of one metric from history, committed with the decision that gives the canary its
/// first traffic: read later, it could be chosen to please.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// φ ≥ 1; `None` where history does not tell it, and [`ASSUMED_PHI`] is taken.
    pub phi: Option<f64>,
    /// η in (0, 1]; `None` where history does not tell it, and [`ASSUMED_ETA`] is taken.
    pub eta: Option<f64>,
    /// For a latency, stable's requests and how many were slower than each boundary: S0.
    pub s0: SlowArm,
    /// Those boundaries, rising, milliseconds; none for counts.
    pub boundaries: Vec<f64>,
    /// Stable's requests and bad ones, from which its rate θ0 is predicted.
    pub th0: Arm,
    /// Start of the history, milliseconds since the epoch.
    pub from: i64,
    /// Its end.
    pub to: i64,
}

/// A calibration that can't be.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum CalibrationError {
    /// φ or η outside of its range.
    #[error("{name} is {value}; it must be {range}")]
    Range {
        /// Which.
        name: &'static str,
        /// What it is.
        value: f64,
        /// What it may be.
        range: &'static str,
    },
    /// History that ends before it begins.
    #[error("the history ends before it begins")]
    Time,
    /// Boundaries or their counts.
    #[error(transparent)]
    Baseline(#[from] BaselineError),
}

impl Calibration {
    /// Nothing but stable's counts is known: φ and η are assumed.
    #[must_use]
    pub fn assumed(th0: Arm, from: i64, to: i64) -> Self {
        let (s0, boundaries) = (SlowArm::default(), Vec::new());
        Self { phi: None, eta: None, s0, boundaries, th0, from, to }
    }

    /// From the pods' history of bad requests. `minutes` is about how long a release takes, `alpha`
    /// its chance of a false rollback.
    #[must_use]
    pub fn of(history: &History, minutes: usize, alpha: f64, from: i64, to: i64) -> Self {
        let phi = dispersion::phi(history);
        // Where too little failed to tell φ, votes were too few as well.
        let eta =
            phi.and_then(|_| replay::eta(&replay::largest(history, 1.0, &HARM, minutes), alpha));
        Self { phi, eta, ..Self::assumed(history.total(), from, to) }
    }

    /// With stable's latencies at `boundaries`, milliseconds.
    #[must_use]
    pub fn with_latencies(self, boundaries: Vec<f64>, s0: SlowArm) -> Self {
        Self { s0, boundaries, ..self }
    }

    /// φ to judge by.
    #[must_use]
    pub fn dispersion(&self) -> f64 {
        self.phi.unwrap_or(ASSUMED_PHI)
    }

    /// η to judge by.
    #[must_use]
    pub fn exponent(&self) -> f64 {
        self.eta.unwrap_or(ASSUMED_ETA)
    }

    /// Stable's latencies; `None` for counts.
    ///
    /// # Errors
    /// When the boundaries don't rise, or are not as many as the counts.
    pub fn baseline(&self) -> Result<Option<Baseline>, BaselineError> {
        if self.boundaries.is_empty() && self.s0.slower().is_empty() {
            return Ok(None);
        }
        Baseline::new(self.boundaries.clone(), self.s0.clone()).map(Some)
    }

    /// Whether it can be: for one that was stored.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn validate(&self) -> Result<(), CalibrationError> {
        if let Some((name, value, range)) = valid_dispersion(self.dispersion(), self.exponent()) {
            return Err(CalibrationError::Range { name, value, range });
        }
        if self.to < self.from {
            return Err(CalibrationError::Time);
        }
        self.baseline()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arm(n: u64, k: u64) -> Arm {
        Arm::new(n, k).unwrap()
    }

    #[test]
    fn what_history_does_not_tell_is_assumed() {
        let quiet = History::new(&vec![vec![arm(100, 0); 4]; 720]).unwrap();
        let known = Calibration::of(&quiet, 30, 0.01, 0, 7_200_000);
        assert_eq!((known.phi, known.eta), (None, None));
        assert_eq!((known.dispersion(), known.exponent()), (ASSUMED_PHI, ASSUMED_ETA));
        assert_eq!(known.th0, arm(288_000, 0));
        assert_eq!((known.validate(), known.baseline()), (Ok(()), Ok(None)));
    }

    #[test]
    fn what_history_tells_is_taken() {
        let bursts: Vec<Vec<Arm>> = (0..720)
            .map(|slot| (0..4).map(|pod| arm(100, 5 * u64::from(slot % 4 == pod))).collect())
            .collect();
        let known = Calibration::of(&History::new(&bursts).unwrap(), 30, 0.01, 0, 7_200_000);
        assert!((known.phi.unwrap() - 5.0).abs() < 1e-12);
        assert_eq!(known.eta, Some(1.0));
    }

    #[test]
    fn it_stores_and_what_cannot_be_is_refused() {
        let s0 = SlowArm::new(10, vec![4, 2]).unwrap();
        let good = Calibration::assumed(arm(10, 1), 5, 6).with_latencies(vec![100.0, 250.0], s0);
        let good = Calibration { phi: Some(1.5), eta: Some(0.25), ..good };
        assert_eq!(good.validate(), Ok(()));
        let bytes = postcard::to_allocvec(&good).unwrap();
        assert_eq!(postcard::from_bytes::<Calibration>(&bytes).unwrap(), good);
        let refused = |change: fn(&mut Calibration)| {
            let mut bad = good.clone();
            change(&mut bad);
            bad.validate().unwrap_err().to_string()
        };
        assert!(refused(|c| c.phi = Some(0.5)).contains("phi is 0.5"));
        assert!(refused(|c| c.eta = Some(0.0)).contains("eta is 0"));
        assert!(refused(|c| c.eta = Some(f64::NAN)).contains("eta is NaN"));
        assert!(refused(|c| c.to = 4).contains("ends before"));
        assert!(refused(|c| c.boundaries = vec![1.0]).contains("1 boundaries but 2 counts"));
    }
}
