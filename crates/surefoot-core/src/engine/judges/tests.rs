use jiff::Timestamp;

use super::MOST_BLOCKS;
use crate::api::status::{MetricStatus, RolloutStatus, StepStatus};
use crate::engine::{Engine, ISTIO_BOUNDARIES, Judgement, begin, begin_step, judge};
use crate::plan::Plan;
use crate::samples::{Count, Histogram, Latencies, Samples, Tick};

fn plan(metrics: &str) -> Plan {
    let spec = format!(
        "
targetRef: {{kind: Deployment, name: shop}}
traffic: {{mesh: istio, service: shop, routes: [{{kind: VirtualService, name: shop}}]}}
analysis: {{metrics: [{metrics}]}}
steps: [{{weight: 50}}, {{weight: 100}}]
"
    );
    let spec = serde_saphyr::from_str(&spec).unwrap();
    Plan::of(&spec).unwrap()
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

/// A step that is judged block by block.
struct Run {
    plan: Plan,
    engine: String,
    index: i32,
    seconds: i64,
}

impl Run {
    fn new(metrics: &str) -> Self {
        let plan = plan(metrics);
        let engine = begin(&plan, None, at(0));
        Self { plan, engine, index: 0, seconds: 0 }
    }

    /// 15 seconds of (requests, failed, slower than 250 ms) of canary and stable.
    fn tick(&mut self, canary: (u64, u64, u64), stable: (u64, u64, u64)) -> Judgement {
        let count = |(requests, failed, _)| Count { requests, failed, abandoned: 0 };
        let latency = |(requests, _, slow)| Histogram {
            requests,
            at_most: ISTIO_BOUNDARIES
                .map(|b| if b > 250.0 { requests } else { requests - slow })
                .to_vec(),
        };
        let tick = Tick {
            from: at(self.seconds),
            to: at(self.seconds + 15),
            canary: count(canary),
            stable: count(stable),
            latency: Some(Latencies {
                boundaries: ISTIO_BOUNDARIES.to_vec(),
                canary: latency(canary),
                stable: latency(stable),
            }),
            reached: None,
            partial: None,
        };
        self.seconds += 15;
        let step = serde_json::json!({
            "index": self.index, "weight": 50, "begunAt": at(0), "startedAt": at(0),
            "judgedFrom": at(0),
        });
        let step: StepStatus = serde_json::from_value(step).unwrap();
        let engine = Some(self.engine.clone());
        let status = RolloutStatus { engine, step: Some(step), ..RolloutStatus::default() };
        let samples = Samples { ticks: vec![tick], ..Samples::default() };
        let judged = judge(&self.plan, &status, &samples);
        self.engine = judged.engine.clone();
        judged
    }

    fn ticks(
        &mut self,
        ticks: u64,
        of: impl Fn(u64) -> [(u64, u64, u64); 2],
    ) -> (Judgement, MetricStatus) {
        let [canary, stable] = of(0);
        let mut last = self.tick(canary, stable);
        for i in 1..ticks {
            let [canary, stable] = of(i);
            last = self.tick(canary, stable);
        }
        let status = last.metrics[0].clone();
        (last, status)
    }
}

/// Both versions fail alike, not always at the same time.
fn same(i: u64) -> [(u64, u64, u64); 2] {
    [(1000, 3 + i * 5 % 4, 20 + i * 7 % 5), (1000, 3 + i * 7 % 4, 20 + i * 3 % 5)]
}

/// The canary fails three times as often and is slow twice as often: no crash.
fn worse(i: u64) -> [(u64, u64, u64); 2] {
    [(1000, 12 + i * 5 % 4, 60 + i * 7 % 5), (1000, 3 + i * 7 % 4, 20 + i * 3 % 5)]
}

const COMPARISONS: [&str; 4] = ["mannWhitney", "fisher", "welch", "ks"];

#[test]
fn comparisons_look_when_the_gate_is_met_and_their_verdicts_count() {
    for judge in COMPARISONS {
        let metric = format!("{{name: success, judge: {judge}, successRate: {{}}}}");
        let mut run = Run::new(&metric);
        let (early, status) = run.ticks(7, worse);
        assert_eq!((early.harm, status.verdict.as_str()), (None, "Continue"), "{judge}");
        assert_eq!(early.unmet.len(), 1, "nothing has passed yet");
        let (due, status) = run.ticks(1, worse);
        let harm = due.harm.unwrap_or_default();
        assert!(harm.starts_with("success: ") && harm.contains(judge), "{harm}");
        assert!(harm.contains("promises nothing over repeated looks"), "{harm}");
        assert_eq!(status.verdict, "Harm", "{judge}");

        let mut run = Run::new(&metric);
        let (due, status) = run.ticks(8, same);
        assert_eq!(
            (due.harm, status.verdict.as_str()),
            (None, "Pass"),
            "{judge}: {:?}",
            status.note
        );
        assert!(due.unmet.is_empty());
    }
}

#[test]
fn latencies_are_compared_too() {
    for (judge, latency) in [
        ("mannWhitney", "{percentile: 95}"),
        ("fisher", "{max: 250ms}"),
        ("welch", "{percentile: 95}"),
    ] {
        let metric = format!("{{name: slow, judge: {judge}, latency: {latency}}}");
        let (judged, status) = Run::new(&metric).ticks(8, worse);
        assert!(judged.harm.is_some(), "{judge}: {:?}", status.note);
        let (judged, status) = Run::new(&metric).ticks(8, same);
        assert_eq!((judged.harm, status.verdict.as_str()), (None, "Pass"), "{judge}");
    }
}

#[test]
fn a_verdict_stands_until_the_next_look() {
    let mut run = Run::new("{name: success, judge: fisher, successRate: {}}");
    run.ticks(8, same);
    let (between, status) = run.ticks(3, worse);
    assert_eq!((between.harm, status.verdict.as_str()), (None, "Pass"));
    let (next, _) = run.ticks(5, worse);
    assert!(next.harm.is_some(), "two minutes later");
}

#[test]
fn one_who_only_observes_rolls_nothing_back() {
    let metrics = "{name: seen, role: observe, judge: ks, successRate: {}}, \
                   {name: success, successRate: {maxDrop: 20pp}}";
    let (judged, status) = Run::new(metrics).ticks(8, worse);
    assert_eq!((judged.harm, status.verdict.as_str()), (None, "Harm"));
}

#[test]
fn without_stable_traffic_nothing_is_compared_and_a_new_step_forgets() {
    let mut run = Run::new("{name: success, judge: welch, successRate: {}}");
    run.ticks(8, same);
    run.engine = begin_step(&run.engine, 1);
    assert!(Engine::decode(&run.engine).unwrap().judges.blocks.is_empty());
    run.index = 1;
    let (judged, status) = run.ticks(8, |_| [(1000, 3, 20), (0, 0, 0)]);
    assert!(judged.harm.is_none() && judged.unmet.is_empty());
    assert!(status.note.unwrap().contains("NoStableTraffic"));
}

#[test]
fn too_little_to_compare_holds() {
    let mut run = Run::new("{name: success, judge: mannWhitney, successRate: {}}");
    let (judged, status) = run.ticks(8, |_| [(1000, 500, 20), (0, 0, 0)]);
    assert_eq!((status.verdict.as_str(), judged.unmet.len()), ("NoData", 1));
    assert!(status.note.unwrap().contains("too few blocks"));
}

#[test]
fn checks_measure_one_interval_after_the_other() {
    let metric = "{name: success, judge: threshold, successRate: {min: 99%}, \
                  checks: {failureLimit: 1, interval: 30s}}";
    let mut run = Run::new(metric);
    let missed = |_| [(1000, 11, 0), (1000, 0, 0)];
    let (judged, _) = run.ticks(3, missed);
    assert_eq!(judged.harm, None, "one check of two missed it and one may");
    let (judged, status) = run.ticks(1, missed);
    let harm = judged.harm.unwrap_or_default();
    assert!(harm.contains("at least 99% wanted; 2 of 2 checks"), "{harm}");
    assert_eq!(status.verdict, "Harm");
    let (judged, status) = Run::new(metric).ticks(8, |_| [(1000, 10, 0), (1000, 0, 0)]);
    assert_eq!((judged.harm, status.verdict.as_str()), (None, "Pass"), "99% is 99%");
    let (judged, status) = Run::new(metric).ticks(8, |_| [(0, 0, 0), (1000, 0, 0)]);
    assert_eq!((judged.unmet.len(), status.verdict.as_str()), (1, "NoData"));
}

#[test]
fn checks_of_latency_read_the_percentile() {
    let metric = "{name: slow, judge: threshold, latency: {max: 250ms}, \
                  checks: {failureLimit: 0, interval: 15s}}";
    let slow = |_| [(1000, 0, 11), (1000, 0, 0)];
    assert!(Run::new(metric).ticks(1, slow).0.harm.is_some());
    let fast = |_| [(1000, 0, 9), (1000, 0, 0)];
    assert_eq!(Run::new(metric).ticks(1, fast).0.harm, None);
}

#[test]
fn what_is_kept_stays_small_however_long_the_step() {
    let mut run = Run::new(
        "{name: slow, judge: ks, latency: {percentile: 99}}, \
         {name: success, judge: mannWhitney, role: observe, successRate: {}}",
    );
    let mut largest = 0;
    // A day: blocks of a minute from ten minutes on.
    for i in 0..24 * 60 * 4 {
        let [canary, stable] = same(i);
        run.tick(canary, stable);
        largest = largest.max(run.engine.len());
    }
    let blocks = Engine::decode(&run.engine).unwrap().judges.blocks;
    assert!((MOST_BLOCKS / 2..=MOST_BLOCKS).contains(&blocks.len()));
    let counted: u64 = blocks.iter().map(|seen| seen.requests.canary.n()).sum();
    assert_eq!(counted, 24 * 60 * 4 * 1000, "merged, not lost");
    assert!(largest < 32 * 1024, "{largest} bytes");
}
