//! PodSecurity: the pod security standards, by labels of the namespace.
//! Upstream: k8s.io/pod-security-admission.

use async_trait::async_trait;
use machinery::object::{at, list_at, name, str_at};
use machinery::request::{Admission, Attempt, Operation, Steps};
use machinery::{ApiError, Causes};
use serde_json::{Value, json};

use crate::Context;

mod checks;

pub struct PodSecurity(pub Context);

/// A level of the pod security standards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Privileged,
    Baseline,
    Restricted,
}

/// Level and version of one mode.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mode {
    level: Level,
    version: String,
}

/// What a namespace asks for.
struct Policy {
    enforce: Mode,
    audit: Mode,
    warn: Mode,
}

const PREFIX: &str = "pod-security.kubernetes.io";

// === Level ===

impl Level {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "privileged" => Some(Self::Privileged),
            "baseline" => Some(Self::Baseline),
            "restricted" => Some(Self::Restricted),
            _ => None,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Privileged => "privileged",
            Self::Baseline => "baseline",
            Self::Restricted => "restricted",
        }
    }
}

impl std::fmt::Display for Mode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.level.text(), self.version)
    }
}

impl Mode {
    /// The minor version of the standards; what is not known yet is the latest.
    fn minor(&self) -> u32 {
        let minor = self.version.strip_prefix("v1.");
        minor.and_then(|m| m.parse().ok()).unwrap_or(checks::LATEST)
    }

    fn violations(&self, meta: &Value, spec: &Value) -> Vec<checks::Violation> {
        checks::run(self.level, self.minor(), meta, spec)
    }
}

// === Policy ===

fn label<'a>(namespace: &'a Value, what: &str) -> Option<&'a str> {
    namespace["metadata"]["labels"]
        .get(format!("{PREFIX}/{what}"))?
        .as_str()
}

fn version_is_valid(text: &str) -> bool {
    let minor = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
    text == "latest" || text.strip_prefix("v1.").is_some_and(minor)
}

impl Policy {
    /// Bad labels fall back: enforce to restricted, the others to privileged, versions to latest.
    fn of(namespace: &Value) -> Self {
        let mode = |what: &str, fallback: Level| {
            let level = match label(namespace, what) {
                None | Some("") => Level::Privileged,
                Some(text) => Level::parse(text).unwrap_or(fallback),
            };
            let version = label(namespace, &format!("{what}-version"))
                .filter(|v| version_is_valid(v))
                .unwrap_or("latest");
            Mode {
                level,
                version: version.into(),
            }
        };
        let enforce = mode("enforce", Level::Restricted);
        let mut warn = mode("warn", Level::Privileged);
        if label(namespace, "warn").is_none() && enforce.level > Level::Privileged {
            warn.level = enforce.level;
            if label(namespace, "warn-version").is_none() {
                warn.version.clone_from(&enforce.version);
            }
        }
        Self {
            enforce,
            audit: mode("audit", Level::Privileged),
            warn,
        }
    }
}

/// Key of a label, whether a value is good, and what to say if not.
type LabelCheck = (String, fn(&str) -> bool, &'static str);

/// Problems of a namespace's labels, as field errors.
fn check_labels(namespace: &Value, causes: &mut Causes) {
    for what in ["enforce", "audit", "warn"] {
        let checks: [LabelCheck; 2] = [
            (
                what.to_string(),
                |v| Level::parse(v).is_some(),
                "must be one of privileged, baseline, restricted",
            ),
            (
                format!("{what}-version"),
                version_is_valid,
                "must be \"latest\" or \"v1.x\"",
            ),
        ];
        for (key, good, text) in checks {
            if let Some(value) = label(namespace, &key).filter(|v| !good(v)) {
                causes.at("metadata", |c| {
                    c.at("labels", |c| {
                        c.key(&format!("{PREFIX}/{key}"), |c| {
                            c.invalid(&json!(value), text)
                        });
                    });
                });
            }
        }
    }
}

/// `reason (detail), reason (detail)`; `None` where the pod fits the level.
fn violations(mode: &Mode, meta: &Value, spec: &Value) -> Option<String> {
    let found = mode.violations(meta, spec);
    if found.is_empty() {
        return None;
    }
    let texts: Vec<String> = found
        .iter()
        .map(|v| match v.detail.as_str() {
            "" => v.reason.to_string(),
            detail => format!("{} ({detail})", v.reason),
        })
        .collect();
    Some(texts.join(", "))
}

/// Where in an object the pod's metadata and spec are; `true` for pods themselves.
fn pod_of<'a>(a: &Attempt<'_>, o: &'a Value) -> Option<(&'a Value, &'a Value, bool)> {
    let template = match (&*a.descriptor.group, &*a.descriptor.resource) {
        ("", "pods") => return Some((&o["metadata"], &o["spec"], true)),
        ("", "podtemplates") => at(o, "template"),
        ("", "replicationcontrollers")
        | ("apps", "replicasets" | "deployments" | "statefulsets" | "daemonsets")
        | ("batch", "jobs") => at(o, "spec.template"),
        ("batch", "cronjobs") => at(o, "spec.jobTemplate.spec.template"),
        _ => None,
    }?;
    Some((&template["metadata"], &template["spec"], false))
}

