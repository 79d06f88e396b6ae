//! Whether two objects say the same, however they are spelled. Upstream: apiequality.Semantic.DeepEqual.

use machinery::object::list_at;
use serde_json::{Map, Value};

use super::amounts;

/// Whether two values say the same: null, empty lists and empty texts are nothing, amounts are numbers.
pub fn values(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => maps(a, b),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| values(a, b))
        }
        _ => a == b || (is_nothing(a) && is_nothing(b)),
    }
}

fn is_nothing(v: &Value) -> bool {
    match v {
        Value::Null => true,
        Value::Array(a) => a.is_empty(),
        Value::String(s) => s.is_empty(),
        _ => false,
    }
}

fn maps(a: &Map<String, Value>, b: &Map<String, Value>) -> bool {
    let one_way = |a: &Map<String, Value>, b: &Map<String, Value>, deep: bool| {
        a.iter().all(|(k, v)| match b.get(k) {
            None => is_nothing(v),
            Some(_) if !deep => true,
            Some(w) if ["requests", "limits", "overhead"].contains(&k.as_str()) => {
                values(v, w) || amounts_equal(v, w)
            }
            Some(w) => values(v, w),
        })
    };
    one_way(a, b, true) && one_way(b, a, false)
}

/// Whether two lists of resources hold the same amounts.
pub fn amounts_equal(a: &Value, b: &Value) -> bool {
    let read = |v: &Value| {
        let map = v.as_object()?;
        let all = map
            .iter()
            .map(|(k, v)| Some((k.clone(), amounts::read(v)?)));
        all.collect::<Option<amounts::Amounts>>()
    };
    matches!((read(a), read(b)), (Some(a), Some(b)) if a == b)
}

/// Names of the containers of a list.
pub fn names<'a>(spec: &'a Value, list: &str) -> Vec<&'a str> {
    list_at(spec, list)
        .iter()
        .map(|c| machinery::object::str_at(c, "name"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn spelling_does_not_count() {
        for (a, b, same) in [
            (json!({"a": null}), json!({}), true),
            (json!({"a": []}), json!({}), true),
            (json!({"a": {}}), json!({}), false),
            (json!({"a": false}), json!({}), false),
            (
                json!({"requests": {"cpu": "1"}}),
                json!({"requests": {"cpu": "1000m"}}),
                true,
            ),
            (
                json!({"requests": {"cpu": "1"}}),
                json!({"requests": {"cpu": "2"}}),
                false,
            ),
            (json!([{"a": 1}]), json!([{"a": 2}]), false),
        ] {
            assert_eq!(values(&a, &b), same, "{a} {b}");
            assert_eq!(values(&b, &a), same, "{b} {a}");
        }
    }
}
