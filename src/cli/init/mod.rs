//! `init`: what a Deployment needs to be released by a Rollout, from what is there already.
//!
//! [`found`] reads, [`propose`] decides (it is pure), [`pages`] writes it as YAML with comments, and
//! [`apply`] does it.

pub mod apply;
pub mod found;
pub mod pages;
pub mod propose;

use anyhow::{Result, bail};
use clap::Args;
use kube::Client;

use self::propose::Wishes;

/// Options of `init`.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// The Deployment, as in deployment/checkout
    pub deployment: String,
    /// The Service that clients call; default: the one that selects the Deployment's pods
    #[arg(long)]
    pub service: Option<String>,
    /// The VirtualService whose weights are to be shifted; default: the one for the Service
    #[arg(long)]
    pub route: Option<String>,
    /// Where Prometheus is, seen from the controller
    #[arg(long, value_name = "URL", default_value = "http://prometheus.istio-system:9090")]
    pub prometheus: String,
    /// Make the changes instead of showing them
    #[arg(long)]
    pub apply: bool,
}

/// The name in `deployment/NAME`, as kubectl takes it.
fn deployment(written: &str) -> Result<&str> {
    match written.split_once('/') {
        None => Ok(written),
        Some(("deployment" | "deployments" | "deploy" | "deployment.apps", name)) => Ok(name),
        Some((kind, _)) => bail!("a Rollout releases a Deployment, not a {kind}: name one"),
    }
}

/// Say what is needed, or do it; what there is to say.
///
/// # Errors
/// In one line: something is in the way that only a person can decide, or the API server refuses.
pub async fn run(client: &Client, namespace: &str, options: &Options) -> Result<String> {
    let name = deployment(&options.deployment)?;
    let found = found::find(client, namespace, name).await?;
    let wishes = Wishes {
        service: options.service.clone(),
        route: options.route.clone(),
        prometheus: options.prometheus.clone(),
    };
    let steps = propose::propose(&found, &wishes)?;
    if options.apply {
        return apply::apply(client, namespace, &steps).await;
    }
    pages::pages(&steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deployment_is_named_as_kubectl_names_it() {
        for written in ["web", "deployment/web", "deploy/web", "deployment.apps/web"] {
            assert_eq!(deployment(written).unwrap(), "web");
        }
        assert!(deployment("statefulset/web").is_err());
    }
}
