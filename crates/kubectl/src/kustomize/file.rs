//! A kustomization's file. Upstream: kustomize/api/types.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::yaml;

type Texts = BTreeMap<String, String>;

/// What a kustomization says. Fields that are not here are refused.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Kustomization {
    pub api_version: String,
    pub kind: String,
    pub metadata: Value,
    pub resources: Vec<String>,
    pub bases: Vec<String>,
    pub namespace: String,
    pub name_prefix: String,
    pub name_suffix: String,
    pub common_labels: Texts,
    pub labels: Vec<Labels>,
    pub common_annotations: Texts,
    pub images: Vec<Image>,
    pub replicas: Vec<Replicas>,
    pub patches: Vec<Patch>,
    pub patches_strategic_merge: Vec<String>,
    #[serde(rename = "patchesJson6902")]
    pub patches_json6902: Vec<Patch>,
    pub generator_options: Options,
    pub config_map_generator: Vec<Generator>,
    pub secret_generator: Vec<Generator>,
}

/// Labels, and where else than in metadata they go.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Labels {
    pub pairs: Texts,
    pub include_selectors: bool,
    pub include_templates: bool,
}

/// An image and what takes its place.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Image {
    pub name: String,
    pub new_name: String,
    pub new_tag: String,
    pub digest: String,
}

/// How many of a workload.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Replicas {
    pub name: String,
    pub count: i64,
}

/// A patch of either kind, inline or in a file.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Patch {
    pub path: String,
    pub patch: String,
    pub target: Option<Target>,
}

/// Which objects a patch is for; names are regular expressions that match as a whole.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Target {
    pub group: String,
    pub version: String,
    pub kind: String,
    pub name: String,
    pub namespace: String,
    pub label_selector: String,
    pub annotation_selector: String,
}

/// How generated objects look.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Options {
    pub labels: Texts,
    pub annotations: Texts,
    pub disable_name_suffix_hash: bool,
    pub immutable: bool,
}

/// What a ConfigMap or Secret is made of.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Generator {
    pub name: String,
    pub namespace: String,
    pub behavior: String,
    pub literals: Vec<String>,
    pub files: Vec<String>,
    pub envs: Vec<String>,
    pub env: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub options: Options,
}

impl Kustomization {
    /// Reads a file's text.
    pub fn parse(path: &str, text: &str) -> Result<Self> {
        let failed = |why: String| Error::text(format!("invalid Kustomization: {path}: {why}"));
        let all = yaml::parse_all(text).map_err(failed)?;
        let [value] =
            <[Value; 1]>::try_from(all).map_err(|_| failed("it must be one document".into()))?;
        let found: Self = serde_json::from_value(without_nulls(value))
            .map_err(|e| failed(unknown(&e.to_string())))?;
        if !["", "Kustomization"].contains(&found.kind.as_str()) {
            return Err(failed(format!(
                "kind should be Kustomization or Component, not {}",
                found.kind
            )));
        }
        Ok(found)
    }
}

/// A field without a value says nothing.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.into_iter().filter(|(_, v)| !v.is_null());
            Value::Object(kept.map(|(k, v)| (k, without_nulls(v))).collect())
        }
        Value::Array(list) => Value::Array(list.into_iter().map(without_nulls).collect()),
        other => other,
    }
}

fn unknown(why: &str) -> String {
    let field = why.strip_prefix("unknown field `");
    match field.and_then(|f| f.split('`').next()) {
        Some(field) => format!("field {field:?} is not there yet in this version"),
        None => why.to_string(),
    }
}
