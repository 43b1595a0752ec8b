//! A sandbox on TCP, for kubectl: `cargo run --example serve -- 8001`, then
//! `kubectl --server http://127.0.0.1:8001 get ns`.

use kube_sandbox::{Controllers, Sandbox, Settings};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port = std::env::args().nth(1).map_or(Ok(8001), |port| port.parse())?;
    let sandbox = Sandbox::new();
    let _controllers = Controllers::start(&sandbox, Settings::default());
    let server = sandbox.listen(port).await?;
    println!("{}", server.kubeconfig());
    std::future::pending().await
}
