//! The evidence of one metric, and how its tests are put together.
//!
//! Composition keeps what each test promises. The least of several e-processes is one under *any* of
//! their nulls: harm is only shown when every tolerance is exceeded. A mean is one when *all* nulls
//! hold: to pass it is enough to refute one. Both are taken evidence by evidence, each since its own
//! step.
//!
//! Harm on a share is hedged: half of the evidence counts requests, tempered by φ, and half counts
//! windows' votes, to the power of η. Where failures come in bursts φ makes the first nearly blind;
//! where they don't, the votes are slow. A hedge is as good as the better one, less ln 2.

use serde::{Deserialize, Serialize};

use crate::block::Block;
use crate::grid::{
    ABSOLUTE, ABSOLUTE_SAFE_WEIGHTS, HARM, OBJECTIVE_SAFE, SAFE, SAFE_WEIGHTS, SLOW, add, log_mean,
    log_weighted,
};
use crate::latency::SlowBlock;
use crate::policy::{CountTest, LatencyTest};
use crate::window::{CountVotes, LatencyVotes, hedge};
use crate::{absolute, elementary, objective, share};

/// ln e at every alternative of a grid, where the test is in use.
pub(crate) type Logs<const N: usize> = Option<[f64; N]>;

/// Evidence of harm of counts since one step began; ln e of one block while it is folded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct CountHarm {
    /// p1 − p0 ≤ d.
    pub(crate) absolute: Logs<{ ABSOLUTE.len() }>,
    /// p1 ≤ R0·p0.
    pub(crate) ratio: Logs<{ HARM.len() }>,
    /// p1 ≤ p0.
    pub(crate) equal: Logs<{ HARM.len() }>,
    /// p1 ≤ p*.
    pub(crate) objective: Logs<{ HARM.len() }>,
    pub(crate) votes: CountVotes,
}

impl CountHarm {
    /// What one block tells, beside votes; nothing when it is empty. `th0` is predicted from before it.
    pub(crate) fn of(test: &CountTest, block: &Block, th0: f64, phi: f64) -> Self {
        Self {
            absolute: test.max_drop.map(|d| absolute::harm(block, th0, d, phi)),
            ratio: test.max_failure_ratio.map(|r0| share::FAILING.log_e(block, r0, phi)),
            equal: test.needs_equal().then(|| share::FAILING.log_e(block, 1.0, phi)),
            objective: test.max_failure_rate.map(|p| objective::test(block.canary, p, &HARM, phi)),
            votes: CountVotes::none(test),
        }
    }

    pub(crate) fn none(test: &CountTest) -> Self {
        Self::of(test, &Block::default(), 0.5, 1.0)
    }

    /// Fold a window's votes.
    pub(crate) fn vote(&mut self, window: &CountVotes) {
        self.votes.add(window);
    }

    pub(crate) fn add(&mut self, block: &Self) {
        add_some(&mut self.absolute, &block.absolute);
        add_some(&mut self.ratio, &block.ratio);
        add_some(&mut self.equal, &block.equal);
        add_some(&mut self.objective, &block.objective);
    }

    pub(crate) fn same_tests(&self, test: &CountTest) -> bool {
        self.absolute.is_some() == test.max_drop.is_some()
            && self.ratio.is_some() == test.max_failure_ratio.is_some()
            && self.equal.is_some() == test.needs_equal()
            && self.objective.is_some() == test.max_failure_rate.is_some()
            && self.votes.same_tests(test)
    }

    /// ln E. `pending` is the window that is not over, `eta` how far votes are trusted; `stable` says
    /// whether stable has traffic at the step that the evidence began with.
    pub(crate) fn log_e(&self, pending: &CountVotes, eta: f64, stable: bool) -> f64 {
        let (on_ratio, on_equal) = self.votes.log_e(pending);
        let ratio = mean(&self.ratio).map(|requests| hedge(requests, on_ratio, eta));
        let equal = mean(&self.equal).map(|requests| hedge(requests, on_equal, eta));
        let absolute = mean(&self.absolute);
        let share = ratio.or_else(|| absolute.and(equal));
        let comparison = [absolute, share].into_iter().flatten().reduce(f64::min);
        together(comparison, mean(&self.objective), equal, stable)
    }

    pub(crate) fn bytes(&self) -> usize {
        let logs = bytes(&self.absolute) + bytes(&self.ratio) + bytes(&self.equal);
        logs + bytes(&self.objective) + self.votes.bytes()
    }
}

