//! Services.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use http::Method;
use serde_json::{Value, json};

use super::jig;
use crate::pods::{self, AGNHOST, uuid};
use crate::rest::{Cx, version};

const SERVERS: [&str; 4] = ["serve-hostname", "--http=false", "--tcp", "--udp"];
const LAG: Duration = Duration::from_secs(30);

fn five() -> String {
    uuid().chars().take(5).collect()
}

/// A pod that answers on some ports.
async fn server(cx: &Cx, name: &str, labels: &Value, ports: Value, args: &[&str]) -> Result<Value> {
    let container = json!({"name": "agnhost-container", "image": AGNHOST, "args": args, "ports": ports,
        "env": [{"name": "FOO", "value": " "}]});
    let mut pod = pods::pod(
        name,
        json!({"terminationGracePeriodSeconds": 0, "containers": [container]}),
    );
    pod["metadata"]["labels"] = labels.clone();
    pods::create_ready(cx, &pod).await
}

pub async fn basic(cx: Cx) -> Result<()> {
    let name = "endpoint-test2";
    let service = jig::create(&cx, &jig::service(name, json!({}))).await?;
    let labels = &service["spec"]["selector"];
    jig::endpoints_are(&cx, name, &[]).await?;
    let ports = json!([{"containerPort": 80}]);
    let args = ["netexec", "--http-port", "80"];
    let pod1 = server(&cx, "pod1", labels, ports.clone(), &args).await?;
    jig::endpoints_are(&cx, name, &[(&pod1, &["80/TCP"])]).await?;
    let exec = jig::exec_pod(&cx, "execpod").await?;
    jig::reach(&cx, name, &exec).await?;
    let pod2 = server(&cx, "pod2", labels, ports, &args).await?;
    jig::endpoints_are(&cx, name, &[(&pod1, &["80/TCP"]), (&pod2, &["80/TCP"])]).await?;
    jig::reach(&cx, name, &exec).await?;
    pods::remove(&cx, "pod1", json!({})).await?;
    jig::endpoints_are(&cx, name, &[(&pod2, &["80/TCP"])]).await?;
    jig::reach(&cx, name, &exec).await?;
    pods::remove(&cx, "pod2", json!({})).await?;
    jig::endpoints_are(&cx, name, &[]).await
}

pub async fn multiport(cx: Cx) -> Result<()> {
    let name = "multi-endpoint-test";
    let ports = json!([{"name": "portname1", "port": 80, "targetPort": "svc1"},
        {"name": "portname2", "port": 81, "targetPort": "svc2"}]);
    let service = jig::create(&cx, &jig::service(name, json!({"ports": ports}))).await?;
    let labels = &service["spec"]["selector"];
    jig::endpoints_are(&cx, name, &[]).await?;
    let port = |name: &str, number: u16| json!([{"name": name, "containerPort": number}]);
    let pod1 = server(
        &cx,
        "pod1",
        labels,
        port("svc1", 100),
        &["netexec", "--http-port", "100"],
    )
    .await?;
    jig::endpoints_are(&cx, name, &[(&pod1, &["100/TCP"])]).await?;
    let pod2 = server(
        &cx,
        "pod2",
        labels,
        port("svc2", 101),
        &["netexec", "--http-port", "101"],
    )
    .await?;
    jig::endpoints_are(&cx, name, &[(&pod1, &["100/TCP"]), (&pod2, &["101/TCP"])]).await?;
    let exec = jig::exec_pod(&cx, "execpod").await?;
    jig::reach(&cx, name, &exec).await?;
    pods::remove(&cx, "pod1", json!({})).await?;
    jig::endpoints_are(&cx, name, &[(&pod2, &["101/TCP"])]).await?;
    pods::remove(&cx, "pod2", json!({})).await?;
    jig::endpoints_are(&cx, name, &[]).await
}

