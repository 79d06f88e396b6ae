//! Endpoints, EndpointSlices and their mirroring.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use http::Method;
use serde_json::{Value, json};

use super::jig;
use crate::pods::{self, AGNHOST, NGINX, uuid};
use crate::rest::{Cx, POLL, version};

const CREATED: Duration = Duration::from_secs(30);
const RIGHT: Duration = Duration::from_secs(120);
const CUSTOM: &str = "example-custom-endpoints";

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn slices(cx: &Cx) -> String {
    format!(
        "/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices",
        cx.namespace
    )
}

async fn service(cx: &Cx, name: &str, spec: Value) -> Result<Value> {
    let object =
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec});
    cx.ok(Method::POST, &cx.core("services"), &object).await
}

// === API Server ===

pub async fn master_service(cx: Cx) -> Result<()> {
    let service = cx
        .get("/api/v1/namespaces/default/services/kubernetes")
        .await?;
    ensure!(pods::name(&service) == "kubernetes", "{service}");
    Ok(())
}

pub async fn master_endpoints(cx: Cx) -> Result<()> {
    cx.get("/api/v1/namespaces/default/services/kubernetes")
        .await?;
    let endpoints = cx
        .get("/api/v1/namespaces/default/endpoints/kubernetes")
        .await?;
    let subsets = list(&endpoints["subsets"]);
    ensure!(!subsets.is_empty(), "{endpoints}");
    let selected = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices?labelSelector=kubernetes.io%2Fservice-name%3Dkubernetes";
    let found = cx.get(selected).await?;
    let found = list(&found["items"]);
    ensure!(!found.is_empty(), "no slices of kubernetes");
    let (mut ips, mut ports) = (Vec::new(), Vec::new());
    for subset in subsets {
        for kind in ["addresses", "notReadyAddresses"] {
            ips.extend(list(&subset[kind]).iter().map(|a| a["ip"].to_string()));
        }
        ports.extend(list(&subset["ports"]).iter().map(|p| p["port"].to_string()));
    }
    let (mut slice_ips, mut slice_ports) = (Vec::new(), Vec::new());
    for slice in found.iter().filter(|s| s["addressType"] == "IPv4") {
        let endpoints = list(&slice["endpoints"]).iter();
        slice_ips.extend(
            endpoints
                .flat_map(|e| list(&e["addresses"]))
                .map(Value::to_string),
        );
        slice_ports.extend(list(&slice["ports"]).iter().map(|p| p["port"].to_string()));
    }
    for all in [&mut ips, &mut ports, &mut slice_ips, &mut slice_ports] {
        all.sort();
        all.dedup();
    }
    ensure!(
        !ips.is_empty() && ips == slice_ips,
        "{ips:?} is not {slice_ips:?}"
    );
    ensure!(ports == slice_ports, "{ports:?} is not {slice_ports:?}");
    Ok(())
}

// === A service that selects nothing ===

async fn empty_service(cx: &Cx) -> Result<()> {
    let spec = json!({"selector": {"does-not-match-anything": "endpoints-and-endpoint-slices-should-still-be-created"},
        "ports": [{"name": "example", "port": 80, "protocol": "TCP"}]});
    service(cx, "example-empty-selector", spec).await?;
    Ok(())
}

pub async fn empty_endpoints(cx: Cx) -> Result<()> {
    empty_service(&cx).await?;
    let path = cx.core("endpoints/example-empty-selector");
    cx.eventually(POLL, CREATED, "Endpoints", || async {
        Ok(cx
            .send(Method::GET, &path, "application/json", None)
            .await?
            .is_ok())
    })
    .await?;
    cx.delete(&jig::path(&cx, "example-empty-selector")).await?;
    let gone = pods::gone(&cx, &path, CREATED).await;
    ensure!(gone.is_ok(), "{gone:?}");
    Ok(())
}

