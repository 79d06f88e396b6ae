//! Prometheus texts. Names are upstream's. The registry of the process comes later; here is what the
//! kubelet itself knows.

use std::sync::Arc;

use http::{Response, StatusCode};
use jiff::Timestamp;
use machinery::exposition;

use super::body::{self, Body};
use super::stats::{NodeUse, by_id};
use crate::kubelet::Kubelet;
use crate::pod;
use crate::pod_certificates;

const CONTENT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A text under construction.
#[derive(Default)]
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        exposition::heading(&mut self.0, name, kind, help);
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64, at: Option<i64>) {
        let labels = exposition::labels(labels.iter().copied());
        let at = at.map(|ms| format!(" {ms}")).unwrap_or_default();
        exposition::sample(&mut self.0, name, &labels, format_args!("{value}{at}"));
    }

    fn answer(self) -> Response<Body> {
        body::answer(StatusCode::OK, CONTENT, body::full(self.0))
    }
}

/// /metrics.
pub async fn kubelet(kubelet: &Arc<Kubelet>) -> Response<Body> {
    let mut t = Text::default();
    let workers = kubelet.workers.read();
    let seen: Vec<_> = workers
        .values()
        .map(|w| w.observed.borrow().clone())
        .collect();
    let active = workers.values().filter(|w| w.is_active()).count();
    let total = workers.len();
    drop(workers);
    t.family(
        "kubelet_node_name",
        "gauge",
        "[ALPHA] The node's name. The count is always 1.",
    );
    t.sample(
        "kubelet_node_name",
        &[("node", &kubelet.config.node_name)],
        1.0,
        None,
    );
    let running = seen.iter().filter(|s| s.ready_sandbox().is_some()).count();
    t.family(
        "kubelet_running_pods",
        "gauge",
        "[ALPHA] Number of pods that have a running pod sandbox",
    );
    t.sample("kubelet_running_pods", &[], running as f64, None);
    t.family(
        "kubelet_running_containers",
        "gauge",
        "[ALPHA] Number of containers currently running",
    );
    for (name, state) in [
        ("created", cri::ContainerState::Created),
        ("running", cri::ContainerState::Running),
        ("exited", cri::ContainerState::Exited),
        ("unknown", cri::ContainerState::Unknown),
    ] {
        let all = seen.iter().flat_map(|s| &s.containers);
        let n = all.filter(|c| c.state == state).count();
        t.sample(
            "kubelet_running_containers",
            &[("container_state", name)],
            n as f64,
            None,
        );
    }
    t.family("kubelet_active_pods", "gauge", "[ALPHA] The number of pods the kubelet considers active and which are being considered when admitting new pods.");
    t.sample(
        "kubelet_active_pods",
        &[("static", "")],
        active as f64,
        None,
    );
    t.family(
        "kubelet_desired_pods",
        "gauge",
        "[ALPHA] The number of pods the kubelet is being instructed to run.",
    );
    t.sample(
        "kubelet_desired_pods",
        &[("static", "")],
        total as f64,
        None,
    );
    certificates(&mut t, kubelet);
    t.family(
        "kubernetes_build_info",
        "gauge",
        "[BETA] The version of this program.",
    );
    let version = &kubelet.config.version;
    t.sample(
        "kubernetes_build_info",
        &[("git_version", version)],
        1.0,
        None,
    );
    t.answer()
}

fn certificates(t: &mut Text, kubelet: &Kubelet) {
    let name = "kubelet_podcertificate_states";
    let help = "[ALPHA] Gauge vector reporting the number of pod certificate projected volume sources, faceted by signer_name and state.";
    t.family(name, "gauge", help);
    let signer = |uid: &str, volume: &str, index| {
        let p = kubelet.worker(uid)?.pod();
        pod_certificates::signer(&p, volume, index)
    };
    for ((signer, state), n) in kubelet.certificates.counts(signer, Timestamp::now()) {
        let labels = [("signer_name", signer.as_str()), ("state", state)];
        t.sample(name, &labels, n as f64, None);
    }
}

