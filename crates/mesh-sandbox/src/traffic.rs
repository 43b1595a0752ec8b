//! Requests on their way: from callers by weights to pods, and what proxies count of it.

use std::collections::BTreeMap;
use std::f64::consts::TAU;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand_distr::{Distribution, LogNormal};
use surefoot_core::api::rollout::Mesh as Kind;
use surefoot_core::metrics::boundaries;
use surefoot_core::samples::{Count, Histogram};
use surefoot_sim::traffic::{Flow, Traffic};

use crate::mesh::{Key, Played, millis};
use crate::proxy::Proxy;
use crate::speech::{Outcome, Said, at_caller, at_pod};
use crate::store::Millis;
use crate::world::{Destination, Load, Pairs, Pod, Route, Tallies, Tally};

/// Milliseconds of a day.
const DAY: f64 = 86_400_000.0;
/// When a day is busiest: 18:00 UTC.
const BUSIEST: f64 = 0.75;

/// Those that take part in a piece of traffic: the time before `now`, of this length.
pub struct Pods<'a> {
    pub pods: &'a mut BTreeMap<Key, Played>,
    pub caller: &'a mut Proxy,
    /// What callers got, by route, and by the Service and the version that answered.
    pub tallies: &'a mut BTreeMap<Key, Tallies>,
    pub hanging: Vec<Ending>,
    /// Whose mesh it is.
    pub kind: Kind,
    pub now: Millis,
    pub span: Duration,
}

/// Requests that nobody answers, and when their callers give up.
pub struct Ending {
    at: Millis,
    latencies: Histogram,
    /// The pod that they wait for, and what its proxy says of them then.
    pod: (Key, Said),
    /// What the callers' says, if they have one.
    caller: Option<Said>,
}

/// The requests that come to a route.
pub fn flow(route: &Route, load: &Load, seed: u64, pods: &mut Pods) {
    let expected = load.rps * shape(load, seed, pods.now) * pods.span.as_secs_f64();
    let unmeshed = expected * load.unmeshed.clamp(0.0, 1.0);
    if unmeshed > 0.0 {
        let ready = pods.ready(&route.namespace, &route.apex);
        for key in &ready {
            let count = pods.arriving(key, unmeshed / number(ready.len()));
            pods.answered(key, count, load, (route, None), false);
        }
    }
    let meshed = expected - unmeshed;
    let shares = shares(route, pods);
    if shares.is_empty() && meshed > 0.0 {
        let requests = pods.chance(seed, meshed);
        got(pods.tallies, route, ("", ""), requests, requests);
    }
    for (destination, share) in shares {
        if meshed * share > 0.0 {
            pods.meshed(route, destination, load, meshed * share, seed);
        }
    }
}

/// Where the requests of a route go, and what share of them; nowhere: their connections are dropped.
fn shares<'r>(route: &'r Route, pods: &Pods) -> Vec<(&'r Destination, f64)> {
    let all: Vec<&Destination> = route.destinations.iter().collect();
    let meant = match pods.kind {
        // The weight of a single destination is not looked at.
        Kind::Istio if all.len() == 1 => return all.into_iter().map(|to| (to, 1.0)).collect(),
        Kind::Istio => all,
        // What is meant for a destination without pods goes to the others, and nobody is told.
        Kind::Linkerd => {
            let some: Vec<&Destination> = all.into_iter().filter(|to| to.weight > 0).collect();
            let able = |to: &&Destination| !pods.ready(&route.namespace, &to.selector).is_empty();
            let able: Vec<&Destination> = some.iter().copied().filter(able).collect();
            if able.is_empty() { some } else { able }
        }
    };
    let sum: u32 = meant.iter().map(|to| to.weight).sum();
    let share = |to: &Destination| match sum {
        0 => 0.0,
        sum => f64::from(to.weight) / f64::from(sum),
    };
    meant.into_iter().map(|to| (to, share(to))).collect()
}

