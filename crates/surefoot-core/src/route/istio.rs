//! `networking.istio.io/v1` VirtualService, host level: one http route to two Services.
//!
//! Lists there carry no list type, so a server-side apply would own all of `http` and a merge patch
//! replace it. The edit is a JSON Patch that changes two numbers, guarded by tests on what it
//! believes to be there; everything else, known to us or not, stays as it is.

use json_patch::{Patch, PatchOperation, jsonptr::PointerBuf};
use serde_json::{Value, json};

use super::{RouteProblem, Weights};

/// Annotation with the epoch of the controller that wrote last.
pub const EPOCH: &str = "surefoot.dev/epoch";

/// Annotation of somebody who brought the traffic back by hand; on a Deployment, of somebody who
/// resumes it by hand.
pub const BREAK_GLASS: &str = "surefoot.dev/break-glass";

/// A Service as a VirtualService may name it.
#[derive(Debug, Clone, Copy)]
pub struct Host<'a> {
    /// Name of the Service.
    pub service: &'a str,
    /// Its namespace, which is the route's too.
    pub namespace: &'a str,
}

impl Host<'_> {
    /// Whether `written` names this Service: short, with namespace, or fully qualified.
    #[must_use]
    pub fn is(&self, written: &str) -> bool {
        let Some(rest) = written.strip_prefix(self.service) else { return false };
        let Some(rest) = rest.strip_prefix('.') else { return rest.is_empty() };
        let Some(rest) = rest.strip_prefix(self.namespace) else { return false };
        rest.is_empty() || rest == ".svc" || rest.starts_with(".svc.")
    }
}

/// The two destinations, by their places in the route.
struct Found {
    stable: usize,
    canary: usize,
}

fn find(route: &Value, stable: Host<'_>, canary: Host<'_>) -> Result<Found, RouteProblem> {
    let name = || route.pointer("/metadata/name").and_then(Value::as_str).unwrap_or("").to_owned();
    let http = route.pointer("/spec/http").and_then(Value::as_array);
    let http =
        http.filter(|h| !h.is_empty()).ok_or_else(|| RouteProblem::NoHttp { name: name() })?;
    let [entry] = http.as_slice() else {
        return Err(RouteProblem::SeveralHttp { name: name(), count: http.len() });
    };
    let destinations = entry.get("route").and_then(Value::as_array).cloned().unwrap_or_default();
    let hosts: Vec<&str> = destinations
        .iter()
        .map(|d| {
            // A subset narrows a host to some of its pods: then it isn't the Service we mean.
            let subset = d.pointer("/destination/subset").is_some();
            let host = d.pointer("/destination/host").and_then(Value::as_str);
            host.filter(|_| !subset).unwrap_or("a subset")
        })
        .collect();
    let place = |host: Host<'_>| hosts.iter().position(|h| host.is(h));
    match (place(stable), place(canary), hosts.len()) {
        (Some(stable), Some(canary), 2) => Ok(Found { stable, canary }),
        _ => Err(RouteProblem::Destinations {
            name: name(),
            stable: stable.service.to_owned(),
            canary: canary.service.to_owned(),
            found: if hosts.is_empty() { "nothing".to_owned() } else { hosts.join(", ") },
        }),
    }
}

fn weight(route: &Value, place: usize) -> i64 {
    let pointer = format!("/spec/http/0/route/{place}/weight");
    route.pointer(&pointer).and_then(Value::as_i64).unwrap_or(0)
}

/// The weights of the two Services.
///
/// # Errors
/// When the route isn't one http route to exactly these two, or the weights aren't a pair that sums
/// to 100.
pub fn read(route: &Value, stable: Host<'_>, canary: Host<'_>) -> Result<Weights, RouteProblem> {
    let found = find(route, stable, canary)?;
    let weights =
        Weights { stable: weight(route, found.stable), canary: weight(route, found.canary) };
    if weights.canary_percent().is_none() {
        let name = route.pointer("/metadata/name").and_then(Value::as_str).unwrap_or("").to_owned();
        return Err(RouteProblem::BadWeights {
            name,
            stable: weights.stable,
            canary: weights.canary,
        });
    }
    Ok(weights)
}

