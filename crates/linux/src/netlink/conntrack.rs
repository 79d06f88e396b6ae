//! Connection tracking entries: list and delete. Kernel include/uapi/linux/netfilter/nfnetlink_conntrack.h.

use std::net::IpAddr;

use super::link::{family, ip_of, octets};
use super::message::{Attributes, Message};
use super::{Error, Socket};

const NFNL_SUBSYS_CTNETLINK: u16 = 1;
const IPCTNL_MSG_CT_GET: u16 = 1;
const IPCTNL_MSG_CT_DELETE: u16 = 2;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;
const NFGENMSG_BYTES: usize = 4;

/// One direction of a flow.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tuple {
    pub source: IpAddr,
    pub source_port: u16,
    pub destination: IpAddr,
    pub destination_port: u16,
    /// IP protocol number.
    pub protocol: u8,
}

/// A tracked flow.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    pub original: Tuple,
    pub reply: Tuple,
}

// === Socket: flows (needs Subsystem::Netfilter) ===

impl Socket {
    /// All flows of a family that have ports.
    pub fn flows(&mut self, ipv6: bool) -> Result<Vec<Flow>, Error> {
        let family = if ipv6 { libc::AF_INET6 } else { libc::AF_INET };
        let kind = (NFNL_SUBSYS_CTNETLINK << 8) | IPCTNL_MSG_CT_GET;
        let m = Message::new(kind, 0, &[family as u8, 0, 0, 0]);
        let all = self.dump("list conntrack flows", &m)?;
        Ok(all.iter().filter_map(|o| parse(o)).collect())
    }

    /// Forgets a flow by its original direction.
    pub fn delete_flow(&mut self, original: &Tuple) -> Result<(), Error> {
        let kind = (NFNL_SUBSYS_CTNETLINK << 8) | IPCTNL_MSG_CT_DELETE;
        let mut m = Message::new(kind, 0, &[family(original.source), 0, 0, 0]);
        let (src, dst) = match original.source {
            IpAddr::V4(_) => (CTA_IP_V4_SRC, CTA_IP_V4_DST),
            IpAddr::V6(_) => (CTA_IP_V6_SRC, CTA_IP_V6_DST),
        };
        m.nest(CTA_TUPLE_ORIG, |m| {
            m.nest(CTA_TUPLE_IP, |m| {
                m.attr(src, &octets(original.source));
                m.attr(dst, &octets(original.destination));
            });
            m.nest(CTA_TUPLE_PROTO, |m| {
                m.attr_u8(CTA_PROTO_NUM, original.protocol);
                m.attr_u16_be(CTA_PROTO_SRC_PORT, original.source_port);
                m.attr_u16_be(CTA_PROTO_DST_PORT, original.destination_port);
            });
        });
        self.request(|| format!("delete conntrack flow {original:?}"), m)
    }
}

fn parse(object: &[u8]) -> Option<Flow> {
    let attributes = Attributes::new(object.get(NFGENMSG_BYTES..)?);
    Some(Flow {
        original: tuple(attributes.nested(CTA_TUPLE_ORIG))?,
        reply: tuple(attributes.nested(CTA_TUPLE_REPLY))?,
    })
}

fn tuple(attributes: Attributes<'_>) -> Option<Tuple> {
    let ip = attributes.nested(CTA_TUPLE_IP);
    let proto = attributes.nested(CTA_TUPLE_PROTO);
    let address = |v4, v6| ip.find(v4).or_else(|| ip.find(v6)).and_then(ip_of);
    let port = |kind| {
        let b = proto.find(kind)?.get(..2)?;
        Some(u16::from_be_bytes([b[0], b[1]]))
    };
    Some(Tuple {
        source: address(CTA_IP_V4_SRC, CTA_IP_V6_SRC)?,
        destination: address(CTA_IP_V4_DST, CTA_IP_V6_DST)?,
        source_port: port(CTA_PROTO_SRC_PORT)?,
        destination_port: port(CTA_PROTO_DST_PORT)?,
        protocol: *proto.find(CTA_PROTO_NUM)?.first()?,
    })
}
