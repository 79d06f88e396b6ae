//! Validation of a pod spec, in pods and in templates. Upstream: ValidatePodSpec; validation-pod §8.

use std::collections::BTreeSet;

use api::names;
use api::quantity::Quantity;
use machinery::Causes;
use machinery::object::{at, bool_at, i64_at, list_at, map_at, str_at};
use serde_json::{Value, json};

/// Checks a spec at the current path.
pub fn validate(spec: &Value, c: &mut Causes) {
    let volumes = volumes(spec, c);
    let containers = list_at(spec, "containers");
    if containers.is_empty() {
        c.at("containers", |c| c.required(""));
    }
    let mut seen = BTreeSet::new();
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        for (i, one) in list_at(spec, list).iter().enumerate() {
            c.at(list, |c| {
                c.index(i, |c| {
                    container(one, &volumes, c);
                    let name = str_at(one, "name");
                    if !name.is_empty() && !seen.insert(name.to_string()) {
                        c.at("name", |c| c.duplicate(&json!(name)));
                    }
                });
            });
        }
    }
    host_ports(spec, c);
    one_of(spec, "restartPolicy", &["Always", "OnFailure", "Never"], c);
    one_of(
        spec,
        "dnsPolicy",
        &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"],
        c,
    );
    c.at("nodeSelector", |c| {
        machinery::meta::labels(map_at(spec, "nodeSelector"), c)
    });
    for field in ["serviceAccountName", "nodeName", "priorityClassName"] {
        named(spec, field, names::dns1123_subdomain, c);
    }
    for field in ["hostname", "subdomain"] {
        named(spec, field, names::dns1123_label, c);
    }
    if let Some(n) = i64_at(spec, "activeDeadlineSeconds")
        && !(1..=i64::from(i32::MAX)).contains(&n)
    {
        c.at("activeDeadlineSeconds", |c| {
            c.invalid(&json!(n), "must be between 1 and 2147483647, inclusive");
        });
    }
    for (i, gate) in list_at(spec, "schedulingGates").iter().enumerate() {
        c.at("schedulingGates", |c| {
            c.index(i, |c| label_key(str_at(gate, "name"), c))
        });
    }
    for (i, t) in list_at(spec, "tolerations").iter().enumerate() {
        c.at("tolerations", |c| c.index(i, |c| toleration(t, c)));
    }
}

fn label_key(key: &str, c: &mut Causes) {
    for problem in names::qualified_name(key) {
        c.invalid(&json!(key), problem);
    }
}

fn one_of(obj: &Value, field: &str, allowed: &[&str], c: &mut Causes) {
    let value = str_at(obj, field);
    c.at(field, |c| {
        if value.is_empty() {
            c.required("");
        } else if !allowed.contains(&value) {
            c.not_supported(&json!(value), allowed);
        }
    });
}

fn named(obj: &Value, field: &str, check: fn(&str) -> Vec<String>, c: &mut Causes) {
    let value = str_at(obj, field);
    if !value.is_empty() {
        c.at(field, |c| {
            for problem in check(value) {
                c.invalid(&json!(value), problem);
            }
        });
    }
}

/// Checks the volumes; gives their names.
fn volumes(spec: &Value, c: &mut Causes) -> BTreeSet<String> {
    let mut known = BTreeSet::new();
    for (i, v) in list_at(spec, "volumes").iter().enumerate() {
        c.at("volumes", |c| {
            c.index(i, |c| {
                let name = str_at(v, "name");
                c.at("name", |c| {
                    if name.is_empty() {
                        c.required("");
                    } else {
                        for problem in names::dns1123_label(name) {
                            c.invalid(&json!(name), problem);
                        }
                    }
                    if !name.is_empty() && !known.insert(name.to_string()) {
                        c.duplicate(&json!(name));
                    }
                });
                volume_source(v, c);
            });
        });
    }
    known
}

