//! Which of several copies of a series to read: a highly available Prometheus scrapes every target
//! more than once, and a request that is counted twice squares the evidence.

use std::collections::{BTreeMap, BTreeSet};

use super::answer::Point;

/// A scraped target: job and instance.
pub type Target = (String, String);

/// The values of the replica labels, in their order; empty where a series has none.
pub type Replica = Vec<String>;

/// The replicas that are read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pinned {
    /// The labels that name replicas.
    pub labels: Vec<String>,
    /// Of all that there are those that are read: each target is seen by one of them.
    pub replicas: BTreeSet<Replica>,
}

/// Replicas that can't be told apart by the labels that are named.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the values of {labels} don't tell which replica to read: name only the label by which copies of \
     one series differ in the MetricsSource's spec.prometheus.replicaLabels"
)]
pub struct Ambiguous {
    labels: String,
}

/// What there is to be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chosen {
    /// By which replicas.
    pub pinned: Pinned,
    /// Targets that only a replica sees that isn't read, as it shares others with one that is.
    pub unseen: BTreeSet<Target>,
}

/// The target that a series is of.
#[must_use]
pub fn target(point: &Point) -> Target {
    (point.label("job").to_owned(), point.label("instance").to_owned())
}

impl Pinned {
    /// The replica that a series is of.
    fn replica(&self, point: &Point) -> Replica {
        self.labels.iter().map(|label| point.label(label).to_owned()).collect()
    }

    /// Whether a series is read.
    #[must_use]
    pub fn reads(&self, point: &Point) -> bool {
        self.labels.is_empty() || self.replicas.contains(&self.replica(point))
    }

    /// For each label the values that are read; none where there is nothing to choose from.
    pub fn values(&self) -> impl Iterator<Item = (&str, BTreeSet<&str>)> {
        let some = (!self.replicas.is_empty()).then_some(&self.labels);
        some.into_iter().flatten().enumerate().map(|(i, label)| {
            let values = self.replicas.iter().filter_map(|r| r.get(i).map(String::as_str));
            (label.as_str(), values.collect())
        })
    }

    /// "b", "b and c" for people.
    #[must_use]
    pub fn words(&self) -> String {
        let names: Vec<String> = self.replicas.iter().map(|r| r.join("/")).collect();
        names.join(" and ")
    }

    /// Choose anew from the series that are live: as many targets as can be seen once each, and those
    /// read before where nothing is gained by others.
    ///
    /// # Errors
    /// When the labels' values together would select a replica that isn't chosen.
    pub fn choose(&self, live: &[&Point]) -> Result<Chosen, Ambiguous> {
        if self.labels.is_empty() {
            return Ok(Chosen { pinned: self.clone(), unseen: BTreeSet::new() });
        }
        let mut sees: BTreeMap<Replica, BTreeSet<Target>> = BTreeMap::new();
        for point in live {
            sees.entry(self.replica(point)).or_default().insert(target(point));
        }
        let mut order: Vec<(&Replica, &BTreeSet<Target>)> = sees.iter().collect();
        order.sort_by_key(|(replica, targets)| {
            (std::cmp::Reverse(targets.len()), !self.replicas.contains(*replica))
        });
        let (mut seen, mut replicas) = (BTreeSet::new(), BTreeSet::new());
        for (replica, targets) in order {
            if targets.is_disjoint(&seen) {
                seen.extend(targets.iter().cloned());
                replicas.insert(replica.clone());
            }
        }
        let pinned = Self { labels: self.labels.clone(), replicas };
        let values: Vec<BTreeSet<&str>> = pinned.values().map(|(_, values)| values).collect();
        let selected = |replica: &Replica| {
            replica.iter().zip(&values).all(|(value, of)| of.contains(value.as_str()))
        };
        if sees.keys().any(|replica| selected(replica) && !pinned.replicas.contains(replica)) {
            return Err(Ambiguous { labels: self.labels.join(", ") });
        }
        let unseen = sees.values().flatten().filter(|t| !seen.contains(*t)).cloned().collect();
        Ok(Chosen { pinned, unseen })
    }
}

