//! Routes of the main table. rtnetlink(7), kernel include/uapi/linux/rtnetlink.h.

use std::net::IpAddr;

use super::link::{family, ip_of, octets};
use super::message::{Attributes, Message, u32_of};
use super::{Error, NLM_F_CREATE, NLM_F_REPLACE, Socket};

const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PREFSRC: u16 = 7;
const RTA_TABLE: u16 = 15;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_STATIC: u8 = 4;
const SCOPE_UNIVERSE: u8 = 0;
const SCOPE_LINK: u8 = 253;
const SCOPE_NOWHERE: u8 = 255;
const RTN_UNICAST: u8 = 1;
const RTN_BLACKHOLE: u8 = 6;
const RTNH_F_ONLINK: u32 = 4;
const RTMSG_BYTES: usize = 12;

/// What happens to packets of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RouteKind {
    Unicast,
    Blackhole,
}

/// One route of the main table.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Route {
    pub kind: RouteKind,
    pub destination: IpAddr,
    /// Bits of the destination that count; 0 is the default route.
    pub prefix: u8,
    pub gateway: Option<IpAddr>,
    /// Index of the interface, 0 for none.
    pub link: u32,
    /// The gateway is on the link even if no address of the link says so.
    pub onlink: bool,
    pub source: Option<IpAddr>,
    /// Who made it (RTPROT_*); `Socket::add_route` writes this value.
    pub protocol: u8,
}

// === Route ===

impl Route {
    /// A route through an interface without a gateway.
    pub fn direct(destination: IpAddr, prefix: u8, link: u32) -> Self {
        Self {
            kind: RouteKind::Unicast,
            destination,
            prefix,
            gateway: None,
            link,
            onlink: false,
            source: None,
            protocol: RTPROT_STATIC,
        }
    }

    /// A route through a gateway on an interface.
    pub fn via(destination: IpAddr, prefix: u8, gateway: IpAddr, link: u32) -> Self {
        Self {
            gateway: Some(gateway),
            ..Self::direct(destination, prefix, link)
        }
    }
}

// === Socket: routes ===

impl Socket {
    /// Adds a route, replacing one to the same destination.
    pub fn add_route(&mut self, route: &Route) -> Result<(), Error> {
        let m = message(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, route);
        let operation = || format!("add route {}/{}", route.destination, route.prefix);
        self.request(operation, m)
    }

    /// Removes a route.
    pub fn delete_route(&mut self, route: &Route) -> Result<(), Error> {
        let m = message(RTM_DELROUTE, 0, route);
        let operation = || format!("delete route {}/{}", route.destination, route.prefix);
        self.request(operation, m)
    }

    /// All unicast and blackhole routes of the main table.
    pub fn routes(&mut self) -> Result<Vec<Route>, Error> {
        let m = Message::new(RTM_GETROUTE, 0, &[0; RTMSG_BYTES]);
        let all = self.dump("list routes", &m)?;
        Ok(all.iter().filter_map(|o| parse(o)).collect())
    }
}

fn message(kind: u16, flags: u16, route: &Route) -> Message {
    let scope = match (kind, route.gateway, route.destination) {
        (RTM_DELROUTE, _, _) => SCOPE_NOWHERE,
        (_, None, IpAddr::V4(_)) if route.kind == RouteKind::Unicast => SCOPE_LINK,
        _ => SCOPE_UNIVERSE,
    };
    let what = match route.kind {
        RouteKind::Unicast => RTN_UNICAST,
        RouteKind::Blackhole => RTN_BLACKHOLE,
    };
    let mut fixed = [0; RTMSG_BYTES];
    fixed[0] = family(route.destination);
    fixed[1] = route.prefix;
    fixed[4] = RT_TABLE_MAIN;
    fixed[5] = route.protocol;
    fixed[6] = scope;
    fixed[7] = what;
    let bits = if route.onlink { RTNH_F_ONLINK } else { 0 };
    fixed[8..12].copy_from_slice(&bits.to_ne_bytes());
    let mut m = Message::new(kind, flags, &fixed);
    if route.prefix > 0 {
        m.attr(RTA_DST, &octets(route.destination));
    }
    if let Some(gateway) = route.gateway {
        m.attr(RTA_GATEWAY, &octets(gateway));
    }
    if route.link != 0 {
        m.attr_u32(RTA_OIF, route.link);
    }
    if let Some(source) = route.source {
        m.attr(RTA_PREFSRC, &octets(source));
    }
    m
}

fn parse(object: &[u8]) -> Option<Route> {
    let fixed = object.get(..RTMSG_BYTES)?;
    let attributes = Attributes::new(&object[RTMSG_BYTES..]);
    let table = attributes
        .find(RTA_TABLE)
        .map_or(u32::from(fixed[4]), u32_of);
    if table != u32::from(RT_TABLE_MAIN) {
        return None;
    }
    let kind = match fixed[7] {
        RTN_UNICAST => RouteKind::Unicast,
        RTN_BLACKHOLE => RouteKind::Blackhole,
        _ => return None,
    };
    let zero = if i32::from(fixed[0]) == libc::AF_INET {
        IpAddr::from([0u8; 4])
    } else {
        IpAddr::from([0u8; 16])
    };
    Some(Route {
        kind,
        destination: attributes.find(RTA_DST).and_then(ip_of).unwrap_or(zero),
        prefix: fixed[1],
        gateway: attributes.find(RTA_GATEWAY).and_then(ip_of),
        link: attributes.find(RTA_OIF).map_or(0, u32_of),
        onlink: u32_of(&fixed[8..12]) & RTNH_F_ONLINK != 0,
        source: attributes.find(RTA_PREFSRC).and_then(ip_of),
        protocol: fixed[5],
    })
}
