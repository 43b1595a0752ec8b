#![doc = include_str!("../README.md")]
#![deny(missing_docs)]

mod checks;
mod clock;
mod controllers;
mod defaults;
mod faults;
mod kinds;
mod machine;
mod managed;
mod request;
mod sandbox;
mod schema;
mod selectors;
mod service;
mod status;
mod store;
mod strategic;
mod table;
mod tcp;

pub use clock::{Clock, Dice, TokioClock};
pub use controllers::{Controllers, READY_AFTER, Settings};
pub use faults::{Fault, FaultPlan, When};
pub use machine::{Answer, Body, Cursor, Machine, Tick};
pub use request::{Request, Strictness, Target, Verb};
pub use sandbox::{Builder, Call, Sandbox};
pub use service::{ConnectionLost, ResponseBody, Service};
pub use status::Refusal;
pub use store::{Event, Key, Resource};
pub use tcp::Server;
