//! The protocol in a model checker: every order in which two controllers, a crash, a hand-over, a lost
//! reply, a stale view, people and time may come between any two calls to the API server, within
//! bounds. What is decided and what is written, and in which order, is the controller's own code:
//! [`surefoot_core::turn`], [`surefoot_core::act`] and all that they call. Only the API server
//! ([`store`]), the native controllers ([`native`]) and what happens ([`model`]) are played.
//!
//! | module | what it holds |
//! |---|---|
//! | [`shared`] | values that are cheap to copy, compare and hash |
//! | [`store`] | the API server, with the invariants' checker at its door |
//! | [`native`] | the native controllers, at once |
//! | [`process`] | a controller process, one call at a time |
//! | [`view`] | what a process sees, fresh or stale |
//! | [`metrics`] | what Prometheus has of each stretch of time |
//! | [`model`] | the state, what may happen, and the bounds |
//! | [`properties`] | what must always hold, and what must be reached |
//! | [`search`] | the search and what it found |
#![deny(missing_docs)]

pub mod metrics;
pub mod model;
pub mod native;
pub mod process;
pub mod properties;
pub mod search;
pub mod shared;
pub mod store;
pub mod view;
