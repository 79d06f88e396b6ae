//! Bodies: shared buffers out, bounded buffers in.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt};
use http_body::{Body as _, Frame};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use machinery::ApiError;
use tokio::sync::Mutex;

use crate::limits;

/// The body of every response.
pub type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// One buffer.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// A shared buffer and the newline that ends a document of JSON: copied together where that costs less than a second frame,
/// which over HTTP/2 is a TLS record and a packet of its own.
pub fn line(bytes: Bytes) -> Body {
    if bytes.len() <= limits::LINE_COPIED_BYTES {
        let mut all = BytesMut::with_capacity(bytes.len() + 1);
        all.extend_from_slice(&bytes);
        all.extend_from_slice(b"\n");
        return full(all);
    }
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

type Pending = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// A request's body that is on its way. It is read once it is known that somebody may send it, and what nobody reads is let
/// come and forgotten: clients that write all of it before they read see the answer. Upstream: net/http and the handlers.
#[derive(Clone)]
pub struct Upload(Arc<Mutex<Option<Pending>>>);

impl Upload {
    pub fn new<B>(body: B) -> Self
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let pending = (!body.is_end_stream()).then(|| body.map_err(Into::into).boxed_unsync());
        Self(Arc::new(Mutex::new(pending)))
    }

    /// All of it, up to the limit.
    pub async fn read(&self) -> Result<Bytes, ApiError> {
        let mut held = self.0.lock().await;
        let too_large = || {
            let limit = limits::BODY_BYTES;
            ApiError::too_large(format!("Request entity too large: limit is {limit}"))
        };
        let known = held.as_ref().map_or(0, |b| b.size_hint().lower());
        let known = usize::try_from(known).unwrap_or(usize::MAX);
        if known > limits::BODY_BYTES {
            return Err(too_large());
        }
        let mut all = BytesMut::new();
        while let Some(body) = held.as_mut() {
            let Some(frame) = body.frame().await else {
                *held = None;
                break;
            };
            let frame = match frame {
                Ok(frame) => frame,
                Err(e) => {
                    *held = None;
                    let text = format!("error reading the body: {e}");
                    return Err(ApiError::bad_request(text));
                }
            };
            let Ok(data) = frame.into_data() else {
                continue;
            };
            if all.len() + data.len() > limits::BODY_BYTES {
                return Err(too_large());
            }
            if all.is_empty() && data.len() == known {
                *held = None;
                return Ok(data);
            }
            if all.is_empty() {
                all.reserve(known.max(data.len()));
            }
            all.extend_from_slice(&data);
        }
        Ok(all.freeze())
    }

    /// Lets what was not read come, within bounds, and forgets it.
    pub async fn forget(&self) {
        let all = async {
            let mut held = self.0.lock().await;
            let mut bytes = 0;
            while let Some(body) = held.as_mut() {
                let frame = body.frame().await.and_then(Result::ok);
                bytes += frame.map_or(limits::FORGOTTEN_BYTES, |f| {
                    f.into_data().map_or(0, |d| d.len())
                });
                if bytes >= limits::FORGOTTEN_BYTES {
                    *held = None;
                }
            }
        };
        // One that is slower sees its connection closed.
        let _ = tokio::time::timeout(limits::FORGOTTEN_WAIT, all).await;
    }
}
