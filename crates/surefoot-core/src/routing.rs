//! By which names a Rollout's traffic goes: the Service that clients call, the two destinations, and
//! the route that splits between them. Read from a spec that need not be valid otherwise.

use std::fmt;

use crate::api::rollout::{Apex, Mesh, RouteKind, RouteRef, Traffic};
use crate::route::{Fault, RouteProblem};
use crate::write::Target;

/// Names of all that the traffic goes by, in the Rollout's namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routing {
    /// Whose routes these are.
    pub mesh: Mesh,
    /// The Service that clients call.
    pub service: String,
    /// Whether callers that don't go by the route may reach the canary.
    pub apex: Apex,
    /// How the two versions are told apart.
    pub split: Split,
    /// What kind of route splits between the two; of several the first one.
    pub kind: RouteKind,
    /// Its name.
    pub route: String,
    /// Names of its http routes or rules that are shifted; empty: the only one that there is.
    pub http: Vec<String>,
    /// Further routes that are moved with it.
    pub more: Vec<RouteRef>,
}

/// How the two versions are told apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Split {
    /// A Service each.
    Services {
        /// Reaches stable.
        stable: String,
        /// Reaches the canary.
        canary: String,
    },
    /// A subset each of the Service that clients call.
    Subsets {
        /// The DestinationRule that has both.
        rule: String,
        /// Reaches stable.
        stable: String,
        /// Reaches the canary.
        canary: String,
    },
}

/// The two versions that traffic is split between.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// What has been promoted.
    Stable,
    /// What is under test.
    Canary,
}

/// Where a route sends requests: a Service, or a subset of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Destination<'a> {
    /// The Service.
    pub service: &'a str,
    /// The subset, where it isn't all of the Service.
    pub subset: Option<&'a str>,
}

impl fmt::Display for Destination<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.subset {
            Some(subset) => write!(f, "{} subset {subset}", self.service),
            None => f.write_str(self.service),
        }
    }
}

impl Routing {
    /// Of a spec's `traffic`.
    #[must_use]
    pub fn of(traffic: &Traffic) -> Self {
        let service = traffic.service.clone();
        let split = traffic.split.clone().unwrap_or_default();
        let split = match (split.subsets, split.services) {
            (Some(of), _) => {
                Split::Subsets { rule: of.destination_rule, stable: of.stable, canary: of.canary }
            }
            (None, Some(of)) => Split::Services { stable: of.stable, canary: of.canary },
            (None, None) => Split::Services {
                stable: format!("{service}-stable"),
                canary: format!("{service}-canary"),
            },
        };
        let mut routes = traffic.routes.iter();
        let route = routes.next();
        Self {
            mesh: traffic.mesh,
            service,
            apex: traffic.apex.unwrap_or(Apex::Both),
            split,
            kind: route.map_or(RouteKind::VirtualService, |r| r.kind),
            route: route.map(|r| r.name.clone()).unwrap_or_default(),
            http: route.map(|r| r.http.clone()).unwrap_or_default(),
            more: routes.cloned().collect(),
        }
    }

    /// The same by each of the routes alone.
    pub fn each(&self) -> impl Iterator<Item = Self> + '_ {
        let alone = Self { more: Vec::new(), ..self.clone() };
        let more = self.more.iter().map(|route| Self {
            kind: route.kind,
            route: route.name.clone(),
            http: route.http.clone(),
            more: Vec::new(),
            ..self.clone()
        });
        std::iter::once(alone).chain(more)
    }

    /// Whether an object of this kind and name is one of the routes.
    #[must_use]
    pub fn goes_by(&self, target: &Target) -> bool {
        self.each().any(|one| one.target() == *target)
    }

    /// The route.
    #[must_use]
    pub fn target(&self) -> Target {
        Target { kind: self.kind.into(), name: self.route.clone() }
    }

    /// What is wrong with the route.
    #[must_use]
    pub fn problem(&self, fault: Fault) -> RouteProblem {
        RouteProblem { route: self.target(), fault }
    }

    /// Where the route sends a version's requests.
    #[must_use]
    pub fn destination(&self, side: Side) -> Destination<'_> {
        match &self.split {
            Split::Services { stable, canary } => {
                let service = if side == Side::Stable { stable } else { canary };
                Destination { service, subset: None }
            }
            Split::Subsets { stable, canary, .. } => {
                let subset = if side == Side::Stable { stable } else { canary };
                Destination { service: &self.service, subset: Some(subset) }
            }
        }
    }

    /// The Service of a version, where each has one of its own.
    #[must_use]
    pub fn own_service(&self, side: Side) -> Option<&str> {
        let destination = self.destination(side);
        destination.subset.is_none().then_some(destination.service)
    }

    /// The DestinationRule whose subsets are pinned, where that is how versions are told apart.
    #[must_use]
    pub fn rule(&self) -> Option<&str> {
        match &self.split {
            Split::Services { .. } => None,
            Split::Subsets { rule, .. } => Some(rule),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routing(yaml: &str) -> Routing {
        Routing::of(&serde_saphyr::from_str(yaml).unwrap())
    }

    #[test]
    fn two_services_are_the_default() {
        let routing = routing(
            "{mesh: istio, service: web, routes: [{kind: VirtualService, name: r, http: [a]}]}",
        );
        assert_eq!(routing.destination(Side::Stable).to_string(), "web-stable");
        assert_eq!(routing.own_service(Side::Canary), Some("web-canary"));
        assert_eq!((routing.rule(), routing.http.len()), (None, 1));
    }

    #[test]
    fn each_of_several_routes_alone() {
        let both = routing(
            "{mesh: istio, service: web, routes: [{kind: VirtualService, name: r, http: [a]},
              {kind: HTTPRoute, name: r}]}",
        );
        let alone: Vec<Routing> = both.each().collect();
        let told = |r: &Routing| (r.kind, r.route.clone(), r.http.len(), r.more.len());
        assert_eq!(told(&alone[0]), (RouteKind::VirtualService, "r".into(), 1, 0));
        assert_eq!(told(&alone[1]), (RouteKind::HTTPRoute, "r".into(), 0, 0));
        assert!(both.goes_by(&alone[1].target()) && !alone[0].goes_by(&alone[1].target()));
    }

    #[test]
    fn subsets_are_of_the_service_that_clients_call() {
        let routing = routing(
            "{mesh: istio, service: web, routes: [{kind: VirtualService, name: r}],
              split: {subsets: {destinationRule: d, stable: s, canary: c}}}",
        );
        assert_eq!(routing.destination(Side::Canary).to_string(), "web subset c");
        assert_eq!((routing.own_service(Side::Stable), routing.rule()), (None, Some("d")));
    }
}
