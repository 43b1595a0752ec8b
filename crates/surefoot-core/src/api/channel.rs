//! NotificationChannel: where people are told what happens to their releases.
#![expect(
    clippy::duplicated_attributes,
    reason = "every printer column has a name, a type and a path"
)]

use kube_derive::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema::rules;

/// A place where people are told what happens to their releases. Rollouts of the same namespace
/// name it in `spec.notifications`.
#[derive(CustomResource, JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[kube(
    group = "surefoot.dev",
    version = "v1alpha1",
    kind = "NotificationChannel",
    namespaced,
    shortname = "sfnc",
    category = "surefoot",
    crates(kube_core = "::kube_core"),
    doc = "A place where people are told what happens to the releases of this namespace.",
    printcolumn(
        name = "Webhook",
        type_ = "string",
        json_path = ".spec.slack.webhook.secretRef.name",
        description = "the Secret with the webhook's URL"
    ),
    printcolumn(
        name = "Token",
        type_ = "string",
        json_path = ".spec.slack.token.secretRef.name",
        description = "the Secret with the token"
    ),
    printcolumn(name = "Channel", type_ = "string", json_path = ".spec.slack.channel"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct NotificationChannelSpec {
    /// Slack, by an incoming webhook or by an app's token.
    pub slack: Slack,
    /// Where a message links to, http or https. `{{namespace}}` and `{{name}}` become those of the
    /// Rollout. Default no link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 8, max = 1024))]
    #[schemars(extend("x-kubernetes-validations" = rules(&[(
        "self.matches('^https?://[^@/?# ]+([/?#][!-~]*)?$') && !self.matches('[<>|]')",
        "must be an http or https URL without user, password or spaces, such as https://grafana.example.com/d/releases?var-app={{name}}",
    )])))]
    pub dashboard_url: Option<String>,
}

/// How to reach Slack: `webhook`, or `token` with `channel`.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules(&[
    ("has(self.webhook) != has(self.token)",
     "give exactly one of webhook (an incoming webhook's URL) and token (an app's token, with channel)"),
    ("!has(self.token) || has(self.channel)",
     "a token needs channel: the Slack channel to post to, such as C0123456789"),
    ("has(self.token) || (!has(self.channel) && !has(self.apiUrl))",
     "channel and apiUrl go with token: a webhook's URL says both, so leave them out"),
])))]
pub struct Slack {
    /// The URL of an incoming webhook; it is a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<SecretSource>,
    /// The token of an app that may `chat:write`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<SecretSource>,
    /// The Slack channel that a token posts to, by id or by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 80))]
    pub channel: Option<String>,
    /// Base URL of Slack's Web API for a token, where a gateway stands in between;
    /// `/chat.postMessage` is added. Default "https://slack.com/api".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 8, max = 1024))]
    #[schemars(extend("x-kubernetes-validations" = rules(&[(
        "self.matches('^https?://[^@/?#]+(/[^?#]*)?$')",
        "must be an http or https URL without user, password, query or fragment, such as https://slack.com/api",
    )])))]
    pub api_url: Option<String>,
}

/// A value that is kept in a Secret.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretSource {
    /// The Secret. Surefoot must be allowed to get it by its name: deploy/namespace.yaml lists the
    /// names.
    pub secret_ref: SecretKeyRef,
}

/// One key of a Secret.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// Name of the Secret, in this namespace.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key in it.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}
