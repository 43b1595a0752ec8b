//! Whose things are. Of several Rollouts that name the same route, Deployment or way to the two
//! versions, one works; the others say whose it is and write nothing.
//!
//! What a Rollout writes carries its name ([`OWNER`](crate::route::OWNER)). A name counts while that
//! Rollout lives and still names the thing. Who owns one of its things owns those that are nobody's;
//! what is nobody's altogether goes to the Rollout that was made first.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::api::Rollout;
use crate::api::rollout::{Apex, RolloutSpec};
use crate::gather::followed;
use crate::routing::{Routing, Side};
use crate::write::{Kind, Target};

/// Another Rollout that names some of the same things.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rival {
    /// Its name.
    pub name: String,
    /// It was made before ours.
    pub older: bool,
    /// What it names.
    pub things: BTreeSet<Target>,
}

/// A thing of ours that is another Rollout's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The thing.
    pub target: Target,
    /// Whose it is.
    pub by: String,
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Target { kind, name }, by) = (&self.target, &self.by);
        write!(
            f,
            "{kind:?} {name:?} belongs to Rollout {by:?}: delete one of the two Rollouts, or let this \
             one name another"
        )
    }
}

/// What only one Rollout at a time may write.
#[must_use]
pub fn things(spec: &RolloutSpec) -> BTreeSet<Target> {
    let routing = Routing::of(&spec.traffic);
    let own = [Side::Stable, Side::Canary].map(|side| routing.own_service(side));
    let apex = (routing.apex == Apex::StableOnly).then_some(routing.service.as_str());
    let named = [
        (Kind::Deployment, Some(spec.target_ref.name.as_str())),
        (Kind::DestinationRule, routing.rule()),
        (Kind::Service, own[0]),
        (Kind::Service, own[1]),
        (Kind::Service, apex),
    ];
    let target = |(kind, name): (Kind, Option<&str>)| Some(Target { kind, name: name?.to_owned() });
    let routes = routing.each().map(|one| one.target());
    named.into_iter().filter_map(target).chain(routes).collect()
}

/// Those of the Rollouts that name some of `ours`, the things that one of them names. The others must be of
/// its namespace.
pub fn rivals<'r>(
    rollout: &Rollout,
    ours: &BTreeSet<Target>,
    others: impl IntoIterator<Item = &'r Rollout>,
) -> Vec<Rival> {
    let born =
        |r: &Rollout| (r.metadata.creation_timestamp.clone().map(|t| t.0), r.metadata.uid.clone());
    let us = born(rollout);
    let rival = |other: &Rollout| {
        let things = things(&followed(other));
        let name = other.metadata.name.clone().unwrap_or_default();
        let shares = other.metadata.uid != us.1 && !things.is_disjoint(ours);
        shares.then(|| Rival { name, older: born(other) < us, things })
    };
    others.into_iter().filter_map(rival).collect()
}

/// The rival whose a thing is, where its name is on it.
#[must_use]
pub fn theirs<'r>(rivals: &'r [Rival], target: &Target, owner: Option<&str>) -> Option<&'r Rival> {
    let owner = owner?;
    rivals.iter().find(|rival| rival.name == owner && rival.things.contains(target))
}

/// What of our things is another's, given the names on them.
#[must_use]
pub fn claimed(
    us: &str,
    ours: &BTreeSet<Target>,
    owners: &BTreeMap<Target, String>,
    rivals: &[Rival],
) -> Option<Claim> {
    let owner = |target: &Target| owners.get(target).map(String::as_str);
    let claim =
        |target: &Target, rival: &Rival| Claim { target: target.clone(), by: rival.name.clone() };
    let marked = ours.iter().find_map(|t| Some(claim(t, theirs(rivals, t, owner(t))?)));
    if marked.is_some() || ours.iter().any(|t| owner(t) == Some(us)) {
        return marked;
    }
    rivals.iter().filter(|rival| rival.older).find_map(|rival| {
        let shared = ours.iter().find(|target| rival.things.contains(target))?;
        Some(claim(shared, rival))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(kind: Kind, name: &str) -> Target {
        Target { kind, name: name.to_owned() }
    }

    fn spec(name: &str) -> RolloutSpec {
        serde_saphyr::from_str(&format!(
            "targetRef: {{kind: Deployment, name: {name}}}
traffic: {{mesh: istio, service: {name}, routes: [{{kind: VirtualService, name: shared}}]}}
steps: [{{weight: 100}}]"
        ))
        .unwrap()
    }

    fn look(us: &str, marks: &[(Kind, &str, &str)], rivals: &[Rival]) -> Option<String> {
        let owners = marks.iter().map(|(k, n, owner)| (target(*k, n), (*owner).to_owned()));
        claimed(us, &things(&spec(us)), &owners.collect(), rivals).map(|claim| claim.by)
    }

    fn rival(name: &str, older: bool) -> Rival {
        Rival { name: name.to_owned(), older, things: things(&spec(name)) }
    }

    #[test]
    fn of_two_that_name_the_same_exactly_one_works() {
        let (a, b) = (rival("a", true), rival("b", false));
        let route = |owner: &'static str| [(Kind::VirtualService, "shared", owner)];
        // Nobody's name is on it: the older one's.
        assert_eq!(look("a", &[], std::slice::from_ref(&b)), None);
        assert_eq!(look("b", &[], std::slice::from_ref(&a)), Some("a".into()));
        // The younger one's name is on it.
        assert_eq!(look("a", &route("b"), std::slice::from_ref(&b)), Some("b".into()));
        assert_eq!(look("b", &route("b"), std::slice::from_ref(&a)), None);
        // Whoever is named is gone, or names something else now.
        assert_eq!(look("a", &route("c"), &[]), None);
        let elsewhere = Rival { things: BTreeSet::new(), ..b };
        assert_eq!(look("a", &route("b"), &[elsewhere]), None);
    }

    #[test]
    fn who_owns_one_thing_owns_what_is_nobodys() {
        let marks = [(Kind::Deployment, "b", "b")];
        assert_eq!(look("b", &marks, &[rival("a", true)]), None);
        let both = [(Kind::Deployment, "b", "b"), (Kind::VirtualService, "shared", "a")];
        assert_eq!(look("b", &both, &[rival("a", true)]), Some("a".into()));
    }
}
