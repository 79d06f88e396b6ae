//! Volumes of pods. validation-pod §9.

use std::collections::{BTreeMap, BTreeSet};

use api::names;
use machinery::Causes;
use machinery::object::{at, i64_at, list_at, map_at, str_at};
use serde_json::{Value, json};

use super::super::amounts;
use super::super::volume_source::{self as source, Owner, Source};
use super::{Cx, env};
use crate::checks;

/// Longest `<volume>:<targetPortal>` of an iSCSI session with an initiator.
const ISCSI_NAME_MAX: usize = 64;
const TOKEN_SECONDS_MIN: i64 = 600;
const TOKEN_SECONDS_MAX: i64 = 1 << 32;

const fn own(field: &'static str, check: source::Check) -> Source {
    Source {
        field,
        inside: field,
        check,
    }
}

/// In the order in which upstream looks. Those that need the pod are checked in `special`.
static SOURCES: &[Source] = &[
    own("emptyDir", |v, _, c| {
        let limit = at(v, "sizeLimit").and_then(amounts::read);
        if limit.is_some_and(|q| q.sign() < 0) {
            c.at("sizeLimit", |c| {
                c.forbidden("SizeLimit field must be a valid resource quantity");
            });
        }
    }),
    source::HOST_PATH,
    own("gitRepo", |v, _, c| {
        checks::present(v, "repository", c);
        c.at("directory", |c| {
            checks::descending_path(str_at(v, "directory"), c)
        });
    }),
    source::GCE,
    source::AWS,
    own("secret", |v, _, c| {
        checks::present(v, "secretName", c);
        checks::file_mode(v, "defaultMode", c);
        items(v, c);
    }),
    source::NFS,
    source::ISCSI,
    source::GLUSTERFS,
    source::FLOCKER,
    own("persistentVolumeClaim", |v, _, c| {
        checks::present(v, "claimName", c);
    }),
    source::RBD,
    source::CINDER,
    source::CEPHFS,
    source::QUOBYTE,
    own("downwardAPI", |v, _, c| {
        checks::file_mode(v, "defaultMode", c);
        downward(v, c);
    }),
    source::FC,
    source::FLEX,
    own("configMap", |v, _, c| {
        checks::present(v, "name", c);
        checks::file_mode(v, "defaultMode", c);
        items(v, c);
    }),
    source::AZURE_FILE,
    source::VSPHERE,
    source::PHOTON,
    source::PORTWORX,
    source::AZURE_DISK,
    source::STORAGE_OS,
    own("projected", |v, _, c| projected(v, c)),
    source::SCALE_IO,
    own("csi", |v, _, c| {
        if !source::driver(v, c) {
            return;
        }
        if let Some(secret) = at(v, "nodePublishSecretRef") {
            let name = str_at(secret, "name");
            if name.is_empty() {
                c.at("nodePublishSecretRef", |c| c.at("name", |c| c.required("")));
            } else {
                c.at("name", |c| {
                    checks::all(name, names::dns1123_subdomain(name), c)
                });
            }
        }
    }),
    own("ephemeral", |v, _, c| {
        c.at("volumeClaimTemplate", |c| {
            match at(v, "volumeClaimTemplate") {
                Some(template) => claim_template(template, c),
                None => c.required(""),
            }
        });
    }),
    own("image", |_, _, _| {}),
];

/// What upstream calls two sources when they are one too many.
fn second(field: &str) -> &str {
    match field {
        "cephfs" => "cephFS",
        "downwardAPI" => "downwarAPI",
        other => other,
    }
}

/// Checks the volumes at the current path; gives those without mistakes, by name.
pub fn all<'a>(spec: &'a Value, cx: Cx<'_>, c: &mut Causes) -> BTreeMap<&'a str, &'a Value> {
    let mut known = BTreeMap::new();
    let volumes = list_at(spec, "volumes");
    let made: BTreeSet<String> = volumes
        .iter()
        .filter(|v| at(v, "ephemeral").is_some() && !cx.name.is_empty())
        .map(|v| format!("{}-{}", cx.name, str_at(v, "name")))
        .collect();
    for (i, v) in volumes.iter().enumerate() {
        let found = c.as_slice().len();
        let name = str_at(v, "name");
        c.index(i, |c| {
            one(v, cx, c);
            c.at("name", |c| {
                if name.is_empty() {
                    c.required("");
                    return;
                }
                checks::all(name, names::dns1123_label(name), c);
                if known.contains_key(name) {
                    c.duplicate(&json!(name));
                }
            });
        });
        if c.as_slice().len() == found {
            known.insert(name, v);
        }
        let claim = str_at(v, "persistentVolumeClaim.claimName");
        if made.contains(claim) {
            c.index(i, |c| {
                c.at("persistentVolumeClaim", |c| {
                    c.at("claimName", |c| {
                        c.invalid(
                            &json!(claim),
                            "must not reference a PVC that gets created for an ephemeral volume",
                        );
                    });
                });
            });
        }
    }
    known
}

