//! Environment of containers, and references to fields and resources of the pod. validation-pod §8.3.

use api::names;
use machinery::Causes;
use machinery::object::{at, list_at, map_at, str_at};
use serde_json::{Value, json};

use super::super::amounts;
use super::Shared;
use crate::checks;
use crate::core::config_map::key_problems;

/// Fields that environment variables can hold.
const ENV_FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

/// Fields that files can hold.
pub const FILE_FIELDS: &[&str] = &[
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
];

/// All labels that the downward API knows.
const KNOWN_FIELDS: &[&str] = &[
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.serviceAccountName",
    "spec.schedulerName",
    "status.phase",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
    "spec.host",
];

const RESOURCES: &[&str] = &[
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];
const BYTES: &[&str] = &[
    "1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei",
];

/// Problems of the name of a variable.
pub fn name_problems(name: &str) -> Vec<String> {
    let mut out = Vec::new();
    if name.is_empty() {
        out.push("environment variable name must be non-empty".into());
    }
    if !name.bytes().all(|b| (0x20..0x7f).contains(&b) && b != b'=') {
        out.push("a valid environment variable name must consist only of printable ASCII characters other than '='".into());
    }
    out
}

/// Checks the variables at the current path.
pub fn all(one: &Value, c: &mut Causes) {
    for (i, e) in list_at(one, "env").iter().enumerate() {
        c.index(i, |c| {
            checks::required(e, "name", name_problems, c);
            if let Some(source) = at(e, "valueFrom") {
                let value = str_at(e, "value");
                c.at("valueFrom", |c| value_from(source, value, c));
            }
        });
    }
}

fn value_from(source: &Value, value: &str, c: &mut Causes) {
    if let Some(v) = at(source, "fieldRef") {
        c.at("fieldRef", |c| field_ref(v, ENV_FIELDS, c));
    }
    if let Some(v) = at(source, "resourceFieldRef") {
        c.at("resourceFieldRef", |c| resource_field_ref(v, false, c));
    }
    for field in ["configMapKeyRef", "secretKeyRef"] {
        if let Some(v) = at(source, field) {
            c.at(field, |c| {
                let name = str_at(v, "name");
                c.at("name", |c| {
                    checks::all(name, names::dns1123_subdomain(name), c)
                });
                c.at("key", |c| match str_at(v, "key") {
                    "" => c.required(""),
                    key => key_problems(key, c),
                });
            });
        }
    }
    if let Some(v) = at(source, "fileKeyRef") {
        c.at("fileKeyRef", |c| {
            checks::required(v, "key", name_problems, c);
            checks::required(v, "volumeName", names::dns1123_label, c);
            if checks::present(v, "path", c) {
                c.at("path", |c| checks::no_backsteps(str_at(v, "path"), c));
            }
        });
    }
    let count = source.as_object().map_or(0, serde_json::Map::len);
    if count == 0 {
        c.invalid(&json!(""), "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`");
    } else if !value.is_empty() {
        c.invalid(&json!(""), "may not be specified when `value` is not empty");
    } else if count > 1 {
        c.invalid(
            &json!(""),
            "may not have more than one field specified at a time",
        );
    }
}

/// Checks a fieldRef at the current path.
pub fn field_ref(v: &Value, allowed: &[&str], c: &mut Causes) {
    for field in ["apiVersion", "fieldPath"] {
        if !checks::present(v, field, c) {
            return;
        }
    }
    let (version, path) = (str_at(v, "apiVersion"), str_at(v, "fieldPath"));
    let unknown = |c: &mut Causes, why: String| {
        c.at("fieldPath", |c| {
            c.invalid(&json!(path), format!("error converting fieldPath: {why}"));
        });
    };
    if version != "v1" {
        unknown(c, format!("unsupported pod version: {version}"));
        return;
    }
    let subscript = path
        .split_once("['")
        .and_then(|(p, rest)| Some((p, rest.strip_suffix("']")?)));
    match subscript {
        Some(("metadata.annotations", key)) => {
            checks::all(key, names::qualified_name(&key.to_lowercase()), c);
        }
        Some(("metadata.labels", key)) => checks::all(key, names::qualified_name(key), c),
        Some((path, _)) => unknown(c, format!("field label does not support subscript: {path}")),
        None if !KNOWN_FIELDS.contains(&path) => {
            unknown(c, format!("field label not supported: {path}"));
        }
        None if !allowed.contains(&path) && path != "spec.host" => c.at("fieldPath", |c| {
            c.not_supported_in_order(&json!(path), allowed);
        }),
        None => {}
    }
}

