//! What the node learns from Node objects: its own pod ranges, and the way to those of other nodes.
//! Upstream: kube-router's routes, flannel's host-gw and vxlan backends.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use api::core::v1::Node;
use client::{Client, Lister};
use linux::netlink::address::PrefixRoute;
use linux::netlink::link::Vxlan;
use linux::netlink::route::Route;
use linux::netlink::{Socket, Subsystem};
use tokio::sync::watch;

use crate::bridge::BridgeNetwork;
use crate::bridge::plan::mac;
use crate::cidr::Cidr;
use crate::error::Error;

/// Name of the overlay's link.
pub const OVERLAY_LINK: &str = "kube-vxlan";
/// Marks our routes, so that a restart finds stale ones.
const ROUTE_PROTOCOL: u8 = 107;
/// Flannel's numbers, which firewalls of clusters know.
const OVERLAY_VNI: u32 = 1;
const OVERLAY_PORT: u16 = 8472;
/// Bytes that VXLAN over IPv4 adds to a packet.
const OVERLAY_BYTES: u32 = 50;
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// What the routes need to know.
#[derive(Clone, Debug)]
pub struct Config {
    pub node_name: String,
    /// Reach IPv4 nodes of other networks through VXLAN; otherwise they are reported as unreachable.
    pub overlay: bool,
}

/// How packets reach another node's pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// The node is a neighbour.
    Direct { gateway: IpAddr },
    /// Through the overlay, to the node's address.
    Overlay { remote: Ipv4Addr },
}

/// Ways to pod ranges, and those that there is none to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub ways: BTreeMap<Cidr, Way>,
    /// Names of nodes that cannot be reached.
    pub unreachable: Vec<String>,
}

/// Follows Node objects until `shutdown` becomes true: gives `network` the own pod ranges and keeps
/// the routes to other nodes. Routes stay afterwards.
pub async fn run(
    client: Client,
    config: Config,
    network: BridgeNetwork,
    mut shutdown: watch::Receiver<bool>,
) -> Result<(), Error> {
    let nodes: Lister<Node> = client.lister()?;
    let mut subscription = nodes.subscribe();
    let mut done: Option<(Vec<Cidr>, Vec<Seen>)> = None;
    loop {
        let all = nodes.list(None);
        let seen: Vec<Seen> = all.iter().map(see).collect();
        let own = all
            .iter()
            .find(|n| n.metadata.name.as_deref() == Some(&config.node_name));
        let own_cidrs = own.map(|n| pod_cidrs(n)).unwrap_or_default();
        let now = (own_cidrs, seen);
        let mut retry = false;
        // Nodes change with every heartbeat: only what routes depend on counts.
        if done.as_ref() != Some(&now) {
            if !now.0.is_empty() && done.as_ref().is_none_or(|d| d.0 != now.0) {
                network.set_pod_cidrs(now.0.clone());
            }
            let (job, overlay) = (now.1.clone(), config.overlay);
            let name = config.node_name.clone();
            let synced = tokio::task::spawn_blocking(move || sync(&job, &name, overlay));
            match synced.await.map_err(|e| Error::Worker(e.to_string()))? {
                Ok(()) => done = Some(now),
                Err(error) => {
                    tracing::error!(%error, "routes to nodes not synced");
                    retry = true;
                }
            }
        }
        tokio::select! {
            _ = shutdown.wait_for(|s| *s) => return Ok(()),
            change = subscription.changes.recv() => if change.is_none() {
                subscription = nodes.subscribe();
            },
            () = tokio::time::sleep(RETRY_AFTER), if retry => {}
        }
        while subscription.changes.try_recv().is_ok() {}
    }
}

/// What routes need of a Node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub name: String,
    pub addresses: Vec<IpAddr>,
    pub pod_cidrs: Vec<Cidr>,
}

fn see(node: &Arc<Node>) -> Seen {
    let status = node.status.as_ref();
    let addresses = status.iter().flat_map(|s| s.addresses.iter().flatten());
    let internal = addresses.filter(|a| a.type_ == "InternalIP");
    Seen {
        name: node.metadata.name.clone().unwrap_or_default(),
        addresses: internal.filter_map(|a| a.address.parse().ok()).collect(),
        pod_cidrs: pod_cidrs(node),
    }
}

/// `spec.podCIDRs`, or the older `spec.podCIDR`.
pub fn pod_cidrs(node: &Node) -> Vec<Cidr> {
    let Some(spec) = &node.spec else {
        return Vec::new();
    };
    let all: Vec<Cidr> = spec
        .pod_cidrs
        .iter()
        .flatten()
        .filter_map(|c| c.parse().ok())
        .collect();
    if !all.is_empty() {
        return all;
    }
    let one = spec.pod_cidr.as_ref().and_then(|c| c.parse().ok());
    one.into_iter().collect()
}

/// The way to each other node's pods. `neighbours` are the networks that this node has an address in.
pub fn plan(nodes: &[Seen], own: &str, neighbours: &[Cidr], overlay: bool) -> Plan {
    let mut plan = Plan::default();
    for node in nodes.iter().filter(|n| n.name != own) {
        for cidr in &node.pod_cidrs {
            let mut of_family = node
                .addresses
                .iter()
                .filter(|a| a.is_ipv6() == cidr.is_ipv6());
            let near = of_family
                .clone()
                .find(|a| neighbours.iter().any(|n| n.contains(**a)));
            let way = match (near, of_family.next()) {
                (Some(gateway), _) => Some(Way::Direct { gateway: *gateway }),
                (None, Some(IpAddr::V4(remote))) if overlay => {
                    Some(Way::Overlay { remote: *remote })
                }
                _ => None,
            };
            match way {
                Some(way) => {
                    plan.ways.insert(*cidr, way);
                }
                None => plan.unreachable.push(node.name.clone()),
            }
        }
    }
    plan.unreachable.dedup();
    plan
}

