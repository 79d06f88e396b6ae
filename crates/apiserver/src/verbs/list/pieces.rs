//! The pieces that a list is sent in, made when the client takes them.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use client::Entry;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use machinery::ApiError;

use crate::body::{self, Body};
use crate::limits;

/// Small objects are gathered into pieces of about this size; stored ones from a quarter of it on are handed over as they are.
const PIECE: usize = 64 << 10;

type Made = dyn FnMut(&Entry, &mut Vec<u8>) -> std::io::Result<()> + Send;

/// How an object is written.
pub enum Item {
    /// As it is stored, but for so many bytes at its beginning.
    Stored(usize),
    Made(Box<Made>),
}

impl Item {
    pub fn made(
        f: impl FnMut(&Entry, &mut Vec<u8>) -> std::io::Result<()> + Send + 'static,
    ) -> Self {
        Self::Made(Box::new(f))
    }
}

/// What stands before the objects, between them and behind them, and the objects that are left.
pub struct Pieces {
    gathered: Vec<u8>,
    entries: std::vec::IntoIter<Arc<Entry>>,
    between: &'static [u8],
    tail: Option<Bytes>,
    item: Item,
    begun: bool,
    /// A large object that follows what was gathered.
    alone: Option<Bytes>,
}

impl Pieces {
    pub fn new(
        head: Vec<u8>,
        entries: Vec<Arc<Entry>>,
        between: &'static [u8],
        tail: impl Into<Bytes>,
        item: Item,
    ) -> Self {
        Self {
            gathered: head,
            entries: entries.into_iter(),
            between,
            tail: Some(tail.into()),
            item,
            begun: false,
            alone: None,
        }
    }

    /// The body: one buffer where that is short, else made while it is sent. `length` is all of it, where that is known.
    pub fn body(mut self, length: Option<u64>) -> Result<Body, ApiError> {
        if length.is_some_and(|n| n > limits::GZIP_ABOVE as u64) {
            return Ok(Sent::new(Vec::new(), self, length).boxed_unsync());
        }
        let mut first = Vec::new();
        while first.len() <= limits::GZIP_ABOVE {
            match self.next() {
                Some(piece) => first.extend_from_slice(&piece.map_err(ApiError::internal)?),
                None => return Ok(body::full(first)),
            }
        }
        Ok(Sent::new(first, self, length).boxed_unsync())
    }

    /// Gathers until there is a piece, a large object or the end.
    fn gather(&mut self) -> std::io::Result<()> {
        while self.gathered.len() < PIECE {
            let Some(entry) = self.entries.next() else {
                self.gathered.extend(self.tail.take().into_iter().flatten());
                break;
            };
            if std::mem::replace(&mut self.begun, true) {
                self.gathered.extend_from_slice(self.between);
            }
            match &mut self.item {
                Item::Stored(from) if entry.bytes.len() >= PIECE / 4 => {
                    self.alone = Some(entry.bytes.slice(*from..));
                    break;
                }
                Item::Stored(from) => self.gathered.extend_from_slice(&entry.bytes[*from..]),
                Item::Made(made) => made(&entry, &mut self.gathered)?,
            }
        }
        Ok(())
    }
}

impl Iterator for Pieces {
    type Item = std::io::Result<Bytes>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(alone) = self.alone.take() {
            return Some(Ok(alone));
        }
        if let Err(e) = self.gather() {
            return Some(Err(e));
        }
        if self.gathered.is_empty() {
            return self.alone.take().map(Ok);
        }
        Some(Ok(std::mem::take(&mut self.gathered).into()))
    }
}

/// Pieces that follow a first one.
struct Sent {
    first: Option<Bytes>,
    rest: Pieces,
    /// What is left of the length where that is known.
    left: Option<u64>,
    /// Whether others had their turn since the last piece.
    rested: bool,
}

