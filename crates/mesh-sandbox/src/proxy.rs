//! A proxy: what it has counted, and what Prometheus sees of it.

use std::collections::BTreeMap;

use surefoot_core::engine::ISTIO_BOUNDARIES;
use surefoot_core::samples::Histogram;

use crate::labels::{Labels, NAME};
use crate::store::{Millis, Store, stale};

/// What requests of the same labels came to.
#[derive(Debug, Clone, Default)]
struct Count {
    requests: u64,
    at_most: Vec<u64>,
    sum: f64,
}

/// A proxy that Prometheus scrapes. It knows a series once it has counted something in it.
#[derive(Debug, Clone)]
pub struct Proxy {
    target: Labels,
    started: Millis,
    counts: BTreeMap<Labels, Count>,
    /// What the last scrape saw: what is gone in the next one has ended.
    seen: Vec<Labels>,
}

impl Proxy {
    /// One that has counted nothing, with the labels that Prometheus gives to its target.
    pub fn new(target: Labels, started: Millis) -> Self {
        Self { target, started, counts: BTreeMap::new(), seen: Vec::new() }
    }

    /// The proxy has started anew, unless it did at this time.
    pub fn restarted(&mut self, started: Millis) {
        if started != self.started {
            self.started = started;
            self.counts.clear();
        }
    }

    /// So many requests with these labels have ended, with these latencies.
    pub fn count(&mut self, labels: &Labels, latencies: &Histogram) {
        if latencies.requests == 0 {
            return;
        }
        let count = self.counts.entry(labels.clone()).or_default();
        count.requests += latencies.requests;
        count.at_most.resize(ISTIO_BOUNDARIES.len(), 0);
        let (mut lower, mut before) = (0.0, 0);
        for ((sum, more), boundary) in
            count.at_most.iter_mut().zip(&latencies.at_most).zip(ISTIO_BOUNDARIES)
        {
            *sum += more;
            #[expect(clippy::cast_precision_loss, reason = "requests of a moment")]
            let own = more.saturating_sub(before) as f64;
            // Nothing more is known of a latency than its bucket: its middle will do.
            count.sum += own * f64::midpoint(lower, boundary);
            (lower, before) = (boundary, *more);
        }
        #[expect(clippy::cast_precision_loss, reason = "requests of a moment")]
        let beyond = latencies.requests.saturating_sub(before) as f64;
        count.sum += beyond * lower;
    }

    /// Its metrics as it tells them, in order: labels but those of the target, and value.
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    fn told(&self) -> Vec<(Labels, f64)> {
        let mut told = Vec::new();
        for (labels, count) in &self.counts {
            told.push((labels.with(NAME, "istio_requests_total"), count.requests as f64));
        }
        for (labels, count) in &self.counts {
            let of = |part: &str| {
                labels.with(NAME, &format!("istio_request_duration_milliseconds_{part}"))
            };
            let bucket = of("bucket");
            for (boundary, n) in ISTIO_BOUNDARIES.iter().zip(&count.at_most) {
                told.push((bucket.with("le", &boundary.to_string()), *n as f64));
            }
            told.push((bucket.with("le", "+Inf"), count.requests as f64));
            told.push((of("sum"), count.sum));
            told.push((of("count"), count.requests as f64));
        }
        let start = Labels::from_iter([(NAME, "process_start_time_seconds")]);
        told.push((start, self.started as f64 / 1000.0));
        told
    }

    /// Prometheus scrapes it, or finds that it does not answer.
    pub fn scraped(&mut self, store: &mut Store, at: Millis, answers: bool) {
        let told = if answers { self.told() } else { Vec::new() };
        let named = told.into_iter().map(|(labels, value)| (self.full(&labels), value));
        let named: Vec<(Labels, f64)> = named.collect();
        let up = self.full(&Labels::from_iter([(NAME, "up")]));
        for labels in std::mem::take(&mut self.seen) {
            if !named.iter().any(|(now, _)| *now == labels) {
                // What can't be kept is lost, as in Prometheus.
                let _ = store.append(&labels, at, stale());
            }
        }
        for (labels, value) in named {
            if store.append(&labels, at, value).is_ok() {
                self.seen.push(labels);
            }
        }
        let _ = store.append(&up, at, if answers { 1.0 } else { 0.0 });
    }

    /// Prometheus no longer knows it: all its series have ended.
    pub fn gone(mut self, store: &mut Store, at: Millis) {
        let up = self.full(&Labels::from_iter([(NAME, "up")]));
        for labels in std::mem::take(&mut self.seen).into_iter().chain([up]) {
            let _ = store.append(&labels, at, stale());
        }
    }

    fn full(&self, labels: &Labels) -> Labels {
        labels.iter().chain(self.target.iter()).collect()
    }

    /// Its own page, in the text format.
    pub fn page(&self) -> String {
        crate::page::page(self.told().iter().map(|(labels, value)| (labels, *value)))
    }
}
