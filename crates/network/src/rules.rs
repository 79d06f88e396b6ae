//! Short words for the expressions that the crate's rules are made of.

use linux::nftables::{
    AnonymousSet, Base, ChainType, CtKey, DataType, Element, Expr, Family, FibResult, Hook, Key,
    MetaKey, NatKind, Op, PayloadBase, Policy, RejectKind, SetKind, Verdict, ct_state, ct_status,
    fib_flags, nat_flags, register,
};

use crate::cidr::{Cidr, octets};

/// RTN_LOCAL, the fib's type of the node's own addresses.
const ADDRESS_LOCAL: u32 = 2;

/// An IP family and what depends on it in rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Ip {
    V4,
    V6,
}

// === Ip ===

impl Ip {
    pub(crate) const ALL: [Self; 2] = [Self::V4, Self::V6];

    pub(crate) fn is_v6(self) -> bool {
        self == Self::V6
    }

    pub(crate) fn family(self) -> Family {
        match self {
            Self::V4 => Family::Ipv4,
            Self::V6 => Family::Ipv6,
        }
    }

    pub(crate) fn data_type(self) -> DataType {
        match self {
            Self::V4 => DataType::Ipv4Address,
            Self::V6 => DataType::Ipv6Address,
        }
    }

    /// Registers that an address takes.
    pub(crate) fn words(self) -> u32 {
        match self {
            Self::V4 => 1,
            Self::V6 => 4,
        }
    }

    /// Loads the source address into data register `n` and following.
    pub(crate) fn source(self, n: u32) -> Expr {
        self.payload(if self.is_v6() { 8 } else { 12 }, n)
    }

    /// Loads the destination address.
    pub(crate) fn destination(self, n: u32) -> Expr {
        self.payload(if self.is_v6() { 24 } else { 16 }, n)
    }

    fn payload(self, offset: u32, n: u32) -> Expr {
        Expr::Payload {
            base: PayloadBase::Network,
            offset,
            length: self.words() * 4,
            register: register::data(n),
        }
    }

    pub(crate) fn reject(self) -> Expr {
        Expr::Reject(match self {
            Self::V4 => RejectKind::PortUnreachable,
            Self::V6 => RejectKind::PortUnreachableV6,
        })
    }

    /// DNAT to the address in registers from `n` and the port after it.
    pub(crate) fn dnat(self, n: u32) -> Expr {
        Expr::Nat {
            kind: NatKind::Destination,
            ipv6: self.is_v6(),
            address: Some(register::data(n)),
            port: Some(register::data(n + self.words())),
            flags: 0,
        }
    }
}

/// Loads the transport protocol.
pub(crate) fn protocol(n: u32) -> Expr {
    Expr::Meta {
        key: MetaKey::L4Proto,
        register: register::data(n),
    }
}

/// Loads the destination port of TCP, UDP and SCTP.
pub(crate) fn destination_port(n: u32) -> Expr {
    Expr::Payload {
        base: PayloadBase::Transport,
        offset: 2,
        length: 2,
        register: register::data(n),
    }
}

pub(crate) fn equals(n: u32, value: Vec<u8>) -> Expr {
    compare(Op::Eq, n, value)
}

pub(crate) fn differs(n: u32, value: Vec<u8>) -> Expr {
    compare(Op::Ne, n, value)
}

fn compare(op: Op, n: u32, value: Vec<u8>) -> Expr {
    Expr::Cmp {
        op,
        register: register::data(n),
        value,
    }
}

/// `ct state new`.
pub(crate) fn state_new() -> Vec<Expr> {
    ct_bits(CtKey::State, ct_state::NEW)
}

/// `ct status dnat`.
pub(crate) fn status_dnat() -> Vec<Expr> {
    ct_bits(CtKey::Status, ct_status::DNAT)
}

fn ct_bits(key: CtKey, bits: u32) -> Vec<Expr> {
    vec![
        Expr::Ct {
            key,
            register: register::data(0),
        },
        and(bits),
        differs(0, vec![0; 4]),
    ]
}

/// Keeps only some bits of register 0.
pub(crate) fn and(bits: u32) -> Expr {
    Expr::Bitwise {
        source: register::data(0),
        target: register::data(0),
        mask: bits.to_ne_bytes().to_vec(),
        xor: vec![0; 4],
    }
}

/// `fib daddr type local` or `fib saddr type local`.
pub(crate) fn local(flags: u32) -> Vec<Expr> {
    vec![
        Expr::Fib {
            flags,
            result: FibResult::AddressType,
            register: register::data(0),
        },
        equals(0, ADDRESS_LOCAL.to_ne_bytes().to_vec()),
    ]
}

pub(crate) fn destination_local() -> Vec<Expr> {
    local(fib_flags::DADDR)
}

pub(crate) fn source_local() -> Vec<Expr> {
    local(fib_flags::SADDR)
}

/// Membership of registers from 0 in a named set.
pub(crate) fn member(set: &str) -> Expr {
    Expr::Lookup {
        set: set.into(),
        register: register::data(0),
        target: None,
        invert: false,
    }
}

/// Goes where a named verdict map says for registers from 0.
pub(crate) fn verdict_map(set: &str) -> Expr {
    Expr::Lookup {
        set: set.into(),
        register: register::data(0),
        target: Some(register::VERDICT),
        invert: false,
    }
}

/// Matches addresses in register 0 that are (or, inverted, are not) in any of the ranges.
pub(crate) fn in_ranges(ip: Ip, ranges: &[Cidr], invert: bool) -> Expr {
    let mut elements: Vec<_> = merged(ranges)
        .into_iter()
        .map(|(from, to)| Element::range(Key(from), Key(to)))
        .collect();
    elements.sort_by(|a, b| a.key.cmp(&b.key));
    Expr::LookupAnonymous {
        set: Box::new(AnonymousSet {
            key: vec![ip.data_type()],
            kind: SetKind::Set,
            interval: true,
            elements,
        }),
        register: register::data(0),
        target: None,
        invert,
    }
}

/// Ranges as sorted first and last addresses without overlap, which interval sets refuse.
fn merged(ranges: &[Cidr]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut all: Vec<_> = ranges
        .iter()
        .map(|c| (octets(c.first()), octets(c.last())))
        .collect();
    all.sort();
    let mut out: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    for (from, to) in all {
        match out.last_mut() {
            // CIDRs nest or are disjoint: the first of a nest is the largest.
            Some(last) if from <= last.1 => last.1 = to.max(last.1.clone()),
            _ => out.push((from, to)),
        }
    }
    out
}

pub(crate) fn interface_name(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(16, 0);
    bytes
}

pub(crate) fn jump(chain: &str) -> Expr {
    Expr::Verdict(Verdict::Jump(chain.into()))
}

pub(crate) fn goto(chain: &str) -> Expr {
    Expr::Verdict(Verdict::Goto(chain.into()))
}

pub(crate) fn masquerade() -> Expr {
    Expr::Masquerade {
        flags: nat_flags::RANDOM_FULLY,
    }
}

/// A base chain that accepts what its rules leave.
pub(crate) fn base(kind: ChainType, hook: Hook, priority: i32) -> Base {
    Base {
        kind,
        hook,
        priority,
        policy: Policy::Accept,
    }
}

/// Rules of parts in a row.
pub(crate) fn all(parts: impl IntoIterator<Item = Vec<Expr>>) -> Vec<Expr> {
    parts.into_iter().flatten().collect()
}
