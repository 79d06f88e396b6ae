//! Containers and pod templates within a description.

use serde_json::Value;

use api::quantity::Quantity;

use super::lines::{Lines, or_none, time, truth};
use super::volumes;
use crate::object;

/// A list of containers with their states; `pod` gives the values of the downward API.
pub fn put(
    label: &str,
    containers: &[Value],
    statuses: &[Value],
    pod: Option<&Value>,
    space: &str,
    w: &mut Lines,
) {
    let none = if containers.is_empty() { " <none>" } else { "" };
    w.put(0, format!("{space}{label}:{none}"));
    let indent = if space.is_empty() { "" } else { " " };
    for container in containers {
        let name = object::text(container, "/name");
        let status = statuses.iter().find(|s| s["name"] == name);
        w.put(1, format!("{indent}{name}:"));
        basics(container, status, w);
        for (title, field) in [("Command:", "/command"), ("Args:", "/args")] {
            let words = object::items(container, field);
            if !words.is_empty() {
                w.put(2, title);
            }
            let lines = words
                .iter()
                .flat_map(|v| v.as_str().unwrap_or_default().split('\n'));
            lines.for_each(|line| w.put(3, line));
        }
        if let Some(status) = status {
            state("State", &status["state"], w);
            if status["lastState"]["terminated"].is_object() {
                state("Last State", &status["lastState"], w);
            }
            w.put(2, format!("Ready:\t{}", truth(&status["ready"])));
            let restarts = status["restartCount"].as_i64().unwrap_or_default();
            w.put(2, format!("Restart Count:\t{restarts}"));
        }
        resources(&container["resources"], 2, w);
        for (title, field) in [
            ("Liveness", "livenessProbe"),
            ("Readiness", "readinessProbe"),
            ("Startup", "startupProbe"),
        ] {
            if container[field].is_object() {
                w.put(2, format!("{title}:\t{}", probe(&container[field])));
            }
        }
        env_from(container, w);
        env(container, pod, w);
        mounts(container, w);
    }
}

fn basics(container: &Value, status: Option<&Value>, w: &mut Lines) {
    if let Some(s) = status {
        w.put(
            2,
            format!("Container ID:\t{}", object::text(s, "/containerID")),
        );
    }
    w.put(2, format!("Image:\t{}", object::text(container, "/image")));
    if let Some(s) = status {
        w.put(2, format!("Image ID:\t{}", object::text(s, "/imageID")));
    }
    for (title, field) in [("Port", "containerPort"), ("Host Port", "hostPort")] {
        let text = ports(container, field);
        let several = if text.contains(',') { "s" } else { "" };
        w.put(2, format!("{title}{several}:\t{}", or_none(text)));
    }
    let seccomp = &container["securityContext"]["seccompProfile"];
    w.some(2, "SeccompProfile", &seccomp["type"]);
    w.some(3, "LocalhostProfile", &seccomp["localhostProfile"]);
}

fn ports(container: &Value, field: &str) -> String {
    let all = object::items(container, "/ports").iter().map(|p| {
        let number = p[field].as_i64().unwrap_or_default();
        let text = format!("{number}/{}", object::text(p, "/protocol"));
        match object::text(p, "/name") {
            "" => text,
            name => format!("{text} ({name})"),
        }
    });
    all.collect::<Vec<_>>().join(", ")
}

/// Limits and requests.
pub fn resources(resources: &Value, level: usize, w: &mut Lines) {
    for (title, field) in [("Limits:", "limits"), ("Requests:", "requests")] {
        let all = object::pairs(&resources[field]);
        if !all.is_empty() {
            w.put(level, title);
        }
        for (name, amount) in all {
            w.put(level + 1, format!("{name}:\t{amount}"));
        }
    }
}

