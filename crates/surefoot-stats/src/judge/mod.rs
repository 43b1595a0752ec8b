//! The judges that other tools have, for those who come from there.
//!
//! **None of them is safe to look at repeatedly.** Each answers one look with its own error rate;
//! every further look adds to it, and no bound over a release follows from the bound of a look. Nor
//! does "no difference found" show that there is none: with few data all of them let everything
//! pass. The sequential tests of this crate are the ones that may be looked at as often as wanted.
//!
//! | module | judge | as in |
//! |---|---|---|
//! | [`mann_whitney`], [`score`] | ranks of the values of each block, and a score over metrics | Kayenta |
//! | [`fisher`] | exact test of two shares | scripts around Argo Rollouts |
//! | [`welch`] | t-test of the means of blocks | scripts |
//! | [`ks`] | Kolmogorov–Smirnov test of whole distributions | scripts |
//! | [`crate::threshold`] | one value against fixed limits | Flagger, Argo Rollouts |
//! | [`peers`] | the rules of those tools as wholes, to compare with | |
//!
//! [`quantile`] estimates the percentiles that those tools judge.

mod brent;
pub mod fisher;
pub mod ks;
pub mod mann_whitney;
pub mod peers;
pub mod quantile;
pub mod score;
pub mod welch;

/// Which difference of the canary from stable is a bad one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Higher values: failures, latencies.
    Increase,
    /// Lower ones: throughput.
    Decrease,
    /// Any.
    Either,
}

impl Direction {
    /// Whether higher values are bad.
    #[must_use]
    pub fn up(self) -> bool {
        self != Direction::Decrease
    }

    /// Whether lower values are bad.
    #[must_use]
    pub fn down(self) -> bool {
        self != Direction::Increase
    }
}

/// What a judge makes of one look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing speaks against the canary, or not enough of it does.
    Pass,
    /// Between passing and failing.
    Marginal,
    /// Too much speaks against it.
    Fail,
    /// Nothing to judge by.
    NoData,
}

/// Values that the tests are checked with against SciPy.
#[cfg(test)]
mod samples {
    pub const A: [f64; 8] = [1.2, 1.9, 0.7, 2.4, 1.6, 1.1, 2.2, 1.8];
    pub const B: [f64; 6] = [0.9, 1.0, 0.4, 1.3, 0.8, 1.1];
    pub const C: [f64; 8] = [0.0, 0.0, 0.5, 0.0, 1.5, 0.0, 0.0, 0.25];
}
