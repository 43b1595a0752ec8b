//! What goes wrong in the middle of a release: it waits and says why, writes no route meanwhile, and
//! goes on by itself once that is put right.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use surefoot_core::api::RolloutStatus;
use surefoot_core::api::status::{ConditionStatus, Phase, WaitingKind};

use super::routing;
use crate::app::{self, ISTIO};
use crate::delivery::{APP, CONTROLLER, Delivery, LIMIT, SUREFOOT, Setup};
use crate::wait::wait_until;
use crate::world::Scene;

const ADMISSION: &str = "admissionregistration.k8s.io/v1";

/// Steps that wait for a person at 20%.
pub(super) fn setup() -> Setup {
    let mut spec = super::kills::quick();
    spec["steps"] = json!([{"weight": 20, "approval": {}}, {"weight": 100}]);
    Setup { rate: 100, spec, ..Setup::default() }
}

/// A release of v2 that is at 20%.
pub(super) async fn midway(scene: Arc<Scene>, setup: Setup) -> Result<(Delivery, i32)> {
    let delivery = Delivery::start(scene, setup).await?;
    let pid = delivery.controller_lives()?;
    delivery.set_version("v2").await?;
    delivery.in_step(0).await?;
    Ok((delivery, pid))
}

pub(super) async fn says(delivery: &Delivery, text: &str) -> Result<RolloutStatus> {
    let said = |s: &RolloutStatus| {
        s.message.contains(text) || s.waiting_on.iter().any(|w| w.message.contains(text))
    };
    delivery.until(&format!("the release to say: {text}"), said).await
}

/// It goes on, to the end, under the same process.
pub(super) async fn ends_well(delivery: &Delivery, pid: i32) -> Result<()> {
    let release = delivery.promoted(1).await?.release.context("no release")?;
    ensure!(release.passes.len() == 2, "{:?}", release.passes);
    delivery.rests_on("v2").await?;
    ensure!(delivery.controller_lives()? == pid, "the controller has restarted");
    delivery.audit()?;
    Ok(())
}

/// Say that the step may be left, once that alone is waited for. (A promote said earlier, while there
/// is no traffic to measure, doesn't count beyond the hold for want of data.)
pub(super) async fn approve(delivery: &Delivery) -> Result<()> {
    let alone = |s: &RolloutStatus| {
        s.phase == Phase::Paused
            && s.step.as_ref().is_some_and(|step| step.hold.is_none())
            && s.waiting_on.iter().all(|w| w.kind == WaitingKind::Approval)
    };
    delivery.until("the approval alone to be waited for", alone).await?;
    delivery.command("promote").await
}

async fn weights(delivery: &Delivery) -> Result<(Value, Value)> {
    let route = delivery.scene.get(ISTIO, "VirtualService", APP).await?;
    let weight = route["spec"]["http"][0]["route"][1]["weight"].clone();
    Ok((weight, route["metadata"]["resourceVersion"].clone()))
}

/// The route is deleted, and made anew as it was.
pub async fn route_deleted(scene: Arc<Scene>) -> Result<()> {
    let (delivery, pid) = midway(scene, setup()).await?;
    let route = delivery.scene.get(ISTIO, "VirtualService", APP).await?;
    let api = delivery.scene.api(ISTIO, "VirtualService").await?;
    api.delete(APP, &DeleteParams::default()).await?;
    says(&delivery, "VirtualService \"shop\" doesn't exist: create it").await?;
    let again = json!({
        "apiVersion": ISTIO, "kind": "VirtualService", "metadata": {"name": APP},
        "spec": route["spec"],
    });
    delivery.scene.apply(&again.to_string()).await?;
    approve(&delivery).await?;
    ends_well(&delivery, pid).await
}

