//! Two routes of different kinds for one Service within a mesh: nobody can tell which of them wins.

use serde_json::Value;

use super::dialect::dialect;
use super::problem::{Fault, RouteProblem};
use crate::api::rollout::RouteKind;
use crate::routing::Routing;

/// Whether the route is the only one, of any kind but its own, that takes the requests of callers within
/// the mesh. (Of one kind several may each take a part.) `all` gives the namespace's routes of a kind.
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
    for kind in RouteKind::ALL.into_iter().filter(|kind| *kind != routing.kind) {
        if let Some(other) = all(kind).iter().find(|other| takes(kind, other)) {
            let name = other.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
            let service = routing.service.clone();
            return Err(routing.problem(Fault::Beside { kind, name: name.to_owned(), service }));
        }
    }
    Ok(())
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
}
