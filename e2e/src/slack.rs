//! A stand-in for Slack. Slack itself can't be reached from here: this takes messages as Slack's two
//! doors do, keeps them, and answers as it is told. What the real one makes of a message it can't
//! say.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// At once.
    Answer,
    /// It keeps the message and says nothing for as long as this lasts.
    Hang,
}

/// A message that came.
#[derive(Clone, Debug)]
pub struct Message {
    /// Where it came to.
    pub path: String,
    /// The `authorization` header.
    pub authorization: Option<String>,
    /// The message.
    pub body: Value,
}

impl Message {
    /// What it tells, in the words of its header: "promoted".
    pub fn headline(&self) -> &str {
        let header = self.body["blocks"][0]["text"]["text"].as_str().unwrap_or_default();
        header.rsplit(": ").next().unwrap_or_default()
    }

    /// All of it.
    pub fn text(&self) -> String {
        self.body.to_string()
    }
}

/// The stand-in; gone when dropped.
#[derive(Debug)]
pub struct StandIn {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<Message>>>,
    mode: watch::Sender<Mode>,
    task: JoinHandle<()>,
}

impl StandIn {
    /// Start it on a port of its own.
    pub async fn start() -> Result<StandIn> {
        let listener =
            TcpListener::bind("127.0.0.1:0").await.context("binding Slack's stand-in")?;
        let address = listener.local_addr()?;
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (mode, modes) = watch::channel(Mode::Answer);
        let task = tokio::spawn(accept(listener, Arc::clone(&heard), modes));
        Ok(StandIn { address, heard, mode, task })
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Change how it answers, also to those who wait.
    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// All messages so far, in the order of their coming.
    pub fn heard(&self) -> Vec<Message> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Their headlines.
    pub fn headlines(&self) -> Vec<String> {
        self.heard().iter().map(|message| message.headline().to_owned()).collect()
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(
    listener: TcpListener,
    heard: Arc<Mutex<Vec<Message>>>,
    modes: watch::Receiver<Mode>,
) {
    // Connections end with this task.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        while connections.try_join_next().is_some() {}
        let (heard, modes) = (Arc::clone(&heard), modes.clone());
        let service = service_fn(move |request| answer(request, Arc::clone(&heard), modes.clone()));
        let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        connections.spawn(async move { drop(connection.await) });
    }
}

async fn answer(
    request: Request<Incoming>,
    heard: Arc<Mutex<Vec<Message>>>,
    mut modes: watch::Receiver<Mode>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let authorization = request.headers().get("authorization");
    let authorization = authorization.and_then(|v| v.to_str().ok()).map(str::to_owned);
    let Ok(body) = request.into_body().collect().await else {
        // Who breaks off has sent no message.
        return Ok(Response::new(Full::default()));
    };
    let body = serde_json::from_slice(&body.to_bytes()).unwrap_or_default();
    let answer = match &authorization {
        Some(_) => json!({"ok": true, "channel": "C1", "ts": "1.1"}).to_string(),
        None => "ok".to_owned(),
    };
    let message = Message { path, authorization, body };
    heard.lock().unwrap_or_else(PoisonError::into_inner).push(message);
    // Without a sender the scenario is over.
    let _ = modes.wait_for(|mode| *mode == Mode::Answer).await;
    Ok(Response::new(Full::new(Bytes::from(answer))))
}
