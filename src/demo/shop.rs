//! The shop of the demo: three services, how each is routed and released, and how their versions behave.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use kube_sandbox::Settings as Kubelet;
use mesh_sandbox::{Behaviour, Load, Settings};
use serde_json::{Value, json};
use surefoot_core::api::Rollout;
use surefoot_core::api::rollout::RouteKind;
use surefoot_core::api::status::PastRelease;
use surefoot_sim::traffic::Latency;

use crate::sandbox::{App, Cluster, Conditions, Delivery, ended};

/// Where the shop is.
pub const NAMESPACE: &str = "shop";
/// Its services.
pub const SERVICES: [&str; 3] = ["web", "cart", "checkout"];
/// The version that runs at the beginning.
pub const FIRST: &str = "v1";

/// For how long it has been running: as long as a past is looked at before a release.
const PAST: Duration = Duration::from_secs(2 * 3600 + 600);
/// A shop that isn't ready by then never will be.
const READY: Duration = Duration::from_secs(300);
/// As many writes are remembered.
const HISTORY: usize = 20_000;

/// The shop.
pub struct Shop {
    /// Its cluster.
    pub cluster: Cluster,
}

/// As what a version behaves: its tag tells.
fn character(tag: &str) -> String {
    let known = ["bad", "slow"].into_iter().find(|word| tag.contains(word));
    known.unwrap_or("good").to_owned()
}

/// A Rollout for somebody who watches: short waits, and much traffic to judge by. `cart` goes by a
/// VirtualService; `checkout` by an HTTPRoute within the mesh and a VirtualService of the gateway, moved as
/// one; `web` is previewed, and then gets all traffic at once.
fn spec(name: &str) -> Value {
    let route = |(kind, name): &(RouteKind, String)| json!({"kind": kind, "name": name});
    let routes: Vec<Value> = routes(name).iter().map(route).collect();
    let mut spec = json!({
        "targetRef": {"kind": "Deployment", "name": name},
        "traffic": {"mesh": "istio", "service": name, "propagationDelay": "3s", "routes": routes},
        "steps": [{"weight": 10}, {"weight": 50}, {"weight": 100}],
        "gate": {"minDuration": "10s", "settle": "2s", "warmUp": "2s"},
        "scaleDownDelay": "5s",
    });
    if name == "web" {
        let objective = json!({"name": "success-rate", "successRate": {"min": "99%"}});
        spec["traffic"]["apex"] = json!("stableOnly");
        spec["steps"] = json!([{"weight": 0, "preview": true}, {"weight": 100}]);
        spec["analysis"] = json!({"metrics": [objective]});
    }
    spec
}

fn routes(name: &str) -> Vec<(RouteKind, String)> {
    match name {
        "checkout" => vec![
            (RouteKind::HTTPRoute, name.to_owned()),
            (RouteKind::VirtualService, format!("{name}-public")),
        ],
        _ => vec![(RouteKind::VirtualService, name.to_owned())],
    }
}

impl Shop {
    /// Open it, with some hours of traffic behind it. `now` is what time it is then.
    ///
    /// # Errors
    /// When an object is refused.
    pub async fn open(seed: u64, now: Timestamp) -> Result<Self> {
        let good = Behaviour { failing: 0.001, ..Behaviour::default() };
        let slow = Latency { median: 60.0, p99: 600.0 };
        let versions = [
            ("bad".to_owned(), Behaviour { failing: 0.05, ..good.clone() }),
            ("slow".to_owned(), Behaviour { latency: slow, ..good.clone() }),
        ];
        let cluster = Cluster::start(Conditions {
            seed,
            start: now.checked_sub(PAST).context("it is too early")?,
            history: HISTORY,
            kubelet: Kubelet { ready_after: Duration::from_secs(2), ends_after: Duration::ZERO },
            mesh: Settings {
                scrape_interval: Duration::from_secs(5),
                load: Load { rps: 1000.0, ..Load::default() },
                behaviour: good,
                versions: versions.into(),
                ..Settings::default()
            },
            character,
        })?;
        for name in SERVICES {
            cluster.furnish(&App {
                namespace: NAMESPACE.to_owned(),
                name: name.to_owned(),
                spec: spec(name),
                replicas: 4,
                version: FIRST.to_owned(),
            })?;
        }
        tokio::time::sleep(PAST).await;
        Ok(Self { cluster })
    }

    /// Wait until the controller has looked at everything.
    ///
    /// # Errors
    /// When it doesn't come to rest.
    pub async fn ready(&self) -> Result<()> {
        let all = |cluster: &Cluster| SERVICES.iter().all(|name| of(name).is_ready(cluster));
        ensure!(self.cluster.until(READY, all).await, "the Rollouts don't get ready");
        Ok(())
    }

    /// Wait for the end of the release after this one.
    ///
    /// # Errors
    /// When it doesn't end in time.
    pub async fn ended(&self, name: &str, before: i64, limit: Duration) -> Result<PastRelease> {
        let past = |cluster: &Cluster| {
            let status = of(name).rollout(cluster).ok()?.status?;
            ended(&status, before).cloned()
        };
        self.cluster.until(limit, |cluster| past(cluster).is_some()).await;
        past(&self.cluster)
            .with_context(|| format!("the release of {name} hasn't ended within {limit:?}"))
    }
}

/// The delivery of a service.
#[must_use]
pub fn of(name: &str) -> Delivery {
    let mut more = routes(name);
    let (kind, route) = more.remove(0);
    Delivery {
        namespace: NAMESPACE.to_owned(),
        rollout: name.to_owned(),
        target: name.to_owned(),
        kind,
        route,
        more,
    }
}

/// The number of its latest release.
#[must_use]
pub fn number(rollout: &Rollout) -> i64 {
    let release = rollout.status.as_ref().and_then(|status| status.release.as_ref());
    release.map_or(0, |release| release.number)
}
