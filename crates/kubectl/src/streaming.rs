//! Streams over WebSocket: exec and attach (`v5.channel.k8s.io`), port-forward (`v4.channel.k8s.io`).
//! Upstream: client-go/tools/remotecommand/websocket.go.

use std::io::IsTerminal;
use std::os::fd::AsFd;

use base64::Engine;
use bytes::Bytes;
use fastwebsockets::{Frame, OpCode, Payload, Role, WebSocket};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use rustix::termios;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::error::{Error, Result};
use crate::limits;
use crate::object;
use crate::rest::{Call, Rest};

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;

/// A WebSocket to the server.
pub type Socket = WebSocket<TokioIo<Upgraded>>;

/// What goes between a terminal and a container.
#[derive(Clone, Copy, Debug)]
pub struct Streams {
    pub stdin: bool,
    pub tty: bool,
}

/// Opens a WebSocket that speaks a protocol.
pub async fn connect(rest: &Rest, mut call: Call, protocol: &str) -> Result<Socket> {
    let key = base64::engine::general_purpose::STANDARD.encode(nonce()?);
    for (name, value) in [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", key.as_str()),
        ("sec-websocket-protocol", protocol),
    ] {
        call.headers.push((name.into(), value.into()));
    }
    let answer = rest.upgrade(&call).await?;
    let upgraded = hyper::upgrade::on(answer)
        .await
        .map_err(|e| Error::text(format!("unable to upgrade connection: {e}")))?;
    let mut socket = WebSocket::after_handshake(TokioIo::new(upgraded), Role::Client);
    socket.set_auto_close(true);
    socket.set_auto_pong(true);
    Ok(socket)
}

/// Sixteen bytes nobody else sent.
fn nonce() -> Result<[u8; 16]> {
    use std::io::Read;
    let mut bytes = [0; 16];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// A terminal in raw mode until it is dropped.
struct Raw(termios::Termios);

impl Raw {
    fn enter() -> Result<Self> {
        let stdin = std::io::stdin();
        let failed = |e: rustix::io::Errno| Error::text(format!("setting the terminal: {e}"));
        let before = termios::tcgetattr(stdin.as_fd()).map_err(failed)?;
        let mut raw = before.clone();
        raw.make_raw();
        termios::tcsetattr(stdin.as_fd(), termios::OptionalActions::Now, &raw).map_err(failed)?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let stdin = std::io::stdin();
        // The process ends: there is nothing else to do where this fails.
        let _ = termios::tcsetattr(stdin.as_fd(), termios::OptionalActions::Now, &self.0);
    }
}

fn size() -> Option<Vec<u8>> {
    let size = termios::tcgetwinsize(std::io::stdout().as_fd()).ok()?;
    Some(
        json!({"Width": size.ws_col, "Height": size.ws_row})
            .to_string()
            .into_bytes(),
    )
}

fn framed(channel: u8, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len() + 1);
    out.push(channel);
    out.extend_from_slice(data);
    out
}

/// Where a remote command's output goes.
pub struct Outputs {
    pub stdout: Box<dyn AsyncWrite + Unpin>,
    pub stderr: Box<dyn AsyncWrite + Unpin>,
}

impl Outputs {
    fn own() -> Self {
        Self {
            stdout: Box::new(tokio::io::stdout()),
            stderr: Box::new(tokio::io::stderr()),
        }
    }
}

/// Runs a command whose input comes from a channel, where there is one, and whose output goes elsewhere.
pub async fn piped_command(
    socket: Socket,
    input: Option<mpsc::Receiver<Vec<u8>>>,
    outputs: Outputs,
) -> Result<()> {
    let (send, out) = mpsc::channel::<Vec<u8>>(16);
    if let Some(mut input) = input {
        let send = send.clone();
        tokio::task::spawn_local(async move {
            while let Some(data) = input.recv().await {
                if send.send(framed(STDIN, &data)).await.is_err() {
                    return;
                }
            }
            drop(send.send(vec![CLOSE, STDIN]).await);
        });
    }
    let result = pump(socket, out, outputs).await;
    drop(send);
    result
}

/// Runs exec or attach over a socket until the server says how it ended.
pub async fn remote_command(socket: Socket, streams: Streams) -> Result<()> {
    let raw = (streams.tty && std::io::stdin().is_terminal())
        .then(Raw::enter)
        .transpose()?;
    let (send, out) = mpsc::channel::<Vec<u8>>(16);
    if streams.tty {
        tokio::task::spawn_local(sizes(send.clone()));
    }
    if streams.stdin {
        tokio::task::spawn_local(input(send.clone()));
    }
    let result = pump(socket, out, Outputs::own()).await;
    drop((send, raw));
    result
}

async fn sizes(send: mpsc::Sender<Vec<u8>>) {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut changes) = signal(SignalKind::window_change()) else {
        return;
    };
    loop {
        if let Some(size) = size()
            && send.send(framed(RESIZE, &size)).await.is_err()
        {
            return;
        }
        changes.recv().await;
    }
}

