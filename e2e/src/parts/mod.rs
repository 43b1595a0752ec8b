//! The real parts: each a process (or, for the kubelet, a task) that is started,
//! waited for, and gone when its handle is dropped.

pub mod controlplane;
pub mod envoy;
pub mod istiod;
pub mod kubelet;
pub mod prometheus;

use std::fs::File;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::wait::{wait_for, wait_until};

/// How long any part may take to start. Generous: two cores may be busy.
pub const START_LIMIT: Duration = Duration::from_secs(90);

/// A child process in a session of its own. It is killed when the handle is
/// dropped, and by the kernel when this program dies.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    child: Child,
    pid: Pid,
}

impl Drop for Process {
    /// Kills and waits: whoever goes on may remove the files it had open.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a [`Process`] is started from.
#[derive(Debug)]
pub struct Launch<'a> {
    /// Short name; the log is `<name>.log`.
    pub name: &'a str,
    /// The program.
    pub binary: &'a Path,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its environment beyond the inherited one.
    pub env: &'a [(&'a str, &'a str)],
    /// Where the log goes.
    pub logs: &'a Path,
    /// Whether stdout is read by us rather than logged, and stdin kept open.
    pub piped: bool,
}

impl Process {
    /// Starts a process; readiness is another matter ([`Process::ready`]).
    pub fn start(launch: Launch<'_>) -> Result<Process> {
        let Launch { name, binary, args, env, logs, piped } = launch;
        if !binary.exists() {
            bail!("{} is missing: run e2e/setup", binary.display());
        }
        let log = logs.join(format!("{name}.log"));
        let file = File::create(&log).with_context(|| format!("creating {}", log.display()))?;
        // Both wrappers replace themselves, so the child's pid is the part's own.
        let mut command = Command::new("setsid");
        command
            .args(["setpriv", "--pdeathsig", "KILL", "--"])
            .arg(binary)
            .args(args)
            .envs(env.iter().copied())
            .stdin(if piped { Stdio::piped() } else { Stdio::null() })
            .stdout(if piped {
                Stdio::piped()
            } else {
                Stdio::from(file.try_clone().context("sharing the log")?)
            })
            .stderr(Stdio::from(file));
        let child = command
            .spawn()
            .with_context(|| format!("starting {name} (setsid and setpriv: package util-linux)"))?;
        let pid = Pid::from_child(&child);
        Ok(Process { name: name.to_owned(), log, child, pid })
    }

    /// Waits until `check` says yes; fails at once when the process ends first.
    pub async fn ready<F, Fut>(&mut self, check: F) -> Result<()>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<bool>>,
    {
        let what = format!("{} to be ready, see {}", self.name, self.log.display());
        let ended = wait_for(&what, START_LIMIT, || {
            std::future::ready(self.child.try_wait().map_err(Into::into))
        });
        tokio::select! {
            ready = wait_until(&what, START_LIMIT, check) => ready,
            ended = ended => bail!("{} ended ({}), see {}", self.name, ended?, self.log.display()),
        }
    }

    /// Whether the process has ended, by itself or killed.
    pub fn has_ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait().with_context(|| format!("waiting for {}", self.name))?.is_some())
    }

    /// The process id.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Freezes the process (SIGSTOP): it holds its connections and says nothing.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets a frozen process go on.
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// Kills the process for good.
    pub fn kill(&self) -> Result<()> {
        self.signal(Signal::KILL)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(self.pid, signal)
            .with_context(|| format!("sending {signal:?} to {}", self.name))
    }
}

/// Whether a GET of `url` is answered 200.
pub async fn answers(http: &reqwest::Client, url: &str) -> Result<bool> {
    let response = http.get(url).timeout(Duration::from_secs(2)).send().await?;
    Ok(response.status().is_success())
}
