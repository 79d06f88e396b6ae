//! Validation of a pod spec, in pods and in templates. Upstream: ValidatePodSpec; validation-pod §8, in
//! its order of reports. What may be wrong because it was so before (§20.3) is looked up in `Cx::before`.

mod affinity;
pub mod annotations;
mod containers;
mod env;
mod mounts;
mod probes;
mod resources;
mod security;
mod volumes;

use std::collections::{BTreeMap, BTreeSet};

use api::names;
use machinery::Causes;
use machinery::object::{at, bool_at, i64_at, list_at, map_at, str_at};
use serde_json::{Value, json};

pub use containers::image_space;

use super::pod_spec::LISTS;
use crate::checks::{self, net};

/// Values an int32 of seconds can have.
const SECONDS_MAX: i64 = i32::MAX as i64;
const HOSTNAME_MAX: usize = 64;
const NAMESERVERS_MAX: usize = 3;
const SEARCHES_MAX: usize = 32;
const SEARCH_BYTES_MAX: usize = 2048;

/// Whose spec it is.
#[derive(Clone, Copy, Default)]
pub struct Cx<'a> {
    /// A pod, not a template.
    pub pod: bool,
    /// The pod's name, `""` for templates.
    pub name: &'a str,
    /// A pod that its kubelet made from a file.
    pub mirror: bool,
    /// The spec as it is stored, on updates.
    pub before: Option<&'a Value>,
}

/// What containers of one pod share.
struct Shared<'a> {
    spec: &'a Value,
    cx: Cx<'a>,
    /// Volumes without mistakes, by name.
    volumes: BTreeMap<&'a str, &'a Value>,
    /// Names of spec.resourceClaims.
    claims: BTreeSet<&'a str>,
}

/// Checks a spec at the current path.
pub fn validate(spec: &Value, cx: Cx<'_>, c: &mut Causes) {
    if i64_at(spec, "terminationGracePeriodSeconds").is_none() {
        c.at("terminationGracePeriodSeconds", |c| c.required(""));
    }
    let volumes = c.at("volumes", |c| volumes::all(spec, cx, c));
    let claims = c.at("resourceClaims", |c| resource_claims(spec, cx, c));
    let shared = Shared {
        spec,
        cx,
        volumes,
        claims,
    };
    containers::all(&shared, c);
    if let Some(own) = at(spec, "resources") {
        c.at("resources", |c| resources::pod_level(spec, own, cx, c));
    }
    host_network_ports(spec, cx, c);
    checks::one_of(spec, "restartPolicy", &["Always", "OnFailure", "Never"], c);
    checks::one_of(
        spec,
        "dnsPolicy",
        &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"],
        c,
    );
    c.at("nodeSelector", |c| {
        machinery::meta::labels(map_at(spec, "nodeSelector"), c)
    });
    if let Some(security) = at(spec, "securityContext") {
        c.at("securityContext", |c| {
            security::of_pod(spec, security, cx, c)
        });
    }
    if let Some(affinity) = at(spec, "affinity") {
        c.at("affinity", |c| affinity::all(affinity, cx, c));
    }
    c.at("dnsConfig", |c| dns_config(spec, c));
    gates(spec, c);
    for (i, t) in list_at(spec, "topologySpreadConstraints")
        .iter()
        .enumerate()
    {
        c.at("topologySpreadConstraints", |c| {
            c.index(i, |c| affinity::spread(spec, i, t, c))
        });
    }
    host_users(spec, cx, c);
    hostname_override(spec, c);
    names_and_limits(spec, c);
    for (i, t) in list_at(spec, "tolerations").iter().enumerate() {
        c.at("tolerations", |c| c.index(i, |c| toleration(t, c)));
    }
    host_aliases(spec, c);
    classes(spec, cx, c);
    os(spec, c);
    env::files(&shared, c);
}

