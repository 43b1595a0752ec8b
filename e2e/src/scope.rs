//! Which requests Surefoot and kubectl send: recorded from scenarios that between them use all that
//! the controller and the plugin do, and from kubectl's everyday commands. The list is what
//! kube-sandbox must answer.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

use crate::app;
use crate::delivery::{APP, by_services, rollout};
use crate::requests::Requests;
use crate::runner::run_in;
use crate::wait::wait_until;
use crate::world::{Scene, World};
use crate::{scenario, scenarios};

/// Whose requests are recorded. More of them add nothing new.
const SCENARIOS: [&str; 15] = [
    "approval",
    "backtest",
    "break-glass",
    "deleted-midway-revert",
    "history-list",
    "leader-killed",
    "notified",
    "pause-resume",
    "promote-full",
    "promoted-by-subsets",
    "retry",
    "rolled-back-at-10-paused-at-rest",
    "scale-midway",
    "set-image-restart",
    "undo-healthy",
];

const HEAD: &str = "\
# The requests that kube-sandbox answers as the real server does: those of Surefoot's controller and
# plugin, and of kubectl. `make scope` records them on the real server; a test sends each of them.
# Program, method, path and query with placeholders, content type of the body. Of the same forms the
# sandbox answers more; what it doesn't know at all gets 501, by name.
";
const LIMIT: Duration = Duration::from_secs(60);

/// Records the requests and writes the list to `file`; whether all that was recorded went well.
pub async fn scope(file: &Path) -> Result<bool> {
    let mut world = World::start().await?;
    world.requests = Some(Requests::default());
    let world = Arc::new(world);
    let all = scenarios::matching(&[], false);
    let mut chosen: Vec<_> = all.into_iter().filter(|s| SCENARIOS.contains(&s.name)).collect();
    ensure!(chosen.len() == SCENARIOS.len(), "a scenario of that name is gone");
    chosen.push(scenario!("kubectl", kubectl));
    if !run_in(&world, chosen, 2).await? {
        return Ok(false);
    }
    let forms = world.requests.as_ref().map(Requests::forms).unwrap_or_default();
    let text = format!("{HEAD}{}\n", forms.join("\n"));
    std::fs::write(file, text).with_context(|| format!("writing {}", file.display()))?;
    println!("{} requests: {}", forms.len(), file.display());
    Ok(true)
}

/// What people do with kubectl, on an application without a controller.
async fn kubectl(scene: Arc<Scene>) -> Result<()> {
    let folder = scene.world.folders.data.clone();
    let write = |name: &str, text: String| {
        let path = folder.join(name);
        std::fs::write(&path, text).map(|()| path.display().to_string())
    };
    let mut objects = vec![app::deployment(APP, APP, "v1", 2), app::service(APP, "app: shop")];
    objects.extend(by_services(&scene.namespace)?);
    objects.push(rollout(&scene.namespace, &serde_json::json!({})).to_string());
    let applied = write("applied.yaml", objects.join("\n---\n"))?;
    objects[0] = app::deployment(APP, APP, "v2", 2);
    let changed = write("changed.yaml", objects.join("\n---\n"))?;
    let map = r#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "made"}}"#;
    let made = write("made.json", map.to_owned())?;
    let space = r#"{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "made"}}"#;
    let space = write("space.json", space.to_owned())?;
    let kinds = crate::delivery::repository().join("crds").display().to_string();

    let before = format!(
        "apply -f {applied}; apply -f {kinds}; wait --for=condition=Available deployment/shop
         apply -f {changed}; create -f {made}; replace -f {made}; create -f {space}"
    );
    run(&scene, &before).await?;
    watched(&scene).await?;
    run(&scene, COMMANDS).await?;
    run(
        &scene,
        &format!("delete -f {made}; delete -f {space}; delete -f {applied} --ignore-not-found"),
    )
    .await
}

/// By line and semicolon; a word is what is between spaces. (`get all` asks for what discovery lists: of
/// the real server more than is in scope.)
const COMMANDS: &str = "
    api-resources; version; cluster-info; get --raw /healthz
    get deployments; get deployment shop; get deployments -o yaml; get deployment shop -o json
    get rollouts; get rollout shop -o wide; get rolloutactions; get pods -A; get events
    get pods -l app=shop; get replicasets --show-labels; get namespaces; get nodes; get crds
    get pods --field-selector status.phase=Running; get deployments,services
    describe deployment shop; describe rollout shop; describe service shop; describe pods
    describe replicasets
    events; events --for deployment/shop; events --types Warning; events -A
    patch deployment shop --type merge -p {\"metadata\":{\"annotations\":{\"a\":\"b\"}}}
    patch deployment shop -p {\"spec\":{\"minReadySeconds\":1}}
    patch deployment shop --type json -p [{\"op\":\"remove\",\"path\":\"/metadata/annotations/a\"}]
    patch rollout shop --type merge -p {\"spec\":{\"paused\":true}}
    patch rollout shop --type merge --subresource status -p {\"status\":{\"message\":\"m\"}}
    set image deployment/shop shop=registry.test/shop:v3; rollout status deployment/shop
    rollout pause deployment/shop; rollout resume deployment/shop; rollout history deployment/shop
    rollout undo deployment/shop; rollout restart deployment/shop
    scale deployment shop --replicas 3; label deployment shop x=y; annotate rollout shop x=y
    wait --for=jsonpath={.status.replicas}=3 deployment/shop --timeout 60s
    delete pods -l app=shop --wait=false; delete configmap other --ignore-not-found
    delete deployment shop --cascade=orphan; delete replicasets -l app=shop
    wait --for=delete replicasets -l app=shop";

async fn run(scene: &Scene, commands: &str) -> Result<()> {
    for command in commands.split(['\n', ';']).map(str::trim).filter(|c| !c.is_empty()) {
        let output = start(scene, command).await?.output();
        let output = tokio::time::timeout(LIMIT, output)
            .await
            .with_context(|| format!("kubectl {command} doesn't end"))??;
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "kubectl {command}: {error}");
    }
    Ok(())
}

async fn start(scene: &Scene, command: &str) -> Result<Command> {
    let world = &scene.world;
    let kubeconfig = world.way("kubectl", world.control_plane.kubeconfig()).await?;
    let mut kubectl = Command::new(world.folders.bin.join("controlplane"));
    kubectl
        .arg("kubectl")
        .arg(format!("--kubeconfig={}", kubeconfig.display()))
        .arg(format!("--namespace={}", scene.namespace))
        .arg(format!("--cache-dir={}", world.folders.data.join("kubectl").display()))
        .args(command.split_whitespace())
        .kill_on_drop(true);
    Ok(kubectl)
}

/// `kubectl get --watch`, until it watches.
async fn watched(scene: &Scene) -> Result<()> {
    for resource in ["deployments", "rollouts"] {
        let command = format!("get {resource} --watch");
        let mut child = start(scene, &command).await?.stdout(Stdio::null()).spawn()?;
        let asked = format!("/{resource}?");
        wait_until(&format!("kubectl {command} to watch"), LIMIT, || async {
            let forms = scene.world.requests.as_ref().map(Requests::forms).unwrap_or_default();
            Ok(forms.iter().any(|form| {
                form.starts_with("kubectl")
                    && form.contains(&asked)
                    && form.contains("watch=true")
                    && !form.contains("fieldSelector")
            }))
        })
        .await?;
        child.kill().await?;
    }
    Ok(())
}
