//! Files that change as a whole: a directory per content and a `..data` link that is switched.
//! Upstream: pkg/volume/util/atomic_writer.go; clients and programs see this layout.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Component, Path};

use jiff::Timestamp;

const DATA: &str = "..data";
const DATA_TMP: &str = "..data_tmp";

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    pub data: Vec<u8>,
    pub mode: u32,
    /// Owner, where it is not root.
    pub uid: Option<u32>,
}

/// Files by relative path.
pub type Payload = BTreeMap<String, File>;

/// Refuses paths that would leave the volume or hide its links.
pub fn validate(path: &str) -> Result<(), String> {
    if path.is_empty() {
        return Err("invalid path: must not be empty: \"\"".into());
    }
    if path.starts_with('/') {
        return Err(format!("invalid path: must be relative path: {path}"));
    }
    if path.len() > 4096 {
        return Err("invalid path: must be less than or equal to 4096 characters".into());
    }
    let parts: Vec<&str> = path.split('/').collect();
    if parts.contains(&"..") {
        return Err(format!("invalid path: must not contain '..': {path}"));
    }
    if parts[0].starts_with("..") {
        return Err(format!("invalid path: must not start with '..': {path}"));
    }
    if parts.iter().any(|p| p.len() > 255) {
        return Err("invalid path: filenames must be less than or equal to 255 characters".into());
    }
    Ok(())
}

/// Makes the directory hold exactly the payload; whether anything changed. `group` is the pod's fsGroup.
pub fn write(dir: &Path, payload: &Payload, group: Option<u32>) -> io::Result<bool> {
    for path in payload.keys() {
        validate(path).map_err(io::Error::other)?;
    }
    let old = fs::read_link(dir.join(DATA)).ok();
    if let Some(old) = &old
        && same(&dir.join(old), payload)?
    {
        return Ok(false);
    }
    let stamp = Timestamp::now().strftime("%Y_%m_%d_%H_%M_%S");
    let version = format!("..{stamp}.{}", rand::random::<u32>());
    let target = dir.join(&version);
    fs::create_dir(&target)?;
    set(&target, 0o755, None, group, true)?;
    for (path, file) in payload {
        write_file(&target, path, file, group)?;
    }
    let tmp = dir.join(DATA_TMP);
    remove_if_there(&tmp)?;
    symlink(&version, &tmp)?;
    fs::rename(&tmp, dir.join(DATA))?;
    link_names(dir, payload)?;
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let text = name.to_string_lossy();
        let stale = text.starts_with("..") && text != DATA && *text != version;
        if stale {
            fs::remove_dir_all(dir.join(&name))?;
        }
    }
    Ok(true)
}

fn write_file(target: &Path, path: &str, file: &File, group: Option<u32>) -> io::Result<()> {
    let full = target.join(path);
    let mut at = target.to_path_buf();
    let parent = Path::new(path).parent().unwrap_or(Path::new(""));
    for part in parent.components() {
        if let Component::Normal(name) = part {
            at.push(name);
            if !at.exists() {
                fs::create_dir(&at)?;
                set(&at, 0o755, None, group, true)?;
            }
        }
    }
    fs::write(&full, &file.data)?;
    set(&full, file.mode, file.uid, group, false)
}

/// Mode and owner. With a group, it may read what the owner may; directories pass it on.
fn set(path: &Path, mode: u32, uid: Option<u32>, group: Option<u32>, dir: bool) -> io::Result<()> {
    if uid.is_some() || group.is_some() {
        chown(path, uid, group)?;
    }
    let mode = match (group, dir) {
        (None, _) => mode,
        (Some(_), true) => mode | 0o2550,
        (Some(_), false) => mode | 0o440,
    };
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

fn same(dir: &Path, payload: &Payload) -> io::Result<bool> {
    let mut present = BTreeSet::new();
    if dir.is_dir() {
        collect(dir, dir, &mut present)?;
    }
    if !present.iter().eq(payload.keys()) {
        return Ok(false);
    }
    for (path, file) in payload {
        if fs::read(dir.join(path))? != file.data {
            return Ok(false);
        }
    }
    Ok(dir.is_dir())
}

fn collect(root: &Path, dir: &Path, out: &mut BTreeSet<String>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(root, &path, out)?;
        } else if let Ok(relative) = path.strip_prefix(root) {
            out.insert(relative.to_string_lossy().into_owned());
        }
    }
    Ok(())
}

/// A link for every first path element, and none for others.
fn link_names(dir: &Path, payload: &Payload) -> io::Result<()> {
    let names: BTreeSet<&str> = payload
        .keys()
        .map(|p| p.split('/').next().unwrap_or(p))
        .collect();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let text = name.to_string_lossy();
        if !text.starts_with("..") && !names.contains(&*text) {
            fs::remove_file(dir.join(&name))?;
        }
    }
    for name in names {
        let link = dir.join(name);
        if fs::read_link(&link).is_err() {
            symlink(Path::new(DATA).join(name), &link)?;
        }
    }
    Ok(())
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(files: &[(&str, &str)]) -> Payload {
        let file = |data: &str| File {
            data: data.into(),
            mode: 0o644,
            uid: None,
        };
        files
            .iter()
            .map(|(p, d)| ((*p).to_string(), file(d)))
            .collect()
    }

    #[test]
    fn contents_switch_as_a_whole() {
        let dir = tempfile::tempdir().unwrap();
        let at = |p: &str| dir.path().join(p);
        assert!(write(dir.path(), &payload(&[("a", "1"), ("d/b", "2")]), None).unwrap());
        assert_eq!(fs::read_to_string(at("a")).unwrap(), "1");
        assert_eq!(fs::read_to_string(at("d/b")).unwrap(), "2");
        assert_eq!(fs::read_link(at("a")).unwrap(), Path::new("..data/a"));
        let first = fs::read_link(at(DATA)).unwrap();
        assert!(!write(dir.path(), &payload(&[("a", "1"), ("d/b", "2")]), None).unwrap());
        assert_eq!(fs::read_link(at(DATA)).unwrap(), first);
        assert!(write(dir.path(), &payload(&[("a", "3")]), None).unwrap());
        assert_eq!(fs::read_to_string(at("a")).unwrap(), "3");
        assert!(!at("d").exists() && !dir.path().join(first).exists());
        assert!(write(dir.path(), &payload(&[]), None).unwrap());
        assert!(!at("a").exists() && at(DATA).exists());
    }

    #[test]
    fn bad_paths_are_refused() {
        for bad in ["", "/a", "a/../b", "..a", "..data"] {
            assert!(validate(bad).is_err(), "{bad}");
        }
        assert!(validate("a..b/..c").is_ok());
    }
}
