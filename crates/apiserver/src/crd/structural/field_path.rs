//! The field paths of rules and selectable fields.
//! Upstream: `ValidFieldPath` in apiextensions-apiserver/pkg/apiserver/schema/cel/validation.go.

use super::Structural;

/// A path such as `.a.b` or `.a['b']`, as errors write it, and the schema that it leads to.
pub fn field_path<'a>(
    text: &str,
    schema: &'a Structural,
    brackets: bool,
) -> Result<(String, &'a Structural), String> {
    let mut path = String::new();
    let mut s = schema;
    let mut tokens = Tokens(text);
    while let Some(token) = tokens.next() {
        let name = match token {
            "." => tokens.more()?.to_string(),
            "[" if !brackets => return Err("array notation is not allowed".into()),
            "[" => quoted(tokens.more()?)?,
            other => return Err(format!("expected [ or . but got: {other}")),
        };
        if !s.properties.is_empty() {
            if !path.is_empty() {
                path.push('.');
            }
            path.push_str(&name);
            s = s
                .properties
                .get(&name)
                .ok_or("does not refer to a valid field")?;
        } else if let Some(values) = &s.additional {
            path.push_str(&format!("[{name}]"));
            s = values;
        } else {
            return Err("does not refer to a valid field".into());
        }
        if token == "[" {
            let end = tokens.more()?;
            if end != "]" {
                return Err(format!("expected ] but got {end}"));
            }
        }
    }
    Ok((path, s))
}

struct Tokens<'a>(&'a str);

impl<'a> Tokens<'a> {
    fn next(&mut self) -> Option<&'a str> {
        let t = self.0;
        let first = t.chars().next()?;
        let end = match first {
            '.' | '[' | ']' => 1,
            '\'' => {
                let bytes = t.as_bytes();
                let close = (1..t.len()).find(|i| bytes[*i] == b'\'' && bytes[i - 1] != b'\\');
                close.map_or(t.len(), |i| i + 1)
            }
            _ => t.find(['.', '[', ']']).unwrap_or(t.len()),
        };
        self.0 = &t[end..];
        Some(&t[..end])
    }

    fn more(&mut self) -> Result<&'a str, String> {
        self.next()
            .ok_or_else(|| "unexpected end of JSON path".into())
    }
}

/// What a text in single quotes stands for.
fn quoted(token: &str) -> Result<String, String> {
    let inner = token.strip_prefix('\'').and_then(|t| t.strip_suffix('\''));
    let inner = inner.ok_or_else(|| format!("expected single quoted string but got {token}"))?;
    let mut out = String::new();
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        out.push(match chars.next() {
            Some('a') => '\x07',
            Some('b') => '\x08',
            Some('f') => '\x0c',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('v') => '\x0b',
            Some(c @ ('\'' | '\\')) => c,
            Some(c) => return Err(format!("invalid string literal: invalid escape char \\{c}")),
            None => '\\',
        });
    }
    Ok(out)
}
