//! What a run ends with, without all that may differ: times, uids, counts.

use kube_sandbox::Sandbox;
use serde_json::{Value, json};
use surefoot_core::routing::Routing;
use surefoot_core::trace::{Event, Names, check};

use crate::cluster::{Cluster, DEPLOYMENT, NS, ROLLOUT, SERVICES, SETS};
use crate::story::Story;

/// The end state.
pub fn outcome(c: &Cluster) -> Value {
    let (rollout, deployment) = (c.get(ROLLOUT), c.get(DEPLOYMENT));
    let status = &rollout["status"];
    let history = status["history"].as_array().into_iter().flatten();
    let history: Vec<Value> = history
        .map(|p| json!({"number": p["number"], "outcome": p["outcome"], "kind": p["kind"], "by": p["by"], "replicaSet": p["replicaSet"], "images": p["images"]}))
        .collect();
    let services = c.items(SERVICES);
    let services: Vec<Value> =
        services.iter().map(|s| json!([s["metadata"]["name"], s["spec"]["selector"]])).collect();
    let sets = c.items(SETS);
    let mut sets: Vec<Value> = sets
        .iter()
        .map(|s| {
            json!([
                s["metadata"]["name"],
                s["spec"]["replicas"],
                s["spec"]["template"],
                s["metadata"]["ownerReferences"][0]["kind"]
            ])
        })
        .collect();
    sets.sort_by_key(ToString::to_string);
    let told = c.items("/apis/events.k8s.io/v1/namespaces/prod/events");
    let mut told: Vec<String> = told
        .iter()
        .filter(|e| e["reportingController"] == "surefoot.dev/controller")
        .filter_map(|e| Some(e["reason"].as_str()?.to_owned()))
        // Said or not by how much traffic there was when the step began.
        .filter(|reason| reason != "GateUnreachable")
        .collect();
    told.sort();
    told.dedup();
    json!({
        "phase": status["phase"],
        "verdict": status["decision"]["verdict"],
        "weight": status["decision"]["weight"],
        "release": status["release"]["number"],
        "passes": status["release"]["passes"].as_array().map_or(0, Vec::len),
        "stable": status["stable"]["hash"],
        "outbox": status["outbox"].as_array().map_or(0, Vec::len),
        "history": history,
        "routes": c.routes().iter().map(|route| route["spec"].clone()).collect::<Vec<_>>(),
        "services": services,
        "deployment": deployment["spec"],
        "labels": deployment["metadata"]["labels"],
        "sets": sets,
        "told": told,
    })
}

/// Where two outcomes differ.
pub fn difference(clean: &Value, this: &Value) -> Option<String> {
    let fields = clean.as_object()?;
    let (name, value) = fields.iter().find(|(name, value)| this[*name] != **value)?;
    Some(format!("{name}: {value} became {}", this[name]))
}

/// The invariant that the trace of accepted writes breaks first.
pub fn violation(sandbox: &Sandbox, story: Story) -> Option<String> {
    let traffic = serde_json::from_value(story.spec()["traffic"].clone()).ok()?;
    let names = Names {
        rollout: "shop".into(),
        deployment: "shop".into(),
        routing: Routing::of(&traffic),
        namespace: NS.into(),
    };
    let Some(events) = sandbox.events_since(0) else { return Some("the trace is cut".into()) };
    let trace: Vec<Event> = events
        .iter()
        .filter_map(|event| {
            let object = event.after.as_ref().or(event.last.as_ref()).or(event.before.as_ref())?;
            Event::of(object, event.after.is_none(), &names)
        })
        .collect();
    if trace.is_empty() {
        return Some("the trace is empty".into());
    }
    check(&trace).first().map(ToString::to_string)
}
