//! YAML as upstream writes it: keys in natural order, lists not indented, strings quoted only where YAML 1.1 would
//! read something else, long lines folded at 80. Upstream: sigs.k8s.io/yaml (go-yaml v2), which is given JSON.

mod scalar;

use std::cmp::Ordering;

use serde_json::{Map, Number, Value};

use scalar::Scalar;

/// Lines are folded at the first space beyond this column.
const WIDTH: usize = 80;
/// Longer keys, in bytes, are written as `? key`.
const KEY_BYTES: usize = 128;

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
            e.scalar(scalar, 0);
            e.newline();
        }
    }
    e.out
}

/// The order of keys: letters by their code, after all else; numbers by their value.
fn natural(a: &str, b: &str) -> Ordering {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let Some(i) = a.iter().zip(&b).position(|(x, y)| x != y) else {
        return a.len().cmp(&b.len());
    };
    match (a[i].is_alphabetic(), b[i].is_alphabetic()) {
        (true, true) => return a[i].cmp(&b[i]),
        (true, false) => return Ordering::Greater,
        (false, true) => return Ordering::Less,
        (false, false) => {}
    }
    // A zero within a number counts, one before it does not.
    let zero = a[i] == '0' || b[i] == '0';
    let digits = a[..i].iter().rev().take_while(|c| c.is_ascii_digit());
    let within = zero && digits.into_iter().any(|c| *c != '0');
    let number = |t: &[char]| {
        let digits = t.iter().map_while(|c| c.to_digit(10));
        digits.fold((u64::from(within), 0), |(n, count), d| {
            (n.wrapping_mul(10).wrapping_add(u64::from(d)), count + 1)
        })
    };
    let ordered = number(&a[i..]).cmp(&number(&b[i..]));
    ordered.then(a[i].cmp(&b[i]))
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
    fn mapping(&mut self, map: &Map<String, Value>, indent: usize, mut inline: bool) {
        let mut keys: Vec<&String> = map.keys().collect();
        keys.sort_by(|a, b| natural(a, b));
        for key in keys {
            if !inline {
                self.text(&" ".repeat(indent));
            }
            inline = false;
            if key.len() > KEY_BYTES || key.contains('\n') {
                self.long_key(key, &map[key], indent);
                continue;
            }
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
                    self.scalar(scalar, indent);
                    self.newline();
                }
            }
        }
    }

    /// A key on a line of its own, then its value after a colon.
    fn long_key(&mut self, key: &str, value: &Value, indent: usize) {
        self.text("? ");
        self.string(key, indent, false);
        self.indent(indent);
        self.text(": ");
        self.item(value, indent);
    }

    fn sequence(&mut self, list: &[Value], indent: usize, mut inline: bool) {
        for item in list {
            if !inline {
                self.text(&" ".repeat(indent));
            }
            inline = false;
            self.text("- ");
            self.item(item, indent);
        }
    }

    /// What follows a dash or the colon of a long key.
    fn item(&mut self, value: &Value, indent: usize) {
        match value {
            Value::Object(m) if !m.is_empty() => self.mapping(m, indent + 2, true),
            Value::Array(l) if !l.is_empty() => self.sequence(l, indent + 2, true),
            scalar => {
                self.scalar(scalar, indent);
                self.newline();
            }
        }
    }

    fn scalar(&mut self, value: &Value, indent: usize) {
        match value {
            Value::Null => self.text("null"),
            Value::Bool(b) => self.text(if *b { "true" } else { "false" }),
            Value::Number(n) => self.text(&number(n)),
            Value::String(s) => self.string(s, indent, false),
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

/// A number as it is read from JSON and written again.
fn number(n: &Number) -> String {
    match n.as_f64() {
        Some(f) if n.is_f64() => crate::go::float(f),
        _ => n.to_string(),
    }
}

#[cfg(test)]
mod tests;
