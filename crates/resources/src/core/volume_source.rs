//! Sources that volumes of pods and persistent volumes share. Upstream: validation of volume sources in
//! pkg/apis/core/validation; validation-pod §9, validation-core §12.

use api::names;
use machinery::Causes;
use machinery::object::{at, bool_at, i64_at, list_at, map_at, str_at};
use serde_json::{Value, json};

use crate::checks;

/// Longest name of a CSI driver.
const DRIVER_BYTES_MAX: usize = 63;
/// Longest `<volume>:<targetPortal>` of an iSCSI session with an initiator.
const ISCSI_NAME_MAX: usize = 64;

/// Whose volume it is.
#[derive(Clone, Copy)]
pub struct Owner<'a> {
    /// A persistent volume, not a volume of a pod.
    pub persistent: bool,
    /// The volume's name.
    pub name: &'a str,
}

/// A check of one source at its own path.
pub type Check = fn(&Value, Owner<'_>, &mut Causes);

/// One kind of source.
pub struct Source {
    /// The field that holds it.
    pub field: &'static str,
    /// What upstream calls it in paths of errors inside.
    pub inside: &'static str,
    pub check: Check,
}

const fn source(field: &'static str, check: Check) -> Source {
    Source {
        field,
        inside: field,
        check,
    }
}

pub const AWS: Source = source("awsElasticBlockStore", |v, _, c| {
    partitioned(v, "volumeID", c);
});
pub const AZURE_DISK: Source = source("azureDisk", azure_disk);
pub const AZURE_FILE: Source = source("azureFile", |v, owner, c| {
    present(v, &["secretName", "shareName"], c);
    if owner.persistent && at(v, "secretNamespace") == Some(&json!("")) {
        c.at("secretNamespace", |c| c.required(""));
    }
});
pub const CEPHFS: Source = source("cephfs", |v, _, c| listed(v, "monitors", c));
pub const CINDER: Source = source("cinder", |v, owner, c| {
    present(v, &["volumeID"], c);
    if let Some(secret) = at(v, "secretRef") {
        c.at("secretRef", |c| {
            present(secret, &["name"], c);
            if owner.persistent {
                present(secret, &["namespace"], c);
            }
        });
    }
});
pub const FC: Source = source("fc", fibre_channel);
pub const FLEX: Source = source("flexVolume", flex);
pub const FLOCKER: Source = source("flocker", flocker);
pub const GCE: Source = Source {
    field: "gcePersistentDisk",
    inside: "persistentDisk",
    check: |v, _, c| partitioned(v, "pdName", c),
};
pub const GLUSTERFS: Source = source("glusterfs", |v, _, c| {
    present(v, &["endpoints", "path"], c);
    let namespace = str_at(v, "endpointsNamespace");
    if !names::dns1123_label(namespace).is_empty() && !namespace.is_empty() {
        c.at("endpointsNamespace", |c| {
            c.invalid(
                &json!(namespace),
                "if the endpointnamespace is set, it must be a valid namespace name",
            );
        });
    }
});
pub const HOST_PATH: Source = source("hostPath", host_path);
pub const ISCSI: Source = source("iscsi", iscsi);
pub const NFS: Source = source("nfs", |v, _, c| {
    present(v, &["server", "path"], c);
    let path = str_at(v, "path");
    if !path.starts_with('/') {
        c.at("path", |c| {
            c.invalid(&json!(path), "must be an absolute path");
        });
    }
});
pub const PHOTON: Source = source("photonPersistentDisk", |v, _, c| present(v, &["pdID"], c));
pub const PORTWORX: Source = source("portworxVolume", |v, _, c| present(v, &["volumeID"], c));
pub const QUOBYTE: Source = source("quobyte", quobyte);
pub const RBD: Source = source("rbd", |v, _, c| {
    listed(v, "monitors", c);
    present(v, &["image"], c);
});
pub const SCALE_IO: Source = source("scaleIO", |v, _, c| {
    present(v, &["gateway", "system", "volumeName"], c);
});
pub const STORAGE_OS: Source = source("storageos", |v, _, c| {
    checks::required(v, "volumeName", names::dns1123_label, c);
    checks::optional(v, "volumeNamespace", names::dns1123_label, c);
    if let Some(secret) = at(v, "secretRef") {
        c.at("secretRef", |c| present(secret, &["name"], c));
    }
});
pub const VSPHERE: Source = source("vsphereVolume", |v, _, c| present(v, &["volumePath"], c));

/// Required for each text that is empty.
fn present(v: &Value, fields: &[&str], c: &mut Causes) {
    for field in fields {
        checks::present(v, field, c);
    }
}

fn listed(v: &Value, field: &str, c: &mut Causes) {
    if list_at(v, field).is_empty() {
        c.at(field, |c| c.required(""));
    }
}

fn partitioned(v: &Value, id: &str, c: &mut Causes) {
    present(v, &[id], c);
    if let Some(n) = i64_at(v, "partition").filter(|n| !(0..=255).contains(n)) {
        c.at("partition", |c| {
            c.invalid(&json!(n), "must be between 1 and 255, inclusive");
        });
    }
}

fn host_path(v: &Value, _owner: Owner<'_>, c: &mut Causes) {
    if !checks::present(v, "path", c) {
        return;
    }
    c.at("path", |c| checks::no_backsteps(str_at(v, "path"), c));
    let types = &[
        "",
        "BlockDevice",
        "CharDevice",
        "Directory",
        "DirectoryOrCreate",
        "File",
        "FileOrCreate",
        "Socket",
    ];
    checks::optional_one_of(v, "type", types, c);
}

fn azure_disk(v: &Value, _owner: Owner<'_>, c: &mut Causes) {
    present(v, &["diskName", "diskURI"], c);
    checks::optional_one_of(v, "cachingMode", &["None", "ReadOnly", "ReadWrite"], c);
    checks::optional_one_of(v, "kind", &["Dedicated", "Managed", "Shared"], c);
    let uri = str_at(v, "diskURI");
    let (fits, form) = if str_at(v, "kind") == "Managed" {
        (
            uri.starts_with("/subscriptions/"),
            "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}",
        )
    } else {
        (
            uri.starts_with("https://"),
            "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd",
        )
    };
    if !fits {
        c.at("diskURI", |c| c.not_supported(&json!(uri), &[form]));
    }
}

fn fibre_channel(v: &Value, _owner: Owner<'_>, c: &mut Causes) {
    let names = list_at(v, "targetWWNs");
    let ids = list_at(v, "wwids");
    match (names.is_empty(), ids.is_empty()) {
        (true, true) => c.at("targetWWNs", |c| {
            c.required("must specify either targetWWNs or wwids, but not both");
        }),
        (false, false) => c.at("targetWWNs", |c| {
            c.invalid(
                &json!(names),
                "targetWWNs and wwids can not be specified simultaneously",
            );
        }),
        (false, true) => lun(v, true, c),
        (true, false) => {}
    }
}

fn lun(v: &Value, required: bool, c: &mut Causes) {
    c.at("lun", |c| match i64_at(v, "lun") {
        None if required => c.required("lun is required if targetWWNs is specified"),
        Some(n) if !(0..=255).contains(&n) => {
            c.invalid(&json!(n), "must be between 0 and 255, inclusive");
        }
        _ => {}
    });
}

fn flex(v: &Value, _owner: Owner<'_>, c: &mut Causes) {
    present(v, &["driver"], c);
    for key in map_at(v, "options").into_iter().flatten().map(|(k, _)| k) {
        let domain = key.split('/').next().filter(|_| key.contains('/'));
        let reserved = |d: &str| {
            ["kubernetes.io", "k8s.io"]
                .iter()
                .any(|r| d == *r || d.ends_with(&format!(".{r}")))
        };
        if domain.is_some_and(reserved) {
            c.at("options", |c| {
                c.key(key, |c| {
                    c.invalid(
                        &json!(key),
                        "kubernetes.io and k8s.io namespaces are reserved",
                    );
                });
            });
        }
    }
}

fn flocker(v: &Value, _owner: Owner<'_>, c: &mut Causes) {
    let (name, id) = (str_at(v, "datasetName"), str_at(v, "datasetUUID"));
    if name.is_empty() && id.is_empty() {
        c.required("one of datasetName and datasetUUID is required");
    } else if !name.is_empty() && !id.is_empty() {
        c.invalid(
            &json!("resource"),
            "datasetName and datasetUUID can not be specified simultaneously",
        );
    }
    if name.contains('/') {
        c.at("datasetName", |c| {
            c.invalid(&json!(name), "must not contain '/'")
        });
    }
}

fn quobyte(v: &Value, _owner: Owner<'_>, c: &mut Causes) {
    let registry = str_at(v, "registry");
    let pair = |text: &str| {
        let (host, port) = text.rsplit_once(':').unwrap_or(("", ""));
        !host.is_empty() && !port.is_empty()
    };
    let text = "must be a host:port pair or multiple pairs separated by commas";
    if registry.is_empty() {
        c.at("registry", |c| c.required(text));
    } else if str_at(v, "tenant").len() >= 65 {
        c.at("tenant", |c| {
            c.required("must be a UUID and may not exceed a length of 64 characters");
        });
    } else if !registry.split(',').all(pair) {
        c.at("registry", |c| c.invalid(&json!(registry), text));
    }
    present(v, &["volume"], c);
}

fn iscsi(v: &Value, owner: Owner<'_>, c: &mut Causes) {
    present(v, &["targetPortal"], c);
    if checks::present(v, "iqn", c) {
        c.at("iqn", |c| qualified(str_at(v, "iqn"), c));
    }
    lun(v, false, c);
    let chap = ["chapAuthDiscovery", "chapAuthSession"];
    if chap.iter().any(|f| bool_at(v, f) == Some(true)) && at(v, "secretRef").is_none() {
        c.at("secretRef", |c| c.required(""));
    }
    if let Some(secret) = at(v, "secretRef").filter(|_| owner.persistent) {
        c.at("secretRef", |c| present(secret, &["name"], c));
    }
    if let Some(initiator) = at(v, "initiatorName").and_then(Value::as_str) {
        let whole = format!("{}:{}", owner.name, str_at(v, "targetPortal"));
        if whole.len() > ISCSI_NAME_MAX {
            c.at("targetportal", |c| {
                c.invalid(&json!(owner.name), "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified.");
            });
        }
        c.at("initiatorname", |c| qualified(initiator, c));
    }
}

/// The form of an iSCSI name.
fn qualified(name: &str, c: &mut Causes) {
    let alnum = |t: &str, n: usize| t.len() == n && t.bytes().all(|b| b.is_ascii_alphanumeric());
    let fine = if let Some(rest) = name.strip_prefix("iqn.") {
        let b = rest.as_bytes();
        let digits = |r: std::ops::Range<usize>| b[r].iter().all(u8::is_ascii_digit);
        b.len() > 8 && digits(0..4) && b[4] == b'-' && digits(5..7) && b[7] == b'.'
    } else if let Some(rest) = name.strip_prefix("eui.") {
        alnum(rest, 16)
    } else if let Some(rest) = name.strip_prefix("naa.") {
        alnum(rest, 32)
    } else if ["iqn", "eui", "naa"].iter().any(|p| name.starts_with(p)) {
        false
    } else {
        c.invalid(
            &json!(name),
            "must be valid format starting with iqn, eui, or naa",
        );
        return;
    };
    if !fine {
        c.invalid(&json!(name), "must be valid format");
    }
}

/// Checks the name of a CSI driver; tells whether there is one.
pub fn driver(v: &Value, c: &mut Causes) -> bool {
    let name = str_at(v, "driver");
    c.at("driver", |c| {
        if name.is_empty() {
            c.required("");
            return;
        }
        if name.len() > DRIVER_BYTES_MAX {
            c.too_long(DRIVER_BYTES_MAX);
        }
        checks::all(name, names::dns1123_subdomain(&name.to_lowercase()), c);
    });
    !name.is_empty()
}