/// Evidence of safety of counts since the present step began.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct CountPromote {
    pub(crate) absolute: Logs<{ ABSOLUTE_SAFE_WEIGHTS.len() }>,
    pub(crate) ratio: Logs<{ SAFE.len() }>,
    pub(crate) objective: Logs<{ OBJECTIVE_SAFE.len() }>,
}

impl CountPromote {
    /// What one block tells. `margin` makes the tolerance to pass by from `max_drop`.
    pub(crate) fn of(
        test: &CountTest,
        block: &Block,
        th0: f64,
        margin: impl Fn(f64) -> f64,
        phi: f64,
    ) -> Self {
        let objective = |p| objective::test(block.canary, p, &OBJECTIVE_SAFE, phi);
        Self {
            absolute: test.max_drop.map(|d| absolute::promote(block, th0, margin(d), phi)),
            ratio: test.pass_ratio().map(|r0| share::promote(block, r0, &SAFE, phi)),
            objective: test.max_failure_rate.map(objective),
        }
    }

    pub(crate) fn none(test: &CountTest) -> Self {
        Self::of(test, &Block::default(), 0.5, |d| d, 1.0)
    }

    pub(crate) fn add(&mut self, block: &Self) {
        add_some(&mut self.absolute, &block.absolute);
        add_some(&mut self.ratio, &block.ratio);
        add_some(&mut self.objective, &block.objective);
    }

    /// ln E of the comparison if all counts since the step began were `times` as many.
    pub(crate) fn comparison(&self, times: f64) -> Option<f64> {
        let absolute = self
            .absolute
            .map(|logs| log_weighted(&ABSOLUTE_SAFE_WEIGHTS, &logs.map(|x| x * times)));
        let ratio = self.ratio.map(|logs| log_weighted(&SAFE_WEIGHTS, &logs.map(|x| x * times)));
        match (absolute, ratio) {
            (Some(a), Some(b)) => Some(log_mean(&[a, b])),
            (one, None) | (None, one) => one,
        }
    }

    /// The same of the objective.
    pub(crate) fn objective(&self, times: f64) -> Option<f64> {
        self.objective.map(|logs| log_mean(&logs.map(|x| x * times)))
    }

    pub(crate) fn bytes(&self) -> usize {
        bytes(&self.absolute) + bytes(&self.ratio) + bytes(&self.objective)
    }
}

/// How many boundaries are folded at once.
const TOGETHER: usize = 8;

/// Evidence of harm of latencies since one step began.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct LatencyHarm {
    /// p1 ≤ R0·p0 at every boundary that shows harm, in their order.
    pub(crate) boundaries: Vec<[f64; SLOW.len()]>,
    /// p1 ≤ p0 at the objective's boundary.
    pub(crate) equal: Logs<{ SLOW.len() }>,
    /// p1 ≤ 1 − Q there.
    pub(crate) objective: Logs<{ HARM.len() }>,
    pub(crate) votes: LatencyVotes,
}

impl LatencyHarm {
    pub(crate) fn none(test: &LatencyTest) -> Self {
        let aim = test.objective_harm_boundary();
        Self {
            boundaries: vec![[0.0; SLOW.len()]; test.harm_margins().count()],
            equal: aim.map(|_| [0.0; SLOW.len()]),
            objective: aim.map(|_| [0.0; HARM.len()]),
            votes: LatencyVotes::none(test),
        }
    }

    /// Fold a window's votes.
    pub(crate) fn vote(&mut self, window: &LatencyVotes) {
        self.votes.add(window);
    }

    /// Fold a block into the evidence since each step begun. Every ln e is computed once.
    pub(crate) fn fold(
        since: &mut [Option<Self>],
        test: &LatencyTest,
        block: &SlowBlock,
        phi: f64,
    ) {
        let slow = &*share::SLOWER;
        let mut margins = test.harm_margins().enumerate();
        loop {
            // So many at a time that their logarithms are worth asking for together.
            let mut parts = [(0, share::Parts::default()); TOGETHER];
            let mut spreads = [[0.0; SLOW.len()]; TOGETHER];
            let mut found = 0;
            for ((part, spread), (slot, (boundary, r0))) in
                parts.iter_mut().zip(&mut spreads).zip(margins.by_ref().take(TOGETHER))
            {
                found += 1;
                let Some(at) = block.at(boundary).and_then(|at| share::Parts::of(&at, r0, phi))
                else {
                    continue;
                };
                *part = (slot, at);
                *spread = slow.spread(&at);
            }
            if found == 0 {
                break;
            }
            elementary::ln_1p(spreads.as_flattened_mut());
            for ((slot, part), spread) in parts.iter().zip(&spreads).take(found) {
                let more = slow.log_e_of(part, spread);
                for begun in since.iter_mut().flatten() {
                    if let Some(logs) = begun.boundaries.get_mut(*slot) {
                        add(logs, &more);
                    }
                }
            }
        }
        let aim = test.objective.zip(test.objective_harm_boundary());
        if let Some((aim, at)) = aim.and_then(|(aim, i)| Some((aim, block.at(i)?))) {
            let equal = Some(slow.log_e(&at, 1.0, phi));
            let objective = Some(objective::test(at.canary, aim.exceedance(), &HARM, phi));
            for begun in since.iter_mut().flatten() {
                add_some(&mut begun.equal, &equal);
                add_some(&mut begun.objective, &objective);
            }
        }
    }

