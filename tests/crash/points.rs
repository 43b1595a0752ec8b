//! The points of a story: each thing that can go wrong at each call.

use std::time::Duration;

use kube_sandbox::{Call, Fault, Verb};

use crate::cluster::Trouble;

/// The first controller, and the one that takes its place when it dies.
pub const FIRST: &str = "controller-1";
pub const SECOND: &str = "controller-2";

/// What goes wrong at a call, in the order of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Before,
    After,
    Lost,
    Error,
    Busy,
    Late,
    Gone,
    Cut,
    Skipped,
    Stale,
    Frozen,
    Pair,
}

/// All of them, with their names.
pub const KINDS: [(Kind, &str); 12] = [
    (Kind::Before, "before"),
    (Kind::After, "after"),
    (Kind::Lost, "lost"),
    (Kind::Error, "500"),
    (Kind::Busy, "429"),
    (Kind::Late, "late"),
    (Kind::Gone, "410"),
    (Kind::Cut, "cut"),
    (Kind::Skipped, "skipped"),
    (Kind::Stale, "stale"),
    (Kind::Frozen, "frozen"),
    (Kind::Pair, "pairs"),
];

/// One thing that goes wrong, or a pair of them.
#[derive(Debug, Clone)]
pub struct Point {
    pub kind: Kind,
    /// Before which calls of which controller, and what.
    pub faults: Vec<(&'static str, u64, Fault)>,
    pub trouble: Trouble,
}

impl Point {
    fn new(kind: Kind, faults: Vec<(&'static str, u64, Fault)>) -> Self {
        Self { kind, faults, trouble: Trouble::default() }
    }
}

/// The calls of one controller.
pub fn calls_of<'a>(calls: &'a [Call], client: &str) -> Vec<&'a Call> {
    calls.iter().filter(|call| call.client == client).collect()
}

/// Every point of a story but the pairs, from the calls of its clean run.
pub fn points(calls: &[Call]) -> Vec<Point> {
    let own = calls_of(calls, FIRST);
    let mut points = Vec::new();
    for (nth, call) in (1..).zip(own) {
        let mut add = |kind, fault| points.push(Point::new(kind, vec![(FIRST, nth, fault)]));
        add(Kind::Before, Fault::Crash);
        add(Kind::Error, Fault::Answer(500));
        add(Kind::Busy, Fault::TooManyRequests(1));
        add(Kind::Late, Fault::Delay(Duration::from_secs(4)));
        match call.verb {
            Verb::Watch => {
                add(Kind::Gone, Fault::Answer(410));
                add(Kind::Cut, Fault::CutWatch(1));
                add(Kind::Skipped, Fault::SkipEvents);
            }
            Verb::Get | Verb::List => add(Kind::Stale, Fault::Stale(3)),
            _ => {
                add(Kind::After, Fault::CrashAfter);
                add(Kind::Lost, Fault::DropReply);
            }
        }
        let trouble = Trouble { freeze_at: nth };
        points.push(Point { kind: Kind::Frozen, faults: Vec::new(), trouble });
    }
    points.sort_by_key(|point| point.kind);
    points
}

/// After the crash at a point the next controller dies too, at each of its calls.
pub fn pairs(point: &Point, calls: &[Call]) -> Vec<Point> {
    let second = (1..).take(calls_of(calls, SECOND).len());
    let pair = |nth| {
        let mut faults = point.faults.clone();
        faults.push((SECOND, nth, Fault::Crash));
        Point::new(Kind::Pair, faults)
    };
    second.map(pair).collect()
}
