//! The sampler: one task for each release under way, beside the reconcile. It asks for exact counts
//! tick by tick, puts them in the store, and wakes the reconcile. Nothing ever waits for it.

mod live;
pub mod past;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use surefoot_core::api::source::PrometheusSource;
use surefoot_core::metrics::Wanted;
use surefoot_core::metrics::answer::{self, Point};
use surefoot_core::metrics::query::{By, Family, POD_LABELS, Series};
use surefoot_core::metrics::replica::{Pinned, Target, target};
use surefoot_core::metrics::tick;
use surefoot_core::metrics::wanted::Question;
use surefoot_core::samples::{BaselineSample, Health, Samples, Scalar, Tick};
use tokio::sync::watch;

use super::lock;
use super::prometheus::{Prometheus, QueryError};
use super::tasks::Tasks;
use crate::clock::Clock;

/// How far stable's past is read.
const BASELINE: SignedDuration = SignedDuration::from_mins(10);
/// How often a user's query is asked.
const SCALAR_EVERY: SignedDuration = SignedDuration::from_secs(15);
/// How soon the label that names pods is looked for again.
const LABEL_AGAIN: SignedDuration = SignedDuration::from_secs(15);
/// Reset series whose raw samples are fetched.
const MOST_RESETS: usize = 50;
/// Ticks kept until a reconcile has folded them.
const MOST_TICKS: usize = 2000;

/// What is sampled now, and from where.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// What the core wants.
    pub wanted: Wanted,
    /// The source, or why there is none.
    pub source: Result<PrometheusSource, String>,
}

/// All samplers and what they have brought.
pub struct Sampler {
    prometheus: Arc<Prometheus>,
    clock: Clock,
    tasks: Tasks,
    releases: Mutex<HashMap<String, Release>>,
}

struct Release {
    key: (i64, String),
    task: watch::Sender<Option<Task>>,
    samples: Arc<Mutex<Samples>>,
}

impl Sampler {
    /// No release yet.
    #[must_use]
    pub fn new(prometheus: Prometheus, clock: Clock, tasks: Tasks) -> Self {
        let prometheus = Arc::new(prometheus);
        Self { prometheus, clock, tasks, releases: Mutex::new(HashMap::new()) }
    }

    /// What there is for a Rollout's release and not folded yet.
    #[must_use]
    pub fn of(&self, uid: &str, release: i64) -> Samples {
        let releases = lock(&self.releases);
        let found = releases.get(uid).filter(|r| r.key.0 == release);
        found.map(|r| lock(&r.samples).clone()).unwrap_or_default()
    }

    /// Sample this from now on, or nothing. `wake` is called when something new has come.
    pub fn set(
        &self,
        uid: &str,
        release: i64,
        task: Option<Task>,
        wake: impl Fn() + Send + 'static,
    ) {
        let mut releases = lock(&self.releases);
        let Some(task) = task else {
            releases.remove(uid);
            return;
        };
        let key = (release, uid.to_owned());
        if let Some(known) = releases.get(uid).filter(|r| r.key == key) {
            if let Some(folded) = task.wanted.ticks_from {
                // What the committed status has folded isn't needed again, nor stable's past once the
                // release has begun with it.
                let mut samples = lock(&known.samples);
                samples.ticks.retain(|t| t.from >= folded);
                samples.baseline = None;
            }
            known.task.send_if_modified(|now| {
                let changed = now.as_ref() != Some(&task);
                *now = Some(task.clone());
                changed
            });
            return;
        }
        let samples = Arc::new(Mutex::new(Samples::default()));
        let (sender, receiver) = watch::channel(Some(task));
        let worker = Worker {
            prometheus: self.prometheus.clone(),
            clock: self.clock,
            samples: samples.clone(),
            gap: 15.0,
            gap_known: None,
            pod_label: PodLabel::Unknown,
            news: VecDeque::new(),
            targets: HashSet::new(),
            pinned: Pinned::default(),
            source: None,
            asked: HashMap::new(),
        };
        // The task ends when its sender is dropped, with the release.
        self.tasks.spawn(worker.run(receiver, wake));
        releases.insert(uid.to_owned(), Release { key, task: sender, samples });
    }
}