    /// Whether all of these were made for such a test.
    pub(crate) fn same_tests<'a>(all: impl Iterator<Item = &'a Self>, test: &LatencyTest) -> bool {
        let aim = test.objective_harm_boundary().is_some();
        let (margins, votes) = (test.harm_margins().count(), test.vote_margins().count());
        let mut all = all;
        all.all(|e| {
            e.boundaries.len() == margins
                && e.equal.is_some() == aim
                && e.objective.is_some() == aim
                && e.votes.same_tests(votes, aim)
        })
    }

    /// ln E. `pending` is the window that is not over, `eta` how far votes are trusted; `stable` says
    /// whether stable has traffic at the step that the evidence began with.
    pub(crate) fn log_e(&self, pending: &LatencyVotes, eta: f64, stable: bool) -> f64 {
        let all = self.boundaries.as_flattened();
        let requests = (!all.is_empty()).then(|| log_mean(all));
        let (votes, on_equal) = self.votes.log_e(pending);
        let comparison = requests.map(|all| votes.map_or(all, |votes| hedge(all, votes, eta)));
        let equal = mean(&self.equal).map(|requests| hedge(requests, on_equal, eta));
        together(comparison, mean(&self.objective), equal, stable)
    }

    /// Most bytes at so many boundaries, with every test in use.
    pub(crate) fn bytes_bound(boundaries: usize) -> usize {
        let logs = boundaries * SLOW.len() + SLOW.len() + HARM.len();
        LENGTH + logs * FLOAT + 2 * TAG + LatencyVotes::bytes_bound(boundaries)
    }
}

/// Evidence of safety of latencies since the present step began.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct LatencyPromote {
    /// p1 ≥ R0·p0 at the boundary that passes.
    pub(crate) slowdown: Logs<{ SAFE.len() }>,
    /// p1 ≥ 1 − Q at the objective's.
    pub(crate) objective: Logs<{ OBJECTIVE_SAFE.len() }>,
}

impl LatencyPromote {
    pub(crate) fn none(test: &LatencyTest) -> Self {
        Self {
            slowdown: test.pass_boundary().map(|_| [0.0; SAFE.len()]),
            objective: test.objective_pass_boundary().map(|_| [0.0; OBJECTIVE_SAFE.len()]),
        }
    }

    pub(crate) fn fold(&mut self, test: &LatencyTest, block: &SlowBlock, phi: f64) {
        let pass = test.pass_boundary().and_then(|(i, r0)| Some((block.at(i)?, r0)));
        let slowdown = pass.map(|(at, r0)| share::promote(&at, r0, &SAFE, phi));
        add_some(&mut self.slowdown, &slowdown);
        let aim = test.objective.zip(test.objective_pass_boundary());
        let aim = aim.and_then(|(aim, i)| Some((block.at(i)?.canary, aim.exceedance())));
        let objective = aim.map(|(arm, p)| objective::test(arm, p, &OBJECTIVE_SAFE, phi));
        add_some(&mut self.objective, &objective);
    }

    /// ln E of the comparison if all counts since the step began were `times` as many.
    pub(crate) fn comparison(&self, times: f64) -> Option<f64> {
        self.slowdown.map(|logs| log_weighted(&SAFE_WEIGHTS, &logs.map(|x| x * times)))
    }

    /// The same of the objective.
    pub(crate) fn objective(&self, times: f64) -> Option<f64> {
        self.objective.map(|logs| log_mean(&logs.map(|x| x * times)))
    }

    /// Most bytes, with both tests in use.
    pub(crate) fn bytes_bound() -> usize {
        2 * TAG + (SAFE.len() + OBJECTIVE_SAFE.len()) * FLOAT
    }
}

