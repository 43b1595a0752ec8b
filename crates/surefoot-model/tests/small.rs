//! Small searches, each complete: what `make model` does within wider bounds.

use surefoot_model::model::{Bounds, Counts, Protocol, Shape};
use surefoot_model::search::{Findings, search};

fn found(bounds: Bounds) -> Result<Findings, serde_json::Error> {
    Ok(search(Protocol::new(bounds)?, None))
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
    let found = found(Bounds { each, together: 1, looks: 0, shape: Shape::Steps }).unwrap();
    assert!(found.all && found.broken().is_empty(), "{found}");
    for what in
        ["promoted", "rolled back", "a lost reply is overcome", "a raised weight is put right"]
    {
        assert!(reached(&found, what), "{found}");
    }
    assert!(found.states > 3000, "{}", found.states);
}

#[test]
fn other_shapes_with_a_mishap_wherever_it_comes() {
    let each = Counts { crashes: 1, losses: 1, stale: 1, edits: 1, time: 8, ..Counts::default() };
    for shape in [Shape::Preview, Shape::HttpRoute, Shape::TwoRoutes] {
        let found = found(Bounds { each, together: 1, looks: 0, shape }).unwrap();
        assert!(found.all && found.broken().is_empty(), "{shape:?}: {found}");
        for what in ["promoted", "a lost reply is overcome", "a raised weight is put right"] {
            assert!(reached(&found, what), "{shape:?}: {found}");
        }
    }
}

#[test]
fn a_hand_over_at_any_moment_of_the_first_step() {
    let each = Counts { hand_overs: 1, time: 1, ..Counts::default() };
    let found = found(Bounds { each, together: 1, looks: 1, shape: Shape::Steps }).unwrap();
    assert!(found.all && found.broken().is_empty(), "{found}");
    for what in [
        "a former leader's commit is refused",
        "a former leader finds another decision",
        "a former leader's write is refused",
    ] {
        assert!(reached(&found, what), "{found}");
    }
    assert!(found.states > 3000, "{}", found.states);
}
