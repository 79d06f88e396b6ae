//! Bodies: shared buffers out, bounded buffers in.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited, StreamBody};
use machinery::ApiError;

use crate::limits;

/// The body of every response.
pub type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// One buffer.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// A shared buffer and the newline that ends a document of JSON, without being copied together.
pub fn line(bytes: Bytes) -> Body {
    let parts = [bytes, Bytes::from_static(b"\n")];
    Line(VecDeque::from(parts)).boxed_unsync()
}

struct Line(VecDeque<Bytes>);

impl http_body::Body for Line {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        Poll::Ready(self.0.pop_front().map(|part| Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        let left = self.0.iter().map(|part| part.len() as u64).sum();
        http_body::SizeHint::with_exact(left)
    }
}

/// Many buffers, written one after the other without being copied together.
pub fn chunks(list: Vec<Bytes>) -> Body {
    stream(futures::stream::iter(list.into_iter().map(Ok)))
}

/// A body that is produced while it is sent.
pub fn stream(s: impl Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static) -> Body {
    BodyExt::boxed_unsync(StreamBody::new(s.map(|r| r.map(Frame::data))))
}

/// The same body; `held` is dropped when it ends or the client goes away.
pub fn holding(body: Body, held: impl Send + 'static) -> Body {
    body.map_frame(move |frame| {
        let _ = &held;
        frame
    })
    .boxed_unsync()
}

/// Reads a request's body up to the limit.
pub async fn read<B>(body: B) -> Result<Bytes, ApiError>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    match Limited::new(body, limits::BODY_BYTES).collect().await {
        Ok(all) => Ok(all.to_bytes()),
        Err(e) if e.downcast_ref::<LengthLimitError>().is_some() => Err(ApiError::too_large(
            format!("Request entity too large: limit is {}", limits::BODY_BYTES),
        )),
        Err(e) => Err(ApiError::bad_request(format!(
            "error reading the body: {e}"
        ))),
    }
}
