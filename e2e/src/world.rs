//! Everything that one run shares, and what one scenario has of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use crate::backend::{Behaviour, Behaviours};
use crate::delivery::SUREFOOT;
use crate::load::{Entry, Load, PATIENCE};
use crate::parts::controlplane::ControlPlane;
use crate::parts::kubelet::Kubelet;
use crate::parts::prometheus::{self, Prometheus};
use crate::parts::{Process, envoy, istiod};
use crate::proxy::Proxy;
use crate::record::Recorder;
use crate::requests::Requests;
use crate::way::Way;
use crate::{apply, clock};

/// The folders of one run. Dropping them tidies up.
#[derive(Debug)]
pub struct Folders {
    /// Binaries that `e2e/setup` has made.
    pub bin: PathBuf,
    /// CRDs that `e2e/setup` has copied.
    pub crds: PathBuf,
    /// Logs and records, kept on request.
    pub run: PathBuf,
    /// Databases, keys and rendered configuration: never kept.
    pub data: PathBuf,
    keep: AtomicBool,
}

impl Folders {
    /// Makes the folders of a new run.
    pub fn create() -> Result<Folders> {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let cache = here.parent().unwrap_or(here).join(".cache");
        let name = format!("{}-{}", clock::wall().strftime("%Y%m%d-%H%M%S"), std::process::id());
        let run = here.join("out").join(name);
        let data = run.join("data");
        fs::create_dir_all(&data).with_context(|| format!("creating {}", data.display()))?;
        Ok(Folders {
            bin: cache.join("bin"),
            crds: cache.join("crds"),
            run,
            data,
            keep: AtomicBool::new(false),
        })
    }

    /// Something failed: logs and records are wanted.
    pub fn keep(&self) {
        self.keep.store(true, Ordering::Relaxed);
    }
}

impl Drop for Folders {
    fn drop(&mut self) {
        let folder = if self.keep.load(Ordering::Relaxed) { &self.data } else { &self.run };
        if let Err(error) = fs::remove_dir_all(folder) {
            eprintln!("removing {}: {error}", folder.display());
        }
    }
}

