//! What upstream's e2e framework does with pods: create, wait for a state, read logs, delete and wait.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use http::Method;
use regex::Regex;
use serde_json::{Value, json};

use crate::connect::escape;
use crate::rest::{Cx, POLL};

pub const BUSYBOX: &str = "registry.k8s.io/e2e-test-images/busybox:1.37.0-2";
pub const AGNHOST: &str = "registry.k8s.io/e2e-test-images/agnhost:2.66.1";
pub const PAUSE: &str = "registry.k8s.io/pause:3.10.2";
pub const NGINX: &str = "registry.k8s.io/e2e-test-images/nginx:1.27.0-1";
pub const HTTPD: &str = "registry.k8s.io/e2e-test-images/httpd:2.4.38-4";

/// How long a pod may take to start.
pub const START: Duration = Duration::from_secs(300);
pub const START_SHORT: Duration = Duration::from_secs(120);
/// How long a deleted pod may stay.
pub const DELETED: Duration = Duration::from_secs(180);

/// A random id.
pub fn uuid() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// An object's name.
pub fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

/// A pod of a name with a spec.
pub fn pod(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {}}, "spec": spec})
}

/// Upstream's pod with the test server.
pub fn agnhost(name: &str, args: &[&str]) -> Value {
    let mut container = json!({"name": "agnhost-container", "image": AGNHOST,
        "imagePullPolicy": "IfNotPresent", "securityContext": {}});
    if !args.is_empty() {
        container["args"] = json!(args);
    }
    let spec = json!({"terminationGracePeriodSeconds": 0, "securityContext": {}, "containers": [container]});
    pod(name, spec)
}

/// Makes a pod fit for the restricted level of Pod Security.
pub fn restricted(pod: &mut Value) {
    pod["spec"]["securityContext"] = json!({"runAsNonRoot": true, "runAsUser": 1000,
        "seccompProfile": {"type": "RuntimeDefault"}});
    for list in ["containers", "initContainers"] {
        for container in pod["spec"][list].as_array_mut().into_iter().flatten() {
            container["securityContext"] =
                json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}});
        }
    }
}

/// Creates a pod.
pub async fn create(cx: &Cx, pod: &Value) -> Result<Value> {
    cx.ok(Method::POST, &cx.core("pods"), pod).await
}

pub fn path(cx: &Cx, name: &str) -> String {
    cx.core(&format!("pods/{name}"))
}

pub async fn get(cx: &Cx, name: &str) -> Result<Value> {
    cx.get(&path(cx, name)).await
}

/// Whether a pod has a condition with status True.
pub fn condition(pod: &Value, kind: &str) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    let mut all = conditions.into_iter().flatten();
    all.any(|c| c["type"] == kind && c["status"] == "True")
}

/// How often the containers of a pod were restarted.
pub fn restarts(pod: &Value) -> i64 {
    ["initContainerStatuses", "containerStatuses"]
        .iter()
        .flat_map(|list| pod["status"][*list].as_array().into_iter().flatten())
        .map(|s| s["restartCount"].as_i64().unwrap_or(0))
        .sum()
}

/// Waits until a pod is as wanted; the pod. What `wanted` refuses fails at once.
pub async fn wait(
    cx: &Cx,
    name: &str,
    within: Duration,
    what: &str,
    wanted: impl Fn(&Value) -> Result<bool>,
) -> Result<Value> {
    let end = tokio::time::Instant::now() + within;
    loop {
        let pod = get(cx, name).await?;
        if wanted(&pod)? {
            return Ok(pod);
        }
        ensure!(
            tokio::time::Instant::now() < end,
            "pod {name} is not {what} within {within:?}: {}",
            pod["status"]
        );
        tokio::time::sleep(POLL).await;
    }
}

fn not_over(pod: &Value) -> Result<()> {
    let phase = &pod["status"]["phase"];
    ensure!(
        phase != "Failed" && phase != "Succeeded",
        "pod {} is {phase}: {}",
        name(pod),
        pod["status"]
    );
    Ok(())
}

/// Waits for phase Running; Failed and Succeeded fail at once.
pub async fn running(cx: &Cx, name: &str, within: Duration) -> Result<Value> {
    let is = |pod: &Value| {
        not_over(pod)?;
        Ok(pod["status"]["phase"] == "Running")
    };
    wait(cx, name, within, "running", is).await
}

/// Waits for phase Running and condition Ready.
pub async fn ready(cx: &Cx, name: &str) -> Result<Value> {
    let is = |pod: &Value| {
        not_over(pod)?;
        Ok(pod["status"]["phase"] == "Running" && condition(pod, "Ready"))
    };
    wait(cx, name, START, "ready", is).await
}

