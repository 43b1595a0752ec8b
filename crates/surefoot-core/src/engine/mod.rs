//! The bridge between a release and the statistics: its policy from the plan, ticks into blocks,
//! evidence into verdicts and words. Its state is one opaque field of the status.

mod calibrate;
mod judges;
pub mod reach;
mod run;
mod told;
mod words;

pub use run::Run;
pub use told::{keep, show};
pub use words::evidence_in_words;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use surefoot_stats::threshold::{Tally, Threshold};
use surefoot_stats::{
    Arm, Baseline, Block, CountTest, LatencyTest, MetricBlock, MetricPolicy, Objective, PairTest,
    Policy, Role, SlowArm, SlowBlock, State, Test,
};

use self::calibrate::Calibrated;
use self::judges::Judges;
use self::words::{describe, describe_threshold, evidence_wait, harm_in_words};
use crate::api::analysis::MetricRole;
use crate::api::status::{MetricStatus, ReleaseEvidence, RolloutStatus, StepStatus, Waiting};
use crate::metrics;
use crate::plan::{JudgePlan, MetricKind, Plan, StepPlan};
use crate::samples::{BaselineSample, Count, Histogram, Latencies, Samples, Scalar, Tick};

/// Boundaries of Istio's latency histogram, milliseconds, for a release without a baseline.
pub const ISTIO_BOUNDARIES: [f64; 15] = [
    0.5, 1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0, 10_000.0,
    30_000.0, 60_000.0,
];
const VERSION: u8 = 7;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Engine {
    policy: Policy,
    /// Where each of the policy's metrics has its φ and η from.
    calibrated: Vec<Calibrated>,
    /// Which of them counts abandoned requests.
    abandoned: Option<usize>,
    state: State,
    /// Milliseconds since the epoch up to which ticks have been folded.
    folded_until: i64,
    /// Ticks that don't make a block yet.
    pending: Pending,
    /// Judged milliseconds of this step.
    judged: u64,
    /// Judged requests of this step.
    step: Block,
    /// All requests since the release had traffic.
    total: Block,
    /// The canary's requests of the last block, counted twice.
    reached: Reached,
    /// End of the last tick with canary requests.
    canary_seen: Option<i64>,
    /// One for each threshold, in the plan's order: its count, and the last answer counted.
    tallies: Vec<(Tally, i64)>,
    /// One for each metric of pairs, in the plan's order: the last pair counted.
    paired: Vec<i64>,
    /// What the judges of other tools have seen.
    judges: Judges,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Pending {
    millis: u64,
    requests: Block,
    /// All requests, and those that were abandoned.
    sent: Block,
    /// Latencies at the policy's boundaries; `None` before the first.
    slow: Option<SlowBlock>,
    /// The canary's requests by its own pods' count, and by the route's for the same time.
    reached: Reached,
}

/// The canary's requests, counted twice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reached {
    /// As its own pods' proxies count them.
    pub pods: u64,
    /// As those count them that go by the route.
    pub route: u64,
}

impl Reached {
    /// Whether more requests reach the canary than the route sends there. Retries and the time
    /// between two scrapes explain a few.
    #[must_use]
    pub fn leaks(self) -> bool {
        self.pods > self.route.saturating_add(self.route / 4).saturating_add(20)
    }
}

/// What there is to be said of a step.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    /// The state after all ticks.
    pub engine: String,
    /// Every metric, for the status.
    pub metrics: Vec<MetricStatus>,
    /// The release as a whole, for the status.
    pub evidence: Option<ReleaseEvidence>,
    /// The release does harm, in words.
    pub harm: Option<String>,
    /// Required metrics that haven't passed.
    pub unmet: Vec<Waiting>,
    /// How much time of this step has been judged.
    pub judged: Duration,
    /// Canary requests of this step that have been judged.
    pub canary_requests: u64,
    /// The canary's share of this step's requests.
    pub share: Option<f64>,
    /// The canary's requests of the last block, counted twice.
    pub reached: Reached,
    /// The last tick.
    pub last: Option<Tick>,
    /// Up to when counts are known.
    pub until: Timestamp,
    /// End of the last tick in which the canary had requests.
    pub canary_seen: Option<Timestamp>,
}

