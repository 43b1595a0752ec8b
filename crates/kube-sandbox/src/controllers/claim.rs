//! What a controller makes of an object that its selector may mean.

use serde_json::{Value, json};

use super::api::{controller, is_deleting};
use crate::selectors::Selector;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim {
    /// It is the owner's already.
    Own,
    /// It has no owner and fits.
    Adopt,
    /// It is the owner's and fits no longer.
    Release,
    /// It is none of the owner's business.
    Other,
}

impl Claim {
    pub(super) fn of(owner: &Value, selector: &Selector, object: &Value) -> Claim {
        let uid = owner["metadata"]["uid"].as_str();
        match (selector.matches(object), controller(object)) {
            (true, Some(other)) if Some(other) == uid => Claim::Own,
            (true, None) if !is_deleting(object) && !is_deleting(owner) => Claim::Adopt,
            (false, Some(other)) if Some(other) == uid => Claim::Release,
            _ => Claim::Other,
        }
    }

    /// The patch that makes it so; `owners` is what an adopted object gets. None where it is so.
    pub(super) fn patch(self, object: &Value, owners: Value) -> Option<Value> {
        let owners = match self {
            Claim::Adopt => owners,
            Claim::Release => Value::Null,
            Claim::Own | Claim::Other => return None,
        };
        let uid = &object["metadata"]["uid"];
        Some(json!({"metadata": {"uid": uid, "ownerReferences": owners}}))
    }
}
