//! What makes HTTP/2 cheap where many requests share a connection, as those of client-go do: requests that came together are
//! answered together, in the connection's own task, and their answers leave in few records and packets.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes, BytesMut};
use http_body::Frame;
use http_body_util::BodyExt;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::body::Body;
use crate::limits;

type Request = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The requests of a connection that were read and not begun.
#[derive(Clone, Default)]
pub struct Requests(Arc<Mutex<Vec<Request>>>);

impl<F> hyper::rt::Executor<F> for Requests
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, request: F) {
        let done = async move {
            request.await;
        };
        self.0.lock().push(Box::pin(done));
    }
}

impl Requests {
    /// Begins them. Most reads end at once, without a worker being woken; what waits goes on as a task of its own. Tells
    /// whether there was one.
    fn begin(&self) -> bool {
        let all = std::mem::take(&mut *self.0.lock());
        let some = !all.is_empty();
        for mut request in all {
            // The task asks it again, with a waker.
            let mut nobody = Context::from_waker(Waker::noop());
            if request.as_mut().poll(&mut nobody).is_pending() {
                tokio::spawn(request);
            }
        }
        some
    }

    /// Drives a connection, and begins what it reads.
    pub fn poll<C: Future>(
        &self,
        mut connection: Pin<&mut C>,
        cx: &mut Context<'_>,
    ) -> Poll<C::Output> {
        loop {
            if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
                return Poll::Ready(ended);
            }
            // What they answered is sent next.
            if !self.begin() {
                return Poll::Pending;
            }
        }
    }
}

/// A stream whose writes are gathered until it is flushed, where that is wanted: each of them would be a record of TLS and a
/// packet.
pub struct Gathered<S> {
    stream: S,
    gathers: bool,
    written: BytesMut,
}

impl<S: AsyncWrite + Unpin> Gathered<S> {
    pub fn new(stream: S, gathers: bool) -> Self {
        let written = BytesMut::new();
        Self {
            stream,
            gathers,
            written,
        }
    }

    fn poll_written(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.written.is_empty() {
            let n = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.written))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written.advance(n);
        }
        // What large answers needed is not kept by connections that rest.
        if self.written.capacity() > 0 {
            self.written = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gathered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, to)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gathered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        // h2 has put together already what is large.
        let large = self.written.is_empty() && bytes.len() >= limits::GATHERED_BYTES / 4;
        if large || !self.gathers {
            return Pin::new(&mut self.stream).poll_write(cx, bytes);
        }
        if self.written.len() >= limits::GATHERED_BYTES {
            ready!(self.poll_written(cx))?;
        }
        let n = bytes.len().min(limits::GATHERED_BYTES);
        self.written.extend_from_slice(&bytes[..n]);
        Poll::Ready(Ok(n))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if !self.gathers {
            return Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        }
        let first = bytes.iter().find(|b| !b.is_empty());
        self.poll_write(cx, first.map_or(&[], |b| b))
    }

    /// Where writes are gathered h2 puts small frames together by itself.
    fn is_write_vectored(&self) -> bool {
        !self.gathers && self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_written(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_written(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A body in frames that h2 puts together with others before it sends them: larger ones it sends, and flushes, each for
/// itself. Where that makes too many the frame stays as it is.
pub fn in_pieces(body: Body) -> Body {
    let pieces = VecDeque::new();
    Pieces { body, pieces }.boxed_unsync()
}

struct Pieces {
    body: Body,
    pieces: VecDeque<Bytes>,
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if let Some(piece) = self.pieces.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let Some(Ok(frame)) = frame else {
            return Poll::Ready(frame);
        };
        let frame = match frame.into_data() {
            Err(trailers) => trailers,
            Ok(mut data) if data.len() <= limits::IN_PIECES_BYTES => {
                let first = data.split_to(data.len().min(limits::PIECE_BYTES));
                while !data.is_empty() {
                    let piece = data.split_to(data.len().min(limits::PIECE_BYTES));
                    self.pieces.push_back(piece);
                }
                Frame::data(first)
            }
            Ok(data) => Frame::data(data),
        };
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        let left = self.pieces.iter().map(|p| p.len() as u64).sum::<u64>();
        let rest = self.body.size_hint();
        let mut all = http_body::SizeHint::new();
        all.set_lower(rest.lower() + left);
        if let Some(upper) = rest.upper() {
            all.set_upper(upper + left);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use http_body::Body as _;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::body;

    #[tokio::test]
    async fn a_body_in_pieces_is_the_same_body() {
        let small = Bytes::from((0..3_000u32).map(|i| i as u8).collect::<Vec<_>>());
        let large = Bytes::from(vec![7; limits::IN_PIECES_BYTES + 1]);
        for (whole, frames) in [(Bytes::from_static(b"a"), 1), (small, 3), (large, 1)] {
            let mut pieces = in_pieces(body::full(whole.clone()));
            assert_eq!(pieces.size_hint().exact(), Some(whole.len() as u64));
            let (mut read, mut n) = (Vec::new(), 0);
            while let Some(frame) = pieces.frame().await {
                let data = frame.expect("a frame").into_data().expect("data");
                let left = whole.len() - read.len() - data.len();
                assert_eq!(pieces.size_hint().exact(), Some(left as u64));
                assert_eq!(pieces.is_end_stream(), left == 0);
                read.extend_from_slice(&data);
                n += 1;
            }
            assert_eq!((&read[..], n), (&whole[..], frames));
        }
    }

    #[tokio::test]
    async fn writes_are_gathered_until_the_flush() {
        let (ours, mut theirs) = tokio::io::duplex(1 << 20);
        let mut gathered = Gathered::new(ours, true);
        gathered.write_all(b"one ").await.expect("room");
        gathered.write_all(b"two").await.expect("room");
        let mut read = [0; 16];
        let early = futures::FutureExt::now_or_never(theirs.read(&mut read));
        assert!(early.is_none(), "nothing is sent before");
        gathered.flush().await.expect("room");
        let n = theirs.read(&mut read).await.expect("bytes");
        assert_eq!(&read[..n], b"one two");
        let much = vec![1; 4 * limits::GATHERED_BYTES + 5];
        gathered.write_all(&much).await.expect("room");
        assert!(gathered.written.len() <= 2 * limits::GATHERED_BYTES);
        gathered.shutdown().await.expect("room");
        drop(gathered);
        let mut rest = Vec::new();
        theirs.read_to_end(&mut rest).await.expect("bytes");
        assert_eq!(rest, much);
    }

    #[tokio::test]
    async fn requests_that_wait_go_on_as_tasks() {
        let requests = Requests::default();
        let (now, later) = (
            Arc::new(Mutex::new(0)),
            Arc::new(tokio::sync::Notify::new()),
        );
        let (count, told) = (now.clone(), later.clone());
        hyper::rt::Executor::execute(&requests, async move { *count.lock() += 1 });
        let (count, (ended, end)) = (now.clone(), tokio::sync::oneshot::channel());
        hyper::rt::Executor::execute(&requests, async move {
            told.notified().await;
            *count.lock() += 1;
            ended.send(())
        });
        assert!(requests.begin());
        assert_eq!(*now.lock(), 1);
        assert!(!requests.begin());
        later.notify_one();
        end.await.expect("the task went on");
        assert_eq!(*now.lock(), 2);
    }
}
