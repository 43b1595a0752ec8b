//! `make model`: search, and say what was searched and what was found.

use std::time::{Duration, Instant};

use anyhow::ensure;
use clap::Parser;
use surefoot_model::model::{Bounds, Counts, Protocol};
use surefoot_model::search::search;

/// Search every order of events within bounds for one that breaks an invariant.
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
    /// Stretches of time whose metrics show harm or can't be had.
    #[arg(long, default_value_t = 1)]
    trouble: u8,
    /// Stretches of time.
    #[arg(long, default_value_t = 8)]
    time: u8,
    /// All of these but time together.
    #[arg(long, default_value_t = 2)]
    together: u8,
    /// Looks of a leader between losing the lead and noticing.
    #[arg(long, default_value_t = 1)]
    looks: u8,
    /// Threads.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Stop after so many seconds, the search unfinished.
    #[arg(long, default_value_t = 1200)]
    seconds: u64,
}

fn main() -> anyhow::Result<()> {
    let o = Options::parse();
    let each = Counts {
        crashes: o.crashes,
        hand_overs: o.hand_overs,
        losses: o.losses,
        stale: o.stale,
        edits: o.edits,
        orders: o.orders,
        trouble: o.trouble,
        time: o.time,
    };
    let bounds = Bounds { each, together: o.together, looks: o.looks };
    println!("bounds: {each:?}, together {}, looks of a former leader {}", o.together, o.looks);
    let model = Protocol::new(bounds)?;
    let limit = Duration::from_secs(o.seconds);
    #[expect(clippy::disallowed_methods, reason = "the one clock of this binary")]
    let begun = Instant::now();
    let found = search(model, o.threads, limit);
    let took = begun.elapsed();
    let all = took < limit && found.broken().is_empty();
    print!("{found}");
    println!(
        "{} states, {} ways to them, {} steps deep, {:.0} s: {}",
        found.states,
        found.reached,
        found.depth,
        took.as_secs_f64(),
        if all { "all there are within the bounds" } else { "not all there are" }
    );
    ensure!(all && found.bad().is_empty(), "not as it should be: {}", found.bad().join(", "));
    Ok(())
}
