//! Audit: who asked for what and how it was answered, as events by a policy into backends.
//! Upstream: apiserver/pkg/audit, endpoints/filters/audit.go; api-semantics §16.
//!
//! A request's event is made on its way, encoded, and handed to a bounded queue; threads and tasks of
//! the backends write it. Where the queue is full events are dropped and counted, as upstream's batches do.
//! In upstream's blocking modes the request waits for them, for a bounded time.

mod counters;
mod event;
mod log;
mod policy;
mod remote;
mod sink;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use http_body_util::BodyExt;
use jiff::Timestamp;
use machinery::ApiError;
use machinery::request::User;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::body;
use crate::limits;
use crate::request_info::RequestInfo;
use crate::response::{Answer, Failure};
use crate::server::{Incoming, Inner};
use counters::Counters;
use event::{Event, Metadata, Who};
use policy::{Stage, Verdict};
use sink::{Receipt, Sink};

pub use log::LogOptions;
pub use policy::{DEFAULT as DEFAULT_POLICY, Level, Policy};
pub use remote::Post;
pub use sink::{BatchOptions, Mode, SinkOptions, TruncateOptions};

/// Requests slower than this have their time among the annotations.
const SLOW: Duration = Duration::from_millis(500);

/// A policy and where its events go.
pub struct Audit {
    policy: Policy,
    sinks: Vec<Sink>,
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

/// What a request has to wait for before it goes on.
#[must_use]
struct Receipts(Vec<Receipt>);

impl Receipts {
    /// Waits; false if the request must not go on.
    async fn settled(self) -> bool {
        let mut goes_on = true;
        for receipt in self.0 {
            goes_on &= receipt.settled().await;
        }
        goes_on
    }
}

// === Audit ===

impl Audit {
    /// Records by a policy, as yet nowhere.
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            sinks: Vec::new(),
            counters: Arc::default(),
        }
    }

    /// Records into a log too.
    pub fn log(mut self, log: LogOptions, options: SinkOptions) -> std::io::Result<Self> {
        let sink = log::start(log, options, &self.counters)?;
        self.sinks.push(sink);
        Ok(self)
    }

    /// Sends events to a webhook too; `backoff` is before the first repetition of a call.
    pub fn webhook(mut self, to: Arc<dyn Post>, backoff: Duration, options: SinkOptions) -> Self {
        let sink = remote::start(to, backoff, options, &self.counters);
        self.sinks.push(sink);
        self
    }

    fn send(&self, event: &Event) -> Receipts {
        self.counters.event();
        Receipts(self.sinks.iter().filter_map(|s| s.send(event)).collect())
    }

    /// Waits until all events so far are written, but not for ever.
    pub async fn flush(&self) {
        let all = futures::future::join_all(self.sinks.iter().map(Sink::flush));
        let flushed = tokio::time::timeout(limits::AUDIT_FLUSH, all).await;
        if flushed.is_err() {
            tracing::warn!("the audit events are not written in time");
        }
    }

    /// The counters as text.
    pub fn text(&self) -> String {
        self.counters.text()
    }
}

/// Begins the record of a request, where the policy wants one. The error is for a request that must not go on,
/// as its beginning could not be recorded.
pub async fn begin(
    server: &Inner,
    i: &Incoming,
    info: &RequestInfo,
    user: &User,
) -> Result<Option<Arc<Trail>>, ApiError> {
    let Some(trail) = trail(server, i, info, Some(user)) else {
        return Ok(None);
    };
    if trail.send(Stage::RequestReceived).settled().await {
        return Ok(Some(trail));
    }
    trail.done.store(true, Ordering::Relaxed);
    trail.audit.counters.reject();
    Err(ApiError::internal("failed to store audit event"))
}

