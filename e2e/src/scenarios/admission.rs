//! What the API server refuses: a row each, on the real one, with what the refusal must say. The
//! same object put right is taken.

use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use surefoot_core::api::RolloutStatus;

use crate::apply;
use crate::delivery::{APP, SUREFOOT, rollout};
use crate::runner::Scenario;
use crate::world::Scene;

/// An object that must be refused.
#[derive(Clone, Copy)]
struct Row {
    name: &'static str,
    /// The object that is taken.
    base: fn(&str) -> Value,
    /// What makes it bad, as a merge patch of the spec.
    bad: fn() -> Value,
    /// Whether the good one is there already, and the bad one is an edit of it.
    edited: bool,
    /// What the refusal must say.
    says: &'static str,
}

/// All rows.
pub fn all() -> Vec<Scenario> {
    let rows = ROWS.iter().copied();
    let rows = rows.map(|row| Scenario::row(row.name, move |scene| refused(scene, row)));
    let fences = FENCE.iter().copied();
    let fences = fences.map(|row| Scenario::row(row.name, move |scene| fenced(scene, row)));
    rows.chain(fences).collect()
}

fn good(namespace: &str) -> Value {
    rollout(namespace, &json!({}))
}

fn source(_: &str) -> Value {
    json!({
        "apiVersion": SUREFOOT, "kind": "MetricsSource", "metadata": {"name": "bad"},
        "spec": {"prometheus": {"url": "http://prometheus.monitoring:9090"}},
    })
}

fn channel(_: &str) -> Value {
    json!({
        "apiVersion": SUREFOOT, "kind": "NotificationChannel", "metadata": {"name": "bad"},
        "spec": {"slack": {"webhook": {"secretRef": {"name": "slack", "key": "url"}}}},
    })
}

fn action(_: &str) -> Value {
    json!({
        "apiVersion": SUREFOOT, "kind": "RolloutAction", "metadata": {"name": "bad"},
        "spec": {
            "rollout": APP, "uid": "4", "release": 1, "step": 0, "action": "abort",
            "requestedBy": "admin",
        },
    })
}

fn steps(weights: &[Value]) -> Value {
    let steps: Vec<Value> = weights.iter().map(|weight| json!({"weight": weight})).collect();
    json!({"steps": steps})
}

fn weights(weights: &[i32]) -> Value {
    steps(&weights.iter().map(|weight| json!(weight)).collect::<Vec<_>>())
}

fn preview(first: &Value) -> Value {
    json!({"steps": [first, {"weight": 100}]})
}

fn chosen(weight: i32, text: &Value) -> Value {
    let step = json!({"weight": weight, "match": [{"headers": {"x-canary": text}}]});
    let last = json!({"weight": 100});
    json!({"steps": if weight == 100 { vec![step] } else { vec![step, last] }})
}

fn subsets(stable: &str, canary: &str) -> Value {
    json!({"destinationRule": APP, "stable": stable, "canary": canary})
}

fn metrics(metric: &Value) -> Value {
    json!({"analysis": {"metrics": [metric]}})
}

fn compared(judge: &str, compare: &Value) -> Value {
    metrics(&json!({"name": "rate", "judge": judge, "compare": compare, "successRate": {}}))
}

fn url(url: &str) -> Value {
    json!({"prometheus": {"url": url}})
}

const URL: &str = "must be an http or https URL without user";
const SPAN: &str = "must be more than 0s and at most 24h";
const RISK: &str = "must be more than 0% and at most 50%";
const RISING: &str = "each step's weight must be above the one before";
const PREVIEW: &str = "only a preview has weight 0, and a preview has no other";
const MATCH: &str = "match is for a weight from 1 to 99";
const LOCAL: &str = "must be the name of an object of this namespace";

const fn row(name: &'static str, bad: fn() -> Value, says: &'static str) -> Row {
    Row { name, base: good, bad, edited: false, says }
}

