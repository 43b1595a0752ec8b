//! Which requests programs send to the API server: their forms, with placeholders for what differs
//! from one to the next.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use hyper::header::CONTENT_TYPE;
use hyper::{HeaderMap, Method, Uri};
use kube::Client;
use kube::config::{Config, KubeConfigOptions, Kubeconfig};

use crate::api_proxy::ApiProxy;

/// The forms of all requests that went by, each with the program that sent it.
pub type Forms = Arc<Mutex<BTreeSet<String>>>;

/// Ways to the API server on which requests are noted.
#[derive(Debug, Default)]
pub struct Requests {
    forms: Forms,
    ways: tokio::sync::Mutex<Vec<Way>>,
}

/// The way of one program by one kubeconfig.
#[derive(Debug)]
struct Way {
    program: &'static str,
    kubeconfig: PathBuf,
    /// The kubeconfig that leads through the proxy.
    through: PathBuf,
    /// Gone with the way.
    _proxy: ApiProxy,
}

impl Requests {
    /// Another kubeconfig, which leads to the same server as the same user; what is sent is noted as
    /// `program`'s.
    pub async fn through(&self, program: &'static str, kubeconfig: &Path) -> Result<PathBuf> {
        let mut ways = self.ways.lock().await;
        let known = ways.iter().find(|way| way.program == program && way.kubeconfig == kubeconfig);
        if let Some(way) = known {
            return Ok(way.through.clone());
        }
        let file = Kubeconfig::read_from(kubeconfig).context("reading the kubeconfig")?;
        let mut config =
            Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
        config.default_retry = false;
        // A watch may be silent for long.
        config.read_timeout = None;
        let client = Client::try_from(config)?;
        let proxy = ApiProxy::noting(client, program, Arc::clone(&self.forms)).await?;
        let through = kubeconfig.with_extension(format!("{program}.kubeconfig"));
        proxy.kubeconfig(&through)?;
        let kubeconfig = kubeconfig.to_owned();
        ways.push(Way { program, kubeconfig, through: through.clone(), _proxy: proxy });
        Ok(through)
    }

    /// All forms so far, sorted.
    pub fn forms(&self) -> Vec<String> {
        lock(&self.forms).iter().cloned().collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The form of a request: method, path and query with placeholders, content type of the body.
pub fn form(program: &str, method: &Method, uri: &Uri, headers: &HeaderMap) -> String {
    let media = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media = media.map(|media| format!(" {}", media.split(';').next().unwrap_or_default()));
    let query = query(uri.query().unwrap_or_default());
    let query = if query.is_empty() { query } else { format!("?{query}") };
    format!("{program} {method} {}{query}{}", path(uri.path()), media.unwrap_or_default())
}

/// A path without names.
fn path(path: &str) -> String {
    let mut parts: Vec<&str> = path.split('/').collect();
    // The first is empty, for the slash; then api/v1/… or apis/group/version/….
    let start = match parts.get(1) {
        Some(&"api") => 3,
        Some(&"apis") => 4,
        _ => return path.to_owned(),
    };
    let mut at = start;
    if parts.get(start) == Some(&"namespaces") && parts.len() > start + 2 {
        parts[start + 1] = "{namespace}";
        at = start + 2;
    }
    if let Some(name) = parts.get_mut(at + 1) {
        *name = "{name}";
    }
    parts.join("/")
}

/// Parameters whose values say what is asked for; of the others the value is anybody's.
const TELLING: [&str; 11] = [
    "allowWatchBookmarks",
    "dryRun",
    "fieldManager",
    "fieldValidation",
    "includeObject",
    "limit",
    "propagationPolicy",
    "resourceVersionMatch",
    "sendInitialEvents",
    "timeout",
    "watch",
];

/// A query, sorted, with placeholders for values. Selectors keep the names of what they select by.
fn query(query: &str) -> String {
    let mut pairs: Vec<String> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match name {
                _ if TELLING.contains(&name) || value.is_empty() => pair.to_owned(),
                "resourceVersion" if value == "0" => pair.to_owned(),
                "fieldSelector" | "labelSelector" => format!("{name}={}", selector(value)),
                _ => format!("{name}={{value}}"),
            }
        })
        .collect();
    pairs.sort();
    pairs.join("&")
}

/// A selector, still encoded.
fn selector(value: &str) -> String {
    let terms = value.split("%2C").map(|term| match term.split_once("%3D") {
        Some((name, _)) => format!("{name}%3D{{value}}"),
        None => term.to_owned(),
    });
    terms.collect::<Vec<_>>().join("%2C")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(method: Method, uri: &'static str, media: Option<&'static str>) -> String {
        let mut headers = HeaderMap::new();
        if let Some(media) = media {
            headers.insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(media));
        }
        form("plugin", &method, &Uri::from_static(uri), &headers)
    }

    #[test]
    fn names_and_versions_are_anybodys() {
        let patch = "/apis/apps/v1/namespaces/shop/deployments/web/scale?fieldManager=surefoot";
        assert_eq!(
            named(Method::PATCH, patch, Some("application/merge-patch+json; charset=utf-8")),
            "plugin PATCH /apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale?fieldManager=surefoot application/merge-patch+json"
        );
        let watch = "/api/v1/pods?watch=true&resourceVersion=42&labelSelector=app%3Dweb%2Cnew";
        assert_eq!(
            named(Method::GET, watch, None),
            "plugin GET /api/v1/pods?labelSelector=app%3D{value}%2Cnew&resourceVersion={value}&watch=true"
        );
    }

    #[test]
    fn a_namespace_is_an_object_too() {
        let named = |uri| named(Method::GET, uri, None);
        assert_eq!(named("/api/v1/namespaces"), "plugin GET /api/v1/namespaces");
        assert_eq!(named("/api/v1/namespaces/shop"), "plugin GET /api/v1/namespaces/{name}");
        assert_eq!(named("/openapi/v3/apis/apps/v1"), "plugin GET /openapi/v3/apis/apps/v1");
    }
}
