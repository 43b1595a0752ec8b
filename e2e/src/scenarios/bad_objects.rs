//! Objects that aren't as a release needs them, a row each: the Rollout says what is wrong and
//! leaves the route alone, and putting it right heals it without a restart.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kube::api::DeleteParams;
use serde_json::{Value, json};
use surefoot_core::api::RolloutStatus;
use surefoot_core::api::status::Phase;

use super::commands::doctor;
use super::routing;
use crate::app::{self, ISTIO};
use crate::delivery::{APP, Delivery, LIMIT, SUREFOOT, Setup, rollout};
use crate::runner::Scenario;
use crate::wait::wait_until;
use crate::world::Scene;

/// What a team applies, by kind and name.
type Objects = BTreeMap<(String, String), Value>;

/// One thing that is wrong before the first release.
#[derive(Clone, Copy)]
struct Row {
    name: &'static str,
    /// Whether the versions are told apart by subsets.
    subsets: bool,
    /// What is changed about the good objects.
    bad: fn(&mut Objects) -> Result<()>,
    /// What the Rollout must say.
    says: &'static str,
    phase: Phase,
}

const fn row(name: &'static str, bad: fn(&mut Objects) -> Result<()>, says: &'static str) -> Row {
    Row { name, subsets: false, bad, says, phase: Phase::Pending }
}

const fn subset_row(
    name: &'static str,
    bad: fn(&mut Objects) -> Result<()>,
    says: &'static str,
) -> Row {
    Row { subsets: true, ..row(name, bad, says) }
}

/// All rows.
pub fn all() -> Vec<Scenario> {
    let rows = ROWS.iter().copied();
    let rows = rows.map(|row| Scenario::row(row.name, move |scene| heals(scene, row)));
    let mut all: Vec<_> = rows.collect();
    all.push(Scenario::row("bad-all-at-once", all_at_once));
    all
}

fn key(object: &Value) -> (String, String) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (text(&object["kind"]), text(&object["metadata"]["name"]))
}

fn remove(objects: &mut Objects, kind: &str, name: &str) -> Result<()> {
    objects.remove(&(kind.to_owned(), name.to_owned())).context("not among the objects")?;
    Ok(())
}

fn add(objects: &mut Objects, object: Value) -> Result<()> {
    objects.insert(key(&object), object);
    Ok(())
}

fn of<'a>(objects: &'a mut Objects, kind: &str, name: &str) -> Result<&'a mut Value> {
    objects.get_mut(&(kind.to_owned(), name.to_owned())).context("not among the objects")
}

/// The route.
fn vs(objects: &mut Objects) -> Result<&mut Value> {
    of(objects, "VirtualService", APP)
}

fn list(value: &mut Value) -> Result<&mut Vec<Value>> {
    value.as_array_mut().context("not a list")
}

/// The canary's Service.
fn service(objects: &mut Objects) -> Result<&mut Value> {
    of(objects, "Service", "shop-canary")
}

fn spec(objects: &mut Objects, patch: &Value) -> Result<()> {
    json_patch::merge(&mut of(objects, "Rollout", APP)?["spec"], patch);
    Ok(())
}

fn name_http(objects: &mut Objects, name: &str) -> Result<()> {
    let route = json!({"kind": "VirtualService", "name": APP, "http": [name]});
    spec(objects, &json!({"traffic": {"routes": [route]}}))
}

/// A DestinationRule with a policy, for the Service that clients call.
fn policy(objects: &mut Objects, name: &str) -> Result<()> {
    let namespace = of(objects, "Rollout", APP)?["metadata"]["namespace"].clone();
    let host = format!("{APP}.{}.svc.cluster.local", namespace.as_str().unwrap_or_default());
    add(
        objects,
        json!({
            "apiVersion": ISTIO, "kind": "DestinationRule", "metadata": {"name": name},
            "spec": {"host": host, "trafficPolicy": {"connectionPool": {"tcp": {"maxConnections": 100}}}},
        }),
    )
}

fn template(objects: &mut Objects) -> Result<()> {
    let template = json!({"kind": "AnalysisTemplate", "name": "golden"});
    spec(objects, &json!({"analysis": {"templates": [template]}}))
}

