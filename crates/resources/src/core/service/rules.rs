//! Validation of a service. Upstream: ValidateService; validation-core §14.2, in order of reports.

use std::collections::BTreeSet;

use api::names;
use machinery::Causes;
use machinery::causes::{CauseKind, go_text};
use machinery::object::{at, bool_at, i64_at, list_at, map_at, str_at};
use serde_json::{Value, json};

use super::families::family_of;
use super::{
    externally_accessible, is_external_name, is_headless, kind, needs_health_check_port, texts,
};
use crate::checks::{self, net};

/// Longest session affinity, in seconds.
const AFFINITY_SECONDS_MAX: i64 = 86_400;
const TYPES: &[&str] = &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const ONLY_BALANCERS: &str = "may only be used when `type` is 'LoadBalancer'";

/// Everything.
pub fn all(obj: &Value, before: Option<&Value>, causes: &mut Causes) {
    causes.at("metadata", |c| topology_annotations(obj, c));
    causes.at("spec", |c| {
        shape(obj, c);
        ports(obj, c);
        c.at("selector", |c| {
            machinery::meta::labels(map_at(obj, "spec.selector"), c)
        });
        affinity(obj, c);
        cluster_ips(obj, before, c);
        let known: Vec<&str> = before.map_or(Vec::new(), |b| texts(b, "spec.externalIPs"));
        for (i, ip) in texts(obj, "spec.externalIPs").iter().enumerate() {
            let problems = if known.contains(ip) {
                Vec::new()
            } else {
                net::ip(ip)
            };
            let fine = problems.is_empty();
            c.at("externalIPs", |c| {
                c.index(i, |c| {
                    checks::all(ip, problems, c);
                    if fine {
                        checks::all(ip, net::endpoint_ip(ip), c);
                    }
                });
            });
        }
        checks::one_of(&obj["spec"], "type", TYPES, c);
        port_clashes(obj, c);
        source_ranges(obj, c);
        balancer(obj, c);
        traffic(obj, c);
    });
}

fn topology_annotations(obj: &Value, c: &mut Causes) {
    let annotation = |key: &str| map_at(obj, "metadata.annotations").and_then(|a| a.get(key));
    let (mode, hints) = (
        "service.kubernetes.io/topology-mode",
        "service.kubernetes.io/topology-aware-hints",
    );
    if let (Some(new), Some(old)) = (annotation(mode), annotation(hints))
        && new != old
    {
        c.at("annotations", |c| {
            c.key(mode, |c| {
                c.invalid(
                    new,
                    format!("must match annotations[{hints}] when both are specified"),
                );
            });
        });
    }
}

/// What the type asks for and forbids.
fn shape(obj: &Value, c: &mut Causes) {
    let headless = is_headless(obj);
    if list_at(obj, "spec.ports").is_empty() && !headless && !is_external_name(obj) {
        c.at("ports", |c| c.required(""));
    }
    match kind(obj) {
        kind @ ("LoadBalancer" | "NodePort") if headless => c.at("clusterIPs", |c| {
            c.index(0, |c| {
                c.invalid(
                    &json!("None"),
                    format!("may not be set to 'None' for {kind} services"),
                );
            });
        }),
        "ExternalName" => {
            for field in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
                let given = at(&obj["spec"], field).filter(|v| **v != json!([]));
                if given.is_some() {
                    c.at(field, |c| {
                        c.forbidden("may not be set for ExternalName services");
                    });
                }
            }
            let name = str_at(obj, "spec.externalName");
            c.at("externalName", |c| {
                if name.is_empty() {
                    c.required("");
                    return;
                }
                let short = name.strip_suffix('.').unwrap_or(name);
                checks::all(name, names::dns1123_subdomain(short), c);
            });
        }
        _ => {}
    }
}

fn ports(obj: &Value, c: &mut Causes) {
    let all = list_at(obj, "spec.ports");
    let mut seen = BTreeSet::new();
    for (i, p) in all.iter().enumerate() {
        c.at("ports", |c| {
            c.index(i, |c| {
                let name = str_at(p, "name");
                if name.is_empty() {
                    if all.len() > 1 {
                        c.at("name", |c| c.required(""));
                    }
                } else {
                    c.at("name", |c| {
                        checks::all(name, names::dns1123_label(name), c);
                        if !seen.insert(name) {
                            c.duplicate(&json!(name));
                        }
                    });
                }
                c.at("port", |c| {
                    checks::port_number(i64_at(p, "port").unwrap_or(0), c);
                });
                checks::one_of(p, "protocol", &["SCTP", "TCP", "UDP"], c);
                if let Some(target) = at(p, "targetPort") {
                    c.at("targetPort", |c| checks::port(target, c));
                }
                checks::optional(p, "appProtocol", names::qualified_name, c);
            });
        });
    }
}

