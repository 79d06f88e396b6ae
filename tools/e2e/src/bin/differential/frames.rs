//! What a watch sends, as JSON: lines or lengths in a body, perhaps compressed, or messages of a WebSocket.

use std::io::Write;

use anyhow::{Result, anyhow};
use fastwebsockets::{OpCode, Role, WebSocket};
use flate2::write::MultiGzDecoder;
use futures::StreamExt;
use http::Response;
use http_body_util::BodyStream;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use kube::client::Body;
use serde_json::{Value, json};

use crate::target::header;

/// The frames of a watch that goes on.
pub struct Frames {
    from: From,
    left: Vec<u8>,
    protobuf: bool,
}

enum From {
    Body(BodyStream<Body>, Option<Box<MultiGzDecoder<Vec<u8>>>>),
    Socket(Box<WebSocket<TokioIo<Upgraded>>>),
}

// === Frames ===

impl Frames {
    /// Those of an answer's body.
    pub fn of_body(parts: &http::response::Parts, body: Body) -> Self {
        let packed = header(parts, "content-encoding") == "gzip";
        let decoder = packed.then(|| Box::new(MultiGzDecoder::new(Vec::new())));
        Self {
            from: From::Body(BodyStream::new(body), decoder),
            left: Vec::new(),
            protobuf: header(parts, "content-type").contains("protobuf"),
        }
    }

    /// Those of a connection that was upgraded.
    pub async fn of_socket(answer: Response<Body>) -> Result<Self> {
        let upgraded = hyper::upgrade::on(answer).await;
        let upgraded = upgraded.map_err(|e| anyhow!("upgrade: {e}"))?;
        let socket = WebSocket::after_handshake(TokioIo::new(upgraded), Role::Client);
        Ok(Self {
            from: From::Socket(Box::new(socket)),
            left: Vec::new(),
            protobuf: false,
        })
    }

    /// The next frame as JSON; nothing at the end.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(frame) = self.taken() {
                return Some(frame);
            }
            match &mut self.from {
                From::Socket(socket) => return message(socket).await,
                From::Body(chunks, decoder) => {
                    let chunk = chunks.next().await?.ok()?;
                    let Ok(data) = chunk.into_data() else {
                        continue;
                    };
                    let Some(decoder) = decoder else {
                        self.left.extend_from_slice(&data);
                        continue;
                    };
                    decoder.write_all(&data).ok()?;
                    decoder.flush().ok()?;
                    self.left.append(decoder.get_mut());
                }
            }
        }
    }

    fn taken(&mut self) -> Option<Value> {
        if self.protobuf {
            let length = self.left.first_chunk::<4>();
            let length = length.map(|b| u32::from_be_bytes(*b))?;
            let length = usize::try_from(length).ok()?;
            let data: Vec<u8> = self.left.get(4..4 + length)?.to_vec();
            self.left.drain(..4 + length);
            return Some(watch_event(&data));
        }
        let at = self.left.iter().position(|b| *b == b'\n')?;
        let line: Vec<u8> = self.left.drain(..=at).collect();
        Some(event(&line))
    }
}

fn event(line: &[u8]) -> Value {
    let read = serde_json::from_slice(line).ok();
    read.unwrap_or_else(|| json!({"type": String::from_utf8_lossy(line)}))
}

/// The next message of a WebSocket, with what it is.
async fn message(socket: &mut WebSocket<TokioIo<Upgraded>>) -> Option<Value> {
    loop {
        let frame = socket.read_frame().await.ok()?;
        let (mut out, kind) = match frame.opcode {
            OpCode::Close => return None,
            OpCode::Text => (event(&frame.payload), "text"),
            OpCode::Binary => (watch_event(&frame.payload), "binary"),
            _ => continue,
        };
        out["~message"] = json!({"is": kind, "newline": frame.payload.ends_with(b"\n")});
        return Some(out);
    }
}

/// A WatchEvent of protobuf: field 1 the type, field 2 a RawExtension whose field 1 is the object.
fn watch_event(data: &[u8]) -> Value {
    let part = |data: &[u8], field: u8| -> Option<Vec<u8>> {
        let mut rest = data;
        loop {
            let tag = *rest.first()?;
            rest = rest.get(1..)?;
            let (mut length, mut shift) = (0usize, 0);
            loop {
                let b = *rest.first()?;
                rest = rest.get(1..)?;
                length |= usize::from(b & 0x7f) << shift;
                shift += 7;
                if b < 0x80 {
                    break;
                }
            }
            let value = rest.get(..length)?;
            if tag == field << 3 | 2 {
                return Some(value.to_vec());
            }
            rest = rest.get(length..)?;
        }
    };
    let kind = part(data, 1).unwrap_or_default();
    let object = part(data, 2).and_then(|raw| part(&raw, 1));
    let object = api::protobuf::decode(&object.unwrap_or_default());
    json!({"type": String::from_utf8_lossy(&kind),
        "object": object.unwrap_or_else(|e| json!(e.to_string()))})
}
