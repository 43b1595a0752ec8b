//! The columns of built-in kinds.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::cells::since;
use super::column;
use crate::kinds::Column;

/// Name, type, priority.
type Head = (&'static str, &'static str, i64);

const NAME: Head = ("Name", "string", 0);
const AGE: Head = ("Age", "string", 0);

fn heads(plural: &str) -> &'static [Head] {
    const WORKLOAD: [Head; 3] =
        [("Containers", "string", 1), ("Images", "string", 1), ("Selector", "string", 1)];
    match plural {
        "pods" => &[
            NAME,
            ("Ready", "string", 0),
            ("Status", "string", 0),
            ("Restarts", "string", 0),
            AGE,
            ("IP", "string", 1),
            ("Node", "string", 1),
            ("Nominated Node", "string", 1),
            ("Readiness Gates", "string", 1),
        ],
        "deployments" => &[
            NAME,
            ("Ready", "string", 0),
            ("Up-to-date", "string", 0),
            ("Available", "string", 0),
            AGE,
            WORKLOAD[0],
            WORKLOAD[1],
            WORKLOAD[2],
        ],
        "replicasets" => &[
            NAME,
            ("Desired", "integer", 0),
            ("Current", "integer", 0),
            ("Ready", "integer", 0),
            AGE,
            WORKLOAD[0],
            WORKLOAD[1],
            WORKLOAD[2],
        ],
        "services" => &[
            NAME,
            ("Type", "string", 0),
            ("Cluster-IP", "string", 0),
            ("External-IP", "string", 0),
            ("Port(s)", "string", 0),
            AGE,
            ("Selector", "string", 1),
        ],
        "namespaces" => &[NAME, ("Status", "string", 0), AGE],
        "leases" => &[NAME, ("Holder", "string", 0), AGE],
        "configmaps" => &[NAME, ("Data", "string", 0), AGE],
        "secrets" => &[NAME, ("Type", "string", 0), ("Data", "string", 0), AGE],
        "endpointslices" => &[
            NAME,
            ("AddressType", "string", 0),
            ("Ports", "string", 0),
            ("Endpoints", "string", 0),
            AGE,
        ],
        "events" => &[
            ("Last Seen", "string", 0),
            ("Type", "string", 0),
            ("Reason", "string", 0),
            ("Object", "string", 0),
            ("Subobject", "string", 1),
            ("Source", "string", 1),
            ("Message", "string", 0),
            ("First Seen", "string", 1),
            ("Count", "string", 1),
            ("Name", "string", 1),
        ],
        "customresourcedefinitions" => &[NAME, ("Created At", "date", 0)],
        _ => &[NAME, AGE],
    }
}

pub(super) fn columns(plural: &str) -> Vec<Column> {
    let heads = heads(plural).iter();
    heads
        .map(|(name, kind, priority)| Column { priority: *priority, ..column(name, kind) })
        .collect()
}

pub(super) fn cells(plural: &str, object: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (&object["spec"], &object["status"]);
    let name = object["metadata"]["name"].clone();
    let created = object["metadata"]["creationTimestamp"].as_str().unwrap_or_default();
    let age = Value::from(since(created, now));
    let number = |value: &Value| Value::from(value.as_i64().unwrap_or(0));
    match plural {
        "pods" => pod(object, name, age, now),
        "deployments" => {
            let ready =
                format!("{}/{}", number(&status["readyReplicas"]), number(&spec["replicas"]));
            let numbers =
                [number(&status["updatedReplicas"]), number(&status["availableReplicas"])];
            let mut cells = vec![name, ready.into()];
            cells.extend(numbers);
            cells.push(age);
            cells.extend(workload(spec));
            cells
        }
        "replicasets" => {
            let mut cells = vec![name, number(&spec["replicas"]), number(&status["replicas"])];
            cells.extend([number(&status["readyReplicas"]), age]);
            cells.extend(workload(spec));
            cells
        }
        "services" => service(spec, name, age),
        "namespaces" => vec![name, status["phase"].clone(), age],
        "leases" => vec![name, spec["holderIdentity"].as_str().unwrap_or_default().into(), age],
        "configmaps" => vec![name, entries(&object["data"]), age],
        "secrets" => vec![name, object["type"].clone(), entries(&object["data"]), age],
        "endpointslices" => slice(object, name, age),
        "events" => event(object, name, now),
        "customresourcedefinitions" => vec![name, created.into()],
        _ => vec![name, age],
    }
}

fn entries(map: &Value) -> Value {
    map.as_object().map_or(0, serde_json::Map::len).into()
}

