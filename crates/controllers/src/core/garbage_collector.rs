//! The garbage collector: objects go when all their owners are gone; owners being deleted in the
//! foreground wait for what blocks them; owners that orphan let go of their dependents first.
//! Upstream: pkg/controller/garbagecollector.
//!
//! Whether an owner exists is asked of the shared caches, and of the server before anything is deleted
//! for it. The graph only knows who refers to whom, to wake the right objects.

mod aggregated;
mod feed;
mod graph;
mod plan;

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use async_trait::async_trait;
use client::api::{DeleteParams, Patch, Preconditions, PropagationPolicy};
use client::{Client, Entry, EventType, Reads, Recorder};
use kube::api::{Api, ApiResource, DynamicObject};
use machinery::Descriptor;
use parking_lot::Mutex;
use reconciler::{During, Error, Key, Next, Reconcile, Reconciler};
use serde_json::{Value, json};

use self::aggregated::Everything;
use self::graph::{Graph, Object, decode};
use self::plan::{FOREGROUND, ORPHAN, Owner, Policy, Standing, Verdict};
use crate::common::act;
use crate::{Controller, Setup, limits};

pub static CONTROLLER: Controller = Controller {
    name: "garbage-collector-controller",
    account: "generic-garbage-collector",
    component: "garbage-collector-controller",
    needs: &[],
    build: |setup| Ok(build(setup)),
};

fn build(setup: &Setup) -> Reconciler {
    let graph = Arc::new(Graph::default());
    let everything = Everything::new(setup.client.clone());
    let this = Collector {
        client: setup.client.clone(),
        reads: everything.clone(),
        recorder: setup.recorder.clone(),
        graph: graph.clone(),
        absent: Mutex::default(),
    };
    Reconciler::new("garbage-collector-controller", 20, this).source(move |waker| {
        Box::pin(async move {
            let feed = feed::run(everything.clone(), graph, waker);
            tokio::join!(feed, everything.run());
        })
    })
}

struct Collector {
    client: Client,
    /// The shared caches, and what other servers serve.
    reads: Arc<dyn Reads>,
    recorder: Recorder,
    graph: Arc<Graph>,
    /// UIDs of owners that the server said are gone, newest last.
    absent: Mutex<Absent>,
}

#[derive(Default)]
struct Absent {
    known: HashSet<String>,
    order: VecDeque<String>,
}

/// An object under consideration.
struct Item {
    descriptor: Arc<Descriptor>,
    entry: Arc<Entry>,
    meta: Object,
}

impl Item {
    /// The object's version as its server writes it.
    fn version(&self) -> String {
        let value = self.entry.value().unwrap_or_default();
        machinery::object::str_at(&value, "metadata.resourceVersion").to_string()
    }
}

#[async_trait]
impl Reconcile for Collector {
    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        let Some(item) = self.item(key) else {
            return Ok(Next::Done);
        };
        if item.meta.deleting {
            if item.meta.has_finalizer(ORPHAN) {
                self.orphan_dependents(&item).await?;
            } else if item.meta.has_finalizer(FOREGROUND) {
                self.wait_for_dependents(&item).await?;
            }
            return Ok(Next::Done);
        }
        if !item.meta.owners.is_empty() {
            self.judge(&item).await?;
        }
        Ok(Next::Done)
    }
}

impl Collector {
    fn item(&self, key: &Key) -> Option<Item> {
        let (resource, namespace) = decode(key)?;
        let descriptor = self.graph.kinds().by_resource(&resource)?;
        let entry = self.reads.cache(&resource)?.get(&namespace, &key.name)?;
        let meta = Object::of(&entry)?;
        Some(Item {
            descriptor,
            entry,
            meta,
        })
    }

    fn api(&self, d: &Descriptor, namespace: &str) -> Api<DynamicObject> {
        let resource = ApiResource {
            group: d.group.to_string(),
            version: d.version.to_string(),
            api_version: d.api_version(),
            kind: d.kind.to_string(),
            plural: d.resource.to_string(),
        };
        let kube = self.client.kube().clone();
        if d.namespaced() {
            Api::namespaced_with(kube, namespace, &resource)
        } else {
            Api::all_with(kube, &resource)
        }
    }