impl Sent {
    fn new(first: Vec<u8>, rest: Pieces, left: Option<u64>) -> Self {
        Self {
            first: (!first.is_empty()).then(|| first.into()),
            rest,
            left,
            rested: true,
        }
    }
}

impl http_body::Body for Sent {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<std::io::Result<Frame<Bytes>>>> {
        let piece = match self.first.take() {
            Some(first) => Some(Ok(first)),
            None if !std::mem::replace(&mut self.rested, true) => {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            None => {
                // To copy what is stored is no work.
                self.rested = matches!(self.rest.item, Item::Stored(_));
                self.rest.next()
            }
        };
        if let (Some(left), Some(Ok(piece))) = (&mut self.left, &piece) {
            *left = left.saturating_sub(piece.len() as u64);
        }
        Poll::Ready(piece.map(|p| p.map(Frame::data)))
    }

    fn size_hint(&self) -> SizeHint {
        match self.left {
            Some(left) => SizeHint::with_exact(left),
            None => {
                let mut hint = SizeHint::new();
                hint.set_lower(self.first.as_ref().map_or(0, |f| f.len() as u64));
                hint
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body::Body as _;
    use serde_json::json;

    use super::*;

    fn entry(name: &str, bytes: usize) -> Arc<Entry> {
        let object = json!({"metadata": {"name": name}, "data": "x".repeat(bytes)});
        let entry = Entry::new(object.to_string().into(), 1, Vec::new());
        Arc::new(entry.expect("an entry"))
    }

    #[tokio::test]
    async fn pieces_are_of_bounded_size_and_make_the_list() {
        let sizes = [1, PIECE / 3, 5, 5, PIECE * 3, 7].into_iter();
        let sizes = sizes.chain(std::iter::repeat_n(1_000, 300));
        let all: Vec<_> = sizes
            .enumerate()
            .map(|(n, size)| entry(&format!("o{n}"), size))
            .collect();
        let texts: Vec<_> = all.iter().map(|e| &e.bytes[..]).collect();
        let expected = [b"[".to_vec(), texts.join(&b","[..]), b"]".to_vec()].concat();
        let made = |e: &Entry, out: &mut Vec<u8>| {
            out.extend_from_slice(&e.bytes);
            Ok(())
        };
        let length = expected.len() as u64;
        for (item, length) in [
            (Item::Stored(0), Some(length)),
            (Item::made(made), Some(length)),
            (Item::made(made), None),
        ] {
            let pieces = Pieces::new(b"[".to_vec(), all.clone(), b",", &b"]"[..], item);
            let mut body = pieces.body(length).expect("a body");
            assert_eq!(body.size_hint().exact(), length);
            assert!(body.size_hint().lower() > limits::GZIP_ABOVE as u64);
            let (mut found, mut most) = (Vec::new(), 0);
            while let Some(frame) = body.frame().await {
                let data = frame.expect("a frame").into_data().expect("data");
                most = most.max(data.len());
                found.extend_from_slice(&data);
            }
            assert!(found == expected, "{} bytes", found.len());
            assert!(most < PIECE * 6, "{most}");
            assert!(length.is_none() || body.size_hint().exact() == Some(0));
        }
    }

    #[tokio::test]
    async fn what_is_short_is_one_buffer_and_what_fails_at_once_is_no_body() {
        let bodies = [0, 1, 3].map(|n| {
            let entries = (0..n).map(|n| entry(&format!("o{n}"), 10)).collect();
            let pieces = Pieces::new(b"[".to_vec(), entries, b",", &b"]"[..], Item::Stored(0));
            pieces.body(None).expect("a body")
        });
        for body in bodies {
            assert!(body.size_hint().exact().is_some());
        }
        let fails = |_: &Entry, _: &mut Vec<u8>| Err(std::io::Error::other("no form"));
        let entries = vec![entry("o", 1)];
        let pieces = Pieces::new(Vec::new(), entries, b",", &b"]"[..], Item::made(fails));
        assert!(pieces.body(None).is_err());
    }
}
