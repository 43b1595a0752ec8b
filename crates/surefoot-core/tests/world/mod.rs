//! A world small enough to be searched: an API server, the native controllers, traffic with its
//! metrics, and the controller under test, with faults between any two of its calls. No clock, no
//! network, no threads: the same script always tells the same story.

pub mod cluster;
pub mod controller;
mod inconclusive;
mod sayings;
pub mod script;
pub mod store;
pub mod story;
mod timelines;
pub mod traffic;
pub mod view;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use surefoot_core::api::status::{Phase, WaitingKind};
use surefoot_core::api::{ActionKind, RolloutStatus};
use surefoot_core::observed::{BreakGlass, HoldMode, is_pod_of};
use surefoot_core::route::{self, subset};
use surefoot_core::routing::{Routing, Side};
use surefoot_core::template::HASH_LABEL;
use surefoot_core::trace::{Names, State};

use self::cluster::Cluster;
use self::controller::{Controller, Mutant, Progress};
use self::script::{Event, Op, Setup, Way};
use self::store::{Moment, NAMESPACE, Store, canary_weight, number, places, text};
use self::traffic::Traffic;

/// Seconds between two looks.
const TICK: u64 = 5;
/// More calls than any one look takes.
const MANY: usize = 200;

/// What may be deployed: version, and how it behaves by the end of its image's name.
pub const IMAGES: [&str; 6] =
    ["shop:v0", "shop:v1", "shop:v2", "shop:v3-harmful", "shop:v4-never-ready", "shop:v5-worse"];

pub struct World {
    pub store: Store,
    pub now: Timestamp,
    pub traffic: Traffic,
    /// Why releases were rolled back, in order.
    pub rollbacks: Vec<String>,
    /// The policy acts, as far as dry runs have shown.
    pub policy_acts: bool,
    /// A step was held because of a lowered weight.
    pub held_low: bool,
    /// A weight was put right as somebody else's.
    pub contested: bool,
    setup: Setup,
    mutant: Mutant,
    cluster: Cluster,
    history: Vec<Moment>,
    leader: Controller,
    /// One that has lost the lead and hasn't noticed, and for how many looks it is frozen, then
    /// alive.
    former: Option<(Controller, u8, u8)>,
    processes: u32,
    lag_left: u8,
    usable: bool,
    commands: u32,
    /// A writer that keeps the canary's weight at a value, and until when.
    rival: (i64, u8),
}

fn template(image: &str) -> Value {
    json!({"metadata": {"labels": {"app": "shop"}}, "spec": {"containers": [{"name": "shop", "image": image}]}})
}