fn state(title: &str, state: &Value, w: &mut Lines) {
    if state["running"].is_object() {
        w.put(2, format!("{title}:\tRunning"));
        w.put(
            3,
            format!("Started:\t{}", time(&state["running"]["startedAt"])),
        );
    } else if state["terminated"].is_object() {
        let t = &state["terminated"];
        w.put(2, format!("{title}:\tTerminated"));
        w.some(3, "Reason", &t["reason"]);
        w.some(3, "Message", &t["message"]);
        w.put(
            3,
            format!("Exit Code:\t{}", t["exitCode"].as_i64().unwrap_or_default()),
        );
        if t["signal"].as_i64().is_some_and(|s| s > 0) {
            w.some(3, "Signal", &t["signal"]);
        }
        w.put(3, format!("Started:\t{}", time(&t["startedAt"])));
        w.put(3, format!("Finished:\t{}", time(&t["finishedAt"])));
    } else {
        w.put(2, format!("{title}:\tWaiting"));
        w.some(3, "Reason", &state["waiting"]["reason"]);
    }
}

/// A probe on one line.
fn probe(probe: &Value) -> String {
    let n = |field: &str| probe[field].as_i64().unwrap_or_default();
    let numbers = format!(
        "delay={}s timeout={}s period={}s successThreshold={} failureThreshold={}",
        n("initialDelaySeconds"),
        n("timeoutSeconds"),
        n("periodSeconds"),
        n("successThreshold"),
        n("failureThreshold")
    );
    let how = if probe["exec"].is_object() {
        let words = object::items(probe, "/exec/command")
            .iter()
            .map(object::plain);
        format!("exec [{}]", words.collect::<Vec<_>>().join(" "))
    } else if probe["httpGet"].is_object() {
        let get = &probe["httpGet"];
        let host = object::text(get, "/host");
        let host = if host.contains(':') {
            format!("[{host}]")
        } else {
            host.to_string()
        };
        format!(
            "http-get {}://{host}:{}{}",
            object::text(get, "/scheme").to_lowercase(),
            object::plain(&get["port"]),
            object::text(get, "/path")
        )
    } else if probe["tcpSocket"].is_object() {
        let host = object::text(probe, "/tcpSocket/host");
        format!(
            "tcp-socket {host}:{}",
            object::plain(&probe["tcpSocket"]["port"])
        )
    } else if probe["grpc"].is_object() {
        let service = object::text(probe, "/grpc/service");
        format!(
            "grpc <pod>:{} {service}",
            object::plain(&probe["grpc"]["port"])
        )
    } else {
        "unknown".into()
    };
    format!("{how} {numbers}")
}

fn env_from(container: &Value, w: &mut Lines) {
    let all = object::items(container, "/envFrom");
    if !all.is_empty() {
        w.put(2, "Environment Variables from:");
    }
    for e in all {
        let (kind, from) = match &e["configMapRef"] {
            Value::Null => ("Secret", &e["secretRef"]),
            from => ("ConfigMap", from),
        };
        let prefix = match object::text(e, "/prefix") {
            "" => String::new(),
            prefix => format!(" with prefix '{prefix}'"),
        };
        let name = object::text(from, "/name");
        let optional = from["optional"] == true;
        w.put(3, format!("{name}\t{kind}{prefix}\tOptional: {optional}"));
    }
}

fn env(container: &Value, pod: Option<&Value>, w: &mut Lines) {
    let all = object::items(container, "/env");
    let none = if all.is_empty() { "\t<none>" } else { "" };
    w.put(2, format!("Environment:{none}"));
    for e in all {
        let name = object::text(e, "/name");
        let from = &e["valueFrom"];
        if from.is_null() {
            for (i, line) in object::text(e, "/value").split('\n').enumerate() {
                let before = if i == 0 {
                    format!("{name}:")
                } else {
                    String::new()
                };
                w.put(3, format!("{before}\t{line}"));
            }
        } else if from["fieldRef"].is_object() {
            let path = object::text(from, "/fieldRef/fieldPath");
            let version = object::text(from, "/fieldRef/apiVersion");
            let value = pod.map_or_else(String::new, |p| downward(p, path));
            w.put(3, format!("{name}:\t{value} ({version}:{path})"));
        } else if from["resourceFieldRef"].is_object() {
            let of = &from["resourceFieldRef"];
            let resource = object::text(of, "/resource");
            w.put(
                3,
                format!("{name}:\t{} ({resource})", amount(container, of)),
            );
        } else {
            for (field, kind) in [
                ("secretKeyRef", "in secret"),
                ("configMapKeyRef", "of config map"),
            ] {
                let of = &from[field];
                if of.is_object() {
                    let (key, object) = (object::text(of, "/key"), object::text(of, "/name"));
                    let optional = of["optional"] == true;
                    w.put(3, format!("{name}:\t<set to the key '{key}' {kind} '{object}'>\tOptional: {optional}"));
                }
            }
        }
    }
}