const ROWS: &[Row] = &[
    row("admission-steps-none", || weights(&[]), "should have at least 1 items"),
    row(
        "admission-steps-last-below-100",
        || weights(&[10, 50]),
        "the last step must have weight 100",
    ),
    row("admission-steps-falling", || weights(&[50, 10, 100]), RISING),
    row("admission-steps-equal", || weights(&[10, 10, 100]), RISING),
    row("admission-steps-21", || weights(&Vec::from_iter(80..=100)), "must have at most 20 items"),
    row("admission-weight-101", || weights(&[10, 101]), "should be less than or equal to 100"),
    row("admission-weight-negative", || weights(&[-1, 100]), "greater than or equal to 0"),
    row("admission-weight-0", || weights(&[0, 100]), PREVIEW),
    row(
        "admission-preview-with-weight",
        || preview(&json!({"weight": 10, "preview": true})),
        PREVIEW,
    ),
    row(
        "admission-preview-apex-both",
        || {
            let mut spec = preview(&json!({"weight": 0, "preview": true}));
            spec["traffic"] = json!({"apex": "both"});
            spec
        },
        "set traffic.apex: stableOnly",
    ),
    row("admission-match-at-100", || chosen(100, &json!({"exact": "true"})), MATCH),
    row(
        "admission-match-in-preview",
        || {
            let mut spec = preview(&json!({"weight": 0, "preview": true, "match": []}));
            spec["steps"][0]["match"] = json!([{"headers": {"x-canary": {"exact": "true"}}}]);
            spec["traffic"] = json!({"apex": "stableOnly"});
            spec
        },
        MATCH,
    ),
    row(
        "admission-match-exact-and-regex",
        || chosen(10, &json!({"exact": "true", "regex": "true"})),
        "give exactly one of exact and regex",
    ),
    row(
        "admission-match-everything",
        || json!({"steps": [{"weight": 10, "match": [{"headers": {}}]}, {"weight": 100}]}),
        "should have at least 1 properties",
    ),
    row(
        "admission-weight-broken",
        || steps(&[json!(10.5), json!(100)]),
        "spec.steps[0].weight in body must be of type int32",
    ),
    row("admission-no-route", || json!({"traffic": {"routes": []}}), "at least 1 items"),
    row(
        "admission-split-both",
        || {
            let services = json!({"stable": "a", "canary": "b"});
            json!({"traffic": {"split": {"services": services, "subsets": subsets("a", "b")}}})
        },
        "give exactly one of services and subsets",
    ),
    row(
        "admission-split-neither",
        || json!({"traffic": {"split": {}}}),
        "give exactly one of services and subsets",
    ),
    row(
        "admission-subsets-stable-only",
        || json!({"traffic": {"split": {"subsets": subsets("a", "b")}, "apex": "stableOnly"}}),
        "leave it at both, or split by services",
    ),
    row(
        "admission-split-services-equal",
        || json!({"traffic": {"split": {"services": {"stable": "a", "canary": "a"}}}}),
        "stable and canary must be two Services",
    ),
    row(
        "admission-split-subsets-equal",
        || json!({"traffic": {"split": {"subsets": subsets("a", "a")}}}),
        "stable and canary must be two subsets",
    ),
    row(
        "admission-linkerd-virtual-service",
        || json!({"traffic": {"mesh": "linkerd"}}),
        "Linkerd reads no VirtualService",
    ),
    row(
        "admission-istio-grpc-route",
        || json!({"traffic": {"routes": [{"kind": "GRPCRoute", "name": APP}]}}),
        "a GRPCRoute is shifted on Linkerd only",
    ),
    row(
        "admission-http-route-with-subsets",
        || {
            let routes = json!([{"kind": "HTTPRoute", "name": APP}]);
            json!({"traffic": {"routes": routes, "split": {"subsets": subsets("a", "b")}}})
        },
        "an HTTPRoute knows no subsets",
    ),
    row(
        "admission-split-service-is-apex",
        || json!({"traffic": {"split": {"services": {"stable": APP, "canary": "b"}}}}),
        "neither may be traffic.service",
    ),
    Row {
        edited: true,
        ..row(
            "admission-http-twice",
            || {
                let http = ["primary", "primary"];
                json!({"traffic": {"routes": [{"kind": "VirtualService", "name": APP, "http": http}]}})
            },
            "Duplicate value: \"primary\"",
        )
    },
    row(
        "admission-service-name-too-long",
        || json!({"traffic": {"service": "s".repeat(57)}}),
        "may not be more than 56",
    ),
    row("admission-service-elsewhere", || json!({"traffic": {"service": "other/shop"}}), LOCAL),
    row(
        "admission-route-elsewhere",
        || json!({"traffic": {"routes": [{"kind": "VirtualService", "name": "other/shop"}]}}),
        LOCAL,
    ),
    row("admission-target-elsewhere", || json!({"targetRef": {"name": "other/shop"}}), LOCAL),
    row("admission-duration-0s", || json!({"gate": {"minDuration": "0s"}}), SPAN),
    row("admission-duration-negative", || json!({"gate": {"settle": "-5s"}}), "should match"),
    row("admission-duration-above-24h", || json!({"progressDeadline": "24h1s"}), SPAN),
    row("admission-false-rollback-0", || json!({"analysis": {"falseRollback": "0%"}}), RISK),
    row("admission-false-rollback-51", || json!({"analysis": {"falseRollback": "51%"}}), RISK),
    row("admission-false-pass-0", || json!({"analysis": {"falsePass": "0.0%"}}), RISK),
    row("admission-false-pass-51", || json!({"analysis": {"falsePass": "50.01%"}}), RISK),
    row(
        "admission-required-ratio-alone",
        || metrics(&json!({"name": "rate", "successRate": {"maxFailureRatio": "2"}})),
        "a required success rate needs maxDrop or min",
    ),
    row(
        "admission-nothing-to-judge-by",
        || metrics(&json!({"name": "rate", "role": "guard", "successRate": {}})),
        "give at least one of min, maxDrop and maxFailureRatio",
    ),
    row(
        "admission-importance-without-share",
        || {
            let metric = json!({"judge": "fisher", "importance": 2, "successRate": {}});
            metrics(&with(json!({"name": "rate"}), &metric))
        },
        "which only sequential metrics have part in: leave it out",
    ),
    row(
        "admission-calibration-of-a-threshold",
        || {
            let calibration = json!({"dispersion": "2"});
            let metric = json!({"name": "rate", "judge": "threshold", "calibration": calibration});
            metrics(&with(metric, &json!({"successRate": {"min": "99%"}})))
        },
        "calibration is for the sequential judge",
    ),
    row(
        "admission-dispersion-below-1",
        || {
            let calibration = json!({"dispersion": "0.5"});
            let metric = json!({"name": "rate", "successRate": {"maxDrop": "1pp"}});
            metrics(&with(metric, &json!({"calibration": calibration})))
        },
        "dispersion is at least 1",
    ),
    row(
        "admission-vote-exponent-0",
        || {
            let calibration = json!({"dispersion": "2", "voteExponent": "0"});
            let metric = json!({"name": "rate", "successRate": {"maxDrop": "1pp"}});
            metrics(&with(metric, &json!({"calibration": calibration})))
        },
        "voteExponent is above 0",
    ),
    row(
        "admission-query-compared",
        || {
            let query = json!({"query": "up", "min": "1"});
            metrics(&json!({"name": "up", "judge": "welch", "prometheus": query}))
        },
        "a query gives one number, which a threshold judges",
    ),
    row(
        "admission-query-of-stable-without-ratio",
        || metrics(&json!({"name": "up", "prometheus": {"query": "a", "stable": "b"}})),
        "stable and maxRatio belong together",
    ),
    row(
        "admission-query-of-stable-with-max",
        || {
            let query = json!({"query": "a", "stable": "b", "maxRatio": "2", "max": "3"});
            metrics(&json!({"name": "up", "prometheus": query}))
        },
        "leave them out beside stable",
    ),
    row(
        "admission-query-of-stable-by-threshold",
        || {
            let query = json!({"query": "a", "stable": "b", "maxRatio": "2"});
            metrics(&json!({"name": "up", "judge": "threshold", "prometheus": query}))
        },
        "or sequential beside stable's: leave judge out",
    ),
    row(
        "admission-abandoned-compared",
        || metrics(&json!({"name": "left", "judge": "fisher", "abandoned": {}})),
        "abandoned requests are judged by sequential alone",
    ),
    row(
        "admission-abandoned-required",
        || metrics(&json!({"name": "left", "role": "required", "abandoned": {}})),
        "leave role out, it guards; or give maxRatio",
    ),
    row(
        "admission-threshold-on-drop",
        || {
            let rate = json!({"min": "99%", "maxDrop": "1pp"});
            metrics(&json!({"name": "rate", "judge": "threshold", "successRate": rate}))
        },
        "a threshold on the success rate is its min alone",
    ),
    row(
        "admission-threshold-on-slowdown",
        || {
            let latency = json!({"maxSlowdown": "2"});
            metrics(&json!({"name": "slow", "judge": "threshold", "latency": latency}))
        },
        "a threshold on the latency is its max alone",
    ),
    row(
        "admission-compared-with-min",
        || {
            let rate = json!({"min": "99%"});
            metrics(&json!({"name": "rate", "judge": "mannWhitney", "successRate": rate}))
        },
        "leave them out (successRate: {}), or use judge sequential",
    ),
    row(
        "admission-percentiles-with-max",
        || metrics(&json!({"name": "slow", "judge": "ks", "latency": {"max": "1s"}})),
        "leave max and maxSlowdown out",
    ),
    row(
        "admission-fisher-without-max",
        || metrics(&json!({"name": "slow", "judge": "fisher", "latency": {"percentile": 99}})),
        "give max alone",
    ),
    row(
        "admission-compare-without-judge",
        || {
            let rate = json!({"maxDrop": "1pp"});
            metrics(&json!({"name": "rate", "compare": {"confidence": "98%"}, "successRate": rate}))
        },
        "compare is for the judges mannWhitney, fisher, welch and ks",
    ),
    row(
        "admission-compare-of-another",
        || compared("welch", &json!({"tolerance": "25%"})),
        "are mannWhitney's: leave them out",
    ),
    row(
        "admission-fisher-two-sided",
        || compared("fisher", &json!({"direction": "either"})),
        "leave direction out",
    ),
    row(
        "admission-confidence-100",
        || compared("mannWhitney", &json!({"confidence": "100%"})),
        "confidence must be from 50% to below 100%",
    ),
    row(
        "admission-checks-without-threshold",
        || {
            let rate = json!({"maxDrop": "1pp"});
            metrics(&json!({"name": "rate", "checks": {"failureLimit": 4}, "successRate": rate}))
        },
        "checks are for judge threshold on successRate or latency",
    ),
    row(
        "admission-nothing-required",
        || metrics(&json!({"name": "rate", "role": "guard", "successRate": {"maxDrop": "5pp"}})),
        "make a metric's role required, or give every step an approval",
    ),
    Row {
        edited: true,
        ..row("admission-unknown-field", || json!({"stepz": []}), "unknown field \"spec.stepz\"")
    },
    Row { base: source, ..row("admission-source-file", || url("file:///etc/passwd"), URL) },
    Row { base: source, ..row("admission-source-gopher", || url("gopher://p:70/_x"), URL) },
    Row { base: source, ..row("admission-source-userinfo", || url("http://me:pw@p:9090"), URL) },
    Row {
        base: channel,
        ..row(
            "admission-channel-both",
            || {
                let token = json!({"secretRef": {"name": "slack", "key": "token"}});
                json!({"slack": {"token": token, "channel": "C1"}})
            },
            "give exactly one of webhook",
        )
    },
    Row {
        base: channel,
        ..row(
            "admission-channel-token-alone",
            || {
                let token = json!({"secretRef": {"name": "slack", "key": "token"}});
                json!({"slack": {"webhook": null, "token": token}})
            },
            "a token needs channel",
        )
    },
    Row {
        base: action,
        ..row("admission-action-unbound", || json!({"release": 0}), "greater than or equal to 1")
    },
    Row {
        base: action,
        ..row(
            "admission-action-for-another",
            || json!({"requestedBy": "somebody"}),
            "spec.requestedBy must be admin",
        )
    },
    Row {
        base: action,
        edited: true,
        ..row(
            "admission-action-edited",
            || json!({"action": "promote"}),
            "an action is a record: make a new one instead of changing it",
        )
    },
    Row { edited: true, ..row("admission-edit-of-a-rollout", || weights(&[50, 10, 100]), RISING) },
];

