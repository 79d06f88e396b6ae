//! Clients against the accepting side over a real HTTP/1.1 connection in memory.

#![allow(clippy::unwrap_used)]

use bytes::{Buf, Bytes, BytesMut};
use cri::{ExecExit, ExecSession};
use fastwebsockets::{Frame, OpCode, Payload, Role, WebSocket};
use http::{Request, Response};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use streams::remote_command::Wanted;
use streams::spdy::{Deflater, Headers};
use streams::{port_forward, remote_command};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::{mpsc, oneshot};

/// A command that writes back what it reads, tells its terminal's size on stderr and exits with 3 when
/// its input ends.
fn echo() -> ExecSession {
    let (mut input, stdin) = tokio::io::duplex(1024);
    let (stdout, mut output) = tokio::io::duplex(1024);
    let (stderr, mut errors) = tokio::io::duplex(1024);
    let (resize, mut sizes) = mpsc::channel(4);
    let (exit, exited) = oneshot::channel();
    tokio::spawn(async move {
        let size: Option<cri::TerminalSize> = sizes.recv().await;
        if let Some(s) = size {
            let text = format!("{}x{}", s.width, s.height);
            errors.write_all(text.as_bytes()).await.unwrap();
        }
    });
    tokio::spawn(async move {
        tokio::io::copy(&mut input, &mut output).await.unwrap();
        drop(output);
        exit.send(ExecExit::Code(3)).unwrap();
    });
    ExecSession {
        stdin: Some(Box::new(stdin)),
        stdout: Some(Box::new(stdout)),
        stderr: Some(Box::new(stderr)),
        resize,
        exit: exited,
    }
}

async fn answer(mut request: Request<Incoming>) -> Result<Response<Empty<Bytes>>, streams::Error> {
    if request.uri().path() == "/portForward" {
        let (response, pending) = port_forward::accept(&mut request)?;
        tokio::spawn(pending.serve(|port| async move {
            if port == 81 {
                return Err("error forwarding port 81: connection refused".to_string());
            }
            let (a, mut b) = tokio::io::duplex(1024);
            tokio::spawn(async move {
                let mut line = [0; 4];
                b.read_exact(&mut line).await.unwrap();
                b.write_all(&line).await.unwrap();
            });
            Ok(Box::new(a) as cri::DuplexStream)
        }));
        return Ok(response);
    }
    let wanted = Wanted {
        stdin: true,
        stdout: true,
        stderr: true,
        tty: false,
    };
    let (response, pending) = remote_command::accept(&mut request, wanted)?;
    let fails = request.uri().path() == "/fails";
    tokio::spawn(pending.serve(move || async move {
        if fails {
            return Err(cri::Error::not_found("no such container"));
        }
        Ok(echo())
    }));
    Ok(response)
}

fn server() -> DuplexStream {
    let (ours, theirs) = tokio::io::duplex(64 << 10);
    tokio::spawn(async move {
        let service = hyper::service::service_fn(|r| async {
            Ok::<_, std::convert::Infallible>(answer(r).await.unwrap_or_else(|e| {
                let mut response = Response::new(Empty::new());
                *response.status_mut() = e.status;
                response
            }))
        });
        hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(ours), service)
            .with_upgrades()
            .await
            .unwrap();
    });
    theirs
}

/// Switches protocols; gives the connection behind the 101 and the answer's head.
async fn switch(path: &str, headers: &str) -> (DuplexStream, String) {
    let mut io = server();
    let head = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n{headers}\r\n");
    io.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(io.read_u8().await.unwrap());
    }
    (io, String::from_utf8(answer).unwrap().to_ascii_lowercase())
}

async fn websocket(path: &str, protocol: &str) -> WebSocket<DuplexStream> {
    let headers = format!(
        "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: {protocol}\r\n"
    );
    let (io, head) = switch(path, &headers).await;
    assert!(head.starts_with("http/1.1 101"), "{head}");
    let protocol = protocol.to_ascii_lowercase();
    assert!(
        head.contains(&format!("sec-websocket-protocol: {protocol}\r\n")),
        "{head}"
    );
    let mut ws = WebSocket::after_handshake(io, Role::Client);
    ws.set_auto_close(false);
    ws
}

