//! Makes `crates/api/data/schema.tsv` from upstream's `generated.proto` files: for every message its
//! fields' numbers, JSON names, types and list semantics. Facts only, no descriptions.
//!
//! `schemagen FOLDER... > crates/api/data/schema.tsv`: each folder is searched for `generated.proto`.
//!
//! Lines: `M<TAB>message<TAB>flags`, then its fields `F<TAB>number<TAB>name<TAB>type<TAB>flags`. A type is a
//! scalar, `*` + type for a list, `{}` + type for a map of strings, or a message's full name. Flags
//! are comma-separated: `inline`, `optional`, `list=map`, `key=name`, `merge`, `mergekey=name`,
//! `retain`, `atomic`, `default=value`, and of the Go types beside the proto files `pointer` (a scalar that
//! can be absent) and `always` (written even when it is zero).

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Message fields that Go embeds: their fields appear in JSON beside those of the holder.
const INLINE: &[(&str, &str)] = &[
    ("Volume", "volumeSource"),
    ("Probe", "handler"),
    ("EphemeralContainer", "ephemeralContainerCommon"),
    ("ConfigMapEnvSource", "localObjectReference"),
    ("ConfigMapKeySelector", "localObjectReference"),
    ("ConfigMapProjection", "localObjectReference"),
    ("ConfigMapVolumeSource", "localObjectReference"),
    ("SecretEnvSource", "localObjectReference"),
    ("SecretKeySelector", "localObjectReference"),
    ("SecretProjection", "localObjectReference"),
    ("PersistentVolumeSpec", "persistentVolumeSource"),
    ("IngressRule", "ingressRuleValue"),
    ("RuleWithOperations", "rule"),
    ("NamedRuleWithOperations", "ruleWithOperations"),
    ("DeviceClaimConfiguration", "deviceConfiguration"),
    ("DeviceClassConfiguration", "deviceConfiguration"),
    ("DeviceAllocationConfiguration", "deviceConfiguration"),
];

/// JSON names that differ from the proto's, by message and field.
const RENAMED: &[(&str, &str, &str)] = &[
    ("MutatingWebhookConfiguration", "Webhooks", "webhooks"),
    ("ValidatingWebhookConfiguration", "Webhooks", "webhooks"),
    ("Validation", "Expression", "expression"),
    ("Variable", "Expression", "expression"),
    ("Variable", "Name", "name"),
    ("BoundObjectReference", "uID", "uid"),
    ("IngressClassParametersReference", "aPIGroup", "apiGroup"),
    ("JSONSchemaProps", "ref", "$ref"),
    ("JSONSchemaProps", "schema", "$schema"),
    (
        "JSONSchemaProps",
        "xKubernetesPreserveUnknownFields",
        "x-kubernetes-preserve-unknown-fields",
    ),
    (
        "JSONSchemaProps",
        "xKubernetesEmbeddedResource",
        "x-kubernetes-embedded-resource",
    ),
    (
        "JSONSchemaProps",
        "xKubernetesIntOrString",
        "x-kubernetes-int-or-string",
    ),
    (
        "JSONSchemaProps",
        "xKubernetesListMapKeys",
        "x-kubernetes-list-map-keys",
    ),
    (
        "JSONSchemaProps",
        "xKubernetesListType",
        "x-kubernetes-list-type",
    ),
    (
        "JSONSchemaProps",
        "xKubernetesMapType",
        "x-kubernetes-map-type",
    ),
    (
        "JSONSchemaProps",
        "xKubernetesValidations",
        "x-kubernetes-validations",
    ),
];

struct Field {
    number: u32,
    name: String,
    kind: String,
    flags: Vec<String>,
}

#[derive(Default)]
struct Message {
    flags: Vec<String>,
    fields: Vec<Field>,
}

fn main() -> Result<()> {
    let mut messages = BTreeMap::new();
    for folder in std::env::args().skip(1) {
        let mut files = Vec::new();
        find(Path::new(&folder), &mut files)?;
        for file in files {
            let text = std::fs::read_to_string(&file)?;
            let package =
                parse(&text, &mut messages).with_context(|| file.display().to_string())?;
            go_types(
                file.parent().unwrap_or(Path::new(".")),
                &package,
                &mut messages,
            )?;
        }
    }
    if messages.is_empty() {
        bail!("no generated.proto found; name the folders that hold them");
    }
    for (name, message) in &messages {
        println!("M\t{name}\t{}", message.flags.join(","));
        for f in &message.fields {
            println!(
                "F\t{}\t{}\t{}\t{}",
                f.number,
                f.name,
                f.kind,
                f.flags.join(",")
            );
        }
    }
    Ok(())
}

fn find(folder: &Path, out: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            find(&path, out)?;
        } else if path.file_name().is_some_and(|n| n == "generated.proto") {
            out.push(path);
        }
    }
    Ok(())
}

/// Adds what only the Go types say: which scalars are pointers, which fields are never left out.
fn go_types(folder: &Path, package: &str, messages: &mut BTreeMap<String, Message>) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_none_or(|e| e != "go") {
            continue;
        }
        let text = std::fs::read_to_string(&path)?;
        let mut current = String::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("type ") {
                let name = rest.strip_suffix(" struct {").unwrap_or("");
                current = format!("{package}.{name}");
            } else if line == "}" {
                current.clear();
            } else if let Some(message) = messages.get_mut(&current) {
                go_field(line, message);
            }
        }
    }
    Ok(())
}

