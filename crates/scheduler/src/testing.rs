//! Objects for the tests of this crate.

use std::sync::Arc;

use client::Client;
use client::memory::MemoryReads;
use machinery::request::User;
use serde_json::{Value, json};

use crate::node::Node;
use crate::pod::Pod;
use crate::snapshot::Snapshot;
use crate::world::World;

pub mod fake_api;

/// A pod of JSON; the namespace is `default` unless given.
pub fn pod(mut object: Value) -> Pod {
    let meta = &mut object["metadata"];
    if meta["namespace"].is_null() {
        meta["namespace"] = json!("default");
    }
    if meta["uid"].is_null() {
        meta["uid"] = meta["name"].clone();
    }
    Pod::from_slice(object.to_string().as_bytes()).unwrap()
}

/// A node of JSON.
pub fn node(object: Value) -> Arc<Node> {
    Arc::new(Node::from_slice(object.to_string().as_bytes()).unwrap())
}

/// Nodes and the pods on them.
pub fn snapshot(nodes: &[Value], pods: &[Value]) -> Snapshot {
    let mut s = Snapshot::default();
    for n in nodes {
        s.set_node(node(n.clone()));
    }
    for p in pods {
        assert!(s.add_pod(&Arc::new(pod(p.clone()))), "pod without node");
    }
    s.settle();
    s
}

pub const STORAGE: &str = "storage.k8s.io";

/// Every kind the scheduler reads.
pub const KINDS: &[(&str, &str)] = &[
    ("", "pods"),
    ("", "nodes"),
    ("", "namespaces"),
    ("", "services"),
    ("", "replicationcontrollers"),
    ("apps", "replicasets"),
    ("apps", "statefulsets"),
    ("", "persistentvolumeclaims"),
    ("", "persistentvolumes"),
    (STORAGE, "storageclasses"),
    (STORAGE, "csinodes"),
    (STORAGE, "csidrivers"),
    (STORAGE, "csistoragecapacities"),
    (STORAGE, "volumeattachments"),
    ("policy", "poddisruptionbudgets"),
];

/// A world with these objects, by group and plural; nothing can be written.
pub fn world(objects: &[(&'static str, &'static str, Value)]) -> Arc<World> {
    let reads = Arc::new(MemoryReads::new(KINDS));
    for (group, plural, object) in objects {
        let cache = reads.memory(group, plural).expect("a known kind");
        cache.apply(object.clone()).unwrap();
    }
    let service = tower::service_fn(|_: http::Request<kube::client::Body>| async {
        Err::<http::Response<kube::client::Body>, _>(std::io::Error::other("no server"))
    });
    let kube = kube::Client::new(service, "default");
    Arc::new(World::new(Client::new(kube, reads, User::default())))
}
