//! The points of a story: each thing that can go wrong at each call.

use std::time::Duration;

use kube_sandbox::{Fault, Verb};

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

/// What can go wrong with a call when it arrives; `again`, after something has gone wrong before.
pub fn faults(verb: Verb, again: bool) -> Vec<(Kind, Fault)> {
    if again {
        return vec![(Kind::Pair, Fault::Crash)];
    }
    let mut faults = vec![
        (Kind::Before, Fault::Crash),
        (Kind::Error, Fault::Answer(500)),
        (Kind::Busy, Fault::TooManyRequests(1)),
        (Kind::Late, Fault::Delay(Duration::from_secs(4))),
    ];
    faults.extend(match verb {
        Verb::Watch => vec![
            (Kind::Gone, Fault::Answer(410)),
            (Kind::Cut, Fault::CutWatch(1)),
            (Kind::Skipped, Fault::SkipEvents),
        ],
        Verb::Get | Verb::List => vec![(Kind::Stale, Fault::Stale(3))],
        _ => vec![(Kind::After, Fault::CrashAfter), (Kind::Lost, Fault::DropReply)],
    });
    faults
}
