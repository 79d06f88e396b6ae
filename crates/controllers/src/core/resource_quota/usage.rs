//! What objects count for in a quota, and which objects a quota's scopes choose.
//! Upstream: pkg/quota/v1/evaluator/core, k8s.io/apiserver/pkg/quota/v1/generic. Admission has the same
//! rules for single writes; parts do not import each other.

use std::collections::BTreeMap;

use api::quantity::{Format, Quantity};
use machinery::Descriptor;
use machinery::object::{at, bool_at, i64_at, list_at, map_at, str_at};
use serde_json::Value;

/// Core kinds counted under their bare name too.
const LEGACY: &[&str] = &[
    "configmaps",
    "resourcequotas",
    "replicationcontrollers",
    "secrets",
];

/// The resource's name, if it is of the core group.
fn core(d: &Descriptor) -> &str {
    if d.group.is_empty() { &d.resource } else { "" }
}

fn is_terminating(pod: &Value) -> bool {
    i64_at(pod, "spec.activeDeadlineSeconds").is_some_and(|s| s >= 0)
}

fn count_name(d: &Descriptor) -> String {
    if d.group.is_empty() {
        format!("count/{}", d.resource)
    } else {
        format!("count/{}.{}", d.resource, d.group)
    }
}

/// Whether objects of this kind count towards the named resource.
pub fn tracks(d: &Descriptor, resource: &str) -> bool {
    if resource == count_name(d) {
        return true;
    }
    match core(d) {
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
pub fn of(d: &Descriptor, object: &Value) -> Amounts {
    let mut out = Amounts::from([(count_name(d), one(1))]);
    match core(d) {
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

/// Whether all scopes of the quota choose the object.
pub fn scopes_match(quota: &Value, d: &Descriptor, object: &Value) -> bool {
    let plain = list_at(quota, "spec.scopes")
        .iter()
        .filter_map(Value::as_str)
        .all(|s| scope_matches(s, "Exists", &[], d, object));
    plain
        && list_at(quota, "spec.scopeSelector.matchExpressions")
            .iter()
            .all(|e| {
                let (scope, operator) = (str_at(e, "scopeName"), str_at(e, "operator"));
                scope_matches(scope, operator, list_at(e, "values"), d, object)
            })
}

fn scope_matches(
    scope: &str,
    operator: &str,
    values: &[Value],
    d: &Descriptor,
    object: &Value,
) -> bool {
    let pods = core(d) == "pods";
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
            core(d) == "persistentvolumeclaims" && selects(operator, values, &classes)
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

// === Requests of pods ===

/// Amounts by resource name.
pub type Amounts = BTreeMap<String, Quantity>;

/// Reads a resource list; what does not parse is left out (validation refuses it).
pub fn list(value: Option<&Value>) -> Amounts {
    let Some(map) = value.and_then(Value::as_object) else {
        return Amounts::new();
    };
    map.iter()
        .filter_map(|(k, v)| Some((k.clone(), amount(v)?)))
        .collect()
}

/// A quantity, written as text or as a bare number.
pub fn amount(v: &Value) -> Option<Quantity> {
    match v {
        Value::String(s) => Quantity::parse(s).ok(),
        Value::Number(n) => Quantity::parse(&n.to_string()).ok(),
        _ => None,
    }
}

/// `requests` or `limits` of one container.
pub fn of_container(container: &Value, which: &str) -> Amounts {
    list(at(container, "resources").and_then(|r| r.get(which)))
}

/// `requests` or `limits` of a pod: containers and sidecars together, or the hungriest moment of
/// initialisation; pod-level cpu, memory and huge pages win. Without overhead.
pub fn of_pod(pod: &Value, which: &str) -> Amounts {
    let mut sum = Amounts::new();
    for c in list_at(pod, "spec.containers") {
        add(&mut sum, &of_container(c, which));
    }
    let (mut sidecars, mut peak) = (Amounts::new(), Amounts::new());
    for c in list_at(pod, "spec.initContainers") {
        let own = of_container(c, which);
        if str_at(c, "restartPolicy") == "Always" {
            add(&mut sum, &own);
            add(&mut sidecars, &own);
            raise(&mut peak, &sidecars);
        } else {
            let mut now = sidecars.clone();
            add(&mut now, &own);
            raise(&mut peak, &now);
        }
    }
    raise(&mut sum, &peak);
    for (name, q) in list(at(pod, "spec.resources").and_then(|r| r.get(which))) {
        if name == "cpu" || name == "memory" || name.starts_with("hugepages-") {
            sum.insert(name, q);
        }
    }
    sum
}

/// `of_pod` with the overhead that scheduling and quota count.
pub fn with_overhead(pod: &Value, which: &str) -> Amounts {
    let mut sum = of_pod(pod, which);
    let Some(overhead) = map_at(pod, "spec.overhead") else {
        return sum;
    };
    for (name, q) in list(Some(&Value::Object(overhead.clone()))) {
        // Upstream: overhead is added to limits only where there is one.
        if which == "requests" || sum.contains_key(&name) {
            let total = sum.get(&name).map_or(q, |s| s.add(&q));
            sum.insert(name, total);
        }
    }
    sum
}

/// Adds `b` to `a`.
pub fn add(a: &mut Amounts, b: &Amounts) {
    for (name, q) in b {
        let total = a.get(name).map_or(*q, |own| own.add(q));
        a.insert(name.clone(), total);
    }
}

/// Raises each amount of `a` to that of `b`.
fn raise(a: &mut Amounts, b: &Amounts) {
    for (name, q) in b {
        if a.get(name).is_none_or(|own| own < q) {
            a.insert(name.clone(), *q);
        }
    }
}
