//! From what the kubelet wants of a container and what its image says to the plan of the init stage.
//! Rules and defaults as containerd's CRI plugin (internal/cri/server/container_create_linux.go).

pub mod mounts;
pub mod process;

use std::path::{Path, PathBuf};

use cri::{ContainerConfig, NamespaceMode};
use linux::cgroup::{Cgroups, DeviceRule};
use oci::ResolvedImage;

use crate::plan::{ContainerPlan, DevicePlan, PidPlan, Rootfs};
use crate::protocol::PidSource;

/// What a container's plan is made from.
pub struct Facts<'a> {
    /// The container's directory.
    pub dir: &'a Path,
    pub config: &'a ContainerConfig,
    pub image: &'a ResolvedImage,
    /// Images of the mounts that name one, in order.
    pub image_mounts: &'a [ResolvedImage],
    pub hostname: &'a str,
    pub sandbox_pid: NamespaceMode,
    pub files: SandboxFiles<'a>,
    pub cgroups: &'a Cgroups,
    pub cgroup: &'a str,
}

/// What all containers of a sandbox are given.
#[derive(Clone, Copy)]
pub struct SandboxFiles<'a> {
    pub resolv_conf: &'a Path,
    pub hostname: &'a Path,
    pub shm: &'a Path,
}

