//! Expressions of rules: each moves data between registers or ends the rule.

use super::element::Data;
use super::set::AnonymousSet;
use crate::netlink::Message;

/// Registers of 32 bits; a longer value takes several in a row.
pub mod register {
    /// The verdict register.
    pub const VERDICT: u32 = 0;
    /// The `n`th data register, `n` from 0 to 15.
    pub const fn data(n: u32) -> u32 {
        8 + n
    }
}

/// Bits of `ct state`.
pub mod ct_state {
    pub const INVALID: u32 = 1;
    pub const ESTABLISHED: u32 = 2;
    pub const RELATED: u32 = 4;
    pub const NEW: u32 = 8;
}

/// Bits of `ct status`.
pub mod ct_status {
    pub const SNAT: u32 = 0x10;
    pub const DNAT: u32 = 0x20;
}

/// What a fib look-up is keyed on.
pub mod fib_flags {
    pub const SADDR: u32 = 1;
    pub const DADDR: u32 = 2;
    pub const MARK: u32 = 4;
    pub const IIF: u32 = 8;
    pub const OIF: u32 = 16;
}

/// Flags of nat and masquerade (NF_NAT_RANGE_*).
pub mod nat_flags {
    pub const RANDOM_FULLY: u32 = 16;
}

/// Comparison operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Eq = 0,
    Ne = 1,
    Lt = 2,
    Le = 3,
    Gt = 4,
    Ge = 5,
}

/// Where in the packet a payload offset counts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadBase {
    Link = 0,
    Network = 1,
    Transport = 2,
}

/// Packet metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetaKey {
    Mark = 3,
    Iif = 4,
    Oif = 5,
    IifName = 6,
    OifName = 7,
    NfProto = 15,
    L4Proto = 16,
}

/// Connection metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CtKey {
    State = 0,
    Direction = 1,
    Status = 2,
    Mark = 3,
}

/// What a fib look-up gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FibResult {
    Oif = 1,
    AddressType = 3,
}

/// Source or destination NAT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NatKind {
    Source = 0,
    Destination = 1,
}

/// How a reject answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejectKind {
    /// ICMP port unreachable, for ip tables.
    PortUnreachable,
    /// ICMPv6 port unreachable, for ip6 tables.
    PortUnreachableV6,
    /// ICMP port unreachable of the packet's family, for inet and bridge tables.
    PortUnreachableAny,
    TcpReset,
}

/// Time unit of a rate, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitUnit {
    Second = 1,
    Minute = 60,
    Hour = 3600,
}

/// How a rule or a map element ends.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verdict {
    Accept,
    Drop,
    Return,
    Jump(String),
    Goto(String),
}

/// One expression. Register numbers come from `register`; values are in network byte order except
/// marks, ct values, fib results and numgen, which are in host order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expr {
    Meta {
        key: MetaKey,
        register: u32,
    },
    MetaSet {
        key: MetaKey,
        register: u32,
    },
    Payload {
        base: PayloadBase,
        offset: u32,
        length: u32,
        register: u32,
    },
    Cmp {
        op: Op,
        register: u32,
        value: Vec<u8>,
    },
    /// `from <= register <= to`, or outside of it.
    Range {
        outside: bool,
        register: u32,
        from: Vec<u8>,
        to: Vec<u8>,
    },
    /// `target = (source & mask) ^ xor`.
    Bitwise {
        source: u32,
        target: u32,
        mask: Vec<u8>,
        xor: Vec<u8>,
    },
    /// Look-up in a set of the table; `target` receives a map's value (`register::VERDICT` acts on it).
    Lookup {
        set: String,
        register: u32,
        target: Option<u32>,
        invert: bool,
    },
    /// The same in a set that belongs to this rule alone.
    LookupAnonymous {
        set: Box<AnonymousSet>,
        register: u32,
        target: Option<u32>,
        invert: bool,
    },
    Immediate {
        register: u32,
        value: Vec<u8>,
    },
    Verdict(Verdict),
    /// NAT to the address (and port) in registers.
    Nat {
        kind: NatKind,
        ipv6: bool,
        address: Option<u32>,
        port: Option<u32>,
        flags: u32,
    },
    Masquerade {
        flags: u32,
    },
    /// A number below `modulus`, random or in turn.
    Numgen {
        modulus: u32,
        random: bool,
        register: u32,
    },
    Ct {
        key: CtKey,
        register: u32,
    },
    Fib {
        flags: u32,
        result: FibResult,
        register: u32,
    },
    Counter,
    /// Matches at most `rate` packets a unit (`over`: those beyond).
    Limit {
        rate: u64,
        unit: LimitUnit,
        burst: u32,
        over: bool,
    },
    Log {
        prefix: String,
    },
    Reject(RejectKind),
    /// Adds the key in a register to a dynamic set, or renews its timeout.
    Update {
        set: String,
        register: u32,
        timeout_ms: Option<u64>,
    },
}

