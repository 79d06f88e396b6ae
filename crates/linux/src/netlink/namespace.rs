//! Acting inside another network namespace: on a thread of its own, which ends afterwards, so that no
//! thread of the runtime ever changes its namespace. network_namespaces(7).

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};

use super::{Error, Socket, Subsystem};

/// Opens a namespace by its path (a bind mount or `/proc/<pid>/ns/net`).
pub fn open(path: &Path) -> Result<OwnedFd, Error> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
        .map_err(|e| Error::new(format!("open network namespace {}", path.display()), e))
}

/// Opens the calling thread's namespace.
pub fn current() -> Result<OwnedFd, Error> {
    open(Path::new("/proc/thread-self/ns/net"))
}

/// Makes a new, empty namespace that lives as long as the descriptor (or a process in it).
pub fn create() -> Result<OwnedFd, Error> {
    on_thread(|| {
        // SAFETY: only the network namespace of this new thread changes; descriptors, memory and
        // working directory stay shared.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }
            .map_err(|e| Error::new("create network namespace", e))?;
        current()
    })
}

/// Runs `f` inside a namespace and gives its answer.
pub fn run_in<T: Send>(
    netns: BorrowedFd<'_>,
    f: impl FnOnce() -> Result<T, Error> + Send,
) -> Result<T, Error> {
    on_thread(|| {
        rustix::thread::move_into_link_name_space(netns, Some(LinkNameSpaceType::Network))
            .map_err(|e| Error::new("enter network namespace", e))?;
        f()
    })
}

/// Opens a socket that acts inside a namespace, from wherever it is used.
pub fn socket_in(netns: BorrowedFd<'_>, subsystem: Subsystem) -> Result<Socket, Error> {
    run_in(netns, || Socket::open(subsystem))
}

fn on_thread<T: Send>(f: impl FnOnce() -> Result<T, Error> + Send) -> Result<T, Error> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("netns".into())
            .spawn_scoped(scope, f);
        let Ok(thread) = thread else {
            return Err(Error::new(
                "start namespace thread",
                rustix::io::Errno::AGAIN,
            ));
        };
        match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}
