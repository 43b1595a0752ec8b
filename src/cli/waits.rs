//! What ends each kind of wait, for somebody who has never met it.

use surefoot_core::api::status::WaitingKind;

/// What ends the wait, and what to do where it takes a person.
#[must_use]
pub fn ends(kind: WaitingKind) -> &'static str {
    match kind {
        WaitingKind::Prerequisite => {
            "Somebody puts right what it names; nothing goes on before, and nothing is touched."
        }
        WaitingKind::NativeRollout => {
            "The Deployment's own rollout ends: see `kubectl rollout status deployment`."
        }
        WaitingKind::HoldReady => "The admission policy is installed and covers this Deployment.",
        WaitingKind::Services => {
            "The controller writes the Services' selectors and their endpoints follow, in seconds."
        }
        WaitingKind::CanaryCreated => {
            "The controller makes the ReplicaSet; if it doesn't, a quota or an admission webhook \
             refuses it: see the Rollout's Events."
        }
        WaitingKind::CanaryReady => {
            "The pods become ready; past the deadline the release is rolled back. If they don't, \
             look at them with `kubectl describe pod`."
        }
        WaitingKind::Baseline => "The metrics answer, or half a minute has passed.",
        WaitingKind::RouteWritten => {
            "The controller writes the VirtualService; if it doesn't, see the Rollout's Events."
        }
        WaitingKind::Propagation => {
            "The metrics show the new split, or spec.traffic.propagationDelay has passed."
        }
        WaitingKind::WarmUp => "Time alone ends it. The crash guard watches meanwhile.",
        WaitingKind::Evidence => {
            "More requests. At the end of maxDuration the plan says what happens without."
        }
        WaitingKind::MinDuration | WaitingKind::SlowRequests => "Time alone ends it.",
        WaitingKind::MinRequests => {
            "The canary serves more requests. With little traffic: a higher weight or a lower \
             gate.minRequests, from the next release on."
        }
        WaitingKind::Metrics => {
            "Usable metrics come back. Look at the source of spec.analysis.sourceRef, at the \
             sidecars' scraping, and at whether there is traffic at all."
        }
        WaitingKind::ExposureMismatch => {
            "The canary's share of the requests comes near its weight: look for another route to \
             the Service, or for clients that stick to one version."
        }
        WaitingKind::Approval => "A person promotes the step, or aborts the release.",
        WaitingKind::Paused => "Somebody sets spec.paused to false.",
        WaitingKind::Decision => {
            "A person decides: promote goes on without the evidence, abort goes back."
        }
        WaitingKind::WeightLowered => {
            "A person decides: promote writes the step's weight again, abort ends the release."
        }
        WaitingKind::Endpoints => {
            "A pod is ready again. Traffic goes only where there is one; look at the pods' Events."
        }
        WaitingKind::ScaleDownDelay => "Time alone ends it (spec.scaleDownDelay).",
        WaitingKind::Adoption => {
            "The deployment controller takes up the ReplicaSet, in seconds. If it doesn't, see \
             whether kube-controller-manager runs."
        }
        WaitingKind::OldPods | WaitingKind::CanaryGone => {
            "The pods end, at the latest after their terminationGracePeriodSeconds."
        }
        WaitingKind::Template => {
            "A new template in the Deployment begins a new release; stable's template ends this one."
        }
    }
}
