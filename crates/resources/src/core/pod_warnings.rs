//! Warnings about pods and templates. Upstream: pkg/api/pod GetWarningsForPod; validation-pod §12.

use std::collections::BTreeMap;

use api::names;
use machinery::object::{at, i64_at, list_at, map_at, str_at};
use serde_json::Value;

use super::amounts;
use super::pod::prepare::{APPARMOR, apparmor_profile};
use super::pod_checks::annotations::{SECCOMP_CONTAINER, SECCOMP_POD};
use super::pod_spec::LISTS;
use crate::checks::{self, deprecated_label, net};

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

/// Annotations that do nothing any more.
const DEAD: &[(&str, &str)] = &[
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        "non-functional in v1.16+; use the \"priorityClassName\" field instead",
    ),
    (
        "security.alpha.kubernetes.io/sysctls",
        "non-functional in v1.11+; use the \"sysctls\" field instead",
    ),
    (
        "security.alpha.kubernetes.io/unsafe-sysctls",
        "non-functional in v1.11+; use the \"sysctls\" field instead",
    ),
];

/// Volume sources that are on their way out: field, shown name, text.
const OLD_VOLUMES: &[(&str, &str, &str)] = &[
    (
        "photonPersistentDisk",
        "photonPersistentDisk",
        "deprecated in v1.11, non-functional in v1.16+",
    ),
    (
        "gitRepo",
        "gitRepo",
        "deprecated in v1.11, and disabled by default in v1.33+",
    ),
    (
        "scaleIO",
        "scaleIO",
        "deprecated in v1.16, non-functional in v1.22+",
    ),
    (
        "flocker",
        "flocker",
        "deprecated in v1.22, non-functional in v1.25+",
    ),
    (
        "storageos",
        "storageOS",
        "deprecated in v1.22, non-functional in v1.25+",
    ),
    (
        "quobyte",
        "quobyte",
        "deprecated in v1.22, non-functional in v1.25+",
    ),
    (
        "glusterfs",
        "glusterfs",
        "deprecated in v1.25, non-functional in v1.26+",
    ),
    (
        "cephfs",
        "cephfs",
        "deprecated in v1.28, non-functional in v1.31+",
    ),
    (
        "rbd",
        "rbd",
        "deprecated in v1.28, non-functional in v1.31+",
    ),
];

/// Warnings about a new pod.
pub fn of_pod(pod: &Value) -> Vec<String> {
    let mut out = Vec::new();
    apparmor(pod, &mut out);
    let problems = names::dns1123_label(machinery::object::name(pod));
    if !problems.is_empty() {
        out.push(format!(
            "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended: {}",
            checks::go_list(&problems)
        ));
    }
    all(pod, "", &mut out);
    out
}

/// Warnings about the template at a path such as `spec.template`.
pub fn of_template(template: &Value, path: &str) -> Vec<String> {
    let mut out = Vec::new();
    all(template, &format!("{path}."), &mut out);
    if let Some(n) = i64_at(template, "spec.terminationGracePeriodSeconds")
        && n < 0
    {
        out.push(format!("{path}.spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1"));
    }
    out
}

fn all(pod: &Value, prefix: &str, out: &mut Vec<String>) {
    let spec = pod.get("spec").unwrap_or(&Value::Null);
    let path = format!("{prefix}spec");
    labels(spec, &path, out);
    let notes = map_at(pod, "metadata.annotations");
    let has = |key: &str| notes.is_some_and(|n| n.contains_key(key));
    for (key, text) in DEAD.iter().filter(|(key, _)| has(key)) {
        out.push(format!("{prefix}metadata.annotations[{key}]: {text}"));
    }
    volumes(spec, &path, out);
    references(spec, &path, out);
    fractions(spec.get("overhead"), &format!("{path}.overhead"), out);
    let seccomp = "non-functional in v1.27+; use the \"seccompProfile\" field instead";
    if has(SECCOMP_POD) && at(spec, "securityContext.seccompProfile").is_none() {
        out.push(format!(
            "{prefix}metadata.annotations[{SECCOMP_POD}]: {seccomp}"
        ));
    }
    for list in LISTS {
        for (i, one) in list_at(spec, list).iter().enumerate() {
            let here = format!("{path}.{list}[{i}]");
            let key = format!("{SECCOMP_CONTAINER}{}", str_at(one, "name"));
            if has(&key) && at(one, "securityContext.seccompProfile").is_none() {
                out.push(format!("{prefix}metadata.annotations[{key}]: {seccomp}"));
            }
            for which in ["limits", "requests"] {
                let amounts = at(one, &format!("resources.{which}"));
                fractions(amounts, &format!("{here}.resources.{which}"), out);
            }
            env(one, &here, out);
        }
    }
    ports(spec, &path, out);
    affinity(spec, &path, out);
    for (i, ip) in list_at(spec, "dnsConfig.nameservers").iter().enumerate() {
        let here = format!("{path}.dnsConfig.nameservers[{i}]");
        net::ip_warnings(&here, ip.as_str().unwrap_or_default(), out);
    }
    for (i, alias) in list_at(spec, "hostAliases").iter().enumerate() {
        let here = format!("{path}.hostAliases[{i}].ip");
        net::ip_warnings(&here, str_at(alias, "ip"), out);
    }
}

