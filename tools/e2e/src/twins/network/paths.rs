//! Ways to pods: the API server's proxies, pod to pod, node to pod, host ports.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures::StreamExt;
use http::Method;
use serde_json::{Value, json};

use super::jig;
use crate::pods::{self, AGNHOST, uuid};
use crate::rest::{Cx, POLL};

const MINUTE: Duration = Duration::from_secs(60);

// === Proxy ===

/// The pod and the service of the tests with all verbs.
async fn responder(cx: &Cx, service: &str, label: [&str; 2]) -> Result<()> {
    let labels = json!({label[0]: label[1]});
    let mut pod = pods::pod(
        "agnhost",
        json!({"restartPolicy": "Never", "containers": [{"name": "agnhost", "image": AGNHOST,
            "command": ["/agnhost", "porter", "--json-response"], "env": [{"name": "SERVE_PORT_80", "value": "foo"}]}]}),
    );
    pod["metadata"]["labels"] = labels.clone();
    pods::create(cx, &pod).await?;
    pods::running(cx, "agnhost", pods::START).await?;
    let object = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": service, "labels": labels},
        "spec": {"selector": labels, "ports": [{"port": 80, "targetPort": 80, "protocol": "TCP"}]}});
    cx.ok(Method::POST, &cx.core("services"), &object).await?;
    Ok(())
}

/// Waits until the backend has answered a verb.
async fn answered(cx: &Cx, verb: &str, path: &str) -> Result<()> {
    let method = Method::from_bytes(verb.as_bytes())?;
    cx.eventually(
        Duration::from_millis(100),
        MINUTE,
        &format!("{verb} {path}"),
        || async {
            let answer = cx.raw(method.clone(), path, &[], "").await?;
            if answer.code != 200 || verb == "HEAD" {
                return Ok(answer.code == 200);
            }
            let Ok(body) = serde_json::from_str::<Value>(&answer.text) else {
                return Ok(false);
            };
            Ok(body["Body"] == "foo" && body["Method"] == verb)
        },
    )
    .await
}

pub async fn proxy_with_path(cx: Cx) -> Result<()> {
    responder(&cx, "test-service", ["test", "response"]).await?;
    for verb in ["DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"] {
        for target in ["pods/agnhost", "services/test-service"] {
            let path = cx.core(&format!("{target}/proxy/some/path/with/{verb}"));
            let done = answered(&cx, verb, &path).await;
            ensure!(done.is_ok(), "{done:?}");
        }
    }
    Ok(())
}

pub async fn proxy(cx: Cx) -> Result<()> {
    let service = "e2e-proxy-test-service";
    responder(&cx, service, ["e2e-test", "proxy-endpoints"]).await?;
    let targets = ["pods/agnhost".to_string(), format!("services/{service}")];
    for verb in ["DELETE", "OPTIONS", "PATCH", "POST", "PUT"] {
        for target in &targets {
            let path = cx.core(&format!("{target}/proxy?method={verb}"));
            answered(&cx, verb, &path).await?;
        }
    }
    for verb in [Method::GET, Method::HEAD] {
        for target in &targets {
            let path = cx.core(&format!("{target}/proxy?method={verb}"));
            let answer = cx.raw(verb.clone(), &path, &[], "").await?;
            ensure!(answer.code == 301, "{verb} {path}: {answer:?}");
        }
    }
    Ok(())
}

/// The deployment that serves plain and TLS on many ports, and its service.
async fn proxied(cx: &Cx) -> Result<(String, String)> {
    let labels = json!({"proxy-service-target": "true"});
    let object = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"generateName": "proxy-service-"},
        "spec": {"selector": labels, "ports": [
            {"name": "portname1", "port": 80, "targetPort": "dest1"}, {"name": "portname2", "port": 81, "targetPort": 162},
            {"name": "tlsportname1", "port": 443, "targetPort": "tlsdest1"}, {"name": "tlsportname2", "port": 444, "targetPort": 462}]}});
    let service = cx.ok(Method::POST, &cx.core("services"), &object).await?;
    let name = pods::name(&service).to_string();
    let serve = |port: &str, value: &str| json!({"name": format!("SERVE_{port}"), "value": value});
    let link = "<a href=\"/rewriteme\">test</a>";
    let env = json!([
        serve("PORT_80", link),
        serve("PORT_1080", link),
        serve("PORT_160", "foo"),
        serve("PORT_162", "bar"),
        serve("TLS_PORT_443", "<a href=\"/tlsrewriteme\">test</a>"),
        serve("TLS_PORT_460", "tls baz"),
        serve("TLS_PORT_462", "tls qux")
    ]);
    let ports = json!([{"containerPort": 80}, {"name": "dest1", "containerPort": 160}, {"name": "dest2", "containerPort": 162},
        {"name": "tlsdest1", "containerPort": 460}, {"name": "tlsdest2", "containerPort": 462}]);
    let container = json!({"name": "agnhost", "image": AGNHOST, "command": ["/agnhost", "porter"], "env": env, "ports": ports,
        "readinessProbe": {"httpGet": {"path": "/", "port": 80}, "initialDelaySeconds": 1, "timeoutSeconds": 5, "periodSeconds": 10}});
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {"replicas": 1, "strategy": {"type": "Recreate"}, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}}}});
    let all = format!("/apis/apps/v1/namespaces/{}/deployments", cx.namespace);
    cx.ok(Method::POST, &all, &deployment).await?;
    cx.eventually(POLL, pods::START, "the deployment", || async {
        Ok(cx.get(&format!("{all}/{name}")).await?["status"]["availableReplicas"] == 1)
    })
    .await?;
    let endpoints = cx.core(&format!("endpoints/{name}"));
    cx.eventually(POLL, MINUTE, "a ready address", || async {
        let found = cx
            .send(Method::GET, &endpoints, "application/json", None)
            .await?;
        Ok(found.is_ok_and(|e| e["subsets"][0]["addresses"][0]["ip"].is_string()))
    })
    .await?;
    let list = cx
        .get(&cx.core("pods?labelSelector=proxy-service-target%3Dtrue"))
        .await?;
    let pod = list["items"].get(0).context("a pod")?;
    Ok((name, pods::name(pod).to_string()))
}

