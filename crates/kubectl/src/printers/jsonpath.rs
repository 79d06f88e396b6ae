//! kubectl's JSONPath templates: text with `{…}`. Upstream: client-go/util/jsonpath.

mod eval;
mod parse;

use serde_json::Value;

use crate::error::{Error, Result};
use crate::limits;
use eval::Search;

/// A part of a template.
#[derive(Clone, Debug, PartialEq)]
enum Node {
    Text(String),
    Path(Vec<Step>),
    Range(Vec<Step>, Vec<Node>),
}

/// A step of a path.
#[derive(Clone, Debug, PartialEq)]
enum Step {
    Root,
    Field(String),
    Wildcard,
    Recursive,
    Index(i64),
    Slice(Option<i64>, Option<i64>, i64),
    Union(Vec<Vec<Step>>),
    Filter(Operand, String, Option<Operand>),
}

/// A side of a filter.
#[derive(Clone, Debug, PartialEq)]
enum Operand {
    Path(Vec<Step>),
    Literal(Value),
}

/// A parsed template.
#[derive(Clone, Debug)]
pub struct Template(Vec<Node>);

// === Template ===

impl Template {
    /// Reads a template.
    pub fn parse(text: &str) -> Result<Self> {
        parse::template(text)
            .map(Self)
            .map_err(|e| Error::text(format!("error parsing jsonpath {text}, {e}")))
    }

    /// The text for an object.
    pub fn render(&self, value: &Value) -> Result<String> {
        self.render_within(value, limits::JSON_PATH_TEXT)
    }

    /// The text for an object; an error where it is longer than so many bytes.
    pub fn render_within(&self, value: &Value, bytes: usize) -> Result<String> {
        let mut out = String::new();
        let mut search = Search::new(value, bytes);
        search.render(&self.0, value, &mut out).map_err(failed)?;
        Ok(out)
    }

    /// The values that the first path finds.
    pub fn values<'a>(&self, value: &'a Value) -> Result<Vec<&'a Value>> {
        for node in &self.0 {
            if let Node::Path(steps) = node {
                let mut search = Search::new(value, 0);
                return search.find(steps, value).map_err(failed);
            }
        }
        Ok(Vec::new())
    }
}

fn failed(e: String) -> Error {
    Error::text(format!("error executing jsonpath: {e}"))
}

/// `x.y`, `.x.y` and `{.x.y}` as `{.x.y}`, as custom columns, sorting and waiting accept.
pub fn relaxed(path: &str) -> Result<String> {
    let inner = path
        .strip_prefix('{')
        .map_or(Some(path), |p| p.strip_suffix('}'))
        .filter(|p| !p.is_empty())
        .ok_or_else(|| {
            Error::text(
                "unexpected path string, expected a 'name1.name2' or '.name1.name2' or '{name1.name2}' or '{.name1.name2}'",
            )
        })?;
    let dot = if inner.starts_with(['.', '$', '[']) {
        ""
    } else {
        "."
    };
    Ok(format!("{{{dot}{inner}}}"))
}

#[cfg(test)]
mod tests;
