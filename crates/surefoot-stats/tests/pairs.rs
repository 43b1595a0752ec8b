//! The policy of a release that is judged by pairs of numbers that are no counts.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use surefoot_stats::told::{Bound, Side};
use surefoot_stats::{
    Block, FoldError, MetricBlock, MetricPolicy, PairTest, Pass, Policy, Role, SignTest, State,
    Test,
};

/// A release of three steps, judged by pairs alone; the canary's numbers are so many times stable's.
fn pairs(phi: f64, seen: &[(usize, f64, usize)]) -> (Policy, State) {
    let policy = Policy {
        false_rollback: 0.01,
        false_pass: 0.05,
        weights: vec![0.1, 0.5, 1.0],
        metrics: vec![MetricPolicy {
            role: Role::Required,
            importance: 1.0,
            phi,
            eta: 1.0,
            test: Test::Pairs(PairTest { times: 1.2 }),
        }],
    };
    assert_eq!(policy.validate(), Ok(()));
    let mut state = State::new(&policy);
    for (step, times, count) in seen {
        state.begin_step(&policy, *step).unwrap();
        for i in 0..*count {
            let stable = 10.0 + (i % 7) as f64;
            let pair = MetricBlock::Pair { canary: times * stable, stable };
            state.fold(&policy, 0, &pair, 15_000).unwrap();
        }
    }
    (policy, state)
}

#[test]
fn pairs_roll_back_what_is_higher_and_pass_what_is_not() {
    let (policy, high) = pairs(1.0, &[(0, 1.3, 20)]);
    assert!(high.harm(&policy).reached && !high.pass(&policy, 0).reached());
    assert_eq!(high.step_pairs(0), Some((20, 0)));
    let told = high.told(&policy, 0);
    assert_eq!((told[0].side, told[0].bound), (Side::Harm, Bound::Pairs { times: 1.2 }));
    assert!(told.iter().all(|t| (t.in_one_block(1.0) - t.log_e).abs() < 1e-9), "{told:?}");
    // Just within its tolerance.
    let (policy, within) = pairs(1.0, &[(0, 1.19, 20)]);
    assert!(!within.harm(&policy).reached && within.pass(&policy, 0).reached());
    let (policy, tempered) = pairs(3.0, &[(0, 1.19, 20)]);
    assert!(!tempered.pass(&policy, 0).reached(), "a third of the evidence");
    let bytes = postcard::to_allocvec(&high).unwrap();
    assert!(bytes.len() <= policy.state_bytes_bound());
    assert_eq!(postcard::from_bytes::<State>(&bytes).unwrap(), high);
}

#[test]
fn pairs_of_a_good_step_do_not_hide_what_begins_later() {
    let (policy, late) = pairs(1.0, &[(0, 1.0, 100), (1, 2.0, 20)]);
    assert!(late.harm(&policy).reached, "{:?}", late.harm(&policy));
    // Each step is passed by its own pairs, and the last needs none.
    let (policy, next) = pairs(1.0, &[(0, 1.0, 100), (1, 1.0, 1)]);
    assert!(!next.pass(&policy, 0).reached());
    let (policy, last) = pairs(1.0, &[(0, 1.0, 100), (2, 1.0, 0)]);
    assert_eq!(last.pass(&policy, 0), Pass::NoStableTraffic);
    let counts = MetricBlock::Counts(Block::default());
    let wrong = last.clone().fold(&policy, 0, &counts, 0);
    assert_eq!(wrong, Err(FoldError::WrongKind { metric: 0 }));
}

/// All sequences of ten pairs at the edge of the null, where each outcome is as likely: the mean of
/// E over them is 1 at most, of either side and at any φ.
#[test]
fn pairs_promise_what_they_say_exactly() {
    for phi in [1.0, 3.0] {
        let (mut harm, mut safe) = (0.0, 0.0);
        for outcomes in 0..1024_u32 {
            let mut sides = [SignTest::default(); 2];
            for i in 0..10 {
                let above = outcomes >> i & 1 == 1;
                sides[0].fold(above, phi);
                sides[1].fold(!above, phi);
            }
            harm += sides[0].log_e().exp() / 1024.0;
            safe += sides[1].log_e().exp() / 1024.0;
        }
        let most = if phi == 1.0 { 1.0 + 1e-12 } else { 0.9999 };
        assert!(harm <= most && safe <= most && harm > 0.3, "{phi}: {harm} {safe}");
    }
}
