//! Unix sockets that keep message boundaries (SOCK_SEQPACKET) and carry descriptors. unix(7).

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};

/// Descriptors that one message carries at most.
pub const DESCRIPTORS_MAX: usize = 8;

/// What one message brought: its bytes and descriptors.
pub type Packet = (Vec<u8>, Vec<OwnedFd>);

/// A connected pair of sockets.
pub fn pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
}

/// A listening socket at `name` in `dir`; of any depth, beyond the 107 bytes of a socket address.
pub fn listen(dir: &Path, name: &str) -> Result<OwnedFd, Errno> {
    let socket = socket()?;
    let dir = open_dir(dir)?;
    match rustix::fs::unlinkat(&dir, name, rustix::fs::AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(e) => return Err(e),
    }
    rustix::net::bind(&socket, &address(&dir, name)?)?;
    rustix::net::listen(&socket, 128)?;
    Ok(socket)
}

/// A connection to the socket at `name` in `dir`.
pub fn connect(dir: &Path, name: &str) -> Result<OwnedFd, Errno> {
    let socket = socket()?;
    let dir = open_dir(dir)?;
    rustix::net::connect(&socket, &address(&dir, name)?)?;
    Ok(socket)
}

/// Sends one message with descriptors.
pub fn send(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> Result<(), Errno> {
    if descriptors.len() > DESCRIPTORS_MAX {
        return Err(Errno::INVAL);
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(Errno::INVAL);
    }
    let sent = rustix::net::sendmsg(
        socket,
        &[IoSlice::new(bytes)],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    if sent == bytes.len() {
        Ok(())
    } else {
        Err(Errno::MSGSIZE)
    }
}

/// Receives one message of at most `max` bytes; `None` at the end of the connection.
pub fn receive(socket: BorrowedFd<'_>, max: usize) -> Result<Option<Packet>, Errno> {
    let mut bytes = vec![0; max];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::net::recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut bytes)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = message {
            descriptors.extend(fds);
        }
    }
    if received.bytes == 0 && descriptors.is_empty() {
        return Ok(None);
    }
    if received.flags.contains(ReturnFlags::TRUNC) {
        return Err(Errno::MSGSIZE);
    }
    bytes.truncate(received.bytes);
    Ok(Some((bytes, descriptors)))
}

/// Process id of the other side, as it was when it connected or listened.
pub fn peer_pid(socket: BorrowedFd<'_>) -> Result<i32, Errno> {
    let credentials = rustix::net::sockopt::socket_peercred(socket)?;
    Ok(credentials.pid.as_raw_nonzero().get())
}

fn socket() -> Result<OwnedFd, Errno> {
    rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
}

fn open_dir(dir: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(dir, flags, Mode::empty())
}

fn address(dir: &OwnedFd, name: &str) -> Result<SocketAddrUnix, Errno> {
    SocketAddrUnix::new(format!("{}/{name}", crate::mount::magic_path(dir.as_fd())))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn messages_keep_their_bounds_and_carry_descriptors() {
        let dir = std::env::temp_dir().join(format!("k0s-packet-{}", std::process::id()));
        let deep = dir.join("d".repeat(120));
        std::fs::create_dir_all(&deep).unwrap();
        let listener = listen(&deep, "s").unwrap();
        let client = connect(&deep, "s").unwrap();
        let server = rustix::net::accept(&listener).unwrap();
        send(client.as_fd(), b"one", &[listener.as_fd()]).unwrap();
        send(client.as_fd(), b"two", &[]).unwrap();
        let (bytes, fds) = receive(server.as_fd(), 64).unwrap().unwrap();
        assert_eq!((bytes.as_slice(), fds.len()), (b"one".as_slice(), 1));
        assert_eq!(receive(server.as_fd(), 2).err(), Some(Errno::MSGSIZE));
        assert_eq!(peer_pid(client.as_fd()).unwrap(), std::process::id() as i32);
        drop(client);
        assert!(receive(server.as_fd(), 64).unwrap().is_none());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
