//! Objects against the schema table: types are checked, unknown fields dropped and told, values put
//! into upstream's canonical form. What Go's decoders do. Upstream: sigs.k8s.io/json; api-semantics §3.5.

mod strict;
mod syntax;
mod time;

use api::quantity::Quantity;
use api::schema::{Field, Schema, Type};
use base64::Engine;
use serde_json::{Map, Value, json};

pub use strict::parse;
pub(crate) use syntax::repaired;

/// Most findings of one body, as upstream's.
const FINDINGS_MAX: usize = 100;

/// What was found on the way.
#[derive(Default)]
struct Walk {
    /// Path with indexes, for unknown fields.
    path: String,
    /// Names alone, for type errors.
    names: Vec<&'static str>,
    /// The struct whose field is being read.
    holder: &'static str,
    unknown: Vec<String>,
}

/// Makes a value conform to a schema. Gives `unknown field "..."` texts in order of their paths, or
/// the error that Go's decoder would give.
pub fn conform(schema: &Schema, value: &mut Value) -> Result<Vec<String>, String> {
    conform_at(schema, value, "")
}

/// The same for a value that stands at `path` of its object.
pub fn conform_at(schema: &Schema, value: &mut Value, path: &str) -> Result<Vec<String>, String> {
    if value.is_null() {
        // Go leaves everything as it is.
        return Ok(Vec::new());
    }
    let mut w = Walk {
        path: path.to_string(),
        ..Walk::default()
    };
    w.value(schema, value)?;
    Ok(w.unknown)
}

/// Go's name of a type.
fn go_type(s: &Schema) -> String {
    match &s.kind {
        Type::String | Type::Duration => "string".into(),
        Type::Bool => "bool".into(),
        Type::Int32 => "int32".into(),
        Type::Int64 => "int64".into(),
        Type::Double => "float64".into(),
        Type::Bytes => "[]uint8".into(),
        Type::List(items) => format!("[]{}", go_type(items)),
        Type::Map(values) => format!("map[string]{}", go_type(values)),
        Type::Message(_) => {
            let name = s.message().map_or("", |m| m.name);
            let mut words = name.rsplit('.');
            let short = words.next().unwrap_or("");
            format!("{}.{short}", words.next().unwrap_or(""))
        }
        _ => "interface {}".into(),
    }
}

fn described(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(_) => "bool".into(),
        Value::Number(_) => "number".into(),
        Value::String(_) => "string".into(),
        Value::Array(_) => "array".into(),
        Value::Object(_) => "object".into(),
    }
}

/// Whether Go's `omitempty` leaves a field out.
fn is_left_out(f: &Field, v: &Value) -> bool {
    // An empty list of managed fields is an order to forget them.
    if f.pointer || f.always || f.name == "managedFields" {
        return false;
    }
    match (&f.schema.kind, v) {
        (Type::String | Type::Bytes, Value::String(s)) => s.is_empty(),
        (Type::Bool, Value::Bool(b)) => !b,
        (Type::Int32 | Type::Int64 | Type::Double, Value::Number(n)) => n.as_f64() == Some(0.0),
        (Type::List(_), Value::Array(list)) => list.is_empty(),
        (Type::Map(_), Value::Object(map)) => map.is_empty(),
        _ => false,
    }
}

impl Walk {
    fn mismatch(&self, s: &Schema, what: &str) -> String {
        let to = go_type(s);
        if self.names.is_empty() {
            return format!("json: cannot unmarshal {what} into Go value of type {to}");
        }
        format!(
            "json: cannot unmarshal {what} into Go struct field {}.{} of type {to}",
            self.holder,
            self.names.join(".")
        )
    }

