//! Steps and the node's own set-up, done on the kernel. Blocking; called on threads that may block.

use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use linux::netlink::address::PrefixRoute;
use linux::netlink::link::Peer;
use linux::netlink::route::Route;
use linux::netlink::{Socket, Subsystem, namespace};

use super::plan::{NetOp, POD_LINK, gateway};
use crate::cidr::Cidr;
use crate::error::Error;

const DEFAULT_MTU: u32 = 1500;
const BURST_BYTES_MIN: u32 = 64 << 10;

/// Performs steps in order; the first failure ends them.
pub fn perform(ops: &[NetOp], netns_path: Option<&Path>) -> Result<(), Error> {
    let mut here = Socket::open(Subsystem::Route)?;
    let mut pod: Option<(OwnedFd, Socket)> = None;
    if let Some(path) = netns_path {
        let netns = namespace::open(path)?;
        let socket = namespace::socket_in(netns.as_fd(), Subsystem::Route)?;
        pod = Some((netns, socket));
    }
    for op in ops {
        match (op, &mut pod) {
            (NetOp::JoinBridge { host, bridge }, _) => join(&mut here, host, bridge)?,
            (NetOp::DeleteVeth { host }, _) => delete(&mut here, host)?,
            (NetOp::LimitIngress { host, bits }, _) => limit(&mut here, host, *bits)?,
            (op, Some((netns, there))) => in_pod(op, &mut here, netns, there)?,
            (_, None) => return Err(Error::LinkMissing(POD_LINK.into())),
        }
    }
    Ok(())
}

fn in_pod(op: &NetOp, here: &mut Socket, netns: &OwnedFd, there: &mut Socket) -> Result<(), Error> {
    match op {
        NetOp::CreateVeth { host, mac, mtu } => {
            let peer = Peer {
                name: POD_LINK,
                netns: netns.as_fd(),
                mac: Some(*mac),
            };
            here.create_veth(host, *mtu, peer)?;
        }
        NetOp::PodLoopbackUp => {
            let lo = index(there, "lo")?;
            there.set_up(lo, true)?;
        }
        NetOp::PodAddress { ip, prefix } => {
            let link = index(there, POD_LINK)?;
            there.add_address(link, *ip, *prefix, PrefixRoute::Skip)?;
        }
        NetOp::PodLinkUp => {
            let link = index(there, POD_LINK)?;
            there.set_up(link, true)?;
        }
        NetOp::PodRoutes { gateway } => {
            let link = index(there, POD_LINK)?;
            let (bits, any) = match gateway {
                IpAddr::V4(_) => (32, IpAddr::from([0u8; 4])),
                IpAddr::V6(_) => (128, IpAddr::from([0u8; 16])),
            };
            there.add_route(&Route::direct(*gateway, bits, link))?;
            there.add_route(&Route::via(any, 0, *gateway, link))?;
        }
        NetOp::LimitEgress { bits } => limit(there, POD_LINK, *bits)?,
        NetOp::JoinBridge { .. } | NetOp::DeleteVeth { .. } | NetOp::LimitIngress { .. } => {}
    }
    Ok(())
}

fn join(here: &mut Socket, host: &str, bridge: &str) -> Result<(), Error> {
    let master = index(here, bridge)?;
    let port = index(here, host)?;
    here.set_no_link_local(port)?;
    here.set_master(port, master)?;
    here.set_hairpin(port, true)?;
    here.set_up(port, true)?;
    Ok(())
}

fn limit(socket: &mut Socket, name: &str, bits: u64) -> Result<(), Error> {
    let link = index(socket, name)?;
    // A rate of nothing would be refused by the kernel; upstream's least is 1 kbit/s.
    let rate = (bits / 8).max(125);
    // 20 ms of the rate, and at least one packet of the largest that segmentation offload makes.
    let burst = u32::try_from(rate / 50)
        .unwrap_or(u32::MAX / 4)
        .clamp(BURST_BYTES_MIN, u32::MAX / 4);
    let wait = u32::try_from(rate / 40)
        .unwrap_or(u32::MAX / 4)
        .min(u32::MAX / 4);
    socket.set_rate_limit(link, rate, burst, burst + wait)?;
    Ok(())
}

fn delete(here: &mut Socket, host: &str) -> Result<(), Error> {
    let Some(index) = here.link_index(host)? else {
        return Ok(());
    };
    match here.delete_link(index) {
        Err(e) if !e.is_absent() => Err(e.into()),
        _ => Ok(()),
    }
}

fn index(socket: &mut Socket, name: &str) -> Result<u32, Error> {
    let index = socket.link_index(name)?;
    index.ok_or_else(|| Error::LinkMissing(name.into()))
}

