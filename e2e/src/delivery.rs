//! A release under test: an application, its Rollout, a controller of its own, and load; and what
//! can be done to them.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::{Value, json};
use surefoot_core::api::RolloutStatus;
use surefoot_core::api::status::{Phase, WaitingKind};
use surefoot_core::routing::Routing;
use surefoot_core::trace::{Event, Names, check};

use crate::api_proxy::ApiProxy;
use crate::app::{self, ISTIO};
use crate::apply;
use crate::backend::Behaviour;
use crate::controllers::{self, Another};
use crate::linkerd::{INJECT, Linkerd};
use crate::load::{Entry, Load, PATIENCE, Report, Sample};
use crate::parts::{Launch, Process};
use crate::proxy::Proxy;
use crate::record::Change;
use crate::runner::Violations;
use crate::wait::{wait_for, wait_until};
use crate::way::{GATEWAY_API, KIND, Way, by_rules};
use crate::world::Scene;

/// The API version of our kinds.
pub const SUREFOOT: &str = "surefoot.dev/v1alpha1";
/// The application of every scenario.
pub const APP: &str = "shop";
/// The user that the controller is.
pub const CONTROLLER: &str = "system:serviceaccount:surefoot-system:surefoot";
/// No release here takes longer.
pub const LIMIT: Duration = Duration::from_secs(150);

/// How a scenario differs from the usual.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Requests per second.
    pub rate: u32,
    /// By which proxy they come.
    pub entry: Entry,
    /// How long a client waits for an answer.
    pub patience: Duration,
    /// Pods.
    pub replicas: u32,
    /// Whether Deployments are held by staying paused at rest.
    pub paused_at_rest: bool,
    /// Merged over the usual spec of the Rollout.
    pub spec: Value,
    /// Annotations of the pods, for what the kubelet makes of them.
    pub pod_annotations: Value,
    /// Environment of the controller.
    pub environment: Vec<(&'static str, &'static str)>,
    /// Services, route and all else that the traffic goes by, in a namespace.
    pub routing: fn(&str) -> Result<Vec<String>>,
    /// Whether the controller goes by an [`ApiProxy`], and the seed of that.
    pub proxied: Option<u64>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            rate: 200,
            entry: Entry::Gateway,
            patience: PATIENCE,
            replicas: 4,
            paused_at_rest: false,
            spec: json!({}),
            pod_annotations: json!({}),
            environment: Vec::new(),
            routing: by_services,
            proxied: None,
        }
    }
}

impl Setup {
    /// The same by an HTTPRoute of the Service on Istio, for callers within.
    #[must_use]
    pub fn by_http_route(self) -> Self {
        let spec = over(Way::HttpRoute.spec(), &self.spec);
        Self { entry: Entry::Sidecar, spec, routing: by_rules, ..self }
    }

    /// The same on Linkerd.
    #[must_use]
    pub fn on_linkerd(self, linkerd: &Linkerd) -> Self {
        let spec = over(Way::Linkerd.spec(), &self.spec);
        let pod_annotations = json!({INJECT: "enabled"});
        Self { entry: linkerd.entry(), spec, routing: by_rules, pod_annotations, ..self }
    }
}

fn over(mut usual: Value, own: &Value) -> Value {
    merge(&mut usual, own);
    usual
}

/// One application being delivered.
pub struct Delivery {
    /// Its namespace and record.
    pub scene: Arc<Scene>,
    /// The way to Prometheus.
    pub prometheus: Proxy,
    /// Requests from outside.
    pub load: Load,
    /// The controller's way to the API server, where it has one of its own.
    pub api: Option<ApiProxy>,
    _linkerd: Option<Linkerd>,
    setup: Setup,
    kubeconfig: PathBuf,
    controller: Mutex<Option<Process>>,
    port: u16,
    starts: Mutex<u32>,
}

