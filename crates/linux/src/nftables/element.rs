//! Elements of sets and maps: key, value, and the messages that add and remove them.

use super::expr::Verdict;
use super::{Batch, NFT_MSG_DELSETELEM, NFT_MSG_NEWSETELEM};
use crate::netlink::{self, Message};

/// The key of an element: the bytes of its fields, each padded to 4.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(pub Vec<u8>);

/// The value of a map's element.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Data {
    Value(Vec<u8>),
    Verdict(Verdict),
}

/// One element. In an interval set `end` is the last key that belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    pub key: Key,
    pub end: Option<Key>,
    pub data: Option<Data>,
}

/// Bytes of elements in one message: an attribute's length is a u16.
const ELEMENTS_BYTES_MAX: usize = 48 << 10;

const NFTA_SET_ELEM_LIST_TABLE: u16 = 1;
const NFTA_SET_ELEM_LIST_SET: u16 = 2;
const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
const NFTA_SET_ELEM_LIST_SET_ID: u16 = 4;
const NFTA_LIST_ELEM: u16 = 1;
const NFTA_SET_ELEM_KEY: u16 = 1;
const NFTA_SET_ELEM_DATA: u16 = 2;
const NFTA_SET_ELEM_FLAGS: u16 = 3;
const NFTA_SET_ELEM_KEY_END: u16 = 10;
const NFT_SET_ELEM_INTERVAL_END: u32 = 1;
const NFTA_DATA_VALUE: u16 = 1;
const NFTA_DATA_VERDICT: u16 = 2;
const NFTA_VERDICT_CODE: u16 = 1;
const NFTA_VERDICT_CHAIN: u16 = 2;

// === Key ===

impl Key {
    /// A key of fields, each padded to a register's 4 bytes where there is more than one.
    pub fn of(fields: &[&[u8]]) -> Self {
        let mut bytes = Vec::new();
        for field in fields {
            bytes.extend_from_slice(field);
            if fields.len() > 1 {
                bytes.resize(netlink::message::align(bytes.len()), 0);
            }
        }
        Self(bytes)
    }

    /// The key after this one, `None` after the last.
    fn next(&self) -> Option<Self> {
        let mut bytes = self.0.clone();
        for byte in bytes.iter_mut().rev() {
            let (sum, over) = byte.overflowing_add(1);
            *byte = sum;
            if !over {
                return Some(Self(bytes));
            }
        }
        None
    }
}

// === Data ===

impl Data {
    pub(super) fn encode(&self, m: &mut Message) {
        match self {
            Self::Value(value) => m.attr(NFTA_DATA_VALUE, value),
            Self::Verdict(verdict) => m.nest(NFTA_DATA_VERDICT, |m| {
                let (code, chain) = match verdict {
                    Verdict::Drop => (0, None),
                    Verdict::Accept => (1, None),
                    Verdict::Jump(chain) => (-3i32, Some(chain)),
                    Verdict::Goto(chain) => (-4, Some(chain)),
                    Verdict::Return => (-5, None),
                };
                m.attr_u32_be(NFTA_VERDICT_CODE, code as u32);
                if let Some(chain) = chain {
                    m.attr_str(NFTA_VERDICT_CHAIN, chain);
                }
            }),
        }
    }
}

// === Element ===

impl Element {
    /// An element of a set.
    pub fn key(key: Key) -> Self {
        Self {
            key,
            end: None,
            data: None,
        }
    }

    /// An element of a map.
    pub fn pair(key: Key, data: Data) -> Self {
        Self {
            data: Some(data),
            ..Self::key(key)
        }
    }

    /// Everything from `from` to `to`, both included.
    pub fn range(from: Key, to: Key) -> Self {
        Self {
            end: Some(to),
            ..Self::key(from)
        }
    }

    fn encode(&self, m: &mut Message, concatenated: bool) {
        m.nest(NFTA_LIST_ELEM, |m| {
            m.nest(NFTA_SET_ELEM_KEY, |m| m.attr(NFTA_DATA_VALUE, &self.key.0));
            if let (Some(end), true) = (&self.end, concatenated) {
                m.nest(NFTA_SET_ELEM_KEY_END, |m| m.attr(NFTA_DATA_VALUE, &end.0));
            }
            if let Some(data) = &self.data {
                m.nest(NFTA_SET_ELEM_DATA, |m| data.encode(m));
            }
        });
        let Some(end) = (!concatenated).then_some(self.end.as_ref()).flatten() else {
            return;
        };
        // A plain interval set takes the first key that no longer belongs; an interval up to the
        // last possible key has none.
        if let Some(after) = end.next() {
            m.nest(NFTA_LIST_ELEM, |m| {
                m.attr_u32_be(NFTA_SET_ELEM_FLAGS, NFT_SET_ELEM_INTERVAL_END);
                m.nest(NFTA_SET_ELEM_KEY, |m| m.attr(NFTA_DATA_VALUE, &after.0));
            });
        }
    }

    fn bytes(&self) -> usize {
        // Attribute headers and padding of key, end, data and a chain name, generously.
        let data = match &self.data {
            Some(Data::Verdict(Verdict::Jump(c) | Verdict::Goto(c))) => c.len(),
            Some(Data::Value(v)) => v.len(),
            _ => 0,
        };
        96 + self.key.0.len() * 2 + data
    }
}

// === Batch: elements ===

impl Batch {
    /// Adds elements to a set or map of the table.
    pub fn add_elements<'a>(&mut self, set: &str, elements: impl IntoIterator<Item = &'a Element>) {
        self.elements(NFT_MSG_NEWSETELEM, set, None, false, elements);
    }

    /// Removes elements (their keys must exist).
    pub fn delete_elements<'a>(
        &mut self,
        set: &str,
        elements: impl IntoIterator<Item = &'a Element>,
    ) {
        self.elements(NFT_MSG_DELSETELEM, set, None, false, elements);
    }

    /// Removes all elements of a set or map.
    pub fn flush_set(&mut self, set: &str) {
        let table = self.table.name.clone();
        let operation = format!("flush set {set}");
        self.message(NFT_MSG_DELSETELEM, 0, operation, |m| {
            m.attr_str(NFTA_SET_ELEM_LIST_TABLE, &table);
            m.attr_str(NFTA_SET_ELEM_LIST_SET, set);
        });
    }

    pub(super) fn elements<'a>(
        &mut self,
        kind: u16,
        set: &str,
        id: Option<u32>,
        concatenated: bool,
        elements: impl IntoIterator<Item = &'a Element>,
    ) {
        let table = self.table.name.clone();
        let (flags, verb) = if kind == NFT_MSG_NEWSETELEM {
            (netlink::NLM_F_CREATE, "add")
        } else {
            (0, "delete")
        };
        let mut waiting = elements.into_iter().peekable();
        while waiting.peek().is_some() {
            let operation = format!("{verb} elements of set {set}");
            self.message(kind, flags, operation, |m| {
                m.attr_str(NFTA_SET_ELEM_LIST_TABLE, &table);
                m.attr_str(NFTA_SET_ELEM_LIST_SET, set);
                if let Some(id) = id {
                    m.attr_u32_be(NFTA_SET_ELEM_LIST_SET_ID, id);
                }
                m.nest(NFTA_SET_ELEM_LIST_ELEMENTS, |m| {
                    let from = m.len();
                    while let Some(element) =
                        waiting.next_if(|e| m.len() - from + e.bytes() <= ELEMENTS_BYTES_MAX)
                    {
                        element.encode(m, concatenated);
                    }
                });
            });
        }
    }
}
