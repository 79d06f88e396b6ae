//! Layers made here are unpacked, and looked at in the kernel's eyes.

use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tar::{EntryType, Header};

use super::{Layer, Unpacked, unpack};
use crate::digest::Digest;
use crate::error::Error;

/// A tar under construction.
pub(crate) struct Tar(pub tar::Builder<Vec<u8>>);

impl Tar {
    pub fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    pub fn entry(mut self, kind: EntryType, path: &str, link: &str, data: &[u8]) -> Self {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(data.len() as u64);
        header.set_mode(if kind == EntryType::Directory {
            0o755
        } else {
            0o644
        });
        header.set_mtime(1_000_000);
        // Written raw: hostile names are refused by the builder.
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        self.0.append(&header, data).unwrap();
        self
    }

    pub fn dir(self, path: &str) -> Self {
        self.entry(EntryType::Directory, path, "", b"")
    }

    pub fn file(self, path: &str, data: &[u8]) -> Self {
        self.entry(EntryType::Regular, path, "", data)
    }

    pub fn symlink(self, path: &str, to: &str) -> Self {
        self.entry(EntryType::Symlink, path, to, b"")
    }

    pub fn end(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

pub(crate) fn root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("SKIPPED: unpacking layers needs root");
    }
    root
}

fn try_apply(data: &[u8], lowers: &[PathBuf], to: &Path) -> Result<Unpacked, Error> {
    std::fs::create_dir_all(to).unwrap();
    let digest = Digest::of(data);
    let layer = Layer {
        blob: &digest,
        diff_id: &digest,
        lowers,
    };
    unpack(data, &layer, to)
}

fn read(path: PathBuf) -> String {
    std::fs::read_to_string(path).unwrap()
}

fn is_whiteout(path: PathBuf) -> bool {
    let meta = std::fs::symlink_metadata(path).unwrap();
    meta.file_type().is_char_device() && meta.rdev() == 0
}

fn is_opaque(path: PathBuf) -> bool {
    let mut value = [0u8; 1];
    matches!(
        rustix::fs::lgetxattr(path, super::OPAQUE, &mut value),
        Ok(1)
    ) && &value == b"y"
}

#[test]
fn entries_come_out_as_they_went_in() {
    if !root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut tar = Tar::new().dir("d").file("d/f", b"text").symlink("l", "d/f");
    let mut header = Header::new_gnu();
    header.set_size(4);
    header.set_mode(0o4755);
    header.set_uid(1000);
    header.set_gid(2000);
    header.set_mtime(42);
    tar.0
        .append_pax_extensions([
            ("SCHILY.xattr.user.a", b"b".as_slice()),
            ("mtime", b"42.5"),
            ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
        ])
        .unwrap();
    tar.0
        .append_data(
            &mut header,
            format!("d/{}", "n".repeat(150)),
            b"long".as_slice(),
        )
        .unwrap();
    let mut fifo = Header::new_gnu();
    fifo.set_entry_type(EntryType::Fifo);
    fifo.set_size(0);
    fifo.set_mode(0o622);
    tar.0
        .append_data(&mut fifo, "d/p", std::io::empty())
        .unwrap();
    let data = tar.entry(EntryType::Link, "h", "d/f", b"").end();
    let to = dir.path().join("out");
    let unpacked = try_apply(&data, &[], &to).unwrap();
    assert_eq!(unpacked.entries, 6);
    assert_eq!(read(to.join("d/f")), "text");
    assert_eq!(read(to.join("l")), "text");
    let (f, h) = (
        to.join("d/f").metadata().unwrap(),
        to.join("h").metadata().unwrap(),
    );
    assert_eq!(f.ino(), h.ino());
    let long = to.join(format!("d/{}", "n".repeat(150)));
    let meta = long.metadata().unwrap();
    assert_eq!(
        (meta.uid(), meta.gid(), meta.mode() & 0o7777),
        (1000, 2000, 0o4755)
    );
    assert_eq!((meta.mtime(), meta.mtime_nsec()), (42, 500_000_000));
    let mut value = [0u8; 8];
    assert_eq!(
        rustix::fs::lgetxattr(&long, "user.a", &mut value).ok(),
        Some(1)
    );
    assert!(rustix::fs::lgetxattr(&long, "trusted.overlay.redirect", &mut value).is_err());
    assert!(to.join("d/p").metadata().unwrap().file_type().is_fifo());
    assert_eq!(
        to.join("d/p").metadata().unwrap().permissions().mode() & 0o777,
        0o622
    );
    assert_eq!(to.join("d").metadata().unwrap().mtime(), 1_000_000);
}

