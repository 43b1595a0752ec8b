//! Act: every write of a committed decision, fenced and conditional (`protocol.md`, step 5):
//! the object is read, then the Rollout, both from the API server itself; only when the decision is
//! still the one that was committed is the write sent, and only onto the object as it was read.

use jiff::Timestamp;
use kube::Client;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions};
use serde_json::Value;
use surefoot_core::refused::{Refused, final_word};
use surefoot_core::write::{Author, Kind, Refusal, Request, Target, Write};

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
    /// The decision is no longer the committed one.
    #[error("another decision has been committed meanwhile")]
    Superseded,
    /// The object isn't as the decision saw it.
    #[error(transparent)]
    Refused(#[from] Refusal),
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
            ActError::Superseded | ActError::Refused(_) => true,
        }
    }

    /// The same for the status, after what was refused `before`.
    #[must_use]
    pub fn refused(&self, before: Option<&Refused>, now: Timestamp) -> Refused {
        let (what, code, said) = match self {
            ActError::Call { what, source } => (what.as_str(), source.code(), source.said()),
            // Each is a change that came between.
            ActError::Superseded => ("acting on the decision", Some(409), self.to_string()),
            ActError::Refused(refusal) => ("a write", Some(409), refusal.to_string()),
        };
        Refused::again(before, what, code, &said, now)
    }
}

/// The decision that stands behind a write.
#[derive(Debug, Clone, Copy)]
pub struct Committed<'a> {
    /// Whose it is.
    pub author: Author<'a>,
    /// Its sequence number.
    pub seq: i64,
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
    let target = write.target(author);
    let fresh = read(tools, author.namespace, &target).await?;
    let also = match write.also(author) {
        Some(other) => read(tools, author.namespace, &other).await?,
        None => None,
    };
    still_committed(tools, committed, fresh.as_ref().filter(|_| target.kind == Kind::Rollout))
        .await?;
    let Some(request) = write.request(fresh.as_ref(), also.as_ref(), author)? else {
        return Ok(false);
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

/// The Rollout itself, read after the object, must still carry this decision.
async fn still_committed(
    tools: Tools<'_>,
    committed: Committed<'_>,
    rollout: Option<&Value>,
) -> Result<(), ActError> {
    let author = committed.author;
    let target = Target { kind: Kind::Rollout, name: author.rollout.to_owned() };
    let read = match rollout {
        Some(rollout) => Some(rollout.clone()),
        None => read(tools, author.namespace, &target).await?,
    };
    let number =
        |field: &str| read.as_ref()?.pointer(&format!("/status/decision/{field}"))?.as_i64();
    let uid = read.as_ref().and_then(|r| r.pointer("/metadata/uid")?.as_str());
    let same = uid == Some(author.uid)
        && number("seq").unwrap_or(0) == committed.seq
        && number("epoch").unwrap_or(0) == author.epoch;
    if same { Ok(()) } else { Err(ActError::Superseded) }
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
