//! The objects and their history: one order of versions for all kinds.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use serde_json::Value;

/// A resource, whatever its version: API group and plural.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Resource {
    /// API group, empty for the core group.
    pub group: String,
    /// Name in the plural.
    pub plural: String,
}

impl Resource {
    /// The resource of this group and plural.
    #[must_use]
    pub fn new(group: &str, plural: &str) -> Resource {
        Resource { group: group.to_owned(), plural: plural.to_owned() }
    }
}

/// Where an object lies.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Of which resource.
    pub resource: Resource,
    /// In which namespace; empty for cluster-wide resources.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// One accepted write.
#[derive(Clone, Debug)]
pub struct Event {
    /// Its resourceVersion.
    pub version: u64,
    /// Where the object lies.
    pub key: Key,
    /// The object before it, if there was one.
    pub before: Option<Arc<Value>>,
    /// The object after it, if there still is one.
    pub after: Option<Arc<Value>>,
    /// Of a deletion: the last state, with the deletion's version.
    pub last: Option<Arc<Value>>,
}

/// All objects, and the latest of what happened to them.
#[derive(Clone, Debug)]
pub struct Store {
    objects: BTreeMap<Key, Arc<Value>>,
    version: u64,
    history: VecDeque<Event>,
    /// Up to which version the history has been dropped.
    compacted: u64,
    limit: usize,
}

impl Store {
    /// Keeps the last `limit` events.
    #[must_use]
    pub fn new(limit: usize) -> Store {
        let (objects, history) = (BTreeMap::new(), VecDeque::new());
        Store { objects, version: 1, history, compacted: 0, limit: limit.max(1) }
    }

    /// The same, keeping the last `limit` events.
    #[must_use]
    pub fn limited(mut self, limit: usize) -> Store {
        self.limit = limit.max(1);
        while self.history.len() > self.limit {
            self.drop_oldest();
        }
        self
    }

    /// The version of the latest write.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Events up to this version are no longer kept.
    #[must_use]
    pub fn compacted(&self) -> u64 {
        self.compacted
    }

    /// An object.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<&Arc<Value>> {
        self.objects.get(key)
    }

    /// The objects of a resource, in a namespace or in all of them, by namespace and name.
    pub fn list<'a>(
        &'a self,
        resource: &'a Resource,
        namespace: Option<&'a str>,
    ) -> impl Iterator<Item = (&'a Key, &'a Arc<Value>)> {
        in_range(&self.objects, resource, namespace)
    }

    /// Store an object; it gets its version. Returns it as stored.
    pub fn put(&mut self, key: Key, mut object: Value) -> Arc<Value> {
        let version = self.next();
        object["metadata"]["resourceVersion"] = version.to_string().into();
        let object = Arc::new(object);
        let before = self.objects.insert(key.clone(), Arc::clone(&object));
        self.record(Event { version, key, before, after: Some(Arc::clone(&object)), last: None });
        object
    }

    /// Remove an object; returns its last state, with the deletion's version.
    pub fn remove(&mut self, key: &Key) -> Option<Arc<Value>> {
        let before = self.objects.remove(key)?;
        let version = self.next();
        let mut last = Value::clone(&before);
        last["metadata"]["resourceVersion"] = version.to_string().into();
        let last = Arc::new(last);
        let (key, before) = (key.clone(), Some(before));
        self.record(Event { version, key, before, after: None, last: Some(Arc::clone(&last)) });
        Some(last)
    }

    fn next(&mut self) -> u64 {
        self.version += 1;
        self.version
    }

    fn record(&mut self, event: Event) {
        self.history.push_back(event);
        while self.history.len() > self.limit {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some(event) = self.history.pop_front() {
            self.compacted = event.version;
        }
    }

    /// Forget what happened up to `version`.
    pub fn compact(&mut self, version: u64) {
        while self.history.front().is_some_and(|event| event.version <= version) {
            self.drop_oldest();
        }
        self.compacted = self.compacted.max(version.min(self.version));
    }

    /// What happened after `version`, in order; none when it is no longer all known.
    #[must_use]
    pub fn since(&self, version: u64) -> Option<impl Iterator<Item = &Event>> {
        if version < self.compacted {
            return None;
        }
        let start = self.history.partition_point(|event| event.version <= version);
        Some(self.history.range(start..))
    }

    /// The store as it was so many writes ago, or as far back as is known.
    #[must_use]
    pub fn earlier(&self, writes: u64) -> Store {
        let mut past = self.clone();
        for _ in 0..writes {
            let Some(event) = past.history.pop_back() else { break };
            match event.before {
                Some(before) => past.objects.insert(event.key, before),
                None => past.objects.remove(&event.key),
            };
            past.version = past.history.back().map_or(past.compacted, |event| event.version);
        }
        past
    }

    /// The objects of a resource as they were at `version`; none when that is no longer known.
    #[must_use]
    pub fn at(
        &self,
        version: u64,
        resource: &Resource,
        namespace: Option<&str>,
    ) -> Option<BTreeMap<Key, Arc<Value>>> {
        if version < self.compacted {
            return None;
        }
        let now = self.list(resource, namespace);
        let mut then: BTreeMap<Key, Arc<Value>> =
            now.map(|(key, object)| (key.clone(), Arc::clone(object))).collect();
        for event in self.history.iter().rev().take_while(|event| event.version > version) {
            let here = event.key.resource == *resource
                && namespace.is_none_or(|namespace| namespace == event.key.namespace);
            if !here {
                continue;
            }
            match &event.before {
                Some(before) => then.insert(event.key.clone(), Arc::clone(before)),
                None => then.remove(&event.key),
            };
        }
        Some(then)
    }
}

fn in_range<'a>(
    objects: &'a BTreeMap<Key, Arc<Value>>,
    resource: &'a Resource,
    namespace: Option<&'a str>,
) -> impl Iterator<Item = (&'a Key, &'a Arc<Value>)> {
    let first = Key {
        resource: resource.clone(),
        namespace: namespace.unwrap_or_default().to_owned(),
        name: String::new(),
    };
    objects.range((Bound::Included(first), Bound::Unbounded)).take_while(move |(key, _)| {
        key.resource == *resource && namespace.is_none_or(|namespace| namespace == key.namespace)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn key(name: &str) -> Key {
        let (namespace, name) = ("x".to_owned(), name.to_owned());
        Key { resource: Resource::new("", "pods"), namespace, name }
    }

    #[test]
    fn versions_have_one_order_and_the_past_can_be_seen() {
        let mut store = Store::new(10);
        let first = store.put(key("a"), json!({"n": 1}));
        assert_eq!(first["metadata"]["resourceVersion"], "2");
        store.put(key("b"), json!({"n": 2}));
        store.put(key("a"), json!({"n": 3}));
        store.remove(&key("b")).unwrap();
        assert_eq!(store.version(), 5);
        let pods = Resource::new("", "pods");
        let then = store.at(3, &pods, Some("x")).unwrap();
        let seen: Vec<&Value> = then.values().map(|object| &object["n"]).collect();
        assert_eq!(seen, [&json!(1), &json!(2)]);
        let versions: Vec<u64> = store.since(3).unwrap().map(|event| event.version).collect();
        assert_eq!(versions, [4, 5]);
    }

    #[test]
    fn the_history_is_bounded() {
        let mut store = Store::new(2);
        for _ in 0..4 {
            store.put(key("a"), json!({}));
        }
        assert_eq!(store.compacted(), 3);
        assert!(store.since(2).is_none());
        assert_eq!(store.since(3).unwrap().count(), 2);
        store.compact(5);
        assert!(store.since(4).is_none() && store.since(5).is_some());
    }
}
