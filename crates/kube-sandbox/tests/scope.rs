//! Every request of `scope.txt` is answered, and others are answered 501.

#![allow(clippy::unwrap_used)]

mod common;

use common::{define, definition, deployment, post, shop, template};
use http::Method;
use kube_sandbox::{Request, Sandbox};
use serde_json::{Value, json};

/// A sandbox that has what the requests are about.
fn world() -> Sandbox {
    let sandbox = shop();
    for (group, version, plural, kind) in [
        ("surefoot.dev", "v1alpha1", "rollouts", "Rollout"),
        ("surefoot.dev", "v1alpha1", "rolloutactions", "RolloutAction"),
        ("networking.istio.io", "v1", "virtualservices", "VirtualService"),
        ("networking.istio.io", "v1", "destinationrules", "DestinationRule"),
    ] {
        define(&sandbox, &definition(group, version, plural, kind));
    }
    let named = |name: &str| json!({"metadata": {"name": name}, "spec": {}});
    let mut set = deployment();
    set["kind"] = "ReplicaSet".into();
    set["metadata"]["name"] = "web-1".into();
    let service = json!({"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}});
    for (path, object) in [
        ("apps/v1/namespaces/shop/deployments", deployment()),
        ("apps/v1/namespaces/shop/replicasets", set),
        ("surefoot.dev/v1alpha1/namespaces/shop/rollouts", named("web")),
        ("networking.istio.io/v1/namespaces/shop/virtualservices", named("web")),
        ("coordination.k8s.io/v1/namespaces/shop/leases", named("surefoot")),
    ] {
        let (code, answer) = post(&sandbox, &format!("/apis/{path}"), &object);
        assert_eq!(code, 201, "{path}: {answer}");
    }
    post(&sandbox, "/api/v1/namespaces/shop/services", &service);
    post(&sandbox, "/api/v1/namespaces/shop/secrets", &json!({"metadata": {"name": "slack"}}));
    sandbox
}

/// A body that fits the request.
fn body(sandbox: &Sandbox, method: &Method, uri: &str, media: &str) -> Value {
    match media {
        "application/json-patch+json" => {
            json!([{"op": "add", "path": "/metadata/annotations", "value": {"a": "b"}}])
        }
        "application/merge-patch+json" if uri.contains("scale") => json!({"spec": {"replicas": 2}}),
        "application/merge-patch+json" | "application/strategic-merge-patch+json" => {
            json!({"metadata": {"annotations": {"c": "d"}}})
        }
        "application/json" if *method == Method::PUT => {
            let path = uri.split('?').next().unwrap();
            common::get(sandbox, path).1
        }
        "application/json" if *method == Method::POST => created(uri),
        _ => json!({}),
    }
}

fn created(uri: &str) -> Value {
    let metadata = json!({"generateName": "some-"});
    if uri.contains("/deployments") || uri.contains("/replicasets") {
        let selector = json!({"matchLabels": {"app": "web"}});
        return json!({"metadata": metadata, "spec": {"selector": selector, "template": template("1")}});
    }
    if uri.contains("/services") {
        return json!({"metadata": metadata, "spec": {"ports": [{"port": 80}]}});
    }
    if uri.contains("customresourcedefinitions") {
        return definition("example.com", "v1", "widgets", "Widget");
    }
    if uri.contains("/events") {
        return json!({"metadata": metadata, "regarding": {"kind": "Rollout"}, "note": "x"});
    }
    json!({"metadata": metadata})
}

#[test]
fn every_request_in_scope_is_answered() {
    let lines = include_str!("../scope.txt").lines();
    let lines: Vec<&str> =
        lines.filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    assert!(lines.len() > 70, "{}", lines.len());
    for line in lines {
        let sandbox = world();
        let parts: Vec<&str> = line.split(' ').collect();
        let (method, uri) = (parts[0].parse::<Method>().unwrap(), parts[1]);
        let media = parts.get(2).copied().unwrap_or_default();
        let body = match media {
            "" => String::new(),
            media => body(&sandbox, &method, uri, media).to_string(),
        };
        let (code, answer) = common::read(sandbox.handle(&Request::with(method, uri, media, body)));
        assert!((200..300).contains(&code), "{line}: {code} {answer}");
    }
}

#[test]
fn what_is_out_of_scope_says_so() {
    let sandbox = world();
    for (method, uri, media) in [
        (Method::GET, "/apis/batch/v1/jobs", ""),
        (Method::GET, "/api/v1/namespaces/shop/pods/a/log", ""),
        (Method::GET, "/metrics", ""),
        (
            Method::PATCH,
            "/apis/apps/v1/namespaces/shop/deployments/web",
            "application/apply-patch+yaml",
        ),
        (
            Method::POST,
            "/apis/apps/v1/namespaces/shop/deployments",
            "application/vnd.kubernetes.protobuf",
        ),
    ] {
        let request = Request::with(method, uri, media, "{}");
        let (code, answer) = common::read(sandbox.handle(&request));
        assert_eq!(code, 501, "{uri}: {answer}");
        assert!(answer["message"].as_str().unwrap().contains(uri), "{answer}");
    }
}

#[test]
fn a_file_with_a_list_makes_kubectl_ask_for_the_older_openapi() {
    let accept = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf".to_owned();
    let request = Request { accept, ..Request::get("/openapi/v2?timeout=32s") };
    assert_eq!(common::read(world().handle(&request)), (200, "".into()));
}