pub async fn proxy_ports(cx: Cx) -> Result<()> {
    let (service, pod) = proxied(&cx).await?;
    let mut wanted: Vec<(String, String)> = Vec::new();
    let mut add = |path: String, body: &str| {
        let path = cx.core(&path);
        let body = body.replace('@', &path);
        wanted.push((format!("{path}/"), body));
    };
    for (target, body) in [
        (format!("{service}:portname1"), "foo"),
        (format!("http:{service}:portname1"), "foo"),
        (format!("{service}:portname2"), "bar"),
        (format!("http:{service}:portname2"), "bar"),
        (format!("https:{service}:tlsportname1"), "tls baz"),
        (format!("https:{service}:tlsportname2"), "tls qux"),
    ] {
        add(format!("services/{target}/proxy"), body);
    }
    let link = "<a href=\"@/rewriteme\">test</a>";
    for (target, body) in [
        (pod.clone(), link),
        (format!("{pod}:1080"), link),
        (format!("http:{pod}:1080"), link),
        (format!("{pod}:160"), "foo"),
        (format!("http:{pod}:160"), "foo"),
        (format!("{pod}:162"), "bar"),
        (format!("http:{pod}:162"), "bar"),
        (
            format!("https:{pod}:443"),
            "<a href=\"@/tlsrewriteme\">test</a>",
        ),
        (format!("https:{pod}:460"), "tls baz"),
        (format!("https:{pod}:462"), "tls qux"),
    ] {
        add(format!("pods/{target}/proxy"), body);
    }
    for round in 0..20 {
        let all = futures::stream::iter(wanted.clone()).map(|(path, body)| {
            let cx = &cx;
            async move {
                let answer = cx.raw(Method::GET, &path, &[], "");
                let answer = tokio::time::timeout(Duration::from_secs(30), answer).await??;
                ensure!(
                    answer.code == 200 && answer.text == body,
                    "round {round}: {path}: {answer:?}, expected {body}"
                );
                Ok(())
            }
        });
        let all: Vec<Result<()>> = all.buffer_unordered(wanted.len()).collect().await;
        all.into_iter().collect::<Result<()>>()?;
    }
    Ok(())
}

// === Networking ===

/// One server on every node; their pods.
async fn servers(cx: &Cx) -> Result<Vec<Value>> {
    let nodes = cx.get("/api/v1/nodes").await?;
    let label = format!("selector-{}", uuid());
    let probe = json!({"httpGet": {"path": "/healthz", "port": 8083}, "initialDelaySeconds": 10, "timeoutSeconds": 30,
        "periodSeconds": 10, "failureThreshold": 3});
    let mut all = Vec::new();
    for (i, node) in nodes["items"]
        .as_array()
        .into_iter()
        .flatten()
        .take(10)
        .enumerate()
    {
        let host = &node["metadata"]["labels"]["kubernetes.io/hostname"];
        let mut pod = pods::pod(
            &format!("netserver-{i}"),
            json!({"nodeSelector": {"kubernetes.io/hostname": host}, "containers": [{"name": "webserver", "image": AGNHOST,
                "args": ["netexec", "--http-port=8083", "--udp-port=8081"],
                "ports": [{"name": "http", "containerPort": 8083}, {"name": "udp", "containerPort": 8081, "protocol": "UDP"}],
                "livenessProbe": probe, "readinessProbe": probe}]}),
        );
        pod["metadata"]["labels"] = json!({label.as_str(): "true"});
        pods::create(cx, &pod).await?;
        all.push(format!("netserver-{i}"));
    }
    let mut ready = Vec::new();
    for name in all {
        ready.push(pods::ready(cx, &name).await?);
    }
    ensure!(!ready.is_empty(), "no nodes");
    Ok(ready)
}

