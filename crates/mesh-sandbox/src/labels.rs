//! Sets of labels, in the order of their names.

use std::fmt;
use std::sync::Arc;

/// The label that holds a metric's name.
pub const NAME: &str = "__name__";

/// A set of labels. Empty values are no labels, as in Prometheus. Clones share.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Labels(Arc<Vec<(Arc<str>, Arc<str>)>>);

impl Labels {
    /// The value of a label, empty where it is absent.
    #[must_use]
    pub fn get(&self, name: &str) -> &str {
        let found = self.0.binary_search_by(|(own, _)| (**own).cmp(name));
        found.ok().and_then(|i| self.0.get(i)).map_or("", |(_, value)| value)
    }

    /// Names and values, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// The same with one label of this value; without it when that is empty.
    #[must_use]
    pub fn with(&self, name: &str, value: &str) -> Self {
        let others = self.0.iter().filter(|(own, _)| **own != *name).cloned();
        let new = (!value.is_empty()).then(|| (name.into(), value.into()));
        let mut labels: Vec<_> = others.chain(new).collect();
        labels.sort();
        Self(Arc::new(labels))
    }

    /// Those labels of which the name is as asked for.
    #[must_use]
    pub fn filtered(&self, keep: impl Fn(&str) -> bool) -> Self {
        if self.0.iter().all(|(name, _)| keep(name)) {
            return self.clone();
        }
        Self(Arc::new(self.0.iter().filter(|(name, _)| keep(name)).cloned().collect()))
    }

    /// The same without the metric's name.
    #[must_use]
    pub fn nameless(&self) -> Self {
        self.filtered(|name| name != NAME)
    }
}

impl<K: AsRef<str>, V: AsRef<str>> FromIterator<(K, V)> for Labels {
    /// Of labels of one name the last one counts.
    fn from_iter<I: IntoIterator<Item = (K, V)>>(labels: I) -> Self {
        let mut sorted = std::collections::BTreeMap::<Arc<str>, Arc<str>>::new();
        for (name, value) in labels {
            sorted.insert(name.as_ref().into(), value.as_ref().into());
        }
        Self(Arc::new(sorted.into_iter().filter(|(_, value)| !value.is_empty()).collect()))
    }
}

/// As Prometheus writes them in its errors: `{a="1", b="2"}`.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (i, (name, value)) in self.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{name}={}", quoted(value))?;
        }
        f.write_str("}")
    }
}

/// Text in double quotes, with what would end them escaped.
#[must_use]
pub fn quoted(text: &str) -> String {
    let escaped = text.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n");
    format!("\"{escaped}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_sorted_and_empty_ones_are_none() {
        let labels = Labels::from_iter([("b", "2"), ("a", "1"), ("c", "")]);
        assert_eq!(labels.to_string(), r#"{a="1", b="2"}"#);
        assert_eq!((labels.get("b"), labels.get("c")), ("2", ""));
        assert_eq!(labels.with("aa", "3").to_string(), r#"{a="1", aa="3", b="2"}"#);
        assert_eq!(labels.with("a", "").to_string(), r#"{b="2"}"#);
        assert_eq!(labels.with(NAME, "x").nameless(), labels);
        assert!(labels < labels.with("c", "0") && labels < Labels::from_iter([("a", "10")]));
    }
}
