//! A network of our own: every port is free, every pod address is local, and
//! nothing gets out. Several runs on one machine do not see each other.

use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Set in the process that runs inside.
const MARK: &str = "SUREFOOT_E2E_NETNS";

/// The one address of the network that is no pod's: the node's.
pub const NODE_IP: Ipv4Addr = Ipv4Addr::new(10, 244, 255, 254);

/// Starts this program again in a new network namespace, unless it is in one
/// already. Comes back only inside.
pub fn enter() -> Result<()> {
    if std::env::var_os(MARK).is_none() {
        let myself = std::env::current_exe().context("finding this program")?;
        let allowed = Command::new("unshare")
            .args(["--net", "true"])
            .output()
            .context("running unshare (package util-linux)")?;
        if !allowed.status.success() {
            bail!(
                "cannot make a network namespace ({}): run this as root or with CAP_SYS_ADMIN and CAP_NET_ADMIN",
                String::from_utf8_lossy(&allowed.stderr).trim()
            );
        }
        let error = Command::new("unshare")
            .arg("--net")
            .arg("--")
            .arg(myself)
            .args(std::env::args_os().skip(1))
            .env(MARK, "1")
            .exec();
        return Err(error).context("entering a network namespace");
    }
    ip(&["link", "set", "lo", "up"])?;
    // An address with this prefix on lo makes the whole range local.
    ip(&["address", "add", &format!("{NODE_IP}/16"), "dev", "lo"])
}

fn ip(arguments: &[&str]) -> Result<()> {
    let output =
        Command::new("ip").args(arguments).output().context("running ip (package iproute2)")?;
    if !output.status.success() {
        bail!(
            "ip {}: {} (CAP_NET_ADMIN is needed)",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}
