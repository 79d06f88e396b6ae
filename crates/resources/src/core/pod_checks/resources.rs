//! Requests, limits and resize policies. validation-pod §8.7, §8.8.

use std::collections::BTreeSet;

use api::names;
use api::quantity::Quantity;
use machinery::Causes;
use machinery::causes::{CauseKind, go_text};
use machinery::object::{list_at, map_at, str_at};
use serde_json::{Value, json};

use super::super::amounts;
use super::{Cx, Shared};
use crate::checks::{self, quantity};

const POD_LEVEL: &[&str] = &["cpu", "hugepages-", "memory"];

/// Whose resources they are.
#[derive(Clone, Copy, PartialEq)]
enum Owner {
    Container,
    Pod,
}

/// Checks a container's resources at the current path.
pub fn of_container(s: &Shared<'_>, own: &Value, c: &mut Causes) {
    requirements(own, Owner::Container, s.cx, c);
    c.at("claims", |c| claims(s, own, c));
}

/// Checks overhead, given as limits, at the current path.
pub fn overhead(limits: &Value, cx: Cx<'_>, c: &mut Causes) {
    requirements(limits, Owner::Container, cx, c);
}

/// Checks spec.resources at the current path.
pub fn pod_level(spec: &Value, own: &Value, cx: Cx<'_>, c: &mut Causes) {
    if !list_at(own, "claims").is_empty() {
        c.at("claims", |c| {
            c.forbidden("claims may not be set for Resources at pod-level");
        });
    }
    requirements(own, Owner::Pod, cx, c);
    let (requests, limits) = (amounts::list(own, "requests"), amounts::list(own, "limits"));
    for (name, sum) in amounts::aggregate(spec, "requests") {
        if let Some(q) = requests.get(&name).filter(|q| **q < sum) {
            let text =
                format!("must be greater than or equal to aggregate container requests of {sum}");
            c.at("requests", |c| {
                c.key(&name, |c| c.invalid(&json!(q.to_string()), text));
            });
        }
    }
    for (name, sum) in amounts::aggregate(spec, "limits") {
        if !quantity::is_huge_page(&name) {
            continue;
        }
        if let Some(q) = limits.get(&name).filter(|q| **q < sum) {
            let text =
                format!("must be greater than or equal to aggregate container limits of {sum}");
            c.at("limits", |c| {
                c.key(&name, |c| c.invalid(&json!(q.to_string()), text));
            });
        }
    }
    for (i, one) in list_at(spec, "containers").iter().enumerate() {
        for (name, q) in amounts::list(one, "resources.limits") {
            let Some(most) = limits.get(&name).filter(|most| q > **most) else {
                continue;
            };
            // Upstream: the path is odd.
            c.at("containers", |c| {
                c.index(i, |c| {
                    c.key(&name, |c| {
                        c.at("limits", |c| {
                            c.invalid(
                                &json!(q.to_string()),
                                format!("must be less than or equal to pod limits of {most}"),
                            );
                        });
                    });
                });
            });
        }
    }
}

fn requirements(own: &Value, owner: Owner, cx: Cx<'_>, c: &mut Causes) {
    let limits = map_at(own, "limits");
    let requests = map_at(own, "requests");
    let mut huge = false;
    let mut plain = false;
    for (name, value) in limits.into_iter().flatten() {
        c.at("limits", |c| {
            c.key(name, |c| {
                name_rule(name, owner, c);
                let Some(q) = quantity::amount(name, value, c) else {
                    return;
                };
                pages(name, q, cx, c);
            });
        });
        huge |= quantity::is_huge_page(name);
        plain |= ["cpu", "memory"].contains(&name.as_str());
    }
    for (name, value) in requests.into_iter().flatten() {
        let limit = limits.and_then(|l| l.get(name)).and_then(amounts::read);
        request(name, value, limit, (owner, cx), c);
        huge |= quantity::is_huge_page(name);
        plain |= ["cpu", "memory"].contains(&name.as_str());
    }
    if huge && !plain {
        c.forbidden("HugePages require cpu or memory");
    }
}

