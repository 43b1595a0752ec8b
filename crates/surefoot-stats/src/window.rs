//! Votes of whole windows since a step began, and that of the window that is not over.

use serde::{Deserialize, Serialize};

use crate::block::Block;
use crate::elementary;
use crate::evidence::{FLOAT, LENGTH, Logs, TAG, add_some, bytes};
use crate::grid::{HARM, Mix, SLOW_VOTE, add, log_mean, log_mix};
use crate::latency::SlowBlock;
use crate::policy::{CountTest, LatencyTest};
use crate::vote;

/// How many logarithms are mixed at once.
const MOST: usize = 64;

/// Votes on counts: ln e at every alternative, where the test is in use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct CountVotes {
    ratio: Logs<{ HARM.len() }>,
    equal: Logs<{ HARM.len() }>,
}

impl CountVotes {
    pub(crate) fn none(test: &CountTest) -> Self {
        let zeros = [0.0; HARM.len()];
        Self {
            ratio: test.max_failure_ratio.map(|_| zeros),
            equal: test.needs_equal().then_some(zeros),
        }
    }

    /// What one window tells. `rare` says whether failures are rare enough to vote on the ratio.
    pub(crate) fn of(test: &CountTest, window: &Block, rare: bool) -> Self {
        let on_ratio = |r0| if rare { vote::harm(window, r0, &HARM) } else { [0.0; HARM.len()] };
        Self {
            ratio: test.max_failure_ratio.map(on_ratio),
            equal: test.needs_equal().then(|| vote::harm(window, 1.0, &HARM)),
        }
    }

    pub(crate) fn add(&mut self, window: &Self) {
        add_some(&mut self.ratio, &window.ratio);
        add_some(&mut self.equal, &window.equal);
    }

    pub(crate) fn clear(&mut self) {
        for logs in [&mut self.ratio, &mut self.equal].into_iter().flatten() {
            logs.fill(0.0);
        }
    }

    /// The window is cut short: it only counts where it speaks against harm.
    pub(crate) fn against(&self) -> Self {
        let least = |logs: &Logs<{ HARM.len() }>| logs.map(|logs| logs.map(|log| log.min(0.0)));
        Self { ratio: least(&self.ratio), equal: least(&self.equal) }
    }

    /// ln E on the ratio, and on "no more than stable", if the window in `pending` ended now.
    pub(crate) fn log_e(&self, pending: &Self) -> (f64, f64) {
        (cut_short(&self.ratio, &pending.ratio), cut_short(&self.equal, &pending.equal))
    }

    pub(crate) fn same_tests(&self, test: &CountTest) -> bool {
        self.ratio.is_some() == test.max_failure_ratio.is_some()
            && self.equal.is_some() == test.needs_equal()
    }

    pub(crate) fn bytes(&self) -> usize {
        bytes(&self.ratio) + bytes(&self.equal)
    }
}

/// Votes on latencies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct LatencyVotes {
    /// At every boundary of [`LatencyTest::vote_margins`], in their order.
    boundaries: Vec<[f64; SLOW_VOTE.len()]>,
    /// "No more than stable" at the objective's boundary.
    equal: Logs<{ SLOW_VOTE.len() }>,
}

impl LatencyVotes {
    pub(crate) fn none(test: &LatencyTest) -> Self {
        Self {
            boundaries: vec![[0.0; SLOW_VOTE.len()]; test.vote_margins().count()],
            equal: test.objective_harm_boundary().map(|_| [0.0; SLOW_VOTE.len()]),
        }
    }

    /// What one window tells, in place of what is there.
    pub(crate) fn take(&mut self, test: &LatencyTest, window: &SlowBlock) {
        for (logs, (boundary, r0)) in self.boundaries.iter_mut().zip(test.vote_margins()) {
            let ratios = window.at(boundary).and_then(|at| vote::ratios(&at, vote::edge(r0)));
            *logs = ratios.map_or([0.0; SLOW_VOTE.len()], |ratios| SLOW_VOTE.map(|h| ratios.of(h)));
        }
        elementary::ln_1p(self.boundaries.as_flattened_mut());
        let aim = test.objective_harm_boundary().and_then(|i| window.at(i));
        if let (Some(logs), Some(at)) = (&mut self.equal, aim) {
            *logs = vote::harm(&at, 1.0, &SLOW_VOTE);
        }
    }

    pub(crate) fn add(&mut self, window: &Self) {
        for (logs, more) in self.boundaries.iter_mut().zip(&window.boundaries) {
            add(logs, more);
        }
        add_some(&mut self.equal, &window.equal);
    }

    pub(crate) fn clear(&mut self) {
        self.boundaries.iter_mut().chain(&mut self.equal).for_each(|logs| logs.fill(0.0));
    }

    /// The window is cut short: it only counts where it speaks against harm.
    pub(crate) fn cut_short(&mut self) {
        let all = self.boundaries.iter_mut().chain(&mut self.equal).flatten();
        all.for_each(|log| *log = log.min(0.0));
    }

    /// ln E of the mean over boundaries, `None` where none is voted on, and on "no more than
    /// stable", if the window in `pending` ended now.
    pub(crate) fn log_e(&self, pending: &Self) -> (Option<f64>, f64) {
        let pending_all = pending.boundaries.as_flattened();
        let mut mix = Mix::default();
        for (logs, more) in
            self.boundaries.as_flattened().chunks(MOST).zip(pending_all.chunks(MOST))
        {
            let mut all = [0.0; MOST];
            for (all, (log, more)) in all.iter_mut().zip(logs.iter().zip(more)) {
                *all = log + more.min(0.0);
            }
            mix.add(all.get(..logs.len()).unwrap_or_default());
        }
        (mix.log_mean(), cut_short(&self.equal, &pending.equal))
    }

    /// ln E at one of [`LatencyTest::vote_margins`], if the window in `pending` ended now.
    pub(crate) fn at(&self, slot: usize, pending: &Self) -> Option<f64> {
        let logs = self.boundaries.get(slot).copied();
        let more = pending.boundaries.get(slot).copied();
        logs.map(|logs| cut_short(&Some(logs), &more))
    }

    pub(crate) fn same_tests(&self, boundaries: usize, objective: bool) -> bool {
        self.boundaries.len() == boundaries && self.equal.is_some() == objective
    }

    /// Most bytes at so many boundaries, with every test in use.
    pub(crate) fn bytes_bound(boundaries: usize) -> usize {
        LENGTH + TAG + (boundaries + 1) * SLOW_VOTE.len() * FLOAT
    }
}

/// ln E if the pending window ended now; 0 where the test is not in use.
fn cut_short<const N: usize>(logs: &Logs<N>, pending: &Logs<N>) -> f64 {
    let Some(mut logs) = *logs else { return 0.0 };
    add(&mut logs, &pending.unwrap_or([0.0; N]).map(|log| log.min(0.0)));
    log_mean(&logs)
}

/// Half of the evidence by requests, half by votes.
pub(crate) fn hedge(requests: f64, votes: f64, eta: f64) -> f64 {
    log_mix([(0.5, requests), (0.5, eta * votes)].into_iter())
}
