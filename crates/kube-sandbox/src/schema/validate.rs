//! Whether a value is as its schema wants it.

use serde_json::Value;

use super::{Checks, Schema, Type};
use crate::status::Cause;

/// What is wrong with `value`, given what it was before (for transition rules). Rules in CEL aren't
/// asked when the rest is so wrong that they might fail for it. `more` is what else is wrong. Of what is
/// written by way of a subresource only that part is looked at, save by the rules.
#[must_use]
pub fn validate(
    value: &Value,
    old: Option<&Value>,
    schema: &Schema,
    more: Vec<Cause>,
    subresource: Option<&str>,
) -> Vec<Cause> {
    let mut causes = match subresource {
        Some(name) => part(value, schema, name),
        None => Vec::new(),
    };
    if subresource.is_none() {
        shape(value, schema, "", &mut causes);
    }
    causes.extend(more);
    if !has_rules(schema) {
        return causes;
    }
    if causes.iter().any(blocks_rules) {
        causes.push(Cause {
            reason: "FieldValueInvalid",
            field: NOWHERE.into(),
            message: "Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation".into(),
        });
    } else {
        super::cel_rules::check(value, old, schema, "", &mut causes);
    }
    causes
}

/// What is wrong with a part, said as if the part were all.
fn part(value: &Value, schema: &Schema, name: &str) -> Vec<Cause> {
    let mut causes = Vec::new();
    if let (Some(value), Some(schema)) = (value.get(name), schema.field(name)) {
        shape(value, schema, "", &mut causes);
    }
    for cause in &mut causes {
        cause.field = match cause.field.as_str() {
            "" | NOWHERE => name.to_owned(),
            field => format!("{name}.{field}"),
        };
    }
    causes
}

fn has_rules(schema: &Schema) -> bool {
    !schema.rules.is_empty()
        || schema.properties.values().any(has_rules)
        || schema.additional.as_deref().is_some_and(has_rules)
        || schema.item().is_some_and(has_rules)
}

/// The path of what is about no field.
const NOWHERE: &str = "<nil>";

fn blocks_rules(cause: &Cause) -> bool {
    matches!(
        cause.reason,
        "FieldValueNotSupported"
            | "FieldValueRequired"
            | "FieldValueTooLong"
            | "FieldValueTooMany"
            | "FieldValueTypeInvalid"
    )
}

/// The path of a field below another.
pub(super) fn below(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn body(path: &str) -> String {
    if path.is_empty() { "body".to_owned() } else { format!("{path} in body") }
}

fn shape(value: &Value, schema: &Schema, path: &str, causes: &mut Vec<Cause>) {
    if value.is_null() && schema.nullable {
        return;
    }
    if !has_type(value, schema) {
        let broken = schema.kind == Some(Type::Integer) && value.is_number();
        let named = schema.kind.map_or("integer,string", Type::name);
        let wanted = schema.format.as_deref().filter(|_| broken).unwrap_or(named);
        let got = if broken { "float64" } else { type_name(value) };
        let why = format!("{} must be of type {wanted}: {got:?}", body(path));
        let reason = "FieldValueTypeInvalid";
        let message = format!("Invalid value: {got:?}: {why}");
        causes.push(Cause { reason, field: path.to_owned(), message });
        if value.is_number() {
            range(value, schema, path, causes);
            number_checks(value.as_f64(), value, &schema.checks, path, causes);
        }
        return;
    }
    range(value, schema, path, causes);
    checks(value, &schema.checks, path, causes);
    formats(value, schema, path, causes);
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                if path.is_empty() && matches!(name.as_str(), "metadata" | "apiVersion" | "kind") {
                    continue;
                }
                if let Some(schema) = schema.field(name) {
                    shape(field, schema, &below(path, name), causes);
                }
            }
        }
        Value::Array(items) => {
            super::validate_list::unique(items, &schema.list, path, causes);
            let Some(schema) = schema.item() else { return };
            for (index, item) in items.iter().enumerate() {
                shape(item, schema, &format!("{path}[{index}]"), causes);
            }
        }
        _ => {}
    }
}

fn has_type(value: &Value, schema: &Schema) -> bool {
    if schema.int_or_string {
        return value.is_string() || is_integer(value);
    }
    match schema.kind {
        None => true,
        Some(Type::Array) => value.is_array(),
        Some(Type::Boolean) => value.is_boolean(),
        Some(Type::Integer) => is_integer(value),
        Some(Type::Number) => value.is_number(),
        Some(Type::Object) => value.is_object(),
        Some(Type::String) => value.is_string(),
    }
}

/// Whether a number is one that its type and format can hold.
fn range(value: &Value, schema: &Schema, path: &str, causes: &mut Vec<Cause>) {
    if schema.kind != Some(Type::Integer) || !value.is_number() {
        return;
    }
    let whole = value.as_i64().or_else(|| {
        let number = value.as_f64().filter(|number| number.fract() == 0.0)?;
        number.to_string().parse().ok()
    });
    let format = schema.format.as_deref();
    let holds = match (whole, format) {
        (Some(number), Some("int32")) => i32::try_from(number).is_ok(),
        (whole, _) => whole.is_some(),
    };
    if !holds {
        let format = format.map_or("(default format)".to_owned(), |f| format!("with format {f}"));
        let why = format!("Checked value must be of type integer {format} in {path}");
        causes.push(Cause::invalid(NOWHERE, &"".into(), why));
    }
}

