//! The checks, in k0s's order.

use std::path::Path;

use super::kernel_config::KernelConfig;
use super::{Category, Probe, Role};

const MIB: u64 = 1 << 20;
const PROC_MAGIC: u64 = 0x9fa0;

/// File systems by the kernel's magic numbers.
const FILE_SYSTEMS: &[(u64, &str)] = &[
    (0xef53, "ext4"),
    (0x5846_5342, "xfs"),
    (0x9123_683e, "btrfs"),
    (0x0102_1994, "tmpfs"),
    (0x794c_7630, "overlayfs"),
    (0x2fc1_2fc1, "zfs"),
    (0xf2f5_2010, "f2fs"),
    (0x8584_58f6, "ramfs"),
];

/// cgroup controllers and whether a worker can do without.
const CONTROLLERS: &[(&str, bool)] = &[
    ("cpu", true),
    ("cpuset", true),
    ("memory", true),
    ("pids", true),
    ("devices", true),
    ("freezer", true),
    ("hugetlb", false),
    ("blkio", false),
];

/// Kernel options: depth below `kernelConfig`, name, meaning, and how its lack ends.
const OPTIONS: &[(usize, &str, &str, Category)] = &[
    (0, "CGROUPS", "Control Group support", Category::Rejected),
    (1, "CGROUP_SCHED", "CPU controller", Category::Rejected),
    (
        2,
        "CFS_BANDWIDTH",
        "CPU bandwidth provisioning",
        Category::Warning,
    ),
    (1, "BLK_CGROUP", "Block IO controller", Category::Warning),
    (0, "NAMESPACES", "Namespaces support", Category::Rejected),
    (1, "UTS_NS", "UTS namespace", Category::Rejected),
    (1, "IPC_NS", "IPC namespace", Category::Rejected),
    (1, "PID_NS", "PID namespace", Category::Rejected),
    (1, "NET_NS", "Network namespace", Category::Rejected),
    (
        0,
        "OVERLAY_FS",
        "Overlay filesystem support",
        Category::Rejected,
    ),
    (0, "SECCOMP_FILTER", "Seccomp filters", Category::Rejected),
    (0, "NET", "Networking support", Category::Rejected),
    (1, "INET", "TCP/IP networking", Category::Rejected),
    (2, "IPV6", "The IPv6 protocol", Category::Warning),
    (
        1,
        "NETFILTER",
        "Network packet filtering framework",
        Category::Rejected,
    ),
    (
        2,
        "NF_CONNTRACK",
        "Netfilter connection tracking support",
        Category::Rejected,
    ),
    (
        2,
        "NF_TABLES",
        "Netfilter nf_tables support",
        Category::Rejected,
    ),
    (2, "NFT_NAT", "nf_tables NAT", Category::Rejected),
    (2, "NFT_MASQ", "nf_tables masquerading", Category::Rejected),
    (1, "BRIDGE", "802.1d Ethernet Bridging", Category::Rejected),
    (
        1,
        "VETH",
        "Virtual ethernet pair device",
        Category::Rejected,
    ),
    (
        1,
        "VXLAN",
        "Virtual eXtensible Local Area Network",
        Category::Warning,
    ),
    (
        0,
        "PROC_FS",
        "/proc file system support",
        Category::Rejected,
    ),
];

pub fn all(role: Role, data_dir: &Path) -> Vec<Probe> {
    let (system, release) = linux::host::kernel();
    let mut out = vec![memory(role)];
    out.extend(disks(role, data_dir));
    out.push(localhost());
    out.push(Probe::new(&["os"], "Operating system", &*system).unless(
        system == "Linux",
        Category::Rejected,
        "",
    ));
    out.push(
        Probe::new(&["os", "kernelRelease"], "Linux kernel release", &*release).unless(
            at_least(&release, (4, 18)),
            Category::Warning,
            "4.18 or newer recommended",
        ),
    );
    out.push(open_files());
    out.push(apparmor());
    if role.worker {
        out.push(procfs());
        out.extend(cgroups());
    }
    out.extend(kernel_options(role, &KernelConfig::of_host(&release)));
    out
}