fn joined(values: impl Iterator<Item = String>) -> Value {
    let text = values.collect::<Vec<_>>().join(",");
    if text.is_empty() { "<none>".into() } else { text.into() }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn pairs(map: &Value) -> Value {
    let map = map.as_object().into_iter().flatten();
    joined(map.map(|(key, value)| format!("{key}={}", text(value))))
}

fn workload(spec: &Value) -> [Value; 3] {
    let containers = &spec["template"]["spec"]["containers"];
    [
        joined(list(containers).map(|container| text(&container["name"]))),
        joined(list(containers).map(|container| text(&container["image"]))),
        pairs(&spec["selector"]["matchLabels"]),
    ]
}

fn pod(object: &Value, name: Value, age: Value, _now: Timestamp) -> Vec<Value> {
    let (spec, status) = (&object["spec"], &object["status"]);
    let containers = &status["containerStatuses"];
    let ready = list(containers).filter(|container| container["ready"] == true).count();
    let restarts: i64 = list(containers).filter_map(|c| c["restartCount"].as_i64()).sum();
    let waiting = list(containers).find_map(|c| c["state"]["waiting"]["reason"].as_str());
    let phase = status["phase"].as_str().unwrap_or_default();
    let ended = matches!(phase, "Failed" | "Succeeded");
    let phase = match waiting {
        _ if !ended && !object["metadata"]["deletionTimestamp"].is_null() => "Terminating",
        Some(reason) => reason,
        None => status["reason"].as_str().unwrap_or(phase),
    };
    let or_none = |value: &Value| value.as_str().unwrap_or("<none>").into();
    let holds = |gate: &Value| {
        let conditions = list(&status["conditions"]);
        conditions.filter(|c| c["type"] == gate["conditionType"]).any(|c| c["status"] == "True")
    };
    let gates = match list(&spec["readinessGates"]).count() {
        0 => "<none>".to_owned(),
        all => {
            format!("{}/{all}", list(&spec["readinessGates"]).filter(|gate| holds(gate)).count())
        }
    };
    vec![
        name,
        format!("{ready}/{}", list(&spec["containers"]).count()).into(),
        phase.into(),
        restarts.to_string().into(),
        age,
        or_none(&status["podIP"]),
        or_none(&spec["nodeName"]),
        or_none(&status["nominatedNodeName"]),
        gates.into(),
    ]
}

/// What a row of a table says of its object beside the cells: that a pod has ended.
pub(super) fn conditions(plural: &str, object: &Value) -> Option<Value> {
    let message = match (plural, object["status"]["phase"].as_str().unwrap_or_default()) {
        ("pods", "Succeeded") => "The pod has completed successfully.",
        ("pods", "Failed") => "The pod failed.",
        _ => return None,
    };
    let reason = &object["status"]["phase"];
    let (kind, status) = ("Completed", "True");
    Some(json!([{"type": kind, "status": status, "reason": reason, "message": message}]))
}

fn service(spec: &Value, name: Value, age: Value) -> Vec<Value> {
    let ports = list(&spec["ports"]).map(|port| {
        let node = port["nodePort"].as_i64().map(|node| format!(":{node}")).unwrap_or_default();
        format!("{}{node}/{}", port["port"], text(&port["protocol"]))
    });
    let external = spec["externalName"].as_str().unwrap_or("<none>");
    let or_none = |value: &Value| Value::from(value.as_str().unwrap_or("<none>"));
    vec![
        name,
        spec["type"].clone(),
        or_none(&spec["clusterIP"]),
        external.into(),
        joined(ports),
        age,
        pairs(&spec["selector"]),
    ]
}

fn slice(object: &Value, name: Value, age: Value) -> Vec<Value> {
    let addresses = list(&object["endpoints"]).flat_map(|endpoint| list(&endpoint["addresses"]));
    let addresses = joined(addresses.map(text));
    let or_unset = |value: Value| if value == "<none>" { json!("<unset>") } else { value };
    let ports = joined(list(&object["ports"]).map(|port| text(&port["port"])));
    vec![name, object["addressType"].clone(), or_unset(ports), or_unset(addresses), age]
}

fn event(event: &Value, name: Value, now: Timestamp) -> Vec<Value> {
    let time = |values: &[&Value]| {
        let found = values.iter().find_map(|value| value.as_str());
        Value::from(found.map_or_else(|| "<unknown>".to_owned(), |time| since(time, now)))
    };
    let (first, new) = (&event["firstTimestamp"], &event["eventTime"]);
    let (last, count) = match &event["series"] {
        Value::Null => (time(&[&event["lastTimestamp"], first, new]), &event["count"]),
        series => (time(&[&series["lastObservedTime"]]), &series["count"]),
    };
    let object = &event["involvedObject"];
    let parts = [text(&object["kind"]).to_lowercase(), text(&object["name"])];
    let what = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/");
    let source = &event["source"];
    let either = |one: &Value, other: &Value| match text(one) {
        one if one.is_empty() => text(other),
        one => one,
    };
    let who = [
        either(&source["component"], &event["reportingComponent"]),
        either(&source["host"], &event["reportingInstance"]),
    ];
    let who = if who[1].is_empty() { who[0].clone() } else { who.join(", ") };
    vec![
        last,
        text(&event["type"]).into(),
        text(&event["reason"]).into(),
        what.into(),
        text(&object["fieldPath"]).into(),
        who.into(),
        text(&event["message"]).trim().into(),
        time(&[first, new]),
        count.as_i64().filter(|count| *count != 0).unwrap_or(1).into(),
        name,
    ]
}
