//! Pods.

use serde_json::Value;

use super::lines::{Lines, number, selector, since, time};
use super::{Describer, Seen, containers, volumes};
use crate::object;

pub const POD: Describer = Describer::of("", "Pod", text);

fn text(seen: &Seen<'_>, w: &mut Lines) {
    let pod = seen.object;
    let (spec, status) = (&pod["spec"], &pod["status"]);
    seen.head(w);
    w.some(0, "Priority", &spec["priority"]);
    w.some(0, "Priority Class Name", &spec["priorityClassName"]);
    w.some(0, "Runtime Class Name", &spec["runtimeClassName"]);
    w.some(0, "Service Account", &spec["serviceAccountName"]);
    let node = match object::text(spec, "/nodeName") {
        "" => "<none>".to_string(),
        node => format!("{node}/{}", object::text(status, "/hostIP")),
    };
    w.put(0, format!("Node:\t{node}"));
    if status["startTime"].is_string() {
        w.put(0, format!("Start Time:\t{}", time(&status["startTime"])));
    }
    seen.marks(w);
    let phase = object::text(status, "/phase");
    let deleted = &pod["metadata"]["deletionTimestamp"];
    if deleted.is_string() && phase != "Failed" && phase != "Succeeded" {
        w.put(
            0,
            format!("Status:\tTerminating (lasts {})", since(deleted)),
        );
        let grace = number(&pod["metadata"]["deletionGracePeriodSeconds"]);
        w.put(0, format!("Termination Grace Period:\t{grace}s"));
    } else {
        w.put(0, format!("Status:\t{phase}"));
    }
    w.some(0, "Reason", &status["reason"]);
    w.some(0, "Message", &status["message"]);
    let seccomp = &spec["securityContext"]["seccompProfile"];
    w.some(0, "SeccompProfile", &seccomp["type"]);
    w.some(0, "LocalhostProfile", &seccomp["localhostProfile"]);
    w.put(0, format!("IP:\t{}", object::text(status, "/podIP")));
    let ips = object::items(status, "/podIPs");
    w.put(
        0,
        if ips.is_empty() {
            "IPs:\t<none>"
        } else {
            "IPs:"
        },
    );
    for ip in ips {
        w.put(1, format!("IP:\t{}", object::text(ip, "/ip")));
    }
    seen.owner(w);
    w.some(0, "NominatedNodeName", &status["nominatedNodeName"]);
    if spec["resources"].is_object() {
        w.put(0, "Resources:");
        containers::resources(&spec["resources"], 1, w);
    }
    all_containers(pod, w);
    conditions(pod, w);
    volumes::put(object::items(spec, "/volumes"), "", w);
    w.put(
        0,
        format!("QoS Class:\t{}", object::text(status, "/qosClass")),
    );
    w.labels("Node-Selectors", &spec["nodeSelector"]);
    tolerations("Tolerations", spec, w);
    spread(spec, "", w);
}

fn all_containers(pod: &Value, w: &mut Lines) {
    let (spec, status) = (&pod["spec"], &pod["status"]);
    for (label, list, statuses) in [
        (
            "Init Containers",
            "/initContainers",
            "/initContainerStatuses",
        ),
        ("Containers", "/containers", "/containerStatuses"),
        (
            "Ephemeral Containers",
            "/ephemeralContainers",
            "/ephemeralContainerStatuses",
        ),
    ] {
        let all = object::items(spec, list);
        if all.is_empty() && label != "Containers" {
            continue;
        }
        containers::put(
            label,
            all,
            object::items(status, statuses),
            Some(pod),
            "",
            w,
        );
    }
}

fn conditions(pod: &Value, w: &mut Lines) {
    let conditions = object::items(pod, "/status/conditions");
    let gates = object::items(pod, "/spec/readinessGates");
    if !gates.is_empty() {
        w.put(0, "Readiness Gates:");
        w.put(1, "Type\tStatus");
    }
    for gate in gates {
        let kind = object::text(gate, "/conditionType");
        let found = conditions.iter().find(|c| c["type"] == kind);
        let status = found.map_or("<none>", |c| object::text(c, "/status"));
        w.put(1, format!("{kind} \t{status} "));
    }
    if !conditions.is_empty() {
        w.put(0, "Conditions:");
        w.put(1, "Type\tStatus");
    }
    for c in conditions {
        let (kind, status) = (object::text(c, "/type"), object::text(c, "/status"));
        w.put(1, format!("{kind} \t{status} "));
    }
}

/// Tolerations, by their keys.
pub fn tolerations(title: &str, spec: &Value, w: &mut Lines) {
    let mut all: Vec<&Value> = object::items(spec, "/tolerations").iter().collect();
    all.sort_by_key(|t| object::text(t, "/key"));
    let texts: Vec<String> = all.into_iter().map(toleration).collect();
    w.column(title, &texts);
}

fn toleration(t: &Value) -> String {
    let (key, value, effect) = (
        object::text(t, "/key"),
        object::text(t, "/value"),
        object::text(t, "/effect"),
    );
    let mut text = key.to_string();
    if !value.is_empty() {
        text.push_str(&format!("={value}"));
    }
    if !effect.is_empty() {
        text.push_str(&format!(":{effect}"));
    }
    if t["operator"] == "Exists" && value.is_empty() {
        text.push_str(if text.is_empty() {
            "op=Exists"
        } else {
            " op=Exists"
        });
    }
    if let Some(seconds) = t["tolerationSeconds"].as_i64() {
        text.push_str(&format!(" for {seconds}s"));
    }
    text
}

/// Topology spread constraints, by their keys.
pub fn spread(spec: &Value, space: &str, w: &mut Lines) {
    let mut all: Vec<&Value> = object::items(spec, "/topologySpreadConstraints")
        .iter()
        .collect();
    if all.is_empty() {
        return;
    }
    all.sort_by_key(|c| object::text(c, "/topologyKey"));
    for (i, c) in all.into_iter().enumerate() {
        let before = if i == 0 {
            "Topology Spread Constraints:"
        } else {
            ""
        };
        let of = match &c["labelSelector"] {
            Value::Null => String::new(),
            labels => format!(" for selector {}", selector(labels)),
        };
        w.put(
            0,
            format!(
                "{space}{before}\t{}:{} when max skew {} is exceeded{of}",
                object::text(c, "/topologyKey"),
                object::text(c, "/whenUnsatisfiable"),
                number(&c["maxSkew"])
            ),
        );
    }
}