fn request(
    name: &str,
    value: &Value,
    limit: Option<Quantity>,
    (owner, cx): (Owner, Cx<'_>),
    c: &mut Causes,
) {
    let q = c.at("requests", |c| {
        c.key(name, |c| {
            name_rule(name, owner, c);
            quantity::amount(name, value, c)
        })
    });
    let Some(q) = q else { return };
    let fixed = !quantity::is_overcommitable(name);
    match limit {
        Some(limit) => {
            let text = if fixed && q != limit {
                format!("must be equal to {name} limit of {limit}")
            } else if !fixed && q > limit {
                format!("must be less than or equal to {name} limit of {limit}")
            } else {
                String::new()
            };
            if !text.is_empty() {
                c.at("requests", |c| c.invalid(&json!(q.to_string()), text));
            }
        }
        None if fixed => c.at("limits", |c| {
            c.required("Limit must be set for non overcommitable resources");
        }),
        None => {}
    }
    c.at("requests", |c| c.key(name, |c| pages(name, q, cx, c)));
}

fn name_rule(name: &str, owner: Owner, c: &mut Causes) {
    if owner == Owner::Container {
        quantity::container_resource_name(name, c);
        return;
    }
    quantity::resource_name(name, c);
    if !["cpu", "memory"].contains(&name) && !quantity::is_huge_page(name) {
        c.not_supported_in_order(&json!(name), POD_LEVEL);
    }
}

/// Huge pages come whole.
fn pages(name: &str, q: Quantity, cx: Cx<'_>, c: &mut Causes) {
    let Some(size) = name.strip_prefix("hugepages-") else {
        return;
    };
    let Ok(size) = Quantity::parse(size) else {
        return;
    };
    let broken = |q: Quantity| size.value() == 0 || q.value() % size.value() != 0;
    let before = || {
        cx.before
            .is_some_and(|old| had_broken_pages(old, name, &broken))
    };
    if broken(q) && !before() {
        c.invalid(
            &json!(q.to_string()),
            format!("{q} is not positive integer multiple of {name}"),
        );
    }
}

fn had_broken_pages(old: &Value, name: &str, broken: &dyn Fn(Quantity) -> bool) -> bool {
    ["containers", "initContainers"]
        .iter()
        .flat_map(|l| list_at(old, l))
        .flat_map(|one| {
            [
                amounts::list(one, "resources.limits"),
                amounts::list(one, "resources.requests"),
            ]
        })
        .any(|list| list.get(name).is_some_and(|q| broken(*q)))
}

/// Checks which of the pod's claims a container uses, at the current path.
fn claims(s: &Shared<'_>, own: &Value, c: &mut Causes) {
    let mut seen: BTreeSet<(String, String)> = BTreeSet::new();
    for (k, claim) in list_at(own, "claims").iter().enumerate() {
        let (name, request) = (str_at(claim, "name"), str_at(claim, "request"));
        c.index(k, |c| {
            if name.is_empty() {
                c.required("");
                return;
            }
            checks::optional(claim, "request", names::dns1123_label, c);
            let whole = seen.contains(&(name.to_string(), String::new()));
            let again = seen.contains(&(name.to_string(), request.to_string()));
            let parts = seen
                .iter()
                .filter(|(n, r)| n == name && !r.is_empty())
                .count();
            if whole {
                c.duplicate(&json!(name));
            } else if again {
                c.duplicate(&json!(format!("{name}/{request}")));
            } else if request.is_empty() {
                for _ in 0..parts {
                    c.duplicate(&json!(name));
                }
            }
            seen.insert((name.to_string(), request.to_string()));
            if !s.claims.contains(name) {
                let known: Vec<&str> = s.claims.iter().copied().collect();
                let detail = if known.is_empty() {
                    "must be one of the names in pod.spec.resourceClaims which is empty".into()
                } else {
                    format!(
                        "must be one of the names in pod.spec.resourceClaims: {}",
                        known.join(", ")
                    )
                };
                c.shown(CauseKind::NotFound, go_text(&json!(name)), detail);
            }
        });
    }
}

/// Checks resize policies at the current path.
pub fn resize_policy(s: &Shared<'_>, one: &Value, c: &mut Causes) {
    let never = str_at(s.spec, "restartPolicy") == "Never";
    let mut seen = BTreeSet::new();
    for (k, p) in list_at(one, "resizePolicy").iter().enumerate() {
        let (name, policy) = (str_at(p, "resourceName"), str_at(p, "restartPolicy"));
        if !seen.insert(name) {
            c.index(k, |c| c.duplicate(&json!(name)));
        }
        // Upstream reports these without an index.
        match name {
            "" => c.required(""),
            "cpu" | "memory" => {}
            _ => c.not_supported_in_order(&json!(name), &["cpu", "memory"]),
        }
        match policy {
            "" => c.required(""),
            "NotRequired" | "RestartContainer" => {}
            _ => c.not_supported_in_order(&json!(policy), &["NotRequired", "RestartContainer"]),
        }
        if never && policy != "NotRequired" {
            c.invalid(
                &json!(policy),
                "must be 'NotRequired' when pod `restartPolicy` is 'Never'",
            );
        }
    }
}

/// Init containers that end cannot be restarted by a resize.
pub fn plain_init_resize(s: &Shared<'_>, one: &Value, c: &mut Causes) {
    let restarts = |p: &Value| str_at(p, "restartPolicy") == "RestartContainer";
    let had = s.cx.before.is_some_and(|old| {
        list_at(old, "initContainers")
            .iter()
            .filter(|one| str_at(one, "restartPolicy") != "Always")
            .any(|one| list_at(one, "resizePolicy").iter().any(restarts))
    });
    for (k, p) in list_at(one, "resizePolicy").iter().enumerate() {
        if restarts(p) && !had {
            c.at("resizePolicy", |c| {
                c.index(k, |c| {
                    c.at("restartPolicy", |c| {
                        c.invalid(
                            &json!("RestartContainer"),
                            "must not be set to 'RestartContainer' for non-sidecar initContainers",
                        );
                    });
                });
            });
        }
    }
}
