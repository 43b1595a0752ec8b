//! What makes the tests honest: no expectation above 1 anywhere on the null's edge, by exact
//! enumeration; finite numbers everywhere; and the policy as a whole on simulated releases.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use proptest::prelude::*;
use surefoot_stats::grid::{ABSOLUTE, HARM, OBJECTIVE_SAFE, SAFE};
use surefoot_stats::{
    Arm, Baseline, Block, CountTest, LatencyTest, MetricBlock, MetricPolicy, Pass, Policy, Role,
    SlowArm, SlowBlock, State, Test, Unmeasurable, absolute, interval, objective, share,
};

/// Chance of k of n at rate p.
fn binomial(n: u64, k: u64, p: f64) -> f64 {
    let ways = (0..k).fold(1.0, |ways, i| ways * (n - i) as f64 / (i + 1) as f64);
    ways * p.powi(k as i32) * (1.0 - p).powi((n - k) as i32)
}

/// Expectation over all outcomes of a block.
fn expectation(n1: u64, n0: u64, p1: f64, p0: f64, log_e: impl Fn(&Block) -> f64) -> f64 {
    let mut sum = 0.0;
    for k1 in 0..=n1 {
        for k0 in 0..=n0 {
            let e = log_e(&block(n1, k1, n0, k0)).exp();
            sum += binomial(n1, k1, p1) * binomial(n0, k0, p0) * e;
        }
    }
    sum
}

const SIZES: [(u64, u64); 7] = [(0, 5), (5, 0), (1, 1), (2, 6), (6, 2), (5, 5), (8, 3)];
const RATES: [f64; 7] = [0.0, 0.001, 0.05, 0.2, 0.4, 0.5, 1.0];

#[test]
fn no_expectation_exceeds_one_on_the_edge_of_a_null() {
    let mut checked = 0;
    let mut check = |name: &str, e: f64| {
        assert!(e <= 1.0 + 1e-9, "{name}: expectation {e}");
        checked += 1;
    };
    for (n1, n0) in SIZES {
        for p0 in RATES {
            for r0 in [1.0, 1.5, 2.0] {
                let p1 = r0 * p0;
                if p1 <= 1.0 {
                    for ratio in HARM.iter().map(|h| h * r0).chain(SAFE) {
                        let e = expectation(n1, n0, p1, p0, |b| share::log_e(b, r0, ratio));
                        check("share", e);
                    }
                }
            }
            for d in [0.005, 0.1, 0.3] {
                let p1 = p0 + d;
                if p1 <= 1.0 {
                    for predicted in [1e-6, 0.01, 0.3] {
                        let harm = ABSOLUTE.iter().map(|h| (predicted + d * h).min(1.0));
                        let safe = [predicted / 2.0, predicted, predicted + d / 4.0];
                        for th1 in harm.chain(safe) {
                            let e = expectation(n1, n0, p1, p0, |b| {
                                absolute::log_e(b, th1, predicted, d)
                            });
                            check("absolute", e);
                        }
                    }
                }
            }
        }
        for p in [0.001, 0.05, 0.5, 0.9] {
            for factor in HARM.iter().chain(&OBJECTIVE_SAFE) {
                let e = expectation(n1, n0, p, 0.1, |b| objective::log_e(b.canary, p, *factor));
                check("objective", e);
            }
        }
    }
    assert!(checked > 4000, "{checked}");
}

fn counts(drop: f64) -> Policy {
    Policy {
        false_rollback: 0.01,
        false_pass: 0.05,
        weights: vec![0.1, 0.5, 1.0],
        metrics: vec![MetricPolicy {
            role: Role::Required,
            importance: 1.0,
            phi: 3.0,
            eta: 1.0,
            test: Test::Counts(CountTest { max_drop: Some(drop), ..CountTest::default() }),
        }],
    }
}

