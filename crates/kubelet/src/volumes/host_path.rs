//! hostPath: a path of the node, checked or made as its type says. Upstream: pkg/volume/hostpath.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::{Context, Kind, Mounted};

pub static KIND: Kind = Kind {
    plugin: "",
    is: |v| v.host_path.is_some(),
    setup: |cx| Box::pin(async move { setup(cx) }),
};

fn setup(cx: &Context<'_>) -> Result<Mounted, String> {
    let Some(source) = cx.volume.host_path.as_ref() else {
        return Err("the volume has no hostPath".into());
    };
    mount(&source.path, source.type_.as_deref().unwrap_or_default())
}

/// Checks a path of the node, or makes it.
pub fn mount(path: &str, kind: &str) -> Result<Mounted, String> {
    if path.split('/').any(|p| p == "..") {
        return Err(format!("invalid HostPath `{path}`: must not contain '..'"));
    }
    check(Path::new(path), kind)?;
    Ok(Mounted {
        path: PathBuf::from(path),
        ..Mounted::default()
    })
}

fn check(path: &Path, kind: &str) -> Result<(), String> {
    let shown = path.display();
    let wrong = |what: &str| format!("hostPath type check failed: {shown} is not {what}");
    let meta = fs::metadata(path).ok();
    let is = |test: &dyn Fn(&fs::Metadata) -> bool| meta.as_ref().is_some_and(test);
    let fine = |ok: bool, what: &str| if ok { Ok(()) } else { Err(wrong(what)) };
    match kind {
        "" => Ok(()),
        "DirectoryOrCreate" if meta.is_none() => make(path, 0o755, true),
        "FileOrCreate" if meta.is_none() => make(path, 0o644, false),
        "Directory" | "DirectoryOrCreate" => fine(is(&|m| m.is_dir()), "a directory"),
        "File" | "FileOrCreate" => fine(is(&|m| m.is_file()), "a file"),
        "Socket" => fine(is(&|m| m.file_type().is_socket()), "a socket file"),
        "CharDevice" => fine(
            is(&|m| m.file_type().is_char_device()),
            "a character device",
        ),
        "BlockDevice" => fine(is(&|m| m.file_type().is_block_device()), "a block device"),
        other => Err(format!("{other} is an invalid volume type")),
    }
}

fn make(path: &Path, mode: u32, dir: bool) -> Result<(), String> {
    let make = || {
        if dir {
            fs::create_dir_all(path)?;
        } else {
            fs::File::create_new(path)?;
        }
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
    };
    make().map_err(|e: std::io::Error| format!("make {}: {e}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_checked_or_made() {
        let dir = tempfile::tempdir().unwrap();
        let at = |p: &str| dir.path().join(p).display().to_string();
        assert!(mount(&at("none"), "").is_ok());
        assert!(mount(&at("d/e"), "DirectoryOrCreate").is_ok());
        assert!(mount(&at("f"), "FileOrCreate").is_ok());
        let cases = [
            ("f", "Directory", "a directory"),
            ("d", "File", "a file"),
            ("f", "Socket", "a socket file"),
        ];
        for (path, kind, what) in cases {
            let want = format!("hostPath type check failed: {} is not {what}", at(path));
            assert_eq!(mount(&at(path), kind).unwrap_err(), want);
        }
        assert!(mount(&at("none/f"), "FileOrCreate").is_err());
        assert!(mount("/a/../b", "").is_err());
    }
}
