//! ConfigMaps and Secrets from literals, files and env files, and the hash at the end of their names.
//! Upstream: kustomize/api/internal/generators, api/hasher.

use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::Resource;
use super::file::{Generator, Kustomization, Options};
use crate::error::{Error, Result};

/// Letters of a hash.
const HASH: usize = 10;

/// Makes what the generators say.
pub fn run(k: &Kustomization, folder: &Path, all: &mut Vec<Resource>) -> Result<()> {
    for (kind, generators) in [
        ("ConfigMap", &k.config_map_generator),
        ("Secret", &k.secret_generator),
    ] {
        for generator in generators {
            let made = one(kind, generator, &k.generator_options, folder)?;
            place(made, generator, all)?;
        }
    }
    Ok(())
}

/// Adds an object, or merges it into one that is there, or puts it in its place.
fn place(made: Resource, generator: &Generator, all: &mut Vec<Resource>) -> Result<()> {
    let (kind, name) = (made.kind().to_string(), &generator.name);
    let there = all
        .iter_mut()
        .find(|r| r.kind() == kind && r.is_named(name));
    match (generator.behavior.as_str(), there) {
        ("" | "unspecified" | "create", None) => all.push(made),
        ("" | "unspecified" | "create", Some(_)) => {
            return Err(Error::text(format!(
                "merging from generator: id {kind} {name:?} exists; behavior must be merge or replace"
            )));
        }
        ("merge" | "replace", None) => {
            return Err(Error::text(format!(
                "merging from generator: id {kind} {name:?} does not exist; cannot merge or replace"
            )));
        }
        ("merge", Some(there)) => {
            merge(&mut there.value, made.value);
            there.hashed = made.hashed;
        }
        ("replace", Some(there)) => {
            let name = there.name().to_string();
            let namespace = there.value["metadata"].get("namespace").cloned();
            there.value = made.value;
            there.value["metadata"]["name"] = json!(name);
            if let Some(namespace) = namespace {
                there.value["metadata"]["namespace"] = namespace;
            }
            there.hashed = made.hashed;
        }
        (other, _) => return Err(Error::text(format!("unknown behavior {other:?}"))),
    }
    Ok(())
}

fn merge(into: &mut Value, from: Value) {
    for field in ["data", "binaryData"] {
        extend(into, field, from.get(field));
    }
    for field in ["labels", "annotations"] {
        let more = from["metadata"].get(field).cloned();
        extend(&mut into["metadata"], field, more.as_ref());
    }
}

fn extend(into: &mut Value, field: &str, more: Option<&Value>) {
    let Some(Value::Object(more)) = more else {
        return;
    };
    if let Value::Object(map) = &mut into[field] {
        map.extend(more.clone());
    } else {
        into[field] = Value::Object(more.clone());
    }
}

fn one(kind: &str, g: &Generator, common: &Options, folder: &Path) -> Result<Resource> {
    let mut value = json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": g.name}});
    if kind == "Secret" {
        let type_ = if g.kind.is_empty() { "Opaque" } else { &g.kind };
        value["type"] = json!(type_);
    }
    if !g.namespace.is_empty() {
        value["metadata"]["namespace"] = json!(g.namespace);
    }
    let (mut data, mut binary) = (Map::new(), Map::new());
    for (key, bytes) in pairs(g, folder)? {
        if data.contains_key(&key) || binary.contains_key(&key) {
            return Err(Error::text(format!(
                "configuring {kind} {:?}: cannot add key {key:?}, another key by that name already exists",
                g.name
            )));
        }
        match (kind, String::from_utf8(bytes)) {
            ("Secret", Ok(text)) => data.insert(key, json!(BASE64_STANDARD.encode(text))),
            (_, Ok(text)) => data.insert(key, json!(text)),
            ("Secret", Err(e)) => data.insert(key, json!(BASE64_STANDARD.encode(e.as_bytes()))),
            (_, Err(e)) => binary.insert(key, json!(BASE64_STANDARD.encode(e.as_bytes()))),
        };
    }
    if !data.is_empty() {
        value["data"] = Value::Object(data);
    }
    if !binary.is_empty() {
        value["binaryData"] = Value::Object(binary);
    }
    for options in [common, &g.options] {
        let labels = json!(options.labels);
        let annotations = json!(options.annotations);
        for (field, more) in [("labels", labels), ("annotations", annotations)] {
            if more.as_object().is_some_and(|m| !m.is_empty()) {
                extend(&mut value["metadata"], field, Some(&more));
            }
        }
        if options.immutable {
            value["immutable"] = json!(true);
        }
    }
    let plain = common.disable_name_suffix_hash || g.options.disable_name_suffix_hash;
    Ok(Resource {
        hashed: !plain,
        ..Resource::new(value)
    })
}

