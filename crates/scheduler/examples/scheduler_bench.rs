//! Pods scheduled a second, upstream's scheduler_perf in small: the whole scheduler over memory caches
//! and an API server of a few lines.
//! `cargo run --release -p scheduler --example scheduler_bench [NODES PODS]`

#[path = "../src/testing/fake_api.rs"]
mod fake_api;

use std::sync::Arc;
use std::time::{Duration, Instant};

use client::Cache;
use fake_api::FakeApi;
use serde_json::{Value, json};
use tokio::sync::watch;

const KINDS: &[(&str, &str)] = &[
    ("", "pods"),
    ("", "nodes"),
    ("", "namespaces"),
    ("", "services"),
    ("apps", "replicasets"),
    ("policy", "poddisruptionbudgets"),
];

/// One case of scheduler_perf.
struct Case {
    name: &'static str,
    /// Pods that are there before, and pods that are measured.
    before: usize,
    measured: usize,
    spec: fn(usize) -> Value,
}

fn node(i: usize) -> Value {
    json!({"metadata": {"name": format!("node-{i}"), "labels": {
            "kubernetes.io/hostname": format!("node-{i}"),
            "topology.kubernetes.io/zone": format!("zone-{}", i % 3)}},
        "spec": {}, "status": {"allocatable": {"cpu": "4", "memory": "32Gi", "pods": "110"}}})
}

fn pod(i: usize, extra: &Value) -> Value {
    let mut spec = json!({"schedulerName": "default-scheduler", "priority": 0, "containers": [{"name": "pause",
        "image": "registry.k8s.io/pause:3.10.2", "resources": {
            "requests": {"cpu": "100m", "memory": "500Mi"}, "limits": {"cpu": "100m", "memory": "500Mi"}}}],
        "tolerations": [
            {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
            {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}]});
    for (key, value) in extra.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": format!("pod-{i}"), "namespace": "default", "uid": format!("uid-{i}"), "labels": {"color": "blue"}},
        "spec": spec, "status": {"phase": "Pending", "qosClass": "Guaranteed"}})
}

fn affinity(kind: &str, key: &str) -> Value {
    json!({"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution":
        [{"topologyKey": key, "labelSelector": {"matchLabels": {"color": "blue"}}}]}}})
}

const CASES: &[Case] = &[
    Case {
        name: "SchedulingBasic",
        before: 1000,
        measured: 10_000,
        spec: |_| json!({}),
    },
    Case {
        name: "SchedulingNodeAffinity",
        before: 1000,
        measured: 10_000,
        spec: |_| {
            json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
                {"nodeSelectorTerms": [{"matchExpressions": [{"key": "topology.kubernetes.io/zone",
                    "operator": "In", "values": ["zone-0", "zone-1"]}]}]}}}})
        },
    },
    Case {
        name: "SchedulingPodAntiAffinity",
        before: 1000,
        measured: 2000,
        spec: |_| affinity("podAntiAffinity", "kubernetes.io/hostname"),
    },
    Case {
        name: "SchedulingPodAffinity",
        before: 1000,
        measured: 2000,
        spec: |_| affinity("podAffinity", "topology.kubernetes.io/zone"),
    },
    Case {
        name: "TopologySpreading",
        before: 1000,
        measured: 2000,
        spec: |_| {
            json!({"topologySpreadConstraints": [{"maxSkew": 5, "topologyKey": "topology.kubernetes.io/zone",
                "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"color": "blue"}}}]})
        },
    },
    Case {
        name: "SchedulingDaemonset",
        before: 0,
        measured: 5000,
        spec: |i| {
            json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
                {"nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In",
                    "values": [format!("node-{i}")]}]}]}}}})
        },
    },
];

#[tokio::main]
async fn main() {
    let mut args = std::env::args().skip(1).filter_map(|a| a.parse().ok());
    let nodes = args.next().unwrap_or(5000);
    let pods = args.next();
    for case in CASES {
        run(case, nodes, pods.unwrap_or(case.measured)).await;
    }
}

async fn run(case: &Case, nodes: usize, measured: usize) {
    let api = FakeApi::new(KINDS, false);
    for i in 0..nodes {
        api.put("", "nodes", node(i));
    }
    let (stop, watch) = watch::channel(false);
    let config = scheduler::Config::new("bench");
    let task = tokio::spawn(scheduler::run(api.client(), config, watch));
    create(&api, 0..case.before, |_| json!({}));
    wait(&api, 0..case.before).await;
    let all = case.before..case.before + measured;
    let cpu = cpu_time();
    let start = Instant::now();
    create(&api, all.clone(), |i| (case.spec)(i - case.before));
    wait(&api, all).await;
    let took = start.elapsed();
    let cpu = cpu_time().saturating_sub(cpu);
    println!(
        "{:<28} {nodes} nodes, {measured} pods: {:>7.0} pods/s, {:>5.0} µs CPU a pod (server included)",
        case.name,
        measured as f64 / took.as_secs_f64(),
        cpu.as_secs_f64() * 1e6 / measured as f64,
    );
    let ended = stop.send(true);
    assert!(ended.is_ok(), "the scheduler stopped early");
    task.await.expect("no panic").expect("no error");
}

fn create(api: &Arc<FakeApi>, pods: std::ops::Range<usize>, spec: impl Fn(usize) -> Value) {
    for i in pods {
        api.put("", "pods", pod(i, &spec(i)));
    }
}

/// Waits until all these pods have a node.
async fn wait(api: &Arc<FakeApi>, pods: std::ops::Range<usize>) {
    let cache = api.reads.memory("", "pods").expect("a known kind");
    let bound = |i: &usize| {
        let entry = cache.get("default", &format!("pod-{i}"));
        entry.is_some_and(|e| find(&e.bytes, b"\"nodeName\""))
    };
    let mut waiting: Vec<usize> = pods.collect();
    while !waiting.is_empty() {
        waiting.retain(|i| !bound(i));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|w| w == needle)
}

/// CPU time of this process so far (utime and stime, in hundredths of a second).
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after = stat.rsplit(')').next().unwrap_or_default();
    let fields: Vec<u64> = after.split(' ').filter_map(|f| f.parse().ok()).collect();
    // The state letter does not parse: utime and stime are fields 14 and 15, the first parsed is 4.
    let ticks = fields.get(10).unwrap_or(&0) + fields.get(11).unwrap_or(&0);
    Duration::from_millis(ticks * 10)
}