fn block(n1: u64, k1: u64, n0: u64, k0: u64) -> Block {
    Block::new(arm(n1, k1), arm(n0, k0))
}

fn arm(n: u64, k: u64) -> Arm {
    Arm::new(n, k).unwrap()
}

/// At the first step, with stable's past known.
fn begun(policy: &Policy, past: Arm) -> State {
    let mut state = State::new(policy);
    state.seed_crash_guard(past).unwrap();
    state.seed(0, past).unwrap();
    state.begin_step(policy, 0).unwrap();
    state
}

fn fold(state: &mut State, policy: &Policy, block: Block) {
    state.fold(policy, 0, &MetricBlock::Counts(block), 15_000).unwrap();
}

#[test]
fn the_crash_guard_stops_in_as_many_requests_as_promised() {
    // One canary request in ten, stable without failures; one block a canary request.
    let needed = |fails: fn(u64) -> bool| {
        let policy = counts(0.005);
        let mut state = begun(&policy, arm(10_000, 0));
        (1..200)
            .find(|i| {
                state.fold_crash_guard(&policy, &block(1, u64::from(fails(*i)), 9, 0)).unwrap();
                state.harm(&policy).reached
            })
            .unwrap()
    };
    let all = needed(|_| true);
    assert!((6..=7).contains(&all), "{all}");
    let half = needed(|i| i % 2 == 1);
    assert!((17..=21).contains(&half), "{half}");
}

#[test]
fn cold_starts_of_a_few_per_cent_never_fire_the_crash_guard() {
    let policy = counts(0.5);
    let mut state = begun(&policy, arm(10_000, 10));
    for i in 0..2000 {
        state.fold_crash_guard(&policy, &block(20, u64::from(i % 2 == 0) * 2, 180, 0)).unwrap();
        assert!(!state.harm(&policy).reached);
    }
}

/// A small deterministic generator (xorshift64*), so that the simulation is the same everywhere.
struct Dice(u64);

impl Dice {
    fn uniform(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) as f64 / (1u64 << 53) as f64
    }
    fn of(&mut self, n: u64, p: f64) -> u64 {
        (0..n).filter(|_| self.uniform() < p).count() as u64
    }
}

/// Whether a release at 10% then 50% is rolled back; 40 blocks of 100 requests a step.
fn rolled_back(seed: u64, p0: f64, p1: [f64; 2]) -> bool {
    let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let policy = counts(0.005);
    let mut state = begun(&policy, arm(1000, dice.of(1000, p0)));
    for (step, canary) in [(0, 10), (1, 50)] {
        if step > 0 {
            state.begin_step(&policy, step).unwrap();
        }
        for _ in 0..40 {
            let stable = 100 - canary;
            let b = block(canary, dice.of(canary, p1[step]), stable, dice.of(stable, p0));
            fold(&mut state, &policy, b);
            state.fold_crash_guard(&policy, &b).unwrap();
            if state.harm(&policy).reached {
                return true;
            }
        }
    }
    false
}

#[test]
fn good_releases_are_rarely_rolled_back_and_bad_ones_mostly() {
    let rate = |p0, p1| (0..300).filter(|seed| rolled_back(*seed, p0, p1)).count();
    assert!(rate(0.01, [0.01, 0.01]) <= 3, "more than 1% of good releases");
    assert!(rate(0.001, [0.2, 0.2]) >= 295);
    // What begins at the second step is not hidden by the first.
    assert!(rate(0.001, [0.001, 0.15]) >= 295);
}

#[test]
fn evidence_of_safety_begins_anew_at_each_step() {
    let policy = counts(0.05);
    let mut state = begun(&policy, arm(1000, 1));
    fold(&mut state, &policy, block(2000, 2, 18000, 18));
    assert!(state.pass(&policy, 0).reached());
    state.begin_step(&policy, 1).unwrap();
    assert!(!state.pass(&policy, 0).reached(), "the pass of one step counted for the next");
    state.begin_step(&policy, 2).unwrap();
    assert_eq!(state.pass(&policy, 0), Pass::NoStableTraffic);
}

