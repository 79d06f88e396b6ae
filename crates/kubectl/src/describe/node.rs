//! Nodes, with what their pods ask for.

use std::collections::BTreeMap;

use api::quantity::{Format, Quantity};
use serde_json::Value;

use super::lines::{Lines, or_none, since, time};
use super::{Describer, Seen};
use crate::builder::Info;
use crate::limits;
use crate::object;
use crate::rest::Call;

pub const NODE: Describer = Describer::of("", "Node", text).with(more);

const ROLE: &str = "node-role.kubernetes.io/";

/// Amounts by the names of their resources.
type Amounts = BTreeMap<String, Quantity>;

fn more(info: &Info) -> Vec<(&'static str, Call)> {
    let fields = format!(
        "spec.nodeName={},status.phase!=Succeeded,status.phase!=Failed",
        info.name
    );
    let lease = format!(
        "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{}",
        info.name
    );
    let pods = Call::get("/api/v1/pods")
        .query("fieldSelector", fields)
        .query("limit", limits::PAGE.to_string());
    vec![("pods", pods), ("lease", Call::get(lease))]
}

fn text(seen: &Seen<'_>, w: &mut Lines) {
    let (spec, status) = (&seen.object["spec"], &seen.object["status"]);
    w.put(0, format!("Name:\t{}", object::name(seen.object)));
    w.put(0, format!("Roles:\t{}", or_none(roles(seen.object))));
    seen.marks(w);
    let created = time(&seen.object["metadata"]["creationTimestamp"]);
    w.put(0, format!("CreationTimestamp:\t{created}"));
    let mut taints: Vec<&Value> = object::items(spec, "/taints").iter().collect();
    taints.sort_by_key(|t| (object::text(t, "/effect"), object::text(t, "/key")));
    let taints: Vec<String> = taints.into_iter().map(taint).collect();
    w.column("Taints", &taints);
    w.put(
        0,
        format!("Unschedulable:\t{}", spec["unschedulable"] == true),
    );
    lease(seen, w);
    conditions(status, w);
    w.put(0, "Addresses:");
    for a in object::items(status, "/addresses") {
        let (kind, address) = (object::text(a, "/type"), object::text(a, "/address"));
        w.put(1, format!("{kind}:\t{address}"));
    }
    for (title, field) in [("Capacity:", "capacity"), ("Allocatable:", "allocatable")] {
        let all = object::pairs(&status[field]);
        if !all.is_empty() {
            w.put(0, title);
        }
        for (name, amount) in all {
            w.put(1, format!("{name}:\t{amount}"));
        }
    }
    system(&status["nodeInfo"], w);
    w.some(0, "PodCIDR", &spec["podCIDR"]);
    let ranges: Vec<String> = object::items(spec, "/podCIDRs")
        .iter()
        .map(object::plain)
        .collect();
    w.some(0, "PodCIDRs", &ranges.join(",").into());
    w.some(0, "ProviderID", &spec["providerID"]);
    match seen.read("pods") {
        Some(Ok(_)) => pods(seen.items("pods"), status, w),
        _ => w.put(0, "Pods:\tnot authorized"),
    }
}

fn roles(node: &Value) -> String {
    let mut all: Vec<String> = object::pairs(&node["metadata"]["labels"])
        .into_iter()
        .filter_map(|(k, v)| match k.strip_prefix(ROLE) {
            Some(role) => (!role.is_empty()).then(|| role.to_string()),
            None => (k == "kubernetes.io/role" && !v.is_empty()).then_some(v),
        })
        .collect();
    all.sort();
    all.dedup();
    all.join(",")
}

fn taint(t: &Value) -> String {
    let (key, value, effect) = (
        object::text(t, "/key"),
        object::text(t, "/value"),
        object::text(t, "/effect"),
    );
    match (value, effect) {
        ("", effect) => format!("{key}:{effect}"),
        (value, "") => format!("{key}={value}:"),
        (value, effect) => format!("{key}={value}:{effect}"),
    }
}