impl World {
    pub fn new(setup: &Setup, mutant: Mutant) -> Self {
        let name = |n: &str| n.to_owned();
        let names = Names {
            rollout: name("shop"),
            deployment: name("shop"),
            routing: Routing::of(
                &serde_json::from_value(setup.spec()["traffic"].clone()).expect("a spec"),
            ),
            namespace: name(NAMESPACE),
        };
        let (by_stable, by_canary) = match setup.way {
            Way::Subsets => {
                (json!({"host": "shop", "subset": "old"}), json!({"host": "shop", "subset": "new"}))
            }
            Way::Services | Way::Alone | Way::Gateway => {
                (json!({"host": "shop-stable"}), json!({"host": "shop-canary"}))
            }
        };
        let to = |service: &str, weight: u8| json!({"name": service, "port": 80, "weight": weight});
        let route = match setup.way {
            Way::Gateway => json!({
                "parentRefs": [{"group": "", "kind": "Service", "name": "shop"}],
                "rules": [{
                    "name": "all",
                    "timeouts": {"request": "1s"},
                    "backendRefs": [to("shop-stable", 100), to("shop-canary", 0)],
                }],
            }),
            _ => json!({"hosts": ["shop"], "http": [{"timeout": "1s", "route": [
                {"destination": by_stable, "weight": 100},
                {"destination": by_canary, "weight": 0},
            ]}]}),
        };
        let mut store = Store::new(names, setup.policy);
        let selector = json!({"app": "shop"});
        for object in [
            json!({"kind": "Deployment", "metadata": {"name": "shop"}, "spec": {
                "replicas": setup.replicas, "selector": {"matchLabels": selector},
                "template": template(IMAGES[0]),
            }}),
            json!({"kind": "Service", "metadata": {"name": "shop"}, "spec": {
                "selector": selector, "ports": [{"port": 80}],
            }}),
            json!({"kind": setup.way.route(), "metadata": {"name": "shop"}, "spec": route}),
            json!({"kind": "Rollout", "apiVersion": "surefoot.dev/v1alpha1", "metadata": {"name": "shop"}, "spec": setup.spec()}),
        ] {
            store.create(object).expect("the store is empty");
        }
        if setup.way == Way::Subsets {
            let subset = |name: &str| json!({"name": name, "labels": selector});
            let rule = json!({"kind": "DestinationRule", "metadata": {"name": "shop"}, "spec": {
                "host": "shop", "subsets": [subset("old"), subset("new")],
            }});
            store.create(rule).expect("there is none yet");
        }
        let mut world = Self {
            store,
            now: "2030-01-01T00:00:00Z".parse().expect("a date"),
            traffic: Traffic::default(),
            rollbacks: Vec::new(),
            policy_acts: true,
            held_low: false,
            contested: false,
            rival: (0, 0),
            setup: setup.clone(),
            mutant,
            cluster: Cluster::default(),
            history: Vec::new(),
            leader: Controller::start("process-0", &[], mutant),
            former: None,
            processes: 0,
            lag_left: 0,
            usable: true,
            commands: 0,
        };
        // The Deployment is there before the Rollout is looked at.
        for _ in 0..3 {
            world.pass_time(TICK);
        }
        world.leader = world.process();
        world
    }

    pub fn status(&self) -> Option<RolloutStatus> {
        let rollout = self.store.get("Rollout", "shop")?;
        Some(rollout.get("status").map_or_else(RolloutStatus::default, |status| {
            serde_json::from_value(status.clone()).expect("the status is ours")
        }))
    }

    pub fn weight(&self) -> i64 {
        canary_weight(&self.store)
    }

    /// Edit the entries of a route that has one for chosen requests, which is the first.
    fn choose(&mut self, edit: impl FnOnce(&mut Vec<Value>)) {
        let list = route::list(self.store.names.routing.kind);
        if self.chooses() {
            self.store.edit(self.setup.way.route(), "shop", |route| {
                edit(route["spec"][list].as_array_mut().expect("a list"));
            });
        }
    }

    /// Requests are chosen for the canary.
    pub fn chooses(&self) -> bool {
        let route = self.store.get(self.setup.way.route(), "shop");
        route.is_some_and(|route| route::has_chosen(&route, &self.store.names.routing))
    }

    /// Nothing goes to the canary.
    fn is_off(&self) -> bool {
        self.weight() == 0 && !self.chooses()
    }

    /// A process that has just begun to lead.
    fn process(&mut self) -> Controller {
        self.processes += 1;
        let holder = format!("process-{}", self.processes);
        Controller::start(&holder, &self.history, self.mutant)
    }

    fn hold(&self) -> HoldMode {
        if self.setup.policy {
            HoldMode::Policy { ready: self.policy_acts }
        } else {
            HoldMode::PausedAtRest
        }
    }

    fn keep(&mut self) {
        self.history.push(self.store.moment());
    }

    /// Traffic flows and the native controllers do their work.
    fn pass_time(&mut self, seconds: u64) {
        let span = i64::try_from(seconds).expect("short");
        self.now += SignedDuration::from_secs(span);
        self.store.clock += span;
        self.traffic.flow(&self.store, self.now, seconds);
        self.cluster.tick(&mut self.store, self.now.as_second());
        self.keep();
    }

