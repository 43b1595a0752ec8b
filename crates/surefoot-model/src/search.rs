//! The search, and what it found.

use std::fmt;

use stateright::{Checker, Expectation, HasDiscoveries, Model};

use crate::model::{Happening, Protocol};

/// What was found.
#[derive(Debug)]
pub struct Findings {
    /// Different states.
    pub states: usize,
    /// States, one for each way that leads to them.
    pub reached: usize,
    /// Steps on the longest of the shortest ways.
    pub depth: usize,
    /// There are no more within the bounds.
    pub all: bool,
    /// One for each property.
    pub properties: Vec<Finding>,
}

/// What was found of a property.
#[derive(Debug)]
pub struct Finding {
    /// Which.
    pub name: &'static str,
    /// It is as it should be.
    pub good: bool,
    /// How it is, in words.
    pub said: String,
    /// A way to a state that breaks it, as short as any but for a step or two; or one that reaches what
    /// must be reached.
    pub steps: Vec<Happening>,
}

/// Search breadth first, until all is searched, something is broken, or about `most` states are known.
#[must_use]
pub fn search(model: Protocol, most: Option<usize>) -> Findings {
    // One thread: of several, one that ends early leaves the others waiting for ever.
    let checker = model.checker().threads(1).finish_when(HasDiscoveries::AnyFailures);
    let checker = match most {
        Some(most) => checker.target_state_count(most),
        None => checker,
    };
    let checker = checker.spawn_bfs().join();
    let mut discoveries = checker.discoveries();
    let properties = checker.model().properties();
    let findings = properties.into_iter().map(|property| {
        let found = discoveries.remove(property.name);
        let broken = found.as_ref().map(|path| {
            let violations = path.last_state().store.checker.violations();
            violations.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
        });
        let steps = found.map(|path| path.into_actions()).unwrap_or_default();
        let (good, said) = match (property.expectation, broken) {
            (Expectation::Sometimes, Some(_)) => (true, "reached".to_owned()),
            (Expectation::Sometimes, None) => (false, "not reached".to_owned()),
            (_, None) => (true, "holds".to_owned()),
            (_, Some(what)) => (false, format!("BROKEN after {} steps: {what}", steps.len())),
        };
        Finding { name: property.name, good, said, steps }
    });
    let properties: Vec<Finding> = findings.collect();
    let early = properties.iter().any(|f| !f.good && !f.steps.is_empty())
        || most.is_some_and(|most| checker.state_count() >= most);
    Findings {
        states: checker.unique_state_count(),
        reached: checker.state_count(),
        depth: checker.max_depth(),
        all: checker.is_done() && !early,
        properties,
    }
}

impl Findings {
    /// Names of the properties that aren't as they should be.
    #[must_use]
    pub fn bad(&self) -> Vec<&'static str> {
        self.properties.iter().filter(|finding| !finding.good).map(|f| f.name).collect()
    }

    /// What must never be, and is.
    #[must_use]
    pub fn broken(&self) -> Vec<&'static str> {
        let broken = self.properties.iter().filter(|f| !f.good && !f.steps.is_empty());
        broken.map(|finding| finding.name).collect()
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.properties {
            let sign = match (finding.good, finding.steps.is_empty()) {
                (true, _) => "ok  ",
                (false, true) => "-   ",
                (false, false) => "FAIL",
            };
            writeln!(f, "{sign} {:46} {}", finding.name, finding.said)?;
            if !finding.good {
                for (n, step) in finding.steps.iter().enumerate() {
                    writeln!(f, "     {:3} {step:?}", n + 1)?;
                }
            }
        }
        Ok(())
    }
}