/// Whether an update of a pod changes what the checks look at.
fn matters(before: &Value, after: &Value) -> bool {
    let images = |o: &Value, path: &str| -> Vec<(String, String)> {
        let of = |c: &Value| {
            (
                str_at(c, "name").to_string(),
                str_at(c, "image").to_string(),
            )
        };
        list_at(o, path).iter().map(of).collect()
    };
    [
        "spec.containers",
        "spec.initContainers",
        "spec.ephemeralContainers",
    ]
    .iter()
    .any(|p| images(before, p) != images(after, p))
}

impl PodSecurity {
    fn policy(&self, a: &Attempt<'_>) -> Option<Policy> {
        self.0
            .get("", "namespaces", "", a.namespace)
            .map(|n| Policy::of(&n))
    }

    /// The pod of a write that must be judged, with the policy of its namespace.
    fn judged<'a>(
        &self,
        a: &Attempt<'_>,
        o: &'a Value,
    ) -> Option<(&'a Value, &'a Value, bool, Policy)> {
        let (meta, spec, is_pod) = pod_of(a, o)?;
        let passed = [
            "exec",
            "attach",
            "binding",
            "eviction",
            "log",
            "portforward",
            "proxy",
            "status",
        ];
        if passed.contains(&a.subresource) || (!is_pod && !a.subresource.is_empty()) {
            return None;
        }
        if is_pod && a.before.is_some_and(|b| !matters(b, o)) {
            return None;
        }
        Some((meta, spec, is_pod, self.policy(a)?))
    }

    /// Warnings about pods that a stricter level would refuse.
    fn existing_pods(&self, namespace: &str, mode: &Mode) -> Vec<String> {
        let pods = self.0.list("", "pods", Some(namespace));
        let (total, checked) = (pods.len(), pods.len().min(crate::limits::PODS_CHECKED_MAX));
        let mut groups: std::collections::BTreeMap<String, Vec<String>> = Default::default();
        for pod in pods.iter().take(checked) {
            let found = mode.violations(&pod["metadata"], &pod["spec"]);
            if !found.is_empty() {
                let reasons: Vec<&str> = found.iter().map(|v| &*v.reason).collect();
                groups
                    .entry(reasons.join(", "))
                    .or_default()
                    .push(name(pod).into());
            }
        }
        let mut out = Vec::new();
        if checked < total {
            out.push(format!(
                "new PodSecurity enforce level only checked against the first {checked} of {total} existing pods"
            ));
        }
        if groups.is_empty() {
            return out;
        }
        out.push(format!(
            "existing pods in namespace \"{namespace}\" violate the new PodSecurity enforce level \"{mode}\""
        ));
        let mut lines: Vec<String> = groups
            .into_iter()
            .map(|(reasons, mut names)| {
                names.sort();
                match names.len() {
                    1 => format!("{}: {reasons}", names[0]),
                    2 => format!("{} (and 1 other pod): {reasons}", names[0]),
                    n => format!("{} (and {} other pods): {reasons}", names[0], n - 1),
                }
            })
            .collect();
        lines.sort();
        out.extend(lines);
        out
    }

    fn namespace_warnings(&self, a: &Attempt<'_>) -> Vec<String> {
        let (Some(after), Some(before)) = (&a.object, a.before) else {
            return Vec::new();
        };
        let (new, old) = (Policy::of(after).enforce, Policy::of(before).enforce);
        let stricter = new.level > Level::Privileged
            && (new.level > old.level || (new.version != old.version && new.level >= old.level));
        if a.subresource.is_empty() && stricter {
            self.existing_pods(name(after), &new)
        } else {
            Vec::new()
        }
    }
}

