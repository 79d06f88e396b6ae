//! The lines of a description: cells separated by tabs, laid out at the end.

use serde_json::Value;

use crate::object;
use crate::tabwriter::TabWriter;
use crate::three_way::LAST_APPLIED;

/// Longer annotations are cut, in bytes. Upstream: maxAnnotationLen.
const ANNOTATION_BYTES_MAX: usize = 140;

/// A description as it grows.
#[derive(Debug, Default)]
pub struct Lines {
    text: String,
}

// === Lines ===

impl Lines {
    /// A line at a level of two spaces each.
    pub fn put(&mut self, level: usize, line: impl AsRef<str>) {
        self.text.push_str(&"  ".repeat(level));
        self.text.push_str(line.as_ref());
        self.text.push('\n');
    }

    /// `title:` and a value, where there is one.
    pub fn some(&mut self, level: usize, title: &str, value: &Value) {
        if !value.is_null() && value != "" {
            self.put(level, format!("{title}:\t{}", object::plain(value)));
        }
    }

    /// A column of values after a title; `<none>` where there are none.
    pub fn column(&mut self, title: &str, values: &[String]) {
        if values.is_empty() {
            return self.put(0, format!("{title}:\t<none>"));
        }
        for (i, value) in values.iter().enumerate() {
            let before = if i == 0 {
                format!("{title}:")
            } else {
                String::new()
            };
            self.put(0, format!("{before}\t{value}"));
        }
    }

    /// Labels, one a line.
    pub fn labels(&mut self, title: &str, labels: &Value) {
        let pairs = object::pairs(labels);
        let all: Vec<String> = pairs.iter().map(|(k, v)| format!("{k}={v}")).collect();
        self.column(title, &all);
    }

    /// Annotations, one a line, long ones below their key.
    pub fn annotations(&mut self, title: &str, annotations: &Value) {
        let mut all = Vec::new();
        for (key, value) in object::pairs(annotations) {
            if key == LAST_APPLIED {
                continue;
            }
            let value = value.strip_suffix('\n').unwrap_or(&value);
            if value.len() + key.len() + 2 <= ANNOTATION_BYTES_MAX && !value.contains('\n') {
                all.push(format!("{key}: {value}"));
                continue;
            }
            all.push(format!("{key}:"));
            all.extend(
                value
                    .split('\n')
                    .map(|line| format!("  {}", shorten(line, ANNOTATION_BYTES_MAX - 2))),
            );
        }
        self.column(title, &all);
    }

    /// The head of a table.
    pub fn table(&mut self, level: usize, heads: &[&str]) {
        self.put(level, heads.join("\t"));
        let rules: Vec<String> = heads.iter().map(|h| "-".repeat(h.len())).collect();
        self.put(level, rules.join("\t"));
    }

    /// Raw text.
    pub fn raw(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// The text with its tabs.
    pub fn unlaid(self) -> String {
        self.text
    }

    /// The finished text.
    pub fn layout(&self) -> String {
        TabWriter::describe().layout(&self.text)
    }
}

fn shorten(text: &str, bytes: usize) -> String {
    if text.len() <= bytes {
        return text.to_string();
    }
    let mut end = bytes;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}...", &text[..end])
}

/// `k=v,k=v` or `<none>`.
pub fn labels_or_none(labels: &Value) -> String {
    or_none(object::selector(labels))
}

/// A text, or `<none>`.
pub fn or_none(text: String) -> String {
    if text.is_empty() {
        "<none>".into()
    } else {
        text
    }
}

/// A label selector on one line, by its keys. Upstream: labels.Selector.String.
pub fn selector(selector: &Value) -> String {
    let mut all: Vec<(String, String)> = object::pairs(&selector["matchLabels"])
        .into_iter()
        .map(|(k, v)| (k.clone(), format!("{k}={v}")))
        .collect();
    for e in object::items(selector, "/matchExpressions") {
        let key = object::text(e, "/key").to_string();
        let mut values: Vec<&str> = object::items(e, "/values")
            .iter()
            .filter_map(Value::as_str)
            .collect();
        values.sort_unstable();
        let values = values.join(",");
        let text = match object::text(e, "/operator") {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "DoesNotExist" => format!("!{key}"),
            _ => key.clone(),
        };
        all.push((key, text));
    }
    all.sort();
    let all: Vec<String> = all.into_iter().map(|(_, text)| text).collect();
    all.join(",")
}

/// A time as `Mon, 02 Jan 2006 15:04:05 -0700`, in the zone of this machine.
pub fn time(value: &Value) -> String {
    let parsed = value
        .as_str()
        .and_then(|t| t.parse::<jiff::Timestamp>().ok());
    parsed.map_or_else(
        || "Mon, 01 Jan 0001 00:00:00 +0000".into(),
        |t| {
            let local = t.to_zoned(jiff::tz::TimeZone::system());
            local.strftime("%a, %d %b %Y %H:%M:%S %z").to_string()
        },
    )
}

/// How long ago a time was, `<unknown>` where there is none.
pub fn since(value: &Value) -> String {
    let parsed = value
        .as_str()
        .and_then(|t| t.parse::<jiff::Timestamp>().ok());
    parsed.map_or_else(
        || "<unknown>".into(),
        |then| {
            let now = jiff::Timestamp::now().as_second();
            machinery::strategy::human_duration(now - then.as_second())
        },
    )
}

/// A number, 0 where there is none.
pub fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or_default()
}

/// `True` or `False`.
pub fn truth(value: &Value) -> &'static str {
    if value == true { "True" } else { "False" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn marks_are_columns_and_long_ones_go_below_their_key() {
        let mut w = Lines::default();
        w.labels("Labels", &json!({"b": "2", "a": "1"}));
        w.annotations(
            "Annotations",
            &json!({"k": "v", "l": "x\ny\n", LAST_APPLIED: "{}"}),
        );
        w.labels("Node-Selectors", &Value::Null);
        assert_eq!(
            w.layout(),
            "Labels:          a=1\n                 b=2\nAnnotations:     k: v\n                 l:\n                   x\n                   y\nNode-Selectors:  <none>\n"
        );
    }

    #[test]
    fn selectors_are_in_order_of_their_keys() {
        let all = json!({"matchLabels": {"z": "1"}, "matchExpressions": [
            {"key": "b", "operator": "In", "values": ["y", "x"]},
            {"key": "a", "operator": "DoesNotExist"}]});
        assert_eq!(selector(&all), "!a,b in (x,y),z=1");
    }
}
