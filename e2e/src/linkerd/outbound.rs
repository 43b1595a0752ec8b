//! A client's proxy: each request goes to one backend of the route of the Service that it names, by
//! weight, and there to a pod in turn.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONNECTION, HOST};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};

use super::metrics::{Backend, Outbound};
use super::rules;
use super::seen::Seen;
use crate::backend::{PORT, uniform};
use crate::clock;
use crate::world::Task;

/// A route without a timeout has none.
const FOREVER: Duration = Duration::from_secs(3600);
const SEED: u64 = 7;

struct Proxy {
    seen: Arc<Seen>,
    counts: Arc<Outbound>,
    pods: reqwest::Client,
    requests: AtomicU64,
}

/// Take requests until the task is dropped.
pub async fn start(address: SocketAddr, seen: Arc<Seen>, counts: Arc<Outbound>) -> Result<Task> {
    let listener =
        TcpListener::bind(address).await.with_context(|| format!("binding {address}"))?;
    // A connection of its own for each request: none is held that a pod's end could break.
    let pods = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .pool_max_idle_per_host(0)
        .tcp_nodelay(true)
        .build()
        .context("building the proxy's client")?;
    let proxy = Arc::new(Proxy { seen, counts, pods, requests: AtomicU64::new(0) });
    Ok(Task(tokio::spawn(async move {
        loop {
            if let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&proxy)));
            }
        }
    })))
}

async fn serve(stream: TcpStream, proxy: Arc<Proxy>) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let proxy = Arc::clone(&proxy);
        async move { proxy.pass(request).await }
    });
    // Ends with an error where it is dropped.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

fn error(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}

impl Proxy {
    async fn pass(&self, request: Request<Incoming>) -> io::Result<Response<Full<Bytes>>> {
        let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
        let called = host.and_then(|host| host.split('.').next()).unwrap_or_default().to_owned();
        let route = self.seen.route_of(&called);
        let rule = route.as_ref().map(|route| rules::taking(route, request.headers()));
        let backends = rule.map(rules::backends);
        // Without a route requests go to the Service's own endpoints.
        let backends = backends.unwrap_or_else(|| vec![(called.clone(), 1)]);
        let n = self.requests.fetch_add(1, Ordering::Relaxed);
        let able = |service: &str| !self.seen.ready(service).is_empty();
        let chosen = rules::choose(&backends, able, uniform(SEED, n));
        // All weights are 0: the connection is dropped.
        let (service, able) = chosen.ok_or(io::ErrorKind::ConnectionReset)?;
        let backend = self.backend(route.as_ref(), &called, service);
        if !able {
            self.end(backend, None, "FAIL_FAST");
            return Ok(error(StatusCode::SERVICE_UNAVAILABLE));
        }
        let patience = rule.and_then(rules::timeout).unwrap_or(FOREVER);
        let answer = self.forward(request, &backend, n);
        Ok(match tokio::time::timeout(patience, answer).await {
            Ok(Ok(response)) => {
                self.end(backend, Some(response.status()), "");
                response
            }
            Ok(Err(_)) => {
                self.end(backend, None, "IO");
                error(StatusCode::BAD_GATEWAY)
            }
            Err(_) => {
                self.end(backend, None, "REQUEST_TIMEOUT");
                error(StatusCode::GATEWAY_TIMEOUT)
            }
        })
    }

    fn backend(&self, route: Option<&Value>, called: &str, chosen: &str) -> Backend {
        let name =
            |route: &Value| route["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        Backend {
            parent_group: "core",
            parent_kind: "Service",
            parent_namespace: self.seen.namespace.clone(),
            parent_name: called.to_owned(),
            route_kind: if route.is_some() { "HTTPRoute" } else { "default" },
            route_name: route.map_or_else(|| "http".to_owned(), name),
            backend_kind: "Service",
            backend_namespace: self.seen.namespace.clone(),
            backend_name: chosen.to_owned(),
            http_status: String::new(),
            error: "",
        }
    }

    fn end(&self, backend: Backend, status: Option<StatusCode>, error: &'static str) {
        let http_status = status.map(|status| status.as_u16().to_string()).unwrap_or_default();
        self.counts.ended(&Backend { http_status, error, ..backend });
    }

    /// To the backend's pods in turn; one that takes no connection is no longer there, and the next
    /// one is asked.
    async fn forward(
        &self,
        request: Request<Incoming>,
        backend: &Backend,
        n: u64,
    ) -> Result<Response<Full<Bytes>>> {
        let (head, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let pods = self.seen.ready(&backend.backend_name);
        let turn = usize::try_from(n).unwrap_or(0) % pods.len().max(1);
        let mut last = None;
        for ip in pods.iter().cycle().skip(turn).take(pods.len()) {
            let pod = SocketAddr::from((*ip, PORT));
            let start = clock::instant();
            let mut headers = head.headers.clone();
            headers.remove(CONNECTION);
            let asked = self
                .pods
                .request(head.method.clone(), format!("http://{pod}{}", head.uri))
                .headers(headers)
                .body(body.clone());
            match asked.send().await {
                Ok(answer) => {
                    let (status, headers) = (answer.status(), answer.headers().clone());
                    let mut response = Response::new(Full::new(answer.bytes().await?));
                    let took = clock::instant() - start;
                    self.counts.answered(backend, pod, status.as_u16(), took);
                    *response.status_mut() = status;
                    for (name, value) in &headers {
                        if name.as_str().starts_with("x-") {
                            response.headers_mut().insert(name, value.clone());
                        }
                    }
                    return Ok(response);
                }
                Err(error) if error.is_connect() => last = Some(error),
                Err(error) => return Err(error.into()),
            }
        }
        Err(last.map_or_else(|| anyhow::anyhow!("no pod is left"), Into::into))
    }
}
