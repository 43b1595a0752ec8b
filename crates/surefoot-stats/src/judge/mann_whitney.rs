//! Kayenta's judge of one metric: the Mann–Whitney U test with a Hodges–Lehmann interval.
//!
//! A metric is High (or Low) when the confidence interval of the shift between canary and stable
//! lies beyond a share of the shift's own estimate, and the effect is large enough.
//!
//! **What it can't promise.** Not safe to look at repeatedly: the error rate grows with each look.
//! It takes the values of blocks for independent draws, which those of neighbouring minutes are
//! not. It wants about 50 values of each version (Kayenta's own advice). Where there are too few to reach
//! the confidence at all, it condemns any two samples that don't overlap, one value against one: ask
//! [`MannWhitney::enough`] first, as Kayenta does not. A Pass says that no difference was found, not that there is
//! none. It sees no traffic: a block of 3 requests counts as much as one of 30,000.

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal};

use super::{Direction, brent};
use crate::block::count;

/// Kayenta's confidence of the interval.
pub const CONFIDENCE: f64 = 0.98;
/// Kayenta's share of the estimate that the interval must lie beyond.
pub const TOLERANCE: f64 = 0.25;
/// How exactly the ends of the interval are found, in the values' unit: R's default. That is coarse
/// for fractions, so shares are to be given in per cent.
const EXACT: f64 = 1e-4;

/// How one metric is judged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MannWhitney {
    /// Which difference is bad.
    pub direction: Direction,
    /// Confidence of the interval, in (0, 1).
    pub confidence: f64,
    /// Share of the estimated shift that the interval must lie beyond, at least 0.
    pub tolerance: f64,
    /// How large a difference must be.
    pub effect: Effect,
    /// Whether a difference beyond the effect's critical limits fails everything at once.
    pub critical: bool,
    /// Whether a lack of data counts as a failed metric.
    pub must_have_data: bool,
    /// What becomes of values that are no number.
    pub nan: NanStrategy,
}

impl Default for MannWhitney {
    /// As Kayenta does without further configuration.
    fn default() -> Self {
        Self {
            direction: Direction::Either,
            confidence: CONFIDENCE,
            tolerance: TOLERANCE,
            effect: Effect::of(Measure::MeanRatio),
            critical: false,
            must_have_data: false,
            nan: NanStrategy::Remove,
        }
    }
}

/// What becomes of values that are no finite number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NanStrategy {
    /// They count as 0: for counters that are absent while nothing happens.
    Replace,
    /// They are left out.
    Remove,
}

/// How the size of a difference is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Measure {
    /// The canary's mean over stable's; 1 without a difference.
    MeanRatio,
    /// Common language effect size (McGraw and Wong, 1992): the chance that a value of the canary
    /// is above one of stable, ties half; ½ without a difference.
    Cles,
}

/// How large a difference must be to count.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Effect {
    /// How it is measured.
    pub measure: Measure,
    /// A smaller decrease than to this, or increase, passes.
    pub allowed: Limits,
    /// From this on a critical metric fails everything.
    pub critical: Limits,
}

/// Two limits of an effect.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Downwards; at most no effect.
    pub decrease: f64,
    /// Upwards; at least no effect.
    pub increase: f64,
}

/// Settings that can't be judged by.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("{field} is {value}; it must be {range}")]
pub struct SettingError {
    /// Which.
    pub field: &'static str,
    /// What it is.
    pub value: f64,
    /// What it may be.
    pub range: &'static str,
}

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Not shown to differ.
    Pass,
    /// Higher than allowed.
    High,
    /// Lower than allowed.
    Low,
    /// One version has no values.
    NoData,
    /// The same, where that counts as failed.
    NoDataFails,
}

impl Class {
    /// Whether it counts against the canary.
    #[must_use]
    pub fn failed(self) -> bool {
        matches!(self, Class::High | Class::Low | Class::NoDataFails)
    }
}

/// A metric judged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Classified {
    /// What it is.
    pub class: Class,
    /// Whether it fails everything at once.
    pub critical: bool,
    /// The effect, by its measure.
    pub effect: f64,
    /// The shift of the canary's values; `None` where none had to be estimated.
    pub shift: Option<Shift>,
}

/// By how much the canary's values lie above stable's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shift {
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Hodges–Lehmann estimate.
    pub estimate: f64,
}

impl Measure {
    fn none(self) -> f64 {
        match self {
            Measure::MeanRatio => 1.0,
            Measure::Cles => 0.5,
        }
    }
}

impl Effect {
    /// Any effect counts, and any is critical.
    #[must_use]
    pub fn of(measure: Measure) -> Self {
        let none = Limits { decrease: measure.none(), increase: measure.none() };
        Self { measure, allowed: none, critical: none }
    }

    fn measured(&self, canary: &[f64], stable: &[f64]) -> f64 {
        match self.measure {
            Measure::MeanRatio => mean(canary) / mean(stable),
            Measure::Cles => {
                let pairs = size(canary) * size(stable);
                0.5 + ranked(canary, stable, 0.0).surplus / pairs
            }
        }
    }
}