/// What is known of the label that names pods.
enum PodLabel {
    Unknown,
    /// There was none.
    Missed(Timestamp),
    Found(&'static str),
}

struct Worker {
    prometheus: Arc<Prometheus>,
    clock: Clock,
    samples: Arc<Mutex<Samples>>,
    /// Seconds between samples of a target, by how many there are in a window.
    gap: f64,
    gap_known: Option<Timestamp>,
    /// The last instants to which all targets had samples: the pace at which news comes.
    news: VecDeque<Timestamp>,
    /// The label by which this Prometheus names pods.
    pod_label: PodLabel,
    /// Targets of the last tick.
    targets: HashSet<Target>,
    /// The replicas that are read.
    pinned: Pinned,
    /// The source of all this.
    source: Option<PrometheusSource>,
    /// When each user's query was last asked.
    asked: HashMap<String, Timestamp>,
}

impl Worker {
    async fn run(mut self, mut task: watch::Receiver<Option<Task>>, wake: impl Fn()) {
        loop {
            let Some(current) = task.borrow_and_update().clone() else { return };
            let news = self.round(&current).await;
            if news {
                wake();
            }
            tokio::select! {
                changed = task.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(self.pause()) => {}
            }
        }
    }

    /// A third of the pace at which news comes; a second until that is known.
    fn pause(&self) -> Duration {
        let pairs = self.news.iter().zip(self.news.iter().skip(1));
        let mut gaps: Vec<f64> = pairs.map(|(a, b)| seconds(*b) - seconds(*a)).collect();
        gaps.sort_by(f64::total_cmp);
        match gaps.get(gaps.len() / 2) {
            Some(median) if gaps.len() >= 3 => {
                Duration::from_secs_f64((median / 3.0).clamp(0.3, 5.0))
            }
            _ => Duration::from_secs(1),
        }
    }

    /// One look at everything that is wanted. Whether anything came of it.
    async fn round(&mut self, task: &Task) -> bool {
        let before = lock(&self.samples).health.clone();
        let (news, result) = match &task.source {
            Err(problem) => (false, Err(problem.clone())),
            Ok(source) => match self.sample(source, &task.wanted).await {
                Ok(news) => (news, Ok(())),
                Err(problem) => (false, Err(problem)),
            },
        };
        let now = self.clock.now();
        let mut samples = lock(&self.samples);
        samples.health = match (result, &before) {
            (Ok(()), _) => Health::Good,
            (Err(message), Health::Bad { since, .. }) => Health::Bad { message, since: *since },
            (Err(message), _) => Health::Bad { message, since: now },
        };
        news || samples.health != before
    }

    async fn sample(&mut self, source: &PrometheusSource, wanted: &Wanted) -> Result<bool, String> {
        let url = source.url.as_str();
        if self.source.as_ref() != Some(source) {
            self.forget(source);
        }
        // A query of the user's that fails must not keep the crash guard from looking.
        let ticked = match self.attributed(url, wanted).await {
            Ok(wanted) => self.ticks(url, &wanted).await,
            Err(problem) => Err(problem),
        };
        let scalars = self.scalars(url, wanted, self.clock.now()).await;
        Ok(ticked? | scalars?)
    }

    /// Nothing that was learnt from another source holds for this one.
    fn forget(&mut self, source: &PrometheusSource) {
        self.source = Some(source.clone());
        self.pinned = Pinned { labels: source.replica_labels.clone(), ..Pinned::default() };
        self.pod_label = PodLabel::Unknown;
        self.gap_known = None;
        self.news.clear();
        self.targets.clear();
    }

    /// The same with the label by which this Prometheus names pods, where pods are asked for.
    async fn attributed(&mut self, url: &str, wanted: &Wanted) -> Result<Wanted, String> {
        // Until one has been chosen any replica tells how things are labelled.
        let mut wanted = wanted.reading(&self.pinned);
        if wanted.series.by != By::Service {
            let series = self.by_pod(url, &wanted.series).await?;
            wanted.series = series.ok_or_else(|| {
                format!(
                    "no requests that the proxies of {}'s pods report can be told by pod \
                     (MetricsUnattributable): does Prometheus scrape them, and with one of the \
                     labels {}?",
                    wanted.series.stable,
                    POD_LABELS.join(", ")
                )
            })?;
        }
        // Whether somebody comes past the route is good to know; not to know it stops nothing.
        wanted.reached = match &wanted.reached {
            Some(series) => self.by_pod(url, series).await.unwrap_or_default(),
            None => None,
        };
        Ok(wanted)
    }

