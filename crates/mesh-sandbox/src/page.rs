//! The text exposition format.

use crate::json::plain;
use crate::labels::{Labels, NAME, quoted};

/// The page of these metrics, those of one name together, each family with its type.
pub fn page<'a>(metrics: impl Iterator<Item = (&'a Labels, f64)>) -> String {
    let mut page = String::new();
    let mut told = String::new();
    for (labels, value) in metrics {
        let name = labels.get(NAME);
        let (family, kind) = family(name);
        if family != told {
            page.push_str(&format!("# TYPE {family} {kind}\n"));
            family.clone_into(&mut told);
        }
        let pairs: Vec<String> = labels
            .iter()
            .filter(|(name, _)| *name != NAME)
            .map(|(name, value)| format!("{name}={}", quoted(value)))
            .collect();
        let braces =
            if pairs.is_empty() { String::new() } else { format!("{{{}}}", pairs.join(",")) };
        page.push_str(&format!("{name}{braces} {}\n", plain(value)));
    }
    page
}

fn family(name: &str) -> (&str, &'static str) {
    let histogram = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
    match histogram {
        Some(family) => (family, "histogram"),
        None if name.ends_with("_total") => (name, "counter"),
        None => (name, "gauge"),
    }
}
