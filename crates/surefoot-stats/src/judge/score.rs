//! Kayenta's score over metrics: per group the share of metrics that pass, weighted over groups.
//!
//! **What it can't promise.** The score is no probability. A metric that fails weighs as much as
//! its group divided by the number of metrics in it, whatever harm it shows; with many metrics one
//! that is all wrong can leave the score above the limit. More metrics mean more chances to err.

use super::Verdict;
use super::mann_whitney::Class;
use crate::block::count;

/// Kayenta's limits and groups.
#[derive(Debug, Clone, PartialEq)]
pub struct Score {
    /// From this score on it passes, of 100.
    pub pass: f64,
    /// Below this one it fails.
    pub marginal: f64,
    /// Each group's weight in per cent. Those without one share what the others leave of 100.
    pub weights: Vec<Option<f64>>,
}

/// A metric that has been judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Graded {
    /// What it is.
    pub class: Class,
    /// Whether it fails everything.
    pub critical: bool,
    /// Index of its group.
    pub group: usize,
}

/// Limits or weights that can't be scored by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ScoreError {
    /// Limits out of order.
    #[error("marginal and pass must lie within 0 to 100, marginal not above pass")]
    Limits,
    /// Weights that are no shares of 100.
    #[error("weights of groups must be at least 0 and in sum at most 100")]
    Weights,
}

impl Score {
    /// Whether it can be scored by.
    ///
    /// # Errors
    /// With limits out of order, or weights beyond 100 in sum.
    pub fn validate(&self) -> Result<(), ScoreError> {
        let within = (0.0..=100.0).contains(&self.pass) && (0.0..=100.0).contains(&self.marginal);
        if !within || self.marginal > self.pass {
            return Err(ScoreError::Limits);
        }
        let sum: f64 = self.weights.iter().flatten().sum();
        // A third written three times is as good as 100.
        if self.weights.iter().flatten().any(|w| w.is_nan() || *w < 0.0) || sum > 100.0 + 1e-9 {
            return Err(ScoreError::Weights);
        }
        Ok(())
    }

    /// The score in \[0, 100\] and what it means. A group without data adds nothing, as in Kayenta:
    /// missing data lower the score. Without any data there is no score.
    #[must_use]
    pub fn of(&self, metrics: &[Graded]) -> (f64, Verdict) {
        if metrics.iter().any(|m| m.critical && m.class.failed()) {
            return (0.0, Verdict::Fail);
        }
        if metrics.iter().all(|m| m.class == Class::NoData) {
            return (0.0, Verdict::NoData);
        }
        let used = |group: usize| metrics.iter().any(|m| m.group == group);
        let open = self.weights.iter().enumerate().filter(|(i, w)| w.is_none() && used(*i)).count();
        let left = 100.0 - self.weights.iter().flatten().sum::<f64>();
        let share = left.max(0.0) / count(open.max(1) as u64);
        let groups = self.weights.iter().enumerate();
        let scores = groups.filter_map(|(group, weight)| {
            let own = metrics.iter().filter(|m| m.group == group && m.class != Class::NoData);
            let (passed, all) = own.fold((0, 0), |(passed, all), m| {
                (passed + u64::from(m.class == Class::Pass), all + 1)
            });
            (all > 0).then(|| weight.unwrap_or(share) * count(passed) / count(all))
        });
        let score: f64 = scores.sum();
        let verdict = if score >= self.pass {
            Verdict::Pass
        } else if score >= self.marginal {
            Verdict::Marginal
        } else {
            Verdict::Fail
        };
        (score, verdict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graded(class: Class, group: usize) -> Graded {
        Graded { class, critical: false, group }
    }

    #[test]
    fn groups_are_weighted_and_share_what_is_left() {
        let score = Score { pass: 95.0, marginal: 75.0, weights: vec![Some(60.0), None, None] };
        let (pass, high) = (Class::Pass, Class::High);
        assert_eq!(
            score.of(&[graded(pass, 0), graded(pass, 1), graded(pass, 2)]),
            (100.0, Verdict::Pass)
        );
        let half = [graded(pass, 0), graded(pass, 1), graded(pass, 2), graded(high, 2)];
        assert_eq!(score.of(&half), (90.0, Verdict::Marginal));
        assert_eq!(
            score.of(&[graded(high, 0), graded(pass, 1), graded(pass, 2)]),
            (40.0, Verdict::Fail)
        );
        // A group nobody is in has no share of the rest.
        assert_eq!(score.of(&[graded(pass, 0), graded(pass, 1)]), (100.0, Verdict::Pass));
    }

    #[test]
    fn a_critical_metric_fails_all_and_missing_data_lower_the_score() {
        let score = Score { pass: 95.0, marginal: 75.0, weights: vec![Some(10.0), None] };
        let critical = Graded { critical: true, ..graded(Class::High, 0) };
        assert_eq!(score.of(&[critical, graded(Class::Pass, 1)]), (0.0, Verdict::Fail));
        let absent = [graded(Class::NoData, 0), graded(Class::Pass, 1)];
        assert_eq!(score.of(&absent), (90.0, Verdict::Marginal));
        assert_eq!(score.of(&[graded(Class::NoData, 0)]).1, Verdict::NoData);
        assert_eq!(score.of(&[]).1, Verdict::NoData);
        assert_eq!(score.of(&[graded(Class::NoDataFails, 1)]), (0.0, Verdict::Fail));
    }

    #[test]
    fn limits_and_weights_must_make_sense() {
        let of = |pass, marginal, weight| {
            Score { pass, marginal, weights: vec![Some(weight), Some(50.0)] }.validate()
        };
        assert_eq!(of(95.0, 75.0, 50.0), Ok(()));
        assert_eq!(of(75.0, 95.0, 50.0), Err(ScoreError::Limits));
        assert_eq!(of(f64::NAN, 75.0, 50.0), Err(ScoreError::Limits));
        assert_eq!(of(95.0, 75.0, 51.0), Err(ScoreError::Weights));
        assert_eq!(of(95.0, 75.0, f64::NAN), Err(ScoreError::Weights));
    }
}
