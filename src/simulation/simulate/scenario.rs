//! What a release is played against: the service, its traffic, its versions, and what happens.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use jiff::Timestamp;
use mesh_sandbox::{Behaviour, Load, Settings};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use surefoot_core::api::action::ActionKind;
use surefoot_core::api::text::{Percent, Span};
use surefoot_sim::traffic::{Failures, Latency};

/// A scenario, as its file says it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Scenario {
    /// What it shows, in a sentence.
    #[serde(default)]
    pub description: String,
    /// When the release begins. Default the first Monday of 2026, 12:00 UTC.
    #[serde(default = "noon")]
    #[schemars(with = "String")]
    pub begins: Timestamp,
    /// For how long stable has been running by then. Default 2h10m, which is enough to measure how
    /// its counts hang together.
    #[serde(default = "past")]
    pub past: Span,
    /// What isn't over after this long has not ended. Default 6h.
    #[serde(default = "limit")]
    pub limit: Span,
    /// The Deployment.
    #[serde(default)]
    pub deployment: Deployment,
    /// The requests.
    #[serde(default)]
    pub traffic: Traffic,
    /// The mesh and its Prometheus.
    #[serde(default)]
    pub mesh: Mesh,
    /// How the version answers that runs.
    #[serde(default)]
    pub stable: Answers,
    /// How the new one does. What is left out is as stable's.
    #[serde(default)]
    pub canary: Answers,
    /// What happens to the release.
    #[serde(default)]
    pub events: Vec<Event>,
}

/// The Deployment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Deployment {
    /// Pods. Default 4.
    #[schemars(range(min = 1, max = 100))]
    pub replicas: u32,
    /// After which time a pod is ready. Default 3s.
    pub ready_after: Span,
}

/// The requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Traffic {
    /// Requests a second, on the average of a day. Default 50.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub rps: f64,
    /// By what share of that 18:00 UTC is above and 06:00 below. Default 0%.
    pub daily_swing: Percent,
    /// Each minute differs by a factor with this coefficient of variation. Default 0.
    #[schemars(range(min = 0, max = 10))]
    pub noise: f64,
    /// The share of callers without a proxy, whom no weight guides. Default 0%.
    pub unmeshed: Percent,
    /// How often the caller's proxy tries again what failed. Default 0.
    #[schemars(range(max = 10))]
    pub retries: u32,
    /// After how long a caller gives up. Default 2s.
    pub timeout: Span,
}

/// The mesh and its Prometheus.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Mesh {
    /// How often proxies are scraped. Default 15s.
    pub scrape_interval: Span,
    /// How long after a change of weights requests follow it. Default 1s.
    pub propagation: Span,
}

/// How a version answers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Answers {
    /// The share of requests that fail. Default 0.1%.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failing: Option<Percent>,
    /// How failures hang together. Default independent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failures: Option<Failures>,
    /// How long answers take. Default 20ms, 200ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency: Option<Latencies>,
    /// Pods that have just begun are slower. Default they aren't.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cold: Option<Cold>,
    /// The share of requests that are never answered. Default 0%.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hanging: Option<Percent>,
}

/// How long answers take: log-normally.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Latencies {
    /// The median.
    pub median: Span,
    /// The 99th percentile, above the median.
    pub p99: Span,
}

/// A cold start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Cold {
    /// For how long after a pod became ready.
    pub lasts: Span,
    /// How many times as long answers take.
    #[schemars(range(min = 1, max = 1000))]
    pub slower: f64,
}

/// Something that happens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Event {
    /// So long after the new version was set; 0s by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Span>,
    /// Once the route gives the canary at least this percentage; `at` counts from then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub at_weight: Option<i64>,
    /// And again whenever this has passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<Span>,
    /// How often in all. Default once, or with `every` until the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub times: Option<u32>,
    /// What.
    #[serde(rename = "do")]
    pub act: Act,
}

