//! Whatever is sent, there is an answer: nothing panics, and what is stored stays readable.
#![allow(clippy::unwrap_used)]

mod common;

use common::{define, definition, deployment, get, post, read, shop};
use http::Method;
use kube_sandbox::{Dice, Request, Sandbox};
use serde_json::{Value, json};

const OBJECTS: [&str; 9] = [
    "/api/v1/namespaces/shop/configmaps",
    "/api/v1/namespaces/shop/events",
    "/api/v1/namespaces/shop/pods",
    "/api/v1/namespaces/shop/services",
    "/apis/apps/v1/namespaces/shop/deployments",
    "/apis/apps/v1/namespaces/shop/replicasets",
    "/apis/coordination.k8s.io/v1/namespaces/shop/leases",
    "/apis/events.k8s.io/v1/namespaces/shop/events",
    "/apis/example.com/v1/namespaces/shop/widgets",
];
const MEDIA: [&str; 4] = [
    "application/json",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];
const WORDS: [&str; 16] = [
    "metadata",
    "name",
    "spec",
    "status",
    "labels",
    "finalizers",
    "replicas",
    "template",
    "containers",
    "ports",
    "resourceVersion",
    "ownerReferences",
    "managedFields",
    "$patch",
    "$setElementOrder/containers",
    "selector",
];

fn pick(dice: &mut Dice, count: usize) -> usize {
    usize::try_from(dice.roll() % count as u64).unwrap()
}

/// Some JSON, such as nobody would send.
fn anything(dice: &mut Dice, depth: usize) -> Value {
    match pick(dice, if depth == 0 { 5 } else { 8 }) {
        0 => Value::Null,
        1 => json!(true),
        2 => [json!(-1), json!(0), json!(1), json!(1.5), json!(u64::MAX)][pick(dice, 5)].clone(),
        3 => json!(["", "a", "web", "25%", "2026-01-01T00:00:00Z"][pick(dice, 5)]),
        4 => json!([]),
        5 => (0..pick(dice, 3)).map(|_| anything(dice, depth - 1)).collect(),
        _ => {
            let field = |dice: &mut Dice| WORDS[pick(dice, WORDS.len())].to_owned();
            (0..pick(dice, 5)).map(|_| (field(dice), anything(dice, depth - 1))).collect()
        }
    }
}

/// A good object with something else in one place.
fn spoilt(dice: &mut Dice) -> Value {
    let mut object = deployment();
    let places = [
        "/metadata",
        "/spec",
        "/spec/template",
        "/spec/template/spec/containers/0",
        "/spec/selector",
    ];
    *object.pointer_mut(places[pick(dice, places.len())]).unwrap() = anything(dice, 3);
    object
}

fn world() -> Sandbox {
    let sandbox = shop();
    define(&sandbox, &definition("example.com", "v1", "widgets", "Widget"));
    for path in OBJECTS {
        post(&sandbox, path, &json!({"metadata": {"name": "web"}, "kind": null}));
    }
    post(&sandbox, OBJECTS[4], &deployment());
    sandbox
}

#[test]
fn whatever_is_sent_is_answered() {
    let sandbox = world();
    let mut dice = Dice::new(1);
    let mut taken = 0;
    for _ in 0..20_000 {
        let path = OBJECTS[pick(&mut dice, OBJECTS.len())];
        let (method, uri) = match pick(&mut dice, 5) {
            0 => (Method::POST, path.to_owned()),
            1 => (Method::PUT, format!("{path}/web")),
            2 => (Method::PATCH, format!("{path}/web/scale")),
            3 => (Method::PATCH, format!("{path}/web/status")),
            _ => (Method::PATCH, format!("{path}/web")),
        };
        let media = if method == Method::PATCH { MEDIA[pick(&mut dice, 4)] } else { MEDIA[0] };
        let mut body = match pick(&mut dice, 3) {
            0 => anything(&mut dice, 4),
            1 => spoilt(&mut dice),
            _ => json!({"metadata": {"name": "web"}, "spec": anything(&mut dice, 3)}),
        };
        if media == MEDIA[1] {
            let path = format!("/{}", WORDS[pick(&mut dice, WORDS.len())]);
            let path = ["", "/spec", "/metadata", path.as_str()][pick(&mut dice, 4)].to_owned();
            body = json!([{"op": "add", "path": path, "value": anything(&mut dice, 3)}]);
        }
        let request = Request::with(method, &uri, media, body.to_string());
        let (code, answer) = read(sandbox.handle(&request));
        assert!((200..600).contains(&code), "{request}: {answer}");
        taken += usize::from(code < 300);
    }
    assert!(taken > 500, "most of it is nonsense, but not all: {taken}");
    for path in OBJECTS {
        let table = Request {
            accept: "application/json;as=Table;v=v1;g=meta.k8s.io".into(),
            ..Request::get(path)
        };
        assert_eq!(read(sandbox.handle(&table)).0, 200, "{path}");
        for item in get(&sandbox, path).1["items"].as_array().unwrap() {
            assert!(item["metadata"]["uid"].is_string(), "{item}");
        }
    }
}

#[test]
fn what_is_no_json_or_too_large_is_refused() {
    let sandbox = world();
    let post = |body: Vec<u8>| {
        let uri = "/api/v1/namespaces/shop/configmaps";
        read(sandbox.handle(&Request::with(Method::POST, uri, "application/json", body))).0
    };
    assert_eq!(post(b"{".to_vec()), 400);
    assert_eq!(post(vec![0xff, 0xfe]), 400);
    assert_eq!(post(b"[]".to_vec()), 400);
    assert_eq!(post(b"[".repeat(100_000)), 400, "deep JSON");
    assert_eq!(post(vec![b' '; 4 << 20]), 413);
}

#[test]
fn strange_parameters_are_refused_or_ignored() {
    let sandbox = world();
    let path = "/api/v1/namespaces/shop/configmaps";
    for (query, code) in [
        ("limit=-1", 200),
        ("limit=x", 200),
        ("continue=nonsense", 400),
        ("resourceVersion=x", 422),
        ("resourceVersion=99999", 504),
        ("resourceVersionMatch=Exact", 422),
        ("labelSelector=%28", 400),
        ("fieldSelector=a", 400),
        ("watch=true&timeoutSeconds=-5", 200),
        ("watch=true&resourceVersionMatch=NotOlderThan", 422),
        ("fieldValidation=Odd", 400),
    ] {
        assert_eq!(get(&sandbox, &format!("{path}?{query}")).0, code, "{query}");
    }
}
