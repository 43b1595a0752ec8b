//! Small searches, each complete: what `make model` does within wider bounds.

use std::time::Duration;

use surefoot_model::model::{Bounds, Counts, Protocol};
use surefoot_model::search::{Findings, search};

/// More than any of these takes.
const LIMIT: Duration = Duration::from_secs(600);

fn found(each: Counts, together: u8, looks: u8) -> Findings {
    let model = Protocol::new(Bounds { each, together, looks }).unwrap();
    search(model, 2, LIMIT)
}

fn reached(found: &Findings, what: &str) -> bool {
    found.properties.iter().any(|finding| finding.name == what && finding.good)
}

#[test]
fn one_mishap_wherever_it_comes() {
    let each = Counts {
        crashes: 1,
        losses: 1,
        stale: 1,
        edits: 1,
        trouble: 1,
        time: 8,
        ..Counts::default()
    };
    let found = found(each, 1, 0);
    assert!(found.broken().is_empty(), "{found}");
    for what in
        ["promoted", "rolled back", "a lost reply is overcome", "a raised weight is put right"]
    {
        assert!(reached(&found, what), "{found}");
    }
    assert!(found.states > 3000, "{}", found.states);
}

#[test]
fn a_hand_over_at_any_moment_of_the_first_step() {
    let each = Counts { hand_overs: 1, time: 1, ..Counts::default() };
    let found = found(each, 1, 1);
    assert!(found.broken().is_empty(), "{found}");
    for what in [
        "a former leader's commit is refused",
        "a former leader finds another decision",
        "a former leader's write is refused",
    ] {
        assert!(reached(&found, what), "{found}");
    }
    assert!(found.states > 3000, "{}", found.states);
}
