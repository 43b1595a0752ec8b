//! The stories: what people and traffic do while the controller is at work.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use surefoot::sandbox::App;

use crate::cluster::{ACTIONS, Cluster, DEPLOYMENT, ROLLOUT, SETS};

/// A story.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Story {
    Abort,
    Pass,
    FailAt10,
    FailAt50,
    FailAt100,
    NewImage,
    Revert,
    ThereAndBack,
    PauseAndApprove,
    Delete,
    NoData,
    HttpRoute,
    TwoRoutes,
    Linkerd,
    Preview,
}

pub const STORIES: [(&str, Story); 15] = [
    ("abort", Story::Abort),
    ("pass", Story::Pass),
    ("fail-at-10", Story::FailAt10),
    ("fail-at-50", Story::FailAt50),
    ("fail-at-100", Story::FailAt100),
    ("new-image", Story::NewImage),
    ("revert", Story::Revert),
    ("there-and-back", Story::ThereAndBack),
    ("pause-and-approve", Story::PauseAndApprove),
    ("delete", Story::Delete),
    ("no-data", Story::NoData),
    ("http-route", Story::HttpRoute),
    ("two-routes", Story::TwoRoutes),
    ("linkerd", Story::Linkerd),
    ("preview", Story::Preview),
];

impl Story {
    /// The Rollout's spec.
    pub fn spec(self) -> Value {
        let mut spec = json!({
            "targetRef": {"kind": "Deployment", "name": "shop"},
            "traffic": {
                "mesh": "istio", "service": "shop", "propagationDelay": "1s",
                "routes": [{"kind": "VirtualService", "name": "shop"}],
            },
            "steps": [{"weight": 10}, {"weight": 50}, {"weight": 100}],
            "gate": {
                "minDuration": "2s", "maxDuration": "60s", "minRequests": 30,
                "settle": "1s", "warmUp": "1s",
            },
            "analysis": {
                "sourceRef": {"kind": "MetricsSource", "name": "default"},
                "metrics": [{"name": "success-rate", "successRate": {"maxDrop": "5pp"}}],
                "noDataPolicy": {"after": "20s"},
            },
            "scaleDownDelay": "1s",
            "progressDeadline": "5m",
        });
        match self {
            // The person comes before the evidence, also where a call is late.
            Story::PauseAndApprove => {
                spec["steps"][0] =
                    json!({"weight": 10, "approval": {}, "gate": {"minDuration": "10s"}});
            }
            // The crash guard comes first.
            Story::FailAt100 => {
                spec["steps"][2] = json!({"weight": 100, "gate": {"minDuration": "10s"}});
            }
            // All traffic at once, and then harm.
            Story::Preview => {
                spec["traffic"]["apex"] = json!("stableOnly");
                let all = json!({"weight": 100, "gate": {"minDuration": "10s"}});
                spec["steps"] = json!([{"weight": 0, "preview": true}, all]);
            }
            Story::HttpRoute => spec["traffic"]["routes"][0]["kind"] = json!("HTTPRoute"),
            Story::Linkerd => {
                spec["traffic"]["mesh"] = json!("linkerd");
                spec["traffic"]["routes"][0]["kind"] = json!("HTTPRoute");
            }
            Story::TwoRoutes => {
                let outside = json!({"kind": "HTTPRoute", "name": "shop-outside"});
                spec["traffic"]["routes"] = json!([spec["traffic"]["routes"][0], outside]);
            }
            Story::NoData => spec["analysis"]["noDataPolicy"]["then"] = json!("rollback"),
            // So that the person comes first.
            Story::Abort | Story::Revert | Story::NewImage | Story::Delete => {
                spec["steps"] = json!([{"weight": 10, "approval": {}}, {"weight": 100}]);
            }
            _ => {}
        }
        spec
    }