fn affinity(obj: &Value, c: &mut Causes) {
    let spec = &obj["spec"];
    checks::one_of(spec, "sessionAffinity", &["ClientIP", "None"], c);
    let config = at(spec, "sessionAffinityConfig");
    match str_at(spec, "sessionAffinity") {
        "ClientIP" => c.at("sessionAffinityConfig", |c| {
            let text = "when session affinity type is ClientIP";
            let Some(config) = config else {
                c.required(text);
                return;
            };
            c.at("clientIP", |c| {
                if at(config, "clientIP").is_none() {
                    c.required(text);
                    return;
                }
                c.at("timeoutSeconds", |c| {
                    match i64_at(config, "clientIP.timeoutSeconds") {
                        None => c.required(text),
                        Some(n) if n <= 0 || n > AFFINITY_SECONDS_MAX => c.invalid(
                            &json!(n),
                            format!("must be greater than 0 and less than {AFFINITY_SECONDS_MAX}"),
                        ),
                        Some(_) => {}
                    }
                });
            });
        }),
        "None" if config.is_some() => c.at("sessionAffinityConfig", |c| {
            c.forbidden("must not be set when session affinity is None");
        }),
        _ => {}
    }
}

/// Cluster IPs, families and policy, at path `spec`; also asked before anything is allocated.
pub fn cluster_ips(obj: &Value, before: Option<&Value>, c: &mut Causes) {
    if is_external_name(obj) {
        return;
    }
    let (one, all) = (str_at(obj, "spec.clusterIP"), texts(obj, "spec.clusterIPs"));
    let list = json!(all);
    c.at("clusterIPs", |c| {
        if !one.is_empty() && all.is_empty() {
            c.required("");
        } else if !one.is_empty() && all[0] != one {
            c.invalid(&list, "first value must match `clusterIP`");
        } else if one.is_empty() && !all.is_empty() {
            c.invalid(&list, "must be empty when `clusterIP` is not specified");
        }
    });
    let families = texts(obj, "spec.ipFamilies");
    let mut seen = BTreeSet::new();
    for (i, family) in families.iter().enumerate() {
        c.at("ipFamilies", |c| {
            c.index(i, |c| {
                if !["IPv4", "IPv6"].contains(family) {
                    c.not_supported(&json!(family), &["IPv4", "IPv6"]);
                }
                if !seen.insert(family) {
                    c.duplicate(&json!(family));
                }
            });
        });
    }
    checks::optional_one_of(
        &obj["spec"],
        "ipFamilyPolicy",
        &["PreferDualStack", "RequireDualStack", "SingleStack"],
        c,
    );
    let known: Vec<&str> = before.map_or(Vec::new(), |b| texts(b, "spec.clusterIPs"));
    c.at("clusterIPs", |c| addresses(&all, &known, &families, c));
}

fn addresses(all: &[&str], known: &[&str], families: &[&str], c: &mut Causes) {
    let list = json!(all);
    let mut wrong = false;
    for (i, ip) in all.iter().enumerate() {
        if *ip == "None" {
            if all.len() > 1 {
                c.invalid(&list, "'None' must be the first and only value");
            }
            continue;
        }
        let problems = if known.contains(ip) {
            Vec::new()
        } else {
            net::ip(ip)
        };
        wrong |= !problems.is_empty();
        c.index(i, |c| checks::all(ip, problems, c));
    }
    if all.len() > 2 {
        c.invalid(&list, "may only hold up to 2 values");
    }
    if wrong || all.contains(&"None") {
        return;
    }
    if all.len() > 1 && !net::one_per_family(&all[..2]) {
        c.invalid(&list, "may specify no more than one IP for each IP family");
    }
    for (i, (ip, family)) in all.iter().zip(families).enumerate() {
        if family_of(ip) != *family {
            c.index(i, |c| {
                c.invalid(
                    &json!(ip),
                    format!("expected an {family} value as indicated by `ipFamilies[{i}]`"),
                );
            });
        }
    }
}

/// Node ports where there can be none, and numbers given twice.
fn port_clashes(obj: &Value, c: &mut Causes) {
    let all = list_at(obj, "spec.ports");
    let at_port = |i: usize, c: &mut Causes, f: &dyn Fn(&mut Causes)| {
        c.at("ports", |c| c.index(i, f));
    };
    let node_port = |p: &Value| i64_at(p, "nodePort").unwrap_or(0);
    if kind(obj) == "ClusterIP" {
        for (i, _) in all.iter().enumerate().filter(|(_, p)| node_port(p) != 0) {
            at_port(i, c, &|c| {
                c.at("nodePort", |c| {
                    c.forbidden("may not be used when `type` is 'ClusterIP'");
                });
            });
        }
    }
    let (mut seen_nodes, mut seen) = (BTreeSet::new(), BTreeSet::new());
    for (i, p) in all.iter().enumerate() {
        let n = node_port(p);
        if n != 0 && !seen_nodes.insert((str_at(p, "protocol"), n)) {
            at_port(i, c, &|c| c.at("nodePort", |c| c.duplicate(&json!(n))));
        }
    }
    for (i, p) in all.iter().enumerate() {
        let port = i64_at(p, "port").unwrap_or(0);
        if !seen.insert((str_at(p, "protocol"), port)) {
            let shown = internal_port(p);
            at_port(i, c, &|c| c.shown(CauseKind::Duplicate, &shown, ""));
        }
    }
}

