//! Netlink sockets and messages: the transport below `netlink::{link, address, route, neighbour,
//! conntrack}` and `nftables`. Calls block for as long as the kernel works (microseconds to a few
//! milliseconds) and act in the network namespace in which the socket was opened.
//! Facts: kernel Documentation/userspace-api/netlink/intro.rst.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

pub mod address;
pub mod conntrack;
pub mod link;
pub mod message;
pub mod namespace;
pub mod neighbour;
pub mod qdisc;
pub mod route;

pub use message::{Attributes, Message};

/// Bytes of one receive; the kernel sizes dump parts to what a reader offers, up to 32 KiB.
const RECEIVE_BYTES: usize = 64 << 10;
/// Objects one dump may give before it counts as runaway.
const DUMP_MESSAGES_MAX: usize = 4_000_000;

const SOL_NETLINK: i32 = 270;
const NETLINK_CAP_ACK: i32 = 10;
const NETLINK_EXT_ACK: i32 = 11;
const NETLINK_GET_STRICT_CHK: i32 = 12;

pub(crate) const NLMSG_ERROR: u16 = 2;
pub(crate) const NLMSG_DONE: u16 = 3;
pub(crate) const NLM_F_REQUEST: u16 = 0x1;
pub(crate) const NLM_F_ACK: u16 = 0x4;
pub(crate) const NLM_F_REPLACE: u16 = 0x100;
pub(crate) const NLM_F_EXCL: u16 = 0x200;
pub(crate) const NLM_F_CREATE: u16 = 0x400;
pub(crate) const NLM_F_APPEND: u16 = 0x800;
pub(crate) const NLM_F_DUMP: u16 = 0x300;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLMSGERR_ATTR_MSG: u16 = 1;

/// A refused or failed request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{operation}: {errno}{}", if text.is_empty() { String::new() } else { format!(" ({text})") })]
pub struct Error {
    /// What was asked, with its object: `create bridge kube-bridge`.
    pub operation: String,
    pub errno: Errno,
    /// The kernel's own words (extended acknowledgement), often empty.
    pub text: String,
}

/// Which kernel part a socket talks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subsystem {
    Route,
    Netfilter,
}

/// One netlink socket. Used from one thread at a time.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    sequence: u32,
}

/// An answer of the kernel to one message of a request.
#[derive(Clone, Debug)]
pub(crate) struct Ack {
    pub sequence: u32,
    pub errno: Option<Errno>,
    pub text: String,
}

// === Error ===

impl Error {
    pub(crate) fn new(operation: impl Into<String>, errno: Errno) -> Self {
        Self {
            operation: operation.into(),
            errno,
            text: String::new(),
        }
    }

    /// Whether the object was not there.
    pub fn is_absent(&self) -> bool {
        matches!(
            self.errno,
            Errno::NOENT | Errno::NODEV | Errno::SRCH | Errno::ADDRNOTAVAIL
        )
    }

    /// Whether the object was there already.
    pub fn is_present(&self) -> bool {
        self.errno == Errno::EXIST
    }
}

// === Socket ===

