//! istiod (`e2e/istiod`): turns routes and endpoints into Envoy's configuration.

use std::path::Path;

use anyhow::{Context, Result};

use super::{Launch, Process, answers};

const HTTP: &str = "127.0.0.1:15007";

/// Everything that needs certificates or containers is off, and changes go out
/// after 10 ms rather than 100.
const ENVIRONMENT: [(&str, &str); 14] = [
    ("POD_NAMESPACE", "istio-system"),
    ("POD_NAME", "istiod-0"),
    ("ENABLE_CA_SERVER", "false"),
    ("PILOT_CERT_PROVIDER", "none"),
    ("INJECT_ENABLED", "false"),
    ("INJECTION_WEBHOOK_CONFIG_NAME", ""),
    ("VALIDATION_WEBHOOK_CONFIG_NAME", ""),
    ("PILOT_ENABLE_METADATA_EXCHANGE", "false"),
    ("PILOT_ENABLE_ALPN_FILTER", "false"),
    ("PILOT_DISABLE_MX_ALPN", "true"),
    ("ENABLE_LEADER_ELECTION", "false"),
    ("ENABLE_DEBUG_ENDPOINT_AUTH", "false"),
    ("PILOT_DEBOUNCE_AFTER", "10ms"),
    ("PILOT_ENABLE_GATEWAY_API_DEPLOYMENT_CONTROLLER", "false"),
];

/// Starts istiod and waits until it has read what the cluster holds.
pub async fn start(bin: &Path, kubeconfig: &Path, data: &Path, logs: &Path) -> Result<Process> {
    let mesh = data.join("mesh.yaml");
    let networks = data.join("networks.yaml");
    std::fs::write(&mesh, include_str!("../../config/mesh.yaml")).context("writing mesh.yaml")?;
    std::fs::write(&networks, "networks: {}\n").context("writing networks.yaml")?;
    let mut process = Process::start(Launch {
        name: "istiod",
        binary: &bin.join("istiod"),
        args: vec![
            "discovery".into(),
            format!("--kubeconfig={}", kubeconfig.display()),
            format!("--meshConfig={}", mesh.display()),
            format!("--networksConfig={}", networks.display()),
            format!("--httpAddr={HTTP}"),
            "--grpcAddr=127.0.0.1:15010".into(),
            "--secureGRPCAddr=".into(),
            "--httpsAddr=".into(),
            "--monitoringAddr=127.0.0.1:15014".into(),
            "--ctrlz_port=0".into(),
            "--clusterID=Kubernetes".into(),
        ],
        env: &ENVIRONMENT,
        logs,
        piped: false,
    })?;
    let http = reqwest::Client::builder().no_proxy().build()?;
    let url = format!("http://{HTTP}/ready");
    process.ready(|| answers(&http, &url)).await?;
    Ok(process)
}