    /// Let the leader make so many calls, or all it wants; whether it wrote.
    fn lead(&mut self, calls: usize) -> bool {
        let mut wrote = false;
        for _ in 0..calls {
            let hold = self.hold();
            let progress = self.leader.call(&mut self.store, &self.history, hold, self.now);
            wrote |= progress == Progress::Wrote;
            match progress {
                Progress::Idle => return wrote,
                Progress::Wrote => self.look_back(),
                // A conflict is looked at again after a pause.
                Progress::Failed => return wrote,
                Progress::Read => {}
            }
            self.interfere();
        }
        wrote
    }

    /// The former leader makes a call of its own between two of the leader's.
    fn interfere(&mut self) {
        let hold = self.hold();
        if self.now.as_second() < self.rival.0 {
            self.raise(self.rival.1);
        }
        if let Some((former, 0, _)) = &mut self.former
            && former.call(&mut self.store, &self.history, hold, self.now) == Progress::Wrote
        {
            self.look_back();
        }
    }

    fn raise(&mut self, weight: u8) {
        // Without a Rollout the route is nobody's but its user's.
        if self.status().is_some() && self.weight() < i64::from(weight) {
            self.weigh(weight);
            self.keep();
        }
    }

    fn weigh(&mut self, weight: u8) {
        let kind = self.setup.way.route();
        self.store.edit(kind, "shop", |route| {
            for (place, weight) in places(route).iter().zip([100 - weight, weight]) {
                *route.pointer_mut(place).expect("it is the route's") = json!(weight);
            }
        });
    }

    fn look_back(&mut self) {
        self.keep();
        let Some(rollout) = self.store.get("Rollout", "shop") else { return };
        self.contested |= !rollout["status"]["contest"].is_null();
        self.held_low |= text(&rollout, "/status/step/hold/reason") == "WeightLowered";
        let decision = &rollout["status"]["decision"];
        let why = text(decision, "/reason");
        if text(decision, "/verdict") == "Rollback"
            && self.rollbacks.last().is_none_or(|last| last != why)
        {
            self.rollbacks.push(why.to_owned());
        }
    }

    /// Whether metrics can be had, told to the checker once no reconcile is under way that began
    /// when they still could.
    fn tell_metrics(&mut self) {
        let usable = self.traffic.usable(self.now);
        let busy = self.leader.busy() || self.former.as_ref().is_some_and(|(f, ..)| f.busy());
        if usable != self.usable && (usable || !busy) {
            self.usable = usable;
            self.store.note(State::Metrics { usable });
        }
    }

    /// One look of everybody; `first` calls of the leader, then `op`, then the rest.
    fn look(&mut self, seconds: u64, between: Option<(usize, &Op)>) -> bool {
        self.pass_time(seconds);
        self.leader.sample(&self.traffic, self.now);
        self.tell_metrics();
        let mut wrote = false;
        if let Some((calls, op)) = between {
            wrote |= self.lead(calls);
            self.apply(op);
        }
        wrote |= self.lead(MANY);
        self.look_of_former();
        if self.lag_left > 0 {
            self.lag_left -= 1;
            if self.lag_left == 0 {
                self.leader.lag(view::Lags::default());
            }
        }
        wrote
    }

    fn look_of_former(&mut self) {
        let Some((mut former, frozen, alive)) = self.former.take() else { return };
        if frozen > 0 {
            self.former = Some((former, frozen - 1, alive));
            return;
        }
        former.sample(&self.traffic, self.now);
        let hold = self.hold();
        for _ in 0..MANY {
            match former.call(&mut self.store, &self.history, hold, self.now) {
                Progress::Idle | Progress::Failed => break,
                Progress::Wrote => self.look_back(),
                Progress::Read => {}
            }
        }
        if alive > 1 {
            self.former = Some((former, 0, alive - 1));
        }
    }

    /// Play a script.
    pub fn play(&mut self, events: &[Event]) {
        for event in events {
            for _ in 0..event.after {
                self.look(TICK, None);
            }
            self.look(TICK, Some((event.calls.into(), &event.op)));
        }
    }

    pub fn wait(&mut self, looks: usize) {
        for _ in 0..looks {
            self.look(TICK, None);
        }
    }