fn one(v: &Value, cx: Cx<'_>, c: &mut Causes) {
    let owner = Owner {
        persistent: false,
        name: str_at(v, "name"),
    };
    let mut found = false;
    for s in SOURCES {
        let Some(own) = at(v, s.field) else { continue };
        if found {
            c.at(second(s.field), |c| {
                c.forbidden("may not specify more than 1 volume type");
            });
            continue;
        }
        found = true;
        c.at(s.inside, |c| (s.check)(own, owner, c));
        special(s.field, own, v, cx, c);
    }
    if !found {
        c.required("must specify a volume type");
    }
}

/// Rules that look at more than the source, at the volume's path.
fn special(field: &str, own: &Value, v: &Value, cx: Cx<'_>, c: &mut Causes) {
    let name = str_at(v, "name");
    match field {
        "iscsi" if at(own, "initiatorName").is_some() => {
            let whole = format!("{name}:{}", str_at(own, "targetPortal"));
            if whole.len() > ISCSI_NAME_MAX {
                c.at("name", |c| c.invalid(&json!(name), "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified."));
            }
        }
        "ephemeral" if !cx.name.is_empty() => {
            let claim = format!("{}-{name}", cx.name);
            for problem in names::dns1123_subdomain(&claim) {
                c.at("name", |c| {
                    c.invalid(&json!(name), format!("PVC name \"{claim}\": {problem}"));
                });
            }
        }
        "image" => c.at("image", |c| {
            if cx.pod {
                checks::present(own, "reference", c);
            }
            let policies = &["Always", "IfNotPresent", "Never"];
            checks::one_of(own, "pullPolicy", policies, c);
        }),
        _ => {}
    }
}

/// Keys that become files.
fn items(v: &Value, c: &mut Causes) {
    for (k, item) in list_at(v, "items").iter().enumerate() {
        c.at("items", |c| {
            c.index(k, |c| {
                checks::present(item, "key", c);
                if checks::present(item, "path", c) {
                    c.at("path", |c| {
                        checks::non_reserved_path(str_at(item, "path"), c)
                    });
                }
                checks::file_mode(item, "mode", c);
            });
        });
    }
}

/// Fields that become files; upstream reports without their index.
fn downward(v: &Value, c: &mut Causes) {
    for item in list_at(v, "items") {
        if checks::present(item, "path", c) {
            c.at("path", |c| {
                checks::non_reserved_path(str_at(item, "path"), c)
            });
        }
        match (at(item, "fieldRef"), at(item, "resourceFieldRef")) {
            (Some(field), other) => {
                c.at("fieldRef", |c| env::field_ref(field, env::FILE_FIELDS, c));
                if other.is_some() {
                    c.invalid(
                        &json!("resource"),
                        "fieldRef and resourceFieldRef can not be specified simultaneously",
                    );
                }
            }
            (None, Some(resource)) => c.at("resourceFieldRef", |c| {
                env::resource_field_ref(resource, true, c);
            }),
            (None, None) => c.required("one of fieldRef and resourceFieldRef is required"),
        }
        checks::file_mode(item, "mode", c);
    }
}

fn projected(v: &Value, c: &mut Causes) {
    checks::file_mode(v, "defaultMode", c);
    let mut paths: BTreeSet<String> = BTreeSet::new();
    for (k, s) in list_at(v, "sources").iter().enumerate() {
        let count = s.as_object().map_or(0, serde_json::Map::len);
        if count > 1 {
            c.at("sources", |c| {
                c.index(k, |c| {
                    c.forbidden("may not specify more than 1 volume type per source");
                });
            });
        }
        c.at("sources", |c| c.index(k, |c| projected_source(s, c)));
        token(s, k, c);
        for (path, shown) in targets(s) {
            if !paths.insert(path) {
                c.invalid(&json!(shown), "conflicting duplicate paths");
            }
        }
    }
}

fn projected_source(s: &Value, c: &mut Causes) {
    for field in ["secret", "configMap"] {
        if let Some(own) = at(s, field) {
            c.at(field, |c| {
                checks::present(own, "name", c);
                items(own, c);
            });
        }
    }
    if let Some(own) = at(s, "downwardAPI") {
        c.at("downwardAPI", |c| downward(own, c));
    }
    if let Some(own) = at(s, "clusterTrustBundle") {
        c.at("clusterTrustBundle", |c| trust_bundle(own, c));
    }
    if let Some(own) = at(s, "podCertificate") {
        c.at("podCertificate", |c| pod_certificate(own, c));
    }
}

