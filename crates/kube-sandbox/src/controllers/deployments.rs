//! Deployments: they roll out their template, by way of ReplicaSets.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::api::{Api, count, is_deleting, number, owned_by, same_namespace, text, uri};
use super::claim::Claim;
use super::rollout::{DESIRED, MAX, Rollout, annotation, replicas};
use crate::machine::seconds;
use crate::selectors::Selector;

const APPS: &str = "/apis/apps/v1";
const HASH: &str = "pod-template-hash";
const REVISION: &str = "deployment.kubernetes.io/revision";
const HISTORY: &str = "deployment.kubernetes.io/revision-history";

pub(super) async fn sync(api: &Api, now: Timestamp) -> Option<Timestamp> {
    let deployments = api.list("/apis/apps/v1/deployments").await?;
    let sets = api.list("/apis/apps/v1/replicasets").await?;
    let mut next = None;
    for deployment in &deployments {
        // What fails is tried again with the next round.
        let at = one(api, deployment, &sets, now).await.ok().flatten();
        next = [next, at].into_iter().flatten().min();
    }
    next
}

async fn one(
    api: &Api,
    deployment: &Value,
    sets: &[Arc<Value>],
    now: Timestamp,
) -> Result<Option<Timestamp>, u16> {
    let mut own = claim(api, deployment, sets).await?;
    let age = |set: &Value| {
        let text = |name: &str| text(&set["metadata"][name]).to_owned();
        (text("creationTimestamp"), text("name"))
    };
    own.sort_by_key(age);
    let template = plain(&deployment["spec"]["template"]);
    let new = own.iter().position(|set| plain(&set["spec"]["template"]) == template);
    let mut rollout = Rollout { deployment, sets: own, new };
    if !is_deleting(deployment) {
        if !rollout.is_paused() && rollout.new.is_none() && !rollout.waits_for_old() {
            create(api, &mut rollout).await?;
        }
        revise(api, &mut rollout).await?;
        for (index, size) in rollout.sizes() {
            resize(api, &mut rollout, index, size).await?;
        }
        clean_up(api, &rollout).await?;
    }
    report(api, &rollout, now).await
}

/// A template without the label that tells ReplicaSets apart.
fn plain(template: &Value) -> Value {
    let mut template = template.clone();
    if let Some(metadata) = template["metadata"].as_object_mut() {
        metadata.remove("creationTimestamp");
        if let Some(labels) = metadata.get_mut("labels").and_then(Value::as_object_mut) {
            labels.remove(HASH);
        }
    }
    template
}

/// The ReplicaSets of a Deployment: it adopts those without owner and lets go of those that no
/// longer fit.
async fn claim(api: &Api, deployment: &Value, sets: &[Arc<Value>]) -> Result<Vec<Value>, u16> {
    let selector = Selector::of_workload(&deployment["spec"]["selector"]);
    let mut own = Vec::new();
    for set in sets.iter().filter(|set| same_namespace(set, deployment)) {
        let claim = Claim::of(deployment, &selector, set);
        if claim == Claim::Own {
            own.push(Value::clone(set));
            continue;
        }
        let Some(patch) = claim.patch(set, owned_by(deployment, "apps/v1", "Deployment")) else {
            continue;
        };
        let patched = api.merge(&uri(APPS, "replicasets", set), &patch).await?;
        if claim == Claim::Adopt {
            own.push(patched);
        }
    }
    Ok(own)
}

/// A name for a template (FNV-1a), in letters that spell no words.
fn hash(template: &Value, collisions: i64) -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let text = format!("{template}{collisions}");
    let fold = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(16_777_619);
    let number = text.bytes().fold(2_166_136_261, fold);
    let letter = |digit: u8| char::from(LETTERS[usize::from(digit) % LETTERS.len()]);
    number.to_string().bytes().map(letter).collect()
}

