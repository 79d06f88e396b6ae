//! Frames of SPDY/3.1 as they lie on the wire. Follows the SPDY protocol draft 3.1, sections 2.2 and 2.6.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::limits;

/// The last frame of a stream in this direction.
pub const FIN: u8 = 1;

/// What a frame says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    Data {
        stream: u32,
        fin: bool,
        data: Bytes,
    },
    /// The header block is still compressed: blocks of a connection share one zlib stream.
    SynStream {
        stream: u32,
        fin: bool,
        block: Bytes,
    },
    SynReply {
        stream: u32,
        block: Bytes,
    },
    Headers {
        stream: u32,
        block: Bytes,
    },
    Reset {
        stream: u32,
        status: u32,
    },
    Ping {
        id: u32,
    },
    GoAway {
        last_stream: u32,
    },
    /// Settings, window updates: read and left alone, as upstream's library does.
    Other,
}

const VERSION: u16 = 3;

/// Takes one frame off the buffer; `None` where more bytes are needed.
pub fn decode(buffer: &mut BytesMut) -> Result<Option<Frame>, String> {
    if buffer.len() < 8 {
        return Ok(None);
    }
    let length =
        usize::from(buffer[5]) << 16 | usize::from(buffer[6]) << 8 | usize::from(buffer[7]);
    if length > limits::MESSAGE_BYTES {
        return Err(format!("frame of {length} bytes is too large"));
    }
    if buffer.len() < 8 + length {
        return Ok(None);
    }
    let head = buffer.split_to(8);
    let body = buffer.split_to(length).freeze();
    let flags = head[4];
    if head[0] & 0x80 == 0 {
        let stream = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        let fin = flags & FIN != 0;
        return Ok(Some(Frame::Data {
            stream,
            fin,
            data: body,
        }));
    }
    let version = u16::from_be_bytes([head[0] & 0x7f, head[1]]);
    if version != VERSION {
        return Err(format!("SPDY version {version} is not spoken here"));
    }
    control(u16::from_be_bytes([head[2], head[3]]), flags, body).map(Some)
}

fn control(kind: u16, flags: u8, mut body: Bytes) -> Result<Frame, String> {
    let least = match kind {
        1 => 10,
        3 | 7 => 8,
        2 | 6 | 8 => 4,
        _ => return Ok(Frame::Other),
    };
    if body.len() < least {
        return Err(format!("control frame {kind} is too short"));
    }
    let first = body.get_u32() & if kind == 6 { u32::MAX } else { 0x7fff_ffff };
    Ok(match kind {
        1 => Frame::SynStream {
            stream: first,
            fin: flags & FIN != 0,
            block: body.slice(6..),
        },
        2 => Frame::SynReply {
            stream: first,
            block: body,
        },
        3 => Frame::Reset {
            stream: first,
            status: body.get_u32(),
        },
        6 => Frame::Ping { id: first },
        7 => Frame::GoAway { last_stream: first },
        _ => Frame::Headers {
            stream: first,
            block: body,
        },
    })
}

/// Appends a frame. Data longer than a frame can say is the caller's to cut.
pub fn encode(frame: &Frame, out: &mut BytesMut) {
    match frame {
        Frame::Data { stream, fin, data } => {
            out.put_u32(stream & 0x7fff_ffff);
            head_end(out, if *fin { FIN } else { 0 }, data.len());
            out.put_slice(data);
        }
        Frame::SynStream { stream, fin, block } => {
            control_head(out, 1, if *fin { FIN } else { 0 }, block.len() + 10);
            out.put_u32(*stream);
            out.put_u32(0);
            out.put_u16(0);
            out.put_slice(block);
        }
        Frame::SynReply { stream, block } => {
            control_head(out, 2, 0, block.len() + 4);
            out.put_u32(*stream);
            out.put_slice(block);
        }
        Frame::Headers { stream, block } => {
            control_head(out, 8, 0, block.len() + 4);
            out.put_u32(*stream);
            out.put_slice(block);
        }
        Frame::Reset { stream, status } => {
            control_head(out, 3, 0, 8);
            out.put_u32(*stream);
            out.put_u32(*status);
        }
        Frame::Ping { id } => {
            control_head(out, 6, 0, 4);
            out.put_u32(*id);
        }
        Frame::GoAway { last_stream } => {
            control_head(out, 7, 0, 8);
            out.put_u32(*last_stream);
            out.put_u32(0);
        }
        Frame::Other => {}
    }
}

fn control_head(out: &mut BytesMut, kind: u16, flags: u8, length: usize) {
    out.put_u16(0x8000 | VERSION);
    out.put_u16(kind);
    head_end(out, flags, length);
}

fn head_end(out: &mut BytesMut, flags: u8, length: usize) {
    out.put_u8(flags);
    out.put_uint(length as u64, 3);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_the_wire_in_any_pieces() {
        let frames = [
            Frame::SynStream {
                stream: 1,
                fin: true,
                block: Bytes::from_static(b"block"),
            },
            Frame::SynReply {
                stream: 1,
                block: Bytes::new(),
            },
            Frame::Data {
                stream: 3,
                fin: false,
                data: Bytes::from_static(b"hello"),
            },
            Frame::Reset {
                stream: 3,
                status: 5,
            },
            Frame::Ping { id: u32::MAX },
            Frame::GoAway { last_stream: 3 },
        ];
        let mut wire = BytesMut::new();
        frames.iter().for_each(|f| encode(f, &mut wire));
        let mut got = Vec::new();
        let mut buffer = BytesMut::new();
        for byte in wire {
            buffer.put_u8(byte);
            got.extend(decode(&mut buffer).unwrap());
        }
        assert_eq!(got, frames);
    }

    #[test]
    fn bad_frames_are_refused_not_trusted() {
        let long = [0u8, 0, 0, 1, 0, 0xff, 0xff, 0xff];
        assert!(decode(&mut BytesMut::from(&long[..])).is_err());
        let version = [0x80u8, 2, 0, 1, 0, 0, 0, 0];
        assert!(decode(&mut BytesMut::from(&version[..])).is_err());
        let short = [0x80u8, 3, 0, 1, 0, 0, 0, 2, 1, 1];
        assert!(decode(&mut BytesMut::from(&short[..])).is_err());
    }
}
