//! Services as upstream's tests make, change and reach them.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use http::Method;
use serde_json::{Value, json};

use crate::pods::{self, AGNHOST, START, uuid};
use crate::rest::Cx;

/// How long a service may take to answer.
pub const REACH: Duration = Duration::from_secs(120);
/// How long endpoints may take to be as the pods are.
const ENDPOINTS: Duration = Duration::from_secs(180);
const SECOND: Duration = Duration::from_secs(1);

/// A service with labels that its pods have too; one port 80, unless it has others.
pub fn service(name: &str, spec: Value) -> Value {
    let labels = json!({"testid": format!("{name}-{}", uuid())});
    let mut all = json!({"selector": labels, "ports": [{"port": 80, "protocol": "TCP"}]});
    for (key, value) in spec.as_object().into_iter().flatten() {
        all[key] = value.clone();
    }
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "labels": labels}, "spec": all})
}

pub fn path(cx: &Cx, name: &str) -> String {
    cx.core(&format!("services/{name}"))
}

/// Creates a service, whose fields must fit its type.
pub async fn create(cx: &Cx, service: &Value) -> Result<Value> {
    let made = cx.ok(Method::POST, &cx.core("services"), service).await?;
    sane(
        &made,
        service["spec"]["type"].as_str().unwrap_or("ClusterIP"),
    )?;
    Ok(made)
}

/// Changes a service, whose fields must fit its type then.
pub async fn update(cx: &Cx, name: &str, kind: &str, change: impl Fn(&mut Value)) -> Result<Value> {
    let updated = cx.update(&path(cx, name), change).await?;
    sane(&updated, kind)?;
    Ok(updated)
}

fn sane(service: &Value, kind: &str) -> Result<()> {
    let spec = &service["spec"];
    ensure!(spec["type"] == kind, "{spec} is no {kind}");
    let text = |key: &str| spec[key].as_str().unwrap_or_default();
    if kind == "ExternalName" {
        ensure!(text("clusterIP").is_empty(), "{spec}");
    } else {
        ensure!(
            text("externalName").is_empty() && !text("clusterIP").is_empty(),
            "{spec}"
        );
    }
    for port in spec["ports"].as_array().into_iter().flatten() {
        let node = port["nodePort"].as_i64().unwrap_or(0);
        match kind {
            "NodePort" => ensure!((30000..=32767).contains(&node), "{port}"),
            _ => ensure!(node == 0, "{port}"),
        }
    }
    Ok(())
}

/// A controller of agnhost pods with a service's name and labels; all of them run.
pub async fn pods_of(
    cx: &Cx,
    name: &str,
    labels: &Value,
    replicas: usize,
    args: &[&str],
) -> Result<()> {
    let rc = json!({"apiVersion": "v1", "kind": "ReplicationController",
        "metadata": {"name": name, "labels": labels},
        "spec": {"replicas": replicas, "selector": labels, "template": {"metadata": {"labels": labels},
            "spec": {"terminationGracePeriodSeconds": 0,
                "containers": [{"name": name, "image": AGNHOST, "args": args}]}}}});
    cx.ok(Method::POST, &cx.core("replicationcontrollers"), &rc)
        .await?;
    let (key, value) = labels
        .as_object()
        .and_then(|l| l.iter().next())
        .context("labels")?;
    let list = cx.core(&format!(
        "pods?labelSelector={key}%3D{}",
        value.as_str().unwrap_or_default()
    ));
    cx.eventually(
        SECOND,
        START,
        &format!("{replicas} running pods of {name}"),
        || async {
            let all = cx.get(&list).await?;
            let items = all["items"].as_array().into_iter().flatten();
            let running =
                items.filter(|p| p["status"]["phase"] == "Running" && pods::condition(p, "Ready"));
            Ok(running.count() == replicas)
        },
    )
    .await
}