pub async fn empty_slices(cx: Cx) -> Result<()> {
    empty_service(&cx).await?;
    let path = jig::slices_path(&cx, "example-empty-selector");
    cx.eventually(POLL, CREATED, "a slice", || async {
        let all = cx.get(&path).await?;
        let Some(first) = all["items"].get(0) else {
            return Ok(false);
        };
        let manager = &first["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"];
        ensure!(manager == "endpointslice-controller.k8s.io", "{first}");
        ensure!(list(&first["endpoints"]).is_empty(), "{first}");
        Ok(true)
    })
    .await?;
    cx.delete(&jig::path(&cx, "example-empty-selector")).await?;
    cx.eventually(POLL, Duration::from_secs(90), "no slices", || async {
        Ok(list(&cx.get(&path).await?["items"]).is_empty())
    })
    .await
}

// === Services that select pods ===

/// The two pods and the two services of upstream's tests.
async fn matching(cx: &Cx) -> Result<[Value; 2]> {
    let pod = |name: &str, ports: Value| {
        let mut pod = pods::pod(
            name,
            json!({"containers": [{"name": "container1", "image": NGINX, "ports": ports}]}),
        );
        pod["metadata"]["labels"] = json!({name: "on", "shared12": "on"});
        pod
    };
    let named =
        |name: &str, number: u16| json!({"name": name, "containerPort": number, "protocol": "TCP"});
    pods::create(cx, &pod("pod1", json!([named("example-name", 3000)]))).await?;
    pods::create(
        cx,
        &pod(
            "pod2",
            json!([named("example-name", 3001), named("other-port", 3002)]),
        ),
    )
    .await?;
    let spec = json!({"selector": {"pod1": "on"}, "publishNotReadyAddresses": true,
        "ports": [{"name": "example", "port": 80, "targetPort": 3000, "protocol": "TCP"}]});
    service(cx, "example-int-port", spec).await?;
    let spec = json!({"selector": {"shared12": "on"}, "publishNotReadyAddresses": true,
        "ports": [{"name": "http", "port": 80, "targetPort": "example-name", "protocol": "TCP"}]});
    service(cx, "example-named-port", spec).await?;
    let has = |pod: &Value| Ok(!list(&pod["status"]["podIPs"]).is_empty());
    let within = Duration::from_secs(180);
    Ok([
        pods::wait(cx, "pod1", within, "addressed", has).await?,
        pods::wait(cx, "pod2", within, "addressed", has).await?,
    ])
}

/// A reference to one of the pods: which.
fn target<'a>(pods: &'a [Value; 2], address: &Value, reference: &Value) -> Option<&'a Value> {
    let pod = pods.iter().find(|p| p["status"]["podIP"] == *address)?;
    let metadata = &pod["metadata"];
    let is = reference["kind"] == "Pod"
        && ["namespace", "name", "uid"]
            .iter()
            .all(|k| reference[*k] == metadata[*k]);
    is.then_some(pod)
}

fn endpoints_match(endpoints: &Value, pods: &[Value; 2], count: usize, port_name: &str) -> bool {
    let subsets = list(&endpoints["subsets"]);
    let mut seen = 0;
    for subset in subsets {
        let addresses: Vec<&Value> = ["addresses", "notReadyAddresses"]
            .iter()
            .flat_map(|k| list(&subset[*k]))
            .collect();
        let ([port], [address]) = (list(&subset["ports"]), addresses.as_slice()) else {
            return false;
        };
        let Some(pod) = target(pods, &address["ip"], &address["targetRef"]) else {
            return false;
        };
        let wanted = &pod["spec"]["containers"][0]["ports"][0]["containerPort"];
        if port["name"] != port_name || port["protocol"] != "TCP" || port["port"] != *wanted {
            return false;
        }
        seen += 1;
    }
    seen == count
}

pub async fn matching_endpoints(cx: Cx) -> Result<()> {
    let pods = matching(&cx).await?;
    for (name, count, port) in [
        ("example-int-port", 1, "example"),
        ("example-named-port", 2, "http"),
    ] {
        let path = cx.core(&format!("endpoints/{name}"));
        let right = cx
            .eventually(POLL, RIGHT, &format!("Endpoints {name}"), || async {
                let found = cx
                    .send(Method::GET, &path, "application/json", None)
                    .await?;
                Ok(found.is_ok_and(|e| endpoints_match(&e, &pods, count, port)))
            })
            .await;
        ensure!(right.is_ok(), "{right:?}: {}", cx.get(&path).await?);
    }
    Ok(())
}

