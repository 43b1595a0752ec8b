//! What a process sees: the watched copies, fresh or stale, kind by kind, and its own last writes.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;
use surefoot_core::claim::Rival;
use surefoot_core::gather::Source;
use surefoot_core::route::{Fault, Override, Weights};
use surefoot_core::write::{Kind, Target};

use crate::native::slice;
use crate::shared::{Object, Shared, version};
use crate::store::Objects;

/// Which watches bring nothing new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stale {
    /// That of Rollouts.
    Rollout,
    /// All others.
    Others,
    /// All.
    All,
}

impl Stale {
    fn covers(self, kind: Kind) -> bool {
        match self {
            Stale::Rollout => kind == Kind::Rollout,
            Stale::Others => kind != Kind::Rollout,
            Stale::All => true,
        }
    }
}

/// Watches that stand still.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Frozen {
    /// Which.
    pub stale: Stale,
    /// What they brought last.
    pub objects: Objects,
    /// What the process itself has written since: its copies are never older than that.
    pub wrote: BTreeMap<Target, Object>,
}

/// The copies that a process decides by.
pub(crate) fn copies(now: &Objects, frozen: Option<&Frozen>) -> Objects {
    let Some(frozen) = frozen else { return now.clone() };
    let fresh = now.iter().filter(|(target, _)| !frozen.stale.covers(target.kind));
    let old = frozen.objects.iter().filter(|(target, _)| frozen.stale.covers(target.kind));
    let mut copies: BTreeMap<Target, Object> =
        fresh.chain(old).map(|(target, object)| (target.clone(), object.clone())).collect();
    for (target, object) in &frozen.wrote {
        let older = |copy: &Object| version(copy) < version(object);
        if frozen.stale.covers(target.kind) && copies.get(target).is_none_or(older) {
            copies.insert(target.clone(), object.clone());
        }
    }
    Arc::new(copies)
}

/// Since when a process has seen these weights.
pub type Since = Option<(Shared<Weights>, Timestamp)>;

/// The copies, as `gather` reads them.
pub(crate) struct View<'a> {
    pub objects: &'a Objects,
    pub since: RefCell<Since>,
    pub now: Timestamp,
}

impl Source for View<'_> {
    fn get(&self, kind: Kind, name: &str) -> Option<Value> {
        let target = Target { kind, name: name.to_owned() };
        self.objects.get(&target).map(|object| Value::clone(object))
    }

    fn unknown(&self, _: Kind) -> Option<Fault> {
        None
    }

    fn replica_sets(&self, _: [&str; 2]) -> Vec<Value> {
        let sets = self.objects.iter().filter(|(target, _)| target.kind == Kind::ReplicaSet);
        let mut sets: Vec<Value> = sets.map(|(_, set)| Value::clone(set)).collect();
        sets.sort_by_key(|set| set["metadata"]["creationTimestamp"].to_string());
        sets
    }

    fn slices(&self, service: &str) -> Vec<Value> {
        let target = Target { kind: Kind::Service, name: service.to_owned() };
        self.objects.get(&target).map(|service| slice(self.objects, service)).into_iter().collect()
    }

    fn all(&self, kind: Kind) -> Vec<Value> {
        let of_kind = self.objects.iter().filter(|(target, _)| target.kind == kind);
        of_kind.map(|(_, object)| Value::clone(object)).collect()
    }

    fn overrides(&self, _: Override) -> Result<Vec<Value>, Fault> {
        Err(Fault::NotServed)
    }

    fn rivals(&self, _: &BTreeSet<Target>) -> Vec<Rival> {
        Vec::new()
    }

    /// No step here chooses requests.
    fn since(&self, weights: &Weights, _: bool) -> Timestamp {
        let mut known = self.since.borrow_mut();
        if known.as_ref().is_none_or(|(same, _)| **same != *weights) {
            *known = Some((Shared::shown(weights.clone()), self.now));
        }
        known.as_ref().map_or(self.now, |(_, since)| *since)
    }
}
