//! Structural schemas of custom resources: parsed once, then objects are pruned, defaulted and
//! checked against them. Upstream: apiextensions-apiserver/pkg/apiserver/schema; api-semantics §19.

mod correlate;
mod default;
mod field_path;
mod format;
mod list_type;
mod meta;
mod model;
mod parse;
mod prune;
mod rules;
#[cfg(test)]
mod tests;
mod validate;
mod values;

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;
use serde_json::Value;

pub use field_path::field_path;
pub use format::is_supported;
pub use meta::validate as embedded_problems;
pub use rules::Before;
pub use validate::Check;
use values::Outcome;

/// The JSON type a value must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonType {
    Object,
    Array,
    String,
    Integer,
    Number,
    Boolean,
}

/// How the items of a list are told apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ListKind {
    #[default]
    Atomic,
    Set,
    Map(Vec<String>),
}

/// A `pattern`: its text, and what it compiles to or why it does not.
#[derive(Clone, Debug)]
pub struct Pattern {
    pub text: String,
    pub compiled: Result<Regex, String>,
}

/// Bounds of a value; absent ones are `None`.
#[derive(Clone, Debug, Default)]
pub struct Bounds {
    pub max_length: Option<usize>,
    pub min_length: Option<usize>,
    pub max_items: Option<usize>,
    pub min_items: Option<usize>,
    pub max_properties: Option<usize>,
    pub min_properties: Option<usize>,
    pub maximum: Option<f64>,
    pub minimum: Option<f64>,
    pub exclusive_maximum: bool,
    pub exclusive_minimum: bool,
    pub multiple_of: Option<f64>,
    pub pattern: Option<Pattern>,
    /// Empty where it is none that is checked.
    pub format: String,
    /// Whether there is a format, one that is not checked too.
    pub has_format: bool,
    pub one_of_values: Option<Vec<Value>>,
}

/// The schema of one value.
#[derive(Clone, Debug, Default)]
pub struct Structural {
    pub kind: Option<JsonType>,
    pub properties: BTreeMap<String, Structural>,
    /// Schema of the values of a map.
    pub additional: Option<Box<Structural>>,
    /// `additionalProperties: true` or `false`.
    pub additional_any: Option<bool>,
    pub items: Option<Box<Structural>>,
    pub required: BTreeSet<String>,
    pub nullable: bool,
    pub default: Option<Value>,
    pub preserve_unknown: bool,
    pub embedded: bool,
    pub int_or_string: bool,
    pub list: ListKind,
    /// The whole object is owned as one.
    pub atomic_map: bool,
    pub bounds: Bounds,
    pub all_of: Vec<Structural>,
    pub any_of: Vec<Structural>,
    pub one_of: Vec<Structural>,
    pub not: Option<Box<Structural>>,
    /// Whether anything below has a default.
    pub has_defaults: bool,
    /// Whether this or anything below has rules.
    pub has_rules: bool,
    /// Whether anything below is an embedded resource.
    pub has_embedded: bool,
    /// `x-kubernetes-validations`, compiled when they are first asked for.
    pub rules: rules::Rules,
}

impl JsonType {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Array,
        Self::Boolean,
        Self::Integer,
        Self::Number,
        Self::Object,
        Self::String,
    ];

    /// Its name in schemas and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
        }
    }

    /// The type of a name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|k| k.name() == name)
    }
}

impl Structural {
    /// The schema of a field of an object.
    pub fn below(&self, field: &str) -> Option<&Self> {
        self.properties.get(field).or(self.additional.as_deref())
    }

    /// The type's name, empty where there is none.
    pub fn type_name(&self) -> &'static str {
        self.kind.map_or("", JsonType::name)
    }
}

/// The fields that every resource has besides its schema's.
const ROOT: [&str; 3] = ["apiVersion", "kind", "metadata"];
