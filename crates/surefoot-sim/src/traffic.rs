//! Traffic of two versions whose truth is known.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Beta, Binomial, Distribution, Geometric, LogNormal, Poisson};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, LogNormal as LogNormalCdf};
use surefoot_core::engine::ISTIO_BOUNDARIES;
use surefoot_core::samples::{BaselineSample, Count, Histogram, Latencies, Tick};

/// What is true of a release's traffic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Traffic {
    /// Requests a second, both versions together.
    pub rps: f64,
    /// Stable's failure rate, in \[0, 1\].
    pub stable: f64,
    /// The canary's, from step `from` on; stable's before.
    pub canary: f64,
    /// How many times stable's latencies the canary's are, from step `from` on.
    pub slowdown: f64,
    /// The first step at which the canary differs.
    pub from: usize,
    /// Latencies; `None`: there are none.
    pub latency: Option<Latency>,
    /// How failures hang together.
    pub failures: Failures,
}

/// Log-normal latencies.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Latency {
    /// Median of stable's, milliseconds.
    pub median: f64,
    /// Its 99th percentile, milliseconds, above the median.
    pub p99: f64,
}

/// How failures hang together.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Failures {
    /// Each request fails by itself.
    Independent,
    /// Failures come in clusters of a geometric size with this mean, as with retries.
    Clusters {
        /// Mean size, at least 1.
        size: f64,
    },
    /// Every ten seconds each version has a rate of its own, with this correlation between two of its
    /// requests in (0, 1). Before a release each of stable's pods is one.
    BetaBinomial {
        /// The correlation.
        rho: f64,
    },
    /// A pod has bursts: for a minute, now and then, it fails so many times more often. The mean
    /// stays.
    PodBursts {
        /// How many times as often, at least 1.
        times: f64,
        /// The share of minutes with a burst, in (0, 1).
        share: f64,
    },
    /// Pods differ for good: their rates are spread log-normally with this coefficient of variation,
    /// around the version's.
    StaticPods {
        /// The coefficient.
        spread: f64,
    },
    /// Every five minutes both versions fail at this rate for one.
    SharedOutages {
        /// The rate, in (0, 1).
        rate: f64,
    },
}

/// Pods of stable; the canary has what its weight needs, and at least two.
const PODS: f64 = 10.0;

/// How much of stable's past a release begins with where its pods aren't looked at.
const PAST: Duration = Duration::from_secs(600);

/// How long a rate lasts that is drawn anew every now and then, and how long a pod's burst, seconds.
const SPELL: f64 = 10.0;
const BURST: f64 = 60.0;

/// Traffic as it flows.
pub struct Flow {
    traffic: Traffic,
    chance: StdRng,
    now: Timestamp,
    seconds: f64,
    /// What each pod has drawn, the canary's and stable's.
    pods: [Vec<Spell>; 2],
    /// Of latencies, milliseconds.
    boundaries: &'static [f64],
    /// Stable's latencies below each boundary, and the canary's.
    below: Option<[Vec<f64>; 2]>,
}

/// A number that is drawn and kept for a while.
#[derive(Clone, Copy)]
struct Spell {
    value: f64,
    until: f64,
}

impl Traffic {
    /// Two versions that are alike.
    #[must_use]
    pub fn alike(rps: f64, rate: f64) -> Self {
        Self {
            rps,
            stable: rate,
            canary: rate,
            slowdown: 1.0,
            from: 0,
            latency: None,
            failures: Failures::Independent,
        }
    }

    /// Begin to flow. The same seed gives the same requests.
    #[must_use]
    pub fn flow(&self, seed: u64) -> Flow {
        self.flow_within(seed, &ISTIO_BOUNDARIES)
    }

    /// The same with latencies counted at other boundaries, milliseconds.
    #[must_use]
    pub fn flow_within(&self, seed: u64, boundaries: &'static [f64]) -> Flow {
        let below = self.latency.and_then(|latency| {
            let stable = distribution(latency, 1.0)?;
            let canary = distribution(latency, self.slowdown)?;
            Some([stable, canary].map(|d| boundaries.iter().map(|b| d.cdf(*b)).collect()))
        });
        Flow {
            traffic: self.clone(),
            chance: StdRng::seed_from_u64(seed),
            now: Timestamp::UNIX_EPOCH,
            seconds: 0.0,
            pods: [Vec::new(), Vec::new()],
            boundaries,
            below,
        }
    }
}

