//! The three lists of containers. validation-pod §8.3 to §8.6.

use std::collections::BTreeSet;

use api::names;
use machinery::Causes;
use machinery::object::{at, i64_at, list_at, str_at};
use serde_json::{Value, json};

use super::{Shared, env, mounts, probes, resources, security};
use crate::checks;

const RULES_MAX: usize = 20;
const CODES_MAX: usize = 255;

/// Fields that ephemeral containers do not have.
const NOT_EPHEMERAL: &[&str] = &[
    "ports",
    "resources",
    "resizePolicy",
    "restartPolicy",
    "restartPolicyRules",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "lifecycle",
];

/// All lists, in upstream's order.
pub fn all(s: &Shared<'_>, c: &mut Causes) {
    let containers = list_at(s.spec, "containers");
    let mut seen = BTreeSet::new();
    c.at("containers", |c| {
        if containers.is_empty() {
            c.required("");
            return;
        }
        let mut ports = BTreeSet::new();
        for (i, one) in containers.iter().enumerate() {
            c.index(i, |c| {
                common(s, one, c);
                unique(one, &mut seen, c);
                probes::lifecycle(s, one, c);
                probes::all(s, one, c);
                restart_policy(one, false, c);
            });
        }
        for (i, one) in containers.iter().enumerate() {
            c.index(i, |c| host_ports(one, &mut ports, c));
        }
    });
    c.at("initContainers", |c| init(s, &mut seen, c));
    c.at("ephemeralContainers", |c| ephemeral(s, &mut seen, c));
}

fn unique<'a>(one: &'a Value, seen: &mut BTreeSet<&'a str>, c: &mut Causes) {
    let name = str_at(one, "name");
    if !name.is_empty() && !seen.insert(name) {
        c.at("name", |c| c.duplicate(&json!(name)));
    }
}

/// Checks what all three lists share, at the container's path.
fn common(s: &Shared<'_>, one: &Value, c: &mut Causes) {
    checks::required(one, "name", names::dns1123_label, c);
    checks::present(one, "image", c);
    let policies = &["File", "FallbackToLogsOnError"];
    checks::one_of(one, "terminationMessagePolicy", policies, c);
    c.at("ports", |c| ports(one, c));
    c.at("env", |c| env::all(one, c));
    c.at("envFrom", |c| env::from(one, c));
    mounts::mounts(s, one, c);
    c.at("volumeDevices", |c| mounts::devices(s, one, c));
    let pull = &["Always", "IfNotPresent", "Never"];
    checks::one_of(one, "imagePullPolicy", pull, c);
    if let Some(own) = at(one, "resources") {
        c.at("resources", |c| resources::of_container(s, own, c));
    }
    c.at("resizePolicy", |c| resources::resize_policy(s, one, c));
    if let Some(own) = at(one, "securityContext") {
        c.at("securityContext", |c| {
            security::of_container(s.spec, own, c)
        });
    }
}

fn ports(one: &Value, c: &mut Causes) {
    let mut seen = BTreeSet::new();
    for (i, p) in list_at(one, "ports").iter().enumerate() {
        c.index(i, |c| {
            let name = str_at(p, "name");
            if !name.is_empty() {
                c.at("name", |c| {
                    let problems = checks::port_name(name);
                    if problems.is_empty() && !seen.insert(name) {
                        c.duplicate(&json!(name));
                    }
                    checks::all(name, problems, c);
                });
            }
            c.at("containerPort", |c| match i64_at(p, "containerPort") {
                None | Some(0) => c.required(""),
                Some(n) => checks::port_number(n, c),
            });
            if let Some(n) = i64_at(p, "hostPort").filter(|n| *n != 0) {
                c.at("hostPort", |c| checks::port_number(n, c));
            }
            checks::one_of(p, "protocol", &["SCTP", "TCP", "UDP"], c);
        });
    }
}

/// The same port of the host twice.
fn host_ports(one: &Value, seen: &mut BTreeSet<String>, c: &mut Causes) {
    for (j, p) in list_at(one, "ports").iter().enumerate() {
        let host = i64_at(p, "hostPort").unwrap_or(0);
        let key = format!("{}/{}/{host}", str_at(p, "protocol"), str_at(p, "hostIP"));
        if host != 0 && !seen.insert(key.clone()) {
            c.at("ports", |c| {
                c.index(j, |c| c.at("hostPort", |c| c.duplicate(&json!(key))));
            });
        }
    }
}