fn slices_match(slices: &Value, pods: &[Value; 2], count: usize, port_name: &str) -> bool {
    let mut addresses: Vec<String> = Vec::new();
    for slice in list(&slices["items"]) {
        let [port] = list(&slice["ports"]) else {
            return false;
        };
        for endpoint in list(&slice["endpoints"]) {
            let address = &endpoint["addresses"][0];
            let Some(pod) = target(pods, address, &endpoint["targetRef"]) else {
                return false;
            };
            let wanted = &pod["spec"]["containers"][0]["ports"][0]["containerPort"];
            if port["name"] != port_name || port["protocol"] != "TCP" || port["port"] != *wanted {
                return false;
            }
            addresses.push(address.to_string());
        }
    }
    addresses.sort();
    addresses.dedup();
    addresses.len() == count && list(&slices["items"]).len() >= count
}

pub async fn matching_slices(cx: Cx) -> Result<()> {
    let pods = matching(&cx).await?;
    let right = async |name: &str, count: usize, port: &str| {
        let path = jig::slices_path(&cx, name);
        cx.eventually(POLL, RIGHT, &format!("slices of {name}"), || async {
            Ok(slices_match(&cx.get(&path).await?, &pods, count, port))
        })
        .await
    };
    right("example-int-port", 1, "example").await?;
    right("example-named-port", 2, "http").await?;
    let found = cx.get(&jig::slices_path(&cx, "example-named-port")).await?;
    ensure!(!list(&found["items"]).is_empty(), "{found}");
    for slice in list(&found["items"]) {
        cx.delete(&format!("{}/{}", slices(&cx), pods::name(slice)))
            .await?;
    }
    right("example-named-port", 2, "http").await
}

// === Slices that others make ===

async fn custom_service(cx: &Cx) -> Result<String> {
    let ports = json!([{"name": "port80", "port": 80, "protocol": "TCP"}, {"name": "port81", "port": 81, "protocol": "TCP"}]);
    let made = service(cx, CUSTOM, json!({"ports": ports})).await?;
    Ok(made["spec"]["clusterIP"]
        .as_str()
        .context("clusterIP")?
        .to_string())
}

async fn custom_slice(cx: &Cx, ip: &str, port: &str, number: u16) -> Result<()> {
    let labels = json!({"kubernetes.io/service-name": CUSTOM,
        "endpointslice.kubernetes.io/managed-by": format!("e2e-test{}", cx.namespace)});
    let object = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"generateName": "e2e-custom-slice", "labels": labels}, "addressType": "IPv4",
        "endpoints": [{"addresses": [ip], "conditions": {"ready": true}}],
        "ports": [{"name": port, "port": number, "protocol": "TCP"}]});
    cx.ok(Method::POST, &slices(cx), &object).await?;
    Ok(())
}

fn netexec(container: &str, port: &str) -> Value {
    json!({"name": container, "image": AGNHOST, "args": ["netexec", "--http-port", port, "--udp-port", "-1"]})
}

async fn handler(cx: &Cx, name: &str, ports: &[&str]) -> Result<String> {
    let containers: Vec<Value> = ports
        .iter()
        .map(|p| netexec(&format!("container-handle-{p}-request"), p))
        .collect();
    let pod = pods::pod(
        name,
        json!({"terminationGracePeriodSeconds": 0, "containers": containers}),
    );
    let pod = pods::create_ready(cx, &pod).await?;
    Ok(pod["status"]["podIP"]
        .as_str()
        .context("podIP")?
        .to_string())
}

async fn custom_reached(cx: &Cx, ip: &str, hosts: [&str; 2]) -> Result<()> {
    pods::create(cx, &pods::agnhost("pause-pod-0", &["pause"])).await?;
    pods::running(cx, "pause-pod-0", pods::START).await?;
    for (port, host) in [80, 81].iter().zip(hosts) {
        jig::hostname(cx, "pause-pod-0", &format!("{ip}:{port}"), host).await?;
    }
    Ok(())
}

