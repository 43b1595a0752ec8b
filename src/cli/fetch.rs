//! Rollouts from the API server: as they are, and as they are shown.

use std::cmp::Reverse;

use anyhow::{Context, Result, anyhow};
use kube::api::{Api, DynamicObject, ListParams};
use kube::{Client, ResourceExt};
use serde_json::Value;
use surefoot_core::api::{Rollout, RolloutAction};
use surefoot_core::write::Kind;

use super::trouble::trouble;
use super::view::View;
use crate::client::{CallError, limited, objects, resource};

/// Lists are asked for in pages of this size.
const PAGE: u32 = 500;

/// One Rollout.
///
/// # Errors
/// In one line: it isn't there, or the API server can't be asked.
pub async fn one(client: &Client, namespace: &str, name: &str) -> Result<DynamicObject> {
    let api = objects(client, Kind::Rollout, namespace);
    let what = format!("reading Rollout {namespace}/{name}");
    limited(api.get(name)).await.map_err(|error| anyhow!(trouble(&what, &error)))
}

/// All Rollouts of a namespace, or of all of them, by namespace and name.
///
/// # Errors
/// In one line: the API server can't be asked.
pub async fn all(client: &Client, namespace: Option<&str>) -> Result<Vec<DynamicObject>> {
    let api = match namespace {
        Some(namespace) => objects(client, Kind::Rollout, namespace),
        None => Api::all_with(client.clone(), &resource(Kind::Rollout)),
    };
    let all = pages(&api).await;
    let mut all = all.map_err(|error| anyhow!(trouble("listing Rollouts", &error)))?;
    all.sort_by_key(|object| (object.namespace(), object.name_any()));
    Ok(all)
}

/// All objects of a list, page by page.
pub(super) async fn pages(api: &Api<DynamicObject>) -> Result<Vec<DynamicObject>, CallError> {
    let mut all = Vec::new();
    let mut params = ListParams::default().limit(PAGE);
    loop {
        let page = limited(api.list(&params)).await?;
        all.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(all),
        }
    }
}

/// The commands to a Rollout, newest first.
///
/// # Errors
/// In one line: the API server can't be asked.
pub async fn actions(client: &Client, view: &View<'_>) -> Result<Vec<RolloutAction>> {
    let api = objects(client, Kind::RolloutAction, view.namespace());
    let all = pages(&api).await;
    let all = all.map_err(|error| anyhow!(trouble("listing RolloutActions", &error)))?;
    let read = |object: DynamicObject| -> Option<RolloutAction> {
        let mut value = serde_json::to_value(object).ok()?;
        clean(&mut value);
        // One that a newer plugin made is not this one's to show.
        let action: RolloutAction = serde_json::from_value(value).ok()?;
        (Some(&action.spec.uid) == view.rollout.metadata.uid.as_ref()).then_some(action)
    };
    let mut actions: Vec<RolloutAction> = all.into_iter().filter_map(read).collect();
    let version = |a: &RolloutAction| a.resource_version().and_then(|v| v.parse::<u64>().ok());
    actions.sort_by_key(|a| Reverse((a.creation_timestamp(), version(a))));
    Ok(actions)
}

/// The object as what it is, fit to be shown: without anything that could steer a terminal.
///
/// # Errors
/// When it isn't a Rollout as this plugin knows them.
pub fn rollout(object: &DynamicObject) -> Result<Rollout> {
    let mut value = serde_json::to_value(object).context("an object must be JSON")?;
    clean(&mut value);
    let name = object.name_any();
    serde_json::from_value(value).with_context(|| {
        format!("Rollout {name} isn't as this plugin knows them: do versions match?")
    })
}

/// Texts of other people are printed: escapes and line breaks in them become spaces.
fn clean(value: &mut Value) {
    match value {
        Value::String(text) if text.contains(char::is_control) => {
            *text = text.replace(char::is_control, " ");
        }
        Value::Array(list) => list.iter_mut().for_each(clean),
        Value::Object(map) => map.values_mut().for_each(clean),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_steers_the_terminal() {
        let mut value = serde_json::json!({"a": ["red\u{1b}[31m\nline", 1]});
        clean(&mut value);
        assert_eq!(value, serde_json::json!({"a": ["red [31m line", 1]}));
    }
}
