//! Requests that go to the canary whatever its weight: before each entry that is shifted stands one more
//! like it, which takes only the chosen of its requests and leads to the canary alone.
//!
//! An entry of ours is known by its name. Everything of the entry that it stands before (timeouts,
//! retries, filters) holds for it, too, and follows when that changes.

use serde_json::Value;

use super::dialect::Dialect;
use super::edit::Entry;
use super::problem::Fault;
use crate::api::rollout::RequestMatch;

/// What the names of our entries begin with.
pub const CHOSEN: &str = "surefoot-chosen";
/// As many alternatives has a rule of the Gateway API at most.
const MOST: usize = 64;

/// Whether an entry is ours.
pub(super) fn is_ours(entry: &Value) -> bool {
    let name = entry.get("name").and_then(Value::as_str);
    let rest = name.and_then(|name| name.strip_prefix(CHOSEN));
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
    let name = ours.get("name").and_then(Value::as_str).filter(|name| !name.is_empty());
    let name = match name {
        Some(name) => format!("{CHOSEN}-{name}"),
        None if kind.keeps_names() => CHOSEN.to_owned(),
        None => return Err(Fault::Unnamed { entry: kind.entry() }),
    };
    let own = ours.get(kind.matches()).and_then(Value::as_array).cloned().unwrap_or_default();
    let own = if own.is_empty() { vec![Value::Object(serde_json::Map::new())] } else { own };
    let mut matches = Vec::new();
    for own in &own {
        for chosen in chosen {
            matches.push(kind.narrowed(own, chosen)?);
        }
    }
    if matches.len() > MOST {
        let (entry, count) = (kind.entry(), matches.len());
        return Err(Fault::TooManyMatches { entry, count, most: MOST });
    }
    let canary = ours.get(kind.destinations()).and_then(|list| list.get(entry.canary));
    let mut canary = canary.cloned().unwrap_or_default();
    if let Some(canary) = canary.as_object_mut() {
        // The weight of one that stands alone.
        canary.remove("weight");
        if kind.unwritten() > 0 {
            canary.insert("weight".to_owned(), kind.unwritten().into());
        }
    }
    if let Some(ours) = ours.as_object_mut() {
        ours.insert("name".to_owned(), name.into());
        ours.insert(kind.matches().to_owned(), matches.into());
        ours.insert(kind.destinations().to_owned(), Value::Array(vec![canary]));
    }
    Ok(ours)
}

/// The list of entries as it ought to be: without any of ours but those that are wanted, each before its
/// own.
///
/// # Errors
/// See [`before`].
pub(super) fn wanted(
    list: &[Value],
    shifted: &[Entry],
    chosen: &[RequestMatch],
    kind: &dyn Dialect,
) -> Result<Vec<Value>, Fault> {
    let mut wanted = Vec::with_capacity(list.len());
    for (place, entry) in list.iter().enumerate().filter(|(_, entry)| !is_ours(entry)) {
        let found = shifted.iter().find(|found| found.place == place && !chosen.is_empty());
        if let Some(found) = found {
            wanted.push(before(list, found, chosen, kind)?);
        }
        wanted.push(entry.clone());
    }
    Ok(wanted)
}
