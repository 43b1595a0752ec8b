//! A proxy: what it has counted, and what Prometheus sees of it.

use std::collections::{BTreeMap, BTreeSet};

use surefoot_core::samples::Histogram;

use crate::labels::{Labels, NAME};
use crate::speech::Said;
use crate::store::{Millis, Place, Store, stale};

/// What requests of the same labels came to: a counter, or a histogram of latencies.
#[derive(Debug, Clone)]
struct Count {
    requests: u64,
    /// Requests within each boundary; `None` for a counter.
    latencies: Option<Latencies>,
    /// Its series, in the order of [`Count::values`].
    series: Vec<Told>,
}

#[derive(Debug, Clone)]
struct Latencies {
    boundaries: &'static [f64],
    at_most: Vec<u64>,
    sum: f64,
}

/// A series as Prometheus sees it.
#[derive(Debug, Clone)]
struct Told {
    labels: Labels,
    place: Place,
    /// Whether the last scrape saw it: if the next one does not, it has ended.
    seen: bool,
}

impl Told {
    fn new(labels: Labels) -> Self {
        Self { labels, place: Place::default(), seen: false }
    }
}

impl Count {
    /// A counter of nothing, with these labels.
    fn counter(labels: Labels) -> Self {
        Self { requests: 0, latencies: None, series: vec![Told::new(labels)] }
    }

    /// A histogram of nothing, with these labels, its name without an ending among them.
    fn histogram(labels: &Labels, boundaries: &'static [f64]) -> Self {
        let of = |part: &str| labels.with(NAME, &format!("{}_{part}", labels.get(NAME)));
        let bucket = of("bucket");
        let bounded = boundaries.iter().map(|b| bucket.with("le", &b.to_string()));
        let mut series: Vec<Labels> = bounded.collect();
        series.extend([bucket.with("le", "+Inf"), of("sum"), of("count")]);
        let latencies = Latencies { boundaries, at_most: vec![0; boundaries.len()], sum: 0.0 };
        let series = series.into_iter().map(Told::new).collect();
        Self { requests: 0, latencies: Some(latencies), series }
    }

    /// Its series with their values.
    fn told(&self) -> impl Iterator<Item = (&Labels, f64)> {
        let values = values(self.requests, self.latencies.as_ref());
        self.series.iter().map(|told| &told.labels).zip(values)
    }

    /// A scrape, or none that was answered.
    fn scraped(&mut self, store: &mut Store, at: Millis, answers: bool) {
        let values = values(self.requests, self.latencies.as_ref());
        for (told, value) in self.series.iter_mut().zip(values) {
            let before = told.seen;
            let place = &mut told.place;
            told.seen = answers && store.append_at(place, &told.labels, at, value).is_ok();
            if before && !told.seen {
                let _ = store.append_at(place, &told.labels, at, stale());
            }
        }
    }

    fn add(&mut self, more: &Histogram) {
        self.requests += more.requests;
        let Some(Latencies { boundaries, at_most, sum: total }) = &mut self.latencies else {
            return;
        };
        let (mut lower, mut before) = (0.0, 0);
        for ((sum, more), boundary) in at_most.iter_mut().zip(&more.at_most).zip(*boundaries) {
            *sum += more;
            #[expect(clippy::cast_precision_loss, reason = "requests of a moment")]
            let own = more.saturating_sub(before) as f64;
            // Nothing more is known of a latency than its bucket: its middle will do.
            *total += own * f64::midpoint(lower, *boundary);
            (lower, before) = (*boundary, *more);
        }
        #[expect(clippy::cast_precision_loss, reason = "requests of a moment")]
        let beyond = more.requests.saturating_sub(before) as f64;
        *total += beyond * lower;
    }
}

/// The values of a count's series.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
fn values(requests: u64, latencies: Option<&Latencies>) -> impl Iterator<Item = f64> {
    let requests = requests as f64;
    let buckets = latencies.into_iter().flat_map(|l| &l.at_most).map(|n| *n as f64);
    let rest = latencies.into_iter().flat_map(move |l| [l.sum, requests]);
    // A counter's own value, or what a histogram's last bucket holds.
    buckets.chain([requests]).chain(rest)
}

