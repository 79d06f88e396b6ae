//! YAML as kubectl writes it: keys sorted, lists not indented, strings quoted only where YAML 1.1
//! would read something else, long lines folded at 80. Upstream: sigs.k8s.io/yaml (go-yaml v2).

mod scalar;

use serde_json::Value;

use scalar::Scalar;

/// Lines are folded at the first space beyond this column.
const WIDTH: usize = 80;

/// The YAML text of a value, with a newline at its end.
pub fn to_string(value: &Value) -> String {
    let mut e = Emitter {
        out: String::new(),
        column: 0,
    };
    match value {
        Value::Object(m) if !m.is_empty() => e.mapping(m, 0, false),
        Value::Array(l) if !l.is_empty() => e.sequence(l, 0, false),
        scalar => {
            e.scalar(scalar, 0, false);
            e.newline();
        }
    }
    e.out
}

/// The documents of a text, JSON or YAML; empty ones are left out.
pub fn parse_all(text: &str) -> Result<Vec<Value>, String> {
    let start = text.trim_start();
    if start.starts_with('{') {
        let all: Result<Vec<Value>, _> = serde_json::Deserializer::from_str(text)
            .into_iter()
            .collect();
        // What begins like JSON may still be YAML's flow style.
        if let Ok(all) = all {
            return Ok(all);
        }
    }
    let all: Vec<Value> = serde_saphyr::from_multiple(text)
        .map_err(|e| format!("error converting YAML to JSON: {e}"))?;
    Ok(all.into_iter().filter(|v| !v.is_null()).collect())
}

struct Emitter {
    out: String,
    column: usize,
}

// === Emitter ===

impl Emitter {
    fn put(&mut self, c: char) {
        self.out.push(c);
        self.column += 1;
    }

    fn text(&mut self, text: &str) {
        self.out.push_str(text);
        self.column += text.chars().count();
    }

    fn newline(&mut self) {
        self.out.push('\n');
        self.column = 0;
    }

    fn indent(&mut self, indent: usize) {
        self.newline();
        self.text(&" ".repeat(indent));
    }

    /// `inline`: the first key stands on the line of a list's dash.
    fn mapping(&mut self, map: &serde_json::Map<String, Value>, indent: usize, mut inline: bool) {
        let mut keys: Vec<&String> = map.keys().collect();
        keys.sort();
        for key in keys {
            if !inline {
                self.text(&" ".repeat(indent));
            }
            inline = false;
            self.string(key, indent, true);
            self.put(':');
            match &map[key] {
                Value::Object(m) if !m.is_empty() => {
                    self.newline();
                    self.mapping(m, indent + 2, false);
                }
                Value::Array(l) if !l.is_empty() => {
                    self.newline();
                    self.sequence(l, indent, false);
                }
                scalar => {
                    self.put(' ');
                    self.scalar(scalar, indent, false);
                    self.newline();
                }
            }
        }
    }

    fn sequence(&mut self, list: &[Value], indent: usize, mut inline: bool) {
        for item in list {
            if !inline {
                self.text(&" ".repeat(indent));
            }
            inline = false;
            self.text("- ");
            match item {
                Value::Object(m) if !m.is_empty() => self.mapping(m, indent + 2, true),
                Value::Array(l) if !l.is_empty() => self.sequence(l, indent + 2, true),
                scalar => {
                    self.scalar(scalar, indent, false);
                    self.newline();
                }
            }
        }
    }

    fn scalar(&mut self, value: &Value, indent: usize, key: bool) {
        match value {
            Value::Null => self.text("null"),
            Value::Bool(b) => self.text(if *b { "true" } else { "false" }),
            Value::Number(n) => self.text(&n.to_string()),
            Value::String(s) => self.string(s, indent, key),
            Value::Array(_) => self.text("[]"),
            Value::Object(_) => self.text("{}"),
        }
    }

    fn string(&mut self, text: &str, indent: usize, key: bool) {
        match scalar::style(text, key) {
            Scalar::Plain => self.folded(text, indent, key, false),
            Scalar::Single => {
                self.put('\'');
                self.folded(text, indent, key, true);
                self.put('\'');
            }
            Scalar::Double => self.double(text, indent, key),
            Scalar::Literal => self.literal(text, indent + 2),
        }
    }

    fn folded(&mut self, text: &str, indent: usize, key: bool, quoted: bool) {
        let chars: Vec<char> = text.chars().collect();
        let mut spaces = false;
        for (i, &c) in chars.iter().enumerate() {
            if c == ' ' {
                let inside = !quoted || (i > 0 && i + 1 < chars.len());
                let fold = !key && !spaces && self.column > WIDTH && inside;
                if fold && chars.get(i + 1) != Some(&' ') {
                    self.indent(indent + 2);
                } else {
                    self.put(' ');
                }
                spaces = true;
                continue;
            }
            if quoted && c == '\'' {
                self.put('\'');
            }
            self.put(c);
            spaces = false;
        }
    }

    fn double(&mut self, text: &str, indent: usize, key: bool) {
        self.put('"');
        let chars: Vec<char> = text.chars().collect();
        let mut spaces = false;
        for (i, &c) in chars.iter().enumerate() {
            if let Some(escape) = scalar::escape(c) {
                self.text(&escape);
                spaces = false;
            } else if c == ' ' {
                let inside = i > 0 && i + 1 < chars.len();
                if !key && !spaces && self.column > WIDTH && inside {
                    self.indent(indent + 2);
                    if chars.get(i + 1) == Some(&' ') {
                        self.put('\\');
                    }
                } else {
                    self.put(' ');
                }
                spaces = true;
            } else {
                self.put(c);
                spaces = false;
            }
        }
        self.put('"');
    }

    fn literal(&mut self, text: &str, indent: usize) {
        self.put('|');
        if text.starts_with([' ', '\n']) {
            self.put('2');
        }
        let body = match text.strip_suffix('\n') {
            None => {
                self.put('-');
                text
            }
            Some(body) if body.ends_with('\n') || body.is_empty() => {
                self.put('+');
                body
            }
            Some(body) => body,
        };
        for line in body.split('\n') {
            if line.is_empty() {
                self.newline();
            } else {
                self.indent(indent);
                self.text(line);
            }
        }
    }
}

#[cfg(test)]
mod tests;
