//! Sets and maps.

use super::element::Element;
use super::{Batch, NFT_MSG_DELSET, NFT_MSG_NEWSET, NFT_MSG_NEWSETELEM};
use crate::netlink::{self, Message};

/// Types of key and value fields (numbers of the nft program, which the kernel only stores).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DataType {
    Integer32,
    Ipv4Address,
    Ipv6Address,
    InetProto,
    InetService,
    Mark,
    InterfaceName,
}

/// Whether elements have values, and of which type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetKind {
    Set,
    /// A map to values.
    Map(Vec<DataType>),
    /// A map to verdicts.
    VerdictMap,
}

/// A named set or map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    pub name: String,
    pub key: Vec<DataType>,
    pub kind: SetKind,
    /// Elements may be ranges.
    pub interval: bool,
    /// Rules add elements (`Expr::Update`).
    pub dynamic: bool,
    /// Life of an element; the set then needs `timeout`.
    pub timeout_ms: Option<u64>,
}

/// A constant set or map inside a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnonymousSet {
    pub key: Vec<DataType>,
    pub kind: SetKind,
    pub interval: bool,
    pub elements: Vec<Element>,
}

const NFTA_SET_TABLE: u16 = 1;
const NFTA_SET_NAME: u16 = 2;
const NFTA_SET_FLAGS: u16 = 3;
const NFTA_SET_KEY_TYPE: u16 = 4;
const NFTA_SET_KEY_LEN: u16 = 5;
const NFTA_SET_DATA_TYPE: u16 = 6;
const NFTA_SET_DATA_LEN: u16 = 7;
const NFTA_SET_DESC: u16 = 9;
const NFTA_SET_ID: u16 = 10;
const NFTA_SET_TIMEOUT: u16 = 11;
const NFTA_SET_USERDATA: u16 = 13;
const NFTA_SET_DESC_SIZE: u16 = 1;
const NFTA_SET_DESC_CONCAT: u16 = 2;
const NFTA_SET_FIELD_LEN: u16 = 1;
const NFTA_LIST_ELEM: u16 = 1;

const NFT_SET_ANONYMOUS: u32 = 0x1;
const NFT_SET_CONSTANT: u32 = 0x2;
const NFT_SET_INTERVAL: u32 = 0x4;
const NFT_SET_MAP: u32 = 0x8;
const NFT_SET_TIMEOUT: u32 = 0x10;
const NFT_SET_EVAL: u32 = 0x20;
const NFT_SET_CONCAT: u32 = 0x80;
const NFT_DATA_VERDICT: u32 = 0xffff_ff00;

/// Elements a rule-filled set may hold (nft's own default).
const DYNAMIC_ELEMENTS_MAX: u32 = 65_535;

/// Userdata that tells `nft` the byte order of an integer key: host.
const NFTNL_UDATA_SET_KEYBYTEORDER: u8 = 0;
const NFTNL_UDATA_SET_DATABYTEORDER: u8 = 1;
const BYTEORDER_HOST: u32 = 1;
const BYTEORDER_NETWORK: u32 = 2;

// === DataType ===

impl DataType {
    const fn number(self) -> u32 {
        match self {
            Self::Integer32 => 4,
            Self::Ipv4Address => 7,
            Self::Ipv6Address => 8,
            Self::InetProto => 12,
            Self::InetService => 13,
            Self::Mark => 19,
            Self::InterfaceName => 41,
        }
    }

    /// Bytes of a field.
    const fn bytes(self) -> u32 {
        match self {
            Self::InetProto => 1,
            Self::InetService => 2,
            Self::Integer32 | Self::Ipv4Address | Self::Mark => 4,
            Self::Ipv6Address | Self::InterfaceName => 16,
        }
    }

    const fn byteorder(self) -> u32 {
        match self {
            Self::Integer32 | Self::Mark | Self::InterfaceName => BYTEORDER_HOST,
            _ => BYTEORDER_NETWORK,
        }
    }
}

fn type_number(fields: &[DataType]) -> u32 {
    fields.iter().fold(0, |n, f| (n << 6) | f.number())
}

/// Bytes of a key: each field of a concatenation takes whole registers.
fn length(fields: &[DataType]) -> u32 {
    match fields {
        [one] => one.bytes(),
        many => many.iter().map(|f| (f.bytes() + 3) & !3).sum(),
    }
}

// === Set ===

impl Set {
    /// A set without options.
    pub fn new(name: impl Into<String>, key: Vec<DataType>, kind: SetKind) -> Self {
        Self {
            name: name.into(),
            key,
            kind,
            interval: false,
            dynamic: false,
            timeout_ms: None,
        }
    }
}

// === AnonymousSet ===

impl AnonymousSet {
    pub(super) fn placeholder(&self) -> &'static str {
        match self.kind {
            SetKind::Set => "__set%d",
            _ => "__map%d",
        }
    }
}

// === Batch: sets ===

