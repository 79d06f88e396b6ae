//! Audit: who asked for what and how it was answered, as events by a policy into backends.
//! Upstream: apiserver/pkg/audit, endpoints/filters/audit.go; api-semantics §16.
//!
//! A request's event is made on its way, encoded, and handed to a bounded queue; threads and tasks of
//! the backends write it. Where the queue is full events are dropped and counted, as upstream's batches do.

mod event;
mod log;
mod policy;

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use http_body_util::BodyExt;
use jiff::Timestamp;
use machinery::request::User;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use crate::body;
use crate::limits;
use crate::request_info::RequestInfo;
use crate::response::{Answer, Failure};
use crate::server::{Incoming, Inner};
use event::{Event, Who};
use policy::{Stage, Verdict};

pub use log::LogOptions;
pub use policy::{DEFAULT as DEFAULT_POLICY, Level, Policy};

/// An encoded event.
struct Line {
    text: Vec<u8>,
    /// Told when it, and all before, is written.
    written: Option<oneshot::Sender<()>>,
}

/// Requests slower than this have their time among the annotations.
const SLOW: Duration = Duration::from_millis(500);

/// What was recorded and what was lost.
#[derive(Default)]
pub struct Counters {
    events: AtomicU64,
    levels: [AtomicU64; 4],
    lost_in_queue: AtomicU64,
    lost_in_log: AtomicU64,
    /// Bytes of events that wait for the log.
    queued: AtomicUsize,
}

/// A policy and where its events go.
pub struct Audit {
    policy: Policy,
    log: Option<mpsc::Sender<Line>>,
    counters: Arc<Counters>,
}

/// One request's event on its way. What is not answered when it goes was given up, or panicked.
pub struct Trail {
    audit: Arc<Audit>,
    verdict: Verdict,
    event: Mutex<Event>,
    begun: Instant,
    deadline: Option<Instant>,
    done: AtomicBool,
}

// === Audit ===

impl Audit {
    /// Records by a policy into a log.
    pub fn new(policy: Policy, log: Option<LogOptions>) -> std::io::Result<Self> {
        let counters = Arc::<Counters>::default();
        let log = match log {
            Some(options) => Some(log::start(options, counters.clone())?),
            None => None,
        };
        Ok(Self {
            policy,
            log,
            counters,
        })
    }

    fn send(&self, event: &Event) {
        let Some(log) = &self.log else { return };
        let line = event.line();
        let size = line.len();
        self.counters.events.fetch_add(1, Ordering::Relaxed);
        let queued = self.counters.queued.fetch_add(size, Ordering::Relaxed);
        let full = queued + size > limits::AUDIT_QUEUE_BYTES;
        let line = Line {
            text: line,
            written: None,
        };
        if full || log.try_send(line).is_err() {
            self.counters.queued.fetch_sub(size, Ordering::Relaxed);
            self.counters.failed("buffered", 1);
        }
    }

    /// Waits until all events so far are written, but not for ever.
    pub async fn flush(&self) {
        let Some(log) = &self.log else { return };
        let (tell, told) = oneshot::channel();
        let mark = Line {
            text: Vec::new(),
            written: Some(tell),
        };
        let work = async {
            if log.send(mark).await.is_ok() {
                // An error means that the thread ended.
                let _ = told.await;
            }
        };
        if tokio::time::timeout(limits::AUDIT_FLUSH, work)
            .await
            .is_err()
        {
            tracing::warn!("the audit log is not written in time");
        }
    }

    /// The counters as text.
    pub fn text(&self) -> String {
        self.counters.text()
    }
}

impl Counters {
    /// Counts events that a part of the way lost.
    fn failed(&self, plugin: &str, events: u64) {
        let counter = match plugin {
            "log" => &self.lost_in_log,
            _ => &self.lost_in_queue,
        };
        counter.fetch_add(events, Ordering::Relaxed);
    }

    fn text(&self) -> String {
        let mut out = String::new();
        let mut family = |name: &str, help: &str, samples: &[(String, &AtomicU64)]| {
            let name = format!("apiserver_audit_{name}");
            // Writing to a String cannot fail, here and below.
            let _ = writeln!(out, "# HELP {name} [ALPHA] {help}\n# TYPE {name} counter");
            for (labels, n) in samples {
                let _ = writeln!(out, "{name}{labels} {}", n.load(Ordering::Relaxed));
            }
        };
        let plugin = |name: &str| format!("{{plugin=\"{name}\"}}");
        family(
            "error_total",
            "Audit events that were lost.",
            &[
                (plugin("buffered"), &self.lost_in_queue),
                (plugin("log"), &self.lost_in_log),
            ],
        );
        family(
            "event_total",
            "Audit events made.",
            &[(String::new(), &self.events)],
        );
        let names = ["None", "Metadata", "Request", "RequestResponse"];
        let levels = names.iter().zip(&self.levels);
        let levels: Vec<_> = levels
            .map(|(name, n)| (format!("{{level=\"{name}\"}}"), n))
            .collect();
        family("level_total", "Requests by audit level.", &levels);
        let none = AtomicU64::new(0);
        let help = "Requests refused because they could not be recorded.";
        family("requests_rejected_total", help, &[(String::new(), &none)]);
        out
    }
}

