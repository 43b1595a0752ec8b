//! The way over TCP.
#![allow(clippy::unwrap_used)]

use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use kube_sandbox::Sandbox;

#[tokio::test]
async fn a_client_finds_its_way_by_the_kubeconfig() {
    let sandbox = Sandbox::new();
    let server = sandbox.listen(0).await.unwrap();
    assert!(server.address().ip().is_loopback());
    let kubeconfig = Kubeconfig::from_yaml(&server.kubeconfig()).unwrap();
    let config =
        Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    let client = kube::Client::try_from(config).unwrap();
    let namespaces = Api::<Namespace>::all(client).list(&Default::default()).await.unwrap();
    assert_eq!(namespaces.items.len(), 2);
}