/// Makes the bridge with the gateways of the pod ranges, or brings an existing one to that state.
pub fn ensure_bridge(name: &str, mtu: u32, pods: &[Cidr]) -> Result<(), Error> {
    let mut socket = Socket::open(Subsystem::Route)?;
    let gateways: Vec<_> = pods
        .iter()
        .filter_map(|c| gateway(*c).map(|ip| (ip, c.prefix())))
        .collect();
    // A bridge without an address of its own changes it with its ports, and pods would lose it.
    let mac = gateways.first().map(|(ip, _)| super::plan::mac(*ip));
    match socket.create_bridge(name, mac) {
        Err(e) if !e.is_present() => return Err(e.into()),
        _ => {}
    }
    let link = socket.link(name)?;
    let link = link.ok_or_else(|| Error::LinkMissing(name.into()))?;
    if link.kind != "bridge" {
        return Err(Error::LinkKind {
            name: name.into(),
            found: link.kind,
            wanted: "bridge",
        });
    }
    if link.mtu != mtu {
        socket.set_mtu(link.index, mtu)?;
    }
    if let Some(mac) = mac
        && link.mac != mac
    {
        socket.set_mac(link.index, mac)?;
    }
    let present = socket.addresses()?;
    let mine = present.iter().filter(|a| a.index == link.index);
    for old in mine.filter(|a| a.scope == 0 && !gateways.contains(&(a.ip, a.prefix))) {
        socket.delete_address(link.index, old.ip, old.prefix)?;
    }
    for (ip, prefix) in &gateways {
        match socket.add_address(link.index, *ip, *prefix, PrefixRoute::Add) {
            Err(e) if !e.is_present() => return Err(e.into()),
            _ => {}
        }
    }
    if !link.up {
        socket.set_up(link.index, true)?;
    }
    Ok(())
}

/// Kernel switches that routing between pods needs.
pub fn set_sysctls(bridge: &str, ipv6: bool) -> Result<(), Error> {
    let mut wanted = vec![
        ("net/ipv4/ip_forward".to_owned(), "1"),
        // Packets between pods of this node leave by the link they came in by: no advice against it.
        ("net/ipv4/conf/all/send_redirects".to_owned(), "0"),
        (format!("net/ipv4/conf/{bridge}/send_redirects"), "0"),
        // Host ports on 127.0.0.1 are sent to pods; the table's guard keeps pods off the loopback.
        (format!("net/ipv4/conf/{bridge}/route_localnet"), "1"),
    ];
    if ipv6 {
        wanted.push(("net/ipv6/conf/all/forwarding".to_owned(), "1"));
    }
    for (key, value) in wanted {
        let path = Path::new("/proc/sys").join(&key);
        // Written only where different, so that a read-only /proc/sys with the right values will do.
        if std::fs::read_to_string(&path).is_ok_and(|now| now.trim() == value) {
            continue;
        }
        std::fs::write(&path, value).map_err(|source| Error::Write { path, source })?;
    }
    Ok(())
}

/// The largest packet of the link that the default route goes through.
pub fn default_mtu() -> Result<u32, Error> {
    let mut socket = Socket::open(Subsystem::Route)?;
    let routes = socket.routes()?;
    let Some(default) = routes.iter().find(|r| r.prefix == 0 && r.link != 0) else {
        return Ok(DEFAULT_MTU);
    };
    let links = socket.links()?;
    let link = links.iter().find(|l| l.index == default.link);
    Ok(link.map_or(DEFAULT_MTU, |l| l.mtu))
}

/// Names of the bridge's ports.
pub fn ports(bridge: &str) -> Result<Vec<String>, Error> {
    let mut socket = Socket::open(Subsystem::Route)?;
    let Some(master) = socket.link_index(bridge)? else {
        return Ok(Vec::new());
    };
    let links = socket.links()?.into_iter();
    Ok(links
        .filter(|l| l.master == master)
        .map(|l| l.name)
        .collect())
}

/// Removes the bridge; absent is fine.
pub fn remove_bridge(name: &str) -> Result<(), Error> {
    delete(&mut Socket::open(Subsystem::Route)?, name)
}

/// Forgets UDP flows to these ports, which would keep going where the port led before.
pub fn forget_udp_flows(ports: &[u16]) -> Result<(), Error> {
    const UDP: u8 = 17;
    let mut socket = Socket::open(Subsystem::Netfilter)?;
    for flow in socket.flows(false)? {
        let original = &flow.original;
        if original.protocol == UDP && ports.contains(&original.destination_port) {
            match socket.delete_flow(original) {
                Err(e) if !e.is_absent() => return Err(e.into()),
                _ => {}
            }
        }
    }
    Ok(())
}
