//! NodeRestriction: a kubelet changes only what belongs to its node.
//! Upstream: plugin/pkg/admission/noderestriction.

mod pod_certificates;

use std::collections::BTreeSet;

use async_trait::async_trait;
use machinery::ApiError;
use machinery::object::{at, bool_at, list_at, map_at, name, str_at};
use machinery::request::{Admission, Attempt, Attributes, Decision, Operation, Steps};
use serde_json::Value;

use crate::Context;

pub struct NodeRestriction(pub Context);

const MIRROR: &str = "kubernetes.io/config.mirror";

/// Labels of Kubernetes' own domains that a node may set on itself.
const NODE_LABELS: &[&str] = &[
    "kubernetes.io/hostname",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "beta.kubernetes.io/instance-type",
    "node.kubernetes.io/instance-type",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
];

#[async_trait]
impl Admission for NodeRestriction {
    fn name(&self) -> &'static str {
        "NodeRestriction"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation != Operation::Connect
    }

    fn steps(&self) -> Steps {
        Steps::Mutate
    }

    async fn mutate(&self, a: &mut Attempt<'_>) -> Result<(), ApiError> {
        let user = a.user;
        let Some(node) = user.name.strip_prefix("system:node:") else {
            return Ok(());
        };
        if !user.in_group("system:nodes") {
            return Ok(());
        }
        if node.is_empty() {
            let why = format!("could not determine node from user \"{}\"", user.name);
            return Err(a.forbidden(&why));
        }
        self.check(a, node).await
    }
}

type Verdict = Result<(), String>;

impl NodeRestriction {
    async fn check(&self, a: &Attempt<'_>, node: &str) -> Result<(), ApiError> {
        let d = a.descriptor;
        let verdict = match (&*d.group, &*d.resource) {
            ("", "pods") => match a.subresource {
                "" => return self.pod(a, node),
                "status" => pod_status(a, node),
                "eviction" => return self.eviction(a, node),
                s => Err(format!(
                    "unexpected pod subresource \"{s}\", only 'status' and 'eviction' are allowed"
                )),
            },
            ("", "nodes") => check_node(a, node),
            ("", "persistentvolumeclaims") => claim(a, node),
            ("", "serviceaccounts") if a.subresource == "token" => {
                return self.token(a, node).await;
            }
            ("coordination.k8s.io", "leases") => lease(a, node),
            ("storage.k8s.io", "csinodes") => csi_node(a, node),
            ("resource.k8s.io", "resourceslices") => resource_slice(a, node),
            ("certificates.k8s.io", "certificatesigningrequests") => signing_request(a, node),
            ("certificates.k8s.io", "podcertificaterequests") => {
                return pod_certificates::check(&self.0, a, node);
            }
            _ => Ok(()),
        };
        verdict.map_err(|why| a.forbidden(&why))
    }

    fn pod(&self, a: &Attempt<'_>, node: &str) -> Result<(), ApiError> {
        match a.operation {
            Operation::Create => self.create_pod(a, node),
            Operation::Delete => {
                let before = a.before.unwrap_or(&Value::Null);
                if str_at(before, "spec.nodeName") == node {
                    return Ok(());
                }
                Err(a.forbidden(&format!(
                    "node \"{node}\" can only delete pods with spec.nodeName set to itself"
                )))
            }
            other => Err(a.forbidden(&format!(
                "unexpected operation \"{}\", node \"{node}\" can only create and delete mirror pods",
                operation_text(other)
            ))),
        }
    }

