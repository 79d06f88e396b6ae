//! Types as JSON schemas: built-in ones from the schema table, custom ones from their CRDs.
//! Field descriptions are upstream's text and not part of this project.

use std::collections::BTreeMap;

use api::schema::{self, ListType, Message, Schema, Type};
use machinery::Descriptor;
use serde_json::{Map, Value, json};

use super::{custom, descriptions};

/// Which of the two documents is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    V2,
    V3,
}

/// Collects definitions with everything that they refer to.
pub struct Definitions {
    dialect: Dialect,
    out: BTreeMap<String, Value>,
}

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// A message's name as upstream's documents have it: `io.k8s.api.core.v1.Pod`.
pub fn message_name(m: &Message) -> String {
    let rest = m.name.strip_prefix("k8s.io.").unwrap_or(m.name);
    let rest = rest.replace("apiextensions_apiserver", "apiextensions-apiserver");
    let rest = rest.replace("kube_aggregator", "kube-aggregator");
    format!("io.k8s.{rest}")
}

/// The definition's name of a resource's kind.
pub fn kind_name(d: &Descriptor, kind: &str) -> String {
    if !d.strategy.is_custom()
        && let Some(m) = schema::of_kind(&d.group, &d.version, kind)
    {
        return message_name(m);
    }
    let mut words: Vec<&str> = d.group.split('.').collect();
    words.reverse();
    format!("{}.{}.{kind}", words.join("."), d.version)
}

fn gvk(group: &str, version: &str, kind: &str) -> Value {
    json!({"group": group, "version": version, "kind": kind})
}

// === Definitions ===