/// No state of the plan's releases is longer than this, in bytes of the status.
#[must_use]
pub fn most_bytes(plan: &Plan) -> usize {
    let latencies = plan.metrics.iter().filter(|m| matches!(m.kind, MetricKind::Latency { .. }));
    // Stable's past, once a metric, and what latencies are pending: at each boundary at most two
    // counts and the boundary itself. A count takes at most ten bytes.
    let boundaries = metrics::boundaries(plan.routing.mesh).len() + 1;
    let known = (latencies.count() + 1) * (2 * 10 + 8) * boundaries;
    let counts = 10 * 64;
    let known = known + counts + plan.metrics.len() * calibrate::MOST_BYTES;
    let evidence = policy(plan, None).0.state_bytes_bound();
    begin(plan, None, Timestamp::default()).len() + (known + evidence) * 4 / 3
}

/// The state of a release that is about to get its first traffic.
#[must_use]
pub fn begin(plan: &Plan, baseline: Option<&BaselineSample>, now: Timestamp) -> String {
    let (policy, calibrated) = policy(plan, baseline);
    let past = baseline.and_then(|b| b.requests.answered()).unwrap_or_default();
    let mut state = State::new(&policy);
    // Only an overflow or a policy without steps could refuse; neither has evidence to begin with.
    let _ = state.seed_crash_guard(past);
    let abandoned = abandoned(plan);
    for metric in 0..policy.metrics.len() {
        let gone = baseline.filter(|_| Some(metric) == abandoned).and_then(|b| b.requests.sent());
        let _ = state.seed(metric, gone.unwrap_or(past));
    }
    let _ = state.begin_step(&policy, 0);
    let thresholds = plan.metrics.iter().filter(|m| m.judge == JudgePlan::Query).count();
    let engine = Engine {
        state,
        policy,
        calibrated,
        abandoned,
        folded_until: now.as_millisecond(),
        pending: Pending::default(),
        judged: 0,
        step: Block::default(),
        total: Block::default(),
        reached: Reached::default(),
        canary_seen: None,
        tallies: vec![(Tally::default(), 0); thresholds],
        paired: vec![0; pairs(plan).count()],
        judges: Judges::new(plan, &boundaries(plan, baseline)),
    };
    engine.encode()
}

/// The same when a preview is over: what the canary was asked in it is no evidence, and what follows is
/// counted from `now` on.
#[must_use]
pub fn end_preview(state: &str, now: Timestamp) -> String {
    let Some(mut engine) = Engine::decode(state) else { return state.to_owned() };
    engine.folded_until = now.as_millisecond();
    engine.forget_answers();
    engine.encode()
}

/// The same at the beginning of another step, the `index`th with traffic.
#[must_use]
pub fn begin_step(state: &str, index: usize) -> String {
    let Some(mut engine) = Engine::decode(state) else { return state.to_owned() };
    engine.flush();
    let policy = engine.policy.clone();
    if engine.state.begin_step(&policy, index).is_err() {
        return state.to_owned();
    }
    engine.judged = 0;
    engine.step = Block::default();
    engine.reached = Reached::default();
    engine.judges.begin_step();
    engine.forget_answers();
    engine.encode()
}

/// What is known of a sequential metric before the canary's first request.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Dispersion {
    /// The metric.
    pub metric: String,
    /// φ ≥ 1.
    pub phi: f64,
    /// η in (0, 1].
    pub eta: f64,
    /// Where they are from, in words.
    pub from: String,
}

/// By what each sequential metric would be judged if a release began with this past, in the plan's
/// order.
#[must_use]
pub fn dispersions(plan: &Plan, baseline: &BaselineSample) -> Vec<Dispersion> {
    let names = plan.metrics.iter().filter(|m| m.is_sequential()).map(|m| m.name.clone());
    let known = policy(plan, Some(baseline)).1;
    let told = names.zip(known).map(|(metric, known)| {
        let from = known.in_words();
        Dispersion { metric, phi: known.phi, eta: known.eta, from }
    });
    told.collect()
}

/// Where the next tick begins.
#[must_use]
pub fn folded_until(state: &str) -> Option<Timestamp> {
    Timestamp::from_millisecond(Engine::decode(state)?.folded_until).ok()
}

