//! What objects count for in a quota, and which objects a quota's scopes choose.
//! Upstream: pkg/quota/v1/evaluator/core, k8s.io/apiserver/pkg/quota/v1/generic.

use std::collections::{BTreeMap, BTreeSet};

use api::quantity::{Format, Quantity};
use machinery::object::{at, bool_at, i64_at, list_at, str_at};
use machinery::request::{Attempt, Operation};
use serde_json::Value;

use crate::pod_requests::{Amounts, amount, of_container, with_overhead};

/// Kinds that no quota counts.
const IGNORED: &[&str] = &[
    "bindings",
    "componentstatuses",
    "events",
    "tokenreviews",
    "selfsubjectreviews",
    "subjectaccessreviews",
    "selfsubjectaccessreviews",
    "localsubjectaccessreviews",
    "selfsubjectrulesreviews",
];

/// Core kinds counted under their bare name too.
const LEGACY: &[&str] = &[
    "configmaps",
    "resourcequotas",
    "replicationcontrollers",
    "secrets",
];

/// Resources of pods that must be given on every container when a quota tracks them.
const COMPUTE: &[&str] = &[
    "cpu",
    "memory",
    "requests.cpu",
    "requests.memory",
    "limits.cpu",
    "limits.memory",
];

fn core<'a>(a: &'a Attempt<'_>) -> &'a str {
    if a.descriptor.group.is_empty() {
        &a.descriptor.resource
    } else {
        ""
    }
}

/// Whether this write may change what a quota counts.
pub fn concerns(a: &Attempt<'_>) -> bool {
    let d = a.descriptor;
    if a.namespace.is_empty() || !d.namespaced() || IGNORED.contains(&&*d.resource) {
        return false;
    }
    let create = a.operation == Operation::Create;
    match (core(a), a.subresource) {
        ("pods", "") => create || terminating_changes(a),
        ("pods", "resize") => !create,
        ("services" | "persistentvolumeclaims", "") => true,
        (_, "") => create,
        _ => false,
    }
}

fn terminating_changes(a: &Attempt<'_>) -> bool {
    let (Some(after), Some(before)) = (&a.object, a.before) else {
        return false;
    };
    is_terminating(after) != is_terminating(before)
}

fn is_terminating(pod: &Value) -> bool {
    i64_at(pod, "spec.activeDeadlineSeconds").is_some_and(|s| s >= 0)
}

fn count_name(a: &Attempt<'_>) -> String {
    let d = a.descriptor;
    if d.group.is_empty() {
        format!("count/{}", d.resource)
    } else {
        format!("count/{}.{}", d.resource, d.group)
    }
}

/// Whether objects of this kind count towards the named resource.
pub fn tracks(a: &Attempt<'_>, resource: &str) -> bool {
    if resource == count_name(a) {
        return true;
    }
    match core(a) {
        "pods" => {
            let compute = ["pods", "cpu", "memory", "ephemeral-storage"];
            let prefixed = resource
                .strip_prefix("requests.")
                .filter(|r| *r != "storage");
            let limits = ["limits.cpu", "limits.memory", "limits.ephemeral-storage"];
            compute.contains(&resource)
                || limits.contains(&resource)
                || resource.starts_with("hugepages-")
                || prefixed.is_some()
        }
        "services" => {
            ["services", "services.nodeports", "services.loadbalancers"].contains(&resource)
        }
        "persistentvolumeclaims" => {
            resource == "persistentvolumeclaims"
                || resource == "requests.storage"
                || resource.contains(".storageclass.storage.k8s.io/")
        }
        other => LEGACY.contains(&other) && resource == other,
    }
}

fn one(n: usize) -> Quantity {
    Quantity::new(i64::try_from(n).unwrap_or(i64::MAX), Format::DecimalSi)
}

/// What an object counts for.
pub fn of(a: &Attempt<'_>, object: &Value) -> Amounts {
    let mut out = Amounts::from([(count_name(a), one(1))]);
    match core(a) {
        "pods" => pod(object, &mut out),
        "services" => service(object, &mut out),
        "persistentvolumeclaims" => claim(object, &mut out),
        other if LEGACY.contains(&other) => {
            out.insert(other.to_string(), one(1));
        }
        _ => {}
    }
    out
}

fn pod(pod: &Value, out: &mut Amounts) {
    if ["Succeeded", "Failed"].contains(&str_at(pod, "status.phase")) {
        return;
    }
    out.insert("pods".into(), one(1));
    for (r, q) in with_overhead(pod, "requests") {
        let core = ["cpu", "memory", "ephemeral-storage"].contains(&r.as_str());
        if core || r.starts_with("hugepages-") {
            out.insert(r.clone(), q);
        }
        out.insert(format!("requests.{r}"), q);
    }
    for (r, q) in with_overhead(pod, "limits") {
        if ["cpu", "memory", "ephemeral-storage"].contains(&r.as_str()) {
            out.insert(format!("limits.{r}"), q);
        }
    }
}

fn service(service: &Value, out: &mut Amounts) {
    let ports = list_at(service, "spec.ports");
    let (mut node_ports, mut balancers) = (0, 0);
    match str_at(service, "spec.type") {
        "NodePort" => node_ports = ports.len(),
        "LoadBalancer" => {
            balancers = 1;
            let allocates = bool_at(service, "spec.allocateLoadBalancerNodePorts") != Some(false);
            let counted = |p: &&Value| allocates || i64_at(p, "nodePort").unwrap_or(0) != 0;
            node_ports = ports.iter().filter(counted).count();
        }
        _ => {}
    }
    out.insert("services".into(), one(1));
    out.insert("services.nodeports".into(), one(node_ports));
    out.insert("services.loadbalancers".into(), one(balancers));
}

