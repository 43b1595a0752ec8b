//! The rules of Flagger, Argo Rollouts and Kayenta as wholes, and of a test looked at again and
//! again, to compare with: what would they have said of this release?
//!
//! Each is given the release poll by poll, both versions' counts since the poll before, and answers
//! after each. Time is counted in polls alone. By their sources: Flagger 1.44, Argo Rollouts 1.9,
//! Kayenta's NetflixACAJudge as a Spinnaker stage of growing lookback.
//!
//! **What they can't promise.** None of the rules has an error rate that is known beforehand: the
//! thresholds' depends on how far stable itself is from them, the tests' on how often they look.

use std::collections::VecDeque;

use super::mann_whitney::{Class, MannWhitney};
use super::score::{Graded, Score};
use super::{Direction, Verdict, fisher, quantile};
use crate::block::{Arm, Block};
use crate::latency::SlowArm;

/// What both versions did since the poll before.
#[derive(Debug, Clone, Copy)]
pub struct Poll<'a> {
    /// Requests and failures.
    pub requests: Block,
    /// Latencies at the rule's boundaries, the canary's and stable's; `None` where they aren't judged.
    pub latency: Option<(&'a SlowArm, &'a SlowArm)>,
}

/// What a rule says after a poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// It doesn't look at this poll.
    Waits,
    /// It looked and goes on.
    GoesOn,
    /// It rolls back, for good.
    RollsBack,
}

/// Limits on the canary alone, measured over a sliding window.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Least share of requests that succeed.
    pub min_success: f64,
    /// Highest latency at the percentile, milliseconds; judged where polls hold latencies.
    pub max_latency: f64,
    /// The percentile, as a fraction.
    pub percentile: f64,
    /// Boundaries of the latencies, milliseconds, rising.
    pub boundaries: Vec<f64>,
    /// How many polls a measurement goes back, at least 1.
    pub window: usize,
    /// A measurement is taken every so many polls, at least 1.
    pub every: usize,
}

impl Limits {
    /// Success of at least 99% and p99 of at most 500 ms over a minute, looked at each minute.
    #[must_use]
    pub fn usual(polls_a_minute: usize, boundaries: Vec<f64>) -> Self {
        let minute = polls_a_minute.max(1);
        let (min_success, max_latency, percentile) = (0.99, 500.0, 0.99);
        Self { min_success, max_latency, percentile, boundaries, window: minute, every: minute }
    }
}

/// The canary's counts of the last polls.
#[derive(Debug, Clone)]
struct Window {
    limits: Limits,
    polls: usize,
    requests: VecDeque<Arm>,
    latency: VecDeque<Option<SlowArm>>,
}

/// Whether each measurement is within its limit; `None` where there was nothing to measure.
struct Measured {
    success: Option<bool>,
    latency: Option<Option<bool>>,
}

impl Window {
    fn new(limits: Limits) -> Self {
        Self { limits, polls: 0, requests: VecDeque::new(), latency: VecDeque::new() }
    }

    /// Take a poll; the measurements where one is due.
    fn take(&mut self, poll: &Poll<'_>) -> Option<Measured> {
        self.requests.push_back(poll.requests.canary);
        self.latency.push_back(poll.latency.map(|(canary, _)| canary.clone()));
        while self.requests.len() > self.limits.window.max(1) {
            self.requests.pop_front();
            self.latency.pop_front();
        }
        self.polls += 1;
        if !self.polls.is_multiple_of(self.limits.every.max(1)) {
            return None;
        }
        let sum = |sum: Arm, arm: &Arm| sum.checked_add(*arm).unwrap_or(sum);
        let failures = self.requests.iter().fold(Arm::default(), sum).rate();
        let latency = poll.latency.is_some().then(|| {
            let mut sum = SlowArm::empty(self.limits.boundaries.len());
            self.latency.iter().flatten().for_each(|arm| sum.add_within(arm));
            quantile::of(&sum, &self.limits.boundaries, self.limits.percentile)
                .map(|found| found <= self.limits.max_latency)
        });
        Some(Measured { success: failures.map(|f| 1.0 - f >= self.limits.min_success), latency })
    }
}

/// Flagger: a check fails when any measurement is beyond its limit or missing; so many failed checks
/// in all roll back.
#[derive(Debug, Clone)]
pub struct Flagger {
    window: Window,
    threshold: u32,
    failed: u32,
}

impl Flagger {
    /// With a `threshold` of failed checks; 5 is usual.
    #[must_use]
    pub fn new(limits: Limits, threshold: u32) -> Self {
        Self { window: Window::new(limits), threshold, failed: 0 }
    }

    /// Take a poll.
    pub fn look(&mut self, poll: &Poll<'_>) -> Call {
        let Some(found) = self.window.take(poll) else { return latched(self.over(), Call::Waits) };
        if found.success != Some(true) || found.latency.is_some_and(|l| l != Some(true)) {
            self.failed = self.failed.saturating_add(1);
        }
        latched(self.over(), Call::GoesOn)
    }

    fn over(&self) -> bool {
        self.failed >= self.threshold
    }
}

/// Argo Rollouts: more measurements of one metric beyond the limit than its failureLimit, or more
/// errors in a row (nothing to measure) than 4, abort.
#[derive(Debug, Clone)]
pub struct Argo {
    window: Window,
    failure_limit: u32,
    /// Failures, and errors in a row, of success and latency.
    counted: [(u32, u32); 2],
    over: bool,
}