impl MannWhitney {
    /// Whether the settings can be judged by.
    ///
    /// # Errors
    /// The first one that can't.
    pub fn validate(&self) -> Result<(), SettingError> {
        let check = |field, value: f64, range, fits: bool| {
            if value.is_finite() && fits {
                Ok(())
            } else {
                Err(SettingError { field, value, range })
            }
        };
        let confidence = self.confidence;
        check("confidence", confidence, "in (0, 1)", confidence > 0.0 && confidence < 1.0)?;
        check("tolerance", self.tolerance, "at least 0", self.tolerance >= 0.0)?;
        let none = self.effect.measure.none();
        for limits in [self.effect.allowed, self.effect.critical] {
            let range = "at most that of no difference (1, for cles 0.5), and at least 0";
            check("decrease", limits.decrease, range, (0.0..=none).contains(&limits.decrease))?;
            let range = "at least that of no difference (1, for cles 0.5)";
            check("increase", limits.increase, range, limits.increase >= none)?;
        }
        Ok(())
    }

    /// Whether this many values can reach the confidence at all: 5 of each for the default one. With
    /// fewer the interval ends at the largest possible shifts, which proves nothing.
    #[must_use]
    pub fn enough(&self, canary: usize, stable: usize) -> bool {
        let (nx, ny) = (count(canary as u64), count(stable as u64));
        let deviation = (nx * ny / 12.0 * (nx + ny + 1.0)).sqrt();
        nx * ny > 0.0 && (nx * ny / 2.0 - 0.5) / deviation > quantile(self.confidence)
    }

    /// Judge the values of both versions, in any unit but fractions (shares in per cent: shifts are
    /// found to 0.0001).
    #[must_use]
    pub fn classify(&self, canary: &[f64], stable: &[f64]) -> Classified {
        let [mut canary, mut stable] = [canary, stable].map(|values| self.cleaned(values));
        let of = |class, effect, shift| Classified { class, critical: false, effect, shift };
        let none = self.effect.measure.none();
        if canary.is_empty() || stable.is_empty() {
            if self.must_have_data {
                let failed = of(Class::NoDataFails, none, None);
                return Classified { critical: self.critical, ..failed };
            }
            return of(Class::NoData, none, None);
        }
        canary.sort_by(f64::total_cmp);
        stable.sort_by(f64::total_cmp);
        let only = canary.first();
        if canary == stable || canary.iter().chain(&stable).all(|value| Some(value) == only) {
            return of(Class::Pass, none, None);
        }
        let shift = shift(&canary, &stable, self.confidence);
        let effect = self.effect.measured(&canary, &stable);
        let (bound, allowed) = (self.tolerance * shift.estimate.abs(), self.effect.allowed);
        let critical = self.effect.critical;
        let (class, critical) =
            if self.direction.up() && shift.low > bound && effect >= allowed.increase {
                (Class::High, effect >= critical.increase)
            } else if self.direction.down() && shift.high < -bound && effect <= allowed.decrease {
                (Class::Low, effect <= critical.decrease)
            } else {
                (Class::Pass, false)
            };
        Classified { critical: critical && self.critical, ..of(class, effect, Some(shift)) }
    }

    fn cleaned(&self, values: &[f64]) -> Vec<f64> {
        let values = values.iter().copied();
        match self.nan {
            NanStrategy::Remove => values.filter(|v| v.is_finite()).collect(),
            NanStrategy::Replace => values.map(|v| if v.is_finite() { v } else { 0.0 }).collect(),
        }
    }
}

/// The shift between two samples with values, by inverting the test: at the ends of the interval the
/// statistic of the shifted samples is the normal quantile, at the estimate it is 0. Samples too
/// small to reach the quantile have the largest possible shift as the end.
#[must_use]
fn shift(canary: &[f64], stable: &[f64], confidence: f64) -> Shift {
    let (low, high) = (least(canary) - most(stable), most(canary) - least(stable));
    let at = |quantile: f64| {
        let f = |shift: f64| ranked(canary, stable, shift).z() - quantile;
        if f(low) <= 0.0 {
            low
        } else if f(high) >= 0.0 {
            high
        } else {
            brent::zero(f, low, high, EXACT)
        }
    };
    let z = quantile(confidence);
    Shift { low: at(z), high: at(-z), estimate: at(0.0) }
}

/// The normal quantile of a two-sided confidence.
fn quantile(confidence: f64) -> f64 {
    Normal::standard().inverse_cdf((1.0 + confidence) / 2.0)
}

/// What the ranks say about two samples.
struct Ranked {
    /// Pairs in which the canary is above stable, ties half, less half of all pairs: Δ.
    surplus: f64,
    /// Standard deviation of that without a difference, corrected for ties: σ.
    deviation: f64,
}

