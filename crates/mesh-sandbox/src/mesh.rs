//! A mesh: traffic by the weights of routes to ready pods, counted by proxies, scraped.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use jiff::Timestamp;
use surefoot_core::metrics::boundaries;
use surefoot_sim::traffic::{Flow, Traffic};

use crate::api::{self, Answer};
use crate::labels::Labels;
use crate::proxy::Proxy;
use crate::store::{Millis, Store};
use crate::traffic::{self, Ending, Known, Pods};
use crate::world::{Behaviour, Load, Pod, Route, Settings, Tallies, World};

/// A namespace and a pod's name.
pub type Key = (String, String);

/// A mesh and the Prometheus that scrapes it. Time comes from outside; the same seed and the same
/// worlds give the same samples.
pub struct Mesh {
    seed: u64,
    settings: Settings,
    store: Store,
    /// The moment up to which everything has happened, once there is one.
    now: Option<Millis>,
    /// The callers' proxy.
    caller: Proxy,
    pods: BTreeMap<Key, Played>,
    /// Where requests go, and from when on they will go elsewhere.
    routes: Vec<Route>,
    coming: Vec<(Millis, Vec<Route>)>,
    /// Requests that nobody answers, until their callers give up.
    hanging: Vec<Ending>,
    tallies: BTreeMap<Key, Tallies>,
}

/// A pod, its proxy and how it answers.
pub struct Played {
    /// The pod as the world has it.
    pub pod: Pod,
    /// Its proxy.
    pub proxy: Proxy,
    /// How it behaves.
    pub behaviour: Behaviour,
    /// Its answers once it is warm.
    pub warm: Flow,
    /// Its answers while it is cold.
    pub cold: Flow,
    /// What has been said of its requests.
    pub known: Vec<Known>,
}

/// Milliseconds since the epoch.
pub fn millis(at: Timestamp) -> Millis {
    at.as_millisecond()
}

fn span(duration: Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX)
}

/// A number that the seed gives to a name (FNV-1a).
pub fn number(seed: u64, name: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    name.bytes().fold(seed ^ 0xcbf2_9ce4_8422_2325, step)
}

/// How a pod answers while it is warm, and while it is cold.
fn flows(
    seed: u64,
    pod: &Pod,
    behaviour: &Behaviour,
    boundaries: &'static [f64],
    now: Millis,
) -> [Flow; 2] {
    let traffic = |times: f64| {
        let mut latency = behaviour.latency;
        (latency.median, latency.p99) = (latency.median * times, latency.p99 * times);
        Traffic {
            latency: Some(latency),
            failures: behaviour.failures,
            ..Traffic::alike(1.0, behaviour.failing)
        }
    };
    let seed = number(seed, &format!("{}/{}", pod.namespace, pod.name));
    let flow = |times: f64, seed: u64| traffic(times).flow_within(seed, boundaries);
    let mut flows = [flow(1.0, seed), flow(behaviour.slower, seed.wrapping_add(1))];
    // Outages that all share come by the clock.
    for flow in &mut flows {
        flow.pass(Duration::from_millis(now.unsigned_abs()));
    }
    flows
}

impl Mesh {
    /// A mesh of which nothing is known yet.
    #[must_use]
    pub fn new(seed: u64, settings: Settings) -> Self {
        let target = [("job", "envoy"), ("instance", "127.0.0.1:15000")];
        let store = Store::new(span(settings.retention), settings.most_series);
        let boundaries = boundaries(settings.kind);
        Self {
            seed,
            settings,
            store,
            now: None,
            caller: Proxy::new(target.into_iter().collect(), 0, boundaries),
            pods: BTreeMap::new(),
            routes: Vec::new(),
            coming: Vec::new(),
            hanging: Vec::new(),
            tallies: BTreeMap::new(),
        }
    }

    /// From now on the pods of a version, those that run and those to come, behave like this.
    pub fn behave(&mut self, version: &str, behaviour: Behaviour) {
        self.settings.versions.insert(version.to_owned(), behaviour.clone());
        let (seed, now) = (self.seed, self.now.unwrap_or_default());
        let boundaries = boundaries(self.settings.kind);
        for played in self.pods.values_mut().filter(|played| played.pod.version == version) {
            let [warm, cold] = flows(seed, &played.pod, &behaviour, boundaries, now);
            (played.warm, played.cold) = (warm, cold);
            played.behaviour = behaviour.clone();
        }
    }

    /// From now on the traffic of a route is like this.
    pub fn carry(&mut self, namespace: &str, route: &str, load: Load) {
        self.settings.loads.insert(format!("{namespace}/{route}"), load);
    }

    /// What callers of a route have got since the beginning.
    #[must_use]
    pub fn tallies(&self, namespace: &str, route: &str) -> Tallies {
        let key = (namespace.to_owned(), route.to_owned());
        self.tallies.get(&key).cloned().unwrap_or_default()
    }

