//! Servers beside a cluster that it is told to ask: HTTPS with JSON, and gRPC by hand on a port or a unix socket. They
//! answer as they are told, or as nobody should.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use bytes::{BufMut, Bytes, BytesMut};
use futures::{StreamExt, stream};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use parking_lot::Mutex;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::certs;

/// How all of them behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    Good,
    /// No answer, until they behave in another way; then the request fails.
    Hang,
    /// What is neither JSON nor protobuf.
    Garble,
    /// Answers without end.
    Flood,
}

/// Gives the answer to a request by its path and body.
pub type Answers = Arc<dyn Fn(&str, &[u8]) -> Vec<u8> + Send + Sync>;

/// The servers; they end with this.
pub struct Outsiders {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

struct Shared {
    manner: watch::Sender<Manner>,
    /// Bodies of all requests, by path.
    heard: Mutex<HashMap<String, Vec<Bytes>>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Words {
    Json,
    Grpc,
}

type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// What one connection's requests need.
#[derive(Clone)]
struct Desk {
    shared: Arc<Shared>,
    answers: Answers,
    words: Words,
}

impl Drop for Outsiders {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Default for Outsiders {
    fn default() -> Self {
        let shared = Shared {
            manner: watch::channel(Manner::Good).0,
            heard: Mutex::default(),
        };
        Self {
            shared: Arc::new(shared),
            tasks: Vec::new(),
        }
    }
}

impl Outsiders {
    /// How they behave from now on.
    pub fn behave(&self, manner: Manner) {
        self.shared.manner.send_replace(manner);
    }

    /// Bodies of the requests for a path.
    pub fn heard(&self, path: &str) -> Vec<Bytes> {
        self.shared
            .heard
            .lock()
            .get(path)
            .cloned()
            .unwrap_or_default()
    }

    fn desk(&self, answers: Answers, words: Words) -> Desk {
        Desk {
            shared: self.shared.clone(),
            answers,
            words,
        }
    }

    /// An HTTPS server at 127.0.0.1: its port and the authority that vouches for it.
    pub async fn https(&mut self, answers: Answers) -> Result<(u16, String)> {
        let identity = certs::server("127.0.0.1")?;
        let chain: Result<Vec<_>, _> =
            CertificateDer::pem_slice_iter(identity.certificate.as_bytes()).collect();
        let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes())?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain?, key)?;
        let tls = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let desk = self.desk(answers, Words::Json);
        self.tasks.push(tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (tls, desk) = (tls.clone(), desk.clone());
                tokio::spawn(async move {
                    if let Ok(stream) = tls.accept(stream).await {
                        serve(stream, desk).await;
                    }
                });
            }
        }));
        Ok((port, identity.authority))
    }

    /// A gRPC server at 127.0.0.1, without TLS: its port.
    pub async fn grpc(&mut self, answers: Answers) -> Result<u16> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let desk = self.desk(answers, Words::Grpc);
        self.tasks.push(tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, desk.clone()));
            }
        }));
        Ok(port)
    }

    /// A gRPC server on a unix socket.
    pub fn grpc_at(&mut self, socket: &Path, answers: Answers) -> Result<()> {
        let listener = UnixListener::bind(socket).context("the socket of a plug-in")?;
        let desk = self.desk(answers, Words::Grpc);
        self.tasks.push(tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, desk.clone()));
            }
        }));
        Ok(())
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S, desk: Desk) {
    let service = service_fn(move |request| answer(desk.clone(), request));
    let served = auto::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
    // Whoever asked may hang up, and does so on those that misbehave.
    drop(served);
}

async fn answer(desk: Desk, request: Request<Incoming>) -> Result<Response<Body>, std::io::Error> {
    let path = request.uri().path().to_string();
    let body = request.into_body().collect().await;
    let mut body = body.map_err(std::io::Error::other)?.to_bytes();
    if desk.words == Words::Grpc {
        body = body.slice(body.len().min(5)..);
    }
    {
        let mut heard = desk.shared.heard.lock();
        heard.entry(path.clone()).or_default().push(body.clone());
    }
    let mut manner = desk.shared.manner.subscribe();
    let now = *manner.borrow_and_update();
    Ok(match now {
        Manner::Good => said(desk.words, (desk.answers)(&path, &body)),
        Manner::Garble => said(desk.words, vec![0xff; 30]),
        Manner::Flood => flood(desk.words),
        Manner::Hang => {
            // The sender lives as long as the desk does.
            let _changed = manner.changed().await;
            return Err(std::io::Error::other("hung up"));
        }
    })
}

fn said(words: Words, message: Vec<u8>) -> Response<Body> {
    if words == Words::Json {
        return respond(words, vec![Frame::data(message.into())]);
    }
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.extend_from_slice(&message);
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    respond(
        words,
        vec![Frame::data(frame.freeze()), Frame::trailers(trailers)],
    )
}

fn respond(words: Words, frames: Vec<Frame<Bytes>>) -> Response<Body> {
    let frames = stream::iter(frames.into_iter().map(Ok));
    streamed(words, frames.boxed())
}

fn streamed(
    words: Words,
    frames: stream::BoxStream<'static, Result<Frame<Bytes>, std::io::Error>>,
) -> Response<Body> {
    let kind = match words {
        Words::Json => "application/json",
        Words::Grpc => "application/grpc",
    };
    let mut answer = Response::new(StreamBody::new(frames).boxed_unsync());
    let kind = HeaderValue::from_static(kind);
    answer.headers_mut().insert("content-type", kind);
    answer
}

/// Spaces, which JSON may begin with, or a message of a gigabyte, without end.
fn flood(words: Words) -> Response<Body> {
    let head: &'static [u8] = match words {
        Words::Json => b" ",
        Words::Grpc => &[0, 0x40, 0, 0, 0],
    };
    let chunk = Bytes::from(vec![b' '; 1 << 16]);
    let rest = stream::repeat_with(move || chunk.clone());
    let all = stream::iter([Bytes::from_static(head)]).chain(rest);
    streamed(words, all.map(|b| Ok(Frame::data(b))).boxed())
}
