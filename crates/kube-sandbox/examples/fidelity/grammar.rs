//! The sequences: seeded, over the requests in scope.

use std::fmt;

use http::Method;
use kube_sandbox::Dice;
use serde_json::{Value, json};

/// A request to be sent to both servers. `$UID`, `$FIRST`, `$LAST` stand for uid, first and latest
/// version of its object, `$START` for the version at the start of the sequence.
#[derive(Clone, Debug)]
pub struct Step {
    /// What it does, for the report.
    pub name: &'static str,
    /// The object it is about.
    pub object: String,
    pub method: Method,
    pub uri: String,
    pub media: &'static str,
    pub body: Option<Value>,
    /// Whether a scale was written earlier in the sequence.
    pub after_scale: bool,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.name, self.method, self.uri)?;
        match &self.body {
            Some(body) => write!(f, " {body}"),
            None => Ok(()),
        }
    }
}

const JSON: &str = "application/json";

impl Step {
    pub fn get(uri: &str) -> Step {
        Step::new("get", "", Method::GET, uri.to_owned(), "", None)
    }

    pub fn post(uri: &str, body: Value) -> Step {
        Step::new("create", "", Method::POST, uri.to_owned(), JSON, Some(body))
    }

    pub fn new(
        name: &'static str,
        object: &str,
        method: Method,
        uri: String,
        media: &'static str,
        body: Option<Value>,
    ) -> Step {
        Step { name, object: object.to_owned(), method, uri, media, body, after_scale: false }
    }
}

/// The kinds of the sequences: path, plural, kind.
const KINDS: [(&str, &str, &str); 7] = [
    ("/api/v1", "configmaps", "ConfigMap"),
    ("/api/v1", "services", "Service"),
    ("/apis/apps/v1", "deployments", "Deployment"),
    ("/apis/apps/v1", "replicasets", "ReplicaSet"),
    ("/apis/coordination.k8s.io/v1", "leases", "Lease"),
    ("/apis/example.com/v1", "widgets", "Widget"),
    ("/apis/example.com/v1", "widgets", "Widget"),
];

/// The definition of the custom kind: defaults, bounds, rules, status, scale.
pub fn definition() -> Value {
    let spec = json!({
        "type": "object", "required": ["size"],
        "properties": {
            "size": {"type": "integer", "minimum": 0, "maximum": 10},
            "replicas": {"type": "integer", "default": 1},
            "name": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 5, "default": "x"},
            "mode": {"type": "string", "enum": ["A", "B"]},
            "ratio": {"type": "number"},
            "port": {"x-kubernetes-int-or-string": true},
            "parts": {
                "type": "array", "maxItems": 3,
                "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["id"],
                "items": {
                    "type": "object", "required": ["id"],
                    "properties": {"id": {"type": "string"}, "n": {"type": "integer", "default": 7}},
                },
            },
        },
        "x-kubernetes-validations": [
            {"rule": "self.size >= oldSelf.size", "message": "size never falls"},
            {"rule": "!has(self.ratio) || self.ratio <= 1.0", "message": "at most all"},
        ],
    });
    let status = json!({
        "type": "object",
        "properties": {"replicas": {"type": "integer"}, "phase": {"type": "string"}},
    });
    let subresources = json!({
        "status": {},
        "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"},
    });
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "widgets", "kind": "Widget", "singular": "widget", "listKind": "WidgetList"},
            "versions": [{
                "name": "v1", "served": true, "storage": true, "subresources": subresources,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec, "status": status}}},
            }],
        },
    })
}

/// The sequence of a seed.
pub fn sequence(seed: u64, namespace: &str) -> Vec<Step> {
    let mut dice = Dice::new(seed);
    let kind = KINDS[pick(&mut dice, KINDS.len())];
    let grammar = Grammar { kind, namespace: namespace.to_owned() };
    let mut steps = vec![
        Step::post("/api/v1/namespaces", json!({"metadata": {"name": namespace}})),
        grammar.list("list", ""),
    ];
    let length = 8 + pick(&mut dice, 12);
    steps.push(grammar.create(&mut dice, "a"));
    for _ in 0..length {
        let name = if pick(&mut dice, 4) == 0 { "b" } else { "a" };
        steps.push(grammar.step(&mut dice, name));
    }
    steps.push(grammar.list("list", ""));
    steps.push(grammar.watch());
    let scaled = steps.iter().position(|step| step.name == "scale-patch");
    for step in steps.iter_mut().skip(scaled.unwrap_or(usize::MAX)) {
        step.after_scale = true;
    }
    steps
}

fn pick(dice: &mut Dice, count: usize) -> usize {
    usize::try_from(dice.roll() % count as u64).unwrap_or(0)
}

struct Grammar {
    kind: (&'static str, &'static str, &'static str),
    namespace: String,
}

impl Grammar {
    fn collection(&self) -> String {
        format!("{}/namespaces/{}/{}", self.kind.0, self.namespace, self.kind.1)
    }