fn volume_source(v: &Value, c: &mut Causes) {
    let sources: Vec<&String> = v
        .as_object()
        .map(|m| m.keys().filter(|k| *k != "name").collect())
        .unwrap_or_default();
    for extra in sources.iter().skip(1) {
        c.at(extra, |c| {
            c.forbidden("may not specify more than 1 volume type")
        });
    }
    let need = |path: &str, c: &mut Causes| {
        if str_at(v, path).is_empty() {
            let (parent, leaf) = path.split_once('.').unwrap_or(("", path));
            c.at(parent, |c| c.at(leaf, |c| c.required("")));
        }
    };
    match sources.first().map(|s| s.as_str()) {
        Some("secret") => need("secret.secretName", c),
        Some("configMap") => need("configMap.name", c),
        Some("persistentVolumeClaim") => need("persistentVolumeClaim.claimName", c),
        Some("hostPath") => {
            need("hostPath.path", c);
            if str_at(v, "hostPath.path").split('/').any(|p| p == "..") {
                let path = json!(str_at(v, "hostPath.path"));
                c.at("hostPath", |c| {
                    c.at("path", |c| c.invalid(&path, "must not contain '..'"))
                });
            }
        }
        Some("emptyDir") => {
            if let Some(limit) = at(v, "emptyDir.sizeLimit") {
                c.at("emptyDir", |c| {
                    c.at("sizeLimit", |c| quantity(limit, c).map_or((), drop))
                });
            }
        }
        _ => {}
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(n) = i64_at(v, &format!("{source}.defaultMode"))
            && !(0..=0o777).contains(&n)
        {
            c.at(source, |c| {
                c.at("defaultMode", |c| {
                    c.invalid(
                        &json!(n),
                        "must be a number between 0 and 0777 (octal), both inclusive",
                    );
                });
            });
        }
    }
}

fn container(one: &Value, volumes: &BTreeSet<String>, c: &mut Causes) {
    let name = str_at(one, "name");
    c.at("name", |c| {
        if name.is_empty() {
            c.required("");
        } else {
            for problem in names::dns1123_label(name) {
                c.invalid(&json!(name), problem);
            }
        }
    });
    if str_at(one, "image").is_empty() {
        c.at("image", |c| c.required(""));
    }
    one_of(
        one,
        "terminationMessagePolicy",
        &["File", "FallbackToLogsOnError"],
        c,
    );
    c.at("ports", |c| ports(one, c));
    c.at("env", |c| env(one, c));
    c.at("volumeMounts", |c| mounts(one, volumes, c));
    one_of(
        one,
        "imagePullPolicy",
        &["Always", "IfNotPresent", "Never"],
        c,
    );
    c.at("resources", |c| resources(one, c));
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(p) = at(one, probe) {
            c.at(probe, |c| probe_checks(p, probe, c));
        }
    }
}

fn ports(one: &Value, c: &mut Causes) {
    let mut seen = BTreeSet::new();
    for (i, p) in list_at(one, "ports").iter().enumerate() {
        c.index(i, |c| {
            let name = str_at(p, "name");
            if !name.is_empty() {
                c.at("name", |c| {
                    let problems = port_name(name);
                    if problems.is_empty() && !seen.insert(name.to_string()) {
                        c.duplicate(&json!(name));
                    }
                    for problem in problems {
                        c.invalid(&json!(name), problem);
                    }
                });
            }
            let number = i64_at(p, "containerPort").unwrap_or(0);
            c.at("containerPort", |c| match number {
                0 => c.required(""),
                n => port_range(n, c),
            });
            if let Some(n) = i64_at(p, "hostPort").filter(|n| *n != 0) {
                c.at("hostPort", |c| port_range(n, c));
            }
            one_of(p, "protocol", &["SCTP", "TCP", "UDP"], c);
        });
    }
}

/// Checks a port number at the current path.
pub fn port_range(n: i64, c: &mut Causes) {
    if !(1..=65535).contains(&n) {
        c.invalid(&json!(n), "must be between 1 and 65535, inclusive");
    }
}

/// Problems of an IANA service name.
pub fn port_name(name: &str) -> Vec<String> {
    let mut out = Vec::new();
    if name.len() > 15 {
        out.push("must be no more than 15 characters".into());
    }
    if name.is_empty()
        || !name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    {
        out.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".into());
    }
    if !name.bytes().any(|b| b.is_ascii_lowercase()) {
        out.push("must contain at least one letter (a-z)".into());
    }
    if name.contains("--") {
        out.push("must not contain consecutive hyphens".into());
    }
    if name.starts_with('-') || name.ends_with('-') {
        out.push("must not begin or end with a hyphen".into());
    }
    out
}

