//! Whether a node takes a pod that was bound to it. Upstream: pkg/kubelet/lifecycle/predicate.go.

use std::collections::BTreeMap;

use api::core::v1::{Node, NodeSelectorRequirement, NodeSelectorTerm, Pod, Taint, Toleration};
use api::quantity::Quantity;

use crate::pod;
use crate::resources::{self, Amounts, Side};

/// A refusal: reason and message of the event; the status prefixes the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    pub reason: String,
    pub message: String,
}

fn reject(reason: &str, message: impl Into<String>) -> Result<(), Rejection> {
    Err(Rejection {
        reason: reason.into(),
        message: message.into(),
    })
}

/// What is known of the node.
pub struct NodeView<'a> {
    pub node: Option<&'a Node>,
    pub name: &'a str,
    pub allocatable: &'a Amounts,
    /// Active conditions of pressure.
    pub pressure: &'a [&'static str],
}

/// Sysctls that any pod may set.
const SAFE_SYSCTLS: &[&str] = &[
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];

/// Admits a pod beside those that are active already. The first failure wins.
pub fn admit(p: &Pod, view: &NodeView<'_>, others: &[&Pod]) -> Result<(), Rejection> {
    pressure(p, view)?;
    sysctls(p)?;
    operating_system(p)?;
    fits(p, view, others)?;
    let Some(node) = view.node else {
        return Ok(());
    };
    if !matches_node(p, node) {
        return reject(
            "NodeAffinity",
            "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector",
        );
    }
    let bound = pod::spec(p).node_name.as_deref().unwrap_or_default();
    if !bound.is_empty() && bound != view.name {
        return reject(
            "NodeName",
            "Predicate NodeName failed: node(s) didn't match the requested node name",
        );
    }
    host_ports(p, others)?;
    taints(p, node)
}

fn pressure(p: &Pod, view: &NodeView<'_>) -> Result<(), Rejection> {
    if view.pressure.is_empty() || pod::is_critical(p) {
        return Ok(());
    }
    if view.pressure == ["MemoryPressure"] {
        let tolerated = tolerates(
            p,
            &Taint {
                key: "node.kubernetes.io/memory-pressure".into(),
                effect: "NoSchedule".into(),
                ..Taint::default()
            },
        );
        if tolerated || resources::qos(p) != resources::Qos::BestEffort {
            return Ok(());
        }
    }
    let list = view.pressure.join(" ");
    reject("Evicted", format!("The node had condition: [{list}]. "))
}

fn sysctls(p: &Pod) -> Result<(), Rejection> {
    let spec = pod::spec(p);
    let list = spec
        .security_context
        .as_ref()
        .and_then(|s| s.sysctls.as_ref());
    for s in list.into_iter().flatten() {
        let name = s.name.replace('/', ".");
        if !SAFE_SYSCTLS.contains(&name.as_str()) {
            return reject(
                "SysctlForbidden",
                format!("forbidden sysctl: {:?} not allowlisted", s.name),
            );
        }
        if name.starts_with("net.") && spec.host_network == Some(true) {
            let text = format!(
                "forbidden sysctl: {:?} not allowed with host Net enabled",
                s.name
            );
            return reject("SysctlForbidden", text);
        }
        if name.starts_with("kernel.") && spec.host_ipc == Some(true) {
            let text = format!(
                "forbidden sysctl: {:?} not allowed with host IPC enabled",
                s.name
            );
            return reject("SysctlForbidden", text);
        }
    }
    Ok(())
}

fn operating_system(p: &Pod) -> Result<(), Rejection> {
    let label = p
        .metadata
        .labels
        .as_ref()
        .and_then(|l| l.get("kubernetes.io/os"));
    if label.is_some_and(|os| os != "linux") {
        return reject(
            "PodOSSelectorNodeLabelDoesNotMatch",
            "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label",
        );
    }
    if pod::spec(p)
        .os
        .as_ref()
        .is_some_and(|os| os.name != "linux")
    {
        return reject(
            "PodOSNotSupported",
            "Failed to admit pod as the OS field doesn't match node OS",
        );
    }
    Ok(())
}

/// An amount as upstream prints it: thousandths for cpu.
fn count(name: &str, q: &Quantity) -> i64 {
    if name == "cpu" {
        q.milli_value()
    } else {
        q.value()
    }
}

