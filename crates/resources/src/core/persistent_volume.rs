//! PersistentVolume. Upstream: pkg/registry/core/persistentvolume, ValidatePersistentVolume; validation-core §12.

mod change;
mod warnings;

use api::names;
use jiff::Timestamp;
use machinery::object::{at, is_deleting, list_at, map_at, set, set_default, str_at};
use machinery::strategy::{freeze_all_but_status, keep};
use machinery::{Causes, Column, Descriptor, Row, Scope, Strategy, SubresourceKind, WriteContext};
use serde_json::{Value, json};

use super::volume_source::{self as source, Owner, Source};
use crate::cells;
use crate::checks::{self, quantity, selectors};
use crate::time::rfc3339;

struct PersistentVolume;

const MODES: &[&str] = &[
    "ReadOnlyMany",
    "ReadWriteMany",
    "ReadWriteOnce",
    "ReadWriteOncePod",
];
const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
const BETA_OPTIONS: &str = "volume.beta.kubernetes.io/mount-options";

const LOCAL: Source = Source {
    field: "local",
    inside: "local",
    check: |v, _, c| {
        if checks::present(v, "path", c) {
            c.at("path", |c| checks::no_backsteps(str_at(v, "path"), c));
        }
    },
};
const CSI: Source = Source {
    field: "csi",
    inside: "csi",
    check: csi,
};

/// In the order in which upstream looks.
static SOURCES: &[Source] = &[
    source::HOST_PATH,
    source::GCE,
    source::AWS,
    source::GLUSTERFS,
    source::FLOCKER,
    source::NFS,
    source::RBD,
    source::QUOBYTE,
    source::CEPHFS,
    source::ISCSI,
    source::CINDER,
    source::FC,
    source::FLEX,
    source::AZURE_FILE,
    source::VSPHERE,
    source::PHOTON,
    source::PORTWORX,
    source::AZURE_DISK,
    source::SCALE_IO,
    LOCAL,
    source::STORAGE_OS,
    CSI,
];

/// Sources that take no mount options.
const NO_OPTIONS: &[&str] = &[
    "hostPath",
    "local",
    "csi",
    "fc",
    "flexVolume",
    "flocker",
    "portworxVolume",
    "scaleIO",
    "storageos",
];

/// The kind's descriptor.
pub fn resource() -> Descriptor {
    Descriptor::new(
        "",
        "v1",
        "PersistentVolume",
        "persistentvolumes",
        Scope::Cluster,
        PersistentVolume,
    )
    .short(&["pv"])
    .sub("status", SubresourceKind::Status)
}

impl Strategy for PersistentVolume {
    fn name_problems(&self, name: &str, prefix: bool) -> Vec<String> {
        names::subdomain_name(name, prefix)
    }

    fn has_status(&self) -> bool {
        true
    }

    fn set_defaults(&self, obj: &mut Value) {
        if at(obj, "spec").is_none() {
            set(obj, "spec", json!({}));
        }
        let texts = [
            ("status.phase", "Pending"),
            ("spec.persistentVolumeReclaimPolicy", "Retain"),
        ];
        for (path, text) in texts {
            if str_at(obj, path).is_empty() {
                set(obj, path, json!(text));
            }
        }
        set_default(obj, "spec.volumeMode", json!("Filesystem"));
        super::amounts::canonical_list(obj, "spec.capacity");
        if let Some(spec) = obj.get_mut("spec") {
            super::pod_spec::source_defaults(spec);
        }
    }

    fn prepare_create(&self, obj: &mut Value, cx: &WriteContext) {
        set(
            obj,
            "status",
            json!({"phase": "Pending", "lastPhaseTransitionTime": rfc3339(cx.now)}),
        );
    }

    fn prepare_update(&self, obj: &mut Value, before: &Value, _cx: &WriteContext) {
        keep(obj, before, "status");
    }

    fn prepare_status_update(&self, obj: &mut Value, before: &Value, cx: &WriteContext) {
        freeze_all_but_status(obj, before);
        let time = "status.lastPhaseTransitionTime";
        let (new, old) = (at(obj, time).cloned(), at(before, time).cloned());
        if str_at(obj, "status.phase") == str_at(before, "status.phase") {
            if let (None, Some(old)) = (new, old) {
                set(obj, time, old);
            }
        } else if new.is_none() || new == old {
            set(obj, time, json!(rfc3339(cx.now)));
        }
    }

    fn validate(&self, obj: &Value, causes: &mut Causes) {
        causes.at("spec", |c| spec(obj, c));
        let annotations = map_at(obj, "metadata.annotations");
        let plain = |f: &&str| at(&obj["spec"], f).is_some();
        if annotations.is_some_and(|a| a.contains_key(BETA_OPTIONS)) && NO_OPTIONS.iter().any(plain)
        {
            causes.at("metadata", |c| {
                c.at("annotations", |c| {
                    c.at(BETA_OPTIONS, |c| {
                        c.forbidden("may not specify mount options for this volume type");
                    });
                });
            });
        }
    }

    fn validate_update(&self, obj: &Value, before: &Value, causes: &mut Causes) {
        self.validate(obj, causes);
        change::all(obj, before, causes);
    }

