//! Exec and attach: a client's streams over WebSocket channels or SPDY, joined with a container's.
//! Upstream: apimachinery's remotecommand and wsstream, cri-streaming.

mod channels;
mod spdy;

use bytes::Bytes;
use cri::{ExecExit, ExecSession, Reader, TerminalSize, Writer};
use http::{Request, Response};
use http_body_util::Empty;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{Error, limits, websocket};

/// Which streams the client asked for (`stdin`, `stdout`, `stderr`, `tty` of the query).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub tty: bool,
}

/// The client's ends of the streams.
pub struct RemoteStreams {
    /// What the client types.
    pub stdin: Option<Reader>,
    pub stdout: Option<Writer>,
    /// `None` with a terminal.
    pub stderr: Option<Writer>,
    pub resize: mpsc::Receiver<TerminalSize>,
    /// Tells the client how it ended; sent once, then the connection is closed.
    pub exit: oneshot::Sender<ExecExit>,
    /// Cancelled when the client is gone.
    pub gone: CancellationToken,
}

/// An accepted request whose connection is not upgraded yet: answer the response first.
pub struct Pending {
    transport: Transport,
    wanted: Wanted,
}

enum Transport {
    WebSocket(fastwebsockets::upgrade::UpgradeFut, channels::Protocol),
    Spdy(hyper::upgrade::OnUpgrade, spdy::Protocol),
}

/// Accepts an exec or attach request: the response to give, and what to `serve` afterwards (in a task of
/// its own). A request that is neither WebSocket nor SPDY, or speaks no known protocol, is an error.
pub fn accept<B>(
    request: &mut Request<B>,
    wanted: Wanted,
) -> Result<(Response<Empty<Bytes>>, Pending), Error> {
    if !(wanted.stdin || wanted.stdout || wanted.stderr) {
        return Err(Error::bad_request(
            "you must specify at least 1 of stdin, stdout, stderr",
        ));
    }
    let wanted = Wanted {
        stderr: wanted.stderr && !wanted.tty,
        ..wanted
    };
    let (response, transport) = if websocket::is_upgrade(request.headers()) {
        let protocol = channels::Protocol::choose(request.headers())?;
        let (response, future) = websocket::upgrade(request, protocol.name)?;
        (response, Transport::WebSocket(future, protocol))
    } else {
        let protocol = spdy::Protocol::choose(request.headers())?;
        let (response, upgrade) = crate::upgrade_spdy(request, protocol.name)?;
        (response, Transport::Spdy(upgrade, protocol))
    };
    Ok((response, Pending { transport, wanted }))
}

// === Pending ===

impl Pending {
    /// The client's streams, once it has switched protocols and opened them.
    pub async fn streams(self) -> Result<RemoteStreams, Error> {
        match self.transport {
            Transport::WebSocket(future, protocol) => {
                channels::open(future, protocol, self.wanted).await
            }
            Transport::Spdy(upgrade, protocol) => spdy::open(upgrade, protocol, self.wanted).await,
        }
    }

    /// Waits for the client, starts the command and joins both until one ends. What `start` refuses is
    /// told to the client as upstream does, on the error stream.
    pub async fn serve<F, Fut>(self, start: F)
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<ExecSession, cri::Error>>,
    {
        let streams = match self.streams().await {
            Ok(streams) => streams,
            Err(error) => {
                tracing::debug!(%error, "exec or attach not begun");
                return;
            }
        };
        match start().await {
            Ok(session) => join(streams, session).await,
            Err(e) => {
                // Fails only where the client is gone.
                let _ = streams.exit.send(ExecExit::Failed(e.message));
            }
        }
    }
}

/// Copies between a client and a command until the command ends, and tells the client how; where the
/// client goes first, the session is dropped.
pub async fn join(streams: RemoteStreams, session: ExecSession) {
    let gone = streams.gone.clone();
    tokio::select! {
        () = gone.cancelled() => {}
        () = until_exit(streams, session) => {}
    }
}

async fn until_exit(mut streams: RemoteStreams, session: ExecSession) {
    let mut input = JoinSet::new();
    if let (Some(from), Some(to)) = (streams.stdin.take(), session.stdin) {
        input.spawn(copy(from, to));
    }
    let resize = session.resize;
    let mut sizes = streams.resize;
    input.spawn(async move {
        while let Some(size) = sizes.recv().await {
            if resize.send(size).await.is_err() {
                return;
            }
        }
    });
    let mut output = JoinSet::new();
    for (from, to) in [
        (session.stdout, streams.stdout.take()),
        (session.stderr, streams.stderr.take()),
    ] {
        if let (Some(from), Some(to)) = (from, to) {
            output.spawn(copy(from, to));
        }
    }
    let exit = session.exit.await;
    let drained = tokio::time::timeout(limits::DRAIN, async {
        while output.join_next().await.is_some() {}
    });
    if drained.await.is_err() {
        tracing::debug!("output of an ended command is held open by another process");
    }
    drop(output);
    let exit =
        exit.unwrap_or_else(|_| ExecExit::Failed("the container's streams were lost".into()));
    // Fails only where the client is gone.
    let _ = streams.exit.send(exit);
}

/// Copies at once what arrives, then ends the writer's direction.
async fn copy(mut from: Reader, mut to: Writer) {
    let mut buffer = vec![0; limits::STREAM_BYTES / 2];
    while let Ok(n) = from.read(&mut buffer).await {
        if n == 0 || to.write_all(&buffer[..n]).await.is_err() || to.flush().await.is_err() {
            break;
        }
    }
    // Fails only where the other side is gone already.
    let _ = to.shutdown().await;
}

/// The Status that ends v4 and v5 sessions.
fn status(exit: &ExecExit) -> Value {
    match exit {
        ExecExit::Code(0) => json!({"metadata": {}, "status": "Success"}),
        ExecExit::Code(code) => json!({
            "metadata": {},
            "status": "Failure",
            "message": format!("command terminated with non-zero exit code: exit status {code}"),
            "reason": "NonZeroExitCode",
            "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
        }),
        ExecExit::Failed(why) => json!({
            "metadata": {},
            "status": "Failure",
            "message": format!("Internal error occurred: {why}"),
            "reason": "InternalError",
            "details": {"causes": [{"message": why}]},
            "code": 500,
        }),
    }
}

/// What ends sessions before v4: nothing for success, else a text.
fn status_text(exit: &ExecExit) -> String {
    match exit {
        ExecExit::Code(0) => String::new(),
        ExecExit::Code(code) => format!("command terminated with exit code {code}"),
        ExecExit::Failed(why) => why.clone(),
    }
}

/// Sizes of the terminal as the client writes them, one JSON object after the other.
async fn read_sizes(mut from: impl AsyncRead + Unpin, to: mpsc::Sender<TerminalSize>) {
    let mut buffer = Vec::new();
    while matches!(from.read_buf(&mut buffer).await, Ok(n) if n > 0) {
        let mut values = serde_json::Deserializer::from_slice(&buffer).into_iter::<Value>();
        let mut sizes = Vec::new();
        while let Some(Ok(value)) = values.next() {
            sizes.push(size(&value));
        }
        let read = values.byte_offset();
        buffer.drain(..read);
        if buffer.len() > limits::HEADER_BYTES {
            return;
        }
        for size in sizes.into_iter().flatten() {
            if to.send(size).await.is_err() {
                return;
            }
        }
    }
}

fn size(value: &Value) -> Option<TerminalSize> {
    let of = |key: &str| u16::try_from(value[key].as_u64()?).ok();
    Some(TerminalSize {
        width: of("Width")?,
        height: of("Height")?,
    })
}
