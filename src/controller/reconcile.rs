//! The reconcile: observe, decide, commit, act. One direction, once around.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;
use kube::core::DeserializeGuard;
use kube::runtime::controller::Action;
use surefoot_core::act::regardless;
use surefoot_core::api::notice::Reason;
use surefoot_core::api::status::Phase;
use surefoot_core::api::{Rollout, RolloutStatus};
use surefoot_core::claim::Rival;
use surefoot_core::decide::outdated;
use surefoot_core::mark::Mark;
use surefoot_core::metrics::wanted;
use surefoot_core::plan::Plan;
use surefoot_core::turn::{Next, turn};
use surefoot_core::write::{Author, Write};

use super::act::{ActError, Committed, perform};
use super::commit::{CommitError, commit};
use super::lease::PERIOD;
use super::notify::Channels;
use super::observe::observe;
use super::sample::Task;
use super::{Context, Woken};

/// Without any event, look again after this.
const RESYNC: Duration = Duration::from_secs(300);

/// Why a reconcile ended early. It is tried again after a pause.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The status wasn't committed.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// A write wasn't made.
    #[error(transparent)]
    Act(#[from] ActError),
}

/// Bring one Rollout a step further.
///
/// # Errors
/// See [`ReconcileError`]; nothing has been lost by them.
pub async fn reconcile(
    guard: Arc<DeserializeGuard<Rollout>>,
    context: Arc<Context>,
) -> Result<Action, ReconcileError> {
    let rollout = match &guard.0 {
        Ok(rollout) => context.newest(rollout),
        Err(error) => {
            // One malformed object never stalls the others; its next change brings it back.
            tracing::error!(
                name = guard.name_any(),
                error = error.error,
                "a Rollout can't be read"
            );
            return Ok(Action::await_change());
        }
    };
    if !context.lead.holds() {
        // Frozen or cut off for a while: the next renewal tells.
        return Ok(Action::requeue(PERIOD));
    }
    context.meet(&rollout);
    let uid = rollout.uid().unwrap_or_default();
    if rollout.metadata.deletion_timestamp.is_some() && rollout.finalizers().is_empty() {
        context.forget(&uid);
        return Ok(Action::await_change());
    }
    // What has been committed may go out, whatever becomes of this look.
    offer(&context, &rollout);
    let now = context.clock.now();
    let (seen, stamped) = observe(&context, &rollout);
    let old = rollout.status.clone().unwrap_or_default();
    let number = old.release.as_ref().map_or(0, |r| r.number);
    let samples = context.sampler.of(&uid, number);
    let turn = turn(&rollout, &seen, &stamped, &samples, &context.holder, now);
    let plan = turn.plan.as_ref();
    let (committed, acts) = match turn.next {
        Next::Rest => {
            sample(&context, &rollout, &old, plan.filter(|_| !seen.namespace_terminating));
            let again = probe(&context, &rollout, &old).await;
            let action = requeue(turn.requeue_at, now);
            return Ok(again.map_or(action, Action::requeue));
        }
        Next::TakeOver(claimed) => {
            if let Some(wait) = context.rivalry(&uid) {
                return Ok(Action::requeue(wait));
            }
            tracing::info!(
                name = rollout.name_any(),
                epoch = claimed.decision.as_ref().map(|d| d.epoch),
                "take over"
            );
            commit(&context, &rollout, &claimed).await?;
            context.claimed(uid);
            return Ok(Action::requeue(Duration::ZERO));
        }
        Next::Stamp(stamps) => {
            perform_all(&context, &rollout, plan, &seen.rivals, &stamps).await?;
            return Ok(Action::requeue(Duration::ZERO));
        }
        Next::Commit(status, acts) => {
            log(&rollout, &status);
            context.telemetry.phase(old.phase, status.phase);
            let committed = match commit(&context, &rollout, &status).await {
                Err(CommitError::Outdated(why)) => {
                    stall(&context, &rollout, &old, &why).await?;
                    return Err(CommitError::Outdated(why).into());
                }
                committed => committed?,
            };
            context.telemetry.given_up(turn.given_up);
            offer(&context, &committed);
            (committed, acts)
        }
        Next::Act(acts) => (rollout, acts),
    };
    let status = committed.status.clone().unwrap_or_default();
    sample(&context, &committed, &status, plan);
    if perform_all(&context, &committed, plan, &seen.rivals, &acts).await? == Done::Released {
        context.forget(&uid);
        return Ok(Action::await_change());
    }
    // What was written comes back by the watch; what the next stage waits for, too.
    Ok(requeue(turn.requeue_at, now))
}