fn env(one: &Value, c: &mut Causes) {
    for (i, e) in list_at(one, "env").iter().enumerate() {
        c.index(i, |c| {
            let name = str_at(e, "name");
            if name.is_empty() {
                c.at("name", |c| c.required(""));
            } else if !name.bytes().all(|b| (0x20..0x7f).contains(&b) && b != b'=') {
                c.at("name", |c| {
                    c.invalid(&json!(name), "a valid environment variable name must consist only of printable ASCII characters other than '='");
                });
            }
            let Some(from) = map_at(e, "valueFrom") else { return };
            c.at("valueFrom", |c| {
                if from.is_empty() {
                    c.invalid(&json!(""), "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`");
                } else if !str_at(e, "value").is_empty() {
                    c.invalid(&json!(""), "may not be specified when `value` is not empty");
                } else if from.len() > 1 {
                    c.invalid(&json!(""), "may not have more than one field specified at a time");
                }
            });
        });
    }
}

fn mounts(one: &Value, volumes: &BTreeSet<String>, c: &mut Causes) {
    let mut paths = BTreeSet::new();
    for (i, m) in list_at(one, "volumeMounts").iter().enumerate() {
        c.index(i, |c| {
            let (name, path) = (str_at(m, "name"), str_at(m, "mountPath"));
            c.at("name", |c| {
                if name.is_empty() {
                    c.required("");
                }
                if !volumes.contains(name) {
                    c.not_found(&json!(name));
                }
            });
            c.at("mountPath", |c| {
                if path.is_empty() {
                    c.required("");
                } else if !paths.insert(path.to_string()) {
                    c.invalid(&json!(path), "must be unique");
                }
            });
            let sub = str_at(m, "subPath");
            if sub.starts_with('/') {
                c.at("subPath", |c| {
                    c.invalid(&json!(sub), "must be a relative path")
                });
            }
            if sub.split('/').any(|p| p == "..") {
                c.at("subPath", |c| {
                    c.invalid(&json!(sub), "must not contain '..'")
                });
            }
        });
    }
}

/// Parses a quantity at the current path; says what is wrong with it.
pub fn quantity(value: &Value, c: &mut Causes) -> Option<Quantity> {
    let text = value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_string);
    match Quantity::parse(&text) {
        Ok(q) => {
            if q.sign() < 0 {
                c.invalid(&json!(text), "must be greater than or equal to 0");
            }
            Some(q)
        }
        Err(e) => {
            c.invalid(&json!(text), e.to_string());
            None
        }
    }
}

fn resources(one: &Value, c: &mut Causes) {
    let limits = map_at(one, "resources.limits");
    for (name, value) in limits.into_iter().flatten() {
        c.at("limits", |c| {
            c.key(name, |c| quantity(value, c).map_or((), drop))
        });
    }
    for (name, value) in map_at(one, "resources.requests").into_iter().flatten() {
        c.at("requests", |c| {
            let Some(request) = c.key(name, |c| quantity(value, c)) else {
                return;
            };
            let limit = limits.and_then(|l| l.get(name)).and_then(Value::as_str);
            let Some(limit) = limit.and_then(|l| Quantity::parse(l).ok()) else {
                return;
            };
            if request > limit {
                let text = format!("must be less than or equal to {name} limit of {limit}");
                c.invalid(&json!(request.to_string()), text);
            }
        });
    }
}

fn probe_checks(p: &Value, which: &str, c: &mut Causes) {
    let handlers = ["exec", "httpGet", "tcpSocket", "grpc"];
    let given: Vec<&&str> = handlers.iter().filter(|h| p.get(**h).is_some()).collect();
    if given.is_empty() {
        c.required("must specify a handler type");
    }
    for extra in given.iter().skip(1) {
        c.at(extra, |c| {
            c.forbidden("may not specify more than 1 handler type")
        });
    }
    for field in [
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
    ] {
        if let Some(n) = i64_at(p, field).filter(|n| *n < 0) {
            c.at(field, |c| {
                c.invalid(&json!(n), "must be greater than or equal to 0")
            });
        }
    }
    let success = i64_at(p, "successThreshold").unwrap_or(1);
    if which != "readinessProbe" && success != 1 {
        c.at("successThreshold", |c| {
            c.invalid(&json!(success), "must be 1")
        });
    }
    if list_at(p, "exec.command").is_empty() && p.get("exec").is_some() {
        c.at("exec", |c| c.at("command", |c| c.required("")));
    }
}

