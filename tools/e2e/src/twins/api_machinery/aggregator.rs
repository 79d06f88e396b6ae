//! The twin of aggregator.go: a sample API server behind ours.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use http::Method;
use serde_json::{Value, json};

use super::super::Twin;
use crate::certs;
use crate::fixtures::workload;
use crate::images::{ETCD_IMAGE, SAMPLE_APISERVER_IMAGE};
use crate::rest::{Cx, labelled, random, version};
use crate::waits;

const GROUP: &str = "wardle.example.com";
const VERSION: &str = "v1alpha1";
const SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
const DEPLOYMENT: &str = "sample-apiserver-deployment";
const SECRET: &str = "sample-apiserver-secret";
const PORT: u16 = 7443;
const MOUNT: &str = "/apiserver.local.config/certificates";
const ETCD: &str = "http://127.0.0.1:2379";

pub const TWINS: &[Twin] = &[twin!(
    "[sig-api-machinery] Aggregator Should be able to support the 1.17 Sample API Server using the current Aggregator [LinuxOnly] [Conformance]",
    "aggregator",
    sample
)];

fn service_name() -> String {
    format!("{VERSION}.{GROUP}")
}

fn flunders(namespace: &str) -> String {
    format!("/apis/{GROUP}/{VERSION}/namespaces/{namespace}/flunders")
}

async fn sample(cx: Cx) -> Result<()> {
    let authority = set_up(&cx).await?;
    register(&cx, &authority).await?;
    by_path(&cx).await?;
    let name = format!("dynamic-flunder-{}", random(8));
    preferred(&cx).await?;
    let all = flunders(&cx.namespace);
    let flunder = json!({"apiVersion": format!("{GROUP}/{VERSION}"), "kind": "Flunder",
        "metadata": {"name": name, "creationTimestamp": null}, "spec": {}, "status": {}});
    cx.ok(Method::POST, &all, &flunder).await?;
    ensure!(cx.items(&all).await?.len() == 1, "one flunder");
    patched(&cx).await?;
    status_updated(&cx).await?;
    let path = format!("{SERVICES}/{}", service_name());
    let label = service_name();
    let updated = cx
        .update(&path, |o| {
            o["metadata"]["labels"] = json!({&label: "updated"})
        })
        .await?;
    let labels = &updated["metadata"]["labels"];
    ensure!(labels[&label] == "updated", "{updated}");
    cx.delete(&format!("{all}/{name}")).await?;
    ensure!(cx.items(&all).await?.is_empty(), "no flunder");
    cx.ok(Method::POST, &all, &flunder).await?;
    ensure!(cx.items(&all).await?.len() == 1, "one flunder again");
    status_patched(&cx).await?;
    let selected = format!("{SERVICES}?{}", labelled(&format!("{label}=updated")));
    cx.delete(&selected).await?;
    let within = Duration::from_secs(120);
    cx.eventually(Duration::from_secs(1), within, "no APIService", || async {
        Ok(cx.items(&selected).await?.is_empty())
    })
    .await
}

/// Deploys the sample; the authority that signed its certificate.
async fn set_up(cx: &Cx) -> Result<String> {
    let ns = &cx.namespace;
    let identity = certs::server(&format!("sample-api.{ns}.svc"))?;
    let data = json!({"tls.crt": BASE64.encode(&identity.certificate),
        "tls.key": BASE64.encode(&identity.key)});
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": {"name": SECRET}, "data": data});
    cx.ok(Method::POST, &cx.core("secrets"), &secret).await?;
    let role = format!("sample-apiserver-reader-{ns}");
    let rule = |group: &str, resources: &[&str]| json!({"verbs": ["get", "list", "watch"], "apiGroups": [group], "resources": resources});
    let rules = [
        rule("", &["namespaces"]),
        rule("admissionregistration.k8s.io", &["*"]),
        rule(
            "flowcontrol.apiserver.k8s.io",
            &["prioritylevelconfigurations", "flowschemas"],
        ),
    ];
    let object = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": role}, "rules": rules});
    make(cx, &format!("{RBAC}/clusterroles"), &object).await?;
    bind(
        cx,
        &format!("wardler:{ns}sample-apiserver-reader-{ns}"),
        &role,
    )
    .await?;
    let name = format!("wardler:{ns}:auth-delegator");
    bind(cx, &name, "system:auth-delegator").await?;
    let all = cx.group("apps/v1", "deployments");
    cx.ok(Method::POST, &all, &deployment()).await?;
    for image in [SAMPLE_APISERVER_IMAGE, ETCD_IMAGE] {
        waits::revision(cx, DEPLOYMENT, "1", image).await?;
    }
    let service = json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "sample-api", "labels": {"test": "aggregator"}},
        "spec": {"selector": {"apiserver": "true"},
            "ports": [{"protocol": "TCP", "port": PORT, "targetPort": 443}]}});
    cx.ok(Method::POST, &cx.core("services"), &service).await?;
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"name": "sample-apiserver"}});
    let accounts = cx.core("serviceaccounts");
    cx.ok(Method::POST, &accounts, &account).await?;
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": format!("wardler-auth-reader-{ns}"),
            "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"}},
        "roleRef": {"apiGroup": "", "kind": "Role",
            "name": "extension-apiserver-authentication-reader"},
        "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": ns}]});
    let all = format!("{RBAC}/namespaces/kube-system/rolebindings");
    make(cx, &all, &binding).await?;
    waits::deployment_complete(cx, DEPLOYMENT).await?;
    Ok(BASE64.encode(&identity.authority))
}

