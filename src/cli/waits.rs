//! What ends each kind of wait, for somebody who has never met it.

use surefoot_core::api::status::WaitingKind;

/// What ends the wait, and what to do where it takes a person.
#[must_use]
pub fn ends(kind: WaitingKind) -> &'static str {
    match kind {
        WaitingKind::Prerequisite => {
            "It ends when somebody puts right what it names; nothing is touched before."
        }
        WaitingKind::Refused => {
            "It ends when the API server takes the write; it is tried again after at most half a \
             minute, without a restart."
        }
        WaitingKind::NativeRollout => {
            "It ends with the Deployment's own rollout: see `kubectl rollout status deployment`."
        }
        WaitingKind::HoldReady => {
            "It ends when the admission policy is installed and covers this Deployment."
        }
        WaitingKind::Services => {
            "It ends when the Services' selectors are written and endpoints have followed, in seconds."
        }
        WaitingKind::CanaryCreated => {
            "It ends when the ReplicaSet is there. If it doesn't come, a quota or an admission \
             webhook refuses it: see the Rollout's Events."
        }
        WaitingKind::CanaryReady => {
            "It ends when the pods are ready; past the deadline the release is rolled back. If they \
             don't become ready, look at them with `kubectl describe pod`."
        }
        WaitingKind::Baseline => "It ends when the metrics answer, or after half a minute.",
        WaitingKind::RouteWritten => {
            "It ends when the route is written, at once. If it isn't, see the Rollout's \
             Events."
        }
        WaitingKind::RouteAccepted => {
            "It ends when the mesh's controller says on the route (status.parents) that it follows it as \
             it is now. If it doesn't, put right what it names, or look at the controller."
        }
        WaitingKind::Propagation => {
            "It ends when the metrics show the new split, or after spec.traffic.propagationDelay."
        }
        WaitingKind::WarmUp => "Time alone ends it. The crash guard watches meanwhile.",
        WaitingKind::GateUnreachable => {
            "More traffic than before ends it, or a person: promote goes on without the evidence, abort \
             goes back. Tolerances are never changed by themselves."
        }
        WaitingKind::Evidence => {
            "More requests end it. At the end of maxDuration the plan says what happens without."
        }
        WaitingKind::MinDuration | WaitingKind::SlowRequests => "Time alone ends it.",
        WaitingKind::MinRequests => {
            "More canary requests end it. With little traffic: a higher weight or a lower \
             gate.minRequests, from the next release on."
        }
        WaitingKind::Metrics => {
            "It ends when usable metrics come back. Look at the source of spec.analysis.sourceRef, \
             at the scraping of the sidecars, and at whether there is traffic at all."
        }
        WaitingKind::ExposureMismatch => {
            "It ends when the canary's share of the requests comes near its weight. Look for another \
             route to the Service, or for clients that stick to one version."
        }
        WaitingKind::Leak => {
            "It ends when such requests stop. Callers outside of the mesh reach every pod of the \
             Service; spec.traffic.apex: stableOnly keeps them on stable, from the next release on."
        }
        WaitingKind::Approval => "A person ends it: promote the step, or abort the release.",
        WaitingKind::Paused => "It ends when somebody sets spec.paused to false.",
        WaitingKind::Resume => {
            "A person ends it: resume lets the release go on, abort goes back. Harm is still acted on."
        }
        WaitingKind::Decision => {
            "A person ends it: promote goes on without the evidence, resume looks on for another \
             while, abort goes back."
        }
        WaitingKind::WeightLowered => {
            "A person ends it: resume writes the step's weight again, abort ends the release."
        }
        WaitingKind::TrafficOwnership => {
            "It ends when the other writer leaves the weights alone; a release that is held for it \
             then goes on by resume."
        }
        WaitingKind::Endpoints => {
            "It ends when a pod is ready again; traffic goes only where there is one. Look at the \
             pods' Events."
        }
        WaitingKind::ScaleDownDelay => "Time alone ends it (spec.scaleDownDelay).",
        WaitingKind::Adoption => {
            "It ends when the deployment controller takes up the ReplicaSet, in seconds. If it \
             doesn't, see whether kube-controller-manager runs."
        }
        WaitingKind::OldPods | WaitingKind::CanaryGone => {
            "It ends when the pods are gone, at the latest after terminationGracePeriodSeconds."
        }
        WaitingKind::Template => {
            "It ends with a new template, which begins a new release, or with stable's: undo puts \
             that back, retry tries the same one again."
        }
        WaitingKind::Notifications => {
            "It ends when the channels have the news, or after ten seconds."
        }
    }
}