/// The bad object is refused with its remedy, and the same put right is taken.
async fn refused(scene: Arc<Scene>, row: Row) -> Result<()> {
    let good = (row.base)(&scene.namespace);
    let bad = json!({"spec": (row.bad)()});
    let answer = if row.edited {
        scene.apply(&good.to_string()).await.context("the object before its edit")?;
        edit(&scene, &good, &bad).await
    } else {
        let mut whole = good.clone();
        json_patch::merge(&mut whole, &bad);
        scene.apply(&whole.to_string()).await.map(drop)
    };
    must_say(answer, row.says)?;
    scene.apply(&good.to_string()).await.context("the same put right")?;
    Ok(())
}

/// Edit an object as `kubectl edit` does.
async fn edit(scene: &Scene, object: &Value, patch: &Value) -> Result<()> {
    let api = apply::api(scene.client(), &scene.namespace, object).await?;
    let parameters = PatchParams::default().validation_strict();
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    api.patch(name, &parameters, &Patch::Merge(patch)).await?;
    Ok(())
}

fn must_say<T>(answer: Result<T>, says: &str) -> Result<()> {
    let Err(error) = answer else { bail!("it was taken; the refusal should say: {says}") };
    let said = format!("{error:#}");
    ensure!(said.contains(says), "the refusal should say {says:?}, but says: {said}");
    Ok(())
}