async fn create(api: &Api, rollout: &mut Rollout<'_>) -> Result<(), u16> {
    let deployment = rollout.deployment;
    let collisions = number(&deployment["status"]["collisionCount"]);
    let hash = hash(&plain(&deployment["spec"]["template"]), collisions);
    let mut template = deployment["spec"]["template"].clone();
    template["metadata"]["labels"][HASH] = hash.clone().into();
    let mut selector = deployment["spec"]["selector"].clone();
    selector["matchLabels"][HASH] = hash.clone().into();
    let metadata = &deployment["metadata"];
    let name = format!("{}-{hash}", text(&metadata["name"]));
    let size = (rollout.most() - rollout.total()).clamp(0, rollout.wanted());
    let mut set = json!({
        "metadata": {
            "name": name, "labels": template["metadata"]["labels"],
            "annotations": annotations(rollout, next_revision(rollout)),
            "ownerReferences": owned_by(deployment, "apps/v1", "Deployment"),
        },
        "spec": {"replicas": size, "selector": selector, "template": template},
    });
    if let Some(least) = deployment["spec"].get("minReadySeconds") {
        set["spec"]["minReadySeconds"] = least.clone();
    }
    let namespace = text(&metadata["namespace"]);
    match api.create(&format!("{APPS}/namespaces/{namespace}/replicasets"), &set).await {
        Ok(made) => {
            rollout.sets.push(made);
            rollout.new = Some(rollout.sets.len() - 1);
            if size > 0 {
                let note = format!("Scaled up replica set {name} from 0 to {size}");
                api.event(deployment, "Deployment", "apps/v1", "ScalingReplicaSet", &note).await;
            }
            Ok(())
        }
        Err(409) => {
            // Another set has the name: the next try has another hash.
            let patch = json!({"status": {"collisionCount": collisions + 1}});
            api.merge(&(uri(APPS, "deployments", deployment) + "/status"), &patch).await?;
            Err(409)
        }
        Err(code) => Err(code),
    }
}

fn next_revision(rollout: &Rollout<'_>) -> i64 {
    let old = rollout.old().filter_map(|index| annotation(&rollout.sets[index], REVISION));
    old.max().unwrap_or(0) + 1
}

/// The annotations of the new set: the Deployment's, its revision, and what it was sized for.
fn annotations(rollout: &Rollout<'_>, revision: i64) -> Value {
    let mut annotations = serde_json::Map::new();
    let all = rollout.deployment["metadata"]["annotations"].as_object().into_iter().flatten();
    for (name, value) in all {
        let own = name.starts_with("deployment.kubernetes.io/");
        if !own && name != "kubectl.kubernetes.io/last-applied-configuration" {
            annotations.insert(name.clone(), value.clone());
        }
    }
    annotations.insert(REVISION.into(), revision.to_string().into());
    annotations.insert(DESIRED.into(), rollout.wanted().to_string().into());
    annotations.insert(MAX.into(), rollout.most().to_string().into());
    Value::Object(annotations)
}

/// Gives the new set its revision, and what else of the Deployment it has.
async fn revise(api: &Api, rollout: &mut Rollout<'_>) -> Result<(), u16> {
    let Some(new) = rollout.new else { return Ok(()) };
    let set = &rollout.sets[new];
    let revision = next_revision(rollout).max(annotation(set, REVISION).unwrap_or(0));
    let mut wanted = annotations(rollout, revision);
    // What it was sized for only changes when it is sized.
    if let Some(fields) = wanted.as_object_mut() {
        fields.remove(DESIRED);
        fields.remove(MAX);
    }
    if let Some(before) = annotation(set, REVISION).filter(|before| *before != revision) {
        let history = text(&set["metadata"]["annotations"][HISTORY]);
        let history = if history.is_empty() { String::new() } else { format!("{history},") };
        wanted[HISTORY] = format!("{history}{before}").into();
    }
    let has = |(name, value): (&String, &Value)| set["metadata"]["annotations"][name] == *value;
    let least = &rollout.deployment["spec"]["minReadySeconds"];
    let same = wanted.as_object().is_some_and(|wanted| wanted.iter().all(has));
    if !same || set["spec"]["minReadySeconds"] != *least {
        let patch = json!({
            "metadata": {"uid": set["metadata"]["uid"], "annotations": wanted},
            "spec": {"minReadySeconds": least},
        });
        rollout.sets[new] = api.merge(&uri(APPS, "replicasets", set), &patch).await?;
    }
    Ok(())
}