    /// Decides about an object with owners, and does it.
    async fn judge(&self, item: &Item) -> Result<(), Error> {
        let mut standings = Vec::new();
        for owner in &item.meta.owners {
            match self.standing(item, owner).await? {
                Some(standing) => standings.push(standing),
                // An owner of a kind that is not served, or of a scope that cannot be: never collected.
                None => return Ok(()),
            }
        }
        let dependents = self.graph.dependents(&item.entry.uid);
        let any_waits = dependents.iter().any(|d| d.deleting_dependents);
        let verdict = plan::verdict(&item.meta, &standings, !dependents.is_empty(), any_waits);
        tracing::debug!(object = %item.entry.key(), resource = ?item.descriptor, ?verdict, "garbage collector");
        match verdict {
            Verdict::Keep => Ok(()),
            Verdict::Refs(owners) => self.write_owners(item, &owners).await,
            Verdict::Delete { policy, unblock } => {
                if unblock {
                    let owners: Vec<Owner> =
                        item.meta.owners.iter().map(Owner::unblocked).collect();
                    self.write_owners(item, &owners).await?;
                }
                self.delete(item, policy, !unblock).await
            }
        }
    }

    /// How one owner stands to its dependent.
    async fn standing(&self, item: &Item, owner: &Owner) -> Result<Option<Standing>, Error> {
        let Some(d) = self.graph.kinds().by_kind(owner.group(), &owner.kind) else {
            return Ok(None);
        };
        let namespace = match (d.namespaced(), item.descriptor.namespaced()) {
            (true, false) => return Ok(None),
            (true, true) => &*item.entry.namespace,
            (false, _) => "",
        };
        let resource = d.group_resource();
        let cache = self.reads.cache(&resource);
        let cache = cache.ok_or(client::NotServed(resource))?;
        if let Some(there) = cache.get(namespace, &owner.name)
            && *there.uid == *owner.uid
        {
            let meta = Object::of(&there);
            let waits = meta.is_some_and(|m| m.deleting && m.has_finalizer(FOREGROUND));
            return Ok(Some(if waits {
                Standing::Waiting
            } else {
                Standing::Solid
            }));
        }
        if self.absent.lock().known.contains(&owner.uid) {
            return Ok(Some(Standing::Absent));
        }
        let live = self.api(&d, namespace).get_metadata_opt(&owner.name).await;
        let live = live.during("get an owner")?;
        if live.is_some_and(|l| l.metadata.uid.as_deref() == Some(&*owner.uid)) {
            // The cache is behind; its next change wakes the dependents again.
            return Ok(Some(Standing::Solid));
        }
        let elsewhere = cache.list(None).iter().any(|e| *e.uid == *owner.uid);
        if elsewhere && d.namespaced() {
            self.tell_wrong_namespace(item, owner);
        }
        self.absent.lock().remember(&owner.uid);
        Ok(Some(Standing::Absent))
    }

    fn tell_wrong_namespace(&self, item: &Item, owner: &Owner) {
        let namespace = &item.entry.namespace;
        let message = format!(
            "ownerRef [{}/{}, namespace: {namespace}, name: {}, uid: {}] does not exist in namespace {namespace:?}",
            owner.api_version, owner.kind, owner.name, owner.uid
        );
        let about = api::core::v1::ObjectReference {
            api_version: Some(item.descriptor.api_version()),
            kind: Some(item.descriptor.kind.to_string()),
            name: Some(item.entry.name.to_string()),
            namespace: Some(namespace.to_string()),
            uid: Some(item.entry.uid.to_string()),
            ..Default::default()
        };
        let reason = "OwnerRefInvalidNamespace";
        self.recorder
            .event(about, EventType::Warning, reason, &message);
    }

    async fn delete(&self, item: &Item, policy: Policy, same: bool) -> Result<(), Error> {
        let params = DeleteParams {
            propagation_policy: Some(match policy {
                Policy::Background => PropagationPolicy::Background,
                Policy::Foreground => PropagationPolicy::Foreground,
                Policy::Orphan => PropagationPolicy::Orphan,
            }),
            preconditions: Some(Preconditions {
                uid: Some(item.entry.uid.to_string()),
                // A change of its owners in between would change the decision.
                resource_version: same.then(|| item.version()),
            }),
            ..DeleteParams::default()
        };
        let api = self.api(&item.descriptor, &item.entry.namespace);
        match api.delete(&item.entry.name, &params).await {
            Err(e) if client::is_not_found(&e) => Ok(()),
            done => done.map(|_| ()).during("delete a dependent"),
        }
    }