/// The network is ours alone: a range of ports is as good as any.
static PORTS: AtomicU16 = AtomicU16::new(20_000);

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A Service for each version, and a route between them.
///
/// # Errors
/// None: what is written here parses.
pub fn by_services(namespace: &str) -> Result<Vec<String>> {
    let service = |name| app::service(name, &format!("app: {APP}"));
    Ok(vec![service("shop-stable"), service("shop-canary"), route(namespace)?.to_string()])
}

/// The route between two Services.
///
/// # Errors
/// None: what is written here parses.
pub fn route(namespace: &str) -> Result<Value> {
    let mut route: Value = serde_saphyr::from_str(&app::route(namespace, APP))?;
    // With a timeout of its own a route lets a step pass sooner.
    route["spec"]["http"][0]["timeout"] = json!("2s");
    Ok(route)
}

/// The Rollout that most scenarios use: quick steps, generous tolerances.
#[must_use]
pub fn rollout(namespace: &str, spec: &Value) -> Value {
    let mut rollout = json!({
        "apiVersion": SUREFOOT, "kind": "Rollout", "metadata": {"name": APP, "namespace": namespace},
        "spec": {
            "targetRef": {"kind": "Deployment", "name": APP},
            "traffic": {
                "mesh": "istio", "service": APP, "propagationDelay": "1s",
                "routes": [{"kind": "VirtualService", "name": APP}],
            },
            "steps": [{"weight": 10}, {"weight": 50}, {"weight": 100}],
            "gate": {
                "minDuration": "4s", "maxDuration": "60s", "minRequests": 30,
                "settle": "1s", "warmUp": "1s",
            },
            "analysis": {
                "sourceRef": {"kind": "MetricsSource", "name": "default"},
                "metrics": [{"name": "success-rate", "successRate": {"maxDrop": "5pp"}}],
                "noDataPolicy": {"after": "5s"},
            },
            "scaleDownDelay": "1s",
            "progressDeadline": "1m",
        },
    });
    merge(&mut rollout["spec"], spec);
    rollout
}

/// RFC 7396, without the removals.
fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}

/// A scenario that is played by another kind of route than it was written for.
async fn by_its_way(scene: &Scene, setup: Setup) -> Result<(Setup, Option<Linkerd>)> {
    Ok(match scene.way {
        Way::VirtualService => (setup, None),
        Way::HttpRoute => (setup.by_http_route(), None),
        Way::Linkerd => {
            let linkerd = Linkerd::start(scene).await?;
            (setup.on_linkerd(&linkerd), Some(linkerd))
        }
    })
}

impl Delivery {
    /// Version v1 runs, the Rollout has adopted it, and requests are being answered.
    pub async fn start(scene: Arc<Scene>, setup: Setup) -> Result<Self> {
        let delivery = Self::before(scene, setup).await?;
        delivery.apply_rollout().await?;
        delivery.rests().await.context("the first look")?;
        Ok(delivery)
    }

