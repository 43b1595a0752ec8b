//! How new templates are held, and whether the policy that does so really acts: a dry run of a new
//! template must come back paused.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use surefoot_core::observed::HoldMode;
use surefoot_core::write::Kind;

use crate::client::{CallError, MANAGER, limited, objects};

/// How this controller holds new templates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Hold {
    /// An admission policy pauses the Deployment in the request that changes its template
    /// (Kubernetes 1.36 and later)
    Policy,
    /// Deployments stay paused at rest (Kubernetes 1.32 and later)
    Paused,
}

/// Ask the API server, as `manager`, what would become of a new template: whether it would be held.
///
/// # Errors
/// The call's own.
pub async fn would_hold(
    client: &kube::Client,
    namespace: &str,
    deployment: &str,
    manager: &str,
) -> Result<bool, CallError> {
    let probe = json!({"spec": {"template": {"metadata": {"annotations": {"surefoot.dev/probe": "dry-run"}}}}});
    let params = PatchParams {
        dry_run: true,
        field_manager: Some(manager.to_owned()),
        ..Default::default()
    };
    let api = objects(client, Kind::Deployment, namespace);
    let answer = limited(api.patch(deployment, &params, &Patch::Merge(probe))).await?;
    Ok(answer.data.pointer("/spec/paused") == Some(&Value::Bool(true)))
}

/// What the dry runs have shown, by Rollout.
pub struct Holds {
    hold: Hold,
    probes: Mutex<HashMap<String, Probes>>,
}

/// What the dry runs of one Deployment have shown.
#[derive(Debug, Clone, Copy, Default)]
struct Probes {
    ready: bool,
    made: u32,
}

impl Holds {
    /// Nothing shown yet.
    #[must_use]
    pub fn new(hold: Hold) -> Self {
        Self { hold, probes: Mutex::new(HashMap::new()) }
    }

    /// The mode for a Rollout.
    #[must_use]
    pub fn of(&self, uid: &str) -> HoldMode {
        match self.hold {
            Hold::Paused => HoldMode::PausedAtRest,
            Hold::Policy => HoldMode::Policy { ready: self.probes(uid).ready },
        }
    }

    /// How long to wait for the next dry run, if one is due: longer and longer while the policy
    /// doesn't act (a new one bites after up to 2 s), and none once it does.
    #[must_use]
    pub fn due(&self, uid: &str) -> Option<Duration> {
        let probes = self.probes(uid);
        let wanted = self.hold == Hold::Policy && !probes.ready;
        wanted.then(|| Duration::from_millis(500) * 2u32.saturating_pow(probes.made.min(9)))
    }

    /// Forget a Rollout that is gone.
    pub fn forget(&self, uid: &str) {
        self.probes.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(uid);
    }

    fn probes(&self, uid: &str) -> Probes {
        let probes = self.probes.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        probes.get(uid).copied().unwrap_or_default()
    }

    /// Ask the API server what would become of a new template. Whether it would be held.
    pub async fn probe(
        &self,
        client: &kube::Client,
        namespace: &str,
        deployment: &str,
        uid: &str,
    ) -> bool {
        let paused = match would_hold(client, namespace, deployment, MANAGER).await {
            Ok(paused) => paused,
            Err(error) => {
                tracing::warn!(namespace, deployment, %error, "dry run of a new template failed");
                false
            }
        };
        let mut probes = self.probes.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let before = probes.entry(uid.to_owned()).or_default();
        *before = Probes { ready: paused, made: before.made.saturating_add(1) };
        paused
    }
}