fn resource_claims<'a>(spec: &'a Value, cx: Cx<'_>, c: &mut Causes) -> BTreeSet<&'a str> {
    let mut known = BTreeSet::new();
    for (i, claim) in list_at(spec, "resourceClaims").iter().enumerate() {
        if cx.mirror {
            c.at_root(|c| c.forbidden("static pods do not support resource claims"));
            continue;
        }
        c.index(i, |c| {
            let name = str_at(claim, "name");
            c.at("name", |c| {
                if name.is_empty() {
                    c.required("");
                } else if known.contains(name) {
                    c.duplicate(&json!(name));
                } else {
                    checks::all(name, names::dns1123_label(name), c);
                    known.insert(name);
                }
            });
            let given = ["resourceClaimName", "resourceClaimTemplateName"];
            match given.iter().filter(|f| at(claim, f).is_some()).count() {
                0 => c.invalid(claim, "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"),
                2 => c.invalid(claim, "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"),
                _ => {}
            }
            for field in given {
                if let Some(text) = at(claim, field).and_then(Value::as_str) {
                    c.at(field, |c| {
                        checks::all(text, names::dns1123_subdomain(text), c)
                    });
                }
            }
        });
    }
    known
}

/// On the host's network a container's ports are the host's.
fn host_network_ports(spec: &Value, cx: Cx<'_>, c: &mut Causes) {
    if bool_at(spec, "hostNetwork") != Some(true) {
        return;
    }
    for (i, one) in list_at(spec, "containers").iter().enumerate() {
        for (j, p) in list_at(one, "ports").iter().enumerate() {
            let host = i64_at(p, "hostPort").unwrap_or(0);
            let own = i64_at(p, "containerPort").unwrap_or(0);
            if (cx.pod || host != 0) && host != own {
                let text = "must match `containerPort` when `hostNetwork` is true";
                c.at("containers", |c| {
                    c.index(i, |c| {
                        c.at("ports", |c| {
                            c.index(j, |c| {
                                c.at("hostPort", |c| c.invalid(&json!(host), text));
                            });
                        });
                    });
                });
            }
        }
    }
}

fn dns_config(spec: &Value, c: &mut Causes) {
    let none = str_at(spec, "dnsPolicy") == "None";
    let Some(config) = at(spec, "dnsConfig") else {
        if none {
            c.required("must provide `dnsConfig` when `dnsPolicy` is None");
        }
        return;
    };
    let servers = list_at(config, "nameservers");
    if none && servers.is_empty() {
        c.at("nameservers", |c| {
            c.required("must provide at least one DNS nameserver when `dnsPolicy` is None");
        });
        return;
    }
    c.at("nameservers", |c| {
        if servers.len() > NAMESERVERS_MAX {
            c.invalid(
                &json!(servers),
                format!("must not have more than {NAMESERVERS_MAX} nameservers"),
            );
        }
        for (i, s) in servers.iter().enumerate() {
            let text = s.as_str().unwrap_or_default();
            c.index(i, |c| checks::all(text, net::ip(text), c));
        }
    });
    let searches: Vec<&str> = list_at(config, "searches")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    c.at("searches", |c| {
        if searches.len() > SEARCHES_MAX {
            c.invalid(
                &json!(searches),
                format!("must not have more than {SEARCHES_MAX} search paths"),
            );
        }
        if searches.join(" ").len() > SEARCH_BYTES_MAX {
            c.invalid(&json!(searches), format!("must not have more than {SEARCH_BYTES_MAX} characters (including spaces) in the search list"));
        }
        for (i, text) in searches.iter().enumerate().filter(|(_, t)| **t != ".") {
            let short = text.strip_suffix('.').unwrap_or(text);
            c.index(i, |c| checks::all(text, search_domain(short), c));
        }
    });
    for (i, option) in list_at(config, "options").iter().enumerate() {
        if str_at(option, "name").is_empty() {
            c.at("options", |c| {
                c.index(i, |c| c.required("must not be empty"));
            });
        }
    }
}

/// Problems of a search domain: a subdomain whose labels may begin with and hold underscores.
fn search_domain(text: &str) -> Vec<String> {
    const FORM: &str = "_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*";
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let label = |l: &str| {
        let l = l.strip_prefix('_').unwrap_or(l).as_bytes();
        !l.is_empty()
            && plain(l[0])
            && plain(l[l.len() - 1])
            && l.iter().all(|b| plain(*b) || matches!(b, b'-' | b'_'))
    };
    let mut out = Vec::new();
    if text.len() > names::DNS1123_SUBDOMAIN_MAX {
        out.push("must be no more than 253 characters".into());
    }
    if !text.split('.').all(label) {
        out.push(format!("a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '{FORM}')"));
    }
    out
}

