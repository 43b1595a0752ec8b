//! The real server: started here, or one that runs already.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::Error;

/// A server to compare with. One that was started here ends when this is dropped.
pub struct ControlPlane {
    kubeconfig: PathBuf,
    /// The process id of the controllers, which are frozen at first.
    manager: Option<String>,
    started: Option<(Child, PathBuf)>,
}

impl ControlPlane {
    /// Starts the program at `path`, or uses the server of the kubeconfig there.
    pub fn start_or_use(path: &str) -> Result<ControlPlane, Error> {
        let mut start = [0; 4];
        let mut file = std::fs::File::open(path)?;
        std::io::Read::read_exact(&mut file, &mut start)?;
        if start == *b"\x7fELF" {
            return ControlPlane::start(Path::new(path));
        }
        Ok(ControlPlane { kubeconfig: path.into(), manager: None, started: None })
    }

    fn start(program: &Path) -> Result<ControlPlane, Error> {
        let folder = std::env::temp_dir().join(format!("fidelity-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        let mut child = Command::new(program)
            .arg("up")
            .arg(format!("-dir={}", folder.display()))
            .args(["-api-port=16443", "-etcd-port=12379"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().ok_or("the control plane has no stdout")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let report: Value = serde_json::from_str(&line).map_err(|error| {
            format!("the control plane didn't start ({error}); see {}", folder.display())
        })?;
        // Its controllers would write while it is compared.
        let manager = report["pids"]["kube-controller-manager"].to_string();
        signal("-STOP", &manager)?;
        let kubeconfig = report["kubeconfig"].as_str().ok_or("no kubeconfig was reported")?.into();
        Ok(ControlPlane { kubeconfig, manager: Some(manager), started: Some((child, folder)) })
    }

    /// Lets the controllers run.
    pub fn resume_controllers(&self) -> Result<(), Error> {
        match &self.manager {
            Some(manager) => signal("-CONT", manager),
            None => Ok(()),
        }
    }

    /// How to reach it.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }
}

fn signal(signal: &str, process: &str) -> Result<(), Error> {
    let status = Command::new("kill").args([signal, process]).status()?;
    if status.success() { Ok(()) } else { Err(format!("kill {signal} {process} failed").into()) }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        if let Some((child, folder)) = &mut self.started {
            // It ends its parts by itself when it is killed; what can't be removed is in a temporary
            // folder.
            let _ = child.kill();
            let _ = child.wait();
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}
