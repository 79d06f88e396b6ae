//! Kernel modules, loaded without modprobe: `/lib/modules/<release>/modules.dep` and `modules.alias` as
//! depmod(8) writes them, finit_module(2).

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// The kernel unpacks the file itself (5.17 and later).
const COMPRESSED: i32 = 4;
/// Deepest tree of devices that is looked through.
const DEPTH_MAX: usize = 24;

/// The modules of the running kernel.
#[derive(Debug, Default)]
pub struct Modules {
    dir: PathBuf,
    /// By name: the module's file and those it needs, in the order of the table.
    files: HashMap<String, Vec<String>>,
    aliases: Vec<(String, String)>,
}

/// The name of a module from its file's: `kernel/net/bridge/br_netfilter.ko.xz` is `br_netfilter`.
fn name_of(file: &str) -> String {
    let base = file.rsplit('/').next().unwrap_or(file);
    base.split(".ko").next().unwrap_or(base).replace('-', "_")
}

impl Modules {
    /// Reads the tables of the running kernel; `None` where it has none.
    pub fn of_this_kernel() -> io::Result<Option<Self>> {
        let dir = Path::new("/lib/modules").join(crate::host::kernel().1);
        let text = |name: &str| match fs::read_to_string(dir.join(name)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            read => read.map(Some),
        };
        let Some(dependencies) = text("modules.dep")? else {
            return Ok(None);
        };
        let aliases = text("modules.alias")?.unwrap_or_default();
        Ok(Some(Self::parse(&dir, &dependencies, &aliases)))
    }

    fn parse(dir: &Path, dependencies: &str, aliases: &str) -> Self {
        let line = |line: &str| {
            let (file, needs) = line.split_once(':')?;
            let all = std::iter::once(file).chain(needs.split_whitespace());
            Some((name_of(file), all.map(String::from).collect()))
        };
        let alias = |line: &str| {
            let (pattern, name) = line.strip_prefix("alias ")?.rsplit_once(' ')?;
            Some((pattern.to_string(), name.to_string()))
        };
        Self {
            dir: dir.to_path_buf(),
            files: dependencies.lines().filter_map(line).collect(),
            aliases: aliases.lines().filter_map(alias).collect(),
        }
    }

    /// Loads a module and what it needs. `false`: there is no such file, so it is built in or missing.
    pub fn load(&self, name: &str) -> io::Result<bool> {
        let Some(files) = self.files.get(&name.replace('-', "_")) else {
            return Ok(false);
        };
        // What others build on stands last.
        for file in files.iter().rev() {
            insert(&self.dir.join(file))
                .map_err(|e| io::Error::new(e.kind(), format!("load {file}: {e}")))?;
        }
        Ok(true)
    }

    /// Names of the modules that drive the devices present, as the bus tells them.
    pub fn of_devices(&self) -> BTreeSet<String> {
        let mut devices = BTreeSet::new();
        collect(Path::new("/sys/devices"), DEPTH_MAX, &mut devices);
        self.matching(&devices)
    }

    fn matching(&self, devices: &BTreeSet<String>) -> BTreeSet<String> {
        let wanted = |pattern: &str| {
            devices
                .iter()
                .any(|d| glob(pattern.as_bytes(), d.as_bytes()))
        };
        let found = self.aliases.iter().filter(|(pattern, _)| wanted(pattern));
        found.map(|(_, name)| name.clone()).collect()
    }
}

fn insert(path: &Path) -> io::Result<()> {
    let plain = path.extension().is_some_and(|e| e == "ko");
    let file = File::open(path)?;
    match rustix::system::finit_module(&file, c"", if plain { 0 } else { COMPRESSED }) {
        // There already, or it found that the device is another's.
        Ok(()) | Err(Errno::EXIST | Errno::NODEV) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// All that is written in files `modalias` below a directory. What vanishes meanwhile is no device.
fn collect(dir: &Path, depth: usize, found: &mut BTreeSet<String>) {
    if let Ok(text) = fs::read_to_string(dir.join("modalias")) {
        found.insert(text.trim().to_string());
    }
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    for entry in entries.flatten().filter(|_| depth > 0) {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            collect(&entry.path(), depth - 1, found);
        }
    }
}

/// Whether a name matches a shell pattern of `*`, `?` and `[…]`.
fn glob(pattern: &[u8], name: &[u8]) -> bool {
    let Some((first, rest)) = pattern.split_first() else {
        return name.is_empty();
    };
    match (first, name.split_first()) {
        (b'*', _) => (0..=name.len()).any(|at| glob(rest, &name[at..])),
        (_, None) => false,
        (b'?', Some((_, tail))) => glob(rest, tail),
        (b'[', Some((letter, tail))) => {
            let Some(end) = rest.iter().position(|b| *b == b']') else {
                return false;
            };
            in_set(&rest[..end], *letter) && glob(&rest[end + 1..], tail)
        }
        (same, Some((letter, tail))) => same == letter && glob(rest, tail),
    }
}

fn in_set(set: &[u8], letter: u8) -> bool {
    let range = |w: &[u8]| w[1] == b'-' && (w[0]..=w[2]).contains(&letter);
    set.contains(&letter) || set.windows(3).any(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_tell_files_and_the_drivers_of_devices() {
        let modules = Modules::parse(
            Path::new("/m"),
            "kernel/net/virtio-net.ko.xz: kernel/core/failover.ko.xz kernel/core/virtio.ko.xz\nkernel/core/failover.ko.xz:\n",
            "# made by depmod\nalias virtio:d00000001v* virtio_net\nalias pci:v00001AF4d*sv*sd*bc*sc*i* virtio_pci\nalias usb:v1234* other\n",
        );
        assert_eq!(modules.files["virtio_net"].len(), 3);
        let devices = [
            "virtio:d00000001v00001AF4",
            "pci:v00001AF4d00001000sv1sd1bc02sc00i00",
        ];
        let devices = devices.map(String::from).into();
        let names: Vec<String> = modules.matching(&devices).into_iter().collect();
        assert_eq!(names, ["virtio_net", "virtio_pci"]);
        assert!(!modules.load("none-such").unwrap());
    }

    #[test]
    fn patterns_match_as_a_shells() {
        for (pattern, name, want) in [
            ("a*c", "abbc", true),
            ("a*c", "abbd", false),
            ("*", "", true),
            ("a?c", "abc", true),
            ("a[0-9]c", "a5c", true),
            ("a[0-9]c", "axc", false),
            ("a[xyz]", "ay", true),
            ("a[", "a[", false),
        ] {
            assert_eq!(
                glob(pattern.as_bytes(), name.as_bytes()),
                want,
                "{pattern} {name}"
            );
        }
    }
}