const ROWS: &[Row] = &[
    row(
        "bad-deployment-missing",
        |o| remove(o, "Deployment", APP),
        "Deployment \"shop\" doesn't exist: create it",
    ),
    row(
        "bad-service-missing",
        |o| remove(o, "Service", APP),
        "Service \"shop\" doesn't exist: create it",
    ),
    row(
        "bad-route-missing",
        |o| remove(o, "VirtualService", APP),
        "VirtualService \"shop\" doesn't exist: create it",
    ),
    row(
        "bad-http-missing",
        |o| name_http(o, "nosuch"),
        "has no http route named \"nosuch\" (it has: primary): correct",
    ),
    row(
        "bad-http-twice",
        |o| {
            name_http(o, "primary")?;
            let http = list(&mut vs(o)?["spec"]["http"])?;
            http.push(http.first().context("a route")?.clone());
            Ok(())
        },
        "has two http routes named \"primary\": rename one",
    ),
    row(
        "bad-one-destination",
        |o| {
            let route = list(&mut vs(o)?["spec"]["http"][0]["route"])?;
            route.pop();
            Ok(())
        },
        "must route to exactly",
    ),
    row(
        "bad-three-destinations",
        |o| {
            let route = list(&mut vs(o)?["spec"]["http"][0]["route"])?;
            route.push(json!({"destination": {"host": "third"}, "weight": 0}));
            Ok(())
        },
        "must route to exactly",
    ),
    row(
        "bad-tcp-only",
        |o| {
            let tcp = json!([{"route": [{"destination": {"host": "shop-stable"}}]}]);
            json_patch::merge(&mut vs(o)?["spec"], &json!({"http": null, "tcp": tcp}));
            Ok(())
        },
        "has tcp routes and no http route",
    ),
    row(
        "bad-match-of-a-taken-header",
        |o| {
            let taken = json!([{"headers": {"x-canary": {"exact": "false"}}}]);
            vs(o)?["spec"]["http"][0]["match"] = taken;
            let chosen = json!([{"headers": {"x-canary": {"exact": "true"}}}]);
            spec(o, &json!({"steps": [{"weight": 10, "match": chosen}, {"weight": 100}]}))
        },
        "already what the header \"x-canary\" must be: choose requests",
    ),
    row(
        "bad-delegate",
        |o| {
            vs(o)?["spec"]["http"] = json!([{"name": "primary", "delegate": {"name": "other"}}]);
            Ok(())
        },
        "(delegate): name that one",
    ),
    row(
        "bad-two-virtual-services",
        |o| {
            let spec = &mut vs(o)?["spec"];
            list(&mut spec["hosts"])?.push(json!(APP));
            list(&mut spec["gateways"])?.push(json!("mesh"));
            let route = json!([{"route": [{"destination": {"host": APP}}]}]);
            let second = json!({
                "apiVersion": ISTIO, "kind": "VirtualService", "metadata": {"name": "second"},
                "spec": {"hosts": [APP], "http": route},
            });
            add(o, second)
        },
        "stands beside VirtualService \"second\"",
    ),
    row(
        "bad-weights-60-60",
        |o| {
            for place in [0, 1] {
                vs(o)?["spec"]["http"][0]["route"][place]["weight"] = json!(60);
            }
            Ok(())
        },
        "the route's weights are 60/60: write 100",
    ),
    row(
        "bad-service-headless",
        |o| {
            service(o)?["spec"]["clusterIP"] = json!("None");
            Ok(())
        },
        "Service \"shop-canary\" is headless",
    ),
    row(
        "bad-service-external-name",
        |o| {
            service(o)?["spec"] =
                json!({"type": "ExternalName", "externalName": "shop.example.com"});
            Ok(())
        },
        "Service \"shop-canary\" is of type ExternalName",
    ),
    row(
        "bad-service-selectorless",
        |o| {
            json_patch::merge(service(o)?, &json!({"spec": {"selector": null}}));
            Ok(())
        },
        "Service \"shop-canary\" has no selector: give it",
    ),
    row(
        "bad-service-of-other-pods",
        |o| {
            service(o)?["spec"]["selector"] = json!({"app": "other"});
            Ok(())
        },
        "Service \"shop-canary\" selects app=other, which the Deployment's pods don't carry",
    ),
    row(
        "bad-policy-on-the-apex",
        |o| policy(o, APP),
        "its policy would not apply to requests by the route",
    ),
    row(
        "bad-template-missing",
        template,
        "AnalysisTemplate \"golden\" doesn't exist: create it or remove it",
    ),
    row(
        "bad-template-argument-missing",
        |o| {
            template(o)?;
            add(
                o,
                json!({
                    "apiVersion": SUREFOOT, "kind": "AnalysisTemplate",
                    "metadata": {"name": "golden"},
                    "spec": {
                        "args": [{"name": "min"}],
                        "metrics": [{"name": "golden", "successRate": {"min": "{{args.min}}"}}],
                    },
                }),
            )
        },
        "argument \"min\" has no default and isn't set",
    ),
    subset_row(
        "bad-subset-missing",
        |o| {
            list(&mut of(o, "DestinationRule", APP)?["spec"]["subsets"])?.pop();
            Ok(())
        },
        "has no subset \"canary\" (it has: stable): add it",
    ),
    subset_row(
        "bad-rule-missing",
        |o| remove(o, "DestinationRule", APP),
        "DestinationRule \"shop\" doesn't exist: create it",
    ),
    subset_row("bad-two-rules", |o| policy(o, "second"), "merge them"),
    Row {
        phase: Phase::Healthy,
        ..row(
            "bad-hold-not-ready",
            |o| {
                let namespace = of(o, "Rollout", APP)?["metadata"]["namespace"].clone();
                let name = namespace.as_str().context("a namespace")?;
                of(o, "Namespace", name)?["metadata"]["labels"] =
                    json!({"surefoot.dev/hold": "paused"});
                Ok(())
            },
            "the admission policy that holds new templates doesn't act on this Deployment: install",
        )
    },
];

