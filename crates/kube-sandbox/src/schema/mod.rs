//! Structural schemas of custom resources.

mod cel_rules;
mod needed;
mod parse;
mod shape;
mod validate;
mod validate_list;

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::Value;

pub use cel_rules::Rule;
pub use parse::parse;
pub use shape::{default, prune};
pub use validate::validate;

/// The types of JSON that a schema can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// `array`
    Array,
    /// `boolean`
    Boolean,
    /// `integer`
    Integer,
    /// `number`
    Number,
    /// `object`
    Object,
    /// `string`
    String,
}

impl Type {
    fn name(self) -> &'static str {
        match self {
            Type::Array => "array",
            Type::Boolean => "boolean",
            Type::Integer => "integer",
            Type::Number => "number",
            Type::Object => "object",
            Type::String => "string",
        }
    }
}

/// How the items of a list relate to each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ListType {
    /// They don't: the list is one value.
    #[default]
    Atomic,
    /// Each is there once.
    Set,
    /// Each has a key of these fields.
    Map(Vec<String>),
}

/// A node of a structural schema.
#[derive(Debug, Default)]
pub struct Schema {
    kind: Option<Type>,
    nullable: bool,
    int_or_string: bool,
    preserve_unknown: bool,
    embedded: bool,
    properties: BTreeMap<String, Schema>,
    additional: Option<Box<Schema>>,
    /// `additionalProperties: true` (or a schema, see `additional`).
    open: bool,
    items: Option<Box<Schema>>,
    list: ListType,
    default: Option<Value>,
    format: Option<String>,
    checks: Checks,
    rules: Vec<Rule>,
}

/// What a value must fulfil, beside its type.
#[derive(Debug, Default)]
struct Checks {
    required: Vec<String>,
    one_of_values: Option<Vec<Value>>,
    minimum: Option<f64>,
    exclusive_minimum: bool,
    maximum: Option<f64>,
    exclusive_maximum: bool,
    multiple_of: Option<f64>,
    min_length: Option<u64>,
    max_length: Option<u64>,
    pattern: Option<Regex>,
    min_items: Option<u64>,
    max_items: Option<u64>,
    min_properties: Option<u64>,
    max_properties: Option<u64>,
    all_of: Vec<Schema>,
    any_of: Vec<Schema>,
    one_of: Vec<Schema>,
    not: Option<Box<Schema>>,
}

impl Schema {
    /// The schema of a field.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Schema> {
        self.properties.get(name).or(self.additional.as_deref())
    }

    /// The schema of the items of a list.
    #[must_use]
    pub fn item(&self) -> Option<&Schema> {
        self.items.as_deref()
    }

    /// How the items of this list relate to each other.
    #[must_use]
    pub fn list_type(&self) -> &ListType {
        &self.list
    }

    fn keeps_unknown(&self) -> bool {
        self.preserve_unknown || (self.open && self.additional.is_none())
    }
}

#[cfg(test)]
mod tests;