    /// Go on by steps until it is as wanted, which it is long before the last of them.
    pub fn until(&mut self, step: impl Fn(&mut Self), wanted: impl Fn(&Self) -> bool) {
        for _ in 0..1000 {
            if wanted(self) {
                return;
            }
            step(self);
        }
        panic!("it never came to that:\n{}", story::tell(&self.store));
    }

    /// One call of the leader; time passes where it has none to make.
    pub fn creep(&mut self) {
        self.lead(1);
        if !self.leader.busy() {
            self.pass_time(TICK);
            self.leader.sample(&self.traffic, self.now);
        }
    }

    pub fn apply(&mut self, op: &Op) {
        let second = self.now.as_second();
        let until = |looks: &u8| second + i64::from(*looks) * 5;
        match op {
            Op::Template(i) => {
                let template = template(IMAGES[usize::from(*i) % IMAGES.len()]);
                self.store.edit("Deployment", "shop", |d| d["spec"]["template"] = template);
            }
            Op::Scale(n) => {
                self.store.edit("Deployment", "shop", |d| d["spec"]["replicas"] = json!(n));
            }
            Op::Command { kind, release, step } => self.command(*kind, *release, *step),
            Op::BreakGlass { release } => self.break_glass(*release),
            Op::Pause(paused) => {
                self.store.edit("Rollout", "shop", |r| r["spec"]["paused"] = json!(paused));
            }
            Op::Edit(weight) => self.store.edit("Rollout", "shop", |r| {
                r["spec"]["steps"] = json!([{"weight": weight}, {"weight": 100}]);
            }),
            Op::Crash => {
                let next = self.process();
                self.leader = next;
            }
            Op::LoseReply => self.leader.lose(),
            Op::HandOver { frozen, alive } => {
                let next = self.process();
                let former = std::mem::replace(&mut self.leader, next);
                self.former = Some((former, *frozen, *alive));
            }
            Op::Lag(lags, looks) => {
                self.leader.lag(*lags);
                self.lag_left = *looks;
            }
            Op::Outage(looks) => self.traffic.outage_until = until(looks),
            Op::Partial(looks) => self.traffic.partial_until = until(looks),
            Op::Evict(looks) => {
                let span = SignedDuration::from_secs(i64::from(*looks) * 5);
                self.leader.cache.disrupted_until = Some(self.now + span);
            }
            Op::Silence(looks) => self.traffic.silent_until = until(looks),
            Op::Vanish { canary, looks } => self.vanish(*canary, until(looks)),
            Op::Lower(weight) => {
                // People look first whether stable is there to take the traffic.
                let serves = self.serves(Side::Stable);
                if serves && i64::from(*weight) < self.weight() {
                    self.weigh(*weight);
                }
            }
            Op::Raise(weight, looks) => {
                self.rival = (until(looks), *weight);
                self.raise(*weight);
            }
            // Once we have written 0 the trace can't tell such a write from ours, and ours is made only where
            // stable is there to take the traffic.
            Op::Reset { .. } if !self.serves(Side::Stable) => {}
            Op::Reset { whole } => {
                self.weigh(0);
                if *whole {
                    let reset = |route: &mut Value| {
                        route["metadata"].as_object_mut().map(|m| m.remove("annotations"));
                    };
                    self.store.edit(self.setup.way.route(), "shop", reset);
                }
            }
            Op::Unchoose => {
                // People look first whether stable is there to take the traffic.
                if self.serves(Side::Stable) {
                    self.choose(|entries| drop(entries.remove(0)));
                }
            }
            Op::Widen => self.choose(|entries| {
                let entry = entries[0].as_object_mut().expect("an entry");
                entry.remove("match");
                entry.remove("matches");
            }),
            Op::Delete => self.store.remove("Rollout", "shop"),
        }
        self.keep();
    }