/// A status that a controller which lost the lead must not be able to write.
#[derive(Clone, Copy)]
struct Fence {
    name: &'static str,
    verdict: &'static str,
    /// The decision after it; `null` for none.
    after: fn(Value) -> Value,
    says: &'static str,
}

const STALE: &str = "stale leader";
const FINAL: &str = "a rollback is final for its release";

const FENCE: &[Fence] = &[
    Fence {
        name: "admission-fence-lower-epoch",
        verdict: "Advance",
        after: |decision| with(decision, &json!({"epoch": 2, "seq": 6})),
        says: STALE,
    },
    Fence {
        name: "admission-fence-lower-seq",
        verdict: "Advance",
        after: |decision| with(decision, &json!({"seq": 4})),
        says: STALE,
    },
    Fence {
        name: "admission-fence-dropped-decision",
        verdict: "Advance",
        after: |_| Value::Null,
        says: STALE,
    },
    Fence {
        name: "admission-fence-raise-after-rollback",
        verdict: "Rollback",
        after: |decision| with(decision, &json!({"seq": 6, "weight": 50})),
        says: FINAL,
    },
    Fence {
        name: "admission-fence-verdict-after-rollback",
        verdict: "Rollback",
        after: |decision| with(decision, &json!({"seq": 6, "verdict": "Advance"})),
        says: FINAL,
    },
];