impl Ranked {
    /// (Δ − ½ sign Δ)/σ; 0 where all are tied.
    fn z(&self) -> f64 {
        if self.surplus == 0.0 {
            return 0.0;
        }
        (self.surplus - 0.5_f64.copysign(self.surplus)) / self.deviation
    }
}

/// Rank the canary's values, moved down by `shift`, among stable's.
fn ranked(canary: &[f64], stable: &[f64], shift: f64) -> Ranked {
    let moved = canary.iter().map(|v| (v - shift, true));
    let mut all: Vec<(f64, bool)> = moved.chain(stable.iter().map(|v| (*v, false))).collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (nx, ny) = (size(canary), size(stable));
    let (mut ranks, mut ties, mut before) = (0.0, 0.0, 0.0);
    for tied in all.chunk_by(|a, b| a.0 == b.0) {
        let t = count(tied.len() as u64);
        let own = count(tied.iter().filter(|(_, of_canary)| *of_canary).count() as u64);
        ranks += own * (before + (t + 1.0) / 2.0);
        ties += t * t * t - t;
        before += t;
    }
    let n = nx + ny;
    Ranked {
        surplus: ranks - nx * (nx + 1.0) / 2.0 - nx * ny / 2.0,
        deviation: (nx * ny / 12.0 * ((n + 1.0) - ties / (n * (n - 1.0)))).sqrt(),
    }
}

fn size(values: &[f64]) -> f64 {
    count(values.len() as u64)
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / size(values)
}

fn least(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

fn most(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::NEG_INFINITY, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOW: [f64; 8] = [1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7];
    const HIGH: [f64; 8] = [3.0, 3.1, 3.2, 3.3, 3.4, 3.5, 3.6, 3.7];

    #[test]
    fn the_direction_decides_what_is_bad() {
        let class = |direction, canary, stable| {
            MannWhitney { direction, ..MannWhitney::default() }.classify(canary, stable).class
        };
        for (direction, above, below) in [
            (Direction::Increase, Class::High, Class::Pass),
            (Direction::Decrease, Class::Pass, Class::Low),
            (Direction::Either, Class::High, Class::Low),
        ] {
            assert_eq!(class(direction, &HIGH, &LOW), above);
            assert_eq!(class(direction, &LOW, &HIGH), below);
        }
    }

    #[test]
    fn a_small_effect_passes_and_a_critical_one_fails_all() {
        let mut judge = MannWhitney { critical: true, ..MannWhitney::default() };
        judge.effect.critical.increase = 3.0;
        let found = judge.classify(&HIGH, &LOW);
        assert_eq!((found.class, found.critical), (Class::High, false), "{found:?}");
        judge.effect.critical.increase = 2.0;
        assert!(judge.classify(&HIGH, &LOW).critical);
        judge.effect.allowed.increase = 3.0;
        assert_eq!(judge.classify(&HIGH, &LOW).class, Class::Pass);
        judge.effect = Effect::of(Measure::Cles);
        let cles = judge.classify(&HIGH, &LOW);
        assert_eq!((cles.class, cles.effect), (Class::High, 1.0));
        assert_eq!(judge.classify(&LOW, &HIGH).effect, 0.0);
    }

    #[test]
    fn what_is_no_number_is_left_out_or_zero() {
        let absent = [f64::NAN; 8];
        let mut judge = MannWhitney::default();
        assert_eq!(judge.classify(&absent, &LOW).class, Class::NoData);
        judge.must_have_data = true;
        assert_eq!(judge.classify(&absent, &LOW).class, Class::NoDataFails);
        judge.nan = NanStrategy::Replace;
        assert_eq!(judge.classify(&absent, &LOW).class, Class::Low);
        assert_eq!(judge.classify(&absent, &[0.0; 3]).class, Class::Pass);
    }

    #[test]
    fn too_few_values_are_told_as_they_condemn_whatever_does_not_overlap() {
        let judge = MannWhitney::default();
        let found = judge.classify(&[2.0], &[1.0]);
        assert_eq!(found.class, Class::High, "as in Kayenta");
        assert!(!judge.enough(1, 1) && !judge.enough(4, 4) && judge.enough(5, 5));
        assert!(!judge.enough(0, 50) && !judge.enough(2, 5) && judge.enough(2, 50));
    }

    #[test]
    fn settings_that_mean_nothing_are_refused() {
        let with = |change: fn(&mut MannWhitney)| {
            let mut judge = MannWhitney::default();
            change(&mut judge);
            judge.validate().map_err(|e| e.field)
        };
        assert_eq!(with(|_| ()), Ok(()));
        assert_eq!(with(|j| j.confidence = 1.0), Err("confidence"));
        assert_eq!(with(|j| j.tolerance = f64::NAN), Err("tolerance"));
        assert_eq!(with(|j| j.effect.allowed.increase = 0.9), Err("increase"));
        assert_eq!(with(|j| j.effect.critical.decrease = 1.1), Err("decrease"));
    }
}
