//! The life of a pod's containers: init containers, hooks, ephemeral containers.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use http::Method;
use regex::Regex;
use serde_json::{Value, json};

use crate::pods::{self, AGNHOST, BUSYBOX, PAUSE, START, uuid};
use crate::rest::{Cx, POLL, Watch};

// === InitContainer ===

fn init_pod(policy: Option<&str>, inits: [&str; 2], run: Value) -> Value {
    let name = format!("pod-init-{}", uuid());
    let init =
        |name: &str, command: &str| json!({"name": name, "image": BUSYBOX, "command": [command]});
    let mut pod = pods::pod(
        &name,
        json!({"initContainers": [init("init1", inits[0]), init("init2", inits[1])], "containers": [run]}),
    );
    pod["metadata"]["labels"] = json!({"name": "foo", "time": uuid()});
    if let Some(policy) = policy {
        pod["spec"]["restartPolicy"] = json!(policy);
    }
    pod
}

fn true_container() -> Value {
    json!({"name": "run1", "image": BUSYBOX, "command": ["/bin/true"],
        "resources": {"limits": {"cpu": "100m"}}})
}

fn pause_container() -> Value {
    json!({"name": "run1", "image": PAUSE, "resources": {"limits": {"cpu": "100m"}}})
}

/// Creates a pod and watches it from there.
async fn create_watched(cx: &Cx, pod: &Value) -> Result<(Value, Watch)> {
    let made = pods::create(cx, pod).await?;
    let version = made["metadata"]["resourceVersion"]
        .as_str()
        .context("a version")?;
    let query = format!(
        "fieldSelector=metadata.name%3D{}&resourceVersion={version}",
        pods::name(&made)
    );
    let watch = cx.watch(&cx.core("pods"), &query).await?;
    Ok((made, watch))
}

/// Reads events until one is as wanted.
async fn until(watch: &mut Watch, wanted: impl Fn(&Value) -> Result<bool>) -> Result<Value> {
    let end = tokio::time::Instant::now() + START;
    loop {
        let left = end.saturating_duration_since(tokio::time::Instant::now());
        let (kind, pod) = watch.next(left).await?;
        ensure!(kind != "DELETED" && kind != "ERROR", "{kind} {pod}");
        if wanted(&pod)? {
            return Ok(pod);
        }
    }
}

fn inits_done(pod: &Value) -> Result<()> {
    ensure!(pods::condition(pod, "Initialized"), "{}", pod["status"]);
    let inits = pod["status"]["initContainerStatuses"]
        .as_array()
        .context("init statuses")?;
    ensure!(inits.len() == 2, "{inits:?}");
    for init in inits {
        let code = &init["state"]["terminated"]["exitCode"];
        ensure!(init["ready"] == true && *code == 0, "{init}");
    }
    Ok(())
}

pub async fn invoked_never(cx: Cx) -> Result<()> {
    let pod = init_pod(Some("Never"), ["/bin/true", "/bin/true"], true_container());
    let (_, mut watch) = create_watched(&cx, &pod).await?;
    let over = |pod: &Value| {
        Ok(["Succeeded", "Failed"]
            .iter()
            .any(|p| pod["status"]["phase"] == *p))
    };
    let pod = until(&mut watch, over).await?;
    ensure!(pod["status"]["phase"] == "Succeeded", "{}", pod["status"]);
    inits_done(&pod)
}

pub async fn invoked_always(cx: Cx) -> Result<()> {
    let pod = init_pod(None, ["/bin/true", "/bin/true"], pause_container());
    let (_, mut watch) = create_watched(&cx, &pod).await?;
    let running = |pod: &Value| {
        let phase = &pod["status"]["phase"];
        ensure!(
            phase != "Failed" && phase != "Succeeded",
            "{}",
            pod["status"]
        );
        Ok(phase == "Running")
    };
    let pod = until(&mut watch, running).await?;
    ensure!(pod["status"]["phase"] == "Running", "{}", pod["status"]);
    inits_done(&pod)
}

/// The containers wait for the init containers.
fn all_wait(pod: &Value) -> Result<()> {
    for status in pod["status"]["containerStatuses"]
        .as_array()
        .into_iter()
        .flatten()
    {
        waits(status)?;
    }
    Ok(())
}

fn waits(status: &Value) -> Result<()> {
    let reason = &status["state"]["waiting"]["reason"];
    ensure!(reason == "PodInitializing", "{status}");
    Ok(())
}

fn init_statuses(pod: &Value) -> Option<(&Value, &Value)> {
    match pod["status"]["initContainerStatuses"]
        .as_array()?
        .as_slice()
    {
        [first, second] => Some((first, second)),
        _ => None,
    }
}

fn not_initialized(pod: &Value, message: &str) -> Result<()> {
    let mut conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    let initialized = conditions
        .find(|c| c["type"] == "Initialized")
        .context("Initialized")?;
    ensure!(
        initialized["status"] == "False"
            && initialized["reason"] == "ContainersNotInitialized"
            && initialized["message"] == message,
        "{initialized}"
    );
    ensure!(init_statuses(pod).is_some(), "{}", pod["status"]);
    Ok(())
}

