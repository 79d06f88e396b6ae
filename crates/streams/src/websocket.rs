//! WebSocket connections as servers of channels and tunnels see them: whole messages of bounded size,
//! pings answered, one close.

use bytes::{Bytes, BytesMut};
use fastwebsockets::upgrade::UpgradeFut;
use fastwebsockets::{Frame, OpCode, Payload, WebSocketRead, WebSocketWrite};
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body_util::Empty;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio::sync::mpsc;

use crate::{Error, limits};

type Io = TokioIo<Upgraded>;

/// What is written to the client.
pub enum Outgoing {
    Message(Bytes),
    Pong(Bytes),
    /// Close code and reason; nothing follows.
    Close(u16, String),
}

/// The reading side: whole messages.
pub struct Messages {
    read: WebSocketRead<ReadHalf<Io>>,
    out: mpsc::Sender<Outgoing>,
}

/// Whether a request asks for WebSocket.
pub fn is_upgrade(headers: &HeaderMap) -> bool {
    headers
        .get(header::UPGRADE)
        .and_then(|v| v.to_str().ok())
        .is_some_and(|v| v.eq_ignore_ascii_case("websocket"))
}

/// The first of the client's subprotocols that is in `known`; `Some("")` where it names none and
/// `known` has `""`.
pub fn choose(headers: &HeaderMap, known: &[&'static str]) -> Option<&'static str> {
    let asked: Vec<String> = headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .map(|p| p.trim().to_string())
        .collect();
    let find = |p: &str| known.iter().find(|k| **k == p).copied();
    if asked.is_empty() {
        return find("");
    }
    asked.iter().find_map(|p| find(p))
}

/// Takes the upgrade out of a request: the 101 to answer and what comes after it.
pub fn upgrade<B>(
    request: &mut Request<B>,
    protocol: &'static str,
) -> Result<(Response<Empty<Bytes>>, UpgradeFut), Error> {
    let upgraded = fastwebsockets::upgrade::upgrade(request);
    let (mut response, future) = upgraded.map_err(|e| Error::bad_request(e.to_string()))?;
    if !protocol.is_empty() {
        response.headers_mut().insert(
            header::SEC_WEBSOCKET_PROTOCOL,
            HeaderValue::from_static(protocol),
        );
    }
    Ok((response, future))
}

/// Both sides of an upgraded connection. The writer ends with its last sender or a close.
pub async fn open(future: UpgradeFut) -> Result<(Messages, mpsc::Sender<Outgoing>), Error> {
    let mut ws = future.await.map_err(|e| Error::broken(e.to_string()))?;
    ws.set_auto_close(false);
    ws.set_auto_pong(false);
    ws.set_max_message_size(limits::MESSAGE_BYTES);
    let (read, write) = ws.split(tokio::io::split);
    let (out, outgoing) = mpsc::channel(limits::OUTGOING_FRAMES);
    tokio::spawn(write_all(write, outgoing));
    let messages = Messages {
        read,
        out: out.clone(),
    };
    Ok((messages, out))
}

async fn write_all(mut ws: WebSocketWrite<WriteHalf<Io>>, mut outgoing: mpsc::Receiver<Outgoing>) {
    while let Some(next) = outgoing.recv().await {
        let (frame, last) = match &next {
            Outgoing::Message(m) => (Frame::binary(Payload::Borrowed(m)), false),
            Outgoing::Pong(p) => (Frame::pong(Payload::Borrowed(p)), false),
            Outgoing::Close(code, reason) => (Frame::close(*code, reason.as_bytes()), true),
        };
        if ws.write_frame(frame).await.is_err() || ws.flush().await.is_err() || last {
            return;
        }
    }
    // Nobody is left to tell a failure to.
    let _ = ws.write_frame(Frame::close(1000, b"")).await;
    let _ = ws.flush().await;
}

// === Messages ===

impl Messages {
    /// The next data message; `None` at the end of the connection, however it ended.
    pub async fn next(&mut self) -> Option<Bytes> {
        let mut collected: Option<BytesMut> = None;
        loop {
            let frame = self
                .read
                .read_frame(&mut |_| async { Ok::<(), std::io::Error>(()) })
                .await
                .ok()?;
            match frame.opcode {
                OpCode::Close => return None,
                OpCode::Pong => continue,
                OpCode::Ping => {
                    let pong = Outgoing::Pong(Bytes::copy_from_slice(&frame.payload));
                    self.out.send(pong).await.ok()?;
                    continue;
                }
                OpCode::Text | OpCode::Binary if collected.is_some() => return None,
                OpCode::Continuation if collected.is_none() => return None,
                _ => {}
            }
            if frame.fin && collected.is_none() {
                return Some(Bytes::copy_from_slice(&frame.payload));
            }
            let all = collected.get_or_insert_default();
            if all.len() + frame.payload.len() > limits::MESSAGE_BYTES {
                return None;
            }
            all.extend_from_slice(&frame.payload);
            if frame.fin {
                return collected.map(BytesMut::freeze);
            }
        }
    }
}

/// The connection as a plain byte stream, each message a piece of it (KEP-4006).
pub fn tunnel(mut messages: Messages, out: mpsc::Sender<Outgoing>) -> DuplexStream {
    let (ours, theirs) = tokio::io::duplex(limits::STREAM_BYTES);
    let (mut read, mut write) = tokio::io::split(ours);
    tokio::spawn(async move {
        while let Some(m) = messages.next().await {
            if write.write_all(&m).await.is_err() {
                return;
            }
        }
        // Fails only where the reader is gone already.
        let _ = write.shutdown().await;
    });
    tokio::spawn(async move {
        loop {
            let mut data = BytesMut::with_capacity(limits::STREAM_BYTES);
            match read.read_buf(&mut data).await {
                Ok(n) if n > 0 => {}
                _ => return,
            }
            if out.send(Outgoing::Message(data.freeze())).await.is_err() {
                return;
            }
        }
    });
    theirs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clients_first_known_protocol_is_chosen() {
        let mut headers = HeaderMap::new();
        assert_eq!(choose(&headers, &["", "v4.channel.k8s.io"]), Some(""));
        assert_eq!(choose(&headers, &["v4.channel.k8s.io"]), None);
        headers.insert(
            header::SEC_WEBSOCKET_PROTOCOL,
            HeaderValue::from_static("v9.x, v5.channel.k8s.io,v4.channel.k8s.io"),
        );
        let known = ["v4.channel.k8s.io", "v5.channel.k8s.io"];
        assert_eq!(choose(&headers, &known), Some("v5.channel.k8s.io"));
    }
}