/// A proxy that Prometheus scrapes. It knows a series once it has counted something in it.
#[derive(Debug, Clone)]
pub struct Proxy {
    target: Labels,
    started: Millis,
    /// Of its latencies.
    boundaries: &'static [f64],
    /// By the labels of requests, without those of the target.
    counts: BTreeMap<Labels, Count>,
    /// What the last scrape saw of the counts before a restart: what the next one does not see of it
    /// has ended.
    before: Vec<Labels>,
    /// Whether it answers, and since when it runs.
    up: Told,
    start: Told,
}

impl Proxy {
    /// One that has counted nothing, with the labels that Prometheus gives to its target.
    pub fn new(target: Labels, started: Millis, boundaries: &'static [f64]) -> Self {
        let own = |name: &str| Told::new(target.with(NAME, name));
        let (up, start) = (own("up"), own("process_start_time_seconds"));
        let (counts, before) = (BTreeMap::new(), Vec::new());
        Self { target, started, boundaries, counts, before, up, start }
    }

    /// The proxy has started anew, unless it did at this time.
    pub fn restarted(&mut self, started: Millis) {
        if started != self.started {
            self.started = started;
            let seen: Vec<Labels> = self.seen().cloned().collect();
            self.before.extend(seen);
            self.counts.clear();
        }
    }

    /// So many requests of which this is said have ended, with these latencies.
    pub fn count(&mut self, said: &Said, latencies: &Histogram) {
        if latencies.requests == 0 {
            return;
        }
        let target = &self.target;
        let full = |own: &Labels| -> Labels { own.iter().chain(target.iter()).collect() };
        if let Some(labels) = &said.counter {
            let new = |own: &Labels| Count::counter(full(own));
            self.counts.entry(labels.clone()).or_insert_with_key(new).add(latencies);
        }
        if let Some(labels) = &said.latency {
            let boundaries = self.boundaries;
            let new = |own: &Labels| Count::histogram(&full(own), boundaries);
            self.counts.entry(labels.clone()).or_insert_with_key(new).add(latencies);
        }
    }

    /// The series that the last scrape saw.
    fn seen(&self) -> impl Iterator<Item = &Labels> {
        let told = self.counts.values().flat_map(|count| &count.series);
        told.filter(|told| told.seen).map(|told| &told.labels)
    }

    #[expect(clippy::cast_precision_loss, reason = "milliseconds are exact in f64")]
    fn start_time(&self) -> f64 {
        self.started as f64 / 1000.0
    }

    /// Prometheus scrapes it, or finds that it does not answer.
    pub fn scraped(&mut self, store: &mut Store, at: Millis, answers: bool) {
        let start = if answers { self.start_time() } else { stale() };
        // What can't be kept is lost, as in Prometheus.
        for (own, value) in [(&mut self.up, f64::from(u8::from(answers))), (&mut self.start, start)]
        {
            let _ = store.append_at(&mut own.place, &own.labels, at, value);
        }
        for count in self.counts.values_mut() {
            count.scraped(store, at, answers);
        }
        let before = std::mem::take(&mut self.before);
        if !before.is_empty() {
            let now: BTreeSet<&Labels> = self.seen().collect();
            for labels in before.iter().filter(|labels| !now.contains(labels)) {
                let _ = store.append(labels, at, stale());
            }
        }
    }

    /// Prometheus no longer knows it: all its series have ended.
    pub fn gone(self, store: &mut Store, at: Millis) {
        let own = [&self.up.labels, &self.start.labels];
        for labels in self.seen().chain(&self.before).chain(own) {
            let _ = store.append(labels, at, stale());
        }
    }