    /// The series by the label that names pods here; `None` where no pod's proxy is scraped, which
    /// is looked for again now and then.
    async fn by_pod(&mut self, url: &str, series: &Series) -> Result<Option<Series>, String> {
        let labelled =
            |label: &str| Series { by: By::Pod { label: label.to_owned() }, ..series.clone() };
        let now = self.clock.now();
        match self.pod_label {
            PodLabel::Found(label) => return Ok(Some(labelled(label))),
            PodLabel::Missed(at) if now.duration_since(at) < LABEL_AGAIN => return Ok(None),
            PodLabel::Missed(_) | PodLabel::Unknown => {}
        }
        for label in POD_LABELS {
            let series = labelled(label);
            let found = self.vector(url, &series.found(), now).await?;
            if found.iter().any(|point| point.value > 0.0) {
                self.pod_label = PodLabel::Found(label);
                return Ok(Some(series));
            }
        }
        self.pod_label = PodLabel::Missed(now);
        Ok(None)
    }

    async fn ticks(&mut self, url: &str, wanted: &Wanted) -> Result<bool, String> {
        let now = self.clock.now();
        if wanted.baseline && lock(&self.samples).baseline.is_none() {
            return self.baseline(url, wanted, now).await;
        }
        let Some(start) = wanted.ticks_from else { return Ok(false) };
        let from = lock(&self.samples).ticks.last().map_or(start, |t| t.to.max(start));
        let Some(news) = self.newest(url, &wanted.series, from, now).await? else {
            return Ok(false);
        };
        let wanted = &wanted.reading(&news.pinned);
        let tick = self.tick(url, wanted, from, news.to, news.partial).await?;
        (self.targets, self.pinned) = (news.live, news.pinned);
        let mut samples = lock(&self.samples);
        // The task may have been told meanwhile to begin elsewhere.
        let follows = samples.ticks.last().is_none_or(|last| last.to == tick.from);
        if follows && samples.ticks.len() < MOST_TICKS {
            let (to, seen) = (tick.to, tick.canary);
            tracing::debug!(canary = wanted.series.canary, %to, seen.requests, seen.failed, "sampled");
            samples.ticks.push(tick);
        }
        Ok(true)
    }

    async fn vector(&self, url: &str, query: &str, at: Timestamp) -> Result<Vec<Point>, String> {
        let body = self.prometheus.query(url, query, at).await.map_err(|e| say(&e))?;
        answer::vector(&body).map_err(|e| say(&e.into()))
    }

    async fn tick(
        &self,
        url: &str,
        wanted: &Wanted,
        from: Timestamp,
        to: Timestamp,
        missing: Option<String>,
    ) -> Result<Tick, String> {
        let (points, mut partial) =
            self.counts(url, &wanted.series, Family::Requests, from, to).await?;
        let [canary, stable] =
            tick::requests(&wanted.series, &points).map_err(|e| say(&e.into()))?;
        let latency = if wanted.latency {
            let (points, missing) =
                self.counts(url, &wanted.series, Family::Latency, from, to).await?;
            partial = partial.or(missing);
            Some(tick::latencies(&wanted.series, &points).map_err(|e| say(&e.into()))?)
        } else {
            None
        };
        let reached = match &wanted.reached {
            Some(series) => self.reached(url, series, from, to).await.unwrap_or_default(),
            None => None,
        };
        Ok(Tick { from, to, canary, stable, latency, reached, partial: missing.or(partial) })
    }

