//! A message to Slack: the secret is read, the message sent, the answer read.

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::Api;
use serde_json::{Value, json};
use surefoot_core::api::channel::{SecretKeyRef, Slack};
use surefoot_core::notify::Trouble;
use surefoot_core::notify::slack::{Door, arrived};

use crate::client::limited;
use crate::outbound::{Outbound, OutboundError};
use crate::redacted::Redacted;

/// Slack's Web API.
const API: &str = "https://slack.com/api";
/// No answer of Slack's is larger.
const LARGEST: usize = 64 * 1024;

/// Why a message hasn't arrived, and how long the other side asks us to wait.
pub(super) struct Failure {
    pub(super) trouble: Trouble,
    pub(super) asked: Option<Duration>,
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        Self { trouble, asked: None }
    }
}

/// Send it. The Secret is read each time, so that one that was changed counts at once.
pub(super) async fn send(
    client: &Client,
    http: &Outbound,
    namespace: &str,
    slack: &Slack,
    mut message: Value,
) -> Result<(), Failure> {
    let (door, source) = match (&slack.webhook, &slack.token) {
        (Some(webhook), None) => (Door::Webhook, webhook),
        (None, Some(token)) => (Door::PostMessage, token),
        _ => return Err(Trouble::ChannelInvalid.into()),
    };
    let secret = read(client, namespace, &source.secret_ref).await?;
    let answer = match door {
        Door::Webhook => http.post(&secret, None, &message, LARGEST).await,
        Door::PostMessage => {
            message["channel"] = json!(slack.channel);
            let base = slack.api_url.as_deref().unwrap_or(API).trim_end_matches('/');
            let url = Redacted::new(format!("{base}/chat.postMessage"));
            http.post(&url, Some(&secret), &message, LARGEST).await
        }
    };
    let answer = answer.map_err(|error| match error {
        OutboundError::Url | OutboundError::Forbidden(_) | OutboundError::Tls(_) => {
            Trouble::AddressRefused(error.to_string())
        }
        error => Trouble::Unreachable(error.to_string()),
    })?;
    arrived(door, answer.status, &answer.body)
        .map_err(|trouble| Failure { trouble, asked: answer.retry_after })
}

async fn read(client: &Client, namespace: &str, at: &SecretKeyRef) -> Result<Redacted, Trouble> {
    let SecretKeyRef { name, key } = at.clone();
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let secret = match limited(api.get(&name)).await {
        Ok(secret) => secret,
        Err(error) if error.is_missing() => return Err(Trouble::SecretMissing { name, key }),
        Err(error) if error.code() == Some(403) => return Err(Trouble::SecretForbidden { name }),
        Err(error) => {
            // What the server sent in place of a Secret is nobody's business.
            let problem = match error.code() {
                Some(code) => format!("the API server answers with status {code}"),
                None => "the API server can't be reached".to_owned(),
            };
            return Err(Trouble::SecretUnread { name, problem });
        }
    };
    let value = secret.data.and_then(|mut data| data.remove(&key)).map(|bytes| bytes.0);
    // Files and `echo` end with a line break.
    let text = value.and_then(|bytes| String::from_utf8(bytes).ok());
    match text.as_deref().map(str::trim) {
        Some(text) if !text.is_empty() => Ok(Redacted::new(text.to_owned())),
        _ => Err(Trouble::KeyMissing { name, key }),
    }
}
