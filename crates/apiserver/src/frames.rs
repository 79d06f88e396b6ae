//! Streams that a future makes while they are read: nothing runs ahead of the reader, and no task stands between.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures::Stream;
use parking_lot::Mutex;

use crate::limits;

/// Where the future puts what it makes.
#[derive(Clone, Default)]
pub struct Frames(Arc<Mutex<Queue>>);

#[derive(Default)]
struct Queue {
    frames: VecDeque<Bytes>,
    bytes: usize,
}

/// The frames of a future, in their order. It ends with the future, which is dropped with it.
pub struct Made {
    frames: Frames,
    work: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    joined: bool,
}

// === Frames ===

impl Frames {
    /// Gives a frame; returns once there is room for another.
    pub async fn send(&self, frame: Bytes) {
        let full = {
            let mut queue = self.0.lock();
            queue.bytes += frame.len();
            queue.frames.push_back(frame);
            queue.bytes >= limits::FRAMES_BYTES
        };
        if full {
            // The reader asks the future again when it has taken all, and needs no waker for it.
            poll_fn(|_| match self.is_empty() {
                true => Poll::Ready(()),
                false => Poll::Pending,
            })
            .await;
        }
    }

    fn is_empty(&self) -> bool {
        self.0.lock().frames.is_empty()
    }

    fn first(&self) -> Option<Bytes> {
        let mut queue = self.0.lock();
        let frame = queue.frames.pop_front()?;
        queue.bytes -= frame.len();
        Some(frame)
    }

    /// All that is there, as one: a record and a packet for each would cost more than copying.
    fn all(&self) -> Option<Bytes> {
        let mut queue = self.0.lock();
        let bytes = std::mem::take(&mut queue.bytes);
        if queue.frames.len() < 2 {
            return queue.frames.pop_front();
        }
        let mut all = BytesMut::with_capacity(bytes);
        for frame in queue.frames.drain(..) {
            all.extend_from_slice(&frame);
        }
        Some(all.freeze())
    }
}

// === Made ===

impl Made {
    /// What `make` sends: each frame for itself, or those that are ready together as one where they are `joined`.
    pub fn by<F>(joined: bool, make: impl FnOnce(Frames) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let frames = Frames::default();
        let work: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(make(frames.clone()));
        Self {
            frames,
            work: Some(work),
            joined,
        }
    }
}

impl Stream for Made {
    type Item = Result<Bytes, std::io::Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let ready = match self.joined {
                true => self.frames.all(),
                false => self.frames.first(),
            };
            if let Some(frame) = ready {
                return Poll::Ready(Some(Ok(frame)));
            }
            let Some(work) = &mut self.work else {
                return Poll::Ready(None);
            };
            if work.as_mut().poll(cx).is_ready() {
                self.work = None;
            } else if self.frames.is_empty() {
                return Poll::Pending;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures::{FutureExt, StreamExt};

    use super::Made;
    use crate::limits;

    const WORDS: [&str; 3] = ["a", "bc", "d"];

    async fn read(joined: bool) -> Vec<Bytes> {
        let made = Made::by(joined, |to| async move {
            for word in WORDS {
                to.send(Bytes::from_static(word.as_bytes())).await;
            }
            tokio::task::yield_now().await;
            to.send(Bytes::from_static(b"e")).await;
        });
        made.map(|frame| frame.expect("no error")).collect().await
    }

    #[tokio::test]
    async fn frames_that_are_ready_go_together_where_they_may() {
        assert_eq!(read(false).await, ["a", "bc", "d", "e"]);
        assert_eq!(read(true).await, ["abcd", "e"]);
    }

    #[tokio::test]
    async fn nothing_runs_ahead_of_the_reader() {
        let frame = Bytes::from(vec![0; limits::FRAMES_BYTES / 2]);
        let sent = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let count = sent.clone();
        let mut made = Made::by(false, |to| async move {
            loop {
                to.send(frame.clone()).await;
                count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
        });
        for taken in 1..7 {
            assert!(made.next().now_or_never().flatten().is_some());
            let made = sent.load(std::sync::atomic::Ordering::Relaxed);
            assert!(made <= taken + 2, "{made} were made, {taken} taken");
        }
    }
}