pub async fn custom_ports(cx: Cx) -> Result<()> {
    let service = custom_service(&cx).await?;
    let name = "pod-handle-http-request";
    let ip = handler(&cx, name, &["8090", "9090"]).await?;
    custom_slice(&cx, &ip, "port80", 8090).await?;
    custom_slice(&cx, &ip, "port81", 9090).await?;
    let reached = custom_reached(&cx, &service, [name, name]).await;
    ensure!(reached.is_ok(), "{reached:?}");
    Ok(())
}

pub async fn custom_addresses(cx: Cx) -> Result<()> {
    let service = custom_service(&cx).await?;
    let names = ["pod1-handle-http-request", "pod2-handle-http-request"];
    for (name, port) in names.iter().zip(["port80", "port81"]) {
        let ip = handler(&cx, name, &["8090"]).await?;
        custom_slice(&cx, &ip, port, 8090).await?;
    }
    let reached = custom_reached(&cx, &service, names).await;
    ensure!(reached.is_ok(), "{reached:?}");
    Ok(())
}

pub async fn mirrored(cx: Cx) -> Result<()> {
    service(
        &cx,
        CUSTOM,
        json!({"ports": [{"name": "example", "port": 80, "protocol": "TCP"}]}),
    )
    .await?;
    let object = |ip: &str| {
        json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": CUSTOM},
            "subsets": [{"addresses": [{"ip": ip}], "ports": [{"port": 80}]}]})
    };
    let path = jig::slices_path(&cx, CUSTOM);
    let shows = |slice: &Value, ip: &str| {
        let (ports, endpoints) = (list(&slice["ports"]), list(&slice["endpoints"]));
        ports.len() == 1
            && ports[0]["port"] == 80
            && endpoints.len() == 1
            && endpoints[0]["addresses"] == json!([ip])
    };
    let within = Duration::from_secs(12);
    cx.ok(Method::POST, &cx.core("endpoints"), &object("10.1.2.3"))
        .await?;
    cx.eventually(POLL, within, "a mirrored slice", || async {
        let all = cx.get(&path).await?;
        for slice in list(&all["items"]) {
            ensure!(shows(slice, "10.1.2.3"), "{slice}");
        }
        Ok(!list(&all["items"]).is_empty())
    })
    .await?;
    let endpoints = cx.core(&format!("endpoints/{CUSTOM}"));
    cx.ok(Method::PUT, &endpoints, &object("10.2.3.4")).await?;
    cx.eventually(POLL, within, "the changed slice", || async {
        let all = cx.get(&path).await?;
        Ok(matches!(list(&all["items"]), [slice] if shows(slice, "10.2.3.4")))
    })
    .await?;
    cx.delete(&endpoints).await?;
    cx.eventually(POLL, within, "no slice", || async {
        Ok(list(&cx.get(&path).await?["items"]).is_empty())
    })
    .await
}

// === The API alone ===