/// A field that the downward API gives; only the metadata is known here, as upstream has it.
fn downward(pod: &Value, path: &str) -> String {
    let meta = &pod["metadata"];
    let key = |map: &str| {
        let inner = path
            .strip_prefix(&format!("metadata.{map}['"))?
            .strip_suffix("']")?;
        Some(object::plain(&meta[map][inner]))
    };
    match path {
        "metadata.name" | "metadata.namespace" | "metadata.uid" => {
            object::plain(&meta[path.trim_start_matches("metadata.")])
        }
        _ => key("labels")
            .or_else(|| key("annotations"))
            .unwrap_or_default(),
    }
}

/// What a container asks for, in units of the divisor, rounded up.
fn amount(container: &Value, of: &Value) -> String {
    let Some((list, name)) = object::text(of, "/resource").split_once('.') else {
        return String::new();
    };
    let parse = |v: &Value| Quantity::parse(&object::plain(v)).ok();
    let Some(has) = parse(&container["resources"][list][name]) else {
        let unlimited = list == "limits" && ["cpu", "memory"].contains(&name);
        return if unlimited {
            "node allocatable".into()
        } else {
            "0".into()
        };
    };
    let divisor = parse(&of["divisor"]).filter(|d| !d.is_zero());
    let (has, divisor) = if name == "cpu" {
        (has.milli_value(), divisor.map_or(1000, |d| d.milli_value()))
    } else {
        (has.value(), divisor.map_or(1, |d| d.value()))
    };
    (has.saturating_add(divisor - 1) / divisor.max(1)).to_string()
}

fn mounts(container: &Value, w: &mut Lines) {
    let mut all: Vec<&Value> = object::items(container, "/volumeMounts").iter().collect();
    let none = if all.is_empty() { "\t<none>" } else { "" };
    w.put(2, format!("Mounts:{none}"));
    all.sort_by_key(|m| object::text(m, "/mountPath"));
    for m in all {
        let mut flags = if m["readOnly"] == true { "ro" } else { "rw" }.to_string();
        if let Some(path) = m["subPath"].as_str().filter(|p| !p.is_empty()) {
            flags.push_str(&format!(",path={path:?}"));
        }
        let (path, name) = (object::text(m, "/mountPath"), object::text(m, "/name"));
        w.put(3, format!("{path} from {name} ({flags})"));
    }
    let mut devices: Vec<&Value> = object::items(container, "/volumeDevices").iter().collect();
    if devices.is_empty() {
        return;
    }
    w.put(2, format!("Devices:{none}"));
    devices.sort_by_key(|d| object::text(d, "/devicePath"));
    for d in devices {
        let (path, name) = (object::text(d, "/devicePath"), object::text(d, "/name"));
        w.put(3, format!("{path} from {name}"));
    }
}

/// A pod template, as workloads show theirs.
pub fn template(template: &Value, w: &mut Lines) {
    w.put(0, "Pod Template:");
    let (meta, spec) = (&template["metadata"], &template["spec"]);
    w.labels("  Labels", &meta["labels"]);
    if meta["annotations"]
        .as_object()
        .is_some_and(|a| !a.is_empty())
    {
        w.annotations("  Annotations", &meta["annotations"]);
    }
    w.some(1, "Service Account", &spec["serviceAccountName"]);
    let init = object::items(spec, "/initContainers");
    if !init.is_empty() {
        put("Init Containers", init, &[], None, "  ", w);
    }
    put(
        "Containers",
        object::items(spec, "/containers"),
        &[],
        None,
        "  ",
        w,
    );
    volumes::put(object::items(spec, "/volumes"), "  ", w);
    super::pod::spread(spec, "  ", w);
    w.some(1, "Priority Class Name", &spec["priorityClassName"]);
    w.labels("  Node-Selectors", &spec["nodeSelector"]);
    super::pod::tolerations("  Tolerations", spec, w);
}
