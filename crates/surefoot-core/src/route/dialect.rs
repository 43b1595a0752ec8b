//! What differs between the kinds of route. All else (reading, editing, marking) is the same.

use serde_json::Value;

use super::gateway::GatewayRoute;
use super::istio::VirtualService;
use super::problem::Fault;
use crate::api::rollout::{RequestMatch, RouteKind};
use crate::routing::{Destination, Routing};

/// A kind of route: a list of entries in its spec, each with a list of weighted destinations.
pub(crate) trait Dialect: Sync {
    /// What an entry is called.
    fn entry(&self) -> &'static str;
    /// The spec's list of entries.
    fn list(&self) -> &'static str;
    /// An entry's list of destinations.
    fn destinations(&self) -> &'static str;
    /// The fields of a destination that say where it leads.
    fn identity(&self) -> &'static [&'static str];
    /// The weight of a destination that has none written.
    fn unwritten(&self) -> i64;
    /// What is wrong with a route without entries.
    fn empty(&self, route: &Value) -> Fault;
    /// What keeps an entry's weights from meaning anything.
    ///
    /// # Errors
    /// That.
    fn entry_fault(&self, entry: &Value) -> Result<(), Fault>;
    /// Whether a destination as written is this one.
    fn leads_to(&self, written: &Value, of: Destination<'_>, namespace: &str) -> bool;
    /// A destination as people read it.
    fn shown(&self, written: &Value) -> String;
    /// An entry's list of conditions, of which a request must meet one.
    fn matches(&self) -> &'static str;
    /// Whether the API server keeps the name of every entry.
    fn keeps_names(&self) -> bool;
    /// The condition that every request meets, as the API server keeps it.
    fn any(&self) -> Value;
    /// One of an entry's conditions, and what a chosen request must be beside.
    ///
    /// # Errors
    /// When both say something of one header, or they say too much.
    fn narrowed(&self, own: &Value, chosen: &RequestMatch) -> Result<Value, Fault>;
    /// Whether a condition asks for what a chosen request must be, whatever else it asks for.
    fn asks(&self, condition: &Value, chosen: &RequestMatch) -> bool;
    /// How many conditions an entry may have.
    fn most_matches(&self, entry: &Value) -> usize;
    /// How many entries a route may have.
    fn most_entries(&self) -> usize;
    /// Whether an entry might lose requests to one for chosen requests that stands before another, or win
    /// over it: where meshes go by conditions and not by the order of entries.
    fn rivals(&self, entry: &Value) -> bool;
    /// An entry's timeout as written.
    fn timeout<'v>(&self, entry: &'v Value) -> Option<&'v str>;
    /// Whether the mesh does what the route says. One that it doesn't follow can still be brought back
    /// to stable; no weight is raised on it.
    ///
    /// # Errors
    /// What stands in the way.
    fn fit(&self, route: &Value, routing: &Routing, namespace: &str) -> Result<(), Fault>;
    /// Whether the route takes the requests that callers within the mesh make to a Service.
    fn takes_mesh(&self, route: &Value, service: &str, namespace: &str) -> bool;
    /// Whether the mesh has taken up the route as it is now.
    ///
    /// # Errors
    /// What it says, in words.
    fn accepted(&self, route: &Value, routing: &Routing, namespace: &str) -> Result<(), String>;
}

/// How a kind of route is read and written.
pub(crate) fn dialect(kind: RouteKind) -> &'static dyn Dialect {
    match kind {
        RouteKind::VirtualService => &VirtualService,
        RouteKind::HTTPRoute => &GatewayRoute { grpc: false },
        RouteKind::GRPCRoute => &GatewayRoute { grpc: true },
    }
}
