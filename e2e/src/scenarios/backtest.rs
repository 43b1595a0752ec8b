//! `surefoot backtest` on the history that this traffic has left in Prometheus: every request of the
//! load is in it, and pods that are alike would have been promoted.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Output;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::app;
use crate::backend::Behaviour;
use crate::clock;
use crate::delivery::{APP, by_services, rollout};
use crate::proxy::Mode;
use crate::wait::wait_until;
use crate::world::Scene;

const PODS: u32 = 4;
const PER_SECOND: u32 = 400;
/// How many are sent: for a minute and a half.
const REQUESTS: usize = 90 * PER_SECOND as usize;
/// From before the first of them until Prometheus knows of the last.
const HISTORY: Duration = Duration::from_secs(110);
/// No wait here takes longer.
const LIMIT: Duration = Duration::from_secs(120);

/// The story.
pub async fn play(scene: Arc<Scene>) -> Result<()> {
    let scene = &*scene;
    let (from, sent) = traffic(scene).await?;
    let folder = &scene.world.folders.data;
    let file = folder.join("backtest.yaml");
    let narrow = json!({"analysis": {"metrics": [
        {"name": "success-rate", "successRate": {"maxDrop": "3pp"}},
        {"name": "latency", "role": "guard", "latency": {"maxSlowdown": "2"}},
    ]}});
    std::fs::write(&file, rollout(&scene.namespace, &narrow).to_string())?;
    let prometheus = scene.prometheus_proxy().await?;
    let (state, calibration) = (folder.join("backtest.state"), folder.join("calibration.yaml"));
    let ask = async |state: &Path, from: Timestamp| {
        let own = std::env::current_exe().context("where this program is")?;
        tokio::process::Command::new(own.with_file_name("surefoot"))
            .args(["backtest", "--output", "json", "--route-timeout", "2s", "--filename"])
            .arg(&file)
            .args(["--prometheus", &prometheus.url()])
            .args(["--from", &from.to_string(), "--to", &(from + HISTORY).to_string()])
            .arg("--state")
            .arg(state)
            .arg("--write-calibration")
            .arg(&calibration)
            .output()
            .await
            .context("running surefoot backtest")
    };
    let report = told(&ask(&state, from).await?)?;
    let counted = json!([report["pods"], report["requests"], report["failed"]]);
    ensure!(counted == json!([PODS, sent.0, sent.1]), "{counted}, the load sent {sent:?}");
    let timed = &report["dependence"][1]["requests"];
    ensure!(*timed == json!(sent.0), "{timed} latencies of {sent:?}");
    // As they were each pod was promoted once; failing ten times as often none was.
    let outcomes = report["outcomes"].as_array().context("no outcomes")?;
    let by_name: BTreeMap<&str, &Value> =
        outcomes.iter().filter_map(|o| Some((o["what"].as_str()?, o))).collect();
    let promoted = &by_name["as it was"]["promoted"];
    ensure!(*promoted == json!({"of": PODS, "all": PODS}), "{promoted} promoted: {report}");
    let seen = &by_name["failures × 10"]["rules"][0]["rolledBack"];
    ensure!(*seen == json!({"of": PODS, "all": PODS}), "{seen} seen: {report}");
    let phi = report["dependence"][0]["phi"].as_f64().context("no φ")?;
    ensure!((1.0..6.0).contains(&phi), "φ is {phi} for failures by chance");
    let written = std::fs::read_to_string(&calibration).context("no calibration")?;
    let written: Value = serde_saphyr::from_str(&written)?;
    let first = &written["metrics"][0];
    // So short a past is not believed to have less dispersion than is assumed.
    let dispersion = first["calibration"]["dispersion"].as_str().unwrap_or_default().parse::<f64>();
    ensure!(first["name"] == "success-rate" && dispersion? >= 3.0, "{written}");

    // What has been fetched is not fetched again; it answers no other question.
    prometheus.set(Mode::Refuse);
    ensure!(told(&ask(&state, from).await?)? == report, "the state file tells something else");
    let other = ask(&state, from + Duration::from_secs(1)).await?;
    says(&other, "another question")?;
    says(&ask(&folder.join("backtest.none"), from).await?, "looking for the pods")
}

/// Requests to pods that Prometheus knows; when its history begins, and how many there were and
/// failed.
async fn traffic(scene: &Scene) -> Result<(Timestamp, (usize, usize))> {
    scene.behave(&app::image(APP, "v1"), Behaviour::failing(0.01));
    let mut objects = vec![app::deployment(APP, APP, "v1", PODS)];
    objects.push(app::service(APP, &format!("app: {APP}")));
    objects.extend(by_services(&scene.namespace)?);
    scene.apply(&objects.join("\n---\n")).await?;
    app::available(scene, APP).await?;
    // A pod's first request makes its series: what came before is not known to be nothing.
    let probe = scene.load(APP, 40)?;
    let query = format!(
        "count(count by (pod) (istio_requests_total{{reporter=\"destination\", namespace={:?}}}))",
        scene.namespace
    );
    wait_until("Prometheus to know all pods", Duration::from_secs(60), || async {
        let known = scene.world.prometheus.query(&query).await?;
        Ok(known.first().is_some_and(|point| point.value() >= f64::from(PODS)))
    })
    .await?;
    let before = probe.stop().await?.version("v1").requests;
    scraped(scene, before).await?;
    let from = clock::wall();
    let load = scene.load(APP, PER_SECOND)?;
    let sent = || async { Ok(load.report().samples.len() >= REQUESTS) };
    wait_until("all requests to be answered", LIMIT, sent).await?;
    let report = load.stop().await?;
    let total = report.version("v1");
    ensure!(total == report.total(), "not all requests reached a pod: {:?}", report.failures());
    scraped(scene, before + total.requests).await?;
    // Also a question that begins a second later is one of the past.
    let end = from + HISTORY + Duration::from_secs(1);
    let over = || async { Ok(clock::wall() > end) };
    wait_until("the history to be over", LIMIT, over).await?;
    Ok((from, (total.requests, total.failed)))
}

/// Wait until Prometheus knows of so many requests.
async fn scraped(scene: &Scene, requests: usize) -> Result<()> {
    let query = format!(
        "sum(istio_requests_total{{reporter=\"destination\", namespace={:?}}})",
        scene.namespace
    );
    wait_until("Prometheus to know of all requests", LIMIT, || async {
        let known = scene.world.prometheus.query(&query).await?;
        #[expect(clippy::cast_precision_loss, reason = "some ten thousand")]
        Ok(known.first().is_some_and(|point| point.value() >= requests as f64))
    })
    .await
}

fn told(output: &Output) -> Result<Value> {
    if !output.status.success() {
        bail!("surefoot backtest: {}", String::from_utf8_lossy(&output.stderr));
    }
    serde_json::from_slice(&output.stdout).context("the backtest's output is no JSON")
}

fn says(output: &Output, words: &str) -> Result<()> {
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(!output.status.success() && said.contains(words), "{said}");
    Ok(())
}
