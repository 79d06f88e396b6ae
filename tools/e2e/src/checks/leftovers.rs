//! What a node has in the kernel: mounts, links, network namespaces, control groups, keepers.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::cluster::run;

/// Things that belong to the node on a data directory, each as a readable line.
pub fn of(data: &Path) -> Result<BTreeSet<String>> {
    let mut out = BTreeSet::new();
    let data_text = data.display().to_string();
    for line in std::fs::read_to_string("/proc/self/mountinfo")?.lines() {
        let at = line.split(' ').nth(4).unwrap_or_default();
        if at.starts_with(&data_text) {
            out.insert(format!("mount {at}"));
        }
    }
    for line in run(Command::new("ip").args(["-o", "link"]))?.lines() {
        let name = line.split(' ').nth(1).unwrap_or_default();
        let name = name.split(['@', ':']).next().unwrap_or_default();
        if name.starts_with("veth") {
            out.insert(format!("link {name}"));
        }
    }
    for process in std::fs::read_dir("/proc")?.flatten() {
        let Ok(text) = std::fs::read(process.path().join("cmdline")) else {
            continue;
        };
        if text.starts_with(b"k0s-keeper") {
            let pid = process.file_name().to_string_lossy().into_owned();
            out.insert(format!("keeper {pid}"));
        }
    }
    for hierarchy in ["/sys/fs/cgroup", "/sys/fs/cgroup/memory"] {
        for group in std::fs::read_dir(hierarchy).into_iter().flatten().flatten() {
            if group.file_name().to_string_lossy().starts_with("k0s-") {
                groups(&group.path(), &mut out);
            }
        }
    }
    Ok(out)
}

/// The groups of pods and containers below a node's own.
fn groups(dir: &Path, out: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if !path.is_dir() {
            continue;
        }
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("pod") {
            out.insert(format!("control group {}", path.display()));
        }
        groups(&path, out);
    }
}