/// What happens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Act {
    /// Stable answers otherwise from now on, in what is said.
    Stable(Answers),
    /// The canary does.
    Canary(Answers),
    /// So many requests come a second.
    Rps(f64),
    /// Prometheus answers no more, or does again.
    Prometheus(Up),
    /// An autoscaler sets the Deployment's replicas.
    Scale(u32),
    /// Pods are evicted.
    Evict(Eviction),
    /// All pods of a version lose their readiness, for good.
    Unready(Side),
    /// Somebody applies the route as it was at the beginning, as a GitOps tool does.
    ResetRoute,
    /// Somebody sets another version, which answers as the canary does unless it is "v1".
    Image(String),
    /// A person's command.
    Command(ActionKind),
}

/// Whether something is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Up {
    /// It answers.
    Up,
    /// It doesn't.
    Down,
}

/// Which pods are evicted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Eviction {
    /// Of which version.
    pub of: Side,
    /// How many at most.
    #[schemars(range(min = 1, max = 100))]
    pub pods: usize,
}

/// One of the two versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Side {
    /// What runs at the beginning.
    Stable,
    /// What is released.
    Canary,
}

fn noon() -> Timestamp {
    // 2026-01-05T12:00:00Z.
    Timestamp::from_second(1_767_614_400).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn past() -> Span {
    "2h10m".into()
}

fn limit() -> Span {
    "6h".into()
}

impl Default for Deployment {
    fn default() -> Self {
        Self { replicas: 4, ready_after: "3s".into() }
    }
}

impl Default for Traffic {
    fn default() -> Self {
        Self {
            rps: 50.0,
            daily_swing: "0%".into(),
            noise: 0.0,
            unmeshed: "0%".into(),
            retries: 0,
            timeout: "2s".into(),
        }
    }
}

impl Default for Mesh {
    fn default() -> Self {
        Self { scrape_interval: "15s".into(), propagation: "1s".into() }
    }
}

impl Answers {
    /// These over others: what isn't said is as there.
    #[must_use]
    pub fn over(self, other: &Self) -> Self {
        let other = other.clone();
        Self {
            failing: self.failing.or(other.failing),
            failures: self.failures.or(other.failures),
            latency: self.latency.or(other.latency),
            cold: self.cold.or(other.cold),
            hanging: self.hanging.or(other.hanging),
        }
    }

    /// As the mesh takes it.
    ///
    /// # Errors
    /// When a number is out of its range.
    pub fn behaviour(&self) -> Result<Behaviour> {
        let mut behaviour = Behaviour::default();
        if let Some(failing) = &self.failing {
            behaviour.failing = failing.fraction().context("failing")?;
        }
        if let Some(failures) = self.failures {
            behaviour.failures = checked(failures).context("failures")?;
        }
        if let Some(latency) = &self.latency {
            let [median, p99] = [&latency.median, &latency.p99].map(Span::duration);
            let [median, p99] = [median.context("median")?, p99.context("p99")?];
            ensure!(median < p99, "latency: p99 must be above the median");
            let millis = |span: Duration| span.as_secs_f64() * 1000.0;
            behaviour.latency = Latency { median: millis(median), p99: millis(p99) };
        }
        if let Some(cold) = &self.cold {
            behaviour.cold = cold.lasts.duration().context("cold.lasts")?;
            within(cold.slower, 1.0, 1000.0).context("cold.slower")?;
            behaviour.slower = cold.slower;
        }
        if let Some(hanging) = &self.hanging {
            behaviour.hanging = hanging.fraction().context("hanging")?;
        }
        Ok(behaviour)
    }
}

fn within(number: f64, least: f64, most: f64) -> Result<()> {
    ensure!((least..=most).contains(&number), "{number} isn't from {least} to {most}");
    Ok(())
}

fn checked(failures: Failures) -> Result<Failures> {
    match failures {
        Failures::Independent => {}
        Failures::Clusters { size } => within(size, 1.0, 1e6).context("clusters.size")?,
        Failures::BetaBinomial { rho } => within(rho, 1e-9, 0.999).context("betaBinomial.rho")?,
        Failures::PodBursts { times, share } => {
            within(times, 1.0, 1e6).context("podBursts.times")?;
            within(share, 1e-6, 0.999).context("podBursts.share")?;
        }
        Failures::StaticPods { spread } => {
            within(spread, 0.0, 10.0).context("staticPods.spread")?
        }
        Failures::SharedOutages { rate } => within(rate, 0.0, 1.0).context("sharedOutages.rate")?,
    }
    Ok(failures)
}

impl Traffic {
    /// As the mesh takes it.
    ///
    /// # Errors
    /// When a number is out of its range.
    pub fn load(&self) -> Result<Load> {
        within(self.rps, 0.0, 1e6).context("rps")?;
        within(self.noise, 0.0, 10.0).context("noise")?;
        ensure!(self.retries <= 10, "retries: at most 10");
        Ok(Load {
            rps: self.rps,
            day: self.daily_swing.fraction().context("dailySwing")?,
            noise: self.noise,
            unmeshed: self.unmeshed.fraction().context("unmeshed")?,
            retries: self.retries,
            timeout: self.timeout.duration().context("timeout")?,
        })
    }
}

/// Names of the two versions in the mesh.
pub const STABLE: &str = "v1";
/// The version that is released.
pub const CANARY: &str = "v2";

impl Scenario {
    /// Of YAML.
    ///
    /// # Errors
    /// When it isn't one, or a number in it is out of its range; says where.
    pub fn parse(text: &str) -> Result<Self> {
        let scenario: Self = serde_saphyr::from_str(text)?;
        scenario.settings()?;
        scenario.past.duration().context("past")?;
        scenario.limit.duration().context("limit")?;
        scenario.deployment.ready_after.duration().context("deployment.readyAfter")?;
        let replicas = scenario.deployment.replicas;
        ensure!((1..=100).contains(&replicas), "deployment.replicas: from 1 to 100");
        for (i, event) in scenario.events.iter().enumerate() {
            scenario.check(event).with_context(|| format!("events[{i}]"))?;
        }
        Ok(scenario)
    }

    fn check(&self, event: &Event) -> Result<()> {
        event.after()?;
        if let Some(every) = &event.every {
            every.duration().context("every")?;
        }
        if event.times.is_some_and(|times| times > 1) && event.every.is_none() {
            bail!("times without every: say how long after each other");
        }
        match &event.act {
            Act::Stable(answers) | Act::Canary(answers) => {
                answers.clone().over(&self.stable).behaviour()?;
            }
            Act::Rps(rps) => within(*rps, 0.0, 1e6).context("do.rps")?,
            Act::Scale(pods) => ensure!((1..=100).contains(pods), "do.scale: from 1 to 100"),
            Act::Image(tag) => {
                let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
                ensure!(!tag.is_empty() && tag.chars().all(plain), "do.image: a tag, such as v3");
            }
            Act::Prometheus(_)
            | Act::Evict(_)
            | Act::Unready(_)
            | Act::ResetRoute
            | Act::Command(_) => {}
        }
        Ok(())
    }

    /// How the new version answers.
    #[must_use]
    pub fn canary(&self) -> Answers {
        self.canary.clone().over(&self.stable)
    }

    /// The mesh at the beginning.
    ///
    /// # Errors
    /// When a number is out of its range.
    pub fn settings(&self) -> Result<Settings> {
        let versions = [
            (STABLE.to_owned(), self.stable.behaviour().context("stable")?),
            (CANARY.to_owned(), self.canary().behaviour().context("canary")?),
        ];
        let interval = self.mesh.scrape_interval.duration().context("mesh.scrapeInterval")?;
        ensure!(interval >= Duration::from_secs(1), "mesh.scrapeInterval: at least 1s");
        Ok(Settings {
            scrape_interval: interval,
            propagation: self.mesh.propagation.duration().context("mesh.propagation")?,
            load: self.traffic.load().context("traffic")?,
            versions: versions.into(),
            ..Settings::default()
        })
    }
}

impl Event {
    /// How long after the beginning, or after the weight was reached.
    ///
    /// # Errors
    /// When that is no span.
    pub fn after(&self) -> Result<Duration> {
        self.at.as_ref().map_or(Ok(Duration::ZERO), |at| at.duration().context("at"))
    }
}
