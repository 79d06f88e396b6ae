//! What plugins may look up besides nodes and pods, and what they keep between cycles.

use std::collections::HashSet;
use std::sync::Arc;

use api::selector::LabelSelector;
use api::{apps::v1 as apps, core::v1 as core, policy::v1 as policy, storage::v1 as storage};
use client::{Client, Kind, Lister};
use parking_lot::Mutex;

use crate::labels::Labels;
use crate::plugins::volume_binding::Assumed;

/// Read access to the cluster. A kind that the server does not serve has no objects.
pub struct World {
    pub client: Client,
    pub namespaces: Objects<core::Namespace>,
    pub services: Objects<core::Service>,
    pub replication_controllers: Objects<core::ReplicationController>,
    pub replica_sets: Objects<apps::ReplicaSet>,
    pub stateful_sets: Objects<apps::StatefulSet>,
    pub claims: Objects<core::PersistentVolumeClaim>,
    pub volumes: Objects<core::PersistentVolume>,
    pub classes: Objects<storage::StorageClass>,
    pub csi_nodes: Objects<storage::CSINode>,
    pub csi_drivers: Objects<storage::CSIDriver>,
    pub csi_capacities: Objects<storage::CSIStorageCapacity>,
    pub attachments: Objects<storage::VolumeAttachment>,
    pub budgets: Objects<policy::PodDisruptionBudget>,
    /// UIDs of pods whose victims are being removed.
    pub preempting: Mutex<HashSet<Arc<str>>>,
    /// Volumes and claims that pods placed but not yet bound will use.
    pub assumed_volumes: Mutex<Assumed>,
}

/// Typed reads of one kind.
pub struct Objects<K>(Option<Lister<K>>);

// === World ===

impl World {
    /// The view of one client.
    pub fn new(client: Client) -> Self {
        Self {
            namespaces: Objects::new(&client),
            services: Objects::new(&client),
            replication_controllers: Objects::new(&client),
            replica_sets: Objects::new(&client),
            stateful_sets: Objects::new(&client),
            claims: Objects::new(&client),
            volumes: Objects::new(&client),
            classes: Objects::new(&client),
            csi_nodes: Objects::new(&client),
            csi_drivers: Objects::new(&client),
            csi_capacities: Objects::new(&client),
            attachments: Objects::new(&client),
            budgets: Objects::new(&client),
            preempting: Mutex::default(),
            assumed_volumes: Mutex::default(),
            client,
        }
    }

    /// Names of the namespaces whose labels a selector matches.
    pub fn namespaces_selected(&self, selector: &LabelSelector) -> Vec<Box<str>> {
        let cache = self.namespaces.0.as_ref().map(Lister::cache);
        let all = cache.map_or(Vec::new(), |c| c.list(None));
        all.iter()
            .filter(|e| selector.matches(|k| e.labels.get(k).map(|v| &**v)))
            .map(|e| e.name.clone())
            .collect()
    }

    /// Labels of a namespace.
    pub fn namespace_labels(&self, name: &str) -> Labels {
        let cache = self.namespaces.0.as_ref().map(Lister::cache);
        let Some(entry) = cache.and_then(|c| c.get("", name)) else {
            return Labels::default();
        };
        let all = entry.labels.iter();
        all.map(|(k, v)| (k.clone(), v.clone())).collect()
    }
}

// === Objects ===

impl<K: Kind + api::k8s_openapi::Resource> Objects<K> {
    fn new(client: &Client) -> Self {
        Self(client.lister::<K>().ok())
    }

    /// One object.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.0.as_ref()?.get(namespace, name)
    }

    /// All objects, or those of one namespace.
    pub fn list(&self, namespace: Option<&str>) -> Vec<Arc<K>> {
        self.0.as_ref().map_or(Vec::new(), |l| l.list(namespace))
    }
}
