//! Act: every write of a committed decision, fenced and conditional. Which calls that takes, and in
//! which order, [`surefoot_core::act`] says; here they are made.

use jiff::Timestamp;
use kube::Client;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions};
use serde_json::Value;
pub use surefoot_core::act::Committed;
use surefoot_core::act::{Call, Stopped, next};
use surefoot_core::refused::{Refused, final_word};
use surefoot_core::write::{Request, Target, Write};

use super::cache::{Cache, Watched};
use super::telemetry::Telemetry;
use crate::client::{CallError, MANAGER, limited, objects};

/// Why a write wasn't made, or isn't known to have been. Always: look again.
#[derive(Debug, thiserror::Error)]
pub enum ActError {
    /// The API server's word.
    #[error("{what}: {source}")]
    Call {
        /// Which write.
        what: String,
        /// Its failure.
        source: CallError,
    },
    /// It mustn't be made.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl ActError {
    /// The object changed between reading and writing: nothing is wrong, look again at once.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        match self {
            ActError::Call { source, .. } => {
                matches!(source.code(), Some(404 | 409 | 422))
                    && !final_word(source.code(), &source.said())
            }
            ActError::Stopped(_) => true,
        }
    }

    /// The same for the status, after what was refused `before`.
    #[must_use]
    pub fn refused(&self, before: Option<&Refused>, now: Timestamp) -> Refused {
        let (what, code, said) = match self {
            ActError::Call { what, source } => (what.as_str(), source.code(), source.said()),
            // Each is a change that came between.
            ActError::Stopped(Stopped::Superseded) => {
                ("acting on the decision", Some(409), self.to_string())
            }
            ActError::Stopped(Stopped::Refused(refusal)) => {
                ("a write", Some(409), refusal.to_string())
            }
        };
        Refused::again(before, what, code, &said, now)
    }
}

/// What a write is made with. Nothing of it says whether to write.
#[derive(Clone, Copy)]
pub struct Tools<'a> {
    /// The way to the API server.
    pub client: &'a Client,
    /// Gets to know what was written.
    pub cache: &'a Cache,
    /// Counts the calls.
    pub telemetry: &'a Telemetry,
}

/// Make one write. `Ok(false)` when there was nothing left to do.
///
/// # Errors
/// See [`ActError`].
pub async fn perform(
    tools: Tools<'_>,
    committed: Committed<'_>,
    write: &Write,
) -> Result<bool, ActError> {
    let author = committed.author;
    let mut answers = Vec::new();
    let (target, request) = loop {
        let so_far: Vec<Option<&Value>> = answers.iter().map(Option::as_ref).collect();
        match next(write, committed, &so_far)? {
            Call::Read(target) => answers.push(read(tools, author.namespace, &target).await?),
            Call::Send(target, request) => break (target, request),
            Call::Done => return Ok(false),
        }
    };
    tools.telemetry.write(cause(write));
    tracing::info!(
        rollout = author.rollout,
        namespace = author.namespace,
        seq = committed.seq,
        epoch = author.epoch,
        write = cause(write),
        object = target.name,
        "write"
    );
    let what = || format!("{} of {:?} {}", cause(write), target.kind, target.name);
    let answer = send(tools.client, author.namespace, &target, request).await;
    let answer = answer.map_err(|source| ActError::Call { what: what(), source })?;
    if let Some(object) = answer {
        tools.cache.wrote(Watched::Written(target.kind), author.namespace, &object);
    }
    Ok(true)
}

async fn read(tools: Tools<'_>, ns: &str, target: &Target) -> Result<Option<Value>, ActError> {
    tools.telemetry.read(target.kind);
    let api = objects(tools.client, target.kind, ns);
    match limited(api.get_opt(&target.name)).await {
        Ok(object) => Ok(object.map(|o| serde_json::to_value(o).unwrap_or_default())),
        Err(source) => {
            let what = format!("reading {:?} {}", target.kind, target.name);
            Err(ActError::Call { what, source })
        }
    }
}

async fn send(
    client: &Client,
    ns: &str,
    target: &Target,
    request: Request,
) -> Result<Option<Value>, CallError> {
    let api = objects(client, target.kind, ns);
    let params = PatchParams { field_manager: Some(MANAGER.into()), ..Default::default() };
    let strict = params.clone().validation_strict();
    let object = match request {
        Request::Create(body) => {
            let body: DynamicObject = serde_json::from_value(body)
                .map_err(|e| CallError::Kube(kube::Error::SerdeError(e)))?;
            let params = PostParams { field_manager: Some(MANAGER.into()), ..Default::default() };
            limited(api.create(&params, &body)).await?
        }
        Request::Patch(patch) => {
            limited(api.patch(&target.name, &strict, &Patch::Json::<()>(patch))).await?
        }
        Request::Scale(patch) => {
            // The answer is a Scale, not the object: the watch brings that.
            limited(api.patch_scale(&target.name, &params, &Patch::Json::<()>(patch))).await?;
            return Ok(None);
        }
        Request::Delete { uid, version } => {
            let preconditions = Preconditions { uid: Some(uid), resource_version: Some(version) };
            let params = DeleteParams::background().preconditions(preconditions);
            limited(api.delete(&target.name, &params)).await?;
            return Ok(None);
        }
    };
    Ok(Some(serde_json::to_value(object).unwrap_or_default()))
}

/// The cause of a write, for logs and metrics.
#[must_use]
pub fn cause(write: &Write) -> &'static str {
    match write {
        Write::Finalizer { .. } => "finalizer",
        Write::CreateService { .. } => "create-service",
        Write::Pin { .. } | Write::PinSubset { .. } => "pin",
        Write::CreateReplicaSet { .. } => "create-canary",
        Write::TakeOver { .. } => "take-over",
        Write::Scale { .. } => "scale",
        Write::Adopt { .. } => "adopt",
        Write::GiveBack { .. } => "give-back",
        Write::DeleteReplicaSet { .. } => "delete-canary",
        Write::SetWeight { .. } => "set-weight",
        Write::Mend { .. } => "mend",
        Write::DeleteAction { .. } => "delete-action",
        Write::Deployment { .. } => "deployment",
        Write::Disown { .. } => "disown",
        Write::Stamp { .. } => "stamp",
    }
}

#[cfg(test)]
mod tests;
