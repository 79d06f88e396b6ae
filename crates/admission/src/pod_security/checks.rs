//! The checks of the pod security standards. Upstream: k8s.io/pod-security-admission/policy, one function
//! per check there as here; order is baseline by name, then restricted by name. What a version of the standards
//! does not know yet is left out.

use std::collections::BTreeSet;

use machinery::object::{at, bool_at, i64_at, list_at, str_at};
use serde_json::Value;

use super::Level;

/// Why a pod does not fit.
#[derive(Debug, PartialEq, Eq)]
pub struct Violation {
    pub reason: String,
    pub detail: String,
}

type Check = fn(&Pod<'_>) -> Option<Violation>;

/// The version of the standards that namespaces without a version get.
pub const LATEST: u32 = u32::MAX;
/// Never.
const NEVER: u32 = u32::MAX;

/// Baseline checks: the minor version they came with, and the one from which on a stricter check takes their place
/// at level restricted.
static BASELINE: &[(Check, u32, u32)] = &[
    (app_armor, 0, NEVER),
    (capabilities_baseline, 0, 22),
    (host_namespaces, 0, NEVER),
    (host_path_volumes, 0, 0),
    (host_ports, 0, NEVER),
    (host_probes, 34, NEVER),
    (privileged, 0, NEVER),
    (proc_mount_baseline, 0, 35),
    (se_linux, 0, NEVER),
    (seccomp_baseline, 0, 19),
    (sysctls, 0, NEVER),
    (windows_host_process, 0, NEVER),
];

static RESTRICTED: &[(Check, u32)] = &[
    (allow_privilege_escalation, 8),
    (capabilities_restricted, 22),
    (proc_mount, 35),
    (restricted_volumes, 0),
    (run_as_non_root, 0),
    (run_as_user, 23),
    (seccomp_restricted, 19),
];

/// A pod as the checks see it.
pub struct Pod<'a> {
    meta: &'a Value,
    spec: &'a Value,
    /// Init containers, containers, ephemeral containers.
    containers: Vec<&'a Value>,
    /// Minor version of the standards.
    minor: u32,
}

/// All violations of a level, as version 1.`minor` of the standards has it.
pub fn run(level: Level, minor: u32, meta: &Value, spec: &Value) -> Vec<Violation> {
    if level == Level::Privileged {
        return Vec::new();
    }
    let lists = ["initContainers", "containers", "ephemeralContainers"];
    let pod = Pod {
        meta,
        spec,
        containers: lists.iter().flat_map(|l| list_at(spec, l)).collect(),
        minor,
    };
    let restricted = level == Level::Restricted;
    let baseline = BASELINE
        .iter()
        .filter(|(_, since, replaced)| {
            minor >= *since && !(restricted && *replaced != NEVER && minor >= *replaced)
        })
        .filter_map(|(check, ..)| check(&pod));
    let mut out: Vec<Violation> = baseline.collect();
    if restricted {
        let known = RESTRICTED.iter().filter(|(_, since)| minor >= *since);
        out.extend(known.filter_map(|(check, _)| check(&pod)));
    }
    out
}

// === helpers ===

fn violation(reason: &str, detail: impl Into<String>) -> Option<Violation> {
    Some(Violation {
        reason: reason.into(),
        detail: detail.into(),
    })
}

fn quoted<S: AsRef<str>>(items: &[S]) -> String {
    let all: Vec<String> = items
        .iter()
        .map(|i| format!("\"{}\"", i.as_ref()))
        .collect();
    all.join(", ")
}

/// `container "a"` or `containers "a", "b"`.
fn containers_text(names: &[&str]) -> String {
    format!("container{} {}", plural(names.len()), quoted(names))
}

fn plural(n: usize) -> &'static str {
    if n == 1 { "" } else { "s" }
}

/// `pod and container "a"`: those who set something, joined.
fn setters(pod: bool, names: &[&str], word: &str) -> String {
    match (pod, names.is_empty()) {
        (true, true) => "pod".into(),
        (true, false) => format!("pod {word} {}", containers_text(names)),
        (false, _) => containers_text(names),
    }
}

fn distinct(mut values: Vec<String>) -> Vec<String> {
    values.sort();
    values.dedup();
    values
}