#[test]
fn latency_needs_a_boundary_that_tells() {
    let past = SlowArm::new(1000, vec![1000, 300, 60, 0]).unwrap();
    let baseline = Baseline::new(vec![5.0, 10.0, 25.0, 50.0], past).unwrap();
    assert_eq!(baseline.pass_boundary(1.5).map(|(boundary, _)| boundary), Some(2));
    let test = |baseline| {
        Test::Latency(LatencyTest {
            boundaries: vec![5.0, 10.0, 25.0, 50.0],
            max_slowdown: Some(1.5),
            objective: None,
            baseline,
        })
    };
    let policy = |test| Policy {
        metrics: vec![MetricPolicy {
            role: Role::Required,
            importance: 1.0,
            phi: 3.0,
            eta: 1.0,
            test,
        }],
        ..counts(0.1)
    };
    let known = policy(test(Some(baseline)));
    let mut state = begun(&known, Arm::default());
    let slow = |slower: u64| {
        let canary = SlowArm::new(100, vec![100, slower.max(30), slower, 0]).unwrap();
        let stable = SlowArm::new(900, vec![900, 270, 54, 0]).unwrap();
        MetricBlock::Latency(SlowBlock::new(canary, stable).unwrap())
    };
    for _ in 0..40 {
        state.fold(&known, 0, &slow(6), 15_000).unwrap();
    }
    assert!(state.pass(&known, 0).reached(), "{:?}", state.pass(&known, 0));
    assert!(!state.harm(&known).reached);
    for _ in 0..40 {
        state.fold(&known, 0, &slow(60), 15_000).unwrap();
    }
    assert!(state.harm(&known).reached);
    let unknown = policy(test(None));
    assert_eq!(
        begun(&unknown, Arm::default()).pass(&unknown, 0),
        Pass::NotMeasurable(Unmeasurable::NoBaseline)
    );
}

proptest! {
    #[test]
    fn numbers_stay_finite(
        n1 in 0u64..1_000_000_000_000, n0 in 0u64..1_000_000_000_000,
        f1 in 0.0f64..=1.0, f0 in 0.0f64..=1.0, again in 1usize..5,
    ) {
        let k = |n: u64, f: f64| ((n as f64 * f) as u64).min(n);
        let b = block(n1, k(n1, f1), n0, k(n0, f0));
        let policy = Policy { metrics: vec![MetricPolicy {
            role: Role::Required, importance: 1.0, phi: 3.0, eta: 1.0,
            test: Test::Counts(CountTest { max_drop: Some(0.005), max_failure_ratio: Some(1.5), max_failure_rate: Some(0.01) }),
        }], ..counts(0.005) };
        let mut state = begun(&policy, Arm::default());
        for _ in 0..again {
            fold(&mut state, &policy, b);
            state.fold_crash_guard(&policy, &b).unwrap();
        }
        let harm = state.harm(&policy);
        prop_assert!(!harm.log_e.is_nan() && harm.log_e < f64::INFINITY);
        match state.pass(&policy, 0) {
            Pass::Evidence { log_e, .. } => prop_assert!(!log_e.is_nan() && log_e < f64::INFINITY),
            other => prop_assert!(false, "{other:?}"),
        }
        let (low, high) = interval::rate(b.canary, 0.01, 1.0);
        prop_assert!((0.0..=1.0).contains(&low) && (0.0..=1.0).contains(&high) && low <= high);
        prop_assert!(b.canary.rate().is_none_or(|rate| low <= rate + 1e-12));
        let bytes = postcard::to_allocvec(&state).unwrap();
        prop_assert!(bytes.len() <= policy.state_bytes_bound());
        prop_assert_eq!(postcard::from_bytes::<State>(&bytes).unwrap(), state);
    }
}
