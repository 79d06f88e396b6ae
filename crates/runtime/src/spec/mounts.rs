//! The mounts of a container: the system's, the sandbox's files, then the kubelet's.

use std::path::{Path, PathBuf};

use cri::{Mount, MountPropagation};
use linux::cgroup::Version;
use oci::ResolvedImage;

use super::{Facts, clean};
use crate::plan::{MountFlag, MountPlan};

const RESTRICTED: [MountFlag; 3] = [MountFlag::NoSuid, MountFlag::NoExec, MountFlag::NoDev];

/// All mounts, in order. Makes directories of the node that are to be mounted and are missing, as upstream.
pub fn plan(facts: &Facts<'_>) -> Result<Vec<MountPlan>, String> {
    let asked = asked(facts)?;
    let taken = |target: &str| asked.iter().any(|(t, _)| t == target);
    let mut all: Vec<MountPlan> = system(facts)
        .into_iter()
        .chain(files(facts))
        .filter(|m| !taken(target(m)))
        // What lies below a mount of the user's would be hidden by it, or make directories in it.
        .filter(|m| {
            let inside = |t: &String| Path::new(target(m)).starts_with(t);
            !asked.iter().any(|(t, _)| t == "/dev" && inside(t))
        })
        .collect();
    all.extend(asked.into_iter().map(|(_, mount)| mount));
    Ok(all)
}

fn target(mount: &MountPlan) -> &str {
    match mount {
        MountPlan::Bind { target, .. }
        | MountPlan::Filesystem { target, .. }
        | MountPlan::Image { target, .. }
        | MountPlan::CgroupV1 { target, .. } => target,
    }
}

fn system(facts: &Facts<'_>) -> Vec<MountPlan> {
    let privileged = facts.config.security.privileged;
    let filesystem = |kind: &str, target: &str, options: &[(&str, &str)], flags: &[MountFlag]| {
        MountPlan::Filesystem {
            kind: kind.into(),
            target: target.into(),
            options: options
                .iter()
                .map(|(k, v)| {
                    let value = (!v.is_empty()).then(|| (*v).to_owned());
                    ((*k).to_owned(), value)
                })
                .collect(),
            flags: flags.to_vec(),
        }
    };
    let mut readonly = RESTRICTED.to_vec();
    if !privileged {
        readonly.push(MountFlag::ReadOnly);
    }
    vec![
        filesystem("proc", "/proc", &[], &RESTRICTED),
        filesystem(
            "tmpfs",
            "/dev",
            &[("mode", "755"), ("size", "65536k")],
            &[MountFlag::NoSuid, MountFlag::StrictAtime],
        ),
        filesystem(
            "devpts",
            "/dev/pts",
            &[
                ("newinstance", ""),
                ("ptmxmode", "0666"),
                ("mode", "0620"),
                ("gid", "5"),
            ],
            &[MountFlag::NoSuid, MountFlag::NoExec],
        ),
        filesystem("mqueue", "/dev/mqueue", &[], &RESTRICTED),
        filesystem("sysfs", "/sys", &[], &readonly),
        cgroup(facts, &readonly),
    ]
}

fn cgroup(facts: &Facts<'_>, flags: &[MountFlag]) -> MountPlan {
    let target = "/sys/fs/cgroup".to_owned();
    if facts.cgroups.is_unified() {
        return MountPlan::Filesystem {
            kind: "cgroup2".into(),
            target,
            options: Vec::new(),
            flags: flags.to_vec(),
        };
    }
    let hierarchies = facts.cgroups.directories("").into_iter().map(|(h, _)| {
        let options = h.controllers.join(",");
        match h.version {
            Version::V2 => ("unified".to_owned(), None),
            Version::V1 => {
                let name = options.strip_prefix("name=").unwrap_or(&options);
                (name.to_owned(), Some(options.clone()))
            }
        }
    });
    MountPlan::CgroupV1 {
        target,
        hierarchies: hierarchies.collect(),
        readonly: flags.contains(&MountFlag::ReadOnly),
    }
}

/// Files of the sandbox.
fn files(facts: &Facts<'_>) -> Vec<MountPlan> {
    let readonly = facts.config.security.readonly_rootfs;
    let bind = |source: &Path, target: &str, readonly: bool| MountPlan::Bind {
        source: source.to_owned(),
        target: target.into(),
        readonly,
        recursive_readonly: false,
        propagation: MountPropagation::Private,
    };
    vec![
        bind(facts.files.shm, "/dev/shm", false),
        bind(facts.files.resolv_conf, "/etc/resolv.conf", readonly),
        bind(facts.files.hostname, "/etc/hostname", readonly),
    ]
}

