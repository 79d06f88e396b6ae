//! Pods: their lives, their status, what clients get from them.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use http::Method;
use serde_json::{Value, json};

use crate::pods::{self, AGNHOST, BUSYBOX, HTTPD, NGINX, PAUSE, START, uuid};
use crate::rest::{Cx, POLL, version};

/// A pod of one pause container with the labels of upstream's pod tests.
fn pause(begin: &str) -> (Value, String) {
    let name = format!("{begin}-{}", uuid());
    let time = uuid();
    let mut pod = pods::pod(
        &name,
        json!({"containers": [{"name": "pause", "image": PAUSE}]}),
    );
    pod["metadata"]["labels"] = json!({"name": "foo", "time": time});
    pods::restricted(&mut pod);
    (pod, time)
}

async fn by_time(cx: &Cx, time: &str) -> Result<Vec<Value>> {
    let list = cx
        .get(&cx.core(&format!("pods?labelSelector=time%3D{time}")))
        .await?;
    Ok(list["items"].as_array().cloned().unwrap_or_default())
}

pub async fn host_ip(cx: Cx) -> Result<()> {
    let container = json!({"name": "test", "image": PAUSE});
    let mut pod = pods::pod(
        &format!("pod-hostip-{}", uuid()),
        json!({"containers": [container]}),
    );
    pods::restricted(&mut pod);
    let pod = pods::create_ready(&cx, &pod).await?;
    let has = |pod: &Value| {
        Ok(pod["status"]["hostIP"]
            .as_str()
            .is_some_and(|ip| !ip.is_empty()))
    };
    let pod = pods::wait(&cx, pods::name(&pod), pods::START_SHORT, "on a host", has).await?;
    ensure!(pod["status"]["hostIP"].is_string(), "{pod}");
    Ok(())
}

pub async fn submitted_and_removed(cx: Cx) -> Result<()> {
    let (pod, time) = pause("pod-submit-remove");
    let list = cx
        .get(&cx.core(&format!("pods?labelSelector=time%3D{time}")))
        .await?;
    ensure!(
        list["items"].as_array().is_some_and(Vec::is_empty),
        "{list}"
    );
    let from = list["metadata"]["resourceVersion"]
        .as_str()
        .context("a version")?;
    let query = format!("labelSelector=time%3D{time}&resourceVersion={from}");
    let mut watch = cx.watch(&cx.core("pods"), &query).await?;
    pods::create(&cx, &pod).await?;
    ensure!(
        by_time(&cx, &time).await?.len() == 1,
        "the pod is not listed"
    );
    let (kind, _) = watch.next(START).await?;
    ensure!(kind == "ADDED", "{kind}");
    let name = pods::name(&pod);
    pods::running(&cx, name, START).await?;
    let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 30});
    cx.ok(Method::DELETE, &pods::path(&cx, name), &options)
        .await?;
    let end = tokio::time::Instant::now() + pods::DELETED;
    let last = loop {
        let left = end.saturating_duration_since(tokio::time::Instant::now());
        match watch.next(left).await? {
            (kind, pod) if kind == "DELETED" => break pod,
            (kind, pod) => ensure!(kind == "MODIFIED", "{kind} {pod}"),
        }
    };
    ensure!(last["metadata"]["deletionTimestamp"].is_string(), "{last}");
    ensure!(last["spec"]["terminationGracePeriodSeconds"] != 0, "{last}");
    ensure!(
        by_time(&cx, &time).await?.is_empty(),
        "the pod is still listed"
    );
    Ok(())
}

pub async fn updated(cx: Cx) -> Result<()> {
    let (pod, time) = pause("pod-update");
    let pod = pods::create_ready(&cx, &pod).await?;
    ensure!(
        by_time(&cx, &time).await?.len() == 1,
        "the pod is not listed"
    );
    let new = uuid();
    let path = pods::path(&cx, pods::name(&pod));
    cx.update(&path, |pod| pod["metadata"]["labels"]["time"] = json!(new))
        .await?;
    pods::running(&cx, pods::name(&pod), START).await?;
    ensure!(
        by_time(&cx, &new).await?.len() == 1,
        "the pod is not listed"
    );
    Ok(())
}

