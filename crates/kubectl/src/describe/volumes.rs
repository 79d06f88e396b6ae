//! Volumes of pods and templates.

use serde_json::Value;

use super::lines::Lines;
use crate::object;

/// The kinds: field of the source, what is said of it, and the fields shown.
type Kind = (
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
);

static KINDS: &[Kind] = &[
    (
        "hostPath",
        "HostPath (bare host directory volume)",
        &[("Path", "path"), ("HostPathType", "type")],
    ),
    (
        "emptyDir",
        "EmptyDir (a temporary directory that shares a pod's lifetime)",
        &[("Medium", "medium"), ("SizeLimit", "sizeLimit")],
    ),
    (
        "secret",
        "Secret (a volume populated by a Secret)",
        &[("SecretName", "secretName"), ("Optional", "optional")],
    ),
    (
        "configMap",
        "ConfigMap (a volume populated by a ConfigMap)",
        &[("Name", "name"), ("Optional", "optional")],
    ),
    (
        "local",
        "LocalVolume (a persistent volume backed by local storage on a node)",
        &[("Path", "path")],
    ),
    (
        "nfs",
        "NFS (an NFS mount that lasts the lifetime of a pod)",
        &[
            ("Server", "server"),
            ("Path", "path"),
            ("ReadOnly", "readOnly"),
        ],
    ),
    (
        "persistentVolumeClaim",
        "PersistentVolumeClaim (a reference to a PersistentVolumeClaim in the same namespace)",
        &[("ClaimName", "claimName"), ("ReadOnly", "readOnly")],
    ),
    (
        "ephemeral",
        "EphemeralVolume (an inline specification for a volume that gets created and deleted with the pod)",
        &[],
    ),
    (
        "csi",
        "CSI (a Container Storage Interface (CSI) volume source)",
        &[
            ("Driver", "driver"),
            ("FSType", "fsType"),
            ("VolumeHandle", "volumeHandle"),
            ("ReadOnly", "readOnly"),
        ],
    ),
    (
        "image",
        "Image (a container image or OCI artifact)",
        &[("Reference", "reference"), ("PullPolicy", "pullPolicy")],
    ),
];

/// The list of volumes; `space` is before it within a template.
pub fn put(volumes: &[Value], space: &str, w: &mut Lines) {
    if volumes.is_empty() {
        return w.put(0, format!("{space}Volumes:\t<none>"));
    }
    w.put(0, format!("{space}Volumes:"));
    let indent = if space.is_empty() { "" } else { " " };
    for volume in volumes {
        w.put(1, format!("{indent}{}:", object::text(volume, "/name")));
        source(volume, w);
    }
}

pub fn source(volume: &Value, w: &mut Lines) {
    if volume["projected"].is_object() {
        return projected(volume, w);
    }
    if volume["downwardAPI"].is_object() {
        return downward(volume, w);
    }
    let Some((field, title, fields)) = KINDS.iter().find(|(f, ..)| volume[*f].is_object()) else {
        let known = volume
            .as_object()
            .into_iter()
            .flatten()
            .find(|(k, _)| *k != "name");
        return match known {
            Some((kind, _)) => w.put(2, format!("Type:\t{kind}")),
            None => w.put(1, "<unknown>"),
        };
    };
    w.put(2, format!("Type:\t{title}"));
    for (title, name) in *fields {
        let value = &volume[*field][*name];
        // Only persistent volumes have a handle.
        if *title == "VolumeHandle" && value.is_null() {
            continue;
        }
        let text = match (*title, value) {
            ("Optional" | "ReadOnly", v) => (v == true).to_string(),
            ("HostPathType", Value::Null) => "<none>".into(),
            ("SizeLimit", Value::Null) => "<unset>".into(),
            (_, v) => object::plain(v),
        };
        w.put(2, format!("{title}:\t{text}"));
    }
}

fn projected(volume: &Value, w: &mut Lines) {
    w.put(
        2,
        "Type:\tProjected (a volume that contains injected data from multiple sources)",
    );
    for source in object::items(volume, "/projected/sources") {
        let named = [("secret", "SecretName"), ("configMap", "ConfigMapName")];
        if let Some((field, title)) = named.iter().find(|(f, _)| source[*f].is_object()) {
            let of = &source[*field];
            w.put(2, format!("{title}:\t{}", object::text(of, "/name")));
            w.put(2, format!("Optional:\t{}", of["optional"] == true));
        } else if source["downwardAPI"].is_object() {
            w.put(2, "DownwardAPI:\ttrue");
        } else if source["serviceAccountToken"].is_object() {
            let seconds = &source["serviceAccountToken"]["expirationSeconds"];
            w.put(2, format!("TokenExpirationSeconds:\t{seconds}"));
        }
    }
}

fn downward(volume: &Value, w: &mut Lines) {
    w.put(
        2,
        "Type:\tDownwardAPI (a volume populated by information about the pod)",
    );
    w.put(2, "Items:");
    for item in object::items(volume, "/downwardAPI/items") {
        let path = object::text(item, "/path");
        for from in ["/fieldRef/fieldPath", "/resourceFieldRef/resource"] {
            let from = object::text(item, from);
            if !from.is_empty() {
                w.put(3, format!("{from} -> {path}"));
            }
        }
    }
}
