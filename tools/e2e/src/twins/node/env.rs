//! What the environment of a container says: ConfigMaps, Secrets, the downward API, expansion.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use http::Method;
use serde_json::{Value, json};

use crate::pods::{self, BUSYBOX, uuid};
use crate::rest::Cx;

/// Prefixes that names of variables may have.
const PREFIXES: [&str; 5] = ["", "1-", "$_-", "ABC_", "#@!"];

/// Creates the object with three values and gives its name.
async fn three(cx: &Cx, secret: bool) -> Result<String> {
    let name = match secret {
        true => format!("secret-test-{}", uuid()),
        false => format!("configmap-test-{}", uuid()),
    };
    let value = |i: u32| match secret {
        true => BASE64.encode(format!("value-{i}\n")),
        false => format!("value-{i}"),
    };
    let (kind, all) = match secret {
        true => ("Secret", "secrets"),
        false => ("ConfigMap", "configmaps"),
    };
    let object = json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name},
        "data": {"data-1": value(1), "data-2": value(2), "data-3": value(3)}});
    cx.ok(Method::POST, &cx.core(all), &object).await?;
    Ok(name)
}

/// A busybox pod that shows its environment.
fn env_pod(name: &str, container: &str, env: Value) -> Value {
    let mut all = json!({"name": container, "image": BUSYBOX, "command": ["sh", "-c", "env"]});
    for (key, value) in env.as_object().into_iter().flatten() {
        all[key] = value.clone();
    }
    pods::pod(name, json!({"restartPolicy": "Never", "containers": [all]}))
}

/// One value in one variable.
pub async fn key(cx: Cx, secret: bool) -> Result<()> {
    let object = three(&cx, secret).await?;
    let reference = json!({"name": object, "key": "data-1"});
    let (pod, container, variable, source) = match secret {
        true => (
            "pod-secrets",
            "secret-env-test",
            "SECRET_DATA",
            json!({"secretKeyRef": reference}),
        ),
        false => (
            "pod-configmaps",
            "env-test",
            "CONFIG_DATA_1",
            json!({"configMapKeyRef": reference}),
        ),
    };
    let env = json!({"env": [{"name": variable, "valueFrom": source}]});
    let pod = env_pod(&format!("{pod}-{}", uuid()), container, env);
    pods::output(&cx, &pod, container, &[&format!("{variable}=value-1")]).await
}

/// All values, under each of some prefixes.
async fn all_keys(cx: &Cx, secret: bool, prefixes: &[&str]) -> Result<()> {
    let object = three(cx, secret).await?;
    let source = if secret { "secretRef" } else { "configMapRef" };
    let (mut from, mut texts) = (Vec::new(), Vec::new());
    for prefix in prefixes {
        let mut entry = json!({source: {"name": object}});
        if !prefix.is_empty() {
            entry["prefix"] = json!(prefix);
        }
        from.push(entry);
        texts.extend((1..=3).map(|i| format!("{prefix}data-{i}=value-{i}")));
    }
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let name = format!("pod-configmaps-{}", uuid());
    let pod = env_pod(&name, "env-test", json!({"envFrom": from}));
    pods::output(cx, &pod, "env-test", &texts).await
}

pub async fn all(cx: Cx, secret: bool) -> Result<()> {
    all_keys(&cx, secret, &["", "p-"]).await
}

pub async fn prefixes(cx: Cx, secret: bool) -> Result<()> {
    all_keys(&cx, secret, &PREFIXES).await
}

// === The downward API ===

/// A pod that shows variables of the downward API.
fn downward(env: Value, resources: bool) -> Value {
    let name = format!("downward-api-{}", uuid());
    let mut pod = env_pod(&name, "dapi-container", json!({"env": env}));
    if resources {
        pod["spec"]["containers"][0]["resources"] = json!({
            "requests": {"cpu": "250m", "memory": "32Mi"}, "limits": {"cpu": "1250m", "memory": "64Mi"}});
    }
    pod["metadata"]["labels"] = json!({"name": name});
    pod
}

fn field(variable: &str, path: &str) -> Value {
    json!({"name": variable, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}})
}

fn resource(variable: &str, resource: &str) -> Value {
    json!({"name": variable, "valueFrom": {"resourceFieldRef": {"resource": resource}}})
}

const IP: &str = r"\d+\.\d+\.\d+\.\d+";