fn trail(
    server: &Inner,
    i: &Incoming,
    info: &RequestInfo,
    user: Option<&User>,
) -> Option<Arc<Trail>> {
    let audit = server.plugins.get()?.audit.as_ref()?;
    let verdict = audit.policy.verdict(info, user);
    audit.counters.level(verdict.level);
    if verdict.level == Level::None {
        return None;
    }
    let mut event = Event::of(verdict.level, info, user);
    event.headers(&i.headers, i.peer.address);
    event.uri = i.uri();
    let trail = Trail {
        audit: audit.clone(),
        verdict,
        event: Mutex::new(event),
        begun: Instant::now(),
        deadline: i.deadline,
        done: AtomicBool::new(user.is_none()),
    };
    Some(Arc::new(trail))
}

/// Records a request of somebody who is not known.
pub fn unauthenticated(server: &Inner, i: &Incoming, info: &RequestInfo) {
    let Some(trail) = trail(server, i, info, None) else {
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
    let _nobody_waits = trail.send(Stage::ResponseStarted);
}

// === Trail ===

impl Trail {
    /// Whether as much as this is recorded.
    fn wants(&self, level: Level) -> bool {
        self.verdict.level >= level
    }

    /// The user acts as another.
    pub fn impersonated(&self, user: &User, constraint: &'static str) {
        let mut event = self.event.lock();
        event.impersonated_user = Some(Who::of(user));
        event.authentication_metadata = (!constraint.is_empty()).then_some(Metadata {
            impersonation_constraint: constraint,
        });
    }

    /// The authorizers failed.
    pub fn undecided(&self) {
        let reason = ("authorization.k8s.io/reason", "internal error");
        self.annotate([(reason.0.to_string(), reason.1.to_string())]);
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
    pub async fn answered(self: Arc<Self>, mut answer: Answer, streams: bool) -> Answer {
        let code = answer.status().as_u16();
        let status = match answer.extensions_mut().remove::<Failure>() {
            Some(Failure(status)) => said(&status),
            None => json!({"metadata": {}, "code": code}),
        };
        self.event.lock().response_status = Some(status);
        if !streams {
            // What is answered is answered, recorded or not.
            self.complete(Stage::ResponseComplete).settled().await;
            return answer;
        }
        self.send(Stage::ResponseStarted).settled().await;
        answer.map(|b| body::holding(b, self))
    }

    fn complete(&self, stage: Stage) -> Receipts {
        if self.done.swap(true, Ordering::Relaxed) {
            return Receipts(Vec::new());
        }
        let took = self.begun.elapsed();
        if took > SLOW {
            let key = "apiserver.latency.k8s.io/total".to_string();
            self.annotate([(key, format!("{:.6}s", took.as_secs_f64()))]);
        }
        self.send(stage)
    }

    fn send(&self, stage: Stage) -> Receipts {
        if self.verdict.omit_stages.contains(&stage) {
            return Receipts(Vec::new());
        }
        let mut event = self.event.lock();
        event.stage = stage;
        event.stage_timestamp = match stage {
            Stage::RequestReceived => event.request_received_timestamp,
            _ => Timestamp::now(),
        };
        self.audit.send(&event)
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
            let _nobody_waits = self.complete(Stage::Panic);
            return;
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
        let _nobody_waits = self.complete(Stage::ResponseComplete);
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
    Cbor,
    Other,
}

fn media(headers: &HeaderMap) -> Kind {
    let text = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok());
    match text.unwrap_or("application/json") {
        t if t.contains("json") => Kind::Json,
        t if t.contains("yaml") => Kind::Yaml,
        t if t.contains("protobuf") => Kind::Protobuf,
        t if t.contains("cbor") => Kind::Cbor,
        _ => Kind::Other,
    }
}

/// A body as JSON.
fn decoded(headers: &HeaderMap, body: &Bytes) -> Option<Value> {
    match media(headers) {
        Kind::Json => serde_json::from_slice(body).ok(),
        Kind::Yaml => crate::decode::yaml(body).ok().map(|(value, _)| value),
        Kind::Protobuf => api::protobuf::decode(body).ok(),
        Kind::Cbor => api::cbor::decode(body).ok(),
        Kind::Other => None,
    }
}
