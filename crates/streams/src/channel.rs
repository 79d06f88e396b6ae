//! Messages of WebSocket channels: the first byte is the channel's number, or with base64 its digit.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes, BytesMut};

use crate::websocket::Outgoing;

/// How a subprotocol writes its messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    Binary,
    Base64,
}

// === Coding ===

impl Coding {
    /// The coding of a subprotocol such as `v4.base64.channel.k8s.io`.
    pub fn of(protocol: &str) -> Self {
        if protocol.contains("base64") {
            Self::Base64
        } else {
            Self::Binary
        }
    }

    /// A message of a channel.
    pub fn message(self, channel: u8, data: &[u8]) -> Outgoing {
        let mut out = BytesMut::with_capacity(data.len() + 1);
        match self {
            Self::Binary => {
                out.put_u8(channel);
                out.put_slice(data);
            }
            Self::Base64 => {
                out.put_u8(b'0' + channel);
                out.put_slice(STANDARD.encode(data).as_bytes());
            }
        }
        Outgoing::Message(out.freeze())
    }

    /// Channel and data of a message; `None` where it is none.
    pub fn parse(self, message: Bytes) -> Option<(u8, Bytes)> {
        let (first, data) = (*message.first()?, message.slice(1..));
        match self {
            Self::Binary => Some((first, data)),
            Self::Base64 => {
                let plain = STANDARD.decode(&data).ok()?;
                Some((first.checked_sub(b'0')?, plain.into()))
            }
        }
    }
}