fn go_field(line: &str, message: &mut Message) {
    let Some((left, tags)) = line.trim().split_once('`') else {
        return;
    };
    let tag = |name: &str| {
        let rest = tags.split_once(&format!("{name}:\""))?.1;
        rest.split_once('"').map(|(value, _)| value)
    };
    let Some(number) = tag("protobuf").and_then(|t| t.split(',').nth(1)?.parse::<u32>().ok())
    else {
        return;
    };
    let json = tag("json").unwrap_or("");
    let left_out = json.contains(",omitempty") || json.contains(",omitzero");
    let pointer = left
        .split_whitespace()
        .nth(1)
        .is_some_and(|t| t.starts_with('*'));
    if let Some(field) = message.fields.iter_mut().find(|f| f.number == number) {
        if pointer {
            field.flags.push("pointer".into());
        }
        if !left_out && !json.contains(",inline") {
            field.flags.push("always".into());
        }
    }
}

fn parse(text: &str, messages: &mut BTreeMap<String, Message>) -> Result<String> {
    let mut package = String::new();
    let mut current: Option<(String, Message)> = None;
    let mut markers: Vec<String> = Vec::new();
    for line in text.lines() {
        let line = line.trim();
        if let Some(rest) = line.strip_prefix("package ") {
            package = rest.trim_end_matches(';').to_string();
        } else if let Some(comment) = line.strip_prefix("//") {
            if let Some(marker) = comment.trim().strip_prefix('+') {
                markers.push(marker.trim().to_string());
            }
        } else if let Some(rest) = line.strip_prefix("message ") {
            let name = rest.trim_end_matches('{').trim().to_string();
            let atomic = markers.iter().any(|m| m == "structType=atomic");
            let flags = if atomic {
                vec!["atomic".to_string()]
            } else {
                Vec::new()
            };
            current = Some((
                name,
                Message {
                    flags,
                    fields: Vec::new(),
                },
            ));
            markers.clear();
        } else if line == "}" {
            if let Some((name, message)) = current.take() {
                messages.insert(format!("{package}.{name}"), message);
            }
            markers.clear();
        } else if line.ends_with(';') && line.contains('=') {
            if let Some((name, message)) = &mut current {
                message.fields.push(field(line, &package, name, &markers)?);
            }
            markers.clear();
        } else if line.is_empty() {
            // Markers stand right above what they mark.
            if current.is_none() {
                markers.clear();
            }
        }
    }
    Ok(package)
}

fn field(line: &str, package: &str, message: &str, markers: &[String]) -> Result<Field> {
    let (left, number) = line
        .trim_end_matches(';')
        .rsplit_once('=')
        .context("no number")?;
    let number = number
        .trim()
        .parse()
        .with_context(|| format!("number in {line}"))?;
    let left = left.trim();
    let (kind, name) = if let Some(rest) = left.strip_prefix("map<") {
        let (types, name) = rest.split_once('>').context("map type")?;
        let (key, value) = types.split_once(',').context("map types")?;
        if key.trim() != "string" {
            bail!("map key of {line} is not a string");
        }
        (format!("{{}}{}", full(value.trim(), package)), name.trim())
    } else {
        let mut words = left.split_whitespace();
        let label = words.next().context("label")?;
        let kind = full(words.next().context("type")?, package);
        let name = words.next().context("name")?;
        (
            if label == "repeated" {
                format!("*{kind}")
            } else {
                kind
            },
            name,
        )
    };
    let renamed = RENAMED
        .iter()
        .find(|(m, f, _)| *m == message && *f == name)
        .map(|(_, _, n)| *n);
    let json = renamed.unwrap_or(name).to_string();
    let mut flags = Vec::new();
    if INLINE.contains(&(message, name)) {
        flags.push("inline".to_string());
    }
    for marker in markers {
        let (key, value) = marker.split_once('=').unwrap_or((marker, ""));
        match key {
            "optional" => flags.push("optional".into()),
            "listType" => flags.push(format!("list={value}")),
            "listMapKey" => flags.push(format!("key={value}")),
            "mapType" | "structType" if value == "atomic" => flags.push("atomic".into()),
            "patchMergeKey" => flags.push(format!("mergekey={value}")),
            "patchStrategy" => {
                flags.extend(value.split(',').map(|v| match v {
                    "retainKeys" => "retain".to_string(),
                    other => other.to_string(),
                }));
            }
            "default" => flags.push(format!("default={}", value.replace([',', '\t'], " "))),
            _ => {}
        }
    }
    Ok(Field {
        number,
        name: json,
        kind,
        flags,
    })
}

/// A type's full name; scalars stay.
fn full(kind: &str, package: &str) -> String {
    const SCALARS: &[&str] = &[
        "string", "bool", "int32", "int64", "uint32", "uint64", "double", "float", "bytes",
    ];
    if SCALARS.contains(&kind) {
        return kind.to_string();
    }
    match kind.strip_prefix('.') {
        Some(absolute) => absolute.to_string(),
        None => format!("{package}.{kind}"),
    }
}
