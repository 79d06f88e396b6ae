//! A KMS v2 plug-in as others would write one, and as nobody should: gRPC by hand over HTTP/2 on a unix socket.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{BufMut, Bytes, BytesMut};
use futures::StreamExt;
use http::{HeaderMap, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use prost::Message;
use tokio::net::UnixListener;

#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(string, tag = "1")]
    version: String,
    #[prost(string, tag = "2")]
    healthz: String,
    #[prost(string, tag = "3")]
    key_id: String,
}

/// Both requests and both answers: the numbers of their fields do not collide in what is used here.
#[derive(Clone, PartialEq, Message)]
struct Sealed {
    #[prost(bytes = "vec", tag = "1")]
    bytes: Vec<u8>,
    #[prost(string, tag = "2")]
    key_id: String,
    #[prost(btree_map = "string, bytes", tag = "3")]
    annotations: BTreeMap<String, Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct ToOpen {
    #[prost(bytes = "vec", tag = "1")]
    bytes: Vec<u8>,
    #[prost(string, tag = "3")]
    key_id: String,
}

#[derive(Clone, PartialEq, Message)]
struct Opened {
    #[prost(bytes = "vec", tag = "1")]
    bytes: Vec<u8>,
}

/// How the plug-in behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    Good,
    /// Says that it is not well.
    Sick,
    /// Seals with another key than it says.
    Lies,
    /// Never answers.
    Hangs,
    /// Sends no protobuf.
    Garbage,
    /// Announces an answer of a gigabyte and sends without end.
    Floods,
    /// Sends headers without end.
    Headers,
}

struct Shared {
    manner: Mutex<Manner>,
    key: Mutex<String>,
    calls: AtomicUsize,
}

/// A plug-in that listens; it is gone when this is dropped.
pub struct Plugin {
    shared: Arc<Shared>,
    pub socket: PathBuf,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Plugin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

type Body = UnsyncBoxBody<Bytes, Infallible>;

impl Plugin {
    /// Listens at a socket that is not there yet.
    pub fn start(socket: &Path, key: &str) -> Self {
        let listener = UnixListener::bind(socket).unwrap();
        let shared = Arc::new(Shared {
            manner: Mutex::new(Manner::Good),
            key: Mutex::new(key.into()),
            calls: AtomicUsize::new(0),
        });
        let task = tokio::spawn(serve(listener, shared.clone()));
        Self {
            shared,
            socket: socket.into(),
            task,
        }
    }

    pub fn behave(&self, manner: Manner) {
        *self.shared.manner.lock() = manner;
    }

    /// Another key from now on; data keys that older ones sealed are opened still.
    pub fn key(&self, id: &str) {
        *self.shared.key.lock() = id.into();
    }

    /// How often it was asked to open a data key.
    pub fn opened(&self) -> usize {
        self.shared.calls.load(Ordering::Relaxed)
    }
}

async fn serve(listener: UnixListener, shared: Arc<Shared>) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let shared = shared.clone();
        let service = service_fn(move |r: Request<Incoming>| {
            let shared = shared.clone();
            async move { Ok::<_, Infallible>(answer(&shared, r).await) }
        });
        connections.spawn(
            hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service),
        );
    }
}

async fn answer(shared: &Shared, request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path().to_string();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let manner = *shared.manner.lock();
    let message = match manner {
        Manner::Hangs => std::future::pending().await,
        Manner::Floods => return flood(),
        Manner::Headers => return headers(),
        Manner::Garbage => vec![0xff; 30],
        _ => honest(shared, manner, &path, body.slice(5..)),
    };
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap());
    frame.extend_from_slice(&message);
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().unwrap());
    let frames = [Frame::data(frame.freeze()), Frame::trailers(trailers)];
    respond(futures::stream::iter(frames.map(Ok)).boxed())
}

fn respond(
    frames: futures::stream::BoxStream<'static, Result<Frame<Bytes>, Infallible>>,
) -> Response<Body> {
    let body = StreamBody::new(frames).boxed_unsync();
    Response::builder()
        .header("content-type", "application/grpc")
        .body(body)
        .unwrap()
}

fn honest(shared: &Shared, manner: Manner, path: &str, body: Bytes) -> Vec<u8> {
    let key = shared.key.lock().clone();
    match path.rsplit('/').next().unwrap() {
        "Status" => Status {
            version: "v2".into(),
            healthz: if manner == Manner::Sick { "sick" } else { "ok" }.into(),
            key_id: key,
        }
        .encode_to_vec(),
        "Encrypt" => {
            let mut asked = Sealed::decode(body).unwrap();
            asked.bytes.reverse();
            Sealed {
                bytes: [key.as_bytes(), b"|", &asked.bytes].concat(),
                key_id: if manner == Manner::Lies {
                    "another".into()
                } else {
                    key
                },
                annotations: [("version.example.com".to_string(), b"1".to_vec())].into(),
            }
            .encode_to_vec()
        }
        "Decrypt" => {
            shared.calls.fetch_add(1, Ordering::Relaxed);
            let asked = ToOpen::decode(body).unwrap();
            let sealed = asked.bytes.strip_prefix(asked.key_id.as_bytes()).unwrap();
            let mut bytes = sealed[1..].to_vec();
            bytes.reverse();
            Opened { bytes }.encode_to_vec()
        }
        other => panic!("{other}"),
    }
}

fn flood() -> Response<Body> {
    let mut head = BytesMut::new();
    head.put_u8(0);
    head.put_u32(1 << 30);
    let rest = futures::stream::repeat_with(|| Bytes::from(vec![0; 1 << 16]));
    let all = futures::stream::iter([head.freeze()]).chain(rest);
    respond(all.map(|b| Ok(Frame::data(b))).boxed())
}

fn headers() -> Response<Body> {
    let mut answer = respond(futures::stream::pending().boxed());
    for i in 0..1_000 {
        let name: http::HeaderName = format!("x-{i}").parse().unwrap();
        let value = "v".repeat(100).parse().unwrap();
        answer.headers_mut().insert(name, value);
    }
    answer
}