pub async fn pod_fields(cx: Cx) -> Result<()> {
    let env = json!([
        field("POD_NAME", "metadata.name"),
        field("POD_NAMESPACE", "metadata.namespace"),
        field("POD_IP", "status.podIP")
    ]);
    let pod = downward(env, true);
    let patterns = [
        format!("POD_NAME={}", pods::name(&pod)),
        format!("POD_NAMESPACE={}", cx.namespace),
        format!("POD_IP={IP}"),
    ];
    let patterns: Vec<&str> = patterns.iter().map(String::as_str).collect();
    pods::output_matches(&cx, &pod, "dapi-container", &patterns).await
}

pub async fn host_ip(cx: Cx) -> Result<()> {
    let pod = downward(json!([field("HOST_IP", "status.hostIP")]), true);
    pods::output_matches(&cx, &pod, "dapi-container", &[&format!("HOST_IP={IP}")]).await
}

pub async fn host_ips(cx: Cx) -> Result<()> {
    let env = json!([
        field("HOST_IP", "status.hostIP"),
        field("HOST_IPS", "status.hostIPs")
    ]);
    let patterns = [format!("HOST_IP={IP}"), format!("HOST_IPS={IP}")];
    let patterns: Vec<&str> = patterns.iter().map(String::as_str).collect();
    pods::output_matches(&cx, &downward(env, true), "dapi-container", &patterns).await
}

pub async fn amounts(cx: Cx) -> Result<()> {
    let env = json!([
        resource("CPU_LIMIT", "limits.cpu"),
        resource("MEMORY_LIMIT", "limits.memory"),
        resource("CPU_REQUEST", "requests.cpu"),
        resource("MEMORY_REQUEST", "requests.memory")
    ]);
    let texts = [
        "CPU_LIMIT=2",
        "MEMORY_LIMIT=67108864",
        "CPU_REQUEST=1",
        "MEMORY_REQUEST=33554432",
    ];
    pods::output(&cx, &downward(env, true), "dapi-container", &texts).await
}

pub async fn default_amounts(cx: Cx) -> Result<()> {
    let env = json!([
        resource("CPU_LIMIT", "limits.cpu"),
        resource("MEMORY_LIMIT", "limits.memory")
    ]);
    let patterns = ["CPU_LIMIT=[1-9]", "MEMORY_LIMIT=[1-9]"];
    pods::output_matches(&cx, &downward(env, false), "dapi-container", &patterns).await
}

pub async fn uid(cx: Cx) -> Result<()> {
    let pod = downward(json!([field("POD_UID", "metadata.uid")]), true);
    let pattern = "POD_UID=[a-z0-9]{8}-[a-z0-9]{4}-[a-z0-9]{4}-[a-z0-9]{4}-[a-z0-9]{12}";
    pods::output_matches(&cx, &pod, "dapi-container", &[pattern]).await
}

// === Expansion ===

/// A pod of upstream's expansion tests.
fn expansion(container: Value, more: Value) -> Value {
    let name = format!("var-expansion-{}", uuid());
    let mut all = json!({"name": "dapi-container", "image": BUSYBOX});
    for (key, value) in container.as_object().into_iter().flatten() {
        all[key] = value.clone();
    }
    let mut pod = pods::pod(
        &name,
        json!({"restartPolicy": "Never", "containers": [all]}),
    );
    pod["metadata"]["labels"] = json!({"name": name});
    for (key, value) in more.as_object().into_iter().flatten() {
        pod["spec"][key] = value.clone();
    }
    pod
}

pub async fn composed(cx: Cx) -> Result<()> {
    let env = json!([{"name": "FOO", "value": "foo-value"}, {"name": "BAR", "value": "bar-value"},
        {"name": "FOOBAR", "value": "$(FOO);;$(BAR)"}]);
    let pod = expansion(
        json!({"env": env, "command": ["sh", "-c", "env"]}),
        json!({}),
    );
    let texts = [
        "FOO=foo-value",
        "BAR=bar-value",
        "FOOBAR=foo-value;;bar-value",
    ];
    pods::output(&cx, &pod, "dapi-container", &texts).await
}

/// In the command, or in the arguments.
pub async fn substituted(cx: Cx, args: bool) -> Result<()> {
    let mut container = json!({"env": [{"name": "TEST_VAR", "value": "test-value"}]});
    let line = "TEST_VAR=wrong echo \"$(TEST_VAR)\"";
    if args {
        container["command"] = json!(["sh", "-c"]);
        container["args"] = json!([line]);
    } else {
        container["command"] = json!(["sh", "-c", line]);
    }
    let pod = expansion(container, json!({}));
    pods::output(&cx, &pod, "dapi-container", &["test-value"]).await
}