/// What a release of the plan is judged by, and where φ and η of each metric are from.
fn policy(plan: &Plan, baseline: Option<&BaselineSample>) -> (Policy, Vec<Calibrated>) {
    let boundaries = boundaries(plan, baseline);
    let metrics = plan.metrics.iter().filter(|m| m.is_sequential()).filter_map(|metric| {
        let test = match &metric.kind {
            MetricKind::SuccessRate { max_failure_rate, max_drop, max_failure_ratio } => {
                Test::Counts(CountTest {
                    max_drop: *max_drop,
                    max_failure_ratio: *max_failure_ratio,
                    max_failure_rate: *max_failure_rate,
                })
            }
            MetricKind::Latency { percentile, max_ms, max_slowdown } => {
                let baseline = baseline.and_then(known).filter(|b| !b.boundaries().is_empty());
                Test::Latency(LatencyTest {
                    boundaries: boundaries.clone(),
                    max_slowdown: *max_slowdown,
                    objective: max_ms
                        .map(|threshold_ms| Objective { threshold_ms, percentile: *percentile }),
                    baseline,
                })
            }
            MetricKind::Abandoned { max_ratio } => {
                Test::Counts(CountTest { max_failure_ratio: *max_ratio, ..CountTest::default() })
            }
            MetricKind::Pairs { times, .. } => Test::Pairs(PairTest { times: *times }),
            MetricKind::Query { .. } => return None,
        };
        let role = match metric.role {
            // Nobody asked for it, and nobody could wait it out.
            MetricRole::Required if metric.implicit && !comparable(&test) => Role::Guard,
            MetricRole::Required => Role::Required,
            MetricRole::Guard => Role::Guard,
            MetricRole::Observe => Role::Observe,
        };
        let known = calibrate::of(plan, metric, &test, baseline);
        let (phi, eta) = (known.phi, known.eta);
        Some((MetricPolicy { role, importance: metric.importance, phi, eta, test }, known))
    });
    let (metrics, calibrated) = metrics.unzip();
    let policy = Policy {
        false_rollback: plan.false_rollback,
        false_pass: plan.false_pass,
        weights: plan.judged().map(|s| f64::from(s.weight) / 100.0).collect(),
        metrics,
    };
    (policy, calibrated)
}

/// The metrics of pairs, each with its place among the sequential ones.
fn pairs(plan: &Plan) -> impl Iterator<Item = (usize, &str)> {
    let sequential = plan.metrics.iter().filter(|m| m.is_sequential()).enumerate();
    let pairs = sequential.filter(|(_, m)| matches!(m.kind, MetricKind::Pairs { .. }));
    pairs.map(|(i, metric)| (i, metric.name.as_str()))
}

/// Which of the sequential metrics counts abandoned requests.
fn abandoned(plan: &Plan) -> Option<usize> {
    let mut sequential = plan.metrics.iter().filter(|m| m.is_sequential());
    sequential.position(|m| matches!(m.kind, MetricKind::Abandoned { .. }))
}

/// Those of stable's past, else the mesh's usual ones.
fn boundaries(plan: &Plan, baseline: Option<&BaselineSample>) -> Vec<f64> {
    let known = baseline.and_then(known).map(|b| b.boundaries().to_vec());
    let usual = || metrics::boundaries(plan.routing.mesh).to_vec();
    known.filter(|b| !b.is_empty()).unwrap_or_else(usual)
}

/// `None` where there were none, or no time.
fn requests_a_second(requests: u64, over: Duration) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "counts of requests are far below 2^52")]
    let rate = requests as f64 / over.as_secs_f64();
    (rate.is_finite() && rate > 0.0).then_some(rate)
}

fn comparable(test: &Test) -> bool {
    match test {
        Test::Counts(_) | Test::Pairs(_) => true,
        Test::Latency(test) => test.pass_boundary().is_some(),
    }
}

/// Stable's past; `None` where its counts can't be.
fn known(sample: &BaselineSample) -> Option<Baseline> {
    Baseline::new(sample.boundaries.clone(), above(&sample.latency, &sample.latency.at_most)?).ok()
}

