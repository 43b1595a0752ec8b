//! A request as the API server reads it: verb, resource, object, parameters.

use std::fmt;

use bytes::Bytes;
use http::Method;
use percent_encoding::percent_decode_str;

use crate::status::Refusal;

/// A request, complete.
#[derive(Clone, Debug)]
pub struct Request {
    /// The HTTP method.
    pub method: Method,
    /// The path, decoded.
    pub path: String,
    /// The query's pairs, decoded, in their order.
    pub query: Vec<(String, String)>,
    /// What the client wants to read.
    pub accept: String,
    /// What the body is.
    pub content_type: String,
    /// Who sends it: the program.
    pub agent: String,
    /// Who sends it: the user, by impersonation.
    pub user: Option<String>,
    /// The body.
    pub body: Bytes,
}

impl Request {
    /// From the parts of an HTTP request.
    #[must_use]
    pub fn new(parts: &http::request::Parts, body: Bytes) -> Request {
        let header = |name: &str| {
            let value = parts.headers.get(name).and_then(|value| value.to_str().ok());
            value.unwrap_or_default().to_owned()
        };
        let query = parts.uri.query().unwrap_or_default();
        Request {
            method: parts.method.clone(),
            path: decoded(parts.uri.path()),
            query: query.split('&').filter(|pair| !pair.is_empty()).map(pair).collect(),
            accept: header("accept"),
            content_type: header("content-type"),
            agent: header("user-agent"),
            user: Some(header("impersonate-user")).filter(|user| !user.is_empty()),
            body,
        }
    }

    /// A request without body, for tests and tools.
    #[must_use]
    pub fn get(uri: &str) -> Request {
        Request::with(Method::GET, uri, "", "")
    }

    /// A request with a body of a content type.
    #[must_use]
    pub fn with(method: Method, uri: &str, content_type: &str, body: impl Into<Bytes>) -> Request {
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        Request {
            method,
            path: decoded(path),
            query: query.split('&').filter(|pair| !pair.is_empty()).map(pair).collect(),
            accept: "application/json".into(),
            content_type: content_type.into(),
            agent: String::new(),
            user: None,
            body: body.into(),
        }
    }

    /// The first value of a parameter; an empty one counts as none.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let found = self.query.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// Whether a parameter is true.
    #[must_use]
    pub fn flag(&self, name: &str) -> bool {
        matches!(self.parameter(name), Some("true" | "1"))
    }

    /// The content type without its parameters.
    #[must_use]
    pub fn media(&self) -> &str {
        self.content_type.split(';').next().unwrap_or_default().trim()
    }

    /// What the request is about.
    #[must_use]
    pub fn target(&self) -> Option<Target> {
        Target::parse(&self.path)
    }

    /// The verb as RBAC names it.
    #[must_use]
    pub fn verb(&self) -> Verb {
        let named = self.target().is_some_and(|target| target.name.is_some());
        match self.method {
            Method::GET | Method::HEAD if self.flag("watch") => Verb::Watch,
            Method::GET | Method::HEAD if named => Verb::Get,
            Method::GET | Method::HEAD => Verb::List,
            Method::POST => Verb::Create,
            Method::PUT => Verb::Update,
            Method::PATCH => Verb::Patch,
            Method::DELETE if named => Verb::Delete,
            Method::DELETE => Verb::DeleteCollection,
            _ => Verb::Other,
        }
    }

    /// The manager under which written fields are recorded.
    #[must_use]
    pub fn manager(&self) -> String {
        let agent = || self.agent.split('/').next().unwrap_or_default().to_owned();
        let name = self.parameter("fieldManager").map_or_else(agent, str::to_owned);
        if name.is_empty() { "unknown".to_owned() } else { name }
    }

    /// How unknown fields are treated.
    ///
    /// # Errors
    /// When the parameter has a value that isn't one.
    pub fn strictness(&self) -> Result<Strictness, Refusal> {
        match self.parameter("fieldValidation") {
            None | Some("Warn") => Ok(Strictness::Warn),
            Some("Strict") => Ok(Strictness::Strict),
            Some("Ignore") => Ok(Strictness::Ignore),
            Some(other) => Err(Refusal::bad_request(format!(
                "fieldValidation {other:?} is none of Ignore, Warn, Strict"
            ))),
        }
    }

