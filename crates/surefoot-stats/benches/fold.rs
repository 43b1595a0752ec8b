//! What folding a block costs, beside the plainest loop over f64 that does the same sums, and how
//! often it allocates. `cargo bench --package surefoot-stats`.
#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "a benchmark")]

use std::hint::black_box;
use std::slice::from_ref;
use std::time::Instant;

use surefoot_stats::grid::{ABSOLUTE, HARM, SLOW};
use surefoot_stats::{
    Arm, Baseline, Block, CountTest, LatencyTest, MetricBlock, MetricPolicy, Policy, Role, SlowArm,
    SlowBlock, State, Test,
};

/// Blocks of a step of ten minutes: evidence is as near to 1 as it is in a release.
const STEP: u32 = 48;
const STEPS: u32 = 4_000;
const BOUNDARIES: [f64; 15] = [
    0.5, 1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0, 10_000.0,
    30_000.0, 60_000.0,
];

/// All of them guards: what is folded is the same, and a guard may be without anything to pass by.
fn policy(tests: Vec<Test>) -> Policy {
    let metric =
        |test| MetricPolicy { role: Role::Guard, importance: 1.0, phi: 3.0, eta: 1.0, test };
    let metrics = tests.into_iter().map(metric).collect();
    let weights = vec![0.1, 0.5, 1.0];
    Policy { false_rollback: 0.01, false_pass: 0.05, weights, metrics }
}

/// n requests of which half as many are slower than each boundary as than the one before.
fn slow(n: u64) -> SlowArm {
    SlowArm::new(n, (1..=BOUNDARIES.len()).map(|i| n >> i).collect()).unwrap()
}

/// Best nanoseconds of a call, of five runs; each step is begun with what `start` makes.
fn nanos<S>(start: impl Fn() -> S, mut call: impl FnMut(&mut S)) -> f64 {
    let mut run = || {
        let step = |_| {
            let mut state = start();
            let begin = Instant::now();
            (0..STEP).for_each(|_| call(&mut state));
            begin.elapsed().as_secs_f64()
        };
        (0..STEPS).map(step).sum::<f64>() * 1e9 / f64::from(STEP * STEPS)
    };
    (0..5).map(|_| run()).fold(f64::INFINITY, f64::min)
}

/// The share test's sums, nothing checked, nothing mixed: the floor.
fn share_loop(logs: &mut [f64], grid: &[f64], [n1, k1, n0, k0]: [f64; 4]) {
    for (log, r) in logs.iter_mut().zip(grid) {
        *log += (k1 * r.ln() - (k1 + k0) * ((r * n1 + n0) / (n1 + n0)).ln()) / 3.0;
    }
}

/// The absolute test's.
fn absolute_loop(logs: &mut [f64], [n1, k1, n0, k0]: [f64; 4]) {
    let (th0, d, n) = (0.001, 0.005, n1 + n0);
    for (log, h) in logs.iter_mut().zip(&ABSOLUTE) {
        let th1 = th0 + d * h;
        let b = n * d - n1 * th1 - n0 * th0;
        let t = (-b + (b * b + 4.0 * n * n0 * th0 * d).sqrt()) / (2.0 * n);
        let stable = k0 * (th0 / t).ln() - n0 * (th0 - t);
        *log += (k1 * (th1 / (t + d)).ln() - n1 * (th1 - t - d) + stable) / 3.0;
    }
}

/// Fold `blocks` into all metrics of a policy.
fn measure(name: &str, policy: &Policy, blocks: &[MetricBlock], mut floor: impl FnMut()) {
    policy.validate().unwrap();
    let start = || {
        let mut state = State::new(policy);
        for (i, block) in blocks.iter().enumerate() {
            if matches!(block, MetricBlock::Counts(_)) {
                state.seed(i, Arm::new(1_000_000, 1_000).unwrap()).unwrap();
            }
        }
        state.begin_step(policy, 0).unwrap();
        state
    };
    let fold = |state: &mut State| {
        for (i, block) in blocks.iter().enumerate() {
            state.fold(policy, i, black_box(block), 15_000).unwrap();
        }
    };
    let mut state = start();
    let allocated = allocation_counter::measure(|| (0..1000).for_each(|_| fold(&mut state)));
    let per_block = 1.0 / blocks.len() as f64;
    let (fold, floor) = (nanos(start, fold) * per_block, nanos(|| (), |()| floor()) * per_block);
    println!(
        "{name}: {fold:.0} ns a block, plain loop {floor:.0} ns, ratio {:.2}; {} allocations a fold",
        fold / floor,
        allocated.count_total / 1000
    );
}