/// Requests above boundaries from those at most at them; `None` where that can't be.
fn above(histogram: &Histogram, at_most: &[u64]) -> Option<SlowArm> {
    let n = histogram.requests;
    let slower = at_most.iter().map(|at_most| n.checked_sub(*at_most)).collect::<Option<_>>()?;
    SlowArm::new(n, slower).ok()
}

/// Requests slower than each of `boundaries`; `None` when the histogram has other ones.
fn slower(latencies: &Latencies, boundaries: &[f64]) -> Option<SlowBlock> {
    let (canary, stable) = (&latencies.canary, &latencies.stable);
    if canary.requests + stable.requests == 0 {
        return Some(SlowBlock::empty(boundaries.len()));
    }
    let index = |boundary: &f64| {
        latencies.boundaries.iter().position(|b| b.to_bits() == boundary.to_bits())
    };
    let indices = boundaries.iter().map(index).collect::<Option<Vec<_>>>()?;
    let arm = |histogram: &Histogram| {
        let counts = indices.iter().map(|i| histogram.at_most.get(*i).copied());
        above(histogram, &counts.collect::<Option<Vec<_>>>()?)
    };
    SlowBlock::new(arm(canary)?, arm(stable)?).ok()
}

impl Engine {
    fn decode(text: &str) -> Option<Self> {
        let bytes = STANDARD.decode(text).ok()?;
        let (version, bytes) = bytes.split_first()?;
        if *version != VERSION {
            return None;
        }
        postcard::from_bytes(bytes).ok()
    }

    fn encode(&self) -> String {
        // Its types hold no maps and nothing of unknown length: writing to memory can't fail.
        let bytes = postcard::to_allocvec(self).unwrap_or_default();
        STANDARD.encode([&[VERSION], bytes.as_slice()].concat())
    }

    /// What users' queries answered in the step before.
    fn forget_answers(&mut self) {
        for (tally, _) in &mut self.tallies {
            *tally = Tally::default();
        }
    }

    fn take(&mut self, tick: &Tick, judged: bool, longest: Duration) {
        self.folded_until = tick.to.as_millisecond();
        // What can't be is told like what is missing: no evidence, never a clamped one.
        let block = |of: fn(Count) -> Option<Arm>| {
            Some(Block { canary: of(tick.canary)?, stable: of(tick.stable)? })
        };
        let (Some(block), Some(sent), None) =
            (block(Count::answered), block(Count::sent), &tick.partial)
        else {
            return;
        };
        if sent.canary.n() > 0 {
            self.canary_seen = Some(tick.to.as_millisecond());
        }
        let Some(total) = self.total.checked_add(block) else { return };
        if self.state.fold_crash_guard(&self.policy, &block).is_err() {
            return;
        }
        self.total = total;
        if !judged {
            return;
        }
        let millis = tick.to.as_millisecond() - tick.from.as_millisecond();
        let pending = self.pending.requests.checked_add(block);
        let Some((requests, sent)) = pending.zip(self.pending.sent.checked_add(sent)) else {
            return;
        };
        self.pending.millis += u64::try_from(millis).unwrap_or(0);
        (self.pending.requests, self.pending.sent) = (requests, sent);
        if let Some(pods) = tick.reached {
            let reached = &mut self.pending.reached;
            reached.pods = reached.pods.saturating_add(pods);
            reached.route = reached.route.saturating_add(block.canary.n());
        }
        let boundaries = self.boundaries();
        if let (Some(latencies), Some(boundaries)) = (&tick.latency, boundaries)
            && let Some(slow) = slower(latencies, &boundaries)
        {
            match &mut self.pending.slow {
                // All ticks are at the policy's boundaries, and no sum of a tick's counts overflows
                // where that of its requests doesn't.
                Some(sum) => {
                    let _ = sum.checked_add_assign(&slow);
                }
                none => *none = Some(slow),
            }
        }
        let judged = self.judged / 1000;
        let length = match judged {
            0..120 => 15,
            120..600 => 30,
            _ => 60,
        };
        let length = Duration::from_secs(length).min(longest);
        if Duration::from_millis(self.pending.millis) >= length {
            self.flush();
        }
    }