/// `None` for latencies that are none.
fn distribution(latency: Latency, times: f64) -> Option<LogNormalCdf> {
    // The 99th percentile of the standard normal distribution.
    let sigma = (latency.p99 / latency.median).ln() / 2.326_347_874_040_841;
    LogNormalCdf::new((latency.median * times).ln(), sigma).ok()
}

impl Flow {
    /// Stable alone before the release.
    pub fn past(&mut self) -> BaselineSample {
        let tick = self.tick(0, 0.0, PAST);
        let latency = tick.latency.unwrap_or_default();
        BaselineSample {
            over: PAST,
            requests: tick.stable,
            boundaries: latency.boundaries,
            latency: latency.stable,
            pods: Err("only their sum is simulated".to_owned()),
        }
    }

    /// The requests of each of stable's pods in the next `span`, before there is a canary.
    pub fn pods(&mut self, span: Duration) -> Vec<(Count, Option<Histogram>)> {
        let expected = self.traffic.rps * span.as_secs_f64() / PODS;
        let mut pods = Vec::new();
        for pod in 0..whole(PODS) {
            let count = self.pod(1, pod, expected, self.traffic.stable);
            let below = self.below.as_ref();
            let latency = below.map(|b| histogram(&mut self.chance, count.requests, &b[0]));
            pods.push((count, latency));
        }
        self.pass(span);
        pods
    }

    /// The requests of the next `span`, the canary getting `weight` in \[0, 1\] of them at a step.
    pub fn tick(&mut self, step: usize, weight: f64, span: Duration) -> Tick {
        let worse = step >= self.traffic.from;
        let rate = if worse { self.traffic.canary } else { self.traffic.stable };
        let requests = self.traffic.rps * span.as_secs_f64();
        let canary = self.count(0, requests * weight, rate, (PODS * weight).ceil().max(2.0));
        let stable = self.count(1, requests * (1.0 - weight), self.traffic.stable, PODS);
        let latency = self.below.as_ref().map(|below| Latencies {
            boundaries: self.boundaries.to_vec(),
            canary: histogram(&mut self.chance, canary.requests, &below[usize::from(worse)]),
            stable: histogram(&mut self.chance, stable.requests, &below[0]),
        });
        let from = self.now;
        self.pass(span);
        Tick { from, to: self.now, canary, stable, latency, reached: None, partial: None }
    }

    /// The requests of one pod alone, of which so many are expected in the next `span`.
    pub fn one(&mut self, expected: f64, span: Duration) -> Count {
        let count = self.pod(1, 0, expected, self.traffic.stable);
        self.pass(span);
        count
    }

    /// Of so many requests those that something happens to which happens to this share of all.
    pub fn some(&mut self, requests: u64, share: f64) -> u64 {
        binomial(&mut self.chance, requests, share)
    }

    /// So many latencies of stable; `None` where there are none.
    pub fn latencies(&mut self, requests: u64) -> Option<Histogram> {
        let below = self.below.as_ref()?;
        Some(histogram(&mut self.chance, requests, &below[0]))
    }

    /// Time goes by without a request.
    pub fn pass(&mut self, span: Duration) {
        self.now += SignedDuration::try_from(span).unwrap_or(SignedDuration::ZERO);
        self.seconds += span.as_secs_f64();
    }

    /// Requests and failures of one version with so many pods, which are only told apart where they
    /// differ.
    fn count(&mut self, side: usize, expected: f64, rate: f64, pods: f64) -> Count {
        match self.traffic.failures {
            Failures::PodBursts { .. } | Failures::StaticPods { .. } => {
                let mut sum = Count::default();
                for pod in 0..whole(pods) {
                    add(&mut sum, self.pod(side, pod, expected / pods, rate));
                }
                sum
            }
            _ => self.pod(side, 0, expected, rate),
        }
    }