/// /metrics/probes.
pub fn probes(kubelet: &Kubelet) -> Response<Body> {
    let mut t = Text::default();
    let name = "prober_probe_total";
    t.family(
        name,
        "counter",
        "[BETA] Cumulative number of a liveness, readiness or startup probe for a container by result.",
    );
    let counts = kubelet.probe_counts.lock().clone();
    for ((uid, container, kind, result), n) in &counts {
        let Some(worker) = kubelet.worker(uid) else {
            continue;
        };
        let p = worker.pod();
        let labels = [
            ("container", container.as_str()),
            ("namespace", pod::namespace(&p)),
            ("pod", pod::name(&p)),
            ("pod_uid", uid),
            ("probe_type", kind),
            ("result", result),
        ];
        t.sample(name, &labels, *n as f64, None);
    }
    t.answer()
}

struct Row {
    container: String,
    pod: String,
    namespace: String,
    id: String,
    image: String,
    started: i64,
    stats: cri::ContainerStats,
}

async fn rows(kubelet: &Kubelet) -> Result<Vec<Row>, cri::Error> {
    let stats = by_id(kubelet).await?;
    let workers = kubelet.workers.read();
    let mut rows = Vec::new();
    for w in workers.values() {
        let p = w.pod();
        for c in &w.observed.borrow().containers {
            let Some(s) = stats.get(&c.id) else { continue };
            rows.push(Row {
                container: c.metadata.name.clone(),
                pod: pod::name(&p).into(),
                namespace: pod::namespace(&p).into(),
                id: c.id.clone(),
                image: c.image.clone(),
                started: c.started_at,
                stats: s.clone(),
            });
        }
    }
    rows.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(rows)
}

/// /metrics/resource; samples carry their time.
pub async fn resource(kubelet: &Arc<Kubelet>) -> Response<Body> {
    let mut t = Text::default();
    let now = Timestamp::now().as_millisecond();
    let used = NodeUse::read();
    let rows = rows(kubelet).await;
    let failed = f64::from(u8::from(rows.is_err()));
    let rows = rows.unwrap_or_default();
    let seconds = |n: u64| n as f64 / 1e9;
    let each = |t: &mut Text, name: &str, help: &str, kind: &str, value: &dyn Fn(&Row) -> f64| {
        t.family(name, kind, help);
        for r in &rows {
            let labels = [
                ("container", r.container.as_str()),
                ("namespace", &r.namespace),
                ("pod", &r.pod),
            ];
            t.sample(name, &labels, value(r), Some(r.stats.timestamp / 1_000_000));
        }
    };
    each(
        &mut t,
        "container_cpu_usage_seconds_total",
        "[STABLE] Cumulative cpu time consumed by the container in core-seconds",
        "counter",
        &|r| seconds(r.stats.cpu_usage_nanoseconds),
    );
    each(
        &mut t,
        "container_memory_working_set_bytes",
        "[STABLE] Current working set of the container in bytes",
        "gauge",
        &|r| r.stats.memory_working_set_bytes as f64,
    );
    each(
        &mut t,
        "container_start_time_seconds",
        "[STABLE] Start time of the container since unix epoch in seconds",
        "gauge",
        &|r| r.started as f64 / 1e9,
    );
    t.family(
        "node_cpu_usage_seconds_total",
        "counter",
        "[STABLE] Cumulative cpu time consumed by the node in core-seconds",
    );
    t.sample(
        "node_cpu_usage_seconds_total",
        &[],
        seconds(used.cpu_nanoseconds),
        Some(now),
    );
    t.family(
        "node_memory_working_set_bytes",
        "gauge",
        "[STABLE] Current working set of the node in bytes",
    );
    t.sample(
        "node_memory_working_set_bytes",
        &[],
        used.working_set() as f64,
        Some(now),
    );
    pod_rows(
        &mut t,
        &rows,
        "pod_cpu_usage_seconds_total",
        "counter",
        "[STABLE] Cumulative cpu time consumed by the pod in core-seconds",
        |r| seconds(r.stats.cpu_usage_nanoseconds),
    );
    pod_rows(
        &mut t,
        &rows,
        "pod_memory_working_set_bytes",
        "gauge",
        "[STABLE] Current working set of the pod in bytes",
        |r| r.stats.memory_working_set_bytes as f64,
    );
    t.family(
        "resource_scrape_error",
        "gauge",
        "[STABLE] 1 if there was an error while getting container metrics, 0 otherwise",
    );
    t.sample("resource_scrape_error", &[], failed, None);
    t.answer()
}

