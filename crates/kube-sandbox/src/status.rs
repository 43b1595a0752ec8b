//! Refusals, as the `Status` objects that clients get.

use serde_json::{Map, Value, json};

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{code} {reason}: {message}")]
pub struct Refusal {
    /// The HTTP status.
    pub code: u16,
    /// The machine-readable reason, such as `Conflict`.
    pub reason: String,
    /// What went wrong, for people.
    pub message: String,
    /// What it was about: name, group, kind and causes.
    pub details: Option<Value>,
}

/// One field that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// The machine-readable kind of error, such as `FieldValueInvalid`.
    pub reason: &'static str,
    /// The path of the field.
    pub field: String,
    /// What is wrong, without the path.
    pub message: String,
}

impl Cause {
    /// A field whose value can't be taken; `value` is shown as JSON.
    pub fn invalid(field: impl Into<String>, value: &Value, why: impl std::fmt::Display) -> Cause {
        let message = format!("Invalid value: {value}: {why}");
        Cause { reason: "FieldValueInvalid", field: field.into(), message }
    }

    /// A field that is missing.
    pub fn required(field: impl Into<String>, why: &str) -> Cause {
        let message = if why.is_empty() {
            "Required value".to_owned()
        } else {
            format!("Required value: {why}")
        };
        Cause { reason: "FieldValueRequired", field: field.into(), message }
    }

    /// A value that is not among those supported.
    pub fn unsupported(field: impl Into<String>, value: &Value, supported: &[Value]) -> Cause {
        let supported: Vec<String> = supported.iter().map(Value::to_string).collect();
        let supported = supported.join(", ");
        let message = format!("Unsupported value: {value}: supported values: {supported}");
        Cause { reason: "FieldValueNotSupported", field: field.into(), message }
    }

    /// A value that is there already.
    pub fn duplicate(field: impl Into<String>, value: &Value) -> Cause {
        let message = format!("Duplicate value: {value}");
        Cause { reason: "FieldValueDuplicate", field: field.into(), message }
    }

    /// A change that is not allowed.
    pub fn forbidden(field: impl Into<String>, why: impl std::fmt::Display) -> Cause {
        let message = format!("Forbidden: {why}");
        Cause { reason: "FieldValueForbidden", field: field.into(), message }
    }

    fn json(&self) -> Value {
        json!({"reason": self.reason, "message": self.message, "field": self.field})
    }
}

/// What a refusal is about.
#[derive(Clone, Copy, Debug)]
pub struct About<'a> {
    /// API group, empty for the core group.
    pub group: &'a str,
    /// Resource (or, for invalid objects, kind).
    pub kind: &'a str,
    /// Name of the object.
    pub name: &'a str,
}

impl About<'_> {
    fn qualified(self) -> String {
        if self.group.is_empty() {
            self.kind.to_owned()
        } else {
            format!("{}.{}", self.kind, self.group)
        }
    }

    fn details(self) -> Map<String, Value> {
        let mut details = Map::new();
        for (key, value) in [("name", self.name), ("group", self.group), ("kind", self.kind)] {
            if !value.is_empty() {
                details.insert(key.into(), value.into());
            }
        }
        details
    }
}

impl Refusal {
    /// A refusal without details.
    pub fn new(code: u16, reason: &str, message: impl Into<String>) -> Refusal {
        Refusal { code, reason: reason.into(), message: message.into(), details: None }
    }

    fn about(code: u16, reason: &str, about: About<'_>, message: String) -> Refusal {
        let details = Some(Value::Object(about.details()));
        Refusal { code, reason: reason.into(), message, details }
    }

    /// 400: the request can't be understood.
    pub fn bad_request(message: impl Into<String>) -> Refusal {
        Refusal::new(400, "BadRequest", message)
    }

    /// 404: no such object.
    pub fn not_found(about: About<'_>) -> Refusal {
        let message = format!("{} {:?} not found", about.qualified(), about.name);
        Refusal::about(404, "NotFound", about, message)
    }

