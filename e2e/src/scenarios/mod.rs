//! The scenarios: a file each, and a line each in `all`.

mod api_server_away;
mod pod_lives;
mod promoted;
mod self_check;

use crate::runner::Scenario;
use crate::scenario;

/// All scenarios.
fn all() -> Vec<Scenario> {
    vec![
        scenario!("promoted", promoted::play),
        scenario!("promoted-paused-at-rest", promoted::paused_at_rest),
        scenario!("self-check", self_check::play),
        scenario!("pod-lives", pod_lives::play),
        scenario!("api-server-away", api_server_away::play, alone),
    ]
}

/// Those whose names contain one of the filters; all without a filter.
pub fn matching(filters: &[String]) -> Vec<Scenario> {
    let wanted = |scenario: &Scenario| {
        filters.is_empty() || filters.iter().any(|f| scenario.name.contains(f))
    };
    all().into_iter().filter(wanted).collect()
}
