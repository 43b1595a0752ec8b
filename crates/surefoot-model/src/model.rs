//! The state, what may happen in it, and how often at most.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use serde_json::{Value, json};
use surefoot_core::api::status::Phase;
use surefoot_core::api::{ActionKind, RolloutStatus};
use surefoot_core::decide::in_release;
use surefoot_core::routing::Routing;
use surefoot_core::trace::Names;
use surefoot_core::write::Kind;

use crate::metrics::{self, Stretch, Verdict};
use crate::native;
use crate::process::{Called, Job, Look, Moment, Process};
use crate::shared::{Known, text};
use crate::store::{APP, Store, names, target};
use crate::view::Stale;

/// What may be deployed.
const IMAGES: [&str; 3] = ["shop:v0", "shop:v1", "shop:v2"];

/// How often each thing may happen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Counts {
    /// The leader's process ends and another begins.
    pub crashes: u8,
    /// Another process leads, and the former goes on.
    pub hand_overs: u8,
    /// The reply of a call never comes.
    pub losses: u8,
    /// Watches of a process stand still for a while.
    pub stale: u8,
    /// Somebody else writes the route's weights.
    pub edits: u8,
    /// A person's command, or a new template.
    pub orders: u8,
    /// A stretch of time whose metrics show harm, or can't be had.
    pub trouble: u8,
    /// Stretches of time.
    pub time: u8,
}

/// What is searched.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Of each.
    pub each: Counts,
    /// Of all but time together.
    pub together: u8,
    /// Looks of a leader after it has lost the lead and before it notices.
    pub looks: u8,
    /// What kind of release it is.
    pub shape: Shape,
}

/// What kind of release is searched.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Shape {
    /// 50%, then 100%, by a VirtualService.
    #[default]
    Steps,
    /// A preview, then all traffic at once.
    Preview,
    /// The steps, by an HTTPRoute.
    HttpRoute,
    /// The steps, by a VirtualService and an HTTPRoute that are moved as one.
    TwoRoutes,
}

/// A state.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct World {
    /// The API server.
    pub store: Store,
    /// The processes.
    pub processes: [Option<Process>; 2],
    /// Which of them leads.
    pub leader: usize,
    /// Stretches of time since the beginning.
    pub stretches: u8,
    /// What Prometheus has of the latest of them.
    pub past: Vec<Stretch>,
    /// What has happened.
    pub used: Counts,
    /// How many processes have been.
    born: u8,
}

/// What happens next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happening {
    /// A process observes and decides.
    Look(usize),
    /// A process makes its next call.
    Call(usize),
    /// The same, and the reply never comes.
    Lose(usize),
    /// The leader's process ends and another begins.
    Crash,
    /// The other process leads, a new one where there is none; the former hasn't noticed.
    HandOver,
    /// Watches of a process stand still.
    Freeze(usize, Stale),
    /// They come again.
    Thaw(usize),
    /// A stretch of time.
    Time(Verdict),
    /// Somebody else sets the canary's weight.
    Weigh(i64),
    /// Somebody sets the Deployment's image.
    Image(usize),
    /// Somebody gives a command.
    Order(ActionKind),
}

/// The model.
pub struct Protocol {
    /// What is searched.
    pub bounds: Bounds,
    /// By which names things are known.
    pub names: Names,
    begin: World,
    looks: Known<Look>,
    calls: Known<Called>,
}

