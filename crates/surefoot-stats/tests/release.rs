//! The policy of a whole release, as the controller calls it.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use serde_json::Value;
use surefoot_stats::grid::{ABSOLUTE_SAFE_WEIGHTS, log_weighted};
use surefoot_stats::{
    Arm, Baseline, Block, CountTest, FoldError, LatencyTest, MetricBlock, MetricPolicy, Objective,
    Pass, Policy, Role, SlowArm, SlowBlock, State, Test, Unmeasurable, absolute, interval,
};

fn block(n1: u64, k1: u64, n0: u64, k0: u64) -> Block {
    Block::new(Arm::new(n1, k1).unwrap(), Arm::new(n0, k0).unwrap())
}

fn counts(n1: u64, k1: u64, n0: u64, k0: u64) -> MetricBlock {
    MetricBlock::Counts(block(n1, k1, n0, k0))
}

fn slow(n1: u64, k1: [u64; 4], n0: u64, k0: [u64; 4]) -> MetricBlock {
    let arm = |n, k: [u64; 4]| SlowArm::new(n, k.to_vec()).unwrap();
    MetricBlock::Latency(SlowBlock::new(arm(n1, k1), arm(n0, k0)).unwrap())
}

const BOUNDARIES: [f64; 4] = [50.0, 100.0, 250.0, 500.0];

fn baseline() -> Baseline {
    let past = SlowArm::new(100_000, vec![60_000, 20_000, 4_000, 500]).unwrap();
    Baseline::new(BOUNDARIES.to_vec(), past).unwrap()
}

fn success(max_drop: Option<f64>, max_failure_rate: Option<f64>) -> Test {
    Test::Counts(CountTest { max_drop, max_failure_ratio: None, max_failure_rate })
}

fn latency(max_slowdown: Option<f64>, objective: Option<Objective>, known: bool) -> Test {
    let baseline = known.then(baseline);
    Test::Latency(LatencyTest {
        max_slowdown,
        objective,
        baseline,
        boundaries: BOUNDARIES.to_vec(),
    })
}

const AIM: Objective = Objective { threshold_ms: 300.0, percentile: 0.99 };

fn policy(tests: impl IntoIterator<Item = Test>) -> Policy {
    let metric =
        |test| MetricPolicy { role: Role::Required, importance: 1.0, phi: 1.0, eta: 1.0, test };
    let policy = Policy {
        false_rollback: 0.01,
        false_pass: 0.05,
        weights: vec![0.1, 0.5, 1.0],
        metrics: tests.into_iter().map(metric).collect(),
    };
    policy.validate().unwrap();
    policy
}

fn begun(policy: &Policy) -> State {
    let mut state = State::new(policy);
    state.begin_step(policy, 0).unwrap();
    state
}

#[test]
fn a_new_release_has_no_evidence() {
    let policy = policy([success(Some(0.005), None)]);
    let mut state = State::new(&policy);
    let harm = state.harm(&policy);
    assert!(harm.log_e.abs() < 1e-12 && !harm.reached);
    assert_eq!(state.pass(&policy, 0), Pass::NotMeasurable(Unmeasurable::NoStepBegun));
    assert_eq!(state.fold(&policy, 0, &counts(1, 0, 1, 0), 15_000), Err(FoldError::NoStepBegun));
    state.fold_crash_guard(&policy, &block(5, 0, 5, 0)).unwrap();
    assert_eq!(state.crash_guard().total(), block(5, 0, 5, 0));
}

#[test]
fn steps_not_begun_count_as_no_evidence() {
    let policy = policy([success(Some(0.005), None)]);
    let mut state = begun(&policy);
    state.fold(&policy, 0, &counts(1000, 60, 9000, 9), 15_000).unwrap();
    let harm = state.harm(&policy);
    // One of three steps: E = (E0 + 1 + 1)/3.
    let since_first = (3.0 * harm.by_metric[0].log_e.exp() - 2.0).ln();
    let mut alone = Policy { weights: vec![1.0], ..policy.clone() };
    alone.weights = vec![1.0];
    let mut once = begun(&alone);
    once.fold(&alone, 0, &counts(1000, 60, 9000, 9), 15_000).unwrap();
    assert!((once.harm(&alone).by_metric[0].log_e - since_first).abs() < 1e-9);
    // And the whole: 0.9 of the metric, 0.1 of a crash guard that has seen nothing.
    let whole = (0.9 * harm.by_metric[0].log_e.exp() + 0.1).ln();
    assert!((harm.log_e - whole).abs() < 1e-9);
}