/// Creates an object outside of the twin's namespace, which goes with it.
async fn make(cx: &Cx, all: &str, object: &Value) -> Result<()> {
    cx.ok(Method::POST, all, object).await?;
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    cx.clean(format!("{all}/{name}"));
    Ok(())
}

async fn bind(cx: &Cx, name: &str, role: &str) -> Result<()> {
    let object = json!({"apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding", "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": cx.namespace}]});
    make(cx, &format!("{RBAC}/clusterrolebindings"), &object).await
}

fn deployment() -> Value {
    let container = json!({"name": "sample-apiserver", "image": SAMPLE_APISERVER_IMAGE,
        "args": [format!("--etcd-servers={ETCD}"), format!("--tls-cert-file={MOUNT}/tls.crt"),
            format!("--tls-private-key-file={MOUNT}/tls.key"), "--audit-log-path=-",
            "--audit-log-maxage=0", "--audit-log-maxbackup=0"],
        "volumeMounts": [{"name": "apiserver-certs", "readOnly": true, "mountPath": MOUNT}],
        "readinessProbe": {"httpGet": {"scheme": "HTTPS", "port": 443, "path": "/readyz"},
            "initialDelaySeconds": 20, "periodSeconds": 1, "successThreshold": 1,
            "failureThreshold": 3}});
    let labels = json!({"app": "sample-apiserver", "apiserver": "true"});
    let mut made = workload("Deployment", DEPLOYMENT, 1, &labels, container);
    made["spec"]["strategy"] = json!({"type": "RollingUpdate"});
    let spec = &mut made["spec"]["template"]["spec"];
    spec["volumes"] = json!([{"name": "apiserver-certs", "secret": {"secretName": SECRET}}]);
    let etcd = json!({"name": "etcd", "image": ETCD_IMAGE, "command": ["/usr/local/bin/etcd",
        "--listen-client-urls", ETCD, "--advertise-client-urls", ETCD]});
    if let Some(all) = spec["containers"].as_array_mut() {
        all.push(etcd);
    }
    made
}

/// Registers the sample, and waits until it is served.
async fn register(cx: &Cx, authority: &str) -> Result<()> {
    let object = json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {"name": service_name()},
        "spec": {"service": {"namespace": cx.namespace, "name": "sample-api", "port": PORT},
            "group": GROUP, "version": VERSION, "caBundle": authority,
            "groupPriorityMinimum": 2000, "versionPriority": 200}});
    make(cx, SERVICES, &object).await?;
    let (every, within) = (Duration::from_millis(100), Duration::from_secs(60));
    cx.eventually(every, within, "the sample API server", || async {
        let path = flunders("default");
        let accept = [("accept", "application/json")];
        let answer = cx.raw(Method::GET, &path, &accept, "").await?;
        match answer.code {
            200 => Ok(true),
            403 | 404 | 503 => Ok(false),
            _ => bail!("GET {path}: {answer:?}"),
        }
    })
    .await
}