fn spec(shape: Shape) -> Value {
    let mut spec = json!({
        "targetRef": {"kind": "Deployment", "name": APP},
        "traffic": {
            "mesh": "istio", "service": APP, "propagationDelay": "5s",
            "routes": [{"kind": "VirtualService", "name": APP}],
        },
        "steps": [{"weight": 50}, {"weight": 100}],
        "gate": {
            "minDuration": "15s", "maxDuration": "4m", "minRequests": 50, "settle": "5s",
            "warmUp": "10s",
        },
        "analysis": {
            "metrics": [{"name": "success-rate", "successRate": {"maxDrop": "5pp"}}],
            "noDataPolicy": {"after": "40s", "then": "pause"},
        },
        "progressDeadline": "1m", "scaleDownDelay": "10s",
    });
    let http_route = json!({"kind": "HTTPRoute", "name": APP});
    match shape {
        Shape::Steps => {}
        Shape::Preview => {
            spec["traffic"]["apex"] = json!("stableOnly");
            spec["steps"] = json!([{"weight": 0, "preview": true}, {"weight": 100}]);
        }
        Shape::HttpRoute => spec["traffic"]["routes"] = json!([http_route]),
        Shape::TwoRoutes => {
            let first = spec["traffic"]["routes"][0].take();
            spec["traffic"]["routes"] = json!([first, http_route]);
        }
    }
    spec
}

fn template(image: &str) -> Value {
    json!({
        "metadata": {"labels": {"app": APP}},
        "spec": {"containers": [{"name": APP, "image": image}]},
    })
}

/// A gateway's route, which the mesh follows as it is at any time.
fn http_route() -> Value {
    let parent = json!({"name": "public"});
    let to = |service: &str, weight: i64| json!({"name": service, "port": 80, "weight": weight});
    let backends = json!([to("shop-stable", 100), to("shop-canary", 0)]);
    let good = |kind: &str| json!({"type": kind, "status": "True", "observedGeneration": i64::MAX});
    let conditions = [good("Accepted"), good("ResolvedRefs")];
    json!({
        "kind": "HTTPRoute", "metadata": {"name": APP},
        "spec": {
            "parentRefs": [parent],
            "rules": [{"timeouts": {"request": "1s"}, "backendRefs": backends}],
        },
        "status": {"parents": [{
            "parentRef": parent, "controllerName": "istio.io/gateway-controller",
            "conditions": conditions,
        }]},
    })
}

/// Deployment, Service, routes and Rollout, of which nobody has seen anything yet.
fn objects(names: &Names, spec: &Value) -> Store {
    let selector = json!({"app": APP});
    let to =
        |service: &str, weight: i64| json!({"destination": {"host": service}, "weight": weight});
    let mut store = Store::default();
    for (kind, object) in [
        (
            Kind::Deployment,
            json!({"kind": "Deployment", "metadata": {"name": APP}, "spec": {
                "replicas": 2, "selector": {"matchLabels": selector}, "template": template(IMAGES[0]),
            }}),
        ),
        (
            Kind::Service,
            json!({"kind": "Service", "metadata": {"name": APP}, "spec": {
                "selector": selector, "ports": [{"port": 80}],
            }}),
        ),
        (
            Kind::VirtualService,
            json!({"kind": "VirtualService", "metadata": {"name": APP}, "spec": {
                "hosts": [APP],
                "http": [{"timeout": "1s", "route": [to("shop-stable", 100), to("shop-canary", 0)]}],
            }}),
        ),
        (Kind::HTTPRoute, http_route()),
        (
            Kind::Rollout,
            json!({
                "kind": "Rollout", "apiVersion": "surefoot.dev/v1alpha1", "metadata": {"name": APP},
                "spec": spec,
            }),
        ),
    ] {
        // The store is empty, so that no name is taken.
        // Only the Rollout's own routes are there.
        let target = target(kind, text(&object, "/metadata/name"));
        if kind.is_route() && !names.routing.goes_by(&target) {
            continue;
        }
        let _ = store.create(names, kind, object);
    }
    native::settle(&mut store, names);
    store
}

