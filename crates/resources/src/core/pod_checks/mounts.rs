//! Mounts and block devices of containers. validation-pod §8.3.

use std::collections::BTreeSet;

use machinery::Causes;
use machinery::object::{at, bool_at, list_at, str_at};
use serde_json::{Value, json};

use super::Shared;
use crate::checks;

fn texts<'a>(one: &'a Value, list: &str, field: &str) -> BTreeSet<&'a str> {
    list_at(one, list)
        .iter()
        .map(|m| str_at(m, field))
        .collect()
}

/// Checks volumeMounts, at the container's path: some errors upstream reports without an index.
pub fn mounts(s: &Shared<'_>, one: &Value, c: &mut Causes) {
    let devices = texts(one, "volumeDevices", "name");
    let device_paths = texts(one, "volumeDevices", "devicePath");
    let mut paths = BTreeSet::new();
    for (i, m) in list_at(one, "volumeMounts").iter().enumerate() {
        c.at("volumeMounts", |c| {
            c.index(i, |c| {
                let (name, path) = (str_at(m, "name"), str_at(m, "mountPath"));
                checks::present(m, "name", c);
                if !s.volumes.contains_key(name) {
                    c.at("name", |c| c.not_found(&json!(name)));
                }
                checks::present(m, "mountPath", c);
                if !paths.insert(path) {
                    c.at("mountPath", |c| c.invalid(&json!(path), "must be unique"));
                }
                if devices.contains(name) {
                    c.at("name", |c| {
                        c.invalid(&json!(name), "must not already exist in volumeDevices");
                    });
                }
                if device_paths.contains(path) {
                    c.at("mountPath", |c| {
                        c.invalid(
                            &json!(path),
                            "must not already exist as a path in volumeDevices",
                        );
                    });
                }
            });
            sub_paths(m, i, c);
            propagation(m, one, c);
        });
    }
}

fn sub_paths(m: &Value, i: usize, c: &mut Causes) {
    let (sub, expr) = (str_at(m, "subPath"), str_at(m, "subPathExpr"));
    if !sub.is_empty() {
        c.at("subPath", |c| checks::descending_path(sub, c));
    }
    if expr.is_empty() {
        return;
    }
    if !sub.is_empty() {
        c.index(i, |c| {
            c.at("subPathExpr", |c| {
                c.invalid(
                    &json!(expr),
                    "subPathExpr and subPath are mutually exclusive",
                );
            });
        });
    }
    c.at("subPathExpr", |c| checks::descending_path(expr, c));
}

fn propagation(m: &Value, one: &Value, c: &mut Causes) {
    let modes = &["Bidirectional", "HostToContainer", "None"];
    checks::optional_one_of(m, "mountPropagation", modes, c);
    let mode = str_at(m, "mountPropagation");
    let privileged = bool_at(one, "securityContext.privileged") == Some(true);
    if mode == "Bidirectional" && !privileged {
        c.at("mountPropagation", |c| {
            c.forbidden(
                "Bidirectional mount propagation is available only to privileged containers",
            );
        });
    }
    let Some(recursive) = at(m, "recursiveReadOnly") else {
        return;
    };
    c.at("recursiveReadOnly", |c| {
        match recursive.as_str().unwrap_or_default() {
            "Disabled" => {}
            "IfPossible" | "Enabled" => {
                if bool_at(m, "readOnly") != Some(true) {
                    c.forbidden("may only be specified when readOnly is true");
                }
                if !["", "None"].contains(&mode) {
                    c.forbidden(
                        "may only be specified when mountPropagation is None or not specified",
                    );
                }
            }
            _ => c.not_supported_in_order(recursive, &["Disabled", "Enabled", "IfPossible"]),
        }
    });
}

/// Checks volumeDevices at the current path.
pub fn devices(s: &Shared<'_>, one: &Value, c: &mut Causes) {
    let mounts = texts(one, "volumeMounts", "name");
    let mount_paths = texts(one, "volumeMounts", "mountPath");
    let (mut names, mut paths) = (BTreeSet::new(), BTreeSet::new());
    for (i, d) in list_at(one, "volumeDevices").iter().enumerate() {
        c.index(i, |c| {
            let (name, path) = (str_at(d, "name"), str_at(d, "devicePath"));
            checks::present(d, "name", c);
            c.at("name", |c| {
                if !names.insert(name) {
                    c.invalid(&json!(name), "must be unique");
                }
                let block = |v: &&Value| {
                    at(v, "persistentVolumeClaim").is_some() || at(v, "ephemeral").is_some()
                };
                match s.volumes.get(name) {
                    None => c.not_found(&json!(name)),
                    Some(v) if !block(v) => c.invalid(&json!(name), "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"),
                    Some(_) => {}
                }
            });
            checks::present(d, "devicePath", c);
            c.at("devicePath", |c| {
                if !paths.insert(path) {
                    c.invalid(&json!(path), "must be unique");
                }
                if path.split('/').any(|p| p == "..") {
                    c.invalid(&json!(path), "can not contain backsteps ('..')");
                }
            });
            if mounts.contains(name) {
                c.at("name", |c| {
                    c.invalid(&json!(name), "must not already exist in volumeMounts");
                });
            }
            if mount_paths.contains(path) {
                c.at("devicePath", |c| {
                    c.invalid(
                        &json!(path),
                        "must not already exist as a path in volumeMounts",
                    );
                });
            }
        });
    }
}