/// Begins the record of a request, where the policy wants one.
pub fn begin(
    server: &Inner,
    i: &Incoming,
    info: &RequestInfo,
    user: Option<&User>,
) -> Option<Arc<Trail>> {
    let audit = server.plugins.get()?.audit.as_ref()?;
    let verdict = audit.policy.verdict(info, user);
    audit.counters.levels[verdict.level as usize].fetch_add(1, Ordering::Relaxed);
    if verdict.level == Level::None {
        return None;
    }
    let mut event = Event::of(verdict.level, info, user);
    event.headers(&i.headers, i.peer.address);
    event.uri = match i.raw_query.is_empty() {
        true => i.raw_path.clone(),
        false => format!("{}?{}", i.raw_path, i.raw_query),
    };
    let trail = Arc::new(Trail {
        audit: audit.clone(),
        verdict,
        event: Mutex::new(event),
        begun: Instant::now(),
        deadline: i.deadline,
        done: AtomicBool::new(user.is_none()),
    });
    if user.is_some() {
        trail.send(Stage::RequestReceived);
    }
    Some(trail)
}

/// Records a request of somebody who is not known.
pub fn unauthenticated(server: &Inner, i: &Incoming, info: &RequestInfo) {
    let Some(trail) = begin(server, i, info, None) else {
        return;
    };
    let mut tried = Vec::new();
    if i.headers.contains_key(http::header::AUTHORIZATION) {
        tried.push("bearer");
    }
    if !i.peer.certificates.is_empty() {
        tried.push("x509");
    }
    let message = match tried.is_empty() {
        true => "Authentication failed, no credentials provided".to_string(),
        false => format!("Authentication failed, attempted: {}", tried.join(", ")),
    };
    let status = json!({"metadata": {}, "message": message, "code": 401});
    trail.event.lock().response_status = Some(status);
    trail.send(Stage::ResponseStarted);
}

// === Trail ===

impl Trail {
    /// Whether as much as this is recorded.
    fn wants(&self, level: Level) -> bool {
        self.verdict.level >= level
    }

    /// The user acts as another.
    pub fn impersonated(&self, user: &User) {
        self.event.lock().impersonated_user = Some(Who::of(user));
    }

    /// What an authorizer said.
    pub fn decided(&self, allowed: bool, reason: &str) {
        let decision = if allowed { "allow" } else { "forbid" };
        let both = [
            ("authorization.k8s.io/decision", decision),
            ("authorization.k8s.io/reason", reason),
        ];
        self.annotate(both.map(|(k, v)| (k.to_string(), v.to_string())));
    }

    /// Adds annotations; the first under a key stays.
    pub fn annotate(&self, all: impl IntoIterator<Item = (String, String)>) {
        let mut event = self.event.lock();
        for (key, value) in all {
            event.annotations.entry(key).or_insert(value);
        }
    }

    /// Takes over the body of a write.
    pub fn request(&self, info: &RequestInfo, headers: &HeaderMap, body: &Bytes) {
        let writes = ["create", "update", "patch", "delete", "deletecollection"];
        if body.is_empty() || !writes.contains(&info.verb.as_str()) {
            return;
        }
        let whole = self.wants(Level::Request);
        if ["create", "update"].contains(&info.verb.as_str()) {
            self.name(headers, body);
        }
        if !whole {
            return;
        }
        if let Some(mut object) = decoded(headers, body) {
            self.trim(&mut object);
            self.event.lock().request_object = Some(object);
        }
    }

    /// Fills in what the URL did not say of the object.
    fn name(&self, headers: &HeaderMap, body: &Bytes) {
        let meta = match media(headers) {
            Kind::Json => serde_json::from_slice::<Named>(body).ok(),
            _ => decoded(headers, body).and_then(|v| Named::deserialize(v).ok()),
        };
        let (Some(meta), mut event) = (meta.map(|m| m.metadata), self.event.lock()) else {
            return;
        };
        let Some(object) = event.object_ref.as_mut() else {
            return;
        };
        let fill = |to: &mut String, from: String| {
            if to.is_empty() {
                *to = from;
            }
        };
        fill(&mut object.name, meta.name);
        fill(&mut object.namespace, meta.namespace);
        fill(&mut object.uid, meta.uid);
        fill(&mut object.resource_version, meta.resource_version);
    }

