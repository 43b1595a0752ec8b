//! Requests that go to the canary whatever its weight: before each entry that is shifted stands one more
//! like it, which takes only the chosen of its requests and leads to the canary alone.
//!
//! An entry of ours is known by its name. Everything of the entry that it stands before (timeouts,
//! retries, filters) holds for it, too, and follows when that changes.

use serde_json::Value;

use super::dialect::Dialect;
use super::edit::Entry;
use super::problem::Fault;
use super::{items, text};
use crate::api::rollout::RequestMatch;

/// What the names of our entries begin with; nobody else's may.
pub const CHOSEN: &str = "surefoot-chosen";

/// Whether an entry is ours.
pub(super) fn is_ours(entry: &Value) -> bool {
    let rest = text(entry, "name").and_then(|name| name.strip_prefix(CHOSEN));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

/// The entry to stand before `entry`, of `list`.
///
/// # Errors
/// What of the entry doesn't go together with what is chosen.
pub(super) fn before(
    list: &[Value],
    entry: &Entry,
    chosen: &[RequestMatch],
    kind: &dyn Dialect,
) -> Result<Value, Fault> {
    let mut ours = list.get(entry.place).cloned().unwrap_or_default();
    let called = match text(&ours, "name").filter(|name| !name.is_empty()) {
        Some(name) => format!("{CHOSEN}-{name}"),
        None if kind.keeps_names() => CHOSEN.to_owned(),
        None => return Err(Fault::Unnamed { entry: kind.entry() }),
    };
    let own = items(&ours, kind.matches());
    let any = [kind.any()];
    let own = if own.is_empty() { &any[..] } else { own };
    let mut matches = Vec::new();
    for own in own {
        for chosen in chosen {
            matches.push(kind.narrowed(own, chosen)?);
        }
    }
    let (count, most) = (matches.len(), kind.most_matches(&ours));
    if count > most {
        let what = "conditions in it";
        return Err(Fault::TooMany { entry: kind.entry(), what, count, most });
    }
    let canary = items(&ours, kind.destinations()).get(entry.canary);
    let mut canary = canary.cloned().unwrap_or_default();
    if let Some(canary) = canary.as_object_mut() {
        // The weight of one that stands alone.
        canary.remove("weight");
        if kind.unwritten() > 0 {
            canary.insert("weight".to_owned(), kind.unwritten().into());
        }
    }
    if let Some(ours) = ours.as_object_mut() {
        ours.insert("name".to_owned(), called.into());
        ours.insert(kind.matches().to_owned(), matches.into());
        ours.insert(kind.destinations().to_owned(), Value::Array(vec![canary]));
    }
    Ok(ours)
}

/// The list of entries as it ought to be: without any of ours but those that are wanted, each before its
/// own.
///
/// # Errors
/// See [`before`]; and where a mesh doesn't go by the order of entries, what else would be chosen from.
pub(super) fn wanted(
    list: &[Value],
    shifted: &[Entry],
    chosen: &[RequestMatch],
    kind: &dyn Dialect,
) -> Result<Vec<Value>, Fault> {
    let mut wanted = Vec::with_capacity(list.len());
    for (place, entry) in list.iter().enumerate().filter(|(_, entry)| !is_ours(entry)) {
        let found = shifted.iter().find(|found| found.place == place);
        match found.filter(|_| !chosen.is_empty()) {
            Some(found) => wanted.push(before(list, found, chosen, kind)?),
            None if !chosen.is_empty() && found.is_none() && kind.rivals(entry) => {
                let called = text(entry, "name").unwrap_or("one without name").to_owned();
                return Err(Fault::Rivals { entry: kind.entry(), called });
            }
            None => {}
        }
        wanted.push(entry.clone());
    }
    let (count, most) = (wanted.len(), kind.most_entries());
    if count > most && !chosen.is_empty() {
        return Err(Fault::TooMany { entry: kind.entry(), what: "of them", count, most });
    }
    Ok(wanted)
}

/// Whether each of our entries is still what it was made for: it takes none but chosen requests, and leads
/// to the canary alone. One that lags behind the entry that it stands before is.
pub(super) fn is_untouched(
    list: &[Value],
    shifted: &[Entry],
    chosen: &[RequestMatch],
    kind: &dyn Dialect,
) -> bool {
    let ours: Vec<&Value> = list.iter().filter(|entry| is_ours(entry)).collect();
    let canary = |entry: &Entry| {
        items(list.get(entry.place).unwrap_or(&Value::Null), kind.destinations()).get(entry.canary)
    };
    let to: Vec<&Value> = shifted.iter().filter_map(canary).collect();
    let same = |one: &Value, other: &Value| {
        kind.identity().iter().all(|field| one.get(*field) == other.get(*field))
    };
    let asks = |condition: &Value| chosen.iter().any(|chosen| kind.asks(condition, chosen));
    ours.iter().all(|entry| {
        let (conditions, leads) = (items(entry, kind.matches()), items(entry, kind.destinations()));
        !conditions.is_empty()
            && conditions.iter().all(asks)
            && matches!(leads, [one] if to.iter().any(|canary| same(one, canary)))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::rollout::{Apex, Mesh, RouteKind};
    use crate::mark::Mark;
    use crate::route::{Signature, carries, edit, is_untouched};
    use crate::routing::{Routing, Split};

    fn routing(kind: RouteKind, http: &[&str]) -> Routing {
        Routing {
            mesh: Mesh::Istio,
            service: "shop".into(),
            apex: Apex::Both,
            split: Split::Services { stable: "shop-stable".into(), canary: "shop-canary".into() },
            kind,
            route: "shop".into(),
            http: http.iter().map(|&name| name.into()).collect(),
            more: Vec::new(),
        }
    }

    fn chosen() -> Vec<RequestMatch> {
        let all = json!([
            {"headers": {"x-canary": {"exact": "true"}}},
            {"headers": {"cookie": {"regex": ".*canary.*"}, "x-team": {"exact": "a"}}},
        ]);
        serde_json::from_value(all).unwrap()
    }

    fn backends(stable: i64, canary: i64) -> Value {
        let to = |name: &str, weight: i64| json!({"name": name, "port": 80, "weight": weight});
        json!([to("shop-stable", stable), to("shop-canary", canary)])
    }

    fn http_route(rules: &Value) -> Value {
        json!({
            "metadata": {"name": "shop", "resourceVersion": "1"},
            "spec": {"parentRefs": [{"group": "", "kind": "Service", "name": "shop"}], "rules": rules},
        })
    }

    /// With the weight 10 and these requests.
    fn edited(route: &Value, routing: &Routing, chosen: &[RequestMatch]) -> Result<Value, String> {
        let wrote = Mark { release: 1, weight: 10 };
        let sign = Signature { rollout: "shop", epoch: 1, wrote };
        let patch = edit(route, routing, "prod", 10, chosen, sign).map_err(|p| p.to_string())?;
        let mut edited = route.clone();
        json_patch::patch(&mut edited, &patch.unwrap()).unwrap();
        assert_eq!(carries(&edited, routing, "prod", chosen), Ok(true));
        Ok(edited)
    }

    #[test]
    fn an_http_routes_rule_is_narrowed_for_each_choice() {
        let path = |path: &str| json!({"path": {"type": "PathPrefix", "value": path}});
        let main = json!({
            "name": "main", "matches": [path("/a"), path("/b")], "timeouts": {"request": "2s"},
            "backendRefs": backends(100, 0),
        });
        let rest = json!({"name": "rest", "backendRefs": [{"name": "files", "port": 80}]});
        let routing = routing(RouteKind::HTTPRoute, &["main"]);
        let route = http_route(&json!([main, rest]));
        let with = edited(&route, &routing, &chosen()).unwrap();
        let header = |kind: &str, name: &str, value: &str| json!({"type": kind, "name": name, "value": value});
        let first = [header("Exact", "x-canary", "true")];
        let second =
            [header("RegularExpression", "cookie", ".*canary.*"), header("Exact", "x-team", "a")];
        let mut matches = Vec::new();
        for path in [path("/a"), path("/b")] {
            for headers in [&first[..], &second[..]] {
                let mut one = path.clone();
                one["headers"] = json!(headers);
                matches.push(one);
            }
        }
        let ours = json!({
            "name": "surefoot-chosen-main", "matches": matches, "timeouts": {"request": "2s"},
            "backendRefs": [{"name": "shop-canary", "port": 80, "weight": 1}],
        });
        let mut main = main;
        main["backendRefs"] = backends(90, 10);
        assert_eq!(with["spec"]["rules"], json!([ours, main, rest]));
        // And back.
        let without = edited(&with, &routing, &[]).unwrap();
        assert_eq!(without["spec"]["rules"], json!([main, rest]));
    }

    #[test]
    fn what_every_request_meets_is_as_the_server_writes_it() {
        let rule = json!({"name": "main", "matches": [], "backendRefs": backends(100, 0)});
        let route = http_route(&json!([rule]));
        let path = json!({"type": "PathPrefix", "value": "/"});
        for (kind, path) in [(RouteKind::HTTPRoute, path), (RouteKind::GRPCRoute, Value::Null)] {
            let with = edited(&route, &routing(kind, &[]), &chosen()[..1]).unwrap();
            assert_eq!(with["spec"]["rules"][0]["matches"][0]["path"], path);
        }
        let bare = json!({"metadata": {"resourceVersion": "1"}, "spec": {"http": [{"route": [
            {"destination": {"host": "shop-stable"}, "weight": 100},
            {"destination": {"host": "shop-canary"}, "weight": 0},
        ]}]}});
        let with = edited(&bare, &routing(RouteKind::VirtualService, &[]), &chosen()).unwrap();
        assert_eq!(
            with["spec"]["http"][0],
            json!({
                "name": "surefoot-chosen",
                "match": [
                    {"headers": {"x-canary": {"exact": "true"}}},
                    {"headers": {"cookie": {"regex": ".*canary.*"}, "x-team": {"exact": "a"}}},
                ],
                "route": [{"destination": {"host": "shop-canary"}}],
            })
        );
    }

    #[test]
    fn what_cannot_be_chosen_is_said() {
        let rule = |more: &Value| {
            let mut rule = json!({"name": "main", "backendRefs": backends(100, 0)});
            json_patch::merge(&mut rule, more);
            rule
        };
        let of = |rules: &Value, http: &[&str]| {
            edited(&http_route(rules), &routing(RouteKind::HTTPRoute, http), &chosen()).unwrap_err()
        };
        let said = of(&json!([rule(&json!({"name": null}))]), &[]);
        assert!(said.contains("a rule without name"), "{said}");
        let taken = json!({"matches": [{"headers": [{"name": "X-Team", "value": "b"}]}]});
        let said = of(&json!([rule(&taken)]), &[]);
        assert!(said.contains("\"x-team\""), "{said}");
        let many: Vec<Value> =
            (0..33).map(|i| json!({"path": {"value": format!("/{i}")}})).collect();
        let said = of(&json!([rule(&json!({"matches": many}))]), &[]);
        assert!(said.contains("66 conditions") && said.contains("may have 64"), "{said}");
        let rewrite = json!({"filters": [{"type": "URLRewrite", "urlRewrite": {
            "path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"},
        }}]});
        let said = of(&json!([rule(&rewrite)]), &[]);
        assert!(said.contains("2 conditions") && said.contains("may have 1"), "{said}");
        let admin = json!({
            "name": "admin", "matches": [{"headers": [{"name": "x-admin", "value": "1"}]}],
            "backendRefs": [{"name": "admin", "port": 80}],
        });
        let said = of(&json!([rule(&json!({})), admin]), &["main"]);
        assert!(said.contains("\"admin\""), "{said}");
        let mut rules = vec![rule(&json!({}))];
        rules.extend((0..15).map(|i| json!({"name": format!("r{i}")})));
        let said = of(&json!(rules), &["main"]);
        assert!(said.contains("17 of them") && said.contains("may have 16"), "{said}");
        let without = json!([{"withoutHeaders": {"x-canary": {}}}]);
        let entry = json!({"match": without, "route": [
            {"destination": {"host": "shop-stable"}, "weight": 100},
            {"destination": {"host": "shop-canary"}, "weight": 0},
        ]});
        let route = json!({"metadata": {"resourceVersion": "1"}, "spec": {"http": [entry]}});
        let kind = RouteKind::VirtualService;
        let said = edited(&route, &routing(kind, &[]), &chosen()).unwrap_err();
        assert!(said.contains("\"x-canary\""), "{said}");
    }

    #[test]
    fn an_entry_that_lags_behind_is_told_from_one_that_was_changed() {
        let rule = json!({"name": "main", "backendRefs": backends(100, 0)});
        let routing = routing(RouteKind::HTTPRoute, &[]);
        let with = edited(&http_route(&json!([rule])), &routing, &chosen()).unwrap();
        let after = |change: &dyn Fn(&mut Value)| {
            let mut route = with.clone();
            change(&mut route["spec"]["rules"]);
            let carries = carries(&route, &routing, "prod", &chosen()).unwrap();
            (carries, is_untouched(&route, &routing, "prod", &chosen()))
        };
        assert_eq!(after(&|_| {}), (true, true));
        assert_eq!(after(&|r| r[1]["timeouts"] = json!({"request": "1s"})), (false, true));
        let conditions = json!([{"path": {"type": "PathPrefix", "value": "/a"}}]);
        assert_eq!(after(&|r| r[1]["matches"] = conditions.clone()), (false, true));
        assert_eq!(after(&|r| r[0]["matches"] = conditions.clone()), (false, false));
        assert_eq!(after(&|r| r[0]["matches"] = json!([])), (false, false));
        assert_eq!(after(&|r| r[0]["backendRefs"][0]["name"] = json!("other")), (false, false));
        let header = "/0/matches/0/headers/0/value";
        let other = |r: &mut Value| *r.pointer_mut(header).unwrap() = json!("false");
        assert_eq!(after(&other), (false, false));
        assert_eq!(after(&|r| drop(r.as_array_mut().unwrap().remove(0))), (false, true));
    }
}
