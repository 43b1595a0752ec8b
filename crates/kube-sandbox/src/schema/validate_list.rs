//! That the items of sets and maps are there once.

use serde_json::Value;

use super::ListType;
use crate::status::Cause;

/// Names the items that come again.
pub(super) fn unique(items: &[Value], list: &ListType, path: &str, causes: &mut Vec<Cause>) {
    let ListType::Map(keys) = list else {
        if *list == ListType::Set {
            repeated(items, path, causes);
        }
        return;
    };
    let key = |item: &Value| -> Value {
        keys.iter().map(|key| (key.clone(), item[key.as_str()].clone())).collect()
    };
    repeated(&items.iter().map(key).collect::<Vec<_>>(), path, causes);
}

fn repeated(items: &[Value], path: &str, causes: &mut Vec<Cause>) {
    for (index, item) in items.iter().enumerate() {
        if items[..index].contains(item) {
            causes.push(Cause {
                reason: "FieldValueDuplicate",
                field: format!("{path}[{index}]"),
                message: format!("Duplicate value: {item}"),
            });
        }
    }
}