fn apparmor(pod: &Value, out: &mut Vec<String>) {
    let Some(notes) = map_at(pod, "metadata.annotations") else {
        return;
    };
    let of_pod = at(pod, "spec.securityContext.appArmorProfile");
    for one in LISTS.iter().flat_map(|l| list_at(&pod["spec"], l)) {
        let key = format!("{APPARMOR}{}", str_at(one, "name"));
        let Some(text) = notes.get(&key).and_then(Value::as_str) else {
            continue;
        };
        // The field was copied from the annotation, or could not be.
        let profile = apparmor_profile(text);
        if profile.is_none() || profile.as_ref() != of_pod {
            out.push(format!("metadata.annotations[{key}]: deprecated since v1.30; use the \"appArmorProfile\" field instead"));
        }
    }
}

/// Labels of nodes that nobody should select by.
fn labels(spec: &Value, path: &str, out: &mut Vec<String>) {
    for key in map_at(spec, "nodeSelector")
        .into_iter()
        .flatten()
        .map(|(k, _)| k)
    {
        if let Some(text) = deprecated_label(key) {
            out.push(format!("{path}.nodeSelector[{key}]: {text}"));
        }
    }
    let node = at(spec, "affinity.nodeAffinity").unwrap_or(&Value::Null);
    let terms = list_at(node, &format!("{REQUIRED}.nodeSelectorTerms")).iter();
    let required = terms.enumerate().map(|(i, t)| {
        let here = format!("{path}.affinity.nodeAffinity.{REQUIRED}.nodeSelectorTerms[{i}]");
        (here, t, false)
    });
    let preferred = list_at(node, PREFERRED).iter().enumerate();
    let preferred = preferred.filter_map(|(i, p)| {
        let here = format!("{path}.affinity.nodeAffinity.{PREFERRED}[{i}].preference");
        Some((here, at(p, "preference")?, true))
    });
    for (here, term, values) in required.chain(preferred) {
        for (j, e) in list_at(term, "matchExpressions").iter().enumerate() {
            let key = str_at(e, "key");
            if let Some(text) = deprecated_label(key) {
                out.push(format!("{here}.matchExpressions[{j}].key: {key} is {text}"));
            }
            for (k, v) in list_at(e, "values").iter().enumerate().filter(|_| values) {
                let v = v.as_str().unwrap_or_default();
                for problem in names::label_value(v) {
                    out.push(format!(
                        "{here}.matchExpressions[{j}].values[{k}]: {v} is invalid, {problem}"
                    ));
                }
            }
        }
    }
    for (i, t) in list_at(spec, "topologySpreadConstraints")
        .iter()
        .enumerate()
    {
        let here = format!("{path}.topologySpreadConstraints[{i}]");
        let key = str_at(t, "topologyKey");
        if let Some(text) = deprecated_label(key) {
            out.push(format!("{here}.topologyKey: {key} is {text}"));
        }
        if at(t, "labelSelector").is_none() {
            out.push(format!(
                "{here}.labelSelector: a null labelSelector results in matching no pod"
            ));
        }
    }
}

