//! Talking to keepers.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use cri::{Error, ErrorKind};
use linux::packet;
use tokio::io::unix::AsyncFd;

use crate::limits::MESSAGE_BYTES_MAX;
use crate::protocol::{self, Reply, Request, SOCKET};

/// A connection to a keeper.
pub struct Call {
    socket: AsyncFd<OwnedFd>,
    /// Process id of the keeper.
    pub pid: i32,
}

// === Call ===

impl Call {
    /// Connects to the keeper of a run directory; `Unavailable` where none lives.
    pub fn connect(run: &Path) -> Result<Self, Error> {
        let gone = |e: rustix::io::Errno| {
            let text = format!("sandbox is not running: connect to its keeper: {e}");
            Error::new(ErrorKind::Unavailable, text)
        };
        let socket = packet::connect(run, SOCKET).map_err(gone)?;
        let pid = packet::peer_pid(socket.as_fd()).map_err(gone)?;
        rustix::io::ioctl_fionbio(&socket, true).map_err(gone)?;
        let socket = crate::streams::watch(socket)
            .map_err(|e| Error::internal(format!("watch the keeper's socket: {e}")))?;
        Ok(Self { socket, pid })
    }

    /// Connects and sends.
    pub async fn open(
        run: &Path,
        request: &Request,
        fds: &[BorrowedFd<'_>],
    ) -> Result<Self, Error> {
        let call = Self::connect(run)?;
        call.send(request, fds).await?;
        Ok(call)
    }

    /// Sends a request with descriptors.
    pub async fn send(&self, request: &Request, fds: &[BorrowedFd<'_>]) -> Result<(), Error> {
        let bytes = protocol::encode(request);
        loop {
            let mut guard = self.socket.writable().await.map_err(broken)?;
            let sent =
                guard.try_io(|s| packet::send(s.as_fd(), &bytes, fds).map_err(io::Error::from));
            match sent {
                Ok(done) => return done.map_err(broken),
                Err(_would_block) => {}
            }
        }
    }

    /// The next answer; `None` when the keeper hung up or ended.
    pub async fn receive(&self) -> Result<Option<(Reply, Vec<OwnedFd>)>, Error> {
        loop {
            let mut guard = self.socket.readable().await.map_err(broken)?;
            let received = guard
                .try_io(|s| packet::receive(s.as_fd(), MESSAGE_BYTES_MAX).map_err(io::Error::from));
            let packet = match received {
                Ok(Ok(packet)) => packet,
                Ok(Err(e)) if e.kind() == io::ErrorKind::ConnectionReset => None,
                Ok(Err(e)) => return Err(broken(e)),
                Err(_would_block) => continue,
            };
            let Some((bytes, fds)) = packet else {
                return Ok(None);
            };
            let reply = protocol::decode(&bytes)
                .map_err(|e| Error::internal(format!("keeper is not understood: {e}")))?;
            return Ok(Some((reply, fds)));
        }
    }

    /// The next answer, where there must be one.
    pub async fn answer(&self) -> Result<(Reply, Vec<OwnedFd>), Error> {
        let answer = self.receive().await?;
        answer.ok_or_else(|| Error::new(ErrorKind::Unavailable, "the sandbox's keeper ended"))
    }
}

/// Asks for something that is answered with `Done`.
pub async fn ask(run: &Path, request: &Request) -> Result<(), Error> {
    let call = Call::open(run, request, &[]).await?;
    match call.answer().await?.0 {
        Reply::Failed { message } => Err(Error::internal(message)),
        _ => Ok(()),
    }
}

fn broken(e: io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, format!("talk to the keeper: {e}"))
}
