//! Dependence between requests: windows that vote, and what the hedge is for.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use proptest::prelude::*;
use surefoot_stats::grid::{HARM, log_mean};
use surefoot_stats::{
    Arm, Baseline, Block, CountTest, LatencyTest, MetricBlock, MetricPolicy, Objective, Policy,
    Role, SlowArm, SlowBlock, State, Test, share, vote,
};

fn policy(phi: f64, eta: f64, tests: impl IntoIterator<Item = Test>) -> Policy {
    let metric = |test| MetricPolicy { role: Role::Guard, importance: 1.0, phi, eta, test };
    let metrics = tests.into_iter().map(metric).collect();
    let weights = vec![0.1, 0.5, 1.0];
    let policy = Policy { false_rollback: 0.01, false_pass: 0.05, weights, metrics };
    policy.validate().unwrap();
    policy
}

/// No tolerance: only "no more than stable".
fn equal(phi: f64, eta: f64) -> Policy {
    policy(phi, eta, [Test::Counts(CountTest::default())])
}

fn block(n1: u64, k1: u64, n0: u64, k0: u64) -> Block {
    Block::new(Arm::new(n1, k1).unwrap(), Arm::new(n0, k0).unwrap())
}

fn begun(policy: &Policy) -> State {
    let mut state = State::new(policy);
    state.begin_step(policy, 0).unwrap();
    state
}

fn fold(state: &mut State, policy: &Policy, block: Block, millis: u64) {
    state.fold(policy, 0, &MetricBlock::Counts(block), millis).unwrap();
}

/// ln of the evidence since the first of three steps.
fn since_first(state: &State, policy: &Policy) -> f64 {
    (3.0 * state.harm(policy).by_metric[0].log_e.exp() - 2.0).ln()
}

/// ln E of requests and votes, of whole windows.
fn parts(windows: &[Block], phi: f64) -> (f64, f64) {
    let sum = |log: &dyn Fn(&Block) -> [f64; HARM.len()]| {
        let logs = windows
            .iter()
            .map(log)
            .fold([0.0; HARM.len()], |sum, more| std::array::from_fn(|i| sum[i] + more[i]));
        log_mean(&logs)
    };
    (sum(&|b| share::harm(b, 1.0, &HARM, phi)), sum(&|b| vote::harm(b, 1.0, &HARM)))
}

#[test]
fn four_blocks_of_a_quarter_of_a_minute_are_one_vote() {
    let policy = equal(2.0, 0.5);
    let mut state = begun(&policy);
    for k1 in [0, 5, 1, 0] {
        fold(&mut state, &policy, block(100, k1, 900, 1), 15_000);
    }
    let (requests, votes) = parts(&[block(400, 6, 3600, 4)], 2.0);
    assert!(votes > 0.1);
    assert!((since_first(&state, &policy) - log_mean(&[requests, 0.5 * votes])).abs() < 1e-9);
}

#[test]
fn a_window_that_is_not_over_only_speaks_against_harm() {
    let policy = equal(1.0, 1.0);
    for (window, expected) in [(block(100, 9, 900, 1), 0.0), (block(100, 0, 900, 10), f64::NAN)] {
        let mut state = begun(&policy);
        fold(&mut state, &policy, window, 59_999);
        let (requests, votes) = parts(&[window], 1.0);
        let counted = if expected.is_nan() { votes } else { expected };
        assert_eq!(counted < 0.0, window.canary.k() == 0);
        let have = since_first(&state, &policy);
        assert!((have - log_mean(&[requests, counted])).abs() < 1e-9);
        // A step that ends cuts it short in the same way, for good.
        state.begin_step(&policy, 1).unwrap();
        assert!((since_first(&state, &policy) - have).abs() < 1e-12);
        // A minute of its own begins: the one before is not part of it.
        fold(&mut state, &policy, block(500, 3, 500, 3), 59_999);
        let second = block(500, 3, 500, 3);
        let both = share::harm(&second, 1.0, &HARM, 1.0);
        let first = share::harm(&window, 1.0, &HARM, 1.0);
        let requests: [f64; HARM.len()] = std::array::from_fn(|i| first[i] + both[i]);
        let votes =
            vote::harm(&window, 1.0, &HARM).map(|log| if counted < 0.0 { log } else { 0.0 });
        let later = vote::harm(&second, 1.0, &HARM).map(|log| log.min(0.0));
        let voted: [f64; HARM.len()] = std::array::from_fn(|i| votes[i] + later[i]);
        let since_zero = log_mean(&[log_mean(&requests), log_mean(&voted)]);
        let since_one = log_mean(&[log_mean(&both), log_mean(&later)]);
        let expected = log_mean(&[since_zero, since_one, 0.0]);
        assert!((state.harm(&policy).by_metric[0].log_e - expected).abs() < 1e-9);
    }
}

