//! A node whose store lies on a disk that is full, and on one that hangs, under write load: clients are told what etcd's
//! are told, reads go on, nothing acknowledged is lost, and writes go on once the disk does.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::load::Load;
use super::{Outcome, kubectl, until};
use crate::cluster::{Cluster, run as program};

/// A file system for the store alone; unmounted when dropped. Mounts end with the check's namespaces in any case.
struct Disk {
    at: PathBuf,
}

impl Disk {
    /// Memory of a size, as a disk that gets full.
    fn small(at: &Path, size: &str) -> Result<Self> {
        let options = format!("size={size},mode=0700");
        let mount = ["-t", "tmpfs", "-o", &options, "tmpfs"];
        program(Command::new("mount").args(mount).arg(at))?;
        Ok(Self { at: at.into() })
    }

    /// A file system on a loop device, which can be frozen; nothing where the host has no such thing.
    fn freezable(at: &Path, image: &Path) -> Option<Self> {
        std::fs::File::create(image).ok()?.set_len(256 << 20).ok()?;
        program(Command::new("mkfs.ext4").arg("-q").arg(image)).ok()?;
        program(
            Command::new("mount")
                .args(["-o", "loop"])
                .arg(image)
                .arg(at),
        )
        .ok()?;
        Some(Self { at: at.into() })
    }

    /// Every write waits from now on, as with a disk that does not answer.
    fn freeze(&self) -> Result<()> {
        program(Command::new("fsfreeze").arg("--freeze").arg(&self.at)).map(drop)
    }

    fn thaw(&self) -> Result<()> {
        program(Command::new("fsfreeze").arg("--unfreeze").arg(&self.at)).map(drop)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Thawed already, mostly. A frozen one could never be let go of.
        let _ = Command::new("fsfreeze")
            .arg("--unfreeze")
            .arg(&self.at)
            .output();
        let _ = Command::new("umount").arg("--lazy").arg(&self.at).output();
    }
}

/// A node whose store lies where `mount` mounts something.
fn node(
    mount: impl FnOnce(&Path, &Path) -> Result<Option<Disk>>,
) -> Result<Option<(Cluster, Disk)>> {
    let dir = tempfile::tempdir()?;
    let at = dir.path().join("data/db");
    std::fs::create_dir_all(&at)?;
    let Some(disk) = mount(&at, &dir.path().join("image"))? else {
        return Ok(None);
    };
    let mut cluster = Cluster::launch_in(dir, "{}")?;
    cluster.wait_ready()?;
    Ok(Some((cluster, disk)))
}

/// What etcd's clients, and so upstream's, are told.
const FULL: &str = "etcdserver: mvcc: database space exceeded";

pub fn full() -> Result<Outcome> {
    let found = node(|at, _| Disk::small(at, "24m").map(Some))?;
    let (mut cluster, disk) = found.context("no disk")?;
    let load = Load::start(&cluster)?;
    let others = disk.at.join("others");
    for round in 0..2 {
        until("writes go on", || {
            Ok((load.writes() > 100 * (round + 1)).then_some(()))
        })?;
        load.refusals();
        fill(&others)?;
        let told = until("a write is refused", || Ok(load.refusals().pop()))?;
        ensure!(
            told.starts_with("500") && told.contains(FULL),
            "clients are told {told:?}"
        );
        let before = load.writes();
        kubectl(&cluster, &["get", "configmaps", "-o", "name"])?;
        load.check()?;
        if round == 1 {
            // Killed on a full disk: it starts on one, and everything is there.
            cluster.crash_and_restart()?;
            load.check()?;
        }
        std::fs::remove_file(&others)?;
        until("writes go on once there is room", || {
            Ok((load.writes() > before + 20).then_some(()))
        })?;
        load.check()?;
    }
    let done = load.finish()?;
    println!(
        "disk: {} writes acknowledged around two full disks and a SIGKILL",
        done.writes
    );
    drop(cluster);
    Ok(Outcome::Passed)
}

/// Fills a disk to its last byte.
fn fill(file: &Path) -> Result<()> {
    use std::io::Write;
    let mut file = std::fs::File::create(file)?;
    for size in [64 << 10, 4 << 10] {
        let block = vec![0; size];
        while file.write_all(&block).is_ok() {}
    }
    Ok(())
}

/// How often the disk hangs, and for how long; the last time the node is killed meanwhile.
const HANGS: usize = 4;
const HANG: Duration = Duration::from_millis(1_500);

pub fn slow() -> Result<Outcome> {
    let Some((mut cluster, disk)) = node(|at, image| Ok(Disk::freezable(at, image)))? else {
        return Ok(Outcome::Skipped("no ext4 on a loop device here".into()));
    };
    let load = Load::start(&cluster)?;
    for round in 0..HANGS {
        let before = load.writes();
        until("writes go on", || {
            Ok((load.writes() > before + 50).then_some(()))
        })?;
        disk.freeze()?;
        let frozen = hanging(&cluster);
        if round + 1 == HANGS {
            // It goes when its write comes back.
            cluster.kill()?;
        }
        disk.thaw()?;
        frozen?;
        if round + 1 == HANGS {
            cluster.crash_and_restart()?;
        }
        load.check()
            .with_context(|| format!("after hang {round}"))?;
    }
    let stall = load.stall();
    let done = load.finish()?;
    ensure!(
        stall >= HANG,
        "writes were acknowledged while the disk hung"
    );
    println!(
        "disk: {} writes acknowledged around {HANGS} hangs of {HANG:?}; the longest time without one {stall:?}",
        done.writes
    );
    drop(cluster);
    Ok(Outcome::Passed)
}

/// While no write can be made: reads go on, and the server calls itself alive.
fn hanging(cluster: &Cluster) -> Result<()> {
    let end = std::time::Instant::now() + HANG;
    while std::time::Instant::now() < end {
        kubectl(cluster, &["get", "configmaps", "-o", "name"])?;
        kubectl(cluster, &["get", "--raw", "/livez"])?;
    }
    Ok(())
}