#[async_trait]
impl Admission for PodSecurity {
    fn name(&self) -> &'static str {
        "PodSecurity"
    }

    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    fn steps(&self) -> Steps {
        Steps::Both
    }

    /// Warns and notes for the audit; later plugins change nothing that the checks look at.
    async fn mutate(&self, a: &mut Attempt<'_>) -> Result<(), ApiError> {
        if a.is("", "namespaces") {
            let warnings = self.namespace_warnings(a);
            warnings.into_iter().for_each(|w| a.warnings.push(w));
            return Ok(());
        }
        let a = &*a;
        let Some(object) = &a.object else {
            return Ok(());
        };
        let Some((meta, spec, is_pod, policy)) = self.judged(a, object) else {
            return Ok(());
        };
        let annotate = |what: &str| format!("{PREFIX}/{what}");
        if is_pod {
            a.audit_annotations
                .insert(annotate("enforce-policy"), policy.enforce.to_string());
        }
        if let Some(text) = violations(&policy.audit, meta, spec) {
            let text = format!("would violate PodSecurity \"{}\": {text}", policy.audit);
            a.audit_annotations
                .insert(annotate("audit-violations"), text);
        }
        let refused = is_pod && violations(&policy.enforce, meta, spec).is_some();
        if let Some(text) = violations(&policy.warn, meta, spec).filter(|_| !refused) {
            a.warnings.push(format!(
                "would violate PodSecurity \"{}\": {text}",
                policy.warn
            ));
        }
        Ok(())
    }

    async fn validate(&self, a: &Attempt<'_>) -> Result<(), ApiError> {
        let Some(object) = &a.object else {
            return Ok(());
        };
        if a.is("", "namespaces") {
            let (mut now, mut then) = (Causes::new(), Causes::new());
            check_labels(object, &mut now);
            if let Some(before) = a.before {
                check_labels(before, &mut then);
            }
            if now.is_empty() || now.as_slice() == then.as_slice() {
                return Ok(());
            }
            return Err(ApiError::invalid(
                "",
                "Namespace",
                name(object),
                now.as_slice(),
            ));
        }
        let Some((meta, spec, true, policy)) = self.judged(a, object) else {
            return Ok(());
        };
        match violations(&policy.enforce, meta, spec) {
            Some(text) => Err(a.forbidden(&format!(
                "violates PodSecurity \"{}\": {text}",
                policy.enforce
            ))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pods, and what upstream's checks of every level and version said of them; `tools/e2e/reference/podsecurity`
    /// writes the table.
    #[test]
    fn generated_pods_are_judged_as_by_upstream() {
        let mut wrong = Vec::new();
        for line in include_str!("tests/pod_security.jsonl").lines() {
            let line: Value = serde_json::from_str(line).expect("a line of the table");
            let (meta, spec) = (&line["pod"]["metadata"], &line["pod"]["spec"]);
            for level in [Level::Baseline, Level::Restricted] {
                let mut said = list_at(&line["said"], level.text()).iter().peekable();
                let mut wanted = "";
                let mut told = false;
                let versions = (0..38).map(|m| format!("v1.{m}"));
                for version in versions.chain(["latest".to_string()]) {
                    if let Some(change) = said.next_if(|c| c[0] == *version) {
                        wanted = change[1].as_str().expect("a text");
                    }
                    let mode = Mode { level, version };
                    let got = violations(&mode, meta, spec).unwrap_or_default();
                    if got != wanted && !std::mem::replace(&mut told, true) {
                        wrong.push(format!(
                            "{mode} {}\n  wanted {wanted}\n  got    {got}",
                            line["pod"]
                        ));
                    }
                }
            }
        }
        let shown = wrong.iter().take(20).cloned().collect::<Vec<_>>();
        assert!(
            wrong.is_empty(),
            "{} differ\n{}",
            wrong.len(),
            shown.join("\n")
        );
    }
}
