//! `init`: what a Deployment needs to be released by a Rollout, from what is there already.
//!
//! [`found`] reads, [`propose`] decides (it is pure), [`pages`] writes it as YAML with comments, and
//! [`apply`] does it.

pub mod apply;
mod form;
pub mod found;
pub mod pages;
pub mod propose;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use kube::Client;
use surefoot_core::api::rollout::Mesh;

use self::propose::Wishes;

/// Options of `init`.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// The Deployment, as in deployment/checkout
    pub deployment: String,
    /// The Service that clients call; default: the one that selects the Deployment's pods
    #[arg(long)]
    pub service: Option<String>,
    /// Whose routes are to be shifted and whose metrics judged
    #[arg(long, value_enum, default_value = "istio")]
    pub mesh: MeshName,
    /// The route whose weights are to be shifted, as in web or httproute/web; default: the one for the Service
    #[arg(long)]
    pub route: Option<String>,
    /// Where Prometheus is, seen from the controller [default: http://prometheus.istio-system:9090, or
    /// http://prometheus.linkerd-viz:9090 with --mesh linkerd]
    #[arg(long, value_name = "URL")]
    pub prometheus: Option<String>,
    /// Make the changes instead of showing them
    #[arg(long)]
    pub apply: bool,
}

/// A mesh as it is named on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum MeshName {
    /// Istio: a VirtualService, or an HTTPRoute where there is one
    Istio,
    /// Linkerd: an HTTPRoute
    Linkerd,
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
    let (mesh, usual) = match options.mesh {
        MeshName::Istio => (Mesh::Istio, "http://prometheus.istio-system:9090"),
        MeshName::Linkerd => (Mesh::Linkerd, "http://prometheus.linkerd-viz:9090"),
    };
    let found = found::find(client, namespace, name, mesh).await?;
    let wishes = Wishes {
        mesh,
        service: options.service.clone(),
        route: options.route.clone(),
        prometheus: options.prometheus.clone().unwrap_or_else(|| usual.to_owned()),
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
