//! Simulated releases: the bounds hold over whole releases, looked at after every block, and what
//! is clearly worse is caught. Seeded: the same numbers every time.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod chance;

use chance::Chance;
use surefoot_stats::{Block, CountTest, MetricBlock, MetricPolicy, Policy, Role, State, Test};

const WEIGHTS: [f64; 3] = [0.1, 0.5, 1.0];
const BLOCKS: usize = 25;

fn policy(test: CountTest) -> Policy {
    let metric = MetricPolicy {
        role: Role::Required,
        importance: 1.0,
        phi: 1.0,
        eta: 1.0,
        test: Test::Counts(test),
    };
    let policy = Policy {
        false_rollback: 0.01,
        false_pass: 0.05,
        weights: WEIGHTS.to_vec(),
        metrics: vec![metric],
    };
    policy.validate().unwrap();
    policy
}

/// How a release of 25 blocks at weight 10 and as many at 50 ended.
#[derive(Debug, Clone, Copy, Default)]
struct Ended {
    rolled_back: bool,
    /// Whether each step passed at some look.
    passed: [bool; 2],
}

/// `rates` gives (canary, stable) at a step and block of it.
fn release(
    policy: &Policy,
    chance: &mut Chance,
    requests: f64,
    rates: impl Fn(usize, usize) -> (f64, f64),
) -> Ended {
    let (mut state, mut ended) = (State::new(policy), Ended::default());
    for (step, weight) in WEIGHTS.into_iter().enumerate().take(2) {
        state.begin_step(policy, step).unwrap();
        for i in 0..BLOCKS {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small")]
            let [n1, n0] = [weight, 1.0 - weight].map(|w| (requests * w) as u64);
            let (p1, p0) = rates(step, i);
            let block = Block::new(chance.arm(n1, p1), chance.arm(n0, p0));
            state.fold_crash_guard(policy, &block).unwrap();
            state.fold(policy, 0, &MetricBlock::Counts(block), 15_000).unwrap();
            ended.passed[step] |= state.pass(policy, 0).reached();
        }
    }
    // Latched: it remembers every look.
    ended.rolled_back = state.harm(policy).reached;
    ended
}

fn share_of(runs: usize, mut happened: impl FnMut() -> bool) -> f64 {
    let count = (0..runs).filter(|_| happened()).count();
    f64::from(u32::try_from(count).unwrap()) / f64::from(u32::try_from(runs).unwrap())
}

const DROP: CountTest =
    CountTest { max_drop: Some(0.005), max_failure_ratio: None, max_failure_rate: None };
const ALL: CountTest =
    CountTest { max_drop: Some(0.005), max_failure_ratio: Some(1.5), max_failure_rate: Some(0.02) };

#[test]
fn a_release_that_is_not_worse_is_seldom_rolled_back() {
    let mut chance = Chance(1);
    // Drifting together, over tenfold, cancels.
    let drifting = |_, i: usize| if i % 10 < 5 { (0.001, 0.001) } else { (0.01, 0.01) };
    for test in [DROP, ALL, CountTest { max_failure_rate: Some(0.005), ..CountTest::default() }] {
        let policy = policy(test);
        let wrong = share_of(200, || release(&policy, &mut chance, 2000.0, drifting).rolled_back);
        assert!(wrong <= 0.015, "{wrong}");
        // At the very edge of the tolerance.
        let edge = share_of(200, || {
            release(&policy, &mut chance, 2000.0, |_, _| (0.0069, 0.002)).rolled_back
        });
        assert!(test.max_drop.is_none() || edge <= 0.015, "{edge}");
    }
}

#[test]
fn a_clear_regression_is_rolled_back() {
    let mut chance = Chance(2);
    for test in [DROP, ALL] {
        let policy = policy(test);
        let caught = share_of(60, || {
            release(&policy, &mut chance, 2000.0, |_, _| (0.03, 0.002)).rolled_back
        });
        assert!(caught >= 0.99, "{caught}");
        // One that starts with the second step is caught as well.
        let late = |step, _| if step == 0 { (0.002, 0.002) } else { (0.03, 0.002) };
        let caught = share_of(60, || release(&policy, &mut chance, 2000.0, late).rolled_back);
        assert!(caught >= 0.99, "{caught}");
    }
}

#[test]
fn what_is_beyond_the_tolerance_seldom_passes_and_what_is_equal_does() {
    let mut chance = Chance(3);
    let policy = policy(DROP);
    // 0.5 points over the next step's half of the traffic: 1 point at the first step.
    let edges = [(0, 0.012), (1, 0.007)];
    for (step, p1) in edges {
        let passed = share_of(200, || {
            release(&policy, &mut chance, 2000.0, |_, _| (p1, 0.002)).passed[step]
        });
        assert!(passed <= 0.06, "step {step}: {passed}");
        let equal = share_of(60, || {
            release(&policy, &mut chance, 2000.0, |_, _| (0.002, 0.002)).passed[step]
        });
        assert!(equal >= 0.95, "step {step}: {equal}");
    }
}

#[test]
fn cold_starts_do_not_fire_the_crash_guard() {
    let mut chance = Chance(4);
    let policy = policy(DROP);
    let fired = share_of(200, || {
        let mut state = State::new(&policy);
        for i in 0..40 {
            let cold = if i < 12 { 0.05 } else { 0.002 };
            let block = Block::new(chance.arm(200, cold), chance.arm(1800, 0.002));
            state.fold_crash_guard(&policy, &block).unwrap();
        }
        state.harm(&policy).reached
    });
    assert_eq!(fired, 0.0);
}
