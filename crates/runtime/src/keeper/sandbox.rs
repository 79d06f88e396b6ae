//! What a keeper makes of itself before it serves: the pod's namespaces, its shared memory, its sysctls.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use linux::netlink::{Socket, Subsystem};
use linux::process::Fork;
use rustix::mount::MountFlags;
use rustix::process::Signal;
use rustix::thread::UnshareFlags;

use crate::limits::SHM_BYTES;
use crate::plan::KeeperPlan;

/// The first process of a pod's shared pid namespace.
pub struct Pause {
    pub pid: i32,
    pub namespace: OwnedFd,
}

/// Leaves the node's namespaces for the pod's and fills them.
pub fn enter(plan: &KeeperPlan) -> Result<(), String> {
    for file in &plan.cgroup_procs {
        fs::write(file, "0").map_err(|e| format!("join cgroup {}: {e}", file.display()))?;
    }
    // Refused without CAP_SYS_RESOURCE; the daemon has said so once.
    let _refused = fs::write("/proc/self/oom_score_adj", plan.oom_score_adj.to_string());
    let mut flags = UnshareFlags::empty();
    if plan.netns.is_some() {
        flags |= UnshareFlags::NEWNET;
    }
    if plan.new_ipc {
        flags |= UnshareFlags::NEWIPC;
    }
    if plan.hostname.is_some() {
        flags |= UnshareFlags::NEWUTS;
    }
    linux::process::unshare(flags).map_err(|e| format!("make the pod's namespaces: {e}"))?;
    if let Some(hostname) = &plan.hostname {
        rustix::system::sethostname(hostname.as_bytes())
            .map_err(|e| format!("set host name {hostname:?}: {e}"))?;
    }
    if let Some(path) = &plan.netns {
        keep_network(path)?;
    }
    if let Some(path) = &plan.shm {
        mount_shm(path)?;
    }
    for (name, value) in &plan.sysctls {
        let path = format!("/proc/sys/{}", sysctl_path(name));
        fs::write(&path, value).map_err(|e| format!("write sysctl {name}={value}: {e}"))?;
    }
    Ok(())
}

/// Dots separate, unless the first separator is a slash; then dots are part of names. sysctl(8).
fn sysctl_path(name: &str) -> String {
    match (name.find('.'), name.find('/')) {
        (Some(dot), Some(slash)) if slash < dot => name.to_owned(),
        (None, _) => name.to_owned(),
        _ => name
            .chars()
            .map(|c| match c {
                '.' => '/',
                '/' => '.',
                c => c,
            })
            .collect(),
    }
}

/// Brings the loopback up and mounts the namespace where others find it.
fn keep_network(path: &Path) -> Result<(), String> {
    let up = || {
        let mut socket = Socket::open(Subsystem::Route)?;
        match socket.link_index("lo")? {
            Some(lo) => socket.set_up(lo, true),
            None => Ok(()),
        }
    };
    up().map_err(|e| format!("bring the loopback up: {e}"))?;
    fs::File::create(path).map_err(|e| format!("create {}: {e}", path.display()))?;
    rustix::mount::mount_bind("/proc/self/ns/net", path)
        .map_err(|e| format!("mount network namespace at {}: {e}", path.display()))
}

fn mount_shm(path: &Path) -> Result<(), String> {
    fs::create_dir_all(path).map_err(|e| format!("mkdir {}: {e}", path.display()))?;
    let flags = MountFlags::NOEXEC | MountFlags::NOSUID | MountFlags::NODEV;
    let options = format!("mode=1777,size={SHM_BYTES}");
    let options = std::ffi::CString::new(options).map_err(|e| e.to_string())?;
    rustix::mount::mount("shm", path, "tmpfs", flags, Some(options.as_c_str()))
        .map_err(|e| format!("mount shm at {}: {e}", path.display()))
}

/// Starts the first process of a new pid namespace: it only reaps. It is this program, forked twice (the
/// keeper itself stays in the node's namespace) while the keeper has nothing but itself.
pub fn start_pause() -> Result<Pause, String> {
    let (theirs, ours) = rustix::pipe::pipe().map_err(|e| format!("pipe: {e}"))?;
    let fork = || linux::process::fork().map_err(|e| format!("fork: {e}"));
    match fork()? {
        Fork::Parent { child: helper } => {
            drop(ours);
            let mut bytes = [0u8; 4];
            let read = rustix::io::read(&theirs, &mut bytes);
            let helper = rustix::process::Pid::from_raw(helper);
            let waited = rustix::process::waitpid(helper, rustix::process::WaitOptions::empty());
            waited.map_err(|e| format!("wait for the pid namespace's helper: {e}"))?;
            if read != Ok(4) {
                return Err("make the pod's pid namespace: the helper ended".into());
            }
            let pid = i32::from_ne_bytes(bytes);
            let path = format!("/proc/{pid}/ns/pid");
            let namespace = fs::File::open(&path).map_err(|e| format!("open {path}: {e}"))?;
            Ok(Pause {
                pid,
                namespace: namespace.into(),
            })
        }
        Fork::Child => {
            let done = linux::process::unshare(UnshareFlags::NEWPID).map_err(|e| e.to_string());
            match done.and_then(|()| fork()) {
                Ok(Fork::Parent { child }) => {
                    let told = rustix::io::write(&ours, &child.to_ne_bytes());
                    linux::process::exit_now(i32::from(told.is_err()));
                }
                Ok(Fork::Child) => {
                    drop((theirs, ours));
                    // Whoever waits for the keeper's first words must not wait for this process.
                    let null = fs::OpenOptions::new()
                        .read(true)
                        .write(true)
                        .open("/dev/null");
                    for stream in 0..=1 {
                        if let Ok(null) = &null {
                            let _kept = linux::process::set_standard_stream(stream, null.as_fd());
                        }
                    }
                    pause()
                }
                Err(_) => linux::process::exit_now(1),
            }
        }
    }
}

/// Reaps for ever.
fn pause() -> ! {
    let signals = linux::process::signal_descriptor(&[Signal::CHILD, Signal::TERM, Signal::INT]);
    let Ok(signals) = signals else {
        linux::process::exit_now(1)
    };
    let _unnamed = rustix::thread::set_name(c"k0s-pause");
    loop {
        let mut fds = [rustix::event::PollFd::new(
            &signals,
            rustix::event::PollFlags::IN,
        )];
        match rustix::event::poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => linux::process::exit_now(1),
        }
        while let Ok(Some(signal)) = linux::process::next_signal(signals.as_fd()) {
            if signal != Signal::CHILD.as_raw() {
                linux::process::exit_now(0);
            }
        }
        while let Ok(Some(_)) = rustix::process::wait(rustix::process::WaitOptions::NOHANG) {}
    }
}

#[cfg(test)]
mod tests {
    use super::sysctl_path;

    #[test]
    fn both_ways_to_write_a_sysctl_mean_the_same() {
        assert_eq!(
            sysctl_path("net.ipv4.conf.eth0/1.x"),
            "net/ipv4/conf/eth0.1/x"
        );
        assert_eq!(
            sysctl_path("net/ipv4/conf/eth0.1/x"),
            "net/ipv4/conf/eth0.1/x"
        );
        assert_eq!(
            sysctl_path("kernel.shm_rmid_forced"),
            "kernel/shm_rmid_forced"
        );
    }
}