fn with(mut decision: Value, patch: &Value) -> Value {
    json_patch::merge(&mut decision, patch);
    decision
}

/// The fence refuses it on the server, and takes the next decision as well as a new release.
async fn fenced(scene: Arc<Scene>, row: Fence) -> Result<()> {
    scene.apply(&good(&scene.namespace).to_string()).await?;
    let api = scene.api(SUREFOOT, "Rollout").await?;
    let decision = json!({
        "seq": 5, "epoch": 3, "holder": "one", "release": 2, "step": 0, "weight": 0,
        "verdict": row.verdict, "actor": "surefoot", "reason": "a row",
        "at": "2026-01-01T00:00:00Z",
    });
    write(&api, &decision).await.context("the first decision")?;
    must_say(write(&api, &(row.after)(decision.clone())).await, row.says)?;
    let next = with(decision.clone(), &json!({"epoch": 4, "seq": 6}));
    write(&api, &next).await.context("a later leader")?;
    let release = json!({"epoch": 4, "seq": 7, "release": 3, "verdict": "Advance", "weight": 10});
    write(&api, &with(decision, &release)).await.context("a new release")?;
    Ok(())
}

/// The whole status at once, as the controller writes it.
async fn write(api: &Api<DynamicObject>, decision: &Value) -> Result<()> {
    let mut status = serde_json::to_value(RolloutStatus::default())?;
    if !decision.is_null() {
        status["decision"] = decision.clone();
    }
    let version = api.get(APP).await?.resource_version();
    let patch = json!([
        {"op": "replace", "path": "/metadata/resourceVersion", "value": version},
        {"op": "add", "path": "/status", "value": status},
    ]);
    let patch: json_patch::Patch = serde_json::from_value(patch)?;
    let parameters = PatchParams::apply(apply::FIELD_MANAGER).validation_strict();
    api.patch_status(APP, &parameters, &Patch::Json::<()>(patch)).await?;
    Ok(())
}
