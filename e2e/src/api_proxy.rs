//! A way to the API server on which things go wrong: answers that the server never gave, answers
//! that get lost, requests and answers that come late, watches that are cut. One controller's way
//! alone, so that everybody else has a good one.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use futures::StreamExt;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, BodyStream, Full, StreamBody};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONNECTION, CONTENT_LENGTH, HOST, RETRY_AFTER, TRANSFER_ENCODING};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use kube::Client;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::backend::uniform;
use crate::requests::{Forms, form};

type Error = Box<dyn std::error::Error + Send + Sync>;
type Body = UnsyncBoxBody<Bytes, Error>;

/// What goes wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// This status is answered; the server never sees the request.
    Answer(u16),
    /// The server answers, and the connection ends instead.
    LoseReply,
    /// The request reaches the server 1 to 30 s late, whoever still waits for it.
    LateRequest,
    /// The answer comes 1 to 30 s late.
    LateReply,
    /// The request waits here until [`ApiProxy::let_go`].
    Hold,
}

/// Which requests a fault hits.
#[derive(Clone, Debug)]
pub struct Rule {
    /// GET, LIST, WATCH, POST, PUT, PATCH, DELETE; all where empty.
    pub verbs: &'static [&'static str],
    /// The resource with its subresource, such as `rollouts/status`; all where empty.
    pub resource: &'static str,
    /// What goes wrong.
    pub fault: Fault,
    /// With which probability, 0 to 1; by the seed, not by chance.
    pub chance: f64,
    /// How often at most.
    pub times: u32,
}

/// A request, as it went.
#[derive(Clone, Debug)]
pub struct Call {
    /// Its verb.
    pub verb: &'static str,
    /// The resource with its subresource.
    pub resource: String,
    /// What the server answered; none when it never saw the request or didn't answer yet.
    pub answer: Option<u16>,
    /// What went wrong with it.
    pub fault: Option<Fault>,
}

impl Call {
    /// Whether the server took a write.
    pub fn is_accepted_write(&self) -> bool {
        let writes = matches!(self.verb, "POST" | "PUT" | "PATCH" | "DELETE");
        writes && self.answer.is_some_and(|status| status < 300)
    }
}

/// More than any scenario sends.
const MAX_CALLS: usize = 100_000;

/// The proxy; gone when dropped.
#[derive(Debug)]
pub struct ApiProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    client: Client,
    seed: u64,
    number: AtomicU64,
    rules: Mutex<Vec<Rule>>,
    calls: Mutex<Vec<Call>>,
    /// Rises with each cut.
    cuts: watch::Sender<u64>,
    /// Where the forms of requests are noted, and whose they are.
    notes: Option<(&'static str, Forms)>,
    /// How many requests are held, and whether they are let go.
    held: watch::Sender<u64>,
    open: watch::Sender<bool>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("seed", &self.seed).finish_non_exhaustive()
    }
}

impl ApiProxy {
    /// Starts a proxy that passes everything on with the rights of `client`.
    pub async fn start(client: Client, seed: u64) -> Result<ApiProxy> {
        ApiProxy::listen(client, seed, None).await
    }

    /// Starts one on which nothing goes wrong, and the form of every request is noted.
    pub async fn noting(client: Client, program: &'static str, forms: Forms) -> Result<ApiProxy> {
        ApiProxy::listen(client, 0, Some((program, forms))).await
    }

