//! A structural schema as server-side apply sees it.
//! Upstream: kube-openapi/pkg/schemaconv/openapi.go over apiextensions' OpenAPI builder.

use std::collections::BTreeMap;

use api::schema;
use machinery::apply::Model;
use machinery::apply::types::{ModelList, Scalar};

use super::{JsonType, ListKind, Structural};

impl Structural {
    /// The model of an object's root.
    pub fn model(&self) -> Model {
        model(self, true, false)
    }
}

fn model(s: &Structural, resource: bool, preserved: bool) -> Model {
    // Preserving unknown fields holds for everything below.
    let preserved = preserved || s.preserve_unknown;
    if s.int_or_string {
        return Model::Deduced;
    }
    match s.kind {
        Some(JsonType::Object) => object(s, resource || s.embedded, preserved),
        Some(JsonType::Array) => Model::List {
            items: Box::new(match s.items.as_deref() {
                Some(items) => model(items, false, preserved),
                None => Model::Untyped,
            }),
            list: match &s.list {
                ListKind::Atomic => ModelList::Atomic,
                ListKind::Set => ModelList::Set,
                ListKind::Map(keys) => ModelList::Map(keys.clone()),
            },
        },
        Some(JsonType::String) if s.bounds.has_format && s.bounds.format != "byte" => {
            Model::Scalar(Scalar::Untyped)
        }
        Some(JsonType::String) => Model::Scalar(Scalar::String),
        Some(JsonType::Integer | JsonType::Number) => Model::Scalar(Scalar::Numeric),
        Some(JsonType::Boolean) => Model::Scalar(Scalar::Boolean),
        None if s.properties.is_empty() => Model::Deduced,
        None => object(s, resource, preserved),
    }
}

fn object(s: &Structural, resource: bool, preserved: bool) -> Model {
    let mut fields = BTreeMap::new();
    let mut defaults = BTreeMap::new();
    for (name, below) in &s.properties {
        fields.insert(name.clone(), model(below, false, preserved));
        if let Some(default) = &below.default {
            defaults.insert(name.clone(), default.clone());
        }
    }
    let element = match &s.additional {
        Some(values) => Some(Box::new(model(values, false, preserved))),
        None if s.additional_any == Some(false) && !preserved => None,
        None if preserved || s.properties.is_empty() => Some(Box::new(Model::Deduced)),
        None => None,
    };
    if resource {
        for name in ["apiVersion", "kind"] {
            fields.insert(name.into(), Model::Scalar(Scalar::String));
        }
        if let Some(meta) = schema::lookup("meta.k8s.io", "v1", "ObjectMeta") {
            fields.insert("metadata".into(), Model::BuiltIn(meta));
        }
    }
    Model::Object {
        fields,
        element,
        atomic: s.atomic_map,
        defaults,
    }
}
