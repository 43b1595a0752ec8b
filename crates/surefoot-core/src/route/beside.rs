//! What stands beside a route and takes the same requests: a route of another kind or a second
//! VirtualService for the same Service, where nobody can tell which of the two wins, or what the mesh puts
//! above all routes.

use serde_json::Value;

use super::dialect::dialect;
use super::problem::{Fault, RouteProblem};
use crate::api::rollout::{Mesh, RouteKind};
use crate::routing::Routing;

/// Kinds that are only looked for, as they take requests away from a route. Not every cluster has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Override {
    /// linkerd.io ServiceProfile: with routes or dstOverrides it wins over every route of its Service.
    ServiceProfile,
    /// split.smi-spec.io TrafficSplit, of which Linkerd's SMI extension makes a ServiceProfile.
    TrafficSplit,
}

impl Override {
    /// As people call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Override::ServiceProfile => "ServiceProfile",
            Override::TrafficSplit => "TrafficSplit",
        }
    }
}

/// Whether the route is the only one that takes the requests of callers within the mesh. (Of HTTPRoutes
/// several may each take a part. Two VirtualServices for one host of the mesh are undefined: Istio's
/// IST0109.) `all` gives the namespace's routes of a kind.
///
/// # Errors
/// Which other one does.
pub fn alone(
    route: &Value,
    routing: &Routing,
    namespace: &str,
    all: impl Fn(RouteKind) -> Vec<Value>,
) -> Result<(), RouteProblem> {
    let takes = |kind: RouteKind, route: &Value| {
        dialect(kind).takes_mesh(route, &routing.service, namespace)
    };
    if !takes(routing.kind, route) {
        return Ok(());
    }
    let exclusive = |kind: &RouteKind| *kind != routing.kind || *kind == RouteKind::VirtualService;
    for kind in RouteKind::ALL.into_iter().filter(exclusive) {
        let is_itself = |other: &Value| kind == routing.kind && name(other) == routing.route;
        let all = all(kind);
        if let Some(other) = all.iter().find(|other| !is_itself(other) && takes(kind, other)) {
            let (name, service) = (name(other).to_owned(), routing.service.clone());
            return Err(routing.problem(Fault::Beside { kind, name, service }));
        }
    }
    Ok(())
}

/// Whether the route's weights are what its Service's requests follow. `all` gives the namespace's
/// objects of a kind, or why they aren't known.
///
/// # Errors
/// What wins over it.
pub fn heeded(
    routing: &Routing,
    namespace: &str,
    all: impl Fn(Override) -> Result<Vec<Value>, Fault>,
) -> Result<(), RouteProblem> {
    if routing.mesh != Mesh::Linkerd {
        return Ok(());
    }
    let service = routing.service.as_str();
    // What the cluster doesn't serve nobody can have made.
    let known = |kind| match all(kind) {
        Err(Fault::NotServed) => Ok(Vec::new()),
        Err(_) => Err(routing.problem(Fault::OverridesUnknown { kind: Override::name(kind) })),
        Ok(objects) => Ok(objects),
    };
    // Named after the Service's full host, whatever the cluster's domain is.
    let host = format!("{service}.{namespace}.svc.");
    let some = |profile: &Value, field: &str| {
        profile.pointer(field).and_then(Value::as_array).is_some_and(|list| !list.is_empty())
    };
    let wins = |profile: &&Value| {
        name(profile).starts_with(&host)
            && (some(profile, "/spec/routes") || some(profile, "/spec/dstOverrides"))
    };
    let profiles = known(Override::ServiceProfile)?;
    let Some(profile) = profiles.iter().find(wins) else { return Ok(()) };
    let splits = all(Override::TrafficSplit).unwrap_or_default();
    let splits_it = |split: &&Value| {
        let of = split.pointer("/spec/service").and_then(Value::as_str).unwrap_or_default();
        of == service || of.starts_with(&format!("{service}.{namespace}"))
    };
    let made = splits
        .iter()
        .find(splits_it)
        .map(|split| format!(" (they are made from TrafficSplit {:?}: remove that)", name(split)));
    Err(routing.problem(Fault::Overridden {
        by: format!("ServiceProfile {:?}", name(profile)),
        service: service.to_owned(),
        made: made.unwrap_or_default(),
    }))
}

