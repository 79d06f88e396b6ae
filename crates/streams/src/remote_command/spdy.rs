//! Exec and attach over SPDY/3.1: one stream per purpose, named by its `streamtype` header.

use std::collections::HashMap;

use cri::{ExecExit, Reader, Writer};
use http::HeaderMap;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio::sync::{mpsc, oneshot};

use super::{RemoteStreams, Wanted, read_sizes, status, status_text};
use crate::spdy::{self, Session};
use crate::{Error, limits};

/// A subprotocol and what it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protocol {
    pub name: &'static str,
    /// A resize stream comes with a terminal (v3 and later).
    resize: bool,
    /// The error stream carries a Status (v4 and later).
    status: bool,
}

const KNOWN: &[&str] = &[
    "v5.channel.k8s.io",
    "v4.channel.k8s.io",
    "v3.channel.k8s.io",
    "v2.channel.k8s.io",
    "channel.k8s.io",
];

// === Protocol ===

impl Protocol {
    /// The client's first choice that is known here; none named means the first protocol.
    pub fn choose(headers: &HeaderMap) -> Result<Self, Error> {
        let name = crate::choose_spdy(headers, KNOWN, Some("channel.k8s.io"))?;
        let version = name.as_bytes()[1];
        Ok(Self {
            name,
            resize: (b'3'..=b'5').contains(&version),
            status: (b'4'..=b'5').contains(&version),
        })
    }
}

/// The client's streams once the connection is upgraded and all of them are open.
pub async fn open(
    upgrade: OnUpgrade,
    protocol: Protocol,
    wanted: Wanted,
) -> Result<RemoteStreams, Error> {
    let upgraded = upgrade.await.map_err(|e| Error::broken(e.to_string()))?;
    let mut session = spdy::serve(TokioIo::new(upgraded)).map_err(Error::broken)?;
    let expected: Vec<&str> = [
        ("error", true),
        ("stdin", wanted.stdin),
        ("stdout", wanted.stdout),
        ("stderr", wanted.stderr),
        ("resize", wanted.tty && protocol.resize),
    ]
    .iter()
    .filter_map(|(name, wanted)| wanted.then_some(*name))
    .collect();
    let opened = collect(&mut session, &expected);
    let opened = tokio::time::timeout(limits::STREAM_CREATION, opened).await;
    let mut opened = opened
        .map_err(|_| Error::broken("timed out waiting for client to create streams"))?
        .ok_or_else(|| Error::broken("the client ended before it created its streams"))?;

    let (resize_to, resize) = mpsc::channel(limits::OUTGOING_FRAMES);
    if let Some(io) = opened.remove("resize") {
        tokio::spawn(read_sizes(io, resize_to));
    }
    let (exit, exited) = oneshot::channel();
    let gone = session.gone.clone();
    let error = opened.remove("error");
    let stdin = opened.remove("stdin").map(input);
    let mut output = |name: &str| opened.remove(name).map(|io| Box::new(io) as Writer);
    let (stdout, stderr) = (output("stdout"), output("stderr"));
    tokio::spawn(async move {
        if let (Ok(exit), Some(error)) = (exited.await, error) {
            finish(protocol, &exit, error).await;
        }
        // Closing with input unread could cost the client what was written last.
        if tokio::time::timeout(limits::DRAIN, session.gone.cancelled())
            .await
            .is_err()
        {
            tracing::debug!("the client keeps the connection of an ended command");
        }
        drop(session);
    });
    Ok(RemoteStreams {
        stdin,
        stdout,
        stderr,
        resize,
        exit,
        gone,
    })
}

async fn collect(
    session: &mut Session,
    expected: &[&str],
) -> Option<HashMap<String, DuplexStream>> {
    let mut opened = HashMap::new();
    while expected.iter().any(|name| !opened.contains_key(*name)) {
        let stream = session.incoming.recv().await?;
        let kind = stream.headers.get("streamtype").cloned()?;
        opened.insert(kind, stream.io);
    }
    Some(opened)
}

/// Only reads, but keeps our direction open until the end.
fn input(io: DuplexStream) -> Reader {
    Box::new(tokio::io::split(io).0)
}

async fn finish(protocol: Protocol, exit: &ExecExit, mut error: DuplexStream) {
    let text = if protocol.status {
        status(exit).to_string()
    } else {
        status_text(exit)
    };
    // Fails only where the client is gone.
    let _ = error.write_all(text.as_bytes()).await;
    let _ = error.shutdown().await;
}