async fn resize(api: &Api, rollout: &mut Rollout<'_>, index: usize, size: i64) -> Result<(), u16> {
    let before = replicas(&rollout.sets[index]);
    let mut set = rollout.sets[index].clone();
    set["spec"]["replicas"] = size.into();
    set["metadata"]["annotations"][DESIRED] = rollout.wanted().to_string().into();
    set["metadata"]["annotations"][MAX] = rollout.most().to_string().into();
    rollout.sets[index] = api.replace(&uri(APPS, "replicasets", &set), &set).await?;
    if before != size {
        let way = if size > before { "up" } else { "down" };
        let name = text(&set["metadata"]["name"]);
        let note = format!("Scaled {way} replica set {name} from {before} to {size}");
        api.event(rollout.deployment, "Deployment", "apps/v1", "ScalingReplicaSet", &note).await;
    }
    Ok(())
}

/// Deletes the oldest of the sets that are no longer needed.
async fn clean_up(api: &Api, rollout: &Rollout<'_>) -> Result<(), u16> {
    let Some(limit) = rollout.deployment["spec"]["revisionHistoryLimit"].as_u64() else {
        return Ok(());
    };
    let done = rollout.new.is_some_and(|new| {
        number(&rollout.sets[new]["status"]["availableReplicas"]) == rollout.wanted()
    });
    let mut idle: Vec<&Value> = rollout
        .old()
        .map(|index| &rollout.sets[index])
        .filter(|set| replicas(set) == 0 && number(&set["status"]["replicas"]) == 0)
        .collect();
    idle.sort_by_key(|set| annotation(set, REVISION));
    let excess = idle.len().saturating_sub(usize::try_from(limit).unwrap_or(usize::MAX));
    for set in idle.into_iter().take(if done { excess } else { 0 }) {
        api.delete(&uri(APPS, "replicasets", set), &set["metadata"]["uid"], None).await?;
    }
    Ok(())
}

/// Writes the status; when the deadline for progress ends.
async fn report(
    api: &Api,
    rollout: &Rollout<'_>,
    now: Timestamp,
) -> Result<Option<Timestamp>, u16> {
    let deployment = rollout.deployment;
    let sum = |name: &str| rollout.sets.iter().map(|set| number(&set["status"][name])).sum::<i64>();
    let available = sum("availableReplicas");
    let updated = rollout.new.map_or(0, |new| number(&rollout.sets[new]["status"]["replicas"]));
    let mut status = json!({"observedGeneration": deployment["metadata"]["generation"]});
    count(&mut status, "replicas", sum("replicas"));
    count(&mut status, "updatedReplicas", updated);
    count(&mut status, "readyReplicas", sum("readyReplicas"));
    count(&mut status, "availableReplicas", available);
    count(&mut status, "unavailableReplicas", (rollout.total() - available).max(0));
    if let Some(collisions) = deployment["status"].get("collisionCount") {
        status["collisionCount"] = collisions.clone();
    }
    let enough = available >= rollout.wanted() - rollout.leeway().1;
    let (value, reason, message) = if enough {
        ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    } else {
        ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    };
    let mut conditions = Conditions { old: &deployment["status"]["conditions"], now, all: vec![] };
    conditions.set("Available", value, reason, message.to_owned());
    let until = progress(rollout, &status, &mut conditions);
    status["conditions"] = conditions.all.into();
    // The revision goes with the status, so that the generation doesn't rise.
    let revision = rollout.new.and_then(|new| annotation(&rollout.sets[new], REVISION));
    let revised = revision.is_some() && annotation(deployment, REVISION) != revision;
    if deployment["status"] != status || revised {
        let mut written = deployment.clone();
        written["status"] = status;
        if let Some(revision) = revision {
            written["metadata"]["annotations"][REVISION] = revision.to_string().into();
        }
        api.replace(&(uri(APPS, "deployments", deployment) + "/status"), &written).await?;
    }
    Ok(until.filter(|until| *until > now))
}

/// Conditions on the way from the old status to the new one.
struct Conditions<'a> {
    old: &'a Value,
    now: Timestamp,
    all: Vec<Value>,
}

