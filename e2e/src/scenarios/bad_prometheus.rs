//! A release meets a Prometheus that answers badly, one kind after another: it never passes a step
//! meanwhile, and is promoted once the real one is back. (Every kind there is, against the sampler
//! alone: tests/prometheus.rs.)

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use surefoot_core::api::status::WaitingKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::bad_midway::source;
use crate::delivery::{Delivery, LIMIT, Setup};
use crate::wait::wait_until;
use crate::world::{Scene, Task};

/// How it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Nan,
    Infinity,
    NoValue,
    TwoSeries,
    Html,
    Broken,
    CutOff,
    Empty,
    Hang,
}

const KINDS: [Kind; 9] = [
    Kind::Nan,
    Kind::Infinity,
    Kind::NoValue,
    Kind::TwoSeries,
    Kind::Html,
    Kind::Broken,
    Kind::CutOff,
    Kind::Empty,
    Kind::Hang,
];

impl Kind {
    /// The answer, head and body; `None` for none.
    fn answer(self) -> Option<String> {
        let point = |value: &Value| json!({"metric": {"job": "envoy"}, "value": value});
        let vector = |points: &[Value]| {
            let data = json!({"resultType": "vector", "result": points});
            json!({"status": "success", "data": data}).to_string()
        };
        let (code, body) = match self {
            Kind::Nan => ("200 OK", vector(&[point(&json!([1, "NaN"]))])),
            Kind::Infinity => ("200 OK", vector(&[point(&json!([1, "+Inf"]))])),
            Kind::NoValue => ("200 OK", vector(&[point(&json!([]))])),
            Kind::TwoSeries => {
                let one = point(&json!([1, "1"]));
                ("200 OK", vector(&[one.clone(), one]))
            }
            Kind::Html => ("200 OK", "<html><body>Sign in</body></html>".to_owned()),
            Kind::Broken => ("500 Internal Server Error", "oh no".to_owned()),
            Kind::CutOff => {
                let whole = vector(&[point(&json!([1, "1"]))]);
                ("200 OK", whole.chars().take(whole.len() / 2).collect())
            }
            Kind::Empty => ("200 OK", vector(&[])),
            Kind::Hang => return None,
        };
        let length = body.len();
        Some(format!(
            "HTTP/1.1 {code}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\
             connection: close\r\n\r\n{body}"
        ))
    }
}

/// The kind that is answered now, and how many requests have met it.
struct Server {
    url: String,
    kind: watch::Sender<Kind>,
    met: Arc<Mutex<Vec<Kind>>>,
    _task: Task,
}

impl Server {
    async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("binding the bad server")?;
        let url = format!("http://{}", listener.local_addr()?);
        let (kind, kinds) = watch::channel(Kind::Nan);
        let met = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&met);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, kinds.clone(), Arc::clone(&noted)));
            }
        });
        Ok(Self { url, kind, met, _task: Task(task) })
    }

    fn met(&self, kind: Kind) -> usize {
        let met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        met.iter().filter(|k| **k == kind).count()
    }
}

async fn serve(
    mut stream: TcpStream,
    mut kinds: watch::Receiver<Kind>,
    met: Arc<Mutex<Vec<Kind>>>,
) {
    let mut request = [0; 8192];
    // The whole request is a few hundred bytes; what it asks doesn't matter.
    if stream.read(&mut request).await.is_err() {
        return;
    }
    let kind = *kinds.borrow_and_update();
    met.lock().unwrap_or_else(PoisonError::into_inner).push(kind);
    match kind.answer() {
        Some(answer) => drop(stream.write_all(answer.as_bytes()).await),
        // For as long as this lasts, or until the scenario ends.
        None => drop(kinds.wait_for(|kind| *kind != Kind::Hang).await),
    }
}

/// The story.
pub async fn play(scene: Arc<Scene>) -> Result<()> {
    let spec = json!({"steps": [{"weight": 10, "gate": {"minDuration": "8s"}}, {"weight": 100}]});
    let delivery = Delivery::start(scene, Setup { spec, ..Setup::default() }).await?;
    let (pid, bad) = (delivery.controller_lives()?, Server::start().await?);
    delivery.set_version("v2").await?;
    delivery.in_step(0).await?;
    source(&delivery, &bad.url).await?;
    for kind in KINDS {
        bad.kind.send_replace(kind);
        let enough = if kind == Kind::Hang { 2 } else { 3 };
        wait_until(&format!("{enough} questions to meet {kind:?}"), LIMIT, || async {
            Ok(bad.met(kind) >= enough)
        })
        .await?;
        let dark = |s: &surefoot_core::api::RolloutStatus| {
            s.waiting_on.iter().any(|w| w.kind == WaitingKind::Metrics)
        };
        let status = delivery
            .within(Duration::from_secs(60), "the metrics to be missed", dark)
            .await
            .with_context(|| format!("{kind:?}"))?;
        ensure!(status.step.is_some_and(|s| s.index == 0), "{kind:?} passed the step");
        ensure!(status.release.is_some_and(|r| r.passes.is_empty()), "{kind:?} is a pass");
        ensure!(status.decision.is_some_and(|d| d.weight == 10), "{kind:?} moved the weight");
        ensure!(delivery.controller_lives()? == pid, "{kind:?} ended the controller");
    }
    source(&delivery, &delivery.prometheus.url()).await?;
    let release = delivery.promoted(1).await?.release.context("no release")?;
    ensure!(release.passes.len() == 2, "{:?}", release.passes);
    delivery.rests_on("v2").await?;
    ensure!(delivery.controller_lives()? == pid, "the controller has restarted");
    delivery.nothing_lost(&[])?;
    delivery.audit()?;
    Ok(())
}
