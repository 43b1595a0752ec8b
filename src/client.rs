//! The connection to the API server. Every call has a limit of five seconds; nothing is resent by
//! itself, since resending a write whose answer was lost could undo what came after it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject};
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use serde_json::Value;
use surefoot_core::write::Kind;

/// No call may take longer.
pub const CALL_LIMIT: Duration = Duration::from_secs(5);
pub use surefoot_core::gather::MANAGER;

/// How to reach the API server, with kubectl's names for it.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Connection {
    /// Path of a kubeconfig file; default: KUBECONFIG, ~/.kube/config, or the pod's service account
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig to use
    #[arg(long, global = true)]
    pub context: Option<String>,
    /// User to impersonate
    #[arg(long = "as", global = true, value_name = "USER")]
    pub impersonate: Option<String>,
}

impl Connection {
    /// The configuration: where the server is and who we are.
    ///
    /// # Errors
    /// When there is no usable kubeconfig and no service account.
    pub async fn config(&self) -> Result<Config> {
        let options = KubeConfigOptions { context: self.context.clone(), ..Default::default() };
        let mut config = match &self.kubeconfig {
            Some(path) => {
                let file = Kubeconfig::read_from(path)
                    .with_context(|| format!("can't read kubeconfig {}", path.display()))?;
                Config::from_custom_kubeconfig(file, &options).await?
            }
            None if self.context.is_some() => Config::from_kubeconfig(&options).await?,
            None => Config::infer().await.context(
                "no way to the API server: give --kubeconfig, set KUBECONFIG, or run in a pod",
            )?,
        };
        config.default_retry = false;
        config.connect_timeout = Some(CALL_LIMIT);
        if let Some(user) = &self.impersonate {
            let value = user.parse().with_context(|| format!("{user:?} is no user name"))?;
            config.headers.push(("impersonate-user".parse()?, value));
        }
        Ok(config)
    }

    /// A client.
    ///
    /// # Errors
    /// As [`Connection::config`], or when TLS can't be set up.
    pub async fn client(&self) -> Result<(Client, String)> {
        let config = self.config().await?;
        let namespace = config.default_namespace.clone();
        Ok((Client::try_from(config)?, namespace))
    }
}

/// How the API server names a kind.
#[must_use]
pub fn resource(kind: Kind) -> ApiResource {
    let (group, version, kind, plural) = match kind {
        Kind::Rollout => ("surefoot.dev", "v1alpha1", "Rollout", "rollouts"),
        Kind::Deployment => ("apps", "v1", "Deployment", "deployments"),
        Kind::ReplicaSet => ("apps", "v1", "ReplicaSet", "replicasets"),
        Kind::Service => ("", "v1", "Service", "services"),
        Kind::VirtualService => ("networking.istio.io", "v1", "VirtualService", "virtualservices"),
        Kind::HTTPRoute => ("gateway.networking.k8s.io", "v1", "HTTPRoute", "httproutes"),
        Kind::GRPCRoute => ("gateway.networking.k8s.io", "v1", "GRPCRoute", "grpcroutes"),
        Kind::DestinationRule => {
            ("networking.istio.io", "v1", "DestinationRule", "destinationrules")
        }
        Kind::RolloutAction => ("surefoot.dev", "v1alpha1", "RolloutAction", "rolloutactions"),
    };
    let api_version = if group.is_empty() { version.into() } else { format!("{group}/{version}") };
    ApiResource {
        group: group.into(),
        version: version.into(),
        api_version,
        kind: kind.into(),
        plural: plural.into(),
    }
}

/// Objects of a kind in a namespace, as raw as they come.
#[must_use]
pub fn objects(client: &Client, kind: Kind, namespace: &str) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), namespace, &resource(kind))
}

/// An object as the JSON that it came from.
#[must_use]
pub fn raw(object: &DynamicObject) -> Value {
    // A DynamicObject came from JSON and goes back to it.
    serde_json::to_value(object).unwrap_or_default()
}

/// A call with its limit.
///
/// # Errors
/// The call's own, or [`CallError::TimedOut`].
pub async fn limited<T>(
    call: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, CallError> {
    match tokio::time::timeout(CALL_LIMIT, call).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(CallError::TimedOut),
    }
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No answer in time; a write may have been made all the same.
    #[error("the API server didn't answer within 5 s")]
    TimedOut,
    /// The API server's answer, or none.
    #[error(transparent)]
    Kube(#[from] kube::Error),
}

impl CallError {
    /// The HTTP status, where the server gave one.
    #[must_use]
    pub fn code(&self) -> Option<u16> {
        match self {
            CallError::Kube(kube::Error::Api(status)) => Some(status.code),
            _ => None,
        }
    }

    /// The server's own words, where it had any.
    #[must_use]
    pub fn said(&self) -> String {
        match self {
            CallError::Kube(kube::Error::Api(status)) => status.message.clone(),
            other => other.to_string(),
        }
    }

    /// The object isn't there.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        self.code() == Some(404)
    }
}