impl Protocol {
    /// The model, beginning with a new template on a Deployment that has been adopted.
    ///
    /// # Errors
    /// When the spec isn't one, which is a mistake of this file.
    pub fn new(bounds: Bounds) -> Result<Self, serde_json::Error> {
        let spec = spec(bounds.shape);
        let traffic = serde_json::from_value(spec["traffic"].clone())?;
        let names = names(&Routing::of(&traffic));
        let begin = World {
            store: objects(&names, &spec),
            processes: [Some(Process::new(0)), None],
            leader: 0,
            stretches: 0,
            past: Vec::new(),
            used: Counts::default(),
            born: 1,
        };
        let mut model =
            Self { bounds, names, begin, looks: Known::default(), calls: Known::default() };
        let mut world = model.begin.clone();
        while let Some(next) = model.goes_on(&world) {
            world = next;
        }
        model.change(&mut world, Happening::Image(1));
        world.used = Counts::default();
        model.begin = world;
        Ok(model)
    }

    /// What the leader does where nothing else happens.
    fn goes_on(&self, world: &World) -> Option<World> {
        let mut next = world.clone();
        let happening = match &world.processes[world.leader] {
            Some(process) if process.job.is_some() => Happening::Call(world.leader),
            _ => Happening::Look(world.leader),
        };
        self.change(&mut next, happening);
        (next != *world).then_some(next)
    }

    /// Where it begins.
    #[must_use]
    pub fn beginning(&self) -> World {
        self.begin.clone()
    }

    /// What a look of a process says now.
    #[must_use]
    pub fn look(&self, world: &World, process: &Process) -> Arc<Look> {
        let moment = Moment { store: &world.store, stretches: world.stretches, past: &world.past };
        self.looks.get(process.view(moment), || process.look(moment))
    }

    /// What comes of the next call of a job.
    fn call(&self, store: &Store, job: &Job) -> Arc<Called> {
        let mut hasher = DefaultHasher::new();
        (store, job).hash(&mut hasher);
        self.calls.get(hasher.finish(), || job.call(store, &self.names))
    }

    /// What the leader's look says, where it has nothing to do.
    #[must_use]
    pub fn at_rest(&self, world: &World) -> Option<Arc<Look>> {
        let leader = world.processes[world.leader].as_ref()?;
        if leader.job.is_some() || leader.frozen.is_some() {
            return None;
        }
        let look = self.look(world, leader);
        let settled = look.job.is_none() && look.sampling == leader.sampling;
        (settled && look.since == leader.since).then_some(look)
    }

    /// All that may happen.
    pub fn happenings(&self, world: &World, may: &mut Vec<Happening>) {
        // What is broken is told; what comes of it doesn't matter.
        if !world.store.checker.violations().is_empty() {
            return;
        }
        let (used, each) = (world.used, self.bounds.each);
        let faults = used.crashes
            + used.hand_overs
            + used.losses
            + used.stale
            + used.edits
            + used.orders
            + used.trouble;
        let left = faults < self.bounds.together;
        let can = |used: u8, most: u8| left && used < most;
        for (place, process) in world.processes.iter().enumerate() {
            let Some(process) = process else { continue };
            if process.job.is_some() {
                may.push(Happening::Call(place));
                if can(used.losses, each.losses) {
                    may.push(Happening::Lose(place));
                }
            } else if process.former != Some(0) {
                may.push(Happening::Look(place));
            }
            if process.frozen.is_some() {
                may.push(Happening::Thaw(place));
            } else if can(used.stale, each.stale) && process.former != Some(0) {
                let stale = [Stale::Rollout, Stale::Others, Stale::All];
                may.extend(stale.map(|stale| Happening::Freeze(place, stale)));
            }
        }
        let busy = |p: &Option<Process>| p.as_ref().is_some_and(|p| p.job.is_some());
        if can(used.crashes, each.crashes) && busy(&world.processes[world.leader]) {
            may.push(Happening::Crash);
        }
        if can(used.hand_overs, each.hand_overs) {
            may.push(Happening::HandOver);
        }
        self.outside(world, &world.store.status, &can, may);
        self.time(world, &world.store.status, &can, may);
    }