    fn boundaries(&self) -> Option<Vec<f64>> {
        let sequential = self.policy.metrics.iter().find_map(|m| match &m.test {
            Test::Latency(test) => Some(test.boundaries.clone()),
            Test::Counts(_) | Test::Pairs(_) => None,
        });
        // Where both need them they are the same: those of stable's past.
        sequential.or((!self.judges.boundaries.is_empty()).then(|| self.judges.boundaries.clone()))
    }

    /// What is pending becomes a block.
    fn flush(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        if pending.millis == 0 {
            return;
        }
        for (i, metric) in self.policy.metrics.iter().enumerate() {
            let block = match &metric.test {
                Test::Counts(_) if self.abandoned == Some(i) => {
                    Some(MetricBlock::Counts(pending.sent))
                }
                Test::Counts(_) => Some(MetricBlock::Counts(pending.requests)),
                Test::Latency(_) => pending.slow.clone().map(MetricBlock::Latency),
                // Each is a block of its own.
                Test::Pairs(_) => None,
            };
            if let Some(block) = block {
                // Refused only when the counts overflow: no evidence then, never a wrong one.
                let _ = self.state.fold(&self.policy, i, &block, pending.millis);
            }
        }
        self.judges.take(pending.millis, pending.requests, pending.slow.as_ref());
        self.judged += pending.millis;
        self.reached = pending.reached;
        self.step = self.step.checked_add(pending.requests).unwrap_or(self.step);
    }
}

/// Fold what has been sampled since the committed state, and judge.
#[must_use]
pub fn judge(plan: &Plan, status: &RolloutStatus, samples: &Samples) -> Judgement {
    let text = status.engine.as_deref().unwrap_or_default();
    // A state of another version starts over, from now: no evidence, never a wrong one.
    let start = samples.ticks.first().map(|t| t.from);
    let start = start.or(status.decision.as_ref().map(|d| d.at)).unwrap_or_default();
    let index = status.step.as_ref().and_then(|s| usize::try_from(s.index).ok()).unwrap_or(0);
    let traffic = plan.judged_index(index);
    let fresh = || Engine::decode(&begin_step(&begin(plan, None, start), traffic));
    let Some(mut engine) = Engine::decode(text).or_else(fresh) else {
        return nothing(text, start);
    };
    let judged_from = status.step.as_ref().and_then(|s| s.judged_from);
    let longest = plan.steps.get(index).map_or(Duration::from_secs(15), |s| s.min_duration);
    let mut last = None;
    for tick in &samples.ticks {
        if tick.from.as_millisecond() < engine.folded_until || tick.to <= tick.from {
            continue;
        }
        engine.take(tick, judged_from.is_some_and(|from| tick.from >= from), longest);
        last = Some(tick.clone());
    }
    if let Some(step) = plan.steps.get(index).filter(|step| !step.is_preview()) {
        engine.judges.look(plan, step, engine.judged, engine.step.canary.n());
    }
    let thresholds = thresholds(plan, &mut engine, samples, judged_from);
    fold_pairs(plan, &mut engine, samples, judged_from);
    verdict(plan, engine, index, status.step.as_ref(), &thresholds, last)
}

/// The judged answers to a metric's query after `until`, which then is the time of the last of them:
/// each is counted once.
fn uncounted<'a>(
    samples: &'a Samples,
    name: &str,
    until: &mut i64,
    judged_from: Option<Timestamp>,
) -> Vec<&'a Scalar> {
    let (after, answers) = (*until, samples.scalars.get(name).into_iter().flatten());
    let judged = answers.filter(|answer| {
        answer.at.as_millisecond() > after && judged_from.is_some_and(|from| answer.at >= from)
    });
    judged.inspect(|answer| *until = answer.at.as_millisecond()).collect()
}