#[test]
fn harm_is_latched_and_a_pass_is_not() {
    let policy = policy([success(Some(0.005), None)]);
    let mut state = begun(&policy);
    state.fold(&policy, 0, &counts(3000, 0, 27_000, 0), 15_000).unwrap();
    assert!(state.pass(&policy, 0).reached());
    state.fold(&policy, 0, &counts(1000, 80, 9000, 0), 15_000).unwrap();
    assert!(!state.pass(&policy, 0).reached());
    let harm = state.harm(&policy);
    assert!(harm.reached && harm.log_e >= harm.threshold);
    state.fold(&policy, 0, &counts(1_000_000, 0, 9_000_000, 0), 15_000).unwrap();
    let after = state.harm(&policy);
    assert!(after.log_e < after.threshold && after.reached);
    assert!(interval::p_value(after.largest_log_e) <= 0.01);
}

/// A regression that starts with the second step, after much good data.
fn late_regression(state: &mut State, policy: &Policy, begin_second: bool) {
    for _ in 0..200 {
        state.fold(policy, 0, &counts(1000, 1, 9000, 9), 15_000).unwrap();
    }
    if begin_second {
        state.begin_step(policy, 1).unwrap();
    }
    for _ in 0..20 {
        state.fold(policy, 0, &counts(500, 8, 500, 1), 15_000).unwrap();
    }
}

#[test]
fn old_good_data_cannot_hide_what_starts_at_a_later_weight() {
    let policy = policy([success(Some(0.005), None)]);
    let mut state = begun(&policy);
    late_regression(&mut state, &policy, true);
    assert!(state.harm(&policy).reached);
    assert!(!state.pass(&policy, 0).reached());
    // Were evidence not begun anew at the step, it would go unseen and even pass.
    let mut mutant = begun(&policy);
    late_regression(&mut mutant, &policy, false);
    assert!(!mutant.harm(&policy).reached);
    assert!(mutant.pass(&policy, 0).reached());
}

#[test]
fn the_tolerance_to_pass_tightens_with_the_next_weight() {
    let policy = policy([success(Some(0.005), None)]);
    // 0.3 percentage points more: shown to be within 0.5/0.5 at the first step, but not within 0.5.
    let mut state = begun(&policy);
    state.seed(0, Arm::new(100_000, 100).unwrap()).unwrap();
    state.fold(&policy, 0, &counts(10_000, 40, 90_000, 90), 15_000).unwrap();
    assert!(state.pass(&policy, 0).reached());
    state.begin_step(&policy, 1).unwrap();
    state.fold(&policy, 0, &counts(10_000, 40, 90_000, 90), 15_000).unwrap();
    assert!(!state.pass(&policy, 0).reached());
}

#[test]
fn at_weight_100_the_objective_and_the_crash_guard_judge() {
    let compared = policy([success(Some(0.005), None)]);
    let mut state = begun(&compared);
    state.begin_step(&compared, 2).unwrap();
    assert_eq!(state.pass(&compared, 0), Pass::NoStableTraffic);
    state.fold(&compared, 0, &counts(10_000, 5_000, 0, 0), 15_000).unwrap();
    assert!(state.harm(&compared).log_e.abs() < 1e-12, "nothing to compare with");
    state.seed_crash_guard(Arm::new(10_000, 10).unwrap()).unwrap();
    state.fold_crash_guard(&compared, &block(10_000, 5_000, 0, 0)).unwrap();
    assert!(state.harm(&compared).reached, "worse than stable ever was");

    let both = policy([success(Some(0.005), Some(0.01))]);
    let mut state = begun(&both);
    state.begin_step(&both, 2).unwrap();
    state.fold(&both, 0, &counts(10_000, 500, 0, 0), 15_000).unwrap();
    assert!(state.harm(&both).reached);
    let mut state = begun(&both);
    state.begin_step(&both, 2).unwrap();
    state.fold(&both, 0, &counts(10_000, 10, 0, 0), 15_000).unwrap();
    assert!(state.pass(&both, 0).reached());
}

