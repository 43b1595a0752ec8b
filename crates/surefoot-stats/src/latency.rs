//! Latency from histogram buckets: all that is observed is how many requests were slower than each
//! boundary. Nothing is interpolated but the tolerance, from stable's own past.

use serde::{Deserialize, Serialize};

use crate::block::{Arm, Block};

/// Requests of both versions and how many were slower than each boundary.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slow {
    /// The canary's requests.
    pub canary: u64,
    /// Stable's requests.
    pub stable: u64,
    /// For each boundary: the canary's and stable's slower requests.
    pub slower: Vec<(u64, u64)>,
}

impl Slow {
    /// The counts at one boundary as a block of bad requests; empty where the boundary is unknown.
    #[must_use]
    pub fn at(&self, boundary: usize) -> Block {
        let Some((canary, stable)) = self.slower.get(boundary).copied() else {
            return Block::default();
        };
        Block {
            canary: Arm { n: self.canary, k: canary },
            stable: Arm { n: self.stable, k: stable },
        }
    }

    /// Add another stretch over the same boundaries.
    pub fn add(&mut self, other: &Slow) {
        self.canary = self.canary.saturating_add(other.canary);
        self.stable = self.stable.saturating_add(other.stable);
        self.slower.resize(self.slower.len().max(other.slower.len()), (0, 0));
        for (sum, more) in self.slower.iter_mut().zip(&other.slower) {
            *sum = (sum.0.saturating_add(more.0), sum.1.saturating_add(more.1));
        }
    }
}

/// Stable's latencies before the canary.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// Requests.
    pub n: u64,
    /// Finite boundaries, rising, milliseconds.
    pub boundaries: Vec<f64>,
    /// Requests slower than each.
    pub slower: Vec<u64>,
}

impl Baseline {
    /// Share of requests slower than boundary `i`.
    #[must_use]
    pub fn exceedance(&self, i: usize) -> f64 {
        let slower = self.slower.get(i).copied().unwrap_or(0);
        Arm { n: self.n, k: slower.min(self.n) }.rate()
    }

    /// The share slower than x, by straight lines on logarithmic axes between boundaries; `None`
    /// outside of them, or where a share is 0.
    #[must_use]
    pub fn exceedance_at(&self, x: f64) -> Option<f64> {
        let above = self.boundaries.iter().position(|b| *b >= x)?;
        let share = |i: usize| Some(self.exceedance(i)).filter(|s| *s > 0.0);
        let high = self.boundaries.get(above)?;
        if (high - x).abs() <= f64::EPSILON * x {
            return share(above);
        }
        let below = above.checked_sub(1)?;
        let low = self.boundaries.get(below)?;
        let (s0, s1) = (share(below)?.ln(), share(above)?.ln());
        let part = (x.ln() - low.ln()) / (high.ln() - low.ln());
        Some((s0 + (s1 - s0) * part).exp())
    }

    /// How many times as many requests may be slower than boundary `i` when everything may be
    /// `slowdown` times slower. `None` where the boundary tells nothing: too low to know the share
    /// at x/slowdown, or never passed.
    #[must_use]
    pub fn margin(&self, i: usize, slowdown: f64) -> Option<f64> {
        let x = *self.boundaries.get(i)?;
        let now = Some(self.exceedance(i)).filter(|s| *s > 0.0)?;
        let then = self.exceedance_at(x / slowdown)?;
        // Equal shares leave no room to tell.
        Some(then / now).filter(|margin| *margin > 1.0 && margin.is_finite())
    }

    /// The boundary that shows that the canary is not slower: of those that 1 to 25% of stable's
    /// requests pass, the one nearest to 5%.
    #[must_use]
    pub fn pass_boundary(&self, slowdown: f64) -> Option<usize> {
        let fit = |i: &usize| {
            (0.01..=0.25).contains(&self.exceedance(*i)) && self.margin(*i, slowdown).is_some()
        };
        let distance = |i: &usize| (self.exceedance(*i) / 0.05).ln().abs();
        (0..self.boundaries.len()).filter(fit).min_by(|a, b| distance(a).total_cmp(&distance(b)))
    }
}

/// The boundary that an objective "at most `threshold`" reads: for harm the first at or above it,
/// for the pass the last at or below.
#[must_use]
pub fn objective_boundary(boundaries: &[f64], threshold: f64, harm: bool) -> Option<usize> {
    if harm {
        boundaries.iter().position(|b| *b >= threshold)
    } else {
        boundaries.iter().rposition(|b| *b <= threshold)
    }
}
