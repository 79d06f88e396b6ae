//! Exec and attach over WebSocket: the first byte of each message names its channel. Protocols
//! `channel.k8s.io`, `base64.channel.k8s.io` and their v4, and v5 whose channel 255 ends stdin.

use cri::{ExecExit, TerminalSize, Writer};
use fastwebsockets::upgrade::UpgradeFut;
use http::HeaderMap;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{RemoteStreams, Wanted, size, status, status_text};
use crate::channel::Coding;
use crate::websocket::{self, Messages, Outgoing};
use crate::{Error, limits};

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;

/// A subprotocol and what it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protocol {
    pub name: &'static str,
    coding: Coding,
    /// The error channel carries a Status (v4 and later).
    status: bool,
    /// Channel 255 closes channels (v5).
    close: bool,
}

const KNOWN: &[&str] = &[
    "",
    "channel.k8s.io",
    "base64.channel.k8s.io",
    "v4.channel.k8s.io",
    "v4.base64.channel.k8s.io",
    "v5.channel.k8s.io",
];

// === Protocol ===

impl Protocol {
    /// The client's first choice that is known here.
    pub fn choose(headers: &HeaderMap) -> Result<Self, Error> {
        let name = websocket::choose(headers, KNOWN);
        let name = name.ok_or_else(|| Error::bad_request("unsupported WebSocket subprotocol"))?;
        Ok(Self {
            name,
            coding: Coding::of(name),
            status: name.starts_with("v4") || name.starts_with("v5"),
            close: name.starts_with("v5"),
        })
    }
}

/// The client's streams once the connection is upgraded.
pub async fn open(
    future: UpgradeFut,
    protocol: Protocol,
    wanted: Wanted,
) -> Result<RemoteStreams, Error> {
    let (messages, out) = websocket::open(future).await?;
    // An empty message on the lowest channel tells the client that all is set up.
    let lowest = [(wanted.stdout, STDOUT), (wanted.stderr, STDERR)];
    let lowest = lowest.iter().find(|(w, _)| *w).map_or(ERROR, |(_, c)| *c);
    let greeted = out.send(protocol.coding.message(lowest, b"")).await;
    greeted.map_err(|_| Error::broken("the client is gone"))?;

    let (resize_to, resize) = mpsc::channel(limits::OUTGOING_FRAMES);
    let (exit, exited) = oneshot::channel();
    let gone = CancellationToken::new();
    let (stdin_to, stdin) = tokio::io::duplex(limits::STREAM_BYTES);
    let input = Input {
        messages,
        protocol,
        stdin: wanted.stdin.then_some(stdin_to),
        resize: resize_to,
    };
    let reading = tokio::spawn(input.run(gone.clone()));
    let mut output = JoinSet::new();
    let mut writer = |wanted: bool, channel: u8| -> Option<Writer> {
        let (theirs, ours) = tokio::io::duplex(limits::STREAM_BYTES);
        wanted.then(|| {
            output.spawn(pump(protocol, channel, ours, out.clone()));
            Box::new(theirs) as Writer
        })
    };
    let (stdout, stderr) = (writer(wanted.stdout, STDOUT), writer(wanted.stderr, STDERR));
    tokio::spawn(async move {
        let exit = exited.await;
        while output.join_next().await.is_some() {}
        if let Ok(exit) = exit {
            finish(protocol, &exit, &out).await;
        }
        // Closing with input unread could cost the client what was written last.
        let stop = reading.abort_handle();
        if tokio::time::timeout(limits::DRAIN, reading).await.is_err() {
            stop.abort();
        }
    });
    Ok(RemoteStreams {
        stdin: wanted.stdin.then(|| Box::new(stdin) as cri::Reader),
        stdout,
        stderr,
        resize,
        exit,
        gone,
    })
}

async fn finish(protocol: Protocol, exit: &ExecExit, out: &mpsc::Sender<Outgoing>) {
    let text = if protocol.status {
        status(exit).to_string()
    } else {
        status_text(exit)
    };
    // Fails only where the client is gone.
    if !text.is_empty() {
        let _ = out
            .send(protocol.coding.message(ERROR, text.as_bytes()))
            .await;
    }
    let _ = out.send(Outgoing::Close(1000, String::new())).await;
}

async fn pump(
    protocol: Protocol,
    channel: u8,
    mut from: DuplexStream,
    out: mpsc::Sender<Outgoing>,
) {
    let mut buffer = vec![0; limits::STREAM_BYTES / 2];
    while let Ok(n) = from.read(&mut buffer).await
        && n > 0
    {
        if out
            .send(protocol.coding.message(channel, &buffer[..n]))
            .await
            .is_err()
        {
            return;
        }
    }
}

/// What the client sends.
struct Input {
    messages: Messages,
    protocol: Protocol,
    stdin: Option<DuplexStream>,
    resize: mpsc::Sender<TerminalSize>,
}

impl Input {
    async fn run(mut self, gone: CancellationToken) {
        while let Some(message) = self.messages.next().await {
            match self.protocol.coding.parse(message) {
                Some((STDIN, data)) => self.write(&data).await,
                Some((RESIZE, data)) => self.resize(&data),
                Some((CLOSE, data)) if self.protocol.close && data[..] == [STDIN] => {
                    self.stdin = None;
                }
                _ => {}
            }
        }
        gone.cancel();
    }

    async fn write(&mut self, data: &[u8]) {
        if let Some(stdin) = &mut self.stdin
            && stdin.write_all(data).await.is_err()
        {
            self.stdin = None;
        }
    }

    fn resize(&self, data: &[u8]) {
        if let Ok(value) = serde_json::from_slice(data)
            && let Some(size) = size(&value)
        {
            // A full queue drops the size; the next one counts.
            let _ = self.resize.try_send(size);
        }
    }
}
