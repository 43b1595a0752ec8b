//! Routes as raw JSON: reading the two weights, and the smallest edit that changes them.

pub mod istio;
pub mod subset;

use serde::Serialize;
use serde_json::Value;

use crate::mark::Mark;

/// Annotation with the epoch of the controller that wrote last.
pub const EPOCH: &str = "surefoot.dev/epoch";
/// Annotation on a route and on a Deployment that names the one Rollout they belong to.
pub const OWNER: &str = "surefoot.dev/rollout";

/// Annotation of somebody who brought the traffic back by hand; on a Deployment, of somebody who
/// resumes it by hand.
pub const BREAK_GLASS: &str = "surefoot.dev/break-glass";

/// Who writes a route: what its annotations say afterwards.
#[derive(Debug, Clone, Copy)]
pub struct Signature<'a> {
    /// The Rollout.
    pub rollout: &'a str,
    /// Epoch of the committed decision.
    pub epoch: i64,
    /// The weight, and for which release.
    pub wrote: Mark,
}

/// An annotation of an object.
#[must_use]
pub fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.pointer("/metadata/annotations")?.get(key)?.as_str()
}

/// What a route says about the two destinations: a pair for each of its entries that are shifted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weights(pub Vec<Pair>);

/// The weights of one entry of a route, as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pair {
    /// Stable's share.
    pub stable: i64,
    /// The canary's share.
    pub canary: i64,
}

impl Pair {
    /// The canary's share in per cent, where the pair is ours (each 0–100, sum 100).
    #[must_use]
    pub fn canary_percent(self) -> Option<i32> {
        let range = 0..=100;
        let ours = range.contains(&self.stable) && range.contains(&self.canary);
        (ours && self.stable + self.canary == 100).then(|| i32::try_from(self.canary).unwrap_or(0))
    }

    /// The canary's share in per cent as proxies take it, rounded up: weights are relative to their
    /// sum, whatever that is.
    #[must_use]
    pub fn share(self) -> i32 {
        let (stable, canary) = (i128::from(self.stable.max(0)), i128::from(self.canary.max(0)));
        if canary == 0 {
            return 0;
        }
        let sum = stable + canary;
        i32::try_from((100 * canary + sum - 1) / sum).unwrap_or(100)
    }
}

impl Weights {
    /// One entry.
    #[must_use]
    pub fn pair(stable: i64, canary: i64) -> Self {
        Self(vec![Pair { stable, canary }])
    }

    /// The canary's share in per cent, where every entry has the same pair, and it is ours.
    #[must_use]
    pub fn canary_percent(&self) -> Option<i32> {
        let (first, rest) = self.0.split_first()?;
        first.canary_percent().filter(|_| rest.iter().all(|pair| pair == first))
    }

    /// The highest share of the canary in any entry, in per cent.
    #[must_use]
    pub fn highest(&self) -> i32 {
        self.0.iter().map(|pair| pair.share()).max().unwrap_or(0)
    }

    /// As people read them: "90/10", or of several entries "90/10, 50/50".
    #[must_use]
    pub fn words(&self) -> String {
        let pairs: Vec<String> =
            self.0.iter().map(|p| format!("{}/{}", p.stable, p.canary)).collect();
        pairs.join(", ")
    }
}

/// Why a route can't be used. Nothing is written to such a route.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize)]
pub enum RouteProblem {
    /// It isn't there.
    #[error(
        "VirtualService {name:?} doesn't exist: create it with one http route to both destinations"
    )]
    Missing {
        /// Its name.
        name: String,
    },
    /// It has no http routes.
    #[error(
        "VirtualService {name:?} has no http route (spec.http is empty): add one to both destinations"
    )]
    NoHttp {
        /// Its name.
        name: String,
    },
    /// It has only routes of another protocol.
    #[error(
        "VirtualService {name:?} has {kind} routes and no http route: only http routes are shifted"
    )]
    OtherProtocol {
        /// Its name.
        name: String,
        /// tcp or tls.
        kind: String,
    },
    /// Another VirtualService does the work.
    #[error(
        "VirtualService {name:?} hands its requests on to another one (delegate): name that one in traffic.routes"
    )]
    Delegates {
        /// Its name.
        name: String,
    },
    /// It has several http routes and none is named.
    #[error(
        "VirtualService {name:?} has {count} http routes: name those whose weights are to be shifted in traffic.routes[].http (it has: {names})"
    )]
    SeveralHttp {
        /// Its name.
        name: String,
        /// How many.
        count: usize,
        /// Their names.
        names: String,
    },
    /// A named http route isn't there.
    #[error(
        "VirtualService {name:?} has no http route named {http:?} (it has: {names}): correct traffic.routes[].http"
    )]
    HttpMissing {
        /// Its name.
        name: String,
        /// The name looked for.
        http: String,
        /// The names found.
        names: String,
    },
    /// A name stands for two http routes.
    #[error("VirtualService {name:?} has two http routes named {http:?}: rename one")]
    HttpTwice {
        /// Its name.
        name: String,
        /// The name.
        http: String,
    },
    /// Its destinations aren't exactly the two.
    #[error(
        "VirtualService {name:?} must route to exactly {stable} and {canary}, but routes to: {found}"
    )]
    Destinations {
        /// Its name.
        name: String,
        /// Wanted for stable.
        stable: String,
        /// Wanted for the canary.
        canary: String,
        /// Found.
        found: String,
    },
}
