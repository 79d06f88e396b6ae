//! Twins of validatingadmissionpolicy.go and mutatingadmissionpolicy.go that need expressions evaluated.

use std::time::Duration;

use anyhow::{Result, ensure};
use http::Method;
use serde_json::{Value, json};

use super::super::Twin;
use crate::rest::Cx;

pub const TWINS: &[Twin] = &[
    twin!(
        "[sig-api-machinery] ValidatingAdmissionPolicy [Privileged:ClusterAdmin] should validate against a Deployment [Conformance]",
        "validating-admission-policy",
        validates
    ),
    twin!(
        "[sig-api-machinery] ValidatingAdmissionPolicy [Privileged:ClusterAdmin] should allow expressions to refer variables. [Conformance]",
        "validating-admission-policy",
        variables
    ),
    twin!(
        "[sig-api-machinery] MutatingAdmissionPolicy [Privileged:ClusterAdmin] should mutate a Deployment [Conformance]",
        "mutating-admission-policy",
        mutates
    ),
    twin!(
        "[sig-api-machinery] MutatingAdmissionPolicy [Privileged:ClusterAdmin] should mutate a Deployment with annotations [Conformance]",
        "mutating-admission-policy",
        annotates
    ),
];

const EVERY: Duration = Duration::from_millis(100);
/// A spec may take as long as its timeout; a policy that is not live after a minute never will be.
const WITHIN: Duration = Duration::from_secs(60);

/// Creates a policy of a kind for deployments of the twin's namespace, and its binding.
async fn bind(cx: &Cx, kind: &str, rules: Value, actions: Option<Value>) -> Result<()> {
    let unique = &cx.namespace;
    let label = json!({"metadata": {"labels": {unique: "true"}}});
    cx.patch(
        &format!("/api/v1/namespaces/{unique}"),
        "strategic-merge",
        &label,
    )
    .await?;
    let selector = json!({"matchLabels": {unique: "true"}});
    let (policy, binding) = (
        format!("{unique}.policy.example.com"),
        format!("{unique}.binding.example.com"),
    );
    let mut spec = rules;
    spec["matchConstraints"] = json!({"namespaceSelector": selector, "resourceRules": [
        {"operations": ["CREATE", "UPDATE"], "apiGroups": ["apps"], "apiVersions": ["v1"],
            "resources": ["deployments"]}]});
    let mut bound =
        json!({"policyName": policy, "matchResources": {"namespaceSelector": selector}});
    if let Some(actions) = actions {
        bound["validationActions"] = actions;
    }
    let plural = kind.to_lowercase();
    let plural = plural.trim_end_matches('y');
    for (kind, plural, name, spec) in [
        (kind.to_string(), format!("{plural}ies"), policy, spec),
        (
            format!("{kind}Binding"),
            format!("{plural}ybindings"),
            binding,
            bound,
        ),
    ] {
        let all = format!("/apis/admissionregistration.k8s.io/v1/{plural}");
        let object = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind,
            "metadata": {"name": name}, "spec": spec});
        cx.ok(Method::POST, &all, &object).await?;
        cx.clean(format!("{all}/{name}"));
    }
    Ok(())
}

fn workload(kind: &str, name: &str, replicas: i64) -> Value {
    let labels = json!({"app": "nginx"});
    json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name, "labels": labels},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels},
                "spec": {"containers": [{"name": "nginx", "image": "nginx:latest"}]}}}})
}

/// Creates and deletes a deployment of one replica until the answer to its creation is as wanted.
async fn marker(
    cx: &Cx,
    what: &str,
    wanted: impl Fn(&Result<Value, crate::rest::Failure>) -> Result<bool>,
) -> Result<()> {
    let all = cx.group("apps/v1", "deployments");
    let marker = workload("Deployment", "marker-deployment", 1);
    cx.eventually(EVERY, WITHIN, what, || async {
        let answer = cx
            .send(Method::POST, &all, "application/json", Some(&marker))
            .await?;
        if answer.is_ok() {
            cx.delete(&format!("{all}/marker-deployment")).await?;
        }
        wanted(&answer)
    })
    .await
}

/// Waits until the marker is refused; other workloads are not.
async fn refuses(cx: &Cx, replicas: i64) -> Result<()> {
    marker(cx, "the marker is refused", |answer| match answer {
        Ok(_) => Ok(false),
        Err(failure) => {
            ensure!(failure.reason == "Invalid", "{failure:?}");
            Ok(true)
        }
    })
    .await?;
    let good = workload("Deployment", "replicated", replicas);
    cx.ok(Method::POST, &cx.group("apps/v1", "deployments"), &good)
        .await?;
    let other = workload("ReplicaSet", "non-replicated", 1);
    cx.ok(Method::POST, &cx.group("apps/v1", "replicasets"), &other)
        .await?;
    Ok(())
}

async fn validates(cx: Cx) -> Result<()> {
    let in_namespace = format!("namespaceObject.metadata.name == '{}'", cx.namespace);
    let rules = json!({"validations": [
        {"expression": "object.spec.replicas > 1",
            "messageExpression": "'wants replicas > 1, got ' + object.spec.replicas"},
        {"expression": in_namespace,
            "message": "Internal error! Other namespace should not be allowed."}]});
    bind(
        &cx,
        "ValidatingAdmissionPolicy",
        rules,
        Some(json!(["Deny"])),
    )
    .await?;
    refuses(&cx, 2).await
}

async fn variables(cx: Cx) -> Result<()> {
    let rules = json!({
        "variables": [{"name": "replicas", "expression": "object.spec.replicas"},
            {"name": "oddReplicas", "expression": "variables.replicas % 2 == 1"}],
        "validations": [{"expression": "variables.replicas > 1"}, {"expression": "variables.oddReplicas"}]});
    bind(
        &cx,
        "ValidatingAdmissionPolicy",
        rules,
        Some(json!(["Deny"])),
    )
    .await?;
    refuses(&cx, 3).await
}

async fn mutating(cx: &Cx, expression: &str, path: &str, wanted: Value) -> Result<()> {
    let rules = json!({"reinvocationPolicy": "Never", "mutations": [
        {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}]});
    bind(cx, "MutatingAdmissionPolicy", rules, None).await?;
    marker(cx, "the marker is mutated", |answer| match answer {
        Ok(made) => Ok(made.pointer(path) == Some(&wanted)),
        Err(failure) => Err(anyhow::anyhow!("{failure:?}")),
    })
    .await
}

async fn mutates(cx: Cx) -> Result<()> {
    let expression = "Object{spec: Object.spec{replicas: 1337}}";
    mutating(&cx, expression, "/spec/replicas", json!(1337)).await
}

async fn annotates(cx: Cx) -> Result<()> {
    let expression =
        r#"Object{metadata: Object.metadata{annotations: {"mutated-by": "admission-policy"}}}"#;
    let path = "/metadata/annotations/mutated-by";
    mutating(&cx, expression, path, json!("admission-policy")).await
}