#[test]
fn an_objective_missed_together_before_weight_100_is_not_held_against_it_there() {
    let policy = policy([success(None, Some(0.01))]);
    let mut state = begun(&policy);
    for step in 0..2 {
        state.begin_step(&policy, step).unwrap();
        for _ in 0..50 {
            state.fold(&policy, 0, &counts(1000, 30, 1000, 30), 15_000).unwrap();
        }
    }
    assert!(!state.harm(&policy).reached);
    state.begin_step(&policy, 2).unwrap();
    assert!(!state.harm(&policy).reached, "only what comes at weight 100 counts alone");
    state.fold(&policy, 0, &counts(1000, 30, 0, 0), 15_000).unwrap();
    assert!(state.harm(&policy).reached);
}

#[test]
fn a_canary_that_meets_its_objective_passes_even_if_stable_misses() {
    let policy = policy([success(None, Some(0.01))]);
    let mut state = begun(&policy);
    state.fold(&policy, 0, &counts(2000, 2, 8000, 800), 15_000).unwrap();
    assert!(state.pass(&policy, 0).reached());
}

#[test]
fn slower_is_harm_and_as_fast_passes() {
    let policy = policy([latency(Some(1.5), None, true)]);
    let mut same = begun(&policy);
    same.fold(
        &policy,
        0,
        &slow(5000, [3000, 1000, 200, 25], 45_000, [27_000, 9000, 1800, 225]),
        15_000,
    )
    .unwrap();
    assert!(same.pass(&policy, 0).reached() && !same.harm(&policy).reached);
    let mut slower = begun(&policy);
    slower
        .fold(
            &policy,
            0,
            &slow(5000, [4500, 3500, 1500, 400], 45_000, [27_000, 9000, 1800, 225]),
            15_000,
        )
        .unwrap();
    assert!(slower.harm(&policy).reached && !slower.pass(&policy, 0).reached());
    assert_eq!(slower.show(&policy, 0).unwrap().boundary_ms, Some(250.0));
}

#[test]
fn a_slowdown_without_a_baseline_says_so_and_never_passes() {
    let policy = policy([latency(Some(1.5), Some(AIM), false)]);
    let mut state = begun(&policy);
    state.fold(&policy, 0, &slow(9000, [0; 4], 9000, [0; 4]), 15_000).unwrap();
    assert_eq!(state.pass(&policy, 0), Pass::NotMeasurable(Unmeasurable::NoBaseline));
    // The objective still shows harm, by requests slower than 500 ms.
    state.fold(&policy, 0, &slow(9000, [900; 4], 9000, [9; 4]), 15_000).unwrap();
    assert!(state.harm(&policy).reached);
}

#[test]
fn why_nothing_can_pass_is_said() {
    let why = |test: Test| {
        let policy = policy([test]);
        begun(&policy).pass(&policy, 0)
    };
    let below = Objective { threshold_ms: 40.0, ..AIM };
    let unmeasurable = Pass::NotMeasurable(Unmeasurable::NoBoundaryBelowObjective);
    assert_eq!(why(latency(None, Some(below), true)), unmeasurable);
    // No boundary from 1 to 25% with a known tolerance: 100 ms / 2.5 lies below the first one.
    let rare = SlowArm::new(100_000, vec![60_000, 20_000, 400, 50]).unwrap();
    let test = LatencyTest {
        max_slowdown: Some(2.5),
        baseline: Baseline::new(BOUNDARIES.to_vec(), rare).ok(),
        boundaries: BOUNDARIES.to_vec(),
        objective: None,
    };
    assert_eq!(why(Test::Latency(test)), Pass::NotMeasurable(Unmeasurable::NoPassBoundary));
    let mut watched = policy([success(Some(0.01), None)]);
    watched.metrics[0] =
        MetricPolicy { role: Role::Guard, test: success(None, None), ..watched.metrics[0].clone() };
    watched.validate().unwrap();
    let state = begun(&watched);
    assert_eq!(state.pass(&watched, 0), Pass::NotMeasurable(Unmeasurable::NoTolerance));
    assert_eq!(state.pass(&watched, 1), Pass::NotMeasurable(Unmeasurable::UnknownMetric));
}

#[test]
fn what_only_observes_never_rolls_back() {
    let mut policy = policy([success(Some(0.005), None)]);
    policy.metrics[0].role = Role::Observe;
    let mut state = begun(&policy);
    state.fold(&policy, 0, &counts(1000, 900, 9000, 0), 15_000).unwrap();
    let harm = state.harm(&policy);
    assert!(harm.by_metric[0].log_e > 100.0 && !harm.reached);
    assert!(state.show(&policy, 0).unwrap().harm_threshold.is_infinite());
}