    fn create_pod(&self, a: &Attempt<'_>, node: &str) -> Result<(), ApiError> {
        let pod = a.object.as_ref().unwrap_or(&Value::Null);
        let n = format!("node \"{node}\"");
        let no = |why: String| Err(a.forbidden(&why));
        if !map_at(pod, "metadata.annotations").is_some_and(|m| m.contains_key(MIRROR)) {
            return no(format!(
                "pod does not have \"{MIRROR}\" annotation, {n} can only create mirror pods"
            ));
        }
        if str_at(pod, "spec.nodeName") != node {
            return no(format!(
                "{n} can only create pods with spec.nodeName set to itself"
            ));
        }
        let owners = list_at(pod, "metadata.ownerReferences");
        if owners.len() > 1 {
            return no(format!(
                "{n} can only create pods with a single owner reference set to itself"
            ));
        }
        let own = |o: &&Value| {
            str_at(o, "apiVersion") == "v1"
                && str_at(o, "kind") == "Node"
                && str_at(o, "name") == node
        };
        let Some(owner) = owners.first().filter(own) else {
            return no(format!(
                "{n} can only create pods with an owner reference set to itself"
            ));
        };
        if bool_at(owner, "controller") != Some(true) {
            return no(format!(
                "{n} can only create pods with a controller owner reference set to itself"
            ));
        }
        if bool_at(owner, "blockOwnerDeletion") == Some(true) {
            return no(format!(
                "{n} must not set blockOwnerDeletion on an owner reference"
            ));
        }
        let stored = self
            .0
            .get("", "nodes", "", node)
            .ok_or_else(|| ApiError::not_found("", "nodes", node))?;
        let (uid, given) = (machinery::object::uid(&stored), str_at(owner, "uid"));
        if uid != given {
            return no(format!(
                "node {node} UID mismatch: expected {given} got {uid}"
            ));
        }
        match references(pod) {
            Some(what) => no(format!("{n} can not create pods that reference {what}")),
            None => Ok(()),
        }
    }

    fn eviction(&self, a: &Attempt<'_>, node: &str) -> Result<(), ApiError> {
        if a.operation != Operation::Create {
            let op = operation_text(a.operation);
            return Err(a.forbidden(&format!("unexpected operation {op}")));
        }
        let object = a.object.as_ref().unwrap_or(&Value::Null);
        let pod = if a.name.is_empty() {
            name(object)
        } else {
            a.name
        };
        if pod.is_empty() {
            return Err(a.forbidden("could not determine pod from request data"));
        }
        let stored = self
            .0
            .get("", "pods", a.namespace, pod)
            .ok_or_else(|| ApiError::not_found("", "pods", pod))?;
        if str_at(&stored, "spec.nodeName") != node {
            return Err(a.forbidden(&format!(
                "node {node} can only evict pods with spec.nodeName set to itself"
            )));
        }
        Ok(())
    }

    async fn token(&self, a: &Attempt<'_>, node: &str) -> Result<(), ApiError> {
        if a.operation != Operation::Create {
            return Ok(());
        }
        let request = a.object.as_ref().unwrap_or(&Value::Null);
        let reference = &request["spec"]["boundObjectRef"];
        let pod_bound = str_at(reference, "apiVersion") == "v1"
            && str_at(reference, "kind") == "Pod"
            && !str_at(reference, "name").is_empty();
        if !pod_bound {
            return Err(a.forbidden("node requested token not bound to a pod"));
        }
        let uid = str_at(reference, "uid");
        if uid.is_empty() {
            return Err(a.forbidden("node requested token with a pod binding without a uid"));
        }
        let pod = str_at(reference, "name");
        let pod = self
            .0
            .get("", "pods", a.namespace, pod)
            .ok_or_else(|| ApiError::not_found("", "pods", pod))?;
        if machinery::object::uid(&pod) != uid {
            return Err(a.forbidden(&format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
            )));
        }
        if str_at(&pod, "spec.nodeName") != node {
            return Err(
                a.forbidden("node requested token bound to a pod scheduled on a different node")
            );
        }
        let audiences = list_at(request, "spec.audiences");
        if audiences.len() > 1 {
            return Err(a.forbidden("node may only request 0 or 1 audiences"));
        }
        let audience = audiences.first().and_then(Value::as_str).unwrap_or("");
        if self.audience_in_pod(&pod, a.namespace, audience) || self.may_request(a, audience).await
        {
            return Ok(());
        }
        Err(a.forbidden(&format!(
            "audience \"{audience}\" not found in pod spec volume, {} is not authorized to request tokens for this audience",
            a.user.name
        )))
    }

    async fn may_request(&self, a: &Attempt<'_>, audience: &str) -> bool {
        let attributes = Attributes {
            user: a.user.clone(),
            verb: "request-serviceaccounts-token-audience".into(),
            resource: audience.into(),
            namespace: a.namespace.into(),
            name: a.name.into(),
            is_resource: true,
            ..Attributes::default()
        };
        matches!(
            self.0.authorizer.authorize(&attributes).await,
            Decision::Allow(_)
        )
    }

    /// Whether a volume of the pod needs a token for the audience.
    fn audience_in_pod(&self, pod: &Value, namespace: &str, audience: &str) -> bool {
        list_at(pod, "spec.volumes").iter().any(|v| {
            let projected = list_at(v, "projected.sources").iter().any(|s| {
                at(s, "serviceAccountToken").is_some_and(|t| str_at(t, "audience") == audience)
            });
            projected
                || self
                    .csi_driver(pod, v, namespace)
                    .is_some_and(|d| self.driver_wants(&d, audience))
        })
    }

    /// The CSI driver behind a volume.
    fn csi_driver(&self, pod: &Value, volume: &Value, namespace: &str) -> Option<String> {
        if let Some(csi) = at(volume, "csi") {
            return Some(str_at(csi, "driver").into());
        }
        let claim = match at(volume, "persistentVolumeClaim") {
            Some(c) => str_at(c, "claimName").to_string(),
            None if at(volume, "ephemeral").is_some() => {
                format!("{}-{}", name(pod), str_at(volume, "name"))
            }
            None => return None,
        };
        let claim = self
            .0
            .get("", "persistentvolumeclaims", namespace, &claim)?;
        let pv = self.0.get(
            "",
            "persistentvolumes",
            "",
            str_at(&claim, "spec.volumeName"),
        )?;
        let driver = str_at(&pv, "spec.csi.driver");
        (!driver.is_empty()).then(|| driver.to_string())
    }

    fn driver_wants(&self, driver: &str, audience: &str) -> bool {
        let found = self.0.get("storage.k8s.io", "csidrivers", "", driver);
        found.is_some_and(|d| {
            let requests = list_at(&d, "spec.tokenRequests");
            requests.iter().any(|r| str_at(r, "audience") == audience)
        })
    }
}

