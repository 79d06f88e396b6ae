//! What processes used, from /proc.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// Processor time of all threads of some processes.
pub fn cpu(pids: &[u32]) -> Result<Duration> {
    let mut nanos = 0;
    for pid in pids {
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            // A thread may just have ended.
            let text = fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
            let first = text.split_whitespace().next();
            nanos += first.and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
        }
    }
    Ok(Duration::from_nanos(nanos))
}

/// MiB of some kinds of memory of a process, as `smaps_rollup` names them.
pub fn memory(pid: u32, kinds: &[&str]) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let mut kib = 0.0;
    for kind in kinds {
        let line = text.lines().find(|l| l.starts_with(kind));
        let number = line.and_then(|l| l.split_whitespace().nth(1));
        kib += number.context("smaps_rollup")?.parse::<f64>()?;
    }
    Ok(kib / 1024.0)
}

/// All processes of this process namespace that run the program of another: the node and its keepers.
pub fn family(pid: u32) -> Result<Vec<u32>> {
    let exe = fs::read_link(format!("/proc/{pid}/exe"))?;
    let mut all = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|n| n.parse::<u32>().ok()) else {
            continue;
        };
        if fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|e| e == exe) {
            all.push(pid);
        }
    }
    Ok(all)
}

/// Memory of the node and its keepers.
pub fn of_family(pid: u32, kinds: &[&str]) -> Result<f64> {
    // One that ended meanwhile uses nothing.
    let all = family(pid)?.into_iter();
    Ok(all.map(|p| memory(p, kinds).unwrap_or(0.0)).sum())
}
