//! How endpoints are spread over slices with as few writes as possible.
//! Upstream: staging/src/k8s.io/endpointslice/reconciler.go.

use std::collections::BTreeMap;

use api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};
use api::meta::{ObjectMeta, OwnerReference};

use crate::common::object::Object;

/// The label that names a slice's service.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// The label that names a slice's writer.
pub const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// The label of slices of headless services.
pub const HEADLESS: &str = "service.kubernetes.io/headless";
/// When what a slice shows happened.
pub const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// What all slices of one owner have in common.
#[derive(Clone, Debug)]
pub struct Template {
    pub namespace: String,
    pub prefix: String,
    pub address_type: String,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// Set on slices that are written anyway; its change alone writes nothing.
    pub trigger_time: Option<String>,
    pub owner: OwnerReference,
    pub max: usize,
    /// Whether an empty slice stands for no endpoints at all.
    pub placeholder: bool,
}

/// Endpoints that share their ports.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    pub ports: Vec<EndpointPort>,
    pub endpoints: Vec<Endpoint>,
}

/// Writes that bring slices in line.
#[derive(Debug, Default)]
pub struct Changes {
    pub create: Vec<EndpointSlice>,
    pub update: Vec<EndpointSlice>,
    pub delete: Vec<EndpointSlice>,
}

/// What makes an endpoint the same endpoint, whatever its conditions.
fn identity(e: &Endpoint) -> (Vec<String>, Option<&str>, Option<(&str, &str)>) {
    let mut addresses = e.addresses.clone();
    addresses.sort();
    let target = e.target_ref.as_ref().map(|t| {
        let namespace = t.namespace.as_deref().unwrap_or("");
        (namespace, t.name.as_deref().unwrap_or(""))
    });
    (addresses, e.hostname.as_deref(), target)
}

/// Ports in a comparable order.
fn port_key(ports: &[EndpointPort]) -> String {
    let mut texts: Vec<String> = ports
        .iter()
        .map(|p| {
            let name = p.name.as_deref().unwrap_or("");
            let protocol = p.protocol.as_deref().unwrap_or("");
            let app = p.app_protocol.as_deref().unwrap_or("");
            format!("{name} {protocol} {:?} {app}", p.port)
        })
        .collect();
    texts.sort();
    texts.join(",")
}

/// Compares slices of one address type with the endpoints they should show.
pub fn changes(existing: &[EndpointSlice], wanted: &[Group], t: &Template) -> Changes {
    let mut by_ports: BTreeMap<String, Vec<&EndpointSlice>> = BTreeMap::new();
    for slice in existing {
        let key = port_key(slice.ports.as_deref().unwrap_or(&[]));
        by_ports.entry(key).or_default().push(slice);
    }
    let mut out = Changes::default();
    let mut kept = 0;
    for group in wanted.iter().filter(|g| !g.endpoints.is_empty()) {
        let slices = by_ports.remove(&port_key(&group.ports)).unwrap_or_default();
        kept += pack(&slices, group, t, &mut out);
    }
    let rest: Vec<&EndpointSlice> = by_ports.into_values().flatten().collect();
    let shown = kept + out.create.len() + out.update.len();
    if shown > 0 || !t.placeholder {
        out.delete.extend(rest.into_iter().cloned());
    } else {
        placeholder(&rest, t, &mut out);
    }
    reuse(&mut out);
    out
}

/// One slice without endpoints shows that there are none.
fn placeholder(rest: &[&EndpointSlice], t: &Template, out: &mut Changes) {
    let empty = |s: &EndpointSlice| {
        s.endpoints.as_ref().is_none_or(Vec::is_empty) && s.ports.as_ref().is_none_or(Vec::is_empty)
    };
    let known = rest.iter().position(|s| empty(s));
    for (i, slice) in rest.iter().enumerate() {
        if Some(i) != known {
            out.delete.push((*slice).clone());
        } else if !same_metadata(slice, t) {
            out.update.push(refreshed(slice, t, Vec::new()));
        }
    }
    // Any other slice becomes the placeholder when creates and deletes are joined.
    if known.is_none() {
        out.create.push(new_slice(t, &[], Vec::new()));
    }
}

