//! What a kustomization does to its objects, in upstream's order: patches, namespace, prefix and suffix, labels,
//! annotations, JSON patches, replicas, images.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::Resource;
use super::file::{Image, Kustomization, Labels, Patch, Target};
use super::paths::{CLUSTER, each, selectors, templates};
use crate::error::{Error, Result};
use crate::object;
use crate::yaml;

/// Does all of it.
pub fn run(k: &Kustomization, folder: &Path, all: &mut Vec<Resource>) -> Result<()> {
    for text in &k.patches_strategic_merge {
        let patch = match folder.join(text).is_file() {
            true => Patch {
                path: text.clone(),
                ..Patch::default()
            },
            false => Patch {
                patch: text.clone(),
                ..Patch::default()
            },
        };
        apply(&patch, folder, all)?;
    }
    for patch in &k.patches {
        apply(patch, folder, all)?;
    }
    if !k.namespace.is_empty() {
        all.iter_mut().for_each(|r| namespace(r, &k.namespace));
    }
    if !k.name_prefix.is_empty() || !k.name_suffix.is_empty() {
        let keeps =
            |kind: &str| ["APIService", "CustomResourceDefinition", "Namespace"].contains(&kind);
        for resource in all.iter_mut().filter(|r| !keeps(r.kind())) {
            let name = format!("{}{}{}", k.name_prefix, resource.name(), k.name_suffix);
            resource.rename(name);
        }
    }
    let common = Labels {
        pairs: k.common_labels.clone(),
        include_selectors: true,
        include_templates: true,
    };
    for labels in k.labels.iter().chain(Some(&common)) {
        if !labels.pairs.is_empty() {
            all.iter_mut().for_each(|r| label(&mut r.value, labels));
        }
    }
    if !k.common_annotations.is_empty() {
        all.iter_mut()
            .for_each(|r| annotate(&mut r.value, &k.common_annotations));
    }
    for patch in &k.patches_json6902 {
        apply(patch, folder, all)?;
    }
    for replicas in &k.replicas {
        let scaled = [
            "Deployment",
            "ReplicaSet",
            "ReplicationController",
            "StatefulSet",
        ];
        let mut found = false;
        for r in all.iter_mut().filter(|r| scaled.contains(&r.kind())) {
            if r.is_named(&replicas.name) {
                r.value["spec"]["replicas"] = json!(replicas.count);
                found = true;
            }
        }
        if !found {
            let name = &replicas.name;
            return Err(Error::text(format!(
                "resource with name {name} does not match a config with the following GVK [Deployment.v1.apps ReplicationController.v1.[noGrp] ReplicaSet.v1.apps StatefulSet.v1.apps]"
            )));
        }
    }
    for image in &k.images {
        all.iter_mut()
            .for_each(|r| replace_images(&mut r.value, image));
    }
    Ok(())
}

// === Metadata ===

fn namespace(resource: &mut Resource, namespace: &str) {
    if resource.kind() == "Namespace" {
        resource.rename(namespace.to_string());
        return;
    }
    each(&mut resource.value, "subjects[]", false, &mut |subject| {
        if subject["kind"] == "ServiceAccount" && subject["name"] == "default" {
            subject["namespace"] = json!(namespace);
        }
    });
    if !CLUSTER.contains(&resource.kind()) {
        resource.value["metadata"]["namespace"] = json!(namespace);
    }
}

fn add(pairs: &BTreeMap<String, String>, at: &mut Value) {
    if !at.is_object() {
        *at = Value::Object(Map::new());
    }
    for (key, value) in pairs {
        at[key] = json!(value);
    }
}

fn label(value: &mut Value, labels: &Labels) {
    let kind = object::text(value, "/kind").to_string();
    each(value, "metadata/labels", true, &mut |v| {
        add(&labels.pairs, v)
    });
    if labels.include_selectors {
        for (path, create) in selectors(&kind) {
            each(value, path, *create, &mut |v| add(&labels.pairs, v));
        }
        each(value, "spec/volumeClaimTemplates[]", false, &mut |claim| {
            each(claim, "metadata/labels", true, &mut |v| {
                add(&labels.pairs, v);
            });
        });
    }
    if labels.include_selectors || labels.include_templates {
        for path in templates(&kind) {
            each(value, &format!("{path}/labels"), true, &mut |v| {
                add(&labels.pairs, v)
            });
        }
    }
}

fn annotate(value: &mut Value, pairs: &BTreeMap<String, String>) {
    let kind = object::text(value, "/kind").to_string();
    each(value, "metadata/annotations", true, &mut |v| add(pairs, v));
    for path in templates(&kind) {
        each(value, &format!("{path}/annotations"), true, &mut |v| {
            add(pairs, v)
        });
    }
}

// === Images ===

/// Looks at every container, wherever a list of them is.
fn replace_images(value: &mut Value, image: &Image) {
    match value {
        Value::Array(list) => list.iter_mut().for_each(|v| replace_images(v, image)),
        Value::Object(map) => {
            for (key, below) in map {
                if ["containers", "initContainers"].contains(&key.as_str()) {
                    for container in below.as_array_mut().into_iter().flatten() {
                        let old = container["image"].as_str();
                        if let Some(new) = old.and_then(|old| replaced(old, image)) {
                            container["image"] = json!(new);
                        }
                    }
                } else {
                    replace_images(below, image);
                }
            }
        }
        _ => {}
    }
}

