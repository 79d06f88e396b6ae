//! gzip of large answers, and of watches that begin with a list. Upstream: responsewriters, WatchListCompression;
//! api-semantics §3.2.

use std::io::Write;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::{Stream, StreamExt};
use http::HeaderMap;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, HeaderValue, VARY};
use http_body::{Body as _, Frame};
use http_body_util::BodyExt;

use crate::body::{self, Body};
use crate::limits;
use crate::response::Answer;

/// Frames that are compressed together at most.
const FRAMES: usize = 64;

/// Whether a client accepts exactly `gzip`.
pub fn is_wanted(headers: &HeaderMap) -> bool {
    // Of several headers upstream reads the first.
    let accepts = headers.get(ACCEPT_ENCODING).and_then(|v| v.to_str().ok());
    let mut accepts = accepts.unwrap_or("").split(',');
    accepts.any(|t| t.trim() == "gzip")
}

/// Compresses an answer above the limit where the client accepts exactly `gzip`; a long one while it is sent.
pub async fn compressed(answer: Answer, headers: &HeaderMap) -> Answer {
    let hint = answer.body().size_hint();
    if !is_wanted(headers) || hint.lower() <= limits::GZIP_ABOVE as u64 {
        return answer;
    }
    let (mut parts, body) = answer.into_parts();
    if hint.exact().is_none_or(|n| n > limits::GZIP_WHOLE) {
        mark(&mut parts.headers);
        return Answer::from_parts(parts, Packed::new(body).boxed_unsync());
    }
    let Ok(whole) = body.collect().await else {
        return crate::response::text(500, "the answer could not be read");
    };
    let plain = whole.to_bytes();
    match packed([plain.as_ref()]) {
        Ok(packed) => {
            mark(&mut parts.headers);
            Answer::from_parts(parts, body::full(packed))
        }
        Err(_) => Answer::from_parts(parts, body::full(plain)),
    }
}

/// A body that is compressed while it is sent, as one member.
struct Packed {
    body: Body,
    encoder: Option<GzEncoder<Vec<u8>>>,
}

impl Packed {
    fn new(body: Body) -> Self {
        let encoder = GzEncoder::new(Vec::new(), Compression::fast());
        Self {
            body,
            encoder: Some(encoder),
        }
    }

    /// Takes in a frame, or the end; gives what there is of the compressed text then.
    fn take_in(&mut self, frame: Option<Bytes>) -> std::io::Result<Vec<u8>> {
        let Some(mut encoder) = self.encoder.take() else {
            return Ok(Vec::new());
        };
        let Some(data) = frame else {
            encoder.flush()?;
            return encoder.finish();
        };
        encoder.write_all(&data)?;
        let out = std::mem::take(encoder.get_mut());
        self.encoder = Some(encoder);
        Ok(out)
    }
}

impl http_body::Body for Packed {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<std::io::Result<Frame<Bytes>>>> {
        while self.encoder.is_some() {
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Err(e)) => return Poll::Ready(Some(Err(e))),
                Some(Ok(frame)) => Some(frame.into_data().unwrap_or_default()),
                None => None,
            };
            let out = self.take_in(frame)?;
            if !out.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(out.into()))));
            }
        }
        Poll::Ready(None)
    }
}

/// Compresses a stream of frames: those that are there at a time as one member, which the client can read at once.
pub fn stream<S>(frames: S) -> Body
where
    S: Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static,
{
    let each = |frames: Vec<Result<Bytes, std::io::Error>>| {
        let frames: Vec<Bytes> = frames.into_iter().collect::<Result<_, _>>()?;
        packed(frames.iter().map(AsRef::as_ref)).map(Bytes::from)
    };
    body::stream(frames.ready_chunks(FRAMES).map(each))
}

/// The headers of an answer that is compressed.
pub fn mark(headers: &mut HeaderMap) {
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    let varies = headers.get_all(VARY).iter();
    if !varies.into_iter().any(|v| v == "Accept-Encoding") {
        headers.append(VARY, HeaderValue::from_static("Accept-Encoding"));
    }
}

fn packed<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    for part in parts {
        encoder.write_all(part)?;
    }
    // Go's reader waits for the next member before it gives what stands in the last block: nothing stands there now.
    encoder.flush()?;
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_member_ends_with_an_empty_block() {
        let data = packed([b"some text".as_slice()]).expect("gzip");
        // The stored block of a flush, then a last one of fixed codes without any, then checksum and length.
        let end = data.len() - 8;
        assert_eq!(data[end - 6..end], [0, 0, 0xff, 0xff, 3, 0]);
    }

    #[tokio::test]
    async fn a_long_answer_is_one_member_made_piece_by_piece() {
        let frames = (0..20).map(|n| Bytes::from(format!("{n} ").repeat(2_000)));
        let frames: Vec<Bytes> = frames.collect();
        let expected = frames.concat();
        let sent = futures::stream::iter(frames.into_iter().map(Ok));
        let mut body = Packed::new(body::stream(sent));
        let (mut data, mut pieces) = (Vec::new(), 0);
        while let Some(frame) = body.frame().await {
            data.extend_from_slice(&frame.expect("a frame").into_data().expect("data"));
            pieces += 1;
        }
        assert!(pieces > 1);
        let mut text = Vec::new();
        let mut decoder = flate2::read::GzDecoder::new(data.as_slice());
        decoder.read_to_end(&mut text).expect("gzip");
        assert!(text == expected);
    }

    #[tokio::test]
    async fn frames_are_members_that_make_one_text() {
        let frames = ["one\n", "two\n", "three\n"].map(|f| Ok(Bytes::from(f)));
        let later = futures::stream::iter(frames).then(|f| async {
            tokio::task::yield_now().await;
            f
        });
        let body = stream(later);
        let data = body.collect().await.expect("a body").to_bytes();
        let mut text = String::new();
        let mut decoder = flate2::read::MultiGzDecoder::new(data.as_ref());
        decoder.read_to_string(&mut text).expect("gzip");
        assert_eq!(text, "one\ntwo\nthree\n");
    }
}