pub async fn active_deadline(cx: Cx) -> Result<()> {
    let (pod, time) = pause("pod-update-activedeadlineseconds");
    let pod = pods::create_ready(&cx, &pod).await?;
    ensure!(
        by_time(&cx, &time).await?.len() == 1,
        "the pod is not listed"
    );
    let path = pods::path(&cx, pods::name(&pod));
    cx.update(&path, |pod| pod["spec"]["activeDeadlineSeconds"] = json!(5))
        .await?;
    let failed = |pod: &Value| {
        let status = &pod["status"];
        ensure!(status["phase"] != "Succeeded", "{status}");
        if status["phase"] != "Failed" {
            return Ok(false);
        }
        ensure!(status["reason"] == "DeadlineExceeded", "{status}");
        Ok(true)
    };
    let pod = pods::wait(&cx, pods::name(&pod), START, "failed", failed).await?;
    ensure!(pod["status"]["reason"] == "DeadlineExceeded", "{pod}");
    Ok(())
}

pub async fn service_environment(cx: Cx) -> Result<()> {
    let name = format!("server-envvars-{}", uuid());
    let mut server = pods::pod(
        &name,
        json!({"containers": [{"name": "srv", "image": AGNHOST, "ports": [{"containerPort": 9376}]}]}),
    );
    server["metadata"]["labels"] = json!({"name": name});
    pods::restricted(&mut server);
    pods::create_ready(&cx, &server).await?;
    let service = json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "fooservice", "labels": {"name": "fooservice"}},
        "spec": {"ports": [{"port": 8765, "targetPort": 8080}], "selector": {"name": name}}});
    cx.ok(Method::POST, &cx.core("services"), &service).await?;
    let mut client = pods::pod(
        &format!("client-envvars-{}", uuid()),
        json!({"restartPolicy": "Never",
            "containers": [{"name": "env3cont", "image": BUSYBOX, "command": ["sh", "-c", "env"]}]}),
    );
    pods::restricted(&mut client);
    let texts = [
        "FOOSERVICE_SERVICE_HOST=",
        "FOOSERVICE_SERVICE_PORT=",
        "FOOSERVICE_PORT=",
        "FOOSERVICE_PORT_8765_TCP_PORT=",
        "FOOSERVICE_PORT_8765_TCP_PROTO=",
        "FOOSERVICE_PORT_8765_TCP=",
        "FOOSERVICE_PORT_8765_TCP_ADDR=",
    ];
    // Upstream gives the kubelet three pods' time to hear of the service.
    let mut last = Ok(());
    for _ in 0..3 {
        last = pods::output(&cx, &client, "env3cont", &texts).await;
        if last.is_ok() {
            break;
        }
        pods::remove(&cx, pods::name(&client), json!({})).await?;
    }
    last
}

pub async fn exec_websocket(cx: Cx) -> Result<()> {
    let name = format!("pod-exec-websocket-{}", uuid());
    alive(&cx, &name, "echo container is alive; sleep 600").await?;
    let query = "stderr=1&stdout=1&container=main&command=echo&command=remote+execution+test";
    let path = cx.core(&format!("pods/{name}/exec?{query}"));
    let mut text = String::new();
    for message in cx.websocket(&path, "channel.k8s.io").await? {
        match message.split_first() {
            None => {}
            Some((1, data)) => text.push_str(&String::from_utf8_lossy(data)),
            Some((channel, data)) => ensure!(data.is_empty(), "channel {channel}: {data:?}"),
        }
    }
    ensure!(text.contains("remote execution test"), "{text:?}");
    Ok(())
}

async fn alive(cx: &Cx, name: &str, script: &str) -> Result<()> {
    let container = json!({"name": "main", "image": BUSYBOX, "command": ["/bin/sh", "-c", script]});
    let mut pod = pods::pod(name, json!({"containers": [container]}));
    pods::restricted(&mut pod);
    pods::create_ready(cx, &pod).await?;
    Ok(())
}

pub async fn log_websocket(cx: Cx) -> Result<()> {
    let name = format!("pod-logs-websocket-{}", uuid());
    alive(&cx, &name, "echo container is alive; sleep 10000").await?;
    let path = cx.core(&format!("pods/{name}/log?container=main"));
    let mut text = String::new();
    for message in cx.websocket(&path, "binary.k8s.io").await? {
        let part = String::from_utf8_lossy(&message);
        if !part.trim().is_empty() {
            text.push_str(&part);
        }
    }
    ensure!(text == "container is alive\n", "{text:?}");
    Ok(())
}