/// The canary's Service is deleted: it is ours to make, so it comes back by itself.
pub async fn canary_service_deleted(scene: Arc<Scene>) -> Result<()> {
    let (delivery, pid) = midway(scene, setup()).await?;
    let api = delivery.scene.api("v1", "Service").await?;
    api.delete("shop-canary", &DeleteParams::default()).await?;
    wait_until("the Service to be back", LIMIT, || async {
        let service = api.get_opt("shop-canary").await?;
        Ok(service.is_some_and(|s| s.data["spec"].to_string().contains("pod-template-hash")))
    })
    .await?;
    approve(&delivery).await?;
    ends_well(&delivery, pid).await
}

/// The canary's subset is taken out of the DestinationRule and put back.
pub async fn subset_removed(scene: Arc<Scene>) -> Result<()> {
    let mut setup = Setup { routing: routing::by_subsets, ..setup() };
    json_patch::merge(&mut setup.spec, &routing::split());
    let (delivery, pid) = midway(scene, setup).await?;
    let rule = delivery.scene.get(ISTIO, "DestinationRule", APP).await?;
    let subsets = &rule["spec"]["subsets"];
    let change = |subsets: Value| {
        let scene = Arc::clone(&delivery.scene);
        async move {
            let patch = json!({"spec": {"subsets": subsets}});
            scene.merge(ISTIO, "DestinationRule", APP, patch).await
        }
    };
    let (_, before) = weights(&delivery).await?;
    change(json!([subsets[0]])).await?;
    says(&delivery, "has no subset \"canary\"").await?;
    ensure!(weights(&delivery).await?.1 == before, "the route was written");
    change(subsets.clone()).await?;
    approve(&delivery).await?;
    ends_well(&delivery, pid).await
}

/// The next weight is refused: said first, the phase Paused, the route as it was; then it heals.
async fn refused(delivery: &Delivery, text: &str) -> Result<()> {
    let (weight, before) = weights(delivery).await?;
    delivery.command("promote").await?;
    let status = says(delivery, text).await?;
    let first = status.waiting_on.first().context("waits for nothing")?;
    ensure!(first.kind == WaitingKind::Refused, "first it says {first:?}");
    ensure!(status.phase == Phase::Paused, "{:?}", status.phase);
    let ready = status.conditions.iter().find(|c| c.kind == "Ready").context("no Ready")?;
    ensure!(ready.reason == "Refused", "Ready says {}", ready.reason);
    ensure!(weights(delivery).await? == (weight, before), "the route was written");
    let shown = super::commands::plugin(delivery, &["status", APP]).await?;
    let flat = shown.split_whitespace().collect::<Vec<_>>().join(" ");
    ensure!(flat.contains("set-weight of VirtualService shop is refused"), "{shown}");
    calm(delivery).await
}

/// What is refused isn't tried in a hot loop, nor is the status written for each try.
async fn calm(delivery: &Delivery) -> Result<()> {
    let tries = || delivery.metric("surefoot_reconciles_total{result=\"retry\"}");
    let versions = || Ok::<_, anyhow::Error>(delivery.scene.record.history("rollouts", APP)?.len());
    let (first, written, start) = (tries().await?, versions()?, delivery.load.elapsed());
    // The first two may follow at once, on the news of the status that says so; the rest must wait.
    wait_until("five more tries", LIMIT, || async { Ok(tries().await? >= first + 5.0) }).await?;
    let took = delivery.load.elapsed() - start;
    ensure!(took > Duration::from_secs(1), "five tries in {took:?}");
    let written = versions()? - written;
    ensure!(written <= 2, "{written} status writes in five tries");
    Ok(())
}

