//! Port-forward over WebSocket channels: channel 2n carries the bytes of the n-th port of the query,
//! 2n+1 its error text; each begins with its port in two bytes, little end first.

use std::sync::Arc;

use cri::DuplexStream;
use fastwebsockets::upgrade::UpgradeFut;
use http::HeaderMap;
use tokio::io::{AsyncReadExt, AsyncWriteExt, WriteHalf};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::channel::Coding;
use crate::websocket::{self, Messages, Outgoing};
use crate::{Error, limits};

/// A subprotocol and what it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protocol {
    pub name: &'static str,
    coding: Coding,
}

const KNOWN: &[&str] = &["", "v4.channel.k8s.io", "v4.base64.channel.k8s.io"];

// === Protocol ===

impl Protocol {
    /// The client's first choice that is known here.
    pub fn choose(headers: &HeaderMap) -> Result<Self, Error> {
        let name = websocket::choose(headers, KNOWN);
        let name = name.ok_or_else(|| Error::bad_request("unsupported WebSocket subprotocol"))?;
        let coding = Coding::of(name);
        Ok(Self { name, coding })
    }
}

/// The ports of a query, with upstream's texts for bad ones.
pub fn ports(query: &str) -> Result<Vec<u16>, Error> {
    let mut out = Vec::new();
    let pairs = query.split('&').filter_map(|p| p.split_once('='));
    for (_, value) in pairs.filter(|(k, _)| *k == "ports" || *k == "port") {
        for text in value
            .replace("%2C", ",")
            .split(',')
            .filter(|t| !t.is_empty())
        {
            match text.parse::<u16>() {
                Ok(port) if port > 0 => out.push(port),
                Ok(port) => {
                    return Err(Error::bad_request(format!("port \"{port}\" must be > 0")));
                }
                Err(_) => {
                    return Err(Error::bad_request(format!(
                        "unable to parse \"{text}\" as a port"
                    )));
                }
            }
        }
    }
    if out.is_empty() {
        return Err(Error::bad_request("query parameter \"port\" is required"));
    }
    if out.len() > limits::PORTS {
        return Err(Error::bad_request(format!(
            "at most {} ports can be forwarded at once",
            limits::PORTS
        )));
    }
    Ok(out)
}

/// Forwards until the client goes or all connections are over.
pub async fn serve<D, F>(
    future: UpgradeFut,
    protocol: Protocol,
    ports: Vec<u16>,
    dial: Arc<D>,
) -> Result<(), Error>
where
    D: Fn(u16) -> F + Send + Sync + 'static,
    F: Future<Output = Result<DuplexStream, String>> + Send + 'static,
{
    let (mut messages, out) = websocket::open(future).await?;
    let mut inputs: Vec<Option<WriteHalf<tokio::io::DuplexStream>>> = Vec::new();
    let mut tasks = JoinSet::new();
    for (n, port) in ports.into_iter().enumerate() {
        let channel = (2 * n) as u8;
        for c in [channel, channel + 1] {
            let greeted = out
                .send(protocol.coding.message(c, &port.to_le_bytes()))
                .await;
            greeted.map_err(|_| Error::broken("the client is gone"))?;
        }
        let (ours, theirs) = tokio::io::duplex(limits::STREAM_BYTES);
        let (read, write) = tokio::io::split(ours);
        inputs.push(Some(write));
        tasks.spawn(pump(protocol, channel, read, out.clone()));
        tasks.spawn(connect(
            protocol,
            channel,
            port,
            theirs,
            dial.clone(),
            out.clone(),
        ));
    }
    drop(out);
    tokio::select! {
        () = feed(&mut messages, protocol, &mut inputs) => {}
        () = async { while tasks.join_next().await.is_some() {} } => {}
    }
    Ok(())
}

/// Gives the client's bytes to the connections of their channels.
async fn feed(
    messages: &mut Messages,
    protocol: Protocol,
    inputs: &mut [Option<WriteHalf<tokio::io::DuplexStream>>],
) {
    while let Some(message) = messages.next().await {
        let Some((channel, data)) = protocol.coding.parse(message) else {
            continue;
        };
        let input = (channel % 2 == 0)
            .then(|| inputs.get_mut(usize::from(channel / 2)))
            .flatten();
        if let Some(slot) = input
            && let Some(write) = slot
            && write.write_all(&data).await.is_err()
        {
            *slot = None;
        }
    }
}

async fn connect<D, F>(
    protocol: Protocol,
    channel: u8,
    port: u16,
    io: tokio::io::DuplexStream,
    dial: Arc<D>,
    out: mpsc::Sender<Outgoing>,
) where
    D: Fn(u16) -> F + Send + Sync + 'static,
    F: Future<Output = Result<DuplexStream, String>> + Send + 'static,
{
    match dial(port).await {
        Ok(to) => super::carry(io, to).await,
        Err(text) => {
            // Fails only where the client is gone.
            let _ = out
                .send(protocol.coding.message(channel + 1, text.as_bytes()))
                .await;
        }
    }
}

async fn pump<R: tokio::io::AsyncRead + Unpin>(
    protocol: Protocol,
    channel: u8,
    mut from: R,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_or_refused() {
        assert_eq!(ports("ports=80,443&ports=8080").unwrap(), [80, 443, 8080]);
        for (query, text) in [
            ("", "query parameter \"port\" is required"),
            ("ports=0", "port \"0\" must be > 0"),
            ("ports=http", "unable to parse \"http\" as a port"),
            ("ports=70000", "unable to parse \"70000\" as a port"),
        ] {
            assert_eq!(ports(query).unwrap_err().message, text);
        }
    }
}
