//! Routes as raw JSON: reading the two weights, and the smallest edit that changes them.

pub mod istio;

use serde::Serialize;

/// What a route says about the two destinations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weights {
    /// Stable's share, as written.
    pub stable: i64,
    /// The canary's share, as written.
    pub canary: i64,
}

impl Weights {
    /// The canary's share in per cent, where the pair is ours (each 0–100, sum 100).
    #[must_use]
    pub fn canary_percent(&self) -> Option<i32> {
        let range = 0..=100;
        let ours = range.contains(&self.stable) && range.contains(&self.canary);
        (ours && self.stable + self.canary == 100).then(|| i32::try_from(self.canary).unwrap_or(0))
    }
}

/// Why a route can't be used. Nothing is written to such a route.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize)]
pub enum RouteProblem {
    /// It isn't there.
    #[error(
        "VirtualService {name:?} doesn't exist: create it with one http route to both Services"
    )]
    Missing {
        /// Its name.
        name: String,
    },
    /// It has no http routes.
    #[error(
        "VirtualService {name:?} has no http route (spec.http is empty): add one to both Services"
    )]
    NoHttp {
        /// Its name.
        name: String,
    },
    /// It has several http routes.
    #[error(
        "VirtualService {name:?} has {count} http routes: with more than one it isn't clear whose weights to shift; leave one"
    )]
    SeveralHttp {
        /// Its name.
        name: String,
        /// How many.
        count: usize,
    },
    /// Its destinations aren't exactly the two Services.
    #[error(
        "VirtualService {name:?} must route to exactly {stable} and {canary}, but routes to: {found}"
    )]
    Destinations {
        /// Its name.
        name: String,
        /// Host wanted for stable.
        stable: String,
        /// Host wanted for the canary.
        canary: String,
        /// Hosts found.
        found: String,
    },
    /// A weight isn't a number from 0 to 100, or the two don't sum to 100.
    #[error(
        "VirtualService {name:?} has weights {stable} and {canary}; write numbers from 0 to 100 that sum to 100"
    )]
    BadWeights {
        /// Its name.
        name: String,
        /// As found.
        stable: i64,
        /// As found.
        canary: i64,
    },
}