    /// Requests and failures of one pod, or of as many as one.
    fn pod(&mut self, side: usize, pod: usize, expected: f64, rate: f64) -> Count {
        match self.traffic.failures {
            Failures::PodBursts { times, share } => {
                // The rate between bursts, so that the mean is `rate`.
                let calm = rate / (1.0 + share * (times - 1.0));
                let bursts = self.spell(side, pod, BURST, |chance| {
                    if chance.random_bool(share.clamp(0.0, 1.0)) { times } else { 1.0 }
                });
                self.independent(expected, calm * bursts)
            }
            Failures::StaticPods { spread } => {
                let factor = self.spell(side, pod, f64::INFINITY, |chance| {
                    // Of mean 1.
                    let sigma = spread.mul_add(spread, 1.0).ln().sqrt();
                    let factor = LogNormal::new(-sigma * sigma / 2.0, sigma);
                    factor.map_or(1.0, |d| d.sample(chance))
                });
                self.independent(expected, rate * factor)
            }
            Failures::Independent => self.independent(expected, rate),
            Failures::SharedOutages { rate: outage } => {
                let out = self.seconds % 300.0 >= 240.0;
                self.independent(expected, if out { outage.max(rate) } else { rate })
            }
            Failures::BetaBinomial { rho } => {
                let all = 1.0 / rho - 1.0;
                let rates = Beta::new((rate * all).max(1e-9), ((1.0 - rate) * all).max(1e-9));
                let rate =
                    self.spell(side, pod, SPELL, |chance| rates.map_or(rate, |d| d.sample(chance)));
                self.independent(expected, rate)
            }
            Failures::Clusters { size } => {
                let requests = poisson(&mut self.chance, expected);
                #[expect(clippy::cast_precision_loss, reason = "requests of a poll")]
                let clusters = poisson(&mut self.chance, requests as f64 * rate / size);
                let sizes = Geometric::new((1.0 / size).clamp(1e-9, 1.0));
                let mut failed: u64 = 0;
                for _ in 0..clusters {
                    let more = sizes.as_ref().map_or(0, |d| d.sample(&mut self.chance));
                    failed = failed.saturating_add(more).saturating_add(1);
                }
                Count { requests, failed: failed.min(requests), abandoned: 0 }
            }
        }
    }

    /// What a pod has drawn, drawn anew every so many seconds.
    fn spell(
        &mut self,
        side: usize,
        pod: usize,
        seconds: f64,
        draw: impl Fn(&mut StdRng) -> f64,
    ) -> f64 {
        let over = Spell { value: 0.0, until: f64::NEG_INFINITY };
        let pods = &mut self.pods[side];
        pods.resize(pods.len().max(pod + 1), over);
        let spell = &mut pods[pod];
        if self.seconds >= spell.until {
            let begun = (self.seconds / seconds).floor();
            *spell = Spell { value: draw(&mut self.chance), until: (begun + 1.0) * seconds };
        }
        spell.value
    }