    fn value(&mut self, s: &Schema, v: &mut Value) -> Result<(), String> {
        match (&s.kind, &mut *v) {
            (Type::Message(_), Value::Object(map)) => self.message(s, map),
            (Type::Map(values), Value::Object(map)) => self.map(values, map),
            (Type::List(items), Value::Array(list)) => self.list(items, list),
            (Type::String, Value::String(_))
            | (Type::Bool, Value::Bool(_))
            | (Type::Double, Value::Number(_))
            | (Type::Duration, Value::String(_)) => Ok(()),
            (Type::Int32, Value::Number(n)) => {
                let fits = n.as_i64().is_some_and(|n| i32::try_from(n).is_ok());
                let text = n.to_string();
                self.integer(s, v, fits, &text)
            }
            (Type::Int64, Value::Number(n)) => {
                let (fits, text) = (n.as_i64().is_some(), n.to_string());
                self.integer(s, v, fits, &text)
            }
            (Type::Bytes, Value::String(text)) => bytes(text),
            (Type::Quantity, _) => quantity(v),
            (Type::IntOrString, Value::String(_)) => Ok(()),
            (Type::IntOrString, Value::Number(n)) => {
                let fits = n.as_i64().is_some_and(|n| i32::try_from(n).is_ok());
                let text = n.to_string();
                self.integer(s, v, fits, &text)
            }
            (Type::Time | Type::MicroTime, _) => canonical_time(v, s.kind == Type::MicroTime),
            (Type::Raw | Type::FieldsV1 | Type::Json | Type::Any, _) => Ok(()),
            (Type::SchemaOrArray | Type::SchemaOrBool | Type::SchemaOrStrings, _) => Ok(()),
            (_, other) => Err(self.mismatch(s, &described(other))),
        }
    }

    /// Whole floats are integers, as Go's decoder of Kubernetes takes them.
    fn integer(&self, s: &Schema, v: &mut Value, fits: bool, text: &str) -> Result<(), String> {
        if fits {
            return Ok(());
        }
        if let Some(n) = v.as_f64()
            && n.fract() == 0.0
            && n.abs() < 2f64.powi(31)
            && text.contains('.')
        {
            *v = json!(n as i64);
            return Ok(());
        }
        Err(self.mismatch(s, &format!("number {text}")))
    }

    fn message(&mut self, s: &Schema, map: &mut Map<String, Value>) -> Result<(), String> {
        let Some(m) = s.message() else { return Ok(()) };
        let short = m.name.rsplit('.').next().unwrap_or("");
        let holder = std::mem::replace(&mut self.holder, short);
        let mut gone = Vec::new();
        for (name, v) in map.iter_mut() {
            let Some(field) = m.field(name) else {
                if !(m.is_kind() && ["apiVersion", "kind"].contains(&name.as_str())) {
                    self.found(name);
                    gone.push(name.clone());
                }
                continue;
            };
            if v.is_null() {
                gone.push(name.clone());
                continue;
            }
            let len = self.path.len();
            if len > 0 {
                self.path.push('.');
            }
            self.path.push_str(name);
            self.names.push(field.name);
            self.value(&field.schema, v)?;
            self.names.pop();
            self.path.truncate(len);
            self.holder = short;
            if is_left_out(field, v) {
                gone.push(name.clone());
            }
        }
        for name in gone {
            map.remove(&name);
        }
        self.holder = holder;
        Ok(())
    }

    fn found(&mut self, name: &str) {
        if self.unknown.len() < FINDINGS_MAX {
            let dot = if self.path.is_empty() { "" } else { "." };
            let text = format!("unknown field \"{}{dot}{name}\"", self.path);
            if !self.unknown.contains(&text) {
                self.unknown.push(text);
            }
        }
    }

    fn map(&mut self, values: &Schema, map: &mut Map<String, Value>) -> Result<(), String> {
        for (key, v) in map.iter_mut() {
            if v.is_null() {
                *v = zero(values);
            }
            let len = self.path.len();
            self.path.push('.');
            self.path.push_str(key);
            self.value(values, v)?;
            self.path.truncate(len);
        }
        Ok(())
    }

    fn list(&mut self, items: &Schema, list: &mut [Value]) -> Result<(), String> {
        for (i, v) in list.iter_mut().enumerate() {
            if v.is_null() {
                *v = zero(items);
            }
            let len = self.path.len();
            self.path.push_str(&format!("[{i}]"));
            self.value(items, v)?;
            self.path.truncate(len);
        }
        Ok(())
    }
}

/// What a null in a list or map decodes to.
fn zero(s: &Schema) -> Value {
    match &s.kind {
        Type::String | Type::Bytes => json!(""),
        Type::Bool => json!(false),
        Type::Int32 | Type::Int64 | Type::Double => json!(0),
        Type::Quantity => json!("0"),
        Type::List(_) => json!([]),
        Type::Map(_) | Type::Message(_) => json!({}),
        _ => Value::Null,
    }
}

fn bytes(text: &str) -> Result<(), String> {
    match base64::prelude::BASE64_STANDARD.decode(text) {
        Ok(_) => Ok(()),
        Err(base64::DecodeError::InvalidByte(at, _)) => {
            Err(format!("illegal base64 data at input byte {at}"))
        }
        Err(base64::DecodeError::InvalidLastSymbol(at, _)) => {
            Err(format!("illegal base64 data at input byte {at}"))
        }
        Err(_) => Err(format!(
            "illegal base64 data at input byte {}",
            text.len().saturating_sub(text.len() % 4)
        )),
    }
}

