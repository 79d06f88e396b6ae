//! What a keeper does for those who ask.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use linux::packet;
use rustix::io::Errno;

use super::container::{Attachment, Reader, report, set_nonblocking};
use super::stage::Stage;
use super::{Connection, Keeper};
use crate::limits::{ATTACHMENTS_MAX, KEEPER_CONNECTIONS_MAX, MESSAGE_BYTES_MAX};
use crate::protocol::{self, Reply, Request};

impl Keeper {
    pub(super) fn accept(&mut self) {
        let flags = rustix::net::SocketFlags::CLOEXEC | rustix::net::SocketFlags::NONBLOCK;
        loop {
            match rustix::net::accept_with(&self.listener, flags) {
                Ok(socket) if self.connections.len() < KEEPER_CONNECTIONS_MAX => {
                    self.next += 1;
                    let connection = Connection {
                        socket,
                        watches: false,
                    };
                    self.connections.insert(self.next, connection);
                }
                Ok(_) => eprintln!("too many connections"),
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(e) => return report("accept", Err(e.into())),
            }
        }
    }

    /// Reads one request of a connection, or its end.
    pub(super) fn hear(&mut self, id: u64) {
        let Some(connection) = self.connections.get(&id) else {
            return;
        };
        match packet::receive(connection.socket.as_fd(), MESSAGE_BYTES_MAX) {
            Ok(Some((bytes, fds))) => match protocol::decode(&bytes) {
                Ok(request) => self.answer(id, request, fds),
                Err(e) => self.refuse(id, format!("request is not understood: {e}")),
            },
            Err(Errno::AGAIN | Errno::INTR) => {}
            Ok(None) | Err(_) => self.hang_up(id),
        }
    }

    fn hang_up(&mut self, id: u64) {
        self.connections.remove(&id);
        for container in self.containers.values_mut() {
            container.detach(id);
        }
    }

    fn answer(&mut self, id: u64, request: Request, fds: Vec<OwnedFd>) {
        let done = match request {
            Request::Start(request) => match Stage::start(self, id, request, fds) {
                Ok(()) => return,
                Err(e) => Err(e),
            },
            Request::Exec {
                container,
                terminal,
                streams,
            } => match Stage::exec(self, id, &container, terminal, streams, fds) {
                Ok(()) => return,
                Err(e) => Err(e),
            },
            Request::SignalExec { signal } => self.signal_command(id, signal),
            Request::Attach { container, streams } => self.attach(id, &container, streams, fds),
            Request::Resize {
                container,
                width,
                height,
            } => self.resize(&container, width, height),
            Request::Signal { container, signal } => self.signal(&container, signal),
            Request::Reopen { container } => match self.containers.get_mut(&container) {
                Some(c) => c.log.reopen().map_err(|e| format!("reopen log: {e}")),
                None => Err(not_running(&container)),
            },
            Request::Watch => {
                if let Some(connection) = self.connections.get_mut(&id) {
                    connection.watches = true;
                }
                Ok(())
            }
            Request::Shutdown => {
                self.end();
                Ok(())
            }
        };
        match done {
            Ok(()) => self.reply(id, &Reply::Done, &[]),
            Err(message) => self.refuse(id, message),
        }
    }

    pub(super) fn refuse(&mut self, id: u64, message: String) {
        self.reply(id, &Reply::Failed { message }, &[]);
    }

    /// Sends; who does not read its answers is hung up on.
    pub(super) fn reply(&mut self, id: u64, reply: &Reply, fds: &[BorrowedFd<'_>]) {
        let Some(connection) = self.connections.get(&id) else {
            return;
        };
        if packet::send(connection.socket.as_fd(), &protocol::encode(reply), fds).is_err() {
            self.hang_up(id);
        }
    }

    fn signal(&mut self, container: &str, signal: i32) -> Result<(), String> {
        match self.containers.get(container) {
            Some(c) if c.exit.is_none() => linux::process::signal(c.pid, signal)
                .map_err(|e| format!("signal container {container}: {e}")),
            _ => Err(not_running(container)),
        }
    }

    fn signal_command(&mut self, id: u64, signal: i32) -> Result<(), String> {
        let mut all = self.commands.iter();
        match all.find(|(_, connection)| **connection == id) {
            Some((pid, _)) => {
                linux::process::signal(*pid, signal).map_err(|e| format!("signal command: {e}"))
            }
            None => Err("command is not running".into()),
        }
    }

    fn resize(&mut self, container: &str, width: u16, height: u16) -> Result<(), String> {
        let Some(c) = self.containers.get(container).filter(|c| c.exit.is_none()) else {
            return Err(not_running(container));
        };
        if !c.request.terminal {
            return Err(format!("container {container} has no terminal"));
        }
        let Some(terminal) = &c.stdin else {
            return Err(not_running(container));
        };
        let size = rustix::termios::Winsize {
            ws_row: height,
            ws_col: width,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        rustix::termios::tcsetwinsize(terminal, size).map_err(|e| format!("resize terminal: {e}"))
    }

    fn attach(
        &mut self,
        id: u64,
        container: &str,
        streams: [bool; 3],
        fds: Vec<OwnedFd>,
    ) -> Result<(), String> {
        let Some(c) = self.containers.get_mut(container) else {
            return Err(not_running(container));
        };
        if c.attachments.len() >= ATTACHMENTS_MAX {
            return Err(format!("too many readers are attached to {container}"));
        }
        let mut fds = fds.into_iter();
        let mut take = |given: bool| -> Result<Option<OwnedFd>, String> {
            if !given {
                return Ok(None);
            }
            let fd = fds.next().ok_or("a stream is missing")?;
            set_nonblocking(&fd).map_err(|e| format!("attach: {e}"))?;
            Ok(Some(fd))
        };
        let stdin = take(streams[0])?;
        let reader = |fd: Option<OwnedFd>| {
            fd.map(|fd| Reader {
                fd,
                pending: Vec::new(),
            })
        };
        let outputs = [reader(take(streams[1])?), reader(take(streams[2])?)];
        c.attachments.push(Attachment {
            connection: id,
            // Without an open stdin, what is sent goes nowhere, as upstream.
            stdin: stdin.filter(|_| c.request.stdin && c.stdin.is_some()),
            input: Vec::new(),
            outputs,
            done: false,
        });
        Ok(())
    }
}

/// The answer where a container has ended or never began.
pub(super) fn not_running(container: &str) -> String {
    format!("container {container} is not running")
}
