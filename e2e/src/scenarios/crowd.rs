//! Many releases under one controller, that all want the same at the same moment.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::future::try_join_all;
use jiff::Timestamp;
use serde_json::{Value, json};
use surefoot_core::api::status::{ConditionStatus, Outcome, Phase, RolloutStatus};

use crate::app;
use crate::backend::Behaviour;
use crate::delivery::{APP, Delivery, LIMIT, SUREFOOT, Setup, canary_weight};
use crate::load::Load;
use crate::proxy::Mode;
use crate::wait::{wait_for, wait_until};
use crate::world::Scene;

/// How many releases are hit at once, as where the peers' figures were taken.
const MANY: usize = 24;

/// 24 releases in one namespace under one controller, aborted at once.
pub async fn aborts(scene: Arc<Scene>) -> Result<()> {
    let spec = json!({"steps": [{"weight": 10, "approval": {}}, {"weight": 100}]});
    let crowd = Crowd::at_first_step(scene, MANY, 5, spec).await?;
    let api = crowd.delivery.scene.api(SUREFOOT, "RolloutAction").await?;
    let mut orders = Vec::new();
    for name in &crowd.names {
        let rollout = crowd.delivery.scene.get(SUREFOOT, "Rollout", name).await?;
        let order = json!({
            "apiVersion": SUREFOOT, "kind": "RolloutAction", "metadata": {"name": name},
            "spec": {
                "rollout": name, "uid": rollout["metadata"]["uid"], "action": "abort",
                "release": 1, "step": 0, "requestedBy": "admin",
            },
        });
        orders.push(serde_json::from_value(order)?);
    }
    let default = Default::default();
    try_join_all(orders.iter().map(|order| api.create(&default, order))).await?;
    crowd.rolled_back(&crowd.names).await?;
    let entries = crowd.delivery.scene.record.entries()?;
    let asked = |name: &str| {
        let order = entries.iter().find(|e| e.resource == "rolloutactions" && e.name() == name);
        Ok(order.context("no abort on record")?.at)
    };
    println!(
        "figures: {MANY} aborts at once: abort to weight 0 written, {}, none lost (peers median \
         1,750 ms, and 5 to 8 of 24 never)",
        crowd.took(&crowd.names, asked)?
    );
    crowd.delivery.audit()?;
    Ok(())
}

/// Prometheus is held back until what it has to say condemns a canary; then it answers. First for one
/// release, then for 24 at once.
pub async fn reactions(scene: Arc<Scene>) -> Result<()> {
    let spec = json!({
        "steps": [{"weight": 50, "approval": {}}, {"weight": 100}],
        "analysis": {"noDataPolicy": {"after": "60s"}},
    });
    let crowd = Crowd::at_first_step(scene, MANY + 1, 10, spec).await?;
    let (alone, others) = crowd.names.split_at(1);
    for (group, peers) in [(alone, "210"), (others, "3,700, 3 far later")] {
        crowd.condemn(group).await?;
        crowd.rolled_back(group).await?;
        println!(
            "figures: bad canaries at once, {}: bad answer to weight 0 written, {}, none lost (peers \
             {peers}, and 9,800 ms)",
            group.len(),
            crowd.took(group, crowd.condemned()?)?
        );
    }
    crowd.delivery.audit()?;
    Ok(())
}

/// Applications that are being released, and requests for each.
struct Crowd {
    delivery: Delivery,
    names: Vec<String>,
    /// Of all but the usual one, which has the delivery's; they end when dropped.
    _loads: Vec<Load>,
}

impl Crowd {
    /// All have their first weight in force.
    async fn at_first_step(scene: Arc<Scene>, many: usize, rate: u32, spec: Value) -> Result<Self> {
        let environment = vec![("RUST_LOG", "info,surefoot::controller::sample=debug")];
        let setup = Setup { rate, replicas: 1, spec, environment, ..Setup::default() };
        let delivery = Delivery::start(scene, setup).await?;
        let others = (1..many).map(|i| format!("app-{i:02}"));
        let names: Vec<String> = std::iter::once(APP.to_owned()).chain(others).collect();
        let scene = &delivery.scene;
        for name in &names[1..] {
            scene.apply(&application(&delivery, name).await?).await?;
        }
        let loads = names[1..].iter().map(|name| scene.load(name, rate)).collect::<Result<_>>()?;
        let crowd = Self { delivery, names, _loads: loads };
        for name in &crowd.names {
            // A template that comes before the hold acts rolls out natively.
            crowd
                .until(name, "at rest", |s| {
                    let held = s.conditions.iter().find(|c| c.kind == "HoldReady");
                    s.phase == Phase::Healthy
                        && held.is_some_and(|c| c.status == ConditionStatus::True)
                })
                .await?;
            let image = json!([{"name": name, "image": app::image(name, "v2")}]);
            let patch = json!({"spec": {"template": {"spec": {"containers": image}}}});
            let api = crowd.delivery.scene.api("apps/v1", "Deployment").await?;
            api.patch(name, &Default::default(), &kube::api::Patch::Strategic(patch)).await?;
        }
        for name in &crowd.names {
            crowd
                .until(name, "at its first step", |s| {
                    s.step.as_ref().is_some_and(|step| step.started_at.is_some())
                })
                .await?;
        }
        Ok(crowd)
    }