/// Creates a pod, waits until it is ready and gives it.
pub async fn create_ready(cx: &Cx, pod: &Value) -> Result<Value> {
    let made = create(cx, pod).await?;
    ready(cx, name(&made)).await
}

/// Waits for phase Succeeded; Failed fails at once.
pub async fn succeeded(cx: &Cx, name: &str) -> Result<Value> {
    let is = |pod: &Value| {
        let status = &pod["status"];
        if status["phase"] == "Failed" {
            bail!("pod {name} failed: {status}");
        }
        Ok(status["phase"] == "Succeeded")
    };
    wait(cx, name, START, "succeeded", is).await
}

/// A container's log; `query` with more parameters, else empty.
pub async fn log_with(cx: &Cx, pod: &str, query: &str) -> Result<String> {
    let path = cx.core(&format!("pods/{pod}/log?{query}"));
    let answer = cx.raw(Method::GET, &path, &[], "").await?;
    ensure!(answer.code == 200, "{path}: {answer:?}");
    ensure!(
        !answer.text.contains("Internal Error"),
        "{path}: {answer:?}"
    );
    Ok(answer.text)
}

/// A container's log.
pub async fn log(cx: &Cx, pod: &str, container: &str) -> Result<String> {
    log_with(cx, pod, &format!("container={}", escape(container))).await
}

/// Waits until a container's log is as wanted.
pub async fn log_until(
    cx: &Cx,
    pod: &str,
    container: &str,
    within: Duration,
    wanted: impl Fn(&str) -> bool,
) -> Result<String> {
    let end = tokio::time::Instant::now() + within;
    loop {
        // The container may not have begun yet.
        let text = log(cx, pod, container).await;
        if text.as_ref().is_ok_and(|t| wanted(t)) {
            return text;
        }
        ensure!(
            tokio::time::Instant::now() < end,
            "the log of {container} in {pod} is not as wanted within {within:?}: {text:?}"
        );
        tokio::time::sleep(POLL).await;
    }
}

/// Waits until a container's log has a text.
pub async fn log_has(
    cx: &Cx,
    pod: &str,
    container: &str,
    text: &str,
    within: Duration,
) -> Result<()> {
    let log = log_until(cx, pod, container, within, |l| l.contains(text)).await;
    log.map(drop).with_context(|| format!("expecting {text:?}"))
}

/// Runs a pod to its end; its container's log must have all of the texts. Then the pod must go away.
pub async fn output(cx: &Cx, pod: &Value, container: &str, texts: &[&str]) -> Result<()> {
    let patterns: Vec<String> = texts.iter().map(|t| regex::escape(t)).collect();
    let patterns: Vec<&str> = patterns.iter().map(String::as_str).collect();
    output_matches(cx, pod, container, &patterns).await
}

/// As `output`, with regular expressions.
pub async fn output_matches(
    cx: &Cx,
    pod: &Value,
    container: &str,
    patterns: &[&str],
) -> Result<()> {
    let made = create(cx, pod).await?;
    let pod = name(&made);
    succeeded(cx, pod).await?;
    let log = log(cx, pod, container).await?;
    for pattern in patterns {
        ensure!(
            Regex::new(pattern)?.is_match(&log),
            "the log of {container} has no {pattern:?}: {log:?}"
        );
    }
    remove(cx, pod, json!({})).await
}

/// Deletes a pod (one that is gone already is fine) and waits until it is gone.
pub async fn remove(cx: &Cx, pod: &str, options: Value) -> Result<()> {
    let path = path(cx, pod);
    let mut body = json!({"apiVersion": "v1", "kind": "DeleteOptions"});
    for (key, value) in options.as_object().into_iter().flatten() {
        body[key] = value.clone();
    }
    let answer = cx
        .send(Method::DELETE, &path, "application/json", Some(&body))
        .await?;
    if let Err(f) = answer
        && f.code != 404
    {
        return Err(anyhow!("DELETE {path}: {f:?}"));
    }
    gone(cx, &path, DELETED).await
}

/// Waits until an object is not found.
pub async fn gone(cx: &Cx, path: &str, within: Duration) -> Result<()> {
    cx.eventually(POLL, within, &format!("{path} is gone"), || async {
        match cx.send(Method::GET, path, "application/json", None).await? {
            Ok(_) => Ok(false),
            Err(f) if f.code == 404 => Ok(true),
            Err(f) => bail!("GET {path}: {f:?}"),
        }
    })
    .await
}