#[test]
fn a_drop_beyond_its_tolerance_must_also_be_more_than_stable_fails() {
    let drop = CountTest { max_drop: Some(0.005), ..CountTest::default() };
    let policy = policy(3.0, 1.0, [Test::Counts(drop), Test::Counts(CountTest::default())]);
    let mut state = begun(&policy);
    for _ in 0..20 {
        for metric in 0..2 {
            let minute = MetricBlock::Counts(block(1000, 40, 9000, 90));
            state.fold(&policy, metric, &minute, 60_000).unwrap();
        }
    }
    let harm = state.harm(&policy);
    assert!(harm.reached && harm.by_metric[0].log_e <= harm.by_metric[1].log_e + 1e-9);
}

#[test]
fn a_ratio_is_not_voted_on_where_failures_are_common() {
    let ratio = CountTest { max_failure_ratio: Some(2.0), ..CountTest::default() };
    let policy = policy(1.0, 1.0, [Test::Counts(ratio)]);
    let votes = |past: Arm| {
        let mut state = State::new(&policy);
        state.seed(0, past).unwrap();
        state.begin_step(&policy, 0).unwrap();
        let window = block(1000, 60, 9000, 90);
        fold(&mut state, &policy, window, 60_000);
        let requests = log_mean(&share::harm(&window, 2.0, &HARM, 1.0));
        2.0 * since_first(&state, &policy).exp() - requests.exp()
    };
    let known = votes(Arm::new(100_000, 2_400).unwrap());
    let window = block(1000, 60, 9000, 90);
    let expected = log_mean(&vote::harm(&window, 2.0, &HARM)).exp();
    assert!((known / expected - 1.0).abs() < 1e-6 && expected > 1.2, "{known} {expected}");
    for past in [Arm::new(100_000, 2_600).unwrap(), Arm::default()] {
        assert!((votes(past) - 1.0).abs() < 1e-6);
    }
}

#[test]
fn a_latency_is_voted_on_where_few_are_slow() {
    let boundaries = vec![50.0, 100.0, 250.0, 500.0];
    let past = SlowArm::new(100_000, vec![60_000, 20_000, 1_000, 200]).unwrap();
    let known = LatencyTest {
        max_slowdown: Some(1.5),
        objective: None,
        baseline: Baseline::new(boundaries.clone(), past).ok(),
        boundaries: boundaries.clone(),
    };
    // 20% slower than 100 ms are too many.
    assert_eq!(known.harm_margins().map(|(i, _)| i).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(known.vote_margins().map(|(i, _)| i).collect::<Vec<_>>(), [2, 3]);
    let watched = LatencyTest { boundaries, ..LatencyTest::default() };
    assert_eq!(watched.vote_margins().count(), 4);
    // φ makes requests nearly blind; a canary that has all the slow ones is seen by its votes.
    let policy = policy(1000.0, 1.0, [Test::Latency(known)]);
    let mut state = begun(&policy);
    for _ in 0..10 {
        let canary = SlowArm::new(500, vec![300, 100, 90, 80]).unwrap();
        let stable = SlowArm::new(4500, vec![2700, 900, 0, 0]).unwrap();
        let block = MetricBlock::Latency(SlowBlock::new(canary, stable).unwrap());
        state.fold(&policy, 0, &block, 60_000).unwrap();
    }
    assert!(state.harm(&policy).reached);
}

/// SplitMix64.
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}

