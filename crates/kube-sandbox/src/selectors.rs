//! Label and field selectors.

use serde_json::Value;

use crate::status::Refusal;

/// What a list, a watch or a mass deletion is about.
#[derive(Clone, Debug, Default)]
pub struct Selector {
    labels: Vec<Requirement>,
    fields: Vec<FieldTerm>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    key: String,
    operator: Operator,
    values: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    In,
    NotIn,
    Exists,
    Missing,
}

#[derive(Clone, Debug)]
struct FieldTerm {
    path: String,
    equal: bool,
    value: String,
}

impl Selector {
    /// Both selectors of a request. `fields` are those that the resource can be selected by, beside
    /// name and namespace; none for resources that know no others.
    ///
    /// # Errors
    /// When one of them can't be read or names a field that can't be selected by.
    pub fn parse(
        labels: Option<&str>,
        fields: Option<&str>,
        supported: Option<&[&str]>,
    ) -> Result<Selector, Refusal> {
        let labels = parse_labels(labels.unwrap_or_default())?;
        let fields = parse_fields(fields.unwrap_or_default(), supported)?;
        Ok(Selector { labels, fields })
    }

    /// From the `selector` of a workload: `matchLabels` and `matchExpressions`.
    #[must_use]
    pub fn of_workload(selector: &Value) -> Selector {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut labels = Vec::new();
        for (key, value) in selector["matchLabels"].as_object().into_iter().flatten() {
            let (key, values) = (key.clone(), vec![text(value)]);
            labels.push(Requirement { key, operator: Operator::In, values });
        }
        for expression in selector["matchExpressions"].as_array().into_iter().flatten() {
            let operator = match expression["operator"].as_str() {
                Some("In") => Operator::In,
                Some("NotIn") => Operator::NotIn,
                Some("Exists") => Operator::Exists,
                _ => Operator::Missing,
            };
            let values = expression["values"].as_array().into_iter().flatten().map(text).collect();
            labels.push(Requirement { key: text(&expression["key"]), operator, values });
        }
        Selector { labels, fields: Vec::new() }
    }

    /// Whether it selects everything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// Whether it selects this object.
    #[must_use]
    pub fn matches(&self, object: &Value) -> bool {
        self.labels.iter().all(|term| term.matches(&object["metadata"]["labels"]))
            && self.fields.iter().all(|term| term.matches(object))
    }
}

impl Requirement {
    fn matches(&self, labels: &Value) -> bool {
        let value = labels.get(&self.key).and_then(Value::as_str);
        let among = |value: &str| self.values.iter().any(|wanted| wanted == value);
        match self.operator {
            Operator::In => value.is_some_and(among),
            Operator::NotIn => !value.is_some_and(among),
            Operator::Exists => value.is_some(),
            Operator::Missing => value.is_none(),
        }
    }
}

impl FieldTerm {
    fn matches(&self, object: &Value) -> bool {
        let pointer = format!("/{}", self.path.replace('.', "/"));
        let value = match object.pointer(&pointer) {
            Some(Value::String(text)) => text.clone(),
            None | Some(Value::Null) => String::new(),
            Some(other) => other.to_string(),
        };
        (value == self.value) == self.equal
    }
}

fn parse_labels(text: &str) -> Result<Vec<Requirement>, Refusal> {
    let unreadable = |term: &str| {
        Refusal::bad_request(format!("unable to parse requirement: {term:?} of {text:?}"))
    };
    terms(text).into_iter().map(|term| requirement(term).ok_or_else(|| unreadable(term))).collect()
}

