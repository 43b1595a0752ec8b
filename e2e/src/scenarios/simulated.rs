//! What `surefoot simulate` says of a Rollout is what comes of it: the same Rollout on the same scenario, on
//! the real parts and in virtual time, ends the same way after about as long.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use surefoot_core::api::status::Outcome;

use crate::backend::Behaviour;
use crate::delivery::{Delivery, Setup, rollout};
use crate::world::Scene;

/// Requests a second.
const RATE: u32 = 200;
/// How often chance is asked.
const SEEDS: u32 = 20;
/// What is comparable: seconds and a factor for what a scenario doesn't have, a scrape that comes late
/// and a machine with other work.
const SLACK: f64 = 5.0;
const FACTOR: f64 = 1.5;

/// What is played on both.
struct Pair {
    /// Merged over the usual spec of the Rollout.
    spec: Value,
    /// How the new version answers.
    canary: Behaviour,
    /// The same in the scenario.
    answers: Value,
    /// The step and its weight from which on it does, where not from the beginning.
    from: Option<(i32, i64)>,
    outcome: Outcome,
}

impl Default for Pair {
    fn default() -> Self {
        Self {
            spec: json!({}),
            canary: Behaviour::default(),
            answers: json!({}),
            from: None,
            outcome: Outcome::RolledBack,
        }
    }
}

/// As good as stable.
pub async fn good(scene: Arc<Scene>) -> Result<()> {
    play(scene, Pair { outcome: Outcome::Promoted, ..Pair::default() }).await
}

/// The same with more patience: most of the time is what the Rollout asks for.
pub async fn patient(scene: Arc<Scene>) -> Result<()> {
    let spec = json!({
        "steps": [{"weight": 10}, {"weight": 25}, {"weight": 50}, {"weight": 100}],
        "gate": {"minDuration": "10s"},
    });
    play(scene, Pair { spec, outcome: Outcome::Promoted, ..Pair::default() }).await
}

/// Fails a fifth of its requests from the first one on.
pub async fn bad_at_once(scene: Arc<Scene>) -> Result<()> {
    let canary = Behaviour::failing(0.2);
    play(scene, Pair { canary, answers: json!({"failing": "20%"}), ..Pair::default() }).await
}

/// Does so once it has half of the traffic.
pub async fn bad_at_50(scene: Arc<Scene>) -> Result<()> {
    let canary = Behaviour::failing(0.2);
    play(
        scene,
        Pair { canary, answers: json!({"failing": "20%"}), from: Some((1, 50)), ..Pair::default() },
    )
    .await
}

/// Fails everything: the crash guard's matter.
pub async fn fails_everything(scene: Arc<Scene>) -> Result<()> {
    let canary = Behaviour::failing(1.0);
    play(scene, Pair { canary, answers: json!({"failing": "100%"}), ..Pair::default() }).await
}

async fn play(scene: Arc<Scene>, pair: Pair) -> Result<()> {
    let setup = Setup { rate: RATE, spec: pair.spec.clone(), ..Setup::default() };
    let folder = scene.world.folders.data.join(format!("{}-simulated", scene.namespace));
    let simulated = simulate(&folder, &pair, setup.replicas).await?;
    let namespace = scene.namespace.clone();
    let delivery = Delivery::start(scene, setup).await?;
    if pair.from.is_none() {
        delivery.behave("v2", pair.canary.clone());
    }
    let began = delivery.load.elapsed();
    delivery.set_version("v2").await?;
    if let Some((step, _)) = pair.from {
        delivery.in_step(step).await?;
        delivery.behave("v2", pair.canary.clone());
    }
    match pair.outcome {
        Outcome::Promoted => delivery.promoted(1).await?,
        _ => delivery.rolled_back(1).await?,
    };
    let real = (delivery.load.elapsed() - began).as_secs_f64();
    let [median, most] = simulated;
    println!(
        "pairs: {namespace}: {real:.0} s on the real parts; simulated {median:.0} s, 90% within {most:.0} s"
    );
    let comparable = median / FACTOR - SLACK..=most * FACTOR + SLACK;
    ensure!(
        comparable.contains(&real),
        "{real:.0} s on the real parts, but {median:.0} s ({most:.0} s) simulated"
    );
    delivery.audit()?;
    Ok(())
}

/// Seconds until the release has ended as the real one must, in all simulations: their median and 90th
/// percentile.
async fn simulate(folder: &Path, pair: &Pair, replicas: u32) -> Result<[f64; 2]> {
    let mut scenario = json!({
        "past": "30s",
        "deployment": {"replicas": replicas, "readyAfter": "1s"},
        "traffic": {"rps": RATE},
        "mesh": {"scrapeInterval": "1s"},
        "stable": {"failing": "0%"},
    });
    match pair.from {
        None => scenario["canary"] = pair.answers.clone(),
        Some((_, weight)) => {
            let event = json!({"atWeight": weight, "do": {"canary": pair.answers}});
            scenario["events"] = json!([event]);
        }
    }
    std::fs::create_dir_all(folder)?;
    let files = [("rollout.yaml", rollout("shop", &pair.spec)), ("scenario.yaml", scenario)];
    for (name, value) in &files {
        std::fs::write(folder.join(name), value.to_string())?;
    }
    let own = std::env::current_exe().context("where this program is")?;
    // Beside the other stories: their clients and servers are tasks of this very process.
    let output = tokio::process::Command::new(own.with_file_name("surefoot"))
        .args(["simulate", "--filename", "rollout.yaml", "--scenario", "scenario.yaml"])
        .args(["--output=json", &format!("--seeds={SEEDS}")])
        .current_dir(folder)
        .output()
        .await
        .context("running surefoot simulate")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "surefoot simulate: {said}");
    let table: Value = serde_json::from_slice(&output.stdout).context("its table")?;
    let ended = match pair.outcome {
        Outcome::Promoted => &table[0]["promoted"]["of"],
        _ => &table[0]["rolledBack"]["of"],
    };
    ensure!(*ended == SEEDS, "of {SEEDS} simulations only {ended} end so: {table}");
    serde_json::from_value(table[0]["seconds"].clone()).context("its seconds")
}
