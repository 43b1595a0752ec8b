//! What people say with the plugin itself: pause, retry, undo, promote as a whole, change images,
//! and abort with no controller there.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use surefoot_core::api::status::{Outcome, Phase, ReleaseKind, RolloutStatus, WaitingKind};

use crate::app;
use crate::delivery::{APP, Delivery, LIMIT, SUREFOOT, Setup, canary_weight};
use crate::record::{Change, Entry};
use crate::scenarios::rolled_back::stays_on_v1;
use crate::wait::wait_until;
use crate::world::Scene;

/// The mark of a break-glass abort.
const MARK: &str = "surefoot.dev/break-glass";

/// What the plugin said, and whether it was content.
struct Said {
    well: bool,
    text: String,
    error: String,
}

/// The real plugin, as whom the kubeconfig names.
async fn plugin_as(delivery: &Delivery, kubeconfig: PathBuf, arguments: &[&str]) -> Result<Said> {
    let own = std::env::current_exe().context("where this program is")?;
    let kubeconfig = delivery.scene.world.way("plugin", kubeconfig).await?;
    let output = tokio::process::Command::new(own.with_file_name("kubectl-surefoot"))
        .arg(format!("--kubeconfig={}", kubeconfig.display()))
        .arg(format!("--namespace={}", delivery.scene.namespace))
        .args(arguments)
        .output()
        .await
        .context("running kubectl-surefoot")?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (well, error) = (output.status.success(), text(&output.stderr));
    Ok(Said { well, text: text(&output.stdout), error })
}

/// The plugin as an administrator; what it prints.
pub(super) async fn plugin(delivery: &Delivery, arguments: &[&str]) -> Result<String> {
    let kubeconfig = delivery.scene.world.control_plane.kubeconfig();
    let said = plugin_as(delivery, kubeconfig, arguments).await?;
    ensure!(said.well, "{}: {}{}", arguments.join(" "), said.text, said.error);
    Ok(said.text)
}

/// What `doctor` finds of the Rollout: whether it is ready, and all that it says.
pub(super) async fn doctor(delivery: &Delivery) -> Result<(bool, Vec<String>)> {
    let kubeconfig = delivery.scene.world.control_plane.kubeconfig();
    let said = plugin_as(delivery, kubeconfig, &["doctor", APP, "--output=json"]).await?;
    let all: Value = serde_json::from_str(&said.text).context(said.error)?;
    let findings = all[0]["findings"].as_array().context("findings")?;
    let messages = findings.iter().filter_map(|f| f["message"].as_str().map(str::to_owned));
    ensure!(all[0]["ready"] == said.well, "ready {} and exit code {}", all[0]["ready"], said.well);
    Ok((said.well, messages.collect()))
}

/// The plugin as an administrator, who is refused; why.
async fn refused(delivery: &Delivery, arguments: &[&str]) -> Result<String> {
    let kubeconfig = delivery.scene.world.control_plane.kubeconfig();
    let said = plugin_as(delivery, kubeconfig, arguments).await?;
    ensure!(!said.well, "{} was not refused: {}", arguments.join(" "), said.text);
    Ok(said.error)
}

fn waits_for(status: &RolloutStatus, kind: WaitingKind) -> bool {
    status.waiting_on.iter().any(|w| w.kind == kind)
}

/// Paused at 10% until its gate is met and beyond, then resumed and promoted.
pub async fn pause_resume(scene: Arc<Scene>) -> Result<()> {
    let delivery = Delivery::start(scene, Setup::default()).await?;
    delivery.set_version("v2").await?;
    delivery.in_step(0).await?;
    plugin(&delivery, &["pause", APP, "--reason=looking at the dashboards"]).await?;
    let status = delivery
        .until("the release to be held by the pause alone", |s| {
            s.phase == Phase::Paused && s.waiting_on.len() == 1 && waits_for(s, WaitingKind::Resume)
        })
        .await?;
    let message = &status.message;
    ensure!(message.contains("paused by admin: looking at the dashboards"), "{message}");
    let passes = status.release.context("no release")?.passes;
    ensure!(passes.is_empty() && status.decision.is_some_and(|d| d.weight == 10), "{passes:?}");
    plugin(&delivery, &["resume", APP]).await?;
    delivery.promoted(1).await?;
    let why = refused(&delivery, &["resume", APP]).await?;
    ensure!(why.contains("nothing to resume"), "{why}");
    done(&delivery, "v2").await
}

