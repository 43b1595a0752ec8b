//! The way to the sandbox without a socket: a tower service.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use http::{HeaderValue, Response, header};
use http_body::{Body as HttpBody, Frame};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::watch;

use crate::faults::Fault;
use crate::machine::{Answer, Body, Cursor, MAX_BODY, Machine, Tick};
use crate::request::{Request, Verb};
use crate::sandbox::Sandbox;
use crate::status::Refusal;

/// The connection broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLost;

impl fmt::Display for ConnectionLost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection to the sandbox broke, by the fault plan")
    }
}

impl std::error::Error for ConnectionLost {}

/// The body of a response.
pub type ResponseBody = UnsyncBoxBody<Bytes, ConnectionLost>;

/// A client's way to a [`Sandbox`]: give it to `kube::Client::new`, or to anything else that takes
/// a tower service of HTTP.
#[derive(Clone, Debug)]
pub struct Service {
    sandbox: Sandbox,
    client: String,
}

impl Service {
    pub(crate) fn new(sandbox: Sandbox, client: String) -> Service {
        Service { sandbox, client }
    }

    /// Answer a request, or let it go wrong as planned.
    ///
    /// # Errors
    /// When the plan lets the connection break.
    pub async fn answer(&self, request: Request) -> Result<Response<ResponseBody>, ConnectionLost> {
        let (answer, fault) = self.ask(&request).await?;
        Ok(self.response(answer, fault))
    }

    /// The answer before it becomes text, and what else is to go wrong with it.
    pub(crate) async fn ask(
        &self,
        request: &Request,
    ) -> Result<(Answer, Option<Fault>), ConnectionLost> {
        let carried = self
            .carry(request, |machine, now| {
                let answer = machine.handle(request, now);
                (answer.code, answer)
            })
            .await?;
        Ok(carried.unwrap_or_else(|refusal| (refusal.into(), None)))
    }

    /// What is stored where a request lists: the list's items without the list. An error is the
    /// status, 0 for a broken connection.
    pub(crate) async fn items(&self, request: &Request) -> Result<Vec<Arc<Value>>, u16> {
        let carried = self.carry(request, |machine, _| match machine.items(request) {
            Some(items) => (200, Ok(items)),
            None => (404, Err(404)),
        });
        match carried.await {
            Ok(Ok((items, _))) => items,
            Ok(Err(refusal)) => Err(refusal.code),
            Err(ConnectionLost) => Err(0),
        }
    }

    /// Carry a request out, or let it go wrong as planned: what came of it and what else is to go
    /// wrong with that, or the planned refusal. `out` also tells the status.
    async fn carry<T>(
        &self,
        request: &Request,
        out: impl FnOnce(&mut Machine, Timestamp) -> (u16, T),
    ) -> Result<Result<(T, Option<Fault>), Refusal>, ConnectionLost> {
        if self.sandbox.is_dead(&self.client) {
            return std::future::pending().await;
        }
        let (number, fault) = self.sandbox.note(&self.client, request);
        if let Some(refusal) = self.before(fault.as_ref()).await {
            return Ok(Err(refusal));
        }
        let back = match fault {
            Some(Fault::Stale(back)) if matches!(request.verb(), Verb::Get | Verb::List) => back,
            _ => 0,
        };
        let (code, answer) = self.sandbox.carry(back, out);
        self.sandbox.answered(number, code);
        match fault {
            Some(Fault::DropReply) => return Err(ConnectionLost),
            Some(Fault::CrashAfter) => return self.die().await,
            Some(Fault::DelayReply(by)) => tokio::time::sleep(by).await,
            _ => {}
        }
        Ok(Ok((answer, fault)))
    }

    /// The resources that can be listed: path and plural, one version each.
    pub(crate) fn resources(&self) -> Vec<(String, String)> {
        self.sandbox.carry(0, |machine, _| machine.stored_resources())
    }

    /// The time in the sandbox, as Kubernetes prints it.
    pub(crate) fn time(&self) -> String {
        crate::machine::seconds(self.sandbox.now())
    }

    /// What goes wrong before the request arrives.
    async fn before(&self, fault: Option<&Fault>) -> Option<Refusal> {
        match fault? {
            Fault::Answer(code) => Some(planned(*code)),
            Fault::TooManyRequests(seconds) => {
                let details = Some(serde_json::json!({"retryAfterSeconds": seconds}));
                Some(Refusal { details, ..planned(429) })
            }
            Fault::Delay(by) => {
                tokio::time::sleep(*by).await;
                None
            }
            Fault::Hold => {
                self.sandbox.released().await;
                None
            }
            Fault::Crash => self.die().await,
            _ => None,
        }
    }

    /// The client is dead; nothing comes back ever.
    async fn die<T>(&self) -> T {
        self.sandbox.crash(&self.client);
        std::future::pending().await
    }

    fn response(&self, answer: Answer, fault: Option<Fault>) -> Response<ResponseBody> {
        let (media, body) = match answer.body {
            Body::Json(value) => ("application/json", whole(value.to_string())),
            Body::Typed(media, value) => (media, whole(value.to_string())),
            Body::Text(text) => ("text/plain", whole(text.to_owned())),
            Body::Watch(cursor) => ("application/json", self.watch(*cursor, fault)),
        };
        let mut response = Response::new(body);
        *response.status_mut() = http::StatusCode::from_u16(answer.code).unwrap_or_default();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
        if let Some(date) = date(self.sandbox.now()) {
            headers.insert(header::DATE, date);
        }
        if let Some(seconds) = answer.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        for warning in answer.warnings {
            let text = format!("299 - \"{}\"", warning.replace('\\', "").replace('"', "\\\""));
            if let Ok(value) = HeaderValue::from_str(&text) {
                headers.append(header::WARNING, value);
            }
        }
        response
    }