    /// People and other writers.
    fn outside(
        &self,
        world: &World,
        status: &RolloutStatus,
        can: &impl Fn(u8, u8) -> bool,
        may: &mut Vec<Happening>,
    ) {
        let (used, each) = (world.used, self.bounds.each);
        if can(used.edits, each.edits) && in_release(status.phase) {
            let now = weight(&world.store);
            let other = [0, 90].into_iter().filter(|weight| *weight != now);
            may.extend(other.map(Happening::Weigh));
        }
        if !can(used.orders, each.orders) {
            return;
        }
        let image = image(&world.store);
        let other = (0..IMAGES.len()).filter(|place| IMAGES[*place] != image);
        may.extend(other.map(Happening::Image));
        if status.release.is_none() {
            return;
        }
        let orders: &[ActionKind] = match status.phase {
            Phase::Stepping | Phase::Paused | Phase::Preparing => {
                &[ActionKind::Abort, ActionKind::Promote, ActionKind::Resume, ActionKind::Undo]
            }
            Phase::Promoting | Phase::RollingBack => &[ActionKind::Abort, ActionKind::Undo],
            Phase::Degraded => &[ActionKind::Retry, ActionKind::Undo],
            Phase::Healthy => &[ActionKind::Undo],
            Phase::Pending => &[],
        };
        may.extend(orders.iter().copied().map(Happening::Order));
    }

    /// Calls take no time beside what is waited for: it passes while the leader has nothing to do.
    fn time(
        &self,
        world: &World,
        status: &RolloutStatus,
        can: &impl Fn(u8, u8) -> bool,
        may: &mut Vec<Happening>,
    ) {
        let (used, each) = (world.used, self.bounds.each);
        let Some(look) = self.at_rest(world).filter(|_| used.time < each.time) else { return };
        if look.requeue_at.is_none() && !in_release(status.phase) {
            return;
        }
        may.push(Happening::Time(Verdict::Pass));
        if !can(used.trouble, each.trouble) || look.sampling.is_none() {
            return;
        }
        if weight(&world.store) > 0 {
            may.push(Happening::Time(Verdict::Harm));
        }
        // Whoever has decided already may still say so; the checker couldn't know.
        let idle = world.processes.iter().flatten().all(|process| process.job.is_none());
        if idle {
            may.push(Happening::Time(Verdict::Nothing));
        }
    }

    /// It happens.
    pub fn change(&self, world: &mut World, happening: Happening) {
        let names = &self.names;
        match happening {
            Happening::Look(place) => {
                let Some(process) = &world.processes[place] else { return };
                let look = self.look(world, process);
                if let Some(process) = world.processes[place].as_mut() {
                    process.begin(&look);
                    process.former = process.former.map(|looks| looks.saturating_sub(1));
                }
                self.leave(world, place);
            }
            Happening::Call(place) | Happening::Lose(place) => {
                let lost = matches!(happening, Happening::Lose(_));
                world.used.losses += u8::from(lost);
                let job = world.processes[place].as_ref().and_then(|process| process.job.as_ref());
                let Some(job) = job else { return };
                let called = self.call(&world.store, job);
                world.store = called.store.clone();
                if let Some(process) = world.processes[place].as_mut() {
                    process.answered(&called, lost);
                }
                self.leave(world, place);
            }
            Happening::Crash => {
                world.used.crashes += 1;
                world.processes[world.leader] = Some(Process::new(world.born));
                world.born += 1;
            }
            Happening::HandOver => {
                world.used.hand_overs += 1;
                if let Some(process) = world.processes[world.leader].as_mut() {
                    process.former = Some(self.bounds.looks);
                }
                self.leave(world, world.leader);
                world.leader = 1 - world.leader;
                match world.processes[world.leader].as_mut() {
                    Some(process) => process.former = None,
                    None => {
                        world.processes[world.leader] = Some(Process::new(world.born));
                        world.born += 1;
                    }
                }
            }
            Happening::Freeze(place, stale) => {
                world.used.stale += 1;
                if let Some(process) = world.processes[place].as_mut() {
                    process.freeze(stale, &world.store.objects);
                }
            }
            Happening::Thaw(place) => {
                if let Some(process) = world.processes[place].as_mut() {
                    process.frozen = None;
                }
            }
            Happening::Time(verdict) => {
                world.used.time += 1;
                world.used.trouble += u8::from(verdict != Verdict::Pass);
                let before = world.past.last().map_or(Verdict::Pass, |s| s.verdict);
                let usable = verdict != Verdict::Nothing;
                if usable != (before != Verdict::Nothing) {
                    world.store.usable(usable);
                }
                world.past.push(Stretch { weight: weight(&world.store), verdict });
                world.stretches += 1;
            }
            Happening::Weigh(weight) => {
                world.used.edits += 1;
                // Of several routes the first one.
                let (kind, [stable, canary]) = match names.routing.target().kind {
                    Kind::HTTPRoute => (Kind::HTTPRoute, BACKENDS),
                    _ => (Kind::VirtualService, DESTINATIONS),
                };
                world.store.edit(names, kind, APP, |route| {
                    for (place, weight) in [(stable, 100 - weight), (canary, weight)] {
                        if let Some(written) = route.pointer_mut(place) {
                            *written = json!(weight);
                        }
                    }
                });
            }
            Happening::Image(place) => {
                world.used.orders += 1;
                let image = json!(IMAGES[place]);
                world.store.edit(names, Kind::Deployment, APP, |deployment| {
                    deployment["spec"]["template"]["spec"]["containers"][0]["image"] = image;
                });
                native::settle(&mut world.store, names);
            }
            Happening::Order(kind) => {
                world.used.orders += 1;
                order(&mut world.store, names, kind, world.used.orders);
            }
        }
        self.tidy(world);
    }

