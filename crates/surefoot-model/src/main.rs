//! `make model`: search, and say what was searched and what was found.

use std::time::Instant;

use anyhow::ensure;
use clap::Parser;
use surefoot_model::model::{Bounds, Counts, Protocol, Shape};
use surefoot_model::search::search;

/// Search every order of events within bounds for one that breaks an invariant. Without any option
/// several searches are made, each complete; with one, a single search within these bounds.
#[derive(Parser)]
struct Options {
    /// Crashes of the leader's process.
    #[arg(long, default_value_t = 1)]
    crashes: u8,
    /// Hand-overs with the former leader alive.
    #[arg(long, default_value_t = 1)]
    hand_overs: u8,
    /// Calls whose reply is lost.
    #[arg(long, default_value_t = 1)]
    losses: u8,
    /// Times that watches of a process stand still.
    #[arg(long, default_value_t = 1)]
    stale: u8,
    /// Outside edits of the route's weights.
    #[arg(long, default_value_t = 1)]
    edits: u8,
    /// Commands and new templates.
    #[arg(long, default_value_t = 1)]
    orders: u8,
    /// Minutes whose metrics show harm or can't be had.
    #[arg(long, default_value_t = 1)]
    trouble: u8,
    /// All of these together.
    #[arg(long, default_value_t = 1)]
    together: u8,
    /// Minutes; a release takes 6.
    #[arg(long, default_value_t = 14)]
    time: u8,
    /// Looks of a leader between losing the lead and noticing.
    #[arg(long, default_value_t = 1)]
    looks: u8,
    /// What kind of release it is.
    #[arg(long, value_enum, default_value = "steps")]
    shape: Shape,
    /// Stop after so many states, the search unfinished.
    #[arg(long)]
    states: Option<usize>,
}

impl Options {
    fn bounds(&self) -> Bounds {
        let each = Counts {
            crashes: self.crashes,
            hand_overs: self.hand_overs,
            losses: self.losses,
            stale: self.stale,
            edits: self.edits,
            orders: self.orders,
            trouble: self.trouble,
            time: self.time,
        };
        Bounds { each, together: self.together, looks: self.looks, shape: self.shape }
    }
}

/// The searches of `make model`.
fn searches(all: Counts) -> Vec<(&'static str, Bounds)> {
    let quiet = Counts { time: all.time, ..Counts::default() };
    let one = Bounds { each: all, together: 1, looks: 1, shape: Shape::Steps };
    let processes = Counts { crashes: 1, losses: 1, stale: 1, ..quiet };
    let people = Counts { stale: 1, orders: 1, ..quiet };
    let leaders = Counts { hand_overs: 1, edits: 1, time: 2, ..quiet };
    vec![
        ("a release, and one mishap anywhere", one),
        ("a preview, and one mishap anywhere", Bounds { shape: Shape::Preview, ..one }),
        ("by an HTTPRoute, and one mishap anywhere", Bounds { shape: Shape::HttpRoute, ..one }),
        ("by two routes, and one mishap anywhere", Bounds { shape: Shape::TwoRoutes, ..one }),
        ("two of crash, lost reply and stale view", Bounds { each: processes, together: 2, ..one }),
        ("a stale view and a command", Bounds { each: people, together: 2, ..one }),
        ("a hand-over and an outside edit", Bounds { each: leaders, together: 2, ..one }),
    ]
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let given = options.bounds();
    let searches = match std::env::args().len() {
        1 => searches(given.each),
        _ => vec![("as asked", given)],
    };
    let mut lacking: Option<Vec<&str>> = None;
    for (name, bounds) in searches {
        println!("{name}: {bounds:?}");
        #[expect(clippy::disallowed_methods, reason = "the one clock of this binary")]
        let begun = Instant::now();
        let found = search(Protocol::new(bounds)?, options.states);
        print!("{found}");
        println!(
            "{} states, {} ways to them, {} steps deep, {} s: {}\n",
            found.states,
            found.reached,
            found.depth,
            begun.elapsed().as_secs(),
            if found.all { "all there are within the bounds" } else { "not all there are" }
        );
        ensure!(found.broken().is_empty(), "broken: {}", found.broken().join(", "));
        ensure!(found.all || options.states.is_some(), "the search ended early");
        // What one search doesn't reach another must.
        let lacks = found.bad();
        lacking = Some(match lacking {
            Some(before) => before.into_iter().filter(|name| lacks.contains(name)).collect(),
            None => lacks,
        });
    }
    let lacking = lacking.unwrap_or_default();
    ensure!(lacking.is_empty(), "never reached in any search: {}", lacking.join(", "));
    println!("nothing is broken, and all that must be reached is");
    Ok(())
}
