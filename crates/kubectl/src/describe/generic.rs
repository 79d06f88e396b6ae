//! Kinds without a describer of their own: their fields, in order.

use serde_json::Value;

use super::Seen;
use super::lines::Lines;
use crate::object;

const SKIPPED: &[&str] = &[
    ".metadata.managedFields",
    ".metadata.name",
    ".metadata.namespace",
    ".metadata.labels",
    ".metadata.annotations",
];
const ACRONYMS: &[&str] = &["API", "URL", "UID", "GUID"];

/// The text of any object.
pub fn text(seen: &Seen<'_>, w: &mut Lines) {
    seen.head(w);
    seen.marks(w);
    fields(seen.object, 0, "", w);
}

fn fields(value: &Value, level: usize, path: &str, w: &mut Lines) {
    let mut keys: Vec<&String> = value
        .as_object()
        .into_iter()
        .flatten()
        .map(|f| f.0)
        .collect();
    keys.sort();
    for key in keys {
        let path = format!("{path}.{key}");
        if SKIPPED.contains(&path.as_str()) {
            continue;
        }
        match &value[key] {
            Value::Object(_) => {
                w.put(level, format!("{}:", label(key)));
                fields(&value[key], level + 1, &path, w);
            }
            Value::Array(list) => {
                w.put(level, format!("{}:", label(key)));
                for item in list {
                    match item {
                        Value::Object(_) => fields(item, level + 1, &path, w),
                        scalar => w.put(level + 1, object::plain(scalar)),
                    }
                }
            }
            scalar => {
                let text = match scalar {
                    Value::Null => "<nil>".into(),
                    other => object::plain(other),
                };
                w.put(level, format!("{}:\t{text}", label(key)));
            }
        }
    }
}

/// `restartPolicy` as `Restart Policy`. Upstream: smartLabelFor.
fn label(field: &str) -> String {
    if field.chars().any(|c| !c.is_alphabetic() && c != '-') {
        return field.to_string();
    }
    let words = words(field).into_iter().map(|word| {
        let upper = word.to_uppercase();
        if ACRONYMS.contains(&upper.as_str()) {
            return upper;
        }
        if word.chars().any(char::is_uppercase) {
            return word;
        }
        let mut chars = word.chars();
        let first: String = chars
            .next()
            .into_iter()
            .flat_map(char::to_uppercase)
            .collect();
        first + chars.as_str()
    });
    words.collect::<Vec<_>>().join(" ")
}

/// The words of a name in camel case; capitals in a row are one word.
fn words(name: &str) -> Vec<String> {
    let chars: Vec<char> = name.chars().collect();
    let mut all: Vec<String> = Vec::new();
    for (i, &c) in chars.iter().enumerate() {
        let before = i.checked_sub(1).map(|b| chars[b]);
        let next_is_lower = chars.get(i + 1).is_some_and(|n| n.is_lowercase());
        let starts = match before {
            None => true,
            Some(b) if !b.is_alphabetic() || !c.is_alphabetic() => {
                b.is_alphabetic() != c.is_alphabetic()
            }
            Some(b) => c.is_uppercase() && (b.is_lowercase() || next_is_lower),
        };
        match all.last_mut() {
            Some(last) if !starts => last.push(c),
            _ => all.push(c.to_string()),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_titles() {
        for (key, expected) in [
            ("restartPolicy", "Restart Policy"),
            ("apiVersion", "API Version"),
            ("hostIP", "Host IP"),
            ("uid", "UID"),
            ("app.k8s.io/x", "app.k8s.io/x"),
        ] {
            assert_eq!(label(key), expected);
        }
    }
}
