//! A story is played once, and at each of its calls the process becomes two: one in which something goes
//! wrong with that call, and one that goes on. What comes before a call is played once for all that can go
//! wrong with it, and is the same for all of it.

use std::collections::BTreeMap;
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::sync::{Mutex, MutexGuard};

use fork::{Fork, fork, wait_any};
use kube_sandbox::{Fault, Verb};

use crate::points::{FIRST, Kind, SECOND, faults};

/// Which points are taken.
#[derive(Debug, Clone, Default)]
pub struct Chosen {
    pub kinds: Vec<Kind>,
    /// Every nth.
    pub every: usize,
    /// Only at this call.
    pub call: Option<u64>,
    /// After a crash the next controller dies too, at each of its calls.
    pub pairs: bool,
}

/// What goes wrong in this process.
#[derive(Debug, Clone, Copy)]
pub struct Point {
    pub kind: Kind,
    /// At which call of the first controller.
    pub nth: u64,
    /// And at which of the second.
    pub then: Option<u64>,
}

/// How many points of a kind there were, and how many of them were survived.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    pub points: usize,
    pub survived: usize,
}

impl Tally {
    pub fn add(&mut self, other: Self) {
        self.points += other.points;
        self.survived += other.survived;
    }
}

pub type Tallies = BTreeMap<Kind, Tally>;

/// This process, and those that branched off it.
pub struct Branches(Mutex<State>);

struct State {
    chosen: Chosen,
    /// How many processes may run beside this one.
    most: usize,
    /// What goes wrong in this one; none in the trunk.
    point: Option<Point>,
    /// Calls so far of the controller with which something may go wrong.
    calls: u64,
    /// Points met so far.
    met: usize,
    running: BTreeMap<i32, Kind>,
    tallies: Tallies,
    told: Option<PipeWriter>,
    heard: Option<PipeReader>,
}

impl Branches {
    /// The trunk. As many branches run at a time as there are processors.
    ///
    /// # Panics
    /// Where another thread runs, which no branch would have.
    pub fn new(chosen: Chosen) -> Self {
        if let Ok(threads) = std::fs::read_dir("/proc/self/task") {
            assert_eq!(threads.count(), 1, "a branch has only the thread that it comes from");
        }
        let (heard, told) = std::io::pipe().unwrap_or_else(|e| panic!("a pipe: {e}"));
        Self(Mutex::new(State {
            chosen,
            most: std::thread::available_parallelism().map_or(1, usize::from),
            point: None,
            calls: 0,
            met: 0,
            running: BTreeMap::new(),
            tallies: Tallies::new(),
            told: Some(told),
            heard: Some(heard),
        }))
    }

    /// What goes wrong in this process.
    pub fn point(&self) -> Option<Point> {
        self.state().point
    }

    /// A call arrives: in each of the processes that this one becomes something else goes wrong with it.
    pub fn arrives(&self, client: &str, verb: Verb) -> Option<Fault> {
        let mut state = self.state();
        if client != state.controller()? {
            return None;
        }
        state.calls += 1;
        let kinds = faults(verb, state.point.is_some());
        kinds.into_iter().find_map(|(kind, fault)| state.becomes(kind).then_some(fault))
    }

    /// The first controller is about to send a call: whether it freezes in this process.
    pub fn freezes(&self, client: &str) -> bool {
        let mut state = self.state();
        if client != FIRST || state.point.is_some() {
            return false;
        }
        state.calls += 1;
        state.becomes(Kind::Frozen)
    }

    /// The story has ended in this process. A branch ends here, and tells what became of it; the trunk
    /// waits for its branches.
    pub fn end(&self, survived: bool) -> Tallies {
        let mut state = self.state();
        state.wait(0);
        let Some(point) = state.point else {
            let mut tallies = std::mem::take(&mut state.tallies);
            tallies.entry(Kind::Pair).or_default().add(state.pairs());
            return tallies;
        };
        if point.then.is_none() {
            let pairs = state.tallies.get(&Kind::Pair).copied().unwrap_or_default();
            // Where nobody listens the trunk has died, and told why.
            let _ = state
                .told
                .as_ref()
                .map(|mut told| writeln!(told, "{} {}", pairs.points, pairs.survived));
        }
        std::process::exit(i32::from(!survived));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl State {
    /// With whose calls something may go wrong here.
    fn controller(&self) -> Option<&'static str> {
        match self.point {
            None => Some(FIRST),
            Some(Point { kind: Kind::Before, then: None, .. }) if self.chosen.pairs => Some(SECOND),
            Some(_) => None,
        }
    }

    /// Become two processes, if such a point is taken: whether this is the one in which it happens.
    fn becomes(&mut self, kind: Kind) -> bool {
        let first = self.point.is_none();
        if first
            && (!self.chosen.kinds.contains(&kind)
                || self.chosen.call.is_some_and(|call| call != self.calls))
        {
            return false;
        }
        self.met += 1;
        if !(self.met - 1).is_multiple_of(self.chosen.every) {
            return false;
        }
        self.wait(self.most - 1);
        match fork().unwrap_or_else(|e| panic!("no more processes: {e}")) {
            Fork::Parent(process) => {
                self.running.insert(process, kind);
                false
            }
            Fork::Child => {
                let point = Point { kind, nth: self.calls, then: None };
                self.point = Some(match self.point {
                    None => point,
                    Some(first) => Point { kind, nth: first.nth, then: Some(self.calls) },
                });
                (self.calls, self.met, self.most) = (0, 0, 1);
                self.running.clear();
                self.tallies.clear();
                self.heard = None;
                true
            }
        }
    }

    /// Wait until no more than so many branches run.
    fn wait(&mut self, most: usize) {
        while self.running.len() > most {
            let (process, status) = wait_any().unwrap_or_else(|e| panic!("its branches: {e}"));
            if let Some(kind) = self.running.remove(&process) {
                let survived = usize::from(status == 0);
                self.tallies.entry(kind).or_default().add(Tally { points: 1, survived });
            }
        }
    }

    /// The pairs that branches have told of. All of them have ended.
    fn pairs(&mut self) -> Tally {
        let mut text = String::new();
        if let Some(mut heard) = self.heard.take() {
            // The end comes when the last writer is gone: this one.
            self.told = None;
            heard.read_to_string(&mut text).unwrap_or_else(|e| panic!("its branches' words: {e}"));
        }
        let mut pairs = Tally::default();
        for line in text.lines() {
            let mut counts = line.split(' ').filter_map(|count| count.parse().ok());
            let points = counts.next().unwrap_or_default();
            pairs.add(Tally { points, survived: counts.next().unwrap_or_default() });
        }
        pairs
    }
}
