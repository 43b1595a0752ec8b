use surefoot_core::samples::PodHistory;

use super::*;
use crate::backtest::fault::{FAILING, SLOW};
use crate::example_plan;
use crate::traffic::{Failures, Latency, Traffic};

/// Two hours of pods that simulated traffic is shared among, with failures that come as they come there.
fn past(traffic: &Traffic, pods: usize) -> Past {
    past_of(traffic, pods, 720)
}

fn past_of(traffic: &Traffic, pods: usize, slots: usize) -> Past {
    let each = Traffic { rps: traffic.rps / pods as f64, ..traffic.clone() };
    let mut flows: Vec<_> = (0..pods as u64).map(|pod| each.flow(pod)).collect();
    let mut history = PodHistory::default();
    for _ in 0..slots {
        let ticks: Vec<Tick> = flows.iter_mut().map(|f| f.tick(0, 0.0, SLOT)).collect();
        history.requests.push(ticks.iter().map(|t| t.stable).collect());
        let latencies = ticks.into_iter().filter_map(|t| t.latency);
        let latencies = latencies.map(|l| (l.boundaries, l.stable));
        let (boundaries, each): (Vec<_>, Vec<_>) = latencies.unzip();
        history.boundaries = boundaries.into_iter().next().unwrap_or_default();
        history.latency.push(each);
    }
    Past::new(history).unwrap()
}

fn calm() -> Traffic {
    let latency = Some(Latency { median: 60.0, p99: 300.0 });
    Traffic { latency, ..Traffic::alike(500.0, 0.002) }
}

fn replay<'a>(plan: &'a Plan, past: &'a Past) -> Replay<'a> {
    Replay { plan, past, replicas: 4, timeout: Duration::from_secs(15), seed: 1 }
}

#[test]
fn pods_that_are_alike_are_promoted_and_faults_are_seen() {
    let (plan, past) = (example_plan(&serde_json::json!({})), past(&calm(), 5));
    let replay = replay(&plan, &past);
    let faults = [Fault::Times(10), Fault::More(0.05), Fault::Slower(4.0)];
    let replayed = replay.pod(2, &faults);
    // The first quarter is known before; then one begins every 21.5 minutes, and the last is cut.
    let releases = &replayed.releases;
    assert_eq!(releases.iter().map(Vec::len).collect::<Vec<_>>(), [4; 4]);
    assert!(replayed.cut);
    let ended = releases[0].iter().map(|r| r.end).collect::<Vec<_>>();
    assert_eq!(ended, [Some(End::Promoted); 4]);
    assert!(releases[0][0].took >= replay.shortest(), "{:?}", releases[0][0]);
    for (fault, seen) in faults.iter().zip(&releases[1..]) {
        assert!(
            seen.iter().all(|r| matches!(r.end, Some(End::RolledBack(_)))),
            "{fault:?}: {seen:?}"
        );
    }
    assert!(matches!(releases[2][0].peers[0], Peer::RolledBack(_)), "5% is beyond Flagger's limit");
    assert_eq!(releases[0][0].peers[..3], [Peer::WentOn; 3]);
    assert_eq!(replay.pod(2, &faults), replayed, "the same seed, the same releases");
}

#[test]
fn what_a_release_may_not_know_changes_nothing() {
    let plan = example_plan(&serde_json::json!({}));
    let whole = past(&calm(), 3);
    let part = {
        // The same pods, with another end: beyond the first release.
        let other = Traffic { stable: 0.2, ..calm() };
        let (calm, wild) = (&whole, past(&other, 3));
        Past::spliced(calm, &wild, calm.slots() - 60)
    };
    let first = |past| replay(&plan, past).pod(0, &[]).releases[0][0].clone();
    assert_eq!(first(&whole), first(&part));
}