    /// The same before there is a Rollout.
    pub async fn before(scene: Arc<Scene>, setup: Setup) -> Result<Self> {
        let (setup, linkerd) = by_its_way(&scene, setup).await?;
        let namespace = scene.namespace.clone();
        if setup.paused_at_rest {
            let label = json!({"metadata": {"labels": {"surefoot.dev/hold": "paused"}}});
            scene.merge("v1", "Namespace", &namespace, label).await?;
        }
        apply::apply_file(scene.client(), &namespace, &repository().join("deploy/namespace.yaml"))
            .await?;
        let prometheus = scene.prometheus_proxy().await?;
        let mut deployment: Value =
            serde_saphyr::from_str(&app::deployment(APP, APP, "v1", setup.replicas))?;
        deployment["spec"]["template"]["metadata"]["annotations"] = setup.pod_annotations.clone();
        let source = json!({
            "apiVersion": SUREFOOT, "kind": "MetricsSource", "metadata": {"name": "default"},
            "spec": {"prometheus": {"url": prometheus.url()}},
        });
        let mut objects = vec![deployment.to_string(), source.to_string()];
        objects.push(app::service(APP, &format!("app: {APP}")));
        objects.extend((setup.routing)(&namespace)?);
        scene.apply(&objects.join("\n---\n")).await?;
        app::available(&scene, APP).await?;
        let load = serving(&scene, &setup).await?;
        let kubeconfig = scene.world.folders.data.join(format!("{namespace}.kubeconfig"));
        let (kubeconfig, api) = match setup.proxied {
            Some(seed) => {
                let client = scene.world.control_plane.client(Some(CONTROLLER)).await?;
                let proxy = ApiProxy::start(client, seed).await?;
                proxy.kubeconfig(&kubeconfig)?;
                (kubeconfig, Some(proxy))
            }
            None => {
                scene.world.control_plane.kubeconfig_for(CONTROLLER, &kubeconfig)?;
                (scene.world.way("controller", kubeconfig).await?, None)
            }
        };
        lease_role(&scene).await?;
        let delivery = Self {
            scene,
            prometheus,
            load,
            api,
            _linkerd: linkerd,
            setup,
            kubeconfig,
            controller: Mutex::new(None),
            port: PORTS.fetch_add(1, Ordering::Relaxed),
            starts: Mutex::new(0),
        };
        delivery.start_controller()?;
        Ok(delivery)
    }

    /// Wait until a step waits for a person and for nothing else.
    pub async fn awaits_approval(&self, step: i32) -> Result<RolloutStatus> {
        self.until(&format!("step {step} to wait for a person alone"), |s| {
            let waits: Vec<WaitingKind> = s.waiting_on.iter().map(|w| w.kind).collect();
            s.step.as_ref().is_some_and(|s| s.index == step)
                && s.phase == Phase::Paused
                && waits == [WaitingKind::Approval]
        })
        .await
    }

    /// The canary's weight on the only entry of the Rollout's first route.
    pub async fn canary_weight(&self) -> Result<i64> {
        Ok(canary_weight(&self.route().await?))
    }

    /// The Rollout's first route.
    pub async fn route(&self) -> Result<Value> {
        let spec = rollout(&self.scene.namespace, &self.setup.spec);
        let route = &spec["spec"]["traffic"]["routes"][0];
        let text = |field: &str| route[field].as_str().unwrap_or_default().to_owned();
        let api = if route["kind"] == KIND { GATEWAY_API } else { ISTIO };
        self.scene.get(api, &text("kind"), &text("name")).await
    }

    /// Make the Rollout.
    pub async fn apply_rollout(&self) -> Result<()> {
        let rollout = rollout(&self.scene.namespace, &self.setup.spec);
        self.scene.apply(&rollout.to_string()).await?;
        Ok(())
    }

    /// Start the controller (again). A restarted container keeps its pod's name, so it need not wait
    /// for its own lease.
    pub fn start_controller(&self) -> Result<()> {
        let process = self.launch(&self.scene.namespace, self.port, &self.kubeconfig)?;
        *lock(&self.controller) = Some(process);
        Ok(())
    }

    /// Start another controller with a name of its own, and a straight way to the API server.
    pub fn start_another(&self) -> Result<Another> {
        let namespace = &self.scene.namespace;
        let kubeconfig = self.scene.world.folders.data.join(format!("{namespace}-2.kubeconfig"));
        self.scene.world.control_plane.kubeconfig_for(CONTROLLER, &kubeconfig)?;
        let port = PORTS.fetch_add(1, Ordering::Relaxed);
        let process = self.launch(&format!("{namespace}-2"), port, &kubeconfig)?;
        Ok(Another { process, port })
    }

