//! Kustomizations: resources and bases, generators, and the transformations that most folders use. What is not
//! known is refused by name. Upstream: sigs.k8s.io/kustomize/api, as kubectl carries it.

mod file;
mod generate;
mod paths;
mod references;
mod transform;

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::{Error, Result};
use crate::limits;
use crate::object;
use crate::yaml;

use file::Kustomization;

/// The names a kustomization's file may have.
const FILES: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];

/// Upstream's order of output: these kinds first, the last two last, others between.
const FIRST: &[&str] = &[
    "Namespace",
    "ResourceQuota",
    "StorageClass",
    "CustomResourceDefinition",
    "ServiceAccount",
    "PodSecurityPolicy",
    "Role",
    "ClusterRole",
    "RoleBinding",
    "ClusterRoleBinding",
    "ConfigMap",
    "Secret",
    "Endpoints",
    "Service",
    "LimitRange",
    "PriorityClass",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "Deployment",
    "StatefulSet",
    "CronJob",
    "PodDisruptionBudget",
];
const LAST: &[&str] = &[
    "MutatingWebhookConfiguration",
    "ValidatingWebhookConfiguration",
];

/// An object on its way, with the names it had.
#[derive(Clone, Debug)]
struct Resource {
    value: Value,
    /// Names it was given before the one it has.
    before: Vec<String>,
    /// Its name ends with a hash of its content.
    hashed: bool,
}

impl Resource {
    fn new(value: Value) -> Self {
        Self {
            value,
            before: Vec::new(),
            hashed: false,
        }
    }

    fn kind(&self) -> &str {
        object::text(&self.value, "/kind")
    }

    fn name(&self) -> &str {
        object::name(&self.value)
    }

    /// Whether it has, or had, a name.
    fn is_named(&self, name: &str) -> bool {
        self.name() == name || self.before.iter().any(|n| n == name)
    }

    fn rename(&mut self, name: String) {
        if self.name() != name {
            self.before.push(self.name().to_string());
            self.value["metadata"]["name"] = Value::from(name);
        }
    }
}

/// The objects of a folder with a kustomization, as they are to be applied.
pub fn build(folder: &str) -> Result<Vec<Value>> {
    if folder.contains("://") {
        return Err(Error::text(format!(
            "cannot read {folder}: kustomizations from the web are not there yet in this version"
        )));
    }
    let mut all = accumulate(Path::new(folder), 0)?;
    for resource in all.iter_mut().filter(|r| r.hashed) {
        let name = format!("{}-{}", resource.name(), generate::hash(&resource.value)?);
        resource.rename(name);
    }
    references::mend(&mut all);
    let rank = |kind: &str| {
        let at = |list: &[&str]| list.iter().position(|k| *k == kind);
        match (at(FIRST), at(LAST)) {
            (Some(i), _) => (0, i),
            (None, Some(i)) => (2, i),
            _ => (1, 0),
        }
    };
    let id = |r: &Resource| {
        let version = object::text(&r.value, "/apiVersion");
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        let namespace = object::namespace(&r.value);
        format!("{group}_{version}_{}|{namespace}|{}", r.kind(), r.name())
    };
    all.sort_by_cached_key(|r| (rank(r.kind()), id(r)));
    Ok(all.into_iter().map(|r| r.value).collect())
}

/// The objects of a folder before hashes and references.
fn accumulate(folder: &Path, depth: usize) -> Result<Vec<Resource>> {
    if depth > limits::KUSTOMIZE_DEPTH {
        return Err(Error::text(format!(
            "cycle detected: {} refers to itself",
            folder.display()
        )));
    }
    let found = FILES.iter().map(|f| folder.join(f)).find(|p| p.is_file());
    let Some(path) = found else {
        let shown = std::path::absolute(folder).unwrap_or_else(|_| folder.to_path_buf());
        return Err(Error::text(format!(
            "unable to find one of 'kustomization.yaml', 'kustomization.yml' or 'Kustomization' in directory '{}'",
            shown.display()
        )));
    };
    let kustomization = Kustomization::parse(&path.display().to_string(), &read(&path)?)?;
    let mut all = Vec::new();
    for name in kustomization.resources.iter().chain(&kustomization.bases) {
        let path = folder.join(name);
        if name.contains("://") {
            return Err(Error::text(format!(
                "accumulating resources: {name}: files from the web are not there yet in this version"
            )));
        }
        if path.is_dir() {
            all.extend(accumulate(&path, depth + 1)?);
        } else {
            let objects = documents(&path)?;
            all.extend(objects.into_iter().map(Resource::new));
        }
        check_unique(&all)?;
    }
    generate::run(&kustomization, folder, &mut all)?;
    transform::run(&kustomization, folder, &mut all)?;
    Ok(all)
}

fn read(path: &PathBuf) -> Result<String> {
    std::fs::read_to_string(path).map_err(|e| {
        let why = crate::error::io_text(&e);
        Error::text(format!("open {}: {why}", path.display()))
    })
}

/// The objects of a file, lists taken apart.
fn documents(path: &PathBuf) -> Result<Vec<Value>> {
    let failed = |why: String| {
        let path = path.display();
        Error::text(format!("accumulating resources from '{path}': {why}"))
    };
    let text = read(path).map_err(|e| failed(e.to_string()))?;
    let mut out = Vec::new();
    for value in yaml::parse_all(&text).map_err(failed)? {
        let kind = object::text(&value, "/kind").to_string();
        if kind.ends_with("List") && value["items"].is_array() {
            out.extend(object::items(&value, "/items").iter().cloned());
        } else if kind.is_empty() {
            return Err(failed("missing Resource metadata".into()));
        } else {
            out.push(value);
        }
    }
    Ok(out)
}

fn check_unique(all: &[Resource]) -> Result<()> {
    let id = |r: &Resource| {
        let version = object::text(&r.value, "/apiVersion").to_string();
        let namespace = object::namespace(&r.value).to_string();
        (
            version,
            r.kind().to_string(),
            namespace,
            r.name().to_string(),
        )
    };
    for (i, resource) in all.iter().enumerate() {
        if all[..i].iter().any(|o| id(o) == id(resource)) {
            let (version, kind, namespace, name) = id(resource);
            return Err(Error::text(format!(
                "may not add resource with an already registered id: {kind}.{version}/{name}.{namespace}"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
