//! The sandbox: the state machine with a clock, clients, faults and a log.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tokio::sync::watch;

use crate::clock::{Clock, TokioClock};
use crate::faults::{Fault, FaultPlan, resource};
use crate::machine::{Answer, Cursor, Machine, Tick};
use crate::request::{Request, Verb};
use crate::service::Service;
use crate::store::Event;

/// More calls than this are not remembered: the oldest are forgotten.
const MAX_CALLS: usize = 100_000;
/// How many events are kept for watches, unless said otherwise.
const HISTORY: usize = 10_000;

/// A call, as it went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Counted from 1 over all clients.
    pub number: u64,
    /// The client: the name its service was made with.
    pub client: String,
    /// The verb.
    pub verb: Verb,
    /// The resource with its subresource; empty where there is none.
    pub resource: String,
    /// The namespace; empty where there is none.
    pub namespace: String,
    /// The name of the object; empty where there is none.
    pub name: String,
    /// The whole request, in a line.
    pub line: String,
    /// What the server answered; none when it never saw the request, or not yet.
    pub code: Option<u16>,
    /// What went wrong with it.
    pub fault: Option<Fault>,
}

/// How a sandbox is to be.
pub struct Builder {
    seed: u64,
    history: usize,
    clock: Option<Arc<dyn Clock>>,
    machine: Option<Machine>,
}

impl Builder {
    /// What uids and generated names come from; 0 otherwise.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Builder {
        self.seed = seed;
        self
    }

    /// How many events are kept: a watch from before them gets 410.
    #[must_use]
    pub fn history(mut self, events: usize) -> Builder {
        self.history = events;
        self
    }

    /// It begins as another one was: with the objects, definitions and history of this machine, and
    /// with its own seed.
    #[must_use]
    pub fn machine(mut self, machine: Machine) -> Builder {
        self.machine = Some(machine);
        self
    }

    /// The clock; otherwise tokio's, starting at the beginning of 2026.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Builder {
        self.clock = Some(Arc::new(clock));
        self
    }

    /// The sandbox, empty.
    #[must_use]
    pub fn build(self) -> Sandbox {
        let clock = self.clock.unwrap_or_else(|| Arc::new(TokioClock::starting_at(beginning())));
        let machine = match self.machine {
            Some(machine) => machine.again(self.seed, self.history),
            None => Machine::new(self.seed, self.history, clock.now()),
        };
        let (versions, _) = watch::channel(machine.version());
        let (crashes, _) = watch::channel(0);
        let (releases, _) = watch::channel(0);
        let state = State {
            machine,
            plan: FaultPlan::new(),
            calls: VecDeque::new(),
            count: 0,
            dead: BTreeSet::new(),
        };
        let inner = Inner { state: Mutex::new(state), clock, versions, crashes, releases };
        Sandbox { inner: Arc::new(inner) }
    }
}

/// The beginning of 2026.
fn beginning() -> Timestamp {
    Timestamp::from_second(1_767_225_600).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// An API server in memory. Clones are the same server.
#[derive(Clone)]
pub struct Sandbox {
    inner: Arc<Inner>,
}

struct Inner {
    state: Mutex<State>,
    clock: Arc<dyn Clock>,
    versions: watch::Sender<u64>,
    crashes: watch::Sender<u64>,
    releases: watch::Sender<u64>,
}

struct State {
    machine: Machine,
    plan: FaultPlan,
    calls: VecDeque<Call>,
    count: u64,
    dead: BTreeSet<String>,
}

impl std::fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sandbox").field("version", &self.version()).finish_non_exhaustive()
    }
}

impl Default for Sandbox {
    fn default() -> Sandbox {
        Sandbox::new()
    }
}

impl Sandbox {
    /// A sandbox with tokio's clock. Must be called within a tokio runtime for its clock to be the
    /// one that a test may pause.
    #[must_use]
    pub fn new() -> Sandbox {
        Sandbox::builder().build()
    }

    /// A sandbox of another kind.
    #[must_use]
    pub fn builder() -> Builder {
        Builder { seed: 0, history: HISTORY, clock: None, machine: None }
    }

    /// A way to the sandbox for a client: what `kube::Client::new` takes. The name is for the fault
    /// plan and the log of calls.
    #[must_use]
    pub fn service(&self, client: impl Into<String>) -> Service {
        Service::new(self.clone(), client.into())
    }

