//! DNS: what probes in a pod find.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use http::Method;
use serde_json::{Value, json};

use super::jig;
use crate::connect::escape;
use crate::pods::{self, AGNHOST, uuid};
use crate::rest::Cx;

const DNSUTILS: &str = "registry.k8s.io/e2e-test-images/glibc-dns-testing:2.0.0";
const PROBERS: [&str; 2] = ["agnhost", "jessie"];
const START_SLOW: Duration = Duration::from_secs(900);
const FOUND: Duration = Duration::from_secs(600);
const LOOK: Duration = Duration::from_secs(1);

/// What a pod must find.
#[derive(Default)]
struct Probe {
    /// By `dig`: A, or SRV where they begin with `_`.
    names: Vec<String>,
    /// By `getent`.
    hosts: Vec<String>,
    /// Addresses of services.
    reverse: Vec<String>,
}

// === Probe ===

impl Probe {
    /// The files that a prober writes, and the loop that does it.
    fn script(&self, prober: &str) -> (Vec<String>, String) {
        let (mut files, mut lines) = (Vec::new(), Vec::new());
        let mut dig = |protocol: &str, name: &str, kind: &str, file: String| {
            lines.push(format!(
                "check=\"$$(dig +{protocol} +noall +answer +search {name} {kind})\" && test -n \"$$check\" && echo OK > /results/{file}"
            ));
            files.push(file);
        };
        for name in &self.names {
            let kind = if name.starts_with('_') { "SRV" } else { "A" };
            dig("notcp", name, kind, format!("{prober}_udp@{name}"));
            dig("tcp", name, kind, format!("{prober}_tcp@{name}"));
        }
        for ip in &self.reverse {
            let mut parts: Vec<&str> = ip.split('.').collect();
            parts.reverse();
            let name = format!("{}.in-addr.arpa.", parts.join("."));
            dig("notcp", &name, "PTR", format!("{prober}_{ip}_udp@PTR"));
            dig("tcp", &name, "PTR", format!("{prober}_{ip}_tcp@PTR"));
        }
        for host in &self.hosts {
            let file = format!("{prober}_hosts@{host}");
            lines.push(format!(
                "test -n \"$$(getent hosts {host})\" && echo OK > /results/{file}"
            ));
            files.push(file);
        }
        (
            files,
            format!(
                "for i in `seq 1 600`; do {}; sleep 1; done",
                lines.join("; ")
            ),
        )
    }

