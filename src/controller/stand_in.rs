//! A stand-in for the API server in tests: it says what was laid down, and keeps what it was asked.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use kube::Client;
use serde_json::{Value, json};

use super::lock;

/// How writes are answered.
#[derive(Debug, Clone, Copy, Default)]
pub enum Say {
    /// As if they had been made: with the object that lies there.
    #[default]
    Fine,
    /// With a failure of this status and these words.
    Failure(u16, &'static str),
    /// Not at all.
    Nothing,
}

/// What it was asked.
#[derive(Debug, Clone)]
pub struct Call {
    pub method: Method,
    /// The path without its group and namespace.
    pub path: String,
    pub query: String,
    pub body: Value,
}

impl Call {
    /// "GET rollouts/shop"
    pub fn words(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

/// The server. Objects lie under "plural/name".
#[derive(Default)]
pub struct StandIn {
    objects: BTreeMap<String, Value>,
    say: Say,
    calls: Mutex<Vec<Call>>,
}

impl StandIn {
    pub fn new(objects: impl IntoIterator<Item = (&'static str, Value)>, say: Say) -> Arc<Self> {
        let objects = objects.into_iter().map(|(path, object)| (path.to_owned(), object)).collect();
        Arc::new(Self { objects, say, calls: Mutex::default() })
    }

    pub fn client(self: &Arc<Self>) -> Client {
        Client::new(Router::new().fallback(answer).with_state(self.clone()), "prod")
    }

    pub fn calls(&self) -> Vec<Call> {
        lock(&self.calls).clone()
    }

    /// All that it was asked, in words.
    pub fn heard(&self) -> Vec<String> {
        self.calls().iter().map(Call::words).collect()
    }

    /// What wasn't a question only.
    pub fn writes(&self) -> Vec<Call> {
        self.calls().into_iter().filter(|call| call.method != Method::GET).collect()
    }
}

async fn answer(
    State(server): State<Arc<StandIn>>,
    method: Method,
    uri: Uri,
    body: Bytes,
) -> Response {
    let (_, path) = uri.path().split_once("/namespaces/prod/").unwrap();
    let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() };
    lock(&server.calls).push(Call {
        method: method.clone(),
        path: path.to_owned(),
        query: uri.query().unwrap_or_default().to_owned(),
        body: body.clone(),
    });
    let subresource = path.strip_suffix("/scale").or_else(|| path.strip_suffix("/status"));
    let there = server.objects.get(subresource.unwrap_or(path));
    match (method == Method::GET, server.say, there) {
        (true, _, Some(object)) | (false, Say::Fine, Some(object)) => say(200, object),
        (false, Say::Fine, None) if method == Method::POST => say(201, &body),
        (false, Say::Failure(code, message), _) => say(code, &failure(code, message)),
        (false, Say::Nothing, _) => std::future::pending().await,
        (_, _, None) => say(404, &failure(404, "not found")),
    }
}

fn failure(code: u16, message: &str) -> Value {
    let reason = if code == 404 { "NotFound" } else { "" };
    json!({"kind": "Status", "status": "Failure", "code": code, "message": message, "reason": reason})
}

fn say(code: u16, body: &Value) -> Response {
    let code = StatusCode::from_u16(code).unwrap();
    (code, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}
