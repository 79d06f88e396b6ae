//! YAML as upstream turns it into JSON: keys too are read as YAML 1.1 reads scalars, so that a plain `n`
//! is the key `false`. Upstream: sigs.k8s.io/yaml.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// A document.
pub struct Yaml(pub Value);

/// A key as text; a key that JSON cannot have is left as it is.
enum Key {
    Text(String),
    Odd(Value),
}

/// Beyond this a number without a fraction keeps its exponent.
const WHOLE_MAX: f64 = 1e18;

/// A number that has no fraction, as the integer that Go's JSON makes of it.
pub fn whole(n: f64) -> Option<i64> {
    let fits = n.fract() == 0.0 && n.abs() < WHOLE_MAX;
    #[allow(clippy::cast_possible_truncation)] // It fits.
    fits.then_some(n as i64)
}

impl<'de> Deserialize<'de> for Yaml {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(Values).map(Self)
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Ok(match d.deserialize_any(Values)? {
            Value::String(text) => Self::Text(text),
            scalar @ (Value::Bool(_) | Value::Number(_)) => Self::Text(scalar.to_string()),
            odd => Self::Odd(odd),
        })
    }
}

/// Go's `%#v` of a value that its YAML package has read.
fn go_syntax(value: &Value) -> String {
    match value {
        Value::Null => "interface {}(nil)".into(),
        Value::Array(items) => {
            let all: Vec<String> = items.iter().map(go_syntax).collect();
            format!("[]interface {{}}{{{}}}", all.join(", "))
        }
        Value::Object(map) => {
            let one = |(k, v): (&String, &Value)| format!("{k:?}:{}", go_syntax(v));
            let all: Vec<String> = map.iter().map(one).collect();
            format!("map[interface {{}}]interface {{}}{{{}}}", all.join(", "))
        }
        other => other.to_string(),
    }
}

struct Values;

impl<'de> Visitor<'de> for Values {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML")
    }

    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(Value::Bool(v))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_f64<E: Error>(self, v: f64) -> Result<Value, E> {
        if let Some(n) = whole(v) {
            return Ok(n.into());
        }
        let number = Number::from_f64(v).map(Value::Number);
        let shown = match v {
            v if v.is_nan() => "NaN",
            v if v > 0.0 => "+Inf",
            _ => "-Inf",
        };
        number.ok_or_else(|| E::custom(format!("json: unsupported value: {shown}")))
    }

    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_string<E>(self, v: String) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut out = Vec::new();
        while let Some(Yaml(item)) = seq.next_element()? {
            out.push(item);
        }
        Ok(Value::Array(out))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut out = Map::new();
        while let Some(key) = map.next_key()? {
            let Yaml(value) = map.next_value()?;
            match key {
                Key::Text(key) => {
                    out.insert(key, value);
                }
                Key::Odd(Value::Null) => {
                    let value = go_syntax(&value);
                    return Err(A::Error::custom(format!(
                        "unsupported map key of type: %!s(<nil>), key: <nil>, value: {value}"
                    )));
                }
                Key::Odd(key) => {
                    let key = go_syntax(&key);
                    return Err(A::Error::custom(format!("yaml: invalid map key: {key}")));
                }
            }
        }
        Ok(Value::Object(out))
    }
}
