//! Bounds of this crate.

use std::time::Duration;

/// Bytes of one message or frame from the other side.
pub const MESSAGE_BYTES: usize = 1 << 20;

/// Bytes buffered per stream and direction.
pub const STREAM_BYTES: usize = 64 << 10;

/// Frames that wait to be written to one connection.
pub const OUTGOING_FRAMES: usize = 64;

/// Streams open at once on one connection (a browser-like client of a forwarded port opens many).
pub const STREAMS: usize = 2_000;

/// Bytes of one SPDY header block after inflation.
pub const HEADER_BYTES: usize = 16 << 10;

/// Ports of one WebSocket port-forward.
pub const PORTS: usize = 128;

/// How long a client has to open the streams it announced (upstream's stream creation timeout).
pub const STREAM_CREATION: Duration = Duration::from_secs(30);

/// How long output of an ended command is still read.
pub const DRAIN: Duration = Duration::from_secs(5);

/// How long a client's last bytes are carried to a pod that ended its side of a forwarded connection.
pub const LAST_BYTES: Duration = Duration::from_millis(500);
