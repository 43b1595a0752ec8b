//! What the judges of other tools make of the same traffic.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use surefoot_core::api::status::{MetricStatus, Phase, RolloutStatus};

use super::commands::plugin;
use crate::backend::Behaviour;
use crate::delivery::{APP, Delivery, Setup};
use crate::world::Scene;

/// Both versions fail 0.5% of their requests. Flagger's defaults (success rate 99%, at the fifth
/// miss) would roll back the canary for what stable does as well; Surefoot doesn't.
///
/// Flagger looks once a minute. Here a look takes 5 s and sees as many requests of the canary, 90, as
/// a minute at 5 requests a second and 30% has: the same in a twelfth of the time.
pub async fn as_bad_as_before(scene: Arc<Scene>) -> Result<()> {
    let spec = json!({
        "steps": [{"weight": 30, "approval": {}}, {"weight": 100}],
        "gate": {"minDuration": "5s", "maxDuration": "15m"},
        "analysis": {"metrics": [
            {"name": "surefoot", "successRate": {"maxDrop": "0.5pp"}},
            {
                "name": "flagger", "role": "observe", "judge": "threshold",
                "successRate": {"min": "99%"}, "checks": {"interval": "5s", "failureLimit": 4},
            },
        ]},
    });
    scene.behave(&crate::app::image("shop", "v1"), Behaviour::failing(0.005));
    scene.behave(&crate::app::image("shop", "v2"), Behaviour::failing(0.005));
    let delivery = Delivery::start(scene, Setup { spec, rate: 60, ..Setup::default() }).await?;
    delivery.set_version("v2").await?;
    let condemned = |s: &RolloutStatus| verdict(s, "flagger").is_some_and(|v| v == "Harm");
    let status = delivery
        .within(Duration::from_secs(420), "the threshold to condemn the canary", condemned)
        .await?;
    let ours = metric(&status, "surefoot").context("surefoot's own verdict is missing")?;
    let harm = ours.harm.as_ref().context("no evidence of harm is told")?;
    ensure!(
        status.history.is_empty() && matches!(status.phase, Phase::Stepping | Phase::Paused),
        "the release didn't go on: {:?} {:?}",
        status.phase,
        status.history
    );
    ensure!(ours.verdict != "Harm", "surefoot too calls it harm: {ours:?}");
    let flagger = metric(&status, "flagger").and_then(|m| m.note.as_deref()).unwrap_or_default();
    print!(
        "figures: both versions fail 0.5%: threshold: {flagger}\n\
         figures:   surefoot goes on: {}, ln E of harm {} of {}\n",
        ours.verdict, harm.log_e, harm.needed
    );
    forecast(&delivery).await?;
    delivery.nothing_lost(&["v1", "v2"])?;
    delivery.audit()?;
    Ok(())
}

/// A number of the user's own, here the mean latency by the pods' own proxies, is held against
/// stable's at the same instants.
pub async fn by_pairs(scene: Arc<Scene>) -> Result<()> {
    let mean = |pods: &str| {
        let of = |what: &str| {
            format!(
                "sum(rate(istio_request_duration_milliseconds_{what}{{reporter=\"destination\", \
                 pod=~\"{pods}\"}}[10s]))"
            )
        };
        format!("{} / {}", of("sum"), of("count"))
    };
    let spec = json!({
        "steps": [{"weight": 50}, {"weight": 100}],
        "gate": {"maxDuration": "5m"},
        // A query is asked every 15 s: so that few answers are enough.
        "analysis": {"falseRollback": "50%", "metrics": [{
            "name": "mean-latency", "importance": 100, "calibration": {"dispersion": "1"},
            "prometheus": {
                "query": mean("{{canaryPods}}"), "stable": mean("{{stablePods}}"), "maxRatio": "1.5",
            },
        }]},
    });
    let delivery = Delivery::start(scene, Setup { spec, ..Setup::default() }).await?;
    delivery.behave("v1", Behaviour::slow(Duration::from_millis(20)));
    delivery.pods_scraped().await?;
    delivery.behave("v2", Behaviour::slow(Duration::from_millis(60)));
    delivery.set_version("v2").await?;
    let status = delivery.rolled_back(1).await?;
    let why = &status.history[0].why;
    let told = "mean-latency: the canary's number was above 1.5 times stable's in ";
    ensure!(why.starts_with(told), "the reason isn't the pairs: {why}");
    delivery.nothing_lost(&[])?;
    delivery.audit()?;
    Ok(())
}

/// `kubectl surefoot plan` asks the same Prometheus what there is now, and plans with stable's part.
async fn forecast(delivery: &Delivery) -> Result<()> {
    let url = delivery.prometheus.url();
    let options = ["plan", APP, "--prometheus", &url, "--runs=8", "--output=json"];
    let told: Value = serde_json::from_str(&plugin(delivery, &options).await?)?;
    let (rps, phi) = (told["rps"].as_f64(), told["dispersions"][0]["phi"].as_f64());
    ensure!(rps.is_some_and(|rps| (30.0..60.0).contains(&rps)), "stable gets 42 a second: {told}");
    ensure!(phi.is_some_and(|phi| phi >= 1.0), "no dispersion: {told}");
    ensure!(told["steps"].as_array().is_some_and(|steps| steps.len() == 2), "{told}");
    let nobody = plugin(delivery, &["plan", APP, "--prometheus=http://127.0.0.1:9"]).await;
    let said = nobody.err().map(|e| format!("{e:#}")).unwrap_or_default();
    ensure!(said.contains("give --prometheus"), "nobody is there: {said:?}");
    Ok(())
}

fn metric<'a>(status: &'a RolloutStatus, name: &str) -> Option<&'a MetricStatus> {
    status.analysis.iter().find(|metric| metric.name == name)
}

fn verdict<'a>(status: &'a RolloutStatus, name: &str) -> Option<&'a str> {
    metric(status, name).map(|metric| metric.verdict.as_str())
}
