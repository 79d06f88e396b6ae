//! IP addresses and networks. Upstream: k8s.io/apiserver/pkg/cel/library/ip.go and cidr.go.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use super::{Foreign, Row, address, foreign, none, text};
use crate::program::EvalError;
use crate::value::Value;

/// A network. The address keeps its host bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cidr {
    pub address: IpAddr,
    pub bits: u8,
}

pub(super) const TABLE: &[Row] = &[
    ("ip", "(string) Ip", |a| {
        Ok(address_value(parse_ip(text(a, 0)?)?))
    }),
    ("ip", "Cidr.() Ip", |a| {
        Ok(address_value(cidr(a, 0)?.address))
    }),
    ("isIP", "(string) bool", |a| {
        Ok(parse_ip(text(a, 0)?).is_ok().into())
    }),
    ("ip.isCanonical", "(string) bool", |a| {
        let s = text(a, 0)?;
        Ok((parse_ip(s)?.to_string() == s).into())
    }),
    ("family", "Ip.() int", |a| {
        Ok(if ip(a, 0)?.is_ipv4() { 4 } else { 6 }.into())
    }),
    ("isUnspecified", "Ip.() bool", |a| {
        Ok(ip(a, 0)?.is_unspecified().into())
    }),
    ("isLoopback", "Ip.() bool", |a| {
        Ok(ip(a, 0)?.is_loopback().into())
    }),
    ("isLinkLocalMulticast", "Ip.() bool", |a| {
        Ok(link_local_multicast(ip(a, 0)?).into())
    }),
    ("isLinkLocalUnicast", "Ip.() bool", |a| {
        Ok(link_local_unicast(ip(a, 0)?).into())
    }),
    ("isGlobalUnicast", "Ip.() bool", |a| {
        Ok(global_unicast(ip(a, 0)?).into())
    }),
    ("cidr", "(string) Cidr", |a| {
        Ok(cidr_value(parse_cidr(text(a, 0)?)?))
    }),
    ("isCIDR", "(string) bool", |a| {
        Ok(parse_cidr(text(a, 0)?).is_ok().into())
    }),
    ("containsIP", "Cidr.(string) bool", |a| {
        // Upstream loses the parser's error here.
        let address = parse_ip(text(a, 1)?).or_else(|_| none())?;
        Ok(cidr(a, 0)?.has(&address).into())
    }),
    ("containsIP", "Cidr.(Ip) bool", |a| {
        Ok(cidr(a, 0)?.has(&ip(a, 1)?).into())
    }),
    ("containsCIDR", "Cidr.(string) bool", |a| {
        Ok(cidr(a, 0)?.has_all(&parse_cidr(text(a, 1)?)?).into())
    }),
    ("containsCIDR", "Cidr.(Cidr) bool", |a| {
        Ok(cidr(a, 0)?.has_all(cidr(a, 1)?).into())
    }),
    ("prefixLength", "Cidr.() int", |a| {
        Ok(i64::from(cidr(a, 0)?.bits).into())
    }),
    ("masked", "Cidr.() Cidr", |a| {
        Ok(cidr_value(cidr(a, 0)?.masked()))
    }),
];

fn address_value(ip: IpAddr) -> Value {
    Value::Foreign(Arc::new(Foreign::Ip(ip)))
}

fn cidr_value(c: Cidr) -> Value {
    Value::Foreign(Arc::new(Foreign::Cidr(c)))
}

fn ip(a: &[Value], n: usize) -> Result<IpAddr, EvalError> {
    match foreign(a, n)? {
        Foreign::Ip(ip) => Ok(*ip),
        _ => none(),
    }
}

fn cidr(a: &[Value], n: usize) -> Result<&Cidr, EvalError> {
    match foreign(a, n)? {
        Foreign::Cidr(c) => Ok(c),
        _ => none(),
    }
}

/// Bytes of an address.
pub(super) fn size(ip: &IpAddr) -> u64 {
    if ip.is_ipv4() { 4 } else { 16 }
}

fn mapped(ip: &IpAddr) -> bool {
    matches!(ip, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some())
}

fn parse_ip(s: &str) -> Result<IpAddr, EvalError> {
    if s.contains('%') {
        return Err(EvalError::of(format!(
            "IP address {s:?} with zone value is not allowed"
        )));
    }
    let ip: IpAddr = s.parse().map_err(|_| {
        let why = address_problem(s);
        EvalError::of(format!(
            "IP Address {s:?} parse error during conversion from string: {why}"
        ))
    })?;
    if mapped(&ip) {
        return Err(EvalError::of(format!(
            "IPv4-mapped IPv6 address {s:?} is not allowed"
        )));
    }
    Ok(ip)
}

/// What Go finds wrong about an address.
fn address_problem(s: &str) -> String {
    address::problem(s).unwrap_or_else(|| format!("ParseAddr({s:?}): unable to parse IP"))
}

fn parse_cidr(s: &str) -> Result<Cidr, EvalError> {
    let start = "network address parse error during conversion from string";
    let bad =
        |why: &str| EvalError::of(format!("{start}: {start}: netip.ParsePrefix({s:?}): {why}"));
    let (address, bits) = s.rsplit_once('/').ok_or_else(|| bad("no '/'"))?;
    let address: IpAddr = address
        .parse()
        .map_err(|_| bad(&address_problem(address)))?;
    let plain = !bits.is_empty() && (bits == "0" || !bits.starts_with('0'));
    let digits = plain && bits.bytes().all(|b| b.is_ascii_digit());
    let length: u8 = match bits.parse() {
        Ok(n) if digits => n,
        _ => return Err(bad(&format!("bad bits after slash: {bits:?}"))),
    };
    if u64::from(length) > size(&address) * 8 {
        return Err(bad("prefix length out of range"));
    }
    if mapped(&address) {
        return Err(EvalError::of(format!(
            "{start}: IPv4-mapped IPv6 address {s:?} is not allowed"
        )));
    }
    Ok(Cidr {
        address,
        bits: length,
    })
}

fn link_local_multicast(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => matches!(v4.octets(), [224, 0, 0, _]),
        IpAddr::V6(v6) => v6.segments()[0] & 0xff0f == 0xff02,
    }
}

fn link_local_unicast(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.segments()[0] & 0xffc0 == 0xfe80,
    }
}

fn global_unicast(ip: IpAddr) -> bool {
    let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    !(broadcast
        || ip.is_unspecified()
        || ip.is_loopback()
        || ip.is_multicast()
        || link_local_unicast(ip))
}

impl Cidr {
    fn masked(&self) -> Cidr {
        let address = match self.address {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX
                    .checked_shl(128 - u32::from(self.bits))
                    .unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
            }
        };
        Cidr {
            address,
            bits: self.bits,
        }
    }

    fn has(&self, ip: &IpAddr) -> bool {
        let other = Cidr {
            address: *ip,
            bits: self.bits,
        };
        ip.is_ipv4() == self.address.is_ipv4() && other.masked().address == self.masked().address
    }

    fn has_all(&self, other: &Cidr) -> bool {
        self.bits <= other.bits && self.has(&other.address)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}
