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
    let count = Count { requests, failed: 0, abandoned: 0 };
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

#[test]
fn the_status_has_what_it_takes_to_compute_again() {
    let plan = plan();
    let baseline = crate::samples::BaselineSample {
        over: Duration::from_secs(600),
        requests: Count { requests: 1_000_000, failed: 3000, abandoned: 0 },
        boundaries: Vec::new(),
        latency: Histogram::default(),
        pods: Err("only their sum is simulated".to_owned()),
    };
    let mut samples = good(0, 7000);
    samples.ticks[0].stable.failed = 21;
    samples.ticks[0].canary = Count { requests: 800, failed: 40, abandoned: 0 };
    let judged = judge(&plan, &status(begin(&plan, Some(&baseline), at(0)), 0, 0), &samples);
    let [metric, _abandoned] = judged.metrics.as_slice() else { panic!("{:?}", judged.metrics) };
    let [harm, equal, safety] = metric.tests.as_slice() else { panic!("{:?}", metric.tests) };
    assert_eq!((equal.value.as_str(), equal.votes.is_some()), ("1", true));
    assert_eq!((harm.value.as_str(), harm.counts.as_slice()), ("0.01", &[800, 40, 7000, 21][..]));
    // 1 pp is a budget over all traffic: at the next step's 50% it allows for two.
    assert_eq!((safety.value.as_str(), safety.predicted.as_deref()), ("0.02", Some("0.003")));
    assert_eq!(harm.log_e, harm.in_one_block, "the rate that was predicted came");
    assert_eq!(metric.harm_by_step.len(), 1);
    let evidence = judged.evidence.expect("there is a state");
    assert_eq!((evidence.steps, evidence.canary_requests, evidence.judged_seconds), (3, 800, 120));
    // ln of Σ share·E, each metric's the mean over three steps, of which two know nothing.
    let log = |text: &str| text.parse::<f64>().expect("a number");
    let own = (log(&metric.harm_by_step[0]).exp() + 2.0) / 3.0;
    let guard = log(&evidence.crash_guard.budget) * log(&evidence.crash_guard.log_e).exp();
    let whole = log(metric.budget.as_deref().expect("a share")) * own + guard;
    assert!((whole.ln() - log(&evidence.harm.log_e)).abs() < 0.02, "{whole} {evidence:?}");
}

/// Hanging requests are no failures: nobody sees an answer of theirs. Their clients leave.
#[test]
fn a_canary_whose_clients_give_up_does_harm() {
    let plan = plan();
    let begun = begin(&plan, None, at(0));
    let judged = |canary, stable| {
        let mut samples = good(0, 900);
        samples.ticks[0].canary.abandoned = canary;
        samples.ticks[0].stable.abandoned = stable;
        judge(&plan, &status(begun.clone(), 0, 0), &samples)
    };
    let gone = judged(100, 2);
    let harm = gone.harm.as_deref().unwrap_or_default();
    let told = "abandoned: the canary lets clients wait until they leave in 10.0% of 1,000 requests, \
                stable 0.22% of 902.";
    assert!(harm.starts_with(told), "{harm}");
    assert_eq!(gone.canary_requests, 900, "what was abandoned tells nothing of failures");
    let [success, abandoned] = gone.metrics.as_slice() else { panic!("{:?}", gone.metrics) };
    assert_eq!((abandoned.role.as_str(), abandoned.verdict.as_str()), ("guard", "Harm"));
    assert_eq!(success.canary.as_ref().map(|c| (c.requests, c.bad)), Some((900, 0)));
    // Where stable's leave as often it is no version's doing.
    assert_eq!(judged(100, 100).harm, None);
}

#[test]
fn how_long_the_evidence_takes_is_told() {
    let plan = plan();
    let begun = begin(&plan, None, at(0));
    let wait = |requests, failed| {
        let mut samples = good(0, requests);
        samples.ticks[0].canary.failed = failed;
        judge(&plan, &status(begun.clone(), 0, 0), &samples).unmet[0].message.clone()
    };
    assert!(
        wait(300, 0).ends_with("; as things go about 10m 46s and 1,617 canary requests more"),
        "{}",
        wait(300, 0)
    );
    assert!(wait(300, 30).ends_with("as things go it never gets there"), "{}", wait(300, 30));
    assert!(wait(0, 0).ends_with("within its tolerance"), "{}", wait(0, 0));
}

#[test]
fn an_objective_that_stable_misses_is_out_of_reach_at_any_traffic() {
    let spec = "
targetRef: {kind: Deployment, name: shop}
traffic: {mesh: istio, service: shop, routes: [{kind: VirtualService, name: shop}]}
analysis: {metrics: [{name: success, successRate: {min: 99.9%}}]}
steps: [{weight: 10, gate: {onInconclusive: extend}}, {weight: 100}]
";
    let plan = Plan::of(&serde_saphyr::from_str(spec).unwrap()).unwrap();
    let past = |failed| crate::samples::BaselineSample {
        over: Duration::from_secs(600),
        requests: Count { requests: 600_000, failed, abandoned: 0 },
        boundaries: Vec::new(),
        latency: Histogram::default(),
        pods: Err("only their sum is simulated".to_owned()),
    };
    let gates = |failed| {
        let past = past(failed);
        let rate = reach::before(Some(&past)).unwrap();
        assert_eq!(rate, 1000.0);
        reach::unreachable(&plan, &begin(&plan, Some(&past), at(0)), 0, rate)
    };
    let [gate] = &gates(1200)[..] else { panic!("stable fails 0.2%") };
    assert_eq!((gate.metric.as_deref(), gate.need), (Some("success"), None));
    let said = reach::in_words(gate, &plan.steps[0]);
    assert!(said.contains("stable itself doesn't keep the objective"), "{said}");
    assert_eq!(gates(60), []);
    assert_eq!(reach::before(None), None);
}

