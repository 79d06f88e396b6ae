//! Sends spans in batches to an OTLP collector: gRPC without TLS, as upstream's. A batch that is not taken is lost,
//! and said to be so. Upstream: OpenTelemetry's batch span processor and its bounds.

use std::time::{Duration, SystemTime};

use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_prost::ProstCodec;
use webhook::trace::{Finished, Kind, Value};

use crate::limits;

const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

#[derive(Clone, PartialEq, Message)]
pub struct ExportRequest {
    #[prost(message, repeated, tag = "1")]
    pub resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ExportResponse {}

#[derive(Clone, PartialEq, Message)]
pub struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    pub resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    pub scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Resource {
    #[prost(message, repeated, tag = "1")]
    pub attributes: Vec<Attribute>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ScopeSpans {
    #[prost(message, optional, tag = "1")]
    pub scope: Option<ScopeName>,
    #[prost(message, repeated, tag = "2")]
    pub spans: Vec<SpanMessage>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ScopeName {
    #[prost(string, tag = "1")]
    pub name: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct SpanMessage {
    #[prost(bytes = "vec", tag = "1")]
    pub trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    pub parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    pub name: String,
    #[prost(int32, tag = "6")]
    pub kind: i32,
    #[prost(fixed64, tag = "7")]
    pub start: u64,
    #[prost(fixed64, tag = "8")]
    pub end: u64,
    #[prost(message, repeated, tag = "9")]
    pub attributes: Vec<Attribute>,
    #[prost(message, repeated, tag = "13")]
    pub links: Vec<Link>,
    #[prost(message, optional, tag = "15")]
    pub status: Option<SpanStatus>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Link {
    #[prost(bytes = "vec", tag = "1")]
    pub trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub span_id: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub struct SpanStatus {
    #[prost(string, tag = "2")]
    pub message: String,
    /// 2 is an error.
    #[prost(int32, tag = "3")]
    pub code: i32,
}

#[derive(Clone, PartialEq, Message)]
pub struct Attribute {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(message, optional, tag = "2")]
    pub value: Option<Any>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Any {
    #[prost(string, optional, tag = "1")]
    pub text: Option<String>,
    #[prost(int64, optional, tag = "3")]
    pub number: Option<i64>,
}

/// The way to a collector.
pub struct Exporter {
    channel: Channel,
    resource: Resource,
    every: Duration,
}

fn attribute(key: &str, value: &Value) -> Attribute {
    let (text, number) = match value {
        Value::Text(text) => (Some(text.clone()), None),
        Value::Number(n) => (None, Some(*n)),
    };
    Attribute {
        key: key.into(),
        value: Some(Any { text, number }),
    }
}

fn nanoseconds(at: SystemTime) -> u64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |d| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX))
}

fn message(span: &Finished) -> SpanMessage {
    SpanMessage {
        trace_id: span.context.trace.to_vec(),
        span_id: span.context.span.to_vec(),
        parent_span_id: span.parent.map(|p| p.to_vec()).unwrap_or_default(),
        name: span.name.clone(),
        kind: match span.kind {
            Kind::Server => 2,
            Kind::Client => 3,
        },
        start: nanoseconds(span.started),
        end: nanoseconds(span.ended),
        attributes: span
            .attributes
            .iter()
            .map(|(k, v)| attribute(k, v))
            .collect(),
        links: span
            .link
            .iter()
            .map(|l| Link {
                trace_id: l.trace.to_vec(),
                span_id: l.span.to_vec(),
            })
            .collect(),
        status: span
            .error
            .clone()
            .map(|message| SpanStatus { message, code: 2 }),
    }
}

fn channel(endpoint: &str) -> Result<Channel, String> {
    let (scheme, rest) = endpoint.split_once("//").unwrap_or(("dns:", endpoint));
    let bounded = |e: Endpoint| {
        e.connect_timeout(limits::TRACE_CALL)
            .http2_max_header_list_size(limits::KMS_HEADER_BYTES)
    };
    if scheme == "dns:" {
        // `dns:///host:port` has an empty authority before the name.
        let made = Endpoint::from_shared(format!("http://{}", rest.trim_start_matches('/')));
        let made = made.map_err(|e| format!("endpoint {endpoint:?}: {e}"))?;
        return Ok(bounded(made).connect_lazy());
    }
    let socket = match scheme {
        "unix-abstract:" => format!("\0{rest}"),
        _ => rest.to_string(),
    };
    let connect = tower::service_fn(move |_: http::Uri| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    let made = Endpoint::from_static("http://localhost");
    Ok(bounded(made).connect_with_connector_lazy(connect))
}

impl Exporter {
    pub fn new(endpoint: &str, id: &str, every: Duration) -> Result<Self, String> {
        let named = [("service.name", "apiserver"), ("service.instance.id", id)];
        let named = named.map(|(k, v)| attribute(k, &v.into()));
        Ok(Self {
            channel: channel(endpoint)?,
            resource: Resource {
                attributes: named.to_vec(),
            },
            every,
        })
    }

    /// Sends what comes until nothing comes any more.
    pub async fn run(self, mut spans: mpsc::Receiver<Finished>) {
        while let Some(first) = spans.recv().await {
            let mut batch = vec![message(&first)];
            let deadline = Instant::now() + self.every;
            while batch.len() < limits::TRACE_BATCH {
                match tokio::time::timeout_at(deadline, spans.recv()).await {
                    Ok(Some(span)) => batch.push(message(&span)),
                    Ok(None) | Err(_) => break,
                }
            }
            let count = batch.len();
            if let Err(status) = self.send(batch).await {
                let error = status.message();
                tracing::warn!(error, count, "spans are not sent");
                // A collector that is not there costs little.
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }

    async fn send(&self, spans: Vec<SpanMessage>) -> Result<(), Status> {
        let request = ExportRequest {
            resource_spans: vec![ResourceSpans {
                resource: Some(self.resource.clone()),
                scope_spans: vec![ScopeSpans {
                    scope: Some(ScopeName {
                        name: "k8s.io/apiserver".into(),
                    }),
                    spans,
                }],
            }],
        };
        let work = async {
            let mut grpc = Grpc::new(self.channel.clone())
                .max_decoding_message_size(limits::TRACE_ANSWER_BYTES);
            let ready = grpc.ready().await;
            ready.map_err(|e| Status::from_error(e.into()))?;
            let codec = ProstCodec::<ExportRequest, ExportResponse>::default();
            let path = PathAndQuery::from_static(EXPORT);
            grpc.unary(Request::new(request), path, codec).await
        };
        let late = |_| Status::deadline_exceeded("the collector does not answer");
        let answer = tokio::time::timeout(limits::TRACE_CALL, work).await;
        answer.map_err(late)?.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use webhook::trace::Context;

    #[test]
    fn spans_become_otlps_messages() {
        let context = Context {
            trace: [1; 16],
            span: [2; 8],
            sampled: true,
        };
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
        let span = Finished {
            context,
            parent: Some([3; 8]),
            link: Some(context),
            name: "GET".into(),
            kind: Kind::Server,
            started: at,
            ended: at + Duration::from_millis(5),
            attributes: vec![("http.response.status_code", 404.into())],
            error: None,
        };
        let made = message(&span);
        assert_eq!((made.kind, made.end - made.start), (2, 5_000_000));
        assert_eq!(made.parent_span_id, [3; 8]);
        assert_eq!(made.links[0].trace_id, [1; 16]);
        let value = made.attributes[0].value.clone().unwrap();
        assert_eq!(value.number, Some(404));
        let bytes = made.encode_to_vec();
        assert_eq!(&bytes[..2], b"\x0a\x10");
        assert_eq!(SpanMessage::decode(&bytes[..]), Ok(made));
    }
}