/// Everything as it should be; the same that [`Delivery::before`] applies, and the Rollout.
fn good(namespace: &str, setup: &Setup) -> Result<Objects> {
    let mut texts = (setup.routing)(namespace)?;
    texts.push(app::deployment(APP, APP, "v1", setup.replicas));
    texts.push(app::service(APP, &format!("app: {APP}")));
    texts.push(rollout(namespace, &setup.spec).to_string());
    let name = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
    texts.push(name.to_string());
    let objects: Result<Vec<Value>, _> =
        texts.iter().map(|text| serde_saphyr::from_str(text)).collect();
    Ok(objects?.into_iter().map(|object| (key(&object), object)).collect())
}

/// Make `to` of `from`, as somebody would who deletes and applies.
async fn bring(scene: &Scene, from: &Objects, to: &Objects) -> Result<()> {
    for (key, object) in from {
        // What a Service is can't be changed.
        let other = key.0 == "Service" && to.get(key) != Some(object);
        if other || !to.contains_key(key) {
            let version = object["apiVersion"].as_str().unwrap_or_default();
            let api = scene.api(version, &key.0).await?;
            let old = api.get(&key.1).await?.metadata.uid;
            api.delete(&key.1, &DeleteParams::foreground()).await?;
            // The controller may be quicker to make a new one.
            wait_until(&format!("{} {} to be gone", key.0, key.1), LIMIT, || async {
                let found = api.get_opt(&key.1).await?;
                Ok(found.is_none_or(|found| found.metadata.uid != old))
            })
            .await?;
        }
    }
    for (key, object) in to {
        if from.get(key) != Some(object) {
            scene.apply(&object.to_string()).await?;
        }
    }
    Ok(())
}

/// The route's generation, where there is a route: whoever leads may stamp a route, which doesn't
/// count, but its spec is left alone.
async fn generation(scene: &Scene) -> Result<Option<i64>> {
    let route = scene.api(ISTIO, "VirtualService").await?.get_opt(APP).await?;
    Ok(route.and_then(|route| route.metadata.generation))
}

