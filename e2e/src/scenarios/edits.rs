//! Somebody else writes the weights: once, again and again, or as GitOps tools do.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use surefoot_core::api::RolloutStatus;
use surefoot_core::api::status::{HoldReason, Phase};
use tokio::task::JoinHandle;

use super::http_route;
use crate::app::ISTIO;
use crate::delivery::{APP, Delivery, LIMIT, Setup, canary_weight};
use crate::record::Entry;
use crate::wait::wait_until;
use crate::way;
use crate::world::Scene;

/// Sets the canary's weight under a name.
async fn set(scene: &Scene, manager: &str, canary: i64) -> Result<()> {
    let patch: json_patch::Patch = serde_json::from_value(json!([
        {"op": "replace", "path": "/spec/http/0/route/0/weight", "value": 100 - canary},
        {"op": "replace", "path": "/spec/http/0/route/1/weight", "value": canary},
    ]))?;
    let parameters = PatchParams { field_manager: Some(manager.to_owned()), ..Default::default() };
    let api = scene.api(ISTIO, "VirtualService").await?;
    api.patch(APP, &parameters, &Patch::Json::<()>(patch)).await?;
    Ok(())
}

/// Edits the weight and waits for an answer to that in the record; how long it took, both as the
/// record learned of them.
async fn answered(
    delivery: &Delivery,
    canary: i64,
    answer: impl Fn(&Entry) -> bool,
) -> Result<Duration> {
    let start = delivery.scene.record.known().last().map_or(0, |entry| entry.version);
    set(&delivery.scene, "hand", canary).await?;
    let mut edited = None;
    let wanted = |entry: &Entry| {
        let route = entry.resource == "virtualservices" && entry.version > start;
        match edited {
            None if route && canary_weight(&entry.object) == canary => edited = Some(entry.at),
            Some(at) if answer(entry) => return Some(entry.at.duration_since(at)),
            _ => {}
        }
        None
    };
    let took = delivery.scene.record.until("an answer to the edit", LIMIT, wanted).await?;
    Duration::try_from(took).context("answered before it was asked")
}

/// Raised to 80% and to 100%: put right at once. Lowered to 20% and to 0%: respected at once, until a
/// person resumes. The release goes on and ends well.
pub async fn by_hand(scene: Arc<Scene>) -> Result<()> {
    let setup = Setup {
        spec: json!({"steps": [{"weight": 50}, {"weight": 100}], "gate": {"minDuration": "15s"}}),
        ..Setup::default()
    };
    let delivery = Delivery::start(scene, setup).await?;
    delivery.set_version("v2").await?;
    delivery.in_step(0).await?;
    let mut raised = Vec::new();
    for canary in [80, 100] {
        let back = |e: &Entry| e.resource == "virtualservices" && canary_weight(&e.object) == 50;
        raised.push(answered(&delivery, canary, back).await?.as_millis());
        let status = delivery.in_step(0).await?;
        ensure!(status.contest.is_some_and(|c| c.manager == "hand"), "nobody is named");
    }
    let mut lowered = Vec::new();
    for canary in [20, 0] {
        let respected = |e: &Entry| {
            e.resource == "rollouts"
                && e.object["status"]["step"]["hold"]["reason"] == "WeightLowered"
        };
        lowered.push(answered(&delivery, canary, respected).await?.as_millis());
        let status = delivery.status().await?;
        ensure!(status.phase == Phase::Paused, "{:?}", status.phase);
        ensure!(status.message.contains("hand lowered"), "{}", status.message);
        let route = delivery.scene.get(ISTIO, "VirtualService", APP).await?;
        ensure!(canary_weight(&route) == canary, "the lowered weight was not respected");
        resume(&delivery, &format!("back-from-{canary}")).await?;
        delivery
            .until("the weight to be back", |s| {
                s.phase == Phase::Stepping && s.step.as_ref().is_some_and(|at| at.hold.is_none())
            })
            .await?;
        delivery.in_step(0).await?;
    }
    println!(
        "figures: weight raised by hand: put right after {raised:?} ms (peers 20 ms); lowered by \
         hand: respected, Paused/WeightLowered after {lowered:?} ms (peers: undone after 21 ms)"
    );
    delivery.goes_through().await
}

/// A resume with a name of its own, so that there can be several for one step.
async fn resume(delivery: &Delivery, name: &str) -> Result<()> {
    delivery.command_named("resume", name).await
}

/// Something that writes until it is told to stop.
struct Writer(JoinHandle<Result<()>>);

