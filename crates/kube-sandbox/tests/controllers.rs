//! Deployments roll out, pods become ready, and a tested ReplicaSet can be handed over.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::{delete, deployment, get, json_patch, merge, post, put, template};
use kube_sandbox::{Controllers, Sandbox, Settings};
use serde_json::{Value, json};

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/shop/deployments";
const WEB: &str = "/apis/apps/v1/namespaces/shop/deployments/web";
const SETS: &str = "/apis/apps/v1/namespaces/shop/replicasets";
const PODS: &str = "/api/v1/namespaces/shop/pods";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices";

/// A namespace with a Deployment that has rolled out.
async fn rolled_out() -> (Sandbox, Controllers) {
    let sandbox = Sandbox::new();
    let controllers = Controllers::start(&sandbox, Settings::default());
    post(&sandbox, "/api/v1/namespaces", &json!({"metadata": {"name": "shop"}}));
    assert_eq!(post(&sandbox, DEPLOYMENTS, &deployment()).0, 201);
    settled(&sandbox, |web| web["status"]["availableReplicas"] == 3).await;
    (sandbox, controllers)
}

/// Waits until the Deployment is as it should be.
async fn settled(sandbox: &Sandbox, is: impl Fn(&Value) -> bool) -> Value {
    let mut versions = sandbox.versions();
    let wait = async {
        loop {
            let (_, web) = get(sandbox, WEB);
            if is(&web) {
                return web;
            }
            versions.changed().await.unwrap();
        }
    };
    match tokio::time::timeout(Duration::from_secs(3600), wait).await {
        Ok(web) => web,
        Err(_) => panic!("never: {:#}", get(sandbox, WEB).1),
    }
}

fn items(sandbox: &Sandbox, uri: &str) -> Vec<Value> {
    get(sandbox, uri).1["items"].as_array().unwrap().clone()
}

fn uids(sandbox: &Sandbox, selector: &str) -> Vec<Value> {
    let pods = items(sandbox, &format!("{PODS}?labelSelector={selector}"));
    pods.iter().map(|pod| pod["metadata"]["uid"].clone()).collect()
}

fn is_complete(web: &Value) -> bool {
    let status = &web["status"];
    let all = ["replicas", "updatedReplicas", "availableReplicas"].map(|name| status[name].clone());
    status["observedGeneration"] == web["metadata"]["generation"]
        && all.iter().all(|number| *number == web["spec"]["replicas"])
}

#[tokio::test(start_paused = true)]
async fn a_new_template_rolls_out_and_the_old_set_stays_empty() {
    let (sandbox, _controllers) = rolled_out().await;
    let (_, web) = get(&sandbox, WEB);
    assert_eq!(web["metadata"]["annotations"]["deployment.kubernetes.io/revision"], "1");
    merge(&sandbox, WEB, &json!({"spec": {"template": template("2")}}));
    settled(&sandbox, is_complete).await;
    let sets = items(&sandbox, SETS);
    let mut sizes: Vec<i64> =
        sets.iter().map(|set| set["spec"]["replicas"].as_i64().unwrap()).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [0, 3]);
    let pods = items(&sandbox, PODS);
    assert!(pods.iter().all(|pod| pod["spec"]["containers"][0]["image"] == "web:2"), "{pods:?}");
    let (_, web) = get(&sandbox, WEB);
    assert_eq!(web["metadata"]["annotations"]["deployment.kubernetes.io/revision"], "2");
}

#[tokio::test(start_paused = true)]
async fn at_rest_nothing_is_written() {
    let (sandbox, _controllers) = rolled_out().await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let version = sandbox.version();
    tokio::time::sleep(Duration::from_secs(7 * 86_400)).await;
    assert_eq!(sandbox.version(), version);
}

#[tokio::test(start_paused = true)]
async fn a_paused_deployment_makes_no_set_and_scales_the_one_it_has() {
    let (sandbox, _controllers) = rolled_out().await;
    let held = json!({"spec": {"paused": true, "replicas": 5, "template": template("2")}});
    merge(&sandbox, WEB, &held);
    let web = settled(&sandbox, |web| web["status"]["availableReplicas"] == 5).await;
    assert_eq!(items(&sandbox, SETS).len(), 1);
    assert_eq!(web["status"]["updatedReplicas"], Value::Null);
    let reason = web["status"]["conditions"].as_array().unwrap().last().unwrap()["reason"].clone();
    assert_eq!(reason, "DeploymentPaused");
}

