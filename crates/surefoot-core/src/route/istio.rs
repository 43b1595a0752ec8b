//! `networking.istio.io/v1` VirtualService: http routes to the two destinations.
//!
//! Lists there carry no list type, so a server-side apply would own all of `http` and a merge patch
//! replace it. The edit is a JSON Patch that changes two numbers an entry, guarded by tests on what
//! it believes to be there; everything else, known to us or not, stays as it is.

use json_patch::{Patch, PatchOperation, jsonptr::PointerBuf};
use serde_json::{Value, json};

use super::{BREAK_GLASS, EPOCH, OWNER, Pair, RouteProblem, Signature, Weights, annotation};
use crate::mark::{Mark, WROTE};
use crate::routing::{Destination, Routing, Side};

/// Whether `written` names the Service: short, with namespace, or fully qualified.
#[must_use]
pub fn is_host(service: &str, namespace: &str, written: &str) -> bool {
    let Some(rest) = written.strip_prefix(service) else { return false };
    let Some(rest) = rest.strip_prefix('.') else { return rest.is_empty() };
    let Some(rest) = rest.strip_prefix(namespace) else { return false };
    rest.is_empty() || rest == ".svc" || rest.starts_with(".svc.")
}

/// Whether a `destination` of the route is this one, a subset included: a subset narrows a host to
/// some of its pods.
fn is_destination(of: Destination<'_>, namespace: &str, written: &Value) -> bool {
    let text = |key: &str| written.get(key).and_then(Value::as_str);
    text("host").is_some_and(|host| is_host(of.service, namespace, host))
        && text("subset") == of.subset
}

fn shown(written: &Value) -> String {
    let text = |key: &str| written.get(key).and_then(Value::as_str);
    match (text("host"), text("subset")) {
        (Some(host), Some(subset)) => format!("{host} subset {subset}"),
        (Some(host), None) => host.to_owned(),
        (None, _) => "a destination without host".to_owned(),
    }
}

/// An entry of `http` with the places of the two destinations in it.
struct Found {
    entry: usize,
    stable: usize,
    canary: usize,
}

fn name_of(route: &Value) -> String {
    route.pointer("/metadata/name").and_then(Value::as_str).unwrap_or("").to_owned()
}

/// Which entries of `http` are shifted.
fn entries(route: &Value, routing: &Routing) -> Result<Vec<usize>, RouteProblem> {
    let list = |kind: &str| {
        let list = route.pointer("/spec").and_then(|spec| spec.get(kind)?.as_array());
        list.filter(|list| !list.is_empty())
    };
    let Some(http) = list("http") else {
        let other = ["tcp", "tls"].into_iter().find(|kind| list(kind).is_some());
        return Err(match other {
            Some(kind) => {
                RouteProblem::OtherProtocol { name: name_of(route), kind: kind.to_owned() }
            }
            None => RouteProblem::NoHttp { name: name_of(route) },
        });
    };
    let called = |entry: &Value| entry.get("name").and_then(Value::as_str).map(str::to_owned);
    let names = || {
        let names: Vec<String> =
            http.iter().map(|e| called(e).unwrap_or_else(|| "one without name".into())).collect();
        names.join(", ")
    };
    if routing.http.is_empty() {
        return match http.len() {
            1 => Ok(vec![0]),
            count => Err(RouteProblem::SeveralHttp { name: name_of(route), count, names: names() }),
        };
    }
    let place = |wanted: &String| {
        let is = |entry: &Value| called(entry).as_ref() == Some(wanted);
        match http.iter().filter(|entry| is(entry)).count() {
            1 => Ok(http.iter().position(is).unwrap_or_default()),
            0 => Err(RouteProblem::HttpMissing {
                name: name_of(route),
                http: wanted.clone(),
                names: names(),
            }),
            _ => Err(RouteProblem::HttpTwice { name: name_of(route), http: wanted.clone() }),
        }
    };
    routing.http.iter().map(place).collect()
}