#[test]
fn a_refused_block_changes_nothing() {
    let policy = policy([success(Some(0.005), None), latency(Some(1.5), None, true)]);
    let mut state = begun(&policy);
    state.fold(&policy, 0, &counts(100, 1, 900, 2), 15_000).unwrap();
    let before = state.clone();
    let refused = |state: &mut State, metric, block: &MetricBlock| {
        state.fold(&policy, metric, block, 15_000).unwrap_err()
    };
    let wrong = FoldError::WrongKind { metric: 1 };
    assert_eq!(refused(&mut state, 1, &counts(1, 0, 1, 0)), wrong);
    assert_eq!(
        refused(&mut state, 0, &slow(0, [0; 4], 0, [0; 4])),
        FoldError::WrongKind { metric: 0 }
    );
    let unknown = FoldError::UnknownMetric { metric: 2, metrics: 2 };
    assert_eq!(refused(&mut state, 2, &counts(1, 0, 1, 0)), unknown);
    assert_eq!(refused(&mut state, 0, &counts(u64::MAX, 0, 1, 0)), FoldError::Overflow);
    let short = MetricBlock::Latency(SlowBlock::empty(3));
    let boundaries = FoldError::Boundaries { metric: 1, want: 4, have: 3 };
    assert_eq!(refused(&mut state, 1, &short), boundaries);
    let huge = slow(u64::MAX, [0; 4], 1, [0; 4]);
    state.fold(&policy, 1, &huge, 15_000).unwrap();
    let latency = state.clone();
    assert_eq!(refused(&mut state, 1, &huge), FoldError::Overflow);
    assert_eq!(state, latency);
    let step = FoldError::UnknownStep { step: 3, steps: 3 };
    assert_eq!(state.begin_step(&policy, 3), Err(step));
    assert_eq!(state.fold_crash_guard(&policy, &block(u64::MAX, 0, 1, 0)), Ok(()));
    assert_eq!(state.fold_crash_guard(&policy, &block(1, 0, 1, 0)), Err(FoldError::Overflow));
    assert_eq!(before.step_counts(&policy, 0), state.step_counts(&policy, 0));
}

#[test]
fn a_state_is_not_used_with_another_policy() {
    let one = policy([success(Some(0.005), None)]);
    let mut state = begun(&one);
    for other in [
        policy([success(Some(0.005), Some(0.01))]),
        policy([latency(Some(1.5), None, true)]),
        Policy { weights: vec![0.5, 1.0], ..one.clone() },
    ] {
        assert!(!state.fits(&other));
        let refused = state.fold(&other, 0, &counts(1, 0, 1, 0), 15_000);
        assert_eq!(refused, Err(FoldError::OtherPolicy));
        assert_eq!(state.begin_step(&other, 1), Err(FoldError::OtherPolicy));
    }
}

#[test]
fn an_empty_block_is_skipped() {
    let policy = policy([success(Some(0.005), Some(0.01)), latency(Some(1.5), Some(AIM), true)]);
    let mut state = begun(&policy);
    let before = state.clone();
    state.fold(&policy, 0, &counts(0, 0, 0, 0), 15_000).unwrap();
    state.fold(&policy, 1, &slow(0, [0; 4], 0, [0; 4]), 15_000).unwrap();
    assert_eq!(state, before);
}

/// Bytes of a state in postcard's format, and no fewer: what is no float is counted as a varint,
/// every structure as if its length was written.
fn bytes(value: &Value) -> usize {
    let varint = |n: u64| (64 - n.leading_zeros() as usize).div_ceil(7).max(1);
    match value {
        Value::Null | Value::Bool(_) => 1,
        Value::Number(n) => n.as_u64().map_or(8, |n| 1 + varint(n)),
        Value::String(s) => s.len(),
        Value::Array(all) => varint(all.len() as u64) + all.iter().map(bytes).sum::<usize>(),
        Value::Object(all) => all.values().map(bytes).sum(),
    }
}

