//! The proxies that istiod configures: the gateway, and the one of a client within the mesh.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::{Launch, Process};

/// Where the gateway listens for requests.
pub const GATEWAY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8000);
/// Where it listens for those of HTTPRoutes, once there is one.
pub const PUBLIC: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8002);
/// Where the client's proxy takes the client's requests (`proxyHttpPort` in `config/mesh.yaml`).
pub const SIDECAR: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8001);
/// Where the client's proxy tells its metrics; `config/prometheus.yml` says the same.
const SIDECAR_ADMIN: u16 = 15020;

/// Starts the gateway and waits until it has its listener from istiod.
pub async fn start(bin: &Path, data: &Path, logs: &Path) -> Result<Process> {
    run("envoy", bootstrap()?, GATEWAY, bin, data, logs).await
}

/// Starts the proxy of a client, and waits in the same way.
pub async fn start_sidecar(bin: &Path, data: &Path, logs: &Path) -> Result<Process> {
    let mut config = bootstrap()?;
    let address = "10.244.255.253";
    config["node"] = json!({
        "id": format!("sidecar~{address}~client-0.mesh-gateway~mesh-gateway.svc.cluster.local"),
        "cluster": "client.mesh-gateway",
        "metadata": {
            "NAMESPACE": "mesh-gateway", "CLUSTER_ID": "Kubernetes", "ISTIO_VERSION": "1.32.0",
            "WORKLOAD_NAME": "client", "LABELS": {"app": "client"}, "INSTANCE_IPS": address,
        },
    });
    config["admin"]["address"]["socket_address"]["port_value"] = json!(SIDECAR_ADMIN);
    run("sidecar", config, SIDECAR, bin, data, logs).await
}

fn bootstrap() -> Result<Value> {
    serde_json::from_str(include_str!("../../config/envoy.json")).context("Envoy's bootstrap")
}

async fn run(
    name: &str,
    config: Value,
    listens: SocketAddr,
    bin: &Path,
    data: &Path,
    logs: &Path,
) -> Result<Process> {
    let bootstrap = data.join(format!("{name}.json"));
    std::fs::write(&bootstrap, config.to_string()).context("writing Envoy's bootstrap")?;
    let mut process = Process::start(Launch {
        name,
        binary: &bin.join("envoy"),
        // Envoy takes no `--flag=value`.
        args: [
            "--config-path",
            &bootstrap.display().to_string(),
            "--concurrency",
            "1",
            "--log-level",
            "warning",
            "--use-dynamic-base-id",
        ]
        .into_iter()
        .map(str::to_owned)
        .collect(),
        env: &[],
        logs,
        piped: false,
    })?;
    process.ready(|| async { Ok(TcpStream::connect(listens).await.is_ok()) }).await?;
    Ok(process)
}
