//! Every request of `scope.txt` is answered, and others are answered 501.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;

use common::{define, definition, deployment, post, shop, template};
use http::Method;
use kube_sandbox::{Request, Sandbox};
use serde_json::{Value, json};

/// In which form alone kubectl asks for the older OpenAPI.
const PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";

/// What is asked for in a line of the list.
struct Line<'a> {
    method: Method,
    /// Path and query, with placeholders.
    form: &'a str,
    media: &'a str,
}

fn lines() -> Vec<Line<'static>> {
    let lines = include_str!("../scope.txt").lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let mut parts = line.split(' ').skip(1);
            let method = parts.next().unwrap().parse().unwrap();
            let form = parts.next().unwrap();
            Line { method, form, media: parts.next().unwrap_or_default() }
        })
        .collect()
}

/// Group, version, resource and, if it is in one, namespace of a path.
fn resource(form: &str) -> Option<(&str, &str, &str, bool)> {
    let path = form.split('?').next()?;
    let mut parts = path.split('/').skip(1);
    let group = if parts.next()? == "api" { "" } else { parts.next()? };
    let version = parts.next()?;
    match parts.next()? {
        "namespaces" if parts.next() == Some("{namespace}") => {
            Some((group, version, parts.next()?, true))
        }
        plural => Some((group, version, plural, false)),
    }
}

/// Kinds that come from definitions: of groups that aren't Kubernetes' own.
fn custom() -> BTreeMap<(&'static str, &'static str, &'static str), bool> {
    let mut found = BTreeMap::new();
    for (group, version, plural, namespaced) in lines().iter().filter_map(|l| resource(l.form)) {
        let own = !group.contains('.') || group.ends_with(".k8s.io");
        if !own || group == "gateway.networking.k8s.io" {
            *found.entry((group, version, plural)).or_default() |= namespaced;
        }
    }
    found
}

/// A sandbox that has, under the name `web`, an object of each kind that the list is about.
fn world() -> Sandbox {
    let sandbox = shop();
    let custom = custom();
    for ((group, version, plural), namespaced) in &custom {
        let mut definition = definition(group, version, plural, plural);
        if !namespaced {
            definition["spec"]["scope"] = "Cluster".into();
        }
        define(&sandbox, &definition);
    }
    let named = json!({"metadata": {"name": "web"}});
    for ((group, version, plural), namespaced) in &custom {
        let space = if *namespaced { "namespaces/shop/" } else { "" };
        let (code, answer) =
            post(&sandbox, &format!("/apis/{group}/{version}/{space}{plural}"), &named);
        assert_eq!(code, 201, "{plural}: {answer}");
    }
    let mut set = deployment();
    set["kind"] = "ReplicaSet".into();
    let service = json!({"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}});
    let pod = json!({"metadata": {"name": "web"}, "spec": template("1")["spec"]});
    for (path, object) in [
        ("apis/apps/v1/namespaces/shop/deployments", &deployment()),
        ("apis/apps/v1/namespaces/shop/replicasets", &set),
        ("apis/coordination.k8s.io/v1/namespaces/shop/leases", &named),
        (
            "apis/discovery.k8s.io/v1/namespaces/shop/endpointslices",
            &json!({"metadata": {"name": "web"}, "addressType": "IPv4", "endpoints": []}),
        ),
        ("api/v1/namespaces/shop/configmaps", &named),
        ("api/v1/namespaces/shop/pods", &pod),
        ("api/v1/namespaces/shop/secrets", &named),
        ("api/v1/namespaces/shop/serviceaccounts", &named),
        ("api/v1/namespaces/shop/services", &service),
        ("api/v1/nodes", &named),
    ] {
        let (code, answer) = post(&sandbox, &format!("/{path}"), object);
        assert_eq!(code, 201, "{path}: {answer}");
    }
    define(&sandbox, &definition("example.com", "v1", "gadgets", "Gadget"));
    sandbox
}

/// The request of a form.
fn filled(form: &str) -> String {
    let name = match resource(form) {
        Some((_, _, "namespaces", _)) => "shop",
        Some((_, _, "customresourcedefinitions", _)) => "gadgets.example.com",
        _ => "web",
    };
    let form = form.replace("{namespace}", "shop").replace("{name}", name);
    form.replace("resourceVersion={value}", "resourceVersion=1")
        .replace("timeoutSeconds={value}", "timeoutSeconds=290")
        .replace("gracePeriodSeconds={value}", "gracePeriodSeconds=1")
        .replace("{value}", "web")
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
        return json!({
            "metadata": metadata, "regarding": {"kind": "Rollout", "namespace": "shop"}, "note": "x",
            "eventTime": "2026-01-01T00:00:00.000000Z", "reportingController": "surefoot.dev/controller",
            "reportingInstance": "one", "type": "Normal", "reason": "Promoted", "action": "Promote",
        });
    }
    json!({"metadata": metadata})
}

#[test]
fn every_request_in_scope_is_answered() {
    let lines = lines();
    assert!(lines.len() > 100, "{}", lines.len());
    let mut wrong = Vec::new();
    for Line { method, form, media } in lines {
        let sandbox = world();
        let uri = filled(form);
        let body = match media {
            "" => String::new(),
            media => body(&sandbox, &method, &uri, media).to_string(),
        };
        let mut request = Request::with(method.clone(), &uri, media, body);
        if uri.starts_with("/openapi/v2") {
            request.accept = PROTOBUF.into();
        }
        let (code, answer) = common::read(sandbox.handle(&request));
        if !(200..300).contains(&code) {
            wrong.push(format!("{method} {form}: {code} {}", answer["message"]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_list_is_sorted_and_says_nothing_twice() {
    let list = include_str!("../scope.txt").lines().filter(|line| !line.starts_with('#'));
    let list: Vec<&str> = list.collect();
    assert!(list.is_sorted_by(|one, next| one < next));
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
    let accept = PROTOBUF.to_owned();
    let request = Request { accept, ..Request::get("/openapi/v2?timeout=32s") };
    assert_eq!(common::read(world().handle(&request)), (200, "".into()));
}