pub async fn failing_always(cx: Cx) -> Result<()> {
    let pod = init_pod(None, ["/bin/false", "/bin/true"], pause_container());
    let (_, mut watch) = create_watched(&cx, &pod).await?;
    let failed = |pod: &Value| {
        all_wait(pod)?;
        let Some((first, second)) = init_statuses(pod) else {
            return Ok(false);
        };
        waits(second)?;
        ensure!(first["state"]["terminated"]["exitCode"] != 0, "{first}");
        Ok(first["lastState"]["terminated"].is_object())
    };
    until(&mut watch, failed).await?;
    let often = |pod: &Value| {
        let first = init_statuses(pod).map(|(first, _)| first["restartCount"].as_i64());
        Ok(first.flatten() >= Some(3))
    };
    let pod = until(&mut watch, often).await?;
    ensure!(pod["status"]["phase"] == "Pending", "{}", pod["status"]);
    not_initialized(&pod, "containers with incomplete status: [init1 init2]")
}

pub async fn failing_never(cx: Cx) -> Result<()> {
    let pod = init_pod(Some("Never"), ["/bin/true", "/bin/false"], true_container());
    let (_, mut watch) = create_watched(&cx, &pod).await?;
    let failed = |pod: &Value| {
        all_wait(pod)?;
        let Some((first, second)) = init_statuses(pod) else {
            return Ok(false);
        };
        if first["state"]["waiting"].is_object() {
            waits(first)?;
        }
        let code = &first["state"]["terminated"]["exitCode"];
        ensure!(code.is_null() || *code == 0, "{first}");
        let ended = &second["state"]["terminated"];
        ensure!(ended["exitCode"] != 0, "{second}");
        Ok(ended.is_object())
    };
    let mut pod = until(&mut watch, failed).await?;
    let over = |pod: &Value| {
        Ok(["Succeeded", "Failed"]
            .iter()
            .any(|p| pod["status"]["phase"] == *p))
    };
    if !over(&pod)? {
        pod = until(&mut watch, over).await?;
    }
    ensure!(pod["status"]["phase"] == "Failed", "{}", pod["status"]);
    not_initialized(&pod, "containers with incomplete status: [init2]")?;
    let state = &pod["status"]["containerStatuses"][0]["state"];
    ensure!(state["waiting"].is_object(), "{state}");
    Ok(())
}

// === Container Lifecycle Hook ===

const HANDLER: &str = "pod-handle-http-request";

/// The pod that hears of the hooks; its address and its node.
async fn handler(cx: &Cx) -> Result<(String, String)> {
    let nodes = cx.get("/api/v1/nodes").await?;
    let node = pods::name(&nodes["items"][0]).to_string();
    let tls = [
        "netexec",
        "--http-port",
        "9090",
        "--udp-port",
        "9091",
        "--tls-cert-file",
        "/localhost.crt",
        "--tls-private-key-file",
        "/localhost.key",
    ];
    let pod = pods::pod(
        HANDLER,
        json!({"terminationGracePeriodSeconds": 0, "affinity": on(&node), "containers": [
            {"name": "container-handle-http-request", "image": AGNHOST, "args": ["netexec"],
                "ports": [{"containerPort": 8080, "protocol": "TCP"}]},
            {"name": "container-handle-https-request", "image": AGNHOST, "args": tls,
                "ports": [{"containerPort": 9090, "protocol": "TCP"}]}]}),
    );
    let pod = pods::create_ready(cx, &pod).await?;
    let ip = pod["status"]["podIP"].as_str().context("podIP")?;
    Ok((ip.to_string(), node))
}

fn on(node: &str) -> Value {
    json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
        {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}]}}})
}

/// `postStart` or `preStop`, by a command or by HTTP.
pub async fn hook(cx: Cx, event: &str, http: bool) -> Result<()> {
    let (ip, node) = handler(&cx).await?;
    let word = event.to_lowercase();
    let name = format!(
        "pod-with-{word}-{}-hook",
        if http { "http" } else { "exec" }
    );
    let action = match http {
        true => json!({"httpGet": {"path": format!("/echo?msg={word}"), "host": ip, "port": 8080}}),
        false => {
            let line = format!("curl http://{ip}:8080/echo?msg={word}");
            json!({"exec": {"command": ["sh", "-c", line]}})
        }
    };
    let image = if http { PAUSE } else { AGNHOST };
    let mut pod = pods::pod(
        &name,
        json!({"containers": [{"name": name, "image": image, "lifecycle": {event: action}}]}),
    );
    if http {
        pod["spec"]["affinity"] = on(&node);
    }
    pods::create_ready(&cx, &pod).await?;
    if event == "postStart" {
        heard(&cx, &word, Duration::from_secs(120)).await?;
    }
    pods::remove(&cx, &name, json!({"gracePeriodSeconds": 15})).await?;
    if event == "preStop" {
        heard(&cx, &word, Duration::from_secs(30)).await?;
    }
    Ok(())
}

