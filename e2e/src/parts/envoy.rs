//! The gateway: one Envoy that istiod configures.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use anyhow::{Context, Result};
use tokio::net::TcpStream;

use super::{Launch, Process};

/// Where the gateway listens for requests.
pub const GATEWAY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8000);

/// Starts the gateway and waits until it has its listener from istiod.
pub async fn start(bin: &Path, data: &Path, logs: &Path) -> Result<Process> {
    let bootstrap = data.join("envoy.json");
    std::fs::write(&bootstrap, include_str!("../../config/envoy.json"))
        .context("writing Envoy's bootstrap")?;
    let mut process = Process::start(Launch {
        name: "envoy",
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
    process.ready(|| async { Ok(TcpStream::connect(GATEWAY).await.is_ok()) }).await?;
    Ok(process)
}