fn fits(p: &Pod, view: &NodeView<'_>, others: &[&Pod]) -> Result<(), Rejection> {
    let short = |name: &str, requested: i64, used: i64, capacity: i64| {
        reject(
            &format!("OutOf{name}"),
            format!(
                "Node didn't have enough resource: {name}, requested: {requested}, used: {used}, capacity: {capacity}"
            ),
        )
    };
    let capacity = |name: &str| view.allocatable.get(name).map(|q| count(name, q));
    if let Some(most) = capacity("pods") {
        let used = i64::try_from(others.len()).unwrap_or(i64::MAX);
        if used + 1 > most {
            return short("pods", 1, used, most);
        }
    }
    let mut used = Amounts::new();
    for other in others {
        resources::add(&mut used, &resources::pod_amounts(other, Side::Requests));
    }
    let wanted = resources::pod_amounts(p, Side::Requests);
    let order = ["cpu", "memory", "ephemeral-storage"];
    let rest = wanted
        .keys()
        .map(String::as_str)
        .filter(|n| !order.contains(n));
    for name in order.into_iter().chain(rest) {
        let (Some(q), Some(most)) = (wanted.get(name), capacity(name)) else {
            continue;
        };
        let requested = count(name, q);
        let taken = used.get(name).map_or(0, |q| count(name, q));
        if requested > 0 && requested + taken > most {
            return short(name, requested, taken, most);
        }
    }
    Ok(())
}

fn matches_node(p: &Pod, node: &Node) -> bool {
    let spec = pod::spec(p);
    let labels = node.metadata.labels.clone().unwrap_or_default();
    let selected = spec.node_selector.iter().flatten();
    if !selected.into_iter().all(|(k, v)| labels.get(k) == Some(v)) {
        return false;
    }
    let affinity = spec
        .affinity
        .as_ref()
        .and_then(|a| a.node_affinity.as_ref());
    let required = affinity.and_then(|a| {
        a.required_during_scheduling_ignored_during_execution
            .as_ref()
    });
    required.is_none_or(|r| matches_terms(node, &r.node_selector_terms))
}

/// Whether one of the terms holds for a node.
pub fn matches_terms(node: &Node, terms: &[NodeSelectorTerm]) -> bool {
    let empty = BTreeMap::new();
    let labels = node.metadata.labels.as_ref().unwrap_or(&empty);
    let name = node.metadata.name.as_deref().unwrap_or_default();
    terms.iter().any(|t| {
        let expressions = t.match_expressions.as_deref().unwrap_or_default();
        let fields = t.match_fields.as_deref().unwrap_or_default();
        if expressions.is_empty() && fields.is_empty() {
            return false;
        }
        let by_label =
            |r: &NodeSelectorRequirement| holds(r, labels.get(&r.key).map(String::as_str));
        let by_field =
            |r: &NodeSelectorRequirement| holds(r, (r.key == "metadata.name").then_some(name));
        expressions.iter().all(by_label) && fields.iter().all(by_field)
    })
}

fn holds(r: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = r.values.as_deref().unwrap_or_default();
    let listed = value.is_some_and(|v| values.iter().any(|x| x == v));
    let number = |t: &str| t.parse::<i64>().ok();
    let bound = values.first().and_then(|v| number(v));
    match r.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => value.and_then(number) > bound && bound.is_some(),
        "Lt" => value
            .and_then(number)
            .is_some_and(|v| bound.is_some_and(|b| v < b)),
        _ => false,
    }
}

fn ports(p: &Pod) -> impl Iterator<Item = (String, i32, String)> + '_ {
    let all = pod::containers(p).iter().chain(
        pod::init_containers(p)
            .iter()
            .filter(|c| pod::is_sidecar(c)),
    );
    all.flat_map(|c| c.ports.iter().flatten())
        .filter_map(|port| {
            let host = port.host_port.filter(|h| *h > 0)?;
            let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".into());
            Some((protocol, host, port.host_ip.clone().unwrap_or_default()))
        })
}

fn host_ports(p: &Pod, others: &[&Pod]) -> Result<(), Rejection> {
    let any = |ip: &str| ip.is_empty() || ip == "0.0.0.0" || ip == "::";
    for (protocol, port, ip) in ports(p) {
        let taken = others
            .iter()
            .flat_map(|o| ports(o))
            .any(|(pr, po, i)| pr == protocol && po == port && (i == ip || any(&i) || any(&ip)));
        if taken {
            return reject(
                "NodePorts",
                "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports",
            );
        }
    }
    Ok(())
}

