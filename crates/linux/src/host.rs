//! What the host offers: memory, disks, limits, release of the kernel.

use std::path::Path;

/// Size and free space of the file system a path lies on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskSpace {
    /// Bytes.
    pub total: u64,
    /// Bytes that an unprivileged user may still fill.
    pub available: u64,
    /// The kernel's magic number of the file system.
    pub kind: u64,
}

/// The file system that `path`, which must exist, lies on.
pub fn disk_space(path: &Path) -> std::io::Result<DiskSpace> {
    let s = rustix::fs::statfs(path)?;
    // The block size is signed on some targets and never negative.
    let block = s.f_bsize as u64;
    Ok(DiskSpace {
        total: s.f_blocks.saturating_mul(block),
        available: s.f_bavail.saturating_mul(block),
        kind: s.f_type as u64,
    })
}

/// Name and release of the kernel: `Linux`, `6.1.0-30-amd64`.
pub fn kernel() -> (String, String) {
    let u = rustix::system::uname();
    let text = |s: &std::ffi::CStr| s.to_string_lossy().into_owned();
    (text(u.sysname()), text(u.release()))
}

/// How many files this process may open: soft and hard limit, `None` for no limit.
pub fn open_files() -> (Option<u64>, Option<u64>) {
    let l = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    (l.current, l.maximum)
}

/// Lets this process open as many files as the hard limit allows.
pub fn raise_open_files() -> std::io::Result<()> {
    let mut l = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    l.current = l.maximum;
    Ok(rustix::process::setrlimit(
        rustix::process::Resource::Nofile,
        l,
    )?)
}

/// What this process uses, as Prometheus clients tell it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Usage {
    /// User and system time, seconds.
    pub cpu: f64,
    pub open_files: u64,
    pub resident_bytes: u64,
    pub virtual_bytes: u64,
    /// Start, seconds since 1970.
    pub started: f64,
}

/// Clock ticks of a second in `/proc`: the same on all of Linux's platforms.
const TICKS: f64 = 100.0;

/// What this process uses now.
pub fn usage() -> std::io::Result<Usage> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let system = std::fs::read_to_string("/proc/stat")?;
    let page = rustix::param::page_size() as u64;
    let open_files = std::fs::read_dir("/proc/self/fd")?.count() as u64;
    let usage = parse_usage(&stat, &system, page);
    let usage = usage.ok_or_else(|| std::io::Error::other("/proc/self/stat is not as known"))?;
    Ok(Usage {
        open_files,
        ..usage
    })
}

/// From the texts of `/proc/self/stat` and `/proc/stat`.
fn parse_usage(stat: &str, system: &str, page: u64) -> Option<Usage> {
    // The second field is a name that may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |n: usize| fields.get(n - 3)?.parse::<u64>().ok();
    let booted = system.lines().find_map(|l| l.strip_prefix("btime "))?;
    Some(Usage {
        cpu: (number(14)? + number(15)?) as f64 / TICKS,
        open_files: 0,
        resident_bytes: number(24)? * page,
        virtual_bytes: number(23)?,
        started: booted.trim().parse::<f64>().ok()? + number(22)? as f64 / TICKS,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_read_past_any_name() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 9 0 1000 4096000 25 0 0";
        let found = parse_usage(stat, "cpu 1\nbtime 1700000000\n", 4096).unwrap();
        assert_eq!((found.cpu, found.started), (2.0, 1_700_000_010.0));
        assert_eq!(
            (found.virtual_bytes, found.resident_bytes),
            (4_096_000, 102_400)
        );
        assert!(parse_usage("7 a S", "", 4096).is_none());
        assert!(usage().unwrap().open_files > 2);
    }

    #[test]
    fn the_root_file_system_has_a_size() {
        let space = disk_space(Path::new("/")).unwrap();
        assert!(space.total > 0 && space.available <= space.total);
        assert_eq!(disk_space(Path::new("/proc")).unwrap().kind, 0x9fa0);
        assert_eq!(kernel().0, "Linux");
    }
}