fn volumes(spec: &Value, path: &str, out: &mut Vec<String>) {
    for (i, v) in list_at(spec, "volumes").iter().enumerate() {
        let here = format!("{path}.volumes[{i}]");
        for (field, shown, text) in OLD_VOLUMES {
            if at(v, field).is_some() {
                out.push(format!("{here}.{shown}: {text}"));
            }
        }
        if let Some(claim) = at(v, "ephemeral.volumeClaimTemplate.spec") {
            let here = format!("{here}.ephemeral.volumeClaimTemplate.spec");
            super::persistent_volume_claim::fractions(&here, claim, out);
        }
        let name = str_at(v, "name");
        for (k, s) in list_at(v, "projected.sources").iter().enumerate() {
            let _ = k;
            if s.as_object().is_none_or(serde_json::Map::is_empty) {
                out.push(format!(
                    "volume \"{name}\" (Projected) has no sources provided"
                ));
            }
        }
        overlaps(v, name, out);
    }
}

/// Items of one source whose files would be in each other's way.
fn overlaps(v: &Value, name: &str, out: &mut Vec<String>) {
    let source = |v: &Value, prefix: &str| -> Option<(String, Vec<String>)> {
        let (label, own) = if let Some(own) = at(v, "configMap") {
            (format!("ConfigMap \"{}\"", str_at(own, "name")), own)
        } else if let Some(own) = at(v, "secret") {
            let field = if prefix.is_empty() {
                "secretName"
            } else {
                "name"
            };
            (format!("Secret \"{}\"", str_at(own, field)), own)
        } else {
            ("DownwardAPI".to_string(), at(v, "downwardAPI")?)
        };
        let paths = list_at(own, "items").iter();
        let paths = paths.map(|i| str_at(i, "path").trim_end_matches('/').to_string());
        Some((label, paths.collect()))
    };
    let clash = |a: &str, b: &str| {
        a == b || a.starts_with(&format!("{b}/")) || b.starts_with(&format!("{a}/"))
    };
    if let Some((label, paths)) = source(v, "") {
        for (i, a) in paths.iter().enumerate() {
            for b in paths[..i].iter().filter(|b| clash(a, b)) {
                out.push(format!(
                    "volume \"{name}\" ({label}): overlapping paths: \"{a}\" with \"{b}\""
                ));
            }
        }
    }
    let mut seen: Vec<(String, String)> = Vec::new();
    for s in list_at(v, "projected.sources") {
        let (label, paths) = match at(s, "serviceAccountToken") {
            Some(t) => (
                "ServiceAccountToken".to_string(),
                vec![str_at(t, "path").to_string()],
            ),
            None => match source(s, "projected") {
                Some(found) => found,
                None => continue,
            },
        };
        for a in paths {
            for (b, other) in seen.iter().filter(|(b, _)| clash(&a, b)) {
                out.push(format!("volume \"{name}\" (Projected): overlapping paths: \"{a}\" ({label}) with \"{b}\" ({other})"));
            }
            seen.push((a, label.clone()));
        }
    }
}

/// Host aliases and pull secrets given twice.
fn references(spec: &Value, path: &str, out: &mut Vec<String>) {
    for (list, field) in [("hostAliases", "ip"), ("imagePullSecrets", "name")] {
        let mut seen = Vec::new();
        for (i, one) in list_at(spec, list).iter().enumerate() {
            let text = str_at(one, field);
            let here = format!("{path}.{list}[{i}].{field}");
            if text.is_empty() && field == "name" {
                out.push(format!("{here}: invalid empty name \"\""));
            } else if seen.contains(&text) {
                out.push(format!("{here}: duplicate {field} \"{text}\""));
            }
            seen.push(text);
        }
    }
}

/// Bytes that are not whole.
fn fractions(list: Option<&Value>, path: &str, out: &mut Vec<String>) {
    for name in ["memory", "ephemeral-storage"] {
        let q = list.and_then(|l| l.get(name)).and_then(amounts::read);
        let Some(q) = q.filter(|q| q.milli_value() % 1000 != 0) else {
            continue;
        };
        out.push(format!(
            "{path}[{name}]: fractional byte value \"{q}\" is invalid, must be an integer"
        ));
    }
}

/// Variables that hide earlier ones.
fn env(one: &Value, path: &str, out: &mut Vec<String>) {
    let mut seen = Vec::new();
    for (j, e) in list_at(one, "env").iter().enumerate() {
        let name = str_at(e, "name");
        let value = str_at(e, "value");
        let itself = format!("$({name})");
        let hides = at(e, "valueFrom").is_some() || value == itself || !value.contains(&itself);
        if seen.contains(&name) && hides {
            out.push(format!("{path}.env[{j}]: hides previous definition of \"{name}\", which may be dropped when using apply"));
        }
        seen.push(name);
    }
}