/// Readiness and scheduling gates.
fn gates(spec: &Value, c: &mut Causes) {
    for (i, gate) in list_at(spec, "readinessGates").iter().enumerate() {
        let kind = str_at(gate, "conditionType");
        c.at("readinessGates", |c| {
            c.index(i, |c| {
                c.at("conditionType", |c| {
                    checks::all(kind, names::qualified_name(kind), c)
                });
            });
        });
    }
    let mut seen = BTreeSet::new();
    for (i, gate) in list_at(spec, "schedulingGates").iter().enumerate() {
        let name = str_at(gate, "name");
        c.at("schedulingGates", |c| {
            c.index(i, |c| {
                checks::all(name, names::qualified_name(name), c);
                if !seen.insert(name) {
                    c.duplicate(&json!(name));
                }
            });
        });
    }
}

/// What a pod with its own user namespace cannot have.
fn host_users(spec: &Value, cx: Cx<'_>, c: &mut Causes) {
    if bool_at(spec, "hostUsers") != Some(false) {
        return;
    }
    let text = "when `hostUsers` is false";
    let asks = |spec: &Value, field: &str| bool_at(spec, field) == Some(true);
    // Gate UserNamespacesHostNetworkSupport is off; upstream writes two of the fields so.
    let before = |field: &str| cx.before.is_some_and(|b| asks(b, field));
    if asks(spec, "hostNetwork") && !before("hostNetwork") {
        c.at("hostNetwork", |c| c.forbidden(text));
    }
    for (field, shown) in [("hostPID", "HostPID"), ("hostIPC", "HostIPC")] {
        if asks(spec, field) {
            c.at(shown, |c| c.forbidden(text));
        }
    }
    let devices = |spec: &Value| {
        LISTS
            .iter()
            .flat_map(|l| list_at(spec, l))
            .any(|one| !list_at(one, "volumeDevices").is_empty())
    };
    if cx.before.is_some_and(devices) {
        return;
    }
    for list in LISTS {
        for (i, one) in list_at(spec, list).iter().enumerate() {
            if !list_at(one, "volumeDevices").is_empty() {
                c.at(list, |c| {
                    c.index(i, |c| c.at("volumeDevices", |c| c.forbidden(text)));
                });
            }
        }
    }
}

fn hostname_override(spec: &Value, c: &mut Causes) {
    let Some(name) = at(spec, "hostnameOverride").and_then(Value::as_str) else {
        return;
    };
    c.at("hostnameOverride", |c| {
        if bool_at(spec, "setHostnameAsFQDN") == Some(true) {
            c.forbidden("may not be specified when setHostnameAsFQDN is true");
        }
        if bool_at(spec, "hostNetwork") == Some(true) {
            c.forbidden("may not be specified when hostNetwork is true");
        }
        if name.len() > HOSTNAME_MAX {
            c.too_long(HOSTNAME_MAX);
        }
        checks::all(name, names::dns1123_subdomain(name), c);
    });
}

fn names_and_limits(spec: &Value, c: &mut Causes) {
    for field in ["serviceAccountName", "nodeName"] {
        checks::optional(spec, field, names::dns1123_subdomain, c);
    }
    if let Some(n) = i64_at(spec, "activeDeadlineSeconds")
        && !(1..=SECONDS_MAX).contains(&n)
    {
        c.at("activeDeadlineSeconds", |c| {
            c.invalid(
                &json!(n),
                format!("must be between 1 and {SECONDS_MAX}, inclusive"),
            );
        });
    }
    for field in ["hostname", "subdomain"] {
        checks::optional(spec, field, names::dns1123_label, c);
    }
}