impl Pod<'_> {
    fn names(&self, bad: impl Fn(&Value) -> bool) -> Vec<&str> {
        let found = self.containers.iter().filter(|c| bad(c));
        found.map(|c| str_at(c, "name")).collect()
    }

    /// Windows pods are let off since 1.25.
    fn is_windows(&self) -> bool {
        self.minor >= 25 && str_at(self.spec, "os.name") == "windows"
    }

    /// Pods in their own user namespace may do more since 1.35.
    fn own_users(&self) -> bool {
        self.minor >= 35 && bool_at(self.spec, "hostUsers") == Some(false)
    }
}

// === baseline ===

fn app_armor(p: &Pod<'_>) -> Option<Violation> {
    let path = "securityContext.appArmorProfile";
    let kind = |o: &Value| at(o, path).map(|f| str_at(f, "type").to_string());
    let bad = |o: &Value| kind(o).filter(|t| t != "RuntimeDefault" && t != "Localhost");
    let mut values: Vec<String> = bad(p.spec).into_iter().collect();
    let pod = !values.is_empty();
    values.extend(p.containers.iter().filter_map(|c| bad(c)));
    let names = p.names(|c| bad(c).is_some());
    let annotated = p.meta.get("annotations").and_then(Value::as_object);
    let bad_annotation = |(k, v): (&String, &Value)| {
        let v = v.as_str().unwrap_or("");
        let fine = v.is_empty() || v == "runtime/default" || v.starts_with("localhost/");
        let ours = k.starts_with("container.apparmor.security.beta.kubernetes.io/");
        (ours && !fine).then(|| format!("{k}={v:?}"))
    };
    let annotations = annotated.into_iter().flatten().filter_map(bad_annotation);
    let annotations = distinct(annotations.collect());
    let mut who = Vec::new();
    if pod {
        who.push("pod".to_string());
    }
    if !names.is_empty() {
        who.push(containers_text(&names));
    }
    if !annotations.is_empty() {
        who.push(format!("annotation{}", plural(annotations.len())));
    }
    if who.is_empty() {
        return None;
    }
    let mut values = distinct(values);
    values.extend(annotations);
    violation(
        &format!("forbidden AppArmor profile{}", plural(values.len())),
        format!(
            "{} must not set AppArmor profile type to {}",
            who.join(" and "),
            quoted(&values)
        ),
    )
}

const CAPABILITIES: &[&str] = &[
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

fn added<'a>(c: &'a Value, allowed: &[&str]) -> Vec<&'a str> {
    let all = list_at(c, "securityContext.capabilities.add").iter();
    all.filter_map(Value::as_str)
        .filter(|c| !allowed.contains(c))
        .collect()
}

fn bad_capabilities(p: &Pod<'_>, allowed: &[&str]) -> Option<(String, String)> {
    let names = p.names(|c| !added(c, allowed).is_empty());
    if names.is_empty() {
        return None;
    }
    let all: BTreeSet<&str> = p
        .containers
        .iter()
        .flat_map(|c| added(c, allowed))
        .collect();
    let all: Vec<&str> = all.into_iter().collect();
    Some((containers_text(&names), quoted(&all)))
}

fn capabilities_baseline(p: &Pod<'_>) -> Option<Violation> {
    let (who, what) = bad_capabilities(p, CAPABILITIES)?;
    violation(
        "non-default capabilities",
        format!("{who} must not include {what} in securityContext.capabilities.add"),
    )
}

fn host_namespaces(p: &Pod<'_>) -> Option<Violation> {
    let set: Vec<String> = ["hostNetwork", "hostPID", "hostIPC"]
        .iter()
        .filter(|f| bool_at(p.spec, f) == Some(true))
        .map(|f| format!("{f}=true"))
        .collect();
    if set.is_empty() {
        None
    } else {
        violation("host namespaces", set.join(", "))
    }
}

fn host_path_volumes(p: &Pod<'_>) -> Option<Violation> {
    let names: Vec<&str> = list_at(p.spec, "volumes")
        .iter()
        .filter(|v| at(v, "hostPath").is_some())
        .map(|v| str_at(v, "name"))
        .collect();
    if names.is_empty() {
        return None;
    }
    let detail = format!("volume{} {}", plural(names.len()), quoted(&names));
    violation("hostPath volumes", detail)
}