    /// Whether nothing is to be stored.
    #[must_use]
    pub fn is_dry_run(&self) -> bool {
        self.query.iter().any(|(key, value)| key == "dryRun" && value == "All")
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path)?;
        for (index, (key, value)) in self.query.iter().enumerate() {
            write!(f, "{}{key}={value}", if index == 0 { '?' } else { '&' })?;
        }
        if !self.content_type.is_empty() {
            write!(f, " ({})", self.content_type)?;
        }
        Ok(())
    }
}

/// What happens to unknown fields, other than that they are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strictness {
    /// Nothing.
    Ignore,
    /// The answer warns of them.
    Warn,
    /// The request is refused.
    Strict,
}

/// A verb as RBAC names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verb {
    /// One object.
    Get,
    /// Many objects.
    List,
    /// Changes as they come.
    Watch,
    /// A new object.
    Create,
    /// An object replaced.
    Update,
    /// An object changed in parts.
    Patch,
    /// An object gone.
    Delete,
    /// Many objects gone.
    DeleteCollection,
    /// None that the API has.
    Other,
}

/// A resource's path, taken apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// API group, empty for the core group.
    pub group: String,
    /// API version.
    pub version: String,
    /// Namespace, if the path has one.
    pub namespace: Option<String>,
    /// Resource, in the plural.
    pub resource: String,
    /// Name of an object.
    pub name: Option<String>,
    /// Subresource, such as `status`.
    pub subresource: Option<String>,
}

impl Target {
    /// None when the path isn't one of a resource.
    #[must_use]
    pub fn parse(path: &str) -> Option<Target> {
        let mut parts = path.split('/').skip(1);
        let group = match parts.next()? {
            "api" => String::new(),
            "apis" => parts.next()?.to_owned(),
            _ => return None,
        };
        let version = parts.next()?.to_owned();
        let mut rest: Vec<&str> = parts.filter(|part| !part.is_empty()).collect();
        // namespaces/x/status and namespaces/x/finalize are about the namespace itself.
        let own = matches!(rest.as_slice(), ["namespaces", _, "status" | "finalize"]);
        let namespace = match rest.as_slice() {
            ["namespaces", namespace, _, ..] if !own => Some((*namespace).to_owned()),
            _ => None,
        };
        if namespace.is_some() {
            rest.drain(..2);
        }
        if rest.len() > 3 {
            return None;
        }
        let mut rest = rest.into_iter().map(str::to_owned);
        let resource = rest.next()?;
        let (name, subresource) = (rest.next(), rest.next());
        Some(Target { group, version, namespace, resource, name, subresource })
    }
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

fn pair(text: &str) -> (String, String) {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    let plain = |text: &str| decoded(&text.replace('+', " "));
    (plain(key), plain(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(path: &str) -> (String, Option<String>, Option<String>, Option<String>) {
        let target = Target::parse(path).unwrap();
        let resource = match target.group.as_str() {
            "" => target.resource,
            group => format!("{}.{group}", target.resource),
        };
        (resource, target.namespace, target.name, target.subresource)
    }

    #[test]
    fn paths_are_taken_apart() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            parsed("/apis/apps/v1/namespaces/x/deployments/web/status"),
            ("deployments.apps".into(), some("x"), some("web"), some("status"))
        );
        assert_eq!(parsed("/api/v1/pods"), ("pods".into(), None, None, None));
        assert_eq!(parsed("/api/v1/namespaces"), ("namespaces".into(), None, None, None));
        assert_eq!(parsed("/api/v1/namespaces/x"), ("namespaces".into(), None, some("x"), None));
        assert_eq!(
            parsed("/api/v1/namespaces/x/status"),
            ("namespaces".into(), None, some("x"), some("status"))
        );
        assert_eq!(Target::parse("/version"), None);
        assert_eq!(Target::parse("/apis/apps/v1"), None);
    }

    #[test]
    fn parameters_are_decoded() {
        let request = Request::get("/api/v1/pods?labelSelector=app%3Dweb&watch=1&limit=");
        assert_eq!(request.parameter("labelSelector"), Some("app=web"));
        assert_eq!(request.parameter("limit"), None);
        assert_eq!(request.verb(), Verb::Watch);
    }
}