async fn heard(cx: &Cx, word: &str, within: Duration) -> Result<()> {
    let pattern = Regex::new(&format!(r"GET /echo\?msg={word}"))?;
    let container = "container-handle-http-request";
    let log = pods::log_until(cx, HANDLER, container, within, |l| pattern.is_match(l)).await;
    ensure!(log.is_ok(), "{log:?}");
    Ok(())
}

pub async fn pre_stop(cx: Cx) -> Result<()> {
    let server = pods::pod(
        "server",
        json!({"containers": [{"name": "agnhost-container", "image": AGNHOST, "args": ["nettest"],
            "ports": [{"containerPort": 8080}]}]}),
    );
    pods::create(&cx, &server).await?;
    pods::running(&cx, "server", START).await?;
    let server = pods::get(&cx, "server").await?;
    let ip = server["status"]["podIP"].as_str().context("podIP")?;
    let command = json!([
        "wget",
        "-O-",
        "--post-data={\"Source\": \"prestop\"}",
        format!("http://{ip}:8080/write")
    ]);
    let tester = pods::pod(
        "tester",
        json!({"containers": [{"name": "tester", "image": BUSYBOX, "command": ["sleep", "600"],
            "lifecycle": {"preStop": {"exec": {"command": command}}}}]}),
    );
    pods::create(&cx, &tester).await?;
    pods::running(&cx, "tester", START).await?;
    cx.delete(&pods::path(&cx, "tester")).await?;
    let read = cx.core("pods/server/proxy/read");
    let heard = cx
        .eventually(
            POLL,
            Duration::from_secs(60),
            "Received.prestop",
            || async {
                let answer = cx.raw(Method::GET, &read, &[], "").await?;
                let Ok(state) = serde_json::from_str::<Value>(&answer.text) else {
                    return Ok(false);
                };
                Ok(state["Received"]["prestop"]
                    .as_i64()
                    .is_some_and(|n| n != 0))
            },
        )
        .await;
    ensure!(heard.is_ok(), "{heard:?}");
    Ok(())
}

// === Ephemeral Containers ===

const TARGET: &str = "ephemeral-containers-target-pod";

/// A running pod with a debugger that was added.
async fn debugged(cx: &Cx) -> Result<()> {
    let pod = pods::pod(
        TARGET,
        json!({"containers": [{"name": "test-container-1", "image": BUSYBOX,
            "command": ["/bin/sleep"], "args": ["10000"]}]}),
    );
    pods::create_ready(cx, &pod).await?;
    let debugger = json!({"name": "debugger", "image": BUSYBOX, "stdin": true, "tty": true,
        "command": ["/bin/sh", "-c", "while true; do echo polo; sleep 2; done"],
        "terminationMessagePolicy": "File", "imagePullPolicy": "IfNotPresent"});
    let patch = json!({"spec": {"ephemeralContainers": [debugger]}});
    let path = format!("{}/ephemeralcontainers", pods::path(cx, TARGET));
    cx.patch(&path, "strategic-merge", &patch).await?;
    let runs = |pod: &Value| {
        let all = pod["status"]["ephemeralContainerStatuses"].as_array();
        let mut all = all.into_iter().flatten();
        Ok(all.any(|s| s["name"] == "debugger" && s["state"]["running"].is_object()))
    };
    let pod = pods::wait(cx, TARGET, Duration::from_secs(60), "debugged", runs).await?;
    ensure!(pods::restarts(&pod) == 0, "{}", pod["status"]);
    let marco = cx
        .exec_ok(TARGET, "debugger", &["/bin/echo", "marco"])
        .await?;
    ensure!(marco.contains("marco"), "{marco}");
    pods::log_has(cx, TARGET, "debugger", "polo", Duration::from_secs(60)).await
}

pub async fn ephemeral(cx: Cx) -> Result<()> {
    let done = debugged(&cx).await;
    ensure!(done.is_ok(), "{done:?}");
    Ok(())
}

pub async fn ephemeral_updated(cx: Cx) -> Result<()> {
    debugged(&cx).await?;
    let path = format!("{}/ephemeralcontainers", pods::path(&cx, TARGET));
    let count = |pod: &Value| {
        pod["spec"]["ephemeralContainers"]
            .as_array()
            .map_or(0, Vec::len)
    };
    let found = cx.get(&path).await?;
    ensure!(found["kind"] == "Pod" && count(&found) == 1, "{found}");
    let second = json!({"name": "debugger2", "image": AGNHOST, "imagePullPolicy": "IfNotPresent",
        "terminationMessagePolicy": "File"});
    let end = tokio::time::Instant::now() + START;
    loop {
        let mut pod = pods::get(&cx, TARGET).await?;
        let all = pod["spec"]["ephemeralContainers"]
            .as_array_mut()
            .context("ephemeral containers")?;
        all.push(second.clone());
        match cx
            .send(Method::PUT, &path, "application/json", Some(&pod))
            .await?
        {
            Ok(_) => break,
            Err(f) if f.code == 409 && tokio::time::Instant::now() < end => {}
            Err(f) => bail!("PUT {path}: {f:?}"),
        }
    }
    let found = cx.get(&path).await?;
    ensure!(count(&found) == 2, "{found}");
    Ok(())
}
