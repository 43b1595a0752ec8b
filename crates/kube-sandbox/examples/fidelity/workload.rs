//! Deployments under the real controllers and under the sandbox's: the same edits, the same outcome.

use std::time::Duration;

use http::Method;
use kube::Client;
use serde_json::{Map, Value, json};

use crate::Error;
use crate::compare::walk;
use crate::grammar::Step;
use crate::side::Side;

const NAMESPACE: &str = "fidelity-workload";
const APPS: &str = "/apis/apps/v1/namespaces/fidelity-workload";
const CORE: &str = "/api/v1/namespaces/fidelity-workload";
const CANARY: &str = "sf12345678";
/// So long both may take to come to the same state.
const PATIENCE: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// Plays the scenario on both; what differed, a line each.
pub async fn compare(real: &Client, sandbox: &Client) -> Result<(usize, Vec<String>), Error> {
    let side = |client: &Client| Side::new(client.clone(), NAMESPACE.to_owned());
    let (mut real_side, mut sandbox_side) = (side(real), side(sandbox));
    let mut differences = Vec::new();
    let steps = scenario();
    let count = steps.len();
    for (what, step) in steps {
        let answers =
            tokio::try_join!(patient(&mut real_side, &step), patient(&mut sandbox_side, &step))?;
        if answers.0 != answers.1 {
            differences.push(format!("{what}: real {} sandbox {}", answers.0, answers.1));
        }
        if let Some(difference) = settle(&mut real_side, &mut sandbox_side).await? {
            differences.push(format!("{what}: {difference}"));
        }
    }
    Ok((count, differences))
}

/// Sends a step. What comes too early for the namespace (its ServiceAccount is made in a while) or
/// meets a controller's write is sent again.
async fn patient(side: &mut Side, step: &Step) -> Result<u16, Error> {
    let mut code = 0;
    for _ in 0..20 {
        code = side.send(step).await?.code;
        if !matches!(code, 403 | 409) {
            break;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(code)
}

/// Waits until both show the same twice in a row; what differs if they never do.
async fn settle(real: &mut Side, sandbox: &mut Side) -> Result<Option<String>, Error> {
    let mut waited = Duration::ZERO;
    let mut before = Value::Null;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        waited += LOOK_EVERY;
        play_kubelet(real).await?;
        let (one, other) = (view(real).await?, view(sandbox).await?);
        if one == other && one == before {
            return Ok(None);
        }
        if waited > PATIENCE {
            let mut found = Vec::new();
            walk(&one, &other, "", &mut found);
            let said = |d: &crate::compare::Difference| {
                format!("{} real {} sandbox {}", d.path, d.real, d.sandbox)
            };
            return Ok(Some(found.iter().map(said).collect::<Vec<_>>().join("; ")));
        }
        before = one;
    }
}

async fn items(side: &mut Side, uri: &str) -> Result<Vec<Value>, Error> {
    let reply = side.send(&Step::get(uri)).await?;
    Ok(reply.body["items"].as_array().cloned().unwrap_or_default())
}

/// On the real server nobody runs pods: they are bound, made ready and ended here.
async fn play_kubelet(side: &mut Side) -> Result<(), Error> {
    for pod in items(side, &format!("{CORE}/pods")).await? {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        let uri = format!("{CORE}/pods/{name}");
        if pod["metadata"].get("deletionTimestamp").is_some() {
            let body = json!({"gracePeriodSeconds": 0});
            side.send(&Step::new(
                "delete",
                "",
                Method::DELETE,
                uri,
                "application/json",
                Some(body),
            ))
            .await?;
            continue;
        }
        if pod["spec"]["nodeName"].is_null() {
            let binding = json!({
                "apiVersion": "v1", "kind": "Binding", "metadata": {"name": name},
                "target": {"kind": "Node", "name": "sandbox"},
            });
            side.send(&Step::post(&format!("{uri}/binding"), binding)).await?;
        }
        if pod["status"]["podIP"].is_null() {
            let status = json!({
                "phase": "Running", "podIP": "10.1.1.1", "podIPs": [{"ip": "10.1.1.1"}],
                "conditions": [{
                    "type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z",
                }],
            });
            let media = "application/merge-patch+json";
            let body = Some(json!({"status": status}));
            side.send(&Step::new("", "", Method::PATCH, format!("{uri}/status"), media, body))
                .await?;
        }
    }
    Ok(())
}

/// What matters of the state: the Deployment, its ReplicaSets, its pods by image and owner.
async fn view(side: &mut Side) -> Result<Value, Error> {
    let mut sets = Vec::new();
    for mut set in items(side, &format!("{APPS}/replicasets")).await? {
        let text = set.to_string();
        if let Some(hash) = set["metadata"]["labels"]["pod-template-hash"].as_str()
            && hash != CANARY
        {
            set = serde_json::from_str(&text.replace(hash, "hash"))?;
        }
        let metadata = &set["metadata"];
        let mut seen = json!({
            "image": set["spec"]["template"]["spec"]["containers"][0]["image"],
            "name": metadata["name"], "labels": metadata["labels"],
            "annotations": metadata["annotations"],
            "replicas": set["spec"]["replicas"], "selector": set["spec"]["selector"],
            "owner": metadata["ownerReferences"][0]["kind"], "status": set["status"],
        });
        plain(&mut seen["status"]);
        // In how many steps a set grows depends on when its pods are ready.
        if let Some(status) = seen["status"].as_object_mut() {
            status.remove("observedGeneration");
        }
        sets.push(seen);
    }
    sets.sort_by_key(|set| (set["image"].to_string(), set["name"].to_string()));
    let mut deployments = Vec::new();
    for deployment in items(side, &format!("{APPS}/deployments")).await? {
        let mut status = deployment["status"].clone();
        plain(&mut status);
        deployments.push(json!({
            "generation": deployment["metadata"]["generation"],
            "annotations": deployment["metadata"]["annotations"], "status": status,
        }));
    }
    let mut pods: Map<String, Value> = Map::new();
    for pod in items(side, &format!("{CORE}/pods")).await? {
        let image = pod["spec"]["containers"][0]["image"].as_str().unwrap_or_default();
        let count = pods.get(image).and_then(Value::as_u64).unwrap_or(0) + 1;
        pods.insert(image.to_owned(), count.into());
    }
    Ok(json!({"deployments": deployments, "sets": sets, "pods": pods}))
}

/// A status without times, without the names of ReplicaSets in messages, and without the field that
/// is newer than the types of the sandbox.
fn plain(status: &mut Value) {
    let Some(fields) = status.as_object_mut() else { return };
    fields.remove("terminatingReplicas");
    let Some(Value::Array(conditions)) = fields.get_mut("conditions") else { return };
    conditions.sort_by_key(|condition| condition["type"].to_string());
    for condition in conditions.iter_mut().filter_map(Value::as_object_mut) {
        condition.remove("lastUpdateTime");
        condition.remove("lastTransitionTime");
        let message = condition["message"].as_str().unwrap_or_default();
        let start = message.split('"').next().unwrap_or_default().to_owned();
        condition.insert("message".into(), start.into());
    }
}

fn template(tag: &str) -> Value {
    json!({
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "web", "image": format!("web:{tag}")}]},
    })
}

