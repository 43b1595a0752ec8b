//! Putting objects into the cluster, as a user would.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::api::{DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams};
use kube::discovery::Scope;
use kube::{Api, Client, ResourceExt, discovery};
use serde_json::{Value, json};

use crate::wait::wait_until;

/// Who the fields of applied objects belong to.
pub const FIELD_MANAGER: &str = "e2e";

const LIMIT: Duration = Duration::from_secs(30);

/// Applies every document of a YAML text on the server, in order. Objects
/// without a namespace go to `namespace` where their kind has one.
pub async fn apply(client: &Client, namespace: &str, yaml: &str) -> Result<Vec<DynamicObject>> {
    let documents = documents(yaml)?;
    stream::iter(&documents)
        .then(|document| apply_one(client, namespace, document))
        .try_collect()
        .await
}

/// [`apply`] for a file.
pub async fn apply_file(
    client: &Client,
    namespace: &str,
    path: &Path,
) -> Result<Vec<DynamicObject>> {
    let yaml =
        std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    apply(client, namespace, &yaml).await.with_context(|| format!("applying {}", path.display()))
}

/// Applies CustomResourceDefinitions, all at once, and waits until they are served.
pub async fn apply_crds(client: &Client, yaml: &str) -> Result<()> {
    let documents = documents(yaml)?;
    stream::iter(&documents)
        .map(|document| async move {
            let object = apply_one(client, "", document).await?;
            if document["kind"] != "CustomResourceDefinition" {
                return Ok(());
            }
            let name = object.name_any();
            wait_until(&format!("CRD {name} to be established"), LIMIT, || async {
                let crd = api(client, "", document).await?.get(&name).await?;
                let conditions =
                    crd.data["status"]["conditions"].as_array().cloned().unwrap_or_default();
                Ok(conditions.iter().any(|c| c["type"] == "Established" && c["status"] == "True"))
            })
            .await?;
            // Established is not yet served: the storage comes up a moment later.
            wait_until(&format!("{name} to be listed"), LIMIT, || listed(client, document)).await
        })
        .buffer_unordered(8)
        .try_collect()
        .await
}

/// Whether the kind that a definition defines can be listed.
async fn listed(client: &Client, crd: &Value) -> Result<bool> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (spec, group) = (&crd["spec"], text(&crd["spec"]["group"]));
    let versions = spec["versions"].as_array().into_iter().flatten();
    for version in versions.filter(|version| version["served"] == true) {
        let path = format!(
            "/apis/{group}/{}/{}?limit=1",
            text(&version["name"]),
            text(&spec["names"]["plural"])
        );
        let request = http::Request::get(path).body(Vec::new()).context("building a list")?;
        client.request::<Value>(request).await?;
    }
    Ok(true)
}

/// A namespace in which pods can be made: its default ServiceAccount is there.
pub async fn namespace(client: &Client, name: &str, labels: Value) -> Result<()> {
    let namespaces = Api::<Namespace>::all(client.clone());
    let body = serde_json::from_value(json!({"metadata": {"name": name, "labels": labels}}))?;
    namespaces
        .create(&PostParams::default(), &body)
        .await
        .with_context(|| format!("creating namespace {name}"))?;
    let accounts = Api::<ServiceAccount>::namespaced(client.clone(), name);
    wait_until(&format!("namespace {name} to be usable"), LIMIT, || async {
        Ok(accounts.get_opt("default").await?.is_some())
    })
    .await
}

/// The API for the kind of `object` (apiVersion and kind), found by discovery.
pub async fn api(client: &Client, namespace: &str, object: &Value) -> Result<Api<DynamicObject>> {
    let text = |key: &str| object[key].as_str().ok_or_else(|| anyhow!("an object without {key}"));
    let (group, version) = text("apiVersion")?.split_once('/').unwrap_or(("", text("apiVersion")?));
    let kind = GroupVersionKind::gvk(group, version, text("kind")?);
    let (resource, capabilities) = discovery::pinned_kind(client, &kind)
        .await
        .with_context(|| format!("looking up {kind:?}"))?;
    Ok(match capabilities.scope {
        Scope::Cluster => Api::all_with(client.clone(), &resource),
        Scope::Namespaced => {
            let namespace = object["metadata"]["namespace"].as_str().unwrap_or(namespace);
            Api::namespaced_with(client.clone(), namespace, &resource)
        }
    })
}

async fn apply_one(client: &Client, namespace: &str, document: &Value) -> Result<DynamicObject> {
    let name =
        document["metadata"]["name"].as_str().ok_or_else(|| anyhow!("an object without name"))?;
    let parameters = PatchParams {
        field_manager: Some(FIELD_MANAGER.into()),
        force: true,
        ..PatchParams::default()
    }
    .validation_strict();
    api(client, namespace, document)
        .await?
        .patch(name, &parameters, &Patch::Apply(document))
        .await
        .with_context(|| format!("applying {} {name}", document["kind"]))
}

fn documents(yaml: &str) -> Result<Vec<Value>> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(yaml).context("parsing YAML")?;
    Ok(documents.into_iter().filter(|document| !document.is_null()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anchors_and_empty_documents() {
        let documents = documents("---\n---\na: &x [1]\nb: *x\n---\n# nothing\n").unwrap();
        assert_eq!(documents, [json!({"a": [1], "b": [1]})]);
    }
}