/// Brings the kernel's routes in step. Blocking.
pub fn sync(nodes: &[Seen], own: &str, overlay: bool) -> Result<(), Error> {
    let mut socket = Socket::open(Subsystem::Route)?;
    let ours = nodes.iter().find(|n| n.name == own);
    let own_cidrs = ours.map_or(&[][..], |n| &n.pod_cidrs);
    let addresses = socket.addresses()?;
    let neighbours: Vec<Cidr> = addresses
        .iter()
        .filter(|a| a.prefix < if a.ip.is_ipv6() { 128 } else { 32 })
        .filter_map(|a| Cidr::new(a.ip, a.prefix))
        .filter(|c| !c.first().is_loopback() && !own_cidrs.contains(c))
        .collect();
    let plan = plan(nodes, own, &neighbours, overlay);
    if !plan.unreachable.is_empty() {
        tracing::warn!(nodes = ?plan.unreachable, "pods of nodes cannot be reached without an overlay");
    }
    let mut routes = Vec::new();
    let remotes = plan.ways.values().any(|w| matches!(w, Way::Overlay { .. }));
    let link = match ours.and_then(own_v4) {
        Some(local) if remotes => ensure_overlay(&mut socket, local, own_cidrs)?,
        _ => 0,
    };
    for (cidr, way) in &plan.ways {
        let route = match way {
            Way::Direct { gateway } => Route::via(cidr.first(), cidr.prefix(), *gateway, 0),
            Way::Overlay { remote } => {
                let hardware = mac(IpAddr::V4(*remote));
                socket.set_neighbour(link, cidr.first(), hardware)?;
                match socket.add_forwarding(link, hardware, IpAddr::V4(*remote)) {
                    Err(e) if !e.is_present() => return Err(e.into()),
                    _ => {}
                }
                Route {
                    onlink: true,
                    ..Route::via(cidr.first(), cidr.prefix(), cidr.first(), link)
                }
            }
        };
        routes.push(Route {
            protocol: ROUTE_PROTOCOL,
            ..route
        });
    }
    let same = |a: &Route, b: &Route| {
        (a.destination, a.prefix, a.gateway) == (b.destination, b.prefix, b.gateway)
    };
    let present = socket.routes()?;
    let mine = present.iter().filter(|r| r.protocol == ROUTE_PROTOCOL);
    for stale in mine.clone().filter(|r| !routes.iter().any(|w| same(w, r))) {
        match socket.delete_route(stale) {
            Err(e) if !e.is_absent() => return Err(e.into()),
            _ => {}
        }
    }
    for route in &routes {
        if !mine.clone().any(|r| same(r, route)) {
            socket.add_route(route)?;
        }
    }
    Ok(())
}

fn own_v4(node: &Seen) -> Option<Ipv4Addr> {
    node.addresses.iter().find_map(|a| match a {
        IpAddr::V4(a) => Some(*a),
        IpAddr::V6(_) => None,
    })
}

/// Makes the overlay's link; gives its index. Its hardware address follows from the node's address,
/// so that other nodes know it without asking.
fn ensure_overlay(socket: &mut Socket, local: Ipv4Addr, own_cidrs: &[Cidr]) -> Result<u32, Error> {
    let known = socket.link(OVERLAY_LINK)?;
    let link = match known {
        Some(link) => link,
        None => {
            let mtu = crate::bridge::act::default_mtu()?.saturating_sub(OVERLAY_BYTES);
            let vxlan = Vxlan {
                vni: OVERLAY_VNI,
                port: OVERLAY_PORT,
                local,
            };
            socket.create_vxlan(OVERLAY_LINK, mtu, &vxlan)?;
            let made = socket.link(OVERLAY_LINK)?;
            made.ok_or_else(|| Error::LinkMissing(OVERLAY_LINK.into()))?
        }
    };
    let wanted = mac(IpAddr::V4(local));
    if link.mac != wanted {
        socket.set_mac(link.index, wanted)?;
    }
    // The range's own first address, which no pod has, is the node's on the overlay.
    for cidr in own_cidrs.iter().filter(|c| !c.is_ipv6()) {
        match socket.add_address(link.index, cidr.first(), 32, PrefixRoute::Add) {
            Err(e) if !e.is_present() => return Err(e.into()),
            _ => {}
        }
    }
    if !link.up {
        socket.set_up(link.index, true)?;
    }
    Ok(link.index)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, ip: &str, cidr: &str) -> Seen {
        Seen {
            name: name.into(),
            addresses: vec![ip.parse().unwrap()],
            pod_cidrs: vec![cidr.parse().unwrap()],
        }
    }

    #[test]
    fn neighbours_are_reached_directly_and_others_through_the_overlay() {
        let nodes = [
            node("n1", "192.168.0.1", "10.244.0.0/24"),
            node("n2", "192.168.0.2", "10.244.1.0/24"),
            node("n3", "172.16.0.3", "10.244.2.0/24"),
        ];
        let near = ["192.168.0.0/24".parse().unwrap()];
        let with = plan(&nodes, "n1", &near, true);
        let ways: Vec<_> = with.ways.values().copied().collect();
        let gateway = "192.168.0.2".parse().unwrap();
        let remote = "172.16.0.3".parse().unwrap();
        assert_eq!(ways, [Way::Direct { gateway }, Way::Overlay { remote }]);
        let without = plan(&nodes, "n1", &near, false);
        assert_eq!(without.ways.len(), 1);
        assert_eq!(without.unreachable, ["n3"]);
    }
}