    fn launch(&self, identity: &str, port: u16, kubeconfig: &std::path::Path) -> Result<Process> {
        let mut starts = lock(&self.starts);
        *starts += 1;
        let namespace = &self.scene.namespace;
        let name = format!("surefoot-{namespace}-{starts}");
        let own = std::env::current_exe().context("where this program is")?;
        let hold = if self.setup.paused_at_rest { "paused" } else { "policy" };
        let args = [
            format!("--kubeconfig={}", kubeconfig.display()),
            "controller".to_owned(),
            format!("--namespace={namespace}"),
            format!("--lease-namespace={namespace}"),
            format!("--hold={hold}"),
            format!("--listen=127.0.0.1:{port}"),
            format!("--identity={identity}"),
        ];
        let mut environment = self.setup.environment.clone();
        if environment.iter().all(|(name, _)| *name != "RUST_LOG") {
            environment.push(("RUST_LOG", "info,kube_runtime=warn"));
        }
        Process::start(Launch {
            name: &name,
            binary: &own.with_file_name("surefoot"),
            args: args.into(),
            env: &environment,
            logs: &self.scene.world.folders.run,
            piped: false,
        })
    }

    /// Freeze the controller (SIGSTOP).
    pub fn freeze_controller(&self) -> Result<()> {
        lock(&self.controller).as_ref().context("no controller is running")?.freeze()
    }

    /// Let the frozen controller go on.
    pub fn thaw_controller(&self) -> Result<()> {
        lock(&self.controller).as_ref().context("no controller is running")?.thaw()
    }

    /// The controller's way to the API server.
    pub fn api(&self) -> Result<&ApiProxy> {
        self.api.as_ref().context("the controller has no proxy")
    }

    /// Kill the controller (SIGKILL) and forget it.
    pub fn kill_controller(&self) {
        // Dropping a process kills it and waits.
        drop(lock(&self.controller).take());
    }

    /// What the controllers of this scenario have logged, line by line.
    pub fn logged(&self) -> Result<Vec<Value>> {
        let mut lines = Vec::new();
        for start in 1..=*lock(&self.starts) {
            let name = format!("surefoot-{}-{start}.log", self.scene.namespace);
            let text = std::fs::read_to_string(self.scene.world.folders.run.join(&name))
                .with_context(|| format!("reading {name}"))?;
            lines.extend(text.lines().filter_map(|line| serde_json::from_str(line).ok()));
        }
        Ok(lines)
    }

    /// Make `version` the Deployment's image.
    pub async fn set_version(&self, version: &str) -> Result<()> {
        let image = app::image(APP, version);
        let patch = json!([
            {"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": image},
            {"op": "replace", "path": "/spec/template/metadata/labels/version", "value": version},
        ]);
        let patch: json_patch::Patch = serde_json::from_value(patch)?;
        let api = self.scene.api("apps/v1", "Deployment").await?;
        api.patch(APP, &kube::api::PatchParams::default(), &kube::api::Patch::Json::<()>(patch))
            .await
            .context("setting the image")?;
        Ok(())
    }

    /// How `version` answers from now on.
    pub fn behave(&self, version: &str, behaviour: Behaviour) {
        self.scene.behave(&app::image(APP, version), behaviour);
    }

    /// The Rollout.
    pub async fn rollout(&self) -> Result<Value> {
        self.scene.get(SUREFOOT, "Rollout", APP).await
    }

    /// Its status.
    pub async fn status(&self) -> Result<RolloutStatus> {
        let status = self.rollout().await?.get("status").cloned().unwrap_or_else(|| json!({}));
        serde_json::from_value(status).context("reading the status")
    }

    /// Wait until the status is as wanted.
    pub async fn until(
        &self,
        what: &str,
        wanted: impl Fn(&RolloutStatus) -> bool,
    ) -> Result<RolloutStatus> {
        self.within(LIMIT, what, wanted).await
    }

    /// The same with a limit of one's own.
    pub async fn within(
        &self,
        limit: Duration,
        what: &str,
        wanted: impl Fn(&RolloutStatus) -> bool,
    ) -> Result<RolloutStatus> {
        let wanted = &wanted;
        let seen = wait_for(what, limit, || async {
            let status = self.status().await?;
            Ok(wanted(&status).then_some(status))
        })
        .await;
        match seen {
            Ok(status) => Ok(status),
            Err(error) => {
                let status = self.status().await?;
                let waits: Vec<_> = status.waiting_on.iter().map(|w| &w.message).collect();
                Err(error.context(format!("now {:?}: {} {waits:?}", status.phase, status.message)))
            }
        }
    }