fn lease(seen: &Seen<'_>, w: &mut Lines) {
    let lease = match seen.read("lease") {
        Some(Ok(lease)) => lease,
        Some(Err(e)) => return w.put(0, format!("Lease:\tFailed to get lease: {e}")),
        None => return,
    };
    w.put(0, "Lease:");
    let spec = &lease["spec"];
    let holder = spec["holderIdentity"].as_str().unwrap_or("<unset>");
    w.put(1, format!("HolderIdentity:\t{holder}"));
    for (title, field) in [("AcquireTime", "acquireTime"), ("RenewTime", "renewTime")] {
        let at = match &spec[field] {
            Value::Null => "<unset>".into(),
            at => time(at),
        };
        w.put(1, format!("{title}:\t{at}"));
    }
}

fn conditions(status: &Value, w: &mut Lines) {
    let all = object::items(status, "/conditions");
    if all.is_empty() {
        return;
    }
    w.put(0, "Conditions:");
    w.table(
        1,
        &[
            "Type",
            "Status",
            "LastHeartbeatTime",
            "LastTransitionTime",
            "Reason",
            "Message",
        ],
    );
    for c in all {
        w.put(
            1,
            format!(
                "{} \t{} \t{} \t{} \t{} \t{}",
                object::text(c, "/type"),
                object::text(c, "/status"),
                time(&c["lastHeartbeatTime"]),
                time(&c["lastTransitionTime"]),
                object::text(c, "/reason"),
                object::text(c, "/message")
            ),
        );
    }
}

fn system(info: &Value, w: &mut Lines) {
    w.put(0, "System Info:");
    for (title, field) in [
        ("Machine ID", "machineID"),
        ("System UUID", "systemUUID"),
        ("Boot ID", "bootID"),
        ("Kernel Version", "kernelVersion"),
        ("OS Image", "osImage"),
        ("Operating System", "operatingSystem"),
        ("Architecture", "architecture"),
        ("Container Runtime Version", "containerRuntimeVersion"),
        ("Kubelet Version", "kubeletVersion"),
    ] {
        w.put(1, format!("{title}:\t{}", object::plain(&info[field])));
    }
}

fn amounts(value: &Value) -> Amounts {
    object::pairs(value)
        .into_iter()
        .filter_map(|(name, text)| Some((name, Quantity::parse(&text).ok()?)))
        .collect()
}

fn add(to: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let sum = to.get(name).map_or_else(|| *amount, |a| a.add(amount));
        to.insert(name.clone(), sum);
    }
}

fn at_least(to: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        if to.get(name).is_none_or(|a| a < amount) {
            to.insert(name.clone(), *amount);
        }
    }
}

/// What a pod asks for as a whole, `requests` or `limits`. Upstream: component-helpers/resource.
fn of_pod(pod: &Value, list: &str) -> Amounts {
    let spec = &pod["spec"];
    let mut sum = Amounts::new();
    for c in object::items(spec, "/containers") {
        add(&mut sum, &amounts(&c["resources"][list]));
    }
    // Sidecars stay beside what starts after them; other init containers run one by one.
    let (mut sidecars, mut at_start) = (Amounts::new(), Amounts::new());
    for c in object::items(spec, "/initContainers") {
        let own = amounts(&c["resources"][list]);
        if c["restartPolicy"] == "Always" {
            add(&mut sum, &own);
            add(&mut sidecars, &own);
            at_least(&mut at_start, &sidecars);
        } else {
            let mut with = own;
            add(&mut with, &sidecars);
            at_least(&mut at_start, &with);
        }
    }
    at_least(&mut sum, &at_start);
    sum.extend(amounts(&spec["resources"][list]));
    let overhead = amounts(&spec["overhead"]);
    if list == "requests" {
        add(&mut sum, &overhead);
    } else {
        let limited = overhead
            .into_iter()
            .filter(|(name, _)| sum.contains_key(name));
        let limited: Amounts = limited.collect();
        add(&mut sum, &limited);
    }
    sum
}

