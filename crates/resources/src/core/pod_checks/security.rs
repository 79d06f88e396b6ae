//! Security contexts of pods and containers. validation-pod §8.9, §8.10.

use std::collections::BTreeSet;

use machinery::Causes;
use machinery::object::{at, bool_at, list_at, str_at};
use serde_json::{Value, json};

use super::super::pod_spec::LISTS;
use super::Cx;
use crate::checks;

const PROFILES: &[&str] = &["Localhost", "RuntimeDefault", "Unconfined"];
const APPARMOR_MAX: usize = 4095;
const SYSCTL_MAX: usize = 253;
const SYSCTL_FORM: &str = "^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
/// Sysctls of the IPC namespace.
const IPC: &[&str] = &[
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
    "kernel.shm",
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.msg",
];

fn ids(own: &Value, fields: &[&str], c: &mut Causes) {
    for field in fields {
        if let Some(v) = at(own, field) {
            c.at(field, |c| checks::id(v, c));
        }
    }
}

/// Checks a container's context at the current path.
pub fn of_container(spec: &Value, own: &Value, c: &mut Causes) {
    ids(own, &["runAsUser", "runAsGroup"], c);
    checks::optional_one_of(own, "procMount", &["Default", "Unmasked"], c);
    let unmasked = str_at(own, "procMount") == "Unmasked";
    if unmasked && bool_at(spec, "hostUsers") != Some(false) {
        c.at("procMount", |c| {
            c.invalid(
                &json!("Unmasked"),
                "`hostUsers` must be false to use `Unmasked`",
            );
        });
    }
    seccomp(own, c);
    if bool_at(own, "allowPrivilegeEscalation") == Some(false) {
        if bool_at(own, "privileged") == Some(true) {
            c.invalid(
                own,
                "cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
            );
        }
        let added = list_at(own, "capabilities.add");
        if added.iter().any(|a| a == "CAP_SYS_ADMIN") {
            c.invalid(own, "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN");
        }
    }
    apparmor(own, c);
}

/// Checks a pod's context at the current path.
pub fn of_pod(spec: &Value, own: &Value, cx: Cx<'_>, c: &mut Causes) {
    ids(own, &["fsGroup", "runAsUser", "runAsGroup"], c);
    for (i, group) in list_at(own, "supplementalGroups").iter().enumerate() {
        c.at("supplementalGroups", |c| {
            c.index(i, |c| checks::id(group, c))
        });
    }
    let asks = |field: &str| bool_at(spec, field) == Some(true);
    if asks("shareProcessNamespace") && asks("hostPID") {
        c.at("shareProcessNamespace", |c| {
            c.invalid(
                &json!(true),
                "ShareProcessNamespace and HostPID cannot both be enabled",
            );
        });
    }
    c.at("sysctls", |c| sysctls(spec, own, cx, c));
    checks::optional_one_of(own, "fsGroupChangePolicy", &["Always", "OnRootMismatch"], c);
    seccomp(own, c);
    apparmor(own, c);
    checks::optional_one_of(own, "supplementalGroupsPolicy", &["Merge", "Strict"], c);
    let changes = &["MountOption", "Recursive"];
    checks::optional_one_of(own, "seLinuxChangePolicy", changes, c);
}

fn sysctls(spec: &Value, own: &Value, cx: Cx<'_>, c: &mut Causes) {
    let mut seen = BTreeSet::new();
    for (i, s) in list_at(own, "sysctls").iter().enumerate() {
        let name = str_at(s, "name");
        c.index(i, |c| {
            c.at("name", |c| {
                if name.is_empty() {
                    c.required("");
                } else if !is_sysctl(name) {
                    c.invalid(
                        &json!(name),
                        format!("must have at most {SYSCTL_MAX} characters and match regex {SYSCTL_FORM}"),
                    );
                } else if !seen.insert(name) {
                    c.duplicate(&json!(name));
                }
            });
        });
    }
    for (i, s) in list_at(own, "sysctls").iter().enumerate() {
        let name = str_at(s, "name");
        let Some(field) = namespace_clash(spec, name) else {
            continue;
        };
        let had = cx.before.is_some_and(|old| {
            let all = list_at(old, "securityContext.sysctls").iter();
            all.into_iter()
                .any(|s| namespace_clash(old, str_at(s, "name")).is_some())
        });
        if !had {
            c.index(i, |c| {
                c.at("name", |c| {
                    c.invalid(
                        &json!(name),
                        format!("may not be specified when '{field}' is true"),
                    );
                });
            });
        }
    }
}

