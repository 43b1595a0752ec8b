//! Stable's past from Prometheus, in bounded pieces: one query after another, each of at most half an
//! hour (two hours where only pods are looked for), with a deadline and a limit on its answer.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use indicatif::ProgressBar;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use surefoot_core::api::rollout::{Mesh, RouteKind};
use surefoot_core::metrics::answer::{self, Point};
use surefoot_core::metrics::history::{Answering, PIECE, after, pods};
use surefoot_core::metrics::query::{By, POD_LABELS, Series};
use surefoot_core::metrics::replica::Pinned;
use surefoot_core::plan::digest;
use surefoot_core::samples::PodHistory;

use super::store::{Found, Store};
use crate::controller::prometheus::{Prometheus, QueryError};
use crate::controller::sample::past::Past;

/// No history is longer: what has to be held in memory and asked for is bounded.
pub const LONGEST: SignedDuration = SignedDuration::from_hours(72);
/// How far back one look for pods goes.
const LOOK: SignedDuration = SignedDuration::from_hours(2);

/// What is asked, and of whom. Its digest names the state file's content.
#[derive(Debug, Clone, Serialize)]
pub struct Question {
    /// Whose metrics they are.
    pub mesh: Mesh,
    /// Prometheus' base URL.
    pub url: String,
    /// The namespace of the Deployment.
    pub namespace: String,
    /// Its name.
    pub deployment: String,
    /// Which of its ReplicaSets; `None`: the one with the most requests.
    pub replica_set: Option<String>,
    /// The label and value of the one replica of Prometheus that is read.
    pub replica: Option<(String, String)>,
    /// Start of the history.
    pub from: Timestamp,
    /// Its slots of ten seconds.
    pub slots: usize,
    /// Whether latencies are wanted.
    pub latency: bool,
}

impl Question {
    /// How many pieces its answer has.
    #[must_use]
    pub fn pieces(&self) -> usize {
        self.slots.div_ceil(PIECE)
    }

    /// Ask it; what a state file at `state` already holds is not asked for again.
    ///
    /// # Errors
    /// When Prometheus can't be asked, or knows of no pods, or the file is of another question.
    pub async fn ask(
        &self,
        prometheus: &Prometheus,
        state: Option<&std::path::Path>,
        bar: &ProgressBar,
    ) -> Result<(Found, PodHistory)> {
        let mut store = Store::open(state, digest(self))?;
        let found = match store.found() {
            Some(found) => found.clone(),
            None => {
                let found = self.find(prometheus).await?;
                store.find(&found)?;
                found
            }
        };
        let series = self.series(&found.label, &found.replica_set);
        let past = Past { prometheus, url: &self.url, series: &series, latency: self.latency };
        let mut history = PodHistory { from: self.from, ..PodHistory::default() };
        for piece in 0..self.pieces() {
            let first = piece * PIECE;
            let slots = PIECE.min(self.slots - first);
            let more = match store.take(piece).filter(|kept| kept.requests.len() == slots) {
                Some(kept) => kept,
                None => {
                    let asked = past.piece(&found.pods, after(self.from, first), slots).await;
                    let more = asked.with_context(|| self.stopped(piece, state.is_some()))?;
                    store.keep(piece, &more)?;
                    more
                }
            };
            history.append(more).context("the history can't be put together")?;
            bar.inc(1);
        }
        Ok((found, history))
    }

    fn stopped(&self, piece: usize, kept: bool) -> String {
        let (at, all) = (piece + 1, self.pieces());
        let how = if kept {
            "the same command goes on from there"
        } else {
            "with --state FILE a run goes on from where it stopped"
        };
        format!("Prometheus did not answer piece {at} of {all}; {how}")
    }

    fn series(&self, label: &str, replica_set: &str) -> Series {
        let pinned = self.replica.as_ref().map(|(label, value)| Pinned {
            labels: vec![label.clone()],
            replicas: [vec![value.clone()]].into(),
        });
        Series {
            mesh: self.mesh,
            namespace: self.namespace.clone(),
            // Pods tell the same by any route.
            route: RouteKind::HTTPRoute,
            // Of the pods' own proxies nobody asks who was called.
            service: String::new(),
            stable: replica_set.to_owned(),
            // No pod is of a ReplicaSet without a name.
            canary: String::new(),
            by: By::Pod { label: label.to_owned() },
            pinned: pinned.unwrap_or_default(),
        }
    }

    /// Who answered requests in this time: the label that tells, and the pods of one ReplicaSet.
    async fn find(&self, prometheus: &Prometheus) -> Result<Found> {
        for label in POD_LABELS {
            let seen = self.seen(prometheus, label).await.context("looking for the pods")?;
            let Some(found) = self.choose(label, &seen) else { continue };
            let series = self.series(label, &found.replica_set);
            let to = after(self.from, self.slots);
            let doubled = self.vector(prometheus, &series.doubled(), to).await?;
            if !doubled.is_empty() {
                bail!(
                    "{} of the pods' targets are in this Prometheus more than once, as with several \
                     replicas: read one of them with --replica LABEL=VALUE, such as \
                     --replica prometheus_replica=prometheus-0",
                    doubled.len()
                );
            }
            return Ok(found);
        }
        bail!(
            "Prometheus knows of no requests that pods of {} in namespace {} answered between {} and \
             {}: are their proxies scraped (reporter=\"destination\"), with one of the labels {}, and \
             is it kept that long?{}",
            self.replica_set.as_ref().map_or_else(
                || format!("Deployment {}", self.deployment),
                |set| format!("ReplicaSet {set}")
            ),
            self.namespace,
            self.from,
            after(self.from, self.slots),
            POD_LABELS.join(", "),
            if self.replica.is_some() { " Does --replica name one that there is?" } else { "" },
        )
    }