fn operation_text(operation: Operation) -> &'static str {
    match operation {
        Operation::Create => "CREATE",
        Operation::Update => "UPDATE",
        Operation::Delete => "DELETE",
        Operation::Connect => "CONNECT",
    }
}

/// The first kind of API object that a mirror pod refers to, which it may not.
fn references(pod: &Value) -> Option<&'static str> {
    if !str_at(pod, "spec.serviceAccountName").is_empty() {
        return Some("serviceaccounts");
    }
    let containers = [
        "spec.containers",
        "spec.initContainers",
        "spec.ephemeralContainers",
    ];
    let any = |field: &str, path: &str| {
        containers.iter().any(|p| {
            list_at(pod, p)
                .iter()
                .any(|c| list_at(c, field).iter().any(|e| at(e, path).is_some()))
        })
    };
    let pull = !list_at(pod, "spec.imagePullSecrets").is_empty();
    if pull || any("env", "valueFrom.secretKeyRef") || any("envFrom", "secretRef") {
        return Some("secrets");
    }
    if any("env", "valueFrom.configMapKeyRef") || any("envFrom", "configMapRef") {
        return Some("configmaps");
    }
    if !list_at(pod, "spec.resourceClaims").is_empty() {
        return Some("resourceclaims");
    }
    list_at(pod, "spec.volumes")
        .iter()
        .find_map(volume_reference)
}

fn volume_reference(volume: &Value) -> Option<&'static str> {
    const VOLUMES: &[(&str, &str)] = &[
        ("configMap", "configmaps (via configmap volumes)"),
        ("secret", "secrets (via secret volumes)"),
        ("csi", "csidrivers (via CSI volumes)"),
        ("glusterfs", "endpoints (via glusterFS volumes)"),
        ("persistentVolumeClaim", "persistentvolumeclaims"),
        (
            "ephemeral",
            "persistentvolumeclaims (via ephemeral volumes)",
        ),
        ("azureFile", "secrets (via azureFile volumes)"),
    ];
    const SOURCES: &[(&str, &str)] = &[
        ("configMap", "configmaps (via projected volumes)"),
        ("secret", "secrets (via projected volumes)"),
        (
            "serviceAccountToken",
            "serviceaccounts (via projected volumes)",
        ),
        ("clusterTrustBundle", "clustertrustbundles"),
        ("podCertificate", "podcertificates"),
    ];
    let direct = VOLUMES
        .iter()
        .find(|(field, _)| at(volume, field).is_some());
    if let Some((_, text)) = direct {
        return Some(text);
    }
    list_at(volume, "projected.sources").iter().find_map(|s| {
        let found = SOURCES.iter().find(|(field, _)| at(s, field).is_some());
        found.map(|(_, text)| *text)
    })
}

