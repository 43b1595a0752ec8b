//! Commit: one conditional write of the whole status, before anything is done about it.

use kube::api::{Api, Patch, PatchParams};
use kube::{Client, ResourceExt};
use surefoot_core::api::{Rollout, RolloutStatus};
use surefoot_core::turn;

use super::Context;
use crate::client::{CallError, MANAGER, limited};

/// Why a status wasn't committed.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Somebody wrote the Rollout first: drop everything and look again.
    #[error("the Rollout changed meanwhile")]
    Conflict,
    /// The API server knows fewer fields than we write.
    #[error(
        "the installed definition of Rollout is older than this controller (CRDOutdated): apply crds/: {0}"
    )]
    Outdated(String),
    /// The fence refused us.
    #[error("fenced off: {0}")]
    Fenced(String),
    /// The API server's word.
    #[error("committing the status: {0}")]
    Call(CallError),
}

/// Write the status onto the Rollout as it was read. The answer is the Rollout as it is now.
///
/// # Errors
/// See [`CommitError`]. The body must never be sent again: decide anew.
pub async fn commit(
    context: &Context,
    rollout: &Rollout,
    status: &RolloutStatus,
) -> Result<Rollout, CommitError> {
    context.telemetry.write("status");
    let committed = put(&context.client, rollout, status).await?;
    context.remember(&committed);
    Ok(committed)
}

/// The write itself, sent once.
async fn put(
    client: &Client,
    rollout: &Rollout,
    status: &RolloutStatus,
) -> Result<Rollout, CommitError> {
    let namespace = rollout.namespace().unwrap_or_default();
    let api: Api<Rollout> = Api::namespaced(client.clone(), &namespace);
    let params = PatchParams { field_manager: Some(MANAGER.into()), ..Default::default() };
    let params = params.validation_strict();
    let (name, patch) = (rollout.name_any(), Patch::Json::<()>(turn::commit(rollout, status)));
    limited(api.patch_status(&name, &params, &patch)).await.map_err(|error| {
        let message = error.said();
        match error.code() {
            Some(409 | 404) => CommitError::Conflict,
            Some(_) if message.contains("unknown field") => CommitError::Outdated(message),
            Some(422) => CommitError::Fenced(message),
            _ => CommitError::Call(error),
        }
    })
}

#[cfg(test)]
mod tests;
