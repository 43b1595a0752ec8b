//! The sequences: seeded, over the requests in scope.

mod bodies;
mod objects;

use std::fmt;

use http::Method;
use kube_sandbox::Dice;
use serde_json::{Value, json};

use bodies::{JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH};
use objects::{Kind, RESOURCES};

pub use objects::definitions;

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
    pub accept: &'static str,
    pub body: Option<Value>,
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
/// How kubectl wants what it prints.
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
/// How a client wants what it only counts.
const METADATA: &str =
    "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,application/json";
/// The object with which a sequence ends: a watch that tells of it has told of all.
pub const LAST: &str = "last";

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
        Step { name, object: object.to_owned(), method, uri, media, accept: JSON, body }
    }
}

/// The sequence of a seed.
pub fn sequence(seed: u64, namespace: &str) -> Vec<Step> {
    let mut dice = Dice::new(seed);
    let apis = RESOURCES[pick(&mut dice, RESOURCES.len())];
    let grammar = Grammar { namespace };
    let mut steps =
        vec![Step::post("/api/v1/namespaces", json!({"metadata": {"name": namespace}}))];
    if apis[0].plural == "pods" {
        // No pod without one; and no token for the pods, which the sandbox doesn't have.
        let uri = format!("/api/v1/namespaces/{namespace}/serviceaccounts");
        let account =
            json!({"metadata": {"name": "default"}, "automountServiceAccountToken": false});
        steps.push(Step::post(&uri, account));
    }
    steps.push(grammar.list(&apis[0], "list", ""));
    let length = 8 + pick(&mut dice, 12);
    steps.push(grammar.create(&mut dice, &apis[0], "a"));
    for _ in 0..length {
        let kind = &apis[pick(&mut dice, apis.len())];
        let name = if pick(&mut dice, 4) == 0 { "b" } else { "a" };
        steps.push(grammar.step(&mut dice, kind, name));
    }
    let kind = &apis[pick(&mut dice, apis.len())];
    let end = kind.plain(LAST, namespace);
    steps.push(Step { object: LAST.into(), ..Step::post(&grammar.collection(kind), end) });
    steps.push(grammar.list(kind, "list", ""));
    steps.extend(grammar.watches(kind));
    steps
}

fn pick(dice: &mut Dice, count: usize) -> usize {
    usize::try_from(dice.roll() % count as u64).unwrap_or(0)
}

struct Grammar<'a> {
    namespace: &'a str,
}

impl Grammar<'_> {
    fn collection(&self, kind: &Kind) -> String {
        format!("{}/namespaces/{}/{}", kind.path, self.namespace, kind.plural)
    }

    fn list(&self, kind: &Kind, name: &'static str, query: &str) -> Step {
        let uri = format!("{}?{query}", self.collection(kind));
        Step::new(name, "", Method::GET, uri, "", None)
    }

    /// All that happened, as watches tell it: all of it, a part of it, and what there is now.
    fn watches(&self, kind: &Kind) -> [Step; 4] {
        let since = "watch=true&resourceVersion=$START&timeoutSeconds=60";
        let initial = "watch=true&sendInitialEvents=true&allowWatchBookmarks=true\
                       &resourceVersionMatch=NotOlderThan&resourceVersion=$START&timeoutSeconds=60";
        [
            self.list(kind, "watch", since),
            self.list(kind, "watch", &format!("{since}&labelSelector=app%3Dweb")),
            self.list(kind, "watch", &format!("{since}&fieldSelector=metadata.name!%3Db")),
            self.list(kind, "watch-list", initial),
        ]
    }

    fn create(&self, dice: &mut Dice, kind: &Kind, name: &str) -> Step {
        let validation = ["", "&fieldValidation=Strict", "&fieldValidation=Ignore"];
        let uri =
            format!("{}?fieldManager=maker{}", self.collection(kind), validation[pick(dice, 3)]);
        let body = kind.object(dice, name, self.namespace);
        Step::new("create", name, Method::POST, uri, JSON, Some(body))
    }

    fn step(&self, dice: &mut Dice, kind: &Kind, name: &str) -> Step {
        let uri = format!("{}/{name}", self.collection(kind));
        let new = |what, method, uri, media, body| Step::new(what, name, method, uri, media, body);
        match pick(dice, 17) {
            0 | 1 => self.create(dice, kind, name),
            2 => new("get", Method::GET, uri, "", None),
            3 => self.some_list(dice, kind),
            4 | 5 => {
                let body = self.replacement(dice, kind, name);
                new("update", Method::PUT, format!("{uri}?fieldManager=putter"), JSON, Some(body))
            }
            6 | 7 => {
                let uri = format!("{uri}?fieldManager=patcher{}", strict(dice));
                new("json-patch", Method::PATCH, uri, JSON_PATCH, Some(bodies::json_patch(dice)))
            }
            8..=10 => {
                let uri = format!("{uri}?fieldManager=merger{}", strict(dice));
                let body = bodies::merge_patch(dice, kind);
                new("merge-patch", Method::PATCH, uri, MERGE_PATCH, Some(body))
            }
            11 => {
                let body = bodies::strategic(dice);
                new("strategic-patch", Method::PATCH, uri, STRATEGIC_PATCH, Some(body))
            }
            12 | 13 => {
                let (media, body) = bodies::status(dice, kind);
                let uri = format!("{uri}/status?fieldManager=s{}", strict(dice));
                new("status-patch", Method::PATCH, uri, media, Some(body))
            }
            14 => match pick(dice, 2) {
                0 => new("scale-get", Method::GET, format!("{uri}/scale"), "", None),
                _ => {
                    let number = [2, 2, 0, -1][pick(dice, 4)];
                    let body = json!({"spec": {"replicas": number}});
                    let uri = format!("{uri}/scale");
                    new("scale-patch", Method::PATCH, uri, MERGE_PATCH, Some(body))
                }
            },
            15 => new("delete", Method::DELETE, uri, JSON, Some(bodies::deletion(dice))),
            _ => match pick(dice, 4) {
                0 => {
                    let all = self.collection(kind);
                    new("delete-all", Method::DELETE, all, JSON, Some(json!({})))
                }
                _ => new("delete", Method::DELETE, uri, JSON, Some(bodies::deletion(dice))),
            },
        }
    }

    fn some_list(&self, dice: &mut Dice, kind: &Kind) -> Step {
        let queries = [
            "limit=1",
            "labelSelector=app%3Dweb",
            "labelSelector=!app",
            "fieldSelector=metadata.name%3Da",
            "fieldSelector=spec.nope%3D1",
            "limit=500",
            "limit=500",
        ];
        let index = pick(dice, queries.len());
        let (name, accept) = match index {
            5 => ("table", TABLE),
            6 => ("metadata", METADATA),
            _ => ("list", JSON),
        };
        Step { accept, ..self.list(kind, name, queries[index]) }
    }

    fn replacement(&self, dice: &mut Dice, kind: &Kind, name: &str) -> Value {
        let mut object = kind.object(dice, name, self.namespace);
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