/// The same over a whole release as `surefoot judges` plays it: three steps of eight minutes at 40
/// requests a second, each kept as evidence beside the next.
fn release(policy: &Policy) {
    const EACH: u32 = 32;
    const RELEASES: u32 = 4_000;
    let mut seed = 7_u64;
    // Blocks differ from one another as draws do, and no time goes into drawing them.
    let mut draw = |n: u64, share: f64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let noise = (seed >> 40) as f64 / f64::from(1_u32 << 24);
        ((n as f64 * share + noise * 2.0 - 0.5).max(0.0) as u64).min(n)
    };
    let mut step = |weight: f64| -> Vec<[MetricBlock; 3]> {
        let canary = (600.0 * weight) as u64;
        let arms = [canary, 600 - canary];
        let block = |_| {
            let mut counts = |share| {
                let [canary, stable] = arms.map(|n| Arm::new(n, draw(n, share)).unwrap());
                MetricBlock::Counts(Block::new(canary, stable))
            };
            let (failed, abandoned) = (counts(0.003), counts(0.001));
            let [canary, stable] = arms.map(slow);
            let slow = MetricBlock::Latency(SlowBlock::new(canary, stable).unwrap());
            [failed, abandoned, slow]
        };
        (0..EACH).map(block).collect()
    };
    let steps = [step(0.1), step(0.5), step(1.0)];
    let run = || {
        let mut state = State::new(policy);
        state.seed(0, Arm::new(1_000_000, 3_000).unwrap()).unwrap();
        let begin = Instant::now();
        for (index, blocks) in steps.iter().enumerate() {
            state.begin_step(policy, index).unwrap();
            for metrics in blocks {
                for (i, block) in metrics.iter().enumerate() {
                    state.fold(policy, i, black_box(block), 15_000).unwrap();
                }
            }
        }
        begin.elapsed().as_secs_f64()
    };
    let best = || (0..RELEASES).map(|_| run()).sum::<f64>() / f64::from(RELEASES);
    let best = (0..5).map(|_| best()).fold(f64::INFINITY, f64::min);
    let folds = f64::from(EACH * 3) * 3.0;
    println!("a release of three steps: {:.0} ns a metric and block", best * 1e9 / folds);
}

fn main() {
    let counts =
        MetricBlock::Counts(Block::new(Arm::new(150, 2).unwrap(), Arm::new(1350, 3).unwrap()));
    let plain = [150.0, 2.0, 1350.0, 3.0];
    let success = Test::Counts(CountTest { max_drop: Some(0.005), ..CountTest::default() });
    let abandoned =
        Test::Counts(CountTest { max_failure_ratio: Some(1.0), ..CountTest::default() });
    let (mut one, mut two) = ([0.0; HARM.len()], [0.0; ABSOLUTE.len()]);
    let mut share = || share_loop(black_box(&mut one), &HARM, black_box(plain));
    let mut absolute = || absolute_loop(black_box(&mut two), black_box(plain));
    let slowdown = LatencyTest {
        max_slowdown: Some(1.5),
        objective: None,
        baseline: Baseline::new(BOUNDARIES.to_vec(), slow(1_000_000)).ok(),
        boundaries: BOUNDARIES.to_vec(),
    };
    let mut logs = vec![[0.0; SLOW.len()]; slowdown.harm_margins().count()];
    let mut shares = || {
        for logs in &mut logs {
            share_loop(black_box(logs), &SLOW, black_box(plain));
        }
    };
    let latencies = MetricBlock::Latency(SlowBlock::new(slow(150), slow(1350)).unwrap());
    let latency = Test::Latency(slowdown);

    measure("success rate", &policy(vec![success.clone()]), from_ref(&counts), || {
        share();
        absolute();
    });
    measure("abandoned", &policy(vec![abandoned.clone()]), from_ref(&counts), &mut share);
    measure("latency", &policy(vec![latency.clone()]), from_ref(&latencies), &mut shares);
    let blocks = [counts.clone(), counts, latencies];
    let three = policy(vec![success, abandoned, latency]);
    release(&three);
    measure("the three of a release", &three, &blocks, || {
        share();
        absolute();
        share();
        shares();
    });
}
