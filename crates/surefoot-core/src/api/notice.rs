//! News of a Rollout: what is told, to whom, and what is still to be delivered.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema::instant;
use super::status::HoldReason;

/// A channel and what is told there.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Notification {
    /// Name of a NotificationChannel, in this namespace.
    #[schemars(length(min = 1, max = 253))]
    pub channel: String,
    /// What is told there. Default all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 9), extend("x-kubernetes-list-type" = "set"))]
    pub events: Vec<NotificationEvent>,
}

impl Notification {
    /// Whether news of this kind is told on the channel.
    #[must_use]
    pub fn wants(&self, reason: Reason) -> bool {
        reason.event().is_some_and(|e| self.events.is_empty() || self.events.contains(&e))
    }
}

/// What may be told on a channel.
#[derive(JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum NotificationEvent {
    /// A release began.
    Started,
    /// A step passed, with its evidence.
    StepPassed,
    /// The release is held: a person's approval or decision is needed, or there are no metrics.
    Paused,
    /// A held release goes on.
    Resumed,
    /// A step was left without enough evidence, as the plan says.
    PromotedWithoutEvidence,
    /// The release is what runs now.
    Promoted,
    /// The traffic goes back to stable, and why.
    RollingBack,
    /// The release is over; stable serves everything.
    RolledBack,
    /// A template was rolled out natively, without steps.
    ReleasedOutside,
}

/// News of a Rollout; the reason of its Event.
#[derive(JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// What runs was found running.
    Adopted,
    /// A release began.
    Started,
    /// A step's weight is written.
    Advancing,
    /// A step passed.
    StepPassed,
    /// A step waits for nothing but a person's approval.
    ApprovalNeeded,
    /// A step's time is over without enough evidence.
    Inconclusive,
    /// The same, and the plan says to look on.
    Extended,
    /// A step's gate can't be met at this traffic.
    GateUnreachable,
    /// There have been no usable metrics for too long.
    NoData,
    /// Somebody lowered the weight on the route.
    WeightLowered,
    /// The cluster's definition of Rollout is older than the controller.
    CRDOutdated,
    /// Somebody raised the weight on the route, or changed which requests are chosen: it was put right.
    WeightRestored,
    /// Somebody keeps doing so.
    TrafficOwnershipConflict,
    /// Somebody paused the release.
    PausedByCommand,
    /// A hold is over.
    Resumed,
    /// Somebody let all steps that were left pass.
    PromotedFull,
    /// An earlier template comes back, as somebody asked.
    Undoing,
    /// A command came to nothing, and why.
    Ignored,
    /// More commands than can be remembered.
    TooManyCommands,
    /// Somebody brought the traffic back by hand.
    BreakGlass,
    /// A step was left without enough evidence.
    PromotedWithoutEvidence,
    /// The release is what runs now.
    Promoted,
    /// The traffic goes back to stable.
    RollingBack,
    /// The release is over; stable serves everything.
    RolledBack,
    /// A template was rolled out natively, without steps.
    ReleasedOutside,
    /// The Rollout was deleted while its spec couldn't be followed.
    Abandoned,
    /// The Rollout was deleted.
    Deleted,
}

impl Reason {
    /// What it counts as in `spec.notifications`; none where only an Event tells of it.
    #[must_use]
    pub fn event(self) -> Option<NotificationEvent> {
        Some(match self {
            Reason::Started => NotificationEvent::Started,
            Reason::StepPassed | Reason::PromotedFull => NotificationEvent::StepPassed,
            Reason::ApprovalNeeded
            | Reason::Inconclusive
            | Reason::NoData
            | Reason::WeightLowered
            | Reason::TrafficOwnershipConflict
            | Reason::PausedByCommand => NotificationEvent::Paused,
            Reason::Resumed => NotificationEvent::Resumed,
            Reason::PromotedWithoutEvidence => NotificationEvent::PromotedWithoutEvidence,
            Reason::Promoted => NotificationEvent::Promoted,
            Reason::RollingBack => NotificationEvent::RollingBack,
            Reason::RolledBack => NotificationEvent::RolledBack,
            Reason::ReleasedOutside => NotificationEvent::ReleasedOutside,
            Reason::BreakGlass => NotificationEvent::RollingBack,
            Reason::Adopted
            | Reason::Extended
            | Reason::GateUnreachable
            | Reason::Advancing
            | Reason::CRDOutdated
            | Reason::WeightRestored
            | Reason::Undoing
            | Reason::Ignored
            | Reason::TooManyCommands
            | Reason::Abandoned
            | Reason::Deleted => return None,
        })
    }
}

impl From<HoldReason> for Reason {
    fn from(reason: HoldReason) -> Self {
        match reason {
            HoldReason::Inconclusive => Reason::Inconclusive,
            HoldReason::NoData => Reason::NoData,
            HoldReason::WeightLowered => Reason::WeightLowered,
            HoldReason::TrafficOwnershipConflict => Reason::TrafficOwnershipConflict,
        }
    }
}

/// A piece of news: an Event to be written and messages to be sent.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Notice {
    /// Unique in this Rollout: sequence of the decision, time, kind of news and a number.
    pub id: String,
    /// Something went wrong.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub warning: bool,
    /// What happened, in one word.
    pub reason: Reason,
    /// The same in a sentence.
    pub note: String,
    /// When it happened.
    #[schemars(schema_with = "instant")]
    pub at: Timestamp,
    /// Number of the release, 0 before the first.
    #[serde(default)]
    pub release: i64,
    /// Index of the step, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<i32>,
    /// Per cent of the traffic that the release may have.
    #[serde(default)]
    pub weight: i32,
    /// Who decided: "surefoot", or the user whose command it was.
    #[serde(default)]
    pub actor: String,
    /// On what evidence, where `note` doesn't say.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 2000))]
    pub evidence: String,
    /// The first images of the release.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    pub images: Vec<String>,
    /// Channels that don't have it yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["channel"]))]
    pub to: Vec<Recipient>,
}

impl Notice {
    /// The channel's entry, while it doesn't have the notice.
    #[must_use]
    pub fn recipient(&self, channel: &str) -> Option<&Recipient> {
        self.to.iter().find(|r| r.channel == channel)
    }
}

/// A channel that a notice is for.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Recipient {
    /// Name of the NotificationChannel.
    pub channel: String,
    /// Earlier notices that the channel never got: too many waited, or they waited for too long.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub omitted: i64,
}

fn is_zero(n: &i64) -> bool {
    *n == 0
}
