//! Each node gets a pod network of its own out of the cluster's. Upstream: pkg/controller/nodeipam/ipam,
//! range allocator. One worker: what is taken is read from the nodes themselves.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use api::core::v1::Node;
use async_trait::async_trait;
use client::api::Patch;
use client::recorder::reference;
use client::{Client, EventType, Recorder};
use parking_lot::Mutex;
use reconciler::{During, Error, Key, Next, Reconcile, Reconciler, Trigger};
use serde_json::json;

use crate::common::act;
use crate::common::object::Object;
use crate::{Controller, Setup};

pub static CONTROLLER: Controller = Controller {
    name: "node-ipam-controller",
    account: "node-controller",
    component: "cidrAllocator",
    needs: &[("", "nodes")],
    build,
};

fn build(setup: &Setup) -> Result<Reconciler, Error> {
    let facts = &setup.facts;
    let parse = |all: &[String]| -> Result<Vec<Network>, Error> {
        let parsed = all.iter().map(|c| {
            let network = Network::parse(c);
            network.ok_or_else(|| Error::Other(format!("{c:?} is not a network")))
        });
        parsed.collect()
    };
    let ranges = parse(&facts.cluster_cidrs)?
        .into_iter()
        .map(|cluster| Range {
            mask: match cluster.v4 {
                true => facts.node_mask_v4 + 96,
                false => facts.node_mask_v6,
            },
            cluster,
        })
        .collect();
    let this = Ipam {
        client: setup.client.clone(),
        recorder: setup.recorder.clone(),
        ranges,
        services: parse(&facts.service_cidrs)?,
        cursors: Mutex::new(Vec::new()),
    };
    Ok(Reconciler::new("node-ipam-controller", 1, this).on(Trigger::own("", "nodes")))
}

/// A network; IPv4 is kept in the last 32 bits of 128, so its prefix counts from 96.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    base: u128,
    prefix: u8,
    v4: bool,
}

/// A cluster network and the prefix of its nodes' parts.
#[derive(Clone, Copy, Debug)]
struct Range {
    cluster: Network,
    mask: u8,
}

struct Ipam {
    client: Client,
    recorder: Recorder,
    ranges: Vec<Range>,
    services: Vec<Network>,
    /// Where the search goes on, one per range.
    cursors: Mutex<Vec<u128>>,
}

// === Network ===

impl Network {
    fn parse(text: &str) -> Option<Self> {
        let (ip, prefix) = text.split_once('/')?;
        let prefix: u8 = prefix.parse().ok()?;
        let (bits, prefix, v4) = match ip.parse::<IpAddr>().ok()? {
            IpAddr::V4(ip) => (u128::from(ip.to_bits()), prefix.checked_add(96)?, true),
            IpAddr::V6(ip) => (ip.to_bits(), prefix, false),
        };
        if prefix > 128 {
            return None;
        }
        let base = bits & !host_mask(prefix);
        Some(Self { base, prefix, v4 })
    }

    fn overlaps(&self, other: &Self) -> bool {
        let shorter = self.prefix.min(other.prefix);
        self.v4 == other.v4 && (self.base ^ other.base) & !host_mask(shorter) == 0
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match u32::try_from(self.base) {
            Ok(bits) if self.v4 => write!(f, "{}/{}", Ipv4Addr::from_bits(bits), self.prefix - 96),
            _ => write!(f, "{}/{}", Ipv6Addr::from_bits(self.base), self.prefix),
        }
    }
}

/// The bits of hosts under a prefix.
fn host_mask(prefix: u8) -> u128 {
    u128::MAX.checked_shr(u32::from(prefix)).unwrap_or(0)
}

// === Range ===

impl Range {
    /// The next free part from a cursor on, and the cursor after it.
    fn next(&self, cursor: u128, taken: &[Network]) -> Option<(Network, u128)> {
        if self.mask < self.cluster.prefix || self.mask > 128 {
            return None;
        }
        let bits = u32::from(self.mask - self.cluster.prefix);
        let count = 1u128.checked_shl(bits)?;
        let step = host_mask(self.mask) + 1;
        // Each taken network is passed at most once a round, so this many tries are enough.
        let tries = count.min(taken.len() as u128 * count.min(1 << 16) + 1);
        let mut at = cursor % count;
        for _ in 0..tries {
            let part = Network {
                base: self.cluster.base + at * step,
                prefix: self.mask,
                v4: self.cluster.v4,
            };
            at = (at + 1) % count;
            if !taken.iter().any(|t| t.overlaps(&part)) {
                return Some((part, at));
            }
        }
        None
    }
}

