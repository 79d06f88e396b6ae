//! The field paths of rules and selectable fields.
//! Upstream: `ValidFieldPath` in apiextensions-apiserver/pkg/apiserver/schema/cel/validation.go.

use super::Structural;

/// A path such as `.a.b` or `.a['b']`, as errors write it, and the schema that it leads to: none below what allows or
/// forbids whatever there is.
pub fn field_path<'a>(
    text: &str,
    schema: &'a Structural,
    brackets: bool,
) -> Result<(String, Option<&'a Structural>), String> {
    let mut path = String::new();
    let mut found = Some(schema);
    let mut tokens = Tokens(text);
    while let Some(token) = tokens.next() {
        let name = match token {
            "." => tokens.more()?.to_string(),
            "[" if !brackets => return Err("array notation is not allowed".into()),
            "[" => quoted(tokens.more()?)?,
            other => return Err(format!("expected [ or . but got: {other}")),
        };
        let s = found.ok_or("does not refer to a valid field")?;
        if !s.properties.is_empty() {
            if !path.is_empty() {
                path.push('.');
            }
            path.push_str(&name);
            let below = s.properties.get(&name);
            found = Some(below.ok_or("does not refer to a valid field")?);
        } else if s.additional.is_some() || s.additional_any.is_some() {
            path.push_str(&format!("[{name}]"));
            found = s.additional.as_deref();
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
    Ok((path, found))
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_lead_to_schemas_or_to_what_has_none() {
        let schema = Structural::parse(&json!({"type": "object", "properties": {
            "a": {"type": "object", "additionalProperties": {"type": "string"}},
            "b": {"type": "object", "additionalProperties": false},
            "c": {"type": "object"}}}));
        for (path, expected) in [
            (".a.x", Ok(("a[x]".to_string(), true))),
            (".b.x", Ok(("b[x]".into(), false))),
            (".b.x.y", Err("does not refer to a valid field".to_string())),
            (".c.x", Err("does not refer to a valid field".into())),
            (".d", Err("does not refer to a valid field".into())),
        ] {
            let found = field_path(path, &schema, true);
            assert_eq!(found.map(|(p, s)| (p, s.is_some())), expected, "{path}");
        }
    }
}
