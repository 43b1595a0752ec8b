//! What the API server refuses in Events, in the core group's names. The newer API is the stricter.

use serde_json::Value;

use super::qualified_name;
use crate::status::Cause;

/// Fields that the newer API lets nobody change.
const FIXED: [&str; 13] = [
    "involvedObject",
    "reason",
    "message",
    "source",
    "firstTimestamp",
    "lastTimestamp",
    "count",
    "type",
    "eventTime",
    "action",
    "related",
    "reportingComponent",
    "reportingInstance",
];

/// What is wrong with an Event that came through the API of this group.
pub(super) fn check(group: &str, event: &Value, old: Option<&Value>) -> Vec<Cause> {
    let mut causes = Vec::new();
    everywhere(group, event, &mut causes);
    if group.is_empty() {
        return causes;
    }
    match old {
        None => created(event, &mut causes),
        Some(old) => {
            if event["series"] != old["series"] {
                series(event, &mut causes);
            }
            let changed = FIXED.into_iter().filter(|field| event[*field] != old[*field]);
            causes.extend(changed.map(|field| immutable(field, event)));
        }
    }
    causes
}

/// A field that was changed, as the server's own types print it.
fn immutable(field: &'static str, event: &Value) -> Cause {
    let value = &event[field];
    let printed = |names: &[(&str, &str)]| {
        let fields = names.iter().map(|(shown, name)| format!("{shown:?}:{:?}", text(value, name)));
        format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
    };
    let shown = match field {
        "involvedObject" => printed(&[
            ("Kind", "kind"),
            ("Namespace", "namespace"),
            ("Name", "name"),
            ("UID", "uid"),
            ("APIVersion", "apiVersion"),
            ("ResourceVersion", "resourceVersion"),
            ("FieldPath", "fieldPath"),
        ]),
        "source" => printed(&[("Component", "component"), ("Host", "host")]),
        "count" => value.as_i64().unwrap_or(0).to_string(),
        "reason" | "message" | "type" | "action" | "reportingInstance" | "reportingComponent" => {
            format!("{:?}", text(event, field))
        }
        _ => value.to_string(),
    };
    let field = if field == "reportingComponent" { "reportingController" } else { field };
    let message = format!("Invalid value: {shown}: field is immutable");
    Cause { reason: "FieldValueInvalid", field: field.into(), message }
}

fn text<'a>(event: &'a Value, field: &str) -> &'a str {
    event[field].as_str().unwrap_or_default()
}

/// What both APIs ask for. An Event with an `eventTime` is a new one, without an old one.
fn everywhere(group: &str, event: &Value, causes: &mut Vec<Cause>) {
    let own = event["metadata"]["namespace"].as_str().unwrap_or_default();
    let about = text(&event["involvedObject"], "namespace");
    let elsewhere = || {
        Cause::invalid("involvedObject.namespace", &about.into(), "does not match event.namespace")
    };
    if event["eventTime"].is_null() {
        if about != own && !(about.is_empty() && own == "default") {
            causes.push(elsewhere());
        }
        return;
    }
    if about.is_empty() && !matches!(own, "default" | "kube-system") {
        causes.push(elsewhere());
    }
    let who = if group.is_empty() { "reportingComponent" } else { "reportingController" };
    let reporter = text(event, "reportingComponent");
    if reporter.is_empty() {
        causes.push(Cause::required(who, ""));
    }
    causes.extend(qualified_name(who, reporter));
    for field in ["reportingInstance", "action", "reason"] {
        if text(event, field).is_empty() {
            causes.push(Cause::required(field, ""));
        }
        length(event, field, 128, causes);
    }
    length(event, "message", 1024, causes);
}

fn length(event: &Value, field: &str, most: usize, causes: &mut Vec<Cause>) {
    if text(event, field).len() > most {
        let why = format!("can have at most {most} characters");
        causes.push(Cause::invalid(field, &"".into(), why));
    }
}

/// What the newer API asks for beside that.
fn created(event: &Value, causes: &mut Vec<Cause>) {
    series(event, causes);
    if event["eventTime"].is_null() {
        causes.push(Cause::required("eventTime", ""));
    }
    let kind = text(event, "type");
    if !matches!(kind, "Normal" | "Warning") {
        let why = format!("has invalid value: {kind}");
        causes.push(Cause::invalid("type", &"".into(), why));
    }
    let source = event["source"].as_object().is_some_and(|source| !source.is_empty());
    let unset = [
        ("firstTimestamp", event["firstTimestamp"].is_null()),
        ("lastTimestamp", event["lastTimestamp"].is_null()),
        ("count", event["count"].as_i64().unwrap_or(0) == 0),
        ("source", !source),
    ];
    for (field, _) in unset.into_iter().filter(|(_, is_unset)| !is_unset) {
        causes.push(Cause::invalid(field, &"".into(), "needs to be unset"));
    }
}

fn series(event: &Value, causes: &mut Vec<Cause>) {
    let series = &event["series"];
    if series.is_null() {
        return;
    }
    if series["count"].as_i64().unwrap_or(0) < 2 {
        causes.push(Cause::invalid("series.count", &"".into(), "should be at least 2"));
    }
    if series["lastObservedTime"].is_null() {
        causes.push(Cause::required("series.lastObservedTime", ""));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event() -> Value {
        json!({
            "metadata": {"namespace": "shop"}, "involvedObject": {"namespace": "shop"},
            "eventTime": "2026-01-01T00:00:00.000000Z", "reportingComponent": "surefoot.dev/controller",
            "reportingInstance": "one", "action": "Promote", "reason": "Promoted", "type": "Normal",
        })
    }

    fn fields(group: &str, event: &Value, old: Option<&Value>) -> Vec<String> {
        check(group, event, old).into_iter().map(|cause| cause.field).collect()
    }

    #[test]
    fn an_event_is_about_something_of_its_namespace() {
        assert_eq!(fields("events.k8s.io", &event(), None), Vec::<String>::new());
        let mut old = event();
        old["eventTime"] = Value::Null;
        assert_eq!(fields("", &old, None), Vec::<String>::new());
        old["involvedObject"]["namespace"] = "elsewhere".into();
        assert_eq!(fields("", &old, None), ["involvedObject.namespace"]);
    }

    #[test]
    fn the_newer_api_asks_for_more_and_lets_nothing_change() {
        let mut odd = event();
        (odd["type"], odd["count"]) = ("Odd".into(), 2.into());
        assert_eq!(fields("", &odd, None), Vec::<String>::new());
        assert_eq!(fields("events.k8s.io", &odd, None), ["type", "count"]);
        let mut other = event();
        other["message"] = "other".into();
        assert_eq!(fields("", &other, Some(&event())), Vec::<String>::new());
        assert_eq!(fields("events.k8s.io", &other, Some(&event())), ["message"]);
        other["message"] = Value::Null;
        other["series"] = json!({"count": 1});
        let wrong = ["series.count", "series.lastObservedTime"];
        assert_eq!(fields("events.k8s.io", &other, Some(&event())), wrong);
    }
}
