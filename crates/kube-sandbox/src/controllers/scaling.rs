//! Scaling a Deployment whose rollout rests: paused, or with another number wanted.

use std::cmp::Reverse;

use serde_json::Value;

use super::api::text;
use super::rollout::{DESIRED, MAX, Rollout, Sizes, annotation, available, replicas};

/// The sizes to come.
pub(super) fn sizes(rollout: &Rollout<'_>) -> Sizes {
    let wanted = rollout.wanted();
    if let Some(only) = only_one(rollout) {
        let size = replicas(&rollout.sets[only]);
        return if size == wanted { Sizes::new() } else { vec![(only, wanted)] };
    }
    if rollout.new.is_some_and(|new| is_saturated(rollout, &rollout.sets[new])) {
        let old = rollout.old().filter(|index| replicas(&rollout.sets[*index]) > 0);
        return old.map(|index| (index, 0)).collect();
    }
    proportional(rollout)
}

/// The one set that has pods; where none has, the new one or else the newest.
fn only_one(rollout: &Rollout<'_>) -> Option<usize> {
    let mut active = (0..rollout.sets.len()).filter(|index| replicas(&rollout.sets[*index]) > 0);
    match (active.next(), active.next()) {
        (None, _) => rollout.new.or(rollout.sets.len().checked_sub(1)),
        (only, None) => only,
        _ => None,
    }
}

/// Whether the new set does all that the Deployment wants.
fn is_saturated(rollout: &Rollout<'_>, set: &Value) -> bool {
    let wanted = rollout.wanted();
    replicas(set) == wanted && annotation(set, DESIRED) == Some(wanted) && available(set) == wanted
}

/// Each set gets its share of what is to be added or taken away.
fn proportional(rollout: &Rollout<'_>) -> Sizes {
    let allowed = if rollout.wanted() > 0 { rollout.most() } else { 0 };
    let change = allowed - rollout.total();
    let mut active: Vec<usize> =
        (0..rollout.sets.len()).filter(|index| replicas(&rollout.sets[*index]) > 0).collect();
    let age = |index: usize| text(&rollout.sets[index]["metadata"]["creationTimestamp"]).to_owned();
    // The largest first; of equals the newer when growing, the older when shrinking.
    active.sort_by_key(|index| (Reverse(replicas(&rollout.sets[*index])), age(*index), *index));
    if change > 0 {
        active.sort_by_key(|index| {
            (Reverse(replicas(&rollout.sets[*index])), Reverse((age(*index), *index)))
        });
    }
    let mut added = 0;
    let mut sizes = Sizes::new();
    for index in active {
        let set = &rollout.sets[index];
        let share = if change == 0 { 0 } else { share(rollout, set, change, added) };
        added += share;
        sizes.push((index, replicas(set) + share));
    }
    if let Some(first) = sizes.first_mut() {
        first.1 = (first.1 + change - added).max(0);
    }
    sizes.retain(|(index, size)| {
        let set = &rollout.sets[*index];
        replicas(set) != *size || annotation(set, DESIRED) != Some(rollout.wanted())
    });
    sizes
}

fn share(rollout: &Rollout<'_>, set: &Value, change: i64, added: i64) -> i64 {
    let left = change - added;
    if left == 0 {
        return 0;
    }
    let share = if rollout.wanted() == 0 {
        -replicas(set)
    } else {
        let before = annotation(set, MAX).filter(|max| *max != 0).unwrap_or_else(|| {
            rollout.deployment["status"]["replicas"].as_i64().unwrap_or(0).max(1)
        });
        rounded(replicas(set) * rollout.most(), before) - replicas(set)
    };
    if change > 0 { share.clamp(0, left) } else { share.clamp(left, 0) }
}

/// A quotient of numbers that aren't negative, rounded to the nearest, halves up.
fn rounded(number: i64, by: i64) -> i64 {
    (2 * number + by) / (2 * by)
}

#[cfg(test)]
mod tests {
    use super::super::rollout::tests::{deployment, set};
    use super::*;

    fn at(wanted: i64, sets: Vec<Value>, new: Option<usize>) -> Sizes {
        let deployment = deployment(wanted, true);
        sizes(&Rollout { deployment: &deployment, sets, new })
    }

    #[test]
    fn while_paused_the_only_set_with_pods_is_scaled() {
        assert_eq!(at(6, vec![set(4, 4, 4, 5), set(0, 0, 4, 5)], None), [(0, 6)]);
        assert_eq!(at(3, vec![set(0, 0, 0, 0), set(0, 0, 0, 0)], None), [(1, 3)]);
    }

    #[test]
    fn an_adopted_set_that_does_all_ends_the_old_at_once() {
        assert_eq!(at(4, vec![set(4, 4, 4, 5), set(4, 4, 4, 5)], Some(1)), [(0, 0)]);
    }

    #[test]
    fn an_adopted_set_with_a_missing_pod_keeps_an_old_one() {
        let sizes = at(4, vec![set(4, 4, 4, 5), set(4, 3, 4, 5)], Some(1));
        assert_eq!(sizes, [(0, 1)], "of the 8 pods 5 may stay");
    }

    #[test]
    fn shares_are_proportional() {
        assert_eq!(at(8, vec![set(3, 3, 4, 5), set(2, 2, 4, 5)], Some(1)), [(0, 6), (1, 4)]);
    }
}
