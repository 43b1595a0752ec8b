//! Reading a route's weights, and the smallest edit that changes them, whatever kind it is.
//!
//! The lists of a route carry no list type, so a server-side apply would own all of them and a merge
//! patch replace them. The edit is a JSON Patch that changes two numbers an entry, guarded by tests on
//! what it believes to be there; everything else, known to us or not, stays as it is.

use json_patch::{Patch, PatchOperation, jsonptr::PointerBuf};
use serde_json::{Value, json};

use super::chosen::{self, is_ours};
use super::dialect::{Dialect, dialect};
use super::problem::{Fault, RouteProblem};
use super::{BREAK_GLASS, EPOCH, OWNER, Pair, Signature, Weights, annotation, items};
use crate::api::rollout::RequestMatch;
use crate::mark::{Mark, WROTE};
use crate::routing::{Routing, Side};

/// An entry that is shifted: its place in the route, and those of the two destinations in it.
pub(super) struct Entry {
    pub(super) place: usize,
    stable: usize,
    pub(super) canary: usize,
}

/// Which entries are shifted: those for chosen requests ([`chosen`]) never are.
fn entries(route: &Value, routing: &Routing) -> Result<Vec<usize>, Fault> {
    let kind = dialect(routing.kind);
    let entry = kind.entry();
    let list = list(route, kind);
    let own = || list.iter().enumerate().filter(|(_, entry)| !is_ours(entry));
    let Some((first, _)) = own().next() else { return Err(kind.empty(route)) };
    let called = |entry: &Value| entry.get("name").and_then(Value::as_str).map(str::to_owned);
    let names = || {
        let names: Vec<String> =
            own().map(|(_, e)| called(e).unwrap_or_else(|| "one without name".into())).collect();
        names.join(", ")
    };
    if routing.http.is_empty() {
        return match own().count() {
            1 => Ok(vec![first]),
            count => Err(Fault::Several { entry, count, names: names() }),
        };
    }
    let place = |wanted: &String| {
        let mut places = own().filter(|(_, entry)| called(entry).as_ref() == Some(wanted));
        let wanted = || wanted.clone();
        match (places.next(), places.next()) {
            (Some((place, _)), None) => Ok(place),
            (None, _) => Err(Fault::EntryMissing { entry, wanted: wanted(), names: names() }),
            (Some(_), Some(_)) => Err(Fault::EntryTwice { entry, wanted: wanted() }),
        }
    };
    routing.http.iter().map(place).collect()
}

fn list<'v>(route: &'v Value, kind: &dyn Dialect) -> &'v [Value] {
    route.get("spec").map_or(&[], |spec| items(spec, kind.list()))
}

/// The destinations of an entry.
fn destinations<'v>(entry: &'v Value, kind: &dyn Dialect) -> &'v [Value] {
    items(entry, kind.destinations())
}

/// The entries that are shifted, as they are written.
pub(super) fn shifted<'v>(route: &'v Value, routing: &Routing) -> Vec<&'v Value> {
    let list = list(route, dialect(routing.kind));
    entries(route, routing).unwrap_or_default().into_iter().filter_map(|i| list.get(i)).collect()
}

fn find(route: &Value, routing: &Routing, namespace: &str) -> Result<Vec<Entry>, RouteProblem> {
    let kind = dialect(routing.kind);
    let (stable, canary) = (routing.destination(Side::Stable), routing.destination(Side::Canary));
    let found = |place: usize| {
        let entry = &list(route, kind)[place];
        kind.entry_fault(entry)?;
        let written = destinations(entry, kind);
        let of = |of| written.iter().position(|to| kind.leads_to(to, of, namespace));
        match (of(stable), of(canary), written.len()) {
            (Some(stable), Some(canary), 2) => Ok(Entry { place, stable, canary }),
            _ => Err(Fault::Destinations {
                stable: stable.to_string(),
                canary: canary.to_string(),
                found: match written {
                    [] => "nothing".to_owned(),
                    some => some.iter().map(|to| kind.shown(to)).collect::<Vec<_>>().join(", "),
                },
            }),
        }
    };
    let all = entries(route, routing);
    let all = all.and_then(|entries| entries.into_iter().map(found).collect());
    all.map_err(|fault| routing.problem(fault))
}

fn written_weight(route: &Value, routing: &Routing, entry: usize, place: usize) -> i64 {
    let kind = dialect(routing.kind);
    let list = list(route, kind).get(entry).map_or(&[][..], |entry| destinations(entry, kind));
    match list.get(place).and_then(|to| to.get("weight")) {
        None | Some(Value::Null) => kind.unwritten(),
        Some(weight) => weight.as_i64().unwrap_or(0),
    }
}

