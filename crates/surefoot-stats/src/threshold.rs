//! The threshold judge: one number against fixed limits. It promises nothing about how often it
//! errs; that is why it stands outside of the others' bounds.

use serde::{Deserialize, Serialize};

/// Limits and how many answers may lie outside of them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Threshold {
    /// Lowest value allowed.
    pub min: Option<f64>,
    /// Highest value allowed.
    pub max: Option<f64>,
    /// How many answers may lie outside; one more fails.
    pub failure_limit: u32,
}

/// What has been counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Answers within.
    pub good: u32,
    /// Answers outside.
    pub bad: u32,
    /// Answers that were no finite number: neither.
    pub unusable: u32,
}

impl Threshold {
    /// Count one answer.
    pub fn count(&self, tally: &mut Tally, value: f64) {
        if !value.is_finite() {
            tally.unusable = tally.unusable.saturating_add(1);
        } else if self.min.is_some_and(|min| value < min) || self.max.is_some_and(|max| value > max)
        {
            tally.bad = tally.bad.saturating_add(1);
        } else {
            tally.good = tally.good.saturating_add(1);
        }
    }

    /// Too many answers lay outside.
    #[must_use]
    pub fn failed(&self, tally: &Tally) -> bool {
        tally.bad > self.failure_limit
    }

    /// There was a good answer and not too many bad ones.
    #[must_use]
    pub fn passed(&self, tally: &Tally) -> bool {
        tally.good > 0 && !self.failed(tally)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_number_is_neither_good_nor_bad() {
        let limit = Threshold { min: None, max: Some(10.0), failure_limit: 1 };
        let mut tally = Tally::default();
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            limit.count(&mut tally, value);
        }
        assert_eq!(tally, Tally { unusable: 3, ..Tally::default() });
        assert!(!limit.passed(&tally) && !limit.failed(&tally));
        limit.count(&mut tally, 11.0);
        limit.count(&mut tally, 10.0);
        assert!(limit.passed(&tally));
        limit.count(&mut tally, 11.0);
        assert!(limit.failed(&tally) && !limit.passed(&tally));
    }
}
