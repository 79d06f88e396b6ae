//! The short way for documents that are JSON, as clients send most of what they apply. Only what both grammars read
//! alike goes it; everything else is read as YAML, which has the words for what is wrong.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// go-yaml looks so far for the colon behind a key.
const KEY_BYTES_MAX: usize = 1_000;

/// A document that JSON and YAML read alike; `None` where that is not certain.
pub fn alike(bytes: &[u8]) -> Option<Value> {
    if bytes.first() != Some(&b'{') || !is_plain(bytes) {
        return None;
    }
    serde_json::from_slice::<Alike>(bytes).ok().map(|a| a.0)
}

/// Whether there are no characters, escapes and line breaks that the two treat differently.
fn is_plain(bytes: &[u8]) -> bool {
    let known = |b: &u8| matches!(b, b'\n' | b' '..=b'~');
    let odd = |pair: &[u8]| matches!(pair, [b'\\', b'u' | b'/'] | [b' ' | b'\n', b':']);
    bytes.iter().all(known) && !bytes.windows(2).any(odd)
}

/// A value of which both have the same idea: no fractions, no numbers beyond 64 bits with a sign, no key twice.
struct Alike(Value);

impl<'de> Deserialize<'de> for Alike {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(Reader).map(Self)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("what JSON and YAML read alike")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, v: bool) -> Result<Value, E> {
        Ok(Value::Bool(v))
    }

    fn visit_i64<E: Error>(self, v: i64) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_u64<E: Error>(self, v: u64) -> Result<Value, E> {
        let v = i64::try_from(v).map_err(E::custom)?;
        Ok(v.into())
    }

    fn visit_str<E: Error>(self, v: &str) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_string<E: Error>(self, v: String) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut out = Vec::new();
        while let Some(Alike(item)) = items.next_element()? {
            out.push(item);
        }
        Ok(Value::Array(out))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut out = Map::new();
        while let Some((key, Alike(value))) = fields.next_entry::<String, Alike>()? {
            // `<<` merges, and of a key that is there twice YAML's reader tells.
            if key.len() > KEY_BYTES_MAX || key == "<<" || out.insert(key, value).is_some() {
                return Err(A::Error::custom("not alike"));
            }
        }
        Ok(Value::Object(out))
    }
}

#[cfg(test)]
mod tests {
    use super::super::slow;
    use super::*;

    /// Texts of JSON and of what is nearly that.
    fn texts() -> Vec<String> {
        const PARTS: &[&str] = &[
            "{}",
            "[]",
            "null",
            "true",
            "0",
            "-1",
            "17",
            "-0",
            "1.5",
            "1e3",
            "9223372036854775807",
            "9223372036854775808",
            "\"\"",
            "\"a\"",
            "\"a: b # c\"",
            "\"\\n\\t\\\"\\\\\"",
            "\"\\u00e9\"",
            "\"\\/\"",
            "\"é\"",
            "\"<<\"",
            "\"yes\"",
            "\" x \"",
            "\"%a\"",
            "\"--- \"",
            "\"a :b\"",
            "[1, 2]",
            "[ \"x\" , {\"y\": [null,{}]} ]",
            "{\"n\": {\"m\":\n  []}}",
            "~",
            "'a'",
            "a",
            "010",
            "\"a\tb\"",
            "[1,]",
        ];
        let mut out = Vec::new();
        for (i, a) in PARTS.iter().enumerate() {
            for b in PARTS {
                let key = ["\"k\"", "\"a b\"", "\"<<\"", "\"1\"", "\"k\" ", "k"][i % 6];
                out.push(format!("{{\"k\": {a}, {key}:{b}}}\n"));
                out.push(format!(
                    "{{\n  \"l\": [{a},\n{b}],\n\n  \"m\":{{{key}: {a}}}}}"
                ));
            }
        }
        let long = "k".repeat(1_100);
        out.push(format!("{{\"{long}\": 1}}"));
        out.push("{\"a\": 1} {\"b\": 2}".into());
        out.push(format!(
            "{{\"a\": {}1{}}}",
            "[".repeat(126),
            "]".repeat(126)
        ));
        out.push(format!(
            "{{\"a\": {}1{}}}",
            "[".repeat(140),
            "]".repeat(140)
        ));
        out
    }

    #[test]
    fn the_short_way_leads_where_the_long_one_does() {
        let (mut short, texts) = (0, texts());
        for text in &texts {
            if let Some(value) = alike(text.as_bytes()) {
                short += 1;
                assert_eq!(slow(text.as_bytes()), Ok((value, Vec::new())), "{text}");
            }
        }
        assert!(short > texts.len() / 8, "{short} of {}", texts.len());
    }

    #[test]
    fn what_is_read_differently_does_not_go_it() {
        for text in [
            "{\"a\": 1, \"a\": 1}",
            "{\"<<\": {\"a\": 1}}",
            "{\"a\": 1.0}",
            "{\"a\" : 1}",
            "{\"a\"\n: 1}",
            "{\"a\": \"\\ud83d\\ude00\"}",
            "{\"a\":\t1}",
            "[1]",
            "a: 1",
            "{\"a\": 18446744073709551615}",
        ] {
            assert_eq!(alike(text.as_bytes()), None, "{text}");
        }
    }
}
