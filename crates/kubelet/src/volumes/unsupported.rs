//! Kinds that this kubelet does not mount: each is named in the error.

use serde_json::Value;

use super::Kind;

pub static KIND: Kind = Kind {
    plugin: "",
    is: |_| true,
    setup: |cx| {
        Box::pin(async move {
            let kind = kind_of(&serde_json::to_value(cx.volume).unwrap_or_default());
            Err(text(&kind))
        })
    },
};

/// Names of sources as a spec writes them.
const SOURCES: &[&str] = &[
    "awsElasticBlockStore",
    "azureDisk",
    "azureFile",
    "cephfs",
    "cinder",
    "csi",
    "fc",
    "flexVolume",
    "flocker",
    "gcePersistentDisk",
    "gitRepo",
    "glusterfs",
    "iscsi",
    "nfs",
    "photonPersistentDisk",
    "portworxVolume",
    "quobyte",
    "rbd",
    "scaleIO",
    "storageos",
    "vsphereVolume",
];

/// Which source an object has.
pub fn kind_of(object: &Value) -> String {
    let found = SOURCES.iter().find(|k| !object[**k].is_null());
    found.map_or("of unknown kind", |k| *k).to_string()
}

/// What the user is told.
pub fn text(kind: &str) -> String {
    match kind {
        "gitRepo" => "git-repo volume plugin has been disabled; if necessary, it may be re-enabled by enabling the feature-gate GitRepoVolumeDriver".into(),
        "csi" => "kubernetes.io/csi: CSI drivers are not supported by this kubelet yet".into(),
        kind => format!("no volume plugin matched: volumes {kind} are not supported by this kubelet"),
    }
}