pub async fn endpoints_lifecycle(cx: Cx) -> Result<()> {
    let selector = "labelSelector=test-endpoint-static%3Dtrue";
    let everywhere = format!("/api/v1/endpoints?{selector}");
    let all = cx.core("endpoints");
    let path = cx.core("endpoints/testservice");
    let from = |object: &Value| {
        object["metadata"]["resourceVersion"]
            .as_str()
            .unwrap_or_default()
            .to_string()
    };
    let seen = async |from: String, wanted: &str| -> Result<()> {
        let mut watch = cx
            .watch(&all, &format!("{selector}&resourceVersion={from}"))
            .await?;
        let end = tokio::time::Instant::now() + CREATED;
        loop {
            let left = end.saturating_duration_since(tokio::time::Instant::now());
            match watch.next(left).await.with_context(|| wanted.to_string())? {
                (kind, _) if kind == wanted => return Ok(()),
                (kind, object) if kind == "ERROR" => bail!("{object}"),
                _ => {}
            }
        }
    };
    let first = cx.get(&everywhere).await?;
    let object = json!({"apiVersion": "v1", "kind": "Endpoints",
        "metadata": {"name": "testservice", "labels": {"test-endpoint-static": "true"}},
        "subsets": [{"addresses": [{"ip": "10.0.0.24"}], "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]}]});
    let made = cx.ok(Method::POST, &all, &object).await?;
    version(&made)?;
    seen(from(&first), "ADDED").await?;
    let second = cx.get(&everywhere).await?;
    let here = |e: &&Value| {
        e["metadata"]["namespace"] == json!(cx.namespace) && pods::name(e) == "testservice"
    };
    let mut found = list(&second["items"])
        .iter()
        .find(here)
        .context("not listed")?
        .clone();
    found["metadata"]["labels"]["test-service"] = json!("updated");
    cx.ok(Method::PUT, &path, &found).await?;
    seen(from(&second), "MODIFIED").await?;
    let third = cx.get(&path).await?;
    let patch = json!({"metadata": {"labels": {"test-service": "patched"}},
        "subsets": [{"addresses": [{"ip": "10.0.0.25"}], "ports": [{"name": "http-test", "port": 8080}]}]});
    let patched = cx.patch(&path, "strategic-merge", &patch).await?;
    ensure!(version(&patched)? > version(&made)?, "{patched}");
    seen(from(&third), "MODIFIED").await?;
    let found = cx.get(&path).await?;
    ensure!(
        found["metadata"]["labels"]["test-service"] == "patched",
        "{found}"
    );
    let subset = &found["subsets"][0];
    ensure!(subset["addresses"][0]["ip"] == "10.0.0.25", "{found}");
    ensure!(
        subset["ports"][0]["name"] == "http-test" && subset["ports"][0]["port"] == 8080,
        "{found}"
    );
    cx.delete(&format!("{all}?{selector}")).await?;
    seen(from(&found), "DELETED").await?;
    let gone = cx
        .send(Method::GET, &path, "application/json", None)
        .await?;
    ensure!(gone.is_err(), "{gone:?}");
    Ok(())
}

pub async fn latency(cx: Cx) -> Result<()> {
    let name = "svc-latency-rc";
    let labels = json!({"name": name});
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "labels": labels},
        "spec": {"replicas": 1, "strategy": {"type": "Recreate"}, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": name, "image": pods::PAUSE}]}}}});
    let all = format!("/apis/apps/v1/namespaces/{}/deployments", cx.namespace);
    cx.ok(Method::POST, &all, &deployment).await?;
    cx.eventually(POLL, pods::START, "the deployment", || async {
        Ok(cx.get(&format!("{all}/{name}")).await?["status"]["availableReplicas"] == 1)
    })
    .await?;
    latency_of_one(&cx).await?;
    use futures::StreamExt;
    let trials = futures::stream::iter(0..TRIALS).map(|_| latency_of_one(&cx));
    let trials: Vec<Result<Duration>> = trials.buffer_unordered(15).collect().await;
    let mut times: Vec<Duration> = trials.iter().flatten().copied().collect();
    let failed = TRIALS - times.len();
    ensure!(
        failed * 20 <= TRIALS,
        "{failed} of {TRIALS} failed: {:?}",
        trials.iter().find(|t| t.is_err())
    );
    ensure!(times.len() >= 100, "only {} samples", times.len());
    times.sort();
    let (half, most) = (times[times.len() / 2], times[times.len() * 99 / 100]);
    ensure!(
        half <= Duration::from_secs(20) && most <= Duration::from_secs(50),
        "50 %: {half:?}, 99 %: {most:?}"
    );
    Ok(())
}

const TRIALS: usize = 200;

/// From a new service to its endpoints.
async fn latency_of_one(cx: &Cx) -> Result<Duration> {
    let name = format!("latency-svc-{}", uuid().chars().take(8).collect::<String>());
    let mut watch = cx
        .watch(
            &cx.core("endpoints"),
            &format!("fieldSelector=metadata.name%3D{name}"),
        )
        .await?;
    let begun = std::time::Instant::now();
    let spec = json!({"type": "ClusterIP", "sessionAffinity": "None", "selector": {"name": "svc-latency-rc"},
        "ports": [{"protocol": "TCP", "port": 80}]});
    service(cx, &name, spec).await?;
    loop {
        let (_, endpoints) = watch.next(Duration::from_secs(120)).await?;
        if !list(&endpoints["subsets"][0]["addresses"]).is_empty() {
            return Ok(begun.elapsed());
        }
    }
}
