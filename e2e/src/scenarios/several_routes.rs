//! Two routes moved as one: the Service's own clients go by an HTTPRoute, those outside by a
//! VirtualService of the gateway.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use surefoot_core::api::RolloutStatus;
use surefoot_core::api::status::{Phase, WaitingKind};

use super::http_route;
use super::rolled_back::stays_on_v1;
use crate::app::ISTIO;
use crate::delivery::{APP, Delivery, LIMIT, Setup, by_services};
use crate::load::{Entry, Load, PATIENCE};
use crate::wait::wait_until;
use crate::way;
use crate::world::Scene;

fn both(namespace: &str) -> Result<Vec<String>> {
    let mut objects = by_services(namespace)?;
    objects.push(way::http_route().to_string());
    Ok(objects)
}

fn setup() -> Setup {
    let named = |kind: &str| json!({"kind": kind, "name": APP});
    let routes = json!([named("HTTPRoute"), named("VirtualService")]);
    Setup { spec: json!({"traffic": {"routes": routes}}), routing: both, ..Setup::default() }
}

/// The canary's weights on both.
async fn weights(delivery: &Delivery) -> Result<[Value; 2]> {
    let [_, canary] = http_route::weights(delivery).await?;
    let outside = delivery.scene.get(ISTIO, "VirtualService", APP).await?;
    Ok([canary, outside["spec"]["http"][0]["route"][1]["weight"].clone()])
}

/// Requests of the Service's own clients, beside those from outside.
fn inside(delivery: &Delivery) -> Result<Load> {
    Load::start(Entry::Sidecar, &delivery.scene.host(Entry::Sidecar, APP), 100, PATIENCE)
}

/// A version that is good: both kinds of clients are answered by it, as the weights say.
pub async fn promoted(scene: Arc<Scene>) -> Result<()> {
    let delivery = Delivery::start(scene, setup()).await?;
    let inside = inside(&delivery)?;
    delivery.set_version("v2").await?;
    delivery.in_step(1).await?;
    ensure!(weights(&delivery).await? == [json!(50), json!(50)]);
    for (who, load) in [("outside", &delivery.load), ("inside", &inside)] {
        let answered = load.report().version("v2").requests;
        ensure!(answered > 0, "no client {who} was answered by the canary at 10%");
    }
    delivery.promoted(1).await?;
    delivery.rests_on("v2").await?;
    ensure!(weights(&delivery).await? == [json!(0), json!(0)]);
    let lost = inside.stop().await?.failures();
    ensure!(lost.is_empty(), "inside: {lost:?}");
    delivery.nothing_lost(&[])?;
    delivery.audit()?;
    Ok(())
}

/// Somebody gives one of the routes a third destination in the middle of a release: no step passes. An
/// abort brings the other one back at once, and ends once the first one can be written.
pub async fn one_refuses(scene: Arc<Scene>) -> Result<()> {
    let delivery = Delivery::start(scene, setup()).await?;
    let stable = delivery.pods("v1").await?;
    let inside = inside(&delivery)?;
    delivery.set_version("v2").await?;
    delivery.in_step(1).await?;
    let third = |yes: bool| {
        let mut route = way::http_route();
        let backends = &mut route["spec"]["rules"][0]["backendRefs"];
        for (place, weight) in [60, 40].into_iter().enumerate() {
            backends[place]["weight"] = json!(weight);
        }
        if yes && let Some(backends) = backends.as_array_mut() {
            backends.push(json!({"name": APP, "port": 80, "weight": 0}));
        }
        json!({"spec": route["spec"]})
    };
    let edit = |yes| delivery.scene.merge(way::GATEWAY_API, "HTTPRoute", APP, third(yes));
    edit(true).await?;
    let refused = |s: &RolloutStatus| {
        s.waiting_on
            .iter()
            .any(|w| w.kind == WaitingKind::Prerequisite && w.message.contains("HTTPRoute"))
    };
    delivery.until("the third destination to be told", refused).await?;
    delivery.command("abort").await?;
    wait_until("the other route to come back", LIMIT, || async {
        Ok(weights(&delivery).await? == [json!(40), json!(0)])
    })
    .await?;
    let held = |s: &RolloutStatus| s.phase == Phase::RollingBack && refused(s);
    delivery.until("the rollback to wait for the first one", held).await?;
    edit(false).await?;
    delivery.rolled_back(1).await?;
    ensure!(weights(&delivery).await? == [json!(0), json!(0)]);
    let report = inside.stop().await?;
    ensure!(report.failures().is_empty(), "inside: {:?}", report.failures());
    report.last_answer("v2").context("the canary never answered inside")?;
    delivery.nothing_lost(&[])?;
    stays_on_v1(&delivery, &stable).await
}