    /// 404: no such path or resource.
    pub fn no_resource() -> Refusal {
        let message = "the server could not find the requested resource";
        Refusal { details: Some(json!({})), ..Refusal::new(404, "NotFound", message) }
    }

    /// 405: the resource doesn't know the verb.
    pub fn not_allowed() -> Refusal {
        let message = "the server does not allow this method on the requested resource";
        Refusal { details: Some(json!({})), ..Refusal::new(405, "MethodNotAllowed", message) }
    }

    /// 409: there is one already.
    pub fn already_exists(about: About<'_>) -> Refusal {
        let message = format!("{} {:?} already exists", about.qualified(), about.name);
        Refusal::about(409, "AlreadyExists", about, message)
    }

    /// 409: the object is no longer as the client believes.
    pub fn conflict(about: About<'_>, why: impl std::fmt::Display) -> Refusal {
        let message = format!(
            "Operation cannot be fulfilled on {} {:?}: {why}",
            about.qualified(),
            about.name
        );
        Refusal::about(409, "Conflict", about, message)
    }

    /// 409: the resourceVersion that was given is not the newest.
    pub fn stale(about: About<'_>) -> Refusal {
        Refusal::conflict(
            about,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    /// 403, with a reason.
    pub fn forbidden(about: About<'_>, why: impl std::fmt::Display) -> Refusal {
        let message = format!("{} {:?} is forbidden: {why}", about.qualified(), about.name);
        Refusal::about(403, "Forbidden", about, message)
    }

    /// 410: events or list pages from then are no longer kept.
    pub fn expired(message: impl Into<String>) -> Refusal {
        Refusal::new(410, "Expired", message)
    }

    /// 415: a patch or body of a type that the server doesn't read.
    pub fn unsupported_media(message: impl Into<String>) -> Refusal {
        Refusal::new(415, "UnsupportedMediaType", message)
    }

    /// 422: the object isn't valid; `about.kind` is the kind here.
    pub fn invalid(about: About<'_>, causes: &[Cause]) -> Refusal {
        let said: Vec<String> =
            causes.iter().map(|c| format!("{}: {}", c.field, c.message)).collect();
        let mut said = said;
        said.dedup();
        let said = match said.as_slice() {
            [only] => only.clone(),
            all => format!("[{}]", all.join(", ")),
        };
        let message = format!("{} {:?} is invalid: {said}", about.qualified(), about.name);
        let mut details = about.details();
        details.insert("causes".into(), causes.iter().map(Cause::json).collect());
        let details = Some(Value::Object(details));
        Refusal { code: 422, reason: "Invalid".into(), message, details }
    }

    /// 501: the real server has it, the sandbox doesn't, and says what was asked.
    pub fn out_of_scope(request: impl std::fmt::Display) -> Refusal {
        let message = format!(
            "kube-sandbox doesn't answer this request: {request}; what it answers is listed in its scope.txt"
        );
        Refusal::new(501, "NotImplemented", message)
    }

    /// The `Status` object.
    pub fn status(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "code": self.code,
        });
        if !self.reason.is_empty() {
            status["reason"] = self.reason.clone().into();
        }
        if let Some(details) = &self.details {
            status["details"] = details.clone();
        }
        status
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_group_resource_and_object() {
        let about = About { group: "apps", kind: "deployments", name: "web" };
        let status = Refusal::not_found(about).status();
        assert_eq!(status["message"], "deployments.apps \"web\" not found");
        assert_eq!(
            status["details"],
            json!({"name": "web", "group": "apps", "kind": "deployments"})
        );
    }

    #[test]
    fn several_causes_are_listed() {
        let about = About { group: "apps", kind: "Deployment", name: "web" };
        let causes = [Cause::required("spec.selector", ""), Cause::required("spec.template", "")];
        let refusal = Refusal::invalid(about, &causes);
        assert_eq!(
            refusal.message,
            "Deployment.apps \"web\" is invalid: [spec.selector: Required value, spec.template: Required value]"
        );
    }
}
