//! Port-forward on the wire: SPDY streams (`portforward.k8s.io`), the same tunnelled through WebSocket
//! (`SPDY/3.1+portforward.k8s.io`, KEP-4006), and WebSocket channels (`v4.channel.k8s.io`).
//! Upstream: apimachinery's portforward, cri-streaming.

mod channels;

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use cri::DuplexStream;
use http::{Request, Response};
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::task::JoinSet;

use crate::spdy::{self, Session, Stream};
use crate::{Error, limits, websocket};

const SPDY: &str = "portforward.k8s.io";
const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";

/// An accepted request whose connection is not upgraded yet: answer the response first.
pub struct Pending {
    transport: Transport,
}

enum Transport {
    Spdy(hyper::upgrade::OnUpgrade),
    Tunnel(fastwebsockets::upgrade::UpgradeFut),
    Channels(
        fastwebsockets::upgrade::UpgradeFut,
        channels::Protocol,
        Vec<u16>,
    ),
}

/// Accepts a port-forward request: the response to give, and what to `serve` afterwards. Ports of the
/// query (`ports=80,443` or repeated) are only needed, and checked, for WebSocket channels.
pub fn accept<B>(request: &mut Request<B>) -> Result<(Response<Empty<Bytes>>, Pending), Error> {
    if !websocket::is_upgrade(request.headers()) {
        let name = crate::choose_spdy(request.headers(), &[SPDY], None)?;
        let (response, upgrade) = crate::upgrade_spdy(request, name)?;
        let transport = Transport::Spdy(upgrade);
        return Ok((response, Pending { transport }));
    }
    if websocket::choose(request.headers(), &[TUNNEL]).is_some() {
        let (response, future) = websocket::upgrade(request, TUNNEL)?;
        let transport = Transport::Tunnel(future);
        return Ok((response, Pending { transport }));
    }
    let protocol = channels::Protocol::choose(request.headers())?;
    let ports = channels::ports(request.uri().query().unwrap_or(""))?;
    let (response, future) = websocket::upgrade(request, protocol.name)?;
    let transport = Transport::Channels(future, protocol, ports);
    Ok((response, Pending { transport }))
}

// === Pending ===

impl Pending {
    /// Forwards until the client goes. `dial` opens a connection to a port; its error text is told to the
    /// client of that connection.
    pub async fn serve<D, F>(self, dial: D)
    where
        D: Fn(u16) -> F + Send + Sync + 'static,
        F: Future<Output = Result<DuplexStream, String>> + Send + 'static,
    {
        if let Err(error) = self.forward(Arc::new(dial)).await {
            tracing::debug!(%error, "port-forward ended");
        }
    }

    async fn forward<D, F>(self, dial: Arc<D>) -> Result<(), Error>
    where
        D: Fn(u16) -> F + Send + Sync + 'static,
        F: Future<Output = Result<DuplexStream, String>> + Send + 'static,
    {
        let session = match self.transport {
            Transport::Channels(future, protocol, ports) => {
                return channels::serve(future, protocol, ports, dial).await;
            }
            Transport::Spdy(upgrade) => {
                let upgraded = upgrade.await.map_err(|e| Error::broken(e.to_string()))?;
                spdy::serve(TokioIo::new(upgraded))
            }
            Transport::Tunnel(future) => {
                let (messages, out) = websocket::open(future).await?;
                spdy::serve(websocket::tunnel(messages, out))
            }
        };
        serve_streams(session.map_err(Error::broken)?, dial).await;
        Ok(())
    }
}

/// Pairs of streams: `data` and `error` of one connection share a `requestid` (the very first clients
/// sent none: then the error stream's id is that of the data stream less 2).
async fn serve_streams<D, F>(mut session: Session, dial: Arc<D>)
where
    D: Fn(u16) -> F + Send + Sync + 'static,
    F: Future<Output = Result<DuplexStream, String>> + Send + 'static,
{
    let mut waiting: HashMap<String, Stream> = HashMap::new();
    // Dropped with the session: no connection to a pod outlives its client.
    let mut connections = JoinSet::new();
    while let Some(stream) = session.incoming.recv().await {
        while connections.try_join_next().is_some() {}
        let request = request_id(&stream);
        let Some(other) = waiting.remove(&request) else {
            if waiting.len() < limits::STREAMS {
                waiting.insert(request, stream);
            }
            continue;
        };
        let is_data = |s: &Stream| s.headers.get("streamtype").is_some_and(|t| t == "data");
        let (data, error) = match (is_data(&stream), is_data(&other)) {
            (true, false) => (stream, other),
            (false, true) => (other, stream),
            // Two of a kind: a broken client; both are ended by dropping them.
            _ => continue,
        };
        connections.spawn(connect(data, error, dial.clone()));
    }
}

fn request_id(stream: &Stream) -> String {
    if let Some(id) = stream.headers.get("requestid") {
        return id.clone();
    }
    let is_error = stream
        .headers
        .get("streamtype")
        .is_some_and(|t| t == "error");
    let id = if is_error { stream.id + 2 } else { stream.id };
    format!("stream {id}")
}

async fn connect<D, F>(data: Stream, mut error: Stream, dial: Arc<D>)
where
    D: Fn(u16) -> F + Send + Sync + 'static,
    F: Future<Output = Result<DuplexStream, String>> + Send + 'static,
{
    let port = data.headers.get("port").cloned().unwrap_or_default();
    let dialled = match port.parse::<u16>() {
        Ok(port) if port > 0 => dial(port).await,
        _ => Err(format!("unable to parse \"{port}\" as a port")),
    };
    match dialled {
        Ok(to) => carry(data.io, to).await,
        Err(text) => {
            // Fails only where the client is gone.
            let _ = error.io.write_all(text.as_bytes()).await;
        }
    }
    let _ = error.io.shutdown().await;
}

/// Carries bytes both ways until the pod's side is over: an old client waits for the end of its streams
/// with its own direction still open, so that one is only waited for a moment (as containerd and socat do).
/// A client that has said all still gets its answer. A connection that breaks is at its end, too.
async fn carry<S>(client: S, pod: DuplexStream)
where
    S: AsyncRead + AsyncWrite + Send,
{
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_pod, mut to_pod) = tokio::io::split(pod);
    let up = async {
        let _ = tokio::io::copy(&mut from_client, &mut to_pod).await;
        let _ = to_pod.shutdown().await;
    };
    let down = async {
        let _ = tokio::io::copy(&mut from_pod, &mut to_client).await;
        let _ = to_client.shutdown().await;
    };
    tokio::pin!(up, down);
    tokio::select! {
        () = &mut up => down.await,
        () = &mut down => {
            let _ = tokio::time::timeout(limits::LAST_BYTES, up).await;
        }
    }
}
