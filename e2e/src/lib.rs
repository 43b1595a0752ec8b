//! Surefoot against real parts: kube-apiserver, kube-controller-manager, istiod,
//! Envoy and Prometheus, with pods that are played by this program.
//!
//! A scenario (`scenarios`) is an async function on a [`world::Scene`]: a namespace,
//! its record and the shared [`world::World`] of parts.

pub mod api_proxy;
pub mod app;
pub mod apply;
pub mod backend;
pub mod clock;
pub mod controllers;
pub mod delivery;
pub mod demo;
pub mod linkerd;
pub mod load;
pub mod netns;
pub mod parts;
pub mod proxy;
pub mod record;
pub mod requests;
pub mod runner;
pub mod scenarios;
pub mod scope;
pub mod sidecars;
pub mod slack;
pub mod up;
pub mod wait;
pub mod way;
pub mod world;
