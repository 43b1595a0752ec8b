//! What people are told, on a stand-in for Slack: the story in order, whatever breaks, and never a
//! word of the secret.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use surefoot_core::api::RolloutStatus;
use surefoot_core::api::status::ConditionStatus;

use crate::backend::Behaviour;
use crate::delivery::{APP, Delivery, LIMIT, SUREFOOT, Setup};
use crate::slack::{Mode, StandIn};
use crate::wait::{wait_for, wait_until};
use crate::world::Scene;

/// Part of the webhook's URL, and the token.
const SECRET: &str = "T0SECRET-never-to-be-seen";
/// What a promoted release of three steps has to tell.
const PROMOTED: [&str; 5] =
    ["release started", "step passed", "step passed", "step passed", "promoted"];
/// And one that comes back.
const ROLLED_BACK: [&str; 2] = ["rolling back", "rolled back"];

/// A good release and a bad one tell their story, in order and once.
pub async fn story(scene: Arc<Scene>) -> Result<()> {
    let slack = StandIn::start().await?;
    secret(&scene, &webhook_url(&slack)).await?;
    scene.apply(&webhook().to_string()).await?;
    let delivery = start(scene).await?;
    delivery.set_version("v2").await?;
    delivery.promoted(1).await?;
    told(&delivery, &slack, &PROMOTED).await?;
    let heard = slack.heard();
    let promoted = heard.last().context("nothing was told")?.text();
    for part in ["#2eb886", "registry.test/shop:v2", "success-rate", "grafana.test/?app=shop"] {
        ensure!(promoted.contains(part), "no {part} in {promoted}");
    }
    delivery.behave("v3", Behaviour::failing(0.3));
    delivery.set_version("v3").await?;
    delivery.rolled_back(2).await?;
    let all = [&PROMOTED[..], &["release started"], &ROLLED_BACK].concat();
    told(&delivery, &slack, &all).await?;
    let rolled_back = slack.heard().last().context("nothing was told")?.text();
    for part in ["#d00000", "fails", "shop:v3"] {
        ensure!(rolled_back.contains(part), "no {part} in {rolled_back}");
    }
    ensure!(failing(&delivery.status().await?).is_none(), "a condition without trouble");
    at_rest(&delivery).await?;
    nothing_leaked(&delivery).await?;
    delivery.audit()?;
    Ok(())
}

/// Slack hangs: an abort goes through at once all the same, and what happened is told in order as
/// soon as Slack answers.
pub async fn channel_hangs(scene: Arc<Scene>) -> Result<()> {
    let slack = StandIn::start().await?;
    slack.set(Mode::Hang);
    secret(&scene, &webhook_url(&slack)).await?;
    scene.apply(&webhook().to_string()).await?;
    let steps = json!([{"weight": 10, "approval": {}}, {"weight": 100}]);
    let delivery = start_with(scene, json!({"steps": steps})).await?;
    delivery.set_version("v2").await?;
    delivery.until("the hang to be noticed", |s| fails_for(s, "Unreachable")).await?;
    let asks = |s: &RolloutStatus| s.step.as_ref().is_some_and(|step| step.approval_asked);
    delivery.until("the step to wait for its approval", asks).await?;
    delivery.command("abort").await?;
    let weight = || async {
        let route = delivery.scene.get(crate::app::ISTIO, "VirtualService", APP).await?;
        Ok(route["spec"]["http"][0]["route"][1]["weight"] == 0)
    };
    wait_until("the weight to be 0 within a second", Duration::from_secs(1), weight).await?;
    delivery.rolled_back(1).await?;
    slack.set(Mode::Answer);
    delivered(&delivery).await?;
    let mut heard = slack.headlines();
    heard.dedup();
    let story = [&["release started", "approval needed"], &ROLLED_BACK[..]].concat();
    ensure!(heard == story, "not the story in order: {heard:?}");
    let aborted = slack.heard().last().context("nothing was told")?.text();
    ensure!(aborted.contains("By: admin"), "nobody is named: {aborted}");
    delivery.until("the condition to say that it is over", healed).await?;
    nothing_leaked(&delivery).await?;
    delivery.audit()?;
    Ok(())
}