    async fn write_owners(&self, item: &Item, owners: &[Owner]) -> Result<(), Error> {
        // A field without items is no field.
        let owners = (!owners.is_empty()).then_some(owners);
        self.patch_metadata(item, json!({"ownerReferences": owners}))
            .await
    }

    /// Merges into an object's metadata, if it is still as it was seen.
    async fn patch_metadata(&self, item: &Item, mut meta: Value) -> Result<(), Error> {
        meta["resourceVersion"] = json!(item.version());
        meta["uid"] = json!(item.entry.uid);
        let patch = Patch::Merge(json!({"metadata": meta}));
        let api = self.api(&item.descriptor, &item.entry.namespace);
        let params = act::patch_params();
        let done = api.patch_metadata(&item.entry.name, &params, &patch).await;
        match done {
            Err(e) if client::is_not_found(&e) => Ok(()),
            done => done
                .map(|_| ())
                .during("patch owner references or finalizers"),
        }
    }

    async fn remove_finalizer(&self, item: &Item, finalizer: &str) -> Result<(), Error> {
        let left: Vec<&String> = item
            .meta
            .finalizers
            .iter()
            .filter(|f| *f != finalizer)
            .collect();
        let left = (!left.is_empty()).then_some(left);
        self.patch_metadata(item, json!({"finalizers": left})).await
    }

    /// An owner that orphans: its dependents lose their references to it, then it may go.
    async fn orphan_dependents(&self, item: &Item) -> Result<(), Error> {
        let uid = &*item.entry.uid;
        let releases: Vec<_> = self
            .referring(item)
            .into_iter()
            .map(|dependent| async move {
                let left: Vec<Owner> = dependent
                    .meta
                    .owners
                    .iter()
                    .filter(|o| *o.uid != *uid)
                    .cloned()
                    .collect();
                self.write_owners(&dependent, &left).await
            })
            .collect();
        match act::all(releases).await {
            Some(error) => Err(error),
            None => self.remove_finalizer(item, ORPHAN).await,
        }
    }

    /// An owner deleted in the foreground: it may go when nothing blocks it any more.
    async fn wait_for_dependents(&self, item: &Item) -> Result<(), Error> {
        let dependents = self.graph.dependents(&item.entry.uid);
        let blocked = dependents.iter().any(|d| d.blocks);
        for dependent in dependents.into_iter().filter(|d| !d.deleting_dependents) {
            self.graph.wake(dependent.key);
        }
        if blocked {
            return Ok(());
        }
        // The graph may be a moment behind the caches: look once more before letting the owner go.
        let uid = &*item.entry.uid;
        let late = self.referring(item);
        let blocks = |o: &Owner| *o.uid == *uid && o.block == Some(true);
        if late.iter().any(|d| d.meta.owners.iter().any(blocks)) {
            return Err(Error::Other("the graph is behind the caches".into()));
        }
        self.remove_finalizer(item, FOREGROUND).await
    }

    /// All objects that refer to an owner, read from the caches.
    fn referring(&self, owner: &Item) -> Vec<Item> {
        let uid = &*owner.entry.uid;
        let namespace = owner
            .descriptor
            .namespaced()
            .then(|| &*owner.entry.namespace);
        let mut found = Vec::new();
        for descriptor in self.graph.kinds().all() {
            if namespace.is_some() && !descriptor.namespaced() {
                continue;
            }
            let Some(cache) = self.reads.cache(&descriptor.group_resource()) else {
                continue;
            };
            for entry in cache.list(namespace) {
                // Most objects do not even contain the UID's text.
                let named = std::str::from_utf8(&entry.bytes).is_ok_and(|t| t.contains(uid));
                let meta = if named { Object::of(&entry) } else { None };
                let Some(meta) = meta.filter(|m| m.owners.iter().any(|o| *o.uid == *uid)) else {
                    continue;
                };
                found.push(Item {
                    descriptor: descriptor.clone(),
                    entry,
                    meta,
                });
            }
        }
        found
    }
}

impl Absent {
    fn remember(&mut self, uid: &str) {
        if !self.known.insert(uid.into()) {
            return;
        }
        self.order.push_back(uid.into());
        if self.order.len() > limits::ABSENT_OWNERS
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}
