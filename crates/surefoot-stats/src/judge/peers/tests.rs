use super::*;

const BOUNDARIES: [f64; 3] = [250.0, 500.0, 1000.0];

fn block(n1: u64, k1: u64, n0: u64, k0: u64) -> Block {
    Block::new(Arm::new(n1, k1).unwrap(), Arm::new(n0, k0).unwrap())
}

fn poll(requests: Block) -> Poll<'static> {
    Poll { requests, latency: None }
}

fn limits() -> Limits {
    Limits::usual(6, BOUNDARIES.to_vec())
}

/// At which poll, from 1, it rolled back.
fn rolled_back(polls: usize, mut look: impl FnMut(usize) -> Call) -> Option<usize> {
    (1..=polls).find(|i| look(*i) == Call::RollsBack)
}

#[test]
fn flagger_counts_failed_checks_in_all_and_missing_data_as_failed() {
    let bad = poll(block(100, 2, 900, 0));
    let mut flagger = Flagger::new(limits(), 5);
    assert_eq!(rolled_back(100, |_| flagger.look(&bad)), Some(30), "the fifth check");
    let (mut flagger, good) = (Flagger::new(limits(), 5), poll(block(100, 1, 900, 0)));
    assert_eq!(rolled_back(100, |_| flagger.look(&good)), None, "99% is within");
    // Good minutes between take nothing back.
    let mut flagger = Flagger::new(limits(), 5);
    let found = rolled_back(100, |i| flagger.look(if (i - 1) / 6 % 2 == 0 { &bad } else { &good }));
    assert_eq!(found, Some(54));
    let (mut flagger, none) = (Flagger::new(limits(), 5), poll(block(0, 0, 900, 0)));
    assert_eq!(rolled_back(100, |_| flagger.look(&none)), Some(30));
    assert_eq!(flagger.look(&good), Call::RollsBack, "for good");
}

#[test]
fn argo_counts_each_metric_by_itself_and_errors_in_a_row() {
    let bad = poll(block(100, 2, 900, 0));
    let mut argo = Argo::new(limits(), 3);
    assert_eq!(rolled_back(100, |_| argo.look(&bad)), Some(24), "the fourth failure");
    let (mut argo, none) = (Argo::new(limits(), 3), poll(block(0, 0, 900, 0)));
    assert_eq!(rolled_back(100, |_| argo.look(&none)), Some(30), "the fifth error");
    let good = poll(block(100, 0, 900, 0));
    let mut argo = Argo::new(limits(), 3);
    let broken = |i: usize| if (i - 1) / 6 % 5 == 4 { &good } else { &none };
    assert_eq!(rolled_back(200, |i| argo.look(broken(i))), None, "four errors, then an answer");
}

#[test]
fn a_slow_canary_is_beyond_the_latency_limit() {
    let (slow, fast) =
        (SlowArm::new(100, vec![20, 5, 0]).unwrap(), SlowArm::new(100, vec![20, 0, 0]).unwrap());
    let of = |canary| Poll { requests: block(100, 0, 900, 0), latency: Some((canary, &fast)) };
    let mut flagger = Flagger::new(limits(), 5);
    assert_eq!(rolled_back(100, |_| flagger.look(&of(&slow))), Some(30));
    let (mut flagger, mut argo) = (Flagger::new(limits(), 5), Argo::new(limits(), 3));
    assert_eq!(rolled_back(100, |_| flagger.look(&of(&fast))), None);
    assert_eq!(rolled_back(100, |_| argo.look(&of(&slow))), Some(24));
}

#[test]
fn kayenta_looks_when_it_is_time_and_needs_a_difference_that_lasts() {
    let looks = || vec![30, 60, 90, 120];
    let judge = || Kayenta::new(6, looks(), BOUNDARIES.to_vec(), 0.99);
    // Both vary by poll, the canary at a higher level.
    let bad = |i: usize| poll(block(1000, 20 + (i as u64 * 7) % 5, 9000, 9 + (i as u64 * 5) % 7));
    let same =
        |i: usize| poll(block(1000, 1 + (i as u64 * 7) % 3, 9000, 9 + (i as u64 * 7) % 3 * 9));
    let mut kayenta = judge();
    assert_eq!(rolled_back(120, |i| kayenta.look(&bad(i))), Some(30));
    assert_eq!(kayenta.classes(), [Class::High, Class::NoData]);
    let mut kayenta = judge();
    assert_eq!(rolled_back(120, |i| kayenta.look(&same(i))), None);
    let mut kayenta = judge();
    let none = poll(Block::default());
    assert_eq!(rolled_back(120, |_| kayenta.look(&none)), Some(120), "no data is no success");
    let held: usize = kayenta.values.iter().flatten().map(Vec::len).sum();
    (0..1000).for_each(|i| {
        kayenta.look(&same(i));
    });
    assert_eq!(kayenta.values.iter().flatten().map(Vec::len).sum::<usize>(), held);
}

#[test]
fn a_test_in_a_loop_rolls_back_at_the_first_significant_look() {
    let mut peeked = FisherPeeked::new(0.05);
    assert_eq!(peeked.look(&poll(block(100, 0, 900, 0))), Call::GoesOn);
    assert_eq!(peeked.look(&poll(block(100, 5, 900, 5))), Call::RollsBack);
    assert_eq!(peeked.look(&poll(block(10_000, 0, 900, 5))), Call::RollsBack);
}
