use std::collections::VecDeque;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use k8s_openapi::ByteString;
use serde_json::{Value, json};
use surefoot_core::api::RolloutStatus;
use surefoot_core::api::notice::{Reason, Recipient};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::*;

const PATIENCE: Duration = Duration::from_secs(30);
const SECRET: &str = "xoxb-never-to-be-seen";

/// How the stand-in for Slack answers next.
#[derive(Debug, Clone, Copy)]
enum Say {
    Text(u16, &'static str),
    Busy(u64),
    Hang,
    Cut,
    Redirect,
    Huge,
}

/// A stand-in for Slack's two doors, that plays a script and then says ok.
#[derive(Default)]
struct Slack {
    script: Mutex<VecDeque<Say>>,
    /// Headlines in the order of arrival, whatever was answered.
    heard: Mutex<Vec<String>>,
    bearer: Mutex<Option<String>>,
}

async fn hear(State(slack): State<Arc<Slack>>, headers: HeaderMap, body: Bytes) -> Response {
    let body: Value = serde_json::from_slice(&body).unwrap();
    let text = body["text"].as_str().unwrap_or_default().to_owned();
    lock(&slack.heard).push(text);
    let bearer = headers.get(header::AUTHORIZATION).map(|v| v.to_str().unwrap().to_owned());
    lock(&slack.bearer).clone_from(&bearer);
    let next = lock(&slack.script).pop_front();
    let fine = if bearer.is_some() { r#"{"ok":true}"# } else { "ok" };
    match next.unwrap_or(Say::Text(200, fine)) {
        Say::Text(status, text) => (StatusCode::from_u16(status).unwrap(), text).into_response(),
        Say::Busy(seconds) => {
            (StatusCode::TOO_MANY_REQUESTS, [("retry-after", seconds.to_string())]).into_response()
        }
        Say::Hang => std::future::pending().await,
        Say::Cut => {
            let parts = [Ok(Bytes::from_static(b"o")), Err(std::io::Error::other("cut"))];
            Body::from_stream(futures::stream::iter(parts)).into_response()
        }
        Say::Redirect => {
            let to = [(header::LOCATION, "http://169.254.169.254/latest/meta-data")];
            (StatusCode::FOUND, to).into_response()
        }
        Say::Huge => vec![b'o'; 1_000_000].into_response(),
    }
}

/// As much of an API server as a notifier needs.
#[derive(Default)]
struct Api {
    secrets: Mutex<BTreeMap<String, String>>,
    events: Mutex<Vec<String>>,
}

fn answer(status: StatusCode, body: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

async fn secret(State(api): State<Arc<Api>>, Path(name): Path<String>) -> Response {
    let Some(value) = lock(&api.secrets).get(&name).cloned() else {
        let status = json!({"kind": "Status", "status": "Failure", "code": 404, "message": "no",
            "reason": "NotFound"});
        return answer(StatusCode::NOT_FOUND, &status);
    };
    let data = json!({"url": ByteString(value.into_bytes())});
    let secret =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data});
    answer(StatusCode::OK, &secret)
}

async fn create_event(State(api): State<Arc<Api>>, event: Bytes) -> Response {
    let event: Value = serde_json::from_slice(&event).unwrap();
    let name = event["metadata"]["name"].as_str().unwrap().to_owned();
    let mut events = lock(&api.events);
    if events.contains(&name) {
        let status = json!({"kind": "Status", "status": "Failure", "code": 409, "message": "there",
            "reason": "AlreadyExists"});
        return answer(StatusCode::CONFLICT, &status);
    }
    events.push(name);
    answer(StatusCode::CREATED, &event)
}

/// A notifier, what it talks to, and a Rollout whose outbox we commit ourselves.
struct Bench {
    notifier: Arc<Notifier>,
    api: Arc<Api>,
    slack: Arc<Slack>,
    url: String,
    rollout: Rollout,
    channels: Channels,
    wake: mpsc::UnboundedSender<()>,
    woken: mpsc::UnboundedReceiver<()>,
}

impl Bench {
    async fn new(script: &[Say]) -> Self {
        let slack = Arc::new(Slack::default());
        lock(&slack.script).extend(script);
        let app = Router::new().fallback(post(hear)).with_state(slack.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        let api = Arc::new(Api::default());
        lock(&api.secrets).insert("hook".to_owned(), format!("{url}/services/{SECRET}\n"));
        lock(&api.secrets).insert("token".to_owned(), SECRET.to_owned());
        let server = Router::new()
            .route("/api/v1/namespaces/shop/secrets/{name}", get(secret))
            .route("/apis/events.k8s.io/v1/namespaces/shop/events", post(create_event))
            .with_state(api.clone());
        let client = Client::new(server, "shop");
        let http = Arc::new(Outbound::new().unwrap());
        let notifier = Notifier::new(
            client,
            http,
            Telemetry::default(),
            Clock::System,
            "test".to_owned(),
            Tasks::default(),
        );
        let rollout = json!({
            "apiVersion": "surefoot.dev/v1alpha1", "kind": "Rollout",
            "metadata": {"name": "checkout", "namespace": "shop", "uid": "12345678-9"},
            "spec": {"targetRef": {"kind": "Deployment", "name": "checkout"},
                "traffic": {"mesh": "istio", "service": "checkout", "routes": []}, "steps": []},
        });
        let mut rollout: Rollout = serde_json::from_value(rollout).unwrap();
        rollout.status = Some(RolloutStatus::default());
        let (wake, woken) = mpsc::unbounded_channel();
        let channels = Channels::from([("a".to_owned(), Ok(webhook("hook", "url")))]);
        let notifier = Arc::new(notifier);
        Self { notifier, api, slack, url, rollout, channels, wake, woken }
    }

    fn notice(&mut self, id: &str, channels: &[&str]) {
        let to = |channel: &&str| Recipient { channel: (*channel).into(), omitted: 0 };
        let notice = Notice {
            id: id.to_owned(),
            warning: false,
            reason: Reason::Started,
            note: id.to_owned(),
            at: Clock::System.now(),
            release: 1,
            step: None,
            weight: 0,
            actor: "surefoot".to_owned(),
            evidence: String::new(),
            images: vec![],
            to: channels.iter().map(to).collect(),
        };
        self.rollout.status.as_mut().unwrap().outbox.push(notice);
    }

    fn offer(&self) {
        let wake = self.wake.clone();
        self.notifier.offer(&self.rollout, self.channels.clone(), move || {
            let _ = wake.send(());
        });
    }

    fn known(&self) -> Delivery {
        self.notifier.known("12345678-9")
    }

    /// What a decision makes of what is known, committed; then the next go.
    fn commit(&mut self) {
        let known = self.known();
        let outbox = &mut self.rollout.status.as_mut().unwrap().outbox;
        for notice in outbox.iter_mut() {
            let id = notice.id.clone();
            notice.to.retain(|to| !known.told.contains(&(to.channel.clone(), id.clone())));
        }
        outbox.retain(|n| !n.to.is_empty() || !known.events.contains(&n.id));
        self.offer();
    }

    async fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let wait = async {
            while !holds(self) {
                // Not all that a test waits for wakes a reconcile.
                let _ = tokio::time::timeout(Duration::from_millis(20), self.woken.recv()).await;
            }
        };
        if tokio::time::timeout(PATIENCE, wait).await.is_err() {
            panic!("waited in vain for {what}: {:?} {:?}", self.known(), self.heard());
        }
    }

