//! The JSONPath of printer columns and selectable fields: fields, indexes, wildcards and filters.
//! Upstream: k8s.io/client-go/util/jsonpath, relaxed form `.a.b`.

use serde_json::Value;

/// A parsed path.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonPath(Vec<Step>);

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(String),
    Index(i64),
    /// `.*`.
    All,
    /// `[*]`: of lists only.
    Items,
    /// `[?(@.a.b=="text")]`.
    Filter(Vec<String>, bool, Value),
}

impl JsonPath {
    /// Parses a path such as `.status.conditions[?(@.type=="Ready")].status`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let bad = || format!("is an invalid path: {text}");
        let mut rest = text;
        let mut steps = Vec::new();
        while !rest.is_empty() {
            let (step, after) = if let Some(inner) = rest.strip_prefix('[') {
                let close = close(inner).ok_or_else(bad)?;
                (
                    bracket(&inner[..close]).ok_or_else(bad)?,
                    &inner[close + 1..],
                )
            } else {
                let name = rest.strip_prefix('.').ok_or_else(bad)?;
                let (field, after) = field(name);
                if field.is_empty()
                    && !after.starts_with('[')
                    && !(after.is_empty() && steps.is_empty())
                {
                    return Err(bad());
                }
                match field.as_str() {
                    "" => {
                        rest = after;
                        continue;
                    }
                    "*" => (Step::All, after),
                    _ => (Step::Field(field), after),
                }
            };
            steps.push(step);
            rest = after;
        }
        Ok(Self(steps))
    }

    /// Everything that the path leads to.
    pub fn find<'a>(&self, root: &'a Value) -> Vec<&'a Value> {
        self.0.iter().fold(vec![root], |found, step| {
            found.into_iter().flat_map(|v| step.of(v)).collect()
        })
    }

    /// The names of its fields, where it has nothing else.
    pub fn plain(&self) -> Option<Vec<&str>> {
        self.0
            .iter()
            .map(|s| match s {
                Step::Field(f) => Some(f.as_str()),
                _ => None,
            })
            .collect()
    }
}

impl Step {
    fn of<'a>(&self, v: &'a Value) -> Vec<&'a Value> {
        match self {
            Self::Field(name) => v.get(name).into_iter().collect(),
            Self::Index(i) => {
                let Some(list) = v.as_array() else {
                    return Vec::new();
                };
                let len = i64::try_from(list.len()).unwrap_or(i64::MAX);
                let at = if *i < 0 { len + i } else { *i };
                usize::try_from(at)
                    .ok()
                    .and_then(|at| list.get(at))
                    .into_iter()
                    .collect()
            }
            Self::All => match v {
                Value::Array(list) => list.iter().collect(),
                Value::Object(map) => map.values().collect(),
                _ => Vec::new(),
            },
            Self::Items => v.as_array().into_iter().flatten().collect(),
            Self::Filter(path, equal, wanted) => {
                let hit = |item: &&Value| {
                    let at = path.iter().try_fold(*item, |v, key| v.get(key));
                    at.is_some_and(|at| (at == wanted) == *equal)
                };
                v.as_array().into_iter().flatten().filter(hit).collect()
            }
        }
    }
}

/// A field's name up to the next dot or bracket, with `\.` as a plain dot.
fn field(text: &str) -> (String, &str) {
    let mut name = String::new();
    let mut chars = text.char_indices();
    while let Some((i, c)) = chars.next() {
        match c {
            '\\' => name.extend(chars.next().map(|(_, c)| c)),
            '.' | '[' => return (name, &text[i..]),
            c => name.push(c),
        }
    }
    (name, "")
}

/// Where a bracket closes; quotes hide brackets.
fn close(text: &str) -> Option<usize> {
    let mut quote = None;
    for (i, c) in text.char_indices() {
        match (quote, c) {
            (None, '\'' | '"') => quote = Some(c),
            (Some(q), c) if q == c => quote = None,
            (None, ']') => return Some(i),
            _ => {}
        }
    }
    None
}

fn quoted(text: &str) -> Option<&str> {
    ['\'', '"']
        .iter()
        .find_map(|q| text.strip_prefix(*q)?.strip_suffix(*q))
}

fn bracket(text: &str) -> Option<Step> {
    let text = text.trim();
    if text == "*" {
        return Some(Step::Items);
    }
    if let Some(name) = quoted(text) {
        return Some(Step::Field(name.to_string()));
    }
    if let Some(filter) = text.strip_prefix("?(").and_then(|t| t.strip_suffix(')')) {
        let (left, equal, right) = match filter.split_once("==") {
            Some((l, r)) => (l, true, r),
            None => filter.split_once("!=").map(|(l, r)| (l, false, r))?,
        };
        let path = left.trim().strip_prefix('@')?;
        let names = JsonPath::parse(path).ok()?;
        let names: Vec<String> = names.plain()?.into_iter().map(str::to_string).collect();
        let right = right.trim();
        let value = match quoted(right) {
            Some(text) => Value::from(text),
            None => serde_json::from_str(right).ok()?,
        };
        return Some(Step::Filter(names, equal, value));
    }
    text.parse().ok().map(Step::Index)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::JsonPath;

    #[test]
    fn paths_lead_where_upstreams_do() {
        let v = json!({"a": {"b.c": 1, "l": [{"type": "Ready", "status": "True"}, {"type": "X", "status": "False"}]}});
        for (path, found) in [
            (".a.b\\.c", json!([1])),
            (".a['b.c']", json!([1])),
            (".a.l[0].type", json!(["Ready"])),
            (".a.l[-1].type", json!(["X"])),
            (".a.l[*].status", json!(["True", "False"])),
            (".a.l[?(@.type==\"Ready\")].status", json!(["True"])),
            (".a.l[?(@.type!='Ready')].status", json!(["False"])),
            (".nope.x", json!([])),
        ] {
            let parsed = JsonPath::parse(path).unwrap();
            assert_eq!(json!(parsed.find(&v)), found, "{path}");
        }
        for bad in ["a", ".a[", ".a[x]", ".a[?(x)]", "..a"] {
            assert!(JsonPath::parse(bad).is_err(), "{bad}");
        }
    }
}
