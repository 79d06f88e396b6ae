//! What the shared caches cannot be asked directly: the slices of a Service, and who has an address.
//! Holds names only; objects stay in the caches.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use api::core::v1::Service;
use api::discovery::v1::EndpointSlice;
use client::{Change, ChangeKind, Entry, Lister, lister};
use parking_lot::RwLock;
use tokio::sync::watch;

const SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// Namespace and name.
pub(crate) type ObjectName = (String, String);

/// Something that has an address.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Owner {
    Service(ObjectName),
    Slice(ObjectName),
}

/// The index maps.
#[derive(Debug, Default)]
pub(crate) struct Index {
    maps: RwLock<Maps>,
}

#[derive(Debug, Default)]
struct Maps {
    slices: HashMap<ObjectName, BTreeSet<String>>,
    owners: HashMap<IpAddr, BTreeSet<Owner>>,
}

// === Index ===

impl Index {
    /// Names of the slices of a Service.
    pub(crate) fn slices(&self, namespace: &str, service: &str) -> Vec<String> {
        let maps = self.maps.read();
        let key = (namespace.to_owned(), service.to_owned());
        let names = maps.slices.get(&key).into_iter().flatten();
        names.cloned().collect()
    }

    /// Who has an address.
    pub(crate) fn owners(&self, ip: IpAddr) -> Vec<Owner> {
        let maps = self.maps.read();
        maps.owners
            .get(&ip)
            .into_iter()
            .flatten()
            .cloned()
            .collect()
    }

    fn put_service(&self, entry: &Entry, present: bool) {
        let Some(service) = lister::typed::<Service>(entry) else {
            return;
        };
        let owner = Owner::Service(name_of(entry));
        let mut maps = self.maps.write();
        for ip in cluster_ips(&service) {
            maps.put(ip, &owner, present);
        }
    }

    fn put_slice(&self, entry: &Entry, present: bool) {
        let Some(slice) = lister::typed::<EndpointSlice>(entry) else {
            return;
        };
        let owner = Owner::Slice(name_of(entry));
        let mut maps = self.maps.write();
        let endpoints = slice.endpoints.iter().flatten();
        for address in endpoints.flat_map(|e| &e.addresses) {
            if let Ok(ip) = address.parse() {
                maps.put(ip, &owner, present);
            }
        }
        let Some(service) = entry.labels.get(SERVICE_LABEL) else {
            return;
        };
        let key = (entry.namespace.to_string(), service.to_string());
        if present {
            maps.slices
                .entry(key)
                .or_default()
                .insert(entry.name.to_string());
        } else if let Some(names) = maps.slices.get_mut(&key) {
            names.remove(&*entry.name);
            if names.is_empty() {
                maps.slices.remove(&key);
            }
        }
    }

    fn clear(&self) {
        *self.maps.write() = Maps::default();
    }
}

impl Maps {
    fn put(&mut self, ip: IpAddr, owner: &Owner, present: bool) {
        if present {
            self.owners.entry(ip).or_default().insert(owner.clone());
        } else if let Some(owners) = self.owners.get_mut(&ip) {
            owners.remove(owner);
            if owners.is_empty() {
                self.owners.remove(&ip);
            }
        }
    }
}

/// The cluster IPs of a Service; none for headless ones.
pub(crate) fn cluster_ips(service: &Service) -> Vec<IpAddr> {
    let Some(spec) = &service.spec else {
        return Vec::new();
    };
    let all = spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip);
    let mut ips: Vec<IpAddr> = all.filter_map(|t| t.parse().ok()).collect();
    let mut seen = BTreeSet::new();
    ips.retain(|ip| seen.insert(*ip));
    ips
}

fn name_of(entry: &Entry) -> ObjectName {
    (entry.namespace.to_string(), entry.name.to_string())
}

/// Keeps the index in step until `shutdown`. `ready` is told once the first state is in.
pub(crate) async fn follow(
    index: Arc<Index>,
    services: Lister<Service>,
    slices: Lister<EndpointSlice>,
    ready: watch::Sender<bool>,
    mut shutdown: watch::Receiver<bool>,
) {
    loop {
        let (mut of_services, mut of_slices) = (services.subscribe(), slices.subscribe());
        index.clear();
        for entry in &of_services.snapshot {
            index.put_service(entry, true);
        }
        for entry in &of_slices.snapshot {
            index.put_slice(entry, true);
        }
        of_services.snapshot.clear();
        of_slices.snapshot.clear();
        ready.send_replace(true);
        loop {
            // A subscription that ended lost changes: start over.
            tokio::select! {
                _ = shutdown.wait_for(|s| *s) => return,
                change = of_services.changes.recv() => match change {
                    Some(change) => apply(&change, |e, present| index.put_service(e, present)),
                    None => break,
                },
                change = of_slices.changes.recv() => match change {
                    Some(change) => apply(&change, |e, present| index.put_slice(e, present)),
                    None => break,
                },
            }
        }
    }
}

fn apply(change: &Change, put: impl Fn(&Entry, bool)) {
    if let Some(before) = &change.before {
        put(before, false);
    }
    match change.kind {
        ChangeKind::Deleted => put(&change.entry, false),
        _ => put(&change.entry, true),
    }
}
