//! What the machine is: read once from /proc and /sys. Upstream: cadvisor's machine info.

use std::fs;

use api::core::v1::NodeSystemInfo;
use api::quantity::{Format, Quantity};

use crate::config::Config;
use crate::limits;
use crate::resources::Amounts;

/// Facts that do not change while the kubelet runs.
#[derive(Clone, Debug)]
pub(crate) struct NodeFacts {
    pub capacity: Amounts,
    pub allocatable: Amounts,
    pub info: NodeSystemInfo,
}

// === NodeFacts ===

impl NodeFacts {
    /// Reads them.
    pub fn read(config: &Config, runtime: &cri::RuntimeStatus) -> Self {
        let bytes = |n: u64| Quantity::new(i64::try_from(n).unwrap_or(i64::MAX), Format::BinarySi);
        let whole = |n: u64| Quantity::new(i64::try_from(n).unwrap_or(i64::MAX), Format::DecimalSi);
        let cpus = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
        let memory = meminfo(
            &fs::read_to_string("/proc/meminfo").unwrap_or_default(),
            "MemTotal",
        );
        let disk = linux::volume::usage(&config.root_dir)
            .unwrap_or_default()
            .capacity;
        let capacity = Amounts::from([
            ("cpu".into(), whole(cpus)),
            ("memory".into(), bytes(memory)),
            ("pods".into(), whole(u64::from(config.max_pods))),
            ("ephemeral-storage".into(), bytes(disk)),
            ("hugepages-1Gi".into(), bytes(0)),
            ("hugepages-2Mi".into(), bytes(0)),
        ]);
        let kept = [
            ("memory", bytes(limits::EVICTION_MEMORY)),
            (
                "ephemeral-storage",
                bytes(disk / 100 * limits::EVICTION_NODEFS_PERCENT),
            ),
        ];
        let mut allocatable = capacity.clone();
        let reserved = config.reserved.iter();
        let reserved = reserved.filter_map(|(n, q)| Some((n.as_str(), Quantity::parse(q).ok()?)));
        for (name, q) in kept.into_iter().chain(reserved) {
            if let Some(a) = allocatable.get_mut(name) {
                let left = a.sub(&q);
                *a = if left.sign() < 0 {
                    Quantity::ZERO
                } else {
                    left
                };
            }
        }
        Self {
            capacity,
            allocatable,
            info: info(config, runtime),
        }
    }

    /// Bytes of memory of the machine.
    pub fn memory(&self) -> i64 {
        self.capacity.get("memory").map_or(0, Quantity::value)
    }
}

/// One line of /proc/meminfo in bytes.
pub(crate) fn meminfo(text: &str, name: &str) -> u64 {
    let line = text
        .lines()
        .find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
    let kib = line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

fn info(config: &Config, runtime: &cri::RuntimeStatus) -> NodeSystemInfo {
    let read = |path: &str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        text.trim().to_string()
    };
    let machine = read("/etc/machine-id");
    let uuid = read("/sys/class/dmi/id/product_uuid");
    NodeSystemInfo {
        architecture: architecture().into(),
        boot_id: read("/proc/sys/kernel/random/boot_id"),
        container_runtime_version: format!("{}://{}", runtime.name, runtime.version),
        kernel_version: read("/proc/sys/kernel/osrelease"),
        kube_proxy_version: String::new(),
        kubelet_version: config.version.clone(),
        operating_system: "linux".into(),
        os_image: os_image(&read("/etc/os-release")),
        system_uuid: if uuid.is_empty() {
            machine.clone()
        } else {
            uuid
        },
        machine_id: machine,
        ..NodeSystemInfo::default()
    }
}

/// Go's name of this machine's architecture.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    }
}

fn os_image(text: &str) -> String {
    let line = text.lines().find_map(|l| l.strip_prefix("PRETTY_NAME="));
    line.map_or_else(|| "Linux".into(), |l| l.trim_matches('"').to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read() {
        assert_eq!(
            meminfo("MemTotal:  10 kB\nMemFree: 5 kB\n", "MemFree"),
            5120
        );
        assert_eq!(os_image("NAME=x\nPRETTY_NAME=\"A B\"\n"), "A B");
    }
}
