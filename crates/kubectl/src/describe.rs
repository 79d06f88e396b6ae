//! What `kubectl describe` says of an object: one file for a family of kinds, one line in `DESCRIBERS`;
//! every other kind is told by its own fields (`generic.rs`). The texts are made of what was read before.
//! Upstream: kubectl/pkg/describe/describe.go.

mod access;
mod batch;
mod config;
mod containers;
mod events;
mod generic;
mod lines;
mod namespace;
mod node;
mod pod;
mod policy;
mod service;
mod storage;
mod volumes;
mod workloads;

use std::collections::BTreeMap;

use serde_json::Value;

use crate::builder::Info;
use crate::context::Context;
use crate::error::Result;
use crate::object;
use crate::rest::Call;
use lines::Lines;
pub use lines::since;

/// How a kind is described.
pub struct Describer {
    group: &'static str,
    kind: &'static str,
    /// What else is read for it, by a name of its own.
    more: fn(&Info) -> Vec<(&'static str, Call)>,
    text: fn(&Seen<'_>, &mut Lines),
    /// Whether its events are shown.
    events: bool,
}

/// What was read before the text is made.
#[derive(Debug)]
pub struct Seen<'a> {
    pub object: &'a Value,
    more: BTreeMap<&'static str, Result<Value>>,
}

static DESCRIBERS: &[Describer] = &[
    pod::POD,
    node::NODE,
    workloads::DEPLOYMENT,
    workloads::REPLICA_SET,
    workloads::REPLICATION_CONTROLLER,
    workloads::DAEMON_SET,
    workloads::STATEFUL_SET,
    batch::JOB,
    batch::CRON_JOB,
    service::SERVICE,
    service::ENDPOINT_SLICE,
    namespace::NAMESPACE,
    policy::QUOTA,
    policy::LIMIT_RANGE,
    policy::DISRUPTION_BUDGET,
    policy::PRIORITY_CLASS,
    config::CONFIG_MAP,
    config::SECRET,
    config::SERVICE_ACCOUNT,
    storage::VOLUME,
    storage::CLAIM,
    storage::CLASS,
    access::ROLE,
    access::CLUSTER_ROLE,
    access::ROLE_BINDING,
    access::CLUSTER_ROLE_BINDING,
];

// === Describer ===

impl Describer {
    /// A kind that needs nothing but itself and its events.
    const fn of(group: &'static str, kind: &'static str, text: fn(&Seen<'_>, &mut Lines)) -> Self {
        Self {
            group,
            kind,
            more: |_| Vec::new(),
            text,
            events: true,
        }
    }

    const fn with(self, more: fn(&Info) -> Vec<(&'static str, Call)>) -> Self {
        Self { more, ..self }
    }

    const fn without_events(self) -> Self {
        Self {
            events: false,
            ..self
        }
    }
}

// === Seen ===

impl Seen<'_> {
    /// The items of a list that was read; none where it could not be.
    fn items(&self, name: &str) -> &[Value] {
        match self.more.get(name) {
            Some(Ok(list)) => object::items(list, "/items"),
            _ => &[],
        }
    }

    fn read(&self, name: &str) -> Option<&Result<Value>> {
        self.more.get(name)
    }

    /// Name and namespace.
    fn head(&self, w: &mut Lines) {
        w.put(0, format!("Name:\t{}", object::name(self.object)));
        w.put(0, format!("Namespace:\t{}", object::namespace(self.object)));
    }

    /// Labels and annotations.
    fn marks(&self, w: &mut Lines) {
        let meta = &self.object["metadata"];
        w.labels("Labels", &meta["labels"]);
        w.annotations("Annotations", &meta["annotations"]);
    }

    /// The owner that manages it.
    fn owner(&self, w: &mut Lines) {
        let owners = object::items(self.object, "/metadata/ownerReferences");
        if let Some(owner) = owners.iter().find(|r| r["controller"] == true) {
            let (kind, name) = (object::text(owner, "/kind"), object::text(owner, "/name"));
            w.put(0, format!("Controlled By:\t{kind}/{name}"));
        }
    }
}

/// The text of an object.
pub async fn text(cx: &Context, info: &Info, with_events: bool) -> Result<String> {
    let r = &info.resource;
    let found = DESCRIBERS
        .iter()
        .find(|d| d.group == r.group && d.kind == r.kind);
    let mut seen = Seen {
        object: &info.object,
        more: BTreeMap::new(),
    };
    for (name, call) in found.map_or_else(Vec::new, |d| (d.more)(info)) {
        seen.more.insert(name, cx.rest().await?.json(&call).await);
    }
    let mut w = Lines::default();
    match found {
        Some(describer) => (describer.text)(&seen, &mut w),
        None => generic::text(&seen, &mut w),
    }
    if with_events && found.is_none_or(|d| d.events) {
        events::put(&events::of(cx, info).await?, &mut w);
    }
    Ok(w.layout())
}

/// A pod template with its cells not laid out, as `rollout history` prints it.
pub fn template_text(template: &Value) -> String {
    let mut w = Lines::default();
    containers::template(template, &mut w);
    w.unlaid()
}