fn find(route: &Value, routing: &Routing, namespace: &str) -> Result<Vec<Found>, RouteProblem> {
    let (stable, canary) = (routing.destination(Side::Stable), routing.destination(Side::Canary));
    let found = |entry: usize| {
        let http = &route["spec"]["http"][entry];
        if http.get("delegate").is_some() {
            return Err(RouteProblem::Delegates { name: name_of(route) });
        }
        let list = http.get("route").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let written: Vec<&Value> = list.iter().map(|d| &d["destination"]).collect();
        let place = |of| written.iter().position(|w| is_destination(of, namespace, w));
        match (place(stable), place(canary), written.len()) {
            (Some(stable), Some(canary), 2) => Ok(Found { entry, stable, canary }),
            _ => Err(RouteProblem::Destinations {
                name: name_of(route),
                stable: stable.to_string(),
                canary: canary.to_string(),
                found: match written.as_slice() {
                    [] => "nothing".to_owned(),
                    some => some.iter().map(|w| shown(w)).collect::<Vec<_>>().join(", "),
                },
            }),
        }
    };
    entries(route, routing)?.into_iter().map(found).collect()
}

fn written_weight(route: &Value, entry: usize, place: usize) -> Option<i64> {
    let pointer = format!("/spec/http/{entry}/route/{place}/weight");
    route.pointer(&pointer).and_then(Value::as_i64)
}

/// The weights of the two destinations, in each entry that is shifted.
///
/// # Errors
/// When the route isn't one to exactly these two.
pub fn read(route: &Value, routing: &Routing, namespace: &str) -> Result<Weights, RouteProblem> {
    let pairs = find(route, routing, namespace)?.into_iter().map(|found| {
        let weight = |place| written_weight(route, found.entry, place).unwrap_or(0);
        Pair { stable: weight(found.stable), canary: weight(found.canary) }
    });
    Ok(Weights(pairs.collect()))
}

/// The longest timeout of the entries that are shifted, in seconds; `None` where one sets none,
/// which is Istio's default.
#[must_use]
pub fn timeout_seconds(route: &Value, routing: &Routing) -> Option<f64> {
    let timeout = |entry: usize| {
        let text = route["spec"]["http"][entry].get("timeout").and_then(Value::as_str)?;
        let span: jiff::SignedDuration = text.parse().ok()?;
        Some(span.as_secs_f64()).filter(|s| *s > 0.0)
    };
    let timeouts: Option<Vec<f64>> =
        entries(route, routing).ok()?.into_iter().map(timeout).collect();
    timeouts?.into_iter().max_by(f64::total_cmp)
}

fn op(kind: &str, path: &[&str], value: Value) -> Option<PatchOperation> {
    let path = PointerBuf::from_tokens(path.iter().copied());
    let op = json!({"op": kind, "path": path.to_string(), "value": value});
    serde_json::from_value(op).ok()
}