    /// A version's pods lose their readiness. Whoever watches is told before anything else happens:
    /// against endpoints that go while a request is on its way there is no guard.
    fn vanish(&mut self, canary: bool, until: i64) {
        let side = if canary { Side::Canary } else { Side::Stable };
        let Some(pin) = self.pin(side) else { return };
        self.cluster.broken.insert(pin, until);
        self.cluster.tick(&mut self.store, self.now.as_second());
        self.leader.lag(view::Lags::default());
        self.leader.lose();
        self.former = None;
    }

    /// What a version's Service or subset is pinned to.
    fn pin(&self, side: Side) -> Option<String> {
        let routing = &self.store.names.routing;
        let to = routing.destination(side);
        if let Some(subset) = to.subset {
            let rule = self.store.get("DestinationRule", routing.rule()?)?;
            return subset::labels(&rule, subset)?.get(HASH_LABEL).cloned();
        }
        let service = self.store.get("Service", to.service)?;
        service["spec"]["selector"][HASH_LABEL].as_str().map(str::to_owned)
    }

    /// Whether a version has a ready pod to take traffic.
    fn serves(&self, side: Side) -> bool {
        let pin = self.pin(side);
        let sets = self.store.list("ReplicaSet");
        let sets = sets.iter().filter(|set| {
            pin.as_ref().is_none_or(|pin| set["metadata"]["labels"][HASH_LABEL] == json!(pin))
        });
        let names: Vec<_> = sets.map(|set| text(set, "/metadata/name").to_owned()).collect();
        let service = self.store.names.routing.destination(side).service;
        let slice = self.store.get("EndpointSlice", &format!("{service}-slice"));
        let ends = slice.as_ref().and_then(|s| s["endpoints"].as_array());
        ends.into_iter().flatten().any(|end| {
            let pod = text(end, "/targetRef/name");
            end["conditions"]["ready"] == json!(true) && names.iter().any(|set| is_pod_of(pod, set))
        })
    }

    fn break_glass(&mut self, beside: i8) {
        let Some(release) = self.status().and_then(|s| s.release).map(|r| r.number) else { return };
        self.commands += 1;
        let mark = BreakGlass {
            by: format!("person-{}", self.commands),
            at: self.now,
            release: release + i64::from(beside),
            reason: None,
        };
        let (release, text) = (mark.release, serde_json::to_string(&mark).expect("plain data"));
        let kind = self.setup.way.route();
        let route = self.store.get(kind, "shop").expect("nobody deletes the route");
        // People look first whether stable is there to take the traffic.
        if !self.serves(Side::Stable) {
            return;
        }
        let patch =
            route::break_glass(&route, &self.store.names.routing, NAMESPACE, release, &text);
        let patch = patch.expect("the route is ours");
        self.store.patch(kind, "shop", &patch).expect("it was just read");
    }

    fn command(&mut self, kind: ActionKind, release: i8, step: i8) {
        let Some(status) = self.status() else { return };
        let (Some(now), index) = (status.release, status.step.map_or(0, |s| s.index)) else {
            return;
        };
        let rollout = self.store.get("Rollout", "shop").expect("it has a status");
        self.commands += 1;
        let name = format!("command-{}", self.commands);
        let command = json!({"kind": "RolloutAction", "metadata": {"name": name}, "spec": {
            "rollout": "shop", "uid": text(&rollout, "/metadata/uid"),
            "release": now.number + i64::from(release), "step": index + i32::from(step),
            "action": kind,
            "requestedBy": format!("person-{}", self.commands),
        }});
        self.store.create(command).expect("its name is new");
    }