/// Nodes that every container's `/dev` has: name, major, minor.
const DEVICES: &[(&str, u32, u32)] = &[
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

/// Names of `/dev` that are not handed to privileged containers: they have their own.
const NOT_DEVICES: &[&str] = &["pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"];

/// The plan, or why the container cannot be created.
pub fn plan(facts: &Facts<'_>) -> Result<ContainerPlan, String> {
    let (config, security) = (facts.config, &facts.config.security);
    let mounts = mounts::plan(facts)?;
    let own_dev = !config
        .mounts
        .iter()
        .any(|m| clean(&m.container_path) == "/dev");
    let paths = |all: &[String]| match security.privileged {
        true => Vec::new(),
        false => all.to_vec(),
    };
    Ok(ContainerPlan {
        rootfs: Rootfs {
            layers: match facts.image.layers.is_empty() {
                // An overlay needs a layer below the writable one.
                true => vec![facts.dir.join("empty")],
                false => facts.image.layers.clone(),
            },
            upper: facts.dir.join("upper"),
            work: facts.dir.join("work"),
            target: facts.dir.join("rootfs"),
            readonly: security.readonly_rootfs,
        },
        cgroup_procs: facts.cgroups.procs_files(facts.cgroup),
        pid: match pid_source(config, facts.sandbox_pid) {
            PidSource::New => PidPlan::New,
            PidSource::Host => PidPlan::Host,
            PidSource::Sandbox | PidSource::Container(_) => PidPlan::Join,
        },
        cgroup_namespace: !security.privileged,
        mounts,
        devices: if own_dev {
            devices(config)?
        } else {
            Vec::new()
        },
        device_links: own_dev,
        masked_paths: paths(&security.masked_paths),
        readonly_paths: paths(&security.readonly_paths),
        process: process::plan(facts)?,
    })
}

/// Where a container's pid namespace comes from, in a sandbox of this mode.
pub fn pid_source(config: &ContainerConfig, sandbox: NamespaceMode) -> PidSource {
    if let Some(target) = &config.security.target_container {
        return PidSource::Container(target.clone());
    }
    let mode = match config.security.pid {
        // There is nothing to share unless the sandbox shares it.
        NamespaceMode::Pod => sandbox,
        own => own,
    };
    match mode {
        NamespaceMode::Container => PidSource::New,
        NamespaceMode::Pod => PidSource::Sandbox,
        NamespaceMode::Node => PidSource::Host,
    }
}

/// Devices that an unprivileged container may use: those it sees, terminals, and making any node.
pub fn device_rules(config: &ContainerConfig) -> Result<Vec<DeviceRule>, String> {
    let rule = |kind, major, minor, access: &str| DeviceRule {
        kind,
        major,
        minor,
        access: access.to_owned(),
    };
    let mut rules = vec![rule('a', None, None, "m")];
    for (_, major, minor) in DEVICES {
        rules.push(rule('c', Some(*major), Some(*minor), "rwm"));
    }
    // Console, ptmx, and the terminals of devpts.
    rules.push(rule('c', Some(5), Some(1), "rwm"));
    rules.push(rule('c', Some(5), Some(2), "rwm"));
    rules.push(rule('c', Some(136), None, "rwm"));
    for device in &config.devices {
        let host = Path::new(&device.host_path);
        let nodes = match host.is_dir() {
            true => host_devices(host, host, 0)?,
            false => node(host, &device.container_path)?.into_iter().collect(),
        };
        for n in nodes {
            let (major, minor) = (Some(n.major), Some(n.minor));
            rules.push(rule(n.kind, major, minor, &device.permissions));
        }
    }
    Ok(rules)
}

fn devices(config: &ContainerConfig) -> Result<Vec<DevicePlan>, String> {
    let mut all = Vec::new();
    for (name, major, minor) in DEVICES {
        all.push(DevicePlan {
            path: format!("/dev/{name}"),
            kind: 'c',
            major: *major,
            minor: *minor,
            mode: 0o666,
            uid: 0,
            gid: 0,
        });
    }
    if config.security.privileged {
        let more = host_devices(Path::new("/dev"), Path::new("/dev"), 0)?;
        all.extend(more);
    }
    for device in &config.devices {
        let host = Path::new(&device.host_path);
        if host.is_dir() {
            all.extend(host_devices(host, Path::new(&device.container_path), 0)?);
            continue;
        }
        match node(host, &device.container_path)? {
            Some(node) => all.push(node),
            None => return Err(format!("{} is not a device node", device.host_path)),
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    all.retain(|d| seen.insert(d.path.clone()));
    Ok(all)
}

/// All nodes below a directory.
fn host_devices(dir: &Path, target: &Path, depth: usize) -> Result<Vec<DevicePlan>, String> {
    const DEPTH_MAX: usize = 8;
    let mut all = Vec::new();
    let fail = |e: std::io::Error| format!("list devices in {}: {e}", dir.display());
    for entry in std::fs::read_dir(dir).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let name = entry.file_name();
        let Some(text) = name.to_str() else { continue };
        if NOT_DEVICES.contains(&text) || text == "console" {
            continue;
        }
        let target = target.join(&name);
        // Devices come and go while we look.
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        if kind.is_dir() && depth < DEPTH_MAX {
            all.extend(host_devices(&entry.path(), &target, depth + 1)?);
        } else if let Ok(Some(node)) = node(&entry.path(), &target.to_string_lossy()) {
            all.push(node);
        }
    }
    Ok(all)
}

/// A node as it is on the host; `None` for other files.
fn node(host: &Path, target: &str) -> Result<Option<DevicePlan>, String> {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let fail = |e: std::io::Error| format!("stat device {}: {e}", host.display());
    let link = std::fs::symlink_metadata(host).map_err(fail)?;
    let meta = match link.file_type().is_symlink() && !host.starts_with("/dev") {
        true => std::fs::metadata(host).map_err(fail)?,
        false => link,
    };
    let kind = match meta.file_type() {
        t if t.is_char_device() => 'c',
        t if t.is_block_device() => 'b',
        _ => return Ok(None),
    };
    Ok(Some(DevicePlan {
        path: clean(target),
        kind,
        major: rustix::fs::major(meta.rdev()),
        minor: rustix::fs::minor(meta.rdev()),
        mode: meta.mode() & 0o7777,
        uid: meta.uid(),
        gid: meta.gid(),
    }))
}

/// An absolute path without `.`, `..`, repeated or trailing slashes.
pub fn clean(path: &str) -> String {
    let mut out = PathBuf::from("/");
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                out.pop();
            }
            part => out.push(part),
        }
    }
    out.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::clean;

    #[test]
    fn paths_are_cleaned_as_go_does() {
        assert_eq!(clean("//a/./b/../c/"), "/a/c");
        assert_eq!(clean("../x"), "/x");
        assert_eq!(clean(""), "/");
    }
}