    fn independent(&mut self, expected: f64, rate: f64) -> Count {
        let requests = poisson(&mut self.chance, expected);
        Count { requests, failed: binomial(&mut self.chance, requests, rate), abandoned: 0 }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few pods")]
fn whole(pods: f64) -> usize {
    pods as usize
}

fn add(sum: &mut Count, more: Count) {
    sum.requests += more.requests;
    sum.failed += more.failed;
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it saturates")]
fn poisson(chance: &mut StdRng, mean: f64) -> u64 {
    Poisson::new(mean).map_or(0, |d| d.sample(chance) as u64)
}

fn binomial(chance: &mut StdRng, n: u64, p: f64) -> u64 {
    Binomial::new(n, p.clamp(0.0, 1.0)).map_or(0, |d| d.sample(chance))
}

/// So many latencies by how many are at most each boundary; `below` are the shares.
fn histogram(chance: &mut StdRng, n: u64, below: &[f64]) -> Histogram {
    let (mut left, mut share, mut sum) = (n, 1.0, 0);
    let mut before = 0.0;
    let at_most = below.iter().map(|b| {
        if left > 0 && share > 1e-12 {
            let more = binomial(chance, left, (b - before) / share);
            (left, sum) = (left - more, sum + more);
        }
        (share, before) = (1.0 - b, *b);
        sum
    });
    let at_most = at_most.collect();
    Histogram { requests: n, at_most }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn total(traffic: &Traffic) -> [Count; 2] {
        let mut flow = traffic.flow(7);
        let mut sums = [Count::default(); 2];
        for _ in 0..2000 {
            let tick = flow.tick(0, 0.25, Duration::from_secs(10));
            add(&mut sums[0], tick.canary);
            add(&mut sums[1], tick.stable);
        }
        sums
    }

    #[test]
    #[expect(clippy::cast_precision_loss, reason = "small counts")]
    fn every_kind_of_failures_keeps_its_mean() {
        for failures in [
            Failures::Independent,
            Failures::Clusters { size: 5.0 },
            Failures::BetaBinomial { rho: 0.01 },
            Failures::PodBursts { times: 10.0, share: 0.05 },
        ] {
            let traffic = Traffic { canary: 0.02, failures, ..Traffic::alike(100.0, 0.01) };
            let [canary, stable] = total(&traffic);
            for (count, rate, share) in [(canary, 0.02, 0.25), (stable, 0.01, 0.75)] {
                let n = count.requests as f64;
                assert!((n / 2e6 - share).abs() < 0.01, "{failures:?}: {n}");
                assert!(
                    (count.failed as f64 / n / rate - 1.0).abs() < 0.1,
                    "{failures:?} {count:?}"
                );
            }
        }
    }

    #[test]
    fn a_pod_bursts_for_a_whole_minute_however_often_it_is_looked_at() {
        let failures = Failures::PodBursts { times: 1e3, share: 0.2 };
        let traffic = Traffic { failures, ..Traffic::alike(1e4, 0.01) };
        let mut flow = traffic.flow(5);
        let bursting = |pods: Vec<(Count, _)>| -> Vec<bool> {
            pods.iter().map(|(count, _)| count.failed * 50 > count.requests).collect()
        };
        let looks: Vec<Vec<bool>> =
            (0..60).map(|_| bursting(flow.pods(Duration::from_secs(5)))).collect();
        let minutes: Vec<_> = looks.chunks(12).collect();
        assert!(minutes.iter().all(|minute| minute.iter().all(|look| *look == minute[0])));
        assert!(minutes.iter().any(|minute| minute[0] != minutes[0][0]), "they come and go");
    }

    #[test]
    fn a_seed_gives_the_same_requests_again() {
        let latency = Some(Latency { median: 60.0, p99: 300.0 });
        let traffic = Traffic { latency, ..Traffic::alike(50.0, 0.01) };
        let ticks = |seed| {
            let mut flow = traffic.flow(seed);
            [0, 1].map(|step| flow.tick(step, 0.5, Duration::from_secs(10)))
        };
        assert_eq!(ticks(1), ticks(1));
        assert_ne!(ticks(1), ticks(2));
    }

    #[test]
    #[expect(clippy::cast_precision_loss, reason = "small counts")]
    fn latencies_have_their_percentiles() {
        let latency = Some(Latency { median: 100.0, p99: 500.0 });
        let traffic = Traffic { latency, slowdown: 2.0, ..Traffic::alike(1e5, 0.0) };
        let tick = traffic.flow(3).tick(0, 0.5, Duration::from_secs(10));
        let latencies = tick.latency.unwrap();
        let at = |ms: f64| latencies.boundaries.iter().position(|b| *b == ms).unwrap();
        let share = |h: &Histogram, ms| h.at_most[at(ms)] as f64 / h.requests as f64;
        assert!((share(&latencies.stable, 100.0) - 0.5).abs() < 0.01);
        assert!((share(&latencies.stable, 500.0) - 0.99).abs() < 0.001);
        assert!((share(&latencies.canary, 1000.0) - 0.99).abs() < 0.001);
        let last = latencies.stable.at_most.last().copied();
        assert_eq!(last, Some(latencies.stable.requests));
    }
}
