//! Follows every served resource and wakes the objects that changes concern.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use client::{Change, ChangeKind, Entry, Reads};
use machinery::GroupResource;
use reconciler::Waker;
use tokio::task::{AbortHandle, JoinSet};

use super::graph::{Graph, Kinds, Object, encode};
use super::plan::Owner;

/// Follows all resources for ever, those of CRDs that come and go included.
pub async fn run(reads: Arc<dyn Reads>, graph: Arc<Graph>, waker: Waker) {
    graph.attach(waker);
    let mut changed = reads.resources_changed();
    let mut following: HashMap<GroupResource, AbortHandle> = HashMap::new();
    let mut tasks = JoinSet::new();
    loop {
        changed.mark_unchanged();
        let kinds = Kinds::of(reads.resources());
        let served: HashSet<GroupResource> =
            kinds.all().iter().map(|d| d.group_resource()).collect();
        graph.set_kinds(kinds);
        following.retain(|resource, task| {
            let keep = served.contains(resource) && !task.is_finished();
            if !keep {
                task.abort();
            }
            keep
        });
        for resource in served {
            following
                .entry(resource.clone())
                .or_insert_with(|| tasks.spawn(follow(resource, reads.clone(), graph.clone())));
        }
        // Owners of kinds that came or went are judged anew.
        for key in graph.all() {
            graph.wake(key);
        }
        tokio::select! {
            more = changed.changed() => if more.is_err() { return },
            Some(_) = tasks.join_next() => {}
        }
    }
}

/// Follows one resource until it is no longer served.
async fn follow(resource: GroupResource, reads: Arc<dyn Reads>, graph: Arc<Graph>) {
    let mut first = true;
    while let Some(cache) = reads.cache(&resource) {
        let mut sub = cache.subscribe();
        let there: HashSet<Box<str>> = sub.snapshot.iter().map(|e| e.uid.clone()).collect();
        for uid in graph.uids_of(&resource) {
            if !there.contains(&uid) {
                gone(&graph, &uid);
            }
        }
        for entry in std::mem::take(&mut sub.snapshot) {
            seen(&graph, &resource, &entry, true);
        }
        if !first {
            // What went while nobody looked may have been the owner of anything.
            for key in graph.all() {
                graph.wake(key);
            }
        }
        first = false;
        while let Some(change) = sub.changes.recv().await {
            apply(&graph, &resource, &change);
        }
        tokio::time::sleep(reconciler::limits::RESUBSCRIBE).await;
    }
}

fn apply(graph: &Graph, resource: &GroupResource, change: &Change) {
    match change.kind {
        ChangeKind::Deleted => gone(graph, &change.entry.uid),
        ChangeKind::Added => seen(graph, resource, &change.entry, true),
        ChangeKind::Modified => {
            let replaced = change.before.as_ref().filter(|b| b.uid != change.entry.uid);
            if let Some(before) = replaced {
                gone(graph, &before.uid);
            }
            seen(graph, resource, &change.entry, replaced.is_some());
        }
    }
}

fn seen(graph: &Graph, resource: &GroupResource, entry: &Entry, new: bool) {
    let Some(object) = Object::of(entry) else {
        return;
    };
    let key = encode(resource, &entry.namespace, &entry.name);
    let before = graph.put(&entry.uid, key.clone(), &object);
    let owners_changed = before != object.owners;
    if object.needs_collector() || (!object.owners.is_empty() && (new || owners_changed)) {
        graph.wake(key);
    }
    if owners_changed {
        wake_owners(graph, &entry.namespace, &before);
    }
}

/// Wakes what referred to a deleted object, and the owners that may have waited for it.
fn gone(graph: &Graph, uid: &str) {
    let dependents = graph.dependents(uid);
    for dependent in dependents {
        graph.wake(dependent.key);
    }
    let namespace = graph.namespace_of(uid);
    let owners = graph.forget(uid);
    wake_owners(graph, &namespace, &owners);
}

fn wake_owners(graph: &Graph, namespace: &str, owners: &[Owner]) {
    let kinds = graph.kinds();
    for owner in owners {
        if let Some(d) = kinds.by_kind(owner.group(), &owner.kind) {
            let namespace = if d.namespaced() { namespace } else { "" };
            graph.wake(encode(&d.group_resource(), namespace, &owner.name));
        }
    }
}