/// The longest timeout of the route in seconds, where it sets one. Istio's default is none.
#[must_use]
pub fn timeout_seconds(route: &Value) -> Option<f64> {
    let text = route.pointer("/spec/http/0/timeout").and_then(Value::as_str)?;
    let span: jiff::SignedDuration = text.parse().ok()?;
    Some(span.as_secs_f64()).filter(|s| *s > 0.0)
}

fn op(kind: &str, path: &[&str], value: Value) -> Option<PatchOperation> {
    let path = PointerBuf::from_tokens(path.iter().copied());
    let op = json!({"op": kind, "path": path.to_string(), "value": value});
    serde_json::from_value(op).ok()
}

/// The operations that lock the route's version, test what is believed to be there, and set the two
/// weights.
fn weights(route: &Value, found: &Found, percent: i32) -> Vec<Option<PatchOperation>> {
    let wanted = [(found.stable, i64::from(100 - percent)), (found.canary, i64::from(percent))];
    let version = route.pointer("/metadata/resourceVersion").cloned().unwrap_or(Value::Null);
    let mut ops = vec![op("replace", &["metadata", "resourceVersion"], version)];
    let http = ["spec", "http", "0"];
    if let Some(name) = route.pointer("/spec/http/0/name") {
        ops.push(op("test", &[&http[..], &["name"]].concat(), name.clone()));
    }
    for (place, percent) in wanted {
        let place = place.to_string();
        let at = |field: &'static str| [&http[..], &["route", &place, field]].concat();
        let pointer = format!("/spec/http/0/route/{place}/destination");
        let destination = route.pointer(&pointer).cloned().unwrap_or(Value::Null);
        ops.push(op("test", &at("destination"), destination));
        ops.push(op("add", &at("weight"), Value::from(percent)));
    }
    ops
}

/// The patch that sets the canary's weight and the epoch on `route`, which must be freshly read.
/// `None` when there is nothing to change.
///
/// # Errors
/// As [`read`], except that weights that are no pair of ours are put right.
pub fn edit(
    route: &Value,
    stable: Host<'_>,
    canary: Host<'_>,
    percent: i32,
    epoch: i64,
) -> Result<Option<Patch>, RouteProblem> {
    let found = find(route, stable, canary)?;
    let wanted = [(found.stable, i64::from(100 - percent)), (found.canary, i64::from(percent))];
    let stamp = epoch.to_string();
    let annotations = route.pointer("/metadata/annotations").and_then(Value::as_object);
    let stamped = annotations.and_then(|a| a.get(EPOCH)).and_then(Value::as_str);
    let right = wanted.iter().all(|(place, percent)| {
        route.pointer(&format!("/spec/http/0/route/{place}/weight")).and_then(Value::as_i64)
            == Some(*percent)
    });
    if right && stamped == Some(stamp.as_str()) {
        return Ok(None);
    }
    let mut ops = weights(route, &found, percent);
    if annotations.is_none() {
        ops.push(op("add", &["metadata", "annotations"], json!({})));
    }
    ops.push(op("add", &["metadata", "annotations", EPOCH], Value::from(stamp)));
    Ok(Some(Patch(ops.into_iter().flatten().collect())))
}

