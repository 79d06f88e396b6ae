//! Probing container.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::pods::{self, AGNHOST, BUSYBOX, START, uuid};
use crate::rest::Cx;

const MINUTES_4: Duration = Duration::from_secs(240);
/// How long a look at a container that must not change takes.
const LOOK: Duration = Duration::from_secs(2);

fn web_server(probe: &str, settings: Value) -> Value {
    let container = json!({"name": "test-webserver", "image": AGNHOST, "args": ["test-webserver"],
        "ports": [{"containerPort": 80}], probe: settings});
    pods::pod(
        &format!("test-webserver-{}", uuid()),
        json!({"containers": [container]}),
    )
}

fn shell(script: &str) -> Value {
    let probe = json!({"exec": {"command": ["cat", "/tmp/health"]},
        "initialDelaySeconds": 15, "timeoutSeconds": 5, "failureThreshold": 1});
    let container = json!({"name": "busybox", "image": BUSYBOX, "command": ["/bin/sh", "-c", script],
        "livenessProbe": probe});
    let mut pod = pods::pod(
        &format!("busybox-{}", uuid()),
        json!({"containers": [container]}),
    );
    pod["metadata"]["labels"] = json!({"test": "liveness"});
    pod
}

/// The server that turns unhealthy after ten seconds.
fn liveness(probe: Value) -> Value {
    let mut pod = pods::agnhost(&format!("liveness-{}", uuid()), &["liveness"]);
    pod["metadata"]["labels"] = json!({"test": "liveness"});
    pod["spec"]["containers"][0]["livenessProbe"] = probe;
    pod
}

fn grpc(probe: Value) -> Value {
    let container = json!({"name": "agnhost", "image": AGNHOST, "command": ["/agnhost", "grpc-health-checking"],
        "ports": [{"containerPort": 5000}, {"containerPort": 8080}], "livenessProbe": probe});
    pods::pod(
        &format!("test-grpc-{}", uuid()),
        json!({"containers": [container]}),
    )
}

/// Watches a container's restarts: at least `wanted` within the time, or none for all of it.
async fn watched(cx: &Cx, pod: &Value, wanted: i64, within: Duration) -> Result<()> {
    let made = pods::create(cx, pod).await?;
    let name = pods::name(&made);
    let begun = |pod: &Value| {
        let state = &pod["status"]["containerStatuses"][0]["state"];
        Ok(state["running"].is_object() || state["terminated"].is_object())
    };
    let pod = pods::wait(cx, name, within, "begun", begun).await?;
    let first = pods::restarts(&pod);
    let (mut last, mut seen) = (first, 0);
    let end =
        tokio::time::Instant::now() + within + Duration::from_secs(10) * u32::try_from(first)?;
    while tokio::time::Instant::now() < end {
        let now = pods::restarts(&pods::get(cx, name).await?);
        ensure!(now >= last, "restarts of {name} went from {last} to {now}");
        last = now;
        seen = now - first;
        if wanted > 0 && seen >= wanted {
            break;
        }
        ensure!(wanted > 0 || seen == 0, "{name} was restarted {seen} times");
        tokio::time::sleep(LOOK).await;
    }
    ensure!(
        seen >= wanted,
        "{name} was restarted {seen} times, wanted {wanted}"
    );
    pods::remove(cx, name, json!({"gracePeriodSeconds": 0})).await
}

// === Twins ===

pub async fn initial_delay(cx: Cx) -> Result<()> {
    let delay = 15;
    let pod = web_server(
        "readinessProbe",
        json!({"httpGet": {"path": "/", "port": 80}, "initialDelaySeconds": delay}),
    );
    let pod = pods::create_ready(&cx, &pod).await?;
    let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    let mut ready = conditions
        .filter(|c| c["type"] == "Ready")
        .map(|c| &c["lastTransitionTime"]);
    let started = &pod["status"]["containerStatuses"][0]["state"]["running"]["startedAt"];
    let time = |v: Option<&Value>| -> Result<jiff::Timestamp> {
        Ok(v.and_then(Value::as_str).context("a time")?.parse()?)
    };
    let took = time(ready.next_back())?.duration_since(time(Some(started))?);
    ensure!(took.as_secs() >= delay, "ready {took:?} after its start");
    ensure!(pods::restarts(&pod) == 0, "{}", pod["status"]);
    Ok(())
}

pub async fn never_ready(cx: Cx) -> Result<()> {
    let pod = web_server(
        "readinessProbe",
        json!({"httpGet": {"path": "/", "port": 81}}),
    );
    let made = pods::create(&cx, &pod).await?;
    let end = tokio::time::Instant::now() + Duration::from_secs(60);
    while tokio::time::Instant::now() < end {
        let pod = pods::get(&cx, pods::name(&made)).await?;
        ensure!(!pods::condition(&pod, "Ready"), "{}", pod["status"]);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    // It must run by now, or the test says nothing.
    let pod = pods::running(&cx, pods::name(&made), START).await?;
    ensure!(!pods::condition(&pod, "Ready"), "{}", pod["status"]);
    ensure!(pods::restarts(&pod) == 0, "{}", pod["status"]);
    Ok(())
}

pub async fn exec_fails(cx: Cx) -> Result<()> {
    let pod = shell("echo ok >/tmp/health; sleep 10; rm -rf /tmp/health; sleep 600");
    watched(&cx, &pod, 1, MINUTES_4).await
}

pub async fn exec_succeeds(cx: Cx) -> Result<()> {
    let pod = shell("echo ok >/tmp/health; sleep 600");
    watched(&cx, &pod, 0, MINUTES_4).await
}

fn healthz(delay: i64) -> Value {
    json!({"httpGet": {"path": "/healthz", "port": 8080}, "initialDelaySeconds": delay, "failureThreshold": 1})
}

pub async fn http_fails(cx: Cx) -> Result<()> {
    watched(&cx, &liveness(healthz(15)), 1, MINUTES_4).await
}

pub async fn tcp_succeeds(cx: Cx) -> Result<()> {
    let probe =
        json!({"tcpSocket": {"port": 8080}, "initialDelaySeconds": 15, "failureThreshold": 1});
    watched(&cx, &liveness(probe), 0, MINUTES_4).await
}

pub async fn many_restarts(cx: Cx) -> Result<()> {
    watched(&cx, &liveness(healthz(5)), 5, Duration::from_secs(14 * 60)).await
}

pub async fn http_succeeds(cx: Cx) -> Result<()> {
    let probe = json!({"httpGet": {"path": "/", "port": 80}, "initialDelaySeconds": 15,
        "timeoutSeconds": 5, "failureThreshold": 5});
    watched(&cx, &web_server("livenessProbe", probe), 0, MINUTES_4).await
}

pub async fn grpc_succeeds(cx: Cx) -> Result<()> {
    let probe = json!({"grpc": {"port": 5000, "service": null}, "initialDelaySeconds": 15,
        "timeoutSeconds": 5, "failureThreshold": 1});
    watched(&cx, &grpc(probe), 0, MINUTES_4).await
}

pub async fn grpc_fails(cx: Cx) -> Result<()> {
    let probe = json!({"grpc": {"port": 2333}, "initialDelaySeconds": 60, "timeoutSeconds": 5, "failureThreshold": 1});
    watched(&cx, &grpc(probe), 1, MINUTES_4).await
}
