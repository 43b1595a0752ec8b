//! What the tests share.
#![allow(dead_code, clippy::unwrap_used)]

use http::Method;
use kube_sandbox::{Answer, Body, Request, Sandbox};
use serde_json::{Value, json};

/// A Deployment named `web` in namespace `shop`.
pub fn deployment() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "shop", "labels": {"app": "web"}},
        "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": template("1")},
    })
}

/// A pod template with an image of this tag.
pub fn template(tag: &str) -> Value {
    json!({
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "web", "image": format!("web:{tag}")}]},
    })
}

/// A definition of a kind whose fields are all kept.
pub fn definition(group: &str, version: &str, plural: &str, kind: &str) -> Value {
    let anything = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let schema = json!({"type": "object", "properties": {"spec": anything, "status": anything}});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{group}")},
        "spec": {
            "group": group, "scope": "Namespaced", "names": {"plural": plural, "kind": kind},
            "versions": [{
                "name": version, "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": schema},
            }],
        },
    })
}

/// Status and body of an answer.
pub fn read(answer: Answer) -> (u16, Value) {
    match answer.body {
        Body::Json(value) | Body::Typed(_, value) => (answer.code, value),
        Body::Text(text) => (answer.code, text.into()),
        Body::Watch(_) => (answer.code, "watch".into()),
    }
}

/// A request with a JSON body.
pub fn send(
    sandbox: &Sandbox,
    method: Method,
    uri: &str,
    media: &str,
    body: &Value,
) -> (u16, Value) {
    read(sandbox.handle(&Request::with(method, uri, media, body.to_string())))
}

/// POST.
pub fn post(sandbox: &Sandbox, uri: &str, body: &Value) -> (u16, Value) {
    send(sandbox, Method::POST, uri, "application/json", body)
}

/// PUT.
pub fn put(sandbox: &Sandbox, uri: &str, body: &Value) -> (u16, Value) {
    send(sandbox, Method::PUT, uri, "application/json", body)
}

/// GET.
pub fn get(sandbox: &Sandbox, uri: &str) -> (u16, Value) {
    read(sandbox.handle(&Request::get(uri)))
}

/// DELETE with options.
pub fn delete(sandbox: &Sandbox, uri: &str, options: &Value) -> (u16, Value) {
    send(sandbox, Method::DELETE, uri, "application/json", options)
}

/// A merge patch.
pub fn merge(sandbox: &Sandbox, uri: &str, patch: &Value) -> (u16, Value) {
    send(sandbox, Method::PATCH, uri, "application/merge-patch+json", patch)
}

/// A JSON patch.
pub fn json_patch(sandbox: &Sandbox, uri: &str, patch: &Value) -> (u16, Value) {
    send(sandbox, Method::PATCH, uri, "application/json-patch+json", patch)
}

/// A strategic merge patch.
pub fn strategic(sandbox: &Sandbox, uri: &str, patch: &Value) -> (u16, Value) {
    send(sandbox, Method::PATCH, uri, "application/strategic-merge-patch+json", patch)
}

/// A sandbox at a fixed time with the namespace `shop`.
pub fn shop() -> Sandbox {
    let time: jiff::Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let sandbox = Sandbox::builder().clock(time).build();
    let (code, _) = post(&sandbox, "/api/v1/namespaces", &json!({"metadata": {"name": "shop"}}));
    assert_eq!(code, 201);
    sandbox
}

/// Adds a definition.
pub fn define(sandbox: &Sandbox, definition: &Value) {
    let uri = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let (code, answer) = post(sandbox, uri, definition);
    assert_eq!(code, 201, "{answer}");
}