/// How many times the average there are at a moment.
#[expect(clippy::cast_precision_loss, reason = "milliseconds are exact in f64")]
fn shape(load: &Load, seed: u64, now: Millis) -> f64 {
    let day = 1.0 + load.day * (TAU * (now as f64 / DAY - BUSIEST)).cos();
    if load.noise <= 0.0 {
        return day;
    }
    // Of mean 1.
    let sigma = load.noise.mul_add(load.noise, 1.0).ln().sqrt();
    let minute = now.div_euclid(60_000).unsigned_abs();
    let mut chance = StdRng::seed_from_u64(seed ^ minute.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let factor = LogNormal::new(-sigma * sigma / 2.0, sigma).map_or(1.0, |d| d.sample(&mut chance));
    day.max(0.0) * factor
}

#[expect(clippy::cast_precision_loss, reason = "a few pods")]
fn number(pods: usize) -> f64 {
    pods as f64
}

impl Pods<'_> {
    /// The ready pods with these labels.
    fn ready(&self, namespace: &str, selector: &Pairs) -> Vec<Key> {
        let meant = |pod: &Pod| {
            pod.namespace == namespace
                && pod.ready_since.is_some_and(|since| millis(since) < self.now)
                && selector.iter().all(|(name, value)| pod.labels.get(name) == Some(value))
        };
        let ready = self.pods.iter().filter(|(_, played)| meant(&played.pod));
        ready.map(|(key, _)| key.clone()).collect()
    }

    /// How many requests there are that nobody draws: that is up to the moment.
    fn chance(&self, seed: u64, expected: f64) -> u64 {
        let seed = seed ^ self.now.unsigned_abs().wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Traffic::alike(1.0, 0.0).flow(seed).one(expected, self.span).requests
    }

    fn at_once(&self, requests: u64) -> Histogram {
        lasting(self.kind, requests, Duration::ZERO)
    }

    /// Requests of callers with a proxy, to one of a route's destinations.
    fn meshed(
        &mut self,
        route: &Route,
        destination: &Destination,
        load: &Load,
        expected: f64,
        seed: u64,
    ) {
        let ready = self.ready(&route.namespace, &destination.selector);
        if ready.is_empty() {
            // Nobody is there to answer.
            let requests = self.chance(seed, expected);
            let said = at_caller(self.kind, route, destination, None, Outcome::Nobody);
            self.caller.count(&said, &self.at_once(requests));
            got(self.tallies, route, (&destination.service, ""), requests, requests);
            return;
        }
        let to = (route, Some(destination));
        let each = expected / number(ready.len());
        let mut round: Vec<(Key, Count)> =
            ready.iter().map(|key| (key.clone(), self.arriving(key, each))).collect();
        for left in (0..=load.retries).rev() {
            for (key, count) in &round {
                self.answered(key, *count, load, to, left > 0);
            }
            let failed: u64 = round.iter().map(|(_, count)| count.failed).sum();
            round = self.again(&ready, failed);
        }
    }

    /// Requests that are tried again: the pods take turns.
    fn again(&mut self, ready: &[Key], requests: u64) -> Vec<(Key, Count)> {
        let (pods, turn) = (ready.len() as u64, self.now.unsigned_abs());
        let mut round = Vec::new();
        for (i, key) in (0..).zip(ready) {
            let own = (requests + (i + turn) % pods) / pods;
            let Some(played) = self.pods.get_mut(key).filter(|_| own > 0) else { continue };
            let failing = played.behaviour.failing;
            let failed = played.flow(self.now).some(own, failing);
            round.push((key.clone(), Count { requests: own, failed, abandoned: 0 }));
        }
        round
    }

    /// New requests to one pod, and how many of them fail.
    fn arriving(&mut self, key: &Key, expected: f64) -> Count {
        let played = self.pods.get_mut(key);
        played.map_or_else(Count::default, |p| p.flow(self.now).one(expected, self.span))
    }

    /// Requests that a pod answers, or never does: counted by its proxy, and by the callers' if they
    /// have one and it does not try again.
    fn answered(
        &mut self,
        key: &Key,
        count: Count,
        load: &Load,
        (route, to): (&Route, Option<&Destination>),
        again: bool,
    ) {
        let Some(played) = self.pods.get_mut(key) else { return };
        let hanging = played.behaviour.hanging;
        let mut good = count.requests - count.failed;
        let hung = played.flow(self.now).some(good, hanging);
        good -= hung;
        let kind = self.kind;
        for (n, outcome) in [(good, Outcome::Good), (count.failed, Outcome::Failed)] {
            if n == 0 {
                continue;
            }
            let drawn = played.flow(self.now).latencies(n);
            let latencies = drawn.unwrap_or_else(|| lasting(kind, n, Duration::ZERO));
            let said = played.reported(kind, route.grpc, outcome);
            played.proxy.count(&said, &latencies);
            // Linkerd's proxies count each try of a backend, Istio's the last one.
            if let Some(destination) = to
                && (!again || outcome == Outcome::Good || kind == Kind::Linkerd)
            {
                let said = played.told(kind, route, destination, outcome);
                self.caller.count(&said, &latencies);
            }
        }
        let failed = hung + if again { 0 } else { count.failed };
        let service = to.map_or("", |destination| destination.service.as_str());
        got(self.tallies, route, (service, &played.pod.version), good + failed, failed);
        if hung > 0 {
            let after = Millis::try_from(load.timeout.as_millis()).unwrap_or(Millis::MAX / 2);
            self.hanging.push(Ending {
                at: self.now.saturating_add(after),
                latencies: lasting(kind, hung, load.timeout),
                pod: (key.clone(), played.reported(kind, route.grpc, Outcome::Left)),
                caller: to.map(|to| played.told(kind, route, to, Outcome::TimedOut)),
            });
        }
    }

    /// Callers give up on what has been hanging for too long.
    pub fn give_up(&mut self) {
        let now = self.now;
        for ending in self.hanging.extract_if(.., |ending| ending.at <= now) {
            let (key, labels) = &ending.pod;
            if let Some(played) = self.pods.get_mut(key) {
                played.proxy.count(labels, &ending.latencies);
            }
            if let Some(labels) = &ending.caller {
                self.caller.count(labels, &ending.latencies);
            }
        }
    }
}

