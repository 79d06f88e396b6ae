//! File events. inotify(7).

use std::ffi::OsString;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};
use tokio::io::unix::AsyncFd;

pub use rustix::fs::inotify::{ReadFlags, WatchFlags as Interest};

/// Changes of a directory's entries: written, moved in or out, deleted, made.
pub const ENTRIES: Interest = WatchFlags::CLOSE_WRITE
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::CREATE);

/// Watches files and directories.
pub struct Watch {
    fd: AsyncFd<OwnedFd>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The watch it belongs to, as `add` gave it; -1 when events were lost.
    pub watch: i32,
    pub flags: ReadFlags,
    /// Name of the entry, for events of a directory.
    pub name: Option<OsString>,
}

// === Watch ===

impl Watch {
    /// Watches nothing yet. Must be called inside a tokio runtime.
    pub fn new() -> std::io::Result<Self> {
        let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let fd = crate::ready::register(fd)?;
        Ok(Self { fd })
    }

    /// Watches a path; the number tells its events.
    pub fn add(&self, path: &Path, interest: Interest) -> std::io::Result<i32> {
        Ok(inotify::add_watch(self.fd.get_ref(), path, interest)?)
    }

    /// Ends a watch; one that ended by itself is no error.
    pub fn remove(&self, watch: i32) -> std::io::Result<()> {
        match inotify::remove_watch(self.fd.get_ref(), watch) {
            Ok(()) | Err(rustix::io::Errno::INVAL) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    /// Waits for events and gives all that are there.
    pub async fn next(&self) -> std::io::Result<Vec<Event>> {
        loop {
            let mut ready = self.fd.readable().await?;
            match self.read() {
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => ready.clear_ready(),
                done => return done,
            }
        }
    }

    fn read(&self) -> std::io::Result<Vec<Event>> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(self.fd.get_ref(), &mut buffer);
        let mut out = Vec::new();
        loop {
            let event = reader.next()?;
            out.push(Event {
                watch: event.wd(),
                flags: event.events(),
                name: event
                    .file_name()
                    .map(|n| OsString::from_vec(n.to_bytes().to_vec())),
            });
            if reader.is_buffer_empty() {
                return Ok(out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_written_file_is_seen() {
        let dir = std::env::temp_dir().join(format!("inotify-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let watch = Watch::new().unwrap();
        let id = watch.add(&dir, ENTRIES).unwrap();
        let none = watch.read().unwrap_err();
        assert_eq!(none.kind(), std::io::ErrorKind::WouldBlock);
        std::fs::write(dir.join("a"), "x").unwrap();
        let events = watch.next().await.unwrap();
        assert!(
            events
                .iter()
                .any(|e| e.watch == id && e.name.as_deref() == Some("a".as_ref()))
        );
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