    /// Its own page, in the text format.
    pub fn page(&self) -> String {
        let own = |labels: &Labels| labels.filtered(|name| self.target.get(name).is_empty());
        let metrics = self.counts.values().flat_map(Count::told);
        let mut told: Vec<(Labels, f64)> = metrics.map(|(labels, v)| (own(labels), v)).collect();
        // Families stay together, buckets in the order of their boundaries.
        told.sort_by_key(|(labels, _)| !labels.get(NAME).ends_with("_total"));
        told.push((own(&self.start.labels), self.start_time()));
        crate::page::page(told.iter().map(|(labels, value)| (labels, *value)))
    }
}

#[cfg(test)]
mod tests {
    use surefoot_core::engine::ISTIO_BOUNDARIES;

    use super::*;

    fn one(at_most: [u64; 15]) -> Histogram {
        Histogram { requests: 1, at_most: at_most.to_vec() }
    }

    fn requests(code: &str) -> Said {
        let own = [("response_code", code), ("reporter", "destination")];
        let named = |name| Some(Labels::from_iter(own).with(NAME, name));
        Said {
            counter: named("istio_requests_total"),
            latency: named("istio_request_duration_milliseconds"),
        }
    }

    fn proxy() -> Proxy {
        let target = [("job", "sidecars"), ("pod", "web-1")];
        Proxy::new(target.into_iter().collect(), 5000, &ISTIO_BOUNDARIES)
    }

    #[test]
    fn its_page_is_that_of_a_prometheus_client() {
        let mut proxy = proxy();
        let mut fast = [1; 15];
        fast[0] = 0;
        proxy.count(&requests("200"), &one(fast));
        proxy.count(&requests("500"), &one([0; 15]));
        let page = proxy.page();
        let lines: Vec<&str> = page.lines().collect();
        assert_eq!(lines[0], "# TYPE istio_requests_total counter");
        let own = "{reporter=\"destination\",response_code=\"200\"}";
        assert_eq!(lines[1], format!("istio_requests_total{own} 1"));
        assert_eq!(lines[3], "# TYPE istio_request_duration_milliseconds histogram");
        let bucket = "istio_request_duration_milliseconds_bucket";
        let second = "{le=\"1\",reporter=\"destination\",response_code=\"200\"} 1";
        assert_eq!(lines[5], format!("{bucket}{second}"));
        assert!(page.contains(&format!("istio_request_duration_milliseconds_sum{own} 0.75\n")));
        let last = "# TYPE process_start_time_seconds gauge\nprocess_start_time_seconds 5\n";
        assert!(page.ends_with(last), "{page}");
        assert_eq!(lines.iter().filter(|line| line.starts_with('#')).count(), 3);
    }

    #[test]
    fn what_a_scrape_no_longer_sees_has_ended() {
        let mut store = Store::new(i64::MAX, 100);
        let mut proxy = proxy();
        proxy.count(&requests("200"), &one([1; 15]));
        proxy.scraped(&mut store, 10, true);
        proxy.restarted(7000);
        proxy.count(&requests("500"), &one([1; 15]));
        proxy.scraped(&mut store, 20, true);
        proxy.scraped(&mut store, 30, false);
        let codes = |store: &Store| -> Vec<(String, Vec<(Millis, bool)>)> {
            let ended = |(at, value): &(Millis, f64)| (*at, crate::store::is_stale(*value));
            let series = store.series(Some("istio_requests_total"));
            let of = |s: &&crate::store::Series| {
                (s.labels.get("response_code").to_owned(), s.samples.iter().map(ended).collect())
            };
            series.iter().map(of).collect()
        };
        let expected = [
            ("200".to_owned(), vec![(10, false), (20, true)]),
            ("500".to_owned(), vec![(20, false), (30, true)]),
        ];
        assert_eq!(codes(&store), expected);
        let up = store.series(Some("up"))[0];
        assert_eq!(up.samples, [(10, 1.0), (20, 1.0), (30, 0.0)]);
        proxy.gone(&mut store, 40);
        assert!(crate::store::is_stale(store.series(Some("up"))[0].samples[3].1));
    }
}
