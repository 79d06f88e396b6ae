//! Descriptors in tokio's reactor.

use std::os::fd::OwnedFd;

use tokio::io::unix::AsyncFd;

/// Waits for a descriptor with tokio. Must be called inside a tokio runtime.
#[allow(unsafe_code)]
pub fn register(fd: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd is open, belongs to the AsyncFd from now on, and never changes its number.
    let registered = unsafe { AsyncFd::register(fd) };
    registered.map_err(|e| std::io::Error::other(e.to_string()))
}