    async fn found(&self, cx: &Cx, labels: Value, host: [&str; 2]) -> Result<()> {
        let [(mut files, first), (more, second)] = PROBERS.map(|p| self.script(p));
        files.extend(more);
        let pod = probe_pod([&first, &second], labels, host);
        let name = pods::name(&pod).to_string();
        pods::create(cx, &pod).await?;
        pods::running(cx, &name, START_SLOW).await?;
        let end = tokio::time::Instant::now() + FOUND;
        loop {
            let mut missing = Vec::new();
            for file in &files {
                if result(cx, &name, file).await?.is_none() {
                    missing.push(file);
                }
            }
            if missing.is_empty() {
                return pods::remove(cx, &name, json!({"gracePeriodSeconds": 0})).await;
            }
            for container in ["webserver", "agnhost-querier", "jessie-querier"] {
                pods::log(cx, &name, container).await?;
            }
            ensure!(tokio::time::Instant::now() < end, "not found: {missing:?}");
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// The file that a prober wrote, where it did.
async fn result(cx: &Cx, pod: &str, file: &str) -> Result<Option<String>> {
    let path = cx.core(&format!("pods/{pod}/proxy/results/{}", escape(file)));
    let answer = cx.raw(Method::GET, &path, &[], "").await?;
    Ok((answer.code == 200).then_some(answer.text))
}

fn probe_pod(scripts: [&str; 2], labels: Value, [hostname, subdomain]: [&str; 2]) -> Value {
    let mounts = json!([{"name": "results", "mountPath": "/results"}]);
    let querier = |prober: &str, image: &str, script: &str| json!({"name": format!("{prober}-querier"), "image": image, "command": ["sh", "-c", script], "volumeMounts": mounts});
    let mut pod = pods::pod(
        &format!("dns-test-{}", uuid()),
        json!({"hostname": hostname, "subdomain": subdomain, "volumes": [{"name": "results", "emptyDir": {}}],
            "containers": [
                {"name": "webserver", "image": AGNHOST, "args": ["test-webserver"], "ports": [{"name": "http", "containerPort": 80}],
                    "volumeMounts": mounts},
                querier(PROBERS[0], AGNHOST, scripts[0]), querier(PROBERS[1], DNSUTILS, scripts[1])]}),
    );
    pod["metadata"]["labels"] = labels;
    pod
}

const QUERIER: [&str; 2] = ["dns-querier-1", "dns-test-service"];

async fn service(cx: &Cx, name: &str, headless: bool, selector: Value) -> Result<Value> {
    let mut spec =
        json!({"selector": selector, "ports": [{"port": 80, "name": "http", "protocol": "TCP"}]});
    if headless {
        spec["clusterIP"] = json!("None");
    }
    let object =
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec});
    cx.ok(Method::POST, &cx.core("services"), &object).await
}

// === Twins ===

pub async fn cluster(cx: Cx) -> Result<()> {
    let probe = Probe {
        names: vec!["kubernetes.default.svc.cluster.local".to_string()],
        ..Probe::default()
    };
    let found = probe.found(&cx, json!({}), QUERIER).await;
    ensure!(found.is_ok(), "{found:?}");
    Ok(())
}

pub async fn hosts(cx: Cx) -> Result<()> {
    let name = format!(
        "dns-querier-1.dns-test-service.{}.svc.cluster.local",
        cx.namespace
    );
    let probe = Probe {
        hosts: vec![name, "dns-querier-1".to_string()],
        ..Probe::default()
    };
    let found = probe.found(&cx, json!({}), QUERIER).await;
    ensure!(found.is_ok(), "{found:?}");
    Ok(())
}

/// By full names, or by parts of them.
pub async fn services(cx: Cx, partial: bool) -> Result<()> {
    let labels = json!({"dns-test": "true"});
    service(&cx, "dns-test-service", true, labels.clone()).await?;
    let regular = service(&cx, "test-service-2", false, labels.clone()).await?;
    let ip = regular["spec"]["clusterIP"].as_str().context("clusterIP")?;
    let ns = &cx.namespace;
    let names = match partial {
        false => vec![
            format!("dns-test-service.{ns}.svc.cluster.local"),
            format!("_http._tcp.dns-test-service.{ns}.svc.cluster.local"),
            format!("_http._tcp.test-service-2.{ns}.svc.cluster.local"),
        ],
        true => vec![
            "dns-test-service".to_string(),
            format!("dns-test-service.{ns}"),
            format!("dns-test-service.{ns}.svc"),
            format!("_http._tcp.dns-test-service.{ns}.svc"),
            format!("_http._tcp.test-service-2.{ns}.svc"),
        ],
    };
    let probe = Probe {
        names,
        reverse: vec![ip.to_string()],
        ..Probe::default()
    };
    let found = probe.found(&cx, labels, QUERIER).await;
    ensure!(found.is_ok(), "{found:?}");
    Ok(())
}

/// A pod's own name: by its hosts file, or by DNS.
pub async fn pod_names(cx: Cx, dns: bool) -> Result<()> {
    let labels = json!({"dns-test-hostname-attribute": "true"});
    service(&cx, "dns-test-service-2", true, labels.clone()).await?;
    let subdomain = format!("dns-test-service-2.{}.svc.cluster.local", cx.namespace);
    let full = format!("dns-querier-2.{subdomain}");
    let probe = match dns {
        false => Probe {
            hosts: vec![full, "dns-querier-2".to_string()],
            ..Probe::default()
        },
        true => Probe {
            names: vec![full, subdomain],
            ..Probe::default()
        },
    };
    let found = probe
        .found(&cx, labels, ["dns-querier-2", "dns-test-service-2"])
        .await;
    ensure!(found.is_ok(), "{found:?}");
    Ok(())
}

/// Both probers must get a value.
async fn targeted(cx: &Cx, name: &str, kind: &str, value: &str) -> Result<()> {
    let [first, second] = PROBERS.map(|p| {
        format!("for i in `seq 1 30`; do dig +short {name} {kind} > /results/{p}_udp@{name}; sleep 1; done")
    });
    let pod = probe_pod([&first, &second], json!({}), QUERIER);
    let pod_name = pods::name(&pod).to_string();
    pods::create(cx, &pod).await?;
    pods::running(cx, &pod_name, START_SLOW).await?;
    let end = tokio::time::Instant::now() + FOUND;
    loop {
        let mut seen = Vec::new();
        for prober in PROBERS {
            let text = result(cx, &pod_name, &format!("{prober}_udp@{name}")).await?;
            seen.push(text.unwrap_or_default().trim().to_string());
        }
        if seen.iter().all(|s| s == value) {
            return pods::remove(cx, &pod_name, json!({"gracePeriodSeconds": 0})).await;
        }
        ensure!(
            tokio::time::Instant::now() < end,
            "{name} {kind}: {seen:?}, expected {value}"
        );
        tokio::time::sleep(LOOK).await;
    }
}

pub async fn external_name(cx: Cx) -> Result<()> {
    let service = "dns-test-service-3";
    let object = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": service},
        "spec": {"type": "ExternalName", "externalName": "foo.example.com"}});
    cx.ok(Method::POST, &cx.core("services"), &object).await?;
    let name = format!("{service}.{}.svc.cluster.local", cx.namespace);
    targeted(&cx, &name, "CNAME", "foo.example.com.").await?;
    let path = jig::path(&cx, service);
    cx.update(&path, |s| {
        s["spec"]["externalName"] = json!("bar.example.com")
    })
    .await?;
    targeted(&cx, &name, "CNAME", "bar.example.com.").await?;
    let updated = cx
        .update(&path, |s| {
            s["spec"]["type"] = json!("ClusterIP");
            s["spec"]["ports"] = json!([{"port": 80, "name": "http", "protocol": "TCP"}]);
        })
        .await?;
    let ip = updated["spec"]["clusterIP"].as_str().context("clusterIP")?;
    ensure!(!ip.is_empty(), "{updated}");
    targeted(&cx, &name, "A", ip).await
}

pub async fn nameservers(cx: Cx) -> Result<()> {
    let mut pod = pods::agnhost("test-dns-nameservers", &["pause"]);
    pod["spec"]["dnsPolicy"] = json!("None");
    pod["spec"]["dnsConfig"] =
        json!({"nameservers": ["1.1.1.1"], "searches": ["resolv.conf.local"]});
    pods::create_ready(&cx, &pod).await?;
    for (command, text) in [
        ("dns-suffix", "resolv.conf.local"),
        ("dns-server-list", "1.1.1.1"),
    ] {
        let found = cx
            .exec_ok(
                "test-dns-nameservers",
                "agnhost-container",
                &["/agnhost", command],
            )
            .await?;
        ensure!(found.contains(text), "{command}: {found}");
    }
    Ok(())
}
