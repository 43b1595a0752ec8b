//! The evidence so far: a fold over blocks, small enough to be stored with every decision.

use serde::{Deserialize, Serialize};

use crate::block::{Arm, Block};
use crate::grid::{
    ABSOLUTE_SAFE_WEIGHTS, HARM, OBJECTIVE_SAFE, SAFE, SAFE_WEIGHTS, SLOW, log_mean, log_mix,
};
use crate::latency::{Slow, objective_boundary};
use crate::policy::{
    CRASH_DIFFERENCE, CRASH_SHARE, CountTest, LatencyTest, MetricPolicy, Policy, Test,
};
use crate::{absolute, objective, share};

/// Evidence of harm since one step began; ln e for every alternative of every test in use.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Since {
    /// p1 ≤ R0·p0 for the tolerated ratio, or for each usable boundary in turn.
    ratio: Vec<f64>,
    /// p1 ≤ p0.
    equal: Vec<f64>,
    /// p1 − p0 ≤ d.
    difference: Vec<f64>,
    /// p1 ≤ p*.
    objective: Vec<f64>,
}

/// Evidence of safety since the present step began.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Safe {
    ratio: Vec<f64>,
    difference: Vec<f64>,
    objective: Vec<f64>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct MetricState {
    /// By step begun.
    harm: Vec<Since>,
    safe: Safe,
    /// Counts of this step; for latency at the boundary shown.
    step: Block,
    /// Stable's counts so far, by which its rate is predicted.
    past: Arm,
    /// Latency of this step, at all boundaries.
    slow: Slow,
}

/// The evidence of one release.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    metrics: Vec<MetricState>,
    /// The crash guard's, since the release began.
    crash: Vec<f64>,
    crash_past: Arm,
    step: usize,
    /// The bound of harm was reached at some time.
    latched: bool,
}

/// Evidence that the release does harm.
#[derive(Debug, Clone, PartialEq)]
pub struct Harm {
    /// ln of the weighted sum over metrics and crash guard.
    pub log_e: f64,
    /// What it takes.
    pub bound: f64,
    /// It has been reached, now or before.
    pub reached: bool,
    /// ln E of each metric alone.
    pub by_metric: Vec<f64>,
    /// ln E of the crash guard alone.
    pub crash: f64,
}

/// Whether a metric passes the present step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pass {
    /// Evidence so far.
    Evidence {
        /// ln E.
        log_e: f64,
        /// What it takes.
        bound: f64,
    },
    /// All traffic is the canary's and no objective is set: there is nothing to pass.
    NoStableTraffic,
    /// It can't be judged: no baseline, or no boundary that tells.
    NotMeasurable,
}

impl Pass {
    /// Whether it holds the step up no more.
    #[must_use]
    pub fn passed(self) -> bool {
        match self {
            Pass::Evidence { log_e, bound } => log_e >= bound,
            Pass::NoStableTraffic => true,
            Pass::NotMeasurable => false,
        }
    }
}

impl State {
    /// No evidence yet; the first step has begun. `past` are stable's counts before the canary, for
    /// each metric's prediction; give zeros where there are none.
    #[must_use]
    pub fn new(policy: &Policy, past: Arm) -> Self {
        let metric = |m: &MetricPolicy| MetricState {
            harm: vec![since(m)],
            safe: safe(m),
            past,
            ..MetricState::default()
        };
        Self {
            metrics: policy.metrics.iter().map(metric).collect(),
            crash: vec![0.0; crate::grid::ABSOLUTE.len()],
            crash_past: past,
            step: 0,
            latched: false,
        }
    }

    /// Begin a step: evidence of safety starts anew, evidence of harm is also kept from here on.
    pub fn begin_step(&mut self, policy: &Policy, step: usize) {
        self.step = step;
        for (state, metric) in self.metrics.iter_mut().zip(&policy.metrics) {
            state.harm.resize_with(step + 1, || since(metric));
            state.safe = safe(metric);
            state.step = Block::default();
            state.slow = Slow::default();
        }
    }

    /// Fold a block of failures into a metric that counts them.
    pub fn fold(&mut self, policy: &Policy, metric: usize, block: &Block) {
        let (step, phi) = (self.step, policy.dispersion);
        let Some(Test::Counts(test)) = policy.metrics.get(metric).map(|m| &m.test) else { return };
        let Some(state) = self.metrics.get_mut(metric) else { return };
        if block.is_empty() {
            return;
        }
        let predicted = absolute::predicted(state.past);
        for (begun, since) in state.harm.iter_mut().enumerate() {
            share::harm(&mut since.equal, block, 1.0, &HARM, phi);
            if let Some(r0) = test.max_ratio {
                share::harm(&mut since.ratio, block, r0, &HARM, phi);
            }
            if let Some(d) = test.max_drop {
                // The tolerance of the step that the evidence began with: fixed before its data.
                let d = policy.drop_at(begun, d);
                absolute::harm(&mut since.difference, block, predicted, d, phi);
            }
            if let Some(p) = test.max_rate {
                objective::add(&mut since.objective, block.canary, p, &HARM, phi);
            }
        }
        let safe = &mut state.safe;
        if let Some(r0) = test.max_ratio {
            share::promote(&mut safe.ratio, block, r0, &SAFE, phi);
        }
        if let Some(d) = test.max_drop {
            let d = policy.drop_at(step, d);
            absolute::promote(&mut safe.difference, block, predicted, d, phi);
        }
        if let Some(p) = test.max_rate {
            objective::add(&mut safe.objective, block.canary, p, &OBJECTIVE_SAFE, phi);
        }
        state.past = state.past.plus(block.stable);
        state.step.canary = state.step.canary.plus(block.canary);
        state.step.stable = state.step.stable.plus(block.stable);
    }

