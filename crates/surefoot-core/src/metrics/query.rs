//! PromQL for exact counts between two instants (`statistics.md`, "Data").
//!
//! Increments are differences of last samples, never `increase()`, which extrapolates and loses
//! first samples. Every instant is explicit: a question has the same answer whenever it is asked.

use std::fmt::Write;
use std::time::Duration;

use jiff::Timestamp;

use super::replica::{Pinned, Target};
use super::vocabulary::{Metric, Vocabulary, vocabulary};
use crate::api::rollout::{Mesh, RouteKind};
use crate::observed::{is_pod_of, pod_prefix};
use crate::routing::Side;

/// How much further back than the block a last sample is looked for.
const LOOKBACK: Duration = Duration::from_secs(300);

/// Which of the mesh's series to count. What they are called is the mesh's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Requests that have ended.
    Requests,
    /// Buckets of latencies.
    Latency,
}

/// The series of the two versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Series {
    /// Whose metrics they are.
    pub mesh: Mesh,
    /// By which kind of route they are of.
    pub route: RouteKind,
    /// Namespace of both.
    pub namespace: String,
    /// The Service that clients call.
    pub service: String,
    /// Stable's name in them.
    pub stable: String,
    /// The canary's.
    pub canary: String,
    /// What those names are, and who reports.
    pub by: By,
    /// Of several copies those that are read.
    pub pinned: Pinned,
}

/// Who reports the series, and by what they tell the versions apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum By {
    /// The callers' proxies, by the Service called: they see what never reached a pod.
    Service,
    /// The pods' own proxies, by the pod; the names are those of the ReplicaSets.
    Pod {
        /// The label that names the pod. Prometheus set-ups differ: [`POD_LABELS`].
        label: String,
    },
}

/// Labels by which Prometheus set-ups name the scraped pod, the likeliest first.
pub const POD_LABELS: [&str; 3] = ["pod", "pod_name", "kubernetes_pod_name"];

