//! By which kind of route a story's traffic goes where the story itself doesn't say.

use anyhow::Result;
use serde_json::{Value, json};

use crate::app;
use crate::delivery::APP;

/// The Gateway API.
pub const GATEWAY_API: &str = "gateway.networking.k8s.io/v1";
/// Its kind of route.
pub const KIND: &str = "HTTPRoute";

/// The kinds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Way {
    /// Istio, from outside: a VirtualService of the gateway.
    #[default]
    VirtualService,
    /// Istio, from within: an HTTPRoute of the Service.
    HttpRoute,
    /// Linkerd, from within: the same, by the stand-in.
    Linkerd,
}

impl Way {
    /// What a Rollout says of it, beside what all say.
    #[must_use]
    pub fn spec(self) -> Value {
        let routes = json!([{"kind": KIND, "name": APP}]);
        match self {
            Self::VirtualService => json!({}),
            Self::HttpRoute => json!({"traffic": {"routes": routes}}),
            Self::Linkerd => json!({"traffic": {"mesh": "linkerd", "routes": routes}}),
        }
    }
}

/// An HTTPRoute of the Service between its two versions' own.
#[must_use]
pub fn http_route() -> Value {
    let to = |name: &str, weight: u8| json!({"name": name, "port": 80, "weight": weight});
    json!({
        "apiVersion": GATEWAY_API, "kind": KIND, "metadata": {"name": APP},
        "spec": {
            "parentRefs": [{"group": "", "kind": "Service", "name": APP}],
            "rules": [{
                "timeouts": {"request": "2s"},
                "backendRefs": [to("shop-stable", 100), to("shop-canary", 0)],
            }],
        },
    })
}

/// The versions' Services, and a route between them.
#[must_use]
pub fn with(route: &Value) -> Vec<String> {
    let service = |name| app::service(name, &format!("app: {APP}"));
    vec![service("shop-stable"), service("shop-canary"), route.to_string()]
}

/// The usual one.
///
/// # Errors
/// None.
pub fn by_rules(_: &str) -> Result<Vec<String>> {
    Ok(with(&http_route()))
}
