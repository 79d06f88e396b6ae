//! What a resize may do. Upstream: ValidatePodResize; validation-pod §10.

use machinery::Causes;
use machinery::object::{at, list_at, map_at, remove, str_at};
use serde_json::{Value, json};

use super::super::pod_checks::annotations;
use super::super::same;
use super::{qos, rules};

const MUTABLE: &str = "only cpu and memory resources are mutable";

/// An update through `/resize`.
pub fn update(obj: &Value, before: &Value, causes: &mut Causes) {
    let notes = map_at(before, "metadata.annotations");
    if notes.is_some_and(|n| n.contains_key(annotations::MIRROR)) {
        causes.at_root(|c| c.forbidden("static pods cannot be resized"));
        return;
    }
    if str_at(before, "spec.os.name") == "windows" {
        causes.at_root(|c| c.forbidden("windows pods cannot be resized"));
        return;
    }
    rules::full(obj, Some(before), causes);
    let (new, old) = (&obj["spec"], &before["spec"]);
    causes.at("spec", |c| {
        let class = str_at(before, "status.qosClass");
        if qos::class(new) != class && !class.is_empty() {
            c.invalid(
                &json!(class),
                "Pod QOS Class may not change as a result of resizing",
            );
        }
        let mut running = list_at(before, "status.containerStatuses")
            .iter()
            .filter(|s| at(s, "state.running").is_some());
        if running.next().is_some_and(|s| at(s, "resources").is_none()) {
            c.forbidden("Pod running on node without support for resize");
        }
        pod_level(new, old, c);
        if !same_containers(new, old, c) {
            return;
        }
        for list in ["initContainers", "containers"] {
            removed(list, new, old, c);
        }
        let known = c.as_slice().len();
        regular(new, old, c);
        init(new, old, c);
        if c.as_slice().len() == known && !same::values(&frozen(new), &frozen(old)) {
            c.forbidden(MUTABLE);
        }
    });
}

fn pod_level(new: &Value, old: &Value, c: &mut Causes) {
    let lists = |s: &Value| {
        ["requests", "limits"]
            .iter()
            .any(|w| map_at(s, &format!("resources.{w}")).is_some_and(|m| !m.is_empty()))
    };
    if !lists(new) && !lists(old) {
        return;
    }
    if at(new, "resources").is_none() {
        c.at("resources", |c| {
            c.forbidden("pod-level resources cannot be removed")
        });
        return;
    }
    for (which, word) in [("requests", "requests"), ("limits", "limits")] {
        let path = format!("resources.{which}");
        let gone = gone(new, old, &path);
        if gone {
            c.at("resources", |c| {
                c.at(which, |c| {
                    c.forbidden(format!("pod-level resource {word} cannot be removed"));
                });
            });
        }
    }
    let bare = |s: &Value| without_cpu_memory(s.get("resources").unwrap_or(&json!({})));
    if !same::values(&bare(new), &bare(old)) {
        c.forbidden("only cpu and memory resources are mutable at pod-level");
    }
}

/// Whether a name of a list is there no more.
fn gone(new: &Value, old: &Value, path: &str) -> bool {
    let now = map_at(new, path);
    map_at(old, path)
        .into_iter()
        .flatten()
        .any(|(k, _)| !now.is_some_and(|m| m.contains_key(k)))
}

/// Resources without what a resize can change.
fn without_cpu_memory(resources: &Value) -> Value {
    let mut out = resources.clone();
    for which in ["requests", "limits"] {
        if let Some(map) = out.get_mut(which).and_then(Value::as_object_mut) {
            map.remove("cpu");
            map.remove("memory");
        }
        if map_at(&out, which).is_some_and(serde_json::Map::is_empty) {
            remove(&mut out, which);
        }
    }
    out
}

/// A container without what a resize can change.
fn without_resources(container: &Value) -> Value {
    let mut out = container.clone();
    if let Some(r) = out.get_mut("resources") {
        // Upstream: claims of the new container are not compared, so naming any makes them differ.
        *r = without_cpu_memory(r);
    }
    if out.get("resources") == Some(&json!({})) {
        remove(&mut out, "resources");
    }
    out
}

/// The spec without what the other checks looked at.
fn frozen(spec: &Value) -> Value {
    let mut out = spec.clone();
    for field in ["containers", "initContainers", "resources"] {
        remove(&mut out, field);
    }
    out
}

fn same_containers(new: &Value, old: &Value, c: &mut Causes) -> bool {
    let known = c.as_slice().len();
    for (list, word) in [
        ("containers", "containers"),
        ("initContainers", "initContainers"),
    ] {
        let (now, was) = (same::names(new, list), same::names(old, list));
        if now.len() != was.len() {
            c.at(list, |c| {
                c.forbidden(format!("{word} may not be added or removed on resize"));
            });
            continue;
        }
        for (i, _) in now
            .iter()
            .zip(&was)
            .enumerate()
            .filter(|(_, (n, o))| n != o)
        {
            c.at(list, |c| {
                c.index(i, |c| {
                    c.at("name", |c| {
                        c.forbidden(format!("{word} may not be renamed or reordered on resize"));
                    });
                });
            });
        }
    }
    c.as_slice().len() == known
}

fn removed(list: &str, new: &Value, old: &Value, c: &mut Causes) {
    for (i, (n, o)) in list_at(new, list)
        .iter()
        .zip(list_at(old, list))
        .enumerate()
    {
        for which in ["requests", "limits"] {
            if gone(n, o, &format!("resources.{which}")) {
                c.at(list, |c| {
                    c.index(i, |c| {
                        c.at("resources", |c| {
                            c.at(which, |c| {
                                c.forbidden(format!("resource {which} cannot be removed"));
                            });
                        });
                    });
                });
            }
        }
    }
}

fn regular(new: &Value, old: &Value, c: &mut Causes) {
    let mut pairs = list_at(new, "containers")
        .iter()
        .zip(list_at(old, "containers"));
    let differs =
        |(n, o): (&Value, &Value)| !same::values(&without_resources(n), &without_resources(o));
    if pairs.any(differs) {
        c.forbidden(MUTABLE);
    }
}

fn init(new: &Value, old: &Value, c: &mut Causes) {
    let list = "initContainers";
    for (i, (n, o)) in list_at(new, list)
        .iter()
        .zip(list_at(old, list))
        .enumerate()
    {
        let changed = !same::values(n, o);
        let text = if !same::values(&without_resources(n), &without_resources(o)) {
            "only cpu and memory resources for init or sidecar containers are mutable"
        } else if changed && str_at(o, "restartPolicy") != "Always" && restarts(n) {
            "non-sidecar init containers with a resize policy of RestartContainer cannot be resized"
        } else {
            continue;
        };
        c.at(list, |c| c.index(i, |c| c.forbidden(text)));
    }
}

fn restarts(container: &Value) -> bool {
    let mut all = list_at(container, "resizePolicy").iter();
    all.any(|p| str_at(p, "restartPolicy") == "RestartContainer")
}
