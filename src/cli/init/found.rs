//! What is there: the Deployment, and everything in its namespace that its traffic may go by.

use anyhow::{Result, anyhow};
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, ListParams};
use serde_json::Value;
use surefoot_core::api::rollout::Mesh;
use surefoot_core::write::Kind;

use crate::cli::trouble::trouble;
use crate::client::{limited, objects, raw, resource};

/// More objects of a kind in one namespace are not looked at.
const MOST: u32 = 500;

/// A namespace as `init` looks at it.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// The Deployment.
    pub deployment: Value,
    /// Services.
    pub services: Vec<Value>,
    /// VirtualServices and HTTPRoutes.
    pub routes: Vec<Value>,
    /// DestinationRules.
    pub rules: Vec<Value>,
    /// Rollouts.
    pub rollouts: Vec<Value>,
    /// MetricsSources.
    pub sources: Vec<Value>,
}

/// Metrics sources, which no controller writes.
pub(super) fn sources() -> ApiResource {
    ApiResource {
        group: "surefoot.dev".into(),
        version: "v1alpha1".into(),
        api_version: "surefoot.dev/v1alpha1".into(),
        kind: "MetricsSource".into(),
        plural: "metricssources".into(),
    }
}

/// Read all of it.
///
/// # Errors
/// In one line: the Deployment isn't there, a kind isn't known, or the API server can't be asked.
pub async fn find(client: &Client, namespace: &str, name: &str, mesh: Mesh) -> Result<Found> {
    let api = objects(client, Kind::Deployment, namespace);
    let what = format!("reading Deployment {namespace}/{name}");
    let deployment = limited(api.get(name)).await.map_err(|e| anyhow!(trouble(&what, &e)))?;
    let list = async |resource: ApiResource| -> Result<Vec<Value>> {
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
        let what = format!("listing {} of {namespace}", resource.plural);
        let page = match limited(api.list(&ListParams::default().limit(MOST))).await {
            // Nobody has a route of a kind that isn't served.
            Err(error)
                if mesh == Mesh::Istio
                    && resource.kind == "HTTPRoute"
                    && error.code() == Some(403) =>
            {
                eprintln!(
                    "you may not list httproutes of {namespace}: only VirtualServices are looked at"
                );
                return Ok(Vec::new());
            }
            Err(error) if error.code() == Some(404) && resource.kind == "HTTPRoute" => {
                return Ok(Vec::new());
            }
            page => page.map_err(|error| anyhow!(trouble(&what, &error)))?,
        };
        // Items of a list don't say what they are.
        let named = |object: &DynamicObject| {
            let mut value = raw(object);
            value["apiVersion"] = resource.api_version.clone().into();
            value["kind"] = resource.kind.clone().into();
            value
        };
        Ok(page.items.iter().map(named).collect())
    };
    let mut routes = list(resource(Kind::HTTPRoute)).await?;
    let mut rules = Vec::new();
    if mesh == Mesh::Istio {
        routes.extend(list(resource(Kind::VirtualService)).await?);
        rules = list(resource(Kind::DestinationRule)).await?;
    }
    Ok(Found {
        deployment: raw(&deployment),
        services: list(resource(Kind::Service)).await?,
        routes,
        rules,
        rollouts: list(resource(Kind::Rollout)).await?,
        sources: list(sources()).await?,
    })
}
