//! Patched objects as refusals show them: upstream's library puts texts together, so numbers and strings of a patch stand
//! there as they were sent. Upstream: gopkg.in/evanphx/json-patch.v4.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::json;
use crate::causes::{go_json, json_string, without_html};
use crate::conform;

/// Begins a string that holds a text of JSON.
const RAW: char = '\0';

/// An object with a JSON patch applied, as text; nothing where it does not apply.
pub fn json_patch_shown(before: &Value, patch: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(patch);
    let ops = read(&text)?;
    operated(before, ops.as_array()?, &text).map(|v| written(&v))
}

/// What a merge patch makes of an object, as text; nothing where it does not apply.
pub fn merge_patch_shown(before: &Value, patch: &[u8]) -> Option<String> {
    match read(&String::from_utf8_lossy(patch))? {
        Value::Object(patch) => {
            let mut after = before.clone();
            json::merge(after.as_object_mut()?, patch);
            Some(written(&after))
        }
        // A list takes the object's place.
        mut list @ Value::Array(_) => {
            json::without_nulls(&mut list);
            Some(written(&list))
        }
        _ => None,
    }
}

/// A text, or what Go makes of one with half surrogates in its keys.
fn read(text: &str) -> Option<Value> {
    tagged(text).or_else(|| {
        let repaired = String::from_utf8(conform::repaired(text.as_bytes())).ok()?;
        tagged(&repaired)
    })
}

/// A value with its scalars as they are written. Of repeated fields the last counts.
fn tagged(text: &str) -> Option<Value> {
    let text = text.trim();
    Some(match text.as_bytes().first()? {
        b'{' => {
            let fields: BTreeMap<String, Box<RawValue>> = serde_json::from_str(text).ok()?;
            let all = fields.into_iter().map(|(k, v)| Some((k, tagged(v.get())?)));
            Value::Object(all.collect::<Option<Map<_, _>>>()?)
        }
        b'[' => {
            let items: Vec<Box<RawValue>> = serde_json::from_str(text).ok()?;
            Value::Array(
                items
                    .iter()
                    .map(|v| tagged(v.get()))
                    .collect::<Option<_>>()?,
            )
        }
        b'n' => Value::Null,
        _ => Value::String(format!("{RAW}{text}")),
    })
}

/// The object that operations make. Values that no later operation looks into stand as a whole as they were sent.
fn operated(before: &Value, tagged: &[Value], text: &str) -> Option<Value> {
    let whole: Vec<BTreeMap<String, Box<RawValue>>> =
        serde_json::from_str(text).unwrap_or_default();
    let whole = whole.into_iter().map(|op| {
        let all = op.into_iter().map(|(k, v)| match k.as_str() {
            "value" if v.get() != "null" => (k, Value::String(format!("{RAW}{}", v.get()))),
            _ => (k, serde_json::from_str(v.get()).unwrap_or_default()),
        });
        Value::Object(all.collect())
    });
    let whole: Vec<Value> = whole.filter(|op| op["op"] != "test").collect();
    let in_parts = tagged.iter().map(|op| {
        let mut op = op.clone();
        for name in ["op", "path", "from"] {
            let raw = op[name].as_str().and_then(|t| t.strip_prefix(RAW));
            let Some(plain) = raw.and_then(|t| serde_json::from_str(t).ok()) else {
                continue;
            };
            op[name] = plain;
        }
        op
    });
    let in_parts: Vec<Value> = in_parts.filter(|op| op["op"] != "test").collect();
    // What went well once goes well without its tests.
    let tries = [whole, in_parts];
    let mut tries = tries.iter().filter(|ops| !ops.is_empty());
    tries.find_map(|ops| json::apply_operations(before, ops).ok())
}

fn written(v: &Value) -> String {
    match v {
        Value::Array(items) => {
            let all: Vec<String> = items.iter().map(written).collect();
            format!("[{}]", all.join(","))
        }
        Value::Object(map) => {
            let one = |(k, v): (&String, &Value)| format!("{}:{}", json_string(k), written(v));
            let all: Vec<String> = map.iter().map(one).collect();
            format!("{{{}}}", all.join(","))
        }
        Value::String(text) => match text.strip_prefix(RAW) {
            Some(raw) => without_html(compact(raw)),
            None => json_string(text),
        },
        other => go_json(other),
    }
}

/// A text of JSON without blanks between its parts.
fn compact(text: &str) -> String {
    let (mut quoted, mut escaped) = (false, false);
    let kept = |c: &char| {
        let keep = quoted || !matches!(c, ' ' | '\t' | '\r' | '\n');
        match c {
            '"' if !escaped => quoted = !quoted,
            _ => {}
        }
        escaped = quoted && *c == '\\' && !escaped;
        keep
    };
    text.chars().filter(kept).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_sent_stands_as_it_was_sent() {
        let before = json!({"a": {"b": 1.0}, "c": "<"});
        for (patch, expected) in [
            (
                r#"{"a": {"z": 1.5e3, "k": "\u00e9\ud800"}, "n": [ 1.0, {"y": null, "x": 1E2} ]}"#,
                r#"{"a":{"b":1,"k":"\u00e9\ud800","z":1.5e3},"c":"\u003c","n":[1.0,{"x":1E2}]}"#,
            ),
            (r#" [1.0, {"a": null}] "#, "[1.0,{}]"),
            (
                r#"{"\ud800":1}"#,
                "{\"a\":{\"b\":1},\"c\":\"\\u003c\",\"\u{fffd}\":1}",
            ),
        ] {
            let shown = merge_patch_shown(&before, patch.as_bytes());
            assert_eq!(shown.as_deref(), Some(expected), "{patch}");
        }
        for (patch, expected) in [
            (
                r#"[{"op":"add","path":"/a","value":{ "z": 1.0, "b": "a \" <" }}]"#,
                r#"{"a":{"z":1.0,"b":"a \" \u003c"},"c":"\u003c"}"#,
            ),
            (
                r#"[{"op":"add","path":"/a","value":{"z":1.0,"b":2}},{"op":"remove","path":"/a/b"},
                    {"op":"test","path":"/c","value":"<"}]"#,
                r#"{"a":{"z":1.0},"c":"\u003c"}"#,
            ),
        ] {
            let shown = json_patch_shown(&before, patch.as_bytes());
            assert_eq!(shown.as_deref(), Some(expected), "{patch}");
        }
        assert_eq!(merge_patch_shown(&before, b"5"), None);
    }
}
