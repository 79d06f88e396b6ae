//! `-o custom-columns=NAME:.metadata.name,…`. Upstream: kubectl/pkg/cmd/get/customcolumn.go.

use serde_json::Value;

use super::jsonpath::{Template, relaxed};
use crate::error::{Error, Result};
use crate::object;
use crate::tabwriter::TabWriter;

/// Headers and what stands under them.
#[derive(Debug)]
pub struct Columns(Vec<(String, Template)>);

// === Columns ===

impl Columns {
    /// Reads `HEADER:path,…`.
    pub fn parse(spec: &str) -> Result<Self> {
        spec.split(',').map(column).collect::<Result<_>>().map(Self)
    }

    /// Reads a line of headers and a line of paths.
    pub fn parse_file(text: &str) -> Result<Self> {
        let mut lines = text.lines();
        let (Some(heads), Some(paths)) = (lines.next(), lines.next()) else {
            return Err(Error::text("expected two lines: headers and paths"));
        };
        let columns: Vec<(String, Template)> = heads
            .split_whitespace()
            .zip(paths.split_whitespace())
            .map(|(h, p)| Ok((h.to_string(), Template::parse(&relaxed(p)?)?)))
            .collect::<Result<_>>()?;
        Ok(Self(columns))
    }

    /// The table of an object or of a list's items.
    pub fn render(&self, value: &Value, no_headers: bool) -> Result<String> {
        let one = std::slice::from_ref(value);
        let objects = match value["items"].as_array() {
            Some(items) => items.as_slice(),
            None => one,
        };
        let mut text = String::new();
        if !no_headers {
            let heads: Vec<&str> = self.0.iter().map(|(h, _)| h.as_str()).collect();
            text = heads.join("\t") + "\n";
        }
        for o in objects {
            let mut cells = Vec::new();
            for (_, template) in &self.0 {
                let values = template.values(o)?;
                let texts: Vec<String> = values.iter().map(|v| shown(v)).collect();
                cells.push(if texts.is_empty() {
                    "<none>".into()
                } else {
                    texts.join(",")
                });
            }
            text.push_str(&cells.join("\t"));
            text.push('\n');
        }
        Ok(TabWriter::table().layout(&text))
    }
}

fn column(part: &str) -> Result<(String, Template)> {
    let Some((head, path)) = part
        .split_once(':')
        .filter(|(h, p)| !h.is_empty() && !p.is_empty())
    else {
        return Err(Error::text(format!(
            "unexpected custom-columns spec: {part}, expected <header>:<json-path-expr>"
        )));
    };
    Ok((head.to_string(), Template::parse(&relaxed(path)?)?))
}

/// As Go's `fmt` prints values.
fn shown(v: &Value) -> String {
    match v {
        Value::Null => "<none>".into(),
        Value::Array(l) => {
            let all: Vec<String> = l.iter().map(shown).collect();
            format!("[{}]", all.join(" "))
        }
        Value::Object(m) => {
            let mut all: Vec<String> = m.iter().map(|(k, v)| format!("{k}:{}", shown(v))).collect();
            all.sort();
            format!("map[{}]", all.join(" "))
        }
        other => object::plain(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn columns_show_values_and_none() {
        let list = json!({"items": [
            {"metadata": {"name": "a", "labels": {"x": "1", "y": "2"}}, "c": [{"i": 1}, {"i": 2}]},
            {"metadata": {"name": "b"}}]});
        let c = Columns::parse("NAME:.metadata.name,L:metadata.labels,I:.c[*].i").unwrap();
        assert_eq!(
            c.render(&list, false).unwrap(),
            "NAME   L              I\na      map[x:1 y:2]   1,2\nb      <none>         <none>\n"
        );
        assert!(Columns::parse("NAME").is_err());
    }
}