fn token(s: &Value, k: usize, c: &mut Causes) {
    let Some(own) = at(s, "serviceAccountToken") else {
        return;
    };
    let seconds = i64_at(own, "expirationSeconds").unwrap_or(TOKEN_SECONDS_MIN);
    let text = if seconds < TOKEN_SECONDS_MIN {
        "may not specify a duration less than 10 minutes"
    } else if seconds > TOKEN_SECONDS_MAX {
        "may not specify a duration larger than 2^32 seconds"
    } else {
        ""
    };
    if !text.is_empty() {
        c.at("sources", |c| {
            c.index(k, |c| {
                c.at("serviceAccountToken", |c| {
                    c.at("expirationSeconds", |c| c.invalid(&json!(seconds), text));
                });
            });
        });
    }
    // Upstream: the path stands at the volume's source.
    if checks::present(own, "path", c) {
        c.at("path", |c| {
            checks::non_reserved_path(str_at(own, "path"), c)
        });
    }
}

fn trust_bundle(own: &Value, c: &mut Causes) {
    let (name, signer) = (at(own, "name"), at(own, "signerName"));
    match (name, signer) {
        (Some(_), Some(_)) => c.invalid(own, "only one of name and signerName may be used"),
        (Some(name), None) => {
            let name = name.as_str().unwrap_or_default();
            c.at("name", |c| {
                if name.is_empty() {
                    c.required("must be a valid object name");
                }
            });
            if at(own, "labelSelector").is_some() {
                c.at("labelSelector", |c| {
                    c.invalid(
                        &own["labelSelector"],
                        "labelSelector must be unset if name is specified",
                    );
                });
            }
        }
        (None, Some(signer)) => {
            if signer.as_str().unwrap_or_default().is_empty() {
                c.at("signerName", |c| c.required("must be a valid signer name"));
            }
            c.at("labelSelector", |c| {
                checks::selectors::label_selector(at(own, "labelSelector"), c);
            });
        }
        (None, None) => c.required("either name or signerName must be specified"),
    }
    if checks::present(own, "path", c) {
        c.at("path", |c| {
            checks::non_reserved_path(str_at(own, "path"), c)
        });
    }
}

fn pod_certificate(own: &Value, c: &mut Causes) {
    checks::present(own, "signerName", c);
    let types = &[
        "RSA3072",
        "RSA4096",
        "ECDSAP256",
        "ECDSAP384",
        "ECDSAP521",
        "ED25519",
    ];
    let kind = str_at(own, "keyType");
    if !types.contains(&kind) {
        c.at("keyType", |c| c.not_supported_in_order(&json!(kind), types));
    }
    if let Some(n) = i64_at(own, "maxExpirationSeconds") {
        let native = str_at(own, "signerName").starts_with("kubernetes.io/");
        let most = if native { 86_400 } else { 7_862_400 };
        let text = if n < 3600 {
            "if provided, maxExpirationSeconds must be >= 3600".to_string()
        } else {
            format!("if provided, maxExpirationSeconds must be <= {most}")
        };
        if n < 3600 || n > most {
            c.at("maxExpirationSeconds", |c| c.invalid(&json!(n), text));
        }
    }
    let files = ["credentialBundlePath", "keyPath", "certificateChainPath"];
    for field in files {
        let path = str_at(own, field);
        if !path.is_empty() {
            c.at(field, |c| checks::non_reserved_path(path, c));
        }
    }
    if files.iter().all(|f| str_at(own, f).is_empty()) {
        c.required(
            "specify at least one of credentialBundlePath, keyPath, and certificateChainPath",
        );
    }
}

/// The files of one projected source, each with what upstream shows of it.
fn targets(s: &Value) -> Vec<(String, String)> {
    let mut out = Vec::new();
    for field in ["secret", "configMap"] {
        for item in at(s, field).map_or(&[][..], |own| list_at(own, "items")) {
            let name = str_at(&s[field], "name").to_string();
            out.push((str_at(item, "path").to_string(), name));
        }
    }
    for item in at(s, "downwardAPI").map_or(&[][..], |own| list_at(own, "items")) {
        let path = str_at(item, "path").to_string();
        out.push((path.clone(), path));
    }
    out
}

fn claim_template(template: &Value, c: &mut Causes) {
    for field in map_at(template, "metadata")
        .into_iter()
        .flatten()
        .map(|(k, _)| k)
    {
        let null = template["metadata"][field].is_null();
        if !["labels", "annotations"].contains(&field.as_str()) && !null {
            c.at("metadata", |c| {
                c.at(field, |c| c.forbidden("cannot be set"))
            });
        }
    }
    c.at("metadata", |c| {
        c.at("labels", |c| {
            machinery::meta::labels(map_at(template, "metadata.labels"), c)
        });
    });
    let spec = template.get("spec").unwrap_or(&Value::Null);
    c.at("spec", |c| {
        super::super::persistent_volume_claim::spec(spec, c)
    });
}