/// The cluster's definition of Rollout is older than this controller: say so where it can be said,
/// and act on nothing.
async fn stall(
    context: &Context,
    rollout: &Rollout,
    old: &RolloutStatus,
    why: &str,
) -> Result<(), ReconcileError> {
    context.telemetry.reconciled("crd_outdated");
    let now = context.clock.now();
    let message = format!(
        "the cluster's definition of Rollout is older than this controller: kubectl apply --server-side \
         --filename crds/ ({why})"
    );
    context.notifier.tell(rollout, Reason::CRDOutdated, &message).await;
    if let Some(status) = outdated(old, &message, now) {
        commit(context, rollout, &status).await?;
    }
    Ok(())
}

#[derive(PartialEq, Eq)]
enum Done {
    /// All writes are made.
    All,
    /// The last one let the Rollout go.
    Released,
}

/// Make the writes of the decision that the Rollout carries, one after another.
async fn perform_all(
    context: &Context,
    rollout: &Rollout,
    plan: Option<&Plan>,
    rivals: &[Rival],
    acts: &[Write],
) -> Result<Done, ReconcileError> {
    let decision = rollout.status.as_ref().and_then(|s| s.decision.as_ref());
    let (seq, epoch) = decision.map_or((0, 0), |d| (d.seq, d.epoch));
    let allowed = decision.map(|d| Mark { release: d.release, weight: d.weight });
    let (name, uid) = (rollout.name_any(), rollout.uid().unwrap_or_default());
    let namespace = rollout.namespace().unwrap_or_default();
    let author = Author {
        rollout: &name,
        uid: &uid,
        namespace: &namespace,
        deployment: plan.map_or(&rollout.spec.target_ref.name, |plan| &plan.deployment),
        epoch,
        rivals,
        allowed: allowed.unwrap_or_default(),
    };
    let by = Committed { author, seq };
    let last = |write: &Write| *write == Write::Finalizer { present: false };
    // Of what nothing has been decided about there is nothing but the finalizer to take off.
    let mut failed = None;
    for write in acts.iter().filter(|write| decision.is_some() || last(write)) {
        if failed.is_some() && !regardless(write) {
            break;
        }
        match perform(context.tools(), by, write).await {
            Ok(_) if last(write) => return Ok(Done::Released),
            Ok(_) => {}
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    failed.map_or(Ok(Done::All), |error| Err(error.into()))
}

fn requeue(at: Option<Timestamp>, now: Timestamp) -> Action {
    let pause =
        at.map_or(RESYNC, |at| Duration::try_from(at.duration_since(now)).unwrap_or_default());
    Action::requeue(pause.min(RESYNC))
}

/// Tell the sampler what is wanted from now on.
fn sample(context: &Arc<Context>, rollout: &Rollout, status: &RolloutStatus, plan: Option<&Plan>) {
    let uid = rollout.uid().unwrap_or_default();
    let namespace = rollout.namespace().unwrap_or_default();
    let number = status.release.as_ref().map_or(0, |r| r.number);
    let task = plan
        .and_then(|plan| wanted(plan, status, &namespace))
        .map(|wanted| Task { source: context.source(&wanted.source, &namespace), wanted });
    let (alarm, rollout) = (context.alarm.clone(), rollout.clone());
    context.sampler.set(&uid, number, task, move || alarm.wake(&rollout, Woken::Sampled));
}

/// Let the committed news go out, beside the reconcile.
fn offer(context: &Arc<Context>, rollout: &Rollout) {
    let (alarm, woken) = (context.alarm.clone(), rollout.clone());
    let news = rollout.status.as_ref().is_some_and(|s| !s.outbox.is_empty());
    let channels = if news { context.channels(rollout) } else { Channels::new() };
    context.notifier.offer(rollout, channels, move || alarm.wake(&woken, Woken::Delivered));
}

/// At rest, make sure that the policy holds the next template; when to try again.
async fn probe(
    context: &Arc<Context>,
    rollout: &Rollout,
    status: &RolloutStatus,
) -> Option<Duration> {
    let uid = rollout.uid().unwrap_or_default();
    if status.phase != Phase::Healthy {
        return None;
    }
    context.holds.due(&uid)?;
    let namespace = rollout.namespace().unwrap_or_default();
    let deployment = &rollout.spec.target_ref.name;
    context.telemetry.write("dry-run");
    if context.holds.probe(&context.client, &namespace, deployment, &uid).await {
        context.alarm.wake(rollout, Woken::Probed);
    }
    context.holds.due(&uid)
}

/// One line a decision.
fn log(rollout: &Rollout, status: &RolloutStatus) {
    let decision = status.decision.as_ref();
    tracing::info!(
        namespace = rollout.namespace(),
        name = rollout.name_any(),
        phase = status.phase.as_str(),
        release = status.release.as_ref().map(|r| r.number),
        step = status.step.as_ref().map(|s| s.index),
        weight = decision.map(|d| d.weight),
        seq = decision.map(|d| d.seq),
        message = status.message,
        "decided"
    );
}

#[cfg(test)]
mod tests;