fn memory(role: Role) -> Probe {
    let wanted = if role.controller { 1024 } else { 500 } * MIB;
    let probe = Probe::new(&["memory"], "Total memory", "");
    let text = match std::fs::read_to_string("/proc/meminfo") {
        Ok(text) => text,
        Err(e) => return probe.failed(e),
    };
    let kib = text
        .lines()
        .find_map(|l| l.strip_prefix("MemTotal:"))
        .and_then(|v| v.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    let Some(kib) = kib else {
        return probe.failed("no MemTotal in /proc/meminfo");
    };
    Probe::new(&["memory"], "Total memory", size(kib * 1024)).unless(
        kib * 1024 >= wanted,
        Category::Warning,
        format!("{} recommended", size(wanted)),
    )
}

fn disks(role: Role, data_dir: &Path) -> Vec<Probe> {
    let dir = data_dir.ancestors().find(|d| d.exists());
    let dir = dir.unwrap_or(Path::new("/"));
    let shown = dir.display().to_string();
    let id = |kind: &str| format!("{kind}:{}", data_dir.display());
    let space = match linux::host::disk_space(dir) {
        Ok(space) => space,
        Err(e) => {
            let probe = Probe::new(
                &[&id("disk")],
                &format!("Disk space available for {shown}"),
                "",
            );
            return vec![probe.failed(e)];
        }
    };
    let kind = FILE_SYSTEMS.iter().find(|(magic, _)| *magic == space.kind);
    let name = format!("File system of {shown}");
    let file_system = match kind {
        Some((_, kind)) => Probe::new(&[&id("filesystem")], &name, *kind),
        None => Probe::new(&[&id("filesystem")], &name, format!("{:#x}", space.kind))
            .end(Category::Warning, "unknown"),
    };
    let wanted = u64::from(role.controller) * 500 * MIB + u64::from(role.worker) * 1300 * MIB;
    let absolute = Probe::new(
        &[&id("disk")],
        &format!("Disk space available for {shown}"),
        size(space.available),
    )
    .unless(
        space.available >= wanted,
        Category::Warning,
        format!("{} recommended", size(wanted)),
    );
    let mut out = vec![file_system, absolute];
    if role.worker {
        let percent = space.available.saturating_mul(100) / space.total.max(1);
        out.push(
            Probe::new(
                &[&id("reldisk")],
                &format!("Relative disk space available for {shown}"),
                format!("{percent}%"),
            )
            .unless(percent >= 15, Category::Warning, "15% recommended"),
        );
    }
    out
}

/// From `/etc/hosts`: the resolver of the host is never asked. Its lack does no harm here, as nothing in
/// this binary looks the name up.
fn localhost() -> Probe {
    let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    let found: Vec<&str> = hosts
        .lines()
        .map(|l| l.split('#').next().unwrap_or(""))
        .filter_map(|l| {
            let mut words = l.split_whitespace();
            let address = words.next()?;
            words.any(|w| w == "localhost").then_some(address)
        })
        .collect();
    Probe::new(
        &["nameResolution:localhost"],
        "Name resolution: localhost",
        format!("{found:?}").replace('"', "").replace(", ", " "),
    )
    .unless(!found.is_empty(), Category::Warning, "not in /etc/hosts")
}

fn open_files() -> Probe {
    let (current, maximum) = linux::host::open_files();
    let shown = |l: Option<u64>| l.map_or("unlimited".to_string(), |l| l.to_string());
    Probe::new(
        &["os", "openFiles"],
        "Max. file descriptors per process",
        format!("current: {} / max: {}", shown(current), shown(maximum)),
    )
    .unless(
        maximum.is_none_or(|m| m >= 65_536),
        Category::Warning,
        "< 65536",
    )
}

fn apparmor() -> Probe {
    let enabled = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled");
    let state = match enabled.as_deref().map(str::trim) {
        Ok("Y") => "active",
        Ok(_) => "inactive",
        Err(_) => "unavailable",
    };
    Probe::new(&["AppArmor"], "AppArmor", state)
}

fn procfs() -> Probe {
    match linux::host::disk_space(Path::new("/proc")) {
        Ok(s) if s.kind == PROC_MAGIC => {
            Probe::new(&["procfs"], "/proc file system", "mounted (0x9fa0)")
        }
        Ok(s) => Probe::new(&["procfs"], "/proc file system", format!("{:#x}", s.kind))
            .end(Category::Rejected, "not mounted"),
        Err(e) => Probe::new(&["procfs"], "/proc file system", "").failed(e),
    }
}

fn cgroups() -> Vec<Probe> {
    let unified = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").ok();
    let listed = std::fs::read_to_string("/proc/cgroups").unwrap_or_default();
    let version = match (&unified, listed.is_empty()) {
        (Some(_), _) => "version 2",
        (None, false) => "version 1",
        (None, true) => "",
    };
    let head = Probe::new(&["cgroups"], "Control Groups", version).unless(
        !version.is_empty(),
        Category::Rejected,
        "no cgroup file system",
    );
    let mut out = vec![head];
    let available = |name: &str| match &unified {
        // Version 2 has devices (by BPF) and freezer built in, and calls blkio io.
        Some(list) => {
            let name = if name == "blkio" { "io" } else { name };
            ["devices", "freezer"].contains(&name) || list.split_whitespace().any(|c| c == name)
        }
        None => listed.lines().any(|l| {
            let mut words = l.split_whitespace();
            words.next() == Some(name) && words.nth(2) == Some("1")
        }),
    };
    for (name, needed) in CONTROLLERS {
        let there = available(name);
        let category = if *needed {
            Category::Rejected
        } else {
            Category::Warning
        };
        let state = if there { "available" } else { "unavailable" };
        let shown = format!("cgroup controller \"{name}\"");
        out.push(Probe::new(&["cgroups", name], &shown, state).unless(there, category, ""));
    }
    out
}

fn kernel_options(role: Role, config: &KernelConfig) -> Vec<Probe> {
    let mut out = Vec::new();
    let mut path = Vec::new();
    for (depth, option, meaning, category) in OPTIONS {
        path.truncate(*depth);
        path.push(*option);
        if !role.worker && path[0] != "NET" {
            continue;
        }
        let mut ids = vec!["kernelConfig"];
        ids.extend(&path);
        let name = format!("CONFIG_{option}: {meaning}");
        let state = config.state(option);
        let probe = Probe::new(&ids[1..], &name, state);
        let probe = if config.is_known() {
            probe.unless(state != "left out", *category, "")
        } else {
            probe.end(Category::Warning, "no kernel config found")
        };
        out.push(Probe {
            path: ids.iter().map(|p| (*p).to_string()).collect(),
            ..probe
        });
    }
    out
}

fn at_least(release: &str, wanted: (u32, u32)) -> bool {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|n| n.parse().unwrap_or(0));
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    found >= wanted
}

fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return format!("{value:.1} {unit}");
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_compare_as_numbers() {
        for (release, good) in [
            ("6.1.0-30-amd64", true),
            ("4.18", true),
            ("4.9.1", false),
            ("3.10", false),
        ] {
            assert_eq!(at_least(release, (4, 18)), good, "{release}");
        }
    }

    #[test]
    fn sizes_read_well() {
        assert_eq!(size(1024 * MIB), "1.0 GiB");
        assert_eq!(size(500 * MIB), "500.0 MiB");
    }
}
