//! SchedulerPredicates.

use super::*;

/// Thousandths of a CPU.
fn milli(quantity: &Value) -> i64 {
    let text = quantity.as_str().unwrap_or("0");
    match text.strip_suffix('m') {
        Some(m) => m.parse().unwrap_or(0),
        None => (text.parse::<f64>().unwrap_or(0.0) * 1000.0) as i64,
    }
}

fn cpu_requests(pod: &Value) -> i64 {
    let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
    containers
        .map(|c| milli(&c["resources"]["requests"]["cpu"]))
        .sum()
}

/// Waits until every pod of the cluster has a node.
async fn stable(cx: &Cx) -> Result<()> {
    let within = Duration::from_secs(600);
    cx.eventually(POLL, within, "all pods scheduled", || async {
        let pods = cx.get("/api/v1/pods").await?;
        let mut all = pods["items"].as_array().into_iter().flatten();
        Ok(all.all(|p| p["spec"]["nodeName"].is_string()))
    })
    .await
}

pub async fn resource_limits(cx: Cx) -> Result<()> {
    let nodes = ready_nodes(&cx).await?;
    stable(&cx).await?;
    let pods = cx.get("/api/v1/pods").await?;
    let mut largest = 0;
    let mut fillers = Vec::new();
    for node in &nodes {
        let node_name = name(node);
        label_node(&cx, node_name, "node", json!(node_name)).await?;
        let all = milli(&node["status"]["allocatable"]["cpu"]);
        largest = largest.max(all);
        let there = pods["items"].as_array().into_iter().flatten();
        let used: i64 = there
            .filter(|p| p["spec"]["nodeName"] == node_name)
            .filter(|p| p["status"]["phase"] != "Succeeded" && p["status"]["phase"] != "Failed")
            .map(cpu_requests)
            .sum();
        let filler = format!("filler-pod-{}", uuid());
        let here = json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
            {"nodeSelectorTerms": [{"matchExpressions": [{"key": "node", "operator": "In", "values": [node_name]}]}]}}}});
        let mut pod = pause_pod(&filler, here);
        ask(
            &mut pod,
            json!({"cpu": format!("{}m", (all - used) * 7 / 10)}),
        );
        create_pod(&cx, &pod).await?;
        fillers.push((filler, node_name));
    }
    for (filler, node) in &fillers {
        let pod = running(&cx, &cx.core(&format!("pods/{filler}")), POD_START).await?;
        ensure!(pod["spec"]["nodeName"] == *node, "{pod}");
    }
    let mut pod = pause_pod("additional-pod", json!({}));
    pod["metadata"]["labels"] = json!({"name": "additional"});
    ask(&mut pod, json!({"cpu": format!("{}m", largest * 5 / 10)}));
    create_pod(&cx, &pod).await?;
    failed_scheduling(&cx, "additional-pod").await?;
    let counts = counts(&cx).await?;
    ensure!(counts == (fillers.len(), 1), "{counts:?}");
    for node in &nodes {
        label_node(&cx, name(node), "node", Value::Null).await?;
    }
    Ok(())
}

pub async fn selector_not_matching(cx: Cx) -> Result<()> {
    let mut pod = pause_pod(
        "restricted-pod",
        json!({"nodeSelector": {"label": "nonempty"}}),
    );
    pod["metadata"]["labels"] = json!({"name": "restricted"});
    stable(&cx).await?;
    create_pod(&cx, &pod).await?;
    failed_scheduling(&cx, "restricted-pod").await?;
    let counts = counts(&cx).await?;
    ensure!(counts == (0, 1), "{counts:?}");
    Ok(())
}

pub async fn selector_matching(cx: Cx) -> Result<()> {
    let node = node_that_runs_a_pod(&cx).await?;
    let key = format!("kubernetes.io/e2e-{}", uuid());
    label_node(&cx, &node, &key, json!("42")).await?;
    let pod = pause_pod("with-labels", json!({"nodeSelector": {key.as_str(): "42"}}));
    create_pod(&cx, &pod).await?;
    let pod = not_pending(&cx, "with-labels").await?;
    ensure!(pod["spec"]["nodeName"] == node.as_str(), "{pod}");
    label_node(&cx, &node, &key, Value::Null).await
}

fn port_pod(name: &str, selector: &Value, ip: &str) -> Value {
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"nodeSelector": selector, "terminationGracePeriodSeconds": 1, "containers": [{"name": "agnhost",
            "image": AGNHOST, "args": ["netexec", "--http-port=8080", "--udp-port=8080"],
            "ports": [{"containerPort": 8080, "hostPort": 54322, "protocol": "TCP"}],
            "readinessProbe": {"httpGet": {"path": "/hostname", "port": 8080}}}]}});
    if !ip.is_empty() {
        pod["spec"]["containers"][0]["ports"][0]["hostIP"] = json!(ip);
    }
    pod
}

pub async fn host_port_conflict(cx: Cx) -> Result<()> {
    let node = node_that_runs_a_pod(&cx).await?;
    let key = format!("kubernetes.io/e2e-{}", uuid());
    label_node(&cx, &node, &key, json!("95")).await?;
    let selector = json!({key.as_str(): "95"});
    let found = cx.get(&format!("/api/v1/nodes/{node}")).await?;
    let addresses = found["status"]["addresses"]
        .as_array()
        .into_iter()
        .flatten();
    let mut internal = addresses.filter(|a| a["type"] == "InternalIP");
    let ip = internal.next().and_then(|a| a["address"].as_str());
    let ip = ip.context("an internal address")?;
    create_pod(&cx, &port_pod("pod4", &selector, "")).await?;
    not_pending(&cx, "pod4").await?;
    create_pod(&cx, &port_pod("pod5", &selector, ip)).await?;
    // Stricter than the original, which waits for a pod that never comes: it must be told why.
    failed_scheduling(&cx, "pod5").await?;
    let path = cx.core("pods/pod5");
    let end = tokio::time::Instant::now() + POD_START;
    while tokio::time::Instant::now() < end {
        let pod = cx.get(&path).await?;
        ensure!(pod["spec"].get("nodeName").is_none(), "{pod}");
        tokio::time::sleep(POLL * 5).await;
    }
    label_node(&cx, &node, &key, Value::Null).await
}