pub async fn sub_path(cx: Cx) -> Result<()> {
    let volumes = json!({"volumes": [{"name": "workdir1", "emptyDir": {}}]});
    let mut pod = expansion(
        json!({"volumeMounts": [
            {"name": "workdir1", "mountPath": "/logscontainer", "subPathExpr": "$(POD_NAME)"},
            {"name": "workdir1", "mountPath": "/testcontainer"}]}),
        volumes,
    );
    let name = pods::name(&pod).to_string();
    let line = format!("test -d /testcontainer/{name};echo $?");
    pod["spec"]["containers"][0]["command"] = json!(["sh", "-c", line]);
    pod["spec"]["containers"][0]["env"] = json!([{"name": "POD_NAME", "value": name}]);
    pods::output(&cx, &pod, "dapi-container", &["0"]).await
}

/// A path that leaves the volume is refused, and the pod waits.
pub async fn sub_path_refused(cx: Cx, value: &str) -> Result<()> {
    let pod = expansion(
        json!({"env": [{"name": "POD_NAME", "value": value}], "volumeMounts": [
            {"name": "workdir1", "mountPath": "/logscontainer", "subPathExpr": "$(POD_NAME)"}]}),
        json!({"volumes": [{"name": "workdir1", "emptyDir": {}}]}),
    );
    let made = pods::create(&cx, &pod).await?;
    let refused = |pod: &Value| {
        ensure!(pod["status"]["phase"] == "Pending", "{}", pod["status"]);
        let reason = &pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"];
        Ok(reason == "CreateContainerConfigError")
    };
    let within = pods::START_SHORT;
    pods::wait(&cx, pods::name(&made), within, "refused", refused).await?;
    Ok(())
}

/// The pod whose path comes from an annotation.
fn annotated(annotations: Value) -> Value {
    let mut pod = expansion(
        json!({"command": ["sh", "-c", "tail -f /dev/null"],
            "env": [{"name": "POD_NAME", "value": "foo"},
                field("ANNOTATION", "metadata.annotations['mysubpath']")],
            "volumeMounts": [
                {"name": "workdir1", "mountPath": "/subpath_mount", "subPathExpr": "$(ANNOTATION)/$(POD_NAME)"},
                {"name": "workdir1", "mountPath": "/volume_mount"}]}),
        json!({"volumes": [{"name": "workdir1", "emptyDir": {}}]}),
    );
    pod["metadata"]["annotations"] = annotations;
    pod
}

async fn annotate(cx: &Cx, name: &str, value: &str) -> Result<()> {
    let path = pods::path(cx, name);
    cx.update(&path, |pod| {
        pod["metadata"]["annotations"]["mysubpath"] = json!(value)
    })
    .await?;
    Ok(())
}

pub async fn sub_path_mended(cx: Cx) -> Result<()> {
    let made = pods::create(&cx, &annotated(json!({"notmysubpath": "mypath"}))).await?;
    let name = pods::name(&made);
    // Upstream waits as long to see that it does not run.
    let end = tokio::time::Instant::now() + pods::START_SHORT;
    while tokio::time::Instant::now() < end {
        let pod = pods::get(&cx, name).await?;
        if pod["status"]["phase"] == "Running" {
            bail!("{name} runs without its path");
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    annotate(&cx, name, "mypath").await?;
    pods::running(&cx, name, pods::START_SHORT).await?;
    pods::remove(&cx, name, json!({})).await
}

pub async fn sub_path_written(cx: Cx) -> Result<()> {
    let made = pods::create(&cx, &annotated(json!({"mysubpath": "mypath"}))).await?;
    let name = pods::name(&made);
    pods::running(&cx, name, pods::START_SHORT).await?;
    cx.shell(
        name,
        "dapi-container",
        "touch /volume_mount/mypath/foo/test.log",
    )
    .await?;
    cx.shell(name, "dapi-container", "test -f /subpath_mount/test.log")
        .await?;
    annotate(&cx, name, "mynewpath").await?;
    pods::running(&cx, name, pods::START_SHORT).await?;
    pods::remove(&cx, name, json!({})).await
}