/// The operations that lock the route's version, test what is believed to be there, and set the
/// weights.
fn weights(route: &Value, found: &[Found], percent: i32) -> Vec<Option<PatchOperation>> {
    let version = route.pointer("/metadata/resourceVersion").cloned().unwrap_or(Value::Null);
    let mut ops = vec![op("replace", &["metadata", "resourceVersion"], version)];
    for Found { entry, stable, canary } in found {
        let index = entry.to_string();
        let http = ["spec", "http", &index];
        let written = &route["spec"]["http"][entry];
        if let Some(name) = written.get("name") {
            ops.push(op("test", &[&http[..], &["name"]].concat(), name.clone()));
        }
        for (place, percent) in [(stable, 100 - percent), (canary, percent)] {
            let destination = written["route"][place]["destination"].clone();
            let place = place.to_string();
            let at = |field: &'static str| [&http[..], &["route", &place, field]].concat();
            ops.push(op("test", &at("destination"), destination));
            ops.push(op("add", &at("weight"), Value::from(percent)));
        }
    }
    ops
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
/// read. `None` when there is nothing to change.
///
/// # Errors
/// As [`read`].
pub fn edit(
    route: &Value,
    routing: &Routing,
    namespace: &str,
    percent: i32,
    sign: Signature<'_>,
) -> Result<Option<Patch>, RouteProblem> {
    let found = find(route, routing, namespace)?;
    let (to_stable, to_canary) = (i64::from(100 - percent), i64::from(percent));
    let (epoch, wrote) = (sign.epoch.to_string(), sign.wrote.to_string());
    let right = found.iter().all(|f| {
        written_weight(route, f.entry, f.stable) == Some(to_stable)
            && written_weight(route, f.entry, f.canary) == Some(to_canary)
    });
    let marks = [(EPOCH, epoch.as_str()), (OWNER, sign.rollout), (WROTE, &wrote)];
    if right && marks.iter().all(|(key, value)| annotation(route, key) == Some(value)) {
        return Ok(None);
    }
    let mut ops = weights(route, &found, percent);
    ops.extend(annotate(route, &marks));
    Ok(Some(Patch(ops.into_iter().flatten().collect())))
}

/// The patch of an abort of `release` without a controller: all weight to stable, and the mark that
/// says so. The
/// epoch stays as it is: whoever leads, or believes to, finds the mark. `route` must be freshly read.
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
    let mut ops = weights(route, &found, 0);
    let wrote = Mark { release, weight: 0 }.to_string();
    ops.extend(annotate(route, &[(WROTE, &wrote), (BREAK_GLASS, mark)]));
    Ok(Patch(ops.into_iter().flatten().collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::rollout::Apex;
    use crate::routing::Split;

    fn route() -> Value {
        json!({
            "metadata": {"name": "shop", "resourceVersion": "7"},
            "spec": {"hosts": ["shop.test"], "http": [{
                "name": "primary", "timeout": "2s", "fieldOfTheFuture": {"a": [1, 2]},
                "route": [
                    {"destination": {"host": "shop-canary"}},
                    {"destination": {"host": "shop-stable.prod.svc.cluster.local"}, "weight": 100, "headers": {}},
                ]
            }]}
        })
    }

    /// Three entries: two of ours, one of somebody else's between them.
    fn several() -> Value {
        let mut several = route();
        let mut second = several["spec"]["http"][0].clone();
        second["name"] = json!("secondary");
        second["timeout"] = json!("5s");
        let other = json!({"name": "static", "route": [{"destination": {"host": "files"}}]});
        several["spec"]["http"].as_array_mut().unwrap().extend([other, second]);
        several
    }

    fn routing(http: &[&str]) -> Routing {
        Routing {
            service: "shop".into(),
            apex: Apex::Both,
            split: Split::Services { stable: "shop-stable".into(), canary: "shop-canary".into() },
            route: "shop".into(),
            http: http.iter().map(|&name| name.into()).collect(),
        }
    }

    fn by_subset() -> Routing {
        let (rule, stable, canary) = ("shop".into(), "stable".into(), "canary".into());
        Routing { split: Split::Subsets { rule, stable, canary }, ..routing(&[]) }
    }

    const MARK: Signature<'_> =
        Signature { rollout: "shop", epoch: 3, wrote: Mark { release: 1, weight: 10 } };

    #[test]
    fn only_two_weights_and_our_annotations_change() {
        let (routing, mut edited) = (routing(&[]), route());
        let patch = edit(&edited, &routing, "prod", 10, MARK).unwrap().unwrap();
        let lock = json!({"op": "replace", "path": "/metadata/resourceVersion", "value": "7"});
        assert_eq!(json!(patch)[0], lock, "of no other version");
        json_patch::patch(&mut edited, &patch).unwrap();
        assert_eq!(read(&edited, &routing, "prod").unwrap().canary_percent(), Some(10));
        let mut expected = route();
        expected["spec"]["http"][0]["route"][0]["weight"] = json!(10);
        expected["spec"]["http"][0]["route"][1]["weight"] = json!(90);
        expected["metadata"]["annotations"] = json!({EPOCH: "3", OWNER: "shop", WROTE: "1/10"});
        assert_eq!(edited, expected);
        assert_eq!(edit(&edited, &routing, "prod", 10, MARK).unwrap(), None);
    }

    #[test]
    fn breaking_the_glass_writes_the_weights_and_a_mark() {
        let mut route = route();
        let routing = routing(&[]);
        let patch = edit(&route, &routing, "prod", 50, MARK).unwrap().unwrap();
        json_patch::patch(&mut route, &patch).unwrap();
        let patch = break_glass(&route, &routing, "prod", 1, "jo").unwrap();
        let text = serde_json::to_string(&patch).unwrap();
        assert!(text.contains("resourceVersion") && text.contains("\"test\""), "{text}");
        json_patch::patch(&mut route, &patch).unwrap();
        assert_eq!(read(&route, &routing, "prod").unwrap().canary_percent(), Some(0));
        let annotations = json!({EPOCH: "3", OWNER: "shop", WROTE: "1/0", BREAK_GLASS: "jo"});
        assert_eq!(route["metadata"]["annotations"], annotations);
        route["spec"]["http"][0]["route"].as_array_mut().unwrap().swap(0, 1);
        assert!(json_patch::patch(&mut route, &patch).is_err(), "rewritten meanwhile");
    }

    #[test]
    fn a_route_rewritten_meanwhile_fails_the_test_operation() {
        let patch = edit(&route(), &routing(&[]), "prod", 10, MARK).unwrap().unwrap();
        let mut swapped = route();
        swapped["spec"]["http"][0]["route"].as_array_mut().unwrap().swap(0, 1);
        assert!(json_patch::patch(&mut swapped, &patch).is_err());
        let mut renamed = route();
        renamed["spec"]["http"][0]["name"] = json!("other");
        assert!(json_patch::patch(&mut renamed, &patch).is_err());
    }

    #[test]
    fn named_entries_move_as_one_and_the_others_stay() {
        let (routing, mut edited) = (routing(&["secondary", "primary"]), several());
        let patch = edit(&edited, &routing, "prod", 25, MARK).unwrap().unwrap();
        json_patch::patch(&mut edited, &patch).unwrap();
        assert_eq!(read(&edited, &routing, "prod").unwrap().words(), "75/25, 75/25");
        assert_eq!(edited["spec"]["http"][1], several()["spec"]["http"][1]);
        assert_eq!(timeout_seconds(&edited, &routing), Some(5.0));
        edited["spec"]["http"][2]["route"][0]["weight"] = json!(40);
        edited["spec"]["http"][2]["route"][1]["weight"] = json!(60);
        let uneven = read(&edited, &routing, "prod").unwrap();
        assert_eq!((uneven.canary_percent(), uneven.highest()), (None, 40));
    }

    #[test]
    fn names_that_mean_nothing_or_two_things_are_refused() {
        let said = |route: &Value, http: &[&str]| {
            read(route, &routing(http), "prod").unwrap_err().to_string()
        };
        assert!(said(&several(), &[]).contains("(it has: primary, static, secondary)"));
        assert!(said(&several(), &["third"]).contains("no http route named \"third\""));
        let mut twice = several();
        twice["spec"]["http"][2]["name"] = json!("primary");
        assert!(said(&twice, &["primary"]).contains("two http routes named"));
    }

    #[test]
    fn a_subset_is_a_destination_of_its_own() {
        let mut route = route();
        for (place, subset) in [(0, "canary"), (1, "stable")] {
            let destination = json!({"host": "shop.prod.svc.cluster.local", "subset": subset});
            route["spec"]["http"][0]["route"][place]["destination"] = destination;
        }
        let weights = read(&route, &by_subset(), "prod").unwrap();
        assert_eq!(weights.canary_percent(), Some(0));
        let refused = read(&route, &routing(&[]), "prod").unwrap_err().to_string();
        assert!(refused.contains("shop.prod.svc.cluster.local subset canary"), "{refused}");
        assert!(read(&super::tests::route(), &by_subset(), "prod").is_err());
    }

    #[test]
    fn routes_that_are_not_ours_are_refused_by_name() {
        let read = |route: &Value| read(route, &routing(&[]), "prod");
        let mut three = route();
        let extra = json!({"destination": {"host": "other"}});
        three["spec"]["http"][0]["route"].as_array_mut().unwrap().push(extra);
        assert!(matches!(read(&three), Err(RouteProblem::Destinations { .. })));
        let mut subset = route();
        subset["spec"]["http"][0]["route"][0]["destination"]["subset"] = json!("v2");
        assert!(matches!(read(&subset), Err(RouteProblem::Destinations { .. })));
        let mut odd = route();
        odd["spec"]["http"][0]["route"][1]["weight"] = json!(60);
        let weights = read(&odd).unwrap();
        assert_eq!((weights.canary_percent(), weights.words()), (None, "60/0".to_owned()));
        for (stable, canary, share) in [(30, 90, 75), (0, 0, 0), (-5, 1, 100), (2, 1, 34)] {
            assert_eq!(Pair { stable, canary }.share(), share);
        }
        odd["spec"]["http"] = json!([]);
        assert!(matches!(read(&odd), Err(RouteProblem::NoHttp { .. })));
        odd["spec"]["tcp"] = json!([{"route": []}]);
        assert!(matches!(read(&odd), Err(RouteProblem::OtherProtocol { .. })));
        let mut delegate = route();
        delegate["spec"]["http"][0]["delegate"] = json!({"name": "child"});
        assert!(matches!(read(&delegate), Err(RouteProblem::Delegates { .. })));
        assert!(!is_host("shop-stable", "prod", "shop-stable.other.svc.cluster.local"));
        assert!(!is_host("shop-stable", "prod", "shop-stable2"));
        assert_eq!(timeout_seconds(&route(), &routing(&[])), Some(2.0));
    }
}
