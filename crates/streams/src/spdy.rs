//! A SPDY/3.1 connection as its server sees it: streams that the client opens. As upstream's library
//! (moby/spdystream) it has no flow control of its own; a slow stream holds back the connection.

pub(crate) mod frame;
mod headers;

pub use frame::Frame;
pub use headers::{Deflater, Headers, Inflater};

use std::collections::HashMap;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, WriteHalf};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::limits;

/// A stream that the client opened. Shutting it down or dropping it ends our direction.
pub struct Stream {
    pub id: u32,
    /// Names in lower case.
    pub headers: Headers,
    pub io: DuplexStream,
}

/// A connection. Dropping it ends the connection once what its streams wrote is sent.
pub struct Session {
    /// Ends with the connection.
    pub incoming: mpsc::Receiver<Stream>,
    /// Cancelled when the client is gone.
    pub gone: CancellationToken,
    _stop: DropGuard,
}

struct ReadSide<R> {
    io: R,
    streams: HashMap<u32, WriteHalf<DuplexStream>>,
    inflater: Inflater,
    deflater: Deflater,
    opened: mpsc::Sender<Stream>,
    out: mpsc::Sender<Frame>,
    last: u32,
}

/// Serves a connection.
pub fn serve<S>(io: S) -> Result<Session, String>
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (read, write) = tokio::io::split(io);
    let (opened, incoming) = mpsc::channel(limits::OUTGOING_FRAMES);
    let (out, frames) = mpsc::channel(limits::OUTGOING_FRAMES);
    let mut side = ReadSide {
        io: read,
        streams: HashMap::new(),
        inflater: Inflater::default(),
        deflater: Deflater::new()?,
        opened,
        out,
        last: 0,
    };
    let (gone, stop) = (CancellationToken::new(), CancellationToken::new());
    let (ended, stopped) = (gone.clone(), stop.clone());
    tokio::spawn(async move {
        tokio::select! {
            () = stopped.cancelled() => {}
            result = side.run() => {
                if let Err(error) = result {
                    tracing::debug!(error, "SPDY connection ended");
                }
            }
        }
        side.close().await;
        ended.cancel();
    });
    tokio::spawn(write_frames(write, frames));
    Ok(Session {
        incoming,
        gone,
        _stop: stop.drop_guard(),
    })
}

/// Writes until nobody can send frames any more, then says goodbye.
async fn write_frames<W: AsyncWrite + Unpin>(mut io: W, mut frames: mpsc::Receiver<Frame>) {
    let mut buffer = BytesMut::new();
    while let Some(first) = frames.recv().await {
        frame::encode(&first, &mut buffer);
        while buffer.len() < limits::STREAM_BYTES
            && let Ok(next) = frames.try_recv()
        {
            frame::encode(&next, &mut buffer);
        }
        if io.write_all_buf(&mut buffer).await.is_err() || io.flush().await.is_err() {
            return;
        }
    }
    frame::encode(&Frame::GoAway { last_stream: 0 }, &mut buffer);
    // The client may have gone first; either way the connection is over.
    let _ = io.write_all_buf(&mut buffer).await;
    let _ = io.shutdown().await;
}

// === ReadSide ===

impl<R: AsyncRead + Unpin> ReadSide<R> {
    async fn run(&mut self) -> Result<(), String> {
        let mut buffer = BytesMut::with_capacity(limits::STREAM_BYTES);
        loop {
            while let Some(frame) = frame::decode(&mut buffer)? {
                self.take(frame).await?;
            }
            let n = self.io.read_buf(&mut buffer).await;
            if n.map_err(|e| format!("read: {e}"))? == 0 {
                return Ok(());
            }
        }
    }

    async fn take(&mut self, frame: Frame) -> Result<(), String> {
        match frame {
            Frame::SynStream { stream, fin, block } => self.open(stream, fin, &block).await,
            Frame::Data { stream, fin, data } => {
                self.deliver(stream, fin, data).await;
                Ok(())
            }
            Frame::Headers { block, .. } | Frame::SynReply { block, .. } => {
                // Unused, but part of the shared zlib stream.
                self.inflater.headers(&block).map(|_| ())
            }
            Frame::Reset { stream, .. } => {
                self.deliver(stream, true, Bytes::new()).await;
                Ok(())
            }
            Frame::Ping { id } => self.send(Frame::Ping { id }).await,
            Frame::GoAway { .. } | Frame::Other => Ok(()),
        }
    }

    async fn send(&mut self, frame: Frame) -> Result<(), String> {
        let sent = self.out.send(frame).await;
        sent.map_err(|_| "the writer ended".to_string())
    }

    async fn open(&mut self, id: u32, fin: bool, block: &[u8]) -> Result<(), String> {
        let headers = self.inflater.headers(block)?;
        if id.is_multiple_of(2) || id <= self.last {
            return Err(format!("stream id {id} is out of order"));
        }
        self.last = id;
        if self.streams.len() >= limits::STREAMS {
            // 3: refused stream.
            return self
                .send(Frame::Reset {
                    stream: id,
                    status: 3,
                })
                .await;
        }
        let block = self.deflater.block(&Headers::new())?;
        self.send(Frame::SynReply { stream: id, block }).await?;
        let (ours, io) = tokio::io::duplex(limits::STREAM_BYTES);
        let (read, write) = tokio::io::split(ours);
        tokio::spawn(pump(id, read, self.out.clone()));
        self.streams.insert(id, write);
        if fin {
            self.deliver(id, true, Bytes::new()).await;
        }
        let stream = Stream { id, headers, io };
        let given = self.opened.send(stream).await;
        given.map_err(|_| "nobody accepts streams".to_string())
    }

    /// Readers of all streams see their end.
    async fn close(&mut self) {
        for (_, mut write) in self.streams.drain() {
            // Fails only where the reader is gone already.
            let _ = write.shutdown().await;
        }
    }

    async fn deliver(&mut self, id: u32, fin: bool, data: Bytes) {
        let Some(write) = self.streams.get_mut(&id) else {
            return;
        };
        let ended = fin | write.write_all(&data).await.is_err();
        if ended && let Some(mut write) = self.streams.remove(&id) {
            // Fails only where the reader is gone already.
            let _ = write.shutdown().await;
        }
    }
}

/// Frames what a stream's owner writes, until it ends its direction.
async fn pump<R: AsyncRead + Unpin>(stream: u32, mut io: R, out: mpsc::Sender<Frame>) {
    loop {
        let mut data = BytesMut::with_capacity(limits::STREAM_BYTES / 2);
        let fin = !matches!(io.read_buf(&mut data).await, Ok(n) if n > 0);
        let data = data.freeze();
        if out.send(Frame::Data { stream, fin, data }).await.is_err() || fin {
            return;
        }
    }
}