    /// Wait until what runs has been adopted and the hold is ready.
    pub async fn rests(&self) -> Result<RolloutStatus> {
        self.until("the Rollout to be at rest", |s| {
            let hold = s.conditions.iter().find(|c| c.kind == "HoldReady");
            s.phase == Phase::Healthy
                && hold
                    .is_some_and(|h| h.status == surefoot_core::api::status::ConditionStatus::True)
        })
        .await
    }

    /// Wait until `step` has its weight in force.
    pub async fn in_step(&self, step: i32) -> Result<RolloutStatus> {
        self.until(&format!("step {step} to be judged"), |s| {
            s.step.as_ref().is_some_and(|at| at.index == step && at.started_at.is_some())
        })
        .await
    }

    /// Wait until release `number` is promoted.
    pub async fn promoted(&self, number: i64) -> Result<RolloutStatus> {
        let status = self
            .until(&format!("release {number} to be promoted"), |s| {
                ended(s, number) && s.phase != Phase::Promoting && s.canary.is_none()
            })
            .await?;
        ensure!(
            status.phase == Phase::Healthy,
            "release {number} is {:?}: {}",
            status.phase,
            status.message
        );
        Ok(status)
    }

    /// Wait until release `number` is rolled back, and say why.
    pub async fn rolled_back(&self, number: i64) -> Result<RolloutStatus> {
        let status = self
            .until(&format!("release {number} to be rolled back"), |s| ended(s, number))
            .await?;
        let last = status.history.first().context("no history")?;
        ensure!(
            last.outcome == surefoot_core::api::status::Outcome::RolledBack,
            "release {number} ended {:?}: {}",
            last.outcome,
            last.why
        );
        Ok(status)
    }

    /// A command, as the plugin would give it, by an administrator.
    pub async fn command(&self, action: &str) -> Result<()> {
        self.command_named(action, action).await
    }

    /// The same under a name, where there are several of one kind for a step.
    pub async fn command_named(&self, action: &str, name: &str) -> Result<()> {
        let rollout = self.rollout().await?;
        let status = self.status().await?;
        let step = status.step.map_or(0, |s| s.index);
        let release = status.release.context("no release")?.number;
        let object = json!({
            "apiVersion": SUREFOOT, "kind": "RolloutAction",
            "metadata": {"name": format!("{APP}-{release}-{step}-{name}")},
            "spec": {
                "rollout": APP, "uid": rollout["metadata"]["uid"], "release": release, "step": step,
                "action": action, "requestedBy": "admin",
            },
        });
        self.scene.apply(&object.to_string()).await?;
        Ok(())
    }

