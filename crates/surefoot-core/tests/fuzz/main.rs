//! Whatever JSON comes in, as a route, a rule or an answer of Prometheus: nothing panics, an edit
//! changes what is ours and nothing else, and what is taken for evidence is a number.
//!
//! `PROPTEST_CASES` lengthens the search. What it has found stays as a test of its own name.

#[cfg(test)]
mod answers;
#[cfg(test)]
mod json;
#[cfg(test)]
mod routes;
#[cfg(test)]
mod rules;

#[cfg(test)]
fn config() -> proptest::prelude::ProptestConfig {
    proptest::prelude::ProptestConfig {
        cases: std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(300),
        failure_persistence: None,
        ..Default::default()
    }
}
