//! nf_tables without the `nft` program: one `Batch` is one atomic transaction on one table.
//! Facts: kernel include/uapi/linux/netfilter/nf_tables.h; `nft --debug=netlink` shows the same terms.

use rustix::io::Errno;

use crate::netlink::{self, Message, Socket, Subsystem};

mod element;
mod expr;
mod list;
mod set;

pub use element::{Data, Element, Key};
pub use expr::{
    CtKey, Expr, FibResult, LimitUnit, MetaKey, NatKind, Op, PayloadBase, RejectKind, Verdict,
    ct_state, ct_status, fib_flags, nat_flags, register,
};
pub use list::{ChainInfo, RuleInfo, chains, element_keys, rules, sets, tables};
pub use set::{AnonymousSet, DataType, Set, SetKind};

const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFNL_MSG_BATCH_BEGIN: u16 = 16;
const NFNL_MSG_BATCH_END: u16 = 17;

const NFT_MSG_NEWTABLE: u16 = 0;
const NFT_MSG_DELTABLE: u16 = 2;
const NFT_MSG_NEWCHAIN: u16 = 3;
const NFT_MSG_DELCHAIN: u16 = 5;
const NFT_MSG_NEWRULE: u16 = 6;
const NFT_MSG_DELRULE: u16 = 8;
const NFT_MSG_NEWSET: u16 = 9;
const NFT_MSG_DELSET: u16 = 11;
const NFT_MSG_NEWSETELEM: u16 = 12;
const NFT_MSG_DELSETELEM: u16 = 14;

const NFTA_TABLE_NAME: u16 = 1;
const NFTA_CHAIN_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_CHAIN_POLICY: u16 = 5;
const NFTA_CHAIN_TYPE: u16 = 7;
const NFTA_HOOK_HOOKNUM: u16 = 1;
const NFTA_HOOK_PRIORITY: u16 = 2;
const NFTA_RULE_TABLE: u16 = 1;
const NFTA_RULE_CHAIN: u16 = 2;
const NFTA_RULE_EXPRESSIONS: u16 = 4;
const NFTA_RULE_USERDATA: u16 = 7;
const NFTNL_UDATA_COMMENT: u8 = 0;

/// Longest name of a table, chain or set, in bytes (NFT_NAME_MAXLEN without the zero).
pub const NAME_BYTES_MAX: usize = 255;
/// Longest comment of a rule, in bytes.
pub const COMMENT_BYTES_MAX: usize = 128;

/// Which packets a table sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    Inet = 1,
    Ipv4 = 2,
    Bridge = 7,
    Ipv6 = 10,
}

/// The type of a base chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainType {
    Filter,
    Nat,
    Route,
}

/// Where in the stack a base chain is called (numbers of the ip, ip6, inet and bridge families).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    Prerouting = 0,
    Input = 1,
    Forward = 2,
    Output = 3,
    Postrouting = 4,
}

/// What a base chain does with packets that reach its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    Drop = 0,
    Accept = 1,
}

/// How a base chain is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Base {
    pub kind: ChainType,
    pub hook: Hook,
    /// Lower runs first: -100 is dstnat, 0 filter, 100 srcnat.
    pub priority: i32,
    pub policy: Policy,
}

/// A table's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    pub family: Family,
    pub name: String,
}

/// A rule: expressions in order, with an optional comment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    pub exprs: Vec<Expr>,
    pub comment: String,
}

/// A transaction under construction: the operations happen in order, all or none.
#[derive(Debug)]
pub struct Batch {
    table: Table,
    message: Message,
    /// One description per message, by sequence number.
    operations: Vec<String>,
    sets: u32,
}

/// A refused transaction: every failed operation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nftables transaction on table {table}: {}", join(failures))]
pub struct Error {
    pub table: String,
    pub failures: Vec<netlink::Error>,
}

fn join(failures: &[netlink::Error]) -> String {
    const SHOWN: usize = 5;
    let shown: Vec<_> = failures.iter().take(SHOWN).map(|f| f.to_string()).collect();
    let more = failures.len().saturating_sub(SHOWN);
    let tail = if more > 0 {
        format!("; and {more} more")
    } else {
        String::new()
    };
    shown.join("; ") + &tail
}

// === Table ===

impl Table {
    /// A table of a family.
    pub fn new(family: Family, name: impl Into<String>) -> Self {
        Self {
            family,
            name: name.into(),
        }
    }

    fn fixed(&self) -> [u8; 4] {
        [self.family as u8, 0, 0, 0]
    }
}

// === Rule ===