/// Fits one group into its slices; gives how many stay as they are.
fn pack(slices: &[&EndpointSlice], group: &Group, t: &Template, out: &mut Changes) -> usize {
    let mut left: Vec<&Endpoint> = group.endpoints.iter().collect();
    let mut unchanged: Vec<(&EndpointSlice, usize)> = Vec::new();
    let mut updated: Vec<(&EndpointSlice, Vec<Endpoint>)> = Vec::new();
    for slice in slices {
        let mut endpoints = Vec::new();
        let mut changed = !same_metadata(slice, t);
        for old in slice.endpoints.iter().flatten() {
            let found = left.iter().position(|e| identity(e) == identity(old));
            match found {
                Some(i) => {
                    let new = left.swap_remove(i);
                    changed |= new != old;
                    endpoints.push(new.clone());
                }
                None => changed = true,
            }
        }
        if endpoints.is_empty() {
            out.delete.push((*slice).clone());
        } else if changed {
            updated.push((slice, endpoints));
        } else {
            unchanged.push((slice, endpoints.len()));
        }
    }
    left.sort_by_key(|e| group.endpoints.iter().position(|g| std::ptr::eq(g, *e)));
    // Slices that are written anyway are filled first, the fullest of them before others.
    updated.sort_by_key(|(_, e)| std::cmp::Reverse(e.len()));
    for (_, endpoints) in &mut updated {
        let room = t.max.saturating_sub(endpoints.len()).min(left.len());
        endpoints.extend(left.drain(..room).cloned());
    }
    if !left.is_empty() && left.len() < t.max {
        let fits = |n: usize| n + left.len() <= t.max;
        let best = unchanged.iter().enumerate().filter(|(_, (_, n))| fits(*n));
        if let Some((i, _)) = best.max_by_key(|(_, (_, n))| *n) {
            let (slice, _) = unchanged.remove(i);
            let mut endpoints = slice.endpoints.clone().unwrap_or_default();
            endpoints.extend(left.drain(..).cloned());
            updated.push((slice, endpoints));
        }
    }
    for chunk in left.chunks(t.max) {
        let endpoints = chunk.iter().map(|e| (*e).clone()).collect();
        out.create.push(new_slice(t, &group.ports, endpoints));
    }
    for (slice, endpoints) in updated {
        out.update.push(refreshed(slice, t, endpoints));
    }
    unchanged.len()
}

fn same_metadata(slice: &EndpointSlice, t: &Template) -> bool {
    let annotations = slice
        .annotations()
        .iter()
        .filter(|(k, _)| *k != TRIGGER_TIME);
    *slice.labels() == t.labels && annotations.eq(t.annotations.iter())
}

fn annotations(t: &Template) -> Option<BTreeMap<String, String>> {
    let mut all = t.annotations.clone();
    if let Some(time) = &t.trigger_time {
        all.insert(TRIGGER_TIME.into(), time.clone());
    }
    (!all.is_empty()).then_some(all)
}

fn refreshed(slice: &EndpointSlice, t: &Template, endpoints: Vec<Endpoint>) -> EndpointSlice {
    let mut new = slice.clone();
    new.metadata.labels = Some(t.labels.clone());
    new.metadata.annotations = annotations(t);
    new.endpoints = (!endpoints.is_empty()).then_some(endpoints);
    new
}

fn new_slice(t: &Template, ports: &[EndpointPort], endpoints: Vec<Endpoint>) -> EndpointSlice {
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", t.prefix)),
            namespace: Some(t.namespace.clone()),
            labels: Some(t.labels.clone()),
            annotations: annotations(t),
            owner_references: Some(vec![t.owner.clone()]),
            ..ObjectMeta::default()
        },
        address_type: t.address_type.clone(),
        endpoints: (!endpoints.is_empty()).then_some(endpoints),
        ports: (!ports.is_empty()).then(|| ports.to_vec()),
    }
}

/// A slice to be deleted takes the place of one to be created: one write instead of two.
fn reuse(out: &mut Changes) {
    let both = out.create.len().min(out.delete.len());
    for _ in 0..both {
        let (Some(new), Some(old)) = (out.create.pop(), out.delete.pop()) else {
            return;
        };
        let mut metadata = new.metadata.clone();
        metadata.name = old.metadata.name.clone();
        metadata.generate_name = old.metadata.generate_name.clone();
        metadata.resource_version = old.metadata.resource_version.clone();
        metadata.uid = old.metadata.uid.clone();
        metadata.creation_timestamp = old.metadata.creation_timestamp.clone();
        metadata.generation = old.metadata.generation;
        out.update.push(EndpointSlice { metadata, ..new });
    }
}

#[cfg(test)]
mod tests;
