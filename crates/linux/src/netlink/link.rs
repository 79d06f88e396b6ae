//! Network interfaces. rtnetlink(7), kernel include/uapi/linux/if_link.h.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::io::Errno;

use super::message::{Attributes, Message, text, u32_of};
use super::{Error, NLM_F_CREATE, NLM_F_EXCL, Socket};

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_SETLINK: u16 = 19;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_INFO_SLAVE_DATA: u16 = 5;
const IFLA_BRPORT_MODE: u16 = 4;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const VETH_INFO_PEER: u16 = 1;
const IFLA_VXLAN_ID: u16 = 1;
const IFLA_VXLAN_LOCAL: u16 = 4;
const IFLA_VXLAN_LEARNING: u16 = 7;
const IFLA_VXLAN_PORT: u16 = 15;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const IN6_ADDR_GEN_MODE_NONE: u8 = 1;

const IFF_UP: u32 = 1;
const IFINFOMSG_BYTES: usize = 16;

/// Longest interface name in bytes (IFNAMSIZ without its zero).
pub const NAME_BYTES_MAX: usize = 15;

/// An interface as the kernel lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub name: String,
    /// Driver kind such as `bridge`, `veth`; empty for physical ones and `lo`.
    pub kind: String,
    pub up: bool,
    pub mtu: u32,
    pub mac: [u8; 6],
    /// Index of the bridge it is a port of, 0 for none.
    pub master: u32,
}

/// The pod side of a veth pair.
#[derive(Clone, Copy, Debug)]
pub struct Peer<'a> {
    pub name: &'a str,
    /// Where it is made.
    pub netns: BorrowedFd<'a>,
    pub mac: Option<[u8; 6]>,
}

/// A VXLAN interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vxlan {
    pub vni: u32,
    pub port: u16,
    pub local: Ipv4Addr,
}

// === Socket: links ===

impl Socket {
    /// Makes a bridge. Fails with `is_present` where the name is taken.
    pub fn create_bridge(&mut self, name: &str, mac: Option<[u8; 6]>) -> Result<(), Error> {
        let mut m = new_link(name, || format!("create bridge {name}"))?;
        if let Some(mac) = mac {
            m.attr(IFLA_ADDRESS, &mac);
        }
        m.nest(IFLA_LINKINFO, |m| m.attr_str(IFLA_INFO_KIND, "bridge"));
        self.request(|| format!("create bridge {name}"), m)
    }

    /// Makes a veth pair, one end here and the other directly inside `peer.netns`.
    pub fn create_veth(&mut self, name: &str, mtu: u32, peer: Peer<'_>) -> Result<(), Error> {
        let operation = || format!("create veth {name} with peer {}", peer.name);
        let mut m = new_link(name, operation)?;
        check_name(peer.name, operation)?;
        m.attr_u32(IFLA_MTU, mtu);
        m.nest(IFLA_LINKINFO, |m| {
            m.attr_str(IFLA_INFO_KIND, "veth");
            m.nest(IFLA_INFO_DATA, |m| {
                m.nest(VETH_INFO_PEER, |m| {
                    m.raw(&[0; IFINFOMSG_BYTES]);
                    m.attr_str(IFLA_IFNAME, peer.name);
                    m.attr_u32(IFLA_MTU, mtu);
                    m.attr_u32(IFLA_NET_NS_FD, peer.netns.as_fd().as_raw_fd() as u32);
                    if let Some(mac) = peer.mac {
                        m.attr(IFLA_ADDRESS, &mac);
                    }
                });
            });
        });
        self.request(operation, m)
    }

    /// Makes a VXLAN interface that learns nothing by itself.
    pub fn create_vxlan(&mut self, name: &str, mtu: u32, vxlan: &Vxlan) -> Result<(), Error> {
        let operation = || format!("create vxlan {name}");
        let mut m = new_link(name, operation)?;
        m.attr_u32(IFLA_MTU, mtu);
        m.nest(IFLA_LINKINFO, |m| {
            m.attr_str(IFLA_INFO_KIND, "vxlan");
            m.nest(IFLA_INFO_DATA, |m| {
                m.attr_u32(IFLA_VXLAN_ID, vxlan.vni);
                m.attr(IFLA_VXLAN_LOCAL, &vxlan.local.octets());
                m.attr_u8(IFLA_VXLAN_LEARNING, 0);
                m.attr_u16_be(IFLA_VXLAN_PORT, vxlan.port);
            });
        });
        self.request(operation, m)
    }

    /// Switches an interface up or down.
    pub fn set_up(&mut self, index: u32, up: bool) -> Result<(), Error> {
        let flags = if up { IFF_UP } else { 0 };
        let m = Message::new(RTM_SETLINK, 0, &ifinfo(index, flags, IFF_UP));
        self.request(|| format!("set link {index} up={up}"), m)
    }

    /// Makes an interface a port of a bridge; `master` 0 takes it out.
    pub fn set_master(&mut self, index: u32, master: u32) -> Result<(), Error> {
        let mut m = Message::new(RTM_SETLINK, 0, &ifinfo(index, 0, 0));
        m.attr_u32(IFLA_MASTER, master);
        self.request(|| format!("set master of link {index} to {master}"), m)
    }

    /// Sets the largest packet, in bytes.
    pub fn set_mtu(&mut self, index: u32, mtu: u32) -> Result<(), Error> {
        let mut m = Message::new(RTM_SETLINK, 0, &ifinfo(index, 0, 0));
        m.attr_u32(IFLA_MTU, mtu);
        self.request(|| format!("set mtu of link {index} to {mtu}"), m)
    }

