//! What a write of a pod's status may do. Upstream: ValidatePodStatusUpdate; validation-pod §11.

use std::collections::BTreeSet;

use api::names;
use machinery::Causes;
use machinery::object::{at, i64_at, list_at, map_at, str_at};
use serde_json::{Value, json};

use super::super::pod_checks::annotations;
use super::update::annotation_changes;
use crate::checks::{self, net};

/// Condition types of Kubernetes itself that are not checked.
const OWN: &[&str] = &["PodScheduled", "Ready", "Initialized"];
const NON_NEGATIVE: &str = "must be a non-negative integer";

/// An update through `/status`.
pub fn update(obj: &Value, before: &Value, causes: &mut Causes) {
    annotation_changes(obj, before, causes);
    let spec = obj.get("spec").unwrap_or(&Value::Null);
    let (notes, old) = (
        map_at(obj, "metadata.annotations"),
        map_at(before, "metadata.annotations"),
    );
    causes.at("metadata", |c| {
        c.at("annotations", |c| annotations::all(notes, spec, old, c));
    });
    causes.at("status", |c| {
        for (i, condition) in list_at(obj, "status.conditions").iter().enumerate() {
            c.at("conditions", |c| {
                c.index(i, |c| condition_rules(condition, c))
            });
        }
        nominated(obj, before, c);
        generation(&obj["status"], c);
        let class = str_at(before, "status.qosClass");
        if str_at(obj, "status.qosClass") != class {
            let new = json!(str_at(obj, "status.qosClass"));
            c.at("qosClass", |c| c.invalid(&new, checks::IMMUTABLE));
        }
        for list in [
            "containerStatuses",
            "initContainerStatuses",
            "ephemeralContainerStatuses",
        ] {
            c.at(list, |c| transitions(obj, before, list, c));
        }
        claims(obj, c);
        addresses(obj, before, c);
    });
}

fn condition_rules(condition: &Value, c: &mut Causes) {
    generation(condition, c);
    let kind = str_at(condition, "type");
    if !OWN.contains(&kind) {
        // Upstream writes this one with a capital.
        c.at("Type", |c| {
            checks::all(kind, names::qualified_name(kind), c)
        });
    }
}

fn generation(obj: &Value, c: &mut Causes) {
    if let Some(n) = i64_at(obj, "observedGeneration").filter(|n| *n < 0) {
        c.at("observedGeneration", |c| c.invalid(&json!(n), NON_NEGATIVE));
    }
}

fn nominated(obj: &Value, before: &Value, c: &mut Causes) {
    let path = "status.nominatedNodeName";
    let name = str_at(obj, path);
    if name.is_empty() || name == str_at(before, path) {
        return;
    }
    c.at("nominatedNodeName", |c| {
        checks::all(name, names::dns1123_subdomain(name), c);
        if !str_at(before, "spec.nodeName").is_empty() {
            c.forbidden("may not be set on pods that are already bound to a node");
        }
    });
}

/// A container that ended for good does not come back.
fn transitions(obj: &Value, before: &Value, list: &str, c: &mut Causes) {
    let path = format!("status.{list}");
    for (i, old) in list_at(before, &path).iter().enumerate() {
        let Some(ended) = at(old, "state.terminated") else {
            continue;
        };
        let name = str_at(old, "name");
        let mut now = list_at(obj, &path).iter();
        let new = now.find(|s| str_at(s, "name") == name);
        let back = new.is_some_and(|s| at(s, "state.terminated").is_none());
        let code = i64_at(ended, "exitCode").unwrap_or(0);
        let may = list != "ephemeralContainerStatuses" && may_restart(&obj["spec"], name, code);
        if back && !may {
            c.index(i, |c| {
                c.at("state", |c| {
                    c.forbidden("may not be transitioned to non-terminated state");
                });
            });
        }
    }
}

/// Whether a container that ended with a code is started again.
fn may_restart(spec: &Value, name: &str, code: i64) -> bool {
    let all = || {
        ["containers", "initContainers"]
            .into_iter()
            .flat_map(|l| list_at(spec, l))
    };
    let rules = |one| list_at(one, "restartPolicyRules").iter();
    let everything = |r: &Value| str_at(r, "action") == "RestartAllContainers";
    if all().any(|one| rules(one).any(everything)) {
        return true;
    }
    let Some(one) = all().find(|one| str_at(one, "name") == name) else {
        return false;
    };
    let matches = |r: &Value| {
        let listed = list_at(r, "exitCodes.values").iter().any(|v| v == code);
        match str_at(r, "exitCodes.operator") {
            "In" => listed,
            "NotIn" => !listed,
            _ => false,
        }
    };
    if rules(one).any(matches) {
        return true;
    }
    let policy = match str_at(one, "restartPolicy") {
        "" => str_at(spec, "restartPolicy"),
        own => own,
    };
    match policy {
        "Always" => true,
        "OnFailure" => code != 0,
        _ => false,
    }
}

fn claims(obj: &Value, c: &mut Causes) {
    let known: Vec<&str> = list_at(obj, "spec.resourceClaims")
        .iter()
        .map(|r| str_at(r, "name"))
        .collect();
    let mut seen = BTreeSet::new();
    for (i, s) in list_at(obj, "status.resourceClaimStatuses")
        .iter()
        .enumerate()
    {
        let name = str_at(s, "name");
        c.at("resourceClaimStatuses", |c| {
            c.index(i, |c| {
                c.at("name", |c| {
                    if !known.contains(&name) {
                        c.invalid(
                            &json!(name),
                            "must match the name of an entry in `spec.resourceClaims`",
                        );
                    }
                    if !seen.insert(name) {
                        c.duplicate(&json!(name));
                    }
                });
                checks::optional(s, "resourceClaimName", names::dns1123_subdomain, c);
            });
        });
    }
}

fn ips<'a>(obj: &'a Value, path: &str) -> Vec<&'a str> {
    list_at(obj, path).iter().map(|i| str_at(i, "ip")).collect()
}

fn addresses(obj: &Value, before: &Value, c: &mut Causes) {
    let (host, hosts) = (str_at(obj, "status.hostIP"), ips(obj, "status.hostIPs"));
    for field in ["podIPs", "hostIPs"] {
        let path = format!("status.{field}");
        let (all, known) = (ips(obj, &path), ips(before, &path));
        c.at(field, |c| {
            if field == "hostIPs" && hosts.first().is_some_and(|first| *first != host) {
                c.index(0, |c| {
                    c.at("ip", |c| {
                        c.invalid(&json!(hosts[0]), "must be equal to `hostIP`");
                    });
                });
            }
            for (i, ip) in all.iter().enumerate().filter(|(_, ip)| !known.contains(ip)) {
                c.index(i, |c| checks::all(ip, net::ip(ip), c));
            }
            if all.len() > 1 && !net::one_per_family(&all) {
                c.invalid(
                    &json!(list_at(obj, &path)),
                    "may specify no more than one IP for each IP family",
                );
            }
        });
    }
}

/// Warnings about the addresses of a status write.
pub fn warnings(obj: &Value, before: &Value) -> Vec<String> {
    let mut out = Vec::new();
    for field in ["podIPs", "hostIPs"] {
        let path = format!("status.{field}");
        if at(obj, &path) == at(before, &path) {
            continue;
        }
        for (i, ip) in ips(obj, &path).iter().enumerate() {
            net::ip_warnings(&format!("{path}[{i}].ip"), ip, &mut out);
        }
    }
    out
}
