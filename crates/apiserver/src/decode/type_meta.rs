//! Kind and version of a body as upstream reads them first: by fields of any case, each as often as it is there.
//! Upstream: apimachinery/pkg/runtime/serializer/json/meta.go.

use std::fmt;

use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use super::go_kind;

/// What a body says that it is.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct TypeMeta {
    pub api_version: String,
    pub kind: String,
}

/// Kind and version of an object, or why they cannot be read. `text`: the JSON it was read from and what was found in it;
/// without, its fields stand in order.
pub fn type_meta(value: &Value, text: Option<(&[u8], &[String])>) -> Result<TypeMeta, String> {
    let map = value.as_object().into_iter().flatten();
    let known = map.filter(|(name, _)| field(name).is_some());
    let mut all: Vec<(String, Value)> = known.map(|(k, v)| (k.clone(), v.clone())).collect();
    if let Some((text, findings)) = text {
        let twice = |f: &String| {
            let name = f.strip_prefix("duplicate field \"");
            name.is_some_and(|n| field(n.trim_end_matches('"')).is_some())
        };
        let exact = |(name, _): &(String, Value)| field(name) == Some(name);
        if !all.iter().all(exact) || findings.iter().any(twice) {
            // Their order counts, and repeated ones.
            all = listed(text).unwrap_or(all);
        }
    }
    let mut out = TypeMeta::default();
    let mut wrong = None;
    for (name, v) in all {
        let name = field(&name).unwrap_or_default();
        match v {
            Value::Null => {}
            Value::String(text) if name == "kind" => out.kind = text,
            Value::String(text) => out.api_version = text,
            other => {
                wrong.get_or_insert_with(|| format!(
                    "couldn't get version/kind; json parse error: json: cannot unmarshal {} into Go struct field .{name} of type string",
                    go_kind(&other)
                ));
            }
        }
    }
    match wrong {
        Some(why) => Err(why),
        None if out.api_version.matches('/').count() > 1 => Err(format!(
            "unexpected GroupVersion string: {}",
            out.api_version
        )),
        None => Ok(out),
    }
}

/// The field that a name stands for.
fn field(name: &str) -> Option<&'static str> {
    let all = ["apiVersion", "kind"];
    all.into_iter().find(|f| f.eq_ignore_ascii_case(name))
}

/// The fields of a text in its order.
fn listed(text: &[u8]) -> Option<Vec<(String, Value)>> {
    struct Fields;
    impl<'de> Visitor<'de> for Fields {
        type Value = Vec<(String, Value)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut out = Vec::new();
            while let Some(name) = map.next_key::<String>()? {
                match field(&name) {
                    Some(_) => out.push((name, map.next_value()?)),
                    None => drop(map.next_value::<IgnoredAny>()?),
                }
            }
            Ok(out)
        }
    }
    let mut reader = serde_json::Deserializer::from_slice(text);
    reader.deserialize_map(Fields).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kind_and_version_are_read_as_go_reads_them() {
        const WRONG: &str = "couldn't get version/kind; json parse error: json: cannot unmarshal";
        for (text, expected) in [
            (r#"{"apiVersion":"a/b","kind":"C"}"#, Ok(("a/b", "C"))),
            (r#"{"kind":null}"#, Ok(("", ""))),
            (r#"{"Kind":"C","kind":"D"}"#, Ok(("", "D"))),
            (r#"{"kind":"D","KIND":"C","kind":null}"#, Ok(("", "C"))),
            (
                r#"{"APIVERSION":"a/b/c"}"#,
                Err("unexpected GroupVersion string: a/b/c".to_string()),
            ),
            (
                r#"{"kind":5,"apiVersion":[],"kind":"C"}"#,
                Err(format!(
                    "{WRONG} number into Go struct field .kind of type string"
                )),
            ),
            (
                r#"{"Kind":{}}"#,
                Err(format!(
                    "{WRONG} object into Go struct field .kind of type string"
                )),
            ),
        ] {
            let (value, found) = machinery::conform::parse(text.as_bytes(), None).expect(text);
            let read = type_meta(&value, Some((text.as_bytes(), &found)));
            let expected = expected.map(|(v, k): (&str, &str)| TypeMeta {
                api_version: v.into(),
                kind: k.into(),
            });
            assert_eq!(read, expected, "{text}");
        }
    }
}