impl Rule {
    /// A rule without a comment.
    pub fn new(exprs: Vec<Expr>) -> Self {
        Self {
            exprs,
            comment: String::new(),
        }
    }

    /// The same rule with a comment.
    pub fn comment(mut self, comment: impl Into<String>) -> Self {
        self.comment = comment.into();
        self
    }
}

// === Batch ===

impl Batch {
    /// An empty transaction on a table (which need not exist yet).
    pub fn new(table: Table) -> Self {
        let mut batch = Self {
            table,
            message: Message::empty(),
            operations: Vec::new(),
            sets: 0,
        };
        batch.frame(NFNL_MSG_BATCH_BEGIN, "begin");
        batch
    }

    /// The table it is about.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Whether no operation was added.
    pub fn is_empty(&self) -> bool {
        self.operations.len() == 1
    }

    /// Makes the table; nothing happens where it exists.
    pub fn add_table(&mut self) {
        let name = self.table.name.clone();
        let create = netlink::NLM_F_CREATE;
        self.message(NFT_MSG_NEWTABLE, create, format!("add table {name}"), |m| {
            m.attr_str(NFTA_TABLE_NAME, &name);
        });
    }

    /// Removes the table with all it holds, whether or not it exists.
    pub fn destroy_table(&mut self) {
        // Add and delete instead of NFT_MSG_DESTROYTABLE, which only kernels since 6.3 know.
        self.add_table();
        let name = self.table.name.clone();
        self.message(NFT_MSG_DELTABLE, 0, format!("delete table {name}"), |m| {
            m.attr_str(NFTA_TABLE_NAME, &name);
        });
    }

    /// Makes a chain; nothing happens where it exists with the same base.
    pub fn add_chain(&mut self, chain: &str, base: Option<Base>) {
        let table = self.table.name.clone();
        let operation = format!("add chain {chain}");
        self.message(NFT_MSG_NEWCHAIN, netlink::NLM_F_CREATE, operation, |m| {
            m.attr_str(NFTA_CHAIN_TABLE, &table);
            m.attr_str(NFTA_CHAIN_NAME, chain);
            let Some(base) = base else { return };
            m.nest(NFTA_CHAIN_HOOK, |m| {
                m.attr_u32_be(NFTA_HOOK_HOOKNUM, base.hook as u32);
                m.attr_u32_be(NFTA_HOOK_PRIORITY, base.priority as u32);
            });
            m.attr_u32_be(NFTA_CHAIN_POLICY, base.policy as u32);
            let kind = match base.kind {
                ChainType::Filter => "filter",
                ChainType::Nat => "nat",
                ChainType::Route => "route",
            };
            m.attr_str(NFTA_CHAIN_TYPE, kind);
        });
    }

    /// Removes all rules of a chain.
    pub fn flush_chain(&mut self, chain: &str) {
        let table = self.table.name.clone();
        self.message(NFT_MSG_DELRULE, 0, format!("flush chain {chain}"), |m| {
            m.attr_str(NFTA_RULE_TABLE, &table);
            m.attr_str(NFTA_RULE_CHAIN, chain);
        });
    }

    /// Removes a chain, which must have no rules and no references left.
    pub fn delete_chain(&mut self, chain: &str) {
        let table = self.table.name.clone();
        self.message(NFT_MSG_DELCHAIN, 0, format!("delete chain {chain}"), |m| {
            m.attr_str(NFTA_CHAIN_TABLE, &table);
            m.attr_str(NFTA_CHAIN_NAME, chain);
        });
    }

    /// Appends a rule to a chain; anonymous sets it uses are made with it.
    pub fn add_rule(&mut self, chain: &str, rule: &Rule) {
        let mut ids = Vec::new();
        for expr in &rule.exprs {
            if let Expr::LookupAnonymous { set, .. } = expr {
                ids.push(self.add_anonymous_set(set));
            }
        }
        let table = self.table.name.clone();
        let flags = netlink::NLM_F_CREATE | netlink::NLM_F_APPEND;
        let operation = format!("add rule to chain {chain}");
        self.message(NFT_MSG_NEWRULE, flags, operation, |m| {
            m.attr_str(NFTA_RULE_TABLE, &table);
            m.attr_str(NFTA_RULE_CHAIN, chain);
            let mut ids = ids.into_iter();
            m.nest(NFTA_RULE_EXPRESSIONS, |m| {
                for expr in &rule.exprs {
                    expr.encode(m, &mut ids);
                }
            });
            if !rule.comment.is_empty() {
                m.attr(NFTA_RULE_USERDATA, &comment_userdata(&rule.comment));
            }
        });
    }

