//! What a controller sees: watched copies that may lag behind, kind by kind, and its own last
//! writes.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;
use surefoot_core::api::Rollout;
use surefoot_core::mark::Mark;
use surefoot_core::observed::{Deployment, HoldMode, Observed, ReplicaSet, Route, Service};
use surefoot_core::plan::{Templates, resolve};
use surefoot_core::route::istio::{self, Host};
use surefoot_core::route::{RouteProblem, Weights};
use surefoot_core::trace::Names;
use surefoot_core::write::{Kind, Target, epoch_of};

use super::store::{Key, Moment, NAMESPACE, Objects, text};

const KINDS: [&str; 7] = [
    "Rollout",
    "Deployment",
    "ReplicaSet",
    "Service",
    "EndpointSlice",
    "VirtualService",
    "RolloutAction",
];

/// How many moments each kind's watch is behind.
pub type Lags = [u8; KINDS.len()];

fn version(object: &Value) -> u64 {
    text(object, "/metadata/resourceVersion").parse().unwrap_or(0)
}

#[derive(Default)]
pub struct Cache {
    /// How far each watch has come: the moment and its resourceVersion.
    places: BTreeMap<&'static str, (usize, u64)>,
    wrote: BTreeMap<Key, Arc<Value>>,
    now: Objects,
    weights: Option<(Weights, Timestamp)>,
    pub lags: Lags,
    /// Until when canary pods are being taken away.
    pub disrupted_until: Option<Timestamp>,
}

impl Cache {
    /// A new process lists first: nothing is behind then.
    pub fn start(history: &[Moment]) -> Self {
        let mut cache = Self::default();
        cache.follow(history);
        cache
    }

    /// Let the watches bring what they bring.
    pub fn follow(&mut self, history: &[Moment]) {
        let mut now = Objects::new();
        for (kind, lag) in KINDS.into_iter().zip(self.lags) {
            let (place, seen) = self.places.entry(kind).or_default();
            // A watch never goes back.
            *place = (*place).max(history.len().saturating_sub(1 + usize::from(lag)));
            let Some(moment) = history.get(*place) else { continue };
            *seen = moment.revision;
            let objects = moment.objects.iter().filter(|((k, _), _)| *k == kind);
            now.extend(objects.map(|(key, object)| (key.clone(), object.clone())));
        }
        // The cache is no older than our own last write of an object.
        let places = &self.places;
        self.wrote.retain(|(kind, _), ours| version(ours) > places[kind].1);
        now.extend(self.wrote.iter().map(|(key, ours)| (key.clone(), ours.clone())));
        self.now = now;
    }

    /// Our own write, as it was answered.
    pub fn wrote(&mut self, kind: &'static str, object: &Arc<Value>) {
        let key = (kind, text(object, "/metadata/name").to_owned());
        self.wrote.insert(key.clone(), object.clone());
        self.now.insert(key, object.clone());
    }

    pub fn get(&self, kind: &'static str, name: &str) -> Option<Arc<Value>> {
        self.now.get(&(kind, name.to_owned())).cloned()
    }

    fn list(&self, kind: &'static str) -> Vec<Arc<Value>> {
        let of_kind = self.now.iter().filter(|((k, _), _)| *k == kind);
        let mut list: Vec<_> = of_kind.map(|(_, object)| object.clone()).collect();
        list.sort_by_key(|o| text(o, "/metadata/creationTimestamp").to_owned());
        list
    }

    /// As `controller::observe` does.
    pub fn observe(
        &mut self,
        rollout: &Rollout,
        names: &Names,
        hold: HoldMode,
        delivered: &[String],
        now: Timestamp,
    ) -> (Observed, Vec<(Target, i64)>) {
        let uid = rollout.metadata.uid.clone().unwrap_or_default();
        let raw_deployment = self.get("Deployment", &names.deployment);
        let deployment = raw_deployment.as_deref().map(Deployment::of);
        let of_deployment = deployment.as_ref().map(|d| d.uid.clone()).unwrap_or_default();
        let sets = self.list("ReplicaSet");
        let raw_route = self.get("VirtualService", &names.route);
        let mut epochs = Vec::new();
        let mut stamp = |kind: Kind, object: Option<&Value>| {
            if let Some(object) = object {
                let name = text(object, "/metadata/name").to_owned();
                epochs.push((Target { kind, name }, epoch_of(object)));
            }
        };
        stamp(Kind::VirtualService, raw_route.as_deref());
        let service = |name: &str| {
            let object = self.get("Service", name)?;
            let slice = self.get("EndpointSlice", &format!("{name}-slice"));
            let slices: Vec<Value> = slice.iter().map(|s| s.as_ref().clone()).collect();
            Some((Service::of(&object, &slices), object))
        };
        let apex = service("shop");
        let (stable, canary) = (service(&names.stable), service(&names.canary));
        for service in [&stable, &canary].into_iter().flatten() {
            stamp(Kind::Service, Some(&service.1));
        }
        stamp(Kind::Deployment, raw_deployment.as_deref());
        let ours = rollout.status.as_ref().and_then(|s| s.canary.as_ref());
        let named = |set: &&Arc<Value>| {
            ours.is_some_and(|ours| text(set, "/metadata/name") == ours.replica_set)
                && ReplicaSet::of(set, &of_deployment, &uid).is_some()
        };
        stamp(Kind::ReplicaSet, sets.iter().find(named).map(AsRef::as_ref));
        let seen = Observed {
            spec: resolve(&rollout.spec, &Templates::new()),
            replica_sets: sets
                .iter()
                .filter_map(|set| ReplicaSet::of(set, &of_deployment, &uid))
                .collect(),
            deployment,
            apex: apex.map(|s| s.0),
            stable: stable.map(|s| s.0),
            canary: canary.map(|s| s.0),
            route: self.route(names, raw_route.as_deref(), now),
            actions: self
                .list("RolloutAction")
                .iter()
                .filter_map(|action| serde_json::from_value(action["spec"].clone()).ok())
                .collect(),
            hold,
            delivered: delivered.to_vec(),
            namespace_terminating: false,
            disrupted_until: self.disrupted_until,
        };
        (seen, epochs)
    }

    fn route(
        &mut self,
        names: &Names,
        object: Option<&Value>,
        now: Timestamp,
    ) -> Result<Route, RouteProblem> {
        let object = object.ok_or_else(|| RouteProblem::Missing { name: names.route.clone() })?;
        let host = |service| Host { service, namespace: NAMESPACE };
        let weights = istio::read(object, host(&names.stable), host(&names.canary))?;
        let since = match &self.weights {
            Some((same, since)) if *same == weights => *since,
            _ => now,
        };
        self.weights = Some((weights.clone(), since));
        let timeout = istio::timeout_seconds(object);
        Ok(Route {
            since,
            weights,
            timeout,
            manager: Some("somebody".to_owned()),
            version: text(object, "/metadata/resourceVersion").to_owned(),
            wrote: Mark::of(object),
        })
    }
}
