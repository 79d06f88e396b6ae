//! Which hierarchies a machine has and where the calling process is in them: proc(5) mountinfo, cgroups(7).

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// Which interface a hierarchy has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V1,
    V2,
}

/// One mounted hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    pub version: Version,
    pub mount: PathBuf,
    /// Version 1: controllers, or `name=systemd`. Version 2: empty.
    pub controllers: Vec<String>,
    /// The own group, relative to the mount, without slashes at its ends.
    pub own: String,
}

/// All hierarchies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    pub hierarchies: Vec<Hierarchy>,
}

// === Hierarchy ===

impl Hierarchy {
    /// Whether this is the version 1 hierarchy of a controller.
    pub fn controls(&self, controller: &str) -> bool {
        self.controllers.iter().any(|c| c == controller)
    }
}

// === Layout ===

impl Layout {
    /// The calling process's view.
    pub fn read() -> io::Result<Self> {
        let mountinfo = std::fs::read_to_string("/proc/self/mountinfo")?;
        let own = std::fs::read_to_string("/proc/self/cgroup")?;
        Ok(Self::parse(&mountinfo, &own))
    }

    /// From the texts of `/proc/self/mountinfo` and `/proc/self/cgroup`.
    pub fn parse(mountinfo: &str, own: &str) -> Self {
        // Keyed by controllers, "" for version 2.
        let mut own_by_key = BTreeMap::new();
        for line in own.lines() {
            let mut parts = line.splitn(3, ':');
            if let (Some(_), Some(key), Some(path)) = (parts.next(), parts.next(), parts.next()) {
                own_by_key.insert(key, path);
            }
        }
        let mut hierarchies: Vec<Hierarchy> = Vec::new();
        for line in mountinfo.lines() {
            let Some((key, version, root, mount)) = parse_mount(line, &own_by_key) else {
                continue;
            };
            let own = own_by_key.get(key).copied().unwrap_or("/");
            let below = Path::new(own).strip_prefix(root).unwrap_or(Path::new(""));
            let hierarchy = Hierarchy {
                version,
                mount: PathBuf::from(mount),
                controllers: match version {
                    Version::V1 => key.split(',').map(str::to_owned).collect(),
                    Version::V2 => Vec::new(),
                },
                own: below.to_string_lossy().trim_matches('/').to_owned(),
            };
            // The first mount of a hierarchy counts.
            if !hierarchies
                .iter()
                .any(|h| h.version == hierarchy.version && h.controllers == hierarchy.controllers)
            {
                hierarchies.push(hierarchy);
            }
        }
        Self { hierarchies }
    }
}

/// Key of `own`, version, root within the hierarchy, mount point; `None` for other file systems.
fn parse_mount<'a>(
    line: &'a str,
    own: &BTreeMap<&'a str, &'a str>,
) -> Option<(&'a str, Version, &'a str, &'a str)> {
    let (left, right) = line.split_once(" - ")?;
    let mut left = left.split(' ').skip(3);
    let (root, mount) = (left.next()?, left.next()?);
    let mut right = right.split(' ');
    let (kind, _, options) = (right.next()?, right.next()?, right.next()?);
    match kind {
        "cgroup2" => Some(("", Version::V2, root, mount)),
        "cgroup" => {
            let options: Vec<&str> = options.split(',').collect();
            let key = own.keys().copied().find(|key| {
                !key.is_empty()
                    && key
                        .split(',')
                        .all(|controller| options.contains(&controller))
            })?;
            Some((key, Version::V1, root, mount))
        }
        _ => None,
    }
}

/// Controllers that are available and not enabled yet.
pub fn missing_controllers<'a>(available: &'a str, enabled: &str) -> Vec<&'a str> {
    let enabled: Vec<&str> = enabled.split_whitespace().collect();
    let all = available.split_whitespace();
    all.filter(|c| !enabled.contains(c)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hybrid_machine_has_v1_controllers_and_a_v2_hierarchy() {
        let mountinfo = "\
24 23 0:20 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
25 24 0:21 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
26 24 0:22 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
27 24 0:23 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
28 24 0:24 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";
        let own = "4:memory:/a/b\n2:cpu,cpuacct:/\n1:name=systemd:/x\n0::/y\n";
        let layout = Layout::parse(mountinfo, own);
        let seen: Vec<_> = layout
            .hierarchies
            .iter()
            .map(|h| (h.controllers.join(","), h.own.as_str(), h.version))
            .collect();
        assert_eq!(
            seen,
            [
                ("cpu,cpuacct".into(), "", Version::V1),
                ("memory".into(), "a/b", Version::V1),
                ("name=systemd".into(), "x", Version::V1),
                (String::new(), "y", Version::V2),
            ]
        );
    }

    #[test]
    fn own_group_is_relative_to_a_mount_below_the_top() {
        let mountinfo = "30 24 0:24 /docker/1 /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        let layout = Layout::parse(mountinfo, "0::/docker/1/k0s\n");
        assert_eq!(layout.hierarchies[0].own, "k0s");
    }

    #[test]
    fn only_missing_controllers_are_delegated() {
        assert_eq!(
            missing_controllers("cpuset cpu memory pids\n", "cpu pids\n"),
            ["cpuset", "memory"]
        );
    }
}