#[test]
fn numbers_of_both_versions_are_judged_pair_by_pair() {
    let spec = "
targetRef: {kind: Deployment, name: shop}
traffic: {mesh: istio, service: shop, routes: [{kind: VirtualService, name: shop}]}
analysis:
  metrics:
  - {name: success, successRate: {maxDrop: 1pp}}
  - name: queue
    prometheus: {query: c, stable: s, maxRatio: '1.2'}
    calibration: {dispersion: '1'}
steps: [{weight: 10}, {weight: 100}]
";
    let plan = Plan::of(&serde_saphyr::from_str(spec).unwrap()).unwrap();
    let judged = |engine: String, pairs: i64, canary| {
        let answer =
            |i| crate::samples::Scalar { at: at(15 * i), value: canary, stable: Some(10.0) };
        let mut samples = good(0, 50_000);
        samples.scalars = [("queue".to_owned(), (1..=pairs).map(answer).collect())].into();
        judge(&plan, &status(engine, 0, 0), &samples)
    };
    let begun = begin(&plan, None, at(0));
    let wait =
        |judged: &Judgement| judged.unmet.iter().map(|w| w.message.clone()).collect::<String>();
    let few = judged(begun.clone(), 3, 9.0);
    let said = wait(&few);
    assert!(said.starts_with("queue: ") && said.contains("% of the evidence"), "{said}");
    // What was folded is not folded again when it is still there at the next look.
    let again = judged(few.engine.clone(), 3, 9.0);
    assert_eq!(wait(&again), said);
    assert_eq!(wait(&judged(few.engine, 12, 9.0)), "", "within its tolerance");
    let high = judged(begun, 20, 12.1);
    let harm = high.harm.unwrap_or_default();
    let told =
        "queue: the canary's number was above 1.2 times stable's in 20 of 20 pairs. A canary";
    assert!(harm.starts_with(told), "{harm}");
    let queue = high.metrics.iter().find(|m| m.name == "queue").unwrap();
    assert_eq!(
        (queue.verdict.as_str(), queue.tests[0].counts.as_slice()),
        ("Harm", &[20, 20, 0, 0][..])
    );
    assert_eq!(queue.calibration.as_deref(), Some("given by the Rollout"));
}

#[test]
fn no_requests_are_no_pass_where_stable_has_no_traffic_either() {
    let plan = plan();
    let begun = begin_step(&begin(&plan, None, at(0)), 2);
    let verdict = |requests| {
        let judged = judge(&plan, &status(begun.clone(), 2, 0), &good(0, requests));
        judged.metrics[0].verdict.clone()
    };
    assert_eq!((verdict(0).as_str(), verdict(10).as_str()), ("NoData", "Pass"));
}

/// A check that needs no traffic is asked for; what else there is comes when the preview is over, and is
/// counted from then on.
#[test]
fn a_preview_is_left_by_its_checks_and_leaves_no_evidence() {
    let spec = "
targetRef: {kind: Deployment, name: shop}
traffic: {mesh: istio, service: shop, apex: stableOnly, routes: [{kind: VirtualService, name: shop}]}
analysis:
  metrics:
  - {name: success, successRate: {maxDrop: 1pp}}
  - {name: smoke, prometheus: {query: up, min: '1', failureLimit: 1}}
steps: [{weight: 0, preview: true}, {weight: 10}, {weight: 100}]
";
    let plan = Plan::of(&serde_saphyr::from_str(spec).unwrap()).unwrap();
    let smoke = |answers: &[f64]| {
        let answer = |(i, value): (i64, &f64)| crate::samples::Scalar {
            at: at(15 * i),
            value: *value,
            stable: None,
        };
        let answers: Vec<_> = (1..).zip(answers).map(answer).collect();
        Samples { scalars: [("smoke".to_owned(), answers)].into(), ..Samples::default() }
    };
    let begun = begin(&plan, None, at(0));
    let names =
        |judged: &Judgement| judged.unmet.iter().filter_map(|w| w.name.clone()).collect::<Vec<_>>();
    let first = judge(&plan, &status(begun.clone(), 0, 0), &Samples::default());
    assert_eq!(names(&first), ["smoke"]);
    let well = judge(&plan, &status(begun.clone(), 0, 0), &smoke(&[1.0, 1.0]));
    assert_eq!((names(&well), well.harm), (Vec::new(), None));
    let broken = judge(&plan, &status(begun, 0, 0), &smoke(&[0.0, 0.0]));
    assert!(broken.harm.is_some_and(|harm| harm.starts_with("smoke: ")));
    // The preview took ten minutes. What was asked of it isn't evidence, and its answers are its own.
    let over = end_preview(&well.engine, at(600));
    assert_eq!(folded_until(&over), Some(at(600)));
    let next = judge(&plan, &status(over, 1, 600), &good(480, 50_000));
    assert_eq!((names(&next), next.canary_requests), (vec!["success".into(), "smoke".into()], 0));
}