fn edit(what: &'static str, spec: Value) -> (&'static str, Step) {
    let uri = format!("{APPS}/deployments/web");
    let media = "application/merge-patch+json";
    (what, Step::new("edit", "web", Method::PATCH, uri, media, Some(json!({"spec": spec}))))
}

/// Rolling, scaling, holding, the hand-over of a tested ReplicaSet, undoing, deleting.
fn scenario() -> Vec<(&'static str, Step)> {
    let deployment = json!({
        "metadata": {"name": "web"},
        "spec": {"replicas": 4, "selector": {"matchLabels": {"app": "web"}}, "template": template("1")},
    });
    let created = |plural: &str, object: Value| Step {
        object: "web".into(),
        ..Step::post(&format!("{APPS}/{plural}"), object)
    };
    let namespace = json!({"metadata": {"name": NAMESPACE}});
    let deleted = |policy: &str| {
        let uri = format!("{APPS}/deployments/web");
        let body = json!({"propagationPolicy": policy});
        Step::new("delete", "web", Method::DELETE, uri, "application/json", Some(body))
    };
    let seen = Step { object: "web".into(), ..Step::get(&format!("{APPS}/deployments/web")) };
    vec![
        ("namespace", Step::post("/api/v1/namespaces", namespace)),
        ("create", created("deployments", deployment.clone())),
        edit("scale up", json!({"replicas": 6})),
        edit("new image", json!({"template": template("2")})),
        edit("back to the first", json!({"template": template("1")})),
        edit("hold and new image", json!({"paused": true, "template": template("3")})),
        edit("scale while held", json!({"replicas": 4})),
        ("canary", created("replicasets", canary())),
        ("look", seen.clone()),
        ("adopt", adoption()),
        edit("release", json!({"paused": false})),
        edit("scale down", json!({"replicas": 2})),
        edit("undo", json!({"template": template("1")})),
        edit(
            "recreate",
            json!({
                "strategy": {"type": "Recreate", "rollingUpdate": null}, "template": template("4"),
            }),
        ),
        edit("scale to 0", json!({"replicas": 0})),
        edit("scale from 0 while held", json!({"paused": true, "replicas": 1})),
        ("delete, orphaning", deleted("Orphan")),
        ("create over orphans", created("deployments", deployment)),
        ("delete", deleted("Foreground")),
    ]
}

/// A ReplicaSet as a canary is: with an owner that isn't a Deployment.
fn canary() -> Value {
    let mut labelled = template("3");
    labelled["metadata"]["labels"]["pod-template-hash"] = CANARY.into();
    json!({
        "metadata": {
            "name": format!("web-{CANARY}"), "labels": labelled["metadata"]["labels"],
            "ownerReferences": [{
                "apiVersion": "v1", "kind": "Namespace", "name": NAMESPACE, "controller": true,
                "uid": "00000000-0000-4000-8000-000000000000",
            }],
        },
        "spec": {
            "replicas": 4, "template": labelled,
            "selector": {"matchLabels": {"app": "web", "pod-template-hash": CANARY}},
        },
    })
}

fn adoption() -> Step {
    let owner = json!([{
        "apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "$UID",
        "controller": true, "blockOwnerDeletion": true,
    }]);
    let annotations = json!({
        "deployment.kubernetes.io/desired-replicas": "4", "deployment.kubernetes.io/max-replicas": "5",
    });
    let patch = json!([
        {"op": "add", "path": "/metadata/ownerReferences", "value": owner},
        {"op": "add", "path": "/metadata/annotations", "value": annotations},
    ]);
    let uri = format!("{APPS}/replicasets/web-{CANARY}");
    Step::new("adopt", "web", Method::PATCH, uri, "application/json-patch+json", Some(patch))
}