/// A port as upstream prints its internal form.
fn internal_port(p: &Value) -> String {
    let text = |field: &str| go_text(&json!(str_at(p, field)));
    let protocol = at(p, "appProtocol").map_or("null".into(), go_text);
    // Upstream: the target port is compared and printed without its value.
    format!(
        "{{\"Name\":\"\",\"Protocol\":{},\"AppProtocol\":{protocol},\"Port\":{},\"TargetPort\":0,\"NodePort\":0}}",
        text("protocol"),
        i64_at(p, "port").unwrap_or(0)
    )
}

fn source_ranges(obj: &Value, c: &mut Causes) {
    let ranges = texts(obj, "spec.loadBalancerSourceRanges");
    if ranges.is_empty() {
        return;
    }
    c.at("LoadBalancerSourceRanges", |c| {
        if kind(obj) != "LoadBalancer" {
            c.forbidden(ONLY_BALANCERS);
        }
        for (i, text) in ranges.iter().enumerate() {
            c.index(i, |c| checks::all(text, net::cidr(text.trim()), c));
        }
    });
}

/// Fields of load balancers.
fn balancer(obj: &Value, c: &mut Causes) {
    let spec = &obj["spec"];
    let is = kind(obj) == "LoadBalancer";
    let allocate = bool_at(spec, "allocateLoadBalancerNodePorts");
    if is && allocate.is_none() {
        c.at("allocateLoadBalancerNodePorts", |c| c.required(""));
    } else if !is && allocate.is_some() {
        c.at("allocateLoadBalancerNodePorts", |c| {
            c.forbidden(ONLY_BALANCERS);
        });
    }
    if let Some(class) = at(spec, "loadBalancerClass") {
        let text = class.as_str().unwrap_or_default();
        c.at("loadBalancerClass", |c| {
            if is {
                checks::all(text, names::qualified_name(text), c);
            } else {
                c.forbidden(ONLY_BALANCERS);
            }
        });
    }
}

fn traffic(obj: &Value, c: &mut Causes) {
    let spec = &obj["spec"];
    let external = str_at(spec, "externalTrafficPolicy");
    if externally_accessible(obj) {
        checks::one_of(spec, "externalTrafficPolicy", &["Cluster", "Local"], c);
    } else if !external.is_empty() {
        c.at("externalTrafficPolicy", |c| {
            c.invalid(
                &json!(external),
                "may only be set for externally-accessible services",
            );
        });
    }
    let health = i64_at(spec, "healthCheckNodePort").unwrap_or(0);
    c.at("healthCheckNodePort", |c| {
        match (needs_health_check_port(obj), health) {
            (true, 0) => c.required(""),
            (true, n) => checks::port_number(n, c),
            (false, 0) => {}
            (false, n) => c.invalid(
                &json!(n),
                "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'",
            ),
        }
    });
    if !is_external_name(obj) {
        checks::one_of(spec, "internalTrafficPolicy", &["Cluster", "Local"], c);
    }
    let all = &["PreferClose", "PreferSameZone", "PreferSameNode"];
    checks::optional_one_of(spec, "trafficDistribution", all, c);
}

/// The status of a load balancer.
pub fn status(obj: &Value, before: &Value, causes: &mut Causes) {
    let ingress = list_at(obj, "status.loadBalancer.ingress");
    causes.at("status", |c| {
        c.at("loadBalancer", |c| {
            c.at("ingress", |c| {
                if kind(obj) != "LoadBalancer" && !ingress.is_empty() {
                    c.forbidden("may only be used when `spec.type` is 'LoadBalancer'");
                    return;
                }
                let known: Vec<&str> = list_at(before, "status.loadBalancer.ingress")
                    .iter()
                    .map(|i| str_at(i, "ip"))
                    .collect();
                for (i, one) in ingress.iter().enumerate() {
                    c.index(i, |c| ingress_rules(one, &known, c));
                }
            });
        });
    });
}

fn ingress_rules(one: &Value, known: &[&str], c: &mut Causes) {
    let (ip, host) = (str_at(one, "ip"), str_at(one, "hostname"));
    if !ip.is_empty() && !known.contains(&ip) {
        c.at("ip", |c| checks::all(ip, net::ip(ip), c));
    }
    match (ip.is_empty(), at(one, "ipMode")) {
        (false, None) => c.at("ipMode", |c| {
            c.required("must be specified when `ip` is set");
        }),
        (true, Some(_)) => c.at("ipMode", |c| {
            c.forbidden("may not be specified when `ip` is not set");
        }),
        (false, Some(_)) => checks::optional_one_of(one, "ipMode", &["Proxy", "VIP"], c),
        (true, None) => {}
    }
    if !host.is_empty() {
        c.at("hostname", |c| {
            checks::all(host, names::dns1123_subdomain(host), c);
            if host.parse::<std::net::IpAddr>().is_ok() {
                c.invalid(&json!(host), "must be a DNS name, not an IP address");
            }
        });
    }
}