impl Batch {
    /// Makes a set; nothing happens where it exists with the same shape.
    pub fn add_set(&mut self, set: &Set) {
        let id = self.next_set();
        let mut flags = 0;
        if set.interval {
            flags |= NFT_SET_INTERVAL;
        }
        if set.dynamic {
            flags |= NFT_SET_EVAL;
        }
        if set.timeout_ms.is_some() {
            flags |= NFT_SET_TIMEOUT;
        }
        let table = self.table.name.clone();
        let operation = format!("add set {}", set.name);
        self.message(NFT_MSG_NEWSET, netlink::NLM_F_CREATE, operation, |m| {
            m.attr_str(NFTA_SET_TABLE, &table);
            m.attr_str(NFTA_SET_NAME, &set.name);
            m.attr_u32_be(NFTA_SET_ID, id);
            shape(
                m,
                flags,
                &set.key,
                &set.kind,
                set.dynamic.then_some(DYNAMIC_ELEMENTS_MAX),
            );
            if let Some(timeout) = set.timeout_ms {
                m.attr_u64_be(NFTA_SET_TIMEOUT, timeout);
            }
        });
    }

    /// Removes a set or map that no rule uses any more.
    pub fn delete_set(&mut self, name: &str) {
        let table = self.table.name.clone();
        self.message(NFT_MSG_DELSET, 0, format!("delete set {name}"), |m| {
            m.attr_str(NFTA_SET_TABLE, &table);
            m.attr_str(NFTA_SET_NAME, name);
        });
    }

    /// Makes a rule's own set with its elements; gives the id by which the rule names it.
    pub(super) fn add_anonymous_set(&mut self, set: &AnonymousSet) -> u32 {
        let id = self.next_set();
        let mut flags = NFT_SET_ANONYMOUS | NFT_SET_CONSTANT;
        if set.interval {
            flags |= NFT_SET_INTERVAL;
        }
        let table = self.table.name.clone();
        let name = set.placeholder();
        let operation = format!("add anonymous set {id}");
        self.message(NFT_MSG_NEWSET, netlink::NLM_F_CREATE, operation, |m| {
            m.attr_str(NFTA_SET_TABLE, &table);
            m.attr_str(NFTA_SET_NAME, name);
            m.attr_u32_be(NFTA_SET_ID, id);
            shape(
                m,
                flags,
                &set.key,
                &set.kind,
                Some(set.elements.len() as u32),
            );
        });
        let concatenated = set.interval && set.key.len() > 1;
        self.elements(
            NFT_MSG_NEWSETELEM,
            name,
            Some(id),
            concatenated,
            &set.elements,
        );
        id
    }

    fn next_set(&mut self) -> u32 {
        self.sets += 1;
        self.sets
    }
}

/// Flags, types, lengths and description of a set.
fn shape(m: &mut Message, flags: u32, key: &[DataType], kind: &SetKind, size: Option<u32>) {
    let mut flags = flags;
    if *kind != SetKind::Set {
        flags |= NFT_SET_MAP;
    }
    let concat = flags & NFT_SET_INTERVAL != 0 && key.len() > 1;
    if concat {
        flags |= NFT_SET_CONCAT;
    }
    m.attr_u32_be(NFTA_SET_FLAGS, flags);
    m.attr_u32_be(NFTA_SET_KEY_TYPE, type_number(key));
    m.attr_u32_be(NFTA_SET_KEY_LEN, length(key));
    let mut data_order = None;
    match kind {
        SetKind::Set => {}
        SetKind::VerdictMap => m.attr_u32_be(NFTA_SET_DATA_TYPE, NFT_DATA_VERDICT),
        SetKind::Map(fields) => {
            m.attr_u32_be(NFTA_SET_DATA_TYPE, type_number(fields));
            m.attr_u32_be(NFTA_SET_DATA_LEN, length(fields));
            data_order = fields.first().map(|f| f.byteorder());
        }
    }
    m.nest(NFTA_SET_DESC, |m| {
        if let Some(size) = size {
            m.attr_u32_be(NFTA_SET_DESC_SIZE, size);
        }
        if concat {
            m.nest(NFTA_SET_DESC_CONCAT, |m| {
                for field in key {
                    m.nest(NFTA_LIST_ELEM, |m| {
                        m.attr_u32_be(NFTA_SET_FIELD_LEN, (field.bytes() + 3) & !3);
                    });
                }
            });
        }
    });
    let mut userdata = Vec::new();
    let orders = [
        (
            NFTNL_UDATA_SET_KEYBYTEORDER,
            key.first().map(|f| f.byteorder()),
        ),
        (NFTNL_UDATA_SET_DATABYTEORDER, data_order),
    ];
    for (kind, order) in orders {
        if let Some(order) = order {
            userdata.extend_from_slice(&[kind, 4]);
            userdata.extend_from_slice(&order.to_ne_bytes());
        }
    }
    m.attr(NFTA_SET_USERDATA, &userdata);
}