async fn send(ws: &mut WebSocket<DuplexStream>, channel: u8, data: &[u8]) {
    let message = [&[channel], data].concat();
    let frame = Frame::binary(Payload::Owned(message));
    ws.write_frame(frame).await.unwrap();
}

/// All that comes per channel, until the close.
async fn collect(ws: &mut WebSocket<DuplexStream>) -> Vec<String> {
    let mut channels = vec![String::new(); 5];
    loop {
        let frame = ws.read_frame().await.unwrap();
        if frame.opcode == OpCode::Close {
            return channels;
        }
        let text = std::str::from_utf8(&frame.payload[1..]).unwrap();
        channels[usize::from(frame.payload[0])].push_str(text);
    }
}

#[tokio::test]
async fn exec_over_websocket_v5() {
    let mut ws = websocket("/exec", "v5.channel.k8s.io").await;
    send(&mut ws, 4, br#"{"Width":80,"Height":24}"#).await;
    send(&mut ws, 0, b"hello").await;
    send(&mut ws, 255, &[0]).await;
    let channels = collect(&mut ws).await;
    assert_eq!(channels[1], "hello");
    assert_eq!(channels[2], "80x24");
    let status: serde_json::Value = serde_json::from_str(&channels[3]).unwrap();
    assert_eq!(status["reason"], "NonZeroExitCode");
    assert_eq!(status["details"]["causes"][0]["message"], "3");
}

#[tokio::test]
async fn a_command_that_does_not_start_is_told_on_the_error_channel() {
    let mut ws = websocket("/fails", "v4.channel.k8s.io").await;
    let channels = collect(&mut ws).await;
    let status: serde_json::Value = serde_json::from_str(&channels[3]).unwrap();
    assert_eq!(
        status["message"],
        "Internal error occurred: no such container"
    );
}

#[tokio::test]
async fn what_is_no_upgrade_is_refused() {
    for headers in [
        "Upgrade: h2c\r\n",
        "Upgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v9.channel.k8s.io\r\n",
    ] {
        let (_, head) = switch("/exec", headers).await;
        assert!(head.starts_with("http/1.1 40"), "{head}");
    }
    let (_, head) = switch("/portForward", "Upgrade: SPDY/3.1\r\n").await;
    assert!(head.starts_with("http/1.1 400"), "{head}");
}

/// A SPDY client by hand.
struct Spdy {
    io: DuplexStream,
    deflater: Deflater,
    next: u32,
}

impl Spdy {
    async fn new(path: &str, protocol: &str) -> Self {
        let headers = format!("Upgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: {protocol}\r\n");
        let (io, head) = switch(path, &headers).await;
        assert!(head.starts_with("http/1.1 101"), "{head}");
        assert!(head.contains(protocol), "{head}");
        Self {
            io,
            deflater: Deflater::new().unwrap(),
            next: 1,
        }
    }

    async fn open(&mut self, headers: &[(&str, &str)]) -> u32 {
        let id = self.next;
        self.next += 2;
        let headers: Headers = headers
            .iter()
            .map(|(k, v)| (k.to_string(), v.to_string()))
            .collect();
        let block = self.deflater.block(&headers).unwrap();
        let mut frame = vec![0x80, 3, 0, 1, 0];
        frame.extend_from_slice(&(block.len() as u32 + 10).to_be_bytes()[1..]);
        frame.extend_from_slice(&id.to_be_bytes());
        frame.extend_from_slice(&[0; 6]);
        frame.extend_from_slice(&block);
        self.io.write_all(&frame).await.unwrap();
        id
    }

    async fn data(&mut self, id: u32, data: &[u8], fin: bool) {
        let mut frame = id.to_be_bytes().to_vec();
        frame.push(u8::from(fin));
        frame.extend_from_slice(&(data.len() as u32).to_be_bytes()[1..]);
        frame.extend_from_slice(data);
        self.io.write_all(&frame).await.unwrap();
    }

    /// Data per stream until all of `ids` have ended.
    async fn collect(&mut self, ids: &[u32]) -> Vec<String> {
        let mut got = vec![String::new(); ids.len()];
        let mut open = ids.len();
        while open > 0 {
            let mut head = [0; 8];
            self.io.read_exact(&mut head).await.unwrap();
            let length = u32::from_be_bytes([0, head[5], head[6], head[7]]) as usize;
            let mut body = BytesMut::zeroed(length);
            self.io.read_exact(&mut body).await.unwrap();
            let mut id = &head[..4];
            if head[0] & 0x80 != 0 {
                continue;
            }
            let id = id.get_u32();
            let Some(n) = ids.iter().position(|i| *i == id) else {
                continue;
            };
            got[n].push_str(std::str::from_utf8(&body).unwrap());
            open -= usize::from(head[4] & 1 != 0);
        }
        got
    }
}

#[tokio::test]
async fn exec_over_spdy_v4() {
    let mut spdy = Spdy::new("/exec", "v4.channel.k8s.io").await;
    let mut ids = Vec::new();
    for kind in ["error", "stdin", "stdout", "stderr"] {
        ids.push(spdy.open(&[("streamType", kind)]).await);
    }
    spdy.data(ids[1], b"hello", true).await;
    let got = spdy.collect(&[ids[0], ids[2]]).await;
    assert_eq!(got[1], "hello");
    assert!(got[0].contains("NonZeroExitCode"), "{}", got[0]);
}

async fn forward(spdy: &mut Spdy) {
    for (n, port) in ["80", "81"].iter().enumerate() {
        let request = n.to_string();
        let of = |kind| {
            [
                ("streamType", kind),
                ("port", *port),
                ("requestID", &request),
            ]
        };
        let error = spdy.open(&of("error")).await;
        spdy.data(error, b"", true).await;
        let data = spdy.open(&of("data")).await;
        // Where the pod ends first, the client's own direction may stay open.
        spdy.data(data, b"ping", n == 1).await;
        let got = spdy.collect(&[error, data]).await;
        if n == 0 {
            assert_eq!(got, ["", "ping"]);
        } else {
            let text = "error forwarding port 81: connection refused";
            assert_eq!(got, [text, ""]);
        }
    }
}

#[tokio::test]
async fn port_forward_over_spdy() {
    forward(&mut Spdy::new("/portForward", "portforward.k8s.io").await).await;
}

#[tokio::test]
async fn port_forward_over_spdy_in_websocket() {
    let ws = websocket("/portForward", "SPDY/3.1+portforward.k8s.io").await;
    let (io, mut ours) = tokio::io::duplex(1024);
    tokio::spawn(async move {
        let (mut read, mut write) = ws.split(tokio::io::split);
        let (mut from, mut to) = tokio::io::split(&mut ours);
        let out = async {
            let mut buffer = [0; 512];
            while let Ok(n @ 1..) = from.read(&mut buffer).await {
                let frame = Frame::binary(Payload::Borrowed(&buffer[..n]));
                write.write_frame(frame).await.unwrap();
                write.flush().await.unwrap();
            }
        };
        let back = async {
            let mut none = |_| async { Ok::<(), std::io::Error>(()) };
            while let Ok(frame) = read.read_frame(&mut none).await {
                if to.write_all(&frame.payload).await.is_err() {
                    return;
                }
            }
        };
        tokio::join!(out, back);
    });
    let mut spdy = Spdy {
        io,
        deflater: Deflater::new().unwrap(),
        next: 1,
    };
    forward(&mut spdy).await;
}

#[tokio::test]
async fn port_forward_over_channels() {
    let mut ws = websocket("/portForward?ports=80,81", "v4.channel.k8s.io").await;
    send(&mut ws, 0, b"ping").await;
    let mut got = vec![Vec::new(); 4];
    while got[0].len() < 6 || got[3].len() < 3 {
        let frame = ws.read_frame().await.unwrap();
        got[usize::from(frame.payload[0])].extend_from_slice(&frame.payload[1..]);
    }
    assert_eq!(got[0], b"\x50\0ping");
    assert_eq!(got[1], b"\x50\0");
    let text = b"\x51\0error forwarding port 81: connection refused";
    assert_eq!(got[3], text); // All connections are over, so that one is, too.
    while ws.read_frame().await.unwrap().opcode != OpCode::Close {}
}