    /// The time in the sandbox.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.inner.clock.now()
    }

    /// Its state, from which another one can begin.
    #[must_use]
    pub fn machine(&self) -> Machine {
        self.state().machine.clone()
    }

    /// The resourceVersion of the latest write.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.state().machine.version()
    }

    /// Tells the version of each latest write.
    #[must_use]
    pub fn versions(&self) -> watch::Receiver<u64> {
        self.inner.versions.subscribe()
    }

    /// What was written after `version`, in order; none when it is no longer all known.
    #[must_use]
    pub fn events_since(&self, version: u64) -> Option<Vec<Event>> {
        self.state().machine.events_since(version)
    }

    /// Whether such a write came after `version`, or may have come: when they are no longer all known.
    #[must_use]
    pub fn any_since(&self, version: u64, such: impl Fn(&Event) -> bool) -> bool {
        self.state().machine.any_since(version, such)
    }

    /// Forget what happened up to `version`: watches and pages from before get 410.
    pub fn compact(&self, version: u64) {
        self.state().machine.compact(version);
        self.inner.versions.send_modify(|_| {});
    }

    /// What goes wrong from now on, in place of what was planned before.
    pub fn plan(&self, plan: FaultPlan) {
        self.state().plan = plan;
    }

    /// The calls so far, the oldest first; at most the last 100,000.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.state().calls.iter().cloned().collect()
    }

    /// Forget the calls so far.
    pub fn forget_calls(&self) {
        let mut state = self.state();
        state.calls.clear();
        state.count = 0;
    }

    /// Lets go of the calls that are held, and lets watches that are stale catch up.
    pub fn let_go(&self) {
        self.inner.releases.send_modify(|count| *count += 1);
    }

    /// Tells how many clients have crashed so far.
    #[must_use]
    pub fn crashes(&self) -> watch::Receiver<u64> {
        self.inner.crashes.subscribe()
    }

    /// Answer a request at once, past faults and log.
    pub fn handle(&self, request: &Request) -> Answer {
        self.carry(0, |machine, now| machine.handle(request, now))
    }

    /// Do something with the state, or with that of so many writes ago, or as far back as is known.
    pub(crate) fn carry<T>(&self, back: u64, out: impl FnOnce(&mut Machine, Timestamp) -> T) -> T {
        let mut state = self.state();
        if back > 0 {
            return out(&mut state.machine.earlier(back), self.inner.clock.now());
        }
        let carried = out(&mut state.machine, self.inner.clock.now());
        self.announce(&state);
        carried
    }

    fn announce(&self, state: &State) {
        let version = state.machine.version();
        self.inner.versions.send_if_modified(|known| {
            let is_newer = *known != version;
            *known = version;
            is_newer
        });
    }

    pub(crate) fn tick(&self, cursor: &mut Cursor) -> Tick {
        self.state().machine.tick(cursor, self.inner.clock.now())
    }

    /// Notes a call; its number, and what goes wrong with it.
    pub(crate) fn note(&self, client: &str, request: &Request) -> (u64, Option<Fault>) {
        let mut state = self.state();
        let fault = state.plan.meet(client, request);
        state.count += 1;
        let target = request.target().unwrap_or_default();
        let call = Call {
            number: state.count,
            client: client.to_owned(),
            verb: request.verb(),
            resource: resource(request),
            namespace: target.namespace.unwrap_or_default(),
            name: target.name.unwrap_or_default(),
            line: request.to_string(),
            code: None,
            fault: fault.clone(),
        };
        state.calls.push_back(call);
        if state.calls.len() > MAX_CALLS {
            state.calls.pop_front();
        }
        (state.count, fault)
    }

    /// Notes what a call was answered.
    pub(crate) fn answered(&self, number: u64, code: u16) {
        let mut state = self.state();
        if let Some(call) = state.calls.iter_mut().rev().find(|call| call.number == number) {
            call.code = Some(code);
        }
    }

    /// A client is dead from now on.
    pub(crate) fn crash(&self, client: &str) {
        self.state().dead.insert(client.to_owned());
        self.inner.crashes.send_modify(|count| *count += 1);
    }

    pub(crate) fn is_dead(&self, client: &str) -> bool {
        self.state().dead.contains(client)
    }

    pub(crate) fn releases(&self) -> watch::Receiver<u64> {
        self.inner.releases.subscribe()
    }

    /// Waits until held calls are let go.
    pub(crate) async fn released(&self) {
        let mut releases = self.releases();
        // It can only fail when the sandbox is gone, and then nobody waits.
        let _ = releases.changed().await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