const NFTA_LIST_ELEM: u16 = 1;
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
const NFPROTO_IPV4: u32 = 2;
const NFPROTO_IPV6: u32 = 10;
const NFT_REJECT_ICMP_UNREACH: u32 = 0;
const NFT_REJECT_TCP_RST: u32 = 1;
const NFT_REJECT_ICMPX_UNREACH: u32 = 2;
const NFT_REJECT_ICMPX_PORT_UNREACH: u8 = 1;
const ICMP_PORT_UNREACH: u8 = 3;
const ICMPV6_PORT_UNREACH: u8 = 4;
const NFT_DYNSET_OP_UPDATE: u32 = 1;

// === Expr ===

impl Expr {
    /// Appends this expression to a rule. `ids` gives the ids of the rule's anonymous sets, in order.
    pub(super) fn encode(&self, m: &mut Message, ids: &mut impl Iterator<Item = u32>) {
        m.nest(NFTA_LIST_ELEM, |m| {
            m.attr_str(NFTA_EXPR_NAME, self.name());
            m.nest(NFTA_EXPR_DATA, |m| match self {
                Self::Lookup { .. } | Self::LookupAnonymous { .. } | Self::Update { .. } => {
                    self.encode_set_use(m, ids);
                }
                Self::Nat { .. }
                | Self::Masquerade { .. }
                | Self::Limit { .. }
                | Self::Log { .. }
                | Self::Reject(_)
                | Self::Verdict(_)
                | Self::Counter => self.encode_action(m),
                _ => self.encode_match(m),
            });
        });
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Meta { .. } | Self::MetaSet { .. } => "meta",
            Self::Payload { .. } => "payload",
            Self::Cmp { .. } => "cmp",
            Self::Range { .. } => "range",
            Self::Bitwise { .. } => "bitwise",
            Self::Lookup { .. } | Self::LookupAnonymous { .. } => "lookup",
            Self::Immediate { .. } | Self::Verdict(_) => "immediate",
            Self::Nat { .. } => "nat",
            Self::Masquerade { .. } => "masq",
            Self::Numgen { .. } => "numgen",
            Self::Ct { .. } => "ct",
            Self::Fib { .. } => "fib",
            Self::Counter => "counter",
            Self::Limit { .. } => "limit",
            Self::Log { .. } => "log",
            Self::Reject(_) => "reject",
            Self::Update { .. } => "dynset",
        }
    }

    fn encode_match(&self, m: &mut Message) {
        match self {
            Self::Meta { key, register } => {
                m.attr_u32_be(1, *register);
                m.attr_u32_be(2, *key as u32);
            }
            Self::MetaSet { key, register } => {
                m.attr_u32_be(2, *key as u32);
                m.attr_u32_be(3, *register);
            }
            Self::Payload {
                base,
                offset,
                length,
                register,
            } => {
                m.attr_u32_be(1, *register);
                m.attr_u32_be(2, *base as u32);
                m.attr_u32_be(3, *offset);
                m.attr_u32_be(4, *length);
            }
            Self::Cmp {
                op,
                register,
                value,
            } => {
                m.attr_u32_be(1, *register);
                m.attr_u32_be(2, *op as u32);
                value_attr(m, 3, value);
            }
            Self::Range {
                outside,
                register,
                from,
                to,
            } => {
                m.attr_u32_be(1, *register);
                m.attr_u32_be(2, u32::from(*outside));
                value_attr(m, 3, from);
                value_attr(m, 4, to);
            }
            Self::Bitwise {
                source,
                target,
                mask,
                xor,
            } => {
                m.attr_u32_be(1, *source);
                m.attr_u32_be(2, *target);
                m.attr_u32_be(3, mask.len() as u32);
                value_attr(m, 4, mask);
                value_attr(m, 5, xor);
            }
            Self::Immediate { register, value } => {
                m.attr_u32_be(1, *register);
                value_attr(m, 2, value);
            }
            Self::Numgen {
                modulus,
                random,
                register,
            } => {
                m.attr_u32_be(1, *register);
                m.attr_u32_be(2, *modulus);
                m.attr_u32_be(3, u32::from(*random));
                m.attr_u32_be(4, 0);
            }
            Self::Ct { key, register } => {
                m.attr_u32_be(1, *register);
                m.attr_u32_be(2, *key as u32);
            }
            Self::Fib {
                flags,
                result,
                register,
            } => {
                m.attr_u32_be(1, *register);
                m.attr_u32_be(2, *result as u32);
                m.attr_u32_be(3, *flags);
            }
            _ => unreachable!("encode sends the other expressions elsewhere"),
        }
    }

    fn encode_action(&self, m: &mut Message) {
        match self {
            Self::Verdict(verdict) => {
                m.attr_u32_be(1, register::VERDICT);
                m.nest(2, |m| Data::Verdict(verdict.clone()).encode(m));
            }
            Self::Nat {
                kind,
                ipv6,
                address,
                port,
                flags,
            } => {
                m.attr_u32_be(1, *kind as u32);
                m.attr_u32_be(2, if *ipv6 { NFPROTO_IPV6 } else { NFPROTO_IPV4 });
                if let Some(address) = address {
                    m.attr_u32_be(3, *address);
                }
                if let Some(port) = port {
                    m.attr_u32_be(5, *port);
                }
                if *flags != 0 {
                    m.attr_u32_be(7, *flags);
                }
            }
            Self::Masquerade { flags } if *flags != 0 => m.attr_u32_be(1, *flags),
            Self::Limit {
                rate,
                unit,
                burst,
                over,
            } => {
                m.attr_u64_be(1, *rate);
                m.attr_u64_be(2, *unit as u64);
                m.attr_u32_be(3, *burst);
                m.attr_u32_be(4, 0);
                m.attr_u32_be(5, u32::from(*over));
            }
            Self::Log { prefix } => m.attr_str(2, prefix),
            Self::Reject(kind) => {
                let (kind, code) = match kind {
                    RejectKind::PortUnreachable => (NFT_REJECT_ICMP_UNREACH, ICMP_PORT_UNREACH),
                    RejectKind::PortUnreachableV6 => (NFT_REJECT_ICMP_UNREACH, ICMPV6_PORT_UNREACH),
                    RejectKind::PortUnreachableAny => {
                        (NFT_REJECT_ICMPX_UNREACH, NFT_REJECT_ICMPX_PORT_UNREACH)
                    }
                    RejectKind::TcpReset => (NFT_REJECT_TCP_RST, 0),
                };
                m.attr_u32_be(1, kind);
                m.attr_u8(2, code);
            }
            // A counter starts at zero, a plain masquerade has no attributes.
            _ => {}
        }
    }

    fn encode_set_use(&self, m: &mut Message, ids: &mut impl Iterator<Item = u32>) {
        match self {
            Self::Lookup {
                set,
                register,
                target,
                invert,
            } => {
                m.attr_str(1, set);
                lookup(m, *register, *target, *invert);
            }
            Self::LookupAnonymous {
                set,
                register,
                target,
                invert,
            } => {
                m.attr_str(1, set.placeholder());
                m.attr_u32_be(4, ids.next().unwrap_or(0));
                lookup(m, *register, *target, *invert);
            }
            Self::Update {
                set,
                register,
                timeout_ms,
            } => {
                m.attr_str(1, set);
                m.attr_u32_be(3, NFT_DYNSET_OP_UPDATE);
                m.attr_u32_be(4, *register);
                if let Some(timeout) = timeout_ms {
                    m.attr_u64_be(6, *timeout);
                }
            }
            _ => unreachable!("encode sends only expressions that use sets here"),
        }
    }
}

fn lookup(m: &mut Message, register: u32, target: Option<u32>, invert: bool) {
    m.attr_u32_be(2, register);
    if let Some(target) = target {
        m.attr_u32_be(3, target);
    }
    if invert {
        m.attr_u32_be(5, 1);
    }
}

/// A value in its NFTA_DATA_VALUE wrapping.
fn value_attr(m: &mut Message, kind: u16, value: &[u8]) {
    m.nest(kind, |m| m.attr(1, value));
}