impl Writer {
    /// Stop, and be gone: a task that is only told to holds on to its scene for a moment.
    async fn end(mut self) {
        self.0.abort();
        let _ = (&mut self.0).await;
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn held(s: &RolloutStatus, reason: HoldReason) -> bool {
    let hold = s.step.as_ref().and_then(|at| at.hold.as_ref());
    s.phase == Phase::Paused && hold.is_some_and(|h| h.reason == reason)
}

/// Another controller wants 80% and says so whenever it is anything else: named, not raced. When it
/// stops a person resumes, and the release ends well.
pub async fn fight(scene: Arc<Scene>) -> Result<()> {
    let delivery = Delivery::start(scene, Setup { proxied: Some(1), ..Setup::default() }).await?;
    delivery.set_version("v2").await?;
    delivery.in_step(0).await?;
    let rival = Writer(tokio::spawn(rival(Arc::clone(&delivery.scene))));
    let status = delivery
        .until("the fight to be called one", |s| held(s, HoldReason::TrafficOwnershipConflict))
        .await?;
    ensure!(status.contest.is_some_and(|c| c.manager == "rival"), "the rival isn't named");
    ensure!(status.message.contains("rival"), "{}", status.message);
    let reason = status.conditions.iter().find(|c| c.kind == "Ready").map(|c| c.reason.clone());
    ensure!(reason.as_deref() == Some("TrafficOwnershipConflict"), "{reason:?}");
    let writes = |verb: &str, of: &str| -> Result<usize> {
        let calls = delivery.api()?.calls();
        Ok(calls.iter().filter(|c| c.verb == verb && c.resource == of).count())
    };
    let before = (writes("PATCH", "virtualservices")?, writes("PATCH", "rollouts/status")?);
    let start = delivery.load.elapsed();
    wait_until("half a minute of fighting", LIMIT, || async {
        Ok(delivery.load.elapsed() - start >= Duration::from_secs(30))
    })
    .await?;
    let routes = writes("PATCH", "virtualservices")? - before.0;
    let statuses = writes("PATCH", "rollouts/status")? - before.1;
    // One in ten seconds, and whatever was under way at the ends.
    ensure!(routes <= 4 && statuses <= 12, "a hot loop: {routes} and {statuses} writes in 30 s");
    rival.end().await;
    wait_until("the weight to be right again", LIMIT, || async {
        let route = delivery.scene.get(ISTIO, "VirtualService", APP).await?;
        Ok(canary_weight(&route) == 10)
    })
    .await?;
    resume(&delivery, "the-rival-is-gone").await?;
    println!(
        "figures: a writer that fights: {routes} writes of the route and {statuses} of the status \
         in 30 s (no peer gives up)"
    );
    delivery
        .until("the release to go on", |s| s.step.as_ref().is_some_and(|at| at.hold.is_none()))
        .await?;
    delivery.command("abort").await?;
    delivery.rolled_back(1).await?;
    delivery.nothing_lost(&[])?;
    delivery.audit()?;
    Ok(())
}

/// Whenever the weight isn't 80 it is made so, fifty times a second.
async fn rival(scene: Arc<Scene>) -> Result<()> {
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    let api = scene.api(ISTIO, "VirtualService").await?;
    loop {
        ticks.tick().await;
        let route = serde_json::to_value(api.get(APP).await?)?;
        if canary_weight(&route) != 80 {
            set(&scene, "rival", 80).await?;
        }
    }
}

/// A GitOps tool applies the route of its repository, 100/0, every second.
pub async fn gitops_applies(scene: Arc<Scene>) -> Result<()> {
    gitops(scene, false).await
}

/// The same with an HTTPRoute.
pub async fn gitops_applies_http_route(scene: Arc<Scene>) -> Result<()> {
    let delivery = Delivery::start(scene, http_route::setup()).await?;
    let (tool, mut route) = (Arc::clone(&delivery.scene), way::http_route());
    route["metadata"]["namespace"] = json!(tool.namespace);
    let applied = applied(tool, way::GATEWAY_API, way::KIND, route);
    let tool = Writer(tokio::spawn(applied));
    delivery.set_version("v2").await?;
    let respected = |s: &RolloutStatus| held(s, HoldReason::WeightLowered);
    let status = delivery.until("the reset to be respected", respected).await?;
    ensure!(status.message.contains("gitops lowered"), "{}", status.message);
    tool.end().await;
    resume(&delivery, "the-tool-is-off").await?;
    delivery.goes_through().await
}

/// The route of the repository delegates to one that only the Rollout writes: the tool applies what is
/// its own, every second, and the release goes through.
pub async fn promoted_by_delegate(scene: Arc<Scene>) -> Result<()> {
    let routes = json!([{"kind": "VirtualService", "name": WEIGHTS}]);
    let spec = json!({"traffic": {"routes": routes}});
    let delivery =
        Delivery::start(scene, Setup { spec, routing: delegating, ..Setup::default() }).await?;
    let tool = Arc::clone(&delivery.scene);
    let root = root(&tool.namespace)?;
    let tool = Writer(tokio::spawn(applied(tool, ISTIO, "VirtualService", root)));
    delivery.set_version("v2").await?;
    delivery.in_step(1).await?;
    ensure!(delivery.load.report().version("v2").requests > 0, "nobody was answered by the canary");
    delivery.goes_through().await?;
    tool.end().await;
    Ok(())
}

/// The VirtualService that holds nothing but the two weights.
const WEIGHTS: &str = "shop-weights";

fn root(namespace: &str) -> Result<Value> {
    let mut root = crate::delivery::route(namespace)?;
    root["metadata"]["namespace"] = json!(namespace);
    root["spec"]["http"] = json!([{"name": "shop", "delegate": {"name": WEIGHTS}}]);
    Ok(root)
}

fn delegating(namespace: &str) -> Result<Vec<String>> {
    let mut weights = crate::delivery::route(namespace)?;
    weights["metadata"]["name"] = json!(WEIGHTS);
    weights["spec"] = json!({"http": weights["spec"]["http"]});
    let service = |name| crate::app::service(name, &format!("app: {APP}"));
    let root = root(namespace)?.to_string();
    Ok(vec![service("shop-stable"), service("shop-canary"), root, weights.to_string()])
}

/// An object is applied as it is in the repository, every second.
async fn applied(
    scene: Arc<Scene>,
    version: &'static str,
    kind: &'static str,
    object: Value,
) -> Result<()> {
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    let api = scene.api(version, kind).await?;
    loop {
        ticks.tick().await;
        let params = PatchParams::apply("gitops").force();
        api.patch(APP, &params, &Patch::Apply(&object)).await?;
    }
}

/// A GitOps tool replaces the whole route, our annotations gone with it, every second.
pub async fn gitops_replaces(scene: Arc<Scene>) -> Result<()> {
    gitops(scene, true).await
}

async fn gitops(scene: Arc<Scene>, whole: bool) -> Result<()> {
    let setup = Setup { proxied: Some(2), ..Setup::default() };
    let delivery = Delivery::start(scene, setup).await?;
    let scene = Arc::clone(&delivery.scene);
    let mut route = crate::delivery::route(&scene.namespace)?;
    route["metadata"]["namespace"] = json!(scene.namespace);
    delivery.set_version("v2").await?;
    // Who replaces a route just between a decision and its write is respected as well, and can't be told
    // from the one who made the route.
    let raised = || async { Ok(delivery.canary_weight().await? == 10) };
    wait_until("the first weight", LIMIT, raised).await?;
    let tool = Writer(if whole {
        tokio::spawn(replaced(scene, route))
    } else {
        tokio::spawn(applied(scene, ISTIO, "VirtualService", route))
    });
    let respected = |s: &RolloutStatus| held(s, HoldReason::WeightLowered);
    let status = delivery.until("the reset to be respected", respected).await?;
    ensure!(status.message.contains("gitops lowered"), "{}", status.message);
    // As long as the tool goes on nothing is raised again.
    let calls = || -> Result<usize> {
        let calls = delivery.api()?.calls();
        Ok(calls.iter().filter(|c| c.resource == "virtualservices" && c.verb == "PATCH").count())
    };
    let (before, start) = (calls()?, delivery.load.elapsed());
    wait_until("ten seconds of resets", LIMIT, || async {
        Ok(delivery.load.elapsed() - start >= Duration::from_secs(10))
    })
    .await?;
    let writes = calls()? - before;
    // Each replacement takes the fence away; putting it back is all there is to write.
    ensure!(writes <= if whole { 12 } else { 0 }, "{writes} writes of the route in 10 s");
    tool.end().await;
    resume(&delivery, "the-tool-is-off").await?;
    delivery.goes_through().await
}

/// It is replaced as a whole.
async fn replaced(scene: Arc<Scene>, mut route: Value) -> Result<()> {
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    let api = scene.api(ISTIO, "VirtualService").await?;
    loop {
        ticks.tick().await;
        let now = api.get(APP).await?;
        route["metadata"]["resourceVersion"] = json!(now.metadata.resource_version);
        let parameters =
            PostParams { field_manager: Some("gitops".to_owned()), ..Default::default() };
        // A conflict is a write of ours in between: the next second will do.
        let _ = api.replace(APP, &parameters, &serde_json::from_value(route.clone())?).await;
    }
}