    async fn listen(
        client: Client,
        seed: u64,
        notes: Option<(&'static str, Forms)>,
    ) -> Result<ApiProxy> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("binding")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            client,
            seed,
            number: AtomicU64::new(0),
            rules: Mutex::default(),
            calls: Mutex::default(),
            cuts: watch::Sender::new(0),
            notes,
            held: watch::Sender::new(0),
            open: watch::Sender::new(false),
        });
        let task = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(ApiProxy { address, shared, task })
    }

    /// Writes a kubeconfig that leads here.
    pub fn kubeconfig(&self, path: &Path) -> Result<()> {
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "proxy",
            "clusters": [{"name": "proxy", "cluster": {"server": format!("http://{}", self.address)}}],
            "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "proxy"}}],
            "users": [{"name": "proxy", "user": {}}],
        });
        // JSON is YAML.
        std::fs::write(path, config.to_string())
            .with_context(|| format!("writing {}", path.display()))
    }

    /// What goes wrong from now on; the first rule that hits counts.
    pub fn plan(&self, rules: Vec<Rule>) {
        *lock(&self.shared.rules) = rules;
    }

    /// Cuts every watch that is open: its connection ends in the middle.
    pub fn cut_watches(&self) {
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Waits until a request is held.
    pub async fn holds(&self, limit: Duration) -> Result<()> {
        let mut held = self.shared.held.subscribe();
        tokio::time::timeout(limit, held.wait_for(|held| *held > 0))
            .await
            .with_context(|| format!("nothing was held within {limit:?}"))??;
        Ok(())
    }

    /// Passes on what is held.
    pub fn let_go(&self) {
        self.shared.open.send_replace(true);
    }

    /// Every request so far.
    pub fn calls(&self) -> Vec<Call> {
        lock(&self.shared.calls).clone()
    }

    /// How many requests there have been, by verb and resource.
    pub fn counts(&self) -> BTreeMap<(&'static str, String), usize> {
        let mut counts = BTreeMap::new();
        for call in self.calls() {
            *counts.entry((call.verb, call.resource)).or_default() += 1;
        }
        counts
    }
}

impl Drop for ApiProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(serve(stream, Arc::clone(&shared)));
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| answer(Arc::clone(&shared), request));
    // An error is a connection that was ended on purpose, or by the client.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Body>, Error> {
    let (verb, resource) = names(request.method().as_str(), request.uri());
    if let Some((program, forms)) = &shared.notes {
        lock(forms).insert(form(program, request.method(), request.uri(), request.headers()));
    }
    let number = shared.number.fetch_add(1, Ordering::Relaxed);
    let fault = shared.fault(number, verb, &resource);
    let place = shared.note(Call { verb, resource, answer: None, fault });
    if let Some(Fault::Answer(status)) = fault {
        return refusal(status);
    }
    let (mut head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    for header in [HOST, CONNECTION, CONTENT_LENGTH] {
        head.headers.remove(header);
    }
    let late = Duration::from_secs_f64(1.0 + 29.0 * uniform(shared.seed ^ 1, number));
    // In a task of its own: what is under way arrives, whether or not anybody still waits for it.
    let sent = tokio::spawn({
        let shared = Arc::clone(&shared);
        async move {
            match fault {
                Some(Fault::LateRequest) => tokio::time::sleep(late).await,
                Some(Fault::Hold) => {
                    shared.held.send_modify(|held| *held += 1);
                    let _ = shared.open.subscribe().wait_for(|open| *open).await;
                }
                _ => {}
            }
            let answer = shared.client.send(Request::from_parts(head, body.into())).await;
            if let Ok(answer) = &answer {
                shared.answered(place, answer.status().as_u16());
            }
            answer
        }
    });
    let mut response = sent.await??;
    match fault {
        Some(Fault::LoseReply) => return Err("the reply is lost".into()),
        Some(Fault::LateReply) => tokio::time::sleep(late).await,
        _ => {}
    }
    for header in [TRANSFER_ENCODING, CONNECTION] {
        response.headers_mut().remove(header);
    }
    let cut = shared.cuts.subscribe();
    Ok(response.map(|body| if verb == "WATCH" { cuttable(body, cut) } else { boxed(body) }))
}

impl Shared {
    fn fault(&self, number: u64, verb: &str, resource: &str) -> Option<Fault> {
        let mut rules = lock(&self.rules);
        let chance = uniform(self.seed, number);
        let hit = rules.iter_mut().find(|rule| {
            (rule.verbs.is_empty() || rule.verbs.contains(&verb))
                && (rule.resource.is_empty() || rule.resource == resource)
                && rule.times > 0
                && chance < rule.chance
        })?;
        hit.times -= 1;
        Some(hit.fault)
    }

