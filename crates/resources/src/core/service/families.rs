//! IP families of a service: what is not said is decided, what cannot be is refused.
//! Upstream: pkg/registry/core/service/storage alloc.go initIPFamilyFields; validation-core §14.3.

use machinery::Causes;
use machinery::object::{at, list_at, map_at, set, str_at};
use serde_json::{Value, json};

use super::{cluster_ips, is_external_name, is_headless, kind, rules, texts};

/// `IPv4` or `IPv6`, as `ipFamilies` writes it.
pub fn family_of(ip: &str) -> &'static str {
    if ip.contains(':') { "IPv6" } else { "IPv4" }
}

fn other(family: &str) -> &'static str {
    if family == "IPv4" { "IPv6" } else { "IPv4" }
}

/// Fills in `ipFamilyPolicy` and `ipFamilies`; `cluster` holds the configured families, default first.
/// What is wrong is in the answer, under paths from the root.
pub fn init(obj: &mut Value, before: Option<&Value>, cluster: &[&str]) -> Causes {
    let mut causes = Causes::new();
    if is_external_name(obj) || before.is_some_and(|b| unchanged(obj, b)) {
        return causes;
    }
    if str_at(obj, "spec.ipFamilyPolicy").is_empty() {
        let old = before.map_or("", |b| str_at(b, "spec.ipFamilyPolicy"));
        let policy = match old {
            "" if is_headless(obj) && no_selector(obj) => "RequireDualStack",
            "" => "SingleStack",
            old => old,
        };
        let policy = json!(policy);
        set(obj, "spec.ipFamilyPolicy", policy);
    }
    causes.at("spec", |c| rules::cluster_ips(obj, before, c));
    if !causes.is_empty() {
        return causes;
    }
    if let Some(before) = before {
        release(obj, before, &mut causes);
    }
    causes.at("spec", |c| add_families(obj, cluster, c));
    if !causes.is_empty() {
        return causes;
    }
    let single = str_at(obj, "spec.ipFamilyPolicy") == "SingleStack";
    let mut families = owned(obj, "spec.ipFamilies");
    let default = cluster.first().copied().unwrap_or("IPv4");
    if is_headless(obj) && no_selector(obj) {
        if families.is_empty() {
            families.push(default.into());
        }
        if families.len() < 2 && !single {
            families.push(other(&families[0]).into());
        }
        set(obj, "spec.ipFamilies", json!(families));
        return causes;
    }
    causes.at("spec", |c| configured(obj, cluster, c));
    if !causes.is_empty() {
        return causes;
    }
    if families.is_empty() {
        families.push(default.into());
    }
    if !single && families.len() == 1 && cluster.len() > 1 {
        families.push(other(&families[0]).into());
    }
    set(obj, "spec.ipFamilies", json!(families));
    causes
}

fn owned(obj: &Value, path: &str) -> Vec<String> {
    texts(obj, path).iter().map(|t| (*t).to_string()).collect()
}

fn no_selector(obj: &Value) -> bool {
    map_at(obj, "spec.selector").is_none_or(serde_json::Map::is_empty)
}

/// A PreferDualStack service that says nothing new keeps what it has.
fn unchanged(obj: &Value, before: &Value) -> bool {
    let prefers = |o: &Value| str_at(o, "spec.ipFamilyPolicy") == "PreferDualStack";
    let same = |path: &str| list_at(obj, path) == list_at(before, path);
    let old_is_fine = prefers(before) || at(before, "spec.ipFamilyPolicy").is_none();
    prefers(obj)
        && old_is_fine
        && kind(obj) == kind(before)
        && same("spec.clusterIPs")
        && same("spec.ipFamilies")
}

/// From two families to one.
fn release(obj: &mut Value, before: &Value, causes: &mut Causes) {
    let policy = str_at(obj, "spec.ipFamilyPolicy").to_string();
    for (path, what) in [
        ("spec.clusterIPs", "cluster IP"),
        ("spec.ipFamilies", "IP family"),
    ] {
        let (new, old) = (list_at(obj, path).to_vec(), list_at(before, path));
        if policy == "SingleStack" {
            if new.len() == 2 && new == old {
                let first = json!([new[0]]);
                set(obj, path, first);
            }
        } else if !new.is_empty() && new.len() < old.len() {
            causes.at("spec", |c| {
                c.at("ipFamilyPolicy", |c| {
                    c.invalid(
                        &json!(policy),
                        format!("must be 'SingleStack' to release the secondary {what}"),
                    );
                });
            });
        }
    }
}

/// Two of something need a policy for two; families follow the addresses given.
fn add_families(obj: &mut Value, cluster: &[&str], c: &mut Causes) {
    let policy = str_at(obj, "spec.ipFamilyPolicy").to_string();
    let ips: Vec<String> = cluster_ips(obj).iter().map(|t| (*t).to_string()).collect();
    let mut families = owned(obj, "spec.ipFamilies");
    if policy == "SingleStack" {
        for (count, what) in [(ips.len(), "cluster IPs"), (families.len(), "IP families")] {
            if count == 2 {
                c.at("ipFamilyPolicy", |c| {
                    c.invalid(&json!(policy), format!(
                        "must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified"
                    ));
                });
            }
        }
    }
    let given = ips.iter().filter(|ip| *ip != "None");
    for (i, ip) in given.enumerate().skip(families.len()) {
        let family = family_of(ip);
        if cluster.contains(&family) {
            families.push(family.into());
        } else {
            c.at("clusterIPs", |c| {
                c.index(i, |c| {
                    c.invalid(
                        &json!(ips),
                        format!("{family} is not configured on this cluster"),
                    );
                });
            });
        }
    }
    if !families.is_empty() {
        set(obj, "spec.ipFamilies", json!(families));
    }
}

fn configured(obj: &Value, cluster: &[&str], c: &mut Causes) {
    let policy = str_at(obj, "spec.ipFamilyPolicy");
    if policy == "RequireDualStack" && cluster.len() < 2 {
        c.at("ipFamilyPolicy", |c| {
            c.invalid(
                &json!(policy),
                "this cluster is not configured for dual-stack services",
            );
        });
    }
    for (i, family) in texts(obj, "spec.ipFamilies").iter().enumerate() {
        if !cluster.contains(family) {
            c.at("ipFamilies", |c| {
                c.index(i, |c| {
                    c.invalid(&json!(family), "not configured on this cluster");
                });
            });
        }
    }
}
