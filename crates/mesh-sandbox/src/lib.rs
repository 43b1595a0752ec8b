#![doc = include_str!("../README.md")]
#![deny(missing_docs)]

pub mod api;
mod json;
pub mod labels;
mod mesh;
mod page;
pub mod promql;
mod proxy;
mod speech;
pub mod store;
mod traffic;
pub mod world;

pub use api::Answer;
pub use mesh::Mesh;
pub use world::{Behaviour, Destination, Load, Pod, Route, Settings, Tallies, Tally, World};
