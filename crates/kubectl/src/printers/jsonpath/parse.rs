//! Templates from text.

use serde_json::Value;

use super::{Node, Operand, Step};
use crate::limits;

type Parsed<T> = Result<T, String>;

/// The nodes of a template.
pub fn template(text: &str) -> Parsed<Vec<Node>> {
    let mut open: Vec<(Vec<Step>, Vec<Node>)> = Vec::new();
    let mut nodes: Vec<Node> = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('{') {
        if at > 0 {
            nodes.push(Node::Text(rest[..at].to_string()));
        }
        let end = closing(&rest[at + 1..]).ok_or("unclosed action")?;
        let action = rest[at + 1..at + 1 + end].trim();
        rest = &rest[at + end + 2..];
        if action == "end" {
            let (path, outer) = open.pop().ok_or("not in range, nothing to end")?;
            let body = std::mem::replace(&mut nodes, outer);
            nodes.push(Node::Range(path, body));
        } else if let Some(path) = action.strip_prefix("range ") {
            if open.len() == limits::JSON_PATH_NESTED {
                return Err(format!(
                    "more than {} ranges in one another",
                    limits::JSON_PATH_NESTED
                ));
            }
            open.push((steps(path.trim(), 0)?, std::mem::take(&mut nodes)));
        } else if action.starts_with(['"', '\'']) {
            nodes.push(Node::Text(quoted(action)?));
        } else {
            nodes.push(Node::Path(steps(action, 0)?));
        }
    }
    if !rest.is_empty() {
        nodes.push(Node::Text(rest.to_string()));
    }
    if open.is_empty() {
        Ok(nodes)
    } else {
        Err("unterminated range".into())
    }
}

/// Where the action ends: the brace outside quotes and brackets.
fn closing(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut escaped = false;
    for (i, c) in text.char_indices() {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if let Some(q) = quote {
            if c == q {
                quote = None;
            }
        } else if c == '"' || c == '\'' {
            quote = Some(c);
        } else if c == '}' {
            return Some(i);
        }
    }
    None
}

fn quoted(text: &str) -> Parsed<String> {
    let mut chars = text.chars();
    let quote = chars.next().ok_or("empty text")?;
    let mut out = String::new();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.push(match chars.next().ok_or("unterminated escape")? {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                other => other,
            }),
            c if c == quote => return Ok(out),
            c => out.push(c),
        }
    }
    Err("unterminated quoted string".into())
}

/// The steps of a path, which stands in so many filters.
fn steps(text: &str, depth: usize) -> Parsed<Vec<Step>> {
    if depth > limits::JSON_PATH_NESTED {
        return Err(format!(
            "more than {} filters in one another",
            limits::JSON_PATH_NESTED
        ));
    }
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if out.len() > limits::JSON_PATH_STEPS {
            return Err(format!("more than {} steps", limits::JSON_PATH_STEPS));
        }
        match c {
            '$' => {
                out.push(Step::Root);
                rest = &rest[1..];
            }
            '@' => rest = &rest[1..],
            '.' if rest.starts_with("..") => {
                if out.last() == Some(&Step::Recursive) {
                    return Err("invalid multiple recursive descent".into());
                }
                out.push(Step::Recursive);
                rest = &rest[2..];
                if rest.starts_with(|c: char| c == '_' || c.is_alphanumeric()) {
                    let (name, after) = field(rest);
                    out.push(Step::Field(name));
                    rest = after;
                }
            }
            '.' => {
                let (name, after) = field(&rest[1..]);
                rest = after;
                match name.as_str() {
                    "" => {}
                    "*" => out.push(Step::Wildcard),
                    _ => out.push(Step::Field(name)),
                }
            }
            '[' => {
                let end = bracket(&rest[1..]).ok_or("unterminated array")?;
                out.push(subscript(rest[1..1 + end].trim(), depth)?);
                rest = &rest[end + 2..];
            }
            _ => {
                let (name, _) = field(rest);
                return Err(if name.is_empty() || !out.is_empty() {
                    format!("unrecognized character in action: {c:?}")
                } else {
                    format!("unrecognized identifier {name}")
                });
            }
        }
    }
    Ok(out)
}

fn field(text: &str) -> (String, &str) {
    let mut name = String::new();
    let mut chars = text.char_indices();
    while let Some((i, c)) = chars.next() {
        match c {
            '\\' => {
                if let Some((_, next)) = chars.next() {
                    name.push(next);
                }
            }
            '.' | '[' | ']' | ' ' | '=' | '!' | '<' | '>' | ')' | ',' => return (name, &text[i..]),
            c => name.push(c),
        }
    }
    (name, "")
}

/// Where the bracket closes, counting those within and skipping quotes.
fn bracket(text: &str) -> Option<usize> {
    let mut depth = 0;
    let mut quote = None;
    for (i, c) in text.char_indices() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '[') => depth += 1,
            (None, ']') if depth == 0 => return Some(i),
            (None, ']') => depth -= 1,
            _ => {}
        }
    }
    None
}

fn subscript(text: &str, depth: usize) -> Parsed<Step> {
    if text == "*" {
        return Ok(Step::Wildcard);
    }
    if let Some(filter) = text.strip_prefix("?(").and_then(|t| t.strip_suffix(')')) {
        return self::filter(filter, depth + 1);
    }
    let parts = split_top(text, ',');
    if parts.len() > 1 {
        let all: Parsed<Vec<Vec<Step>>> = parts
            .iter()
            .map(|p| Ok(vec![subscript(p.trim(), depth)?]))
            .collect();
        return all.map(Step::Union);
    }
    if text.starts_with(['"', '\'']) {
        return quoted(text).map(Step::Field);
    }
    let number = |t: &str| -> Parsed<Option<i64>> {
        if t.is_empty() {
            return Ok(None);
        }
        t.parse()
            .map(Some)
            .map_err(|_| format!("invalid array index {t}"))
    };
    if text.contains(':') {
        let mut parts = text.split(':').map(|t| number(t.trim()));
        let mut next = || parts.next().unwrap_or(Ok(None));
        let (from, to, step) = (next()?, next()?, next()?);
        return Ok(Step::Slice(from, to, step.unwrap_or(1)));
    }
    number(text)?
        .map(Step::Index)
        .ok_or_else(|| "empty array index".into())
}

fn split_top(text: &str, by: char) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut quote = None;
    let mut start = 0;
    for (i, c) in text.char_indices() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, c) if c == by => {
                parts.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn filter(text: &str, depth: usize) -> Parsed<Step> {
    for op in ["==", "!=", "<=", ">=", "<", ">"] {
        if let Some(at) = outside_quotes(text, op) {
            let left = operand(text[..at].trim(), depth)?;
            let right = operand(text[at + op.len()..].trim(), depth)?;
            return Ok(Step::Filter(left, op.into(), Some(right)));
        }
    }
    Ok(Step::Filter(
        operand(text.trim(), depth)?,
        "exists".into(),
        None,
    ))
}

fn outside_quotes(text: &str, op: &str) -> Option<usize> {
    let mut quote = None;
    for (i, c) in text.char_indices() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, _) if text[i..].starts_with(op) => return Some(i),
            _ => {}
        }
    }
    None
}

fn operand(text: &str, depth: usize) -> Parsed<Operand> {
    if text.starts_with(['"', '\'']) {
        return Ok(Operand::Literal(Value::String(quoted(text)?)));
    }
    if text.starts_with(['@', '.', '$']) {
        return steps(text, depth).map(Operand::Path);
    }
    serde_json::from_str(text)
        .map(Operand::Literal)
        .map_err(|_| format!("unrecognized literal {text}"))
}
