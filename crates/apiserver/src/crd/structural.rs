//! Structural schemas of custom resources: parsed once, then objects are pruned, defaulted and
//! checked against them. Upstream: apiextensions-apiserver/pkg/apiserver/schema; api-semantics §19.

mod default;
mod format;
mod model;
mod parse;
mod prune;
mod rules;
#[cfg(test)]
mod tests;
mod validate;

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;
use serde_json::Value;

pub use rules::Before;

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
    pub pattern: Option<Regex>,
    pub format: String,
    pub one_of_values: Option<Vec<Value>>,
}

/// The schema of one value.
#[derive(Clone, Debug, Default)]
pub struct Structural {
    pub kind: Option<JsonType>,
    pub properties: BTreeMap<String, Structural>,
    /// Schema of the values of a map.
    pub additional: Option<Box<Structural>>,
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
    /// `x-kubernetes-validations`, compiled when they are first asked for.
    pub rules: rules::Rules,
}

impl JsonType {
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
}

/// The fields that every object's root has besides its schema's.
const ROOT: [&str; 3] = ["apiVersion", "kind", "metadata"];
