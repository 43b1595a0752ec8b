//! EndpointSlices: where the pods of a Service are.

use std::sync::Arc;

use serde_json::{Value, json};

use super::api::{
    Api, controller, has_condition, is_deleting, owned_by, same_namespace, text, uri,
};
use crate::selectors::Selector;

const DISCOVERY: &str = "/apis/discovery.k8s.io/v1";
const SERVICE: &str = "kubernetes.io/service-name";
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "endpointslice-controller.k8s.io";

pub(super) async fn sync(api: &Api) {
    let services = api.list("/api/v1/services").await;
    let pods = api.list("/api/v1/pods").await;
    let slices = api.list("/apis/discovery.k8s.io/v1/endpointslices").await;
    let (Some(services), Some(pods), Some(slices)) = (services, pods, slices) else { return };
    for service in services.iter().filter(|service| !is_deleting(service)) {
        let selector = &service["spec"]["selector"];
        if selector.as_object().is_none_or(serde_json::Map::is_empty) {
            continue;
        }
        let mine = |slice: &&Arc<Value>| {
            controller(slice) == service["metadata"]["uid"].as_str()
                && slice["metadata"]["labels"][MANAGED_BY] == MANAGER
        };
        let wanted = slice(service, &pods);
        match slices.iter().find(mine) {
            None => {
                let namespace = text(&service["metadata"]["namespace"]);
                let uri = format!("{DISCOVERY}/namespaces/{namespace}/endpointslices");
                // What fails is tried again with the next round.
                let _ = api.create(&uri, &wanted).await;
            }
            Some(found) => update(api, found, &wanted).await,
        }
    }
}

async fn update(api: &Api, found: &Value, wanted: &Value) {
    let same = ["endpoints", "ports"].iter().all(|name| {
        let list = |slice: &Value| slice[name].as_array().cloned().unwrap_or_default();
        list(found) == list(wanted)
    });
    if same {
        return;
    }
    let mut slice = found.clone();
    slice["endpoints"] = wanted["endpoints"].clone();
    slice["ports"] = wanted["ports"].clone();
    let _ = api.replace(&uri(DISCOVERY, "endpointslices", found), &slice).await;
}

fn slice(service: &Value, pods: &[Arc<Value>]) -> Value {
    let selector = Selector::of_workload(&json!({"matchLabels": service["spec"]["selector"]}));
    let chosen = |pod: &&Value| {
        same_namespace(pod, service)
            && selector.matches(pod)
            && pod["status"]["podIP"].is_string()
            && !matches!(text(&pod["status"]["phase"]), "Failed" | "Succeeded")
    };
    let chosen: Vec<&Value> = pods.iter().map(|pod| &**pod).filter(chosen).collect();
    let endpoints: Vec<Value> = chosen.iter().map(|pod| endpoint(pod)).collect();
    let ports = service["spec"]["ports"].as_array().into_iter().flatten();
    let ports: Vec<Value> = ports.map(|port| slice_port(port, &chosen)).collect();
    let name = text(&service["metadata"]["name"]);
    json!({
        "metadata": {
            "generateName": format!("{name}-"),
            "labels": {SERVICE: name, MANAGED_BY: MANAGER},
            "ownerReferences": owned_by(service, "v1", "Service"),
        },
        "addressType": "IPv4", "endpoints": endpoints, "ports": ports,
    })
}

fn endpoint(pod: &Value) -> Value {
    let (serving, ending) = (has_condition(pod, "Ready"), is_deleting(pod));
    let metadata = &pod["metadata"];
    json!({
        "addresses": [pod["status"]["podIP"]],
        "conditions": {"ready": serving && !ending, "serving": serving, "terminating": ending},
        "nodeName": pod["spec"]["nodeName"],
        "targetRef": {
            "kind": "Pod", "namespace": metadata["namespace"],
            "name": metadata["name"], "uid": metadata["uid"],
        },
    })
}

/// A port of a Service as its pods have it: a name stands for the container port of that name.
fn slice_port(port: &Value, pods: &[&Value]) -> Value {
    let named = |name: &str| {
        let containers = pods.first()?["spec"]["containers"].as_array()?;
        let mut ports = containers.iter().filter_map(|c| c["ports"].as_array()).flatten();
        Some(ports.find(|port| port["name"] == name)?["containerPort"].clone())
    };
    let target = match &port["targetPort"] {
        Value::String(name) => named(name).unwrap_or(Value::Null),
        number => number.clone(),
    };
    let mut found = json!({"name": text(&port["name"]), "protocol": port["protocol"]});
    if !target.is_null() {
        found["port"] = target;
    }
    if let Some(protocol) = port.get("appProtocol") {
        found["appProtocol"] = protocol.clone();
    }
    found
}
