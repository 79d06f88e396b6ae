//! Address ranges written as `10.244.0.0/24`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A range of addresses. `ip` is its first address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr {
    ip: IpAddr,
    prefix: u8,
}

/// Text that is no address range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid CIDR address: {0}")]
pub struct ParseCidrError(String);

// === Cidr ===

impl Cidr {
    /// The range of an address and a prefix length, with host bits cleared; `None` where too long.
    pub fn new(ip: IpAddr, prefix: u8) -> Option<Self> {
        let bits = bits(ip);
        if prefix > bits {
            return None;
        }
        let host = bits - prefix;
        let value = to_u128(ip);
        let kept = if host == 128 {
            0
        } else {
            value >> host << host
        };
        Some(Self {
            ip: to_ip(kept, ip.is_ipv6()),
            prefix,
        })
    }

    /// The first address.
    pub fn first(self) -> IpAddr {
        self.ip
    }

    /// The last address.
    pub fn last(self) -> IpAddr {
        let host = bits(self.ip) - self.prefix;
        let mask = if host == 128 {
            u128::MAX
        } else {
            (1u128 << host) - 1
        };
        to_ip(to_u128(self.ip) | mask, self.ip.is_ipv6())
    }

    /// Bits that all its addresses share.
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    pub fn is_ipv6(self) -> bool {
        self.ip.is_ipv6()
    }

    /// Whether an address lies in the range.
    pub fn contains(self, ip: IpAddr) -> bool {
        ip.is_ipv6() == self.is_ipv6() && self.first() <= ip && ip <= self.last()
    }

    /// The `n`th address after the first, `None` beyond the last.
    pub fn nth(self, n: u32) -> Option<IpAddr> {
        let value = to_u128(self.ip).checked_add(u128::from(n))?;
        (value <= to_u128(self.last())).then(|| to_ip(value, self.is_ipv6()))
    }

    /// How many addresses follow the first, cut to `u32::MAX`.
    pub fn span(self) -> u32 {
        let span = to_u128(self.last()) - to_u128(self.ip);
        u32::try_from(span).unwrap_or(u32::MAX)
    }

    /// Where in the range an address lies.
    pub fn index_of(self, ip: IpAddr) -> Option<u32> {
        let index = to_u128(ip).checked_sub(to_u128(self.ip))?;
        self.contains(ip).then(|| u32::try_from(index).ok())?
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ip, self.prefix)
    }
}

impl FromStr for Cidr {
    type Err = ParseCidrError;

    fn from_str(text: &str) -> Result<Self, ParseCidrError> {
        let parse = || {
            let (ip, prefix) = text.trim().split_once('/')?;
            Self::new(ip.parse().ok()?, prefix.parse().ok()?)
        };
        parse().ok_or_else(|| ParseCidrError(text.into()))
    }
}

impl TryFrom<String> for Cidr {
    type Error = ParseCidrError;

    fn try_from(text: String) -> Result<Self, ParseCidrError> {
        text.parse()
    }
}

impl From<Cidr> for String {
    fn from(c: Cidr) -> Self {
        c.to_string()
    }
}

/// Octets of an address, 4 or 16.
pub(crate) fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    }
}

fn bits(ip: IpAddr) -> u8 {
    if ip.is_ipv6() { 128 } else { 32 }
}

fn to_u128(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(a) => u128::from(u32::from(a)),
        IpAddr::V6(a) => u128::from(a),
    }
}

fn to_ip(value: u128, ipv6: bool) -> IpAddr {
    if ipv6 {
        IpAddr::V6(Ipv6Addr::from(value))
    } else {
        // Values of IPv4 ranges never exceed 32 bits.
        IpAddr::V4(Ipv4Addr::from(value as u32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn range_knows_its_addresses() {
        let c: Cidr = "10.244.1.7/24".parse().unwrap();
        assert_eq!(c.to_string(), "10.244.1.0/24");
        assert_eq!(c.last().to_string(), "10.244.1.255");
        assert_eq!(c.nth(1).unwrap().to_string(), "10.244.1.1");
        assert!(c.nth(256).is_none());
        assert_eq!(c.index_of("10.244.1.9".parse().unwrap()), Some(9));
        assert!(!c.contains("10.244.2.0".parse().unwrap()));
        let all: Cidr = "0.0.0.0/0".parse().unwrap();
        assert!(all.contains("255.255.255.255".parse().unwrap()));
        assert!(
            "::/0"
                .parse::<Cidr>()
                .unwrap()
                .contains("ff::1".parse().unwrap())
        );
        for bad in ["", "10.0.0.0", "10.0.0.0/33", "x/8", "10.0.0.0/-1"] {
            assert!(bad.parse::<Cidr>().is_err(), "{bad}");
        }
    }
}
