//! From what the kubelet wants of a sandbox to what its keeper does and its containers read.

use std::collections::BTreeMap;
use std::path::Path;

use cri::{DnsConfig, NamespaceMode, PodSandboxConfig};
use linux::cgroup::{Limits, Weight};

use crate::Core;
use crate::disk::SandboxRecord;
use crate::plan::KeeperPlan;

/// As upstream's pause container.
const OOM_SCORE_ADJ: i64 = -998;

pub(super) fn keeper_plan(
    runtime: &Core,
    record: &SandboxRecord,
    run: &Path,
    cgroup: &str,
) -> KeeperPlan {
    let namespaces = record.config.namespaces;
    let own_network = record.netns.is_some();
    let new_ipc = namespaces.ipc != NamespaceMode::Node;
    // What containerd enables for every pod: ping and low ports without capabilities.
    let mut sysctls = BTreeMap::new();
    if own_network {
        sysctls.insert("net.ipv4.ip_unprivileged_port_start".into(), "0".into());
        sysctls.insert("net.ipv4.ping_group_range".into(), "0 2147483647".into());
    }
    sysctls.extend(record.config.sysctls.clone());
    KeeperPlan {
        id: record.id.clone(),
        run: run.to_owned(),
        netns: record.netns.clone(),
        new_ipc,
        hostname: own_network.then(|| record.hostname.clone()),
        shared_pid: namespaces.pid == NamespaceMode::Pod,
        shm: new_ipc.then(|| runtime.disk.shm(&record.id)),
        sysctls: sysctls.into_iter().collect(),
        cgroup_procs: runtime.cgroups.procs_files(cgroup),
        oom_score_adj: OOM_SCORE_ADJ,
    }
}

pub(super) fn pod_limits(config: &PodSandboxConfig) -> Option<Limits> {
    let resources = config.pod_resources.as_ref()?;
    let limit = |n: i64| (n != 0).then_some(n);
    Some(Limits {
        cpu_shares: (resources.cpu_shares > 0).then_some(resources.cpu_shares),
        cpu_weight: Weight::Linear,
        cpu_quota: limit(resources.cpu_quota),
        cpu_period: (resources.cpu_quota != 0).then_some(100_000),
        memory_max: limit(resources.memory_limit_bytes),
        pids_max: limit(resources.pids_limit),
        ..Limits::default()
    })
}

/// resolv.conf(5) as containerd writes it.
pub(super) fn resolv_conf(dns: &DnsConfig) -> String {
    let mut text = String::new();
    if !dns.searches.is_empty() {
        text.push_str(&format!("search {}\n", dns.searches.join(" ")));
    }
    for server in &dns.servers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    if !dns.options.is_empty() {
        text.push_str(&format!("options {}\n", dns.options.join(" ")));
    }
    text
}

/// Bits a second from a quantity with a decimal suffix (`10M`, `1G`, `500k`).
pub(super) fn parse_bandwidth(text: &str) -> Option<u64> {
    let split = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(split);
    let factor = match suffix {
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

pub(super) fn node_name() -> String {
    let name = rustix::system::uname();
    name.nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf_has_searches_then_servers_then_options() {
        let dns = DnsConfig {
            servers: vec!["10.96.0.10".into()],
            searches: vec![
                "default.svc.cluster.local".into(),
                "svc.cluster.local".into(),
            ],
            options: vec!["ndots:5".into()],
        };
        assert_eq!(
            resolv_conf(&dns),
            "search default.svc.cluster.local svc.cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n"
        );
    }

    #[test]
    fn bandwidths_are_quantities() {
        assert_eq!(parse_bandwidth("10M"), Some(10_000_000));
        assert_eq!(parse_bandwidth("1Gi"), Some(1 << 30));
        assert_eq!(parse_bandwidth("fast"), None);
    }
}