    /// The canary's requests by its own pods' count; `None` where some of them are unknown.
    async fn reached(
        &self,
        url: &str,
        series: &Series,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Option<u64>, String> {
        let (points, missing) = self.counts(url, series, Family::Requests, from, to).await?;
        let [canary, _] = tick::requests(series, &points).map_err(|e| say(&e.into()))?;
        Ok(missing.is_none().then_some(canary.requests))
    }

    /// Sums over all series, births and resets included; and why some are missing.
    async fn counts(
        &self,
        url: &str,
        series: &Series,
        family: Family,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<(Vec<Point>, Option<String>), String> {
        let mut points = self.vector(url, &series.increments(family, from, to), to).await?;
        let irregular = self.vector(url, &series.irregular(family, from, to), to).await?;
        if irregular.iter().all(|p| p.value == 0.0) {
            return Ok((points, None));
        }
        let births = self.vector(url, &series.births(family, from, to), to).await?;
        let mut partial = None;
        if !births.is_empty() {
            let up = self.vector(url, &series.up(from, to), to).await?;
            let known: HashSet<_> = up.iter().map(target).collect();
            let up: HashSet<_> = up.iter().filter(|p| p.value == 1.0).map(target).collect();
            let jobs: HashSet<_> = up.iter().map(|(job, _)| job.as_str()).collect();
            // A new series of a target that was already being scraped began at 0. So did a pod that
            // turned up while its job was being scraped: its name is its own. Of a target that was
            // known and down, and of any other, nobody knows what it counted before.
            let pods = series.by != By::Service;
            let born =
                |p: &Point| pods && jobs.contains(p.label("job")) && !known.contains(&target(p));
            let began = |p: &Point| up.contains(&target(p)) || born(p);
            let unknown = births.iter().find(|p| !began(p));
            partial = unknown.map(|p| {
                let (job, instance) = target(p);
                format!("target {job}/{instance} is new: what it counted before is unknown")
            });
            points.extend(births);
        }
        let resets = self.vector(url, &series.resets(family, from, to), to).await?;
        if resets.len() > MOST_RESETS {
            let count = resets.len();
            return Ok((points, Some(format!("{count} series were reset: too many to follow"))));
        }
        for reset in resets {
            let labels: Vec<(String, String)> = reset.labels.clone().into_iter().collect();
            let query = series.raw(family, &labels, from, to);
            let body = self.prometheus.query(url, &query, to).await.map_err(|e| say(&e))?;
            let samples = answer::samples(&body).map_err(|e| say(&e.into()))?;
            let value = tick::raw_increase(&samples, seconds(from), seconds(to));
            points.push(Point { labels: reset.labels, value });
        }
        Ok((points, partial))
    }

    async fn baseline(
        &mut self,
        url: &str,
        wanted: &Wanted,
        now: Timestamp,
    ) -> Result<bool, String> {
        let from = now - BASELINE;
        if let Some(news) = self.newest(url, &wanted.series, from, now).await? {
            self.pinned = news.pinned;
        }
        let asked = wanted.reading(&self.pinned);
        let mut wanted = asked.clone();
        wanted.latency = true;
        let over = self.covered(url, &wanted.series, now).await?;
        let tick = self.tick(url, &wanted, from, now, None).await?;
        if tick.stable.requests == 0 {
            return Err(format!("no requests at {} in the last 10 minutes", wanted.series.stable));
        }
        let latency = tick.latency.unwrap_or_default();
        let pods = self.pods_past(url, &asked, now).await;
        if let Err(why) = &pods {
            tracing::info!(stable = wanted.series.stable, %why, "stable's pods can't be told apart");
        }
        lock(&self.samples).baseline = Some(BaselineSample {
            over,
            requests: tick.stable,
            boundaries: latency.boundaries,
            latency: latency.stable,
            pods,
        });
        Ok(true)
    }

    async fn scalars(
        &mut self,
        url: &str,
        wanted: &Wanted,
        now: Timestamp,
    ) -> Result<bool, String> {
        let due = wanted.queries.iter().filter(|(name, _)| {
            self.asked.get(*name).is_none_or(|at| now.duration_since(*at) >= SCALAR_EVERY)
        });
        let due: Vec<(&String, &Question)> = due.collect();
        let mut news = false;
        for (name, question) in due {
            self.asked.insert(name.clone(), now);
            let value = self.number(url, name, &question.query, now).await?;
            let stable = match &question.stable {
                Some(query) => Some(self.number(url, name, query, now).await?),
                None => None,
            };
            let mut samples = lock(&self.samples);
            let answers = samples.scalars.entry(name.clone()).or_default();
            answers.push(Scalar { at: now, value, stable });
            let extra = answers.len().saturating_sub(MOST_TICKS);
            answers.drain(..extra);
            news = true;
        }
        Ok(news)
    }

    /// The one number that a metric's query gives.
    async fn number(
        &self,
        url: &str,
        metric: &str,
        query: &str,
        at: Timestamp,
    ) -> Result<f64, String> {
        let body = self.prometheus.query(url, query, at).await.map_err(|e| say(&e))?;
        answer::scalar(&body).map_err(|e| format!("metric {metric}: {e}"))
    }
}

fn say(error: &QueryError) -> String {
    format!("Prometheus: {error}")
}

#[expect(clippy::cast_possible_truncation, reason = "seconds since the epoch in milliseconds fit")]
fn millis(seconds: f64) -> i64 {
    (seconds * 1000.0).round() as i64
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds since the epoch are exact in f64")]
fn seconds(at: Timestamp) -> f64 {
    at.as_millisecond() as f64 / 1000.0
}

#[cfg(test)]
mod tests;
