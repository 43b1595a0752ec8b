//! An application in a cluster, as whoever follows its releases sees it.

use anyhow::{Context, Result};
use serde_json::json;
use surefoot_core::api::Rollout;
use surefoot_core::api::rollout::RouteKind;
use surefoot_core::api::status::{Outcome, PastRelease, Phase, RolloutStatus};
use surefoot_core::routing::Routing;

use super::app::App;
use super::cluster::Cluster;
use super::route;
use super::timeline::Timeline;

/// What an application's objects are called.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The namespace of all.
    pub namespace: String,
    /// The Rollout.
    pub rollout: String,
    /// The Deployment.
    pub target: String,
    /// The kind of its route; of several the first one.
    pub kind: RouteKind,
    /// The route.
    pub route: String,
    /// Kinds and names of the others.
    pub more: Vec<(RouteKind, String)>,
}

impl Delivery {
    /// Of an application.
    ///
    /// # Errors
    /// When its spec can't be read.
    pub fn of(app: &App) -> Result<Self> {
        let spec = app.rollout()?;
        let routing = Routing::of(&spec.traffic);
        Ok(Self {
            namespace: app.namespace.clone(),
            rollout: app.name.clone(),
            target: spec.target_ref.name.clone(),
            kind: routing.kind,
            more: routing.more.into_iter().map(|route| (route.kind, route.name)).collect(),
            route: routing.route,
        })
    }

    /// Where its objects of a kind are.
    #[must_use]
    pub fn path(&self, api: &str, plural: &str) -> String {
        format!("{api}/namespaces/{}/{plural}", self.namespace)
    }

    /// Where its route is.
    #[must_use]
    pub fn route_path(&self) -> String {
        format!("{}/{}", route::path(self.kind, Some(&self.namespace)), self.route)
    }

    /// Where all of its routes are.
    #[must_use]
    pub fn route_paths(&self) -> Vec<String> {
        let path = |(kind, name): &(RouteKind, String)| {
            format!("{}/{name}", route::path(*kind, Some(&self.namespace)))
        };
        std::iter::once(self.route_path()).chain(self.more.iter().map(path)).collect()
    }

    /// Where its Deployment is.
    #[must_use]
    pub fn deployment_path(&self) -> String {
        self.path("/apis/apps/v1", "deployments/") + &self.target
    }

    /// The Rollout.
    ///
    /// # Errors
    /// When somebody has deleted it.
    pub fn rollout(&self, cluster: &Cluster) -> Result<Rollout> {
        let path = self.path("/apis/surefoot.dev/v1alpha1", "rollouts/") + &self.rollout;
        serde_json::from_value(cluster.get(&path))
            .with_context(|| format!("Rollout {:?} is gone", self.rollout))
    }

    /// Whether the controller has looked at it and holds what will be released: a template that comes
    /// before would roll out natively.
    #[must_use]
    pub fn is_ready(&self, cluster: &Cluster) -> bool {
        let phase = self.rollout(cluster).ok().and_then(|r| r.status).map(|status| status.phase);
        let held = cluster.get(&self.deployment_path())["spec"]["paused"] == true;
        held && phase == Some(Phase::Healthy)
    }

    /// Set a version, which begins a release.
    ///
    /// # Errors
    /// When that is refused.
    pub fn set_version(&self, cluster: &Cluster, version: &str) -> Result<()> {
        let template = App::template(&self.target, version);
        cluster.merge(&self.deployment_path(), &json!({"spec": {"template": template}}))
    }

    /// The canary's share of the route, per cent.
    #[must_use]
    pub fn weight(&self, cluster: &Cluster) -> i64 {
        route::weight(&cluster.get(&self.route_path()))
    }

    /// What happens to it from now on.
    #[must_use]
    pub fn timeline(&self, cluster: &Cluster) -> Timeline {
        Timeline::new(self.clone(), cluster.clock.now(), cluster.api.version())
    }
}

/// The latest release after `before` that is over: at rest, and everybody has been told.
#[must_use]
pub fn ended(status: &RolloutStatus, before: i64) -> Option<&PastRelease> {
    let rests = matches!(status.phase, Phase::Healthy | Phase::Degraded);
    let mut history = status.history.iter().filter(|_| rests && status.outbox.is_empty());
    // A native rollout is remembered under the number of the release before it.
    history.find(|past| past.number > before && past.outcome != Outcome::Outside)
}