    /// All faults cease, people decide what is asked of them, and time passes until nothing moves
    /// any more. How it ended, or what it got stuck in.
    pub fn come_to_rest(&mut self) -> Result<(), String> {
        self.calm();
        let mut quiet = 0;
        for _ in 0..900 {
            quiet = if self.look(TICK, None) { 0 } else { quiet + 1 };
            let status = self.status();
            // A fight is remembered for a while.
            let fought = |s: &RolloutStatus| s.contest.as_ref().is_some_and(|c| c.count >= 5);
            let ended = |s: &RolloutStatus| {
                matches!(s.phase, Phase::Healthy | Phase::Degraded) && !fought(s)
            };
            if quiet > 6 && status.as_ref().is_none_or(ended) {
                break;
            }
            let Some(status) = status else { continue };
            let asked = |kind| status.waiting_on.iter().any(|w| w.kind == kind);
            let held =
                [WaitingKind::Resume, WaitingKind::WeightLowered, WaitingKind::TrafficOwnership];
            let held = held.into_iter().any(asked);
            let person = [WaitingKind::Approval, WaitingKind::Decision].into_iter().any(asked);
            if quiet > 2 && status.phase == Phase::Paused && (held || person) {
                let kind = if held { ActionKind::Resume } else { ActionKind::Promote };
                self.command(kind, 0, 0);
                self.keep();
            }
        }
        self.rest()?;
        // At rest a look writes nothing, however often and however late (L5).
        for _ in 0..20 {
            if self.look(60, None) {
                return Err(format!("a write at rest: {:?}", self.store.trace.last()));
            }
        }
        Ok(())
    }

    fn calm(&mut self) {
        let next = self.process();
        self.leader = next;
        self.former = None;
        self.rival = (0, 0);
        self.cluster.broken.clear();
        let traffic = &mut self.traffic;
        (traffic.outage_until, traffic.partial_until, traffic.silent_until) = (0, 0, 0);
        self.store.edit("Rollout", "shop", |r| r["spec"]["paused"] = json!(false));
        self.store.edit("Deployment", "shop", |d| {
            if d["spec"]["replicas"] == json!(0) {
                d["spec"]["replicas"] = json!(2);
            }
        });
        self.keep();
    }

    /// What must be so when nothing moves.
    fn rest(&self) -> Result<(), String> {
        let deployment = self.store.get("Deployment", "shop").expect("nobody deletes it");
        let sets = self.store.list("ReplicaSet");
        let running: Vec<_> = sets.iter().filter(|s| number(s, "/spec/replicas") > 0).collect();
        let what = || {
            let names: Vec<_> = running.iter().map(|s| text(s, "/metadata/name")).collect();
            let spec = &deployment["spec"];
            format!(
                "{:?}; weight {}; running {names:?}; paused {}, replicas {}, {}",
                self.status().map(|s| (s.phase, s.message, s.waiting_on)),
                self.weight(),
                spec["paused"],
                spec["replicas"],
                deployment["spec"]["template"]["spec"]["containers"][0]["image"],
            )
        };
        let pinned = self.store.list("Service");
        let pinned = pinned.iter().any(|s| !s["spec"]["selector"][HASH_LABEL].is_null())
            || self
                .store
                .list("DestinationRule")
                .iter()
                .any(|r| r.to_string().contains(HASH_LABEL));
        // Nothing rolls out natively while a Rollout holds the Deployment.
        let image = |s: &Value| text(s, "/spec/template/spec/containers/0/image").to_owned();
        let native = |s: &Value| text(s, "/metadata/name").starts_with("shop-n");
        let bypassed = sets.iter().any(|s| native(s) && image(s) != IMAGES[0]);
        let Some(status) = self.status() else {
            // The user's alone.
            let managed = &deployment["metadata"]["labels"]["surefoot.dev/managed"];
            let left = managed.is_null() && !pinned && self.is_off();
            return if left { Ok(()) } else { Err(what()) };
        };
        if bypassed {
            return Err(format!("a native rollout: {}", what()));
        }
        let [only] = running.as_slice() else { return Err(what()) };
        let new = surefoot_core::template::equal(
            &only["spec"]["template"],
            &deployment["spec"]["template"],
        );
        let paused = deployment["spec"]["paused"] == json!(true);
        let right = match status.phase {
            Phase::Healthy => new && paused != self.setup.policy,
            Phase::Degraded => !new && paused,
            _ => false,
        };
        let full = number(only, "/status/readyReplicas") == number(&deployment, "/spec/replicas");
        if right && full && !pinned && self.is_off() { Ok(()) } else { Err(what()) }
    }
}