pub async fn collection(cx: Cx) -> Result<()> {
    for i in 1..=3 {
        let mut pod = pods::pod(
            &format!("test-pod-{i}"),
            json!({"terminationGracePeriodSeconds": 1, "restartPolicy": "Never",
                "containers": [{"name": "token-test", "image": AGNHOST}]}),
        );
        pod["metadata"]["labels"] = json!({"type": "Testing"});
        pods::restricted(&mut pod);
        pods::create(&cx, &pod).await?;
    }
    for i in 1..=3 {
        pods::ready(&cx, &format!("test-pod-{i}")).await?;
    }
    let selected = cx.core("pods?labelSelector=type%3DTesting");
    let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 1});
    cx.ok(Method::DELETE, &selected, &options).await?;
    let empty = cx
        .eventually(POLL, START, "no pods", || async {
            Ok(cx.get(&selected).await?["items"]
                .as_array()
                .is_some_and(Vec::is_empty))
        })
        .await;
    ensure!(empty.is_ok(), "{empty:?}");
    Ok(())
}

pub async fn lifecycle(cx: Cx) -> Result<()> {
    let selector = "labelSelector=test-pod-static%3Dtrue";
    let path = pods::path(&cx, "pod-test");
    let mut pod = pods::pod(
        "pod-test",
        json!({"terminationGracePeriodSeconds": 1, "containers": [{"name": "pod-test", "image": AGNHOST}]}),
    );
    pod["metadata"]["labels"] = json!({"test-pod-static": "true"});
    pods::restricted(&mut pod);
    cx.get(&format!("/api/v1/pods?{selector}")).await?;
    pods::create(&cx, &pod).await?;
    // Ready too: its conditions are counted below.
    let found = pods::ready(&cx, "pod-test").await?;
    ensure!(found["status"]["phase"] == "Running", "{found}");
    let from = version(&found)?;
    let patch = json!({"metadata": {"labels": {"test-pod": "patched"}},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [{"name": "pod-test", "image": HTTPD}]}});
    let mut watch = cx
        .watch(
            &cx.core("pods"),
            &format!("{selector}&resourceVersion={from}"),
        )
        .await?;
    cx.patch(&path, "strategic-merge", &patch).await?;
    let (kind, _) = watch.next(Duration::from_secs(30)).await?;
    ensure!(kind == "MODIFIED", "{kind}");
    let found = cx.get(&path).await?;
    ensure!(
        found["metadata"]["labels"]["test-pod"] == "patched",
        "{found}"
    );
    ensure!(found["spec"]["containers"][0]["image"] == HTTPD, "{found}");
    not_ready(&cx, &path).await?;
    let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 1});
    cx.ok(
        Method::DELETE,
        &cx.core(&format!("pods?{selector}")),
        &options,
    )
    .await?;
    pods::gone(&cx, &path, START).await
}

/// Says through the status that the pod is not ready, which it is.
async fn not_ready(cx: &Cx, path: &str) -> Result<()> {
    let status = format!("{path}/status");
    let watched = |c: &Value| c["type"] == "Ready" || c["type"] == "ContainersReady";
    let end = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        let mut pod = cx.get(&status).await?;
        let conditions = pod["status"]["conditions"]
            .as_array_mut()
            .context("conditions")?;
        let mut changed = 0;
        for condition in conditions.iter_mut().filter(|c| watched(c)) {
            if condition["status"] == "True" {
                condition["status"] = json!("False");
                changed += 1;
            }
        }
        ensure!(
            changed == 2,
            "{changed} of 2 conditions were True: {}",
            pod["status"]
        );
        match cx
            .send(Method::PUT, &status, "application/json", Some(&pod))
            .await?
        {
            Ok(pod) => {
                let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
                let count = conditions
                    .filter(|c| watched(c) && c["status"] == "False")
                    .count();
                ensure!(count == 2, "{}", pod["status"]);
                return Ok(());
            }
            Err(f) if f.code == 409 && tokio::time::Instant::now() < end => {}
            Err(f) => bail!("PUT {status}: {f:?}"),
        }
    }
}

pub async fn patched_status(cx: Cx) -> Result<()> {
    let name = format!("pod-{}", uuid().chars().take(5).collect::<String>());
    let mut pod = pods::pod(
        &name,
        json!({"terminationGracePeriodSeconds": 1, "containers": [{"name": "agnhost", "image": AGNHOST}]}),
    );
    pod["metadata"]["labels"] = json!({"e2e": name});
    pods::restricted(&mut pod);
    pods::create(&cx, &pod).await?;
    pods::running(&cx, &name, START).await?;
    let patch = json!({"metadata": {"annotations": {"patchedstatus": "true"}},
        "status": {"message": "Patched by e2e test", "reason": "E2E"}});
    let path = format!("{}/status", pods::path(&cx, &name));
    let pod = cx.patch(&path, "merge", &patch).await?;
    let status = &pod["status"];
    ensure!(
        status["message"] == "Patched by e2e test" && status["reason"] == "E2E",
        "{status}"
    );
    Ok(())
}