/// The right to patch VirtualServices is taken away and given back.
pub async fn right_withdrawn(scene: Arc<Scene>) -> Result<()> {
    let (delivery, pid) = midway(scene, setup()).await?;
    let scene = &delivery.scene;
    const RBAC: &str = "rbac.authorization.k8s.io/v1";
    let role = scene.get(RBAC, "Role", "surefoot").await?;
    let mut less = role["rules"].clone();
    for rule in less.as_array_mut().into_iter().flatten() {
        if rule["apiGroups"] == json!(["networking.istio.io"]) {
            rule["verbs"] = json!(["get", "list", "watch"]);
        }
    }
    scene.merge(RBAC, "Role", "surefoot", json!({"rules": less})).await?;
    let may = ["auth", "can-i", "patch", "virtualservices", "--as", CONTROLLER];
    wait_until("the right to be gone", LIMIT, || async {
        Ok(delivery.kubectl(&may).await.is_err())
    })
    .await?;
    refused(&delivery, "cannot patch resource \"virtualservices\"").await?;
    says(&delivery, "deploy/namespace.yaml").await?;
    scene.merge(RBAC, "Role", "surefoot", json!({"rules": role["rules"]})).await?;
    ends_well(&delivery, pid).await?;
    delivery.nothing_lost(&[])?;
    Ok(())
}

/// Deletes cluster-wide objects of a scenario.
async fn withdraw(scene: &Scene, kinds: [&str; 2]) -> Result<()> {
    for kind in kinds {
        let api = scene.api(ADMISSION, kind).await?;
        api.delete(&scene.namespace, &DeleteParams::default()).await?;
    }
    Ok(())
}

fn only_here(scene: &Scene) -> Value {
    json!({"matchLabels": {"kubernetes.io/metadata.name": scene.namespace}})
}

/// An admission policy forbids changes of routes, and is lifted.
pub async fn policy_denies(scene: Arc<Scene>) -> Result<()> {
    let (delivery, pid) = midway(scene, setup()).await?;
    let scene = &delivery.scene;
    let name = json!({"name": scene.namespace});
    let policy = json!({
        "apiVersion": ADMISSION, "kind": "ValidatingAdmissionPolicy", "metadata": name,
        "spec": {
            "matchConstraints": {"resourceRules": [{
                "apiGroups": ["networking.istio.io"], "apiVersions": ["*"],
                "operations": ["UPDATE"], "resources": ["virtualservices"],
            }]},
            "validations": [{"expression": "false", "message": "no route changes today"}],
        },
    });
    let binding = json!({
        "apiVersion": ADMISSION, "kind": "ValidatingAdmissionPolicyBinding", "metadata": name,
        "spec": {
            "policyName": scene.namespace, "validationActions": ["Deny"],
            "matchResources": {"namespaceSelector": only_here(scene)},
        },
    });
    scene.apply(&format!("{policy}\n---\n{binding}")).await?;
    let try_it = ["annotate", "--overwrite", "--dry-run=server", "virtualservice", APP, "try=it"];
    wait_until("the policy to bite", LIMIT, || async {
        Ok(delivery.kubectl(&try_it).await.is_err())
    })
    .await?;
    refused(&delivery, "says: no route changes today").await?;
    withdraw(scene, ["ValidatingAdmissionPolicyBinding", "ValidatingAdmissionPolicy"]).await?;
    ends_well(&delivery, pid).await?;
    delivery.nothing_lost(&[])?;
    Ok(())
}

/// A quota leaves no room for the canary's ReplicaSet, and is raised.
pub async fn quota(scene: Arc<Scene>) -> Result<()> {
    let delivery = Delivery::start(scene, setup()).await?;
    let (scene, pid) = (&delivery.scene, delivery.controller_lives()?);
    let quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few"},
        "spec": {"hard": {"count/replicasets.apps": "1"}},
    });
    scene.apply(&quota.to_string()).await?;
    // The controller that counts isn't among the parts; the API server goes by what was counted.
    let full = json!({"count/replicasets.apps": "1"});
    let counted = json!({"status": {"hard": full, "used": full}});
    let api = scene.api("v1", "ResourceQuota").await?;
    api.patch_status("few", &PatchParams::default(), &Patch::Merge(counted)).await?;
    delivery.set_version("v2").await?;
    let status = says(&delivery, "exceeded quota: few").await?;
    ensure!(status.phase == Phase::Preparing, "{:?}", status.phase);
    ensure!(status.message.contains("raise the ResourceQuota"), "{}", status.message);
    scene.api("v1", "ResourceQuota").await?.delete("few", &DeleteParams::default()).await?;
    delivery.in_step(0).await?;
    delivery.command("promote").await?;
    ends_well(&delivery, pid).await?;
    delivery.nothing_lost(&[])?;
    Ok(())
}

