//! Annotations that mean something to pods. validation-pod §8.0.

use machinery::Causes;
use machinery::object::{at, list_at, map_at, str_at};
use serde_json::{Map, Value, json};

use super::super::pod::prepare::{APPARMOR, apparmor_profile};
use super::super::pod_spec::LISTS;

pub const MIRROR: &str = "kubernetes.io/config.mirror";
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
pub const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
pub const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";

type Annotations<'a> = Option<&'a Map<String, Value>>;

/// Checks the annotations at the current path; `before` are those stored.
pub fn all(annotations: Annotations<'_>, spec: &Value, before: Annotations<'_>, c: &mut Causes) {
    let Some(map) = annotations else { return };
    for (key, value) in map {
        let text = value.as_str().unwrap_or_default();
        match key.as_str() {
            MIRROR if str_at(spec, "nodeName").is_empty() => c.key(key, |c| {
                c.invalid(
                    value,
                    "must set spec.nodeName if mirror pod annotation is set",
                );
            }),
            DELETION_COST => {
                let old = before.and_then(|b| b.get(key)).and_then(Value::as_str);
                if !is_cost(text) && old.is_none_or(is_cost) {
                    c.key(key, |c| c.invalid(value, "must be a 32bit integer"));
                }
            }
            k if k == SECCOMP_POD || k.starts_with(SECCOMP_CONTAINER) => {
                if !is_seccomp(text) {
                    c.at(key, |c| {
                        c.invalid(value, "must be a valid seccomp profile");
                    });
                }
            }
            k => {
                if let Some(container) = k.strip_prefix(APPARMOR) {
                    c.key(key, |c| apparmor(container, text, spec, c));
                }
            }
        }
    }
}

fn is_cost(text: &str) -> bool {
    let first = text.bytes().next();
    let begins = first.is_some_and(|b| b == b'-' || (b'1'..=b'9').contains(&b)) || text == "0";
    begins && text.parse::<i32>().is_ok()
}

fn is_seccomp(text: &str) -> bool {
    let local = text.strip_prefix("localhost/");
    ["runtime/default", "docker/default", "unconfined"].contains(&text)
        || local.is_some_and(|p| {
            let mut c = Causes::new();
            crate::checks::descending_path(p, &mut c);
            c.is_empty()
        })
}

fn apparmor(container: &str, text: &str, spec: &Value, c: &mut Causes) {
    let known = LISTS
        .iter()
        .flat_map(|l| list_at(spec, l))
        .any(|one| str_at(one, "name") == container);
    if !known {
        c.invalid(&json!(container), "container not found");
    }
    if !text.is_empty() && apparmor_profile(text).is_none() && !text.starts_with("localhost/") {
        c.invalid(
            &json!(text),
            format!("invalid AppArmor profile name: \"{text}\""),
        );
    }
}

/// Annotations and fields of a pod or template must name the same profiles. At the object's path.
pub fn match_fields(obj: &Value, c: &mut Causes) {
    let Some(map) = map_at(obj, "metadata.annotations") else {
        return;
    };
    let text = |key: &str| map.get(key).and_then(Value::as_str);
    let spec = obj.get("spec").unwrap_or(&Value::Null);
    if str_at(spec, "os.name") == "windows" {
        return;
    }
    c.at("spec", |c| {
        let own = |one: &Value, field: &str| at(one, &format!("securityContext.{field}")).cloned();
        if let (Some(text), Some(profile)) = (text(SECCOMP_POD), own(spec, "seccompProfile")) {
            c.at("securityContext", |c| {
                c.at("seccompProfile", |c| fits("seccomp", text, &profile, c));
            });
        }
        for list in LISTS {
            for (i, one) in list_at(spec, list).iter().enumerate() {
                let name = str_at(one, "name");
                let pairs = [
                    (
                        "seccomp",
                        "seccompProfile",
                        format!("{SECCOMP_CONTAINER}{name}"),
                    ),
                    ("apparmor", "appArmorProfile", format!("{APPARMOR}{name}")),
                ];
                for (word, field, key) in pairs {
                    let mut profile = own(one, field);
                    if word == "apparmor" {
                        profile = profile.or_else(|| own(spec, field));
                    }
                    let (Some(text), Some(profile)) = (text(&key), profile) else {
                        continue;
                    };
                    c.at(list, |c| {
                        c.index(i, |c| {
                            c.at("securityContext", |c| {
                                c.at(field, |c| fits(word, text, &profile, c));
                            });
                        });
                    });
                }
            }
        }
    });
}

fn fits(word: &str, text: &str, profile: &Value, c: &mut Causes) {
    let kind = str_at(profile, "type");
    let (wanted, file) = match text {
        "unconfined" => ("Unconfined", None),
        "runtime/default" | "docker/default" => ("RuntimeDefault", None),
        other => ("Localhost", other.strip_prefix("localhost/")),
    };
    if kind != wanted {
        c.at("type", |c| {
            c.forbidden(format!("{word} type in annotation and field must match"));
        });
    } else if file.is_some_and(|f| f != str_at(profile, "localhostProfile")) {
        c.at("localhostProfile", |c| {
            c.forbidden(format!("{word} profile in annotation and field must match"));
        });
    }
}