    /// Fold a block of latencies into a metric that judges them. `slow` must have the metric's
    /// boundaries.
    pub fn fold_latency(&mut self, policy: &Policy, metric: usize, slow: &Slow) {
        let phi = policy.dispersion;
        let Some(Test::Latency(test)) = policy.metrics.get(metric).map(|m| &m.test) else { return };
        let Some(state) = self.metrics.get_mut(metric) else { return };
        if slow.canary == 0 && slow.stable == 0 {
            return;
        }
        let usable = usable(test);
        for since in &mut state.harm {
            for ((boundary, margin), logs) in usable.iter().zip(since.ratio.chunks_mut(SLOW.len()))
            {
                share::harm(logs, &slow.at(*boundary), *margin, &SLOW, phi);
            }
            if let Some(boundary) = harm_boundary(test) {
                share::harm(&mut since.equal, &slow.at(boundary), 1.0, &HARM, phi);
                let (canary, p) = (slow.at(boundary).canary, tolerated(test));
                objective::add(&mut since.objective, canary, p, &HARM, phi);
            }
        }
        if let (Some(boundary), Some(slowdown)) = (test.pass_boundary(), test.max_slowdown)
            && let Some(margin) = test.baseline.as_ref().and_then(|b| b.margin(boundary, slowdown))
        {
            share::promote(&mut state.safe.ratio, &slow.at(boundary), margin, &SAFE, phi);
        }
        if let Some(boundary) = promote_boundary(test) {
            let (canary, p) = (slow.at(boundary).canary, tolerated(test));
            objective::add(&mut state.safe.objective, canary, p, &OBJECTIVE_SAFE, phi);
        }
        state.slow.add(slow);
        if let Some(boundary) = shown_boundary(test) {
            state.step = state.slow.at(boundary);
        } else {
            state.step.canary.n = state.slow.canary;
            state.step.stable.n = state.slow.stable;
        }
    }

    /// Fold a block of failures into the crash guard: every block counts, also those that nothing
    /// else is judged by.
    pub fn fold_crash(&mut self, block: &Block) {
        if block.is_empty() {
            return;
        }
        let predicted = absolute::predicted(self.crash_past);
        absolute::harm(&mut self.crash, block, predicted, CRASH_DIFFERENCE, 1.0);
        self.crash_past = self.crash_past.plus(block.stable);
    }

    /// Evidence of harm over all metrics; remembers when its bound is reached.
    pub fn harm(&mut self, policy: &Policy) -> Harm {
        let by_metric: Vec<f64> =
            (0..policy.metrics.len()).map(|i| self.harm_of(policy, i)).collect();
        let crash = log_mean(&self.crash);
        let shares = by_metric.iter().enumerate().map(|(i, e)| (policy.share(i), *e));
        let log_e = log_mix(shares.chain([(CRASH_SHARE, crash)]));
        let bound = policy.harm_bound();
        self.latched |= log_e >= bound;
        Harm { log_e, bound, reached: self.latched, by_metric, crash }
    }

    /// ln of the mean over steps of the evidence since each began; 1 for those not begun, so that
    /// old good data can't hide what starts at a later weight.
    fn harm_of(&self, policy: &Policy, metric: usize) -> f64 {
        let (Some(state), Some(m)) = (self.metrics.get(metric), policy.metrics.get(metric)) else {
            return 0.0;
        };
        let steps = policy.weights.len().max(1);
        let weight = 1.0 / crate::block::count(steps as u64);
        log_mix((0..steps).map(|step| {
            let alone = policy.is_alone(step);
            let e = state.harm.get(step).map_or(0.0, |since| composed(m, since, alone));
            (weight, e)
        }))
    }