    fn list(&self, name: &'static str, query: &str) -> Step {
        let uri = format!("{}?{query}", self.collection());
        Step::new(name, "", Method::GET, uri, "", None)
    }

    /// All that happened, as a watch tells it.
    fn watch(&self) -> Step {
        let query = "watch=true&resourceVersion=$START&timeoutSeconds=1";
        self.list("watch", query)
    }

    fn create(&self, dice: &mut Dice, name: &str) -> Step {
        let validation = ["", "&fieldValidation=Strict", "&fieldValidation=Ignore"];
        let uri = format!("{}?fieldManager=maker{}", self.collection(), validation[pick(dice, 3)]);
        let body = self.object(dice, name);
        Step::new("create", name, Method::POST, uri, JSON, Some(body))
    }

    fn step(&self, dice: &mut Dice, name: &str) -> Step {
        let uri = format!("{}/{name}", self.collection());
        let new = |what, method, uri, media, body| Step::new(what, name, method, uri, media, body);
        match pick(dice, 16) {
            0 | 1 => self.create(dice, name),
            2 => new("get", Method::GET, uri, "", None),
            3 => {
                let queries = [
                    "limit=1",
                    "labelSelector=app%3Dweb",
                    "labelSelector=!app",
                    "fieldSelector=metadata.name%3Da",
                    "fieldSelector=spec.nope%3D1",
                    "resourceVersion=$START&resourceVersionMatch=NotOlderThan",
                ];
                self.list("list", queries[pick(dice, queries.len())])
            }
            4 | 5 => {
                let body = self.replacement(dice, name);
                new("update", Method::PUT, format!("{uri}?fieldManager=putter"), JSON, Some(body))
            }
            6 | 7 => {
                let media = "application/json-patch+json";
                let uri = format!("{uri}?fieldManager=patcher{}", strict(dice));
                new("json-patch", Method::PATCH, uri, media, Some(json_patch(dice)))
            }
            8..=10 => {
                let media = "application/merge-patch+json";
                let uri = format!("{uri}?fieldManager=merger{}", strict(dice));
                new("merge-patch", Method::PATCH, uri, media, Some(merge_patch(dice)))
            }
            11 => {
                let media = "application/strategic-merge-patch+json";
                new("strategic-patch", Method::PATCH, uri, media, Some(strategic(dice)))
            }
            12 => {
                let media = "application/merge-patch+json";
                let body = [
                    json!({"status": {"replicas": 2}}),
                    json!({"status": {"phase": "x"}, "spec": {"size": 9}}),
                    json!({"metadata": {"labels": {"s": "t"}}}),
                ][pick(dice, 3)]
                .clone();
                new(
                    "status-patch",
                    Method::PATCH,
                    format!("{uri}/status?fieldManager=s"),
                    media,
                    Some(body),
                )
            }
            13 => match pick(dice, 2) {
                0 => new("scale-get", Method::GET, format!("{uri}/scale"), "", None),
                _ => {
                    let media = "application/merge-patch+json";
                    let number = [2, 2, 0, -1][pick(dice, 4)];
                    let body = json!({"spec": {"replicas": number}});
                    new("scale-patch", Method::PATCH, format!("{uri}/scale"), media, Some(body))
                }
            },
            14 => new("delete", Method::DELETE, uri, JSON, Some(deletion(dice))),
            _ => match pick(dice, 4) {
                0 => new("delete-all", Method::DELETE, self.collection(), JSON, Some(json!({}))),
                _ => new("delete", Method::DELETE, uri, JSON, Some(deletion(dice))),
            },
        }
    }

    /// An object, as often as not with something wrong.
    fn object(&self, dice: &mut Dice, name: &str) -> Value {
        let mut object = json!({"metadata": {"name": name}});
        if pick(dice, 2) == 0 {
            object["metadata"]["labels"] = json!({"app": "web"});
        }
        if pick(dice, 6) == 0 {
            object["metadata"]["finalizers"] = json!(["example.com/wait"]);
        }
        match self.kind.1 {
            "configmaps" => object["data"] = json!({"a": "b"}),
            "services" => {
                object["spec"] = json!({"selector": {"app": "web"}, "ports": [{"port": 80}]})
            }
            "deployments" | "replicasets" => object["spec"] = workload(),
            "leases" => {
                object["spec"] = json!({"holderIdentity": "me", "leaseDurationSeconds": 15})
            }
            _ => object["spec"] = json!({"size": 3, "parts": [{"id": "p"}]}),
        }
        object["apiVersion"] =
            self.kind.0.trim_start_matches("/apis/").trim_start_matches("/api/").into();
        object["kind"] = self.kind.2.into();
        match pick(dice, 14) {
            0 => object["extra"] = 1.into(),
            1 => object["metadata"]["namespace"] = "elsewhere".into(),
            2 => object["metadata"]["name"] = "Bad_Name".into(),
            3 => object["metadata"]["resourceVersion"] = "1".into(),
            4 => object["spec"]["replicas"] = (-1).into(),
            5 => object["spec"]["size"] = 11.into(),
            6 => object["kind"] = "Other".into(),
            _ => {}
        }
        object
    }

