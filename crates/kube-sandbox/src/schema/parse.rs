//! From `openAPIV3Schema` to a [`Schema`].

use regex::Regex;
use serde_json::Value;

use super::{Checks, ListType, Rule, Schema, Type};
use crate::status::Cause;

/// Deeper schemas are refused: nobody writes them, and recursion must end.
const MAX_DEPTH: usize = 100;

/// Reads a schema; `path` is where it stands, for errors.
///
/// # Errors
/// What is wrong with it, a field each.
pub fn parse(schema: &Value, path: &str) -> Result<Schema, Vec<Cause>> {
    let mut causes = Vec::new();
    let parsed = Parser { causes: &mut causes }.node(schema, path, 0);
    if causes.is_empty() { Ok(parsed) } else { Err(causes) }
}

struct Parser<'a> {
    causes: &'a mut Vec<Cause>,
}

impl Parser<'_> {
    fn node(&mut self, node: &Value, path: &str, depth: usize) -> Schema {
        if depth > MAX_DEPTH {
            let why = format!("schemas nest at most {MAX_DEPTH} deep here");
            self.causes.push(Cause::forbidden(path, why));
            return Schema::default();
        }
        let flag = |name: &str| node[name].as_bool().unwrap_or(false);
        let mut schema = Schema {
            kind: self.kind(node, path),
            nullable: flag("nullable"),
            int_or_string: flag("x-kubernetes-int-or-string"),
            preserve_unknown: flag("x-kubernetes-preserve-unknown-fields"),
            embedded: flag("x-kubernetes-embedded-resource"),
            open: flag("additionalProperties"),
            list: list_type(node),
            default: node.get("default").cloned(),
            format: node["format"].as_str().map(str::to_owned),
            checks: self.checks(node, path, depth),
            rules: self.rules(node, path),
            ..Schema::default()
        };
        for (name, field) in node["properties"].as_object().into_iter().flatten() {
            let field = self.node(field, &format!("{path}.properties[{name}]"), depth + 1);
            schema.properties.insert(name.clone(), field);
        }
        if node["additionalProperties"].is_object() {
            let path = format!("{path}.additionalProperties");
            let node = self.node(&node["additionalProperties"], &path, depth + 1);
            schema.additional = Some(Box::new(node));
        }
        if node["items"].is_object() {
            let items = self.node(&node["items"], &format!("{path}.items"), depth + 1);
            schema.items = Some(Box::new(items));
        }
        schema
    }

    fn kind(&mut self, node: &Value, path: &str) -> Option<Type> {
        let kind = match node["type"].as_str()? {
            "array" => Type::Array,
            "boolean" => Type::Boolean,
            "integer" => Type::Integer,
            "number" => Type::Number,
            "object" => Type::Object,
            "string" => Type::String,
            other => {
                let supported = ["array", "boolean", "integer", "number", "object", "string"];
                let supported = supported.map(Value::from);
                let path = format!("{path}.type");
                self.causes.push(Cause::unsupported(path, &other.into(), &supported));
                return None;
            }
        };
        Some(kind)
    }

    fn checks(&mut self, node: &Value, path: &str, depth: usize) -> Checks {
        let count = |name: &str| node[name].as_u64();
        let number = |name: &str| node[name].as_f64();
        let flag = |name: &str| node[name].as_bool().unwrap_or(false);
        let mut several = |name: &str| -> Vec<Schema> {
            let nodes = node[name].as_array().into_iter().flatten().enumerate();
            let named = |index| format!("{path}.{name}[{index}]");
            nodes.map(|(index, node)| self.node(node, &named(index), depth + 1)).collect()
        };
        let (all_of, any_of, one_of) = (several("allOf"), several("anyOf"), several("oneOf"));
        let not = node.get("not").map(|node| self.node(node, &format!("{path}.not"), depth + 1));
        Checks {
            required: strings(&node["required"]),
            one_of_values: node["enum"].as_array().cloned(),
            minimum: number("minimum"),
            exclusive_minimum: flag("exclusiveMinimum"),
            maximum: number("maximum"),
            exclusive_maximum: flag("exclusiveMaximum"),
            multiple_of: number("multipleOf"),
            min_length: count("minLength"),
            max_length: count("maxLength"),
            pattern: self.pattern(node, path),
            min_items: count("minItems"),
            max_items: count("maxItems"),
            min_properties: count("minProperties"),
            max_properties: count("maxProperties"),
            all_of,
            any_of,
            one_of,
            not: not.map(Box::new),
        }
    }

    fn pattern(&mut self, node: &Value, path: &str) -> Option<Regex> {
        let pattern = node["pattern"].as_str()?;
        match Regex::new(pattern) {
            Ok(regex) => Some(regex),
            Err(error) => {
                let why = format!("must be a valid regular expression: {error}");
                self.causes.push(Cause::invalid(format!("{path}.pattern"), &pattern.into(), why));
                None
            }
        }
    }

    fn rules(&mut self, node: &Value, path: &str) -> Vec<Rule> {
        let mut rules = Vec::new();
        let nodes = node["x-kubernetes-validations"].as_array().into_iter().flatten();
        for (index, node) in nodes.enumerate() {
            match Rule::compile(node) {
                Ok(rule) => rules.push(rule),
                Err(why) => {
                    let path = format!("{path}.x-kubernetes-validations[{index}].rule");
                    self.causes.push(Cause::invalid(path, &node["rule"], why));
                }
            }
        }
        rules
    }
}

fn list_type(node: &Value) -> ListType {
    match node["x-kubernetes-list-type"].as_str() {
        Some("set") => ListType::Set,
        Some("map") => ListType::Map(strings(&node["x-kubernetes-list-map-keys"])),
        _ => ListType::Atomic,
    }
}

fn strings(list: &Value) -> Vec<String> {
    let list = list.as_array().into_iter().flatten();
    list.filter_map(Value::as_str).map(str::to_owned).collect()
}
