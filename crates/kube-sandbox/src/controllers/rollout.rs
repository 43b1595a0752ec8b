//! How a Deployment's ReplicaSets are to be sized: the arithmetic, without the API.

use serde_json::Value;

use super::api::{number, text};
use super::scaling;

pub(super) const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
pub(super) const MAX: &str = "deployment.kubernetes.io/max-replicas";

/// A Deployment with its ReplicaSets, the oldest first.
pub(super) struct Rollout<'a> {
    pub(super) deployment: &'a Value,
    pub(super) sets: Vec<Value>,
    /// Which of them has the Deployment's template.
    pub(super) new: Option<usize>,
}

/// The sizes to come: which set, how many replicas.
pub(super) type Sizes = Vec<(usize, i64)>;

pub(super) fn replicas(set: &Value) -> i64 {
    number(&set["spec"]["replicas"])
}

pub(super) fn available(set: &Value) -> i64 {
    number(&set["status"]["availableReplicas"])
}

pub(super) fn annotation(set: &Value, name: &str) -> Option<i64> {
    set["metadata"]["annotations"][name].as_str()?.parse().ok()
}

impl Rollout<'_> {
    pub(super) fn wanted(&self) -> i64 {
        replicas(self.deployment)
    }

    pub(super) fn is_paused(&self) -> bool {
        self.deployment["spec"]["paused"] == true
    }

    fn is_recreate(&self) -> bool {
        self.deployment["spec"]["strategy"]["type"] == "Recreate"
    }

    /// How many pods may be there beyond what is wanted, and how many may be missing.
    pub(super) fn leeway(&self) -> (i64, i64) {
        if self.is_recreate() {
            return (0, 0);
        }
        let rolling = &self.deployment["spec"]["strategy"]["rollingUpdate"];
        let share = |value: &Value, up: bool| {
            let Some(percent) = text(value).strip_suffix('%') else { return number(value) };
            let product = percent.parse::<i64>().unwrap_or(0) * self.wanted();
            if up { (product + 99) / 100 } else { product / 100 }
        };
        let (surge, missing) =
            (share(&rolling["maxSurge"], true), share(&rolling["maxUnavailable"], false));
        if surge == 0 && missing == 0 { (0, 1) } else { (surge, missing.min(self.wanted())) }
    }

    /// How many pods there may be at most.
    pub(super) fn most(&self) -> i64 {
        self.wanted() + self.leeway().0
    }

    pub(super) fn total(&self) -> i64 {
        self.sets.iter().map(replicas).sum()
    }

    pub(super) fn old(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.sets.len()).filter(|index| Some(*index) != self.new)
    }

    /// Whether the new set is only made once the old pods are gone.
    pub(super) fn waits_for_old(&self) -> bool {
        let there = |set: &Value| replicas(set) > 0 || number(&set["status"]["replicas"]) > 0;
        self.is_recreate() && self.sets.iter().any(there)
    }

    /// Whether the wanted number was changed since the sets were sized.
    pub(super) fn was_scaled(&self) -> bool {
        let active = self.sets.iter().filter(|set| replicas(set) > 0);
        active.filter_map(|set| annotation(set, DESIRED)).any(|desired| desired != self.wanted())
    }

    /// The sizes to come.
    pub(super) fn sizes(&self) -> Sizes {
        if self.is_paused() || self.was_scaled() {
            return scaling::sizes(self);
        }
        if self.is_recreate() {
            return self.recreated();
        }
        let Some(new) = self.new else { return Sizes::new() };
        let grown = self.new_size(new, self.total());
        if grown != replicas(&self.sets[new]) {
            return vec![(new, grown)];
        }
        self.shrunk(new)
    }

    fn recreated(&self) -> Sizes {
        let old: Sizes =
            self.old().filter(|i| replicas(&self.sets[*i]) > 0).map(|i| (i, 0)).collect();
        if !old.is_empty() {
            return old;
        }
        let Some(new) = self.new else { return Sizes::new() };
        let gone = self.old().all(|i| number(&self.sets[i]["status"]["replicas"]) == 0);
        let grows = gone && replicas(&self.sets[new]) != self.wanted();
        if grows { vec![(new, self.wanted())] } else { Sizes::new() }
    }

    /// How large the new set may be, given how many pods there are in all.
    pub(super) fn new_size(&self, new: usize, total: i64) -> i64 {
        let size = replicas(&self.sets[new]);
        if size >= self.wanted() {
            return self.wanted();
        }
        let room = (self.most() - total).max(0);
        size + room.min(self.wanted() - size)
    }

    /// How small the old sets may be: first what isn't available anyway, then as many as the new
    /// set makes up for.
    fn shrunk(&self, new: usize) -> Sizes {
        let least = self.wanted() - self.leeway().1;
        let missing = replicas(&self.sets[new]) - available(&self.sets[new]);
        let mut spare = self.total() - least - missing;
        let mut sizes: Vec<i64> = self.sets.iter().map(replicas).collect();
        for index in self.old() {
            let broken = (sizes[index] - available(&self.sets[index])).clamp(0, spare.max(0));
            sizes[index] -= broken;
            spare -= broken;
        }
        let serving: i64 = self.sets.iter().map(available).sum();
        let mut spare = (serving - least).min(spare).max(0);
        for index in self.old() {
            let gone = sizes[index].min(spare);
            sizes[index] -= gone;
            spare -= gone;
        }
        let changed = |(index, size): &(usize, i64)| replicas(&self.sets[*index]) != *size;
        sizes.into_iter().enumerate().filter(changed).collect()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    pub(in super::super) fn deployment(replicas: i64, paused: bool) -> Value {
        json!({"spec": {
            "replicas": replicas, "paused": paused,
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"},
            },
        }})
    }

    pub(in super::super) fn set(replicas: i64, available: i64, desired: i64, max: i64) -> Value {
        json!({
            "metadata": {"annotations": {DESIRED: desired.to_string(), MAX: max.to_string()}},
            "spec": {"replicas": replicas},
            "status": {"replicas": replicas, "availableReplicas": available},
        })
    }

    #[test]
    fn a_rollout_keeps_within_surge_and_unavailable() {
        let deployment = deployment(4, false);
        let mut sets = vec![set(4, 4, 4, 5), set(0, 0, 4, 5)];
        let mut steps = Vec::new();
        for _ in 0..20 {
            let rollout = Rollout { deployment: &deployment, sets: sets.clone(), new: Some(1) };
            let sizes = rollout.sizes();
            if sizes.is_empty() {
                break;
            }
            for (index, size) in sizes {
                sets[index] = set(size, size, 4, 5);
            }
            let sizes = (replicas(&sets[0]), replicas(&sets[1]));
            assert!((3..=5).contains(&(sizes.0 + sizes.1)), "{sizes:?}");
            steps.push(sizes);
        }
        assert_eq!(steps.last(), Some(&(0, 4)));
    }

    #[test]
    fn unavailable_new_pods_hold_the_rollout() {
        let deployment = deployment(4, false);
        let sets = vec![set(3, 3, 4, 5), set(2, 0, 4, 5)];
        let rollout = Rollout { deployment: &deployment, sets, new: Some(1) };
        assert_eq!(rollout.sizes(), []);
    }

    #[test]
    fn recreate_ends_the_old_pods_first() {
        let mut deployment = deployment(2, false);
        deployment["spec"]["strategy"] = json!({"type": "Recreate"});
        let at = |sets: Vec<Value>| Rollout { deployment: &deployment, sets, new: Some(1) }.sizes();
        assert_eq!(at(vec![set(2, 2, 2, 2), set(0, 0, 2, 2)]), [(0, 0)]);
        assert_eq!(at(vec![set(0, 0, 2, 2), set(0, 0, 2, 2)]), [(1, 2)]);
    }
}