#[test]
fn a_stored_state_goes_on_where_it_stopped_and_stays_small() {
    let mut policy = policy([
        success(Some(0.005), Some(0.01)),
        latency(Some(1.5), Some(AIM), true),
        success(None, Some(0.01)),
    ]);
    policy.weights = (1..=20).map(|i| f64::from(i) / 20.0).collect();
    let release = |interrupted: bool| {
        let mut state = State::new(&policy);
        state.seed(0, Arm::new(100_000, 100).unwrap()).unwrap();
        state.seed_crash_guard(Arm::new(100_000, 100).unwrap()).unwrap();
        for step in 0..policy.weights.len() {
            state.begin_step(&policy, step).unwrap();
            for i in 0..10 {
                let n = 1 << (step + 20);
                state.fold_crash_guard(&policy, &block(n, i * n / 100, n, 3)).unwrap();
                state.fold(&policy, 0, &counts(n, i * n / 200, n, 3), 15_000).unwrap();
                state
                    .fold(
                        &policy,
                        1,
                        &slow(n, [n / 2, n / 3, i, 0], n, [n / 2, n / 3, 1, 0]),
                        15_000,
                    )
                    .unwrap();
                state.fold(&policy, 2, &counts(n, 0, n, n), 15_000).unwrap();
                if interrupted {
                    let stored = serde_json::to_value(&state).unwrap();
                    assert!(bytes(&stored) <= policy.state_bytes_bound());
                    state = serde_json::from_value(stored).unwrap();
                }
            }
        }
        state
    };
    let (once, again) = (release(false), release(true));
    assert_eq!(once, again);
    assert!(once.fits(&policy));
    let bound = policy.state_bytes_bound();
    assert!(bound < 32 * 1024, "{bound} bytes for twenty steps");
}

#[test]
fn what_is_shown_is_of_the_step() {
    let policy = policy([success(Some(0.005), None)]);
    let mut state = begun(&policy);
    state.fold(&policy, 0, &counts(1000, 3, 9000, 9), 15_000).unwrap();
    state.begin_step(&policy, 1).unwrap();
    state.fold(&policy, 0, &counts(500, 1, 500, 1), 15_000).unwrap();
    let show = state.show(&policy, 0).unwrap();
    let (step, release) = (show.step.unwrap(), show.release.unwrap());
    assert_eq!(step.canary.rate, Some(0.002));
    assert_eq!((release.canary.counts.n(), release.stable.counts.n()), (1500, 9500));
    assert!(step.canary.interval.0 < 0.002 && step.canary.interval.1 > 0.002);
    let (low, high) = show.ratio.unwrap();
    assert!(low < 1.0 && high > 1.0);
    assert!(show.harm_threshold > state.harm(&policy).threshold);
    assert_eq!(state.show(&policy, 1), None);
}

#[test]
fn the_requests_still_needed_are_about_right() {
    let policy = policy([success(Some(0.005), None)]);
    let mut state = begun(&policy);
    state.begin_step(&policy, 1).unwrap();
    state.seed(0, Arm::new(1_000_000, 1_000).unwrap()).unwrap();
    state.fold(&policy, 0, &counts(300, 0, 300, 0), 15_000).unwrap();
    let more = state.show(&policy, 0).unwrap().requests_to_pass.unwrap();
    assert!(more > 0);
    let mut folded = 0_u64;
    while !state.pass(&policy, 0).reached() {
        state.fold(&policy, 0, &counts(10, 0, 10, 0), 15_000).unwrap();
        folded += 10;
    }
    assert!(folded.abs_diff(more) <= 20, "{folded} were needed, {more} foretold");
    assert_eq!(state.show(&policy, 0).unwrap().requests_to_pass, Some(0));
    // A canary far beyond the tolerance never passes by going on so.
    state.begin_step(&policy, 1).unwrap();
    state.fold(&policy, 0, &counts(1000, 50, 1000, 1), 15_000).unwrap();
    assert_eq!(state.show(&policy, 0).unwrap().requests_to_pass, None);
}

#[test]
fn stable_is_predicted_from_before_the_block_only() {
    let policy = policy([success(Some(0.005), None)]);
    let state = |seed: Option<Arm>, blocks: &[MetricBlock]| {
        let mut state = begun(&policy);
        if let Some(past) = seed {
            state.seed(0, past).unwrap();
        }
        for block in blocks {
            state.fold(&policy, 0, block, 15_000).unwrap();
        }
        let Pass::Evidence { log_e, .. } = state.pass(&policy, 0) else { panic!("no evidence") };
        log_e
    };
    let of = |th0: f64, b: &Block| {
        let logs = absolute::promote(b, th0, policy.pass_margin(0, 0.005), 1.0);
        log_weighted(&ABSOLUTE_SAFE_WEIGHTS, &logs)
    };
    let first = block(1000, 1, 9000, 27);
    let one = MetricBlock::Counts(first);
    // Nothing is known before the first block, whatever it says itself.
    assert!((state(None, std::slice::from_ref(&one)) - of(0.5, &first)).abs() < 1e-9);
    let past = Arm::new(99_999, 99).unwrap();
    assert!((state(Some(past), std::slice::from_ref(&one)) - of(0.000_995, &first)).abs() < 1e-9);
}