// === Pods Extended ===

pub async fn qos_class(cx: Cx) -> Result<()> {
    let name = format!("pod-qos-class-{}", uuid());
    let amounts = json!({"cpu": "100m", "memory": "100Mi"});
    let mut pod = pods::pod(
        &name,
        json!({"containers": [{"name": "agnhost", "image": AGNHOST, "args": ["pause"],
            "resources": {"requests": amounts, "limits": amounts}}]}),
    );
    pod["metadata"]["labels"] = json!({"name": name});
    pods::create(&cx, &pod).await?;
    let found = pods::get(&cx, &name).await?;
    ensure!(found["status"]["qosClass"] == "Guaranteed", "{found}");
    Ok(())
}

fn generation_pod() -> Value {
    let mut pod = pods::agnhost(&format!("pod-generation-{}", uuid()), &[]);
    pod["metadata"]["labels"] = json!({"time": uuid()});
    pod
}

async fn observed(cx: &Cx, name: &str, generation: i64, within: Duration) -> Result<()> {
    let what = format!("observed in generation {generation}");
    let is = |pod: &Value| Ok(pod["status"]["observedGeneration"] == generation);
    pods::wait(cx, name, within, &what, is).await?;
    Ok(())
}

pub async fn generation(cx: Cx) -> Result<()> {
    let mut pod = generation_pod();
    pod["spec"]["initContainers"] = json!([{"name": "init-container", "image": BUSYBOX}]);
    let pod = pods::create_ready(&cx, &pod).await?;
    ensure!(pod["metadata"]["generation"] == 1, "{pod}");
    let name = pods::name(&pod);
    let toleration = json!([{"key": format!("foo-{}", uuid()), "operator": "Equal", "value": "bar", "effect": "NoSchedule"}]);
    let changes: [(&str, Value, i64); 7] = [
        ("", Value::Null, 0),
        ("/spec/tolerations", toleration, 1),
        ("/spec/activeDeadlineSeconds", json!(5000), 1),
        ("/spec/containers/0/image", json!(NGINX), 1),
        ("/spec/initContainers/0/image", json!(PAUSE), 1),
        ("/metadata/annotations", json!({"key": "value"}), 0),
        ("/metadata/generation", json!(1), 0),
    ];
    let mut expected = 1;
    for (place, value, more) in changes {
        cx.update(&pods::path(&cx, name), |pod| {
            let (parent, key) = place.rsplit_once('/').unwrap_or_default();
            if let (false, Some(parent)) = (key.is_empty(), pod.pointer_mut(parent)) {
                parent[key] = value.clone();
            }
        })
        .await
        .with_context(|| format!("changing {place:?}"))?;
        expected += more;
        let found = pods::get(&cx, name).await?;
        let is = &found["metadata"]["generation"];
        ensure!(
            *is == expected,
            "{place:?}: generation {is}, expected {expected}"
        );
        observed(&cx, name, expected, Duration::from_secs(20)).await?;
    }
    Ok(())
}

pub async fn generation_deleted(cx: Cx) -> Result<()> {
    let mut pod = generation_pod();
    pod["metadata"]["generation"] = json!(100);
    let pod = pods::create_ready(&cx, &pod).await?;
    ensure!(pod["metadata"]["generation"] == 1, "{pod}");
    let name = pods::name(&pod);
    let path = format!("{}?gracePeriodSeconds=60", pods::path(&cx, name));
    let answer = cx.raw(Method::DELETE, &path, &[], "").await?;
    ensure!(answer.code == 200, "{answer:?}");
    let deleted: Value = serde_json::from_str(&answer.text)?;
    ensure!(deleted["kind"] == "Pod", "{deleted}");
    let found = pods::get(&cx, name).await?;
    ensure!(found["metadata"]["generation"] == 2, "{found}");
    Ok(())
}

pub async fn generation_500(cx: Cx) -> Result<()> {
    let mut pod = generation_pod();
    pod["spec"]["activeDeadlineSeconds"] = json!(5000);
    let pod = pods::create_ready(&cx, &pod).await?;
    let name = pods::name(&pod);
    for i in 1..500 {
        let deadline = 5000 - i;
        cx.update(&pods::path(&cx, name), |pod| {
            pod["spec"]["activeDeadlineSeconds"] = json!(deadline)
        })
        .await?;
    }
    observed(&cx, name, 500, START).await?;
    let found = pods::get(&cx, name).await?;
    ensure!(found["metadata"]["generation"] == 500, "{found}");
    Ok(())
}
