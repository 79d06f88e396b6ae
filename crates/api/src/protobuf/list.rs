//! Lists that are written item by item. The envelope and the list tell their lengths first, so that whoever writes one makes
//! the items twice: once to learn how long they are together. Upstream: the streaming encoder of collections.

use serde_json::Value;

use super::encode::{message_fields, put};
use super::wire::{Wire, put_bytes, put_tag, put_varint};
use super::{MAGIC, ProtobufError, split, type_meta};
use crate::schema::{self, Schema, Type};

/// A list of a built-in kind, apart from its items.
pub struct List {
    items: &'static Schema,
    number: u32,
    /// `apiVersion` and `kind`, as the envelope has them.
    meta: Vec<u8>,
    /// The list's own fields, which stand before its items.
    fields: Vec<u8>,
}

impl List {
    /// The most that one can hold, as protobuf's messages.
    const MOST: u64 = i32::MAX as u64;

    /// Of a list without items.
    pub fn new(list: &Value) -> Result<Self, ProtobufError> {
        let (api_version, kind) = type_meta(list);
        let (group, version) = split(api_version);
        let none = || ProtobufError(format!("{kind} in {api_version} has no protobuf form"));
        let message = schema::of_kind(group, version, kind).ok_or_else(none)?;
        let last = message.by_number().last();
        let last = last.filter(|f| f.name == "items").ok_or_else(none)?;
        let Type::List(items) = &last.schema.kind else {
            return Err(none());
        };
        let mut meta = Vec::with_capacity(64);
        put_bytes(&mut meta, 1, api_version.as_bytes());
        put_bytes(&mut meta, 2, kind.as_bytes());
        let mut fields = Vec::with_capacity(64);
        message_fields(message, list.as_object().ok_or_else(none)?, &mut fields)?;
        Ok(Self {
            items,
            number: last.number,
            meta,
            fields,
        })
    }

    /// Appends one item.
    pub fn item(&self, item: &Value, out: &mut Vec<u8>) -> Result<(), ProtobufError> {
        put(self.items, self.number, item, out)
            .map_err(|e| ProtobufError(format!("items: {}", e.0)))
    }

    /// What stands before the items, which take so many bytes.
    pub fn head(&self, items: u64) -> Result<Vec<u8>, ProtobufError> {
        let length = self.fields.len() as u64 + items;
        if length > Self::MOST {
            return Err(ProtobufError(format!(
                "a list of {length} bytes is too long"
            )));
        }
        let mut out = MAGIC.to_vec();
        put_bytes(&mut out, 1, &self.meta);
        put_tag(&mut out, 2, Wire::Bytes);
        put_varint(&mut out, length);
        out.extend_from_slice(&self.fields);
        Ok(out)
    }

    /// What stands behind them.
    pub fn tail() -> Vec<u8> {
        let mut out = Vec::new();
        put_bytes(&mut out, 3, b"");
        put_bytes(&mut out, 4, b"");
        out
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_list_is_the_same_item_by_item() {
        let pod = |n: usize| json!({"metadata": {"name": format!("p{n}"), "labels": {"a": "b"}}, "spec": {"containers": []}});
        for n in [0, 1, 300] {
            let items: Vec<Value> = (0..n).map(pod).collect();
            let mut list = json!({"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": "7"}});
            let parts = List::new(&list).expect("a list");
            let mut body = Vec::new();
            for item in &items {
                parts.item(item, &mut body).expect("an item");
            }
            let head = parts.head(body.len() as u64).expect("a head");
            list["items"] = items.into();
            let whole = super::super::encode(&list).expect("a list");
            assert_eq!([head, body, List::tail()].concat(), whole);
        }
        let table = json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1"});
        assert!(List::new(&table).is_err());
        let parts = json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1"});
        let parts = List::new(&parts).expect("a list");
        assert!(parts.head(List::MOST + 1).is_err());
    }
}
