//! The kinds that are served, built in or custom.

mod builtin;
mod codec;
mod custom;
mod events;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

pub use builtin::{SELF_REVIEW, builtin};
pub use custom::{custom, established};

use crate::schema::{Schema, prune};
use crate::status::{About, Cause, Refusal};
use crate::store::Resource;

/// When an object's generation rises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generation {
    /// There is none.
    None,
    /// With each change beside metadata and status.
    Spec,
    /// With changes of annotations as well.
    SpecAndAnnotations,
}

/// Where a kind's replicas are, for its scale subresource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scale {
    /// Pointer to the wanted number.
    pub spec: String,
    /// Pointer to the number there is.
    pub status: String,
    /// Pointer to the selector, as text or as an object.
    pub selector: Option<String>,
}

/// What a column of a table shows.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// Its head.
    pub name: String,
    /// Its type, such as `string` or `date`.
    pub kind: String,
    /// What it is about.
    pub description: String,
    /// 0 is always shown, higher ones in wide output.
    pub priority: i64,
    /// Where its value is: a JSON path.
    pub path: String,
}

/// How objects of a kind are read.
#[derive(Clone, Debug)]
pub enum Shape {
    /// By a type of Kubernetes.
    Typed(fn(Value) -> Result<Value, String>),
    /// By the schema of a custom resource definition.
    Custom(Arc<Schema>),
}

/// A kind in one version.
#[derive(Clone, Debug)]
pub struct Kind {
    /// API group, empty for the core group.
    pub group: String,
    /// API version.
    pub version: String,
    /// Name of the kind.
    pub kind: String,
    /// Name of a list of it.
    pub list_kind: String,
    /// Name of the resource.
    pub plural: String,
    /// Its name in the singular.
    pub singular: String,
    /// Short names of the resource.
    pub short_names: Vec<String>,
    /// Groups of resources that it belongs to, such as `all`.
    pub categories: Vec<String>,
    /// Whether its objects are in namespaces.
    pub namespaced: bool,
    /// Whether there is a status subresource.
    pub status: bool,
    /// The scale subresource, if there is one.
    pub scale: Option<Scale>,
    /// When the generation rises.
    pub generation: Generation,
    /// Whether an update may leave the resourceVersion out.
    pub unconditional: bool,
    /// Whether a deletion answers with the object rather than with a `Status`.
    pub returns_deleted: bool,
    /// The fields that lists can be selected by.
    pub fields: Vec<String>,
    /// How it is shown in tables; empty for name and age.
    pub columns: Vec<Column>,
    /// How it is read.
    pub shape: Shape,
}

impl Kind {
    /// `group/version`, as in an object's `apiVersion`.
    #[must_use]
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// Where its objects are stored. Events are one resource in two groups.
    #[must_use]
    pub fn resource(&self) -> Resource {
        if self.is_event() {
            return Resource::new("", "events");
        }
        Resource::new(&self.group, &self.plural)
    }

    /// Whether its objects are stored there.
    #[must_use]
    pub fn is_of(&self, resource: &Resource) -> bool {
        let group = if self.is_event() { "" } else { self.group.as_str() };
        self.plural == resource.plural && resource.group == group
    }

    fn is_event(&self) -> bool {
        self.kind == "Event" && matches!(self.group.as_str(), "" | "events.k8s.io")
    }

    /// Whether it comes from a custom resource definition.
    #[must_use]
    pub fn is_custom(&self) -> bool {
        matches!(self.shape, Shape::Custom(_))
    }

    /// The schema of a custom kind.
    #[must_use]
    pub fn schema(&self) -> Option<&Schema> {
        match &self.shape {
            Shape::Custom(schema) => Some(schema),
            Shape::Typed(_) => None,
        }
    }

    /// For a refusal about an object: by its resource.
    #[must_use]
    pub fn about<'a>(&'a self, name: &'a str) -> About<'a> {
        About { group: &self.group, kind: &self.plural, name }
    }

    /// 422 for an object of this kind.
    #[must_use]
    pub fn invalid(&self, name: &str, causes: &[Cause]) -> Refusal {
        Refusal::invalid(self.about_kind(name), causes)
    }

    /// For a refusal about an object: by its kind. Events are the core group's.
    #[must_use]
    pub fn about_kind<'a>(&'a self, name: &'a str) -> About<'a> {
        let group = if self.is_event() { "" } else { &self.group };
        About { group, kind: &self.kind, name }
    }

    /// Reads an object as this kind; returns it with what is known of it, and the paths of the
    /// fields that aren't.
    ///
    /// # Errors
    /// When a field has a type that it can't have.
    pub fn read(&self, mut object: Value) -> Result<(Value, Vec<String>), String> {
        if !object.is_object() {
            return Err(format!("invalid type: {object}, expected an object"));
        }
        object["apiVersion"] = self.api_version().into();
        // Validation refuses a custom object that says that it is of another kind.
        if !self.is_custom() || object["kind"].is_null() {
            object["kind"] = self.kind.clone().into();
        }
        let metadata = object["metadata"].take();
        let mut unknown = Vec::new();
        let (metadata, strange) = codec::metadata(metadata)?;
        unknown.extend(strange);
        match &self.shape {
            Shape::Typed(read) => {
                let (mut read, strange) = codec::typed(object, *read)?;
                unknown.extend(strange);
                read["metadata"] = metadata;
                Ok((read, unknown))
            }
            Shape::Custom(schema) => {
                prune(&mut object, schema, &mut unknown);
                object["metadata"] = metadata;
                Ok((object, unknown))
            }
        }
    }

    /// An object of this kind as it is stored.
    #[must_use]
    pub fn stored(&self, object: Value) -> Value {
        if self.is_event() && !self.group.is_empty() { events::to_core(object) } else { object }
    }

    /// A stored object as this kind serves it.
    #[must_use]
    pub fn served(&self, stored: &Value) -> Value {
        let mut object = if self.is_event() && !self.group.is_empty() {
            events::from_core(stored)
        } else {
            stored.clone()
        };
        object["apiVersion"] = self.api_version().into();
        object["kind"] = self.kind.clone().into();
        object
    }
}

/// All kinds by group, version and plural.
#[derive(Clone, Debug)]
pub struct Registry {
    kinds: BTreeMap<(String, String, String), Arc<Kind>>,
}

impl Registry {
    /// The built-in kinds.
    #[must_use]
    pub fn new() -> Registry {
        let mut registry = Registry { kinds: BTreeMap::new() };
        builtin().into_iter().for_each(|kind| registry.add(kind));
        registry
    }

    /// Serve another kind.
    pub fn add(&mut self, kind: Kind) {
        let key = (kind.group.clone(), kind.version.clone(), kind.plural.clone());
        self.kinds.insert(key, Arc::new(kind));
    }

    /// No longer serve a resource, in any version.
    pub fn drop(&mut self, group: &str, plural: &str) {
        self.kinds.retain(|(g, _, p), _| g != group || p != plural);
    }

    /// The kind of a resource.
    #[must_use]
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Kind>> {
        self.kinds.get(&(group.to_owned(), version.to_owned(), plural.to_owned()))
    }

    /// All kinds, by group, version and plural.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Kind>> {
        self.kinds.values()
    }
}

impl Default for Registry {
    fn default() -> Registry {
        Registry::new()
    }
}
