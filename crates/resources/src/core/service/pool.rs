//! What is handed out: addresses of a network and ports of a range, each once. Dynamic requests take
//! from the upper part first, so that the lower one stays for those who choose themselves.
//! Upstream: pkg/registry/core/service/{ipallocator,portallocator}; KEP-3070, KEP-3668.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use rand::Rng;

/// Why nothing was handed out. Texts equal upstream's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    #[error("range is full")]
    Full,
    #[error("provided {0} is already allocated")]
    Allocated(&'static str),
    #[error("the provided IP ({ip}) is not in the valid range. The range of valid IPs is {cidr}")]
    NotInNetwork { ip: IpAddr, cidr: String },
    #[error("the provided network does not match the current range")]
    Mismatch,
    #[error("provided port is not in the valid range. The range of valid ports is {0}")]
    NotInRange(String),
}

/// Numbers of a range, each given once.
#[derive(Debug)]
struct Numbers {
    first: u128,
    last: u128,
    /// Where the part for dynamic requests begins.
    dynamic: u128,
    used: BTreeSet<u128>,
}

impl Numbers {
    fn new(first: u128, last: u128, divisor: u128, band_max: u128) -> Self {
        let size = last - first + 1;
        let band = if size <= 16 {
            0
        } else {
            (size / divisor).clamp(16, band_max)
        };
        Self {
            first,
            last,
            dynamic: first + band,
            used: BTreeSet::new(),
        }
    }

    fn next(&self) -> Option<u128> {
        let start = rand::rng().random_range(self.dynamic..=self.last);
        let free = |n: &u128| !self.used.contains(n);
        (start..=self.last)
            .find(free)
            .or_else(|| (self.dynamic..start).find(free))
            .or_else(|| (self.first..self.dynamic).find(free))
    }
}

/// The addresses of one service network.
#[derive(Debug)]
pub struct Addresses {
    network: IpAddr,
    length: u8,
    numbers: Numbers,
}

impl Addresses {
    /// A network; its address must have no bits beyond the prefix length.
    pub fn new(network: IpAddr, length: u8) -> Self {
        let (bits, base, top) = match network {
            IpAddr::V4(v4) => (32, u128::from(u32::from(v4)), 1),
            IpAddr::V6(v6) => (128, u128::from(v6), 0),
        };
        let host = u32::from(bits - length.min(bits));
        let size = 1u128.checked_shl(host).map_or(u128::MAX, |s| s - 1);
        // Not the network's own address, and in IPv4 not the broadcast address.
        let (first, last) = (base + 1, base + size - top);
        Self {
            network,
            length,
            numbers: Numbers::new(first, last.max(first), 16, 256),
        }
    }

    /// `IPv4` or `IPv6`.
    pub fn family(&self) -> &'static str {
        if self.network.is_ipv4() {
            "IPv4"
        } else {
            "IPv6"
        }
    }

    /// Takes an address that was asked for.
    pub fn take(&mut self, ip: IpAddr) -> Result<(), PoolError> {
        let n = self.check(ip)?;
        self.numbers.used.insert(n);
        Ok(())
    }

    /// Whether an address could be taken.
    pub fn check(&self, ip: IpAddr) -> Result<u128, PoolError> {
        let n = number(ip);
        if ip.is_ipv4() != self.network.is_ipv4() || !self.contains(n) {
            return Err(PoolError::Mismatch);
        }
        if !(self.numbers.first..=self.numbers.last).contains(&n) {
            let cidr = format!("{}/{}", self.network, self.length);
            return Err(PoolError::NotInNetwork { ip, cidr });
        }
        if self.numbers.used.contains(&n) {
            return Err(PoolError::Allocated("IP"));
        }
        Ok(n)
    }

    fn contains(&self, n: u128) -> bool {
        n + 1 >= self.numbers.first && n <= self.numbers.last + 1
    }

    /// An address that nobody has, not taken yet.
    pub fn next(&self) -> Result<IpAddr, PoolError> {
        let n = self.numbers.next().ok_or(PoolError::Full)?;
        Ok(match self.network {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from(n as u32)),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from(n)),
        })
    }

    /// Gives an address back.
    pub fn release(&mut self, ip: IpAddr) {
        if ip.is_ipv4() == self.network.is_ipv4() {
            self.numbers.used.remove(&number(ip));
        }
    }
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

/// The node ports.
#[derive(Debug)]
pub struct Ports(Numbers);

impl Ports {
    /// Ports of a range that is not empty.
    pub fn new(range: &RangeInclusive<u16>) -> Self {
        let (first, last) = (u128::from(*range.start()), u128::from(*range.end()));
        Self(Numbers::new(first, last.max(first), 32, 128))
    }

    /// Whether a port could be taken.
    pub fn check(&self, port: i64) -> Result<(), PoolError> {
        let n = u128::try_from(port).unwrap_or(0);
        if !(self.0.first..=self.0.last).contains(&n) {
            let range = format!("{}-{}", self.0.first, self.0.last);
            return Err(PoolError::NotInRange(range));
        }
        if self.0.used.contains(&n) {
            return Err(PoolError::Allocated("port"));
        }
        Ok(())
    }

    /// Takes a port that was asked for.
    pub fn take(&mut self, port: i64) -> Result<(), PoolError> {
        self.check(port)?;
        self.0.used.insert(u128::try_from(port).unwrap_or(0));
        Ok(())
    }

    /// A port that nobody has, not taken yet.
    pub fn next(&self) -> Result<i64, PoolError> {
        let n = self.0.next().ok_or(PoolError::Full)?;
        Ok(n as i64)
    }

    /// Gives a port back.
    pub fn release(&mut self, port: i64) {
        self.0.used.remove(&u128::try_from(port).unwrap_or(0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_is_given_once() {
        let mut pool = Addresses::new("10.96.0.0".parse().expect("ip"), 28);
        let mut seen = BTreeSet::new();
        while let Ok(ip) = pool.next() {
            pool.take(ip).expect("free");
            assert!(seen.insert(ip));
        }
        assert_eq!(seen.len(), 14);
        assert_eq!(pool.next(), Err(PoolError::Full));
        let one: IpAddr = "10.96.0.5".parse().expect("ip");
        assert_eq!(pool.take(one), Err(PoolError::Allocated("IP")));
        pool.release(one);
        assert_eq!(pool.next(), Ok(one));
    }

    #[test]
    fn ranges_are_kept() {
        let pool = Addresses::new("10.96.0.0".parse().expect("ip"), 12);
        for (ip, text) in [
            (
                "10.95.0.1",
                "the provided network does not match the current range",
            ),
            (
                "10.96.0.0",
                "the provided IP (10.96.0.0) is not in the valid range. The range of valid IPs is 10.96.0.0/12",
            ),
            (
                "::1",
                "the provided network does not match the current range",
            ),
        ] {
            let e = pool.check(ip.parse().expect("ip")).expect_err(ip);
            assert_eq!(e.to_string(), text);
        }
        // The lower band is for those who choose themselves.
        for _ in 0..100 {
            assert!(pool.next().expect("free") > IpAddr::from([10, 96, 1, 0]));
        }
        let ports = Ports::new(&(30000..=32767));
        assert_eq!(
            ports.check(80).expect_err("out of range").to_string(),
            "provided port is not in the valid range. The range of valid ports is 30000-32767"
        );
        let next = ports.next().expect("free");
        assert!((30086..=32767).contains(&next), "{next}");
    }
}