/// The field by which the pod shares the host's namespace that a sysctl is of.
fn namespace_clash(spec: &Value, name: &str) -> Option<&'static str> {
    let asks = |field: &str| bool_at(spec, field) == Some(true);
    let dots = name.replace('/', ".");
    let ipc = IPC.contains(&dots.as_str()) || dots.starts_with("fs.mqueue.");
    if dots.starts_with("net.") && asks("hostNetwork") {
        Some("hostNetwork")
    } else if ipc && asks("hostIPC") {
        Some("hostIPC")
    } else {
        None
    }
}

fn is_sysctl(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let part = |p: &str| {
        let p = p.as_bytes();
        !p.is_empty()
            && plain(p[0])
            && plain(p[p.len() - 1])
            && p.iter().all(|b| plain(*b) || matches!(b, b'-' | b'_'))
    };
    name.len() <= SYSCTL_MAX && name.split(['.', '/']).all(part)
}

fn seccomp(own: &Value, c: &mut Causes) {
    let Some(profile) = at(own, "seccompProfile") else {
        return;
    };
    c.at("seccompProfile", |c| {
        let (kind, file) = (
            str_at(profile, "type"),
            at(profile, "localhostProfile").and_then(Value::as_str),
        );
        c.at("type", |c| {
            if kind.is_empty() {
                c.required("type is required when seccompProfile is set");
            } else if !PROFILES.contains(&kind) {
                c.not_supported_in_order(&json!(kind), PROFILES);
            }
        });
        c.at("localhostProfile", |c| match (kind, file) {
            ("Localhost", None) => c.required("must be set when seccomp type is Localhost"),
            ("Localhost", Some(file)) => checks::descending_path(file, c),
            (_, Some(_)) => c.invalid(profile, "can only be set when seccomp type is Localhost"),
            _ => {}
        });
    });
}

fn apparmor(own: &Value, c: &mut Causes) {
    let Some(profile) = at(own, "appArmorProfile") else {
        return;
    };
    c.at("appArmorProfile", |c| {
        let (kind, file) = (
            str_at(profile, "type"),
            at(profile, "localhostProfile").and_then(Value::as_str),
        );
        c.at("type", |c| {
            if kind.is_empty() {
                c.required("type is required when appArmorProfile is set");
            } else if !PROFILES.contains(&kind) {
                c.not_supported_in_order(&json!(kind), PROFILES);
            }
        });
        c.at("localhostProfile", |c| match (kind, file) {
            ("Localhost", None | Some("")) => {
                c.required("must be set when AppArmor type is Localhost");
            }
            ("Localhost", Some(file)) => {
                if file != file.trim() {
                    c.invalid(&json!(file), "must not be padded with whitespace");
                }
                if file.len() > APPARMOR_MAX {
                    c.too_long(APPARMOR_MAX);
                }
            }
            ("RuntimeDefault" | "Unconfined", Some(file)) => c.invalid(
                &json!(file),
                "can only be set when AppArmor type is Localhost",
            ),
            _ => {}
        });
    });
}

/// What pods of Windows nodes cannot have.
pub fn windows(spec: &Value, c: &mut Causes) {
    let text = "cannot be set for a windows pod";
    let of_pod = [
        "appArmorProfile",
        "seLinuxOptions",
        "seccompProfile",
        "fsGroup",
        "fsGroupChangePolicy",
        "sysctls",
        "runAsUser",
        "runAsGroup",
        "supplementalGroups",
        "supplementalGroupsPolicy",
    ];
    let of_container = [
        "appArmorProfile",
        "seLinuxOptions",
        "seccompProfile",
        "capabilities",
        "readOnlyRootFilesystem",
        "privileged",
        "allowPrivilegeEscalation",
        "procMount",
        "runAsUser",
        "runAsGroup",
    ];
    for field in ["hostUsers", "hostPID", "hostIPC", "shareProcessNamespace"] {
        if at(spec, field).is_some() {
            c.at("securityContext", |c| c.at(field, |c| c.forbidden(text)));
        }
    }
    if let Some(own) = at(spec, "securityContext") {
        c.at("securityContext", |c| forbid(own, &of_pod, text, c));
    }
    for list in LISTS {
        for (i, one) in list_at(spec, list).iter().enumerate() {
            if let Some(own) = at(one, "securityContext") {
                c.at(list, |c| {
                    c.index(i, |c| {
                        c.at("securityContext", |c| forbid(own, &of_container, text, c));
                    });
                });
            }
        }
    }
    if at(spec, "resources").is_some() {
        c.at("resources", |c| {
            c.forbidden("may not be set for a windows pod")
        });
    }
}

fn forbid(own: &Value, fields: &[&str], text: &str, c: &mut Causes) {
    for field in fields.iter().filter(|f| at(own, f).is_some()) {
        c.at(field, |c| c.forbidden(text));
    }
}
