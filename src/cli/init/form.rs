//! The kinds of route that `init` knows, and what each is written like.

use serde_json::{Value, json};
use surefoot_core::api::rollout::RouteKind;
use surefoot_core::route::istio::is_host;

use super::propose::{list, text};

/// A kind of route: a list of entries in its spec, each with a list of destinations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Of Istio.
    VirtualService,
    /// Of the Gateway API.
    HTTPRoute,
}

impl Form {
    /// Of a raw route.
    #[must_use]
    pub fn of(route: &Value) -> Self {
        if route["kind"] == "HTTPRoute" { Self::HTTPRoute } else { Self::VirtualService }
    }

    /// Its kind.
    #[must_use]
    pub fn kind(self) -> RouteKind {
        match self {
            Self::VirtualService => RouteKind::VirtualService,
            Self::HTTPRoute => RouteKind::HTTPRoute,
        }
    }

    /// What the kind is called.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::VirtualService => "VirtualService",
            Self::HTTPRoute => "HTTPRoute",
        }
    }

    /// What an entry is called.
    pub(super) fn entry(self) -> &'static str {
        match self {
            Self::VirtualService => "http route",
            Self::HTTPRoute => "rule",
        }
    }

    /// The spec's list of entries.
    pub(super) fn list(self) -> &'static str {
        surefoot_core::route::list(self.kind())
    }

    /// The entries of a route.
    pub(super) fn entries(self, route: &Value) -> &[Value] {
        list(route, &format!("/spec/{}", self.list()))
    }

    /// The field of an entry that has its destinations.
    pub(super) fn destinations(self) -> &'static str {
        match self {
            Self::VirtualService => "route",
            Self::HTTPRoute => "backendRefs",
        }
    }

    /// Whether a destination is this Service.
    pub(super) fn goes_to(self, destination: &Value, service: &str, namespace: &str) -> bool {
        match self {
            Self::VirtualService => {
                is_host(service, namespace, text(destination, "/destination/host"))
            }
            Self::HTTPRoute => is_service(destination, "Service", service, namespace),
        }
    }

    /// Whether a route takes the requests that callers within the mesh make to the Service.
    pub(super) fn is_for(self, route: &Value, service: &str, namespace: &str) -> bool {
        match self {
            Self::VirtualService => {
                let hosts = list(route, "/spec/hosts").iter().filter_map(Value::as_str);
                hosts.into_iter().any(|host| is_host(service, namespace, host))
            }
            Self::HTTPRoute => {
                let mut parents = list(route, "/spec/parentRefs").iter();
                parents.any(|parent| is_service(parent, "Gateway", service, namespace))
            }
        }
    }

    /// A destination's subset; empty without one.
    pub(super) fn subset(self, destination: &Value) -> &str {
        match self {
            Self::VirtualService => text(destination, "/destination/subset"),
            Self::HTTPRoute => "",
        }
    }

    /// A destination's weight, also where none is written.
    pub(super) fn weight(self, destination: &Value) -> i64 {
        let unwritten = i64::from(self == Self::HTTPRoute);
        destination.get("weight").and_then(Value::as_i64).unwrap_or(unwritten)
    }

    /// A destination made two, its other fields kept.
    pub(super) fn pair(self, one: &Value, service: &str, stable: &str, canary: &str) -> Value {
        let to = |name: &str, weight: i32| {
            let mut to = one.clone();
            match self {
                Self::HTTPRoute => to["name"] = json!(name),
                Self::VirtualService => {
                    // In whatever length the host is written.
                    let rest = text(one, "/destination/host").strip_prefix(service);
                    let host = format!("{name}{}", rest.unwrap_or_default());
                    to["destination"]["host"] = json!(host);
                    if let Some(destination) = to["destination"].as_object_mut() {
                        destination.remove("subset");
                    }
                }
            }
            to["weight"] = json!(weight);
            to
        };
        json!([to(stable, 100), to(canary, 0)])
    }

    /// A destination of a new route: all of the Service.
    pub(super) fn destination(self, service: &str, port: &Value) -> Value {
        match self {
            Self::VirtualService => json!({"destination": {"host": service}}),
            Self::HTTPRoute => json!({"name": service, "port": port}),
        }
    }

    /// A new route of the Service's requests within the mesh.
    pub(super) fn route(self, service: &str, namespace: &str, entries: &[Value]) -> Value {
        let metadata = json!({"name": service, "namespace": namespace});
        match self {
            Self::VirtualService => json!({
                "apiVersion": "networking.istio.io/v1", "kind": self.name(), "metadata": metadata,
                "spec": {"hosts": [service], "http": entries},
            }),
            Self::HTTPRoute => json!({
                "apiVersion": "gateway.networking.k8s.io/v1", "kind": self.name(), "metadata": metadata,
                "spec": {
                    "parentRefs": [{"group": "", "kind": "Service", "name": service}],
                    "rules": entries,
                },
            }),
        }
    }
}

/// Whether a reference means this Service, where one without kind means `usual`.
fn is_service(reference: &Value, usual: &str, service: &str, namespace: &str) -> bool {
    let field = |name: &str, usual: &str| {
        reference.get(name).and_then(Value::as_str).unwrap_or(usual).to_owned()
    };
    let group = if usual == "Service" { "" } else { "gateway.networking.k8s.io" };
    ["", "core"].contains(&field("group", group).as_str())
        && field("kind", usual) == "Service"
        && field("namespace", namespace) == namespace
        && field("name", "") == service
}