/// Checks a resourceFieldRef at the current path; files must name their container.
pub fn resource_field_ref(v: &Value, file: bool, c: &mut Causes) {
    if file && !checks::present(v, "containerName", c) {
        return;
    }
    if !checks::present(v, "resource", c) {
        return;
    }
    let resource = str_at(v, "resource");
    let huge = ["limits.hugepages-", "requests.hugepages-"]
        .iter()
        .any(|p| resource.starts_with(p));
    if !RESOURCES.contains(&resource) && !huge {
        c.at("resource", |c| {
            c.not_supported_in_order(&json!(resource), RESOURCES)
        });
    }
    let divisor = at(v, "divisor").and_then(amounts::read);
    let Some(divisor) = divisor.filter(|d| !d.is_zero()) else {
        return;
    };
    let (allowed, list, kind): (&[&str], &str, &str) = match resource {
        "limits.cpu" | "requests.cpu" => (&["1m", "1"], "1m and 1", "cpu"),
        "limits.memory" | "requests.memory" => (BYTES, "", "memory"),
        "limits.ephemeral-storage" | "requests.ephemeral-storage" => {
            (BYTES, "", "local ephemeral storage")
        }
        _ if huge => (BYTES, "", "hugepages"),
        _ => return,
    };
    if !allowed.contains(&divisor.to_string().as_str()) {
        let list = if list.is_empty() {
            BYTES.join(", ")
        } else {
            list.to_string()
        };
        c.at("divisor", |c| {
            c.invalid(
                &json!(resource),
                format!("only divisor's values {list} are supported with the {kind} resource"),
            );
        });
    }
}

/// Checks envFrom at the current path.
pub fn from(one: &Value, c: &mut Causes) {
    for (i, e) in list_at(one, "envFrom").iter().enumerate() {
        let refs: Vec<&str> = ["configMapRef", "secretRef"]
            .into_iter()
            .filter(|f| at(e, f).is_some())
            .collect();
        c.index(i, |c| {
            checks::optional(e, "prefix", name_problems, c);
            for field in &refs {
                c.at(field, |c| {
                    let name = |text: &str| names::subdomain_name(text, true);
                    checks::required(&e[*field], "name", name, c);
                });
            }
        });
        match refs.len() {
            0 => c.invalid(
                &json!(""),
                "must specify one of: `configMapRef` or `secretRef`",
            ),
            2 => c.invalid(
                &json!(""),
                "may not have more than one field specified at a time",
            ),
            _ => {}
        }
    }
}

/// Files that variables come from must be on an emptyDir.
pub fn files(s: &Shared<'_>, c: &mut Causes) {
    let volumes = list_at(s.spec, "volumes");
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for (i, one) in list_at(s.spec, list).iter().enumerate() {
            for (j, e) in list_at(one, "env").iter().enumerate() {
                let Some(file) = at(e, "valueFrom.fileKeyRef") else {
                    continue;
                };
                let name = str_at(file, "volumeName");
                let volume = volumes.iter().find(|v| str_at(v, "name") == name);
                let fine = volume.is_some_and(|v| map_at(v, "emptyDir").is_some());
                if fine {
                    continue;
                }
                let report = |c: &mut Causes| match volume {
                    None => c.not_found(&json!(name)),
                    Some(_) => {
                        c.invalid(&json!(name), "referenced volume must be of type emptyDir");
                    }
                };
                c.at(list, |c| {
                    c.index(i, |c| {
                        c.at("env", |c| {
                            c.index(j, |c| {
                                c.at("valueFrom", |c| {
                                    c.at("fileKeyRef", |c| c.at("volumeName", report));
                                });
                            });
                        });
                    });
                });
            }
        }
    }
}
