//! k0s as the first process of a machine: an initramfs of this binary, the kernel's modules and a data
//! directory is enough. Mounts the kernel's file systems, loads drivers, sets the network up from the
//! kernel's `ip=` parameter (Documentation/admin-guide/nfs/nfsroot.rst) and starts the node, whose orphans it
//! buries. What stands after `--` on the kernel's command line are the node's arguments.

mod network;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result};
use linux::module::Modules;

/// The kernel's file systems: kind, where, options, whether programs run from it.
const FILESYSTEMS: &[(&str, &str, &str, bool)] = &[
    ("proc", "/proc", "", false),
    ("sysfs", "/sys", "", false),
    ("devtmpfs", "/dev", "mode=755", false),
    ("devpts", "/dev/pts", "gid=5,mode=620,ptmxmode=666", false),
    ("tmpfs", "/dev/shm", "mode=1777", false),
    ("tmpfs", "/run", "mode=755", true),
    ("tmpfs", "/tmp", "mode=1777", true),
    ("cgroup2", "/sys/fs/cgroup", "", false),
];

/// What a node uses of the kernel that may be a module. One that is missing is told by the part that needs it.
const MODULES: &[&str] = &[
    "overlay",
    "bridge",
    "br_netfilter",
    "veth",
    "vxlan",
    "dummy",
    "nf_conntrack",
    "nf_nat",
    "nf_tables",
    "nft_ct",
    "nft_nat",
    "nft_masq",
    "nft_redir",
    "nft_numgen",
    "nft_hash",
    "nft_reject",
    "nft_reject_ipv4",
    "nft_reject_ipv6",
    "nft_reject_inet",
    "nft_fib",
    "nft_fib_ipv4",
    "nft_fib_ipv6",
    "nft_fib_inet",
    "nft_limit",
    "nft_log",
    "nft_chain_nat",
];

/// What the node is started with where the kernel's command line says nothing.
const ARGUMENTS: &[&str] = &["controller", "--single"];

/// Wait before a node that failed is started again.
const AGAIN: Duration = Duration::from_secs(2);

/// Runs the machine where this process is its first and nothing is set up yet, else returns `None`.
pub fn run(args: &[OsString]) -> Option<ExitCode> {
    if std::process::id() != 1 || Path::new("/proc/self").exists() {
        return None;
    }
    match set_up().and_then(|()| supervise(args)) {
        Ok(()) => Some(ExitCode::SUCCESS),
        Err(error) => {
            eprintln!("k0s: {error:#}");
            Some(ExitCode::FAILURE)
        }
    }
}

fn set_up() -> Result<()> {
    for (kind, target, options, executable) in FILESYSTEMS {
        std::fs::create_dir_all(target).with_context(|| format!("make {target}"))?;
        linux::boot::mount(kind, Path::new(target), options, *executable)
            .with_context(|| format!("mount {kind} on {target}"))?;
    }
    load_modules()?;
    let command_line = std::fs::read_to_string("/proc/cmdline").context("read /proc/cmdline")?;
    network::set_up(&network::Plan::parse(&command_line)?)
}

/// Loads the drivers of the devices present and what a node uses. A bus that comes to life shows more devices.
fn load_modules() -> Result<()> {
    let Some(modules) = Modules::of_this_kernel().context("read the table of kernel modules")?
    else {
        return Ok(());
    };
    let mut loaded: BTreeSet<String> = BTreeSet::new();
    let mut wanted: BTreeSet<String> = MODULES.iter().map(|name| name.to_string()).collect();
    while !wanted.is_empty() {
        for name in &wanted {
            if let Err(error) = modules.load(name) {
                eprintln!("k0s: kernel module {name}: {error}");
            }
        }
        loaded.append(&mut wanted);
        wanted = modules.of_devices().difference(&loaded).cloned().collect();
    }
    Ok(())
}

/// Starts the node and stays until it has been stopped, which is the end of the machine.
fn supervise(args: &[OsString]) -> Result<()> {
    let mut arguments: Vec<OsString> = args.iter().skip(1).cloned().collect();
    if arguments.is_empty() {
        arguments = ARGUMENTS.iter().map(OsString::from).collect();
    }
    loop {
        let node = Command::new("/proc/self/exe")
            .args(&arguments)
            .env("HOME", "/root")
            .env("PATH", "/bin:/sbin")
            .spawn()
            .context("start the node")?;
        let code = linux::boot::bury_until(node.id()).context("wait for the node")?;
        if code == 0 {
            return linux::boot::power_off().context("switch the machine off");
        }
        eprintln!("k0s: the node ended with {code}; it is started again");
        std::thread::sleep(AGAIN);
    }
}
