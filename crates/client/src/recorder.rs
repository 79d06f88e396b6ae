//! Events about objects, as `kubectl describe` shows them. Upstream: client-go tools/record.
//! Repeats are counted on the first event instead of written anew.

use std::collections::HashMap;
use std::collections::VecDeque;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, Time};
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::sync::mpsc;

use crate::{Client, limits};

/// Upstream's two event types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventType {
    Normal,
    Warning,
}

/// Writes events in the background. Cheap to clone; never blocks.
#[derive(Clone)]
pub struct Recorder {
    queue: mpsc::Sender<Record>,
}

/// An event as events.k8s.io has them: with what was done, and to what else it relates.
#[derive(Clone, Debug)]
pub struct Report {
    pub about: ObjectReference,
    pub related: Option<ObjectReference>,
    pub kind: EventType,
    pub reason: String,
    pub action: String,
    pub note: String,
}

#[derive(Clone, Debug)]
struct Record {
    about: ObjectReference,
    kind: EventType,
    reason: String,
    message: String,
    at: Timestamp,
    /// Action and related object of an event in the style of events.k8s.io.
    report: Option<(String, Option<ObjectReference>)>,
}

/// What tells one event from another when repeats are counted.
type Key = (String, String, String, EventType, String, String);

struct Writer {
    client: Client,
    component: String,
    host: String,
    known: HashMap<Key, Known>,
    order: VecDeque<Key>,
}

struct Known {
    name: String,
    namespace: String,
    count: i32,
}

// === Recorder ===

impl Recorder {
    /// A recorder whose events come from `component` on `host` (`""` for control-plane parts).
    /// Must be called inside a tokio runtime; the writer ends when the last clone is dropped.
    pub fn new(client: Client, component: &str, host: &str) -> Self {
        let (queue, mut waiting) = mpsc::channel::<Record>(limits::RECORDER_QUEUE);
        let mut writer = Writer {
            client,
            component: component.into(),
            host: host.into(),
            known: HashMap::new(),
            order: VecDeque::new(),
        };
        tokio::spawn(async move {
            while let Some(record) = waiting.recv().await {
                writer.write(record).await;
            }
        });
        Self { queue }
    }

    /// Records an event about an object.
    pub fn event(&self, about: ObjectReference, kind: EventType, reason: &str, message: &str) {
        let record = Record {
            about,
            kind,
            reason: reason.into(),
            message: message.chars().take(1024).collect(),
            at: Timestamp::now(),
            report: None,
        };
        self.send(record);
    }

    /// Records an event in the style of events.k8s.io: repeats become a series of the first.
    pub fn report(&self, report: Report) {
        self.send(Record {
            about: report.about,
            kind: report.kind,
            reason: report.reason,
            message: report.note,
            at: Timestamp::now(),
            report: Some((report.action, report.related)),
        });
    }

    fn send(&self, record: Record) {
        let reason = record.reason.clone();
        if self.queue.try_send(record).is_err() {
            tracing::warn!(reason, "event dropped, the recorder's queue is full");
        }
    }
}

/// The reference of an object for its events.
pub fn reference<K>(object: &K) -> ObjectReference
where
    K: k8s_openapi::Resource + k8s_openapi::Metadata<Ty = ObjectMeta>,
{
    let m = object.metadata();
    ObjectReference {
        api_version: Some(K::API_VERSION.into()),
        kind: Some(K::KIND.into()),
        name: m.name.clone(),
        namespace: m.namespace.clone(),
        uid: m.uid.clone(),
        resource_version: m.resource_version.clone(),
        field_path: None,
    }
}

// === Writer ===

impl Writer {
    async fn write(&mut self, r: Record) {
        let key: Key = (
            r.about.uid.clone().unwrap_or_default(),
            r.about.name.clone().unwrap_or_default(),
            r.about.field_path.clone().unwrap_or_default(),
            r.kind,
            r.reason.clone(),
            r.message.clone(),
        );
        let done = match self.known.get_mut(&key) {
            Some(known) => {
                known.count += 1;
                let api = self.client.namespaced::<Event>(&known.namespace);
                let patch = match &r.report {
                    None => json!({"count": known.count, "lastTimestamp": seconds(r.at)}),
                    Some(_) => {
                        json!({"series": {"count": known.count, "lastObservedTime": micros(r.at)}})
                    }
                };
                let patch = Patch::Merge(&patch);
                api.patch(&known.name, &PatchParams::default(), &patch)
                    .await
            }
            None => self.create(&r, key.clone()).await,
        };
        match done {
            Ok(_) => {}
            Err(e) if crate::is_not_found(&e) => {
                // The first event expired: the repeat becomes a new first one.
                self.known.remove(&key);
                if let Err(error) = self.create(&r, key).await {
                    tracing::debug!(%error, "event not written");
                }
            }
            Err(error) => tracing::debug!(%error, reason = r.reason, "event not written"),
        }
    }

    async fn create(&mut self, r: &Record, key: Key) -> Result<Event, kube::Error> {
        let namespace = r
            .about
            .namespace
            .clone()
            .unwrap_or_else(|| "default".into());
        let about = r.about.name.clone().unwrap_or_default();
        let name = format!("{about}.{:x}", r.at.as_nanosecond());
        let api = self.client.namespaced::<Event>(&namespace);
        let event = self.event(r, name.clone(), namespace.clone());
        let made = api.create(&PostParams::default(), &event).await?;
        self.order.push_back(key.clone());
        self.known.insert(
            key,
            Known {
                name,
                namespace,
                count: 1,
            },
        );
        if self.order.len() > limits::RECORDER_MEMORY
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        Ok(made)
    }

    /// The first event of its kind.
    fn event(&self, r: &Record, name: String, namespace: String) -> Event {
        let time = Some(Time(truncated(r.at)));
        let mut event = Event {
            metadata: ObjectMeta {
                name: Some(name),
                namespace: Some(namespace),
                ..ObjectMeta::default()
            },
            involved_object: r.about.clone(),
            reason: Some(r.reason.clone()),
            message: Some(r.message.clone()),
            type_: Some(format!("{:?}", r.kind)),
            reporting_component: Some(self.component.clone()),
            reporting_instance: Some(self.host.clone()),
            ..Event::default()
        };
        if let Some((action, related)) = &r.report {
            event.action = Some(action.clone());
            event.related = related.clone();
            event.event_time = Some(MicroTime(r.at));
            event.reporting_instance = Some(format!("{}-{}", self.component, self.host));
        } else {
            event.count = Some(1);
            event.first_timestamp = time.clone();
            event.last_timestamp = time;
            event.source = Some(EventSource {
                component: Some(self.component.clone()),
                host: (!self.host.is_empty()).then(|| self.host.clone()),
            });
        }
        event
    }
}

fn truncated(t: Timestamp) -> Timestamp {
    Timestamp::from_second(t.as_second()).unwrap_or(t)
}

fn seconds(t: Timestamp) -> String {
    truncated(t).to_string()
}

/// With microseconds, as MicroTime is written.
fn micros(t: Timestamp) -> String {
    format!("{t:.6}")
}