fn quantity(v: &mut Value) -> Result<(), String> {
    const TEXT: &str = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
    let text = match &*v {
        Value::String(s) => s.trim().to_string(),
        Value::Number(n) => n.to_string(),
        _ => return Err(TEXT.into()),
    };
    let q = Quantity::parse(&text).map_err(|e| e.to_string())?;
    *v = json!(q.to_string());
    Ok(())
}

fn canonical_time(v: &mut Value, micro: bool) -> Result<(), String> {
    let Some(text) = v.as_str() else {
        return Err(format!(
            "json: cannot unmarshal {} into Go value of type string",
            described(v)
        ));
    };
    let layout = if micro { time::MICRO } else { time::RFC3339 };
    let t = time::parse(layout, text)?;
    let whole = jiff::Timestamp::from_second(t.as_second()).unwrap_or(t);
    *v = if micro {
        let micros = t.subsec_nanosecond() / 1_000;
        json!(format!(
            "{}.{micros:06}Z",
            whole.to_string().trim_end_matches('Z')
        ))
    } else {
        json!(whole.to_string())
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::schema::lookup;

    fn pod(mut v: Value) -> Result<(Value, Vec<String>), String> {
        let schema = lookup("", "v1", "Pod").expect("pods are in the table");
        let unknown = conform(schema, &mut v)?;
        Ok((v, unknown))
    }

    #[test]
    fn unknown_fields_go_and_values_become_canonical() {
        let (v, unknown) = pod(json!({"apiVersion": "v1", "kind": "Pod", "x": 1,
            "metadata": {"name": "p", "labels": {}, "creationTimestamp": null},
            "spec": {"hostNetwork": false, "terminationGracePeriodSeconds": 0, "containers": [
                {"name": "c", "foo": 1, "image": "", "resources": {"limits": {"cpu": 0.5, "memory": "1024Mi"}}}]}}))
        .unwrap();
        assert_eq!(
            unknown,
            [
                "unknown field \"spec.containers[0].foo\"",
                "unknown field \"x\""
            ]
        );
        assert_eq!(
            v,
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
            "spec": {"terminationGracePeriodSeconds": 0, "containers": [
                {"name": "c", "resources": {"limits": {"cpu": "500m", "memory": "1Gi"}}}]}})
        );
    }

    #[test]
    fn wrong_types_are_told_as_go_tells_them() {
        for (v, text) in [
            (
                json!({"spec": {"containers": "x"}}),
                "json: cannot unmarshal string into Go struct field PodSpec.spec.containers of type []v1.Container",
            ),
            (
                json!({"spec": {"containers": [{"ports": [{"containerPort": "80"}]}]}}),
                "json: cannot unmarshal string into Go struct field ContainerPort.spec.containers.ports.containerPort of type int32",
            ),
            (
                json!({"metadata": {"labels": {"a": 1}}}),
                "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
            ),
            (
                json!({"spec": {"priority": 99_999_999_999i64}}),
                "json: cannot unmarshal number 99999999999 into Go struct field PodSpec.spec.priority of type int32",
            ),
            (
                json!({"spec": {"containers": [{"resources": {"limits": {"cpu": "x"}}}]}}),
                "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
            ),
        ] {
            assert_eq!(pod(v).unwrap_err(), text);
        }
    }

    #[test]
    fn strict_findings_come_in_the_order_of_the_text() {
        let schema = lookup("apps", "v1", "Deployment").expect("deployments are in the table");
        let text = br#"{"spec": {"unknownField": "foo", "replicas": 2, "replicas": 3,
            "template": {"spec": {"containers": [{"name": "a", "name": "b", "x": {"y": 1}}]}}}}"#;
        let (v, found) = parse(text, Some(schema)).unwrap();
        assert_eq!(v["spec"]["replicas"], 3);
        assert_eq!(
            found,
            [
                "unknown field \"spec.unknownField\"",
                "duplicate field \"spec.replicas\"",
                "duplicate field \"spec.template.spec.containers[0].name\"",
                "unknown field \"spec.template.spec.containers[0].x\"",
            ]
        );
        assert!(parse(b"{\"a\":1,}", None).is_err());
        assert!(parse("[".repeat(100_000).as_bytes(), None).is_err());
    }
}