    /// How long a piece of traffic is.
    fn beat(&self) -> Millis {
        (span(self.settings.scrape_interval) / 10).max(1)
    }

    /// Let everything happen up to an instant, the world being like this since the last one. The
    /// first call says when it begins. What lies between two tenths of a scrape interval happens
    /// later.
    pub fn advance(&mut self, until: Timestamp, world: &World) {
        let (beat, until) = (self.beat(), millis(until));
        let last = until.div_euclid(beat) * beat;
        let Some(mut now) = self.now else {
            self.now = Some(last);
            self.caller.restarted(last);
            self.routes.clone_from(&world.routes);
            self.know(world, last);
            return;
        };
        let newest = self.coming.last().map_or(&self.routes, |(_, routes)| routes);
        if *newest != world.routes {
            let from = now.saturating_add(span(self.settings.propagation));
            self.coming.push((from, world.routes.clone()));
        }
        self.know(world, now);
        while now + beat <= until {
            now += beat;
            let due = self.coming.partition_point(|(from, _)| *from < now);
            if let Some((_, routes)) = self.coming.drain(..due).next_back() {
                self.routes = routes;
            }
            self.flow(now);
            self.scrape(now);
        }
        self.now = Some(now);
    }

    /// Pods come, change and go.
    fn know(&mut self, world: &World, now: Millis) {
        let keys: HashMap<Key, &Pod> =
            world.pods.iter().map(|pod| ((pod.namespace.clone(), pod.name.clone()), pod)).collect();
        let gone = self.pods.extract_if(.., |key, _| !keys.contains_key(key));
        for (_, played) in gone {
            played.proxy.gone(&mut self.store, now + 1);
        }
        for pod in &world.pods {
            let key = (pod.namespace.clone(), pod.name.clone());
            match self.pods.get_mut(&key) {
                Some(played) => {
                    played.proxy.restarted(millis(pod.started));
                    if played.pod != *pod {
                        played.pod = pod.clone();
                        played.known.clear();
                    }
                }
                None => {
                    let played = self.played(pod, now);
                    self.pods.insert(key, played);
                }
            }
        }
    }

    fn played(&self, pod: &Pod, now: Millis) -> Played {
        let instance = format!("{}:15020", pod.ip);
        let target = [
            ("job", "sidecars"),
            ("instance", &instance),
            ("namespace", &pod.namespace),
            ("pod", &pod.name),
        ];
        let behaviour = self.settings.versions.get(&pod.version);
        let behaviour = behaviour.unwrap_or(&self.settings.behaviour).clone();
        let boundaries = boundaries(self.settings.kind);
        let [warm, cold] = flows(self.seed, pod, &behaviour, boundaries, now);
        let target = target.into_iter().collect::<Labels>();
        let proxy = Proxy::new(target, millis(pod.started), boundaries);
        Played { pod: pod.clone(), proxy, behaviour, warm, cold, known: Vec::new() }
    }

    /// The requests of the time just before `now`.
    fn flow(&mut self, now: Millis) {
        let beat = self.beat();
        let span = Duration::from_millis(beat.unsigned_abs());
        let hanging = std::mem::take(&mut self.hanging);
        let mut pods = Pods {
            pods: &mut self.pods,
            caller: &mut self.caller,
            tallies: &mut self.tallies,
            hanging,
            kind: self.settings.kind,
            now,
            span,
        };
        pods.give_up();
        for route in &self.routes {
            let name = format!("{}/{}", route.namespace, route.name);
            let load = self.settings.loads.get(&name).unwrap_or(&self.settings.load);
            let seed = number(self.seed, &name);
            traffic::flow(route, load, seed, &mut pods);
        }
        self.hanging = pods.hanging;
    }

    /// Each target is scraped at its own tenth of the interval.
    fn scrape(&mut self, now: Millis) {
        let (seed, beat) = (self.seed, self.beat());
        let tenth = now.div_euclid(beat).rem_euclid(10).unsigned_abs();
        let due = |name: &str| number(seed, name) % 10 == tenth;
        if due("caller") {
            self.caller.scraped(&mut self.store, now, true);
            self.store.forget(now);
        }
        for ((namespace, name), played) in &mut self.pods {
            if due(&format!("{namespace}/{name}")) {
                played.proxy.scraped(&mut self.store, now, true);
            }
        }
    }

    /// What Prometheus answers at the moment up to which everything has happened.
    #[must_use]
    pub fn answer(&self, path: &str, params: &[(&str, &str)]) -> Answer {
        api::answer(&self.store, self.now.unwrap_or_default(), path, params)
    }

    /// The series that Prometheus has.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The page of a pod's proxy, or with `None` that of the callers' one, in the text format.
    #[must_use]
    pub fn page(&self, pod: Option<(&str, &str)>) -> Option<String> {
        let Some((namespace, name)) = pod else { return Some(self.caller.page()) };
        let key = (namespace.to_owned(), name.to_owned());
        self.pods.get(&key).map(|played| played.proxy.page())
    }
}