    /// Commit whenever something was delivered, until the outbox is empty.
    async fn drain(&mut self) {
        let start = Instant::now();
        while !self.rollout.status.as_ref().unwrap().outbox.is_empty() {
            assert!(start.elapsed() < PATIENCE, "{:?} {:?}", self.known(), self.heard());
            let _ = tokio::time::timeout(Duration::from_millis(20), self.woken.recv()).await;
            self.commit();
        }
    }

    /// The notes of the messages that came, in order.
    fn heard(&self) -> Vec<String> {
        let heard = lock(&self.slack.heard);
        heard.iter().map(|text| text.rsplit(": ").next().unwrap().to_owned()).collect()
    }

    fn lanes(&self) -> usize {
        lock(&self.notifier.boxes).get("12345678-9").map_or(0, |b| b.lanes.len())
    }
}

fn webhook(secret: &str, key: &str) -> NotificationChannelSpec {
    let reference = json!({"secretRef": {"name": secret, "key": key}});
    serde_json::from_value(json!({"slack": {"webhook": reference}})).unwrap()
}

fn token(api_url: &str) -> NotificationChannelSpec {
    let reference = json!({"secretRef": {"name": "token", "key": "url"}});
    let slack = json!({"token": reference, "channel": "#releases", "apiUrl": api_url});
    serde_json::from_value(json!({"slack": slack})).unwrap()
}

#[tokio::test]
async fn in_order_and_the_next_only_after_a_commit() {
    let mut bench = Bench::new(&[]).await;
    for id in ["1", "2", "3"] {
        bench.notice(id, &["a"]);
    }
    bench.offer();
    bench.until("the lanes to have done what they may", |b| b.lanes() == 0).await;
    assert_eq!(bench.heard(), ["1"], "a message went out before the one before was committed");
    assert_eq!(lock(&bench.api.events).len(), 3, "Events can't repeat and need not wait");
    bench.offer();
    bench.offer();
    bench.drain().await;
    assert_eq!(bench.heard(), ["1", "2", "3"]);
    assert!(lock(&bench.notifier.boxes).is_empty(), "at rest nothing is kept");
}

#[tokio::test]
async fn a_restart_repeats_what_no_commit_knew_of_and_no_event() {
    let mut bench = Bench::new(&[]).await;
    bench.notice("1", &["a"]);
    bench.notice("2", &["a"]);
    bench.offer();
    bench.until("the first", |b| !b.known().told.is_empty() && b.lanes() == 0).await;
    // The process that knew is gone.
    lock(&bench.notifier.boxes).clear();
    bench.drain_after_offer().await;
    assert_eq!(bench.heard(), ["1", "1", "2"]);
    assert_eq!(lock(&bench.api.events).len(), 2);
}

impl Bench {
    async fn drain_after_offer(&mut self) {
        self.offer();
        self.drain().await;
    }
}

#[tokio::test]
async fn what_passes_is_tried_again_until_it_arrives() {
    let passing = [
        Say::Text(500, "oops"),
        Say::Text(503, ""),
        Say::Busy(2),
        Say::Cut,
        Say::Huge,
        Say::Text(200, r#"{"ok":false,"error":"ratelimited"}"#),
        Say::Hang,
    ];
    let tries = passing.map(|say| async move {
        let mut bench = Bench::new(&[say]).await;
        if matches!(say, Say::Text(200, _)) {
            bench.channels.insert("a".to_owned(), Ok(token(&bench.url)));
        }
        bench.notice("1", &["a"]);
        let start = Instant::now();
        bench.offer();
        bench.drain().await;
        assert_eq!(bench.heard(), ["1", "1"], "{say:?}");
        let asked = if let Say::Busy(seconds) = say { seconds } else { 1 };
        assert!(start.elapsed() >= Duration::from_secs(asked), "{say:?}: too soon");
    });
    futures::future::join_all(tries).await;
}

#[tokio::test]
async fn who_refuses_is_left_alone_until_the_channel_changes() {
    let lasting = [
        (Say::Text(403, "invalid_token"), "Refused"),
        (Say::Text(404, "no_service"), "Refused"),
        (Say::Text(410, "channel_is_archived"), "Refused"),
        (Say::Text(200, "<html>sign in</html>"), "StrangeAnswer"),
        (Say::Redirect, "StrangeAnswer"),
    ];
    let tries = lasting.map(|(say, reason)| async move {
        let mut bench = Bench::new(&[say]).await;
        bench.notice("1", &["a"]);
        bench.offer();
        bench.until("the trouble", |b| b.known().troubles.contains_key("a")).await;
        assert_eq!(bench.known().troubles["a"].reason(), reason, "{say:?}");
        let turn = bench.notifier.turn("shop", "a", &webhook("hook", "url"));
        // Its lane sleeps with the turn in its hand; the pace is that of the pace's own tests.
        assert!(turn.try_lock().is_err(), "{say:?}: nobody waits");
        assert_eq!(bench.heard().len(), 1);
        bench.channels.insert("a".to_owned(), Ok(token(&bench.url)));
        bench.offer();
        bench.drain().await;
        assert_eq!(bench.heard(), ["1", "1"], "{say:?}");
        assert_eq!(lock(&bench.slack.bearer).as_deref(), Some(&*format!("Bearer {SECRET}")));
    });
    futures::future::join_all(tries).await;
}

#[tokio::test]
async fn a_secret_that_comes_late_heals_by_itself() {
    let mut bench = Bench::new(&[]).await;
    let url = lock(&bench.api.secrets).remove("hook").unwrap();
    bench.notice("1", &["a"]);
    bench.offer();
    bench.until("the trouble", |b| b.known().troubles.contains_key("a")).await;
    let said = bench.known().troubles["a"].to_string();
    assert_eq!(said, "Secret hook doesn't exist: create it with key url");
    lock(&bench.api.secrets).insert("hook".to_owned(), "  \n".to_owned());
    bench.until("the empty value", |b| b.known().troubles["a"].reason() == "KeyMissing").await;
    lock(&bench.api.secrets).insert("hook".to_owned(), url);
    bench.drain().await;
    assert_eq!(bench.heard(), ["1"]);
}

#[tokio::test]
async fn a_secret_that_is_no_url_or_a_metadata_address_is_refused_and_not_shown() {
    let bad = [SECRET, "http://169.254.169.254/xoxb", "file:///xoxb", "http://xoxb@127.0.0.1/"];
    for value in bad {
        let mut bench = Bench::new(&[]).await;
        lock(&bench.api.secrets).insert("hook".to_owned(), value.to_owned());
        bench.notice("1", &["a"]);
        bench.offer();
        bench.until("the trouble", |b| b.known().troubles.contains_key("a")).await;
        let trouble = bench.known().troubles["a"].clone();
        assert_eq!(trouble.reason(), "AddressRefused", "{value}");
        let said = format!("{trouble} {trouble:?}");
        assert!(!said.contains("xoxb"), "{said}");
    }
}

#[tokio::test]
async fn a_channel_that_hangs_holds_up_nobody_else() {
    let mut bench = Bench::new(&[Say::Hang; 9]).await;
    let other = Bench::new(&[]).await;
    let url = lock(&other.api.secrets)["hook"].clone();
    lock(&bench.api.secrets).insert("other".to_owned(), url);
    bench.channels.insert("b".to_owned(), Ok(webhook("other", "url")));
    for id in ["1", "2", "3"] {
        bench.notice(id, &["a", "b"]);
    }
    let start = Instant::now();
    bench.offer();
    while other.heard().len() < 3 {
        assert!(start.elapsed() < PATIENCE, "{:?}", other.heard());
        let _ = tokio::time::timeout(Duration::from_millis(20), bench.woken.recv()).await;
        bench.commit();
    }
    assert_eq!(other.heard(), ["1", "2", "3"]);
    let outbox = &bench.rollout.status.as_ref().unwrap().outbox;
    assert!(outbox.iter().all(|n| n.recipient("a").is_some()), "the one that hangs has nothing");
}

#[tokio::test]
async fn what_a_rollout_that_is_gone_had_to_say_is_still_said() {
    let mut bench = Bench::new(&[]).await;
    bench.notice("1", &["a"]);
    bench.notice("2", &["a"]);
    bench.offer();
    bench.until("the first", |b| !b.known().told.is_empty()).await;
    bench.notifier.part("12345678-9");
    bench.until("the second", |b| b.heard().len() == 2 && b.lanes() == 0).await;
    assert_eq!(bench.heard(), ["1", "2"]);
    assert!(lock(&bench.notifier.boxes).is_empty());
}