/// A task that ends with its handle.
#[derive(Debug)]
pub struct Task(pub tokio::task::JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The running parts. Dropping it ends them all.
///
/// Fields are dropped in their order: what depends on others comes first.
pub struct World {
    /// The pods' side of the node.
    pub kubelet: Kubelet,
    /// How pods answer, by namespace and image.
    pub behaviours: Behaviours,
    /// The gateway's Envoy.
    pub envoy: Process,
    /// The Envoy of a client within the mesh.
    pub sidecar: Process,
    /// Istio.
    pub istiod: Process,
    /// The gateway's metrics, and those of the pods' proxies.
    pub prometheus: Prometheus,
    /// Tells Prometheus of the pods' proxies.
    pub sidecars: Task,
    /// Where the requests of controllers and plugins are noted, if they are.
    pub requests: Option<Requests>,
    /// An administrator's client.
    pub client: Client,
    /// Kubernetes.
    pub control_plane: ControlPlane,
    /// Where things are.
    pub folders: Folders,
}

impl World {
    /// Starts all parts, those that wait for each other in turn.
    pub async fn start() -> Result<World> {
        let folders = Folders::create()?;
        match World::start_in(&folders).await {
            Ok(parts) => Ok(parts(folders)),
            Err(error) => {
                folders.keep();
                Err(error
                    .context(format!("starting the parts failed, logs: {}", folders.run.display())))
            }
        }
    }

    /// The way to the API server of `program` by this kubeconfig: straight, or where its requests are
    /// noted.
    pub async fn way(&self, program: &'static str, kubeconfig: PathBuf) -> Result<PathBuf> {
        match &self.requests {
            Some(requests) => requests.through(program, &kubeconfig).await,
            None => Ok(kubeconfig),
        }
    }

    /// All parts, still without their folders.
    async fn start_in(folders: &Folders) -> Result<impl FnOnce(Folders) -> World + use<>> {
        let Folders { bin, crds, run, data, .. } = folders;
        let (control_plane, prometheus) = tokio::try_join!(
            ControlPlane::start(bin, data, run),
            Prometheus::start(bin, data, run)
        )?;
        let client = control_plane.client(None).await?;
        install(&client).await?;
        let behaviours = Behaviours::default();
        let sidecars = Task(behaviours.sidecars.clone().serve().await?);
        let mesh = async {
            for file in ["istio.yaml", "gateway-api.yaml"] {
                let crds = fs::read_to_string(crds.join(file))
                    .with_context(|| format!("reading {file} (run e2e/setup)"))?;
                apply::apply_crds(&client, &crds)
                    .await
                    .with_context(|| format!("applying {file}"))?;
            }
            apply::apply_crds(&client, include_str!("../config/linkerd.yaml")).await?;
            apply::apply(&client, "", include_str!("../config/gateway.yaml")).await?;
            let istiod = istiod::start(bin, &control_plane.kubeconfig(), data, run).await?;
            let proxies = tokio::try_join!(
                envoy::start(bin, data, run),
                envoy::start_sidecar(bin, data, run)
            )?;
            Ok((istiod, proxies))
        };
        let (kubelet, (istiod, (envoy, sidecar))) =
            tokio::try_join!(Kubelet::start(client.clone(), behaviours.clone()), mesh)?;
        Ok(move |folders| World {
            kubelet,
            behaviours,
            envoy,
            sidecar,
            istiod,
            prometheus,
            sidecars,
            requests: None,
            client,
            control_plane,
            folders,
        })
    }
}

/// Installs Surefoot's kinds, rights and policies as a user would, from the repository.
async fn install(client: &Client) -> Result<()> {
    let repository = crate::delivery::repository();
    let crds = fs::read_dir(repository.join("crds")).context("reading crds/")?;
    for file in crds {
        let path = file?.path();
        let yaml = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        apply::apply_crds(client, &yaml).await.with_context(|| path.display().to_string())?;
    }
    for file in ["deploy/cluster.yaml", "deploy/policies.yaml"] {
        apply::apply_file(client, "", &repository.join(file)).await?;
    }
    Ok(())
}

/// What one scenario has: the world, a namespace of its own and its record.
pub struct Scene {
    /// The shared parts.
    pub world: Arc<World>,
    /// This scenario's namespace.
    pub namespace: String,
    /// Everything that happened in the namespace.
    pub record: Recorder,
    /// By which kind of route its traffic goes, where the scenario doesn't say itself.
    pub way: Way,
}

impl Scene {
    /// Makes the namespace and starts recording it.
    pub async fn open(world: Arc<World>, name: &str, way: Way) -> Result<Scene> {
        let namespace = name.to_owned();
        apply::namespace(&world.client, &namespace, json!({})).await?;
        let record = Recorder::start(&world.client, &namespace).await?;
        Ok(Scene { world, namespace, record, way })
    }

    /// Leaves nothing behind in the cluster. (The namespace goes on its own.)
    pub async fn close(self) -> Result<()> {
        let namespaces = Api::<Namespace>::all(self.world.client.clone());
        match namespaces.delete(&self.namespace, &DeleteParams::default()).await {
            // The scenario has done that itself.
            Err(kube::Error::Api(status)) if status.is_not_found() => return Ok(()),
            other => other.map(drop)?,
        }
        // No controller is there any more to take its finalizers off, and the namespace would be tried
        // again and again for as long as the cluster lives.
        let rollouts = self.api(SUREFOOT, "Rollout").await?;
        for rollout in rollouts.list(&ListParams::default()).await? {
            let bare = Patch::Merge(json!({"metadata": {"finalizers": null}}));
            match rollouts.patch(&rollout.name_any(), &PatchParams::default(), &bare).await {
                Err(kube::Error::Api(status)) if status.is_not_found() => {}
                other => other.map(drop)?,
            }
        }
        Ok(())
    }

    /// Writes the record to the run folder, for whoever looks into a failure.
    pub fn dump(&self) -> Result<PathBuf> {
        let file = self.world.folders.run.join(format!("{}.jsonl", self.namespace));
        fs::write(&file, self.record.dump())
            .with_context(|| format!("writing {}", file.display()))?;
        Ok(file)
    }

    /// An administrator's client.
    pub fn client(&self) -> &Client {
        &self.world.client
    }

    /// Applies YAML; see [`apply::apply`].
    pub async fn apply(&self, yaml: &str) -> Result<Vec<DynamicObject>> {
        apply::apply(self.client(), &self.namespace, yaml).await
    }

    /// The API for a kind, in this namespace.
    pub async fn api(&self, api_version: &str, kind: &str) -> Result<Api<DynamicObject>> {
        let object = json!({"apiVersion": api_version, "kind": kind});
        apply::api(self.client(), &self.namespace, &object).await
    }

    /// An object as the API server has it.
    pub async fn get(&self, api_version: &str, kind: &str, name: &str) -> Result<Value> {
        let object = self.api(api_version, kind).await?.get(name).await?;
        Ok(serde_json::to_value(object)?)
    }

    /// Changes an object by merge patch.
    pub async fn merge(
        &self,
        api_version: &str,
        kind: &str,
        name: &str,
        patch: Value,
    ) -> Result<()> {
        let api = self.api(api_version, kind).await?;
        api.patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .with_context(|| format!("patching {kind} {name}"))?;
        Ok(())
    }

    /// Sets how the pods of an image answer from now on.
    pub fn behave(&self, image: &str, behaviour: Behaviour) {
        self.world.behaviours.set(&self.namespace, image, behaviour);
    }

    /// The host name under which clients reach `app` of this scenario.
    pub fn host(&self, entry: Entry, app: &str) -> String {
        match entry {
            Entry::Gateway | Entry::Public => format!("{app}.{}.test", self.namespace),
            Entry::Sidecar | Entry::Linkerd(_) => {
                format!("{app}.{}.svc.cluster.local", self.namespace)
            }
        }
    }

    /// Starts requests for `app` through the gateway.
    pub fn load(&self, app: &str, per_second: u32) -> Result<Load> {
        let entry = Entry::Gateway;
        Load::start(entry, &self.host(entry, app), per_second, PATIENCE)
    }

    /// A way to Prometheus that this scenario alone may cut.
    pub async fn prometheus_proxy(&self) -> Result<Proxy> {
        Proxy::start(prometheus::ADDRESS.parse()?).await
    }
}