/// The weights of the two destinations, in each entry that is shifted.
///
/// # Errors
/// When the route isn't one to exactly these two.
pub fn read(route: &Value, routing: &Routing, namespace: &str) -> Result<Weights, RouteProblem> {
    let pairs = find(route, routing, namespace)?.into_iter().map(|entry| {
        let weight = |place| written_weight(route, routing, entry.place, place);
        Pair { stable: weight(entry.stable), canary: weight(entry.canary) }
    });
    Ok(Weights(pairs.collect()))
}

/// The longest timeout of the entries that are shifted, in seconds; `None` where one sets none.
#[must_use]
pub fn timeout_seconds(route: &Value, routing: &Routing) -> Option<f64> {
    let kind = dialect(routing.kind);
    let timeout = |entry: &Value| {
        let span: jiff::SignedDuration = kind.timeout(entry)?.parse().ok()?;
        Some(span.as_secs_f64()).filter(|s| *s > 0.0)
    };
    let timeouts: Option<Vec<f64>> = shifted(route, routing).into_iter().map(timeout).collect();
    timeouts?.into_iter().max_by(f64::total_cmp)
}

/// Whether the route has an entry of ours for chosen requests.
#[must_use]
pub fn has_chosen(route: &Value, routing: &Routing) -> bool {
    list(route, dialect(routing.kind)).iter().any(is_ours)
}

/// Whether exactly the chosen requests go to the canary whatever its weight.
///
/// # Errors
/// As [`read`], and when the route doesn't go together with what is chosen.
pub fn carries(
    route: &Value,
    routing: &Routing,
    namespace: &str,
    chosen: &[RequestMatch],
) -> Result<bool, RouteProblem> {
    let found = find(route, routing, namespace)?;
    let kind = dialect(routing.kind);
    let list = list(route, kind);
    // Most steps choose nobody: at rest this is asked at each look.
    if chosen.is_empty() {
        return Ok(!list.iter().any(is_ours));
    }
    let wanted = chosen::wanted(list, &found, chosen, kind);
    wanted.map(|wanted| wanted == list).map_err(|fault| routing.problem(fault))
}

/// Whether nobody has changed our entries for these requests; one that lags behind the user's own, or that
/// was taken away, counts as unchanged.
#[must_use]
pub fn is_untouched(
    route: &Value,
    routing: &Routing,
    namespace: &str,
    chosen: &[RequestMatch],
) -> bool {
    let Ok(found) = find(route, routing, namespace) else { return false };
    let kind = dialect(routing.kind);
    chosen::is_untouched(list(route, kind), &found, chosen, kind)
}

/// The route without any weight or entry of ours: what no decision may change.
#[must_use]
pub fn without_weights(route: &Value, routing: &Routing) -> Value {
    let kind = dialect(routing.kind);
    let mut rest = route.clone();
    let entries = rest.get_mut("spec").and_then(|spec| spec.get_mut(kind.list())?.as_array_mut());
    let entries = entries.into_iter().flat_map(|list| {
        list.retain(|entry| !is_ours(entry));
        list
    });
    for entry in entries {
        let list = entry.get_mut(kind.destinations()).and_then(Value::as_array_mut);
        for destination in list.into_iter().flatten().filter_map(Value::as_object_mut) {
            destination.remove("weight");
        }
    }
    rest
}

fn op(kind: &str, path: &[&str], value: Value) -> Option<PatchOperation> {
    let path = PointerBuf::from_tokens(path.iter().copied());
    let op = json!({"op": kind, "path": path.to_string(), "value": value});
    serde_json::from_value(op).ok()
}

