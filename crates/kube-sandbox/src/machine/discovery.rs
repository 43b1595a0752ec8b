//! What is served: groups, versions, resources.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::{Answer, Body, Machine};
use crate::kinds::{Kind, SELF_REVIEW};
use crate::request::Request;
use crate::status::Refusal;

/// The version of Kubernetes that the sandbox behaves as.
pub(super) fn version() -> Value {
    json!({
        "major": "1", "minor": "37", "gitVersion": "v1.37.0+kube-sandbox",
        "gitCommit": "", "gitTreeState": "clean", "buildDate": "2026-01-01T00:00:00Z",
        "goVersion": "none", "compiler": "rustc", "platform": "kube-sandbox",
    })
}

/// What clients ask for to get everything in one answer.
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

type Versions = BTreeMap<String, Vec<Arc<Kind>>>;

impl Machine {
    /// `/api` or `/apis`.
    pub(super) fn groups(&self, request: &Request, path: &str) -> Answer {
        let is_core = path == "/api";
        let groups: Vec<(String, Versions)> =
            self.by_group().into_iter().filter(|(group, _)| group.is_empty() == is_core).collect();
        if request.accept.contains("as=APIGroupDiscoveryList") {
            let items: Vec<Value> =
                groups.iter().map(|(name, all)| aggregated(name, all)).collect();
            let list = json!({
                "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2",
                "metadata": {}, "items": items,
            });
            return Answer {
                body: Body::Typed(AGGREGATED, list),
                ..Answer::json(200, Value::Null)
            };
        }
        if is_core {
            return Answer::json(200, json!({"kind": "APIVersions", "versions": ["v1"]}));
        }
        let groups: Vec<Value> = groups.iter().map(|(name, all)| group(name, all)).collect();
        Answer::json(200, json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
    }

    /// `/api/v1`, `/apis/<group>` or `/apis/<group>/<version>`.
    pub(super) fn resources(&self, request: &Request, path: &str) -> Result<Answer, Refusal> {
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        let (name, version) = match parts.as_slice() {
            ["api", version] => ("", *version),
            ["apis", name, version] => (*name, *version),
            ["apis", name] => {
                let groups = self.by_group();
                let Some(all) = groups.get(*name) else { return Err(Refusal::no_resource()) };
                let mut group = group(name, all);
                group["kind"] = "APIGroup".into();
                group["apiVersion"] = "v1".into();
                return Ok(Answer::json(200, group));
            }
            _ => return Err(Refusal::out_of_scope(request)),
        };
        let groups = self.by_group();
        let kinds = groups.get(name).and_then(|versions| versions.get(version));
        let kinds = kinds.ok_or_else(Refusal::no_resource)?;
        let resources: Vec<Value> = kinds.iter().flat_map(|kind| plain(kind)).collect();
        let group_version =
            if name.is_empty() { version.to_owned() } else { format!("{name}/{version}") };
        Ok(Answer::json(
            200,
            json!({
                "kind": "APIResourceList", "apiVersion": "v1",
                "groupVersion": group_version, "resources": resources,
            }),
        ))
    }

    /// All kinds by group and version.
    pub(super) fn by_group(&self) -> BTreeMap<String, Versions> {
        let mut groups: BTreeMap<String, Versions> = BTreeMap::new();
        for kind in self.registry.all() {
            let versions = groups.entry(kind.group.clone()).or_default();
            versions.entry(kind.version.clone()).or_default().push(Arc::clone(kind));
        }
        groups
    }
}

fn group(name: &str, versions: &Versions) -> Value {
    let named =
        |version: &String| json!({"groupVersion": format!("{name}/{version}"), "version": version});
    let versions: Vec<Value> = versions.keys().map(named).collect();
    json!({"name": name, "versions": versions, "preferredVersion": versions[0]})
}

fn verbs(kind: &Kind) -> Value {
    if kind.plural == SELF_REVIEW {
        return json!(["create"]);
    }
    json!(["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"])
}

/// The subresources of a kind: name and what they are answered with.
fn subresources(kind: &Kind) -> Vec<(&'static str, Value)> {
    let own = json!({"group": kind.group, "version": kind.version, "kind": kind.kind});
    let mut found = Vec::new();
    if kind.status {
        found.push(("status", own));
    }
    if kind.scale.is_some() {
        found.push(("scale", json!({"group": "autoscaling", "version": "v1", "kind": "Scale"})));
    }
    found
}

fn plain(kind: &Kind) -> Vec<Value> {
    let mut resource = json!({
        "name": kind.plural, "singularName": kind.singular, "namespaced": kind.namespaced,
        "kind": kind.kind, "verbs": verbs(kind),
    });
    for (name, list) in [("shortNames", &kind.short_names), ("categories", &kind.categories)] {
        if !list.is_empty() {
            resource[name] = json!(list);
        }
    }
    let mut all = vec![resource];
    for (name, served) in subresources(kind) {
        all.push(json!({
            "name": format!("{}/{name}", kind.plural), "singularName": "",
            "namespaced": kind.namespaced, "group": served["group"], "version": served["version"],
            "kind": served["kind"], "verbs": ["get", "patch", "update"],
        }));
    }
    all
}

fn aggregated(name: &str, versions: &Versions) -> Value {
    let of_version = |(version, kinds): (&String, &Vec<Arc<Kind>>)| {
        let resources: Vec<Value> = kinds.iter().map(|kind| discovered(kind)).collect();
        json!({"version": version, "freshness": "Current", "resources": resources})
    };
    let versions: Vec<Value> = versions.iter().map(of_version).collect();
    let metadata = if name.is_empty() { json!({}) } else { json!({"name": name}) };
    json!({"metadata": metadata, "versions": versions})
}

fn discovered(kind: &Kind) -> Value {
    let mut resource = json!({
        "resource": kind.plural, "singularResource": kind.singular, "verbs": verbs(kind),
        "scope": if kind.namespaced { "Namespaced" } else { "Cluster" },
        "responseKind": {"group": kind.group, "version": kind.version, "kind": kind.kind},
    });
    for (name, list) in [("shortNames", &kind.short_names), ("categories", &kind.categories)] {
        if !list.is_empty() {
            resource[name] = json!(list);
        }
    }
    let subresources: Vec<Value> = subresources(kind)
        .into_iter()
        .map(|(name, served)| {
            json!({
                "subresource": name, "responseKind": served, "verbs": ["get", "patch", "update"],
            })
        })
        .collect();
    if !subresources.is_empty() {
        resource["subresources"] = subresources.into();
    }
    resource
}