impl Conditions<'_> {
    fn old(&self, kind: &str) -> Option<&Value> {
        self.old.as_array()?.iter().find(|condition| condition["type"] == kind)
    }

    /// Sets a condition; its times only change with what it says.
    fn set(&mut self, kind: &str, status: &str, reason: &str, message: String) {
        let now = seconds(self.now);
        let old = self.old(kind);
        let same = old.filter(|old| old["status"] == status);
        let still = same.filter(|old| old["reason"] == reason);
        let (changed, updated) = (
            same.map_or(json!(now), |old| old["lastTransitionTime"].clone()),
            still.map_or(json!(now), |old| old["lastUpdateTime"].clone()),
        );
        self.all.push(json!({
            "type": kind, "status": status, "reason": reason, "message": message,
            "lastUpdateTime": updated, "lastTransitionTime": changed,
        }));
    }

    /// Sets it with a fresh update time.
    fn touch(&mut self, kind: &str, status: &str, reason: &str, message: String) {
        self.set(kind, status, reason, message);
        if let Some(last) = self.all.last_mut() {
            last["lastUpdateTime"] = seconds(self.now).into();
        }
    }
}

/// The condition Progressing; when its deadline ends.
fn progress(
    rollout: &Rollout<'_>,
    status: &Value,
    conditions: &mut Conditions<'_>,
) -> Option<Timestamp> {
    const KIND: &str = "Progressing";
    let deadline = rollout.deployment["spec"]["progressDeadlineSeconds"].as_i64()?;
    let old = conditions.old(KIND).cloned();
    let reason = old.as_ref().map_or("", |old| text(&old["reason"])).to_owned();
    if rollout.is_paused() {
        conditions.set(KIND, "Unknown", "DeploymentPaused", "Deployment is paused".into());
        return None;
    }
    let name = match rollout.new {
        Some(new) => format!("ReplicaSet {}", rollout.sets[new]["metadata"]["name"]),
        None => format!("Deployment {}", rollout.deployment["metadata"]["name"]),
    };
    let wanted = rollout.wanted();
    let before = &rollout.deployment["status"];
    let is = |name: &str| number(&status[name]) == wanted;
    let rests =
        reason == "NewReplicaSetAvailable" && status["replicas"] == status["updatedReplicas"];
    if rests || is("updatedReplicas") && is("replicas") && is("availableReplicas") {
        let message = format!("{name} has successfully progressed.");
        conditions.set(KIND, "True", "NewReplicaSetAvailable", message);
        return None;
    }
    let rose = |name: &str| number(&status[name]) > number(&before[name]);
    let old_pods =
        |status: &Value| number(&status["replicas"]) - number(&status["updatedReplicas"]);
    let moves = ["updatedReplicas", "readyReplicas", "availableReplicas"].into_iter().any(rose)
        || old_pods(status) < old_pods(before);
    let deadline = SignedDuration::from_secs(deadline);
    let from = |since: Timestamp| since.checked_add(deadline).ok();
    let since = old.as_ref().and_then(|old| text(&old["lastUpdateTime"]).parse().ok());
    let until = since.and_then(from);
    let (value, says, message) = match reason.as_str() {
        _ if moves => ("True", "ReplicaSetUpdated", format!("{name} is progressing.")),
        "" | "NewReplicaSetAvailable" => {
            let created = format!("Created new {}", name.replacen("ReplicaSet", "replica set", 1));
            ("True", "NewReplicaSetCreated", created)
        }
        "DeploymentPaused" => ("Unknown", "DeploymentResumed", "Deployment is resumed".to_owned()),
        _ => ("", "", String::new()),
    };
    if !says.is_empty() {
        conditions.touch(KIND, value, says, message);
        return from(conditions.now);
    }
    if reason == "ProgressDeadlineExceeded" || until.is_some_and(|until| until <= conditions.now) {
        let message = format!("{name} has timed out progressing.");
        conditions.set(KIND, "False", "ProgressDeadlineExceeded", message);
        return None;
    }
    conditions.all.extend(old);
    until
}