/// Splits at the commas that aren't within brackets.
fn terms(text: &str) -> Vec<&str> {
    let mut depth = 0u32;
    let split = text.split(|letter| {
        match letter {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        letter == ',' && depth == 0
    });
    split.map(str::trim).filter(|term| !term.is_empty()).collect()
}

fn requirement(term: &str) -> Option<Requirement> {
    let made = |key: &str, operator, values: Vec<String>| {
        let key = key.trim().to_owned();
        let valid =
            !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c));
        valid.then_some(Requirement { key, operator, values })
    };
    if let Some(key) = term.strip_prefix('!') {
        return made(key, Operator::Missing, Vec::new());
    }
    if let Some(list) = term.strip_suffix(')') {
        let (head, list) = list.split_once('(')?;
        let values = list.split(',').map(|value| value.trim().to_owned()).collect();
        let (key, word) = head.trim().rsplit_once(char::is_whitespace)?;
        return match word {
            "in" => made(key, Operator::In, values),
            "notin" => made(key, Operator::NotIn, values),
            _ => None,
        };
    }
    let one = |value: &str| vec![value.trim().to_owned()];
    if let Some((key, value)) = term.split_once("!=") {
        return made(key, Operator::NotIn, one(value));
    }
    if let Some((key, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
        return made(key, Operator::In, one(value));
    }
    made(term, Operator::Exists, Vec::new())
}

fn parse_fields(text: &str, supported: Option<&[&str]>) -> Result<Vec<FieldTerm>, Refusal> {
    let mut fields = Vec::new();
    for term in text.split(',').filter(|term| !term.is_empty()) {
        let (path, equal, value) = field_term(term).ok_or_else(|| {
            Refusal::bad_request(format!("invalid selector: '{text}'; can't understand '{term}'"))
        })?;
        let known = matches!(path, "metadata.name" | "metadata.namespace");
        if !known && !supported.is_some_and(|supported| supported.contains(&path)) {
            return Err(unknown_field(path, supported.is_none()));
        }
        fields.push(FieldTerm { path: path.to_owned(), equal, value: value.to_owned() });
    }
    Ok(fields)
}

fn unknown_field(path: &str, has_none: bool) -> Refusal {
    Refusal::bad_request(if has_none {
        format!(
            "{path:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
        )
    } else {
        format!("field label not supported: {path}")
    })
}

fn field_term(term: &str) -> Option<(&str, bool, &str)> {
    if let Some((path, value)) = term.split_once("!=") {
        return Some((path.trim(), false, value.trim()));
    }
    let (path, value) = term.split_once("==").or_else(|| term.split_once('='))?;
    Some((path.trim(), true, value.trim()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn selects(labels: &str, fields: &str) -> bool {
        let pod = json!({
            "metadata": {"name": "a", "labels": {"app": "web", "tier": "front"}},
            "status": {"phase": "Running"},
        });
        let selector =
            Selector::parse(Some(labels), Some(fields), Some(&["status.phase"])).unwrap();
        selector.matches(&pod)
    }

    #[test]
    fn labels_select() {
        for (labels, expected) in [
            ("", true),
            ("app=web", true),
            ("app==web,tier!=back", true),
            ("app in (web, api),tier notin (back)", true),
            ("app", true),
            ("!app", false),
            ("!other", true),
            ("other!=x", true),
            ("app=api", false),
        ] {
            assert_eq!(selects(labels, ""), expected, "{labels}");
        }
    }

    #[test]
    fn fields_select() {
        assert!(selects("", "metadata.name=a,status.phase!=Failed"));
        assert!(!selects("", "status.phase==Failed"));
        assert!(Selector::parse(None, Some("spec.x=1"), None).is_err());
        assert!(Selector::parse(Some("a b c"), None, None).is_err());
    }

    #[test]
    fn a_workloads_selector_selects() {
        let selector = Selector::of_workload(&json!({
            "matchLabels": {"app": "web"},
            "matchExpressions": [{"key": "gone", "operator": "DoesNotExist"}],
        }));
        assert!(selector.matches(&json!({"metadata": {"labels": {"app": "web"}}})));
        assert!(!selector.matches(&json!({"metadata": {"labels": {"app": "web", "gone": ""}}})));
    }
}