fn init<'a>(s: &Shared<'a>, seen: &mut BTreeSet<&'a str>, c: &mut Causes) {
    let spec: &'a Value = s.spec;
    for (i, one) in list_at(spec, "initContainers").iter().enumerate() {
        c.index(i, |c| {
            common(s, one, c);
            restart_policy(one, true, c);
            unique(one, seen, c);
        });
        // Upstream: whichever it is, the path says the first.
        c.index(0, |c| host_ports(one, &mut BTreeSet::new(), c));
        c.index(i, |c| {
            if str_at(one, "restartPolicy") == "Always" {
                probes::lifecycle(s, one, c);
                probes::all(s, one, c);
                return;
            }
            for field in [
                "lifecycle",
                "livenessProbe",
                "readinessProbe",
                "startupProbe",
            ] {
                if at(one, field).is_some() {
                    c.at(field, |c| {
                        c.forbidden(
                            "may not be set for init containers without restartPolicy=Always",
                        );
                    });
                }
            }
            resources::plain_init_resize(s, one, c);
        });
    }
}

fn ephemeral<'a>(s: &Shared<'a>, seen: &mut BTreeSet<&'a str>, c: &mut Causes) {
    let spec: &'a Value = s.spec;
    let targets: BTreeSet<&str> = ["containers", "initContainers"]
        .iter()
        .flat_map(|l| list_at(spec, l))
        .map(|one| str_at(one, "name"))
        .collect();
    for (i, one) in list_at(spec, "ephemeralContainers").iter().enumerate() {
        c.index(i, |c| {
            // Defaults that an ephemeral container gets anyway are no mistake.
            let mut bare = one.clone();
            if bare.get("resources") == Some(&json!({})) {
                machinery::object::remove(&mut bare, "resources");
            }
            common(s, &bare, c);
            image_space(one, c);
            unique(one, seen, c);
            let target = str_at(one, "targetContainerName");
            if !target.is_empty() && !targets.contains(target) {
                c.at("targetContainerName", |c| c.not_found(&json!(target)));
            }
            for field in NOT_EPHEMERAL {
                let given = at(&bare, field).filter(|v| **v != json!([]));
                if given.is_some() {
                    c.at(field, |c| {
                        c.forbidden("cannot be set for an Ephemeral Container");
                    });
                }
            }
            for (j, m) in list_at(one, "volumeMounts").iter().enumerate() {
                for field in ["subPath", "subPathExpr"] {
                    if !str_at(m, field).is_empty() {
                        c.at("volumeMounts", |c| {
                            c.index(j, |c| {
                                c.at(field, |c| {
                                    c.forbidden("cannot be set for an Ephemeral Container");
                                });
                            });
                        });
                    }
                }
            }
        });
    }
}

/// White space around an image, at the container's path.
pub fn image_space(one: &Value, c: &mut Causes) {
    let image = str_at(one, "image");
    if image != image.trim() {
        c.at("image", |c| {
            c.invalid(
                &json!(image),
                "must not have leading or trailing whitespace",
            );
        });
    }
}

fn restart_policy(one: &Value, init: bool, c: &mut Causes) {
    let rules = list_at(one, "restartPolicyRules");
    let policy = at(one, "restartPolicy");
    if policy.is_none() && !rules.is_empty() {
        c.at("restartPolicy", |c| {
            c.required("must specify restartPolicy when restart rules are used");
        });
        if init {
            return;
        }
    }
    let policies = &["Always", "Never", "OnFailure"];
    checks::optional_one_of(one, "restartPolicy", policies, c);
    if rules.len() > RULES_MAX {
        c.at("restartPolicyRules", |c| c.too_many(rules.len(), RULES_MAX));
    }
    for (k, rule) in rules.iter().enumerate() {
        c.at("restartPolicyRules", |c| {
            c.index(k, |c| {
                let actions = &["Restart", "RestartAllContainers"];
                if !actions.contains(&str_at(rule, "action")) {
                    c.at("action", |c| {
                        c.not_supported_in_order(&json!(str_at(rule, "action")), actions);
                    });
                }
                c.at("exitCodes", |c| {
                    let Some(codes) = at(rule, "exitCodes") else {
                        c.required("must be specified");
                        return;
                    };
                    let operator = str_at(codes, "operator");
                    if !["In", "NotIn"].contains(&operator) {
                        c.at("operator", |c| {
                            c.not_supported_in_order(&json!(operator), &["In", "NotIn"]);
                        });
                    }
                    let count = list_at(codes, "values").len();
                    if count > CODES_MAX {
                        c.at("values", |c| c.too_many(count, CODES_MAX));
                    }
                });
            });
        });
    }
}
