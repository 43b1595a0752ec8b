//! As much of `OpenAPI` v3 as kubectl needs: that objects of a kind can be patched, and that the
//! server validates fields by itself.

use serde_json::{Map, Value, json};

use super::{Answer, Machine};
use crate::kinds::Kind;
use crate::status::Refusal;

impl Machine {
    /// `/openapi/v3`: where the documents are.
    pub(super) fn openapi_index(&self) -> Value {
        let mut paths = Map::new();
        for (group, versions) in self.by_group() {
            for version in versions.keys() {
                let path = base(&group, version);
                // The hash lets clients cache; what is served only changes with the versions.
                let url = format!("/openapi/v3/{path}?hash={}", self.version());
                paths.insert(path, json!({"serverRelativeURL": url}));
            }
        }
        json!({"paths": paths})
    }

    /// The document of a version, such as `apis/apps/v1`.
    pub(super) fn openapi(&self, path: &str) -> Result<Answer, Refusal> {
        let groups = self.by_group();
        let mut versions = groups.iter().flat_map(|(group, versions)| {
            versions.iter().map(move |(version, kinds)| (base(group, version), kinds))
        });
        let found = versions.find(|(base, _)| base == path);
        let Some((base, kinds)) = found else { return Err(Refusal::no_resource()) };
        let (mut paths, mut schemas) = (Map::new(), Map::new());
        for kind in kinds {
            let namespace = if kind.namespaced { "namespaces/{namespace}/" } else { "" };
            paths.insert(format!("/{base}/{namespace}{}/{{name}}", kind.plural), operations(kind));
            schemas.insert(schema_name(kind), schema(kind));
        }
        Ok(Answer::json(
            200,
            json!({
                "openapi": "3.0.0", "info": {"title": "Kubernetes", "version": "v1.37.0"},
                "paths": paths, "components": {"schemas": schemas},
            }),
        ))
    }
}

fn base(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

fn gvk(kind: &Kind) -> Value {
    json!({"group": kind.group, "version": kind.version, "kind": kind.kind})
}

fn operations(kind: &Kind) -> Value {
    let parameter = |name: &str| json!({"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": true}});
    let parameters = ["dryRun", "fieldManager", "fieldValidation"].map(parameter);
    let patch = json!({
        "x-kubernetes-action": "patch", "x-kubernetes-group-version-kind": gvk(kind),
        "parameters": parameters,
        "responses": {"200": {"description": "OK"}},
    });
    json!({"patch": patch})
}

fn schema_name(kind: &Kind) -> String {
    let group = if kind.group.is_empty() { "core" } else { &kind.group };
    format!("{group}.{}.{}", kind.version, kind.kind)
}

fn schema(kind: &Kind) -> Value {
    json!({"type": "object", "x-kubernetes-group-version-kind": [gvk(kind)]})
}
