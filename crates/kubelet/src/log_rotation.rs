//! Log files that grew too big are set aside, older ones compressed, the oldest removed.
//! Upstream: pkg/kubelet/logs/container_log_manager.go.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cri::{ContainerState, ContainerStatus};
use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;

use crate::kubelet::Kubelet;
use crate::limits;

/// Looks after the logs of running containers for ever.
pub(crate) async fn run(kubelet: Arc<Kubelet>) {
    loop {
        tokio::time::sleep(limits::LOG_CHECK).await;
        let workers: Vec<_> = kubelet.workers.read().values().cloned().collect();
        for worker in workers {
            let seen = worker.observed.borrow().clone();
            for c in &seen.containers {
                if c.state == ContainerState::Running
                    && let Err(error) = check(&kubelet, c).await
                {
                    tracing::warn!(%error, container = c.id, "log not rotated");
                }
            }
        }
    }
}

async fn check(kubelet: &Kubelet, c: &ContainerStatus) -> Result<(), String> {
    if c.log_path.is_empty() {
        return Ok(());
    }
    let path = PathBuf::from(&c.log_path);
    match fs::metadata(&path) {
        Ok(meta) if meta.len() <= limits::LOG_SIZE => return Ok(()),
        Ok(_) => {
            let now = Timestamp::now();
            let rotated = path.clone();
            let done = tokio::task::spawn_blocking(move || rotate(&rotated, now)).await;
            done.map_err(|e| e.to_string())?
                .map_err(|e| format!("rotate {}: {e}", c.log_path))?;
        }
        // Someone removed or renamed it: the runtime writes to a file without a name.
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(e.to_string()),
    }
    let reopened = kubelet.runtime.reopen_container_log(&c.id).await;
    reopened.map_err(|e| e.to_string())
}

/// Sets a log aside; older ones are compressed or removed.
fn rotate(path: &Path, now: Timestamp) -> io::Result<()> {
    let mut old = rotated(path)?;
    // The live file and the one that is set aside now count as well.
    let keep = limits::LOG_FILES - 2;
    while old.len() > keep {
        fs::remove_file(old.remove(0))?;
    }
    for file in old
        .iter()
        .filter(|f| f.extension().is_none_or(|e| e != "gz"))
    {
        compress(file)?;
    }
    let stamp = now.strftime("%Y%m%d-%H%M%S");
    fs::rename(path, format!("{}.{stamp}", path.display()))
}

/// Logs set aside earlier, oldest first. Half-written ones are removed.
fn rotated(path: &Path) -> io::Result<Vec<PathBuf>> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(Vec::new());
    };
    let prefix = format!("{}.", name.to_string_lossy());
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let file = entry?.path();
        let own = file
            .file_name()
            .is_some_and(|n| n.to_string_lossy().starts_with(&prefix));
        if own && file.extension().is_some_and(|e| e == "tmp") {
            fs::remove_file(&file)?;
        } else if own {
            found.push(file);
        }
    }
    found.sort();
    Ok(found)
}

fn compress(file: &Path) -> io::Result<()> {
    let target = format!("{}.gz", file.display());
    let tmp = format!("{target}.tmp");
    let mut out = GzEncoder::new(File::create(&tmp)?, Compression::default());
    io::copy(&mut File::open(file)?, &mut out)?;
    out.finish()?;
    fs::rename(&tmp, &target)?;
    fs::remove_file(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_files_are_kept_and_older_ones_are_compressed() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("0.log");
        for i in 0..7 {
            fs::write(&log, format!("{i}")).unwrap();
            rotate(&log, Timestamp::from_second(1_700_000_000 + i).unwrap()).unwrap();
        }
        fs::write(&log, "live").unwrap();
        let names: Vec<String> = rotated(&log)
            .unwrap()
            .iter()
            .map(|p| p.file_name().unwrap().to_string_lossy().into_owned())
            .collect();
        assert_eq!(names.len(), 4);
        assert!(
            names[..3].iter().all(|n| n.ends_with(".gz")) && names[3] == "0.log.20231114-221326"
        );
    }
}