/// Ports of all containers together.
fn ports(spec: &Value, path: &str, out: &mut Vec<String>) {
    let lists = ["initContainers", "containers"];
    let mut seen: Vec<(String, &Value)> = Vec::new();
    let number = |p: &Value, f: &str| i64_at(p, f).unwrap_or(0);
    for list in lists {
        for (i, one) in list_at(spec, list).iter().enumerate() {
            for (j, p) in list_at(one, "ports").iter().enumerate() {
                let here = format!("{path}.{list}[{i}].ports[{j}]");
                let (ip, host) = (str_at(p, "hostIP"), number(p, "hostPort"));
                if !ip.is_empty() && host == 0 {
                    out.push(format!(
                        "{here}: hostIP set without hostPort: {{Name:{} HostPort:0 ContainerPort:{} Protocol:{} HostIP:{ip}}}",
                        str_at(p, "name"), number(p, "containerPort"), str_at(p, "protocol")
                    ));
                }
                for (other, q) in &seen {
                    let same = number(p, "containerPort") == number(q, "containerPort")
                        && str_at(p, "protocol") == str_at(q, "protocol");
                    if !same {
                        continue;
                    }
                    let (ip2, host2) = (str_at(q, "hostIP"), number(q, "hostPort"));
                    if ip == ip2 && host == host2 {
                        out.push(format!("{here}: duplicate port definition with {other}"));
                    } else if host == 0 || host2 == 0 {
                        out.push(format!("{here}: overlapping port definition with {other}"));
                    } else if host == host2 && (ip.is_empty() != ip2.is_empty()) {
                        out.push(format!(
                            "{here}: dangerously ambiguous port definition with {other}"
                        ));
                    }
                }
                seen.push((here, p));
            }
        }
    }
    let mut named: BTreeMap<&str, &String> = BTreeMap::new();
    for (here, p) in &seen {
        let name = str_at(p, "name");
        if name.is_empty() {
            continue;
        }
        if let Some(other) = named.get(name) {
            out.push(format!("{here}: duplicate port name \"{name}\" with {other}, services and probes that select ports by name will use {other}"));
        } else {
            named.insert(name, here);
        }
    }
}

/// Terms that select nothing.
fn affinity(spec: &Value, path: &str, out: &mut Vec<String>) {
    let text = "labelSelector: a null labelSelector results in matching no pod";
    for kind in ["podAffinity", "podAntiAffinity"] {
        let Some(own) = at(spec, &format!("affinity.{kind}")) else {
            continue;
        };
        let here = format!("{path}.affinity.{kind}");
        for (i, term) in list_at(own, REQUIRED).iter().enumerate() {
            if at(term, "labelSelector").is_none() {
                out.push(format!("{here}.{REQUIRED}[{i}].{text}"));
            }
        }
        for (i, p) in list_at(own, PREFERRED).iter().enumerate() {
            if at(p, "podAffinityTerm.labelSelector").is_none() {
                out.push(format!("{here}.{PREFERRED}[{i}].podAffinityTerm.{text}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn warnings_read_as_upstreams() {
        let pod = json!({"metadata": {"name": "a.b"}, "spec": {
            "nodeSelector": {"beta.kubernetes.io/os": "linux"}, "imagePullSecrets": [{"name": ""}],
            "volumes": [{"name": "v", "gitRepo": {}}],
            "containers": [{"name": "c", "env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}],
                "ports": [{"containerPort": 80, "protocol": "TCP"}, {"containerPort": 80, "protocol": "TCP"}],
                "resources": {"limits": {"memory": "100m"}}}]}});
        assert_eq!(
            of_pod(&pod),
            [
                "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended: [must not contain dots]",
                "spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \"kubernetes.io/os\" instead",
                "spec.volumes[0].gitRepo: deprecated in v1.11, and disabled by default in v1.33+",
                "spec.imagePullSecrets[0].name: invalid empty name \"\"",
                "spec.containers[0].resources.limits[memory]: fractional byte value \"100m\" is invalid, must be an integer",
                "spec.containers[0].env[1]: hides previous definition of \"A\", which may be dropped when using apply",
                "spec.containers[0].ports[1]: duplicate port definition with spec.containers[0].ports[0]",
            ]
        );
    }
}