/// A release that was aborted is tried again, followed until it is promoted.
pub async fn retry(scene: Arc<Scene>) -> Result<()> {
    let delivery = Delivery::start(scene, Setup::default()).await?;
    delivery.set_version("v2").await?;
    delivery.in_step(0).await?;
    plugin(&delivery, &["abort", APP, "--reason=wrong day"]).await?;
    delivery.rolled_back(1).await?;
    let told = plugin(&delivery, &["retry", APP, "--watch", "--timeout=2m"]).await?;
    ensure!(told.contains("is tried again"), "{told}");
    let status = delivery.promoted(2).await?;
    ensure!(status.history[0].kind == ReleaseKind::Retry, "{:?}", status.history[0]);
    done(&delivery, "v2").await
}

/// After a rollback stable's template comes back and nothing restarts.
pub async fn undo_degraded(scene: Arc<Scene>) -> Result<()> {
    undone(scene, Setup::default()).await
}

/// The same, held by staying paused at rest.
pub async fn undo_degraded_paused_at_rest(scene: Arc<Scene>) -> Result<()> {
    undone(scene, Setup { paused_at_rest: true, ..Setup::default() }).await
}

async fn undone(scene: Arc<Scene>, setup: Setup) -> Result<()> {
    let delivery = Delivery::start(scene, setup).await?;
    let stable = delivery.pods("v1").await?;
    delivery.set_version("v2").await?;
    delivery.in_step(0).await?;
    plugin(&delivery, &["abort", APP]).await?;
    let status = delivery.rolled_back(1).await?;
    ensure!(status.phase == Phase::Degraded, "{:?}", status.phase);
    plugin(&delivery, &["undo", APP, "--watch", "--timeout=1m"]).await?;
    ensure!(delivery.pods("v1").await? == stable, "stable's pods changed");
    done(&delivery, "v1").await
}

/// At rest the version before comes back, at once.
pub async fn undo_healthy(scene: Arc<Scene>) -> Result<()> {
    back(scene, Setup::default()).await
}

/// The same, held by staying paused at rest.
pub async fn undo_healthy_paused_at_rest(scene: Arc<Scene>) -> Result<()> {
    back(scene, Setup { paused_at_rest: true, ..Setup::default() }).await
}

async fn back(scene: Arc<Scene>, setup: Setup) -> Result<()> {
    let delivery = Delivery::start(scene, setup).await?;
    let why = refused(&delivery, &["undo", APP]).await?;
    ensure!(why.contains("no version before"), "{why}");
    delivery.set_version("v2").await?;
    delivery.promoted(1).await?;
    delivery.rests_on("v2").await?;
    plugin(&delivery, &["undo", APP, "--watch", "--timeout=2m"]).await?;
    let status = delivery.promoted(2).await?;
    ensure!(status.history[0].kind == ReleaseKind::Undo, "{:?}", status.history[0]);
    done(&delivery, "v1").await
}

/// All steps by a person's word, one with an approval among them; they may do that and no more.
pub async fn promote_full(scene: Arc<Scene>) -> Result<()> {
    let spec = json!({
        "steps": [{"weight": 10}, {"weight": 50, "approval": {}}, {"weight": 100}],
        // Left alone it would take longer than this scenario has.
        "gate": {"minDuration": "10m", "maxDuration": "20m"},
    });
    let delivery = Delivery::start(scene, Setup { spec, ..Setup::default() }).await?;
    delivery.set_version("v2").await?;
    delivery.in_step(0).await?;
    let rules = [
        rule("surefoot.dev", &["rollouts"], &["get", "list", "watch"]),
        rule("surefoot.dev", &["rolloutactions", "rollouts/promoteFull"], &["create"]),
    ];
    let releaser = user(&delivery, "releaser", &rules).await?;
    let said = plugin_as(&delivery, releaser.clone(), &["promote", APP]).await?;
    ensure!(!said.well && said.error.contains("releaser may not promote"), "{}", said.error);
    let arguments = ["promote", APP, "--full", "--watch", "--timeout=2m"];
    let said = plugin_as(&delivery, releaser, &arguments).await?;
    ensure!(said.well, "{}{}", said.text, said.error);
    let status = delivery.promoted(1).await?;
    let passes = status.release.context("no release")?.passes;
    ensure!(passes.len() == 3 && passes.iter().all(|p| p.actor == "releaser"), "{passes:?}");
    done(&delivery, "v2").await
}

