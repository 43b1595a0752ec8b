//! Rules in CEL (`x-kubernetes-validations`), with transition rules.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use cel::common::types::{CelBool, LIST_TYPE, STRING_TYPE};
use cel::common::value::CowVal;
use cel::objects::Key;
use cel::{Context, Env, Program, Value as Cel};
use serde_json::Value;

use super::needed::Needed;
use super::validate::below;
use super::{ListType, Schema, Type};
use crate::status::Cause;

/// A rule, compiled.
#[derive(Debug)]
pub struct Rule {
    source: String,
    program: Program,
    message: Option<String>,
    message_expression: Option<Program>,
    reason: Option<String>,
    field_path: Option<String>,
    is_transition: bool,
    needed: Needed,
}

/// The functions that rules may call: CEL's own, its libraries for strings, lists and math, and of
/// Kubernetes' own `isSorted` and `isIP`.
fn environment() -> Arc<Env> {
    static ENVIRONMENT: OnceLock<Arc<Env>> = OnceLock::new();
    let made = ENVIRONMENT.get_or_init(|| {
        let mut env = Env::stdlib();
        // They can only fail when a function is declared twice, which a test would see.
        let _ = env.add_extension(cel::extensions::strings);
        let _ = env.add_extension(cel::extensions::lists);
        let _ = env.add_extension(cel::extensions::math);
        let _ = env.add_member_overload("isSorted", "list_is_sorted", LIST_TYPE, vec![], is_sorted);
        let _ = env.add_overload("isIP", "is_ip_string", vec![STRING_TYPE], is_ip);
        Arc::new(env)
    });
    Arc::clone(made)
}

#[expect(clippy::needless_pass_by_value, reason = "the signature is the library's")]
fn is_sorted<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, cel::ExecutionError> {
    let list = args.first().map(|list| Cel::try_from(&**list)).transpose()?;
    let Some(Cel::List(items)) = list else {
        return Err(cel::ExecutionError::function_error("isSorted", "not a list"));
    };
    let sorted = items.windows(2).all(|pair| pair[0] <= pair[1]);
    Ok(CowVal::owned(CelBool::from(sorted)))
}

/// Why a rule doesn't hold.
enum Broken {
    /// It says so.
    Rule(String),
    /// It can't be evaluated.
    Evaluation(String),
}

#[expect(clippy::needless_pass_by_value, reason = "the signature is the library's")]
fn is_ip<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, cel::ExecutionError> {
    let text = args.first().map(|text| Cel::try_from(&**text)).transpose()?;
    let Some(Cel::String(text)) = text else {
        return Err(cel::ExecutionError::function_error("isIP", "not a string"));
    };
    Ok(CowVal::owned(CelBool::from(text.parse::<std::net::IpAddr>().is_ok())))
}

impl Rule {
    /// Compiles a rule; the error says what is wrong with it.
    pub(super) fn compile(node: &Value) -> Result<Rule, String> {
        let text = |name: &str| node[name].as_str().map(str::to_owned);
        let source = text("rule").unwrap_or_default();
        let program = compiled(&source)?;
        if node["optionalOldSelf"] == true {
            return Err(
                "kube-sandbox doesn't know optionalOldSelf: test this rule on a real server".into(),
            );
        }
        let is_transition = program.references().has_variable("oldSelf");
        let message_expression = text("messageExpression").map(|e| compiled(&e)).transpose()?;
        Ok(Rule {
            needed: Needed::of([&program].into_iter().chain(&message_expression)),
            message_expression,
            message: text("message"),
            reason: text("reason"),
            field_path: text("fieldPath"),
            is_transition,
            program,
            source,
        })
    }

    /// What is wrong, if something is.
    fn broken(&self, context: &Context<'_, '_>) -> Option<Broken> {
        match self.program.execute(context) {
            Ok(Cel::Bool(true)) => None,
            Ok(Cel::Bool(false)) => Some(Broken::Rule(self.says(context))),
            Ok(other) => Some(Broken::Evaluation(format!("no bool but {other:?}"))),
            Err(error) => Some(Broken::Evaluation(error.to_string())),
        }
    }

    fn says(&self, context: &Context<'_, '_>) -> String {
        let said = self.message_expression.as_ref().map(|program| program.execute(context));
        match (said, &self.message) {
            (Some(Ok(Cel::String(said))), _) => said.to_string(),
            (_, Some(message)) => message.clone(),
            (_, None) => format!("failed rule: {}", self.source.trim()),
        }
    }

    fn cause(&self, path: &str, value: &Value, broken: &Broken) -> Cause {
        let field = match &self.field_path {
            Some(inner) => format!("{path}{inner}"),
            None if path.is_empty() => "<nil>".to_owned(),
            None => path.to_owned(),
        };
        let why = match broken {
            Broken::Rule(why) => why.as_str(),
            Broken::Evaluation(error) => {
                let rule = self.message.as_deref().unwrap_or(&self.source);
                let name = super::validate::type_name(value);
                let error = in_words(error);
                let message = format!("Invalid value: {name:?}: {error} evaluating rule: {rule}");
                return Cause { reason: "FieldValueInvalid", field, message };
            }
        };
        match self.reason.as_deref() {
            Some("FieldValueForbidden") => Cause::forbidden(field, why),
            Some("FieldValueRequired") => Cause::required(field, why),
            _ if value.is_object() || value.is_array() => {
                let message = format!("Invalid value: {why}");
                Cause { reason: "FieldValueInvalid", field, message }
            }
            _ => Cause::invalid(field, value, why),
        }
    }
}

