//! etcd, kube-apiserver and kube-controller-manager (`e2e/controlplane`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::ChildStdout;
use tokio::sync::watch;

use super::{Launch, Process, START_LIMIT};

/// What the program prints when ready, and whenever a component was restarted.
#[derive(Clone, Debug, Default, Deserialize)]
struct Report {
    kubeconfig: PathBuf,
    pids: BTreeMap<String, i32>,
}

/// A component that a test may stop.
#[derive(Clone, Copy, Debug)]
pub enum Component {
    /// kube-apiserver
    ApiServer,
    /// kube-controller-manager
    ControllerManager,
}

impl Component {
    fn name(self) -> &'static str {
        match self {
            Component::ApiServer => "kube-apiserver",
            Component::ControllerManager => "kube-controller-manager",
        }
    }
}

/// The running control plane.
#[derive(Debug)]
pub struct ControlPlane {
    process: Process,
    report: watch::Receiver<Report>,
}

impl ControlPlane {
    /// Starts it and waits until the API server is ready.
    pub async fn start(bin: &Path, data: &Path, logs: &Path) -> Result<ControlPlane> {
        let mut process = Process::start(Launch {
            name: "controlplane",
            binary: &bin.join("controlplane"),
            args: vec![
                "up".into(),
                format!("-dir={}", data.display()),
                format!("-logs={}", logs.display()),
            ],
            env: &[],
            logs,
            piped: true,
        })?;
        let stdout = process
            .child
            .stdout
            .take()
            .ok_or_else(|| anyhow!("the control plane has no stdout"))?;
        let stdout = ChildStdout::from_std(stdout)?;
        let (sender, receiver) = watch::channel(Report::default());
        tokio::spawn(async move {
            let mut lines = BufReader::new(stdout).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                if let Ok(report) = serde_json::from_str(&line) {
                    sender.send_replace(report);
                }
            }
        });
        let reported = receiver.clone();
        process.ready(|| std::future::ready(Ok(!reported.borrow().pids.is_empty()))).await?;
        Ok(ControlPlane { process, report: receiver })
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.report.borrow().kubeconfig.clone()
    }

    /// The process id of a component, as of its last start.
    pub fn pid(&self, component: Component) -> Result<i32> {
        let report = self.report.borrow();
        report
            .pids
            .get(component.name())
            .copied()
            .ok_or_else(|| anyhow!("{} is not running", component.name()))
    }

    /// The process that holds all others.
    pub fn supervisor(&self) -> &Process {
        &self.process
    }

    /// A client for the administrator, or for `user` by impersonation, so that
    /// RBAC and admission act as they would on that user.
    ///
    /// It never repeats a request by itself: a test wants to see each answer.
    pub async fn client(&self, user: Option<&str>) -> Result<Client> {
        let kubeconfig =
            Kubeconfig::read_from(self.kubeconfig()).context("reading the kubeconfig")?;
        let mut config =
            kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        config.default_retry = false;
        config.auth_info.impersonate = user.map(str::to_owned);
        Ok(Client::try_from(config)?)
    }

    /// Writes a kubeconfig for `user` (by impersonation) to `path`: for programs
    /// that are to have no more rights than that user.
    pub fn kubeconfig_for(&self, user: &str, path: &Path) -> Result<()> {
        let text = std::fs::read_to_string(self.kubeconfig()).context("reading the kubeconfig")?;
        let mut config: Value = serde_saphyr::from_str(&text).context("parsing the kubeconfig")?;
        config["users"][0]["user"]["as"] = user.into();
        // JSON is YAML.
        std::fs::write(path, config.to_string())
            .with_context(|| format!("writing {}", path.display()))
    }

    /// Freezes a component: connections stay open, nothing is answered.
    pub fn freeze(&self, component: Component) -> Result<()> {
        self.signal(component, Signal::STOP)
    }

    /// Lets a frozen component go on.
    pub fn thaw(&self, component: Component) -> Result<()> {
        self.signal(component, Signal::CONT)
    }

    /// Kills a component and waits until its successor has been started (which
    /// does not mean that it is ready to serve).
    pub async fn restart(&self, component: Component) -> Result<()> {
        let old = self.pid(component)?;
        let mut report = self.report.clone();
        self.signal(component, Signal::KILL)?;
        let restarted = report.wait_for(|report| report.pids.get(component.name()) != Some(&old));
        tokio::time::timeout(START_LIMIT, restarted)
            .await
            .with_context(|| format!("{} was not restarted", component.name()))?
            .context("the control plane is gone")?;
        Ok(())
    }

    fn signal(&self, component: Component, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(self.pid(component)?).ok_or_else(|| anyhow!("no pid"))?;
        kill_process(pid, signal)
            .with_context(|| format!("sending {signal:?} to {}", component.name()))
    }
}
