//! RolloutAction: one command of a person, as an object that stays as the audit trail.
#![expect(
    clippy::duplicated_attributes,
    reason = "every printer column has a name, a type and a path"
)]

use kube_derive::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A command to a Rollout, bound to what its author looked at: a promote for step 1 of release 4
/// does nothing to any other step or release. `kubectl surefoot promote|abort|…` makes these.
#[derive(CustomResource, JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[kube(
    group = "surefoot.dev",
    version = "v1alpha1",
    kind = "RolloutAction",
    namespaced,
    shortname = "sfa",
    category = "surefoot",
    crates(kube_core = "::kube_core"),
    doc = "A command to a Rollout, bound to the release and step its author looked at; kept as the audit trail.",
    printcolumn(name = "Rollout", type_ = "string", json_path = ".spec.rollout"),
    printcolumn(name = "Action", type_ = "string", json_path = ".spec.action"),
    printcolumn(name = "Release", type_ = "integer", json_path = ".spec.release"),
    printcolumn(name = "Step", type_ = "integer", json_path = ".spec.step"),
    printcolumn(name = "By", type_ = "string", json_path = ".spec.requestedBy"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".spec.reason", priority = "1"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct RolloutActionSpec {
    /// Name of the Rollout, in this namespace.
    #[schemars(length(min = 1, max = 253))]
    pub rollout: String,
    /// UID of that Rollout: a command never reaches a namesake made later.
    #[schemars(length(min = 1, max = 64))]
    pub uid: String,
    /// Number of the release that the command is for (`status.release.number`): the one under way,
    /// at rest the latest one.
    #[schemars(range(min = 1))]
    pub release: i64,
    /// Index of the step that the command is for, from 0. It matters to promote and promoteFull, and
    /// to resume where it ends a hold of the step; the others count at any step.
    #[schemars(range(min = 0, max = 19))]
    pub step: i32,
    /// What to do.
    pub action: ActionKind,
    /// Why, in the author's words; shown in status and Events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub reason: Option<String>,
    /// Who asks. Admission policy demands that it is the user who creates the object.
    #[schemars(length(min = 1, max = 253))]
    pub requested_by: String,
}

/// What a RolloutAction asks for.
#[derive(
    JsonSchema, Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "camelCase")]
pub enum ActionKind {
    /// Give the approval the step waits for, or go past its gate.
    Promote,
    /// Go past the gates of this step and of all that are left, to all traffic and the hand-over.
    PromoteFull,
    /// Bring all traffic back to the stable version and end the release.
    Abort,
    /// Keep the release at its weight: no step forward until resume. Harm still ends it.
    Pause,
    /// End a pause, and a hold of the step: its clocks begin anew.
    Resume,
    /// After a rollback: the same template again, as a new release.
    Retry,
    /// Put the template of the version before back into the Deployment: stable's during a release
    /// and after a rollback, at rest that of the version which stable replaced.
    Undo,
}

impl ActionKind {
    /// Every kind.
    pub const ALL: [ActionKind; 7] = [
        ActionKind::Promote,
        ActionKind::PromoteFull,
        ActionKind::Abort,
        ActionKind::Pause,
        ActionKind::Resume,
        ActionKind::Retry,
        ActionKind::Undo,
    ];

    /// The word on the wire, and the virtual subresource of `rollouts` that it takes a right to.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            ActionKind::Promote => "promote",
            ActionKind::PromoteFull => "promoteFull",
            ActionKind::Abort => "abort",
            ActionKind::Pause => "pause",
            ActionKind::Resume => "resume",
            ActionKind::Retry => "retry",
            ActionKind::Undo => "undo",
        }
    }
}
