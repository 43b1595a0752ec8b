//! Routes in the cluster, of either kind: made, read, and taken up by the mesh.

use kube_sandbox::{Body, Request, Sandbox};
use serde_json::{Value, json};
use surefoot_core::api::rollout::{Mesh, RouteKind};
use surefoot_core::routing::{Destination, Routing, Side};

use crate::client::resource;

/// The path of all routes of a kind, or of those in a namespace.
#[must_use]
pub fn path(kind: RouteKind, namespace: Option<&str>) -> String {
    let resource = resource(kind.into());
    let within = namespace.map(|n| format!("namespaces/{n}/")).unwrap_or_default();
    format!("/apis/{}/{within}{}", resource.api_version, resource.plural)
}

/// The kind whose objects go by this plural.
#[must_use]
pub fn called(plural: &str) -> Option<RouteKind> {
    RouteKind::ALL.into_iter().find(|kind| resource((*kind).into()).plural == plural)
}

/// A route with all traffic on stable, of callers within the mesh or of a gateway.
#[must_use]
pub fn object(routing: &Routing, gateway: Option<&str>) -> Value {
    let entry = |name: Option<&String>| {
        let mut entry = entry(routing);
        if let Some(name) = name {
            entry["name"] = json!(name);
        }
        entry
    };
    let entries: Vec<Value> = match routing.http.as_slice() {
        [] => vec![entry(None)],
        names => names.iter().map(|name| entry(Some(name))).collect(),
    };
    let spec = match (routing.kind, gateway) {
        (RouteKind::VirtualService, None) => json!({"hosts": [routing.service], "http": entries}),
        (RouteKind::VirtualService, Some(gateway)) => {
            json!({"hosts": [routing.service], "gateways": [gateway], "http": entries})
        }
        (RouteKind::HTTPRoute | RouteKind::GRPCRoute, None) => json!({
            "parentRefs": [{"group": "", "kind": "Service", "name": routing.service}],
            "rules": entries,
        }),
        (RouteKind::HTTPRoute | RouteKind::GRPCRoute, Some(gateway)) => {
            json!({"parentRefs": [{"name": gateway}], "rules": entries})
        }
    };
    let resource = resource(routing.kind.into());
    json!({
        "apiVersion": resource.api_version, "kind": resource.kind,
        "metadata": {"name": routing.route}, "spec": spec,
    })
}

/// Both destinations, and a timeout with which steps pass sooner.
fn entry(routing: &Routing) -> Value {
    let to = |side, weight| {
        let Destination { service, subset } = routing.destination(side);
        match (routing.kind, subset) {
            (RouteKind::HTTPRoute | RouteKind::GRPCRoute, _) => {
                json!({"name": service, "port": 80, "weight": weight})
            }
            (RouteKind::VirtualService, None) => {
                json!({"destination": {"host": service}, "weight": weight})
            }
            (RouteKind::VirtualService, Some(subset)) => {
                json!({"destination": {"host": service, "subset": subset}, "weight": weight})
            }
        }
    };
    let both = json!([to(Side::Stable, 100), to(Side::Canary, 0)]);
    match routing.kind {
        RouteKind::VirtualService => json!({"timeout": "2s", "route": both}),
        RouteKind::HTTPRoute => {
            json!({"name": "all", "timeouts": {"request": "2s"}, "backendRefs": both})
        }
        // It has no field for a timeout.
        RouteKind::GRPCRoute => json!({"name": "all", "backendRefs": both}),
    }
}

/// What the mesh makes of a route as written: the Service whose requests it takes, and where it sends
/// them.
pub struct Lead<'v> {
    /// A host or a name.
    pub from: &'v str,
    /// To each: a host or a name, a subset of that, and its weight.
    pub to: Vec<(&'v str, Option<&'v str>, u32)>,
}