async fn input(send: mpsc::Sender<Vec<u8>>) {
    let mut stdin = tokio::io::stdin();
    let mut buffer = vec![0; limits::READ_BYTES];
    loop {
        match stdin.read(&mut buffer).await {
            Ok(n) if n > 0 => {
                if send.send(framed(STDIN, &buffer[..n])).await.is_err() {
                    return;
                }
            }
            // The end of input, or an input that broke: the other side sees its end.
            _ => {
                drop(send.send(vec![CLOSE, STDIN]).await);
                return;
            }
        }
    }
}

/// One task writes, one reads, so that a frame half read is never dropped.
async fn pump(
    socket: Socket,
    mut out: mpsc::Receiver<Vec<u8>>,
    mut outputs: Outputs,
) -> Result<()> {
    let (mut reader, mut writer) = socket.split(tokio::io::split);
    let (pongs, mut answers) = mpsc::channel::<Vec<u8>>(4);
    let writes = async move {
        loop {
            let frame = tokio::select! {
                data = out.recv() => match data {
                    Some(data) => Frame::binary(Payload::Owned(data)),
                    None => return,
                },
                Some(data) = answers.recv() => Frame::pong(Payload::Owned(data)),
            };
            if writer.write_frame(frame).await.is_err() {
                return;
            }
        }
    };
    let writes = tokio::task::spawn_local(writes);
    let result = async {
        let mut answer = |frame: Frame<'_>| {
            let data = frame.payload.to_vec();
            let pongs = pongs.clone();
            async move {
                if frame_is_ping(&data) {
                    drop(pongs.send(data).await);
                }
                Ok::<(), std::io::Error>(())
            }
        };
        loop {
            let frame = reader
                .read_frame(&mut answer)
                .await
                .map_err(|e| Error::text(format!("the connection to the container broke: {e}")))?;
            match frame.opcode {
                OpCode::Close => return Ok(()),
                OpCode::Binary | OpCode::Text => {}
                _ => continue,
            }
            let Some((channel, data)) = frame.payload.split_first() else {
                continue;
            };
            match *channel {
                STDOUT => {
                    outputs.stdout.write_all(data).await?;
                    outputs.stdout.flush().await?;
                }
                STDERR => {
                    outputs.stderr.write_all(data).await?;
                    outputs.stderr.flush().await?;
                }
                ERROR => return ended(data),
                _ => {}
            }
        }
    }
    .await;
    writes.abort();
    result
}

/// Obligatory answers of the reader are pongs; closing needs none of ours.
fn frame_is_ping(data: &[u8]) -> bool {
    data.len() <= 125
}

/// The Status at the end of a command.
fn ended(data: &[u8]) -> Result<()> {
    let status: Value = serde_json::from_slice(data)
        .map_err(|_| Error::text(String::from_utf8_lossy(data).into_owned()))?;
    if status["status"] == "Success" {
        return Ok(());
    }
    if status["reason"] == "NonZeroExitCode" {
        let code = object::items(&status, "/details/causes")
            .iter()
            .find(|c| c["reason"] == "ExitCode")
            .and_then(|c| c["message"].as_str()?.parse::<u8>().ok())
            .unwrap_or(1);
        let text = format!("command terminated with exit code {code}");
        return Err(Error::Code(text, code));
    }
    Err(Error::text(object::text(&status, "/message")))
}

/// Joins a local connection with a port of a pod.
pub async fn forward(socket: Socket, local: tokio::net::TcpStream) -> Result<()> {
    let (mut read, mut write) = local.into_split();
    let (reader, mut writer) = socket.split(tokio::io::split);
    let mut reader = fastwebsockets::FragmentCollectorRead::new(reader);
    let upward = tokio::task::spawn_local(async move {
        let mut buffer = vec![0; limits::READ_BYTES];
        while let Ok(n) = read.read(&mut buffer).await {
            let data = framed(0, &buffer[..n]);
            if n == 0
                || writer
                    .write_frame(Frame::binary(Payload::Owned(data)))
                    .await
                    .is_err()
            {
                return;
            }
        }
    });
    // The first message of each channel is the port's number.
    let mut headed = [false; 2];
    let mut nothing = |_: Frame<'_>| async { Ok::<(), std::io::Error>(()) };
    let result = loop {
        let frame = match reader.read_frame(&mut nothing).await {
            Ok(f) if f.opcode != OpCode::Close => f,
            _ => break Ok(()),
        };
        let data = Bytes::copy_from_slice(&frame.payload);
        let Some((&channel, data)) = data.split_first() else {
            continue;
        };
        let Some(seen) = headed.get_mut(usize::from(channel)) else {
            continue;
        };
        if !std::mem::replace(seen, true) {
            continue;
        }
        if channel == 1 {
            if !data.is_empty() {
                break Err(Error::text(String::from_utf8_lossy(data).into_owned()));
            }
        } else if write.write_all(data).await.is_err() {
            break Ok(());
        }
    };
    upward.abort();
    result
}
