//! What we wrote last on a route, kept on the route itself: weights that differ from it are somebody
//! else's, whoever wrote them and whenever, after any crash.

use std::fmt;

use serde_json::Value;

/// The annotation that holds it.
pub const WROTE: &str = "surefoot.dev/wrote";

/// A weight of ours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mark {
    /// Number of the release that it was written for, 0 before the first.
    pub release: i64,
    /// The canary's weight, per cent.
    pub weight: i32,
}

impl Mark {
    /// Read it off a raw route.
    #[must_use]
    pub fn of(route: &Value) -> Option<Self> {
        let annotations = route.pointer("/metadata/annotations")?;
        let (release, weight) = annotations.get(WROTE)?.as_str()?.split_once('/')?;
        Some(Self { release: release.parse().ok()?, weight: weight.parse().ok()? })
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.release, self.weight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_written_is_read() {
        let mark = Mark { release: 3, weight: 50 };
        let route = json!({"metadata": {"annotations": {WROTE: mark.to_string()}}});
        assert_eq!(Mark::of(&route), Some(mark));
        for strange in [json!({}), json!({"metadata": {"annotations": {WROTE: "3"}}})] {
            assert_eq!(Mark::of(&strange), None);
        }
    }
}