/// What a metric's harm tests mean together.
fn together(
    comparison: Option<f64>,
    objective: Option<f64>,
    equal: Option<f64>,
    stable: bool,
) -> f64 {
    // What stable misses as well is no fault of the canary.
    let aim = match (objective, equal) {
        (Some(aim), Some(equal)) if stable => Some(aim.min(equal)),
        (aim, _) => aim,
    };
    match (comparison, aim) {
        (Some(a), Some(b)) => log_mean(&[a, b]),
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => equal.unwrap_or(0.0),
    }
}

fn mean<const N: usize>(logs: &Logs<N>) -> Option<f64> {
    logs.as_ref().map(|logs| log_mean(logs))
}

pub(crate) fn add_some<const N: usize>(logs: &mut Logs<N>, block: &Logs<N>) {
    if let (Some(logs), Some(block)) = (logs, block) {
        add(logs, block);
    }
}

/// Bytes of a float in postcard's format.
pub(crate) const FLOAT: usize = 8;
/// Most bytes of a count or a length.
pub(crate) const LENGTH: usize = 10;
/// Bytes of an option's or an enum's tag.
pub(crate) const TAG: usize = 1;
/// Most bytes of an arm.
pub(crate) const ARM: usize = 2 * LENGTH;

pub(crate) fn bytes<const N: usize>(logs: &Logs<N>) -> usize {
    TAG + logs.map_or(0, |_| N * FLOAT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::Arm;

    fn block(n1: u64, k1: u64, n0: u64, k0: u64) -> Block {
        Block::new(Arm::new(n1, k1).unwrap(), Arm::new(n0, k0).unwrap())
    }

    fn harm(test: &CountTest, block: &Block, stable: bool) -> f64 {
        let mut harm = CountHarm::of(test, block, 0.001, 1.0);
        harm.vote(&CountVotes::of(test, block, true));
        harm.log_e(&CountVotes::none(test), 1.0, stable)
    }

    const NONE: CountTest =
        CountTest { max_drop: None, max_failure_ratio: None, max_failure_rate: None };

    #[test]
    fn the_larger_tolerance_holds_for_harm_and_either_for_the_pass() {
        // Twice the rate, but only a tenth of a percentage point more.
        let b = block(100_000, 200, 100_000, 100);
        let drop = CountTest { max_drop: Some(0.01), ..NONE };
        let ratio = CountTest { max_failure_ratio: Some(1.1), ..NONE };
        let both = CountTest { max_drop: Some(0.01), ..ratio };
        assert!(harm(&ratio, &b, true) > 9.0 && harm(&drop, &b, true) < 0.0);
        assert_eq!(harm(&both, &b, true), harm(&drop, &b, true));
        let safe =
            |t: &CountTest| CountPromote::of(t, &b, 0.001, |d| d, 1.0).comparison(1.0).unwrap();
        let mean = log_mean(&[safe(&drop), safe(&ratio)]);
        assert!(safe(&drop) > 100.0 && (safe(&both) - mean).abs() < 1e-12);
    }

    #[test]
    fn an_objective_that_stable_misses_too_is_no_fault_of_the_canary() {
        let aim = CountTest { max_failure_rate: Some(0.001), ..NONE };
        let b = block(10_000, 100, 10_000, 100);
        assert!(harm(&aim, &b, true) < 0.0);
        assert!(harm(&aim, &b, false) > 50.0);
        // The canary alone misses it.
        assert!(harm(&aim, &block(10_000, 100, 10_000, 5), true) > 30.0);
    }

    #[test]
    fn a_comparison_and_an_objective_take_half_each() {
        let b = block(10_000, 100, 10_000, 5);
        let (drop, aim) = (Some(0.005), Some(0.001));
        let one = harm(&CountTest { max_drop: drop, ..NONE }, &b, true);
        let two = harm(&CountTest { max_failure_rate: aim, ..NONE }, &b, true);
        let both = CountTest { max_drop: drop, max_failure_rate: aim, ..NONE };
        assert!((harm(&both, &b, true) - log_mean(&[one, two])).abs() < 1e-12);
    }

    #[test]
    fn without_tolerances_the_canary_must_not_be_worse_at_all() {
        let b = block(10_000, 100, 10_000, 5);
        let requests = log_mean(&share::harm(&b, 1.0, &HARM, 1.0));
        let votes = log_mean(&crate::vote::harm(&b, 1.0, &HARM));
        assert_eq!(harm(&NONE, &b, true), log_mean(&[requests, votes]));
    }

    #[test]
    fn a_ratio_of_one_can_show_harm_but_never_safety() {
        let one = CountTest { max_failure_ratio: Some(1.0), ..NONE };
        assert!(harm(&one, &block(10_000, 100, 10_000, 5), true) > 10.0);
        assert_eq!(CountPromote::none(&one).comparison(1.0), None);
    }
}