    /// Sets the hardware address.
    pub fn set_mac(&mut self, index: u32, mac: [u8; 6]) -> Result<(), Error> {
        let mut m = Message::new(RTM_SETLINK, 0, &ifinfo(index, 0, 0));
        m.attr(IFLA_ADDRESS, &mac);
        self.request(|| format!("set mac of link {index}"), m)
    }

    /// Lets a bridge send frames back out of the port they came in by (a pod that reaches itself).
    pub fn set_hairpin(&mut self, index: u32, on: bool) -> Result<(), Error> {
        let mut m = Message::new(RTM_NEWLINK, 0, &ifinfo(index, 0, 0));
        m.nest(IFLA_LINKINFO, |m| {
            m.attr_str(IFLA_INFO_SLAVE_KIND, "bridge");
            m.nest(IFLA_INFO_SLAVE_DATA, |m| {
                m.attr_u8(IFLA_BRPORT_MODE, u8::from(on));
            });
        });
        self.request(|| format!("set hairpin of link {index}"), m)
    }

    /// Switches off IPv6 link-local addresses on an interface that is still down.
    pub fn set_no_link_local(&mut self, index: u32) -> Result<(), Error> {
        let mut m = Message::new(RTM_SETLINK, 0, &ifinfo(index, 0, 0));
        m.nest(IFLA_AF_SPEC, |m| {
            m.nest(libc::AF_INET6 as u16, |m| {
                m.attr_u8(IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
            });
        });
        self.request(|| format!("set address generation of link {index}"), m)
    }

    /// Removes an interface (and the other end of a pair).
    pub fn delete_link(&mut self, index: u32) -> Result<(), Error> {
        let m = Message::new(RTM_DELLINK, 0, &ifinfo(index, 0, 0));
        self.request(|| format!("delete link {index}"), m)
    }

    /// All interfaces of this namespace.
    pub fn links(&mut self) -> Result<Vec<Link>, Error> {
        let m = Message::new(RTM_GETLINK, 0, &ifinfo(0, 0, 0));
        let all = self.dump("list links", &m)?;
        Ok(all.iter().filter_map(|o| parse_link(o)).collect())
    }

    /// The index of an interface, `None` where there is none of that name.
    pub fn link_index(&mut self, name: &str) -> Result<Option<u32>, Error> {
        match rustix::net::netdevice::name_to_index(self.fd(), name) {
            Ok(index) => Ok(Some(index)),
            Err(Errno::NODEV) => Ok(None),
            Err(e) => Err(Error::new(format!("look up link {name}"), e)),
        }
    }

    /// The interface of a name.
    pub fn link(&mut self, name: &str) -> Result<Option<Link>, Error> {
        Ok(self.links()?.into_iter().find(|l| l.name == name))
    }
}

fn new_link(name: &str, operation: impl Fn() -> String) -> Result<Message, Error> {
    check_name(name, operation)?;
    let flags = NLM_F_CREATE | NLM_F_EXCL;
    let mut m = Message::new(RTM_NEWLINK, flags, &ifinfo(0, 0, 0));
    m.attr_str(IFLA_IFNAME, name);
    Ok(m)
}

fn check_name(name: &str, operation: impl Fn() -> String) -> Result<(), Error> {
    let good = !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && name != "."
        && name != ".."
        && name
            .bytes()
            .all(|b| b.is_ascii_graphic() && b != b'/' && b != b':');
    if good {
        return Ok(());
    }
    Err(Error {
        operation: operation(),
        errno: Errno::INVAL,
        text: format!("{name:?} is not an interface name"),
    })
}

fn ifinfo(index: u32, flags: u32, change: u32) -> [u8; IFINFOMSG_BYTES] {
    let mut fixed = [0; IFINFOMSG_BYTES];
    fixed[4..8].copy_from_slice(&index.to_ne_bytes());
    fixed[8..12].copy_from_slice(&flags.to_ne_bytes());
    fixed[12..16].copy_from_slice(&change.to_ne_bytes());
    fixed
}

fn parse_link(object: &[u8]) -> Option<Link> {
    let fixed = object.get(..IFINFOMSG_BYTES)?;
    let attributes = Attributes::new(&object[IFINFOMSG_BYTES..]);
    let mut link = Link {
        index: u32_of(&fixed[4..8]),
        name: String::new(),
        kind: String::new(),
        up: u32_of(&fixed[8..12]) & IFF_UP != 0,
        mtu: 0,
        mac: [0; 6],
        master: 0,
    };
    for (kind, value) in attributes {
        match kind {
            IFLA_IFNAME => link.name = text(value),
            IFLA_MTU => link.mtu = u32_of(value),
            IFLA_MASTER => link.master = u32_of(value),
            IFLA_ADDRESS => link.mac = value.try_into().unwrap_or_default(),
            IFLA_LINKINFO => {
                let info = Attributes::new(value).find(IFLA_INFO_KIND);
                link.kind = info.map(text).unwrap_or_default();
            }
            _ => {}
        }
    }
    Some(link)
}

/// Octets of an address, 4 or 16.
pub(crate) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    }
}

/// The address family number of an address.
pub(crate) fn family(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => libc::AF_INET as u8,
        IpAddr::V6(_) => libc::AF_INET6 as u8,
    }
}

/// An address of 4 or 16 octets.
pub(crate) fn ip_of(value: &[u8]) -> Option<IpAddr> {
    if let Ok(four) = <[u8; 4]>::try_from(value) {
        return Some(IpAddr::from(four));
    }
    <[u8; 16]>::try_from(value).ok().map(IpAddr::from)
}
