//! Which entry of a map a schema does not know: what strict decoding refuses.

use super::head::{Input, Major};
use super::{decode, wellformed};
use crate::schema::{Schema, Type};

/// The first entry in the bytes of a decoded object that its schema has no field for, as its index within its
/// map; upstream does not tell within which.
pub fn unknown_field(data: &[u8], schema: &Schema) -> Option<u64> {
    let mut input = Input { data, at: 0 };
    item(&mut input, Some(schema)).err()
}

fn item(input: &mut Input<'_>, schema: Option<&Schema>) -> Result<(), u64> {
    let Some(schema) = schema.filter(|s| descends(s)) else {
        // Well-formed: it was decoded before.
        let _ = wellformed::item(input, 0);
        return Ok(());
    };
    let start = input.at;
    let Ok(head) = input.head() else {
        return Ok(());
    };
    let of_message = schema.message().is_some();
    match head.major {
        Major::Tag => item(input, Some(schema)),
        Major::Array | Major::Map => {
            let mut index = 0;
            while !done(input, head, index) {
                let below = match head.major {
                    Major::Array => schema.items(),
                    _ => {
                        let known = key(input).and_then(|name| schema.field(&name));
                        if of_message && known.is_none() {
                            return Err(index);
                        }
                        known
                    }
                };
                item(input, below)?;
                index += 1;
            }
            Ok(())
        }
        _ => {
            input.at = start;
            let _ = wellformed::item(input, 0);
            Ok(())
        }
    }
}

fn descends(schema: &Schema) -> bool {
    matches!(schema.kind, Type::Message(_) | Type::List(_) | Type::Map(_))
}

fn done(input: &mut Input<'_>, head: super::head::Head, index: u64) -> bool {
    match head.is_indefinite() {
        true => input.found_break().unwrap_or(true),
        false => index == head.argument,
    }
}

fn key(input: &mut Input<'_>) -> Option<String> {
    let (value, used) = decode::decode_first(&input.data[input.at..]).ok()?;
    input.at += used;
    value.as_str().map(str::to_string)
}