async fn test_pod(cx: &Cx) -> Result<String> {
    let mut pod = pods::agnhost(
        "test-container-pod",
        &["netexec", "--http-port=9080", "--udp-port=-1"],
    );
    pod["spec"]["containers"][0]["name"] = json!("webserver");
    let pod = pods::create_ready(cx, &pod).await?;
    Ok(pod["status"]["podIP"]
        .as_str()
        .context("podIP")?
        .to_string())
}

/// Tries that a check may take.
fn tries(servers: usize) -> usize {
    servers * servers + 30
}

pub async fn pod_to_pod(cx: Cx, protocol: &str) -> Result<()> {
    let servers = servers(&cx).await?;
    let ip = test_pod(&cx).await?;
    let port = if protocol == "udp" { 8081 } else { 8083 };
    for server in &servers {
        let target = server["status"]["podIP"].as_str().context("podIP")?;
        let line = format!(
            "curl -g -q -s 'http://{ip}:9080/dial?request=hostname&protocol={protocol}&host={target}&port={port}&tries=1'"
        );
        let mut last = String::new();
        for _ in 0..tries(servers.len()) {
            last = cx
                .shell("test-container-pod", "webserver", &line)
                .await
                .unwrap_or_else(|e| format!("{e:#}"));
            if serde_json::from_str::<Value>(&last)
                .is_ok_and(|v| v["responses"].as_array().is_some_and(|r| !r.is_empty()))
            {
                break;
            }
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        let answer: Value = serde_json::from_str(&last).with_context(|| last.clone())?;
        ensure!(
            answer["responses"] == json!([pods::name(server)]),
            "{answer}"
        );
    }
    Ok(())
}

pub async fn node_to_pod(cx: Cx, protocol: &str) -> Result<()> {
    let servers = servers(&cx).await?;
    test_pod(&cx).await?;
    let mut host = pods::agnhost("host-test-container-pod", &["pause"]);
    host["spec"]["hostNetwork"] = json!(true);
    pods::create_ready(&cx, &host).await?;
    for server in &servers {
        let target = server["status"]["podIP"].as_str().context("podIP")?;
        let line = match protocol {
            "udp" => format!("echo hostName | nc -w 1 -u {target} 8081 | grep -v '^\\s*$'"),
            _ => format!(
                "curl -g -q -s --max-time 15 --connect-timeout 1 http://{target}:8083/hostName | grep -v '^\\s*$'"
            ),
        };
        let mut last = None;
        for _ in 0..tries(servers.len()) {
            let output = cx
                .exec(
                    "host-test-container-pod",
                    "agnhost-container",
                    &["/bin/sh", "-c", &line],
                )
                .await?;
            let good = output.code == 0 && output.stderr.is_empty();
            last = Some(output);
            if good {
                break;
            }
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        let output = last.context("no try")?;
        ensure!(
            output.code == 0 && output.stdout.trim() == pods::name(server),
            "{line}: {output:?}"
        );
    }
    Ok(())
}

// === HostPort ===

pub async fn host_ports(cx: Cx) -> Result<()> {
    let nodes = cx.get("/api/v1/nodes").await?;
    let node = pods::name(&nodes["items"][0]).to_string();
    let addresses = jig::node_addresses(&cx).await?;
    let ip = addresses[0].as_str();
    for (name, host, protocol) in [
        ("pod1", "127.0.0.1", "TCP"),
        ("pod2", ip, "TCP"),
        ("pod3", ip, "UDP"),
    ] {
        let (args, port) = match protocol {
            "TCP" => (["netexec", "--http-port=8080", "--udp-port=-1"], 8080),
            _ => (["netexec", "--http-port=8008", "--udp-port=8080"], 8008),
        };
        let pod = pods::pod(
            name,
            json!({"nodeName": node, "containers": [{"name": "agnhost", "image": AGNHOST, "args": args,
                "ports": [{"hostPort": 54323, "hostIP": host, "containerPort": 8080, "protocol": protocol}],
                "readinessProbe": {"httpGet": {"path": "/hostname", "port": port}}}]}),
        );
        pods::create_ready(&cx, &pod).await?;
    }
    let mut host = pods::agnhost("e2e-host-exec", &["pause"]);
    host["spec"]["hostNetwork"] = json!(true);
    host["spec"]["nodeName"] = json!(node);
    pods::create_ready(&cx, &host).await?;
    let lines = [
        format!("curl -g --connect-timeout 5 --interface {ip} http://127.0.0.1:54323/hostname"),
        format!("curl -g --connect-timeout 5 http://{ip}:54323/hostname"),
        format!("echo hostname | nc -u -w 5 {ip} 54323"),
    ];
    let mut last = Vec::new();
    for _ in 0..5 {
        last.clear();
        for line in &lines {
            last.push(
                cx.exec(
                    "e2e-host-exec",
                    "agnhost-container",
                    &["/bin/sh", "-c", line],
                )
                .await?,
            );
        }
        let texts: Vec<&str> = last.iter().map(|o| o.stdout.trim()).collect();
        let differ = texts[0] != texts[1] && texts[1] != texts[2] && texts[0] != texts[2];
        if last.iter().all(|o| o.code == 0) && differ {
            return Ok(());
        }
    }
    bail!("the three ports do not answer as three pods: {last:?}")
}
