//! One run: a release of the real controller, in virtual time.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use kube_sandbox::{READY_AFTER, Settings as Kubelet};
use mesh_sandbox::{Load, Settings, Tallies, Tally};
use serde::Serialize;
use serde_json::{Value, json};
use surefoot_core::api::status::{Outcome, Phase};
use tokio::time::Instant;

use super::scenario::{Act, Answers, CANARY, Event, STABLE, Scenario, Side, Up};
use crate::cli::order;
use crate::cli::times::between;
use crate::cli::view::View;
use crate::sandbox::timeline::{Line, Timeline};
use crate::sandbox::{self, App, Cluster, Conditions, Delivery, ended};
use crate::simulation::manifest::Manifest;

/// What isn't at rest this long after it should be never will.
const SOON: Duration = Duration::from_secs(600);
/// A release that is held for this long with nothing more to come is held for good.
const HELD: Duration = Duration::from_secs(1800);
/// As many writes are remembered between two looks.
const HISTORY: usize = 20_000;

/// How a release ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum End {
    /// The new version is what runs.
    Promoted,
    /// Stable is.
    RolledBack,
    /// It waits for a person.
    Held,
    /// It was still going on.
    Unfinished,
}

impl End {
    /// In words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            End::Promoted => "promoted",
            End::RolledBack => "rolled back",
            End::Held => "held",
            End::Unfinished => "not ended",
        }
    }
}

/// What came of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Ended {
    /// How it ended.
    pub end: End,
    /// Why, in the controller's words.
    pub why: String,
    /// Seconds from the new version to the end.
    pub seconds: u64,
    /// Requests in that time.
    pub requests: u64,
    /// Those that failed or were never answered.
    pub failed: u64,
    /// Requests that the canary answered.
    pub canary_requests: u64,
    /// Those that it failed.
    pub canary_failed: u64,
    /// Virtual seconds of the whole run.
    pub played: u64,
    /// What happened.
    pub timeline: Vec<Line>,
}

/// Play a scenario once. The same seed gives the same run.
///
/// # Errors
/// When the Rollout can't be followed, or never begins.
pub fn play(manifest: &Manifest, scenario: &Scenario, seed: u64) -> Result<Ended> {
    sandbox::runtime().context("starting a runtime")?.block_on(async {
        let past = scenario.past.duration().context("past")?;
        let game = Game::start(manifest, scenario, seed)?;
        tokio::time::sleep(past).await;
        let controller = tokio::spawn(game.cluster.operate(Some(&game.app.namespace)));
        let ended = game.release(scenario).await;
        controller.abort();
        ended
    })
}

/// A cluster with the application in it.
struct Game {
    cluster: Cluster,
    app: Delivery,
    /// What the route was at the beginning.
    route: Value,
}

impl Game {
    fn start(manifest: &Manifest, scenario: &Scenario, seed: u64) -> Result<Self> {
        let ready_after = scenario.deployment.ready_after.duration().context("readyAfter")?;
        let past = scenario.past.duration().context("past")?;
        let cluster = Cluster::start(Conditions {
            seed,
            start: scenario.begins.checked_sub(past).context("begins")?,
            history: HISTORY,
            kubelet: Kubelet { ready_after, ends_after: Duration::ZERO },
            mesh: Settings { kind: manifest.spec.traffic.mesh, ..scenario.settings()? },
            character: |tag| if tag == STABLE { STABLE } else { CANARY }.to_owned(),
        })?;
        let spec = serde_json::to_value(&manifest.spec).context("the Rollout's spec")?;
        let or = |text: &str, other: &str| if text.is_empty() { other } else { text }.to_owned();
        let app = App {
            namespace: or(manifest.namespace.as_deref().unwrap_or_default(), "default"),
            name: or(&manifest.name, "rollout"),
            spec,
            replicas: scenario.deployment.replicas,
            version: STABLE.to_owned(),
        };
        let app = cluster.furnish(&app)?;
        let route = cluster.get(&app.route_path())["spec"].clone();
        Ok(Self { cluster, app, route })
    }

