//! UDP flows that lead to endpoints which are gone. Upstream: pkg/proxy/conntrack/cleanup.go.

use std::collections::BTreeSet;
use std::net::IpAddr;

use linux::netlink::conntrack::Flow;
use linux::netlink::{Socket, Subsystem};

use super::plan::UdpTargets;
use crate::error::Error;
use crate::limits;
use crate::rules::Ip;

const UDP: u8 = 17;

/// The flows to forget: those to a Service that has endpoints, whose answers come from none of them.
pub(crate) fn plan_stale<'a>(
    flows: &'a [Flow],
    targets: &UdpTargets,
    own: &BTreeSet<IpAddr>,
) -> Vec<&'a Flow> {
    let stale = |flow: &&Flow| {
        let to = &flow.original;
        if to.protocol != UDP {
            return false;
        }
        let at = (to.destination, to.destination_port);
        let endpoints = targets.by_address.get(&at).or_else(|| {
            own.contains(&to.destination)
                .then(|| targets.by_node_port.get(&to.destination_port))?
        });
        let from = (flow.reply.source, flow.reply.source_port);
        endpoints.is_some_and(|e| !e.contains(&from))
    };
    flows
        .iter()
        .filter(stale)
        .take(limits::FLOWS_DELETED_MAX)
        .collect()
}

/// Forgets them in the kernel; gives how many.
pub(crate) fn forget_stale(ip: Ip, targets: &UdpTargets) -> Result<usize, Error> {
    let addresses = Socket::open(Subsystem::Route)?.addresses()?;
    let own: BTreeSet<_> = addresses.into_iter().map(|a| a.ip).collect();
    let mut socket = Socket::open(Subsystem::Netfilter)?;
    let flows = socket.flows(ip.is_v6())?;
    let stale = plan_stale(&flows, targets, &own);
    for flow in &stale {
        match socket.delete_flow(&flow.original) {
            // It ended by itself meanwhile.
            Err(e) if !e.is_absent() => return Err(e.into()),
            _ => {}
        }
    }
    Ok(stale.len())
}
