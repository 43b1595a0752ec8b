//! Exact counts over one stretch of time.

use serde::{Deserialize, Serialize};

/// Counts that can't be: never clamped, always refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CountError {
    /// More bad requests than requests.
    #[error("{k} bad requests of {n}: n and k must come from one family and one scrape")]
    MoreBadThanAll {
        /// Requests.
        n: u64,
        /// Bad ones.
        k: u64,
    },
    /// More requests above a boundary than above a lower one.
    #[error("more requests are slower than boundary {boundary} than at the one below it")]
    NotFalling {
        /// Index of the boundary.
        boundary: usize,
    },
    /// Both arms must be counted at the same boundaries.
    #[error("the canary is counted at {canary} boundaries, stable at {stable}")]
    Boundaries {
        /// How many the canary has.
        canary: usize,
        /// How many stable has.
        stable: usize,
    },
}

/// Requests of one version and how many of them were bad: failed, or slower than a boundary.
///
/// Holds k ≤ n by construction, also when deserialised.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "(u64, u64)", into = "(u64, u64)")]
pub struct Arm {
    n: u64,
    k: u64,
}

impl Arm {
    /// `n` requests of which `k` were bad.
    ///
    /// # Errors
    /// When k > n.
    pub fn new(n: u64, k: u64) -> Result<Self, CountError> {
        if k > n { Err(CountError::MoreBadThanAll { n, k }) } else { Ok(Self { n, k }) }
    }

    /// Requests.
    #[must_use]
    pub fn n(self) -> u64 {
        self.n
    }

    /// Bad ones, at most [`n`](Self::n).
    #[must_use]
    pub fn k(self) -> u64 {
        self.k
    }

    /// Both stretches together; `None` when that is more than can be counted.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        // k ≤ n on both sides: the sum of k overflows only if the sum of n does.
        Some(Self { n: self.n.checked_add(other.n)?, k: self.k.checked_add(other.k)? })
    }

    /// What is left without a stretch that is part of this one.
    pub(crate) fn without(self, part: Self) -> Self {
        let n = self.n.saturating_sub(part.n);
        Self { n, k: self.k.saturating_sub(part.k).min(n) }
    }

    /// Share of bad requests in [0, 1]; `None` without requests.
    #[must_use]
    pub fn rate(self) -> Option<f64> {
        (self.n > 0).then(|| count(self.k) / count(self.n))
    }
}

impl TryFrom<(u64, u64)> for Arm {
    type Error = CountError;

    fn try_from((n, k): (u64, u64)) -> Result<Self, CountError> {
        Self::new(n, k)
    }
}

impl From<Arm> for (u64, u64) {
    fn from(arm: Arm) -> Self {
        (arm.n, arm.k)
    }
}

/// Both versions over one stretch of time, within one traffic weight.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// The version under test (arm 1 of the formulas).
    pub canary: Arm,
    /// The version it is compared with (arm 0).
    pub stable: Arm,
}

impl Block {
    /// A block of both arms.
    #[must_use]
    pub fn new(canary: Arm, stable: Arm) -> Self {
        Self { canary, stable }
    }

    /// Nothing happened: such a block is skipped.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.canary.n == 0 && self.stable.n == 0
    }

    /// Both stretches together; `None` when that is more than can be counted.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        Some(Self {
            canary: self.canary.checked_add(other.canary)?,
            stable: self.stable.checked_add(other.stable)?,
        })
    }

    /// `(n1, k1, n0, k0)` of the formulas.
    #[must_use]
    pub(crate) fn floats(&self) -> (f64, f64, f64, f64) {
        (count(self.canary.n), count(self.canary.k), count(self.stable.n), count(self.stable.k))
    }
}

/// A count as a float; exact below 2^53.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "counts beyond 2^53 lose a relative 1e-16")]
pub(crate) fn count(n: u64) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_counts_are_refused_and_never_clamped() {
        assert_eq!(Arm::new(3, 4), Err(CountError::MoreBadThanAll { n: 3, k: 4 }));
        assert!(Arm::new(3, 3).is_ok());
        assert!(serde_json::from_str::<Arm>("[3, 4]").is_err());
        assert_eq!(serde_json::from_str::<Arm>("[4, 3]").unwrap(), Arm::new(4, 3).unwrap());
    }

    #[test]
    fn a_sum_that_overflows_is_no_sum() {
        let most = Arm::new(u64::MAX, 1).unwrap();
        assert_eq!(most.checked_add(Arm::new(1, 0).unwrap()), None);
        assert_eq!(most.checked_add(Arm::default()), Some(most));
    }

    #[test]
    fn no_requests_have_no_rate() {
        assert_eq!(Arm::default().rate(), None);
        assert_eq!(Arm::new(4, 1).unwrap().rate(), Some(0.25));
    }
}