/// Note what callers got from a version of a Service.
fn got(
    tallies: &mut BTreeMap<Key, Tallies>,
    route: &Route,
    by: (&str, &str),
    requests: u64,
    failed: u64,
) {
    let key = (route.namespace.clone(), route.name.clone());
    let by = (by.0.to_owned(), by.1.to_owned());
    *tallies.entry(key).or_default().entry(by).or_default() += Tally { requests, failed };
}

impl Played {
    /// How it answers at a moment.
    fn flow(&mut self, now: Millis) -> &mut Flow {
        let ready = self.pod.ready_since.map_or(0, millis);
        let cold = Millis::try_from(self.behaviour.cold.as_millis()).unwrap_or(Millis::MAX / 2);
        if now > ready.saturating_add(cold) { &mut self.warm } else { &mut self.cold }
    }

    /// What its proxy says of requests.
    fn reported(&mut self, kind: Kind, grpc: bool, outcome: Outcome) -> Said {
        self.said("", grpc, outcome, |pod| at_pod(kind, grpc, pod, outcome))
    }

    /// What the callers' proxy says of requests to it.
    fn told(&mut self, kind: Kind, route: &Route, to: &Destination, outcome: Outcome) -> Said {
        let new = |pod: &Pod| at_caller(kind, route, to, Some(pod), outcome);
        self.said(&to.service, route.grpc, outcome, new)
    }

    /// What is said of requests, made up once for each outcome and Service.
    fn said(
        &mut self,
        to: &str,
        grpc: bool,
        outcome: Outcome,
        new: impl FnOnce(&Pod) -> Said,
    ) -> Said {
        let same =
            |known: &&Known| (known.to.as_str(), known.grpc, known.outcome) == (to, grpc, outcome);
        if let Some(known) = self.known.iter().find(same) {
            return known.said.clone();
        }
        let said = new(&self.pod);
        self.known.push(Known { to: to.to_owned(), grpc, outcome, said: said.clone() });
        said
    }
}

/// What has been said before of requests with this outcome.
pub struct Known {
    /// The Service by which the callers' proxy knows the pod; empty for what the pod's own says.
    to: String,
    grpc: bool,
    outcome: Outcome,
    said: Said,
}

/// So many latencies of one length.
fn lasting(kind: Kind, requests: u64, time: Duration) -> Histogram {
    let time = time.as_secs_f64() * 1000.0;
    let within = |boundary: &f64| if *boundary >= time { requests } else { 0 };
    Histogram { requests, at_most: boundaries(kind).iter().map(within).collect() }
}
