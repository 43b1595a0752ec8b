//! The objects of an application, as its Rollout expects them.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use surefoot_core::api::analysis::{SourceKind, SourceRef};
use surefoot_core::api::rollout::RolloutSpec;
use surefoot_core::routing::{Routing, Side};

use super::route;
use crate::client::resource;

/// Where the sandbox's Prometheus is; there is no network on the way.
pub const PROMETHEUS: &str = "http://prometheus.sandbox:9090";

/// An application: a Deployment, and how it is delivered.
#[derive(Debug, Clone)]
pub struct App {
    /// Its namespace.
    pub namespace: String,
    /// The Rollout's name.
    pub name: String,
    /// The Rollout's spec.
    pub spec: Value,
    /// Pods of the Deployment.
    pub replicas: u32,
    /// The tag of its image.
    pub version: String,
}

/// An object, and the path that it is made at.
#[derive(Debug, Clone)]
pub struct Object {
    /// Of its collection.
    pub path: String,
    /// The object.
    pub value: Value,
}

impl App {
    /// The spec, typed.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn rollout(&self) -> Result<RolloutSpec> {
        serde_json::from_value(self.spec.clone()).context("the Rollout's spec")
    }

    /// The image of a version.
    #[must_use]
    pub fn image(target: &str, version: &str) -> String {
        format!("registry.test/{target}:{version}")
    }

    /// The pod template of a version.
    #[must_use]
    pub fn template(target: &str, version: &str) -> Value {
        json!({
            "metadata": {"labels": {"app": target}},
            "spec": {"containers": [{"name": target, "image": Self::image(target, version)}]},
        })
    }

    /// All that the Rollout needs, and at last the Rollout itself.
    ///
    /// # Errors
    /// When the spec can't be read.
    pub fn objects(&self) -> Result<Vec<Object>> {
        let spec = self.rollout()?;
        let (routing, target) = (Routing::of(&spec.traffic), spec.target_ref.name.as_str());
        let mut objects = Vec::new();
        let mut add = |group: &str, plural: &str, value: Value| {
            let root = if group == "v1" { "/api" } else { "/apis" };
            let path = format!("{root}/{group}/namespaces/{}/{plural}", self.namespace);
            objects.push(Object { path, value });
        };
        let own = [Side::Stable, Side::Canary].map(|side| routing.own_service(side));
        for name in [Some(routing.service.as_str())].into_iter().chain(own).flatten() {
            add("v1", "services", service(name, target));
        }
        if let Some(rule) = routing.rule() {
            add("networking.istio.io/v1", "destinationrules", subsets(rule, &routing, target));
        }
        for (i, routing) in routing.each().enumerate() {
            let resource = resource(routing.kind.into());
            // Within the mesh a Service has one route; the others are of a gateway.
            let route = route::object(&routing, (i > 0).then_some("public"));
            add(&resource.api_version, &resource.plural, route);
        }
        let deployment = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": target, "labels": {"app": target}},
            "spec": {
                "replicas": self.replicas,
                "selector": {"matchLabels": {"app": target}},
                "template": Self::template(target, &self.version),
            },
        });
        add("apps/v1", "deployments", deployment);
        let rollout = json!({
            "apiVersion": "surefoot.dev/v1alpha1", "kind": "Rollout",
            "metadata": {"name": self.name}, "spec": self.spec,
        });
        add("surefoot.dev/v1alpha1", "rollouts", rollout);
        Ok(objects)
    }
}

/// A metrics source that names the sandbox's Prometheus, for what refers to it from a namespace.
#[must_use]
pub fn source(namespace: &str, reference: &SourceRef) -> Object {
    let (kind, path) = match reference.kind {
        SourceKind::MetricsSource => {
            ("MetricsSource", format!("namespaces/{namespace}/metricssources"))
        }
        SourceKind::ClusterMetricsSource => {
            ("ClusterMetricsSource", "clustermetricssources".to_owned())
        }
    };
    let value = json!({
        "apiVersion": "surefoot.dev/v1alpha1", "kind": kind,
        "metadata": {"name": reference.name}, "spec": {"prometheus": {"url": PROMETHEUS}},
    });
    Object { path: format!("/apis/surefoot.dev/v1alpha1/{path}"), value }
}

fn service(name: &str, target: &str) -> Value {
    let ports = json!([{"name": "http", "port": 80, "targetPort": 8080}]);
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"selector": {"app": target}, "ports": ports},
    })
}

fn subsets(rule: &str, routing: &Routing, target: &str) -> Value {
    let subset = |side| {
        let name = routing.destination(side).subset;
        json!({"name": name, "labels": {"app": target}})
    };
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
        "metadata": {"name": rule},
        "spec": {"host": routing.service, "subsets": [subset(Side::Stable), subset(Side::Canary)]},
    })
}
