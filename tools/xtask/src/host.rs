//! What the host must have, named with its remedy before anything starts.

use anyhow::{Result, bail};

use crate::shell;

/// A program that is needed, and the Debian package that has it.
const BUILD: &[(&str, &str)] = &[("cc", "gcc"), ("make", "make")];

/// What the tests need besides.
const TEST: &[(&str, &str)] = &[
    ("bash-static", "bash-static"),
    ("busybox", "busybox-static"),
    ("docker-registry", "docker-registry"),
    ("nft", "nftables"),
    ("ip", "iproute2"),
    ("mariadbd", "mariadb-server"),
    ("pg_ctlcluster", "postgresql"),
    ("strace", "strace"),
    ("unshare", "util-linux"),
];

/// What emulated machines need.
const MACHINES: &[(&str, &str)] = &[
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("cpio", "cpio"),
    ("depmod", "kmod"),
];

/// File systems without which no container starts, and the kernel option of each.
const FILESYSTEMS: &[(&str, &str)] = &[("overlay", "CONFIG_OVERLAY_FS"), ("tmpfs", "CONFIG_TMPFS")];

/// Makes sure that the build can work; installs what is missing when root on Debian.
pub fn ready_to_build() -> Result<()> {
    ready(BUILD)
}

/// Makes sure that the tests can work.
pub fn ready_to_test() -> Result<()> {
    ready(BUILD)?;
    ready(TEST)
}

/// Makes sure that an emulated machine can boot.
pub fn ready_for_machines() -> Result<()> {
    ready(BUILD)?;
    ready(TEST)?;
    ready(MACHINES)
}

/// Names what the kernel lacks.
pub fn kernel_ready() -> Result<()> {
    let known = std::fs::read_to_string("/proc/filesystems")?;
    for (name, option) in FILESYSTEMS {
        let loadable = known
            .lines()
            .any(|l| l.split_whitespace().last() == Some(name));
        if !loadable && !module_exists(name) {
            bail!("the kernel has no {name} file system: it needs {option}");
        }
    }
    for ns in ["net", "mnt", "pid", "ipc", "uts"] {
        if !std::path::Path::new(&format!("/proc/self/ns/{ns}")).exists() {
            bail!(
                "the kernel has no {ns} namespaces: it needs CONFIG_NAMESPACES and its sub-options"
            );
        }
    }
    Ok(())
}

fn module_exists(name: &str) -> bool {
    let Ok(release) = std::fs::read_to_string("/proc/sys/kernel/osrelease") else {
        return false;
    };
    let file = format!("/lib/modules/{}/modules.dep", release.trim());
    std::fs::read_to_string(file).is_ok_and(|t| t.contains(&format!("/{name}.ko")))
}

fn ready(programs: &[(&str, &str)]) -> Result<()> {
    let missing: Vec<&str> = programs
        .iter()
        .filter(|(p, _)| !shell::have(p))
        .map(|(_, package)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if !shell::is_root() || !shell::have("apt-get") {
        bail!("missing on this machine: {list}; remedy: apt-get install {list}");
    }
    shell::run("apt-get", &["update", "-q"])?;
    let mut args = vec!["install", "-q", "-y", "--no-install-recommends"];
    args.extend(missing);
    shell::run_with("apt-get", &args, &[("DEBIAN_FRONTEND", "noninteractive")])
}