    /// The real kubectl, as an administrator; its standard output.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let binary = self.scene.world.folders.bin.join("controlplane");
        let output = tokio::process::Command::new(binary)
            .arg("kubectl")
            .arg(format!("--kubeconfig={}", self.scene.world.control_plane.kubeconfig().display()))
            .arg(format!("--namespace={}", self.scene.namespace))
            .args(arguments)
            .output()
            .await
            .context("running kubectl")?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        ensure!(
            output.status.success(),
            "kubectl {}: {}",
            arguments.join(" "),
            text(&output.stderr)
        );
        Ok(text(&output.stdout))
    }

    /// Names and uids of the pods of a version that are ready or not being deleted.
    pub async fn pods(&self, version: &str) -> Result<Vec<String>> {
        let parameters = kube::api::ListParams::default().labels(&format!("version={version}"));
        let pods = self.scene.api("v1", "Pod").await?.list(&parameters).await?;
        let living = pods.items.into_iter().filter(|p| p.metadata.deletion_timestamp.is_none());
        let mut uids: Vec<String> = living.filter_map(|p| p.metadata.uid).collect();
        uids.sort();
        Ok(uids)
    }

    /// Everything is at rest on `version`: the Deployment complete and (unless that is how it is
    /// held) resumed, the Services unpinned, all answers from that version.
    pub async fn rests_on(&self, version: &str) -> Result<()> {
        let paused = self.setup.paused_at_rest;
        wait_until(&format!("everything to rest on {version}"), LIMIT, || async {
            let deployment = self.scene.get("apps/v1", "Deployment", APP).await?;
            let replicas = &deployment["spec"]["replicas"];
            let status = &deployment["status"];
            let complete =
                status["updatedReplicas"] == *replicas && status["replicas"] == *replicas;
            let held = deployment["spec"]["paused"] == true;
            Ok(complete
                && held == paused
                && self.pods(version).await?.len() as u64 == replicas.as_u64().unwrap_or(0))
        })
        .await?;
        for (version, kind) in [("v1", "Service"), (ISTIO, "DestinationRule")] {
            let all = self.scene.api(version, kind).await?.list(&Default::default()).await?;
            for object in all.items {
                let pinned = object.data["spec"].to_string().contains("pod-template-hash");
                ensure!(!pinned, "{kind} {:?} is still pinned", object.metadata.name);
            }
        }
        // After a native rollout the proxies still send to pods that are on their way out.
        let start = self.load.elapsed();
        wait_until(&format!("50 answers in a row from {version}"), LIMIT, || async {
            let report = self.load.report().since(start);
            let others = |s: &Sample| s.version.as_deref() != Some(version);
            let since = report.samples.iter().rposition(others).map_or(0, |last| last + 1);
            Ok(report.samples.len() - since >= 50)
        })
        .await
    }

    /// The first release is promoted to v2, everything rests on that, no request was lost on the way, and
    /// no invariant was broken.
    pub async fn goes_through(&self) -> Result<()> {
        self.promoted(1).await?;
        self.rests_on("v2").await?;
        self.nothing_lost(&[])?;
        self.audit()?;
        Ok(())
    }

    /// No request failed but those that a version was told to fail.
    pub fn nothing_lost(&self, told: &[&str]) -> Result<Report> {
        let report = self.load.report();
        let planned: usize = told.iter().map(|v| report.version(v).failed).sum();
        let lost = report.total().failed.saturating_sub(planned);
        ensure!(lost == 0, "{lost} requests failed by the release: {:?}", report.failures());
        Ok(report)
    }

    /// Wait until every pod of stable has told Prometheus of requests, as its proxy would.
    pub async fn pods_scraped(&self) -> Result<()> {
        let namespace = &self.scene.namespace;
        let answered = match self.scene.way {
            Way::VirtualService | Way::HttpRoute => format!(
                "istio_requests_total{{reporter=\"destination\", \
                 destination_workload_namespace={namespace:?}}}"
            ),
            Way::Linkerd => {
                format!("response_total{{direction=\"inbound\", namespace={namespace:?}}}")
            }
        };
        let pods = format!("count by (pod) ({answered})");
        let all = self.setup.replicas as usize;
        let told = || async { Ok(self.scene.world.prometheus.query(&pods).await?.len() >= all) };
        wait_until("stable's proxies to be scraped", LIMIT, told).await
    }

    /// The trace of accepted writes breaks no invariant.
    pub fn audit(&self) -> Result<usize> {
        self.audit_up_to(u64::MAX)
    }

    /// The same up to a revision, where that is all that can be asked for.
    pub fn audit_up_to(&self, revision: u64) -> Result<usize> {
        let traffic = rollout(&self.scene.namespace, &self.setup.spec)["spec"]["traffic"].clone();
        let traffic = serde_json::from_value(traffic).context("reading spec.traffic")?;
        let names = Names {
            rollout: APP.into(),
            deployment: APP.into(),
            routing: Routing::of(&traffic),
            namespace: self.scene.namespace.clone(),
        };
        let entries = self.scene.record.entries()?;
        let events: Vec<Event> = entries
            .iter()
            .filter(|e| e.version <= revision)
            .filter_map(|e| {
                Event::of(&with_kind(e.resource, &e.object), e.change == Change::Deleted, &names)
            })
            .collect();
        ensure!(!events.is_empty(), "nothing was recorded");
        let violations = check(&events);
        if !violations.is_empty() {
            let told: Vec<String> = violations.iter().take(5).map(ToString::to_string).collect();
            bail!(Violations { count: violations.len(), told: told.join("; ") });
        }
        Ok(events.len())
    }

    /// The controller's own metrics: the value of a series, by how its line begins.
    pub async fn metric(&self, series: &str) -> Result<f64> {
        Ok(self
            .metrics()
            .await?
            .iter()
            .filter(|(name, _)| name.starts_with(series))
            .map(|(_, v)| v)
            .sum())
    }

    /// All of the controller's own metrics.
    pub async fn metrics(&self) -> Result<Vec<(String, f64)>> {
        controllers::metrics(self.port).await
    }

    /// The controller must still be the process that was started.
    pub fn controller_lives(&self) -> Result<i32> {
        let mut controller = lock(&self.controller);
        let process = controller.as_mut().ok_or_else(|| anyhow!("no controller is running"))?;
        ensure!(!process.has_ended()?, "the controller has died");
        Ok(process.pid())
    }
}