/// The operations that lock the route's version, test what is believed to be there, and set the
/// weights: always a pair that sums to 100, so that never all of them are 0. Entries for chosen requests
/// are taken away and put anew where they aren't as wanted.
///
/// # Errors
/// When an entry doesn't go together with what is chosen.
fn weights(
    route: &Value,
    routing: &Routing,
    found: &[Entry],
    percent: i32,
    chosen: &[RequestMatch],
) -> Result<Vec<Option<PatchOperation>>, Fault> {
    let kind = dialect(routing.kind);
    let list = list(route, kind);
    let version = route.pointer("/metadata/resourceVersion").cloned().unwrap_or(Value::Null);
    let mut ops = vec![op("replace", &["metadata", "resourceVersion"], version)];
    let anew = chosen::wanted(list, found, chosen, kind)? != list;
    let ours = list.iter().enumerate().filter(|(_, entry)| anew && is_ours(entry));
    let ours: Vec<usize> = ours.map(|(place, _)| place).collect();
    // From the last on, so that the places before stay what they are.
    for place in ours.iter().rev() {
        let index = place.to_string();
        let at = ["spec", kind.list(), &index];
        let name = list[*place].get("name").cloned().unwrap_or_default();
        ops.push(op("test", &[&at[..], &["name"]].concat(), name));
        ops.push(op("remove", &at, Value::Null));
    }
    let now = |place: usize| place - ours.iter().filter(|ours| **ours < place).count();
    for Entry { place, stable, canary } in found {
        let index = now(*place).to_string();
        let at = ["spec", kind.list(), &index];
        let entry = &list[*place];
        if let Some(name) = entry.get("name") {
            ops.push(op("test", &[&at[..], &["name"]].concat(), name.clone()));
        }
        for (place, percent) in [(stable, 100 - percent), (canary, percent)] {
            let destination = &destinations(entry, kind)[*place];
            let place = place.to_string();
            let at = [&at[..], &[kind.destinations(), &place]].concat();
            for field in kind.identity() {
                if let Some(value) = destination.get(field) {
                    ops.push(op("test", &[&at[..], &[*field]].concat(), value.clone()));
                }
            }
            ops.push(op("add", &[&at[..], &["weight"]].concat(), Value::from(percent)));
        }
    }
    if anew && !chosen.is_empty() {
        let mut found: Vec<&Entry> = found.iter().collect();
        found.sort_by_key(|entry| std::cmp::Reverse(entry.place));
        for entry in found {
            let ours = chosen::before(list, entry, chosen, kind)?;
            ops.push(op("add", &["spec", kind.list(), &now(entry.place).to_string()], ours));
        }
    }
    Ok(ops)
}

/// The operations that annotate the route, whether or not it has annotations: `null` is none.
fn annotate(route: &Value, marks: &[(&str, &str)]) -> Vec<Option<PatchOperation>> {
    let have = route.pointer("/metadata/annotations").is_some_and(Value::is_object);
    let first = (!have).then(|| op("add", &["metadata", "annotations"], json!({})));
    let mark = |(key, value): &(&str, &str)| {
        op("add", &["metadata", "annotations", key], Value::from(*value))
    };
    first.into_iter().chain(marks.iter().map(mark)).collect()
}

/// The patch that sets the canary's weight and our annotations on `route`, which must be freshly
/// read, and sends the chosen requests to the canary as well. `None` when there is nothing to change.
///
/// # Errors
/// As [`carries`].
pub fn edit(
    route: &Value,
    routing: &Routing,
    namespace: &str,
    percent: i32,
    chosen: &[RequestMatch],
    sign: Signature<'_>,
) -> Result<Option<Patch>, RouteProblem> {
    let found = find(route, routing, namespace)?;
    let (to_stable, to_canary) = (i64::from(100 - percent), i64::from(percent));
    let (epoch, wrote) = (sign.epoch.to_string(), sign.wrote.to_string());
    let right = found.iter().all(|f| {
        written_weight(route, routing, f.place, f.stable) == to_stable
            && written_weight(route, routing, f.place, f.canary) == to_canary
    });
    let marks = [(EPOCH, epoch.as_str()), (OWNER, sign.rollout), (WROTE, &wrote)];
    let right = right && carries(route, routing, namespace, chosen)?;
    if right && marks.iter().all(|(key, value)| annotation(route, key) == Some(value)) {
        return Ok(None);
    }
    let ops = weights(route, routing, &found, percent, chosen);
    let mut ops = ops.map_err(|fault| routing.problem(fault))?;
    ops.extend(annotate(route, &marks));
    Ok(Some(Patch(ops.into_iter().flatten().collect())))
}

/// The patch of an abort of `release` without a controller: all weight to stable, no request chosen, and
/// the mark that says so. The epoch stays as it is: whoever leads, or believes to, finds the mark. `route` must be freshly read.
///
/// # Errors
/// As [`edit`].
pub fn break_glass(
    route: &Value,
    routing: &Routing,
    namespace: &str,
    release: i64,
    mark: &str,
) -> Result<Patch, RouteProblem> {
    let found = find(route, routing, namespace)?;
    let ops = weights(route, routing, &found, 0, &[]);
    let mut ops = ops.map_err(|fault| routing.problem(fault))?;
    let wrote = Mark { release, weight: 0 }.to_string();
    ops.extend(annotate(route, &[(WROTE, &wrote), (BREAK_GLASS, mark)]));
    Ok(Patch(ops.into_iter().flatten().collect()))
}