/// A service whose pods say their names, with so many of them.
pub async fn serve_hostname(cx: &Cx, name: &str, more: Value, replicas: usize) -> Result<Value> {
    let labels = json!({"name": name});
    let mut spec =
        json!({"selector": labels, "ports": [{"port": 80, "targetPort": 9376, "protocol": "TCP"}]});
    for (key, value) in more.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    let object =
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec});
    cx.ok(Method::POST, &cx.core("services"), &object).await?;
    pods_of(cx, name, &labels, replicas, &["serve-hostname"]).await?;
    let found = cx.get(&path(cx, name)).await?;
    let ip = found["spec"]["clusterIP"].as_str().unwrap_or_default();
    ensure!(!ip.is_empty(), "{found}");
    Ok(found)
}

/// A pod from which commands are run.
pub async fn exec_pod(cx: &Cx, name: &str) -> Result<String> {
    let name = format!("{name}{}", uuid().chars().take(5).collect::<String>());
    pods::create(cx, &pods::agnhost(&name, &["pause"])).await?;
    pods::running(cx, &name, START).await?;
    Ok(name)
}

/// One try to get an answer of a port: is there one?
pub async fn answers(
    cx: &Cx,
    pod: &str,
    target: &str,
    port: i64,
    udp: bool,
    seconds: u32,
) -> Result<bool> {
    let flag = if udp { "-u" } else { "-t" };
    let line = format!("echo hostName | nc -v {flag} -w {seconds} {target} {port}");
    let output = cx
        .exec(pod, "agnhost-container", &["/bin/sh", "-c", &line])
        .await?;
    Ok(output.code == 0 && !output.stdout.trim().is_empty())
}

/// Waits until a port answers.
pub async fn answers_soon(
    cx: &Cx,
    pod: &str,
    target: &str,
    port: i64,
    udp: bool,
    within: Duration,
) -> Result<()> {
    let kind = if udp { "UDP" } else { "TCP" };
    cx.eventually(
        SECOND,
        within,
        &format!("{target}:{port}/{kind} answers"),
        || answers(cx, pod, target, port, udp, 2),
    )
    .await
}

/// Addresses of nodes in the cluster.
pub async fn node_addresses(cx: &Cx) -> Result<Vec<String>> {
    let nodes = cx.get("/api/v1/nodes").await?;
    let nodes = nodes["items"].as_array().into_iter().flatten();
    let addresses = nodes.flat_map(|n| n["status"]["addresses"].as_array().into_iter().flatten());
    let internal = addresses.filter(|a| a["type"] == "InternalIP");
    let all: Vec<String> = internal
        .filter_map(|a| a["address"].as_str())
        .map(str::to_string)
        .collect();
    ensure!(!all.is_empty(), "no node has an InternalIP");
    Ok(all)
}

/// A service answers by its name, its address and, where it has them, its node ports.
pub async fn reach(cx: &Cx, name: &str, pod: &str) -> Result<()> {
    let slices = slices_path(cx, name);
    cx.eventually(SECOND, REACH, &format!("endpoints of {name}"), || async {
        let all = cx.get(&slices).await?;
        let mut endpoints = all["items"]
            .as_array()
            .into_iter()
            .flatten()
            .flat_map(|s| s["endpoints"].as_array().into_iter().flatten());
        Ok(endpoints.any(|e| e["addresses"].as_array().is_some_and(|a| !a.is_empty())))
    })
    .await?;
    let service = cx.get(&path(cx, name)).await?;
    let spec = &service["spec"];
    if spec["type"] == "ExternalName" {
        return resolves(cx, name, pod).await;
    }
    let ip = spec["clusterIP"].as_str().context("clusterIP")?;
    for port in spec["ports"].as_array().context("ports")? {
        let udp = port["protocol"] == "UDP";
        let number = port["port"].as_i64().context("port")?;
        for target in [name, ip] {
            answers_soon(cx, pod, target, number, udp, REACH).await?;
        }
        let Some(node_port) = port["nodePort"].as_i64().filter(|p| *p != 0) else {
            continue;
        };
        for node in node_addresses(cx).await?.iter().take(2) {
            answers_soon(cx, pod, node, node_port, udp, REACH).await?;
        }
    }
    Ok(())
}

