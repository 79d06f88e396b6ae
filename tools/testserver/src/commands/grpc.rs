//! `grpc-health-checking`: grpc.health.v1.Health over cleartext HTTP/2.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::flags::Flags;
use crate::http1::{self, Reply};
use crate::log;

struct Health {
    service: String,
    begun: Instant,
    delay: Option<Duration>,
    forced: AtomicBool,
}

pub fn run(args: &[String]) -> Result<u8> {
    let known = [
        ("port", "5000"),
        ("http-port", "8080"),
        ("service", ""),
        ("delay-unhealthy-sec", "-1"),
        ("tls-cert-file", ""),
        ("tls-private-key-file", ""),
    ];
    let flags = Flags::parse(args, &known, false)?;
    if !flags.get("tls-cert-file").is_empty() || !flags.get("tls-private-key-file").is_empty() {
        anyhow::bail!("gRPC with TLS is not supported");
    }
    log::end_on_signal();
    let delay = flags.number("delay-unhealthy-sec")?;
    let health = Arc::new(Health {
        service: flags.get("service").to_string(),
        begun: Instant::now(),
        delay: u64::try_from(delay).ok().map(Duration::from_secs),
        forced: AtomicBool::new(false),
    });
    let helper = health.clone();
    http1::spawn(
        http1::listen(flags.port("http-port")?)?,
        None,
        Arc::new(move |request| {
            match request.path.as_str() {
                "/make-not-serving" => helper.forced.store(true, Ordering::SeqCst),
                "/make-serving" => helper.forced.store(false, Ordering::SeqCst),
                _ => return Reply::error(404, "404 page not found"),
            }
            Reply::ok(format!("{:?}", helper.begun.elapsed()))
        }),
    );
    let listener = http1::listen(flags.port("port")?)?;
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        log::line("Serving verb: grpc-health-checking");
        loop {
            let (stream, _) = listener.accept().await?;
            let health = health.clone();
            tokio::spawn(async move {
                let service =
                    hyper::service::service_fn(move |request| answer(health.clone(), request));
                let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                // A client that goes away is no news.
                let _ended = server.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    })
}

type Body = StreamBody<futures::stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, Infallible>>>>;

async fn answer(
    health: Arc<Health>,
    request: Request<Incoming>,
) -> Result<Response<Body>, hyper::Error> {
    let path = request.uri().path().to_string();
    let body = request.into_body().collect().await?.to_bytes();
    Ok(match path.as_str() {
        "/grpc.health.v1.Health/Check" => match service(&body) {
            Some(name) if name == health.service.as_bytes() => {
                let serving = if health.serving() { 1 } else { 2 };
                reply(Some(Bytes::from(vec![0, 0, 0, 0, 2, 8, serving])), "0", "")
            }
            Some(_) => reply(None, "5", "unknown service"),
            None => reply(None, "3", "the request cannot be read"),
        },
        "/grpc.health.v1.Health/Watch" => reply(None, "12", "unimplemented"),
        _ => reply(None, "12", "unknown method"),
    })
}

fn reply(message: Option<Bytes>, status: &'static str, text: &'static str) -> Response<Body> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static(status));
    if !text.is_empty() {
        trailers.insert("grpc-message", HeaderValue::from_static(text));
    }
    let mut frames: Vec<Result<Frame<Bytes>, Infallible>> = Vec::new();
    frames.extend(message.map(|m| Ok(Frame::data(m))));
    frames.push(Ok(Frame::trailers(trailers)));
    let mut response = Response::new(StreamBody::new(futures::stream::iter(frames)));
    response
        .headers_mut()
        .insert("content-type", HeaderValue::from_static("application/grpc"));
    response
}

/// The service of a framed HealthCheckRequest.
fn service(body: &[u8]) -> Option<&[u8]> {
    let message = body.get(5..)?;
    match message {
        [] => Some(&[]),
        [0x0a, length, rest @ ..] if *length < 128 => rest.get(..usize::from(*length)),
        _ => None,
    }
}

// === Health ===

impl Health {
    fn serving(&self) -> bool {
        let late = self.delay.is_some_and(|d| self.begun.elapsed() >= d);
        !late && !self.forced.load(Ordering::SeqCst)
    }
}