    /// Performs the transaction in the calling thread's network namespace.
    pub fn commit(self) -> Result<(), Error> {
        let table = self.table.name.clone();
        let fail = |f| Error {
            table: table.clone(),
            failures: vec![f],
        };
        let mut socket = Socket::open(Subsystem::Netfilter).map_err(fail)?;
        self.commit_on(&mut socket)
    }

    /// Performs the transaction on a socket of `Subsystem::Netfilter`.
    pub fn commit_on(mut self, socket: &mut Socket) -> Result<(), Error> {
        if self.is_empty() {
            return Ok(());
        }
        let last = self.operations.len() - 1;
        self.acknowledge_last();
        self.frame(NFNL_MSG_BATCH_END, "end");
        let Self {
            table,
            message,
            operations,
            ..
        } = self;
        let error = |failures| Error {
            table: table.name.clone(),
            failures,
        };
        let mut bytes = message;
        // Sequence numbers count from 0 within the batch: each batch uses a fresh range.
        let base = socket.next_sequence(operations.len() as u32);
        renumber(bytes.bytes_mut(), base);
        let acks = socket
            .exchange(bytes.bytes_mut())
            .map_err(|e| error(vec![netlink::Error::new("send transaction", e)]))?;
        let describe = |sequence: u32| {
            let at = sequence.wrapping_sub(base) as usize;
            operations
                .get(at)
                .cloned()
                .unwrap_or_else(|| "transaction".into())
        };
        let mut failures = Vec::new();
        for ack in &acks {
            if let Some(errno) = ack.errno {
                failures.push(netlink::Error {
                    operation: describe(ack.sequence),
                    errno,
                    text: ack.text.clone(),
                });
            }
        }
        if !failures.is_empty() {
            return Err(error(failures));
        }
        if acks.iter().any(|a| a.sequence == base + last as u32) {
            return Ok(());
        }
        let lost = netlink::Error::new("await acknowledgement", Errno::PROTO);
        Err(error(vec![lost]))
    }

    /// Appends one nf_tables message.
    fn message(
        &mut self,
        kind: u16,
        flags: u16,
        operation: String,
        inside: impl FnOnce(&mut Message),
    ) {
        let sequence = self.operations.len() as u32;
        let kind = (NFNL_SUBSYS_NFTABLES << 8) | kind;
        let flags = flags | netlink::NLM_F_REQUEST;
        let at = self
            .message
            .begin(kind, flags, sequence, &self.table.fixed());
        inside(&mut self.message);
        self.message.end(at);
        self.operations.push(operation);
    }

    fn frame(&mut self, kind: u16, operation: &str) {
        // family, version, and the subsystem as a big-endian resource id.
        let fixed = [0, 0, 0, NFNL_SUBSYS_NFTABLES as u8];
        let sequence = self.operations.len() as u32;
        let at = self
            .message
            .begin(kind, netlink::NLM_F_REQUEST, sequence, &fixed);
        self.message.end(at);
        self.operations.push(operation.into());
    }

    /// Asks for an acknowledgement of the last message: it arrives after the commit.
    fn acknowledge_last(&mut self) {
        let mut at = 0;
        let bytes = self.message.bytes_mut();
        let mut last = 0;
        while let Some(head) = bytes.get(at..at + 4) {
            last = at;
            at += netlink::message::align(netlink::message::u32_of(head) as usize).max(16);
        }
        let flags = u16::from_ne_bytes([bytes[last + 6], bytes[last + 7]]) | netlink::NLM_F_ACK;
        bytes[last + 6..last + 8].copy_from_slice(&flags.to_ne_bytes());
    }
}

/// Adds `base` to the sequence number of every message.
fn renumber(bytes: &mut [u8], base: u32) {
    let mut at = 0;
    while at + 16 <= bytes.len() {
        let length = netlink::message::u32_of(&bytes[at..at + 4]) as usize;
        let sequence = netlink::message::u32_of(&bytes[at + 8..at + 12]).wrapping_add(base);
        bytes[at + 8..at + 12].copy_from_slice(&sequence.to_ne_bytes());
        at += netlink::message::align(length).max(16);
    }
}

fn comment_userdata(comment: &str) -> Vec<u8> {
    let mut end = comment.len().min(COMMENT_BYTES_MAX - 1);
    while !comment.is_char_boundary(end) {
        end -= 1;
    }
    let mut bytes = vec![NFTNL_UDATA_COMMENT, end as u8 + 1];
    bytes.extend_from_slice(&comment.as_bytes()[..end]);
    bytes.push(0);
    bytes
}