/// The cluster's DNS knows a service's name.
pub async fn resolves(cx: &Cx, name: &str, pod: &str) -> Result<()> {
    let line = format!("nslookup {name}.{}.svc.cluster.local", cx.namespace);
    cx.eventually(Duration::from_secs(2), REACH, &line, || async {
        let output = cx
            .exec(pod, "agnhost-container", &["/bin/sh", "-c", &line])
            .await?;
        Ok(output.code == 0)
    })
    .await
}

/// Waits until an address gives a pod's name.
pub async fn hostname(cx: &Cx, pod: &str, address: &str, wanted: &str) -> Result<()> {
    let line = format!("curl -q -s --max-time 30 {address}/hostname");
    let end = tokio::time::Instant::now() + REACH;
    let output = loop {
        let output = cx
            .exec(pod, "agnhost-container", &["/bin/sh", "-c", &line])
            .await?;
        if output.code == 0 && !output.stdout.trim().is_empty() {
            break output;
        }
        ensure!(tokio::time::Instant::now() < end, "{line}: {output:?}");
        tokio::time::sleep(SECOND).await;
    };
    let host = output.stdout.trim().split('.').next().unwrap_or_default();
    ensure!(host == wanted, "{address} is {host}, expected {wanted}");
    Ok(())
}

pub fn slices_path(cx: &Cx, name: &str) -> String {
    format!(
        "/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices?labelSelector=kubernetes.io%2Fservice-name%3D{name}",
        cx.namespace
    )
}

/// Uids of ready pods to their sorted ports.
type Map = BTreeMap<String, Vec<String>>;

fn add(map: &mut Map, uid: &Value, ports: &[Value]) {
    let all = map
        .entry(uid.as_str().unwrap_or_default().to_string())
        .or_default();
    for port in ports {
        all.push(format!(
            "{}/{}",
            port["port"],
            port["protocol"].as_str().unwrap_or("TCP")
        ));
    }
    all.sort();
    all.dedup();
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn of_endpoints(endpoints: &Value) -> Map {
    let mut map = Map::new();
    for subset in list(&endpoints["subsets"]) {
        for address in list(&subset["addresses"]) {
            add(
                &mut map,
                &address["targetRef"]["uid"],
                list(&subset["ports"]),
            );
        }
    }
    map
}

fn of_slices(slices: &Value) -> Map {
    let mut map = Map::new();
    for slice in list(&slices["items"]) {
        for endpoint in list(&slice["endpoints"]) {
            if endpoint["conditions"]["ready"] != false {
                add(
                    &mut map,
                    &endpoint["targetRef"]["uid"],
                    list(&slice["ports"]),
                );
            }
        }
    }
    map
}

/// Waits until endpoints and slices of a service have exactly these pods, with `number/protocol` ports.
pub async fn endpoints_are(cx: &Cx, name: &str, wanted: &[(&Value, &[&str])]) -> Result<()> {
    let mut map = Map::new();
    for (pod, ports) in wanted {
        let uid = pod["metadata"]["uid"].as_str().context("uid")?;
        let mut ports: Vec<String> = ports.iter().map(|p| p.to_string()).collect();
        ports.sort();
        map.insert(uid.to_string(), ports);
    }
    let endpoints = cx.core(&format!("endpoints/{name}"));
    let slices = slices_path(cx, name);
    cx.eventually(
        SECOND,
        ENDPOINTS,
        &format!("endpoints of {name} are {map:?}"),
        || async {
            let old = cx
                .send(Method::GET, &endpoints, "application/json", None)
                .await?;
            let old = old.map(|e| of_endpoints(&e)).unwrap_or_default();
            Ok(old == map && of_slices(&cx.get(&slices).await?) == map)
        },
    )
    .await
}
