//! Changing the template of the Deployment that a Rollout releases, as kubectl does it; also where
//! the Deployment is paused at rest, which `kubectl rollout restart` refuses.

use anyhow::{Result, anyhow, bail};
use jiff::Timestamp;
use kube::Client;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use surefoot_core::api::status::Phase;
use surefoot_core::words;
use surefoot_core::write::Kind;

use super::command::MANAGER;
use super::fetch;
use super::trouble::trouble;
use super::view::{View, under_way};
use crate::client::{limited, objects};
use crate::clock::Clock;

/// What is changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Images by container; "*" means every one.
    Images(Vec<(String, String)>),
    /// The time of a restart.
    Restart,
}

/// A change that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// What there is to say about it.
    pub said: String,
    /// Number of the release before the one that begins, where one begins.
    pub after: Option<i64>,
}

/// Make a change and say what comes next.
///
/// # Errors
/// A container isn't there, or the API server refuses; in one line.
pub async fn change(
    client: &Client,
    namespace: &str,
    name: &str,
    change: Change,
) -> Result<Changed> {
    let rollout = fetch::rollout(&fetch::one(client, namespace, name).await?)?;
    let now = Clock::System.now();
    let view = View::new(&rollout, now);
    let deployment = rollout.spec.target_ref.name.as_str();
    let what = |verb: &str| format!("{verb} Deployment {namespace}/{deployment}");
    let api = objects(client, Kind::Deployment, namespace);
    let before = limited(api.get(deployment)).await;
    let before = before.map_err(|error| anyhow!(trouble(&what("reading"), &error)))?;
    let patch = patch(&before.data, &change, deployment, now)?;
    let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    let after = limited(api.patch(deployment, &params, &Patch::Strategic(patch))).await;
    let after = after.map_err(|error| anyhow!(trouble(&what("changing"), &error)))?;
    let template = "/spec/template";
    let same = before.data.pointer(template) == after.data.pointer(template);
    let did = match (&change, same) {
        (_, true) => "unchanged",
        (Change::Images(_), _) => "image updated",
        (Change::Restart, _) => "restarted",
    };
    let next = next(&view, same);
    Ok(Changed {
        said: format!("deployment.apps/{deployment} {did}\n{next}\n"),
        after: (!same).then(|| view.status.release.as_ref().map_or(0, |r| r.number)),
    })
}

/// The strategic merge patch of a change.
///
/// # Errors
/// When the Deployment has no container of a name.
pub fn patch(deployment: &Value, change: &Change, name: &str, now: Timestamp) -> Result<Value> {
    let pairs = match change {
        Change::Restart => {
            let at = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
            let annotations = json!({"kubectl.kubernetes.io/restartedAt": at});
            return Ok(json!({"spec": {"template": {"metadata": {"annotations": annotations}}}}));
        }
        Change::Images(pairs) => pairs,
    };
    let names = |list: &str| -> Vec<&str> {
        let pointer = format!("/spec/template/spec/{list}");
        let containers = deployment.pointer(&pointer).and_then(Value::as_array);
        containers.into_iter().flatten().filter_map(|c| c.get("name")?.as_str()).collect()
    };
    let (own, init) = (names("containers"), names("initContainers"));
    let mut spec = json!({});
    for (container, image) in pairs {
        let mut found = false;
        for (list, names) in [("containers", &own), ("initContainers", &init)] {
            // As for kubectl, "*" leaves the init containers alone.
            let all = container == "*" && list == "containers";
            for name in names.iter().filter(|name| all || *name == container) {
                found = true;
                let entry = json!({"name": name, "image": image});
                match spec.get_mut(list).and_then(Value::as_array_mut) {
                    Some(entries) => entries.push(entry),
                    None => spec[list] = json!([entry]),
                }
            }
        }
        if !found {
            let there: Vec<&str> = own.iter().chain(&init).copied().collect();
            bail!("Deployment {name} has no container {container:?}: it has {}", there.join(", "));
        }
    }
    Ok(json!({"spec": {"template": {"spec": spec}}}))
}

/// What comes of a new template, in one line.
#[must_use]
pub fn next(view: &View<'_>, same: bool) -> String {
    let release = view.status.release.as_ref().map_or(0, |r| r.number);
    let number = release + 1;
    if same {
        return "nothing comes of it: the template is what it was".to_owned();
    }
    let weights = view.plan.iter().flat_map(|p| &p.steps).map(|s| words::weight(s.weight));
    let steps = weights.collect::<Vec<_>>().join(", ");
    let paused = if view.rollout.spec.paused { ", once spec.paused is false" } else { "" };
    match view.status.phase {
        _ if !view.seen() => "no controller has looked at the Rollout yet: until one does the \
                              Deployment rolls out by itself"
            .to_owned(),
        phase if under_way(phase) => format!(
            "release {release} ends, all traffic going back to stable first; then release {number} \
             begins{paused}"
        ),
        Phase::Pending => {
            format!("the Rollout isn't ready to hold a release: {}", view.status.message)
        }
        _ => format!(
            "release {number} begins{paused}, unless this is stable's template: then nothing \
             restarts. Steps: {steps}"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment() -> Value {
        json!({"spec": {"template": {"spec": {
            "containers": [{"name": "app", "image": "shop:v1"}, {"name": "side", "image": "s:1"}],
            "initContainers": [{"name": "init", "image": "i:1"}],
        }}}})
    }

    fn images(pairs: &[(&str, &str)]) -> Result<Value> {
        let pairs = pairs.iter().map(|(c, i)| ((*c).to_owned(), (*i).to_owned())).collect();
        patch(&deployment(), &Change::Images(pairs), "shop", Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn only_the_named_containers_change() {
        let made = images(&[("app", "shop:v2"), ("init", "i:2")]).unwrap();
        let expected = json!({
            "containers": [{"name": "app", "image": "shop:v2"}],
            "initContainers": [{"name": "init", "image": "i:2"}],
        });
        assert_eq!(made["spec"]["template"]["spec"], expected);
        let all = images(&[("*", "x")]).unwrap();
        assert_eq!(all["spec"]["template"]["spec"]["containers"].as_array().unwrap().len(), 2);
        assert!(all["spec"]["template"]["spec"].get("initContainers").is_none());
        let error = images(&[("application", "x")]).unwrap_err().to_string();
        assert!(error.contains("it has app, side, init"), "{error}");
    }

    #[test]
    fn a_restart_is_what_kubectl_writes() {
        let now = "2026-03-02T10:00:00.5Z".parse().unwrap();
        let made = patch(&deployment(), &Change::Restart, "shop", now).unwrap();
        let annotations = &made["spec"]["template"]["metadata"]["annotations"];
        assert_eq!(annotations["kubectl.kubernetes.io/restartedAt"], "2026-03-02T10:00:00Z");
    }
}