/// The first entry of a route that takes requests whatever their headers are.
#[must_use]
pub fn lead(route: &Value) -> Option<Lead<'_>> {
    let spec = &route["spec"];
    let gateway = spec["rules"].is_array();
    let entries = if gateway { &spec["rules"] } else { &spec["http"] }.as_array()?;
    let matches = if gateway { "matches" } else { "match" };
    let any = |entry: &&Value| {
        let conditions = entry[matches].as_array();
        conditions.is_none_or(|all| all.iter().any(|one| one["headers"].is_null()))
    };
    let entry = entries.iter().find(any).or(entries.first())?;
    let share = |written: &Value| {
        let weight = written["weight"].as_u64().and_then(|w| u32::try_from(w).ok());
        weight.unwrap_or(u32::from(gateway))
    };
    if gateway {
        let backends = entry["backendRefs"].as_array()?.iter();
        let to = backends.filter_map(|b| Some((b["name"].as_str()?, None, share(b)))).collect();
        return Some(Lead { from: spec["parentRefs"][0]["name"].as_str().unwrap_or_default(), to });
    }
    let destinations = entry["route"].as_array()?.iter();
    let to = destinations.filter_map(|d| {
        let destination = &d["destination"];
        Some((destination["host"].as_str()?, destination["subset"].as_str(), share(d)))
    });
    Some(Lead { from: spec["hosts"][0].as_str().unwrap_or_default(), to: to.collect() })
}

/// The share of a route's last destination.
#[must_use]
pub fn weight(route: &Value) -> i64 {
    let lead = lead(route);
    lead.and_then(|lead| lead.to.last().map(|to| i64::from(to.2))).unwrap_or(0)
}

/// The objects of a list.
#[must_use]
pub fn items(api: &Sandbox, path: &str) -> Vec<Value> {
    match api.handle(&Request::get(path)).body {
        Body::Json(mut list) | Body::Typed(_, mut list) => match list["items"].take() {
            Value::Array(items) => items,
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}

/// What the mesh's controller says of the routes of the Gateway API that have changed since it last
/// looked: the path of each, and its new status.
#[must_use]
pub fn verdicts(api: &Sandbox, mesh: Mesh) -> Vec<(String, Value)> {
    let verdict = |kind: RouteKind, route: &Value| {
        let parents = route["spec"]["parentRefs"].as_array()?.iter();
        let parents: Value = match mesh {
            Mesh::Istio => parents.map(|parent| by_istio(route, parent)).collect(),
            Mesh::Linkerd => parents.map(|parent| by_linkerd(route, parent)).collect(),
        };
        let metadata = &route["metadata"];
        let all = path(kind, metadata["namespace"].as_str());
        let one = format!("{all}/{}/status", metadata["name"].as_str()?);
        let new = route["status"]["parents"] != parents;
        new.then(|| (one, json!({"status": {"parents": parents}})))
    };
    let kinds = [RouteKind::HTTPRoute, RouteKind::GRPCRoute].into_iter();
    let all =
        kinds.flat_map(|kind| items(api, &path(kind, None)).into_iter().map(move |r| (kind, r)));
    all.filter_map(|(kind, route)| verdict(kind, &route)).collect()
}

fn by_istio(route: &Value, parent: &Value) -> Value {
    let seen = &route["metadata"]["generation"];
    let condition = |kind: &str| json!({"type": kind, "status": "True", "reason": kind, "observedGeneration": seen});
    json!({
        "parentRef": parent, "controllerName": "istio.io/gateway-controller",
        "conditions": [condition("Accepted"), condition("ResolvedRefs")],
    })
}

/// Linkerd's names the parent in full, and never says which generation it has looked at.
fn by_linkerd(route: &Value, parent: &Value) -> Value {
    let condition =
        |kind: &str| json!({"type": kind, "status": "True", "reason": kind, "message": ""});
    let mut parent = parent.clone();
    parent["group"] = json!("core");
    if parent["namespace"].is_null() {
        parent["namespace"] = route["metadata"]["namespace"].clone();
    }
    json!({
        "parentRef": parent, "controllerName": "linkerd.io/policy-controller",
        "conditions": [condition("Accepted"), condition("ResolvedRefs")],
    })
}