    /// From the first look to the end, at which everything rests.
    pub async fn play(self, c: &Arc<Cluster>) {
        // A template that comes before the Deployment is held would roll out natively.
        let held = |c: &Cluster| c.get(DEPLOYMENT)["spec"]["paused"] == true;
        c.until("the first look", |c| phase(c) == "Healthy" && held(c)).await;
        match self {
            Story::Pass => {
                release(c, "v2");
                rests(c, 1, "v2").await;
            }
            Story::FailAt10 => {
                release(c, "bad");
                rests(c, 1, "v1").await;
            }
            Story::FailAt50
            | Story::FailAt100
            | Story::HttpRoute
            | Story::TwoRoutes
            | Story::Linkerd
            | Story::Preview => {
                let step = if self == Story::FailAt100 { 2 } else { 1 };
                release(c, "v2");
                c.until("the step", |c| passes(c) >= step).await;
                c.spoil();
                rests(c, 1, "v1").await;
            }
            Story::Abort => {
                release(c, "v2");
                at_10(c).await;
                command(c, "abort", 0);
                rests(c, 1, "v1").await;
            }
            Story::NewImage => {
                release(c, "v2");
                at_10(c).await;
                release(c, "v3");
                c.until("release 2 at 10%", |c| number(c) == 2 && c.weight() == 10).await;
                command(c, "promote", 0);
                rests(c, 2, "v3").await;
            }
            Story::Revert => {
                release(c, "v2");
                at_10(c).await;
                release(c, "v1");
                rests(c, 1, "v1").await;
            }
            Story::ThereAndBack => {
                release(c, "v2");
                rests(c, 1, "v2").await;
                release(c, "v1");
                rests(c, 2, "v1").await;
            }
            Story::PauseAndApprove => {
                release(c, "v2");
                at_10(c).await;
                thinks().await;
                command(c, "pause", 0);
                c.until("the pause", |c| !c.get(ROLLOUT)["status"]["pause"].is_null()).await;
                thinks().await;
                command(c, "resume", 0);
                c.until("the end of it", |c| c.get(ROLLOUT)["status"]["pause"].is_null()).await;
                thinks().await;
                command(c, "promote", 0);
                rests(c, 1, "v2").await;
            }
            Story::Delete => {
                release(c, "v2");
                at_10(c).await;
                c.delete(ROLLOUT);
                c.until("the Rollout to go", |c| c.get(ROLLOUT)["kind"] == "Status").await;
            }
            Story::NoData => {
                release(c, "v2");
                at_10(c).await;
                c.blind();
                rests(c, 1, "v1").await;
            }
        }
    }
}

fn phase(c: &Cluster) -> String {
    c.get(ROLLOUT)["status"]["phase"].as_str().unwrap_or_default().to_owned()
}

fn number(c: &Cluster) -> i64 {
    c.get(ROLLOUT)["status"]["release"]["number"].as_i64().unwrap_or(0)
}

fn passes(c: &Cluster) -> usize {
    c.get(ROLLOUT)["status"]["release"]["passes"].as_array().map_or(0, Vec::len)
}

/// People take a second; without it all they do is of one instant.
async fn thinks() {
    tokio::time::sleep(Duration::from_secs(1)).await;
}

async fn at_10(c: &Cluster) {
    c.until("10% on the route", |c| c.weight() == 10).await;
}

fn release(c: &Cluster, version: &str) {
    c.merge(DEPLOYMENT, &json!({"spec": {"template": App::template("shop", version)}}));
}

fn command(c: &Cluster, action: &str, step: i32) {
    let rollout = c.get(ROLLOUT);
    c.post(
        ACTIONS,
        &json!({
            "apiVersion": "surefoot.dev/v1alpha1", "kind": "RolloutAction",
            "metadata": {"name": format!("{action}-{}", number(c))},
            "spec": {
                "rollout": "shop", "uid": rollout["metadata"]["uid"], "release": number(c),
                "step": step, "action": action, "requestedBy": "ann",
            },
        }),
    );
}

/// So many releases have ended, and only pods of this version run.
async fn rests(c: &Cluster, releases: i64, version: &str) {
    let image = format!("registry.test/shop:{version}");
    let running = |set: &&Value| set["spec"]["replicas"] != 0;
    // Looked at with every write: what holds last is asked first.
    let done = move |c: &Cluster| {
        let status = &c.get(ROLLOUT)["status"];
        let ended = status["history"].as_array().into_iter().flatten();
        if !ended.clone().any(|past| past["number"] == releases)
            || !matches!(status["phase"].as_str(), Some("Healthy" | "Degraded"))
            || !status["outbox"].as_array().is_none_or(Vec::is_empty)
        {
            return false;
        }
        let deployment = c.get(DEPLOYMENT);
        let sets = c.items(SETS);
        deployment["status"]["observedGeneration"] == deployment["metadata"]["generation"]
            && sets.iter().filter(running).all(|set| {
                set["spec"]["template"]["spec"]["containers"][0]["image"] == image.as_str()
            })
    };
    c.until(&format!("release {releases} to end on {version}"), done).await;
}
