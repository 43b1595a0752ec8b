//! What differs between two answers, and which differences may be.

use serde_json::Value;

use crate::grammar::Step;
use crate::side::Reply;

/// A place at which two answers differ.
pub struct Difference {
    /// The path within the body, without indexes and names of the sequence.
    pub path: String,
    /// What the real server says.
    pub real: Value,
    /// What the sandbox says.
    pub sandbox: Value,
}

/// All places at which they differ.
pub fn differences(real: &Reply, sandbox: &Reply) -> Vec<Difference> {
    let mut found = Vec::new();
    if real.code != sandbox.code {
        let said = |reply: &Reply| format!("{} {}", reply.code, reply.body["message"]).into();
        found.push(Difference { path: "code".into(), real: said(real), sandbox: said(sandbox) });
        return found;
    }
    walk(&real.body, &sandbox.body, "", &mut found);
    let code = real.code;
    if real.warnings != sandbox.warnings {
        let (real, sandbox) = (real.warnings.clone().into(), sandbox.warnings.clone().into());
        found.push(Difference { path: format!("warning {code}"), real, sandbox });
    }
    found
}

pub fn walk(real: &Value, sandbox: &Value, path: &str, found: &mut Vec<Difference>) {
    match (real, sandbox) {
        (Value::Object(one), Value::Object(other)) => {
            let names = one.keys().chain(other.keys().filter(|name| !one.contains_key(*name)));
            for name in names {
                let path = format!("{path}.{name}");
                walk(&real[name.as_str()], &sandbox[name.as_str()], &path, found);
            }
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            for (one, other) in one.iter().zip(other) {
                // The events of a watch are told apart.
                let kind = one["type"].as_str().filter(|_| path.is_empty()).unwrap_or_default();
                walk(one, other, &format!("{path}[{kind}]"), found);
            }
        }
        (one, other) if one == other => {}
        _ => {
            let (real, sandbox) = (real.clone(), sandbox.clone());
            found.push(Difference { path: path.to_owned(), real, sandbox });
        }
    }
}

/// A difference that may be.
struct Allowed {
    reason: &'static str,
    covers: fn(&Step, &Difference) -> bool,
}

/// All of them.
const ALLOWED: [Allowed; 6] = [
    Allowed {
        reason: "what a column is about is told in other words",
        covers: |_, difference| difference.path == ".columnDefinitions[].description",
    },
    Allowed {
        reason: "the object of a bookmark has a version and else nothing, rather than empty fields",
        covers: |_, difference| {
            difference.path.starts_with("[BOOKMARK].object.") && difference.sandbox.is_null()
        },
    },
    Allowed {
        reason: "the real server may try a patch on a copy of what has just gone, and warn, by chance",
        covers: |step, difference| {
            difference.path == "warning 404"
                && step.method == http::Method::PATCH
                && difference.sandbox == serde_json::json!([])
        },
    },
    Allowed {
        reason: "the words of Go's JSON decoder are not those of Rust's",
        covers: |_, difference| {
            let [real, sandbox] = difference.said();
            difference.path.ends_with("message")
                && real.split_once("json: cannot unmarshal").is_some_and(|(start, _)| {
                    sandbox.starts_with(start) && sandbox.contains("invalid type")
                })
        },
    },
    Allowed {
        reason: "a strategic merge patch of a field that isn't known is 422 for some types",
        covers: |step, difference| {
            difference.path == "code"
                && step.name == "strategic-patch"
                && difference.real.as_str().is_some_and(|said| said.contains("unrecognized type"))
        },
    },
    Allowed {
        reason: "what differs between two pods is told as Go prints it",
        covers: |_, difference| {
            difference.path.ends_with("message")
                && difference.both("pod updates may not change fields other than")
                && difference.same(|said| said.split('\n').next().unwrap_or_default())
        },
    },
];
/// A sandbox that needs more of them is no likeness.
const _: () = assert!(ALLOWED.len() <= 20);

/// The reason for which a difference may be; none for one that may not.
pub fn allowed(step: &Step, difference: &Difference) -> Option<&'static str> {
    let found = ALLOWED.iter().find(|allowed| (allowed.covers)(step, difference));
    found.map(|allowed| allowed.reason)
}

impl Difference {
    fn said(&self) -> [&str; 2] {
        [&self.real, &self.sandbox].map(|value| value.as_str().unwrap_or_default())
    }

    fn both(&self, text: &str) -> bool {
        self.said().iter().all(|said| said.contains(text))
    }

    fn same(&self, part: fn(&str) -> &str) -> bool {
        let [real, sandbox] = self.said();
        part(real) == part(sandbox)
    }
}