pub async fn protocols(cx: Cx) -> Result<()> {
    let name = "multiprotocol-test";
    let labels = json!({"app": "multiport"});
    let tcp = json!({"name": "tcp-port", "port": 80, "targetPort": 80, "protocol": "TCP"});
    let udp = json!({"name": "udp-port", "port": 80, "targetPort": 80, "protocol": "UDP"});
    let object = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "labels": labels},
        "spec": {"selector": labels, "ports": [tcp, udp]}});
    let service = jig::create(&cx, &object).await?;
    let ip = service["spec"]["clusterIP"].as_str().context("clusterIP")?;
    let ports = json!([{"name": "tcp-port", "containerPort": 80, "protocol": "TCP"},
        {"name": "udp-port", "containerPort": 80, "protocol": "UDP"}]);
    let args = ["netexec", "--http-port", "80", "--udp-port", "80"];
    let pod = server(&cx, "pod1", &labels, ports, &args).await?;
    jig::endpoints_are(&cx, name, &[(&pod, &["80/TCP", "80/UDP"])]).await?;
    let exec = jig::exec_pod(&cx, "execpod").await?;
    jig::answers_soon(&cx, &exec, ip, 80, false, LAG).await?;
    jig::answers_soon(&cx, &exec, ip, 80, true, LAG).await?;
    let path = jig::path(&cx, name);
    for (left, gone_is_udp) in [(&tcp, true), (&udp, false)] {
        let before = version(&cx.get(&path).await?)?;
        let updated = cx
            .update(&path, |s| s["spec"]["ports"] = json!([left]))
            .await?;
        ensure!(version(&updated)? > before, "{updated}");
        jig::answers_soon(&cx, &exec, ip, 80, !gone_is_udp, LAG).await?;
        let what = format!("80 of the other protocol does not answer, only {left}");
        cx.eventually(Duration::from_secs(1), LAG, &what, || async {
            Ok(!jig::answers(&cx, &exec, ip, 80, gone_is_udp, 6).await?)
        })
        .await?;
    }
    Ok(())
}

fn port_9376() -> Value {
    json!([{"name": "http", "port": 80, "targetPort": 9376, "protocol": "TCP"}])
}

pub async fn node_port(cx: Cx) -> Result<()> {
    let name = "nodeport-test";
    let spec = json!({"type": "NodePort", "ports": port_9376()});
    let service = jig::create(&cx, &jig::service(name, spec)).await?;
    jig::pods_of(&cx, name, &service["metadata"]["labels"], 2, &SERVERS).await?;
    let exec = jig::exec_pod(&cx, "execpod").await?;
    let reached = jig::reach(&cx, name, &exec).await;
    ensure!(reached.is_ok(), "{reached:?}");
    Ok(())
}

/// From ExternalName to a type with an address.
pub async fn from_external_name(cx: Cx, kind: &str) -> Result<()> {
    let name = "externalname-service";
    let mut object = jig::service(
        name,
        json!({"type": "ExternalName", "externalName": "foo.example.com"}),
    );
    object["spec"]["ports"] = Value::Null;
    let service = jig::create(&cx, &object).await?;
    jig::update(&cx, name, kind, |s| {
        s["spec"]["type"] = json!(kind);
        s["spec"]["externalName"] = json!("");
        s["spec"]["ports"] = port_9376();
    })
    .await?;
    jig::pods_of(&cx, name, &service["metadata"]["labels"], 2, &SERVERS).await?;
    let exec = jig::exec_pod(&cx, "execpod").await?;
    let reached = jig::reach(&cx, name, &exec).await;
    ensure!(reached.is_ok(), "{reached:?}");
    Ok(())
}

/// From a type with an address to ExternalName.
pub async fn to_external_name(cx: Cx, kind: &str) -> Result<()> {
    let name = format!("{}-service", kind.to_lowercase());
    jig::create(&cx, &jig::service(&name, json!({"type": kind}))).await?;
    jig::serve_hostname(&cx, "externalsvc", json!({}), 2).await?;
    let target = format!("externalsvc.{}.svc.cluster.local", cx.namespace);
    let updated = jig::update(&cx, &name, "ExternalName", |s| {
        s["spec"]["type"] = json!("ExternalName");
        s["spec"]["externalName"] = json!(target);
    })
    .await?;
    let ip = updated["spec"]["clusterIP"].as_str().unwrap_or_default();
    ensure!(ip.is_empty(), "{updated}");
    let exec = jig::exec_pod(&cx, "execpod").await?;
    jig::resolves(&cx, &name, &exec).await
}