/// An admission policy changes the template of every new ReplicaSet: what would be released isn't
/// what was asked for. Without it a retry goes well.
pub async fn template_mutated(scene: Arc<Scene>) -> Result<()> {
    let delivery = Delivery::start(scene, setup()).await?;
    let (scene, pid) = (&delivery.scene, delivery.controller_lives()?);
    let name = json!({"name": scene.namespace});
    let mutation = "Object{spec: Object.spec{template: Object.spec.template{metadata: \
                    Object.spec.template.metadata{annotations: {\"mutated\": \"yes\"}}}}}";
    let policy = json!({
        "apiVersion": ADMISSION, "kind": "MutatingAdmissionPolicy", "metadata": name,
        "spec": {
            "reinvocationPolicy": "Never",
            "matchConstraints": {"resourceRules": [{
                "apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE"],
                "resources": ["replicasets"],
            }]},
            "mutations": [{
                "patchType": "ApplyConfiguration",
                "applyConfiguration": {"expression": mutation},
            }],
        },
    });
    let binding = json!({
        "apiVersion": ADMISSION, "kind": "MutatingAdmissionPolicyBinding", "metadata": name,
        "spec": {
            "policyName": scene.namespace,
            "matchResources": {"namespaceSelector": only_here(scene)},
        },
    });
    scene.apply(&format!("{policy}\n---\n{binding}")).await?;
    let mut probe: Value = serde_saphyr::from_str(&app::deployment("probe", "probe", "v1", 0))?;
    probe["kind"] = json!("ReplicaSet");
    let probe: DynamicObject = serde_json::from_value(probe)?;
    let sets = scene.api("apps/v1", "ReplicaSet").await?;
    wait_until("the policy to bite", LIMIT, || async {
        let dry = PostParams { dry_run: true, ..PostParams::default() };
        let made = sets.create(&dry, &probe).await?;
        Ok(made.data["spec"]["template"]["metadata"]["annotations"]["mutated"] == "yes")
    })
    .await?;
    let stable = delivery.pods("v1").await?;
    delivery.set_version("v2").await?;
    let status = delivery.rolled_back(1).await?;
    ensure!(status.message.contains("TemplateMutated"), "{}", status.message);
    ensure!(delivery.pods("v1").await? == stable, "stable's pods changed");
    withdraw(scene, ["MutatingAdmissionPolicyBinding", "MutatingAdmissionPolicy"]).await?;
    wait_until("the policy to be gone", LIMIT, || async {
        let dry = PostParams { dry_run: true, ..PostParams::default() };
        let made = sets.create(&dry, &probe).await?;
        Ok(made.data["spec"]["template"]["metadata"]["annotations"]["mutated"].is_null())
    })
    .await?;
    delivery.command("retry").await?;
    delivery
        .until("the second try at 20%", |s| {
            s.release.as_ref().is_some_and(|r| r.number == 2)
                && s.step.as_ref().is_some_and(|at| at.started_at.is_some())
        })
        .await?;
    delivery.command("promote").await?;
    delivery.promoted(2).await?;
    delivery.rests_on("v2").await?;
    ensure!(delivery.controller_lives()? == pid, "the controller has restarted");
    delivery.nothing_lost(&[])?;
    delivery.audit()?;
    Ok(())
}