/// The patch of an abort without a controller: all weight to stable, and the mark that says so. The
/// epoch stays as it is: whoever leads, or believes to, finds the mark. `route` must be freshly read.
///
/// # Errors
/// As [`edit`].
pub fn break_glass(
    route: &Value,
    stable: Host<'_>,
    canary: Host<'_>,
    mark: &str,
) -> Result<Patch, RouteProblem> {
    let found = find(route, stable, canary)?;
    let annotations = route.pointer("/metadata/annotations").and_then(Value::as_object);
    let mut ops = weights(route, &found, 0);
    if annotations.is_none() {
        ops.push(op("add", &["metadata", "annotations"], json!({})));
    }
    ops.push(op("add", &["metadata", "annotations", BREAK_GLASS], Value::from(mark)));
    Ok(Patch(ops.into_iter().flatten().collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

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
    const STABLE: Host<'_> = Host { service: "shop-stable", namespace: "prod" };
    const CANARY: Host<'_> = Host { service: "shop-canary", namespace: "prod" };

    #[test]
    fn only_two_weights_and_the_epoch_change() {
        let mut edited = route();
        let patch = edit(&edited, STABLE, CANARY, 10, 3).unwrap().unwrap();
        json_patch::patch(&mut edited, &patch).unwrap();
        assert_eq!(read(&edited, STABLE, CANARY).unwrap().canary_percent(), Some(10));
        let mut expected = route();
        expected["spec"]["http"][0]["route"][0]["weight"] = json!(10);
        expected["spec"]["http"][0]["route"][1]["weight"] = json!(90);
        expected["metadata"]["annotations"] = json!({EPOCH: "3"});
        assert_eq!(edited, expected);
        assert_eq!(edit(&edited, STABLE, CANARY, 10, 3).unwrap(), None);
    }

    #[test]
    fn breaking_the_glass_writes_the_weights_and_a_mark() {
        let mut route = route();
        let patch = edit(&route, STABLE, CANARY, 50, 3).unwrap().unwrap();
        json_patch::patch(&mut route, &patch).unwrap();
        let patch = break_glass(&route, STABLE, CANARY, "jo").unwrap();
        let text = serde_json::to_string(&patch).unwrap();
        assert!(text.contains("resourceVersion") && text.contains("\"test\""), "{text}");
        json_patch::patch(&mut route, &patch).unwrap();
        assert_eq!(read(&route, STABLE, CANARY).unwrap().canary_percent(), Some(0));
        assert_eq!(route["metadata"]["annotations"], json!({EPOCH: "3", BREAK_GLASS: "jo"}));
        route["spec"]["http"][0]["route"].as_array_mut().unwrap().swap(0, 1);
        assert!(json_patch::patch(&mut route, &patch).is_err(), "rewritten meanwhile");
    }

    #[test]
    fn a_route_rewritten_meanwhile_fails_the_test_operation() {
        let patch = edit(&route(), STABLE, CANARY, 10, 3).unwrap().unwrap();
        let mut swapped = route();
        swapped["spec"]["http"][0]["route"].as_array_mut().unwrap().swap(0, 1);
        assert!(json_patch::patch(&mut swapped, &patch).is_err());
    }

    #[test]
    fn routes_that_are_not_ours_are_refused_by_name() {
        let mut three = route();
        let extra = json!({"destination": {"host": "other"}});
        three["spec"]["http"][0]["route"].as_array_mut().unwrap().push(extra);
        assert!(matches!(read(&three, STABLE, CANARY), Err(RouteProblem::Destinations { .. })));
        let mut subset = route();
        subset["spec"]["http"][0]["route"][0]["destination"]["subset"] = json!("v2");
        assert!(matches!(read(&subset, STABLE, CANARY), Err(RouteProblem::Destinations { .. })));
        let mut odd = route();
        odd["spec"]["http"][0]["route"][1]["weight"] = json!(60);
        assert!(matches!(read(&odd, STABLE, CANARY), Err(RouteProblem::BadWeights { .. })));
        odd["spec"]["http"] = json!([]);
        assert!(matches!(read(&odd, STABLE, CANARY), Err(RouteProblem::NoHttp { .. })));
        assert!(!STABLE.is("shop-stable.other.svc.cluster.local"));
        assert!(!STABLE.is("shop-stable2"));
        assert_eq!(timeout_seconds(&route()), Some(2.0));
    }
}