/// New images and a restart where kubectl refuses: the Deployment is paused at rest.
pub async fn set_image_restart(scene: Arc<Scene>) -> Result<()> {
    let setup = Setup { paused_at_rest: true, ..Setup::default() };
    let delivery = Delivery::start(scene, setup).await?;
    let image = |version| format!("{APP}={}", app::image(APP, version));
    let wrong = refused(&delivery, &["set-image", APP, "application=x"]).await?;
    ensure!(wrong.contains("it has shop"), "{wrong}");
    let told = plugin(&delivery, &["set-image", APP, &image("v1")]).await?;
    ensure!(told.contains("nothing comes of it"), "{told}");
    plugin(&delivery, &["set-image", APP, &image("v2"), "--watch", "--timeout=2m"]).await?;
    delivery.promoted(1).await?;
    answers_from(&delivery, "v2").await?;
    let native = delivery.kubectl(&["rollout", "restart", "deployment/shop"]).await;
    ensure!(native.is_err(), "kubectl restarts a paused Deployment: the plugin need not");
    let told = plugin(&delivery, &["restart", APP, "--watch", "--timeout=2m"]).await?;
    ensure!(told.contains("release 2 begins"), "{told}");
    delivery.promoted(2).await?;
    answers_from(&delivery, "v2").await?;
    delivery.nothing_lost(&[])?;
    delivery.audit()?;
    Ok(())
}

async fn answers_from(delivery: &Delivery, version: &str) -> Result<()> {
    let start = delivery.load.elapsed();
    wait_until(&format!("50 answers from {version}"), LIMIT, || async {
        let report = delivery.load.report().since(start);
        Ok(report.version(version).requests >= 50)
    })
    .await
}

/// An abort with the controller killed, by somebody whose commands the policy refuses. It comes back
/// in the middle of a step, and takes the mark for what it is.
pub async fn break_glass(scene: Arc<Scene>) -> Result<()> {
    let delivery = Delivery::start(scene, Setup::default()).await?;
    let stable = delivery.pods("v1").await?;
    let oncall = oncall(&delivery).await?;
    delivery.set_version("v2").await?;
    delivery.in_step(1).await?;
    delivery.kill_controller();
    let arguments = ["abort", APP, "--break-glass", "--reason=it burns"];
    let said = plugin_as(&delivery, oncall, &arguments).await?;
    ensure!(said.well, "{}", said.error);
    ensure!(said.text.contains("may not abort"), "the policy did not refuse: {}", said.text);
    let route = delivery.route().await?;
    ensure!(canary_weight(&route) == 0, "{route}");
    ensure!(route["metadata"]["annotations"][MARK].as_str().is_some(), "no mark: {route}");
    let status = delivery.status().await?;
    ensure!(status.decision.is_some_and(|d| d.weight == 50), "who decided without a controller?");
    delivery.start_controller()?;
    let status = delivery.rolled_back(1).await?;
    let last = &status.history[0];
    ensure!(last.by == "oncall" && last.why.contains("(break-glass): it burns"), "{last:?}");
    stays_on_v1(&delivery, &stable).await?;
    let entries = delivery.scene.record.entries()?;
    let is_route = |e: &&Entry| ["virtualservices", "httproutes"].contains(&e.resource);
    let routes: Vec<&Value> = entries.iter().filter(is_route).map(|e| &*e.object).collect();
    let marked = |r: &&Value| !r["metadata"]["annotations"][MARK].is_null();
    let first = routes.iter().position(marked).context("the mark isn't on record")?;
    ensure!(routes[first..].iter().all(|r| canary_weight(r) == 0), "the weight rose again");
    ensure!(routes.last().is_some_and(|r| !marked(r)), "the mark is still there");
    Ok(())
}

