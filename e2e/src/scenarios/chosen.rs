//! Requests that are chosen for the canary by a header, on each kind of route: all of them and no others
//! go there beside its weight while the step lasts, and nothing is left of it afterwards.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::delivery::{APP, Delivery, LIMIT, Setup};
use crate::linkerd::Linkerd;
use crate::load::{Counts, Entry, Load, PATIENCE};
use crate::wait::wait_until;
use crate::way::{http_route, with};
use crate::world::Scene;

const HEADER: (&str, &str) = ("x-canary", "true");

fn steps() -> Value {
    let (name, value) = HEADER;
    let chosen = json!([{"headers": {name: {"exact": value}}}]);
    json!([
        {"weight": 10, "match": chosen, "approval": {}},
        {"weight": 50, "approval": {}},
        {"weight": 100},
    ])
}

/// A rule with a name, by which ours beside it is known.
fn named(_: &str) -> Result<Vec<String>> {
    let mut route = http_route();
    route["spec"]["rules"][0]["name"] = json!("main");
    Ok(with(&route))
}

fn setup() -> Setup {
    Setup { spec: json!({"steps": steps()}), ..Setup::default() }
}

/// A VirtualService: chosen requests, then a step without, promoted.
pub async fn promoted(scene: Arc<Scene>) -> Result<()> {
    goes_over(scene, setup()).await
}

/// An HTTPRoute of callers within Istio's mesh.
pub async fn promoted_by_http_route(scene: Arc<Scene>) -> Result<()> {
    goes_over(scene, Setup { routing: named, ..setup().by_http_route() }).await
}

/// One of Linkerd's (by the stand-in), and an abort while requests are chosen.
pub async fn aborted_on_linkerd(scene: Arc<Scene>) -> Result<()> {
    let linkerd = Linkerd::start(&scene).await?;
    let setup = Setup { routing: named, ..setup().on_linkerd(&linkerd) };
    let delivery = Delivery::start(scene, setup).await?;
    let before = spec(&delivery).await?;
    let chosen = chosen(&delivery, linkerd.entry()).await?;
    delivery.command("abort").await?;
    delivery.rolled_back(1).await?;
    let late = asked(&chosen).await?;
    ensure!(late.version("v2").requests == 0, "chosen requests still go to the canary");
    all_well(chosen).await?;
    ensure!(spec(&delivery).await? == before, "something is left of it");
    delivery.nothing_lost(&[])?;
    delivery.audit()?;
    Ok(())
}

async fn spec(delivery: &Delivery) -> Result<Value> {
    Ok(delivery.route().await?["spec"].clone())
}

/// A release whose first step waits for a person: chosen requests all go to the canary and of the others
/// as many as its weight says. The clients that are chosen.
async fn chosen(delivery: &Delivery, entry: Entry) -> Result<Load> {
    let host = delivery.scene.host(entry, APP);
    let chosen = Load::with(entry, &host, 20, PATIENCE, &[HEADER])?;
    delivery.set_version("v2").await?;
    delivery.awaits_approval(0).await?;
    let spec = spec(delivery).await?;
    let entries = spec["http"].as_array().or(spec["rules"].as_array());
    let entries = entries.context("no entries")?.len();
    ensure!(entries == 2, "the route has {entries} entries");
    let from = delivery.load.elapsed();
    let met = asked(&chosen).await?;
    let version = met.version("v2");
    ensure!(
        version == met.total(),
        "{version:?} of the {:?} chosen went to the canary",
        met.total()
    );
    let others = delivery.load.report().since(from);
    let share = others.share("v2");
    ensure!((0.02..0.25).contains(&share), "{share} of the others went to the canary");
    Ok(chosen)
}

/// What comes of the next hundred chosen requests.
async fn asked(chosen: &Load) -> Result<crate::load::Report> {
    let from = chosen.elapsed();
    wait_until("100 answers to chosen requests", LIMIT, || async {
        Ok(chosen.report().since(from).total().requests >= 100)
    })
    .await?;
    Ok(chosen.report().since(from))
}

/// None of the chosen requests was lost, from before the release on.
async fn all_well(chosen: Load) -> Result<()> {
    let seen = chosen.stop().await?;
    let Counts { requests, failed } = seen.total();
    ensure!(failed == 0, "{failed} of {requests} chosen requests: {:?}", seen.failures());
    Ok(())
}

async fn goes_over(scene: Arc<Scene>, setup: Setup) -> Result<()> {
    let entry = setup.entry;
    let delivery = &Delivery::start(scene, setup).await?;
    let before = spec(delivery).await?;
    let chosen = chosen(delivery, entry).await?;
    delivery.command("promote").await?;
    delivery.awaits_approval(1).await?;
    let shared = asked(&chosen).await?.share("v2");
    ensure!((0.25..0.75).contains(&shared), "{shared} of those once chosen go to the canary");
    delivery.command("promote").await?;
    delivery.goes_through().await?;
    all_well(chosen).await?;
    ensure!(spec(delivery).await? == before, "something is left of it");
    Ok(())
}
