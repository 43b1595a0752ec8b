//! Folding a block allocates nothing: a controller of a thousand releases makes no garbage by it.

use allocation_counter::measure;
use surefoot_stats::{
    Arm, Baseline, Block, CountTest, LatencyTest, MetricBlock, MetricPolicy, Objective, Policy,
    Role, SlowArm, SlowBlock, State, Test,
};

fn metric(test: Test) -> MetricPolicy {
    MetricPolicy { role: Role::Required, importance: 1.0, phi: 3.0, eta: 0.8, test }
}

#[test]
fn a_fold_allocates_nothing_also_where_a_window_ends() {
    let boundaries = vec![50.0, 100.0, 250.0, 500.0];
    let past = SlowArm::new(100_000, vec![60_000, 20_000, 2_000, 500]).unwrap();
    let policy = Policy {
        false_rollback: 0.01,
        false_pass: 0.05,
        weights: vec![0.1, 0.5, 1.0],
        metrics: vec![
            metric(Test::Counts(CountTest {
                max_drop: Some(0.005),
                max_failure_ratio: Some(1.5),
                max_failure_rate: Some(0.01),
            })),
            metric(Test::Latency(LatencyTest {
                max_slowdown: Some(1.5),
                objective: Some(Objective { threshold_ms: 500.0, percentile: 0.99 }),
                baseline: Some(Baseline::new(boundaries.clone(), past).unwrap()),
                boundaries,
            })),
        ],
    };
    policy.validate().unwrap();
    let counts = Block::new(Arm::new(100, 2).unwrap(), Arm::new(900, 3).unwrap());
    let slow = |n: u64| SlowArm::new(n, vec![n / 2, n / 5, n / 50, n / 100]).unwrap();
    let blocks = [
        MetricBlock::Counts(counts),
        MetricBlock::Latency(SlowBlock::new(slow(100), slow(900)).unwrap()),
    ];
    let mut state = State::new(&policy);
    state.begin_step(&policy, 0).unwrap();
    state.begin_step(&policy, 1).unwrap();
    let folded = measure(|| {
        for _ in 0..9 {
            for (i, block) in blocks.iter().enumerate() {
                state.fold(&policy, i, block, 15_000).unwrap();
            }
            state.fold_crash_guard(&policy, &counts).unwrap();
        }
    });
    assert_eq!(folded.count_total, 0);
    // The counter counts: asking for the verdict makes a list.
    assert!(measure(|| drop(state.harm(&policy))).count_total > 0);
}