fn pod_status(a: &Attempt<'_>, node: &str) -> Verdict {
    if a.operation != Operation::Update {
        return Err(format!(
            "unexpected operation \"{}\"",
            operation_text(a.operation)
        ));
    }
    let (before, after) = (
        a.before.unwrap_or(&Value::Null),
        a.object.as_ref().unwrap_or(&Value::Null),
    );
    let n = format!("node \"{node}\"");
    if str_at(before, "spec.nodeName") != node {
        return Err(format!(
            "{n} can only update pod status for pods with spec.nodeName set to itself"
        ));
    }
    let labels = |o: &Value| map_at(o, "metadata.labels").cloned().unwrap_or_default();
    if labels(before) != labels(after) {
        return Err(format!("{n} cannot update labels through pod status"));
    }
    let same = |path: &str| at(before, path) == at(after, path);
    if !same("status.resourceClaimStatuses") {
        // Upstream's own spelling.
        return Err(format!("{n} cannot update resource claim statues"));
    }
    if !same("status.extendedResourceClaimStatus") {
        return Err(format!("{n} cannot update extended resource claim status"));
    }
    Ok(())
}

fn check_node(a: &Attempt<'_>, node: &str) -> Verdict {
    let object = a.object.as_ref().unwrap_or(&Value::Null);
    let target = if a.name.is_empty() {
        name(object)
    } else {
        a.name
    };
    let n = format!("node \"{node}\"");
    if target != node {
        return Err(format!("{n} is not allowed to modify node \"{target}\""));
    }
    match (a.operation, a.before) {
        (Operation::Create, _) => {
            if at(object, "spec.configSource").is_some() {
                return Err(format!(
                    "{n} is not allowed to create pods with a non-nil configSource"
                ));
            }
            let bad = forbidden_labels(object, &Value::Null);
            if bad.is_empty() {
                return Ok(());
            }
            Err(format!(
                "{n} is not allowed to set the following labels: {bad}"
            ))
        }
        (Operation::Update, Some(before)) => {
            let differs = |path: &str| at(object, path) != at(before, path);
            if at(object, "spec.configSource").is_some() && differs("spec.configSource") {
                return Err(format!(
                    "{n} is not allowed to update configSource to a new non-nil configSource"
                ));
            }
            if list_at(object, "spec.taints") != list_at(before, "spec.taints") {
                return Err(format!("{n} is not allowed to modify taints"));
            }
            let owners = "metadata.ownerReferences";
            if list_at(object, owners) != list_at(before, owners) {
                return Err(format!("{n} is not allowed to modify ownerReferences"));
            }
            let bad = forbidden_labels(object, before);
            if bad.is_empty() {
                return Ok(());
            }
            Err(format!("is not allowed to modify labels: {bad}"))
        }
        _ => Ok(()),
    }
}

/// Labels that differ and that a node may not change, sorted and joined.
fn forbidden_labels(after: &Value, before: &Value) -> String {
    let labels = |o: &Value| map_at(o, "metadata.labels").cloned().unwrap_or_default();
    let (after, before) = (labels(after), labels(before));
    let changed: BTreeSet<&String> = after
        .iter()
        .filter(|(k, v)| before.get(*k) != Some(v))
        .chain(before.iter().filter(|(k, v)| after.get(*k) != Some(v)))
        .map(|(k, _)| k)
        .collect();
    let bad: Vec<&str> = changed
        .into_iter()
        .map(String::as_str)
        .filter(|k| label_is_forbidden(k))
        .collect();
    bad.join(", ")
}

