//! Addresses of interfaces. rtnetlink(7), kernel include/uapi/linux/if_addr.h.

use std::net::IpAddr;

use super::link::{family, ip_of, octets};
use super::message::{Attributes, Message, u32_of};
use super::{Error, NLM_F_CREATE, NLM_F_EXCL, Socket};

const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_FLAGS: u16 = 8;
const IFA_F_NODAD: u32 = 0x02;
const IFA_F_NOPREFIXROUTE: u32 = 0x200;
const SCOPE_LINK: u8 = 253;
const IFADDRMSG_BYTES: usize = 8;

/// An address on an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    pub index: u32,
    pub ip: IpAddr,
    pub prefix: u8,
    /// 0 for global, 253 for link, 254 for host.
    pub scope: u8,
}

/// Whether the kernel adds the route of an address's prefix by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrefixRoute {
    Add,
    Skip,
}

// === Socket: addresses ===

impl Socket {
    /// Puts an address on an interface. Fails with `is_present` where it is there already.
    pub fn add_address(
        &mut self,
        index: u32,
        ip: IpAddr,
        prefix: u8,
        route: PrefixRoute,
    ) -> Result<(), Error> {
        let fixed = ifaddr(index, ip, prefix);
        let mut m = Message::new(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &fixed);
        m.attr(IFA_LOCAL, &octets(ip));
        m.attr(IFA_ADDRESS, &octets(ip));
        let mut flags = 0;
        match ip {
            IpAddr::V4(a) if prefix < 31 => {
                let host = u32::MAX >> prefix;
                m.attr(IFA_BROADCAST, &(u32::from(a) | host).to_be_bytes());
            }
            IpAddr::V4(_) => {}
            // Pod addresses are unique by allocation: no second of waiting for duplicates.
            IpAddr::V6(_) => flags |= IFA_F_NODAD,
        }
        if route == PrefixRoute::Skip {
            flags |= IFA_F_NOPREFIXROUTE;
        }
        m.attr_u32(IFA_FLAGS, flags);
        self.request(|| format!("add address {ip}/{prefix} to link {index}"), m)
    }

    /// Takes an address off an interface.
    pub fn delete_address(&mut self, index: u32, ip: IpAddr, prefix: u8) -> Result<(), Error> {
        let mut m = Message::new(RTM_DELADDR, 0, &ifaddr(index, ip, prefix));
        m.attr(IFA_LOCAL, &octets(ip));
        self.request(
            || format!("delete address {ip}/{prefix} of link {index}"),
            m,
        )
    }

    /// All addresses of this namespace.
    pub fn addresses(&mut self) -> Result<Vec<Address>, Error> {
        let m = Message::new(RTM_GETADDR, 0, &[0; IFADDRMSG_BYTES]);
        let all = self.dump("list addresses", &m)?;
        Ok(all.iter().filter_map(|o| parse(o)).collect())
    }
}

fn ifaddr(index: u32, ip: IpAddr, prefix: u8) -> [u8; IFADDRMSG_BYTES] {
    let scope = match ip {
        IpAddr::V4(a) if a.is_link_local() => SCOPE_LINK,
        _ => 0,
    };
    let mut fixed = [family(ip), prefix, 0, scope, 0, 0, 0, 0];
    fixed[4..8].copy_from_slice(&index.to_ne_bytes());
    fixed
}

fn parse(object: &[u8]) -> Option<Address> {
    let fixed = object.get(..IFADDRMSG_BYTES)?;
    let attributes = Attributes::new(&object[IFADDRMSG_BYTES..]);
    // IFA_LOCAL is the address itself on point-to-point links; IPv6 gives only IFA_ADDRESS.
    let value = attributes
        .find(IFA_LOCAL)
        .or_else(|| attributes.find(IFA_ADDRESS))?;
    Some(Address {
        index: u32_of(&fixed[4..8]),
        ip: ip_of(value)?,
        prefix: fixed[1],
        scope: fixed[3],
    })
}