fn host_ports(p: &Pod<'_>) -> Option<Violation> {
    let ports = |c: &Value| -> Vec<String> {
        let all = list_at(c, "ports")
            .iter()
            .filter_map(|p| i64_at(p, "hostPort"));
        all.filter(|p| *p != 0).map(|p| p.to_string()).collect()
    };
    let names = p.names(|c| !ports(c).is_empty());
    if names.is_empty() {
        return None;
    }
    let all = distinct(p.containers.iter().flat_map(|c| ports(c)).collect());
    let verb = if names.len() == 1 { "uses" } else { "use" };
    let detail = format!(
        "{} {verb} hostPort{} {}",
        containers_text(&names),
        plural(all.len()),
        all.join(", ")
    );
    violation("hostPort", detail)
}

fn host_probes(p: &Pod<'_>) -> Option<Violation> {
    const HANDLERS: &[&str] = &[
        "livenessProbe",
        "readinessProbe",
        "startupProbe",
        "lifecycle.postStart",
        "lifecycle.preStop",
    ];
    let hosts = |c: &Value| -> Vec<String> {
        HANDLERS
            .iter()
            .flat_map(|h| ["httpGet", "tcpSocket"].map(|k| format!("{h}.{k}.host")))
            .map(|path| str_at(c, &path).to_string())
            .filter(|h| !h.is_empty())
            .collect()
    };
    let mut names = p.names(|c| !hosts(c).is_empty());
    if names.is_empty() {
        return None;
    }
    names.sort_unstable();
    let all = distinct(p.containers.iter().flat_map(|c| hosts(c)).collect());
    let verb = if names.len() == 1 { "uses" } else { "use" };
    let detail = format!(
        "{} {verb} probe or lifecycle host{} {}",
        containers_text(&names),
        plural(all.len()),
        quoted(&all)
    );
    violation("probe or lifecycle host", detail)
}

fn privileged(p: &Pod<'_>) -> Option<Violation> {
    let names = p.names(|c| bool_at(c, "securityContext.privileged") == Some(true));
    if names.is_empty() {
        return None;
    }
    let who = containers_text(&names);
    violation(
        "privileged",
        format!("{who} must not set securityContext.privileged=true"),
    )
}

fn proc_mount_baseline(p: &Pod<'_>) -> Option<Violation> {
    if p.own_users() { None } else { proc_mount(p) }
}

fn proc_mount(p: &Pod<'_>) -> Option<Violation> {
    let kind = |c: &Value| str_at(c, "securityContext.procMount").to_string();
    let bad = |c: &Value| !["", "Default"].contains(&kind(c).as_str());
    let names = p.names(bad);
    if names.is_empty() {
        return None;
    }
    let values = distinct(
        p.containers
            .iter()
            .filter(|c| bad(c))
            .map(|c| kind(c))
            .collect(),
    );
    violation(
        "procMount",
        format!(
            "{} must not set securityContext.procMount to {}",
            containers_text(&names),
            quoted(&values)
        ),
    )
}

fn se_linux(p: &Pod<'_>) -> Option<Violation> {
    const TYPES: &[&str] = &["", "container_t", "container_init_t", "container_kvm_t"];
    let engine = |t: &str| p.minor >= 31 && t == "container_engine_t";
    let field =
        |o: &Value, f: &str| str_at(o, &format!("securityContext.seLinuxOptions.{f}")).to_string();
    let bad_type = |o: &Value| {
        let t = field(o, "type");
        !TYPES.contains(&t.as_str()) && !engine(&t)
    };
    let set = |o: &Value, f: &str| !field(o, f).is_empty();
    let bad = |o: &Value| bad_type(o) || set(o, "user") || set(o, "role");
    let (pod, names) = (bad(p.spec), p.names(bad));
    if !pod && names.is_empty() {
        return None;
    }
    let all = || std::iter::once(p.spec).chain(p.containers.iter().copied());
    let types = distinct(
        all()
            .filter(|o| bad_type(o))
            .map(|o| field(o, "type"))
            .collect(),
    );
    let mut what = Vec::new();
    if !types.is_empty() {
        what.push(format!("type{} {}", plural(types.len()), quoted(&types)));
    }
    for f in ["user", "role"] {
        if all().any(|o| set(o, f)) {
            what.push(format!("{f} may not be set"));
        }
    }
    let who = setters(pod, &names, "and");
    violation(
        "seLinuxOptions",
        format!(
            "{who} set forbidden securityContext.seLinuxOptions: {}",
            what.join("; ")
        ),
    )
}