fn label_is_forbidden(key: &str) -> bool {
    let namespace = key.split_once('/').map_or("", |(n, _)| n);
    let within = |domain: &str| {
        namespace == domain
            || namespace
                .strip_suffix(domain)
                .is_some_and(|rest| rest.ends_with('.'))
    };
    if within("node-restriction.kubernetes.io") {
        return true;
    }
    let kubernetes = within("kubernetes.io") || within("k8s.io");
    let allowed = NODE_LABELS.contains(&key)
        || within("kubelet.kubernetes.io")
        || within("node.kubernetes.io");
    kubernetes && !allowed
}

fn claim(a: &Attempt<'_>, node: &str) -> Verdict {
    if a.subresource != "status" {
        return Err("may only update PVC status".into());
    }
    if a.operation != Operation::Update {
        return Err(format!(
            "unexpected operation \"{}\"",
            operation_text(a.operation)
        ));
    }
    let strip = |o: &Value| {
        let mut o = o.clone();
        for path in [
            "status.capacity",
            "status.conditions",
            "status.allocatedResources",
            "status.allocatedResourceStatuses",
            "metadata.managedFields",
            "metadata.resourceVersion",
        ] {
            machinery::object::remove(&mut o, path);
        }
        if o.get("status")
            .and_then(Value::as_object)
            .is_some_and(|s| s.is_empty())
        {
            machinery::object::remove(&mut o, "status");
        }
        o
    };
    let before = strip(a.before.unwrap_or(&Value::Null));
    let after = strip(a.object.as_ref().unwrap_or(&Value::Null));
    if before == after {
        return Ok(());
    }
    // Upstream appends a diff of the two objects.
    Err(format!(
        "node \"{node}\" is not allowed to update fields other than status.quantity and status.conditions: {}",
        first_difference(&before, &after, String::new())
    ))
}

/// The path of the first value that differs.
fn first_difference(a: &Value, b: &Value, path: String) -> String {
    let (Some(x), Some(y)) = (a.as_object(), b.as_object()) else {
        return path;
    };
    let keys: BTreeSet<&String> = x.keys().chain(y.keys()).collect();
    for k in keys {
        if x.get(k) != y.get(k) {
            let (l, r) = (
                x.get(k).unwrap_or(&Value::Null),
                y.get(k).unwrap_or(&Value::Null),
            );
            return first_difference(l, r, format!("{path}.{k}"));
        }
    }
    path
}

fn lease(a: &Attempt<'_>, node: &str) -> Verdict {
    if a.namespace != "kube-node-lease" {
        return Err("can only access leases in the \"kube-node-lease\" system namespace".into());
    }
    let object = a.object.as_ref().unwrap_or(&Value::Null);
    let target = if a.operation == Operation::Create {
        name(object)
    } else {
        a.name
    };
    if target != node {
        return Err("can only access node lease with the same name as the requesting node".into());
    }
    Ok(())
}

fn csi_node(a: &Attempt<'_>, node: &str) -> Verdict {
    let object = a.object.as_ref().unwrap_or(&Value::Null);
    let target = if a.operation == Operation::Create {
        name(object)
    } else {
        a.name
    };
    if target != node {
        return Err("can only access CSINode with the same name as the requesting node".into());
    }
    Ok(())
}

fn resource_slice(a: &Attempt<'_>, node: &str) -> Verdict {
    let (object, verb) = match a.operation {
        Operation::Create => (a.object.as_ref(), "create"),
        Operation::Delete => (a.before, "delete"),
        _ => return Ok(()),
    };
    if str_at(object.unwrap_or(&Value::Null), "spec.nodeName") == node {
        return Ok(());
    }
    Err(format!(
        "can only {verb} ResourceSlice with the same NodeName as the requesting node"
    ))
}

fn signing_request(a: &Attempt<'_>, node: &str) -> Verdict {
    let Some(object) = a
        .object
        .as_ref()
        .filter(|_| a.operation == Operation::Create)
    else {
        return Ok(());
    };
    let signer = str_at(object, "spec.signerName");
    let ours = [
        "kubernetes.io/kubelet-serving",
        "kubernetes.io/kube-apiserver-client-kubelet",
    ];
    if !ours.contains(&signer) {
        return Ok(());
    }
    let csr =
        crate::certificates::parse(object).map_err(|e| format!("unable to parse csr: {e}"))?;
    let expected = format!("system:node:{node}");
    if csr.common_name != expected {
        return Err(format!("can only create a node CSR with CN={expected}"));
    }
    Ok(())
}
