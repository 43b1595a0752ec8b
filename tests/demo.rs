//! `surefoot demo` as people see it: its lines, its exit code, and kubectl and the plugin at work
//! against it from another terminal.

#![expect(clippy::unwrap_used, reason = "what can't be started fails its test")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// A demo, which ends with its test.
struct Demo {
    child: Child,
    config: PathBuf,
}

impl Drop for Demo {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.config);
    }
}

fn surefoot() -> Command {
    Command::new(env!("CARGO_BIN_EXE_surefoot"))
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

impl Demo {
    /// One that releases nothing by itself, once it is open.
    fn idle() -> Self {
        let name = format!("surefoot-demo-test-{}.kubeconfig", std::process::id());
        let config = std::env::temp_dir().join(name);
        let mut child = surefoot()
            .args(["demo", "--idle", "--speed", "30", "--kubeconfig"])
            .arg(&config)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("the shop is open")), "it never opened");
        // Read on, or it would stand still once the pipe is full.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, config }
    }

    fn run(&self, mut command: Command, arguments: &str) -> Output {
        command.args(arguments.split_whitespace()).env("KUBECONFIG", &self.config);
        command.output().unwrap()
    }

    fn plugin(&self, arguments: &str) -> (Option<i32>, String) {
        let output = self.run(Command::new(env!("CARGO_BIN_EXE_kubectl-surefoot")), arguments);
        (output.status.code(), text(&output))
    }

    fn kubectl(&self, path: &Path, arguments: &str) -> String {
        let mut command = Command::new(path);
        command.arg("kubectl");
        let output = self.run(command, arguments);
        assert!(output.status.success(), "kubectl {arguments}: {}", text(&output));
        text(&output)
    }
}

#[test]
fn a_good_release_is_promoted_and_a_bad_one_rolled_back() {
    let output = surefoot().args(["demo", "--speed", "60"]).output().unwrap();
    let text = text(&output);
    assert!(output.status.success(), "{text}");
    let place = |what: &str| text.find(what).unwrap_or_else(|| panic!("no {what:?} in:\n{text}"));
    assert!(place("cart      Promoted") < place("checkout=registry.test/checkout:v2-bad"));
    assert!(place("checkout  RollingBack") < place("checkout  RolledBack"));
    assert!(place("0% → 10%") < place("50% → 100%"));
}

#[test]
fn kubectl_and_the_plugin_work_against_it() {
    let kubectl = Path::new(env!("CARGO_MANIFEST_DIR")).join(".cache/bin/controlplane");
    if !kubectl.exists() {
        assert!(std::env::var_os("CI").is_none(), "CI has the real parts: make setup");
        eprintln!("skipped: no kubectl: make setup brings it");
        return;
    }
    let demo = Demo::idle();
    let kubectl = |arguments: &str| demo.kubectl(&kubectl, arguments);
    let all = kubectl("get rollouts -n shop");
    assert_eq!(all.matches("Healthy").count(), 3, "{all}");

    let (code, told) = demo.plugin("doctor -n shop");
    assert_eq!(told.matches("Ready for a release.").count(), 3, "{told}");
    assert_eq!(code, Some(0), "{told}");

    kubectl("set image deployment/web web=registry.test/web:v2 -n shop");
    let (code, told) = demo.plugin("status web -n shop --watch --timeout 5m");
    assert_eq!(code, Some(0), "{told}");
    let (_, history) = demo.plugin("history web -n shop");
    assert!(history.contains("promoted"), "{history}");

    let (code, told) = demo.plugin("set-image web web=registry.test/web:v3-bad -n shop --watch");
    assert_eq!(code, Some(1), "a bad version is rolled back: {told}");
    let (code, told) = demo.plugin("explain web -n shop");
    assert!(code == Some(0) && told.contains("rolled back"), "{told}");

    kubectl("set image deployment/cart cart=registry.test/cart:v2 -n shop");
    kubectl("wait rollout/cart -n shop --for=jsonpath={.status.phase}=Stepping --timeout=60s");
    let (code, told) = demo.plugin("abort cart -n shop --reason changed-my-mind");
    assert_eq!(code, Some(0), "{told}");
    let (code, told) = demo.plugin("status cart -n shop --watch --timeout 5m");
    assert_eq!(code, Some(1), "{told}");
    let events = kubectl("events -n shop --for rollout/cart");
    assert!(events.contains("RolledBack"), "{events}");
    let described = kubectl("describe rollout cart -n shop");
    assert!(described.contains("changed-my-mind"), "{described}");
}
