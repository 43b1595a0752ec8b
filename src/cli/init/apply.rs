//! The steps, done: what is missing is made, and a route is changed only as it was read.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::form::Form;
use super::propose::Step;
use crate::cli::command::MANAGER;
use crate::cli::trouble::trouble;
use crate::client::limited;

/// Pods that run already are behind a new Service within this.
const READY: Duration = Duration::from_secs(30);
/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(250);
/// A mesh knows a new Service within this: Istio gathers changes for up to 10 s, and a proxy that is told of
/// a Service and of a route to it at once may take up the route first and answer 503. The plugin can't see
/// proxies, so it waits as long as a release does where it can't (`spec.traffic.propagationDelay`).
const KNOWN: Duration = Duration::from_secs(15);

/// Do them, one after another; what was done.
///
/// # Errors
/// In one line: what the API server refused. What was done before stays.
pub async fn apply(client: &Client, namespace: &str, steps: &[Step]) -> Result<String> {
    let mut done = Vec::new();
    let mut awaited: Vec<String> = Vec::new();
    for step in steps {
        let said = |text: &str| {
            step.object.pointer(text).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let (kind, name) = (said("/kind"), said("/metadata/name"));
        if ["VirtualService", "HTTPRoute"].contains(&kind.as_str()) && !awaited.is_empty() {
            for service in &awaited {
                serving(client, namespace, service).await?;
            }
            let names = awaited.join(", ");
            eprintln!(
                "Services {names} reach pods; their route follows in {KNOWN:?}, when the mesh knows them"
            );
            tokio::time::sleep(KNOWN).await;
            awaited.clear();
        }
        let resource = resource_of(&said("/apiVersion"), &kind);
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
        let made = match &step.now {
            None => create(&api, &step.object).await,
            Some(now) => change(&api, &name, now, &step.object).await,
        };
        let before = if done.is_empty() {
            String::new()
        } else {
            format!(" (done before: {})", done.join(", "))
        };
        made.with_context(|| format!("{kind} {name}{before}"))?;
        let verb = if step.now.is_some() { "changed" } else { "created" };
        done.push(format!("{}/{name} {verb}", kind.to_lowercase()));
        if step.awaited {
            awaited.push(name);
        }
    }
    Ok(done.iter().map(|line| format!("{line}\n")).collect())
}

fn resource_of(api_version: &str, kind: &str) -> ApiResource {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        // All of ours are regular.
        plural: format!("{}s", kind.to_lowercase()),
    }
}

async fn create(api: &Api<DynamicObject>, object: &Value) -> Result<()> {
    let object: DynamicObject = serde_json::from_value(object.clone())?;
    let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
    let made = limited(api.create(&params, &object)).await;
    made.map(|_| ()).map_err(|error| anyhow!(trouble("creating", &error)))
}

/// Only if nobody has written it since.
async fn change(api: &Api<DynamicObject>, name: &str, now: &Value, then: &Value) -> Result<()> {
    let list = Form::of(now).list();
    let patch: json_patch::Patch = serde_json::from_value(json!([
        {"op": "replace", "path": "/metadata/resourceVersion", "value": now["metadata"]["resourceVersion"]},
        {"op": "replace", "path": format!("/spec/{list}"), "value": then["spec"][list]},
    ]))?;
    let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    let made = limited(api.patch(name, &params, &Patch::Json::<()>(patch))).await;
    made.map(|_| ()).map_err(|error| anyhow!(trouble("changing", &error)))
}

/// Wait until a Service reaches pods: a route that names it before that answers 503.
async fn serving(client: &Client, namespace: &str, service: &str) -> Result<()> {
    let api: Api<EndpointSlice> = Api::namespaced(client.clone(), namespace);
    let of = ListParams::default().labels(&format!("kubernetes.io/service-name={service}"));
    let ready = async {
        loop {
            let slices = limited(api.list(&of)).await;
            let slices =
                slices.map_err(|error| anyhow!(trouble("reading EndpointSlices", &error)))?;
            let mut endpoints = slices.items.iter().flat_map(|slice| &slice.endpoints);
            if endpoints.any(|e| e.conditions.as_ref().is_some_and(|c| c.ready == Some(true))) {
                return Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    match tokio::time::timeout(READY, ready).await {
        Ok(ended) => ended,
        Err(_) => bail!(
            "Service {service} reaches no ready pod after {READY:?}: the route is left as it is; see `kubectl get pods`"
        ),
    }
}