/// Keys and what they hold, in the order of upstream: env files, files, literals.
fn pairs(g: &Generator, folder: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let failed = |why: String| Error::text(format!("loading KV pairs of {:?}: {why}", g.name));
    let read = |name: &str| {
        let path = folder.join(name);
        std::fs::read(&path).map_err(|e| {
            let why = crate::error::io_text(&e);
            failed(format!("open {}: {why}", path.display()))
        })
    };
    let mut out = Vec::new();
    let envs = g.envs.iter().chain(Some(&g.env).filter(|e| !e.is_empty()));
    for name in envs {
        let text = String::from_utf8_lossy(&read(name)?).into_owned();
        for line in text.lines().map(str::trim_start) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (key, value) = match line.split_once('=') {
                Some((key, value)) => (key.to_string(), value.to_string()),
                // A name alone stands for the variable of this process.
                None => (line.to_string(), std::env::var(line).unwrap_or_default()),
            };
            out.push((key, value.into_bytes()));
        }
    }
    for spec in &g.files {
        let (key, path) = match spec.split_once('=') {
            Some((key, path)) => (key.to_string(), path),
            None => {
                let name = Path::new(spec).file_name().unwrap_or_default();
                (name.to_string_lossy().into_owned(), spec.as_str())
            }
        };
        out.push((key, read(path)?));
    }
    for literal in &g.literals {
        let (key, value) = literal
            .split_once('=')
            .filter(|(key, _)| !key.is_empty())
            .ok_or_else(|| {
                failed(format!(
                    "invalid literal source {literal}, expected key=value"
                ))
            })?;
        let quoted = |q: char| value.len() >= 2 && value.starts_with(q) && value.ends_with(q);
        let value = match quoted('"') || quoted('\'') {
            true => &value[1..value.len() - 1],
            false => value,
        };
        out.push((key.to_string(), value.as_bytes().to_vec()));
    }
    Ok(out)
}

/// The hash that changes when the content does.
pub fn hash(value: &Value) -> Result<String> {
    let kind = value["kind"].as_str().unwrap_or_default();
    let field = |name: &str| value.get(name).cloned().unwrap_or_else(|| json!(""));
    // Upstream looks for the name where it never is.
    let mut seen = json!({"kind": kind, "name": "", "data": field("data")});
    match kind {
        "ConfigMap" => {}
        "Secret" => seen["type"] = field("type"),
        other => return Err(Error::text(format!("no hash of a {other}"))),
    }
    for more in ["binaryData", "stringData"] {
        if value.get(more).is_some_and(Value::is_object) {
            seen[more] = value[more].clone();
        }
    }
    let text = crate::printers::json_line(&seen);
    let digits: String = Sha256::digest(text.as_bytes())
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    // Without vowels and what looks like another letter.
    let letter = |c: char| match c {
        '0' => 'g',
        '1' => 'h',
        '3' => 'k',
        'a' => 'm',
        'e' => 't',
        other => other,
    };
    Ok(digits.chars().take(HASH).map(letter).collect())
}
