//! How a mesh sees the objects of the cluster: pods with their proxies, and where routes lead.

use std::collections::BTreeMap;

use kube_sandbox::{Key, Sandbox};
use mesh_sandbox::world::Pairs;
use mesh_sandbox::{Destination, Pod, Route, World};
use serde_json::Value;
use surefoot_core::api::rollout::RouteKind;

use super::route::{called, items, lead, path};

/// Whether a mesh looks at objects of this kind.
pub fn matters(key: &Key) -> bool {
    let plural = key.resource.plural.as_str();
    ["pods", "services", "destinationrules"].contains(&plural) || called(plural).is_some()
}

/// Pods and routes of all namespaces as they are now. `character` says of an image's tag how pods of
/// it behave.
pub fn world(api: &Sandbox, character: fn(&str) -> String) -> World {
    let pods = items(api, "/api/v1/pods");
    let services = named(items(api, "/api/v1/services"));
    let rules = items(api, "/apis/networking.istio.io/v1/destinationrules");
    let routes = RouteKind::ALL.into_iter().flat_map(|kind| {
        let grpc = kind == RouteKind::GRPCRoute;
        items(api, &path(kind, None)).into_iter().map(move |route| (grpc, route))
    });
    World {
        pods: pods.iter().filter_map(|value| pod(value, character)).collect(),
        routes: routes
            .filter_map(|(grpc, value)| Some(Route { grpc, ..route(&value, &services, &rules)? }))
            .collect(),
    }
}

/// By namespace and name.
fn named(items: Vec<Value>) -> BTreeMap<(String, String), Value> {
    let key = |value: &Value| Some((text(value, NAMESPACE)?, text(value, NAME)?));
    items.into_iter().filter_map(|value| Some((key(&value)?, value))).collect()
}

const NAME: &str = "/metadata/name";
const NAMESPACE: &str = "/metadata/namespace";

fn text(value: &Value, pointer: &str) -> Option<String> {
    value.pointer(pointer).and_then(Value::as_str).map(str::to_owned)
}

fn pairs(value: &Value) -> Pairs {
    let pairs = value.as_object().into_iter().flatten();
    pairs.filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned()))).collect()
}

fn pod(value: &Value, character: fn(&str) -> String) -> Option<Pod> {
    let labels = pairs(&value["metadata"]["labels"]);
    let image = text(value, "/spec/containers/0/image").unwrap_or_default();
    let owner = text(value, "/metadata/ownerReferences/0/name").unwrap_or_default();
    // A ReplicaSet is named after its Deployment and its hash.
    let hash = labels.get("pod-template-hash").map(String::as_str).unwrap_or_default();
    let workload = owner.strip_suffix(hash).and_then(|name| name.strip_suffix('-'));
    let conditions = value["status"]["conditions"].as_array().into_iter().flatten();
    let ready = conditions
        .filter(|c| c["type"] == "Ready" && c["status"] == "True")
        .find_map(|c| c["lastTransitionTime"].as_str()?.parse().ok());
    let going = value.pointer("/metadata/deletionTimestamp").is_some();
    Some(Pod {
        namespace: text(value, NAMESPACE)?,
        name: text(value, NAME)?,
        ip: text(value, "/status/podIP")?,
        workload: workload.unwrap_or(&owner).to_owned(),
        version: character(image.rsplit_once(':').map_or("latest", |(_, tag)| tag)),
        labels,
        started: text(value, "/status/startTime")?.parse().ok()?,
        ready_since: ready.filter(|_| !going),
    })
}

/// A route, by the entry of it that takes all requests.
fn route(
    value: &Value,
    services: &BTreeMap<(String, String), Value>,
    rules: &[Value],
) -> Option<Route> {
    let (namespace, name) = (text(value, NAMESPACE)?, text(value, NAME)?);
    let short = |host: &str| host.split('.').next().unwrap_or_default().to_owned();
    let selector = |service: &str| {
        let found = services.get(&(namespace.clone(), service.to_owned()));
        found.map(|service| pairs(&service["spec"]["selector"]))
    };
    let destination = |(host, subset, weight): (&str, Option<&str>, u32)| {
        let service = short(host);
        // A Service that isn't there has no pods: no pod has this label.
        let mut labels = selector(&service).unwrap_or_else(|| pair("no such service", &service));
        if let Some(subset) = subset {
            let own =
                rules.iter().filter(|rule| text(rule, NAMESPACE).as_ref() == Some(&namespace));
            let subset = own
                .filter(|rule| rule["spec"]["host"].as_str().map(short).as_ref() == Some(&service))
                .flat_map(|rule| rule["spec"]["subsets"].as_array().into_iter().flatten())
                .find(|known| known["name"] == subset)
                .map(|known| pairs(&known["labels"]));
            labels.extend(subset.unwrap_or_else(|| pair("no such subset", "")));
        }
        Destination { service, selector: labels, weight }
    };
    let lead = lead(value)?;
    let called = short(lead.from);
    Some(Route {
        apex: selector(&called).unwrap_or_default(),
        called,
        grpc: false,
        destinations: lead.to.into_iter().map(destination).collect(),
        namespace: namespace.clone(),
        name,
    })
}

fn pair(name: &str, value: &str) -> Pairs {
    [(name.to_owned(), value.to_owned())].into()
}
