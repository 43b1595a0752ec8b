//! Values that must never be seen.

use std::fmt;

use serde::{Serialize, Serializer};

/// A secret. Whatever prints or serialises it gets `[redacted]`.
#[derive(Clone, PartialEq, Eq)]
pub struct Redacted(String);

impl Redacted {
    /// Keep it.
    #[must_use]
    pub fn new(secret: String) -> Self {
        Self(secret)
    }

    /// The secret itself, for the one place that sends it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Redacted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl fmt::Display for Redacted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl Serialize for Redacted {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_way_of_printing_shows_it() {
        let secret = Redacted::new("xoxb-1".to_owned());
        let printed = format!("{secret} {secret:?} {:#?}", Some(&secret));
        let json = serde_json::to_string(&secret).unwrap();
        assert!(!printed.contains("xoxb") && !json.contains("xoxb"), "{printed} {json}");
        assert_eq!(secret.expose(), "xoxb-1");
    }
}
