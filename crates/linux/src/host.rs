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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_file_system_has_a_size() {
        let space = disk_space(Path::new("/")).unwrap();
        assert!(space.total > 0 && space.available <= space.total);
        assert_eq!(disk_space(Path::new("/proc")).unwrap().kind, 0x9fa0);
        assert_eq!(kernel().0, "Linux");
    }
}