    fn warnings(&self, obj: &Value, _before: Option<&Value>) -> Vec<String> {
        warnings::all(obj)
    }

    fn returns_deleted(&self) -> bool {
        true
    }

    fn columns(&self) -> Vec<Column> {
        let names = [
            "Capacity",
            "Access Modes",
            "Reclaim Policy",
            "Status",
            "Claim",
            "StorageClass",
            "VolumeAttributesClass",
            "Reason",
            "Age",
        ];
        let mut all = vec![Column::name()];
        all.extend(names.map(Column::new));
        all.push(Column::new("VolumeMode").wide());
        all
    }

    fn row(&self, obj: &Value, now: Timestamp) -> Row {
        let claim = match at(obj, "spec.claimRef") {
            Some(r) => format!("{}/{}", str_at(r, "namespace"), str_at(r, "name")),
            None => String::new(),
        };
        vec![
            cells::name(obj),
            amount(obj, "spec.capacity"),
            json!(access_modes(list_at(obj, "spec.accessModes"))),
            json!(str_at(obj, "spec.persistentVolumeReclaimPolicy")),
            phase(obj),
            json!(claim),
            json!(class(obj)),
            or_unset(obj, "spec.volumeAttributesClassName"),
            json!(str_at(obj, "status.reason")),
            cells::age(obj, now),
            or_unset(obj, "spec.volumeMode"),
        ]
    }
}

/// The amount of storage in a list, canonical; `0` where there is none.
pub fn amount(obj: &Value, path: &str) -> Value {
    let q = at(obj, path)
        .and_then(|l| l.get("storage"))
        .and_then(super::amounts::read);
    json!(q.map_or("0".to_string(), |q| q.to_string()))
}

/// The phase cell of volumes and claims.
pub fn phase(obj: &Value) -> Value {
    if is_deleting(obj) {
        json!("Terminating")
    } else {
        json!(str_at(obj, "status.phase"))
    }
}

/// The storage class of a volume or claim: the old annotation wins.
pub fn class(obj: &Value) -> &str {
    let annotation = map_at(obj, "metadata.annotations").and_then(|a| a.get(BETA_CLASS));
    let annotation = annotation.and_then(Value::as_str);
    annotation.unwrap_or_else(|| str_at(obj, "spec.storageClassName"))
}

/// A text, or `<unset>`.
pub fn or_unset(obj: &Value, path: &str) -> Value {
    at(obj, path).cloned().unwrap_or(json!("<unset>"))
}

/// Access modes in their short form.
pub fn access_modes(modes: &[Value]) -> String {
    let short = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    let has = |long: &str| modes.iter().any(|m| m == long);
    let all: Vec<&str> = short
        .iter()
        .filter(|(long, _)| has(long))
        .map(|(_, s)| *s)
        .collect();
    all.join(",")
}

/// Checks access modes at the current path.
pub fn modes(all: &[Value], c: &mut Causes) {
    for m in all {
        if !MODES.contains(&m.as_str().unwrap_or_default()) {
            c.not_supported(m, MODES);
        }
    }
    if all.len() > 1 && all.iter().any(|m| m == "ReadWriteOncePod") {
        c.forbidden("may not use ReadWriteOncePod with other access modes");
    }
}

fn spec(obj: &Value, c: &mut Causes) {
    let spec = &obj["spec"];
    let access = list_at(spec, "accessModes");
    c.at("accessModes", |c| {
        if access.is_empty() {
            c.required("");
        }
        modes(access, c);
    });
    c.at("capacity", |c| capacity(spec, c));
    let policies = &["Delete", "Recycle", "Retain"];
    checks::one_of(spec, "persistentVolumeReclaimPolicy", policies, c);
    if let Some(affinity) = at(spec, "nodeAffinity") {
        c.at("nodeAffinity", |c| {
            c.at("required", |c| match at(affinity, "required") {
                Some(required) => selectors::node_selector(required, true, c),
                None => c.required("must specify required node constraints"),
            });
        });
    }
    let owner = Owner {
        persistent: true,
        name: machinery::object::name(obj),
    };
    sources(spec, owner, c);
    if at(spec, "local").is_some() && at(spec, "nodeAffinity").is_none() {
        c.at("nodeAffinity", |c| {
            c.required("Local volume requires node affinity")
        });
    }
    let recycle = str_at(spec, "persistentVolumeReclaimPolicy") == "Recycle";
    if recycle
        && str_at(spec, "hostPath.path")
            .trim_end_matches('/')
            .is_empty()
        && at(spec, "hostPath").is_some()
    {
        c.at("persistentVolumeReclaimPolicy", |c| {
            c.forbidden("may not be 'recycle' for a hostPath mount of '/'");
        });
    }
    checks::optional(spec, "storageClassName", names::dns1123_subdomain, c);
    checks::optional_one_of(spec, "volumeMode", &["Block", "Filesystem"], c);
    if let Some(name) = at(spec, "volumeAttributesClassName").and_then(Value::as_str) {
        c.at("volumeAttributesClassName", |c| {
            if name.is_empty() {
                c.required("an empty string is disallowed");
            } else {
                checks::all(name, names::dns1123_subdomain(name), c);
            }
        });
        if at(spec, "csi").is_none() {
            c.at("csi", |c| {
                c.required("has to be specified when using volumeAttributesClassName");
            });
        }
    }
}