#[test]
fn bursts_of_one_pod_are_known_and_do_not_roll_back() {
    let failures = Failures::PodBursts { times: 20.0, share: 0.02 };
    let traffic = Traffic { failures, ..Traffic::alike(500.0, 0.002) };
    let (plan, past) = (example_plan(&serde_json::json!({})), past(&traffic, 5));
    let all: Vec<Release> =
        (0..5).flat_map(|pod| replay(&plan, &past).pod(pod, &[]).releases.remove(0)).collect();
    let wrong = all.iter().filter(|r| matches!(r.end, Some(End::RolledBack(_)))).count();
    assert!(wrong == 0, "{wrong} of {}", all.len());
}

#[test]
fn every_fault_that_is_tried_is_worse() {
    let past = past(&calm(), 2);
    let plan = example_plan(&serde_json::json!({}));
    let replay = replay(&plan, &past);
    let sum = |fault| {
        let baseline = past.baseline();
        let stream = Stream { replay: &replay, pod: 0, fault, baseline: baseline.as_ref() };
        let ticks = (0..past.slots()).map(|slot| stream.tick(slot).unwrap());
        ticks.fold((0, 0, 0), |(n, failed, fast), tick| {
            let canary = tick.latency.unwrap().canary;
            let fast = fast + canary.at_most.iter().sum::<u64>();
            (n + tick.canary.requests, failed + tick.canary.failed, fast)
        })
    };
    let (n, failed, fast) = sum(Fault::None);
    for fault in FAILING {
        let more = sum(fault);
        assert!((more.0, more.2) == (n, fast) && more.1 > failed, "{fault:?}");
    }
    for fault in SLOW {
        let more = sum(fault);
        assert!((more.0, more.1) == (n, failed) && more.2 < fast, "{fault:?}");
    }
}

#[test]
fn at_100_there_is_nobody_to_be_compared_with() {
    let spec = serde_json::json!({
        "targetRef": {"kind": "Deployment", "name": "shop"},
        "traffic": {
            "mesh": "istio", "service": "shop",
            "routes": [{"kind": "VirtualService", "name": "shop"}],
        },
        "steps": [{"weight": 100}],
    });
    let plan = Plan::of(&serde_json::from_value(spec).unwrap()).unwrap();
    let outage = past(&Traffic { stable: 0.4, ..calm() }, 5);
    let past = Past::spliced(&past(&calm(), 5), &outage, 181);
    // Beside others that suffer with it a pod is in order; alone it is what has crashed.
    let release = replay(&plan, &past).pod(0, &[]).releases[0][0].clone();
    assert_eq!(release.end, Some(End::RolledBack(0)), "{release:?}");
    let both = example_plan(&serde_json::json!({}));
    let release = replay(&both, &past).pod(0, &[]).releases[0][0].clone();
    assert!(!matches!(release.end, Some(End::RolledBack(0))), "{release:?}");
}

#[test]
fn peers_say_nothing_where_the_past_ends_before_they_have_looked() {
    let plan = example_plan(&serde_json::json!({}));
    let past = past_of(&Traffic { stable: 0.05, ..calm() }, 5, 150);
    let release = replay(&plan, &past).pod(0, &[]).releases[0][0].clone();
    assert_eq!(release.peers, [Peer::Cut; 4], "{release:?}");
    assert!(release.end.is_some());
}

#[test]
fn chance_is_another_in_every_slot_and_pod() {
    let history = PodHistory {
        requests: vec![vec![Count { requests: 1000, failed: 0, abandoned: 0 }; 2]; 50],
        ..PodHistory::default()
    };
    let (plan, past) = (example_plan(&serde_json::json!({})), Past::new(history).unwrap());
    let replay = replay(&plan, &past);
    let failed = |pod, slot| {
        let stream = Stream { replay: &replay, pod, fault: Fault::More(0.1), baseline: None };
        stream.tick(slot).unwrap().canary.failed
    };
    let of = |pod| (0..50).map(|slot| failed(pod, slot)).collect::<Vec<_>>();
    let mut values = of(0);
    assert_ne!(values, of(1));
    values.sort_unstable();
    values.dedup();
    assert!(values.len() > 10, "{values:?}");
}