fn name(object: &Value) -> &str {
    object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn routing(kind: &str) -> Routing {
        let routes = json!([{"kind": kind, "name": "web"}]);
        let traffic = json!({"mesh": "istio", "service": "shop", "routes": routes});
        Routing::of(&serde_json::from_value(traffic).unwrap())
    }

    fn service(host: &str, gateways: &Value) -> Value {
        json!({"metadata": {"name": "old"}, "spec": {"hosts": ["x.test", host], "gateways": gateways}})
    }

    fn rules(parent: &Value) -> Value {
        json!({"metadata": {"name": "new"}, "spec": {"parentRefs": [parent]}})
    }

    fn said(kind: &str, route: &Value, other: &Value) -> Option<String> {
        let all = |_| vec![other.clone()];
        alone(route, &routing(kind), "prod", all).err().map(|problem| problem.to_string())
    }

    #[test]
    fn a_service_has_routes_of_one_kind_within_the_mesh() {
        let to_service = rules(&json!({"group": "", "kind": "Service", "name": "shop"}));
        let to_gateway = rules(&json!({"name": "public"}));
        let meshed = [
            service("shop", &Value::Null),
            service("shop.prod.svc.cluster.local", &json!(["public", "mesh"])),
        ];
        for of_mesh in &meshed {
            let refused = said("HTTPRoute", &to_service, of_mesh).unwrap();
            assert!(refused.contains("beside VirtualService \"old\""), "{refused}");
            let refused = said("VirtualService", of_mesh, &to_service).unwrap();
            assert!(refused.contains("beside HTTPRoute \"new\""), "{refused}");
            assert_eq!(said("HTTPRoute", &to_gateway, of_mesh), None);
        }
        for apart in [service("shop", &json!(["public"])), service("shop.test", &Value::Null)] {
            assert_eq!(said("HTTPRoute", &to_service, &apart), None);
            assert_eq!(said("VirtualService", &apart, &to_service), None);
        }
    }

    #[test]
    fn two_virtual_services_for_one_host_of_the_mesh_are_refused() {
        let route = service("shop", &Value::Null);
        let refused = said("VirtualService", &route, &route).unwrap();
        assert!(refused.contains("beside VirtualService \"old\": both take"), "{refused}");
        let mut itself = route.clone();
        itself["metadata"]["name"] = json!("web");
        assert_eq!(said("VirtualService", &route, &itself), None);
        // Those of a gateway are merged.
        let public = service("shop", &json!(["public"]));
        assert_eq!(said("VirtualService", &public, &public), None);
        assert_eq!(said("VirtualService", &route, &public), None);
    }

    #[test]
    fn a_service_profile_with_rules_of_its_own_wins_on_linkerd() {
        let of = |mesh: &str| {
            let routes = json!([{"kind": "HTTPRoute", "name": "web"}]);
            let traffic = json!({"mesh": mesh, "service": "shop", "routes": routes});
            Routing::of(&serde_json::from_value(traffic).unwrap())
        };
        let profile = |name: &str, spec: Value| json!({"metadata": {"name": name}, "spec": spec});
        let split = json!({"metadata": {"name": "old"}, "spec": {"service": "shop"}});
        let said = |mesh: &str, profiles: Result<Vec<Value>, Fault>, splits: Vec<Value>| {
            let all = |kind| match kind {
                Override::ServiceProfile => profiles.clone(),
                Override::TrafficSplit => Ok(splits.clone()),
            };
            heeded(&of(mesh), "prod", all).err().map(|problem| problem.to_string())
        };
        let ours = "shop.prod.svc.cluster.local";
        let overrides = json!({"dstOverrides": [{"authority": "shop-canary", "weight": "1"}]});
        let wins = profile(ours, overrides.clone());
        let refused = said("linkerd", Ok(vec![wins.clone()]), Vec::new()).unwrap();
        assert!(refused.contains("beside ServiceProfile \"shop.prod.svc"), "{refused}");
        assert!(!refused.contains("TrafficSplit"), "{refused}");
        let refused = said("linkerd", Ok(vec![wins.clone()]), vec![split]).unwrap();
        assert!(refused.contains("made from TrafficSplit \"old\""), "{refused}");
        let routes = json!({"routes": [{"name": "GET /"}], "dstOverrides": []});
        assert!(said("linkerd", Ok(vec![profile(ours, routes)]), Vec::new()).is_some());
        for no_matter in [
            profile(ours, json!({"retryBudget": {}, "routes": []})),
            profile("shop.test.svc.cluster.local", overrides.clone()),
            profile("shop-two.prod.svc.cluster.local", overrides),
        ] {
            assert_eq!(said("linkerd", Ok(vec![no_matter]), Vec::new()), None);
        }
        assert_eq!(said("istio", Ok(vec![wins]), Vec::new()), None);
        assert_eq!(said("linkerd", Err(Fault::NotServed), Vec::new()), None);
        let unknown = said("linkerd", Err(Fault::Forbidden), Vec::new()).unwrap();
        assert!(unknown.contains("may not list ServiceProfiles"), "{unknown}");
    }
}