// === Session affinity ===

/// Answers that decide.
const ENOUGH: usize = 15;

/// Do the last answers all come from one pod, as they should or should not?
async fn holds(cx: &Cx, exec: &str, target: &str, hold: bool) -> Result<()> {
    let line = format!(
        "for i in $(seq 0 15); do echo; curl -q -s --connect-timeout 2 http://{target}/ ; done"
    );
    let end = tokio::time::Instant::now() + jig::REACH;
    let mut hosts: Vec<String> = Vec::new();
    loop {
        let output = cx
            .exec(exec, "agnhost-container", &["/bin/sh", "-c", &line])
            .await?;
        let lines = output
            .stdout
            .lines()
            .map(str::trim)
            .filter(|l| !l.is_empty());
        hosts.extend(lines.map(str::to_string));
        if let Some((_, last)) = hosts.split_at_checked(hosts.len().saturating_sub(ENOUGH))
            && last.len() == ENOUGH
        {
            let same = last.windows(2).all(|w| w[0] == w[1]);
            if same == hold {
                return Ok(());
            }
        }
        ensure!(
            tokio::time::Instant::now() < end,
            "affinity is not {hold}: {hosts:?}"
        );
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

pub async fn affinity(cx: Cx, kind: &str, transition: bool) -> Result<()> {
    let name = match (kind, transition) {
        ("ClusterIP", false) => "affinity-clusterip",
        ("ClusterIP", true) => "affinity-clusterip-transition",
        (_, false) => "affinity-nodeport",
        (_, true) => "affinity-nodeport-transition",
    };
    let more = json!({"type": kind, "sessionAffinity": "ClientIP"});
    let service = jig::serve_hostname(&cx, name, more, 3).await?;
    let target = match kind {
        "NodePort" => {
            let nodes = jig::node_addresses(&cx).await?;
            let port = &service["spec"]["ports"][0]["nodePort"];
            format!("{}:{port}", nodes[0])
        }
        _ => format!(
            "{}:80",
            service["spec"]["clusterIP"].as_str().context("clusterIP")?
        ),
    };
    let exec = jig::exec_pod(&cx, "execpod-affinity").await?;
    jig::reach(&cx, name, &exec).await?;
    if !transition {
        holds(&cx, &exec, &target, true).await?;
    } else {
        for (setting, hold) in [("None", false), ("ClientIP", true)] {
            jig::update(&cx, name, kind, |s| {
                s["spec"]["sessionAffinity"] = json!(setting);
                if setting == "None" {
                    s["spec"]["sessionAffinityConfig"] = Value::Null;
                }
            })
            .await?;
            holds(&cx, &exec, &target, hold).await?;
        }
    }
    cx.delete(&cx.core(&format!("replicationcontrollers/{name}")))
        .await?;
    cx.delete(&jig::path(&cx, name)).await?;
    let gone = cx
        .send(Method::GET, &jig::path(&cx, name), "application/json", None)
        .await?;
    ensure!(gone.is_err(), "{gone:?}");
    Ok(())
}

// === The API alone ===

pub async fn listed(cx: Cx) -> Result<()> {
    let all = cx.get("/api/v1/services").await?;
    let mut all = all["items"].as_array().into_iter().flatten();
    let is = |s: &Value| pods::name(s) == "kubernetes" && s["metadata"]["namespace"] == "default";
    ensure!(all.any(is), "default/kubernetes is not listed");
    Ok(())
}

pub async fn collection(cx: Cx) -> Result<()> {
    let all = cx.core("services");
    for (letter, port, what) in [
        ("a", 8001, "delete"),
        ("b", 8002, "delete"),
        ("c", 8003, "keep"),
    ] {
        let object = json!({"apiVersion": "v1", "kind": "Service",
            "metadata": {"name": format!("e2e-svc-{letter}-{}", five()), "labels": {"e2e-test-service": what}},
            "spec": {"type": "ClusterIP", "ports": [{"name": "http", "protocol": "TCP", "port": port, "targetPort": port}]}});
        cx.ok(Method::POST, &all, &object).await?;
    }
    let count = async || -> Result<usize> {
        Ok(cx.get(&all).await?["items"].as_array().map_or(0, Vec::len))
    };
    ensure!(count().await? == 3, "not three services");
    cx.delete(&format!("{all}?labelSelector=e2e-test-service%3Ddelete"))
        .await?;
    ensure!(count().await? == 1, "not one service");
    Ok(())
}

pub async fn status_lifecycle(cx: Cx) -> Result<()> {
    let selector = "labelSelector=test-service-static%3Dtrue";
    let list = cx.get(&format!("/api/v1/services?{selector}")).await?;
    let from = list["metadata"]["resourceVersion"]
        .as_str()
        .context("a version")?
        .to_string();
    let seen = async |what: &str, wanted: &(dyn Fn(&str, &Value) -> bool + Sync)| -> Result<()> {
        let query = format!("{selector}&resourceVersion={from}");
        let mut watch = cx.watch(&cx.core("services"), &query).await?;
        let end = tokio::time::Instant::now() + Duration::from_secs(60);
        loop {
            let left = end.saturating_duration_since(tokio::time::Instant::now());
            let (kind, service) = watch.next(left).await.with_context(|| what.to_string())?;
            if wanted(&kind, &service) {
                return Ok(());
            }
            if kind == "ERROR" {
                bail!("{what}: {service}");
            }
        }
    };
    let name = format!("test-service-{}", five());
    let object = json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "labels": {"test-service-static": "true"}},
        "spec": {"type": "LoadBalancer", "loadBalancerClass": "example.com/internal-vip",
            "ports": [{"name": "http", "protocol": "TCP", "port": 80, "targetPort": 80}]}});
    cx.ok(Method::POST, &cx.core("services"), &object).await?;
    seen("the new service", &|_, s| pods::name(s) == name).await?;
    let path = jig::path(&cx, &name);
    let status = format!("{path}/status");
    ensure!(
        cx.get(&status).await?["kind"] == "Service",
        "/status gives no Service"
    );
    let patch = json!({"metadata": {"annotations": {"patchedstatus": "true"}},
        "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.1"}]}}});
    cx.patch(&status, "merge", &patch).await?;
    seen("the patched status", &|_, s| {
        s["metadata"]["annotations"]["patchedstatus"] == "true"
    })
    .await?;
    cx.update(&status, |s| {
        let condition = json!({"type": "StatusUpdate", "status": "True", "reason": "E2E",
            "message": "Set from e2e test", "lastTransitionTime": null});
        match s["status"]["conditions"].as_array_mut() {
            Some(all) => all.push(condition),
            None => s["status"]["conditions"] = json!([condition]),
        }
    })
    .await?;
    seen("the condition", &|_, s| {
        let condition = &s["status"]["conditions"][0];
        s["metadata"]["annotations"]["patchedstatus"] == "true"
            && condition["type"] == "StatusUpdate"
            && condition["reason"] == "E2E"
            && condition["message"] == "Set from e2e test"
    })
    .await?;
    let patch = json!({"metadata": {"creationTimestamp": null, "labels": {"test-service": "patched"}},
        "spec": {}, "status": {"loadBalancer": {}}});
    cx.patch(&path, "strategic-merge", &patch).await?;
    seen("the label", &|_, s| {
        s["metadata"]["labels"]["test-service"] == "patched"
    })
    .await?;
    cx.delete(&path).await?;
    let gone = |kind: &str, s: &Value| {
        kind == "DELETED" && s["metadata"]["labels"]["test-service-static"] == "true"
    };
    seen("the deletion", &gone).await
}