/// Somebody who may write routes and make RolloutActions, but abort none.
async fn oncall(delivery: &Delivery) -> Result<PathBuf> {
    let rules = [
        rule("surefoot.dev", &["rollouts"], &["get"]),
        rule("surefoot.dev", &["rolloutactions"], &["create"]),
        rule("networking.istio.io", &["virtualservices"], &["get", "patch"]),
        rule("gateway.networking.k8s.io", &["httproutes"], &["get", "patch"]),
        rule("discovery.k8s.io", &["endpointslices"], &["list"]),
    ];
    user(delivery, "oncall", &rules).await
}

fn rule(group: &str, resources: &[&str], verbs: &[&str]) -> Value {
    json!({"apiGroups": [group], "resources": resources, "verbs": verbs})
}

/// Somebody who may do this and nothing else, by their kubeconfig.
async fn user(delivery: &Delivery, name: &str, rules: &[Value]) -> Result<PathBuf> {
    let rbac = "rbac.authorization.k8s.io";
    let role = json!({
        "apiVersion": format!("{rbac}/v1"), "kind": "Role", "metadata": {"name": name},
        "rules": rules,
    });
    let binding = json!({
        "apiVersion": format!("{rbac}/v1"), "kind": "RoleBinding", "metadata": {"name": name},
        "roleRef": {"apiGroup": rbac, "kind": "Role", "name": name},
        "subjects": [{"apiGroup": rbac, "kind": "User", "name": name}],
    });
    delivery.scene.apply(&format!("{role}\n---\n{binding}")).await?;
    let world = &delivery.scene.world;
    let path = world.folders.data.join(format!("{}-{name}.kubeconfig", delivery.scene.namespace));
    world.control_plane.kubeconfig_for(name, &path)?;
    Ok(path)
}

/// The trail of releases and commands: all are told, the last twenty commands are kept.
pub async fn history_list(scene: Arc<Scene>) -> Result<()> {
    let spec = json!({"steps": [{"weight": 10, "approval": {}}, {"weight": 100}]});
    let delivery = Delivery::start(scene, Setup { spec, ..Setup::default() }).await?;
    delivery.set_version("v2").await?;
    delivery.in_step(0).await?;
    for _ in 0..11 {
        plugin(&delivery, &["pause", APP]).await?;
        delivery.until("the pause", |s| s.pause.is_some()).await?;
        plugin(&delivery, &["resume", APP]).await?;
        delivery.until("the resume", |s| s.pause.is_none()).await?;
    }
    plugin(&delivery, &["promote", APP, "--reason=it is fine", "--watch", "--timeout=2m"]).await?;
    delivery.promoted(1).await?;
    let actions = delivery.scene.api(SUREFOOT, "RolloutAction").await?;
    let made = delivery.scene.record.entries()?;
    let made = made.iter().filter(|e| e.resource == "rolloutactions" && e.change == Change::Added);
    ensure!(made.count() == 23, "a command is missing from the record");
    wait_until("twenty commands to be kept", LIMIT, || async {
        Ok(actions.list(&Default::default()).await?.items.len() == 20)
    })
    .await?;
    let told = plugin(&delivery, &["history", APP, "--output=wide"]).await?;
    let releases = told.lines().find(|l| l.starts_with("1 ")).context("no release is told")?;
    ensure!(releases.contains("promoted") && told.contains("it is fine"), "{told}");
    let json: Value = serde_json::from_str(&plugin(&delivery, &["history", APP, "-ojson"]).await?)?;
    ensure!(json["releases"][0]["outcome"] == json!(Outcome::Promoted), "{json}");
    ensure!(json["commands"].as_array().is_some_and(|c| c.len() == 20), "{json}");
    for arguments in [&["list"][..], &["ls", "--all-namespaces"]] {
        let told = plugin(&delivery, arguments).await?;
        ensure!(told.contains(APP) && told.contains("Healthy"), "{told}");
    }
    done(&delivery, "v2").await
}

async fn done(delivery: &Delivery, version: &str) -> Result<()> {
    delivery.rests_on(version).await?;
    delivery.nothing_lost(&[])?;
    delivery.audit()?;
    Ok(())
}
