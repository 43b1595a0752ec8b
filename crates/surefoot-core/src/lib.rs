//! What Surefoot decides and why. Pure: no clock, no network, no randomness; the same code runs in
//! the controller, in tests and in replays.
#![deny(missing_docs)]

pub mod act;
pub mod api;
pub mod claim;
pub mod decide;
pub mod desired;
pub mod engine;
pub mod gather;
pub mod mark;
pub mod metrics;
pub mod notify;
pub mod observed;
pub mod plan;
pub mod refused;
pub mod route;
pub mod routing;
pub mod samples;
pub mod split;
pub mod takeover;
pub mod template;
pub mod trace;
pub mod turn;
pub mod words;
pub mod write;
