//! Exact counts over one stretch of time.

use serde::{Deserialize, Serialize};

/// Counts that can't be: never clamped, always refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{k} bad requests of {n}: more than there were")]
pub struct CountError {
    /// Requests.
    pub n: u64,
    /// Bad ones.
    pub k: u64,
}

/// Requests of one version and how many of them were bad.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arm {
    /// Requests.
    pub n: u64,
    /// Bad ones, at most `n`.
    pub k: u64,
}

impl Arm {
    /// Checked counts.
    ///
    /// # Errors
    /// When k > n.
    pub fn new(n: u64, k: u64) -> Result<Self, CountError> {
        if k > n { Err(CountError { n, k }) } else { Ok(Self { n, k }) }
    }

    /// Add another stretch.
    #[must_use]
    pub fn plus(self, other: Arm) -> Arm {
        Arm { n: self.n.saturating_add(other.n), k: self.k.saturating_add(other.k) }
    }

    /// Share of bad requests, 0 without requests.
    #[must_use]
    pub fn rate(self) -> f64 {
        if self.n == 0 { 0.0 } else { count(self.k) / count(self.n) }
    }
}

/// Both versions over one stretch of time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// The version under test (arm 1 of the formulas).
    pub canary: Arm,
    /// The version it is compared with (arm 0).
    pub stable: Arm,
}

impl Block {
    /// Nothing happened.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.canary.n == 0 && self.stable.n == 0
    }
}

/// A count as a float; exact below 2^53.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "counts beyond 2^53 lose a relative 1e-16")]
pub(crate) fn count(n: u64) -> f64 {
    n as f64
}