/// Functions of Kubernetes' own libraries that aren't there.
const MISSING: [&str; 15] = [
    "authorizer",
    "cidr",
    "find",
    "findAll",
    "ip",
    "isCIDR",
    "isQuantity",
    "isSemver",
    "isURL",
    "max",
    "min",
    "quantity",
    "semver",
    "sum",
    "url",
];

/// What went wrong with a rule, in the words of the real server's engine.
fn in_words(error: &str) -> String {
    if let Some(index) = error.strip_prefix("Index out of bounds: Int(") {
        return format!("index out of bounds: {}", index.trim_end_matches(')'));
    }
    if error.starts_with("Error executing function 'duration'") {
        return "type conversion error from 'string' to 'google.protobuf.Duration'".to_owned();
    }
    error.to_owned()
}

fn compiled(source: &str) -> Result<Program, String> {
    let program =
        environment().compile(source).map_err(|error| format!("compilation failed: {error}"))?;
    let missing = MISSING.into_iter().find(|name| program.references().has_function(name));
    match missing {
        None => Ok(program),
        Some(name) => Err(format!(
            "kube-sandbox doesn't know the function {name}: test this rule on a real server"
        )),
    }
}

/// What these rules about a value ask of.
fn context(
    value: &Value,
    old: Option<&Value>,
    schema: &Schema,
    rules: &[&Rule],
) -> Context<'static, 'static> {
    let needed: Vec<&Needed> = rules.iter().map(|rule| &rule.needed).collect();
    let mut context = Context::with_env(environment());
    context.add_variable_from_value("self", converted(value, Some(schema), &needed));
    if let Some(old) = old {
        context.add_variable_from_value("oldSelf", converted(old, Some(schema), &needed));
    }
    context
}

/// Asks every rule of `schema` and below it.
pub(super) fn check(
    value: &Value,
    old: Option<&Value>,
    schema: &Schema,
    path: &str,
    causes: &mut Vec<Cause>,
) {
    if value.is_null() {
        return;
    }
    // What is as it was has passed already: only rules about the change are asked again.
    let changed = old != Some(value);
    let asked = |rule: &&Rule| if rule.is_transition { old.is_some() } else { changed };
    let asked: Vec<&Rule> = schema.rules.iter().filter(asked).collect();
    if !asked.is_empty() {
        let context = context(value, old, schema, &asked);
        for rule in asked {
            if let Some(why) = rule.broken(&context) {
                causes.push(rule.cause(path, value, &why));
            }
        }
    }
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                let Some(schema) = schema.field(name) else { continue };
                let old = old.and_then(|old| old.get(name));
                check(field, old, schema, &below(path, name), causes);
            }
        }
        Value::Array(items) => {
            let Some(inner) = schema.item() else { return };
            for (index, item) in items.iter().enumerate() {
                let old = old.and_then(|old| same_item(item, old, &schema.list));
                check(item, old, inner, &format!("{path}[{index}]"), causes);
            }
        }
        _ => {}
    }
}

/// The item's old self, which only lists with keys have.
fn same_item<'a>(item: &Value, old: &'a Value, list: &ListType) -> Option<&'a Value> {
    let ListType::Map(keys) = list else { return None };
    old.as_array()?.iter().find(|old| keys.iter().all(|key| old[key] == item[key]))
}

/// What is needed of a value, as CEL sees it: numbers by their schema, names escaped as Kubernetes does.
fn converted(value: &Value, schema: Option<&Schema>, needed: &[&Needed]) -> Cel {
    match value {
        Value::Null => Cel::Null,
        Value::Bool(value) => Cel::Bool(*value),
        Value::String(text) => Cel::from(text.as_str()),
        Value::Number(number) => {
            let wants_double = schema.is_some_and(|schema| schema.kind == Some(Type::Number));
            match number.as_i64().filter(|_| !wants_double) {
                Some(number) => Cel::Int(number),
                None => Cel::Float(number.as_f64().unwrap_or(f64::NAN)),
            }
        }
        Value::Array(items) => {
            let schema = schema.and_then(Schema::item);
            let items = items.iter().map(|item| converted(item, schema, needed));
            Cel::from(items.collect::<Vec<_>>())
        }
        Value::Object(fields) => {
            let is_map = schema.is_some_and(|schema| schema.additional.is_some());
            let entries = fields.iter().filter_map(|(name, field)| {
                let schema = schema.and_then(|schema| schema.field(name));
                let name = if is_map { name.clone() } else { escaped(name) };
                let needed: Vec<&Needed> =
                    needed.iter().filter_map(|needed| needed.field(&name)).collect();
                let is_needed = !needed.is_empty();
                is_needed.then(|| (Key::from(name), converted(field, schema, &needed)))
            });
            Cel::from(entries.collect::<HashMap<Key, Cel>>())
        }
    }
}

/// Names that CEL can't take as they are.
const RESERVED: [&str; 22] = [
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
    "__",
];

fn escaped(name: &str) -> String {
    if RESERVED.contains(&name) {
        return format!("__{name}__");
    }
    if name.chars().all(|letter| letter.is_ascii_alphanumeric()) {
        return name.to_owned();
    }
    name.replace("__", "__underscores__")
        .replace('.', "__dot__")
        .replace('-', "__dash__")
        .replace('/', "__slash__")
}
