//! Permanent neighbour (ARP, NDP) and forwarding (FDB) entries. rtnetlink(7),
//! kernel include/uapi/linux/neighbour.h.

use std::net::IpAddr;

use super::link::{family, octets};
use super::message::Message;
use super::{Error, NLM_F_APPEND, NLM_F_CREATE, NLM_F_REPLACE, Socket};

const RTM_NEWNEIGH: u16 = 28;
const RTM_DELNEIGH: u16 = 29;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NUD_PERMANENT: u16 = 0x80;
const NTF_SELF: u8 = 0x02;
const AF_BRIDGE: u8 = 7;

// === Socket: neighbours ===

impl Socket {
    /// Says for good which hardware address an address on a link has.
    pub fn set_neighbour(&mut self, link: u32, ip: IpAddr, mac: [u8; 6]) -> Result<(), Error> {
        let fixed = ndmsg(family(ip), link, 0);
        let mut m = Message::new(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, &fixed);
        m.attr(NDA_DST, &octets(ip));
        m.attr(NDA_LLADDR, &mac);
        self.request(|| format!("set neighbour {ip} of link {link}"), m)
    }

    /// Forgets a neighbour.
    pub fn delete_neighbour(&mut self, link: u32, ip: IpAddr) -> Result<(), Error> {
        let mut m = Message::new(RTM_DELNEIGH, 0, &ndmsg(family(ip), link, 0));
        m.attr(NDA_DST, &octets(ip));
        self.request(|| format!("delete neighbour {ip} of link {link}"), m)
    }

    /// Says behind which remote address of a VXLAN link a hardware address is.
    pub fn add_forwarding(&mut self, link: u32, mac: [u8; 6], remote: IpAddr) -> Result<(), Error> {
        let flags = NLM_F_CREATE | NLM_F_APPEND;
        let mut m = Message::new(RTM_NEWNEIGH, flags, &ndmsg(AF_BRIDGE, link, NTF_SELF));
        m.attr(NDA_LLADDR, &mac);
        m.attr(NDA_DST, &octets(remote));
        self.request(|| format!("add forwarding to {remote} on link {link}"), m)
    }

    /// Undoes `add_forwarding`.
    pub fn delete_forwarding(
        &mut self,
        link: u32,
        mac: [u8; 6],
        remote: IpAddr,
    ) -> Result<(), Error> {
        let mut m = Message::new(RTM_DELNEIGH, 0, &ndmsg(AF_BRIDGE, link, NTF_SELF));
        m.attr(NDA_LLADDR, &mac);
        m.attr(NDA_DST, &octets(remote));
        self.request(
            || format!("delete forwarding to {remote} on link {link}"),
            m,
        )
    }
}

fn ndmsg(family: u8, link: u32, flags: u8) -> [u8; 12] {
    let mut fixed = [0; 12];
    fixed[0] = family;
    fixed[4..8].copy_from_slice(&link.to_ne_bytes());
    fixed[8..10].copy_from_slice(&NUD_PERMANENT.to_ne_bytes());
    fixed[10] = flags;
    fixed
}