    fn note(&self, call: Call) -> usize {
        let mut calls = lock(&self.calls);
        if calls.len() < MAX_CALLS {
            calls.push(call);
        }
        calls.len() - 1
    }

    fn answered(&self, place: usize, status: u16) {
        if let Some(call) = lock(&self.calls).get_mut(place) {
            call.answer = Some(status);
        }
    }
}

/// The verb and the resource, as RBAC would name them.
fn names(method: &str, uri: &Uri) -> (&'static str, String) {
    let parts: Vec<&str> = uri.path().split('/').filter(|part| !part.is_empty()).collect();
    // api/v1/… or apis/group/version/…
    let rest = parts.get(if parts.first() == Some(&"api") { 2 } else { 3 }..).unwrap_or_default();
    let rest = if rest.len() > 2 && rest[0] == "namespaces" { &rest[2..] } else { rest };
    let resource = match rest {
        [] => uri.path().to_owned(),
        [plural] | [plural, _] => (*plural).to_owned(),
        [plural, _, sub @ ..] => format!("{plural}/{}", sub.join("/")),
    };
    let query = uri.query().unwrap_or_default();
    let verb = match method {
        "GET" if query.contains("watch=") => "WATCH",
        "GET" if rest.len() == 1 => "LIST",
        "GET" => "GET",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        _ => "DELETE",
    };
    (verb, resource)
}

/// An answer as the API server would give it.
fn refusal(status: u16) -> Result<Response<Body>, Error> {
    let reason = match status {
        409 => "Conflict",
        429 => "TooManyRequests",
        _ => "InternalError",
    };
    let body = json!({
        "apiVersion": "v1", "kind": "Status", "status": "Failure", "code": status, "reason": reason,
        "message": format!("{reason}, says the proxy of the test"),
        "details": {"retryAfterSeconds": 1},
    });
    let mut response = Response::new(boxed(Full::new(Bytes::from(body.to_string()))));
    *response.status_mut() = StatusCode::from_u16(status)?;
    response.headers_mut().insert("content-type", "application/json".parse()?);
    if status == 429 {
        response.headers_mut().insert(RETRY_AFTER, "1".parse()?);
    }
    Ok(response)
}

fn boxed<B>(body: B) -> Body
where
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Error>,
{
    body.map_err(Into::into).boxed_unsync()
}

/// A body that breaks off when watches are cut.
fn cuttable(body: kube::client::Body, mut cut: watch::Receiver<u64>) -> Body {
    let frames = BodyStream::new(body).map(|frame| frame.map_err(Error::from));
    let cut = async move {
        let _ = cut.changed().await;
    };
    let broken = futures::stream::once(async { Err(Error::from("the watch is cut")) });
    StreamBody::new(frames.take_until(cut).chain(broken)).boxed_unsync()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_named_as_rbac_names_them() {
        let named = |method, path: &'static str| names(method, &Uri::from_static(path));
        let route = "/apis/networking.istio.io/v1/namespaces/x/virtualservices/shop";
        assert_eq!(named("PATCH", route), ("PATCH", "virtualservices".to_owned()));
        let status = "/apis/surefoot.dev/v1alpha1/namespaces/x/rollouts/shop/status?fieldManager=y";
        assert_eq!(named("PATCH", status), ("PATCH", "rollouts/status".to_owned()));
        let watch = "/api/v1/namespaces/x/services?watch=true&resourceVersion=1";
        assert_eq!(named("GET", watch), ("WATCH", "services".to_owned()));
        assert_eq!(named("GET", "/api/v1/namespaces"), ("LIST", "namespaces".to_owned()));
        assert_eq!(named("GET", "/version").0, "GET");
    }
}