    /// Each pod of the Deployment with about how many requests it had counted.
    async fn seen(&self, prometheus: &Prometheus, label: &str) -> Result<BTreeMap<String, f64>> {
        let mut seen: BTreeMap<String, f64> = BTreeMap::new();
        let (mut from, end) = (self.from, after(self.from, self.slots));
        while from < end {
            let to = (from + LOOK).min(end);
            let query = self.answering(label, to.duration_since(from)).query();
            for point in self.vector(prometheus, &query, to).await? {
                *seen.entry(point.label(label).to_owned()).or_default() += point.value;
            }
            from = to;
        }
        Ok(seen)
    }

    fn answering<'a>(&'a self, label: &'a str, over: SignedDuration) -> Answering<'a> {
        Answering {
            mesh: self.mesh,
            namespace: &self.namespace,
            deployment: &self.deployment,
            replica_set: self.replica_set.as_deref(),
            label,
            replica: self.replica.as_ref().map(|(label, value)| (label.as_str(), value.as_str())),
            over,
        }
    }

    /// The ReplicaSet with the most requests, and its pods or an even sample of them.
    fn choose(&self, label: &str, seen: &BTreeMap<String, f64>) -> Option<Found> {
        let mut sets: BTreeMap<&str, f64> = BTreeMap::new();
        for (pod, requests) in seen {
            let (set, _) = pod.rsplit_once('-')?;
            *sets.entry(set).or_default() += requests;
        }
        let (replica_set, _) = sets.into_iter().max_by(|a, b| a.1.total_cmp(&b.1))?;
        let points = seen.iter().map(|(pod, value)| Point {
            labels: [(label.to_owned(), pod.clone())].into(),
            value: *value,
        });
        let points: Vec<Point> = points.collect();
        let pods = pods(&self.series(label, replica_set), &points);
        Some(Found { label: label.to_owned(), replica_set: replica_set.to_owned(), pods })
    }

    async fn vector(
        &self,
        prometheus: &Prometheus,
        query: &str,
        at: Timestamp,
    ) -> Result<Vec<Point>, QueryError> {
        Ok(answer::vector(&prometheus.query(&self.url, query, at).await?)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question() -> Question {
        Question {
            mesh: Mesh::Istio,
            url: "http://127.0.0.1:9090".to_owned(),
            namespace: "shop".to_owned(),
            deployment: "web.v1".to_owned(),
            replica_set: None,
            replica: None,
            from: Timestamp::UNIX_EPOCH,
            slots: 361,
            latency: true,
        }
    }

    #[test]
    fn the_replica_set_with_the_most_requests_is_stable() {
        let seen = [("web-1a-aaaaa", 50.0), ("web-2b-aaaaa", 30.0), ("web-2b-bbbbb", 31.0)];
        let seen = seen.map(|(pod, n)| (pod.to_owned(), n)).into();
        let found = question().choose("pod", &seen).unwrap();
        assert_eq!(found.replica_set, "web-2b");
        assert_eq!(found.pods, ["web-2b-aaaaa", "web-2b-bbbbb"]);
        assert_eq!(question().choose("pod", &BTreeMap::new()), None);
    }

    #[test]
    fn of_several_replicas_one_is_read() {
        let one = Question { replica: Some(("r".to_owned(), "a".to_owned())), ..question() };
        let pinned = one.series("pod", "web-6c").pinned;
        assert_eq!(
            (pinned.labels, pinned.replicas),
            (vec!["r".to_owned()], [vec!["a".to_owned()]].into())
        );
        let asked = one.answering("pod", SignedDuration::from_hours(1)).query();
        assert!(asked.contains(r#", r="a"}[3600s]"#), "{asked}");
    }

    #[test]
    fn every_part_of_the_question_is_in_its_digest() {
        let own = digest(&question());
        let changes: [fn(&mut Question); 8] = [
            |q| q.url.push('1'),
            |q| q.namespace.push('1'),
            |q| q.deployment.push('1'),
            |q| q.replica_set = Some("web-6c".to_owned()),
            |q| q.replica = Some(("r".to_owned(), "a".to_owned())),
            |q| q.from += SignedDuration::from_secs(1),
            |q| q.slots += 1,
            |q| q.latency = false,
        ];
        for change in changes {
            let mut other = question();
            change(&mut other);
            assert_ne!(digest(&other), own, "{other:?}");
        }
        assert_eq!(question().pieces(), 3);
    }
}
