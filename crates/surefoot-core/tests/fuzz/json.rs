//! Arbitrary JSON, and JSON that was right before something was done to it.

use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Value, json};

/// Stands in what must never be echoed.
pub const SECRET: &str = "s3cr3t";

/// Texts that mean something to a pointer, a label or a reader.
pub const TEXTS: [&str; 14] = [
    "",
    "primary",
    "a/b",
    "~",
    "~1a~0b",
    "größe",
    "\u{202e}x",
    "\u{0}",
    "a\nb",
    "0",
    "NaN",
    "100",
    SECRET,
    "shop-canary",
];

fn number() -> impl Strategy<Value = Value> {
    let odd = [
        json!(0),
        json!(-1),
        json!(100),
        json!(101),
        json!(1e308),
        json!(-0.0),
        json!(0.5),
        json!(100.0),
        json!(i64::MIN),
        json!(i64::MAX),
        json!(u64::MAX),
    ];
    prop_oneof![
        select(odd.to_vec()),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from)
    ]
}

fn deep() -> Value {
    (0..200).fold(json!({}), |inner, _| json!([inner]))
}

/// Any JSON, not too large.
pub fn anything() -> impl Strategy<Value = Value> {
    let long = "x".repeat(5000);
    let leaf = prop_oneof![
        8 => select(TEXTS.to_vec()).prop_map(Value::from),
        8 => number(),
        2 => any::<String>().prop_map(Value::from),
        2 => any::<bool>().prop_map(Value::from),
        2 => Just(Value::Null),
        1 => Just(Value::from(long)),
        1 => Just(deep()),
    ];
    let key = prop_oneof![select(TEXTS.to_vec()).prop_map(str::to_owned), any::<String>()];
    leaf.prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(key.clone(), inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// One thing done to a document, somewhere in it.
#[derive(Debug, Clone)]
pub enum Change {
    /// Something else in its place.
    Put(Value),
    /// Taken out.
    Take,
    /// There twice: at the end of its list, or under another key.
    Twice,
    /// Something more in a map.
    Add(&'static str, Value),
}

/// A few changes, often none.
pub fn changes() -> impl Strategy<Value = Vec<(Index, Change)>> {
    let change = prop_oneof![
        anything().prop_map(Change::Put),
        Just(Change::Take),
        Just(Change::Twice),
        (select(TEXTS.to_vec()), anything()).prop_map(|(key, value)| Change::Add(key, value)),
    ];
    prop_oneof![Just(Vec::new()), proptest::collection::vec((any::<Index>(), change), 1..4),]
}

/// The document after the changes.
pub fn changed(mut document: Value, changes: Vec<(Index, Change)>) -> Value {
    for (place, change) in changes {
        let places = pointers(&document);
        if places.is_empty() {
            continue;
        }
        apply(&mut document, &places[place.index(places.len())], change);
    }
    document
}

fn apply(document: &mut Value, place: &str, change: Change) {
    let (parent, key) = place.rsplit_once('/').unwrap();
    let key = key.replace("~1", "/").replace("~0", "~");
    let here = document.pointer(place).cloned().unwrap();
    match (change, document.pointer_mut(parent).unwrap()) {
        (Change::Put(value), Value::Object(map)) => drop(map.insert(key, value)),
        (Change::Put(value), Value::Array(list)) => list[key.parse::<usize>().unwrap()] = value,
        (Change::Take, Value::Object(map)) => drop(map.remove(&key)),
        (Change::Take, Value::Array(list)) => drop(list.remove(key.parse().unwrap())),
        (Change::Twice, Value::Object(map)) => drop(map.insert(format!("{key}2"), here)),
        (Change::Twice, Value::Array(list)) => list.push(here),
        (Change::Add(key, value), Value::Object(map)) => drop(map.insert(key.to_owned(), value)),
        _ => {}
    }
}

/// Every place in it but the whole.
fn pointers(document: &Value) -> Vec<String> {
    let mut places = Vec::new();
    let mut open = vec![(String::new(), document)];
    while let Some((place, value)) = open.pop() {
        let inner: Vec<(String, &Value)> = match value {
            Value::Object(map) => {
                map.iter().map(|(k, v)| (k.replace('~', "~0").replace('/', "~1"), v)).collect()
            }
            Value::Array(list) => {
                list.iter().enumerate().map(|(i, v)| (i.to_string(), v)).collect()
            }
            _ => Vec::new(),
        };
        for (key, value) in inner {
            let place = format!("{place}/{key}");
            places.push(place.clone());
            open.push((place, value));
        }
    }
    places
}

/// As an object comes from the API server: with metadata of the right types, whatever is below.
pub fn is_object(value: &Value) -> bool {
    value.pointer("/metadata/resourceVersion").is_some_and(Value::is_string)
        && value.pointer("/metadata/annotations").is_none_or(|a| a.is_object() || a.is_null())
}