    fn replacement(&self, dice: &mut Dice, name: &str) -> Value {
        let mut object = self.object(dice, name);
        let version = ["$LAST", "$LAST", "$LAST", "$FIRST", ""][pick(dice, 5)];
        if !version.is_empty() {
            object["metadata"]["resourceVersion"] = version.into();
        }
        if pick(dice, 6) == 0 {
            object["metadata"]["uid"] = "another".into();
        }
        if pick(dice, 3) == 0 {
            object["metadata"]["annotations"] = json!({"note": dice.suffix()});
        }
        object
    }
}

fn strict(dice: &mut Dice) -> &'static str {
    ["", "&fieldValidation=Strict"][pick(dice, 2)]
}

fn workload() -> Value {
    json!({
        "replicas": 2, "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "web", "image": "web:1", "ports": [{"containerPort": 80}]}]},
        },
    })
}

fn json_patch(dice: &mut Dice) -> Value {
    let choices = [
        json!([{"op": "replace", "path": "/metadata/resourceVersion", "value": "$LAST"}, {"op": "add", "path": "/metadata/annotations", "value": {"x": "y"}}]),
        json!([{"op": "replace", "path": "/metadata/resourceVersion", "value": "$FIRST"}, {"op": "add", "path": "/metadata/annotations", "value": {"x": "z"}}]),
        json!([{"op": "test", "path": "/metadata/name", "value": "nobody"}]),
        json!([{"op": "test", "path": "/metadata/name", "value": "a"}, {"op": "add", "path": "/metadata/labels", "value": {"q": "r"}}]),
        json!([{"op": "remove", "path": "/spec/nothing"}]),
        json!([{"op": "add", "path": "/spec/unknownField", "value": 1}]),
        json!([{"op": "remove", "path": "/metadata/finalizers"}]),
        json!([{"op": "add", "path": "/metadata/finalizers", "value": ["example.com/late"]}]),
        json!([{"op": "replace", "path": "/metadata/uid", "value": "other"}]),
    ];
    choices[pick(dice, choices.len())].clone()
}

fn merge_patch(dice: &mut Dice) -> Value {
    let choices = [
        json!({"metadata": {"labels": {"app": "web", "x": "1"}}}),
        json!({"metadata": {"labels": {"app": null}}}),
        json!({"metadata": {"annotations": {"a": "1"}}}),
        json!({"metadata": {"finalizers": null}}),
        json!({"metadata": {"finalizers": ["example.com/wait"]}}),
        json!({"metadata": {"resourceVersion": "$FIRST", "annotations": {"b": "1"}}}),
        json!({"metadata": {"name": "other"}}),
        json!({"spec": {"replicas": 4}}),
        json!({"spec": {"replicas": "many"}}),
        json!({"spec": {"size": 5}}),
        json!({"spec": {"size": 2}}),
        json!({"spec": {"size": null}}),
        json!({"spec": {"name": "TOOLONG"}}),
        json!({"spec": {"mode": "C"}}),
        json!({"spec": {"ratio": 2.5}}),
        json!({"spec": {"ratio": 1}}),
        json!({"spec": {"port": true}}),
        json!({"spec": {"parts": [{"id": "p"}, {"id": "p"}]}}),
        json!({"spec": {"parts": [{"n": 1}]}}),
        json!({"spec": {"selector": {"matchLabels": {"app": "other"}}}}),
        json!({"spec": {"paused": true, "minReadySeconds": 5}}),
        json!({"data": {"c": "d"}}),
        json!({"unknown": {"c": "d"}}),
        json!({}),
    ];
    choices[pick(dice, choices.len())].clone()
}

fn strategic(dice: &mut Dice) -> Value {
    let choices = [
        json!({"metadata": {"labels": {"s": "1"}}}),
        json!({"spec": {"template": {"spec": {"containers": [{"name": "web", "image": "web:2"}]}}}}),
        json!({"spec": {"template": {"spec": {"containers": [{"name": "other", "image": "o:1"}]}}}}),
        json!({"spec": {"template": {"spec": {"containers": [{"name": "web", "$patch": "delete"}]}}}}),
        json!({"spec": {"ports": [{"port": 81, "name": "b"}]}}),
        json!({"spec": {"ports": [{"port": 80, "name": "a"}]}}),
        json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}),
        json!({"metadata": {"finalizers": ["example.com/more"]}}),
        json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["example.com/more", "example.com/wait"]}}),
    ];
    choices[pick(dice, choices.len())].clone()
}

fn deletion(dice: &mut Dice) -> Value {
    let choices = [
        json!({}),
        json!({"propagationPolicy": "Background"}),
        json!({"propagationPolicy": "Foreground"}),
        json!({"preconditions": {"uid": "$UID"}}),
        json!({"preconditions": {"uid": "nobody"}}),
        json!({"preconditions": {"resourceVersion": "$LAST"}}),
        json!({"preconditions": {"resourceVersion": "$FIRST"}}),
        json!({"dryRun": ["All"]}),
    ];
    choices[pick(dice, choices.len())].clone()
}
