//! Tracing: spans of requests, of what they ask of the store and of webhooks, sent to a collector by OTLP over gRPC.
//! Upstream: apiserver/pkg/endpoints/filters/traces.go, server/options/tracing.go, component-base/tracing.
//!
//! Nothing waits for the collector: spans go into a bounded queue, and are counted and forgotten where it is full.
//! OpenTelemetry's own crates would add some 2 MiB for what are five messages here.

mod config;
mod export;
mod store;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use machinery::request::User;
use tokio::sync::mpsc;
use webhook::trace::{Context, Finished, Kind, Sink, Span, TRACEPARENT, random};

use crate::limits;
use crate::request_info::RequestInfo;
use crate::server::Incoming;

pub use config::TracingConfig;

/// Those whose own sampling counts; to everybody else's traces requests are linked.
const TRUSTED: [&str; 2] = ["system:masters", "system:monitoring"];

/// Begins the spans of requests. Cheap to clone.
#[derive(Clone)]
pub struct Tracer(Arc<Shared>);

struct Shared {
    /// Of the trace ids' upper halves, those below this are sampled.
    below: u64,
    queue: Arc<Queue>,
}

/// Spans that wait to be sent.
struct Queue {
    to: mpsc::Sender<Finished>,
    lost: AtomicU64,
}

impl Sink for Queue {
    fn finish(&self, span: Finished) {
        if self.to.try_send(span).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

// === Tracer ===

impl Tracer {
    /// Sends spans as a configuration says, the first of a batch after `every` at the latest; `id` is this server's
    /// name among its peers.
    pub fn start(config: &TracingConfig, id: &str, every: Duration) -> Result<Self, String> {
        let (to, spans) = mpsc::channel(limits::TRACE_SPANS);
        let exporter = export::Exporter::new(&config.endpoint, id, every)?;
        tokio::spawn(exporter.run(spans));
        Ok(Self::over(config.sampling_rate_per_million, to))
    }

    fn over(per_million: u32, to: mpsc::Sender<Finished>) -> Self {
        let lost = AtomicU64::new(0);
        let queue = Arc::new(Queue { to, lost });
        // Upstream: TraceIDRatioBased.
        let below = (u128::from(per_million) << 63) / 1_000_000;
        let below = u64::try_from(below).unwrap_or(u64::MAX);
        Self(Arc::new(Shared { below, queue }))
    }

    /// A store that tells what it is asked.
    pub fn over_store(&self, inner: ::store::Store) -> ::store::Store {
        store::traced(inner)
    }

    /// The counter of spans that were lost because too many waited, as text.
    pub fn text(&self) -> String {
        let lost = self.0.queue.lost.load(Ordering::Relaxed);
        let name = "apiserver_tracing_spans_dropped_total";
        format!(
            "# HELP {name} [ALPHA] Spans that were lost because too many waited to be sent.\n# TYPE {name} counter\n{name} {lost}\n"
        )
    }

    /// Which trace a request is part of, which span it is below, and which it follows.
    fn place(
        &self,
        told: Option<Context>,
        user: &User,
    ) -> (Context, Option<[u8; 8]>, Option<Context>) {
        let trusted = user.groups.iter().any(|g| TRUSTED.contains(&&**g));
        let span = random();
        if let Some(parent) = told.filter(|_| trusted) {
            return (Context { span, ..parent }, Some(parent.span), None);
        }
        let trace: [u8; 16] = random();
        let mut low = [0; 8];
        low.copy_from_slice(&trace[8..]);
        let context = Context {
            trace,
            span,
            sampled: u64::from_be_bytes(low) >> 1 < self.0.below,
        };
        (context, None, told)
    }

    /// The span of a request, if it is sampled.
    pub fn request(&self, i: &Incoming, info: &RequestInfo, user: &User) -> Option<Span> {
        let text = |name: &str| i.headers.get(name).and_then(|v| v.to_str().ok());
        let told = text(TRACEPARENT).and_then(Context::parse);
        let (context, parent, link) = self.place(told, user);
        if !context.sampled {
            return None;
        }
        let now = SystemTime::now();
        let data = Finished {
            context,
            parent,
            link,
            name: name(i.method.as_str(), info),
            kind: Kind::Server,
            started: now.checked_sub(i.begun.elapsed()).unwrap_or(now),
            ended: now,
            attributes: Vec::new(),
            error: None,
        };
        let mut span = Span::begin(data, self.0.queue.clone());
        let target = match i.raw_query.is_empty() {
            true => i.raw_path.clone(),
            false => format!("{}?{}", i.raw_path, i.raw_query),
        };
        span.set("http.request.method", i.method.as_str());
        span.set("url.scheme", "https");
        span.set("url.path", i.raw_path.as_str());
        span.set("http.target", target);
        if let Some(agent) = text("user-agent") {
            span.set("user_agent.original", agent);
        }
        if let Some(address) = i.peer.address {
            span.set("network.peer.address", address.to_string());
        }
        span.set("audit-id", text("audit-id").unwrap_or_default());
        Some(span)
    }
}

/// Upstream's name of a request's span.
fn name(method: &str, info: &RequestInfo) -> String {
    if !info.is_resource {
        return method.to_string();
    }
    let prefix = if info.group.is_empty() { "api" } else { "apis" };
    let mut out = format!("{method} /{prefix}");
    let mut part = |text: &str| {
        if !text.is_empty() {
            out.push('/');
            out.push_str(text);
        }
    };
    part(&info.group);
    part(&info.version);
    if !info.namespace.is_empty() {
        part("namespaces/{:namespace}");
    }
    part(&info.resource);
    if !info.name.is_empty() {
        part("{:name}");
    }
    part(&info.subresource);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info() -> RequestInfo {
        RequestInfo {
            is_resource: true,
            verb: "get".into(),
            version: "v1".into(),
            namespace: "n".into(),
            resource: "pods".into(),
            name: "p".into(),
            subresource: "log".into(),
            ..RequestInfo::default()
        }
    }

    #[test]
    fn spans_are_named_as_upstreams() {
        let named = "GET /api/v1/namespaces/{:namespace}/pods/{:name}/log";
        assert_eq!(name("GET", &info()), named);
        let nodes = RequestInfo {
            is_resource: true,
            group: "apps".into(),
            version: "v1".into(),
            resource: "deployments".into(),
            ..RequestInfo::default()
        };
        assert_eq!(name("LIST", &nodes), "LIST /apis/apps/v1/deployments");
        assert_eq!(name("GET", &RequestInfo::default()), "GET");
    }

    #[test]
    fn the_trusted_decide_themselves_and_others_are_sampled() {
        let (to, _spans) = mpsc::channel(1);
        let tracer = Tracer::over(0, to.clone());
        let told = Context::parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
        let root = User::new("root", &["system:masters"]);
        let (context, parent, link) = tracer.place(told, &root);
        assert_eq!(context.trace, told.unwrap().trace);
        assert_eq!((parent, link), (told.map(|t| t.span), None));
        assert!(context.sampled);
        let (context, parent, link) = tracer.place(told, &User::new("u", &[]));
        assert_ne!(context.trace, told.unwrap().trace);
        assert_eq!((parent, link, context.sampled), (None, told, false));
        let all = Tracer::over(1_000_000, to.clone());
        assert!((0..100).all(|_| all.place(None, &root).0.sampled));
        let half = Tracer::over(500_000, to);
        let sampled = (0..2_000).filter(|_| half.place(None, &root).0.sampled);
        let sampled = sampled.count();
        assert!((800..1_200).contains(&sampled), "{sampled}");
    }
}