/// Creates, lists and deletes with plain requests, no content type included.
async fn by_path(cx: &Cx) -> Result<()> {
    let (all, name) = (flunders("default"), format!("rest-flunder-{}", random(8)));
    let flunder = json!({"apiVersion": format!("{GROUP}/{VERSION}"), "kind": "Flunder",
        "metadata": {"labels": {"sample-label": "true"}, "name": name, "namespace": "default"}});
    let accept = [("accept", "application/json")];
    let body = flunder.to_string();
    let answer = cx.raw(Method::POST, &all, &accept, body).await?;
    ensure!(answer.code == 201, "{answer:?}");
    let made: Value = serde_json::from_str(&answer.text)?;
    for field in ["/apiVersion", "/kind", "/metadata/name"] {
        ensure!(made.pointer(field) == flunder.pointer(field), "{made}");
    }
    ensure!(cx.items(&all).await?.len() == 1, "one flunder");
    cx.delete(&format!("{all}/{name}")).await?;
    ensure!(cx.items(&all).await?.is_empty(), "no flunder");
    Ok(())
}

/// Discovery has the sample's resource among the preferred namespaced ones, at once.
async fn preferred(cx: &Cx) -> Result<()> {
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";
    let answer = cx
        .raw(Method::GET, "/apis", &[("accept", accept)], "")
        .await?;
    ensure!(answer.code == 200, "{answer:?}");
    let list: Value = serde_json::from_str(&answer.text)?;
    let groups = list["items"].as_array().into_iter().flatten();
    let mut ours = groups.filter(|g| g["metadata"]["name"] == GROUP);
    let first = ours.next().map(|g| g["versions"][0].clone());
    let first = first.unwrap_or_default();
    ensure!(first["version"] == VERSION, "{GROUP} is not discovered");
    let mut resources = first["resources"].as_array().into_iter().flatten();
    let found = resources.any(|r| r["resource"] == "flunders" && r["scope"] == "Namespaced");
    ensure!(found, "{first}");
    Ok(())
}

async fn status(cx: &Cx) -> Result<Value> {
    cx.get(&format!("{SERVICES}/{}/status", service_name()))
        .await
}

async fn patched(cx: &Cx) -> Result<()> {
    let path = format!("{SERVICES}/{}", service_name());
    let before = status(cx).await?;
    let message = &before["status"]["conditions"][0]["message"];
    ensure!(message == "all checks passed", "{before}");
    let patch = json!({"spec": {"versionPriority": 400}});
    let after = cx.patch(&path, "merge", &patch).await?;
    ensure!(after["spec"]["versionPriority"] == 400, "{after}");
    ensure!(version(&before)? < version(&after)?, "no newer version");
    let all = cx.items(SERVICES).await?;
    let found = all
        .iter()
        .any(|s| s["metadata"]["name"] == json!(service_name()));
    ensure!(found, "{} is not listed", service_name());
    let label = json!({"metadata": {"labels": {"e2e-apiservice": "patched"}}});
    cx.patch(&path, "strategic-merge", &label).await?;
    cx.get(&path).await.map(drop)
}

fn condition(kind: &str, message: &str) -> Value {
    json!({"type": kind, "status": "True", "reason": "E2E", "message": message,
        "lastTransitionTime": null})
}

async fn has_condition(cx: &Cx, kind: &str, message: &str) -> Result<()> {
    let object = status(cx).await?;
    let mut all = object["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten();
    let found = all.any(|c| c["type"] == kind && c["reason"] == "E2E" && c["message"] == message);
    ensure!(found, "no {kind}: {object}");
    Ok(())
}

async fn status_updated(cx: &Cx) -> Result<()> {
    let path = format!("{SERVICES}/{}/status", service_name());
    let (kind, message) = ("StatusUpdated", "Set from e2e test");
    cx.update(&path, |o| {
        if let Some(all) = o["status"]["conditions"].as_array_mut() {
            all.push(condition(kind, message));
        }
    })
    .await?;
    has_condition(cx, kind, message).await
}

async fn status_patched(cx: &Cx) -> Result<()> {
    let path = format!("{SERVICES}/{}/status", service_name());
    let (kind, message) = ("StatusPatched", "Set by e2e test");
    let mut all = status(cx).await?["status"]["conditions"].take();
    if let Some(all) = all.as_array_mut() {
        all.push(condition(kind, message));
    }
    let patch = json!({"status": {"conditions": all}});
    cx.patch(&path, "merge", &patch).await?;
    has_condition(cx, kind, message).await
}
