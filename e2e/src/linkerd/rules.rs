//! How Linkerd reads an HTTPRoute.

use std::time::Duration;

use http::HeaderMap;
use regex::Regex;
use serde_json::Value;

/// Filters of Gateway API 1.2.1. A route with any other isn't seen at all.
const KNOWN: [&str; 6] = [
    "RequestHeaderModifier",
    "ResponseHeaderModifier",
    "RequestRedirect",
    "RequestMirror",
    "URLRewrite",
    "ExtensionRef",
];
/// Those with which a route has a status, and no effect.
const WITHOUT_EFFECT: [&str; 3] = ["RequestMirror", "URLRewrite", "ExtensionRef"];

fn text<'v>(object: &'v Value, field: &str, default: &'v str) -> &'v str {
    object[field].as_str().unwrap_or(default)
}

fn items<'v>(object: &'v Value, field: &str) -> &'v [Value] {
    object[field].as_array().map_or(&[], Vec::as_slice)
}

/// The types of a route's filters.
fn filters(route: &Value) -> impl Iterator<Item = &str> {
    let filters = items(&route["spec"], "rules").iter().flat_map(|rule| items(rule, "filters"));
    filters.map(|filter| text(filter, "type", ""))
}

/// Whether Linkerd can parse the route.
pub fn parses(route: &Value) -> bool {
    filters(route).all(|kind| KNOWN.contains(&kind))
}

/// Whether requests follow the route.
pub fn is_followed(route: &Value) -> bool {
    parses(route) && filters(route).all(|kind| !WITHOUT_EFFECT.contains(&kind))
}

/// The Services that a route takes the requests of, as its references are written.
pub fn parents(route: &Value) -> impl Iterator<Item = &Value> {
    items(&route["spec"], "parentRefs").iter().filter(|parent| {
        let group = text(parent, "group", "gateway.networking.k8s.io");
        ["", "core"].contains(&group) && text(parent, "kind", "Gateway") == "Service"
    })
}

/// The rule of a route that takes a request: of those that are met the one that asks for most headers, and of
/// these the first. (All paths are one here.)
pub fn taking<'v>(route: &'v Value, request: &HeaderMap) -> &'v Value {
    let asks = |rule: &Value| {
        let conditions = items(rule, "matches");
        let met = conditions.iter().filter_map(|one| {
            let headers = items(one, "headers");
            headers.iter().all(|header| meets(header, request)).then_some(headers.len())
        });
        if conditions.is_empty() { Some(0) } else { met.max() }
    };
    let rules = items(&route["spec"], "rules").iter();
    let taking = rules
        .filter_map(|rule| Some((asks(rule)?, rule)))
        .reduce(|best, next| if next.0 > best.0 { next } else { best });
    taking.map_or(&Value::Null, |(_, rule)| rule)
}

/// Whether a request has the header.
fn meets(header: &Value, request: &HeaderMap) -> bool {
    let has = request.get(text(header, "name", "")).and_then(|value| value.to_str().ok());
    let wanted = text(header, "value", "");
    has.is_some_and(|has| match text(header, "type", "Exact") {
        "Exact" => has == wanted,
        _ => Regex::new(&format!("^(?:{wanted})$")).is_ok_and(|wanted| wanted.is_match(has)),
    })
}

/// Where a rule sends requests: Services and their weights.
pub fn backends(rule: &Value) -> Vec<(String, u64)> {
    let backends = items(rule, "backendRefs").iter();
    backends
        .map(|to| (text(to, "name", "").to_owned(), to["weight"].as_u64().unwrap_or(1)))
        .collect()
}

/// All Services that a route names as backends; `None` for one that is no Service.
pub fn named(route: &Value) -> Vec<Option<String>> {
    let rules = items(&route["spec"], "rules").iter();
    rules
        .flat_map(|rule| items(rule, "backendRefs"))
        .map(|to| {
            (text(to, "kind", "Service") == "Service").then(|| text(to, "name", "").to_owned())
        })
        .collect()
}

/// A rule's timeout.
pub fn timeout(rule: &Value) -> Option<Duration> {
    let text = rule["timeouts"]["request"].as_str()?;
    let span: jiff::SignedDuration = text.parse().ok()?;
    Some(span.unsigned_abs()).filter(|span| !span.is_zero())
}

/// Which of the backends gets a request: by weight, among those that are able to answer. `chance` is
/// in [0, 1). Where none is able, the one that was meant, for it to say so; where all weights are 0
/// nobody.
pub fn choose(
    backends: &[(String, u64)],
    able: impl Fn(&str) -> bool,
    chance: f64,
) -> Option<(&str, bool)> {
    let meant = |some: &[&(String, u64)]| -> Option<usize> {
        let sum: u64 = some.iter().map(|(_, weight)| weight).sum();
        let mut left = chance * sum as f64;
        some.iter().position(|(_, weight)| {
            left -= *weight as f64;
            left < 0.0
        })
    };
    let some: Vec<_> = backends.iter().filter(|(_, weight)| *weight > 0).collect();
    let able: Vec<_> = some.iter().copied().filter(|(name, _)| able(name)).collect();
    if let Some(i) = meant(&able) {
        return Some((&able[i].0, true));
    }
    meant(&some).map(|i| (some[i].0.as_str(), false))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_backend_without_endpoints_fails_over_silently() {
        let both = [("stable".to_owned(), 90), ("canary".to_owned(), 10)];
        assert_eq!(choose(&both, |_| true, 0.95), Some(("canary", true)));
        assert_eq!(choose(&both, |_| true, 0.85), Some(("stable", true)));
        assert_eq!(choose(&both, |name| name == "stable", 0.95), Some(("stable", true)));
        assert_eq!(choose(&both, |_| false, 0.95), Some(("canary", false)));
        let none = [("stable".to_owned(), 0), ("canary".to_owned(), 0)];
        assert_eq!(choose(&none, |_| true, 0.5), None);
    }

    #[test]
    fn a_rule_that_asks_for_more_takes_its_requests() {
        let one = |kind: &str, value: &str| {
            let header = json!({"name": "X-Canary", "type": kind, "value": value});
            json!({"name": kind, "matches": [{"headers": [header]}]})
        };
        let (exact, regex) = (one("Exact", "true"), one("RegularExpression", "t.*"));
        let route = json!({"spec": {"rules": [{"name": "all"}, exact, regex]}});
        let taking = |header: Option<&str>| {
            let header = header.map(|value| value.parse().unwrap());
            let request = header.into_iter().map(|value| ("x-canary".parse().unwrap(), value));
            taking(&route, &request.collect())["name"].clone()
        };
        assert_eq!(taking(None), "all");
        assert_eq!(taking(Some("true")), "Exact");
        assert_eq!(taking(Some("ten")), "RegularExpression");
        assert_eq!(taking(Some("atrue")), "all", "all of it must match");
    }

    #[test]
    fn a_route_is_left_out_for_its_filters() {
        let route = |kind: &str| json!({"spec": {"rules": [{"filters": [{"type": kind}]}]}});
        let read = |kind: &str| (parses(&route(kind)), is_followed(&route(kind)));
        assert_eq!(read("RequestHeaderModifier"), (true, true));
        assert_eq!(read("RequestMirror"), (true, false));
        assert_eq!(read("CORS"), (false, false));
    }
}
