//! Paths within volumes, and volumes that share a pod.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use http::Method;
use serde_json::{Value, json};

use crate::pods::{self, AGNHOST, PAUSE, uuid};
use crate::rest::Cx;

/// What a test mounts: the volume's source, the path in it, and where.
pub struct Case {
    pub kind: &'static str,
    pub path: &'static str,
    pub mount: &'static str,
}

/// The file that a path within a volume names is what the container sees.
pub async fn atomic_writer(cx: Cx, case: Case) -> Result<()> {
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "my-secret"},
        "stringData": {"secret-key": "secret-value"}});
    cx.ok(Method::POST, &cx.core("secrets"), &secret).await?;
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "my-configmap"},
        "data": {"configmap-key": "configmap-value"}});
    cx.ok(Method::POST, &cx.core("configmaps"), &map).await?;
    let short: String = uuid().chars().take(4).collect();
    let kind = case.kind.to_lowercase();
    let name = format!("pod-subpath-test-{kind}-{short}");
    let field = json!({"apiVersion": "v1", "fieldPath": "metadata.name"});
    let (source, content) = match case.kind {
        "secret" => (
            json!({"secret": {"secretName": "my-secret"}}),
            "secret-value",
        ),
        "configmap" => (
            json!({"configMap": {"name": "my-configmap"}}),
            "configmap-value",
        ),
        "downwardAPI" => (
            json!({"downwardAPI": {"items": [{"path": "downward/podname", "fieldRef": field}]}}),
            name.as_str(),
        ),
        _ => (
            json!({"projected": {"sources": [{"configMap": {"name": "my-configmap",
                "items": [{"key": "configmap-key", "path": "projected/configmap-key"}]}}]}}),
            "configmap-value",
        ),
    };
    let mut volume = source.clone();
    volume["name"] = json!("test-volume");
    let container = format!("test-container-subpath-{kind}-{short}");
    let args = [
        "mounttest".to_string(),
        format!("--file_content_in_loop={}", case.mount),
        "--retry_time=20".to_string(),
    ];
    let pod = pods::pod(
        &name,
        json!({"restartPolicy": "Never", "terminationGracePeriodSeconds": 1,
            "securityContext": {"seLinuxOptions": {"level": "s0:c0,c1"}},
            "volumes": [volume, {"name": "liveness-probe-volume", "emptyDir": {}}],
            "containers": [{"name": container, "image": AGNHOST, "imagePullPolicy": "IfNotPresent", "args": args,
                "securityContext": {"privileged": false},
                "volumeMounts": [
                    {"name": "test-volume", "mountPath": case.mount, "subPath": case.path},
                    {"name": "liveness-probe-volume", "mountPath": "/probe-volume"}]}]}),
    );
    let text = format!("content of file \"{}\": {content}", case.mount);
    pods::output(&cx, &pod, &container, &[&text]).await
}

/// Two volumes of API objects in a pod, which goes after its sources.
pub async fn wrappers(cx: Cx) -> Result<()> {
    let object = format!("emptydir-wrapper-test-{}", uuid());
    let data = json!({"data-1": "dmFsdWUtMQo="});
    let secret =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": object}, "data": data});
    cx.ok(Method::POST, &cx.core("secrets"), &secret).await?;
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": object}, "binaryData": data});
    cx.ok(Method::POST, &cx.core("configmaps"), &map).await?;
    let name = format!("pod-secrets-{}", uuid());
    let pod = pods::pod(
        &name,
        json!({"volumes": [{"name": "secret-volume", "secret": {"secretName": object}},
                {"name": "configmap-volume", "configMap": {"name": object}}],
            "containers": [{"name": "secret-test", "image": AGNHOST, "args": ["test-webserver"],
                "volumeMounts": [
                    {"name": "secret-volume", "mountPath": "/etc/secret-volume", "readOnly": true},
                    {"name": "configmap-volume", "mountPath": "/etc/configmap-volume"}]}]}),
    );
    pods::create_ready(&cx, &pod).await?;
    cx.delete(&cx.core(&format!("secrets/{object}"))).await?;
    cx.delete(&cx.core(&format!("configmaps/{object}"))).await?;
    pods::remove(&cx, &name, json!({"gracePeriodSeconds": 0})).await
}