/// What the kubelet asked for: cleaned target and mount, upper directories first.
fn asked(facts: &Facts<'_>) -> Result<Vec<(String, MountPlan)>, String> {
    let mut images = facts.image_mounts.iter();
    let mut all = Vec::new();
    let mut mountinfo = None;
    for (at, mount) in facts.config.mounts.iter().enumerate() {
        let target = clean(&mount.container_path);
        if target == "/" {
            return Err(format!("mount path {:?} is the root", mount.container_path));
        }
        let planned = match &mount.image {
            Some(_) => image(facts, at, mount, &target, images.next())?,
            None => bind(mount, &target, &mut mountinfo)?,
        };
        all.push((target, planned));
    }
    if facts.config.security.readonly_rootfs {
        all.extend(image_volumes(facts, &all)?);
    }
    // Stable: of two mounts at one place the later one is on top.
    all.sort_by_key(|(target, _)| target.matches('/').count());
    Ok(all)
}

fn bind(mount: &Mount, target: &str, mountinfo: &mut Option<String>) -> Result<MountPlan, String> {
    let source = PathBuf::from(&mount.host_path);
    if !source.exists() {
        std::fs::create_dir_all(&source)
            .map_err(|e| format!("failed to mkdir {:?}: {e}", mount.host_path))?;
    }
    if mount.propagation != MountPropagation::Private {
        let text = match mountinfo {
            Some(text) => text,
            None => {
                let text = std::fs::read_to_string("/proc/self/mountinfo");
                mountinfo.insert(text.map_err(|e| format!("read mountinfo: {e}"))?)
            }
        };
        let real = source.canonicalize().unwrap_or(source.clone());
        check_propagation(&real, mount.propagation, text)?;
    }
    Ok(MountPlan::Bind {
        source,
        target: target.to_owned(),
        readonly: mount.readonly,
        recursive_readonly: mount.recursive_read_only,
        propagation: mount.propagation,
    })
}

/// Whether a path's mount lets mounts through in the asked direction.
fn check_propagation(
    source: &Path,
    propagation: MountPropagation,
    mountinfo: &str,
) -> Result<(), String> {
    let parse = |line: &str| {
        let (left, _) = line.split_once(" - ")?;
        let fields: Vec<&str> = left.split(' ').collect();
        let point = fields.get(4)?.replace("\\040", " ");
        let tags = fields.get(6..).unwrap_or_default().join(" ");
        Some((point, tags))
    };
    let mounts = mountinfo.lines().filter_map(parse);
    let covering = mounts.filter(|(point, _)| source.starts_with(point));
    let Some((point, tags)) = covering.max_by_key(|(point, _)| point.len()) else {
        return Err(format!("no mount holds {}", source.display()));
    };
    let shared = tags.contains("shared:");
    let wrong = match propagation {
        MountPropagation::Bidirectional if !shared => "a shared mount",
        MountPropagation::HostToContainer if !shared && !tags.contains("master:") => {
            "a shared or slave mount"
        }
        _ => return Ok(()),
    };
    Err(format!(
        "path {:?} is mounted on {point:?} but it is not {wrong}",
        source.display()
    ))
}

fn image(
    facts: &Facts<'_>,
    at: usize,
    mount: &Mount,
    target: &str,
    image: Option<&ResolvedImage>,
) -> Result<MountPlan, String> {
    let image = image.ok_or_else(|| format!("image of mount {target} is not resolved"))?;
    let sub_path = clean(&mount.image_sub_path);
    Ok(MountPlan::Image {
        layers: image.layers.clone(),
        scratch: facts.dir.join(format!("image-{at}")),
        sub_path: sub_path.trim_start_matches('/').to_owned(),
        target: target.to_owned(),
    })
}

/// Volumes that the image declares stay writable over a read-only root.
fn image_volumes(
    facts: &Facts<'_>,
    asked: &[(String, MountPlan)],
) -> Result<Vec<(String, MountPlan)>, String> {
    let config = facts.image.config.config().as_ref();
    let declared = config.and_then(|c| c.volumes().clone()).unwrap_or_default();
    let mut all = Vec::new();
    for (at, volume) in declared.iter().enumerate() {
        let target = clean(volume);
        if target == "/" || asked.iter().any(|(t, _)| *t == target) {
            continue;
        }
        let source = facts.dir.join("volumes").join(at.to_string());
        std::fs::create_dir_all(&source).map_err(|e| format!("mkdir {}: {e}", source.display()))?;
        let plan = MountPlan::Bind {
            source,
            target: target.clone(),
            readonly: false,
            recursive_readonly: false,
            propagation: MountPropagation::Private,
        };
        all.push((target, plan));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn propagation_needs_a_shared_mount() {
        let info = "1 0 8:1 / / rw - ext4 a rw\n2 1 8:1 /x /data rw shared:5 - ext4 a rw\n";
        let case = |path: &str, p| check_propagation(Path::new(path), p, info);
        assert_eq!(case("/data/a", MountPropagation::Bidirectional), Ok(()));
        assert_eq!(
            case("/var/lib", MountPropagation::Bidirectional).unwrap_err(),
            r#"path "/var/lib" is mounted on "/" but it is not a shared mount"#
        );
        assert!(case("/database", MountPropagation::HostToContainer).is_err());
        assert_eq!(case("/database", MountPropagation::Private), Ok(()));
    }
}
