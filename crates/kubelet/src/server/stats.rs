//! /stats/summary: what the node, its pods and containers use. Upstream: pkg/kubelet/server/stats.

use std::collections::BTreeMap;
use std::sync::Arc;

use cri::ContainerStats;
use http::{Response, StatusCode};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::body::{self, Body, query};
use crate::kubelet::Kubelet;
use crate::node::facts::meminfo;
use crate::pod;
use crate::worker::PodWorker;

/// What the whole machine uses.
pub struct NodeUse {
    pub cpu_nanoseconds: u64,
    pub memory_total: u64,
    pub memory_available: u64,
    pub memory_usage: u64,
    pub memory_rss: u64,
}

impl NodeUse {
    /// Reads /proc.
    pub fn read() -> Self {
        let meminfo_text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        let total = meminfo(&meminfo_text, "MemTotal");
        let available = meminfo(&meminfo_text, "MemAvailable");
        Self {
            cpu_nanoseconds: cpu(&stat),
            memory_total: total,
            memory_available: available,
            memory_usage: total.saturating_sub(meminfo(&meminfo_text, "MemFree")),
            memory_rss: meminfo(&meminfo_text, "AnonPages"),
        }
    }

    /// Bytes that cannot be reclaimed.
    pub fn working_set(&self) -> u64 {
        self.memory_total.saturating_sub(self.memory_available)
    }
}

/// Busy time of all processors; the kernel counts in hundredths of seconds.
fn cpu(stat: &str) -> u64 {
    let line = stat
        .lines()
        .find(|l| l.starts_with("cpu "))
        .unwrap_or_default();
    let numbers = line
        .split_whitespace()
        .skip(1)
        .map(|n| n.parse::<u64>().unwrap_or(0));
    let parts: Vec<u64> = numbers.collect();
    let at = |i: usize| parts.get(i).copied().unwrap_or(0);
    // user, nice, system, irq, softirq, steal; idle and iowait are not use.
    let ticks = at(0) + at(1) + at(2) + at(5) + at(6) + at(7);
    ticks * 10_000_000
}

/// Seconds since the epoch when the machine started.
pub fn boot_time() -> Option<Timestamp> {
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    let line = stat.lines().find_map(|l| l.strip_prefix("btime "))?;
    Timestamp::from_second(line.trim().parse().ok()?).ok()
}

/// Stats of running containers by container id.
pub async fn by_id(kubelet: &Kubelet) -> Result<BTreeMap<String, ContainerStats>, cri::Error> {
    let all = kubelet.runtime.list_container_stats().await?;
    Ok(all
        .into_iter()
        .map(|s| (s.container_id.clone(), s))
        .collect())
}

/// Serves it.
pub async fn summary(kubelet: &Arc<Kubelet>, text: &str) -> Response<Body> {
    let brief = query(text, "only_cpu_and_memory").any(|v| v == "true");
    let stats = match by_id(kubelet).await {
        Ok(stats) => stats,
        Err(e) => return body::text(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()),
    };
    let workers: Vec<Arc<PodWorker>> = kubelet.workers.read().values().cloned().collect();
    let pods: Vec<Value> = workers
        .iter()
        .filter_map(|w| one_pod(kubelet, w, &stats, brief))
        .collect();
    body::json(&json!({"node": node(kubelet, brief).await, "pods": pods}))
}

async fn node(kubelet: &Kubelet, brief: bool) -> Value {
    let now = Timestamp::now().to_string();
    let used = NodeUse::read();
    let boot = boot_time();
    let age = boot.map_or(0.0, |b| Timestamp::now().duration_since(b).as_secs_f64());
    let mut out = json!({
        "nodeName": kubelet.config.node_name,
        "startTime": boot.map(|b| b.to_string()),
        "cpu": {"time": now, "usageNanoCores": average(used.cpu_nanoseconds, age),
            "usageCoreNanoSeconds": used.cpu_nanoseconds},
        "memory": {"time": now, "availableBytes": used.memory_available, "usageBytes": used.memory_usage,
            "workingSetBytes": used.working_set(), "rssBytes": used.memory_rss},
    });
    if brief {
        return out;
    }
    let fs = filesystem(&kubelet.config.root_dir, &now);
    let images = kubelet.images.store().image_fs_info().await.ok();
    let image_fs = images.map(|i| {
        json!({"time": now, "availableBytes": i.available_bytes, "capacityBytes": i.capacity_bytes,
            "usedBytes": i.used_bytes, "inodesUsed": i.inodes_used})
    });
    out["fs"] = fs;
    out["runtime"] = json!({"imageFs": image_fs});
    out["network"] = network("/proc/net/dev", &now);
    out["rlimit"] = processes(&now);
    out
}

fn filesystem(path: &std::path::Path, now: &str) -> Value {
    let Ok(u) = linux::volume::usage(path) else {
        return Value::Null;
    };
    json!({"time": now, "availableBytes": u.available, "capacityBytes": u.capacity, "usedBytes": u.used,
        "inodes": u.inodes, "inodesFree": u.inodes_free, "inodesUsed": u.inodes.saturating_sub(u.inodes_free)})
}

fn processes(now: &str) -> Value {
    let number = |path: &str| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.trim().parse::<u64>().ok()
    };
    let limits = [
        number("/proc/sys/kernel/pid_max"),
        number("/proc/sys/kernel/threads-max"),
    ];
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let current = load
        .split_whitespace()
        .nth(3)
        .and_then(|p| p.split('/').nth(1)?.parse::<u64>().ok());
    json!({"time": now, "maxpid": limits.into_iter().flatten().min(), "curproc": current})
}

