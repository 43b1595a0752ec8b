//! The threshold judge: one number against fixed limits. It promises nothing about how often it
//! errs; that is why it stands outside of the others' bounds.

use serde::{Deserialize, Serialize};

/// Limits that can't be kept to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ThresholdError {
    /// Neither limit is given.
    #[error("a threshold needs min or max")]
    NoLimit,
    /// A limit is NaN or infinite.
    #[error("min and max must be finite numbers")]
    NotFinite,
    /// No number lies within.
    #[error("min is above max")]
    Empty,
}

/// Limits and how many answers may lie outside of them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Threshold {
    /// Lowest value allowed, in the query's unit.
    pub min: Option<f64>,
    /// Highest value allowed, in the query's unit.
    pub max: Option<f64>,
    /// How many answers may lie outside in all; one more fails.
    pub failure_limit: u32,
    /// How many may lie outside in a row; one more fails. `None`: any number.
    pub consecutive_limit: Option<u32>,
}

/// What one answer was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// Within the limits.
    Within,
    /// Outside of them.
    Outside,
    /// NaN or infinite: an error of the query, neither a pass nor a failure.
    NotANumber,
}

/// What has been counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Answers within.
    pub within: u32,
    /// Answers outside.
    pub outside: u32,
    /// Answers that were no finite number.
    pub not_a_number: u32,
    /// Answers outside since the last one within; what is no number neither adds nor ends.
    pub run: u32,
    /// The longest such run.
    pub longest_run: u32,
}

/// What the answers so far say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// No usable answer yet.
    NoData,
    /// Only answers outside, fewer than would fail: nothing that could pass.
    Undecided,
    /// There was an answer within, and no more outside than allowed.
    Within,
    /// A limit was exceeded; it stays so.
    Failed,
}

impl Threshold {
    /// Whether the limits can be kept to.
    ///
    /// # Errors
    /// Without a finite limit, or with min above max.
    pub fn validate(&self) -> Result<(), ThresholdError> {
        if self.min.is_none() && self.max.is_none() {
            return Err(ThresholdError::NoLimit);
        }
        if self.min.into_iter().chain(self.max).any(|limit| !limit.is_finite()) {
            return Err(ThresholdError::NotFinite);
        }
        match (self.min, self.max) {
            (Some(min), Some(max)) if min > max => Err(ThresholdError::Empty),
            _ => Ok(()),
        }
    }

    /// What one answer is; the limits themselves are within.
    #[must_use]
    pub fn judge(&self, value: f64) -> Answer {
        if !value.is_finite() {
            Answer::NotANumber
        } else if self.min.is_some_and(|min| value < min) || self.max.is_some_and(|max| value > max)
        {
            Answer::Outside
        } else {
            Answer::Within
        }
    }

    /// Count one answer.
    pub fn fold(&self, tally: &mut Tally, value: f64) -> Answer {
        let answer = self.judge(value);
        match answer {
            Answer::Within => {
                tally.within = tally.within.saturating_add(1);
                tally.run = 0;
            }
            Answer::Outside => {
                tally.outside = tally.outside.saturating_add(1);
                tally.run = tally.run.saturating_add(1);
                tally.longest_run = tally.longest_run.max(tally.run);
            }
            Answer::NotANumber => tally.not_a_number = tally.not_a_number.saturating_add(1),
        }
        answer
    }

    /// What the answers counted so far say.
    #[must_use]
    pub fn verdict(&self, tally: &Tally) -> Verdict {
        let in_a_row = self.consecutive_limit.is_some_and(|limit| tally.longest_run > limit);
        if tally.outside > self.failure_limit || in_a_row {
            Verdict::Failed
        } else if tally.within > 0 {
            Verdict::Within
        } else if tally.outside > 0 {
            Verdict::Undecided
        } else {
            Verdict::NoData
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_most(max: f64, failure_limit: u32, consecutive_limit: Option<u32>) -> Threshold {
        Threshold { min: None, max: Some(max), failure_limit, consecutive_limit }
    }

    fn fold(limit: &Threshold, values: &[f64]) -> Tally {
        let mut tally = Tally::default();
        for value in values {
            limit.fold(&mut tally, *value);
        }
        tally
    }

    #[test]
    fn what_is_no_number_is_neither_a_pass_nor_a_failure() {
        let limit = at_most(10.0, 0, Some(0));
        let tally = fold(&limit, &[f64::NAN, f64::INFINITY, f64::NEG_INFINITY]);
        assert_eq!(tally, Tally { not_a_number: 3, ..Tally::default() });
        assert_eq!(limit.verdict(&tally), Verdict::NoData);
    }

    #[test]
    fn one_more_than_the_limit_fails_for_good() {
        let limit = at_most(10.0, 2, None);
        assert_eq!(limit.verdict(&fold(&limit, &[11.0, 11.0])), Verdict::Undecided);
        assert_eq!(limit.verdict(&fold(&limit, &[11.0, 11.0, 10.0])), Verdict::Within);
        let failed = fold(&limit, &[11.0, 10.0, 11.0, 10.0, 11.0, 10.0]);
        assert_eq!(limit.verdict(&failed), Verdict::Failed);
    }

    #[test]
    fn a_run_fails_for_good_and_is_not_ended_by_what_is_no_number() {
        let limit = at_most(10.0, 100, Some(1));
        let apart = fold(&limit, &[11.0, 10.0, 11.0, 10.0]);
        assert_eq!(limit.verdict(&apart), Verdict::Within);
        let run = fold(&limit, &[11.0, f64::NAN, 11.0, 10.0, 10.0]);
        assert_eq!(limit.verdict(&run), Verdict::Failed);
    }

    #[test]
    fn limits_that_cannot_be_kept_are_refused() {
        let none = Threshold { min: None, max: None, failure_limit: 0, consecutive_limit: None };
        assert_eq!(none.validate(), Err(ThresholdError::NoLimit));
        let crossed = Threshold { min: Some(2.0), max: Some(1.0), ..none };
        assert_eq!(crossed.validate(), Err(ThresholdError::Empty));
        assert_eq!(at_most(f64::NAN, 0, None).validate(), Err(ThresholdError::NotFinite));
        assert_eq!(at_most(1.0, 0, None).validate(), Ok(()));
        let both = Threshold { min: Some(1.0), max: Some(2.0), ..none };
        assert_eq!(
            [0.9, 1.0, 2.0, 2.1].map(|v| both.judge(v) == Answer::Within),
            [false, true, true, false]
        );
    }
}