#[test]
fn whiteouts_become_overlayfs_ones() {
    if !root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let data = Tar::new()
        .dir("d")
        .file("d/.wh.gone", b"")
        .dir("o")
        .file("o/.wh..wh..opq", b"")
        .file("o/new", b"x")
        .file(".wh..wh.plnk", b"")
        .file(".wh.again", b"")
        .dir("again")
        .file("again/f", b"")
        .end();
    let to = dir.path().join("out");
    try_apply(&data, &[], &to).unwrap();
    assert!(is_whiteout(to.join("d/gone")));
    assert!(is_opaque(to.join("o")));
    assert_eq!(read(to.join("o/new")), "x");
    // Removed and made anew in one layer: what is below stays hidden.
    assert!(is_opaque(to.join("again")));
    assert_eq!(std::fs::read_dir(&to).unwrap().count(), 3);
}

#[test]
fn paths_go_through_what_lower_layers_have() {
    if !root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (low, high) = (dir.path().join("low"), dir.path().join("high"));
    let mut tar = Tar::new()
        .dir("usr")
        .dir("usr/bin")
        .file("usr/bin/x", b"lower")
        .symlink("bin", "usr/bin");
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Directory);
    header.set_size(0);
    header.set_mode(0o1770);
    header.set_uid(7);
    tar.0
        .append_data(&mut header, "var", std::io::empty())
        .unwrap();
    try_apply(&tar.end(), &[], &low).unwrap();
    let data = Tar::new()
        .file("bin/y", b"upper")
        .file("var/f", b"")
        .entry(EntryType::Link, "z", "usr/bin/x", b"")
        .end();
    try_apply(&data, &[low], &high).unwrap();
    assert_eq!(read(high.join("usr/bin/y")), "upper");
    assert!(!high.join("bin").exists());
    let var = high.join("var").metadata().unwrap();
    assert_eq!((var.uid(), var.mode() & 0o7777), (7, 0o1770));
    // A hard link to a lower file copies it up.
    assert_eq!(read(high.join("z")), "lower");
    assert_eq!(high.join("usr/bin/x").metadata().unwrap().nlink(), 2);
}

#[test]
fn nothing_leaves_the_root() {
    if !root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let outside = dir.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("secret"), "secret").unwrap();
    let out = outside.to_str().unwrap();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("dots", Tar::new().file("../outside/f", b"x").end()),
        ("absolute", Tar::new().file(&format!("{out}/f"), b"x").end()),
        (
            "absolute link",
            Tar::new().symlink("l", out).file("l/f", b"x").end(),
        ),
        (
            "relative link",
            Tar::new()
                .symlink("l", "../outside")
                .file("l/f", b"x")
                .end(),
        ),
        (
            "replaced",
            Tar::new()
                .dir("l")
                .symlink("l", out)
                .file("l/f", b"x")
                .end(),
        ),
        (
            "hard link",
            Tar::new()
                .entry(EntryType::Link, "f", &format!("{out}/secret"), b"")
                .end(),
        ),
        (
            "hard link up",
            Tar::new()
                .entry(EntryType::Link, "f", "../outside/secret", b"")
                .end(),
        ),
        (
            "write through",
            Tar::new()
                .symlink("f", &format!("{out}/secret"))
                .file("f", b"x")
                .end(),
        ),
        (
            "whiteout",
            Tar::new().symlink("l", out).file("l/.wh.secret", b"").end(),
        ),
        (
            "opaque",
            Tar::new()
                .symlink("l", out)
                .file("l/.wh..wh..opq", b"")
                .end(),
        ),
        ("whiteout dots", Tar::new().file(".wh...", b"").end()),
        (
            "loop",
            Tar::new()
                .symlink("a", "b")
                .symlink("b", "a")
                .file("a/f", b"")
                .end(),
        ),
        ("root file", Tar::new().file("/", b"x").end()),
        (
            "unknown type",
            Tar::new().entry(EntryType::new(b'Z'), "f", "", b"").end(),
        ),
    ];
    for (what, data) in cases {
        let to = dir.path().join(what.replace(' ', "-"));
        let result = try_apply(&data, &[], &to);
        let names: Vec<_> = std::fs::read_dir(&outside).unwrap().collect();
        assert_eq!(names.len(), 1, "{what} wrote outside");
        assert_eq!(read(outside.join("secret")), "secret", "{what}");
        assert!(!is_opaque(outside.clone()), "{what}");
        let refused = [
            "hard link",
            "hard link up",
            "whiteout dots",
            "loop",
            "root file",
            "unknown type",
        ];
        assert_eq!(
            result.is_err(),
            refused.contains(&what),
            "{what}: {result:?}"
        );
    }
}

