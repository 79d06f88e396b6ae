//! `--sort-by`. Upstream: kubectl/pkg/cmd/get/sorter.go.

use std::cmp::Ordering;

use api::quantity::Quantity;
use serde_json::Value;

use super::jsonpath::{Template, relaxed};
use crate::error::{Error, Result};

/// Sorts objects (or rows that carry them under `object`) by a path; those without it come first.
pub fn sort(objects: &mut [Value], path: &str, in_rows: bool) -> Result<()> {
    let template = Template::parse(&relaxed(path)?)?;
    let mut keyed: Vec<(Option<Value>, Value)> = Vec::with_capacity(objects.len());
    for o in objects.iter() {
        let at = if in_rows { &o["object"] } else { o };
        let key = template.values(at)?.first().map(|v| (*v).clone());
        keyed.push((key, o.clone()));
    }
    // Tables are shown as they are where nothing has the field.
    if !keyed.is_empty() && !in_rows && keyed.iter().all(|(k, _)| k.is_none()) {
        return Err(Error::text(format!(
            "couldn't find any field with path \"{{{}}}\" in the list of objects",
            path.trim_matches(['{', '}'])
        )));
    }
    keyed.sort_by(|(a, _), (b, _)| match (a, b) {
        (None, None) => Ordering::Equal,
        (None, _) => Ordering::Less,
        (_, None) => Ordering::Greater,
        (Some(a), Some(b)) => compare(a, b),
    });
    for (place, (_, o)) in objects.iter_mut().zip(keyed) {
        *place = o;
    }
    Ok(())
}

fn compare(a: &Value, b: &Value) -> Ordering {
    if let (Value::String(a), Value::String(b)) = (a, b) {
        return match (Quantity::parse(a), Quantity::parse(b)) {
            (Ok(x), Ok(y)) => x.as_f64().total_cmp(&y.as_f64()),
            _ => a.cmp(b),
        };
    }
    if let (Some(a), Some(b)) = (a.as_f64(), b.as_f64()) {
        return a.total_cmp(&b);
    }
    a.to_string().cmp(&b.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn objects_are_sorted_by_what_they_hold() {
        let mut all = [
            json!({"n": 3, "q": "2Gi"}),
            json!({"n": 1, "q": "100Mi"}),
            json!({"q": "1Gi"}),
        ];
        sort(&mut all, ".n", false).unwrap();
        assert_eq!(all[0]["q"], "1Gi");
        assert_eq!(all[2]["n"], 3);
        sort(&mut all, "{.q}", false).unwrap();
        assert_eq!(all[0]["q"], "100Mi");
        assert!(sort(&mut all, ".x", false).is_err());
    }
}
