//! Routes as raw JSON: reading the two weights, the smallest edit that changes them, and whether the
//! mesh follows what is written. What differs between the kinds of route has a file each and is known
//! to nobody else.

mod beside;
mod chosen;
mod dialect;
mod edit;
mod gateway;
pub mod istio;
mod problem;
pub mod subset;

pub use beside::{Override, alone, heeded};
pub use chosen::CHOSEN;
use edit::shifted;
pub use edit::{
    break_glass, carries, edit, has_chosen, is_untouched, read, timeout_seconds, without_weights,
};
pub use problem::{Fault, RouteProblem};

use serde_json::Value;

use crate::api::rollout::RouteKind;
use crate::mark::Mark;
use crate::routing::Routing;

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

/// A text field; `None` where it is none.
fn text<'v>(object: &'v Value, field: &str) -> Option<&'v str> {
    object.get(field)?.as_str()
}

/// The items of a list; nothing where it is none.
fn items<'v>(object: &'v Value, field: &str) -> &'v [Value] {
    object.get(field).and_then(Value::as_array).map_or(&[], Vec::as_slice)
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

/// Whether the mesh does what the route says. One that it doesn't follow can still be brought back to
/// stable; no weight is raised on it.
///
/// # Errors
/// What stands in the way.
pub fn fit(route: &Value, routing: &Routing, namespace: &str) -> Result<(), RouteProblem> {
    let fit = dialect::dialect(routing.kind).fit(route, routing, namespace);
    fit.map_err(|fault| routing.problem(fault))
}

/// Whether the mesh has taken up the route as it is now.
///
/// # Errors
/// What it says, in words.
pub fn accepted(route: &Value, routing: &Routing, namespace: &str) -> Result<(), String> {
    dialect::dialect(routing.kind).accepted(route, routing, namespace)
}

/// That there is no such route.
#[must_use]
pub fn missing(kind: RouteKind) -> Fault {
    Fault::Missing { entry: dialect::dialect(kind).entry() }
}

/// The field of the spec that holds what is shifted: whoever owns that is who writes the weights.
#[must_use]
pub fn list(kind: RouteKind) -> &'static str {
    dialect::dialect(kind).list()
}