#[test]
fn damaged_layers_are_refused() {
    if !root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let good = Tar::new().file("f", &[7; 2000]).end();
    let (digest, other) = (Digest::of(&good), Digest::of(b"other"));
    let to = |n: &str| {
        let to = dir.path().join(n);
        std::fs::create_dir(&to).unwrap();
        to
    };
    let wrong_blob = Layer {
        blob: &other,
        diff_id: &digest,
        lowers: &[],
    };
    let error = unpack(good.as_slice(), &wrong_blob, &to("a"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("unexpected commit digest"), "{error}");
    let wrong_diff = Layer {
        blob: &digest,
        diff_id: &other,
        lowers: &[],
    };
    let error = unpack(good.as_slice(), &wrong_diff, &to("b"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("wrong diff id"), "{error}");
    let right = Layer {
        blob: &digest,
        diff_id: &digest,
        lowers: &[],
    };
    let error = unpack(&good[..1000], &right, &to("c"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("unexpected EOF"), "{error}");
    // A name that says it is a gigabyte long.
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::GNULongName);
    header.set_size(1 << 30);
    header.set_cksum();
    let hostile = header.as_bytes().chain(std::io::repeat(b'a'));
    let error = unpack(hostile, &right, &to("d")).unwrap_err().to_string();
    assert!(error.contains("longer than the limit"), "{error}");
}

/// A stream is ended long before a bomb has unpacked.
#[test]
fn bombs_end_early() {
    let nothing = vec![0u8; 8 << 20];
    let mut gz = flate2::read::GzEncoder::new(nothing.as_slice(), flate2::Compression::best());
    let mut gzip = Vec::new();
    gz.read_to_end(&mut gzip).unwrap();
    let zstd = zstd::encode_all(nothing.as_slice(), 3).unwrap();
    for (what, packed) in [("gzip", gzip), ("zstd", zstd)] {
        let guard = |most, ratio| {
            let taken = std::rc::Rc::new(std::cell::Cell::new(0));
            super::Guard {
                inner: super::decompress(super::Counted {
                    inner: packed.as_slice(),
                    taken: taken.clone(),
                })
                .unwrap(),
                given: 0,
                taken,
                most,
                ratio,
            }
        };
        let read = |mut guard: super::Guard<_>| std::io::copy(&mut guard, &mut std::io::sink());
        assert_eq!(read(guard(8 << 20, (1 << 20, 1 << 20))).unwrap(), 8 << 20);
        let error = read(guard((8 << 20) - 1, (1 << 20, 1 << 20))).unwrap_err();
        assert_eq!(
            error.to_string(),
            "unpacks to more than the limit",
            "{what}"
        );
        let mut stopped = guard(8 << 20, (1 << 20, 100));
        let error = std::io::copy(&mut stopped, &mut std::io::sink()).unwrap_err();
        let text = "unpacks to more than 100 times its size";
        assert_eq!(error.to_string(), text, "{what}");
        assert!(stopped.given < 2 << 20, "{what} gave {}", stopped.given);
    }
}

#[test]
fn zeros_become_holes_in_gzip_and_zstd_too() {
    if !root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut content = vec![0u8; 4 << 20];
    content.extend_from_slice(b"end");
    let tar = Tar::new().file("f", &content).end();
    let mut gz = flate2::read::GzEncoder::new(tar.as_slice(), flate2::Compression::fast());
    let mut packed = Vec::new();
    gz.read_to_end(&mut packed).unwrap();
    for (name, packed) in [
        ("gz", packed),
        ("zst", zstd::encode_all(tar.as_slice(), 1).unwrap()),
    ] {
        let to = dir.path().join(name);
        std::fs::create_dir(&to).unwrap();
        let layer = Layer {
            blob: &Digest::of(&packed),
            diff_id: &Digest::of(&tar),
            lowers: &[],
        };
        unpack(packed.as_slice(), &layer, &to).unwrap();
        assert_eq!(std::fs::read(to.join("f")).unwrap(), content);
        assert!(
            to.join("f").metadata().unwrap().blocks() * 512 < 1 << 20,
            "{name} has holes"
        );
    }
}