fn taints(p: &Pod, node: &Node) -> Result<(), Rejection> {
    let list = node.spec.as_ref().and_then(|s| s.taints.as_ref());
    let mut hard = list
        .into_iter()
        .flatten()
        .filter(|t| t.effect == "NoExecute");
    if hard.any(|t| !tolerates(p, t)) {
        return reject(
            "TaintToleration",
            "Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate",
        );
    }
    Ok(())
}

fn tolerates(p: &Pod, taint: &Taint) -> bool {
    let list = pod::spec(p).tolerations.iter().flatten();
    list.into_iter().any(|t: &Toleration| {
        let effect = t.effect.as_deref().unwrap_or_default();
        let key = t.key.as_deref().unwrap_or_default();
        let fits_effect = effect.is_empty() || effect == taint.effect;
        let exists = t.operator.as_deref() == Some("Exists");
        let fits_key = (key.is_empty() && exists) || key == taint.key;
        let value = |v: &Option<String>| v.clone().unwrap_or_default();
        fits_effect && fits_key && (exists || value(&t.value) == value(&taint.value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod_of(spec: Value) -> Pod {
        serde_json::from_value(json!({"metadata":{"name":"p"},"spec":spec})).unwrap()
    }

    fn check(spec: Value, others: &[&Pod]) -> Result<(), (String, String)> {
        let node: Node =
            serde_json::from_value(json!({"metadata":{"name":"n","labels":{"disk":"ssd"}},
            "spec":{"taints":[{"key":"k","effect":"NoExecute"}]}}))
            .unwrap();
        let amount = |t: &str| Quantity::parse(t).unwrap();
        let allocatable = Amounts::from([
            ("cpu".into(), amount("1")),
            ("memory".into(), amount("1Gi")),
            ("pods".into(), amount("3")),
        ]);
        let view = NodeView {
            node: Some(&node),
            name: "n",
            allocatable: &allocatable,
            pressure: &[],
        };
        admit(&pod_of(spec), &view, others).map_err(|r| (r.reason, r.message))
    }

    fn spec(more: Value) -> Value {
        let mut spec = json!({"tolerations":[{"operator":"Exists"}],
            "containers":[{"name":"c","resources":{"requests":{"cpu":"600m"}},"ports":[{"containerPort":80,"hostPort":80}]}]});
        for (k, v) in more.as_object().unwrap() {
            spec[k] = v.clone();
        }
        spec
    }

    #[test]
    fn reasons_and_messages() {
        assert!(check(spec(json!({"nodeSelector":{"disk":"ssd"}})), &[]).is_ok());
        let other = pod_of(spec(json!({})));
        assert_eq!(
            check(spec(json!({})), &[&other]).unwrap_err(),
            (
                "OutOfcpu".into(),
                "Node didn't have enough resource: cpu, requested: 600, used: 600, capacity: 1000"
                    .into()
            )
        );
        let small =
            json!({"containers":[{"name":"c","ports":[{"containerPort":1,"hostPort":80}]}]});
        let reason = |more: Value, others: &[&Pod]| check(spec(more), others).unwrap_err().0;
        assert_eq!(reason(small, &[&other]), "NodePorts");
        assert_eq!(
            reason(json!({"nodeSelector":{"disk":"hdd"}}), &[]),
            "NodeAffinity"
        );
        assert_eq!(reason(json!({"nodeName":"m"}), &[]), "NodeName");
        assert_eq!(reason(json!({"tolerations":[]}), &[]), "TaintToleration");
        assert_eq!(
            reason(json!({"os":{"name":"windows"}}), &[]),
            "PodOSNotSupported"
        );
        let three = json!({"containers":[]});
        let idle = pod_of(three.clone());
        assert_eq!(reason(three, &[&idle, &idle, &idle]), "OutOfpods");
        let unsafe_sysctl =
            json!({"securityContext":{"sysctls":[{"name":"kernel.msgmax","value":"1"}]}});
        assert_eq!(
            check(spec(unsafe_sysctl), &[]).unwrap_err().1,
            "forbidden sysctl: \"kernel.msgmax\" not allowlisted"
        );
    }
}