impl Socket {
    /// A socket in the calling thread's network namespace.
    pub fn open(subsystem: Subsystem) -> Result<Self, Error> {
        let protocol = match subsystem {
            // NETLINK_ROUTE is protocol 0.
            Subsystem::Route => None,
            Subsystem::Netfilter => Some(rustix::net::netlink::NETFILTER),
        };
        let fail = |e| Error::new("open netlink socket", e);
        let fd = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            protocol,
        )
        .map_err(fail)?;
        let socket = Self { fd, sequence: 1 };
        // Both only make error reports richer and shorter: an older kernel works without them.
        for option in [NETLINK_CAP_ACK, NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK] {
            if let Err(errno) = socket.set_option(option) {
                tracing::debug!(option, %errno, "netlink option not set");
            }
        }
        Ok(socket)
    }

    /// Sends one request and waits for its acknowledgement.
    pub(crate) fn request(
        &mut self,
        operation: impl FnOnce() -> String,
        mut message: Message,
    ) -> Result<(), Error> {
        message.add_flags(NLM_F_REQUEST | NLM_F_ACK);
        let sequence = self.next_sequence(1);
        let bytes = message.finish(sequence);
        let result = self
            .send(&bytes)
            .and_then(|()| self.acknowledgement(sequence));
        result.map_err(|(errno, text)| Error {
            operation: operation(),
            errno,
            text,
        })
    }

    /// Sends one dump request and gives the payload (after the netlink header) of every object.
    /// A dump that the kernel marks as torn by a change is asked for again.
    pub(crate) fn dump(
        &mut self,
        operation: &str,
        message: &Message,
    ) -> Result<Vec<Vec<u8>>, Error> {
        const TRIES: usize = 8;
        for _ in 0..TRIES {
            let mut m = message.clone();
            m.add_flags(NLM_F_REQUEST | NLM_F_DUMP);
            let sequence = self.next_sequence(1);
            let sent = self.send(&m.finish(sequence));
            match sent.and_then(|()| self.read_dump(sequence)) {
                Ok(Some(objects)) => return Ok(objects),
                Ok(None) => continue,
                Err((errno, text)) => {
                    return Err(Error {
                        operation: operation.into(),
                        errno,
                        text,
                    });
                }
            }
        }
        Err(Error::new(operation, Errno::INTR))
    }

    /// Sends a finished batch and gives every acknowledgement; the kernel has acted when `send` returns.
    pub(crate) fn exchange(&mut self, bytes: &[u8]) -> Result<Vec<Ack>, Errno> {
        if rustix::net::sockopt::set_socket_send_buffer_size_force(&self.fd, bytes.len() * 2)
            .is_err()
        {
            rustix::net::sockopt::set_socket_send_buffer_size(&self.fd, bytes.len() * 2)?;
        }
        self.send(bytes).map_err(|(errno, _)| errno)?;
        let mut acks = Vec::new();
        let mut buffer = vec![0u8; RECEIVE_BYTES];
        loop {
            let n = match rustix::net::recv(&self.fd, &mut buffer[..], RecvFlags::DONTWAIT) {
                Ok((_, n)) => n.min(RECEIVE_BYTES),
                Err(Errno::AGAIN) => return Ok(acks),
                Err(Errno::INTR) => continue,
                // More reports than the socket can queue; those read so far name the first failures.
                Err(Errno::NOBUFS) if acks.iter().any(|a: &Ack| a.errno.is_some()) => continue,
                Err(e) => return Err(e),
            };
            for (header, body) in message::split(&buffer[..n]) {
                if header.kind == NLMSG_ERROR {
                    acks.push(parse_ack(header, body));
                }
            }
        }
    }

    pub(crate) fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// Reserves `count` sequence numbers and gives the first.
    pub(crate) fn next_sequence(&mut self, count: u32) -> u32 {
        let first = self.sequence;
        self.sequence = self.sequence.wrapping_add(count).max(1);
        first
    }

    fn set_option(&self, option: i32) -> Result<(), Errno> {
        let on: libc::c_int = 1;
        // SAFETY: the descriptor is open, and the pointer and length describe a live c_int.
        let done = unsafe {
            libc::setsockopt(
                self.fd.as_raw_fd(),
                SOL_NETLINK,
                option,
                std::ptr::from_ref(&on).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            )
        };
        if done == 0 {
            return Ok(());
        }
        let raw = std::io::Error::last_os_error().raw_os_error();
        Err(Errno::from_raw_os_error(raw.unwrap_or(libc::EINVAL)))
    }

    fn send(&self, bytes: &[u8]) -> Result<(), (Errno, String)> {
        match rustix::net::send(&self.fd, bytes, SendFlags::empty()) {
            Ok(n) if n == bytes.len() => Ok(()),
            Ok(_) => Err((Errno::MSGSIZE, "message sent only in part".into())),
            Err(e) => Err((e, String::new())),
        }
    }

    fn acknowledgement(&self, sequence: u32) -> Result<(), (Errno, String)> {
        let mut buffer = vec![0u8; RECEIVE_BYTES];
        loop {
            let n = self.receive(&mut buffer)?;
            for (header, body) in message::split(&buffer[..n]) {
                if header.sequence != sequence || header.kind != NLMSG_ERROR {
                    continue;
                }
                let ack = parse_ack(header, body);
                return match ack.errno {
                    None => Ok(()),
                    Some(errno) => Err((errno, ack.text)),
                };
            }
        }
    }

    /// All parts of a dump, or `None` where the kernel says that it is inconsistent.
    #[allow(clippy::type_complexity)]
    fn read_dump(&self, sequence: u32) -> Result<Option<Vec<Vec<u8>>>, (Errno, String)> {
        let mut objects = Vec::new();
        let mut torn = false;
        let mut buffer = vec![0u8; RECEIVE_BYTES];
        loop {
            let n = self.receive(&mut buffer)?;
            for (header, body) in message::split(&buffer[..n]) {
                if header.sequence != sequence {
                    continue;
                }
                torn |= header.flags & NLM_F_DUMP_INTR != 0;
                match header.kind {
                    NLMSG_DONE => return Ok((!torn).then_some(objects)),
                    NLMSG_ERROR => {
                        let ack = parse_ack(header, body);
                        return match ack.errno {
                            None => Ok(Some(objects)),
                            Some(errno) => Err((errno, ack.text)),
                        };
                    }
                    _ if objects.len() >= DUMP_MESSAGES_MAX => {
                        return Err((Errno::OVERFLOW, "dump is too long".into()));
                    }
                    _ => objects.push(body.to_vec()),
                }
            }
        }
    }

    fn receive(&self, buffer: &mut [u8]) -> Result<usize, (Errno, String)> {
        loop {
            match rustix::net::recv(&self.fd, &mut *buffer, RecvFlags::empty()) {
                Ok((_, n)) => return Ok(n.min(buffer.len())),
                Err(Errno::INTR) => {}
                Err(e) => return Err((e, String::new())),
            }
        }
    }
}

fn parse_ack(header: message::Header, body: &[u8]) -> Ack {
    let code = body.get(..4).map_or(-libc::EBADMSG, |b| {
        i32::from_ne_bytes([b[0], b[1], b[2], b[3]])
    });
    let mut text = String::new();
    if header.flags & NLM_F_ACK_TLVS != 0 {
        // The request's header follows the code, and its payload too unless the answer is capped.
        let quoted = body.get(4..8).map_or(16, |b| {
            u32::from_ne_bytes([b[0], b[1], b[2], b[3]]) as usize
        });
        let skip = if header.flags & NLM_F_CAPPED != 0 {
            16
        } else {
            message::align(quoted.max(16))
        };
        for (kind, value) in Attributes::new(body.get(4 + skip..).unwrap_or_default()) {
            if kind == NLMSGERR_ATTR_MSG {
                text = String::from_utf8_lossy(value)
                    .trim_end_matches('\0')
                    .to_owned();
            }
        }
    }
    Ack {
        sequence: header.sequence,
        errno: (code != 0).then(|| Errno::from_raw_os_error(code.saturating_neg().max(1))),
        text,
    }
}