/// The controller is killed (SIGKILL) again and again when Slack has a message and hasn't answered,
/// or has just done so: each message comes, and no more come twice than there were kills.
pub async fn killed(scene: Arc<Scene>) -> Result<()> {
    let slack = StandIn::start().await?;
    secret(&scene, &webhook_url(&slack)).await?;
    scene.apply(&webhook().to_string()).await?;
    let delivery = start(scene).await?;
    slack.set(Mode::Hang);
    delivery.set_version("v2").await?;
    let mut kills = 0;
    for mode in [Mode::Hang, Mode::Answer, Mode::Hang, Mode::Answer, Mode::Hang] {
        slack.set(mode);
        let known = slack.heard().len();
        wait_until("a message to come", LIMIT, || async { Ok(slack.heard().len() > known) })
            .await?;
        delivery.kill_controller();
        kills += 1;
        delivery.start_controller()?;
    }
    slack.set(Mode::Answer);
    delivery.promoted(1).await?;
    delivered(&delivery).await?;
    let heard = slack.heard();
    let mut once: Vec<&Value> = Vec::new();
    for message in &heard {
        if !once.contains(&&message.body) {
            once.push(&message.body);
        }
    }
    let repeated = heard.len() - once.len();
    ensure!(repeated <= kills, "{repeated} repeated with {kills} kills: {:?}", slack.headlines());
    ensure!(repeated > 0, "no kill hit a message on its way");
    let mut headlines = once.iter().map(|body| {
        let header = body["blocks"][0]["text"]["text"].as_str().unwrap_or_default();
        header.rsplit(": ").next().unwrap_or_default()
    });
    ensure!(headlines.clone().eq(PROMOTED), "{:?}", headlines.by_ref().collect::<Vec<_>>());
    nothing_leaked(&delivery).await?;
    delivery.audit()?;
    Ok(())
}

/// First there is no channel, then a Secret that isn't ours to read, then no Secret, then the wrong key, and at last all is well: each is
/// said, nothing waits for it, and each heals by itself. By an app's token this time.
pub async fn secret_missing(scene: Arc<Scene>) -> Result<()> {
    let slack = StandIn::start().await?;
    let delivery = start(scene).await?;
    let scene = &delivery.scene;
    delivery.until("the missing channel", |s| fails_for(s, "ChannelMissing")).await?;
    refused(scene).await?;
    scene.apply(&token("not-listed", &slack).to_string()).await?;
    delivery.until("the channel to be found", healed).await?;
    delivery.set_version("v2").await?;
    delivery.until("the forbidden Secret", |s| fails_for(s, "SecretForbidden")).await?;
    scene.apply(&token("surefoot-slack", &slack).to_string()).await?;
    delivery.until("the missing Secret", |s| fails_for(s, "SecretMissing")).await?;
    delivery.in_step(0).await?;
    let wrong = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "surefoot-slack"},
        "stringData": {"other": SECRET},
    });
    scene.apply(&wrong.to_string()).await?;
    delivery.until("the missing key", |s| fails_for(s, "KeyMissing")).await?;
    secret(scene, SECRET).await?;
    delivery.until("the condition to say that it is over", healed).await?;
    delivery.promoted(1).await?;
    told(&delivery, &slack, &PROMOTED).await?;
    let first = slack.heard().first().context("nothing was told")?.clone();
    ensure!(first.authorization.as_deref() == Some(&*format!("Bearer {SECRET}")), "no token");
    ensure!(first.path == "/chat.postMessage" && first.body["channel"] == "#releases", "{first:?}");
    nothing_leaked(&delivery).await?;
    delivery.audit()?;
    Ok(())
}

async fn start(scene: Arc<Scene>) -> Result<Delivery> {
    start_with(scene, json!({})).await
}

async fn start_with(scene: Arc<Scene>, mut spec: Value) -> Result<Delivery> {
    spec["notifications"] = json!([{"channel": "releases"}]);
    // What the libraries below us say is looked through as well.
    let environment = vec![("RUST_LOG", "debug")];
    Delivery::start(scene, Setup { spec, environment, ..Setup::default() }).await
}

fn webhook_url(slack: &StandIn) -> String {
    format!("{}/services/{SECRET}", slack.url())
}

fn webhook() -> Value {
    json!({
        "apiVersion": SUREFOOT, "kind": "NotificationChannel", "metadata": {"name": "releases"},
        "spec": {
            "slack": {"webhook": {"secretRef": {"name": "surefoot-slack", "key": "value"}}},
            "dashboardUrl": "http://grafana.test/?app={{name}}",
        },
    })
}

fn token(secret: &str, slack: &StandIn) -> Value {
    json!({
        "apiVersion": SUREFOOT, "kind": "NotificationChannel", "metadata": {"name": "releases"},
        "spec": {"slack": {
            "token": {"secretRef": {"name": secret, "key": "value"}},
            "channel": "#releases", "apiUrl": slack.url(),
        }},
    })
}

async fn secret(scene: &Scene, value: &str) -> Result<()> {
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "surefoot-slack"},
        "stringData": {"value": value},
    });
    scene.apply(&secret.to_string()).await?;
    Ok(())
}

