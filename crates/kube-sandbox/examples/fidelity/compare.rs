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
    if real.warned != sandbox.warned {
        let (real, sandbox) = (real.warned.into(), sandbox.warned.into());
        found.push(Difference { path: "warning".into(), real, sandbox });
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
                walk(one, other, &format!("{path}[]"), found);
            }
        }
        (one, other) if one == other => {}
        _ => {
            let (real, sandbox) = (real.clone(), sandbox.clone());
            found.push(Difference { path: path.to_owned(), real, sandbox });
        }
    }
}

/// The reason for which a difference may be; none for one that may not.
pub fn allowed(step: &Step, difference: &Difference) -> Option<&'static str> {
    let path = difference.path.as_str();
    let both = |text: &str| {
        let says = |value: &Value| value.as_str().is_some_and(|said| said.contains(text));
        says(&difference.real) && says(&difference.sandbox)
    };
    let said = path.ends_with("message");
    let is_watch = step.name == "watch" && path.is_empty();
    if step.after_scale
        && (is_watch || path.contains("managedFields") || path.ends_with("resourceVersion"))
    {
        return Some("a scale write leaves an owner without time, which a later write tidies up");
    }
    if path.contains("managedFields") && !difference.real.is_string() {
        return Some("whether an owner stays whose last field is gone");
    }
    if said && both("cannot be handled as a") && !both("strict decoding error") {
        return Some("the words of Go's JSON decoder are not those of Rust's");
    }
    if said && both("UID in precondition") && both("StorageError") {
        return Some("a conflict of uids names the key in etcd");
    }
    if said && (both("patch: Invalid value") || both("Invalid value: \"{")) {
        return Some("the patched object is shown with its fields in another order");
    }
    let answered = difference.real.as_str().unwrap_or_default();
    if path == "code" && step.name == "strategic-patch" && answered.contains("unrecognized type") {
        return Some("a strategic merge patch of a field that isn't known is 422 for some types");
    }
    None
}
