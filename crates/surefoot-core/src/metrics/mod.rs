//! The mesh's metrics: which questions to ask (typed builders of PromQL), and what the answers mean.

pub mod answer;
pub mod history;
pub mod query;
pub mod replica;
pub mod tick;
pub mod wanted;

pub use wanted::{Wanted, past, wanted};
