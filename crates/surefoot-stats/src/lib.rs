//! Sequential tests for progressive delivery: evidence that may be looked at as often as wanted.
//!
//! Every test here is an e-process: a non-negative process whose expectation under its null
//! hypothesis never exceeds 1, whenever it is stopped (Ramdas et al., "Game-theoretic statistics
//! and safe anytime-valid inference", 2023). By Ville's inequality the chance that it ever reaches
//! 1/α is at most α. Everything is a fold over blocks of exact counts; nothing here knows of time,
//! chance or I/O. Formulas: `statistics.md`, "Tests".
#![deny(missing_docs)]

pub mod absolute;
pub mod block;
pub mod grid;
pub mod interval;
pub mod latency;
pub mod objective;
pub mod policy;
pub mod share;
pub mod state;
pub mod threshold;

pub use block::{Arm, Block, CountError};
pub use latency::{Baseline, Slow};
pub use policy::{CountTest, LatencyTest, MetricPolicy, Objective, Policy, Role, Test};
pub use state::{Harm, Pass, State};