/// The image that takes another's place, if it is meant.
fn replaced(old: &str, image: &Image) -> Option<String> {
    let rest = old.strip_prefix(&image.name)?;
    if !(rest.is_empty() || rest.starts_with([':', '@'])) {
        return None;
    }
    let name = match image.new_name.is_empty() {
        true => &image.name,
        false => &image.new_name,
    };
    let (tag, digest) = match rest.split_once('@') {
        Some((tag, digest)) => (tag.trim_start_matches(':'), digest),
        None => (rest.trim_start_matches(':'), ""),
    };
    let (tag, digest) = match (image.new_tag.as_str(), image.digest.as_str()) {
        ("", "") => (tag, digest),
        (tag, "") => (tag, ""),
        (tag, digest) => (tag, digest),
    };
    let tag = if tag.is_empty() {
        String::new()
    } else {
        format!(":{tag}")
    };
    let digest = if digest.is_empty() {
        String::new()
    } else {
        format!("@{digest}")
    };
    Some(format!("{name}{tag}{digest}"))
}

// === Patches ===

fn apply(patch: &Patch, folder: &Path, all: &mut Vec<Resource>) -> Result<()> {
    let text = match patch.path.is_empty() {
        true => patch.patch.clone(),
        false => super::read(&folder.join(&patch.path))?,
    };
    let failed = |why: String| {
        Error::text(format!(
            "unable to parse SM or JSON patch from [{text}]: {why}"
        ))
    };
    for value in yaml::parse_all(&text).map_err(failed)? {
        match (&value, &patch.target) {
            (Value::Array(_), None) => {
                return Err(Error::text("must specify a target for JSON patch"));
            }
            (Value::Array(_), Some(target)) => {
                for resource in all.iter_mut().filter(|r| meant(r, target)) {
                    let body = value.to_string();
                    let patched = machinery::patch::json_patch(&resource.value, body.as_bytes());
                    resource.value = patched.map_err(|e| Error::text(e.message))?;
                }
            }
            (_, Some(target)) => {
                let mut kept = Vec::new();
                for resource in all.drain(..) {
                    match meant(&resource, target) {
                        true => kept.extend(merged(resource, &value)?),
                        false => kept.push(resource),
                    }
                }
                *all = kept;
            }
            (_, None) => {
                let (kind, name) = (object::text(&value, "/kind"), object::name(&value));
                let mine = |r: &Resource| r.kind() == kind && r.is_named(name);
                let at = all.iter().position(mine).ok_or_else(|| {
                    let version = object::text(&value, "/apiVersion");
                    Error::text(format!(
                        "no resource matches strategic merge patch \"{kind}.{version}/{name}.[noNs]\": no matches for Id {kind}.{version}/{name}.[noNs]; failed to find unique target for patch {kind}.{version}/{name}.[noNs]"
                    ))
                })?;
                let resource = all.remove(at);
                if let Some(patched) = merged(resource, &value)? {
                    all.insert(at, patched);
                }
            }
        }
    }
    Ok(())
}

/// An object with a strategic merge patch applied; `None` where the patch deletes it.
fn merged(mut resource: Resource, patch: &Value) -> Result<Option<Resource>> {
    if patch["$patch"] == "delete" {
        return Ok(None);
    }
    let mut patch = patch.clone();
    // What tells the object is not part of what changes.
    for field in ["apiVersion", "kind"] {
        patch[field] = resource.value[field].clone();
    }
    patch["metadata"]["name"] = resource.value["metadata"]["name"].clone();
    let version = object::text(&resource.value, "/apiVersion").to_string();
    let (group, version) = version.split_once('/').unwrap_or(("", &version));
    let body = patch.to_string();
    let kind = resource.kind().to_string();
    let known = api::schema::lookup(group, version, &kind).is_some();
    let patched = match known {
        true => {
            machinery::patch::strategic(group, version, &kind, &resource.value, body.as_bytes())
        }
        false => machinery::patch::merge_patch(&resource.value, body.as_bytes()),
    };
    resource.value = patched.map_err(|e| Error::text(e.message))?;
    Ok(Some(resource))
}

/// Whether a patch's target selects an object.
fn meant(resource: &Resource, target: &Target) -> bool {
    let version = object::text(&resource.value, "/apiVersion");
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let names = resource.before.iter().map(String::as_str);
    let mut names = names.chain(Some(resource.name()));
    let pairs = |field: &str| -> BTreeMap<String, String> {
        let all = resource.value.pointer(field).map(object::pairs);
        all.unwrap_or_default().into_iter().collect()
    };
    let selects = |selector: &str, field: &str| {
        let parsed = api::selector::LabelSelector::parse(selector);
        let pairs = pairs(field);
        let value = |key: &str| pairs.get(key).map(String::as_str);
        selector.is_empty() || parsed.is_ok_and(|s| s.matches(value))
    };
    whole(&target.group, group)
        && whole(&target.version, version)
        && whole(&target.kind, resource.kind())
        && (target.name.is_empty() || names.any(|n| whole(&target.name, n)))
        && whole(&target.namespace, object::namespace(&resource.value))
        && selects(&target.label_selector, "/metadata/labels")
        && selects(&target.annotation_selector, "/metadata/annotations")
}

/// Whether a pattern is empty or matches a text as a whole.
fn whole(pattern: &str, text: &str) -> bool {
    if pattern.is_empty() {
        return true;
    }
    let anchored = regex::Regex::new(&format!("^(?:{pattern})$"));
    anchored.is_ok_and(|r| r.is_match(text))
}
