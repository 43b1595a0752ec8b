//! A world small enough to be searched: an API server, the native controllers, traffic with its
//! metrics, and the controller under test, with faults between any two of its calls. No clock, no
//! network, no threads: the same script always tells the same story.

pub mod cluster;
pub mod controller;
pub mod script;
pub mod store;
pub mod story;
mod timelines;
pub mod traffic;
pub mod view;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use surefoot_core::api::RolloutStatus;
use surefoot_core::api::status::{Phase, WaitingKind};
use surefoot_core::observed::HoldMode;
use surefoot_core::template::HASH_LABEL;
use surefoot_core::trace::{Names, State};

use self::cluster::Cluster;
use self::controller::{Controller, Mutant, Progress};
use self::script::{Event, Op, Setup};
use self::store::{Moment, NAMESPACE, Store, number, text};
use self::traffic::Traffic;

/// Seconds between two looks.
const TICK: u64 = 5;
/// More calls than any one look takes.
const MANY: usize = 200;

/// What may be deployed: version, and how it behaves by the end of its image's name.
pub const IMAGES: [&str; 5] =
    ["shop:v0", "shop:v1", "shop:v2", "shop:v3-harmful", "shop:v4-never-ready"];

pub struct World {
    pub store: Store,
    pub now: Timestamp,
    pub traffic: Traffic,
    /// Why releases were rolled back, in order.
    pub rollbacks: Vec<String>,
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
            route: name("shop"),
            stable: name("shop-stable"),
            canary: name("shop-canary"),
            namespace: name(NAMESPACE),
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
            json!({"kind": "VirtualService", "metadata": {"name": "shop"}, "spec": {
                "hosts": ["shop"], "http": [{"timeout": "1s", "route": [
                    {"destination": {"host": "shop-stable"}, "weight": 100},
                    {"destination": {"host": "shop-canary"}, "weight": 0},
                ]}],
            }}),
            json!({"kind": "Rollout", "apiVersion": "surefoot.dev/v1alpha1", "metadata": {"name": "shop"}, "spec": setup.spec()}),
        ] {
            store.create(object).expect("the store is empty");
        }
        let mut world = Self {
            store,
            now: "2030-01-01T00:00:00Z".parse().expect("a date"),
            traffic: Traffic::default(),
            rollbacks: Vec::new(),
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
        let route = self.store.get("VirtualService", "shop").expect("nobody deletes the route");
        number(&route, "/spec/http/0/route/1/weight")
    }

    /// A process that has just begun to lead.
    fn process(&mut self) -> Controller {
        self.processes += 1;
        let holder = format!("process-{}", self.processes);
        Controller::start(&holder, &self.history, self.mutant)
    }

    fn hold(&self) -> HoldMode {
        if self.setup.policy { HoldMode::Policy { ready: true } } else { HoldMode::PausedAtRest }
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
        self.store.edit("VirtualService", "shop", |route| {
            let route = &mut route["spec"]["http"][0]["route"];
            route[0]["weight"] = json!(100 - weight);
            route[1]["weight"] = json!(weight);
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
            Op::Command { abort, release, step } => self.command(*abort, *release, *step),
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
                let slice = self.store.get("EndpointSlice", "shop-stable-slice");
                let serves = slice.is_some_and(|s| s["endpoints"].to_string().contains("true"));
                if serves && i64::from(*weight) < self.weight() {
                    self.weigh(*weight);
                }
            }
            Op::Raise(weight, looks) => {
                self.rival = (until(looks), *weight);
                self.raise(*weight);
            }
            Op::Reset { whole } => {
                self.weigh(0);
                if *whole {
                    let reset = |route: &mut Value| {
                        route["metadata"].as_object_mut().map(|m| m.remove("annotations"));
                    };
                    self.store.edit("VirtualService", "shop", reset);
                }
            }
            Op::Delete => self.store.remove("Rollout", "shop"),
        }
        self.keep();
    }

    /// A version's pods lose their readiness. Whoever watches is told before anything else happens:
    /// against endpoints that go while a request is on its way there is no guard.
    fn vanish(&mut self, canary: bool, until: i64) {
        let service = if canary { "shop-canary" } else { "shop-stable" };
        let service = self.store.get("Service", service);
        let pin = service.as_ref().and_then(|s| s["spec"]["selector"][HASH_LABEL].as_str());
        let Some(pin) = pin.map(str::to_owned) else { return };
        self.cluster.broken.insert(pin, until);
        self.cluster.tick(&mut self.store, self.now.as_second());
        self.leader.lag(view::Lags::default());
        self.leader.lose();
        self.former = None;
    }

    fn command(&mut self, abort: bool, release: i8, step: i8) {
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
            "action": if abort { "abort" } else { "promote" },
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
            let person = [
                WaitingKind::Approval,
                WaitingKind::Decision,
                WaitingKind::WeightLowered,
                WaitingKind::TrafficOwnership,
            ];
            if quiet > 2 && status.phase == Phase::Paused && person.into_iter().any(asked) {
                self.command(false, 0, 0);
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
        let pinned = pinned.iter().any(|s| !s["spec"]["selector"][HASH_LABEL].is_null());
        // Nothing rolls out natively while a Rollout holds the Deployment.
        let image = |s: &Value| text(s, "/spec/template/spec/containers/0/image").to_owned();
        let native = |s: &Value| text(s, "/metadata/name").starts_with("shop-n");
        let bypassed = sets.iter().any(|s| native(s) && image(s) != IMAGES[0]);
        let Some(status) = self.status() else {
            // The user's alone.
            let managed = &deployment["metadata"]["labels"]["surefoot.dev/managed"];
            let left = managed.is_null() && !pinned && self.weight() == 0;
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
        if right && full && !pinned && self.weight() == 0 { Ok(()) } else { Err(what()) }
    }
}
