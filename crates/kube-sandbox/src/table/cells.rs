//! What stands in the cells of a table.

use jiff::Timestamp;
use serde_json::Value;

use crate::kinds::Column;

/// The cell of a custom kind's column.
pub(super) fn custom(object: &Value, column: &Column, now: Timestamp) -> Value {
    if column.path.is_empty() {
        return object["metadata"]["name"].clone();
    }
    let Some(value) = find(object, &column.path) else { return Value::Null };
    match (column.kind.as_str(), value) {
        ("date", Value::String(time)) => since(time, now).into(),
        ("string", Value::String(text)) => text.clone().into(),
        ("string", other) => other.to_string().into(),
        (_, value) => value.clone(),
    }
}

/// A simple JSON path: fields, `['fields']`, indexes, and `[?(@.field=="value")]`.
fn find<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    let mut place = object;
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(inner) = rest.strip_prefix('[') {
            let (step, after) = inner.split_once(']')?;
            place = bracket(place, step)?;
            rest = after;
        } else {
            let plain = rest.strip_prefix('.').unwrap_or(rest);
            let end = plain.find(['.', '[']).unwrap_or(plain.len());
            let (name, after) = plain.split_at(end);
            place = if name.is_empty() { place } else { place.get(name)? };
            rest = after;
        }
    }
    Some(place)
}

fn bracket<'a>(place: &'a Value, step: &str) -> Option<&'a Value> {
    let quoted = |text: &str| text.trim().trim_matches(['\'', '"']).to_owned();
    if let Some(filter) = step.strip_prefix("?(").and_then(|step| step.strip_suffix(')')) {
        let (path, wanted) = filter.split_once("==")?;
        let path = path.trim().strip_prefix('@')?;
        let wanted = quoted(wanted);
        let fits = |item: &&Value| find(item, path).and_then(Value::as_str) == Some(&wanted);
        return place.as_array()?.iter().find(fits);
    }
    match step.parse::<usize>() {
        Ok(index) => place.get(index),
        Err(_) => place.get(quoted(step)),
    }
}

/// How long ago a time was, as kubectl says it.
pub(super) fn since(time: &str, now: Timestamp) -> String {
    match time.parse::<Timestamp>() {
        Ok(time) => age(now.duration_since(time).as_secs()),
        Err(_) => "<unknown>".to_owned(),
    }
}

/// A duration in at most two units, of which the second is only there while the first is small.
fn age(seconds: i64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let with = |first: i64, unit: char, rest: i64, lower: char| {
        if rest == 0 { format!("{first}{unit}") } else { format!("{first}{unit}{rest}{lower}") }
    };
    match seconds {
        i64::MIN..-1 => "<invalid>".to_owned(),
        -1..0 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        120..600 => with(minutes, 'm', seconds % 60, 's'),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => with(hours, 'h', minutes % 60, 'm'),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => with(days, 'd', hours % 24, 'h'),
        691_200..63_072_000 => format!("{days}d"),
        63_072_000..252_288_000 => with(days / 365, 'y', days % 365, 'd'),
        _ => format!("{}y", days / 365),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ages_are_said_as_kubectl_says_them() {
        for (seconds, said) in [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (185, "3m5s"),
            (3600, "60m"),
            (3 * 3600 + 120, "3h2m"),
            (30 * 3600, "30h"),
            (49 * 3600, "2d1h"),
            (30 * 86_400, "30d"),
            (800 * 86_400, "2y70d"),
        ] {
            assert_eq!(age(seconds), said);
        }
    }

    #[test]
    fn paths_find_fields_items_and_conditions() {
        let object = json!({"a": {"b.c": [1, 2]}, "s": [{"type": "Ready", "status": "True"}]});
        assert_eq!(find(&object, ".a['b.c'][1]"), Some(&json!(2)));
        assert_eq!(find(&object, r#".s[?(@.type=="Ready")].status"#), Some(&json!("True")));
        assert_eq!(find(&object, ".a.x"), None);
    }
}