fn claim(claim: &Value, out: &mut Amounts) {
    let class = claim["metadata"]["annotations"]["volume.beta.kubernetes.io/storage-class"]
        .as_str()
        .unwrap_or_else(|| str_at(claim, "spec.storageClassName"))
        .to_string();
    let size = |path: &str| at(claim, path).and_then(amount);
    let asked = size("spec.resources.requests.storage");
    let storage = asked.max(size("status.allocatedResources.storage"));
    let of_class = |r: &str| format!("{class}.storageclass.storage.k8s.io/{r}");
    out.insert("persistentvolumeclaims".into(), one(1));
    if !class.is_empty() {
        out.insert(of_class("persistentvolumeclaims"), one(1));
    }
    if let Some(q) = storage {
        out.insert("requests.storage".into(), q);
        if !class.is_empty() {
            out.insert(of_class("requests.storage"), q);
        }
    }
}

/// `cpu for: a,b; memory for: a`: containers that leave out what the quota needs; `None` if none does.
pub fn missing_constraints(a: &Attempt<'_>, object: &Value, tracked: &[&String]) -> Option<String> {
    let resources = |which: &str| {
        at(object, "spec.resources")
            .and_then(|r| r.get(which))
            .is_some()
    };
    if core(a) != "pods" || resources("requests") || resources("limits") {
        return None;
    }
    let mut lacking: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for path in ["spec.containers", "spec.initContainers"] {
        for c in list_at(object, path) {
            let (requests, limits) = (of_container(c, "requests"), of_container(c, "limits"));
            for r in tracked.iter().filter(|r| COMPUTE.contains(&r.as_str())) {
                let present = match r.split_once('.') {
                    Some(("limits", r)) => limits.contains_key(r),
                    Some((_, r)) => requests.contains_key(r),
                    None => requests.contains_key(r.as_str()),
                };
                if !present {
                    lacking
                        .entry(r)
                        .or_default()
                        .insert(str_at(c, "name").to_string());
                }
            }
        }
    }
    if lacking.is_empty() {
        return None;
    }
    let texts: Vec<String> = lacking
        .into_iter()
        .map(|(r, names)| {
            let names: Vec<String> = names.into_iter().collect();
            format!("{r} for: {}", names.join(","))
        })
        .collect();
    Some(texts.join("; "))
}

/// Whether all scopes of the quota choose the object.
pub fn scopes_match(quota: &Value, a: &Attempt<'_>, object: &Value) -> bool {
    let plain = list_at(quota, "spec.scopes")
        .iter()
        .filter_map(Value::as_str)
        .all(|s| scope_matches(s, "Exists", &[], a, object));
    plain
        && list_at(quota, "spec.scopeSelector.matchExpressions")
            .iter()
            .all(|e| {
                let (scope, operator) = (str_at(e, "scopeName"), str_at(e, "operator"));
                scope_matches(scope, operator, list_at(e, "values"), a, object)
            })
}

fn scope_matches(
    scope: &str,
    operator: &str,
    values: &[Value],
    a: &Attempt<'_>,
    object: &Value,
) -> bool {
    let pods = core(a) == "pods";
    match scope {
        "Terminating" => pods && is_terminating(object),
        "NotTerminating" => pods && !is_terminating(object),
        "BestEffort" => pods && is_best_effort(object),
        "NotBestEffort" => pods && !is_best_effort(object),
        "PriorityClass" => {
            let class = str_at(object, "spec.priorityClassName");
            pods && selects(operator, values, &[class])
        }
        "CrossNamespacePodAffinity" => pods && crosses_namespaces(object),
        "VolumeAttributesClass" => {
            let classes = [
                str_at(object, "spec.volumeAttributesClassName"),
                str_at(object, "status.currentVolumeAttributesClassName"),
                str_at(
                    object,
                    "status.modifyVolumeStatus.targetVolumeAttributesClassName",
                ),
            ];
            core(a) == "persistentvolumeclaims" && selects(operator, values, &classes)
        }
        _ => false,
    }
}

fn selects(operator: &str, values: &[Value], have: &[&str]) -> bool {
    let set: Vec<&str> = have.iter().copied().filter(|h| !h.is_empty()).collect();
    let listed = values
        .iter()
        .any(|v| v.as_str().is_some_and(|v| set.contains(&v)));
    match operator {
        "Exists" => !set.is_empty(),
        "DoesNotExist" => set.is_empty(),
        "In" => listed,
        "NotIn" => !listed,
        _ => false,
    }
}

fn is_best_effort(pod: &Value) -> bool {
    let asks = |c: &Value| {
        ["requests", "limits"].iter().any(|w| {
            let amounts = of_container(c, w);
            ["cpu", "memory"]
                .iter()
                .any(|r| amounts.get(*r).is_some_and(|q| !q.is_zero()))
        })
    };
    let whole = asks(&pod["spec"]);
    let lists = ["spec.containers", "spec.initContainers"];
    !whole && !lists.iter().any(|p| list_at(pod, p).iter().any(asks))
}

fn crosses_namespaces(pod: &Value) -> bool {
    let crosses = |term: &Value| {
        !list_at(term, "namespaces").is_empty() || at(term, "namespaceSelector").is_some()
    };
    ["spec.affinity.podAffinity", "spec.affinity.podAntiAffinity"]
        .iter()
        .any(|path| {
            let Some(affinity) = at(pod, path) else {
                return false;
            };
            let required = list_at(affinity, "requiredDuringSchedulingIgnoredDuringExecution");
            let preferred = list_at(affinity, "preferredDuringSchedulingIgnoredDuringExecution");
            required.iter().any(crosses)
                || preferred
                    .iter()
                    .any(|p| at(p, "podAffinityTerm").is_some_and(crosses))
        })
}
