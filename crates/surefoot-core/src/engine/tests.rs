use super::*;
use crate::api::status::StepStatus;
use crate::samples::Count;

fn plan() -> Plan {
    let spec = "
targetRef: {kind: Deployment, name: shop}
traffic: {mesh: istio, service: shop, routes: [{kind: VirtualService, name: shop}]}
analysis: {metrics: [{name: success, successRate: {maxDrop: 1pp}}]}
steps: [{weight: 10}, {weight: 50}, {weight: 100}]
";
    let spec = serde_saphyr::from_str(spec).unwrap();
    Plan::of(&spec).unwrap()
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

/// In a step from its beginning, all of it judged.
fn status(engine: String, index: i32, from: i64) -> RolloutStatus {
    let step = serde_json::json!({
        "index": index, "weight": 50, "begunAt": at(from), "startedAt": at(from),
        "judgedFrom": at(from),
    });
    let step: StepStatus = serde_json::from_value(step).unwrap();
    RolloutStatus { engine: Some(engine), step: Some(step), ..RolloutStatus::default() }
}

/// So many requests of each version, none of which fails.
fn good(from: i64, requests: u64) -> Samples {
    let count = Count { requests, failed: 0 };
    let (from, to) = (at(from), at(from + 120));
    let tick = Tick {
        from,
        to,
        canary: count,
        stable: count,
        latency: None,
        reached: None,
        partial: None,
    };
    Samples { ticks: vec![tick], ..Samples::default() }
}

#[test]
fn each_step_needs_evidence_of_its_own() {
    let plan = plan();
    let begun = begin(&plan, None, at(0));
    let first = judge(&plan, &status(begun, 0, 0), &good(0, 50_000));
    assert!(first.unmet.is_empty(), "{:?}", first.unmet);
    assert_eq!((first.canary_requests, first.judged), (50_000, Duration::from_secs(120)));
    // More of the same in the same step changes nothing of that.
    let on = judge(&plan, &status(first.engine.clone(), 0, 0), &good(120, 1));
    assert!(on.unmet.is_empty(), "{:?}", on.unmet);
    let next = begin_step(&first.engine, 1);
    let second = judge(&plan, &status(next, 1, 120), &good(120, 1));
    assert_eq!(second.unmet.len(), 1, "passed by the step before");
    assert_eq!((second.canary_requests, second.judged), (1, Duration::from_secs(120)));
}
