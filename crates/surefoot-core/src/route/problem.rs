//! What can be wrong with a route, and what to do about it. Messages begin with the route itself:
//! `HTTPRoute "shop" has no rule …`.

use std::fmt;

use crate::api::rollout::RouteKind;
use crate::write::Target;

/// Why a route can't be used. Nothing is written to such a route.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct RouteProblem {
    /// The route.
    pub route: Target,
    /// What is wrong with it.
    pub fault: Fault,
}

impl RouteProblem {
    /// Whether it is certain that there is no such route. (An API server that has just come up may not
    /// know its own definitions for a moment.)
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self.fault, Fault::Missing { .. })
    }
}

impl fmt::Display for RouteProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} {}", self.route.kind.name(), self.route.name, self.fault)
    }
}

/// What is wrong with a route. An `entry` is what the kind calls one of those that are shifted: "http
/// route" or "rule".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It isn't there.
    #[error("doesn't exist: create it with one {entry} to both destinations")]
    Missing {
        /// What its entries are called.
        entry: &'static str,
    },
    /// The cluster doesn't know the kind.
    #[error(
        "can't exist: this cluster doesn't serve its kind; install the definitions (CRDs) of the Gateway API, v1"
    )]
    NotServed,
    /// The kind may not be read.
    #[error(
        "can't be read: Surefoot may not list its kind; grant that to its service account as deploy/namespace.yaml does"
    )]
    Forbidden,
    /// It has no entries.
    #[error("has no {entry} (spec.{list} is empty): add one to both destinations")]
    Empty {
        /// What its entries are called.
        entry: &'static str,
        /// The list.
        list: &'static str,
    },
    /// It has only routes of another protocol.
    #[error("has {kind} routes and no http route: only http routes are shifted")]
    OtherProtocol {
        /// tcp or tls.
        kind: &'static str,
    },
    /// Another VirtualService does the work.
    #[error("hands its requests on to another one (delegate): name that one in traffic.routes")]
    Delegates,
    /// It has several entries and none is named.
    #[error(
        "has {count} {entry}s: name those whose weights are to be shifted in traffic.routes[].http (it has: {names})"
    )]
    Several {
        /// What its entries are called.
        entry: &'static str,
        /// How many.
        count: usize,
        /// Their names.
        names: String,
    },
    /// A named entry isn't there.
    #[error("has no {entry} named {wanted:?} (it has: {names}): correct traffic.routes[].http")]
    EntryMissing {
        /// What its entries are called.
        entry: &'static str,
        /// The name looked for.
        wanted: String,
        /// The names found.
        names: String,
    },
    /// A name stands for two entries.
    #[error("has two {entry}s named {wanted:?}: rename one")]
    EntryTwice {
        /// What its entries are called.
        entry: &'static str,
        /// The name.
        wanted: String,
    },
    /// Its destinations aren't exactly the two.
    #[error("must route to exactly {stable} and {canary}, but routes to: {found}")]
    Destinations {
        /// Wanted for stable.
        stable: String,
        /// Wanted for the canary.
        canary: String,
        /// Found.
        found: String,
    },
    /// A backendRef without port.
    #[error(
        "sends requests to Service {service:?} without a port: write the Service's port (backendRefs[].port)"
    )]
    NoPort {
        /// The Service.
        service: String,
    },
    /// It takes no requests that the Rollout is about.
    #[error(
        "takes its requests from {found} (spec.parentRefs): let it take those of Service {service:?}{other}"
    )]
    Parent {
        /// What it is attached to.
        found: String,
        /// The Service that clients call.
        service: String,
        /// What else it might take them from.
        other: &'static str,
    },
    /// Something that wins over the route, so that its weights mean nothing.
    #[error(
        "stands beside {by}, which wins over it for Service {service:?}: requests would not follow the weights; remove the routes and dstOverrides there{made}"
    )]
    Overridden {
        /// The kind and name of what wins.
        by: String,
        /// The Service that clients call.
        service: String,
        /// What makes it, where that is known.
        made: String,
    },
    /// Nobody may tell whether something wins over the route.
    #[error(
        "may be overridden, and nobody can tell: Surefoot may not list {kind}s; grant that to its service account as deploy/namespace.yaml does"
    )]
    OverridesUnknown {
        /// The kind.
        kind: &'static str,
    },
    /// Another route takes the same requests.
    #[error(
        "stands beside {kind:?} {name:?}: both take the requests that callers within the mesh make to Service {service:?}, and it is undefined which of them wins; remove one"
    )]
    Beside {
        /// The kind of the other.
        kind: RouteKind,
        /// Its name.
        name: String,
        /// The Service that clients call.
        service: String,
    },
    /// Chosen requests go by an entry of ours, which is known by its name.
    #[error(
        "has a {entry} without name, before which no {entry} for chosen requests (steps[].match) can be put: give it a name ({entry}s[].name, which the definitions of the Gateway API keep from v1.4 on)"
    )]
    Unnamed {
        /// What its entries are called.
        entry: &'static str,
    },
    /// An entry and a step's match both say what a header must be.
    #[error(
        "says in a {entry} already what the header {header:?} must be: choose requests (steps[].match) by another one"
    )]
    HeaderTwice {
        /// What its entries are called.
        entry: &'static str,
        /// The header.
        header: String,
    },
    /// With an entry for chosen requests it would be too large.
    #[error(
        "with a {entry} for chosen requests would have {count} {what}, and may have {most}: choose less in steps[].match"
    )]
    TooMany {
        /// What its entries are called.
        entry: &'static str,
        /// What is too many.
        what: &'static str,
        /// How many.
        count: usize,
        /// How many there may be.
        most: usize,
    },
    /// Another entry goes by headers or query parameters, and which of the two would win hangs on both.
    #[error(
        "has a {entry} {called:?} that asks for headers or query parameters and isn't shifted: which requests it would lose to the {entry} for chosen requests hangs on both; move it to a route of its own, or shift it, too"
    )]
    Rivals {
        /// What its entries are called.
        entry: &'static str,
        /// Its name.
        called: String,
    },
    /// A filter that the mesh doesn't follow.
    #[error("has the filter {filter}, with which {mesh} doesn't shift weights: remove it")]
    Filter {
        /// Its type.
        filter: String,
        /// The mesh.
        mesh: &'static str,
    },
    /// A field that the mesh doesn't read.
    #[error("has the field {field} in {within}, which {mesh} doesn't read: remove it")]
    Field {
        /// Its name.
        field: String,
        /// Where it is.
        within: &'static str,
        /// The mesh.
        mesh: &'static str,
    },
}