/// φ of the bursts below: Σk²/Σk.
const PHI: f64 = (0.95 * 25.0 + 0.05 * 1e6) / (0.95 * 5.0 + 0.05 * 1000.0);

/// Hours at weight 10 in which failures come five at once, in every third quarter of a minute, and
/// one time in twenty a thousand; the canary begins `worse` times its share of these bursts. How many of 200 hours are rolled back by
/// requests as they are, by requests tempered as much as the bursts are large, and by the hedge.
fn bursty(worse: u64) -> [u32; 3] {
    let threshold = 100f64.ln();
    let mut chance = Chance(7);
    let mut rolled_back = [0; 3];
    for _ in 0..200 {
        let policy = equal(PHI, 1.0);
        let mut state = begun(&policy);
        let mut logs = [[0.0; HARM.len()]; 2];
        let mut reached = [false; 3];
        for _ in 0..240 {
            let burst = match (chance.below(3), chance.below(20)) {
                (0, 0) => 1000,
                (0, _) => 5,
                _ => 0,
            };
            let canary = chance.below(9 + worse) < worse;
            let (k1, k0) = if canary { (burst, 0) } else { (0, burst) };
            let quarter = block(1000, k1, 9000, k0);
            for ((logs, phi), reached) in logs.iter_mut().zip([1.0, PHI]).zip(&mut reached) {
                let more = share::harm(&quarter, 1.0, &HARM, phi);
                logs.iter_mut().zip(more).for_each(|(log, more)| *log += more);
                *reached |= log_mean(logs) >= threshold;
            }
            fold(&mut state, &policy, quarter, 15_000);
        }
        reached[2] = state.harm(&policy).reached;
        rolled_back.iter_mut().zip(reached).for_each(|(n, reached)| *n += u32::from(reached));
    }
    rolled_back
}

#[test]
fn bursts_alone_roll_back_nothing() {
    let [raw, _, hedged] = bursty(1);
    assert!(raw > 60, "bursts fool requests that are taken as independent: {raw} of 200");
    assert!(hedged <= 2, "{hedged} of 200");
}

#[test]
fn a_regression_among_bursts_is_found() {
    let [_, tempered, hedged] = bursty(6);
    assert!(tempered < 40, "dispersion makes requests nearly blind: {tempered} of 200");
    assert!(hedged >= 190, "{hedged} of 200");
}