    fn watch(&self, mut cursor: Cursor, fault: Option<Fault>) -> ResponseBody {
        if let Some(Fault::Stale(writes)) = fault {
            cursor.lag(writes);
        }
        let watching = Watching {
            sandbox: self.sandbox.clone(),
            client: self.client.clone(),
            news: self.sandbox.versions(),
            releases: self.sandbox.releases(),
            cursor: Some(cursor),
            left: match fault {
                Some(Fault::CutWatch(events)) => Some(events),
                _ => None,
            },
            skips: fault == Some(Fault::SkipEvents),
        };
        BodyExt::boxed_unsync(StreamBody::new(watching.stream()))
    }
}

/// The time of a response, as HTTP says it.
fn date(now: Timestamp) -> Option<HeaderValue> {
    let text = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&now).ok()?;
    HeaderValue::from_str(&text).ok()
}

fn planned(code: u16) -> Refusal {
    let reason = match code {
        400 => "BadRequest",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        409 => "Conflict",
        410 => "Expired",
        422 => "Invalid",
        429 => "TooManyRequests",
        503 => "ServiceUnavailable",
        504 => "Timeout",
        _ => "InternalError",
    };
    Refusal::new(code, reason, format!("{reason}, by the fault plan"))
}

fn whole(text: String) -> ResponseBody {
    BodyExt::boxed_unsync(Full::new(Bytes::from(text)).map_err(|never: Infallible| match never {}))
}

/// A watch under way.
struct Watching {
    sandbox: Sandbox,
    client: String,
    news: watch::Receiver<u64>,
    /// Tells when a watch that lags behind may catch up.
    releases: watch::Receiver<u64>,
    /// None once it is over.
    cursor: Option<Cursor>,
    /// After how many events it breaks.
    left: Option<usize>,
    skips: bool,
}

impl Watching {
    fn stream(self) -> impl Stream<Item = Result<Frame<Bytes>, ConnectionLost>> {
        futures::stream::unfold(self, |mut watching| async move {
            let next = watching.next().await?;
            Some((next, watching))
        })
    }

    async fn next(&mut self) -> Option<Result<Frame<Bytes>, ConnectionLost>> {
        loop {
            if self.sandbox.is_dead(&self.client) {
                return std::future::pending().await;
            }
            self.news.mark_unchanged();
            let now = self.sandbox.now();
            if self.left == Some(0) {
                self.left = None;
                self.cursor = None;
                return Some(Err(ConnectionLost));
            }
            match self.sandbox.tick(self.cursor.as_mut()?) {
                Tick::Events(events) => {
                    let lines = self.lines(events);
                    if !lines.is_empty() {
                        return Some(Ok(Frame::data(lines)));
                    }
                }
                Tick::Wait(until) => self.wait(until, now).await,
                Tick::End(last) => {
                    self.cursor = None;
                    let last = last?;
                    return Some(Ok(Frame::data(line(&last).into())));
                }
            }
        }
    }

    fn lines(&mut self, mut events: Vec<Value>) -> Bytes {
        if self.skips {
            events = latest(events);
        }
        if let Some(left) = &mut self.left {
            events.truncate(*left);
            *left -= events.len();
        }
        events.iter().map(line).collect::<String>().into()
    }

    /// Until something was written, or the time has come.
    async fn wait(&mut self, until: Timestamp, now: Timestamp) {
        let left = Duration::try_from(until.duration_since(now)).unwrap_or_default();
        tokio::select! {
            biased;
            changed = self.news.changed() => if changed.is_err() { self.cursor = None },
            Ok(()) = self.releases.changed() => if let Some(cursor) = &mut self.cursor {
                cursor.lag(0);
            },
            () = tokio::time::sleep(left.max(Duration::from_millis(1))) => {}
        }
    }
}

fn line(event: &Value) -> String {
    format!("{event}\n")
}

/// Of several changes of an object only the last, unless one of them made or ended it.
fn latest(events: Vec<Value>) -> Vec<Value> {
    let uid = |event: &Value| event["object"]["metadata"]["uid"].as_str().map(str::to_owned);
    let mut kept = Vec::new();
    for (index, event) in events.iter().enumerate() {
        let again = events[index + 1..]
            .iter()
            .any(|later| later["type"] == "MODIFIED" && uid(later) == uid(event));
        if event["type"] != "MODIFIED" || !again {
            kept.push(event.clone());
        }
    }
    kept
}

impl<B> tower_service::Service<http::Request<B>> for Service
where
    B: HttpBody + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<ResponseBody>;
    type Error = ConnectionLost;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            // One byte more than may be, so that the machine refuses it with its own words.
            let body = match Limited::new(body, MAX_BODY + 1).collect().await {
                Ok(body) => body.to_bytes(),
                Err(_) => Bytes::from(vec![b' '; MAX_BODY + 1]),
            };
            service.answer(Request::new(&parts, body)).await
        })
    }
}