fn toleration(t: &Value, c: &mut Causes) {
    let (key, operator, effect) = (str_at(t, "key"), str_at(t, "operator"), str_at(t, "effect"));
    if !key.is_empty() {
        c.at("key", |c| label_key(key, c));
    }
    if key.is_empty() && operator != "Exists" {
        c.at("operator", |c| {
            c.invalid(
                &json!(operator),
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
            );
        });
    }
    if at(t, "tolerationSeconds").is_some() && effect != "NoExecute" {
        c.at("effect", |c| {
            c.invalid(
                &json!(effect),
                "effect must be 'NoExecute' when `tolerationSeconds` is set",
            );
        });
    }
    match operator {
        "" | "Equal" => {
            for problem in names::label_value(str_at(t, "value")) {
                c.at("operator", |c| {
                    c.invalid(&json!(str_at(t, "value")), problem)
                });
            }
        }
        "Exists" => {
            if !str_at(t, "value").is_empty() {
                c.at("operator", |c| {
                    c.invalid(t, "value must be empty when `operator` is 'Exists'");
                });
            }
        }
        other => c.at("operator", |c| {
            c.not_supported(&json!(other), &["Equal", "Exists"])
        }),
    }
    if !effect.is_empty() && !["NoSchedule", "PreferNoSchedule", "NoExecute"].contains(&effect) {
        c.at("effect", |c| {
            c.not_supported(
                &json!(effect),
                &["NoSchedule", "PreferNoSchedule", "NoExecute"],
            );
        });
    }
}

fn host_ports(spec: &Value, c: &mut Causes) {
    let host_network = bool_at(spec, "hostNetwork") == Some(true);
    let mut seen = BTreeSet::new();
    for (i, one) in list_at(spec, "containers").iter().enumerate() {
        for (j, p) in list_at(one, "ports").iter().enumerate() {
            let host = i64_at(p, "hostPort").unwrap_or(0);
            if host == 0 {
                continue;
            }
            let at_port = |c: &mut Causes, f: &dyn Fn(&mut Causes)| {
                c.at("containers", |c| {
                    c.index(i, |c| {
                        c.at("ports", |c| c.index(j, |c| c.at("hostPort", f)))
                    })
                });
            };
            if host_network && i64_at(p, "containerPort") != Some(host) {
                at_port(c, &|c| {
                    c.invalid(
                        &json!(host),
                        "must match `containerPort` when `hostNetwork` is true",
                    )
                });
            }
            let key = format!("{}/{}/{host}", str_at(p, "protocol"), str_at(p, "hostIP"));
            if !seen.insert(key.clone()) {
                at_port(c, &|c| c.duplicate(&json!(key)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(mut spec: Value) -> Vec<String> {
        super::super::pod_spec::set_defaults(&mut spec);
        let mut c = Causes::new();
        c.at("spec", |c| validate(&spec, c));
        c.as_slice()
            .iter()
            .map(machinery::causes::Cause::text)
            .collect()
    }

    #[test]
    fn good_specs_pass() {
        let spec = json!({"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80, "name": "http"}],
            "env": [{"name": "A", "value": "b"}], "volumeMounts": [{"name": "v", "mountPath": "/x"}],
            "resources": {"requests": {"cpu": "100m"}, "limits": {"cpu": "1"}}}],
            "volumes": [{"name": "v"}], "tolerations": [{"operator": "Exists"}]});
        assert_eq!(problems(spec), Vec::<String>::new());
    }

    #[test]
    fn mistakes_are_named_as_upstream_names_them() {
        for (spec, expected) in [
            (json!({}), "spec.containers: Required value"),
            (
                json!({"containers": [{"image": "i"}]}),
                "spec.containers[0].name: Required value",
            ),
            (
                json!({"containers": [{"name": "c"}]}),
                "spec.containers[0].image: Required value",
            ),
            (
                json!({"containers": [{"name": "c", "image": "i"}, {"name": "c", "image": "i"}]}),
                "spec.containers[1].name: Duplicate value: \"c\"",
            ),
            (
                json!({"containers": [{"name": "c", "image": "i", "volumeMounts": [{"name": "x", "mountPath": "/a"}]}]}),
                "spec.containers[0].volumeMounts[0].name: Not found: \"x\"",
            ),
            (
                json!({"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}}]}),
                "spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
            ),
            (
                json!({"containers": [{"name": "c", "image": "i"}], "restartPolicy": "Sometimes"}),
                "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"Never\", \"OnFailure\"",
            ),
            (
                json!({"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 99999}]}]}),
                "spec.containers[0].ports[0].containerPort: Invalid value: 99999: must be between 1 and 65535, inclusive",
            ),
            (
                json!({"containers": [{"name": "c", "image": "i", "livenessProbe": {}}]}),
                "spec.containers[0].livenessProbe: Required value: must specify a handler type",
            ),
        ] {
            assert!(
                problems(spec.clone()).iter().any(|p| p == expected),
                "{expected} not in {:?}",
                problems(spec)
            );
        }
    }
}