/// The Deployment is scaled to nothing and back.
pub async fn replicas_0(scene: Arc<Scene>) -> Result<()> {
    let (delivery, pid) = midway(scene, setup()).await?;
    delivery.kubectl(&["scale", "deployment/shop", "--replicas=0"]).await?;
    says(&delivery, "neither version has a ready pod").await?;
    let (_, before) = weights(&delivery).await?;
    delivery.kubectl(&["scale", "deployment/shop", "--replicas=4"]).await?;
    approve(&delivery).await?;
    let status = delivery.promoted(1).await?;
    ensure!(status.release.is_some_and(|r| r.passes.len() == 2), "not all passes are recorded");
    ensure!(weights(&delivery).await?.1 != before, "never written again");
    delivery.rests_on("v2").await?;
    ensure!(delivery.controller_lives()? == pid, "the controller has restarted");
    delivery.audit()?;
    Ok(())
}

/// The metrics source is deleted and made anew.
pub async fn source_missing(scene: Arc<Scene>) -> Result<()> {
    let (delivery, pid) = midway(scene, setup()).await?;
    let api = delivery.scene.api(SUREFOOT, "MetricsSource").await?;
    api.delete("default", &DeleteParams::default()).await?;
    says(&delivery, "MetricsSource \"default\" doesn't exist: create it").await?;
    source_heals(&delivery, pid).await
}

/// The metrics source names a place where nobody listens, and then the right one.
pub async fn source_wrong(scene: Arc<Scene>) -> Result<()> {
    let (delivery, pid) = midway(scene, setup()).await?;
    source(&delivery, "http://127.0.0.1:1").await?;
    let dark = |s: &RolloutStatus| s.waiting_on.iter().any(|w| w.kind == WaitingKind::Metrics);
    delivery.until("the metrics to be missed", dark).await?;
    source_heals(&delivery, pid).await
}

/// Where the metrics are from now on.
pub(super) async fn source(delivery: &Delivery, url: &str) -> Result<()> {
    let source = json!({
        "apiVersion": SUREFOOT, "kind": "MetricsSource", "metadata": {"name": "default"},
        "spec": {"prometheus": {"url": url}},
    });
    delivery.scene.apply(&source.to_string()).await?;
    Ok(())
}

async fn source_heals(delivery: &Delivery, pid: i32) -> Result<()> {
    let (weight, _) = weights(delivery).await?;
    ensure!(weight == 20, "the weight is {weight}");
    source(delivery, &delivery.prometheus.url()).await?;
    let dark = |s: &RolloutStatus| s.waiting_on.iter().any(|w| w.kind == WaitingKind::Metrics);
    delivery.until("the metrics to be back", |s| !dark(s)).await?;
    approve(delivery).await?;
    ends_well(delivery, pid).await?;
    delivery.nothing_lost(&[])?;
    Ok(())
}

/// The Rollout is edited in the middle: the release ends by the plan that it began with.
pub async fn spec_edited(scene: Arc<Scene>) -> Result<()> {
    let (delivery, pid) = midway(scene, setup()).await?;
    let pending = |wanted: ConditionStatus| {
        move |s: &RolloutStatus| {
            let of = |kind: &str| s.conditions.iter().find(|c| c.kind == kind).map(|c| c.status);
            of("SpecChangePending") == Some(wanted)
        }
    };
    let edit = json!({"spec": {"steps": [{"weight": 30}, {"weight": 60}, {"weight": 100}]}});
    delivery.scene.merge(SUREFOOT, "Rollout", APP, edit).await?;
    delivery.until("the edit to be pending", pending(ConditionStatus::True)).await?;
    ensure!(weights(&delivery).await?.0 == 20, "the edit counts already");
    delivery.command("promote").await?;
    ends_well(&delivery, pid).await?;
    delivery.until("the edit to count", pending(ConditionStatus::False)).await?;
    delivery.nothing_lost(&[])?;
    Ok(())
}