fn capacity(spec: &Value, c: &mut Causes) {
    let Some(map) = map_at(spec, "capacity").filter(|m| !m.is_empty()) else {
        c.required("");
        return;
    };
    if map.len() != 1 || !map.contains_key("storage") {
        c.not_supported(&Value::Object(map.clone()), &["storage"]);
    }
    for (name, value) in map {
        c.key(name, |c| {
            let Some(q) = quantity::read(value, c) else {
                return;
            };
            if q.sign() < 0 {
                c.invalid(&json!(q.to_string()), "must be a valid resource quantity");
            }
            if q.sign() <= 0 {
                c.invalid(&json!(q.to_string()), "must be greater than zero");
            }
        });
    }
}

fn sources(spec: &Value, owner: Owner<'_>, c: &mut Causes) {
    let mut found = false;
    for s in SOURCES {
        let Some(v) = at(spec, s.field) else { continue };
        // Upstream never says it of flexVolume.
        if found && s.field != "flexVolume" {
            c.at(s.field, |c| {
                c.forbidden("may not specify more than 1 volume type");
            });
            continue;
        }
        found = true;
        c.at(s.inside, |c| (s.check)(v, owner, c));
    }
    if !found {
        c.required("must specify a volume type");
    }
}

fn csi(v: &Value, _owner: Owner<'_>, c: &mut Causes) {
    source::driver(v, c);
    checks::present(v, "volumeHandle", c);
    for field in [
        "controllerPublishSecretRef",
        "controllerExpandSecretRef",
        "nodePublishSecretRef",
        "nodeExpandSecretRef",
    ] {
        if let Some(secret) = at(v, field) {
            c.at(field, |c| {
                checks::required(secret, "name", names::dns1123_subdomain, c);
                checks::required(secret, "namespace", names::dns1123_label, c);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(more: Value) -> Value {
        let mut spec = json!({"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/x"}});
        if let (Some(map), Value::Object(more)) = (spec.as_object_mut(), more) {
            map.extend(more);
            map.retain(|_, v| !v.is_null());
        }
        let mut obj = json!({"metadata": {"name": "v"}, "spec": spec});
        PersistentVolume.set_defaults(&mut obj);
        obj
    }

    fn texts(obj: &Value, before: Option<&Value>) -> Vec<String> {
        let mut c = Causes::new();
        match before {
            Some(b) => PersistentVolume.validate_update(obj, b, &mut c),
            None => PersistentVolume.validate(obj, &mut c),
        }
        c.as_slice().iter().map(|c| c.text()).collect()
    }

    #[test]
    fn mistakes_are_named_as_upstream_names_them() {
        assert_eq!(texts(&volume(json!({})), None), Vec::<String>::new());
        for (more, expected) in [
            (
                json!({"accessModes": []}),
                "spec.accessModes: Required value",
            ),
            (json!({"capacity": {}}), "spec.capacity: Required value"),
            (
                json!({"capacity": {"storage": "0"}}),
                "spec.capacity[storage]: Invalid value: \"0\": must be greater than zero",
            ),
            (
                json!({"hostPath": null}),
                "spec: Required value: must specify a volume type",
            ),
            (
                json!({"nfs": {"server": "s", "path": "/"}}),
                "spec.nfs: Forbidden: may not specify more than 1 volume type",
            ),
            (
                json!({"hostPath": {"path": "/a/../b"}}),
                "spec.hostPath.path: Invalid value: \"/a/../b\": must not contain '..'",
            ),
            (
                json!({"hostPath": null, "local": {"path": "/a"}}),
                "spec.nodeAffinity: Required value: Local volume requires node affinity",
            ),
            (
                json!({"accessModes": ["ReadWriteOncePod", "ReadWriteOnce"]}),
                "spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes",
            ),
        ] {
            assert_eq!(texts(&volume(more), None), [expected]);
        }
        let changed = texts(
            &volume(json!({"hostPath": {"path": "/y"}})),
            Some(&volume(json!({}))),
        );
        assert!(changed[0].starts_with("spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation\n"));
        let changed = texts(
            &volume(json!({"volumeMode": "Block"})),
            Some(&volume(json!({}))),
        );
        assert_eq!(
            changed,
            ["volumeMode: Invalid value: \"Block\": field is immutable"]
        );
    }

    #[test]
    fn the_row_is_upstreams() {
        let mut obj =
            volume(json!({"claimRef": {"namespace": "d", "name": "c"}, "storageClassName": "s"}));
        obj["status"]["phase"] = json!("Bound");
        let row = PersistentVolume.row(&obj, Timestamp::UNIX_EPOCH);
        assert_eq!(
            row[1..7],
            [
                json!("1Gi"),
                json!("RWO"),
                json!("Retain"),
                json!("Bound"),
                json!("d/c"),
                json!("s")
            ]
        );
    }
}