fn seccomp(o: &Value) -> Option<&str> {
    at(o, "securityContext.seccompProfile").map(|f| str_at(f, "type"))
}

fn seccomp_is_bad(o: &Value) -> bool {
    seccomp(o).is_some_and(|t| t != "RuntimeDefault" && t != "Localhost")
}

/// Before the field there were annotations.
fn seccomp_annotations(p: &Pod<'_>) -> Option<Violation> {
    const POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
    const CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
    let of = |key: String| {
        let value = p.meta.get("annotations")?.get(&key)?.as_str()?;
        let fine = ["runtime/default", "docker/default"].contains(&value)
            || value.starts_with("localhost/");
        (!fine).then(|| format!("{key}={value:?}"))
    };
    let containers = p.containers.iter();
    let keys = containers.map(|c| format!("{CONTAINER}{}", str_at(c, "name")));
    let all = keys.chain([POD.to_string()]).filter_map(of);
    let bad = distinct(all.collect());
    if bad.is_empty() {
        return None;
    }
    let detail = format!(
        "forbidden annotation{} {}",
        plural(bad.len()),
        bad.join(", ")
    );
    violation("seccompProfile", detail)
}

fn seccomp_baseline(p: &Pod<'_>) -> Option<Violation> {
    if p.minor < 19 {
        return seccomp_annotations(p);
    }
    let (pod, names) = (seccomp_is_bad(p.spec), p.names(seccomp_is_bad));
    if !pod && names.is_empty() {
        return None;
    }
    let all = std::iter::once(p.spec).chain(p.containers.iter().copied());
    let bad = all
        .filter(|o| seccomp_is_bad(o))
        .filter_map(seccomp)
        .map(String::from);
    let values = distinct(bad.collect());
    violation(
        "seccompProfile",
        format!(
            "{} must not set securityContext.seccompProfile.type to {}",
            setters(pod, &names, "and"),
            quoted(&values)
        ),
    )
}

/// Each with the minor version it is allowed from.
const SYSCTLS: &[(&str, u32)] = &[
    ("kernel.shm_rmid_forced", 0),
    ("net.ipv4.ip_local_port_range", 0),
    ("net.ipv4.tcp_syncookies", 0),
    ("net.ipv4.ping_group_range", 0),
    ("net.ipv4.ip_unprivileged_port_start", 0),
    ("net.ipv4.ip_local_reserved_ports", 27),
    ("net.ipv4.tcp_keepalive_time", 29),
    ("net.ipv4.tcp_fin_timeout", 29),
    ("net.ipv4.tcp_keepalive_intvl", 29),
    ("net.ipv4.tcp_keepalive_probes", 29),
    ("net.ipv4.tcp_rmem", 32),
    ("net.ipv4.tcp_wmem", 32),
    ("net.ipv4.tcp_slow_start_after_idle", 37),
    ("net.ipv4.tcp_notsent_lowat", 37),
];

fn sysctls(p: &Pod<'_>) -> Option<Violation> {
    let bad: Vec<&str> = list_at(p.spec, "securityContext.sysctls")
        .iter()
        .map(|s| str_at(s, "name"))
        .filter(|s| !SYSCTLS.iter().any(|(n, since)| n == s && p.minor >= *since))
        .collect();
    if bad.is_empty() {
        None
    } else {
        violation("forbidden sysctls", bad.join(", "))
    }
}

fn windows_host_process(p: &Pod<'_>) -> Option<Violation> {
    let bad = |o: &Value| bool_at(o, "securityContext.windowsOptions.hostProcess") == Some(true);
    let (pod, names) = (bad(p.spec), p.names(bad));
    if !pod && names.is_empty() {
        return None;
    }
    violation(
        "hostProcess",
        format!(
            "{} must not set securityContext.windowsOptions.hostProcess=true",
            setters(pod, &names, "and")
        ),
    )
}

// === restricted ===

fn allow_privilege_escalation(p: &Pod<'_>) -> Option<Violation> {
    if p.is_windows() {
        return None;
    }
    let names = p.names(|c| bool_at(c, "securityContext.allowPrivilegeEscalation") != Some(false));
    if names.is_empty() {
        return None;
    }
    violation(
        "allowPrivilegeEscalation != false",
        format!(
            "{} must set securityContext.allowPrivilegeEscalation=false",
            containers_text(&names)
        ),
    )
}