/// ConfigMaps that the pods of the race mount.
const MAPS: usize = 50;
const PODS: usize = 5;
const ROUNDS: usize = 3;

/// Many pods with many volumes at once.
pub async fn race(cx: Cx) -> Result<()> {
    for i in 0..MAPS {
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("racey-configmap-{i}")},
            "data": {"data-1": "value-1"}});
        cx.ok(Method::POST, &cx.core("configmaps"), &map).await?;
    }
    let nodes = cx.get("/api/v1/nodes").await?;
    let host = nodes["items"][0]["metadata"]["labels"]["kubernetes.io/hostname"].as_str();
    let host = host
        .context("a node with kubernetes.io/hostname")?
        .to_string();
    let mut controllers = Vec::new();
    for _ in 0..ROUNDS {
        let name = format!("wrapped-volume-race-{}", uuid());
        cx.ok(
            Method::POST,
            &cx.core("replicationcontrollers"),
            &racing(&name, &host),
        )
        .await?;
        all_running(&cx, &name).await?;
        controllers.push(name);
    }
    for name in &controllers {
        let options =
            json!({"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"});
        let path = cx.core(&format!("replicationcontrollers/{name}"));
        cx.ok(Method::DELETE, &path, &options).await?;
        let list = cx.core(&format!("pods?labelSelector=name%3D{name}"));
        let within = Duration::from_secs(1200);
        let every = Duration::from_secs(2);
        cx.eventually(
            every,
            within,
            &format!("pods of {name} are gone"),
            || async {
                Ok(cx.get(&list).await?["items"]
                    .as_array()
                    .is_some_and(Vec::is_empty))
            },
        )
        .await?;
    }
    for i in 0..MAPS {
        cx.delete(&cx.core(&format!("configmaps/racey-configmap-{i}")))
            .await?;
    }
    Ok(())
}

fn racing(name: &str, host: &str) -> Value {
    let volumes: Vec<Value> = (0..MAPS)
        .map(|i| format!("racey-configmap-{i}"))
        .map(|n| json!({"name": n, "configMap": {"name": n, "items": [{"key": "data-1", "path": "data-1"}]}}))
        .collect();
    let mounts: Vec<Value> = (0..MAPS)
        .map(|i| json!({"name": format!("racey-configmap-{i}"), "mountPath": format!("/etc/config-{i}")}))
        .collect();
    let here = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
        {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [host]}]}]}}});
    json!({"apiVersion": "v1", "kind": "ReplicationController", "metadata": {"name": name},
        "spec": {"replicas": PODS, "selector": {"name": name}, "template": {
            "metadata": {"labels": {"name": name}},
            "spec": {"dnsPolicy": "Default", "affinity": here, "volumes": volumes,
                "containers": [{"name": "test-container", "image": PAUSE, "volumeMounts": mounts}]}}}})
}

async fn all_running(cx: &Cx, name: &str) -> Result<()> {
    let list = cx.core(&format!("pods?labelSelector=name%3D{name}"));
    let alive = |pods: &Value| -> Vec<String> {
        let items = pods["items"].as_array().into_iter().flatten();
        let alive = items.filter(|p| p["metadata"]["deletionTimestamp"].is_null());
        alive.map(|p| pods::name(p).to_string()).collect()
    };
    let every = Duration::from_secs(1);
    cx.eventually(
        every,
        pods::START_SHORT,
        &format!("{PODS} pods of {name}"),
        || async { Ok(alive(&cx.get(&list).await?).len() == PODS) },
    )
    .await?;
    let names = alive(&cx.get(&list).await?);
    ensure!(names.len() == PODS, "{names:?}");
    for pod in names {
        pods::running(cx, &pod, pods::START).await?;
    }
    Ok(())
}