/// Count the answers of users' queries.
fn thresholds(
    plan: &Plan,
    engine: &mut Engine,
    samples: &Samples,
    judged_from: Option<Timestamp>,
) -> Vec<(Threshold, Tally, Option<f64>)> {
    let queries = plan.metrics.iter().filter_map(|m| match &m.kind {
        MetricKind::Query { min, max, failure_limit, .. } => Some((
            &m.name,
            Threshold {
                min: *min,
                max: *max,
                failure_limit: *failure_limit,
                consecutive_limit: None,
            },
        )),
        _ => None,
    });
    let counted = queries.zip(&mut engine.tallies).map(|((name, threshold), (tally, until))| {
        for answer in uncounted(samples, name, until, judged_from) {
            threshold.fold(tally, answer.value);
        }
        let last = samples.scalars.get(name).and_then(|answers| answers.last());
        (threshold, *tally, last.map(|answer| answer.value))
    });
    counted.collect()
}

/// Fold what users' queries answered of both versions at the same instants.
fn fold_pairs(plan: &Plan, engine: &mut Engine, samples: &Samples, judged_from: Option<Timestamp>) {
    for ((metric, name), until) in pairs(plan).zip(&mut engine.paired) {
        for answer in uncounted(samples, name, until, judged_from) {
            let Some(stable) = answer.stable else { continue };
            let pair = MetricBlock::Pair { canary: answer.value, stable };
            // Refused only by another policy's state.
            let _ = engine.state.fold(&engine.policy, metric, &pair, 0);
        }
    }
}

fn verdict(
    plan: &Plan,
    engine: Engine,
    index: usize,
    step: Option<&StepStatus>,
    thresholds: &[(Threshold, Tally, Option<f64>)],
    last: Option<Tick>,
) -> Judgement {
    let policy = engine.policy.clone();
    let harm = engine.state.harm(&policy);
    let mut metrics = Vec::new();
    let mut unmet = Vec::new();
    let mut failed = None;
    let stable_traffic = policy.has_stable_traffic(plan.judged_index(index));
    let preview = plan.steps.get(index).is_some_and(StepPlan::is_preview);
    let mut counts = [0; 4];
    for metric in &plan.metrics {
        let mut next = |kind: usize| {
            counts[kind] += 1;
            counts[kind] - 1
        };
        let status = match &metric.judge {
            JudgePlan::Sequential => describe(&engine, &policy, next(0), &metric.name),
            JudgePlan::Query => {
                let counted = thresholds.get(next(1));
                let Some((limits, tally, value)) = counted else { continue };
                describe_threshold(&metric.name, metric.role, limits, tally, *value)
            }
            JudgePlan::Checks(checks) => engine.judges.checked(metric, next(2), checks),
            JudgePlan::Compare(how) => engine.judges.compared(metric, next(3), how, stable_traffic),
        };
        // A sequential metric's harm counts by its share alone.
        let fails = status.verdict == "Harm" && metric.role != MetricRole::Observe;
        if fails && !metric.is_sequential() {
            failed = Some(format!("{}: {}", metric.name, status.note.clone().unwrap_or_default()));
        }
        // Without traffic there is nothing else to judge.
        let asked = metric.judge == JudgePlan::Query;
        if status.role == "required" && status.verdict != "Pass" && (asked || !preview) {
            unmet.push(evidence_wait(&status, &engine));
        }
        metrics.push(status);
    }
    let words = harm.reached.then(|| harm_in_words(plan, &engine, &harm));
    let all = engine.step.canary.n() + engine.step.stable.n();
    let stamp = |millis| Timestamp::from_millisecond(millis).unwrap_or_default();
    Judgement {
        metrics,
        evidence: Some(told::release(&engine, step)),
        harm: words.or(failed),
        unmet,
        judged: Duration::from_millis(engine.judged),
        canary_requests: engine.step.canary.n(),
        share: Arm::new(all, engine.step.canary.n())
            .ok()
            .filter(|_| all >= 100)
            .and_then(Arm::rate),
        reached: engine.reached,
        last,
        until: stamp(engine.folded_until),
        canary_seen: engine.canary_seen.map(stamp),
        engine: engine.encode(),
    }
}

fn nothing(text: &str, until: Timestamp) -> Judgement {
    Judgement {
        engine: text.to_owned(),
        metrics: Vec::new(),
        evidence: None,
        harm: None,
        unmet: Vec::new(),
        judged: Duration::ZERO,
        canary_requests: 0,
        share: None,
        reached: Reached::default(),
        last: None,
        until,
        canary_seen: None,
    }
}

#[cfg(test)]
mod tests;