    /// Set the new version, let happen what happens, and tell how it ended.
    async fn release(&self, scenario: &Scenario) -> Result<Ended> {
        let cluster = &self.cluster;
        if !cluster.until(SOON, |cluster| self.app.is_ready(cluster)).await {
            let status = self.app.rollout(cluster)?.status.unwrap_or_default();
            bail!("the Rollout never got ready: {}", status.message);
        }
        let began = cluster.clock.now();
        let before = self.tallies();
        let mut timeline = self.app.timeline(cluster);
        timeline.scenario(began, &format!("version {CANARY} is set"));
        self.app.set_version(cluster, CANARY)?;
        let mut course = Course::new(scenario, began)?;
        let (end, why) = self.drive(&mut course, &mut timeline).await?;
        let over = cluster.clock.now();
        let (all, canary) = self.counted(&before);
        timeline.follow(&cluster.api);
        let past = between(scenario.begins, over) + scenario.past.duration()?;
        Ok(Ended {
            end,
            why,
            seconds: between(began, over).as_secs(),
            requests: all.requests,
            failed: all.failed,
            canary_requests: canary.requests,
            canary_failed: canary.failed,
            played: past.as_secs(),
            timeline: timeline.into_lines(),
        })
    }

    /// Until the release has ended, or will not.
    async fn drive(&self, course: &mut Course<'_>, line: &mut Timeline) -> Result<(End, String)> {
        let mut versions = self.cluster.api.versions();
        let mut held: Option<Instant> = None;
        loop {
            line.follow(&self.cluster.api);
            let status = self.app.rollout(&self.cluster)?.status.unwrap_or_default();
            if let Some(past) = ended(&status, 0) {
                let promoted = past.outcome == Outcome::Promoted;
                let end = if promoted { End::Promoted } else { End::RolledBack };
                return Ok((end, past.why.clone()));
            }
            let now = self.cluster.clock.now();
            let weight = self.app.weight(&self.cluster);
            while let Some(act) = course.due(now, weight) {
                line.scenario(now, &self.happen(&act, course)?);
                line.follow(&self.cluster.api);
            }
            if status.phase != Phase::Paused {
                held = None;
            } else if !course.goes_on() && held.get_or_insert_with(Instant::now).elapsed() >= HELD {
                return Ok((End::Held, status.message));
            }
            if now >= course.limit {
                return Ok((End::Unfinished, status.message));
            }
            let next = course.next(now).min(HELD);
            // Whichever comes first.
            let _ = tokio::time::timeout(next, versions.changed()).await;
        }
    }

    /// What callers have got so far.
    fn tallies(&self) -> Tallies {
        self.cluster.mesh(|mesh| mesh.tallies(&self.app.namespace, &self.app.route))
    }

    /// The same since `before`: in all, and from the canary.
    fn counted(&self, before: &Tallies) -> (Tally, Tally) {
        let (mut all, mut canary) = (Tally::default(), Tally::default());
        for (by, now) in self.tallies() {
            let got = now - before.get(&by).copied().unwrap_or_default();
            all += got;
            if by.1 == CANARY {
                canary += got;
            }
        }
        (all, canary)
    }

    /// Let it happen; what happened, in words.
    fn happen(&self, act: &Act, course: &mut Course<'_>) -> Result<String> {
        let cluster = &self.cluster;
        Ok(match act {
            Act::Stable(answers) => {
                course.stable = answers.clone().over(&course.stable);
                let behaviour = course.stable.behaviour()?;
                cluster.mesh(|mesh| mesh.behave(STABLE, behaviour));
                format!("stable answers otherwise: {}", said(answers)?)
            }
            Act::Canary(answers) => {
                course.canary = answers.clone().over(&course.canary);
                let behaviour = course.canary.behaviour()?;
                cluster.mesh(|mesh| mesh.behave(CANARY, behaviour));
                format!("the canary answers otherwise: {}", said(answers)?)
            }
            Act::Rps(rps) => {
                let load = Load { rps: *rps, ..course.scenario.traffic.load()? };
                cluster.mesh(|mesh| mesh.carry(&self.app.namespace, &self.app.route, load));
                format!("{rps} requests a second")
            }
            Act::Prometheus(up) => {
                cluster.blind(*up == Up::Down);
                let says = if *up == Up::Down { "answers no more" } else { "answers again" };
                format!("Prometheus {says}")
            }
            Act::Scale(replicas) => {
                cluster
                    .merge(&self.app.deployment_path(), &json!({"spec": {"replicas": replicas}}))?;
                format!("an autoscaler sets {replicas} replicas")
            }
            Act::Evict(eviction) => {
                let pods = self.evict(eviction.of, eviction.pods)?;
                let of = said_of(eviction.of);
                match pods {
                    1 => format!("a pod of {of} is evicted"),
                    _ => format!("{pods} pods of {of} are evicted"),
                }
            }
            Act::Unready(side) => {
                let never = json!({"metadata": {"annotations": {READY_AFTER: "never"}}});
                let pods = self.pods(*side);
                for pod in &pods {
                    cluster.merge(pod, &never)?;
                }
                format!("{} pods of {} are ready no more", pods.len(), said_of(*side))
            }
            Act::ResetRoute => {
                cluster.merge(&self.app.route_path(), &json!({"spec": self.route}))?;
                "the route is applied as it was at the beginning".to_owned()
            }
            Act::Image(version) => {
                self.app.set_version(cluster, version)?;
                format!("version {version} is set")
            }
            Act::Command(kind) => {
                let rollout = self.app.rollout(cluster)?;
                let view = View::new(&rollout, cluster.clock.now());
                if let Some(refusal) = order::refusal(&view, *kind) {
                    return Ok(format!("{} is refused: {refusal}", order::words(*kind)));
                }
                let action = order::action(&view, *kind, None, "a person".to_owned())?;
                let path = self.app.path("/apis/surefoot.dev/v1alpha1", "rolloutactions");
                let action = serde_json::to_value(action).context("the command")?;
                cluster.post(&path, &action)?;
                format!("somebody gives the command: {}", order::words(*kind))
            }
        })
    }

