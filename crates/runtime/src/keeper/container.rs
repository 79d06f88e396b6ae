//! A container as its keeper holds it: streams, log, readers that are attached, and how it ended.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::io::Errno;

use super::log::{Log, Stream};
use crate::limits::{ATTACH_PENDING_BYTES_MAX, KEEPER_READ_BYTES};
use crate::protocol::{Exit, StartRequest, Started};

/// One container.
pub struct Container {
    pub request: StartRequest,
    pub pid: i32,
    /// Our side of the standard input, or of the terminal.
    pub stdin: Option<OwnedFd>,
    pub outputs: Vec<Output>,
    pub log: Log,
    pub attachments: Vec<Attachment>,
    pub exit: Option<Exit>,
}

/// A stream the container writes to.
pub struct Output {
    pub fd: OwnedFd,
    pub stream: Stream,
    pub ended: bool,
}

/// Someone who sees and feeds a container's streams.
pub struct Attachment {
    pub connection: u64,
    pub stdin: Option<OwnedFd>,
    /// Read from `stdin`, not yet taken by the container.
    pub input: Vec<u8>,
    pub outputs: [Option<Reader>; 2],
    pub done: bool,
}

/// Where an attached reader gets a stream.
pub struct Reader {
    pub fd: OwnedFd,
    pub pending: Vec<u8>,
}

/// What reading or writing once gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    More,
    Later,
    Ended,
}

// === Container ===

impl Container {
    /// Whether output may be read: nobody attached lags too far behind.
    pub fn may_read(&self, stream: Stream) -> bool {
        let lags = |r: &Reader| r.pending.len() >= ATTACH_PENDING_BYTES_MAX;
        let reader = |a: &Attachment| a.outputs[stream as usize].as_ref().is_some_and(lags);
        !self.attachments.iter().any(reader)
    }

    /// Reads one output once, into log and attached readers.
    pub fn read_output(&mut self, at: usize, buffer: &mut [u8]) -> Flow {
        let output = &mut self.outputs[at];
        let stream = output.stream;
        let n = match rustix::io::read(&output.fd, &mut buffer[..KEEPER_READ_BYTES]) {
            Ok(n) if n > 0 => n,
            Err(Errno::AGAIN | Errno::INTR) => return Flow::Later,
            // The end of a pipe, or of a terminal that nobody has open any more (EIO).
            _ => {
                output.ended = true;
                report("write log", self.log.finish(stream));
                return Flow::Ended;
            }
        };
        report("write log", self.log.write(stream, &buffer[..n]));
        for attachment in &mut self.attachments {
            if let Some(reader) = &mut attachment.outputs[stream as usize] {
                reader.pending.extend_from_slice(&buffer[..n]);
            }
            attachment.flush(stream);
        }
        Flow::More
    }

    /// Takes all output that is there now, lagging readers or not.
    pub fn drain(&mut self, buffer: &mut [u8]) {
        for at in 0..self.outputs.len() {
            while !self.outputs[at].ended && self.read_output(at, buffer) == Flow::More {}
        }
    }

    /// Hands an attachment's input on to the container.
    pub fn feed(&mut self, at: usize) {
        let attachment = &mut self.attachments[at];
        let Some(stdin) = &self.stdin else {
            attachment.input.clear();
            attachment.stdin = None;
            return;
        };
        while !attachment.input.is_empty() {
            match rustix::io::write(stdin, &attachment.input) {
                Ok(n) => {
                    attachment.input.drain(..n);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => {
                    attachment.input.clear();
                    attachment.stdin = None;
                    return;
                }
            }
        }
        let ended = attachment.stdin.is_none() && !attachment.done;
        if ended && self.request.stdin_once && !self.request.terminal {
            self.stdin = None;
        }
    }

    /// Reads an attachment's input once.
    pub fn read_input(&mut self, at: usize, buffer: &mut [u8]) {
        let attachment = &mut self.attachments[at];
        let Some(stdin) = &attachment.stdin else {
            return;
        };
        match rustix::io::read(stdin, &mut buffer[..KEEPER_READ_BYTES]) {
            Ok(n) if n > 0 => attachment.input.extend_from_slice(&buffer[..n]),
            Err(Errno::AGAIN | Errno::INTR) => return,
            _ => attachment.stdin = None,
        }
        self.feed(at);
    }

    /// Forgets an attachment; with `stdin_once`, the first one to leave takes the input along.
    pub fn detach(&mut self, connection: u64) {
        let fed = |a: &Attachment| a.connection == connection && a.stdin.is_some();
        let fed = self.attachments.iter().any(fed);
        self.attachments.retain(|a| a.connection != connection);
        if fed && self.request.stdin_once && !self.request.terminal {
            self.stdin = None;
        }
    }

    /// Whether it ended and every byte of it was passed on.
    pub fn is_over(&self) -> bool {
        let delivered = |a: &Attachment| {
            let empty = |r: &Option<Reader>| r.as_ref().is_none_or(|r| r.pending.is_empty());
            a.outputs.iter().all(empty)
        };
        self.exit.is_some()
            && self.outputs.iter().all(|o| o.ended)
            && self.attachments.iter().all(delivered)
    }

    /// Puts on disk that it runs.
    pub fn record_start(&self, started: &Started) -> Result<(), String> {
        write_record(&self.request.state, "started.json", started, false)
    }

    /// Puts on disk how it ended.
    pub fn record_exit(&self, exit: &Exit) -> Result<(), String> {
        write_record(&self.request.state, "exit.json", exit, true)
    }
}

// === Attachment ===

impl Attachment {
    /// Writes what a reader can take now.
    pub fn flush(&mut self, stream: Stream) {
        let slot = &mut self.outputs[stream as usize];
        let Some(reader) = slot else { return };
        while !reader.pending.is_empty() {
            match rustix::io::write(&reader.fd, &reader.pending) {
                Ok(n) => {
                    reader.pending.drain(..n);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                // Nobody reads any more.
                Err(_) => {
                    *slot = None;
                    return;
                }
            }
        }
    }
}

/// Says on the keeper's own log what could not be done and is not worth ending for.
pub fn report(what: &str, result: std::io::Result<()>) {
    if let Err(e) = result {
        eprintln!("{what}: {e}");
    }
}

/// Replaces a file. A durable one outlives a crash of the machine right after the kubelet acted on it.
fn write_record<T: serde::Serialize>(
    dir: &Path,
    name: &str,
    record: &T,
    durable: bool,
) -> Result<(), String> {
    let fail = |e: std::io::Error| format!("write {}: {e}", dir.join(name).display());
    let new = dir.join(format!("{name}.new"));
    let mut file = File::create(&new).map_err(fail)?;
    let bytes = serde_json::to_vec(record).map_err(|e| fail(e.into()))?;
    file.write_all(&bytes).map_err(fail)?;
    if durable {
        file.sync_data().map_err(fail)?;
    }
    std::fs::rename(&new, dir.join(name)).map_err(fail)
}

/// Makes a descriptor of ours never wait.
pub fn set_nonblocking(fd: &OwnedFd) -> Result<(), Errno> {
    let flags = rustix::fs::fcntl_getfl(fd.as_fd())?;
    rustix::fs::fcntl_setfl(fd.as_fd(), flags | rustix::fs::OFlags::NONBLOCK)
}
