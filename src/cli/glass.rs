//! An abort without the controller: the plugin writes the route itself and leaves a mark there, which
//! the controller takes as an abort when it is back. The edit is the controller's own, locked by the
//! route's resourceVersion; no controller raises a weight beside the mark.

use anyhow::{Result, anyhow, bail};
use json_patch::Patch as JsonPatch;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Client;
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use surefoot_core::api::ActionKind;
use surefoot_core::api::rollout::RolloutSpec;
use surefoot_core::observed::{BreakGlass, Service};
use surefoot_core::plan::Plan;
use surefoot_core::route::{self, subset};
use surefoot_core::routing::{Routing, Side};
use surefoot_core::template::HASH_LABEL;
use surefoot_core::write::Kind;

use super::command::{MANAGER, give, whoami};
use super::fetch;
use super::trouble::trouble;
use super::view::{View, under_way};
use crate::client::{limited, objects, resource};
use crate::clock::Clock;

/// So often the route is read anew when somebody writes it at the same time.
const ATTEMPTS: usize = 5;

/// Bring the traffic back and say what was done.
///
/// # Errors
/// No release is under way, the route isn't one to both versions, a hand-over is on its way, or the API
/// server refuses.
pub async fn break_glass(
    client: &Client,
    namespace: &str,
    name: &str,
    reason: Option<String>,
) -> Result<String> {
    let rollout = fetch::rollout(&fetch::one(client, namespace, name).await?)?;
    let view = View::new(&rollout, Clock::System.now());
    let release = view.status.release.as_ref().filter(|_| under_way(view.status.phase));
    let Some(release) = release.map(|r| r.number) else {
        bail!(
            "nothing to abort: no release of Rollout {namespace}/{name} is under way (phase {})",
            view.status.phase.as_str()
        );
    };
    let plan = names(&view)?;
    let by = match whoami(client).await {
        Ok(user) => user,
        Err(error) => {
            eprintln!("warning: {error:#}; the mark says \"unknown\"");
            "unknown".to_owned()
        }
    };
    takes_traffic(client, namespace, &plan, &view).await?;
    turned_over(client, namespace, &plan, &view).await?;
    let mark = BreakGlass { by: by.clone(), at: view.now, release, reason: reason.clone() };
    let mut said = String::new();
    let mut failed = Vec::new();
    // One that can't be written must not keep the others from coming back.
    for routing in plan.routing.each() {
        if let Err(error) = write(client, namespace, &routing, &mark).await {
            failed.push(format!("{error:#}"));
            continue;
        }
        let kind = resource(routing.kind.into());
        said += &format!(
            "{}.{}/{} patched: all traffic goes to {}\n",
            kind.kind.to_lowercase(),
            kind.group,
            routing.route,
            routing.destination(Side::Stable)
        );
    }
    if said.is_empty() {
        bail!(failed.join("; "));
    }
    said += &format!(
        "the mark on it is an abort of release {release}; a controller ends the release and takes \
         the mark off\n"
    );
    // The record of it, where the API lets us; what mattered is done.
    match give(client, &view, ActionKind::Abort, reason, by).await {
        Ok(action) => said += &format!("rolloutaction.surefoot.dev/{action} created\n"),
        Err(error) => said += &format!("no RolloutAction is left as a record: {error:#}\n"),
    }
    if !failed.is_empty() {
        print!("{said}");
        bail!("not all routes send their traffic to stable: {}", failed.join("; "));
    }
    Ok(said)
}

/// The plan that the release follows, or the spec's: names alone are wanted of it.
fn names(view: &View<'_>) -> Result<Plan> {
    match &view.plan {
        Some(plan) => Ok(plan.clone()),
        None => Ok(Plan::of(&RolloutSpec { analysis: None, ..view.rollout.spec.clone() })?),
    }
}

/// Traffic that goes where nobody answers is worse than a canary.
async fn takes_traffic(
    client: &Client,
    namespace: &str,
    plan: &Plan,
    view: &View<'_>,
) -> Result<()> {
    let api: Api<EndpointSlice> = Api::namespaced(client.clone(), namespace);
    let stable = plan.routing.destination(Side::Stable);
    let of = format!("kubernetes.io/service-name={}", stable.service);
    let slices = match limited(api.list(&ListParams::default().labels(&of))).await {
        Ok(slices) => slices,
        Err(error) => {
            let what = format!("whether {stable} has ready pods");
            eprintln!("warning: not looked at: {}", trouble(&what, &error));
            return Ok(());
        }
    };
    let slices: Vec<Value> =
        slices.items.iter().filter_map(|slice| serde_json::to_value(slice).ok()).collect();
    let reached = Service::of(&json!({}), &slices);
    let set = view.status.stable.as_ref().map(|stable| stable.replica_set.as_str());
    let ready = match (stable.subset, set) {
        // Both versions' pods are behind the one Service: stable's are told by their names.
        (Some(_), Some(set)) => reached.ready_of(set),
        _ => reached.ready(),
    };
    if ready == 0 {
        bail!("{stable} has no ready pod that could take the traffic: nothing was written");
    }
    Ok(())
}

/// In a hand-over what reaches stable has been turned over to the tested pods: weights change nothing
/// then.
async fn turned_over(client: &Client, namespace: &str, plan: &Plan, view: &View<'_>) -> Result<()> {
    let Some(stable) = view.status.stable.as_ref() else { return Ok(()) };
    let to = plan.routing.destination(Side::Stable);
    let (kind, name) = match plan.routing.rule() {
        Some(rule) => (Kind::DestinationRule, rule),
        None => (Kind::Service, to.service),
    };
    let what = format!("what {to} reaches");
    let object = match limited(objects(client, kind, namespace).get(name)).await {
        Ok(object) => serde_json::to_value(&object)?,
        Err(error) => {
            eprintln!("warning: not looked at: {}", trouble(&what, &error));
            return Ok(());
        }
    };
    let pin = match to.subset {
        Some(subset) => subset::labels(&object, subset).and_then(|l| l.get(HASH_LABEL).cloned()),
        None => Service::of(&object, &[]).pin,
    };
    if pin.is_some_and(|pin| pin != stable.hash) {
        bail!(
            "the hand-over has turned {to} over to the new pods: weights change nothing any more, and \
             nothing was written. An abort that a controller hears still goes back; by hand, set \
             {HASH_LABEL} of {kind:?} {name} to {} first",
            stable.hash
        );
    }
    Ok(())
}

async fn write(
    client: &Client,
    namespace: &str,
    routing: &Routing,
    mark: &BreakGlass,
) -> Result<()> {
    let text = serde_json::to_string(mark)?;
    let kind = Kind::from(routing.kind);
    let api = objects(client, kind, namespace);
    let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    let what = |verb: &str| format!("{verb} {} {namespace}/{}", kind.name(), routing.route);
    for _ in 0..ATTEMPTS {
        let route = limited(api.get(&routing.route)).await;
        let route = route.map_err(|error| anyhow!(trouble(&what("reading"), &error)))?;
        let route = serde_json::to_value(&route)?;
        let patch: JsonPatch = route::break_glass(&route, routing, namespace, mark.release, &text)?;
        match limited(api.patch(&routing.route, &params, &Patch::Json::<()>(patch))).await {
            Ok(_) => return Ok(()),
            // Somebody wrote it in between: look at what is there now.
            Err(error) if matches!(error.code(), Some(409 | 422)) => {}
            Err(error) => bail!(trouble(&what("writing"), &error)),
        }
    }
    bail!(
        "{} {namespace}/{} is being written by somebody else all the time: nothing was written; see its \
         managedFields",
        kind.name(),
        routing.route
    )
}