fn ended(status: &RolloutStatus, number: i64) -> bool {
    status.history.iter().any(|past| past.number == number)
        && matches!(status.phase, Phase::Healthy | Phase::Degraded)
}

/// The canary's weight on the only entry of a route, -1 where it has none.
#[must_use]
pub fn canary_weight(route: &Value) -> i64 {
    let spec = &route["spec"];
    let to = if spec["rules"].is_array() {
        &spec["rules"][0]["backendRefs"][1]
    } else {
        &spec["http"][0]["route"][1]
    };
    to["weight"].as_i64().unwrap_or(-1)
}

/// List items carry no kind; the checker goes by it.
fn with_kind(resource: &str, object: &Value) -> Value {
    let kind = match resource {
        "rollouts" => "Rollout",
        "rolloutactions" => "RolloutAction",
        "deployments" => "Deployment",
        "replicasets" => "ReplicaSet",
        "services" => "Service",
        "endpointslices" => "EndpointSlice",
        "virtualservices" => "VirtualService",
        "httproutes" => "HTTPRoute",
        "destinationrules" => "DestinationRule",
        _ => "",
    };
    let mut object = object.clone();
    object["kind"] = json!(kind);
    object
}

/// The repository that this program was built from.
#[must_use]
pub fn repository() -> PathBuf {
    let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

async fn serving(scene: &Scene, setup: &Setup) -> Result<Load> {
    let host = scene.host(setup.entry, APP);
    let probe = Load::start(setup.entry, &host, 20, PATIENCE)?;
    wait_until("the route to work", Duration::from_secs(60), || async {
        Ok(probe.report().version("v1").requests > 0)
    })
    .await?;
    drop(probe);
    Load::start(setup.entry, &host, setup.rate, setup.patience)
}

/// The controller keeps its Lease in its scenario's namespace: each has one of its own.
async fn lease_role(scene: &Scene) -> Result<()> {
    let yaml = std::fs::read_to_string(repository().join("deploy/cluster.yaml"))?;
    let objects: Vec<Value> = serde_saphyr::from_multiple(&yaml)?;
    for mut object in objects {
        let kind = object["kind"].as_str().unwrap_or_default();
        if matches!(kind, "Role" | "RoleBinding") {
            object["metadata"]["namespace"] = json!(scene.namespace);
            scene.apply(&object.to_string()).await?;
        }
    }
    Ok(())
}
