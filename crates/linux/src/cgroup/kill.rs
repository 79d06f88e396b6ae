//! Ending all processes of a group.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::{Cgroups, Error, Version};

/// Rounds after which a group that keeps forking faster than it is killed counts as stuck.
const ROUNDS_MAX: usize = 1000;

impl Cgroups {
    /// Process ids in a group and all below it.
    pub fn processes(&self, path: &str) -> Result<BTreeSet<i32>, Error> {
        let mut pids = BTreeSet::new();
        for (_, dir) in self.directories(path) {
            collect(&dir, &mut pids).map_err(|e| Error::new("list processes of", &dir, e))?;
        }
        Ok(pids)
    }

    /// Sends KILL to all processes of a group and below, without waiting for their end.
    pub fn kill(&self, path: &str) -> Result<(), Error> {
        if self.kill_at_once(path) {
            return Ok(());
        }
        for pid in self.processes(path)? {
            if let Some(pid) = Pid::from_raw(pid)
                && let Ok(fd) = pidfd_open(pid, PidfdFlags::empty())
            {
                // It may have ended between the two calls, which is what is wanted.
                let _ended = pidfd_send_signal(&fd, Signal::KILL);
            }
        }
        Ok(())
    }

    /// Kills all processes of a group and below and waits until they ended. An error where some live on at
    /// the deadline (they hang in the kernel).
    pub fn kill_and_wait(&self, path: &str, patience: Duration) -> Result<(), Error> {
        let deadline = Instant::now() + patience;
        for _ in 0..ROUNDS_MAX {
            let pids = self.processes(path)?;
            if pids.is_empty() {
                return Ok(());
            }
            let open = |pid: &i32| pidfd_open(Pid::from_raw(*pid)?, PidfdFlags::empty()).ok();
            let fds: Vec<_> = pids.iter().filter_map(open).collect();
            self.kill_at_once(path);
            for fd in &fds {
                let _ended = pidfd_send_signal(fd, Signal::KILL);
            }
            for fd in &fds {
                let left = deadline.saturating_duration_since(Instant::now());
                let timeout = Timespec::try_from(left).unwrap_or(Timespec {
                    tv_sec: 1,
                    tv_nsec: 0,
                });
                let mut polled = [PollFd::new(fd, PollFlags::IN)];
                match rustix::event::poll(&mut polled, Some(&timeout)) {
                    Ok(0) => break,
                    Ok(_) | Err(rustix::io::Errno::INTR) => {}
                    Err(e) => return Err(Error::new("wait for", Path::new(path), e.into())),
                }
            }
            if Instant::now() >= deadline {
                break;
            }
        }
        let stuck = io::Error::new(io::ErrorKind::TimedOut, "processes do not end");
        Err(Error::new("kill", Path::new(path), stuck))
    }

    /// `cgroup.kill` (kernel 5.14) where there is a version 2 hierarchy.
    fn kill_at_once(&self, path: &str) -> bool {
        let dirs = self.directories(path);
        let unified = dirs.iter().find(|(h, _)| h.version == Version::V2);
        unified.is_some_and(|(_, dir)| fs::write(dir.join("cgroup.kill"), "1").is_ok())
    }
}

fn collect(dir: &Path, pids: &mut BTreeSet<i32>) -> io::Result<()> {
    let gone = |e: &io::Error| {
        e.kind() == io::ErrorKind::NotFound || e.raw_os_error() == Some(libc::ENODEV)
    };
    match fs::read_to_string(dir.join("cgroup.procs")) {
        Ok(text) => pids.extend(text.lines().filter_map(|l| l.parse::<i32>().ok())),
        Err(e) if gone(&e) => return Ok(()),
        Err(e) => return Err(e),
    }
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if gone(&e) => return Ok(()),
        Err(e) => return Err(e),
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), pids)?;
        }
    }
    Ok(())
}

/// Kills all processes in these directories of one group and below, without waiting.
pub fn kill_in(directories: &[std::path::PathBuf]) -> io::Result<()> {
    let mut pids = BTreeSet::new();
    for dir in directories {
        if fs::write(dir.join("cgroup.kill"), "1").is_ok() {
            return Ok(());
        }
        collect(dir, &mut pids)?;
    }
    for pid in pids {
        if let Some(pid) = Pid::from_raw(pid)
            && let Ok(fd) = pidfd_open(pid, PidfdFlags::empty())
        {
            let _ended = pidfd_send_signal(&fd, Signal::KILL);
        }
    }
    Ok(())
}
