//! What attaching and detaching a pod does, as a list that can be printed and tested.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::cidr::Cidr;

/// One step. Links are named: the host's in the daemon's namespace, `POD_LINK` in the pod's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetOp {
    /// Makes the pair, with the pod's end directly in the pod's namespace.
    CreateVeth {
        host: String,
        mac: [u8; 6],
        mtu: u32,
    },
    /// Makes the host's end a port of the bridge, with hairpin, and switches it up.
    JoinBridge {
        host: String,
        bridge: String,
    },
    /// Switches `lo` of the pod up.
    PodLoopbackUp,
    /// Puts an address on the pod's link, without a route to its prefix.
    PodAddress {
        ip: IpAddr,
        prefix: u8,
    },
    PodLinkUp,
    /// Routes to the gateway, and everything else through it.
    PodRoutes {
        gateway: IpAddr,
    },
    /// Limits what the pod receives, in bits a second.
    LimitIngress {
        host: String,
        bits: u64,
    },
    /// Limits what the pod sends, in bits a second.
    LimitEgress {
        bits: u64,
    },
    /// Removes the host's end and with it the pod's; absent is fine.
    DeleteVeth {
        host: String,
    },
}

/// Name of a pod's interface.
pub const POD_LINK: &str = "eth0";
/// What every host end's name begins with.
pub const VETH_PREFIX: &str = "veth";

/// The steps that attach a pod. All of a pod's traffic goes through the gateway, also to pods of the
/// same node: so every packet is routed and every Service connection is translated back on its way,
/// with or without br_netfilter.
// Upstream: the CNI bridge plugin gives pods a route to the whole prefix, and then needs br_netfilter.
pub fn plan_attach(host: &str, bridge: &str, mtu: u32, ips: &[(IpAddr, Cidr)]) -> Vec<NetOp> {
    let mut ops = vec![
        NetOp::CreateVeth {
            host: host.into(),
            mac: mac(ips
                .first()
                .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |i| i.0)),
            mtu,
        },
        NetOp::JoinBridge {
            host: host.into(),
            bridge: bridge.into(),
        },
        NetOp::PodLoopbackUp,
    ];
    for (ip, cidr) in ips {
        ops.push(NetOp::PodAddress {
            ip: *ip,
            prefix: cidr.prefix(),
        });
    }
    ops.push(NetOp::PodLinkUp);
    for (_, cidr) in ips {
        if let Some(gateway) = gateway(*cidr) {
            ops.push(NetOp::PodRoutes { gateway });
        }
    }
    ops
}

/// The steps that limit a pod's traffic (the CNI bandwidth plugin).
pub fn plan_limits(host: &str, ingress: Option<u64>, egress: Option<u64>) -> Vec<NetOp> {
    let into = ingress.map(|bits| NetOp::LimitIngress {
        host: host.into(),
        bits,
    });
    let out = egress.map(|bits| NetOp::LimitEgress { bits });
    into.into_iter().chain(out).collect()
}

/// The steps that detach a pod in any state.
pub fn plan_detach(host: &str) -> Vec<NetOp> {
    vec![NetOp::DeleteVeth { host: host.into() }]
}

/// The node's own address in a pod range: the first after the network's.
pub fn gateway(cidr: Cidr) -> Option<IpAddr> {
    cidr.nth(1)
}

/// The hardware address of a pod's interface, made from its address: 0a:58 and the octets.
/// A reused address thus never meets a stale neighbour entry.
pub fn mac(ip: IpAddr) -> [u8; 6] {
    let [a, b, c, d] = match ip {
        IpAddr::V4(v4) => v4.octets(),
        IpAddr::V6(v6) => low_octets(v6),
    };
    [0x0a, 0x58, a, b, c, d]
}

fn low_octets(ip: Ipv6Addr) -> [u8; 4] {
    let o = ip.octets();
    [o[12], o[13], o[14], o[15]]
}

/// The host's interface of a sandbox: a fixed function of its id, so that it is found after a crash.
pub fn veth_name(sandbox_id: &str) -> String {
    // FNV-1a, 64 bits: stable across versions, and 44 bits of it fit into an interface name.
    let hash = sandbox_id.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| {
        (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{VETH_PREFIX}{:011x}", hash >> 20)
}

/// Text of a hardware address.
pub fn mac_text(mac: [u8; 6]) -> String {
    let parts: Vec<_> = mac.iter().map(|b| format!("{b:02x}")).collect();
    parts.join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pod_gets_address_and_routes_through_the_gateway_only() {
        let cidr: Cidr = "10.244.3.0/24".parse().unwrap();
        let ip: IpAddr = "10.244.3.9".parse().unwrap();
        let ops = plan_attach("veth1", "kube-bridge", 1500, &[(ip, cidr)]);
        let expected = vec![
            NetOp::CreateVeth {
                host: "veth1".into(),
                mac: [0x0a, 0x58, 10, 244, 3, 9],
                mtu: 1500,
            },
            NetOp::JoinBridge {
                host: "veth1".into(),
                bridge: "kube-bridge".into(),
            },
            NetOp::PodLoopbackUp,
            NetOp::PodAddress { ip, prefix: 24 },
            NetOp::PodLinkUp,
            NetOp::PodRoutes {
                gateway: "10.244.3.1".parse().unwrap(),
            },
        ];
        assert_eq!(ops, expected);
    }

    #[test]
    fn veth_names_fit_and_differ() {
        let (a, b) = (veth_name("sandbox-a"), veth_name("sandbox-b"));
        assert_ne!(a, b);
        assert_eq!(a.len(), 15);
        assert_eq!(a, veth_name("sandbox-a"));
    }
}