#[test]
fn entering_a_step_again_keeps_the_evidence_of_harm() {
    let policy = policy([success(Some(0.005), None), latency(Some(1.5), None, true)]);
    let mut state = begun(&policy);
    state.fold(&policy, 0, &counts(1000, 60, 9000, 9), 15_000).unwrap();
    state
        .fold(&policy, 1, &slow(500, [450, 350, 150, 40], 4500, [2700, 900, 180, 22]), 15_000)
        .unwrap();
    let before = state.harm(&policy);
    assert!(before.by_metric.iter().all(|m| m.log_e > 5.0));
    state.begin_step(&policy, 0).unwrap();
    assert_eq!(state.harm(&policy), before);
    assert_eq!(state.step_counts(&policy, 0), Some(Block::default()));
}

/// ln e of a block is divided by φ alternative by alternative: a block that is φ times as large, at
/// the same rates, is worth as much as the block was without.
#[test]
fn dispersion_takes_as_many_times_the_requests_in_every_test() {
    let ratio = CountTest { max_failure_ratio: Some(1.5), ..CountTest::default() };
    let one = policy([
        success(Some(0.005), None),
        success(None, Some(0.01)),
        Test::Counts(CountTest { max_drop: Some(0.005), ..ratio }),
        latency(Some(1.5), None, true),
        latency(None, Some(AIM), true),
    ]);
    let mut three = one.clone();
    three.metrics.iter_mut().for_each(|metric| metric.phi = 3.0);
    let fold = |policy: &Policy, times: u64| {
        let mut state = begun(policy);
        let t = times;
        for metric in 0..5 {
            let block = if metric < 3 {
                counts(1000 * t, 20 * t, 9000 * t, 90 * t)
            } else {
                let (canary, stable) = ([400, 200, 90, 30], [2700, 900, 180, 22]);
                slow(500 * t, canary.map(|k| k * t), 4500 * t, stable.map(|k| k * t))
            };
            state.fold(policy, metric, &block, 15_000).unwrap();
        }
        state
    };
    let (plain, tempered) = (fold(&one, 1), fold(&three, 3));
    for metric in 0..5 {
        let [a, b] =
            [plain.harm(&one), tempered.harm(&three)].map(|harm| harm.by_metric[metric].log_e);
        assert!(a.abs() > 0.01 && (a - b).abs() < 1e-9, "harm of {metric}: {a} {b}");
        match (plain.pass(&one, metric), tempered.pass(&three, metric)) {
            (Pass::Evidence { log_e: a, .. }, Pass::Evidence { log_e: b, .. }) => {
                assert!(a.abs() > 0.01 && (a - b).abs() < 1e-9, "pass of {metric}: {a} {b}");
            }
            other => panic!("{other:?}"),
        }
        let shown = [plain.show(&one, metric), tempered.show(&three, metric)];
        let [a, b] = shown.map(|show| show.unwrap());
        let [x, y] = [a, b].map(|show| show.step.unwrap().canary.interval);
        assert!((x.0 - y.0).abs() < 1e-9 && (x.1 - y.1).abs() < 1e-9);
        let [x, y] = [a, b].map(|show| show.ratio.unwrap());
        assert!((x.0 / y.0 - 1.0).abs() < 1e-9 && (x.1 / y.1 - 1.0).abs() < 1e-9);
    }
}

#[test]
fn within_the_tolerated_slowdown_there_is_no_harm() {
    let tolerant = policy([latency(Some(2.0), None, true)]);
    let strict = policy([latency(Some(1.05), None, true)]);
    // Half as many again are slower than each boundary; twice as slow would be far more.
    let block =
        slow(50_000, [45_000, 15_000, 3_000, 375], 450_000, [270_000, 90_000, 18_000, 2_250]);
    let harm = |policy: &Policy| {
        let mut state = begun(policy);
        state.fold(policy, 0, &block, 15_000).unwrap();
        state.harm(policy)
    };
    assert!(!harm(&tolerant).reached && harm(&tolerant).by_metric[0].log_e < 0.0);
    assert!(harm(&strict).reached);
}