/// The labels in which series of one target differ, but for those that name replicas.
#[must_use]
pub fn differing(points: &[Point], replicas: &[String]) -> BTreeMap<String, BTreeSet<String>> {
    let names: BTreeSet<&String> = points.iter().flat_map(|p| p.labels.keys()).collect();
    let own = names.into_iter().filter(|name| !replicas.contains(name));
    let values = own.map(|name| {
        (name.clone(), points.iter().map(|p| p.label(name).to_owned()).collect::<BTreeSet<_>>())
    });
    values.filter(|(_, values)| values.len() > 1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(instance: &str, labels: &[(&str, &str)]) -> Point {
        let own = [("job", "envoy"), ("instance", instance)];
        let labels = own.iter().chain(labels);
        let labels = labels.map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Point { labels, value: 1.0 }
    }

    fn pinned(labels: &[&str], replicas: &[&[&str]]) -> Pinned {
        let text = |texts: &[&str]| texts.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
        Pinned { labels: text(labels), replicas: replicas.iter().map(|r| text(r)).collect() }
    }

    fn chosen(before: &Pinned, live: &[(&str, &[(&str, &str)])]) -> Chosen {
        let points: Vec<Point> = live.iter().map(|(i, labels)| point(i, labels)).collect();
        before.choose(&points.iter().collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn one_replica_is_read_while_it_lives() {
        let all: &[(&str, &[(&str, &str)])] = &[
            ("1", &[("r", "a")]),
            ("2", &[("r", "a")]),
            ("1", &[("r", "b")]),
            ("2", &[("r", "b")]),
        ];
        assert_eq!(chosen(&pinned(&["r"], &[]), all).pinned, pinned(&["r"], &[&["a"]]));
        let b = pinned(&["r"], &[&["b"]]);
        assert_eq!(chosen(&b, all).pinned, b, "nothing is gained by another");
        assert_eq!(chosen(&b, &all[..2]).pinned, pinned(&["r"], &[&["a"]]), "it is gone");
        // One that sees more is better.
        assert_eq!(chosen(&b, &all[..3]).pinned, pinned(&["r"], &[&["a"]]));
    }

    #[test]
    fn shards_have_replicas_of_their_own() {
        let live: &[(&str, &[(&str, &str)])] = &[
            ("1", &[("r", "shard0-a")]),
            ("1", &[("r", "shard0-b")]),
            ("2", &[("r", "shard1-a")]),
            ("2", &[("r", "shard1-b")]),
        ];
        let before = pinned(&["r"], &[&["shard0-b"], &["shard1-a"]]);
        assert_eq!(chosen(&before, live), Chosen { pinned: before, unseen: BTreeSet::new() });
    }

    #[test]
    fn what_only_another_replica_sees_is_named() {
        let live: &[(&str, &[(&str, &str)])] = &[
            ("1", &[("r", "a")]),
            ("2", &[("r", "a")]),
            ("2", &[("r", "b")]),
            ("3", &[("r", "b")]),
        ];
        let chosen = chosen(&pinned(&["r"], &[]), live);
        assert_eq!(chosen.pinned, pinned(&["r"], &[&["a"]]));
        assert_eq!(chosen.unseen, [("envoy".to_owned(), "3".to_owned())].into());
    }

    #[test]
    fn labels_that_do_not_tell_replicas_are_refused() {
        // Target 1 twice by x, target 2 by y alone: the values of both would select (a, d) too.
        let live = [
            point("1", &[("x", "a"), ("y", "c")]),
            point("1", &[("x", "a"), ("y", "d")]),
            point("2", &[("x", "b"), ("y", "d")]),
        ];
        let live: Vec<&Point> = live.iter().collect();
        let said = pinned(&["x", "y"], &[]).choose(&live).unwrap_err().to_string();
        assert!(said.contains("the values of x, y"), "{said}");
    }

    #[test]
    fn without_labels_everything_is_read() {
        let none = Pinned::default();
        let one = point("1", &[("r", "a")]);
        assert_eq!(none.choose(&[&one]).unwrap().pinned, none);
        assert!(none.reads(&one) && none.values().next().is_none());
        // Before anything has been chosen nothing is left out.
        assert!(pinned(&["r"], &[]).values().next().is_none());
        // Series without the label are a replica too: a server may have taken it off.
        let chosen = pinned(&["r"], &[]).choose(&[&point("1", &[])]).unwrap();
        assert_eq!(chosen.pinned, pinned(&["r"], &[&[""]]));
    }

    #[test]
    fn copies_differ_in_a_label() {
        let points = [
            point("1", &[("r", "a"), ("prometheus", "x")]),
            point("1", &[("r", "b"), ("prometheus", "y")]),
        ];
        let told = differing(&points, &["r".to_owned()]);
        let values = ["x".to_owned(), "y".to_owned()].into();
        assert_eq!(told, [("prometheus".to_owned(), values)].into());
    }
}
