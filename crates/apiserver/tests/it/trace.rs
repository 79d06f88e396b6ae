//! Spans of requests arrive at a collector, with those of the store below them.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use apiserver::trace::{Tracer, TracingConfig};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use prost::Message;
use serde_json::json;

use crate::env::{Env, sqlite};

#[derive(Clone, PartialEq, Message)]
struct Export {
    #[prost(message, repeated, tag = "1")]
    of_resources: Vec<OfResource>,
}

#[derive(Clone, PartialEq, Message)]
struct OfResource {
    #[prost(message, repeated, tag = "2")]
    of_scopes: Vec<OfScope>,
}

#[derive(Clone, PartialEq, Message)]
struct OfScope {
    #[prost(message, repeated, tag = "2")]
    spans: Vec<Span>,
}

#[derive(Clone, PartialEq, Message)]
struct Span {
    #[prost(bytes = "vec", tag = "1")]
    trace: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    parent: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
}

/// A collector on loopback, and the spans that it got.
async fn collector() -> (String, Arc<Mutex<Vec<Span>>>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let spans = Arc::<Mutex<Vec<Span>>>::default();
    let seen = spans.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let seen = seen.clone();
            let service = service_fn(move |r: Request<Incoming>| {
                let seen = seen.clone();
                async move {
                    let body = r.into_body().collect().await.unwrap().to_bytes();
                    let got = Export::decode(body.slice(5..)).unwrap();
                    let scopes = got.of_resources.into_iter().flat_map(|r| r.of_scopes);
                    seen.lock().extend(scopes.flat_map(|s| s.spans));
                    let mut trailers = HeaderMap::new();
                    trailers.insert("grpc-status", "0".parse().unwrap());
                    let empty = Bytes::from_static(&[0; 5]);
                    let frames = [Frame::data(empty), Frame::trailers(trailers)];
                    let frames = futures::stream::iter(frames.map(Ok::<_, Infallible>));
                    let answer = Response::builder().header("content-type", "application/grpc");
                    Ok::<_, Infallible>(answer.body(StreamBody::new(frames)).unwrap())
                }
            });
            tokio::spawn(
                hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service),
            );
        }
    });
    (address, spans)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_and_what_it_asks_of_the_store_are_one_trace() {
    let (address, spans) = collector().await;
    let config = TracingConfig {
        endpoint: address,
        sampling_rate_per_million: 0,
    };
    let tracer = Tracer::start(&config, "apiserver-x", Duration::from_millis(20)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let store = tracer.over_store(sqlite(dir.path()));
    let env = Env::over_with(store, |p| p.tracer = Some(tracer)).await;
    let object = json!({"metadata": {"name": "c"}}).to_string();
    let headers = [
        ("content-type", "application/json"),
        (
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ),
    ];
    let path = "/api/v1/namespaces/default/configmaps";
    let made = env.ask("POST", path, &headers, object.into_bytes()).await;
    assert_eq!(made.code, 201, "{made:?}");
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    let find = |name: &str| spans.lock().iter().find(|s| s.name == name).cloned();
    let name = "POST /api/v1/namespaces/{:namespace}/configmaps";
    let (request, stored) = loop {
        if let (Some(r), Some(s)) = (find(name), find("etcdserverpb.KV/Txn")) {
            break (r, s);
        }
        assert!(tokio::time::Instant::now() < deadline, "{:?}", spans.lock());
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert_eq!(request.trace[..4], [0x0a, 0xf7, 0x65, 0x19]);
    assert_eq!(request.parent[..2], [0xb7, 0xad]);
    assert_eq!(stored.trace, request.trace);
    assert_eq!(stored.parent, request.id);
    // Nobody asked for the others to be sampled.
    let traces = spans
        .lock()
        .iter()
        .filter(|s| s.trace != request.trace)
        .count();
    assert_eq!(traces, 0);
}
