//! Giving a command: reading, asking who we are, and one write.

use anyhow::{Result, anyhow, bail};
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::api::{Api, PostParams};
use kube::{Client, ResourceExt};
use surefoot_core::api::{ActionKind, RolloutAction};

use super::fetch;
use super::order::{action, consequence, goal, refusal, words};
use super::trouble::trouble;
use super::view::View;
use super::watch::Goal;
use crate::client::limited;
use crate::clock::Clock;

/// Who writes RolloutActions, as fields are managed.
pub(super) const MANAGER: &str = "kubectl-surefoot";

/// A command that was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// What there is to say about it.
    pub said: String,
    /// What to follow for it.
    pub goal: Goal,
}

/// Give a command and say what will come of it.
///
/// # Errors
/// No release is under way that it could be for, or the API server refuses; in one line.
pub async fn command(
    client: &Client,
    namespace: &str,
    name: &str,
    kind: ActionKind,
    reason: Option<String>,
) -> Result<Given> {
    let rollout = fetch::rollout(&fetch::one(client, namespace, name).await?)?;
    let view = View::new(&rollout, Clock::System.now());
    if let Some(refusal) = refusal(&view, kind) {
        bail!("{refusal}");
    }
    let created = give(client, &view, kind, reason, whoami(client).await?).await?;
    let said = consequence(&view, kind);
    Ok(Given {
        said: format!("rolloutaction.surefoot.dev/{created} created\n{said}\n"),
        goal: goal(&view, kind),
    })
}

/// Make the object of a command; its name.
pub(super) async fn give(
    client: &Client,
    view: &View<'_>,
    kind: ActionKind,
    reason: Option<String>,
    user: String,
) -> Result<String> {
    let (namespace, name) = (view.namespace(), view.name());
    let action = action(view, kind, reason, user)?;
    let api: Api<RolloutAction> = Api::namespaced(client.clone(), namespace);
    let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
    let what = format!("{} of Rollout {namespace}/{name}", words(kind));
    let created = limited(api.create(&params, &action)).await;
    Ok(created.map_err(|error| anyhow!(trouble(&what, &error)))?.name_any())
}

/// The name by which the API server knows us: admission policy demands it.
pub(super) async fn whoami(client: &Client) -> Result<String> {
    let api: Api<SelfSubjectReview> = Api::all(client.clone());
    let review = limited(api.create(&PostParams::default(), &SelfSubjectReview::default())).await;
    let review = review.map_err(|error| anyhow!(trouble("asking who you are", &error)))?;
    let user = review.status.and_then(|status| status.user_info).and_then(|info| info.username);
    user.ok_or_else(|| anyhow!("the API server doesn't say who you are: try `kubectl auth whoami`"))
}
