//! Values that are cheap to copy, compare and hash: their hash is taken once, when they are made.

use std::collections::HashMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Deref;
use std::sync::{Arc, PoisonError, RwLock};

use serde_json::Value;

/// A value with its hash.
pub struct Shared<T>(Arc<(u64, T)>);

/// A raw object, as the API server holds it.
pub type Object = Shared<Value>;

impl<T: Hash> Shared<T> {
    /// Of a value that says itself what it is.
    pub fn new(value: T) -> Self {
        let mut hasher = DefaultHasher::new();
        value.hash(&mut hasher);
        Self(Arc::new((hasher.finish(), value)))
    }
}

impl<T: fmt::Debug> Shared<T> {
    /// Of a value that is told from others by its `Debug`.
    pub fn shown(value: T) -> Self {
        let mut hasher = DefaultHasher::new();
        format!("{value:?}").hash(&mut hasher);
        Self(Arc::new((hasher.finish(), value)))
    }
}

impl<T> Shared<T> {
    /// Of a value that follows from others beside it, and tells nothing apart by itself.
    pub fn following(value: T) -> Self {
        Self(Arc::new((0, value)))
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.1
    }
}

impl<T> Hash for Shared<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.0);
    }
}

impl<T> PartialEq for Shared<T> {
    /// By the hash of 64 bits, as the model checker tells states apart too.
    fn eq(&self, other: &Self) -> bool {
        self.0.0 == other.0.0
    }
}

impl<T> Eq for Shared<T> {}

impl<T: fmt::Debug> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.1.fmt(f)
    }
}

/// What a pure function has said already, by a hash of what it was asked. When there is too much of
/// that, all is forgotten.
pub struct Known<T>(RwLock<HashMap<u64, Arc<T>>>);

/// Answers that are remembered.
const MANY: usize = 20_000;

impl<T> Default for Known<T> {
    fn default() -> Self {
        Self(RwLock::default())
    }
}

impl<T> Known<T> {
    /// What it said, or says now.
    pub fn get(&self, asked: u64, say: impl FnOnce() -> T) -> Arc<T> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner).get(&asked).cloned();
        known.unwrap_or_else(|| {
            let said = Arc::new(say());
            let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
            if known.len() >= MANY {
                known.clear();
            }
            known.insert(asked, said.clone());
            said
        })
    }
}

/// The text at a pointer, or none.
#[must_use]
pub fn text<'v>(object: &'v Value, pointer: &str) -> &'v str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The number at a pointer, or 0.
#[must_use]
pub fn number(object: &Value, pointer: &str) -> i64 {
    object.pointer(pointer).and_then(Value::as_i64).unwrap_or(0)
}

/// The resourceVersion.
#[must_use]
pub fn version(object: &Value) -> u64 {
    text(object, "/metadata/resourceVersion").parse().unwrap_or(0)
}