impl Definitions {
    /// None yet.
    pub fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            out: BTreeMap::new(),
        }
    }

    /// All of them, by name.
    pub fn into_map(self) -> Map<String, Value> {
        self.out.into_iter().collect()
    }

    /// A reference to a definition.
    pub fn reference(&self, name: &str) -> Value {
        let base = match self.dialect {
            Dialect::V2 => "#/definitions",
            Dialect::V3 => "#/components/schemas",
        };
        json!({"$ref": format!("{base}/{name}")})
    }

    /// Adds a resource's kind and its list.
    pub fn resource(&mut self, d: &Descriptor) {
        if let Some(custom) = d.strategy.openapi() {
            self.custom(d, custom);
            return;
        }
        for kind in [&d.kind, &d.list_kind] {
            self.kind(&d.group, &d.version, kind);
        }
    }

    /// Adds a built-in kind; kinds without a message are no part of the document.
    pub fn kind(&mut self, group: &str, version: &str, kind: &str) {
        let Some(m) = schema::of_kind(group, version, kind) else {
            return;
        };
        let name = self.message(m);
        let entry = self.out.entry(name).or_insert_with(|| json!({}));
        let mine = gvk(group, version, kind);
        let field = "x-kubernetes-group-version-kind";
        match entry.get_mut(field).and_then(Value::as_array_mut) {
            Some(list) if list.contains(&mine) => {}
            Some(list) => list.push(mine),
            None => entry[field] = json!([mine]),
        }
        for name in ["apiVersion", "kind"] {
            entry["properties"][name] = text(name);
        }
        let meta = entry["properties"].get_mut("metadata");
        if let Some(reference) = meta.filter(|m| m.get("$ref").is_some()) {
            *reference = described(self.dialect, reference.take());
        }
    }

    fn custom(&mut self, d: &Descriptor, schema: Value) {
        let meta = self.kind_ref("meta.k8s.io", "v1", "ObjectMeta");
        let list_meta = self.kind_ref("meta.k8s.io", "v1", "ListMeta");
        let meta = described(self.dialect, meta);
        let common = [
            ("apiVersion", text("apiVersion")),
            ("kind", text("kind")),
            ("metadata", meta),
        ];
        let mut schema = custom::published(schema, self.dialect, &common);
        let name = kind_name(d, &d.kind);
        schema["x-kubernetes-group-version-kind"] = json!([gvk(&d.group, &d.version, &d.kind)]);
        let mut list = json!({
            "description": format!("{} is a list of {}", d.list_kind, d.kind),
            "type": "object", "required": ["items"],
            "properties": {
                "apiVersion": text("apiVersion"), "kind": text("kind"), "metadata": list_meta,
                "items": {"type": "array", "items": self.reference(&name)}},
            "x-kubernetes-group-version-kind": [gvk(&d.group, &d.version, &d.list_kind)],
        });
        let fields = d.strategy.selectable_keys().iter();
        let fields: Vec<Value> = fields.map(|f| json!({"fieldPath": f})).collect();
        if !fields.is_empty() {
            for kind in [&mut list, &mut schema] {
                kind["x-kubernetes-selectable-fields"] = json!(fields);
            }
        }
        self.out.insert(kind_name(d, &d.list_kind), list);
        self.out.insert(name, schema);
    }

    fn kind_ref(&mut self, group: &str, version: &str, kind: &str) -> Value {
        match schema::of_kind(group, version, kind) {
            Some(m) => {
                let name = self.message(m);
                self.reference(&name)
            }
            None => json!({"type": "object"}),
        }
    }

    /// Adds a message and all it holds; gives its name.
    fn message(&mut self, m: &Message) -> String {
        let name = message_name(m);
        if self.out.contains_key(&name) {
            return name;
        }
        // Put down first: types may hold themselves.
        self.out.insert(name.clone(), json!({"type": "object"}));
        let (mut properties, mut required) = (Map::new(), Vec::new());
        self.fields(m, &mut properties, &mut required);
        let mut out = json!({"type": "object"});
        if !properties.is_empty() {
            out["properties"] = Value::Object(properties);
        }
        if !required.is_empty() {
            out["required"] = json!(required);
        }
        if m.atomic {
            out["x-kubernetes-map-type"] = json!("atomic");
        }
        if name.ends_with(".meta.v1.ObjectMeta") {
            descriptions::object_meta(&mut out);
        }
        self.out.insert(name.clone(), out);
        name
    }

    fn fields(
        &mut self,
        m: &Message,
        properties: &mut Map<String, Value>,
        required: &mut Vec<&'static str>,
    ) {
        for f in &m.fields {
            if f.inline {
                if let Some(below) = f.schema.message() {
                    self.fields(below, properties, required);
                }
                continue;
            }
            if f.always && !f.optional {
                required.push(f.name);
            }
            let value = self.property(&f.schema);
            properties.insert(f.name.to_string(), value);
        }
        required.sort_unstable();
    }

    fn named(&mut self, name: &str, definition: Value) -> Value {
        self.out.entry(name.to_string()).or_insert(definition);
        self.reference(name)
    }

    fn property(&mut self, s: &Schema) -> Value {
        match &s.kind {
            Type::String => json!({"type": "string"}),
            Type::Bool => json!({"type": "boolean"}),
            Type::Int32 => json!({"type": "integer", "format": "int32"}),
            Type::Int64 => json!({"type": "integer", "format": "int64"}),
            Type::Double => json!({"type": "number", "format": "double"}),
            Type::Bytes => json!({"type": "string", "format": "byte"}),
            Type::Quantity => {
                let name = "io.k8s.apimachinery.pkg.api.resource.Quantity";
                self.named(name, json!({"type": "string"}))
            }
            Type::IntOrString => self.named(
                "io.k8s.apimachinery.pkg.util.intstr.IntOrString",
                json!({"type": "string", "format": "int-or-string"}),
            ),
            Type::Time => {
                let time = json!({"type": "string", "format": "date-time"});
                self.named(&format!("{META}.Time"), time)
            }
            Type::MicroTime => {
                let time = json!({"type": "string", "format": "date-time"});
                self.named(&format!("{META}.MicroTime"), time)
            }
            Type::Duration => self.named(&format!("{META}.Duration"), json!({"type": "string"})),
            Type::Raw => {
                let name = "io.k8s.apimachinery.pkg.runtime.RawExtension";
                self.named(name, json!({"type": "object"}))
            }
            Type::FieldsV1 => self.named(&format!("{META}.FieldsV1"), json!({"type": "object"})),
            Type::Message(_) => match s.message() {
                Some(m) => {
                    let name = self.message(m);
                    let mut reference = self.reference(&name);
                    if s.atomic {
                        reference["x-kubernetes-map-type"] = json!("atomic");
                    }
                    reference
                }
                None => json!({}),
            },
            Type::Map(values) => {
                let mut out = json!({"type": "object"});
                out["additionalProperties"] = self.property(values);
                if s.atomic {
                    out["x-kubernetes-map-type"] = json!("atomic");
                }
                out
            }
            Type::List(items) => {
                let mut out = json!({"type": "array"});
                out["items"] = self.property(items);
                list_extensions(s, &mut out);
                out
            }
            Type::Json
            | Type::SchemaOrArray
            | Type::SchemaOrBool
            | Type::SchemaOrStrings
            | Type::Any => json!({}),
        }
    }
}

fn list_extensions(s: &Schema, out: &mut Value) {
    match s.list_type {
        ListType::Atomic => out["x-kubernetes-list-type"] = json!("atomic"),
        ListType::Set => out["x-kubernetes-list-type"] = json!("set"),
        ListType::Map => {
            out["x-kubernetes-list-type"] = json!("map");
            out["x-kubernetes-list-map-keys"] = json!(s.keys);
        }
    }
    if s.patch_merges() {
        let strategy = if s.retain_keys {
            "merge,retainKeys"
        } else {
            "merge"
        };
        out["x-kubernetes-patch-strategy"] = json!(strategy);
    }
    if let Some(key) = s.patch_merge_key() {
        out["x-kubernetes-patch-merge-key"] = json!(key);
    }
}

/// `apiVersion` or `kind` of a kind.
fn text(name: &str) -> Value {
    json!({"type": "string", "description": descriptions::type_meta(name)})
}

/// A reference to the metadata of a kind, with its description.
fn described(dialect: Dialect, reference: Value) -> Value {
    let description = descriptions::type_meta("metadata");
    match (dialect, reference) {
        (Dialect::V3, reference) => json!({"allOf": [reference], "description": description}),
        (Dialect::V2, mut reference) => {
            reference["description"] = json!(description);
            reference
        }
    }
}