    /// Where the pods of a version are, in order of their names.
    fn pods(&self, of: Side) -> Vec<String> {
        let pods = self.app.path("/api/v1", "pods");
        let stable = App::image(&self.app.target, STABLE);
        let meant = |pod: &&Value| {
            let is_stable = pod["spec"]["containers"][0]["image"] == stable.as_str();
            is_stable == (of == Side::Stable)
        };
        let items = self.cluster.items(&pods);
        let names = items.iter().filter(meant).filter_map(|pod| pod["metadata"]["name"].as_str());
        names.map(|name| format!("{pods}/{name}")).collect()
    }

    /// Delete pods of a version, the first by name; how many.
    fn evict(&self, of: Side, most: usize) -> Result<usize> {
        let pods = self.pods(of);
        let evicted = pods.iter().take(most);
        evicted.clone().try_for_each(|pod| self.cluster.delete(pod))?;
        Ok(evicted.count())
    }
}

fn said_of(side: Side) -> &'static str {
    if side == Side::Canary { "the canary" } else { "stable" }
}

/// What is said of how a version answers, on one line.
fn said(answers: &Answers) -> Result<String> {
    let text = serde_json::to_string(answers).context("what it answers")?;
    Ok(text.replace('"', "").replace(',', ", ").replace(':', ": "))
}

/// What of a scenario is still to come.
struct Course<'a> {
    scenario: &'a Scenario,
    stable: Answers,
    canary: Answers,
    limit: Timestamp,
    events: Vec<Coming<'a>>,
}

/// An event, when it comes next, and how often still.
struct Coming<'a> {
    event: &'a Event,
    after: Duration,
    every: Option<Duration>,
    /// None until its weight is reached.
    next: Option<Timestamp>,
    /// None: without an end.
    left: Option<u32>,
}

impl<'a> Course<'a> {
    fn new(scenario: &'a Scenario, began: Timestamp) -> Result<Self> {
        let mut events = Vec::new();
        for event in &scenario.events {
            let after = event.after()?;
            let every = event.every.as_ref().map(|every| every.duration()).transpose()?;
            let next = event.at_weight.is_none().then(|| later(began, after));
            let left = event.times.or(if every.is_some() { None } else { Some(1) });
            events.push(Coming { event, after, every, next, left });
        }
        Ok(Self {
            scenario,
            stable: scenario.stable.clone(),
            canary: scenario.canary(),
            limit: later(began, scenario.limit.duration().context("limit")?),
            events,
        })
    }

    /// The next thing that happens by now.
    fn due(&mut self, now: Timestamp, weight: i64) -> Option<Act> {
        for coming in &mut self.events {
            if coming.next.is_none() && coming.event.at_weight.is_some_and(|least| weight >= least)
            {
                coming.next = Some(later(now, coming.after));
            }
        }
        let mut due = self.events.iter_mut().filter(|c| c.left != Some(0));
        let coming = due.find(|c| c.next.is_some_and(|next| next <= now))?;
        coming.left = coming.left.map(|left| left - 1);
        coming.next = coming.every.map(|every| later(now, every));
        Some(coming.event.act.clone())
    }

    /// How long until something happens, or the time is over.
    fn next(&self, now: Timestamp) -> Duration {
        let left = self.events.iter().filter(|c| c.left != Some(0));
        let next = left.filter_map(|c| c.next).min().unwrap_or(self.limit);
        between(now, next.min(self.limit))
    }

    /// Whether something is still to happen whose time is known, and not for ever the same.
    fn goes_on(&self) -> bool {
        self.events.iter().any(|c| c.left.is_some_and(|left| left > 0) && c.next.is_some())
    }
}

fn later(at: Timestamp, span: Duration) -> Timestamp {
    at.checked_add(span).unwrap_or(Timestamp::MAX)
}
