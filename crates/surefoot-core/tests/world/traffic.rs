//! Requests by the route's weights, and what a Prometheus would say of them.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use surefoot_core::api::RolloutStatus;
use surefoot_core::metrics::wanted;
use surefoot_core::observed::is_pod_of;
use surefoot_core::plan::Plan;
use surefoot_core::route::{has_chosen, subset};
use surefoot_core::routing::Side;
use surefoot_core::samples::{BaselineSample, Count, Health, Samples, Tick};
use surefoot_core::template::HASH_LABEL;
use surefoot_core::write::Target;

use super::store::{Store, canary_weight, text};

/// Requests a second.
const RATE: u64 = 300;
/// One of so many fails in every version.
const USUAL: u64 = 500;

/// All requests so far, moment by moment.
#[derive(Default)]
pub struct Traffic {
    past: Vec<(Timestamp, Count, Count)>,
    /// Until when nobody asks anything.
    pub silent_until: i64,
    /// Until when metrics can't be had.
    pub outage_until: i64,
    /// Until when part of the counts is missing.
    pub partial_until: i64,
    /// Requests a second, where not [`RATE`].
    pub rate: Option<u64>,
    odd: u64,
}

/// How many of so many requests fail in a version.
fn failing(store: &Store, hash: &str) -> u64 {
    let sets = store.list("ReplicaSet");
    let set = sets.iter().find(|s| s["metadata"]["labels"][HASH_LABEL] == hash);
    let image = set.map_or("", |s| text(s, "/spec/template/spec/containers/0/image"));
    match image {
        _ if image.ends_with("harmful") => 4,
        // No crash, but far from stable.
        _ if image.ends_with("worse") => 25,
        _ => USUAL,
    }
}

impl Traffic {
    /// The requests of the last `seconds`.
    pub fn flow(&mut self, store: &Store, now: Timestamp, seconds: u64) {
        let routing = &store.names.routing;
        let weight = canary_weight(store);
        let all = if now.as_second() < self.silent_until {
            0
        } else {
            self.rate.unwrap_or(RATE) * seconds
        };
        // One in twenty is chosen where any are.
        let Target { kind, name } = routing.target();
        let route = store.get(kind.name(), &name);
        let chosen = if route.is_some_and(|r| has_chosen(&r, routing)) { all / 20 } else { 0 };
        let canary = chosen + (all - chosen) * u64::try_from(weight).unwrap_or(0) / 100;
        let count = |side: Side, requests: u64, odd: &mut u64| {
            let to = routing.destination(side);
            let Some(service) = store.get("Service", to.service) else {
                return Count { requests, failed: requests, abandoned: 0 };
            };
            let rule = routing.rule().and_then(|rule| store.get("DestinationRule", rule));
            let pin = match to.subset {
                None => service["spec"]["selector"][HASH_LABEL].as_str().map(str::to_owned),
                Some(subset) => rule
                    .and_then(|rule| subset::labels(&rule, subset))
                    .and_then(|labels| labels.get(HASH_LABEL).cloned()),
            };
            let slice = store.get("EndpointSlice", &format!("{}-slice", to.service));
            let ends = slice.as_ref().and_then(|s| s["endpoints"].as_array());
            let sets = store.list("ReplicaSet");
            let of_pin = |pod: &str| {
                let has =
                    |set: &Arc<Value>, hash: &str| set["metadata"]["labels"][HASH_LABEL] == hash;
                let mut sets = sets.iter().filter(|s| pin.as_ref().is_none_or(|pin| has(s, pin)));
                sets.any(|set| is_pod_of(pod, text(set, "/metadata/name")))
            };
            let up = |e: &Value| {
                e["conditions"]["ready"] == Value::Bool(true) && of_pin(text(e, "/targetRef/name"))
            };
            if !ends.is_some_and(|e| e.iter().any(up)) {
                return Count { requests, failed: requests, abandoned: 0 };
            }
            let one_of = pin.as_ref().map_or(USUAL, |hash| failing(store, hash));
            *odd += requests % one_of;
            let more = u64::from(*odd >= one_of);
            *odd -= more * one_of;
            let failed = (requests / one_of + more).min(requests);
            Count { requests, failed, abandoned: 0 }
        };
        let mut odd = self.odd;
        let canary = count(Side::Canary, canary, &mut odd);
        let stable = count(Side::Stable, all - canary.requests, &mut odd);
        self.odd = odd % USUAL;
        self.past.push((now, canary, stable));
    }

