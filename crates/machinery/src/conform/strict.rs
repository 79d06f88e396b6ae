//! JSON text to a value, with what strict decoding would say: unknown and repeated fields, in the
//! order in which the text has them.

use std::fmt;

use api::schema::Schema;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::{FINDINGS_MAX, syntax};

/// Parses a text. Without a schema only repeated fields are told. The last of repeated fields counts. The error is
/// Go's text.
pub fn parse(data: &[u8], schema: Option<&Schema>) -> Result<(Value, Vec<String>), String> {
    let first = match read(data, schema) {
        Ok(read) => return Ok(read),
        Err(e) => e.to_string(),
    };
    if let Some(text) = api::go::json::syntax_error(data) {
        return Err(text);
    }
    // Go takes half surrogates, and bytes that are no UTF-8.
    read(&syntax::repaired(data), schema).map_err(|_| first)
}

fn read(data: &[u8], schema: Option<&Schema>) -> Result<(Value, Vec<String>), serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_slice(data);
    let mut findings = Findings::default();
    let value = Seed {
        schema,
        found: &mut findings,
    }
    .deserialize(&mut reader)?;
    reader.end()?;
    Ok((value, findings.texts))
}

#[derive(Default)]
struct Findings {
    path: String,
    texts: Vec<String>,
    /// Inside something unknown nothing else is told.
    muted: usize,
}

impl Findings {
    fn add(&mut self, what: &str, name: &str) {
        if self.muted > 0 || self.texts.len() >= FINDINGS_MAX {
            return;
        }
        let dot = if self.path.is_empty() { "" } else { "." };
        let text = format!("{what} field \"{}{dot}{name}\"", self.path);
        if !self.texts.contains(&text) {
            self.texts.push(text);
        }
    }
}

struct Seed<'a> {
    schema: Option<&'a Schema>,
    found: &'a mut Findings,
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Value, D::Error> {
        d.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(Value::Bool(v))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(Value::Number(v.into()))
    }

    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(Value::Number(v.into()))
    }

    fn visit_f64<E>(self, v: f64) -> Result<Value, E> {
        Ok(Number::from_f64(v).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(Value::String(v.to_string()))
    }

    fn visit_string<E>(self, v: String) -> Result<Value, E> {
        Ok(Value::String(v))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let items = self.schema.and_then(Schema::items);
        let mut out = Vec::new();
        let len = self.found.path.len();
        loop {
            self.found.path.push_str(&format!("[{}]", out.len()));
            let next = seq.next_element_seed(Seed {
                schema: items,
                found: &mut *self.found,
            })?;
            self.found.path.truncate(len);
            match next {
                Some(v) => out.push(v),
                None => return Ok(Value::Array(out)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut out = Map::new();
        let declared = self.schema.filter(|s| s.message().is_some());
        while let Some(name) = map.next_key::<String>()? {
            let field = self.schema.and_then(|s| s.field(&name));
            let unknown = declared.is_some() && field.is_none();
            if unknown {
                self.found.add("unknown", &name);
            } else if out.contains_key(&name) {
                self.found.add("duplicate", &name);
            }
            let len = self.found.path.len();
            if len > 0 {
                self.found.path.push('.');
            }
            self.found.path.push_str(&name);
            self.found.muted += usize::from(unknown);
            let value = map.next_value_seed(Seed {
                schema: field,
                found: &mut *self.found,
            })?;
            self.found.muted -= usize::from(unknown);
            self.found.path.truncate(len);
            out.insert(name, value);
        }
        Ok(Value::Object(out))
    }
}
