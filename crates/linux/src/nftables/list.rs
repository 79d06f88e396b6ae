//! Reading back what is in the kernel: enough to verify and to clean up.

use super::{Family, NFNL_SUBSYS_NFTABLES, Table};
use crate::netlink::message::{Attributes, text};
use crate::netlink::{Error, Message, Socket};

const NFT_MSG_GETTABLE: u16 = 1;
const NFT_MSG_GETCHAIN: u16 = 4;
const NFT_MSG_GETRULE: u16 = 7;
const NFT_MSG_GETSET: u16 = 10;
const NFT_MSG_GETSETELEM: u16 = 13;
const NFGENMSG_BYTES: usize = 4;

/// A chain as the kernel lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainInfo {
    pub name: String,
    pub base: bool,
}

/// A rule as the kernel lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleInfo {
    pub chain: String,
    pub handle: u64,
}

/// All tables of this network namespace.
pub fn tables(socket: &mut Socket) -> Result<Vec<Table>, Error> {
    let all = socket.dump("list tables", &message(NFT_MSG_GETTABLE, 0))?;
    let parse = |o: &Vec<u8>| {
        let family = match o.first()? {
            1 => Family::Inet,
            2 => Family::Ipv4,
            7 => Family::Bridge,
            10 => Family::Ipv6,
            _ => return None,
        };
        let name = text(attributes(o)?.find(1)?);
        Some(Table { family, name })
    };
    Ok(all.iter().filter_map(parse).collect())
}

/// The chains of a table.
pub fn chains(socket: &mut Socket, table: &Table) -> Result<Vec<ChainInfo>, Error> {
    let all = socket.dump(
        "list chains",
        &message(NFT_MSG_GETCHAIN, table.family as u8),
    )?;
    let parse = |o: &Vec<u8>| {
        let a = attributes(o)?;
        (text(a.find(1)?) == table.name).then_some(ChainInfo {
            name: text(a.find(3)?),
            base: a.find(4).is_some(),
        })
    };
    Ok(all.iter().filter_map(parse).collect())
}

/// The rules of a table.
pub fn rules(socket: &mut Socket, table: &Table) -> Result<Vec<RuleInfo>, Error> {
    let mut m = message(NFT_MSG_GETRULE, table.family as u8);
    m.attr_str(1, &table.name);
    let all = socket.dump("list rules", &m)?;
    let parse = |o: &Vec<u8>| {
        let a = attributes(o)?;
        Some(RuleInfo {
            chain: text(a.find(2)?),
            handle: u64::from_be_bytes(a.find(3)?.try_into().ok()?),
        })
    };
    Ok(all.iter().filter_map(parse).collect())
}

/// Names of the sets and maps of a table.
pub fn sets(socket: &mut Socket, table: &Table) -> Result<Vec<String>, Error> {
    let mut m = message(NFT_MSG_GETSET, table.family as u8);
    m.attr_str(1, &table.name);
    let all = socket.dump("list sets", &m)?;
    let parse = |o: &Vec<u8>| Some(text(attributes(o)?.find(2)?));
    Ok(all.iter().filter_map(parse).collect())
}

/// Keys of the elements of a set or map.
pub fn element_keys(socket: &mut Socket, table: &Table, set: &str) -> Result<Vec<Vec<u8>>, Error> {
    let mut m = message(NFT_MSG_GETSETELEM, table.family as u8);
    m.attr_str(1, &table.name);
    m.attr_str(2, set);
    let all = socket.dump("list elements", &m)?;
    let mut keys = Vec::new();
    for object in &all {
        let Some(list) = attributes(object) else {
            continue;
        };
        for (_, element) in list.nested(3) {
            let key = Attributes::new(element).nested(1).find(1);
            keys.extend(key.map(<[u8]>::to_vec));
        }
    }
    Ok(keys)
}

fn message(kind: u16, family: u8) -> Message {
    Message::new((NFNL_SUBSYS_NFTABLES << 8) | kind, 0, &[family, 0, 0, 0])
}

fn attributes(object: &[u8]) -> Option<Attributes<'_>> {
    Some(Attributes::new(object.get(NFGENMSG_BYTES..)?))
}