async fn heals(scene: Arc<Scene>, row: Row) -> Result<()> {
    let usual = Setup { rate: 20, replicas: 2, ..Setup::default() };
    let setup = if row.subsets {
        Setup { spec: routing::split(), routing: routing::by_subsets, ..usual }
    } else {
        usual
    };
    let delivery = Delivery::before(Arc::clone(&scene), setup.clone()).await?;
    let good = good(&scene.namespace, &setup)?;
    let mut before = good.clone();
    remove(&mut before, "Rollout", APP)?;
    let mut bad = good.clone();
    (row.bad)(&mut bad)?;
    // The controller's first look must be at all of it: a Service that was deleted to be made anew,
    // and is not seen again yet, would be one that it may make itself.
    delivery.kill_controller();
    let mut all_but_the_rollout = bad.clone();
    all_but_the_rollout.remove(&("Rollout".to_owned(), APP.to_owned()));
    bring(&scene, &before, &all_but_the_rollout).await.context("breaking it")?;
    delivery.start_controller()?;
    let pid = delivery.controller_lives()?;
    bring(&scene, &all_but_the_rollout, &bad).await.context("bringing the Rollout")?;
    let written = generation(&scene).await?;
    let said = |s: &RolloutStatus| s.message.contains(row.says);
    let status = delivery.until(&format!("it to say: {}", row.says), said).await?;
    ensure!(status.phase == row.phase, "{:?}", status.phase);
    ensure!(generation(&scene).await? == written, "the route was written");
    // Somebody who asks before there is any release hears the same.
    let (ready, findings) = doctor(&delivery).await?;
    ensure!(!ready, "the doctor finds nothing: {findings:?}");
    let by_dry_run = row.name == "bad-hold-not-ready";
    ensure!(by_dry_run || findings.iter().any(|f| f.contains(row.says)), "{findings:?}");
    bring(&scene, &bad, &good).await.context("putting it right")?;
    delivery.rests().await.context("healing")?;
    // Pods of subsets need proxies of their own, and these have none.
    let (ready, findings) = doctor(&delivery).await?;
    ensure!(ready || row.subsets, "the doctor still finds: {findings:?}");
    ensure!(delivery.controller_lives()? == pid, "the controller has restarted");
    Ok(())
}

/// A dozen of them beside each other under one controller, and a good one that is released
/// meanwhile: each says what is its own matter, and heals.
async fn all_at_once(scene: Arc<Scene>) -> Result<()> {
    let setup = Setup { rate: 100, spec: super::kills::quick(), ..Setup::default() };
    let delivery = Delivery::start(Arc::clone(&scene), setup.clone()).await?;
    let pid = delivery.controller_lives()?;
    let rows: Vec<(String, Objects, Objects, Row)> = ROWS
        .iter()
        .filter(|row| !row.subsets && row.phase == Phase::Pending)
        .filter(|row| !row.name.contains("template-argument"))
        .enumerate()
        .map(|(place, row)| {
            let name = format!("row{place}");
            let mut good = good(&scene.namespace, &Setup { replicas: 1, ..setup.clone() })?;
            remove(&mut good, "Namespace", &scene.namespace)?;
            let mut bad = good.clone();
            (row.bad)(&mut bad)?;
            Ok((name.clone(), renamed(&good, &name)?, renamed(&bad, &name)?, *row))
        })
        .collect::<Result<_>>()?;
    ensure!(rows.len() >= 12, "only {} rows", rows.len());
    for (_, _, bad, row) in &rows {
        bring(&scene, &Objects::new(), bad).await.with_context(|| row.name)?;
    }
    delivery.set_version("v2").await?;
    for (name, _, _, row) in &rows {
        let says = row.says.replace(APP, name);
        told(&scene, name, &says).await.with_context(|| row.name)?;
    }
    delivery.promoted(1).await?;
    for (name, _, _, row) in &rows {
        told(&scene, name, &row.says.replace(APP, name)).await.with_context(|| row.name)?;
    }
    for (_, good, bad, row) in &rows {
        bring(&scene, bad, good).await.with_context(|| row.name)?;
    }
    for (name, _, _, row) in &rows {
        told(&scene, name, "at rest").await.with_context(|| format!("{} healed", row.name))?;
    }
    ensure!(delivery.controller_lives()? == pid, "the controller has restarted");
    delivery.rests_on("v2").await?;
    delivery.nothing_lost(&[])?;
    delivery.audit()?;
    Ok(())
}

/// The same objects for an application of another name.
fn renamed(objects: &Objects, name: &str) -> Result<Objects> {
    let rename = |object: &Value| serde_json::from_str(&object.to_string().replace(APP, name));
    let objects: Result<Vec<Value>, _> = objects.values().map(rename).collect();
    Ok(objects?.into_iter().map(|object| (key(&object), object)).collect())
}

async fn told(scene: &Scene, rollout: &str, says: &str) -> Result<()> {
    wait_until(&format!("Rollout {rollout} to say: {says}"), Duration::from_secs(60), || async {
        let rollout = scene.get(SUREFOOT, "Rollout", rollout).await?;
        let message = rollout["status"]["message"].as_str().unwrap_or_default().to_owned();
        ensure!(message.contains(says), "it says: {message}");
        Ok(true)
    })
    .await
}
