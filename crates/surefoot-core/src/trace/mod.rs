//! The judge of every run: given the ordered trace of accepted writes, which invariants of
//! `protocol.md` were broken. One checker for property tests, e2e and live audit.

mod check;
mod read;

pub use check::{Checker, check};

use std::fmt;

pub use crate::routing::Side;

use crate::api::action::ActionKind;
use crate::api::status::{Phase, Verdict};
use crate::routing::Routing;
use crate::write::Target;
use serde_json::Value;

/// One accepted write, in the order of the store.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The object's resourceVersion, one order for all objects.
    pub revision: u64,
    /// What the object is now.
    pub state: State,
}

/// What an object is after a write.
#[derive(Debug, Clone, PartialEq)]
pub enum State {
    /// The Rollout.
    Rollout(Box<RolloutState>),
    /// The Rollout is gone.
    RolloutGone,
    /// A route.
    Route {
        /// Which one.
        route: Target,
        /// Stable's and the canary's weights, as written.
        weights: Option<(i64, i64)>,
        /// Some requests go to the canary whatever its weight, by an entry of ours.
        chosen: bool,
        /// All of it that is not ours to change.
        rest: Value,
        /// The epoch stamped on it.
        epoch: i64,
        /// Somebody broke the glass, for this release.
        broken: Option<i64>,
        /// Its weights are somebody else's, as what we wrote last tells.
        edited: bool,
    },
    /// A Service's pin.
    Pin {
        /// Which of the two.
        side: Side,
        /// The hash, or none.
        hash: Option<String>,
    },
    /// The pin of the Service that clients call.
    Apex {
        /// The hash, or none.
        hash: Option<String>,
    },
    /// The pins of the two subsets, where versions are told apart by them.
    Subsets {
        /// Stable's hash, or none.
        stable: Option<String>,
        /// The canary's.
        canary: Option<String>,
    },
    /// Ready pods of the Service that clients call, where versions are its subsets.
    Reached {
        /// The slice.
        slice: String,
        /// Their names.
        pods: Vec<String>,
    },
    /// Ready endpoints of a Service, over all of its slices.
    Ready {
        /// Which of the two.
        side: Side,
        /// The slice.
        slice: String,
        /// How many of its endpoints are ready.
        ready: usize,
    },
    /// A ReplicaSet.
    ReplicaSet {
        /// Its name.
        name: String,
        /// Its hash.
        hash: String,
        /// Digest of its template, without the hash.
        template: String,
        /// `spec.replicas`.
        replicas: u32,
        /// It is gone.
        gone: bool,
    },
    /// The Deployment.
    Deployment {
        /// `spec.replicas`.
        replicas: u32,
    },
    /// A command was given.
    Action {
        /// What.
        kind: ActionKind,
        /// For which release.
        release: i64,
        /// For which step.
        step: i32,
        /// By whom.
        by: String,
    },
    /// Whether metrics can be used from here on (known to simulations only).
    Metrics {
        /// They can.
        usable: bool,
    },
}

/// What matters of a Rollout.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RolloutState {
    /// Its phase.
    pub phase: Phase,
    /// Number and plan hash of the latest release.
    pub release: Option<(i64, String)>,
    /// The weights of the latest release's steps.
    pub weights: Vec<i32>,
    /// Those of them that choose requests.
    pub choosing: Vec<i32>,
    /// Steps passed in the latest release: index, plan hash, who.
    pub passes: Vec<(i32, String, String)>,
    /// Steps of the latest release that wait for approval.
    pub approvals: Vec<i32>,
    /// Whether it is an undo.
    pub undo: bool,
    /// The committed decision.
    pub decision: Option<DecisionState>,
    /// Hash of stable.
    pub stable: Option<String>,
}

/// What matters of a decision.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DecisionState {
    /// Its sequence number.
    pub seq: i64,
    /// Its epoch.
    pub epoch: i64,
    /// Its release.
    pub release: i64,
    /// Its step.
    pub step: i32,
    /// The canary's weight at most.
    pub weight: i32,
    /// The verdict.
    pub verdict: Verdict,
}

/// An invariant that was broken.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Violation {
    /// Which: "S1" to "S18".
    pub invariant: &'static str,
    /// At which revision.
    pub revision: u64,
    /// What happened.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at revision {}: {}", self.invariant, self.revision, self.what)
    }
}

/// Names by which raw objects are recognised.
#[derive(Debug, Clone)]
pub struct Names {
    /// The Rollout.
    pub rollout: String,
    /// The Deployment.
    pub deployment: String,
    /// By which names its traffic goes.
    pub routing: Routing,
    /// The namespace of them all.
    pub namespace: String,
}