proptest! {
    #[test]
    fn splitting_a_minute_or_turning_it_around_changes_nothing_of_share_tests(
        parts in prop::collection::vec((0_u64..=20, 0_u64..=60), 4), phi in 1.0..10.0_f64,
    ) {
        // The shares of requests stay the same: 100 to 900 in each part.
        let policy = equal(phi, 0.7);
        let of = |blocks: &mut dyn Iterator<Item = Block>, millis: u64| {
            let mut state = begun(&policy);
            blocks.for_each(|b| fold(&mut state, &policy, b, millis));
            state.harm(&policy).by_metric[0].log_e
        };
        let quarter = |(k1, k0): &(u64, u64)| block(100, *k1, 900, *k0);
        let split = of(&mut parts.iter().map(quarter), 15_000);
        let turned = of(&mut parts.iter().rev().map(quarter), 15_000);
        let whole = parts.iter().map(quarter).reduce(|a, b| a.checked_add(b).unwrap());
        let whole = of(&mut whole.into_iter(), 60_000);
        prop_assert!((split - whole).abs() < 1e-9 * (1.0 + whole.abs()), "{split} {whole}");
        prop_assert!((split - turned).abs() < 1e-9 * (1.0 + whole.abs()));
    }

    #[test]
    fn the_order_of_minutes_does_not_matter_for_share_tests(
        minutes in prop::collection::vec((1_u64..1000, 0_u64..=20, 1_u64..1000, 0_u64..=20), 1..8),
    ) {
        let policy = equal(3.0, 1.0);
        let of = |minutes: &mut dyn Iterator<Item = &(u64, u64, u64, u64)>| {
            let mut state = begun(&policy);
            minutes.for_each(|(n1, k1, n0, k0)| {
                fold(&mut state, &policy, block(*n1, *k1.min(n1), *n0, *k0.min(n0)), 60_000);
            });
            state.harm(&policy).by_metric[0].log_e
        };
        let (one, two) = (of(&mut minutes.iter()), of(&mut minutes.iter().rev()));
        prop_assert!((one - two).abs() < 1e-9 * (1.0 + one.abs()));
    }

    #[test]
    fn a_state_survives_storing_at_any_time_and_stays_within_its_bound(
        n1 in 0_u64..1_000_000_000_000, n0 in 0_u64..1_000_000_000_000,
        f1 in 0.0..=1.0_f64, f0 in 0.0..=1.0_f64, millis in 0_u64..100_000,
        steps in 1_usize..=20, boundaries in 1_usize..=15, eta in 0.01..=1.0_f64,
    ) {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "counts")]
        let part = |n: u64, f: f64| ((n as f64 * f) as u64).min(n);
        let slow = |n, f: f64| {
            let slower = (1..=boundaries).map(|i| part(n, f) / i as u64).collect();
            SlowArm::new(n, slower).unwrap()
        };
        let rising: Vec<f64> = (1..=boundaries).map(|i| i as f64 * 10.0).collect();
        let latency = |max_slowdown| Test::Latency(LatencyTest {
            max_slowdown,
            objective: Some(Objective { threshold_ms: 15.0, percentile: 0.99 }),
            baseline: Baseline::new(rising.clone(), slow(1_000_000, 0.1)).ok(),
            boundaries: rising.clone(),
        });
        let all = CountTest { max_drop: Some(0.005), max_failure_ratio: Some(1.5), max_failure_rate: Some(0.01) };
        let mut policy = policy(3.0, eta, [Test::Counts(all), latency(Some(1.5)), latency(None)]);
        policy.weights = (1..=steps).map(|i| i as f64 / steps as f64).collect();
        let counts = MetricBlock::Counts(block(n1, part(n1, f1), n0, part(n0, f0)));
        let slow = MetricBlock::Latency(SlowBlock::new(slow(n1, f1), slow(n0, f0)).unwrap());
        let (mut state, mut stored) = (State::new(&policy), State::new(&policy));
        for step in 0..steps {
            for state in [&mut state, &mut stored] {
                state.begin_step(&policy, step).unwrap();
                for _ in 0..2 {
                    for (metric, block) in [&counts, &slow, &slow].into_iter().enumerate() {
                        state.fold(&policy, metric, block, millis).unwrap();
                    }
                }
            }
            let bytes = postcard::to_allocvec(&stored).unwrap();
            prop_assert!(bytes.len() <= policy.state_bytes_bound());
            stored = postcard::from_bytes(&bytes).unwrap();
        }
        prop_assert_eq!(&state, &stored);
        let harm = state.harm(&policy);
        prop_assert!(harm.by_metric.iter().all(|m| m.log_e.is_finite()));
        // With the engine's own the rest of a release of two metrics and 20 steps: 64 kB in base64.
        policy.metrics.truncate(2);
        prop_assert!(policy.state_bytes_bound() < 46 * 1024, "{}", policy.state_bytes_bound());
    }
}