fn pod_cidrs(node: &Node) -> Vec<String> {
    let spec = node.spec.as_ref();
    spec.and_then(|s| s.pod_cidrs.clone()).unwrap_or_default()
}

#[async_trait]
impl Reconcile for Ipam {
    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        let lister = self.client.lister::<Node>()?;
        let Some(node) = lister.get("", &key.name) else {
            return Ok(Next::Done);
        };
        if self.ranges.is_empty() || !pod_cidrs(&node).is_empty() {
            return Ok(Next::Done);
        }
        let nodes: Vec<Arc<Node>> = lister.list(None);
        let mut taken: Vec<Network> = self.services.clone();
        let all = nodes.iter().flat_map(|n| pod_cidrs(n));
        taken.extend(all.filter_map(|c| Network::parse(&c)));
        let Some(parts) = self.allocate(&taken) else {
            self.tell(&node, "CIDRNotAvailable");
            return Err(Error::Other(format!(
                "failed to allocate cidr from cluster cidr for node {}: CIDR allocation failed; there are no remaining CIDRs left to allocate in the accepted range",
                node.name()
            )));
        };
        let patch = json!({
            "metadata": {"uid": node.uid()},
            "spec": {"podCIDR": parts[0], "podCIDRs": parts}});
        let api = self.client.all::<Node>();
        match api
            .patch(&key.name, &act::patch_params(), &Patch::Strategic(&patch))
            .await
        {
            Ok(written) => lister.cache().wait_for(revision(&written)).await,
            Err(e) if client::is_not_found(&e) => {}
            Err(e) => {
                self.tell(&node, "CIDRAssignmentFailed");
                return Err(e).during("assign a pod network");
            }
        }
        Ok(Next::Done)
    }
}

fn revision(node: &Node) -> u64 {
    let text = node.metadata.resource_version.as_deref();
    text.and_then(|v| v.parse().ok()).unwrap_or(0)
}

impl Ipam {
    fn allocate(&self, taken: &[Network]) -> Option<Vec<String>> {
        let mut cursors = self.cursors.lock();
        cursors.resize(self.ranges.len(), 0);
        let mut parts = Vec::new();
        for (range, cursor) in self.ranges.iter().zip(cursors.iter_mut()) {
            let (part, next) = range.next(*cursor, taken)?;
            *cursor = next;
            parts.push(part.to_string());
        }
        Some(parts)
    }

    fn tell(&self, node: &Node, reason: &str) {
        let message = format!("Node {} status is now: {reason}", node.name());
        self.recorder
            .event(reference(node), EventType::Normal, reason, &message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(cluster: &str, mask: u8) -> Range {
        let cluster = Network::parse(cluster).unwrap();
        let mask = if cluster.v4 { mask + 96 } else { mask };
        Range { cluster, mask }
    }

    fn take(r: &Range, cursor: u128, taken: &[&str]) -> Option<String> {
        let taken: Vec<Network> = taken.iter().map(|t| Network::parse(t).unwrap()).collect();
        r.next(cursor, &taken).map(|(n, _)| n.to_string())
    }

    #[test]
    fn parts_are_given_in_order_around_what_is_taken() {
        let r = range("10.244.0.0/16", 24);
        assert_eq!(take(&r, 0, &[]).as_deref(), Some("10.244.0.0/24"));
        assert_eq!(
            take(&r, 0, &["10.244.0.0/24"]).as_deref(),
            Some("10.244.1.0/24")
        );
        assert_eq!(
            take(&r, 0, &["10.244.0.0/17"]).as_deref(),
            Some("10.244.128.0/24")
        );
        assert_eq!(
            take(&r, 255, &["10.244.255.0/24"]).as_deref(),
            Some("10.244.0.0/24")
        );
        assert_eq!(
            take(&range("10.244.0.0/24", 24), 0, &["10.244.0.0/24"]),
            None
        );
        assert_eq!(
            take(&range("fd00::/56", 64), 1, &[]).as_deref(),
            Some("fd00:0:0:1::/64")
        );
    }
}