fn capabilities_restricted(p: &Pod<'_>) -> Option<Violation> {
    if p.is_windows() {
        return None;
    }
    let keeps = |c: &Value| {
        let drop = list_at(c, "securityContext.capabilities.drop");
        !drop.iter().any(|d| d == "ALL")
    };
    let names = p.names(keeps);
    let mut parts = Vec::new();
    if !names.is_empty() {
        parts.push(format!(
            "{} must set securityContext.capabilities.drop=[\"ALL\"]",
            containers_text(&names)
        ));
    }
    if let Some((who, what)) = bad_capabilities(p, &["NET_BIND_SERVICE"]) {
        parts.push(format!(
            "{who} must not include {what} in securityContext.capabilities.add"
        ));
    }
    if parts.is_empty() {
        return None;
    }
    violation("unrestricted capabilities", parts.join("; "))
}

fn restricted_volumes(p: &Pod<'_>) -> Option<Violation> {
    const ALLOWED: &[&str] = &[
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "image",
        "persistentVolumeClaim",
        "projected",
        "secret",
    ];
    let kind = |v: &Value| -> Option<String> {
        let fields: Vec<&String> = v
            .as_object()?
            .iter()
            .filter(|(k, v)| *k != "name" && !v.is_null())
            .map(|(k, _)| k)
            .collect();
        if fields.iter().any(|f| ALLOWED.contains(&f.as_str())) {
            return None;
        }
        Some(fields.first().map_or("unknown".into(), |f| (*f).clone()))
    };
    let volumes = list_at(p.spec, "volumes");
    let bad: Vec<(&str, String)> = volumes
        .iter()
        .filter_map(|v| Some((str_at(v, "name"), kind(v)?)))
        .collect();
    if bad.is_empty() {
        return None;
    }
    let names: Vec<&str> = bad.iter().map(|(n, _)| *n).collect();
    let kinds = distinct(bad.iter().map(|(_, k)| k.clone()).collect());
    let verb = if names.len() == 1 { "uses" } else { "use" };
    violation(
        "restricted volume types",
        format!(
            "volume{} {} {verb} restricted volume type{} {}",
            plural(names.len()),
            quoted(&names),
            plural(kinds.len()),
            quoted(&kinds)
        ),
    )
}

fn run_as_non_root(p: &Pod<'_>) -> Option<Violation> {
    if p.own_users() {
        return None;
    }
    let value = |o: &Value| bool_at(o, "securityContext.runAsNonRoot");
    let pod = value(p.spec);
    let explicit = p.names(|c| value(c) == Some(false));
    let pod_bad = pod == Some(false);
    if pod_bad || !explicit.is_empty() {
        let who = setters(pod_bad, &explicit, "and");
        return violation(
            "runAsNonRoot != true",
            format!("{who} must not set securityContext.runAsNonRoot=false"),
        );
    }
    let implicit = p.names(|c| value(c).is_none());
    if pod == Some(true) || implicit.is_empty() {
        return None;
    }
    violation(
        "runAsNonRoot != true",
        format!(
            "pod or {} must set securityContext.runAsNonRoot=true",
            containers_text(&implicit)
        ),
    )
}

fn run_as_user(p: &Pod<'_>) -> Option<Violation> {
    if p.own_users() {
        return None;
    }
    let bad = |o: &Value| i64_at(o, "securityContext.runAsUser") == Some(0);
    let (pod, names) = (bad(p.spec), p.names(bad));
    if !pod && names.is_empty() {
        return None;
    }
    let who = setters(pod, &names, "and");
    violation("runAsUser=0", format!("{who} must not set runAsUser=0"))
}

fn seccomp_restricted(p: &Pod<'_>) -> Option<Violation> {
    if p.is_windows() {
        return None;
    }
    if let Some(found) = seccomp_baseline(p) {
        return Some(found);
    }
    let implicit = p.names(|c| seccomp(c).is_none());
    if seccomp(p.spec).is_some() || implicit.is_empty() {
        return None;
    }
    violation(
        "seccompProfile",
        format!(
            "pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"",
            containers_text(&implicit)
        ),
    )
}