#[tokio::test(start_paused = true)]
async fn a_tested_set_is_handed_over_with_its_pods() {
    let (sandbox, _controllers) = rolled_out().await;
    merge(&sandbox, WEB, &json!({"spec": {"paused": true, "template": template("2")}}));
    // The canary: another owner, a name that no native set can have.
    let (_, owner) = post(
        &sandbox,
        "/api/v1/namespaces/shop/configmaps",
        &json!({"metadata": {"name": "owner"}}),
    );
    let hash = "sf12345678";
    let mut labelled = template("2");
    labelled["metadata"]["labels"]["pod-template-hash"] = hash.into();
    let canary = json!({
        "metadata": {
            "name": format!("web-{hash}"), "labels": labelled["metadata"]["labels"],
            "ownerReferences": [{
                "apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "controller": true,
                "uid": owner["metadata"]["uid"],
            }],
        },
        "spec": {
            "replicas": 3, "template": labelled,
            "selector": {"matchLabels": {"app": "web", "pod-template-hash": hash}},
        },
    });
    assert_eq!(post(&sandbox, SETS, &canary).0, 201);
    let canary = format!("{SETS}/web-{hash}");
    settled(&sandbox, |_| get(&sandbox, &canary).1["status"]["availableReplicas"] == 3).await;
    let tested = uids(&sandbox, &format!("pod-template-hash%3D{hash}"));
    // Adopt, wait until it is seen, release.
    let (_, web) = get(&sandbox, WEB);
    let (code, answer) = json_patch(
        &sandbox,
        &canary,
        &json!([
            {"op": "replace", "path": "/metadata/resourceVersion",
             "value": get(&sandbox, &canary).1["metadata"]["resourceVersion"]},
            {"op": "add", "path": "/metadata/ownerReferences", "value": [{
                "apiVersion": "apps/v1", "kind": "Deployment", "name": "web",
                "uid": web["metadata"]["uid"], "controller": true, "blockOwnerDeletion": true,
            }]},
            {"op": "add", "path": "/metadata/annotations", "value": {
                "deployment.kubernetes.io/desired-replicas": "3",
                "deployment.kubernetes.io/max-replicas": "4",
            }},
        ]),
    );
    assert_eq!(code, 200, "{answer}");
    settled(&sandbox, |web| web["status"]["updatedReplicas"] == 3).await;
    merge(&sandbox, WEB, &json!({"spec": {"paused": false}}));
    settled(&sandbox, is_complete).await;
    assert_eq!(uids(&sandbox, "app%3Dweb"), tested, "the tested pods are those that stay");
    assert_eq!(items(&sandbox, SETS).len(), 2, "no third set");
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_never_gets_ready_exceeds_the_deadline() {
    let (sandbox, _controllers) = rolled_out().await;
    let mut never = template("2");
    never["metadata"]["annotations"] = json!({"kube-sandbox/ready-after": "never"});
    merge(&sandbox, WEB, &json!({"spec": {"template": never, "progressDeadlineSeconds": 30}}));
    let web = settled(&sandbox, |web| {
        let conditions = web["status"]["conditions"].as_array().unwrap();
        conditions.iter().any(|c| c["reason"] == "ProgressDeadlineExceeded")
    })
    .await;
    assert!(web["status"]["availableReplicas"].as_i64().unwrap() >= 3, "{web}");
}

#[tokio::test(start_paused = true)]
async fn endpoints_follow_the_pods() {
    let (sandbox, _controllers) = rolled_out().await;
    let service = json!({
        "metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
    });
    post(&sandbox, "/api/v1/namespaces/shop/services", &service);
    merge(&sandbox, WEB, &json!({"spec": {"replicas": 2}}));
    let ready = |sandbox: &Sandbox| {
        let slices = items(sandbox, SLICES);
        let endpoints = slices.first().and_then(|slice| slice["endpoints"].as_array().cloned());
        let endpoints = endpoints.unwrap_or_default();
        endpoints.iter().filter(|endpoint| endpoint["conditions"]["ready"] == true).count()
    };
    settled(&sandbox, |web| is_complete(web) && ready(&sandbox) == 2).await;
    assert_eq!(items(&sandbox, SLICES)[0]["ports"][0]["port"], 8080);
}

#[tokio::test(start_paused = true)]
async fn dependents_go_with_their_owner_and_a_namespace_with_all_in_it() {
    let (sandbox, _controllers) = rolled_out().await;
    let orphan = json!({"propagationPolicy": "Orphan"});
    assert_eq!(delete(&sandbox, WEB, &orphan).0, 200);
    settled(&sandbox, |web| web["code"] == 404).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(items(&sandbox, PODS).len(), 3, "orphans stay");
    let set = items(&sandbox, SETS)[0]["metadata"]["name"].as_str().unwrap().to_owned();
    delete(&sandbox, &format!("{SETS}/{set}"), &json!({"propagationPolicy": "Foreground"}));
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!((items(&sandbox, SETS).len(), items(&sandbox, PODS).len()), (0, 0));
    post(&sandbox, DEPLOYMENTS, &deployment());
    settled(&sandbox, is_complete).await;
    delete(&sandbox, "/api/v1/namespaces/shop", &json!({}));
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(get(&sandbox, "/api/v1/namespaces/shop").0, 404);
    assert_eq!(put(&sandbox, WEB, &deployment()).0, 404);
}