    /// A process that has noticed that it doesn't lead ends.
    fn leave(&self, world: &mut World, place: usize) {
        let gone = |p: &Process| p.former == Some(0) && p.job.is_none();
        if world.processes[place].as_ref().is_some_and(gone) {
            world.processes[place] = None;
        }
    }

    /// What can't matter any more would tell equal states apart.
    fn tidy(&self, world: &mut World) {
        if !world.past.is_empty() {
            let dark = world.past.last().is_some_and(|s| s.verdict == Verdict::Nothing);
            if !dark {
                metrics::forget(&mut world.past, &world.store.status, world.stretches);
            }
        }
    }
}

fn order(store: &mut Store, names: &Names, kind: ActionKind, number: u8) {
    let Some(rollout) = store.rollout().cloned() else { return };
    let status = &store.status;
    let command = json!({
        "kind": "RolloutAction", "metadata": {"name": format!("command-{number}")},
        "spec": {
            "rollout": APP, "uid": text(&rollout, "/metadata/uid"),
            "release": status.release.as_ref().map_or(0, |r| r.number),
            "step": status.step.as_ref().map_or(0, |s| s.index),
            "action": kind, "requestedBy": "somebody",
        },
    });
    // Each has a number of its own.
    let _ = store.create(names, Kind::RolloutAction, command);
}

/// Where the weights of stable and the canary are written.
const DESTINATIONS: [&str; 2] = ["/spec/http/0/route/0/weight", "/spec/http/0/route/1/weight"];
const BACKENDS: [&str; 2] =
    ["/spec/rules/0/backendRefs/0/weight", "/spec/rules/0/backendRefs/1/weight"];

/// The canary's weight on each of the routes, per cent.
pub fn weights(store: &Store) -> impl Iterator<Item = i64> {
    let kinds = [(Kind::VirtualService, DESTINATIONS), (Kind::HTTPRoute, BACKENDS)];
    kinds.into_iter().filter_map(|(kind, [_, canary])| {
        store.get(kind, APP).map(|route| crate::shared::number(route, canary))
    })
}

/// The highest of them.
#[must_use]
pub fn weight(store: &Store) -> i64 {
    weights(store).max().unwrap_or(0)
}

fn image(store: &Store) -> String {
    let image = "/spec/template/spec/containers/0/image";
    let deployment = store.get(Kind::Deployment, APP);
    deployment.map(|deployment| text(deployment, image).to_owned()).unwrap_or_default()
}
