//! The main job, to be looked at: a good release and a bad one on the real parts, live, and then the
//! timeline of each.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::backend::Behaviour;
use crate::clock;
use crate::delivery::{APP, Delivery, Setup};
use crate::load::Report;
use crate::record::Entry;
use crate::way::Way;
use crate::world::{Scene, World};

/// Play both releases; an error when one of them ends otherwise than it should.
pub async fn demo() -> Result<()> {
    let begun = clock::instant();
    println!("Starting kube-apiserver, kube-controller-manager, istiod, Envoy and Prometheus …");
    let world = Arc::new(World::start().await?);
    println!(
        "… up after {:.0} s. Applying Deployment, Service, VirtualService and this Rollout:\n",
        (clock::instant() - begun).as_secs_f64()
    );
    let scene = Arc::new(Scene::open(Arc::clone(&world), "demo", Way::default()).await?);
    let spec = json!({"gate": {"minDuration": "8s"}});
    println!("{}", serde_saphyr::to_string(&crate::delivery::rollout("demo", &spec))?);
    let delivery = Delivery::start(scene, Setup { spec, ..Setup::default() }).await;
    let result = match delivery {
        Ok(delivery) => releases(&delivery).await,
        Err(error) => Err(error),
    };
    if result.is_err() {
        world.folders.keep();
        println!("logs: {}", world.folders.run.display());
    }
    result
}

async fn releases(delivery: &Delivery) -> Result<()> {
    let zero = Zero { wall: clock::wall(), load: delivery.load.elapsed() };
    println!("200 requests a second go through the gateway. A good version v2:\n");
    let good = watched(delivery, "v2").await?;
    ensure!(good, "the good release was not promoted");
    delivery.rests_on("v2").await?;
    println!("\nAnd a bad one, v3, that fails 30% of its requests:\n");
    delivery.behave("v3", Behaviour::failing(0.3));
    let bad = watched(delivery, "v3").await?;
    ensure!(!bad, "the bad release was promoted");
    let entries = delivery.scene.record.entries()?;
    let report = delivery.load.report();
    for (release, title) in [(1, "v2, promoted"), (2, "v3, rolled back")] {
        println!("\nTimeline of release {release} ({title})\n");
        print!("{}", timeline(&entries, &report, &zero, release));
    }
    let lost = delivery.nothing_lost(&["v3"])?;
    let events = delivery.audit()?;
    println!(
        "\n{} requests in all; none failed but v3's own. {events} accepted writes checked against the \
         invariants: no violation.",
        lost.samples.len()
    );
    Ok(())
}

/// Set the image and follow the release with the plugin; whether it was promoted.
async fn watched(delivery: &Delivery, version: &str) -> Result<bool> {
    println!("$ kubectl set image deployment/{APP} {APP}=registry.test/{APP}:{version}");
    println!("$ kubectl surefoot status {APP} --watch\n");
    let before = delivery.status().await?.release.map_or(0, |r| r.number);
    delivery.set_version(version).await?;
    delivery
        .until("the release to begin", |s| s.release.as_ref().is_some_and(|r| r.number > before))
        .await?;
    let own = std::env::current_exe().context("where this program is")?;
    let status = tokio::process::Command::new(own.with_file_name("kubectl-surefoot"))
        .args(["status", APP, "--watch", "--namespace", &delivery.scene.namespace])
        .arg("--kubeconfig")
        .arg(delivery.scene.world.control_plane.kubeconfig())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .status();
    let status = tokio::time::timeout(Duration::from_secs(240), status)
        .await
        .context("the release didn't end within four minutes")?
        .context("starting kubectl-surefoot")?;
    Ok(status.success())
}

/// The same moment on both clocks.
struct Zero {
    wall: Timestamp,
    load: Duration,
}

impl Zero {
    fn on_load(&self, at: Timestamp) -> Duration {
        let since = Duration::try_from(at.duration_since(self.wall)).unwrap_or_default();
        self.load + since
    }
}

/// What happened at one moment of a release.
struct Row {
    at: Timestamp,
    weight: i64,
    verdict: String,
    why: String,
}

/// A row a decision: time, the weight it allows, requests and failures of each version until the
/// next, verdict and why.
fn timeline(entries: &[Entry], report: &Report, zero: &Zero, release: i64) -> String {
    let rows = rows(entries, release);
    let Some(first) = rows.first().map(|r| r.at) else { return "nothing on record\n".to_owned() };
    let arms: Vec<&str> = if release == 1 { vec!["v1", "v2"] } else { vec!["v2", "v3"] };
    let mut text = format!(
        "{:>7} {:>7}  {:>14} {:>14}  {:<9} why\n",
        "time", "weight", "stable (bad)", "canary (bad)", "verdict"
    );
    for (i, row) in rows.iter().enumerate() {
        let end =
            rows.get(i + 1).map_or(row.at + jiff::SignedDuration::from_secs(2), |next| next.at);
        let slice = report.between(zero.on_load(row.at), zero.on_load(end));
        let arm = |version: &str| {
            let counts = slice.version(version);
            format!("{} ({})", counts.requests, counts.failed)
        };
        let time = row.at.duration_since(first).as_secs_f64();
        let head = format!(
            "{time:>6.1}s {:>6}%  {:>14} {:>14}  {:<9} ",
            row.weight,
            arm(arms[0]),
            arm(arms[1]),
            row.verdict
        );
        text.push_str(&head);
        text.push_str(&wrapped(&row.why, head.len(), 110));
        text.push('\n');
    }
    text
}

/// Words in lines of at most `width` columns, all but the first indented.
fn wrapped(words: &str, indent: usize, width: usize) -> String {
    let mut text = String::new();
    let mut column = indent;
    for word in words.split_whitespace() {
        let length = word.chars().count();
        if column > indent && column + length + 1 > width {
            text.push('\n');
            text.push_str(&" ".repeat(indent));
            column = indent;
        } else if column > indent {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += length;
    }
    text
}

fn rows(entries: &[Entry], release: i64) -> Vec<Row> {
    let mut seq = Value::Null;
    let mut rows = Vec::new();
    for entry in entries.iter().filter(|e| e.resource == "rollouts") {
        let status = &entry.object["status"];
        let decision = &status["decision"];
        if decision["release"] != release || decision["seq"] == seq {
            continue;
        }
        seq = decision["seq"].clone();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        rows.push(Row {
            at: text(&decision["at"]).parse().unwrap_or(entry.at),
            weight: decision["weight"].as_i64().unwrap_or(0),
            verdict: text(&decision["verdict"]),
            why: reason(status),
        });
    }
    rows
}

/// The decision's reason; where a pass and the next weight are one decision, the pass's.
fn reason(status: &Value) -> String {
    let decision = &status["decision"];
    let own = decision["reason"].as_str().unwrap_or_default().to_owned();
    let passes = status["release"]["passes"].as_array();
    let onward = decision["verdict"] == "Advance";
    let pass = passes.and_then(|p| p.last()).filter(|p| onward && p["at"] == decision["at"]);
    match pass.and_then(|p| p["evidence"].as_str()) {
        Some(evidence) => format!("{own}, since the step before passed: {evidence}"),
        None => own,
    }
}
