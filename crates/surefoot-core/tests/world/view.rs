//! What a controller sees: watched copies that may lag behind, kind by kind, and its own last
//! writes.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;
use surefoot_core::api::Rollout;
use surefoot_core::claim::Rival;
use surefoot_core::gather::{Source, gather};
use surefoot_core::observed::{Action, Delivery, HoldMode, Observed};
use surefoot_core::plan::{Templates, resolve};
use surefoot_core::route::{Fault, Override, Weights};
use surefoot_core::takeover::Stamped;
use surefoot_core::write::{Kind, Target};

use super::store::{Key, Moment, Objects, text};

const KINDS: [&str; 9] = [
    "Rollout",
    "Deployment",
    "ReplicaSet",
    "Service",
    "EndpointSlice",
    "VirtualService",
    "HTTPRoute",
    "RolloutAction",
    "DestinationRule",
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
    weights: Option<((Weights, bool), Timestamp)>,
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
        hold: HoldMode,
        delivery: &Delivery,
        now: Timestamp,
    ) -> (Observed, Vec<Stamped>) {
        let view = View { cache: self, weights: RefCell::new(self.weights.clone()), now };
        let found = gather(rollout, &view);
        let weights = view.weights.into_inner();
        let actions = self.list("RolloutAction");
        let name = rollout.metadata.name.as_deref().unwrap_or_default();
        let uid = rollout.metadata.uid.as_deref().unwrap_or_default();
        let (seen, stamped) = found.observed(
            resolve(&rollout.spec, &Templates::new()),
            Action::list(actions.iter().map(AsRef::as_ref), name, uid),
            hold,
            delivery.clone(),
        );
        self.weights = weights;
        (Observed { disrupted_until: self.disrupted_until, ..seen }, stamped)
    }
}

/// The copies at one moment.
struct View<'a> {
    cache: &'a Cache,
    weights: RefCell<Option<((Weights, bool), Timestamp)>>,
    now: Timestamp,
}

impl Source for View<'_> {
    fn get(&self, kind: Kind, name: &str) -> Option<Value> {
        self.cache.get(kind.name(), name).map(|object| object.as_ref().clone())
    }

    fn unknown(&self, _: Kind) -> Option<Fault> {
        None
    }

    fn replica_sets(&self, _: [&str; 2]) -> Vec<Value> {
        self.cache.list("ReplicaSet").iter().map(|set| set.as_ref().clone()).collect()
    }

    fn slices(&self, service: &str) -> Vec<Value> {
        let slice = self.cache.get("EndpointSlice", &format!("{service}-slice"));
        slice.iter().map(|slice| slice.as_ref().clone()).collect()
    }

    fn all(&self, kind: Kind) -> Vec<Value> {
        self.cache.list(kind.name()).iter().map(|object| object.as_ref().clone()).collect()
    }

    fn overrides(&self, _: Override) -> Result<Vec<Value>, Fault> {
        Err(Fault::NotServed)
    }

    fn rivals(&self, _: &BTreeSet<Target>) -> Vec<Rival> {
        Vec::new()
    }

    fn since(&self, weights: &Weights, chosen: bool) -> Timestamp {
        let now = (weights.clone(), chosen);
        let mut known = self.weights.borrow_mut();
        if known.as_ref().is_none_or(|(same, _)| *same != now) {
            *known = Some((now, self.now));
        }
        known.as_ref().map_or(self.now, |(_, since)| *since)
    }
}