    /// Evidence that a metric is within its tolerance, begun at the present step and as it is now.
    #[must_use]
    pub fn pass(&self, policy: &Policy, metric: usize) -> Pass {
        let (Some(state), Some(m)) = (self.metrics.get(metric), policy.metrics.get(metric)) else {
            return Pass::NotMeasurable;
        };
        let bound = policy.pass_bound();
        let alone = policy.is_alone(self.step);
        let evidence = |log_e: f64| Pass::Evidence { log_e, bound };
        let safe = |logs: &[f64]| log_mix(SAFE_WEIGHTS.iter().copied().zip(logs.iter().copied()));
        let (compares, aims) = match &m.test {
            Test::Counts(test) => (test.compares(), test.max_rate.is_some()),
            Test::Latency(test) => (test.max_slowdown.is_some(), promote_boundary(test).is_some()),
        };
        if compares && !alone {
            let difference = (!state.safe.difference.is_empty()).then(|| {
                let weights = ABSOLUTE_SAFE_WEIGHTS.iter().copied();
                log_mix(weights.zip(state.safe.difference.iter().copied()))
            });
            let ratio = (!state.safe.ratio.is_empty()).then(|| safe(&state.safe.ratio));
            return match (difference, ratio) {
                (Some(a), Some(b)) => evidence(log_mean(&[a, b])),
                (Some(one), None) | (None, Some(one)) => evidence(one),
                (None, None) => Pass::NotMeasurable,
            };
        }
        if aims {
            return evidence(log_mean(&state.safe.objective));
        }
        if compares { Pass::NoStableTraffic } else { Pass::NotMeasurable }
    }

    /// Counts of the present step: failures, or slow requests at the boundary shown.
    #[must_use]
    pub fn counts(&self, metric: usize) -> Block {
        self.metrics.get(metric).map(|m| m.step).unwrap_or_default()
    }
}

/// Tests in use, with no evidence yet.
fn since(metric: &MetricPolicy) -> Since {
    let zeros = |n: usize, used: bool| if used { vec![0.0; n] } else { Vec::new() };
    match &metric.test {
        Test::Counts(test) => Since {
            ratio: zeros(HARM.len(), test.max_ratio.is_some()),
            equal: zeros(HARM.len(), needs_equal(test)),
            difference: zeros(crate::grid::ABSOLUTE.len(), test.max_drop.is_some()),
            objective: zeros(HARM.len(), test.max_rate.is_some()),
        },
        Test::Latency(test) => {
            let aims = harm_boundary(test).is_some();
            Since {
                ratio: vec![0.0; SLOW.len() * usable(test).len()],
                equal: zeros(HARM.len(), aims),
                difference: Vec::new(),
                objective: zeros(HARM.len(), aims),
            }
        }
    }
}

/// Equality with stable is tested beside an objective, or where nothing else is asked.
fn needs_equal(test: &CountTest) -> bool {
    test.max_rate.is_some() || !test.compares()
}

fn safe(metric: &MetricPolicy) -> Safe {
    let zeros = |n: usize, used: bool| if used { vec![0.0; n] } else { Vec::new() };
    match &metric.test {
        Test::Counts(test) => Safe {
            ratio: zeros(SAFE.len(), test.max_ratio.is_some()),
            difference: zeros(ABSOLUTE_SAFE_WEIGHTS.len(), test.max_drop.is_some()),
            objective: zeros(OBJECTIVE_SAFE.len(), test.max_rate.is_some()),
        },
        Test::Latency(test) => Safe {
            ratio: zeros(SAFE.len(), test.pass_boundary().is_some()),
            difference: Vec::new(),
            objective: zeros(OBJECTIVE_SAFE.len(), promote_boundary(test).is_some()),
        },
    }
}

/// ln E of harm of one metric since one step ("What a metric's fields mean together").
fn composed(metric: &MetricPolicy, since: &Since, alone: bool) -> f64 {
    let mean = |logs: &[f64]| (!logs.is_empty()).then(|| log_mean(logs));
    let comparison = match &metric.test {
        Test::Counts(test) if test.compares() => {
            // The tolerance is the larger of the two: both must be refuted.
            let both = [mean(&since.difference), mean(&since.ratio)];
            both.into_iter().flatten().reduce(f64::min)
        }
        Test::Counts(test) if test.max_rate.is_none() => mean(&since.equal),
        Test::Counts(_) => None,
        Test::Latency(_) => mean(&since.ratio),
    };
    // What stable misses as well is no fault of the canary.
    let objective = mean(&since.objective)
        .map(|aim| if alone { aim } else { mean(&since.equal).map_or(aim, |e| aim.min(e)) });
    match (comparison, objective) {
        (Some(a), Some(b)) => log_mean(&[a, b]),
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => 0.0,
    }
}

/// Boundaries at which slowdown can be judged, with the ratio tolerated at each.
fn usable(test: &LatencyTest) -> Vec<(usize, f64)> {
    let (Some(baseline), Some(slowdown)) = (&test.baseline, test.max_slowdown) else {
        return Vec::new();
    };
    (0..test.boundaries.len()).filter_map(|i| Some((i, baseline.margin(i, slowdown)?))).collect()
}

fn harm_boundary(test: &LatencyTest) -> Option<usize> {
    objective_boundary(&test.boundaries, test.objective?.threshold, true)
}

fn promote_boundary(test: &LatencyTest) -> Option<usize> {
    objective_boundary(&test.boundaries, test.objective?.threshold, false)
}

fn tolerated(test: &LatencyTest) -> f64 {
    test.objective.map_or(0.01, |o| 1.0 - o.percentile)
}

/// The boundary whose counts are shown: the one that passes.
#[must_use]
pub fn shown_boundary(test: &LatencyTest) -> Option<usize> {
    test.pass_boundary().or_else(|| promote_boundary(test)).or_else(|| harm_boundary(test))
}