/// Counters of interfaces; the first that is no loopback stands for the whole.
fn network(path: &str, now: &str) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let interfaces: Vec<Value> = text
        .lines()
        .filter_map(|l| {
            let (name, rest) = l.split_once(':')?;
            let n: Vec<u64> = rest.split_whitespace().filter_map(|n| n.parse().ok()).collect();
            let name = name.trim();
            (n.len() >= 16 && name != "lo").then(|| {
                json!({"name": name, "rxBytes": n[0], "rxErrors": n[2], "txBytes": n[8], "txErrors": n[10]})
            })
        })
        .collect();
    let Some(first) = interfaces
        .iter()
        .find(|i| i["name"] == "eth0")
        .or(interfaces.first())
    else {
        return Value::Null;
    };
    let mut out = first.clone();
    out["time"] = json!(now);
    out["interfaces"] = Value::Array(interfaces);
    out
}

/// Nanoseconds of use a second: the average over the life so far.
fn average(nanoseconds: u64, seconds: f64) -> u64 {
    if seconds <= 0.0 {
        return 0;
    }
    (nanoseconds as f64 / seconds) as u64
}

fn one_pod(
    kubelet: &Kubelet,
    worker: &PodWorker,
    stats: &BTreeMap<String, ContainerStats>,
    brief: bool,
) -> Option<Value> {
    let seen = worker.observed.borrow().clone();
    let (p, status) = {
        let state = worker.state.lock();
        (state.pod.clone(), state.status.clone())
    };
    let started = status.start_time?;
    let (mut containers, mut cpu, mut working, mut usage, mut rss) = (Vec::new(), 0, 0, 0, 0);
    let (mut processes, mut disk, mut time) = (0, 0, 0);
    for c in seen
        .containers
        .iter()
        .filter(|c| c.state == cri::ContainerState::Running)
    {
        let Some(s) = stats.get(&c.id) else { continue };
        cpu += s.cpu_usage_nanoseconds;
        working += s.memory_working_set_bytes;
        usage += s.memory_usage_bytes;
        rss += s.memory_rss_bytes;
        processes += s.processes;
        disk += s.writable_layer_bytes;
        time = time.max(s.timestamp);
        containers.push(one_container(c, s, brief));
    }
    if containers.is_empty() {
        return None;
    }
    let at = pod::from_nanos(time).map(|t| t.to_string());
    let age = Timestamp::now().duration_since(started.0).as_secs_f64();
    let mut out = Map::new();
    let mut put = |key: &str, value: Value| out.insert(key.into(), value);
    put(
        "podRef",
        json!({"name": pod::name(&p), "namespace": pod::namespace(&p), "uid": worker.uid}),
    );
    put("startTime", json!(started.0.to_string()));
    put("containers", Value::Array(containers));
    put(
        "cpu",
        json!({"time": at, "usageNanoCores": average(cpu, age), "usageCoreNanoSeconds": cpu}),
    );
    put(
        "memory",
        json!({"time": at, "usageBytes": usage, "workingSetBytes": working, "rssBytes": rss}),
    );
    if !brief {
        put("process_stats", json!({"process_count": processes}));
        put("ephemeral-storage", json!({"time": at, "usedBytes": disk}));
        let dirs = kubelet.paths.pod(&worker.uid).join("volumes");
        put("volume", volumes(&dirs, at.as_deref().unwrap_or_default()));
        let net = seen
            .containers
            .iter()
            .find(|c| c.pid > 0 && c.state == cri::ContainerState::Running)
            .map(|c| {
                network(
                    &format!("/proc/{}/net/dev", c.pid),
                    at.as_deref().unwrap_or_default(),
                )
            });
        put("network", net.unwrap_or(Value::Null));
    }
    Some(Value::Object(out))
}

fn one_container(c: &cri::ContainerStatus, s: &ContainerStats, brief: bool) -> Value {
    let at = pod::from_nanos(s.timestamp).map(|t| t.to_string());
    let started = pod::from_nanos(c.started_at);
    let age = started.map_or(0.0, |t| Timestamp::now().duration_since(t).as_secs_f64());
    let limit = u64::try_from(c.resources.memory_limit_bytes)
        .ok()
        .filter(|l| *l > 0);
    let available = limit.map(|l| l.saturating_sub(s.memory_working_set_bytes));
    let mut memory = json!({"time": at, "usageBytes": s.memory_usage_bytes,
        "workingSetBytes": s.memory_working_set_bytes, "rssBytes": s.memory_rss_bytes});
    if let Some(available) = available {
        memory["availableBytes"] = json!(available);
    }
    let mut out = json!({
        "name": c.metadata.name,
        "startTime": started.map(|t| t.to_string()),
        "cpu": {"time": at, "usageNanoCores": average(s.cpu_usage_nanoseconds, age),
            "usageCoreNanoSeconds": s.cpu_usage_nanoseconds},
        "memory": memory,
    });
    if !brief {
        out["rootfs"] = json!({"time": at, "usedBytes": s.writable_layer_bytes, "inodesUsed": s.writable_layer_inodes});
        let logs = std::fs::metadata(&c.log_path).map_or(0, |m| m.len());
        out["logs"] = json!({"time": at, "usedBytes": logs});
    }
    out
}

/// Volumes with a directory of their own.
fn volumes(dir: &std::path::Path, now: &str) -> Value {
    let kinds = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let all = kinds.flat_map(|kind| {
        std::fs::read_dir(kind.path())
            .into_iter()
            .flatten()
            .flatten()
    });
    let list = all.map(|v| {
        let mut one = filesystem(&v.path(), now);
        one["name"] = json!(v.file_name().to_string_lossy());
        one
    });
    Value::Array(list.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_time_leaves_idle_out() {
        assert_eq!(cpu("cpu  1 2 3 400 500 6 7 8 0 0\ncpu0 1"), 27 * 10_000_000);
    }
}