/// Wait until nothing is left to be delivered.
async fn delivered(delivery: &Delivery) -> Result<RolloutStatus> {
    delivery.until("the outbox to be empty", |s| s.outbox.is_empty()).await
}

/// Exactly these were told, in this order.
async fn told(delivery: &Delivery, slack: &StandIn, story: &[&str]) -> Result<()> {
    delivered(delivery).await?;
    let heard = slack.headlines();
    ensure!(heard == story, "told {heard:?} instead of {story:?}");
    Ok(())
}

/// The condition that tells of channels out of reach, while it is true.
fn failing(status: &RolloutStatus) -> Option<&str> {
    let found = status.conditions.iter().find(|c| c.kind == "NotificationsFailing");
    found.filter(|c| c.status == ConditionStatus::True).map(|c| c.reason.as_str())
}

fn fails_for(status: &RolloutStatus, reason: &str) -> bool {
    failing(status) == Some(reason)
}

fn healed(status: &RolloutStatus) -> bool {
    let found = status.conditions.iter().find(|c| c.kind == "NotificationsFailing");
    found.is_some_and(|c| c.status == ConditionStatus::False)
}

/// Channels that say too much, too little or the wrong thing are refused with a remedy.
async fn refused(scene: &Scene) -> Result<()> {
    let reference = json!({"secretRef": {"name": "surefoot-slack", "key": "value"}});
    for (spec, remedy) in [
        (json!({"slack": {}}), "give exactly one of webhook"),
        (
            json!({"slack": {"webhook": reference, "token": reference, "channel": "x"}}),
            "exactly one",
        ),
        (json!({"slack": {"token": reference}}), "a token needs channel"),
        (json!({"slack": {"webhook": reference, "channel": "x"}}), "leave them out"),
        (
            json!({"slack": {"token": reference, "channel": "x", "apiUrl": "http://u:p@x.test"}}),
            "without user, password",
        ),
        (
            json!({"slack": {"webhook": reference}, "dashboardUrl": "javascript:alert(1)"}),
            "http or https URL",
        ),
        (
            json!({"slack": {"webhook": reference}, "dashboardUrl": "https://x.test/|<!channel>"}),
            "http or https URL",
        ),
    ] {
        let channel = json!({
            "apiVersion": SUREFOOT, "kind": "NotificationChannel", "metadata": {"name": "bad"},
            "spec": spec,
        });
        match scene.apply(&channel.to_string()).await {
            Ok(_) => bail!("accepted: {spec}"),
            Err(error) => {
                let said = format!("{error:#}");
                ensure!(said.contains(remedy), "no {remedy:?} for {spec}: {said}");
            }
        }
    }
    Ok(())
}

/// With nothing to tell, nobody is asked anything, the API server neither.
async fn at_rest(delivery: &Delivery) -> Result<()> {
    let calls = || async {
        let metrics = delivery.metrics().await?;
        let wanted = |name: &str| {
            name.starts_with("surefoot_api_calls") || name.starts_with("surefoot_deliveries")
        };
        Ok::<_, anyhow::Error>(metrics.into_iter().filter(|(n, _)| wanted(n)).collect::<Vec<_>>())
    };
    let quiet = Duration::from_secs(10);
    // The last write of the release is under way when its outbox is seen empty.
    wait_for("ten seconds without a call", LIMIT, || async {
        let (before, start) = (calls().await?, delivery.load.elapsed());
        wait_until("ten seconds", LIMIT, || async { Ok(delivery.load.elapsed() - start >= quiet) })
            .await?;
        Ok((calls().await? == before).then_some(()))
    })
    .await
}

/// The secret is in no log of the controller, no object but the Secret, no Event and no metric.
async fn nothing_leaked(delivery: &Delivery) -> Result<()> {
    let run = &delivery.scene.world.folders.run;
    let mut read = 0;
    for file in std::fs::read_dir(run)? {
        let path = file?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with(&format!("surefoot-{}-", delivery.scene.namespace)) {
            let log = String::from_utf8_lossy(&std::fs::read(&path)?).into_owned();
            ensure!(log.contains("\"level\":\"DEBUG\""), "{name} holds no details to look through");
            ensure!(!log.contains(SECRET), "the secret is in {name}");
            read += 1;
        }
    }
    ensure!(read > 0, "no log of the controller in {}", run.display());
    ensure!(!delivery.scene.record.dump().contains(SECRET), "the secret is in an object");
    let metrics = format!("{:?}", delivery.metrics().await?);
    ensure!(!metrics.contains(SECRET), "the secret is in a metric");
    Ok(())
}
