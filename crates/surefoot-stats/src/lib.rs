//! Sequential tests for progressive delivery: evidence that may be looked at as often as wanted.
//!
//! Every test here is an e-process: a non-negative process whose expectation under its null
//! hypothesis never exceeds 1, whenever it is stopped (Ramdas, Grünwald, Vovk and Shafer,
//! "Game-theoretic statistics and safe anytime-valid inference", 2023). By Ville's inequality the
//! chance that it ever reaches 1/α is at most α. Everything is a fold over blocks of exact counts;
//! nothing here knows of time, chance or I/O.
//!
//! | module | what it holds |
//! |---|---|
//! | [`block`] | counts that are possible |
//! | [`share`], [`absolute`], [`objective`] | the tests: ln e of a block at every alternative |
//! | [`vote`] | a minute's failures as one vote, for harm that hides in bursts |
//! | [`sign`] | pairs of numbers that are no counts |
//! | [`latency`] | what histogram boundaries tell |
//! | [`crash`] | the guard that sees every block |
//! | [`history`], [`dispersion`], [`replay`], [`calibration`] | what stable's past tells of dependence |
//! | [`planner`] | how long a release will take |
//! | [`policy`] | what a release is judged by, fixed before its first canary request |
//! | [`state`] | the evidence so far and its two answers: harm, and pass |
//! | [`show`], [`interval`], [`told`] | what people are shown, and can compute again |
//! | [`reach`] | how much traffic a step takes |
//! | [`others`] | other people's bounds, to compare with |
//! | [`threshold`] | one number against limits, outside of every bound |
//! | [`judge`] | what other tools judge by, for those who come from there |
//!
//! Evidence is in natural logarithms throughout: 0 is none, positive speaks against the null.
#![deny(missing_docs)]

pub mod absolute;
pub mod block;
pub mod calibration;
pub mod crash;
pub mod dispersion;
mod elementary;
mod evidence;
pub mod grid;
pub mod history;
pub mod interval;
pub mod judge;
pub mod latency;
mod metric;
pub mod objective;
pub mod others;
pub mod planner;
pub mod policy;
pub mod reach;
pub mod replay;
pub mod share;
pub mod show;
pub mod sign;
pub mod state;
pub mod threshold;
pub mod told;
pub mod vote;
mod window;

pub use block::{Arm, Block, CountError};
pub use calibration::Calibration;
pub use crash::CrashGuard;
pub use history::History;
pub use latency::{Baseline, BaselineError, SlowArm, SlowBlock};
pub use policy::{
    CountTest, LatencyTest, MetricPolicy, Objective, PairTest, Policy, PolicyError, Role, Test,
};
pub use reach::Reach;
pub use show::{Rate, Rates, Show};
pub use sign::SignTest;
pub use state::{FoldError, Harm, MetricBlock, Pass, ShareOfHarm, State, Unmeasurable};