/// An amount and its share of what is there.
fn share(name: &str, amounts: &Amounts, all: &Amounts) -> String {
    let zero = Quantity::new(0, Format::DecimalSi);
    let amount = amounts.get(name).unwrap_or(&zero);
    let number = |q: &Quantity| match name {
        "cpu" => q.milli_value(),
        _ => q.value(),
    };
    let percent = match all.get(name).map(number).unwrap_or_default() {
        0 => 0,
        whole => i128::from(number(amount)) * 100 / i128::from(whole),
    };
    format!("{amount} ({percent}%)")
}

fn pods(pods: &[Value], status: &Value, w: &mut Lines) {
    let allocatable = amounts(&status["allocatable"]);
    w.put(
        0,
        format!("Non-terminated Pods:\t({} in total)", pods.len()),
    );
    w.put(
        1,
        "Namespace\tName\t\tCPU Requests\tCPU Limits\tMemory Requests\tMemory Limits\tAge",
    );
    w.put(
        1,
        "---------\t----\t\t------------\t----------\t---------------\t-------------\t---",
    );
    let (mut requests, mut limits) = (Amounts::new(), Amounts::new());
    for pod in pods {
        let (asked, limited) = (of_pod(pod, "requests"), of_pod(pod, "limits"));
        w.put(
            1,
            format!(
                "{}\t{}\t\t{}\t{}\t{}\t{}\t{}",
                object::namespace(pod),
                object::name(pod),
                share("cpu", &asked, &allocatable),
                share("cpu", &limited, &allocatable),
                share("memory", &asked, &allocatable),
                share("memory", &limited, &allocatable),
                since(&pod["metadata"]["creationTimestamp"])
            ),
        );
        add(&mut requests, &asked);
        add(&mut limits, &limited);
    }
    w.put(0, "Allocated resources:");
    w.put(
        1,
        "(Total limits may be over 100 percent, i.e., overcommitted.)",
    );
    w.table(1, &["Resource", "Requests", "Limits"]);
    let huge = allocatable.keys().filter(|n| n.starts_with("hugepages-"));
    let standard = ["cpu", "memory", "ephemeral-storage"];
    for name in standard.into_iter().chain(huge.map(String::as_str)) {
        let (asked, limited) = (
            share(name, &requests, &allocatable),
            share(name, &limits, &allocatable),
        );
        w.put(1, format!("{name}\t{asked}\t{limited}"));
    }
    let zero = Quantity::new(0, Format::DecimalSi);
    for name in allocatable.keys() {
        let known = standard.contains(&name.as_str()) || name.starts_with("hugepages-");
        if known || ["pods", "storage"].contains(&name.as_str()) {
            continue;
        }
        let of = |all: &Amounts| all.get(name).unwrap_or(&zero).to_string();
        w.put(1, format!("{name}\t{}\t{}", of(&requests), of(&limits)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_asks_for_the_most_that_runs_at_a_time() {
        let of = |cpu: &str| json!({"resources": {"requests": {"cpu": cpu}}});
        let mut sidecar = of("50m");
        sidecar["restartPolicy"] = "Always".into();
        let pod = json!({"spec": {"containers": [of("100m"), of("100m")],
            "initContainers": [sidecar, of("300m")], "overhead": {"cpu": "10m"}}});
        assert_eq!(of_pod(&pod, "requests")["cpu"].to_string(), "360m");
        assert!(of_pod(&pod, "limits").is_empty());
        let all = Amounts::from([("cpu".to_string(), Quantity::from_milli(2000))]);
        assert_eq!(share("cpu", &of_pod(&pod, "requests"), &all), "360m (18%)");
        assert_eq!(share("memory", &Amounts::new(), &all), "0 (0%)");
    }
}