/// A PromQL string literal.
#[must_use]
pub fn literal(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// A regular expression that matches exactly this text.
pub(super) fn exactly(text: &str) -> String {
    let mut regex = String::with_capacity(text.len());
    for c in text.chars() {
        if !c.is_ascii_alphanumeric() && c != '-' && c != '_' {
            regex.push('\\');
        }
        regex.push(c);
    }
    regex
}

/// A regular expression of the names of a ReplicaSet's pods that needs no escapes in any of PromQL's
/// quotes.
pub(super) fn pods_like(replica_set: &str) -> String {
    format!("{}.{{5}}", pod_prefix(replica_set).replace('.', "[.]"))
}

fn seconds(at: Timestamp) -> String {
    format!("{}.{:03}", at.as_second(), at.subsec_millisecond().max(0))
}

fn range(from: Timestamp, to: Timestamp) -> String {
    let block = Duration::try_from(to.duration_since(from)).unwrap_or_default();
    format!("{}ms", (block + LOOKBACK).as_millis())
}

fn matchers((job, instance): &Target) -> String {
    format!("job={}, instance={}", literal(job), literal(instance))
}

impl Series {
    pub(super) fn vocabulary(&self) -> &'static dyn Vocabulary {
        vocabulary(self.mesh)
    }

    fn metric(&self, family: Family) -> &'static Metric {
        self.vocabulary().metric(&self.by, family, self.route)
    }

    fn selector(&self, family: Family) -> String {
        format!("{}{{{}{}}}", self.metric(family).name, self.chosen(family), self.pin(", "))
    }

    /// Matchers of the replicas that are read, each behind `lead`.
    fn pin(&self, lead: &str) -> String {
        let mut pin = String::new();
        for (label, values) in self.pinned.values() {
            let values: Vec<String> = values.into_iter().map(exactly).collect();
            let _ = write!(pin, "{lead}{label}=~{}", literal(&values.join("|")));
        }
        pin
    }

    fn chosen(&self, family: Family) -> String {
        let both = [&self.stable, &self.canary];
        let versions = match &self.by {
            By::Service => both.map(|service| exactly(service)),
            By::Pod { .. } => both.map(|set| format!("{}.{{5}}", exactly(&pod_prefix(set)))),
        };
        self.among(family, &literal(&versions.join("|")))
    }

    /// Matchers of versions, or of pods, like this.
    fn among(&self, family: Family, like: &str) -> String {
        let Metric { matchers, namespace, called, .. } = self.metric(family);
        let within = literal(&self.namespace);
        let called = called.map(|[namespace, name]| {
            format!("{namespace}={within}, {name}={}, ", literal(&self.service))
        });
        let called = called.unwrap_or_default();
        format!("{matchers}{called}{namespace}={within}, {}=~{like}", self.version_label(family))
    }

    /// Which version a series of a family with these labels is of.
    #[must_use]
    pub fn side(&self, family: Family, label: impl Fn(&str) -> String) -> Option<Side> {
        let name = label(self.version_label(family));
        let of: fn(&str, &str) -> bool = match &self.by {
            By::Service => |name, service| name == service,
            By::Pod { .. } => is_pod_of,
        };
        if of(&name, &self.canary) {
            return Some(Side::Canary);
        }
        of(&name, &self.stable).then_some(Side::Stable)
    }

    /// The label that tells the versions apart.
    pub(super) fn version_label(&self, family: Family) -> &str {
        match &self.by {
            By::Service => self.metric(family).service,
            By::Pod { label } => label,
        }
    }

    /// Stable's pods that reported something in the last minutes, where pods tell the versions apart.
    #[must_use]
    pub fn pods(&self) -> String {
        let label = self.version_label(Family::Requests);
        let pods = literal(&format!("{}.{{5}}", exactly(&pod_prefix(&self.stable))));
        let selector = self.of_pods(Family::Requests, &pods);
        format!("group by ({label}) (last_over_time({selector}[{}s]))", LOOKBACK.as_secs())
    }

    /// What these pods have counted, for a range query. Of latencies those of clients that left are
    /// left out; of requests their labels tell.
    #[must_use]
    pub fn past(&self, family: Family, pods: &[String]) -> String {
        let (label, labels) = (self.version_label(family), self.metric(family).labels);
        let pods: Vec<String> = pods.iter().map(|pod| exactly(pod)).collect();
        let selector = self.of_pods(family, &literal(&pods.join("|")));
        match family {
            Family::Requests => format!("sum by ({label}, {labels}) ({selector})"),
            Family::Latency => format!("sum by ({label}, le) ({selector})"),
        }
    }

    fn of_pods(&self, family: Family, pods: &str) -> String {
        let stayed = match family {
            Family::Requests => "",
            Family::Latency => self.vocabulary().stayed(),
        };
        let (name, among) = (self.metric(family).name, self.among(family, pods));
        format!("{name}{{{among}{stayed}{}}}", self.pin(", "))
    }

    /// How many series there are in the last minutes: whether this is how they are labelled.
    #[must_use]
    pub fn found(&self) -> String {
        let selector = self.selector(Family::Requests);
        format!("count(count_over_time({selector}[{}s]))", LOOKBACK.as_secs())
    }

    /// For each scraped target and replica, the time of its newest sample.
    #[must_use]
    pub fn freshness(&self) -> String {
        let by = self.by_target();
        let family = Family::Requests;
        let (metric, chosen) = (self.metric(family).name, self.chosen(family));
        format!("max by ({by}) (timestamp({metric}{{{chosen}}}))")
    }

    /// The labels of a target and of its replica.
    fn by_target(&self) -> String {
        let labels = ["job", "instance"].into_iter();
        let labels = labels.chain(self.pinned.labels.iter().map(String::as_str));
        labels.collect::<Vec<_>>().join(", ")
    }

    /// Targets of these series that are scraped more than once under one name, replicas aside.
    ///
    /// Of these alone: where everything is doubled, those of others would crowd them out.
    #[must_use]
    pub fn doubled(&self) -> String {
        let without = self.pinned.labels.join(", ");
        let once = format!("group without ({without}) (up)");
        let ours = self.selector(Family::Requests);
        format!("count by (job, instance) ({once}) > 1 and on (job, instance) {ours}")
    }

    /// What Prometheus knows of one target, once for each time that it is scraped.
    #[must_use]
    pub fn copies(&self, target: &Target) -> String {
        format!("up{{{}}}", matchers(target))
    }

    /// In how many copies one target has the versions' series, by labels in which those differ.
    #[must_use]
    pub fn counted(&self, target: &Target, labels: &[String]) -> String {
        let family = Family::Requests;
        let (metric, chosen) = (self.metric(family).name, self.chosen(family));
        let series = format!("{metric}{{{chosen}, {}}}", matchers(target));
        format!("count(count by ({}) ({series}))", labels.join(", "))
    }

    /// For each scraped target, how many samples a series had within `window`.
    #[must_use]
    pub fn density(&self, window: Duration) -> String {
        let selector = self.selector(Family::Requests);
        format!(
            "max by (job, instance) (count_over_time({selector}[{}s]))",
            window.as_secs().max(1)
        )
    }

    /// Sums of increments over (from, to], of all series that were neither born nor reset between.
    #[must_use]
    pub fn increments(&self, family: Family, from: Timestamp, to: Timestamp) -> String {
        let (last, first, resets) = self.ends(family, from, to);
        let (version, labels) = (self.version_label(family), self.metric(family).labels);
        format!("sum by ({version}, {labels}) (({last} - {first}) unless {resets})")
    }

    /// The series that were born or reset between: usually none.
    #[must_use]
    pub fn irregular(&self, family: Family, from: Timestamp, to: Timestamp) -> String {
        let (last, first, resets) = self.ends(family, from, to);
        format!("count(({last} unless {first}) or {resets})")
    }

    /// Sums over the series that were born between, by target.
    #[must_use]
    pub fn births(&self, family: Family, from: Timestamp, to: Timestamp) -> String {
        let (last, first, resets) = self.ends(family, from, to);
        let (version, labels) = (self.version_label(family), self.metric(family).labels);
        format!(
            "sum by (job, instance, {version}, {labels}) (({last} unless {first}) unless {resets})"
        )
    }

    /// The series that were reset between, each with all of its labels.
    #[must_use]
    pub fn resets(&self, family: Family, from: Timestamp, to: Timestamp) -> String {
        self.ends(family, from, to).2
    }

    fn ends(&self, family: Family, from: Timestamp, to: Timestamp) -> (String, String, String) {
        let (selector, range) = (self.selector(family), range(from, to));
        let (t0, t1) = (seconds(from), seconds(to));
        (
            format!("last_over_time({selector}[{range}] @ {t1})"),
            format!("last_over_time({selector}[{range}] @ {t0})"),
            format!("(resets({selector}[{range}] @ {t1}) > 0)"),
        )
    }

    /// The raw samples of one series up to `to`.
    #[must_use]
    pub fn raw(
        &self,
        family: Family,
        labels: &[(String, String)],
        from: Timestamp,
        to: Timestamp,
    ) -> String {
        let mut selector = format!("{}{{", self.metric(family).name);
        for (name, value) in labels.iter().filter(|(name, _)| name != "__name__") {
            // Writing to a String can't fail.
            let _ = write!(selector, "{name}={}, ", literal(value));
        }
        format!("{}}}[{}] @ {}", selector.trim_end_matches(", "), range(from, to), seconds(to))
    }

    /// Each target that was known before `from`, and whether it was up at its last scrape then.
    #[must_use]
    pub fn up(&self, from: Timestamp, to: Timestamp) -> String {
        let pin = self.pin(", ");
        let pin = pin.trim_start_matches(", ");
        format!("last_over_time(up{{{pin}}}[{}] @ {})", range(from, to), seconds(from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series() -> Series {
        Series {
            mesh: Mesh::Istio,
            route: RouteKind::VirtualService,
            namespace: "shop".into(),
            service: "checkout".into(),
            stable: "checkout-stable".into(),
            canary: "checkout-canary".into(),
            by: By::Service,
            pinned: Pinned::default(),
        }
    }

    #[test]
    fn pods_are_told_apart_by_the_names_of_their_replica_sets() {
        let by = By::Pod { label: "pod_name".into() };
        let series = Series { stable: "web-6c".into(), canary: "web-sf1".into(), by, ..series() };
        let query = series.found();
        assert!(query.contains("reporter=\"destination\""), "{query}");
        assert!(query.contains(r#"pod_name=~"web-6c-.{5}|web-sf1-.{5}""#), "{query}");
        let side = |pod: &str| {
            series.side(Family::Requests, |label| {
                if label == "pod_name" { pod.into() } else { String::new() }
            })
        };
        assert_eq!(side("web-6c-x7k2p"), Some(Side::Stable));
        assert_eq!(side("web-sf1-x7k2p"), Some(Side::Canary));
        assert_eq!(side("web-6c-x7k2p-q"), None);
    }

    #[test]
    fn every_instant_is_explicit() {
        let (t0, t1) =
            ("2026-01-01T00:00:00Z".parse().unwrap(), "2026-01-01T00:00:15.5Z".parse().unwrap());
        let query = series().increments(Family::Requests, t0, t1);
        assert!(query.contains("[315500ms] @ 1767225615.500"), "{query}");
        assert!(query.contains("@ 1767225600.000"), "{query}");
        assert!(
            query.starts_with("sum by (destination_service_name, request_protocol, response_code")
        );
        assert!(!query.contains("increase"));
    }

    #[test]
    fn only_the_replicas_that_are_read_are_asked_for() {
        let replicas = [vec!["a.1".to_owned()], vec![String::new()]].into();
        let pinned = Pinned { labels: vec!["r".to_owned()], replicas };
        let series = Series { pinned, ..series() };
        let t = Timestamp::UNIX_EPOCH;
        for query in [series.increments(Family::Latency, t, t), series.up(t, t), series.found()] {
            assert!(query.contains(r#"r=~"|a\\.1""#), "{query}");
        }
        let freshness = series.freshness();
        assert!(freshness.starts_with("max by (job, instance, r) ("), "{freshness}");
        assert!(!freshness.contains("r=~\"|"), "another one may be live: {freshness}");
        let doubled = series.doubled();
        let all = "count by (job, instance) (group without (r) (up)) > 1 and on (job, instance) ";
        assert!(doubled.starts_with(&format!("{all}istio_requests_total{{")), "{doubled}");
    }

    #[test]
    fn values_are_escaped() {
        let hostile = vec![("path".to_owned(), "a\"} or up #\\".to_owned())];
        let t = Timestamp::UNIX_EPOCH;
        let query = series().raw(Family::Requests, &hostile, t, t);
        assert!(query.contains(r#"path="a\"} or up #\\""#), "{query}");
        assert_eq!(exactly("a.b"), "a\\.b");
    }
}