fn is_integer(value: &Value) -> bool {
    value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|number| number.fract() == 0.0)
}

pub(super) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) if is_integer(value) => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn checks(value: &Value, checks: &Checks, path: &str, causes: &mut Vec<Cause>) {
    if let Some(supported) = &checks.one_of_values
        && !supported.contains(value)
    {
        causes.push(Cause::unsupported(path, value, supported));
    }
    match value {
        Value::Number(number) => number_checks(number.as_f64(), value, checks, path, causes),
        Value::String(text) => text_checks(text, checks, path, causes),
        Value::Array(items) => {
            let (least, most) = (checks.min_items, checks.max_items);
            count_checks(items.len(), least, most, "items", path, causes);
        }
        Value::Object(fields) => {
            let (least, most) = (checks.min_properties, checks.max_properties);
            count_checks(fields.len(), least, most, "properties", path, causes);
            let missing = checks.required.iter().filter(|name| !fields.contains_key(*name));
            causes.extend(missing.map(|name| Cause::required(below(path, name), "")));
        }
        _ => {}
    }
    combined(value, checks, path, causes);
}

fn number_checks(
    number: Option<f64>,
    value: &Value,
    checks: &Checks,
    path: &str,
    causes: &mut Vec<Cause>,
) {
    let Some(number) = number else { return };
    let mut say = |why: String| {
        causes.push(Cause::invalid(path, value, format!("{} should be {why}", body(path))));
    };
    match checks.minimum {
        Some(least) if checks.exclusive_minimum && number <= least => {
            say(format!("greater than {least}"));
        }
        Some(least) if number < least => say(format!("greater than or equal to {least}")),
        _ => {}
    }
    match checks.maximum {
        Some(most) if checks.exclusive_maximum && number >= most => {
            say(format!("less than {most}"))
        }
        Some(most) if number > most => say(format!("less than or equal to {most}")),
        _ => {}
    }
    if let Some(factor) = checks.multiple_of
        && (number / factor).fract() != 0.0
    {
        say(format!("a multiple of {factor}"));
    }
}

fn text_checks(text: &str, checks: &Checks, path: &str, causes: &mut Vec<Cause>) {
    let length = text.chars().count() as u64;
    if let Some(most) = checks.max_length.filter(|most| length > *most) {
        let message = format!("Too long: may not be more than {most} bytes");
        causes.push(Cause { reason: "FieldValueTooLong", field: path.to_owned(), message });
        return;
    }
    if let Some(least) = checks.min_length.filter(|least| length < *least) {
        let why = format!("{} should be at least {least} chars long", body(path));
        causes.push(Cause::invalid(path, &text.into(), why));
        return;
    }
    if let Some(pattern) = checks.pattern.as_ref().filter(|pattern| !pattern.is_match(text)) {
        let why = format!("{} should match '{pattern}'", body(path));
        causes.push(Cause::invalid(path, &text.into(), why));
    }
}

fn count_checks(
    count: usize,
    least: Option<u64>,
    most: Option<u64>,
    what: &str,
    path: &str,
    causes: &mut Vec<Cause>,
) {
    if let Some(most) = most.filter(|most| count as u64 > *most) {
        let what = if most == 1 { what.trim_end_matches('s') } else { what };
        let message = format!("Too many: {count}: must have at most {most} {what}");
        causes.push(Cause { reason: "FieldValueTooMany", field: path.to_owned(), message });
    }
    if let Some(least) = least.filter(|least| (count as u64) < *least) {
        let why = format!("{} should have at least {least} {what}", body(path));
        causes.push(Cause::invalid(path, &count.into(), why));
    }
}

fn combined(value: &Value, checks: &Checks, path: &str, causes: &mut Vec<Cause>) {
    for schema in &checks.all_of {
        shape(value, schema, path, causes);
    }
    let fulfilled = |schema: &&Schema| {
        let mut causes = Vec::new();
        shape(value, schema, path, &mut causes);
        causes.is_empty()
    };
    let mut say = |why: &str| {
        let why = format!("{} {why}", body(path));
        causes.push(Cause::invalid(path, value, why));
    };
    if !checks.any_of.is_empty() && !checks.any_of.iter().any(|schema| fulfilled(&schema)) {
        say("must validate at least one schema (anyOf)");
    }
    if !checks.one_of.is_empty() && checks.one_of.iter().filter(fulfilled).count() != 1 {
        say("must validate one and only one schema (oneOf)");
    }
    if checks.not.as_deref().is_some_and(|schema| fulfilled(&schema)) {
        say("must not validate the schema (not)");
    }
}

fn formats(value: &Value, schema: &Schema, path: &str, causes: &mut Vec<Cause>) {
    let Some(format) = schema.format.as_deref() else { return };
    let right = match (format, value) {
        ("date-time", Value::String(text)) => text.parse::<jiff::Timestamp>().is_ok(),
        ("uuid", Value::String(text)) => text.len() == 36,
        _ => true,
    };
    if !right {
        let why = format!("{} must be of type {format}: {value}", body(path));
        causes.push(Cause::invalid(path, value, why));
    }
}
