//! Bodies: shared buffers out, bounded buffers in.

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
