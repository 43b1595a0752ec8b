//! Traffic of two versions whose truth is known.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Beta, Binomial, Distribution, Geometric, LogNormal, Poisson};
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
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Failures {
    /// Each request fails by itself.
    Independent,
    /// Failures come in clusters of a geometric size with this mean, as with retries.
    Clusters {
        /// Mean size, at least 1.
        size: f64,
    },
    /// Each poll each version has a rate of its own, with this correlation between two of its
    /// requests in (0, 1).
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

/// How much of stable's past a release begins with.
const PAST: Duration = Duration::from_secs(600);

/// Traffic as it flows.
pub struct Flow<'a> {
    traffic: &'a Traffic,
    chance: StdRng,
    now: Timestamp,
    seconds: f64,
    /// A factor for each pod, the canary's and stable's.
    pods: [Vec<f64>; 2],
    /// Stable's latencies below each boundary, and the canary's.
    below: Option<[Vec<f64>; 2]>,
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
    pub fn flow(&self, seed: u64) -> Flow<'_> {
        let below = self.latency.and_then(|latency| {
            let stable = distribution(latency, 1.0)?;
            let canary = distribution(latency, self.slowdown)?;
            Some([stable, canary].map(|d| ISTIO_BOUNDARIES.iter().map(|b| d.cdf(*b)).collect()))
        });
        Flow {
            traffic: self,
            chance: StdRng::seed_from_u64(seed),
            now: Timestamp::UNIX_EPOCH,
            seconds: 0.0,
            pods: [Vec::new(), Vec::new()],
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

impl Flow<'_> {
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

    /// The requests of the next `span`, the canary getting `weight` in \[0, 1\] of them at a step.
    pub fn tick(&mut self, step: usize, weight: f64, span: Duration) -> Tick {
        let from = self.now;
        self.now += SignedDuration::try_from(span).unwrap_or(SignedDuration::ZERO);
        let seconds = span.as_secs_f64();
        let worse = step >= self.traffic.from;
        let rate = if worse { self.traffic.canary } else { self.traffic.stable };
        let requests = self.traffic.rps * seconds;
        let canary = self.count(0, requests * weight, rate, (PODS * weight).ceil().max(2.0));
        let stable = self.count(1, requests * (1.0 - weight), self.traffic.stable, PODS);
        let latency = self.below.take().map(|below| {
            let slow = usize::from(worse);
            let latencies = Latencies {
                boundaries: ISTIO_BOUNDARIES.to_vec(),
                canary: histogram(&mut self.chance, canary.requests, &below[slow]),
                stable: histogram(&mut self.chance, stable.requests, &below[0]),
            };
            self.below = Some(below);
            latencies
        });
        self.seconds += seconds;
        Tick { from, to: self.now, canary, stable, latency, reached: None, partial: None }
    }

    /// Requests and failures of one version with so many pods.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few pods")]
    fn count(&mut self, side: usize, expected: f64, rate: f64, pods: f64) -> Count {
        match self.traffic.failures {
            Failures::PodBursts { times, share } => {
                // The rate between bursts, so that the mean is `rate`.
                let calm = rate / (1.0 + share * (times - 1.0));
                let mut sum = Count::default();
                for _ in 0..pods as usize {
                    let bursts = self.chance.random_bool(share.clamp(0.0, 1.0));
                    let rate = if bursts { calm * times } else { calm };
                    add(&mut sum, self.independent(expected / pods, rate));
                }
                sum
            }
            Failures::StaticPods { spread } => {
                while self.pods[side].len() < pods as usize {
                    // Of mean 1.
                    let sigma = spread.mul_add(spread, 1.0).ln().sqrt();
                    let factor = LogNormal::new(-sigma * sigma / 2.0, sigma);
                    let factor = factor.map_or(1.0, |d| d.sample(&mut self.chance));
                    self.pods[side].push(factor);
                }
                let mut sum = Count::default();
                for pod in 0..pods as usize {
                    let factor = self.pods[side].get(pod).copied().unwrap_or(1.0);
                    add(&mut sum, self.independent(expected / pods, rate * factor));
                }
                sum
            }
            Failures::Independent => self.independent(expected, rate),
            Failures::SharedOutages { rate: outage } => {
                let out = self.seconds % 300.0 >= 240.0;
                self.independent(expected, if out { outage.max(rate) } else { rate })
            }
            Failures::BetaBinomial { rho } => {
                let all = 1.0 / rho - 1.0;
                let of_poll = Beta::new((rate * all).max(1e-9), ((1.0 - rate) * all).max(1e-9));
                let rate = of_poll.map_or(rate, |d| d.sample(&mut self.chance));
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
                Count { requests, failed: failed.min(requests) }
            }
        }
    }

    fn independent(&mut self, expected: f64, rate: f64) -> Count {
        let requests = poisson(&mut self.chance, expected);
        Count { requests, failed: binomial(&mut self.chance, requests, rate) }
    }
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