/// Checks one toleration at the current path.
pub fn toleration(t: &Value, c: &mut Causes) {
    let (key, operator, effect) = (str_at(t, "key"), str_at(t, "operator"), str_at(t, "effect"));
    let value = str_at(t, "value");
    if !key.is_empty() {
        c.at("key", |c| checks::all(key, names::qualified_name(key), c));
    }
    if key.is_empty() && operator != "Exists" {
        c.at("operator", |c| c.invalid(&json!(operator), "operator must be Exists when `key` is empty, which means \"match all values and all keys\""));
    }
    if at(t, "tolerationSeconds").is_some() && effect != "NoExecute" {
        c.at("effect", |c| {
            c.invalid(
                &json!(effect),
                "effect must be 'NoExecute' when `tolerationSeconds` is set",
            );
        });
    }
    c.at("operator", |c| match operator {
        "" | "Equal" => {
            let problems = names::label_value(value);
            if !problems.is_empty() {
                c.invalid(&json!(value), problems.join(";"));
            }
        }
        "Exists" if !value.is_empty() => {
            c.invalid(
                &json!(value),
                "value must be empty when `operator` is 'Exists'",
            );
        }
        "Exists" => {}
        // Gate TaintTolerationComparisonOperators is off.
        "Lt" | "Gt" => c.not_supported_in_order(&json!(operator), &["Equal", "Exists", "Lt", "Gt"]),
        _ => c.not_supported_in_order(&json!(operator), &["Equal", "Exists"]),
    });
    let effects = &["NoSchedule", "PreferNoSchedule", "NoExecute"];
    if !effect.is_empty() && !effects.contains(&effect) {
        c.at("effect", |c| {
            c.not_supported_in_order(&json!(effect), effects)
        });
    }
}

fn host_aliases(spec: &Value, c: &mut Causes) {
    for (i, alias) in list_at(spec, "hostAliases").iter().enumerate() {
        c.at("hostAliases", |c| {
            c.index(i, |c| {
                let ip = str_at(alias, "ip");
                c.at("ip", |c| checks::all(ip, net::ip(ip), c));
                for (j, name) in list_at(alias, "hostnames").iter().enumerate() {
                    let name = name.as_str().unwrap_or_default();
                    c.at("hostnames", |c| {
                        c.index(j, |c| checks::all(name, names::dns1123_subdomain(name), c));
                    });
                }
            });
        });
    }
}

fn classes(spec: &Value, cx: Cx<'_>, c: &mut Causes) {
    checks::optional(spec, "priorityClassName", names::dns1123_subdomain, c);
    if let Some(name) = at(spec, "runtimeClassName").and_then(Value::as_str) {
        c.at("runtimeClassName", |c| {
            checks::all(name, names::dns1123_subdomain(name), c)
        });
    }
    if at(spec, "preemptionPolicy").is_some() {
        let policies = &["PreemptLowerPriority", "Never"];
        checks::one_of(spec, "preemptionPolicy", policies, c);
    }
    if let Some(overhead) = at(spec, "overhead") {
        let limits = json!({"limits": overhead});
        c.at("overhead", |c| resources::overhead(&limits, cx, c));
    }
}

fn os(spec: &Value, c: &mut Causes) {
    let Some(os) = at(spec, "os") else { return };
    let name = str_at(os, "name");
    if name.is_empty() {
        c.at("os", |c| c.at("name", |c| c.required("")));
        return;
    }
    if !["linux", "windows"].contains(&name) {
        c.at("os", |c| {
            c.not_supported_in_order(&json!(name), &["linux", "windows"])
        });
        return;
    }
    let text = "windows options cannot be set for a linux pod";
    if name == "linux" {
        if at(spec, "securityContext.windowsOptions").is_some() {
            c.at("securityContext", |c| {
                c.at("windowsOptions", |c| c.forbidden(text));
            });
        }
        for list in LISTS {
            for (i, one) in list_at(spec, list).iter().enumerate() {
                if at(one, "securityContext.windowsOptions").is_some() {
                    c.at(list, |c| {
                        c.index(i, |c| {
                            c.at("securityContext", |c| {
                                c.at("windowsOptions", |c| c.forbidden(text));
                            });
                        });
                    });
                }
            }
        }
    } else {
        security::windows(spec, c);
    }
}

#[cfg(test)]
mod tests;