    /// Takes over the answer's object.
    pub async fn response(&self, answer: Answer) -> Answer {
        if !self.wants(Level::RequestResponse) {
            return answer;
        }
        let (parts, body) = answer.into_parts();
        match body.collect().await {
            Ok(all) => {
                let bytes = all.to_bytes();
                if let Some(mut object) = decoded(&parts.headers, &bytes) {
                    self.trim(&mut object);
                    self.event.lock().response_object = Some(object);
                }
                Answer::from_parts(parts, body::full(bytes))
            }
            Err(error) => {
                let broken = futures::stream::once(async { Err(error) });
                Answer::from_parts(parts, body::stream(broken))
            }
        }
    }

    fn trim(&self, object: &mut Value) {
        if !self.verdict.omit_managed_fields {
            return;
        }
        machinery::object::remove(object, "metadata.managedFields");
        let items = object.get_mut("items").and_then(Value::as_array_mut);
        for item in items.into_iter().flatten() {
            machinery::object::remove(item, "metadata.managedFields");
        }
    }

    /// Records the answer; of streams that it began, and when they end that it is complete.
    pub fn answered(self: Arc<Self>, mut answer: Answer, streams: bool) -> Answer {
        let code = answer.status().as_u16();
        let status = match answer.extensions_mut().remove::<Failure>() {
            Some(Failure(status)) => said(&status),
            None => json!({"metadata": {}, "code": code}),
        };
        self.event.lock().response_status = Some(status);
        if !streams {
            self.complete(Stage::ResponseComplete);
            return answer;
        }
        self.send(Stage::ResponseStarted);
        answer.map(|b| body::holding(b, self))
    }

    fn complete(&self, stage: Stage) {
        if self.done.swap(true, Ordering::Relaxed) {
            return;
        }
        let took = self.begun.elapsed();
        if took > SLOW {
            let key = "apiserver.latency.k8s.io/total".to_string();
            self.annotate([(key, format!("{:.6}s", took.as_secs_f64()))]);
        }
        self.send(stage);
    }

    fn send(&self, stage: Stage) {
        if self.verdict.omit_stages.contains(&stage) {
            return;
        }
        let mut event = self.event.lock();
        event.stage = stage;
        event.stage_timestamp = match stage {
            Stage::RequestReceived => event.request_received_timestamp,
            _ => Timestamp::now(),
        };
        self.audit.send(&event);
    }
}

impl Drop for Trail {
    fn drop(&mut self) {
        if self.done.load(Ordering::Relaxed) {
            return;
        }
        if std::thread::panicking() {
            let status = json!({"metadata": {}, "status": "Failure", "reason": "InternalError",
                "message": "APIServer panic'd", "code": 500});
            self.event.lock().response_status = Some(status);
            return self.complete(Stage::Panic);
        }
        if self.event.lock().response_status.is_none() {
            let late = self.deadline.is_some_and(|d| Instant::now() >= d);
            let status = match late {
                true => json!({"metadata": {}, "status": "Failure", "reason": "Timeout",
                    "message": "Timeout: request did not complete within the allotted timeout", "code": 504}),
                false => json!({"metadata": {}, "status": "Success",
                    "message": "Connection closed early", "code": 200}),
            };
            self.event.lock().response_status = Some(status);
        }
        self.complete(Stage::ResponseComplete);
    }
}

/// A Status as events show it.
fn said(status: &Value) -> Value {
    let mut out = status.clone();
    if let Some(map) = out.as_object_mut() {
        map.remove("kind");
        map.remove("apiVersion");
    }
    out
}

#[derive(Deserialize)]
struct Named {
    #[serde(default)]
    metadata: Meta,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Meta {
    name: String,
    namespace: String,
    uid: String,
    resource_version: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Json,
    Yaml,
    Protobuf,
    Other,
}

fn media(headers: &HeaderMap) -> Kind {
    let text = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok());
    match text.unwrap_or("application/json") {
        t if t.contains("json") => Kind::Json,
        t if t.contains("yaml") => Kind::Yaml,
        t if t.contains("protobuf") => Kind::Protobuf,
        _ => Kind::Other,
    }
}

/// A body as JSON.
fn decoded(headers: &HeaderMap, body: &Bytes) -> Option<Value> {
    match media(headers) {
        Kind::Json => serde_json::from_slice(body).ok(),
        Kind::Yaml => serde_saphyr::from_slice(body).ok(),
        Kind::Protobuf => api::protobuf::decode(body).ok(),
        Kind::Other => None,
    }
}