    fn between(&self, from: Timestamp, to: Timestamp) -> (Count, Count) {
        let mut sum = (Count::default(), Count::default());
        for (_, canary, stable) in self.past.iter().filter(|(at, ..)| *at > from && *at <= to) {
            for (sum, more) in [(&mut sum.0, canary), (&mut sum.1, stable)] {
                sum.requests += more.requests;
                sum.failed += more.failed;
            }
        }
        sum
    }

    /// How much of a time there was a world to be seen in.
    fn seen(&self, from: Timestamp, to: Timestamp) -> Duration {
        let first = self.past.first().map_or(to, |(at, ..)| *at);
        Duration::try_from(to.duration_since(from.max(first))).unwrap_or_default()
    }

    pub fn usable(&self, now: Timestamp) -> bool {
        now.as_second() >= self.outage_until
    }
}

/// The sampler of one controller: exact ticks from where the committed state ends.
#[derive(Default)]
pub struct Sampler {
    release: i64,
    task: Option<(Option<Timestamp>, bool)>,
    samples: Samples,
}

impl Sampler {
    pub fn of(&self, release: i64) -> Samples {
        if self.task.is_some() && self.release == release {
            self.samples.clone()
        } else {
            Samples::default()
        }
    }

    /// What is wanted from now on, by the committed status.
    pub fn set(&mut self, plan: Option<&Plan>, status: &RolloutStatus, namespace: &str) {
        let Some(wanted) = plan.and_then(|plan| wanted(plan, status, namespace)) else {
            *self = Self::default();
            return;
        };
        let number = status.release.as_ref().map_or(0, |r| r.number);
        if self.task.is_none() || self.release != number {
            *self = Self { release: number, ..Self::default() };
        }
        if let Some(folded) = wanted.ticks_from {
            self.samples.ticks.retain(|t| t.from >= folded);
        }
        self.task = Some((wanted.ticks_from, wanted.baseline));
    }

    /// One look.
    pub fn sample(&mut self, traffic: &Traffic, now: Timestamp) {
        let Some((from, baseline)) = self.task else { return };
        if !traffic.usable(now) {
            let since = match &self.samples.health {
                Health::Bad { since, .. } => *since,
                _ => now,
            };
            self.samples.health = Health::Bad { message: "no answer".to_owned(), since };
            return;
        }
        self.samples.health = Health::Good;
        if baseline && self.samples.baseline.is_none() {
            let past = now - jiff::SignedDuration::from_mins(10);
            let (_, requests) = traffic.between(past, now);
            self.samples.baseline = Some(BaselineSample {
                over: traffic.seen(past, now),
                requests,
                boundaries: Vec::new(),
                latency: surefoot_core::samples::Histogram::default(),
                pods: Err("only their sum is simulated".to_owned()),
            });
        }
        let Some(start) = from else { return };
        let from = self.samples.ticks.last().map_or(start, |t| t.to.max(start));
        if now <= from {
            return;
        }
        let (canary, stable) = traffic.between(from, now);
        let partial = (now.as_second() < traffic.partial_until)
            .then(|| "a target is gone, and its last counts with it".to_owned());
        self.samples.ticks.push(Tick {
            from,
            to: now,
            canary,
            stable,
            latency: None,
            reached: None,
            partial,
        });
    }
}
