use std::sync::Mutex;

use kube::runtime::reflector;
use serde_json::json;
use tokio::sync::mpsc;

use super::super::Alarm;
use super::super::cache::Cache;
use super::super::hold::{Hold, Holds};
use super::super::lease::Lead;
use super::super::notify::Notifier;
use super::super::prometheus::Prometheus;
use super::super::sample::Sampler;
use super::super::stand_in::{Say, StandIn};
use super::super::tasks::Tasks;
use super::super::telemetry::Telemetry;
use super::*;
use crate::clock::Clock;
use crate::outbound::Outbound;

/// A Rollout whose Deployment isn't there: that is to be committed as its status.
fn rollout() -> serde_json::Value {
    json!({
        "apiVersion": "surefoot.dev/v1alpha1", "kind": "Rollout",
        "metadata": {"name": "shop", "namespace": "prod", "uid": "u1", "resourceVersion": "70"},
        "spec": {"targetRef": {"kind": "Deployment", "name": "shop"},
            "traffic": {"mesh": "istio", "service": "shop",
                "routes": [{"kind": "VirtualService", "name": "shop"}]},
            "steps": [{"weight": 100}]},
    })
}

/// One look by a process that leads, or doesn't.
async fn look(lead: Lead) -> (Action, Arc<StandIn>) {
    let server = StandIn::new([("rollouts/shop", rollout())], Say::Fine);
    let (client, telemetry) = (server.client(), Telemetry::default());
    let http = Arc::new(Outbound::new().unwrap());
    let (wake, _woken) = mpsc::unbounded_channel();
    let (rollouts, _writer) = reflector::store();
    let me = "us".to_owned();
    let notifier = Notifier::new(
        client.clone(),
        http.clone(),
        telemetry.clone(),
        Clock::System,
        me.clone(),
        Tasks::default(),
    );
    let context = Context {
        cache: Cache::unwatched(),
        sampler: Sampler::new(Prometheus::new(http), Clock::System, Tasks::default()),
        notifier: Arc::new(notifier),
        holds: Holds::new(Hold::Paused),
        holder: me,
        latest: Mutex::default(),
        weights: Mutex::default(),
        uids: Mutex::default(),
        refused: Mutex::default(),
        failures: Mutex::default(),
        claims: Mutex::default(),
        clock: Clock::System,
        rollouts,
        client,
        telemetry,
        alarm: Alarm(wake),
        lead,
    };
    let rollout = Arc::new(DeserializeGuard(Ok(serde_json::from_value(rollout()).unwrap())));
    (reconcile(rollout, Arc::new(context)).await.unwrap(), server)
}

#[tokio::test]
async fn who_does_not_lead_says_nothing() {
    let (action, server) = look(Lead::default()).await;
    assert_eq!(action, Action::requeue(PERIOD));
    assert!(server.heard().is_empty(), "{:?}", server.heard());
}

#[tokio::test]
async fn a_rollout_is_taken_over_before_anything_else_is_written() {
    let (action, server) = look(Lead::held()).await;
    assert_eq!(action, Action::requeue(Duration::ZERO));
    assert_eq!(server.heard(), ["PATCH rollouts/shop/status"]);
    let [call] = server.writes().try_into().unwrap();
    let status = &call.body[1]["value"];
    let claim = (&status["decision"]["holder"], &status["decision"]["epoch"]);
    assert_eq!(claim, (&json!("us"), &json!(1)));
    assert!(
        status["waitingOn"].as_array().is_none_or(Vec::is_empty),
        "what it decides comes later"
    );
}