impl Argo {
    /// Its default limit of errors in a row.
    const ERRORS: u32 = 4;

    /// With a `failure_limit` of each metric; 3 is usual.
    #[must_use]
    pub fn new(limits: Limits, failure_limit: u32) -> Self {
        let window = Window::new(limits);
        Self { window, failure_limit, counted: [(0, 0); 2], over: false }
    }

    /// Take a poll.
    pub fn look(&mut self, poll: &Poll<'_>) -> Call {
        let Some(found) = self.window.take(poll) else { return latched(self.over, Call::Waits) };
        let measured = [Some(found.success), found.latency];
        for ((failures, errors), measured) in self.counted.iter_mut().zip(measured) {
            match measured {
                Some(Some(within)) => {
                    *errors = 0;
                    *failures = failures.saturating_add(u32::from(!within));
                }
                Some(None) => *errors = errors.saturating_add(1),
                None => {}
            }
            self.over |= *failures > self.failure_limit || *errors > Self::ERRORS;
        }
        latched(self.over, Call::GoesOn)
    }
}

/// Kayenta as a stage: from time to time all values so far are judged; a score below marginal fails
/// at once, one below pass at the last look.
#[derive(Debug, Clone)]
pub struct Kayenta {
    judge: MannWhitney,
    score: Score,
    boundaries: Vec<f64>,
    percentile: f64,
    /// Polls of one value.
    step: usize,
    /// Polls at which it looks, rising.
    looks: Vec<usize>,
    polls: usize,
    requests: Block,
    latency: Option<[SlowArm; 2]>,
    /// Failures in per cent, and latencies at the percentile, of canary and stable.
    values: [[Vec<f64>; 2]; 2],
    over: bool,
}

impl Kayenta {
    /// A value every `step` polls, at least 1 (a minute is usual); a look after each number of polls
    /// in `looks`; score limits of 95 and 75 over failures and latency in one group.
    #[must_use]
    pub fn new(step: usize, looks: Vec<usize>, boundaries: Vec<f64>, percentile: f64) -> Self {
        Self {
            judge: MannWhitney { direction: Direction::Increase, ..MannWhitney::default() },
            score: Score { pass: 95.0, marginal: 75.0, weights: vec![None] },
            boundaries,
            percentile,
            step: step.max(1),
            looks,
            polls: 0,
            requests: Block::default(),
            latency: None,
            values: Default::default(),
            over: false,
        }
    }

    /// Take a poll.
    pub fn look(&mut self, poll: &Poll<'_>) -> Call {
        self.polls += 1;
        self.requests = self.requests.checked_add(poll.requests).unwrap_or(self.requests);
        if let Some((canary, stable)) = poll.latency {
            let empty = || SlowArm::empty(self.boundaries.len());
            let sums = self.latency.get_or_insert_with(|| [empty(), empty()]);
            sums[0].add_within(canary);
            sums[1].add_within(stable);
        }
        // Past the last look nothing is read any more: nothing grows without end.
        let going = self.looks.last().is_some_and(|last| self.polls <= *last);
        if going && self.polls.is_multiple_of(self.step) {
            self.value();
        }
        if self.over || !self.looks.contains(&self.polls) {
            return latched(self.over, Call::Waits);
        }
        let (_, verdict) = self.score.of(&self.graded());
        let last = self.looks.last() == Some(&self.polls);
        // Without data the stage goes on, and ends unsuccessfully.
        self.over = verdict == Verdict::Fail || (last && verdict != Verdict::Pass);
        latched(self.over, Call::GoesOn)
    }

    fn value(&mut self) {
        let block = std::mem::take(&mut self.requests);
        let [failures, slow] = &mut self.values;
        for (values, arm) in failures.iter_mut().zip([block.canary, block.stable]) {
            values.extend(arm.rate().map(|rate| 100.0 * rate));
        }
        for (values, arm) in slow.iter_mut().zip(self.latency.take().iter().flatten()) {
            values.extend(quantile::of(arm, &self.boundaries, self.percentile));
        }
    }

    fn graded(&self) -> Vec<Graded> {
        let judged = self.values.iter().map(|[canary, stable]| self.judge.classify(canary, stable));
        judged.map(|m| Graded { class: m.class, critical: m.critical, group: 0 }).collect()
    }

    /// The classes of failures and latency as of now.
    #[must_use]
    pub fn classes(&self) -> [Class; 2] {
        let of = |[canary, stable]: &[Vec<f64>; 2]| self.judge.classify(canary, stable).class;
        [of(&self.values[0]), of(&self.values[1])]
    }
}

/// Fisher's exact test of all failures so far, looked at after every poll: what a significance test
/// in a loop comes to.
#[derive(Debug, Clone)]
pub struct FisherPeeked {
    alpha: f64,
    sum: Block,
    over: bool,
}

impl FisherPeeked {
    /// At a level `alpha` in (0, 1), which is that of a single look.
    #[must_use]
    pub fn new(alpha: f64) -> Self {
        Self { alpha, sum: Block::default(), over: false }
    }

    /// Take a poll.
    pub fn look(&mut self, poll: &Poll<'_>) -> Call {
        self.sum = self.sum.checked_add(poll.requests).unwrap_or(self.sum);
        self.over |= fisher::p_value(&self.sum).is_some_and(|p| p <= self.alpha);
        latched(self.over, Call::GoesOn)
    }
}

fn latched(over: bool, else_: Call) -> Call {
    if over { Call::RollsBack } else { else_ }
}

#[cfg(test)]
mod tests;
