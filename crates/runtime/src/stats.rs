//! Use of containers: groups for processor and memory, a look at the disk for writable layers.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use cri::{ContainerState, ContainerStats, Error};
use parking_lot::Mutex;

use crate::Core;
use crate::limits::{DISK_USAGE_AGE_MAX, DISK_USAGE_FILES_MAX};

/// Sizes of writable layers, remembered for a while.
#[derive(Default)]
pub struct DiskUsage {
    seen: Mutex<BTreeMap<String, (Instant, u64, u64)>>,
}

// === DiskUsage ===

impl DiskUsage {
    /// Bytes and inodes below a directory.
    fn of(&self, id: &str, dir: &Path) -> (u64, u64) {
        if let Some((at, bytes, inodes)) = self.seen.lock().get(id)
            && at.elapsed() < DISK_USAGE_AGE_MAX
        {
            return (*bytes, *inodes);
        }
        let (mut bytes, mut inodes) = (0, 0);
        measure(dir, &mut bytes, &mut inodes);
        let entry = (Instant::now(), bytes, inodes);
        self.seen.lock().insert(id.to_owned(), entry);
        (bytes, inodes)
    }

    pub fn forget(&self, id: &str) {
        self.seen.lock().remove(id);
    }
}

// === Core ===

impl Core {
    pub(crate) async fn all_stats(self: &Arc<Self>) -> Result<Vec<ContainerStats>, Error> {
        self.blocking(|r| {
            let all: Vec<_> = r.containers.lock().values().cloned().collect();
            let running = all.iter().filter(|c| c.phase() == ContainerState::Running);
            Ok(running
                .map(|c| {
                    let record = &c.record;
                    let use_ = r.cgroups.stats(&record.cgroup);
                    let upper = r.disk.container(&record.id).join("upper");
                    let (bytes, inodes) = r.usage.of(&record.id, &upper);
                    ContainerStats {
                        container_id: record.id.clone(),
                        sandbox_id: record.sandbox.clone(),
                        name: record.config.metadata.name.clone(),
                        timestamp: crate::clock::now(),
                        cpu_usage_nanoseconds: use_.cpu_usage_nanoseconds,
                        memory_working_set_bytes: use_.memory_working_set_bytes,
                        memory_usage_bytes: use_.memory_usage_bytes,
                        memory_rss_bytes: use_.memory_rss_bytes,
                        writable_layer_bytes: bytes,
                        writable_layer_inodes: inodes,
                        processes: use_.processes,
                    }
                })
                .collect())
        })
        .await
    }
}

/// Files vanish while we look; what cannot be read counts as nothing.
fn measure(dir: &Path, bytes: &mut u64, inodes: &mut u64) {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = std::fs::read_dir(dir) else {
        return;
    };
    for entry in entries.flatten() {
        let Ok(meta) = entry.metadata() else { continue };
        *inodes += 1;
        *bytes += meta.blocks() * 512;
        if *inodes >= DISK_USAGE_FILES_MAX {
            return;
        }
        if meta.is_dir() {
            measure(&entry.path(), bytes, inodes);
        }
    }
}
