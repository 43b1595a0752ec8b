//! The shell around `surefoot-core`: everything that touches the network, the clock or a terminal.

pub mod cli;
pub mod client;
pub mod clock;
pub mod controller;
pub mod crds;
pub mod demo;
pub mod outbound;
pub mod redacted;
pub mod sandbox;
pub mod simulation;