fn pod_rows(
    t: &mut Text,
    rows: &[Row],
    name: &str,
    kind: &str,
    help: &str,
    value: impl Fn(&Row) -> f64,
) {
    t.family(name, kind, help);
    let mut sums: std::collections::BTreeMap<(&str, &str), (f64, i64)> = Default::default();
    for r in rows {
        let sum = sums.entry((&r.namespace, &r.pod)).or_default();
        sum.0 += value(r);
        sum.1 = sum.1.max(r.stats.timestamp / 1_000_000);
    }
    for ((namespace, pod), (sum, at)) in sums {
        t.sample(
            name,
            &[("namespace", namespace), ("pod", pod)],
            sum,
            Some(at),
        );
    }
}

/// /metrics/cadvisor.
pub async fn cadvisor(kubelet: &Arc<Kubelet>) -> Response<Body> {
    let rows = match rows(kubelet).await {
        Ok(rows) => rows,
        Err(e) => return body::text(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()),
    };
    let mut t = Text::default();
    let each = |t: &mut Text, name: &str, kind: &str, help: &str, value: &dyn Fn(&Row) -> f64| {
        t.family(name, kind, help);
        for r in &rows {
            let labels = [
                ("container", r.container.as_str()),
                ("id", &r.id),
                ("image", &r.image),
                ("name", &r.id),
                ("namespace", &r.namespace),
                ("pod", &r.pod),
            ];
            t.sample(name, &labels, value(r), Some(r.stats.timestamp / 1_000_000));
        }
    };
    each(
        &mut t,
        "container_cpu_usage_seconds_total",
        "counter",
        "Cumulative cpu time consumed in seconds.",
        &|r| r.stats.cpu_usage_nanoseconds as f64 / 1e9,
    );
    each(
        &mut t,
        "container_memory_working_set_bytes",
        "gauge",
        "Current working set in bytes.",
        &|r| r.stats.memory_working_set_bytes as f64,
    );
    each(
        &mut t,
        "container_memory_usage_bytes",
        "gauge",
        "Current memory usage in bytes, including all memory regardless of when it was accessed",
        &|r| r.stats.memory_usage_bytes as f64,
    );
    each(
        &mut t,
        "container_memory_rss",
        "gauge",
        "Size of RSS in bytes.",
        &|r| r.stats.memory_rss_bytes as f64,
    );
    each(
        &mut t,
        "container_fs_usage_bytes",
        "gauge",
        "Number of bytes that are consumed by the container on this filesystem.",
        &|r| r.stats.writable_layer_bytes as f64,
    );
    each(
        &mut t,
        "container_processes",
        "gauge",
        "Number of processes running inside the container.",
        &|r| r.stats.processes as f64,
    );
    each(
        &mut t,
        "container_start_time_seconds",
        "gauge",
        "Start time of the container since unix epoch in seconds.",
        &|r| r.started as f64 / 1e9,
    );
    each(
        &mut t,
        "container_last_seen",
        "gauge",
        "Last time a container was seen by the exporter",
        &|r| r.stats.timestamp as f64 / 1e9,
    );
    t.family(
        "machine_memory_bytes",
        "gauge",
        "Amount of memory installed on the machine.",
    );
    t.sample(
        "machine_memory_bytes",
        &[],
        kubelet.facts.memory() as f64,
        None,
    );
    t.family("machine_cpu_cores", "gauge", "Number of logical CPU cores.");
    let cores = kubelet.facts.capacity.get("cpu").map_or(0, |q| q.value());
    t.sample("machine_cpu_cores", &[], cores as f64, None);
    t.answer()
}