    /// Let these canaries fail all they get, and Prometheus know it before any of its answers is
    /// heard.
    async fn condemn(&self, names: &[String]) -> Result<()> {
        let scene = &self.delivery.scene;
        self.delivery.prometheus.set(Mode::Hang);
        for name in names {
            scene.behave(&app::image(name, "v2"), Behaviour::failing(1.0));
        }
        // The crash guard needs a dozen or so at half the requests.
        let query = format!(
            "count(sum by (destination_service_name) (istio_requests_total{{reporter=\"source\", \
             destination_service_namespace={:?}, response_code=\"500\"}}) >= 20)",
            scene.namespace
        );
        let failing = || async {
            let points = scene.world.prometheus.query(&query).await?;
            Ok::<_, anyhow::Error>(points.first().map_or(0.0, |point| point.value()))
        };
        let before = failing().await?;
        #[expect(clippy::cast_precision_loss, reason = "a small count")]
        let wanted = before + names.len() as f64;
        let known = || async { Ok(failing().await? >= wanted) };
        wait_until("Prometheus to know of the failures", LIMIT, known).await?;
        self.delivery.prometheus.set(Mode::Pass);
        Ok(())
    }

    /// When the controller had the first answer with enough failures of a canary.
    fn condemned(&self) -> Result<impl Fn(&str) -> Result<Timestamp>> {
        let logged = self.delivery.logged()?;
        Ok(move |name: &str| {
            let service = format!("{name}-canary");
            let bad = logged.iter().find(|line| {
                line["message"] == "sampled"
                    && line["canary"] == service.as_str()
                    && line["seen.failed"].as_u64() > Some(0)
            });
            let bad = bad.with_context(|| format!("{name}: no bad answer was logged"))?;
            Ok(bad["timestamp"].as_str().unwrap_or_default().parse()?)
        })
    }

    async fn rolled_back(&self, names: &[String]) -> Result<()> {
        for name in names {
            self.until(name, "rolled back", |s| {
                let outcome = s.history.first().map(|h| h.outcome);
                s.phase == Phase::Degraded && outcome == Some(Outcome::RolledBack)
            })
            .await?;
        }
        Ok(())
    }

    /// Wait until a Rollout is as wanted.
    async fn until(
        &self,
        name: &str,
        what: &str,
        wanted: impl Fn(&RolloutStatus) -> bool,
    ) -> Result<()> {
        let wanted = &wanted;
        wait_for(&format!("{name} to be {what}"), LIMIT, || async {
            let rollout = self.delivery.scene.get(SUREFOOT, "Rollout", name).await?;
            let status = rollout.get("status").cloned().unwrap_or_else(|| json!({}));
            Ok(wanted(&serde_json::from_value(status)?).then_some(()))
        })
        .await
    }

    /// How long it took from a moment of each to its route's first weight 0 after it, by the record:
    /// the median and the longest.
    fn took(&self, names: &[String], from: impl Fn(&str) -> Result<Timestamp>) -> Result<String> {
        let entries = self.delivery.scene.record.entries()?;
        let mut took = Vec::new();
        for name in names {
            let from = from(name)?;
            let written = entries.iter().find(|e| {
                e.resource == "virtualservices"
                    && e.name() == name
                    && e.at >= from
                    && canary_weight(&e.object) == 0
            });
            let written = written.with_context(|| format!("{name}: no weight 0 after it"))?;
            took.push(Duration::try_from(written.at.duration_since(from))?);
        }
        took.sort_unstable();
        let (median, last) = (took[took.len() / 2], took[took.len() - 1]);
        Ok(format!("median {} ms, slowest {} ms", median.as_millis(), last.as_millis()))
    }
}

/// An application like the usual one, and its Rollout.
async fn application(delivery: &Delivery, name: &str) -> Result<String> {
    let namespace = &delivery.scene.namespace;
    let mut rollout = delivery.rollout().await?;
    rollout["metadata"] = json!({"name": name});
    rollout["spec"]["targetRef"]["name"] = json!(name);
    rollout["spec"]["traffic"]["service"] = json!(name);
    rollout["spec"]["traffic"]["routes"][0]["name"] = json!(name);
    if let Some(rollout) = rollout.as_object_mut() {
        rollout.remove("status");
    }
    let selector = format!("app: {name}");
    let objects = [
        app::deployment(name, name, "v1", 1),
        app::service(name, &selector),
        app::service(&format!("{name}-stable"), &selector),
        app::service(&format!("{name}-canary"), &selector),
        app::route(namespace, name),
        rollout.to_string(),
    ];
    Ok(objects.join("\n---\n"))
}
