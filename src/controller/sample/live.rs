//! Who is live: up to when all targets have samples, which replica of each is read, and whether one
//! is counted twice.

use std::collections::HashSet;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use surefoot_core::metrics::answer::Point;
use surefoot_core::metrics::query::Series;
use surefoot_core::metrics::replica::{Pinned, Target, differing, target};

use super::{BASELINE, Worker, millis};

/// A target is live if its newest sample is no older than this many gaps between samples.
const LIVE_GAPS: f64 = 3.0;
/// How far a sample's time may be ahead of ours.
const AHEAD: SignedDuration = SignedDuration::from_secs(30);
/// The window in which gaps are counted.
const DENSITY_WINDOW: Duration = Duration::from_secs(120);
/// How many instants of news are remembered.
const NEWS: usize = 8;
/// How soon the gaps are counted again.
const AGAIN: SignedDuration = SignedDuration::from_secs(60);

/// Samples that have come.
pub(super) struct News {
    /// Up to when all live targets have some.
    pub to: Timestamp,
    /// Why the counts since the last tick are not all there.
    pub partial: Option<String>,
    /// Who is live.
    pub live: HashSet<Target>,
    /// Which replicas are read.
    pub pinned: Pinned,
}

impl Worker {
    /// The newest instant to which every live target has a sample, if it is after `from`.
    pub(super) async fn newest(
        &mut self,
        url: &str,
        series: &Series,
        from: Timestamp,
        now: Timestamp,
    ) -> Result<Option<News>, String> {
        self.density(url, series, now).await?;
        let fresh = self.vector(url, &series.freshness(), now).await?;
        let at = |p: &Point| Timestamp::from_millisecond(millis(p.value)).unwrap_or(from);
        #[expect(clippy::cast_possible_truncation, reason = "a few gaps fit")]
        let oldest =
            now - SignedDuration::from_millis((self.gap * LIVE_GAPS * 1000.0) as i64 + 1000);
        // What is said to have been measured later than now is measured by another clock.
        if fresh.iter().any(|p| at(p) > now + AHEAD) {
            return Err("the mesh's metrics are of the future: whose clock is wrong?".to_owned());
        }
        let live: Vec<&Point> = fresh.iter().filter(|p| at(p) >= oldest).collect();
        let chosen = self.pinned.choose(&live).map_err(|e| e.to_string())?;
        let pinned = chosen.pinned;
        let read: Vec<&Point> = live.into_iter().filter(|p| pinned.reads(p)).collect();
        let Some(newest) = read.iter().map(|p| at(p)).min() else {
            let newest = fresh.iter().map(at).max();
            return Err(match newest {
                Some(newest) => format!(
                    "the mesh's metrics are stale: the newest sample is of {}",
                    newest.strftime("%H:%M:%S UTC")
                ),
                None => format!(
                    "no series of {} or {} in the last 5 minutes: is there traffic by the route, and \
                     does Prometheus scrape the proxies?",
                    series.stable, series.canary
                ),
            });
        };
        if self.news.back() != Some(&newest) {
            self.news.push_back(newest);
            if self.news.len() > NEWS {
                self.news.pop_front();
            }
        }
        if newest <= from {
            return Ok(None);
        }
        let live: HashSet<Target> = read.iter().map(|p| target(p)).collect();
        self.once_each(url, series, &live, now).await?;
        let gone = self.targets.difference(&live).next().map(|(job, instance)| {
            format!("target {job}/{instance} is gone, and its last counts with it")
        });
        let before = &self.pinned;
        let changed = (!before.replicas.is_empty() && *before != pinned).then(|| {
            let (was, is) = (before.words(), pinned.words());
            format!("Prometheus' replica {is} is read in place of {was}: their counts don't join")
        });
        let unseen = chosen.unseen.iter().next().map(|(job, instance)| {
            format!(
                "target {job}/{instance} is not seen by {}, the replica of Prometheus that is read",
                pinned.words()
            )
        });
        Ok(Some(News { to: newest, partial: changed.or(gone).or(unseen), live, pinned }))
    }

    /// Learn how far apart samples are.
    async fn density(&mut self, url: &str, series: &Series, now: Timestamp) -> Result<(), String> {
        if self.gap_known.is_some_and(|at| now.duration_since(at) < AGAIN) {
            return Ok(());
        }
        let counts = self.vector(url, &series.density(DENSITY_WINDOW), now).await?;
        let mut counts: Vec<f64> = counts.iter().map(|p| p.value).filter(|n| *n >= 2.0).collect();
        counts.sort_by(f64::total_cmp);
        if let Some(median) = counts.get(counts.len() / 2) {
            self.gap = (DENSITY_WINDOW.as_secs_f64() / median).clamp(0.5, 60.0);
            self.gap_known = Some(now);
        }
        Ok(())
    }

    /// How much of stable's past there are samples of: a Prometheus may have begun only lately.
    pub(super) async fn covered(
        &self,
        url: &str,
        series: &Series,
        now: Timestamp,
    ) -> Result<Duration, String> {
        let window = Duration::try_from(BASELINE).unwrap_or_default();
        let counts = self.vector(url, &series.density(window), now).await?;
        let most = counts.iter().map(|p| p.value).fold(0.0, f64::max);
        Ok(Duration::try_from_secs_f64(most * self.gap).unwrap_or(window).min(window))
    }

    /// Each request must be counted once. A target that Prometheus scrapes more than once under the
    /// same job and instance, but for the replica labels, is counted as often: that is no evidence.
    /// Asked for with every tick, as what squares the evidence once can't be taken out of it again.
    async fn once_each(
        &self,
        url: &str,
        series: &Series,
        live: &HashSet<Target>,
        now: Timestamp,
    ) -> Result<(), String> {
        let doubled = self.vector(url, &series.doubled(), now).await?;
        for doubled in doubled.iter().map(target).filter(|target| live.contains(target)) {
            let copies = self.vector(url, &series.copies(&doubled), now).await?;
            let labels = differing(&copies, &series.pinned.labels);
            let names: Vec<String> = labels.keys().cloned().collect();
            let counted = self.vector(url, &series.counted(&doubled, &names), now).await?;
            // Some are scraped for other metrics than the mesh's.
            let Some(times) = counted.first().map(|p| p.value).filter(|times| *times > 1.0) else {
                continue;
            };
            let told: Vec<String> = labels
                .iter()
                .map(|(name, values)| {
                    let values: Vec<&str> = values.iter().take(4).map(String::as_str).collect();
                    format!("{name} ({})", values.join(", "))
                })
                .collect();
            let (job, instance) = doubled;
            return Err(format!(
                "target {job}/{instance} is in Prometheus {times} times, by {}: each of its requests \
                 would be counted as often (DuplicateSeries). If these are replicas of Prometheus, \
                 name the label in spec.prometheus.replicaLabels of the MetricsSource; else let it be \
                 scraped once, or give each copy a job of its own",
                told.join(" and ")
            ));
        }
        Ok(())
    }
}
