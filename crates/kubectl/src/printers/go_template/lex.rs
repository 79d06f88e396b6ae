//! The tokens within actions, and the text between them.

use serde_json::Number;

/// A piece of the source.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    Text(String),
    /// The inside of `{{ }}`, and its line.
    Action(Vec<Token>, usize),
}

/// A token of an action.
#[derive(Clone, Debug, PartialEq)]
pub enum Token {
    /// `if`, `index`, `true`
    Word(String),
    /// `.` or `.a`
    Dot(String),
    /// `$` or `$x`
    Variable(String),
    Text(String),
    Number(Number),
    /// `(`, `)`, `|`, `,`, `=`, `:=`
    Sign(&'static str),
    /// Between operands: `a .b` is not `a.b`.
    Space,
}

const OPEN: &str = "{{";
const CLOSE: &str = "}}";

/// Cuts a template into texts and actions.
pub fn pieces(source: &str) -> Result<Vec<Piece>, String> {
    let mut out = Vec::new();
    let mut rest = source;
    let mut trim = false;
    loop {
        let line = source[..source.len() - rest.len()].matches('\n').count() + 1;
        let Some(at) = rest.find(OPEN) else {
            push(&mut out, rest, trim, false);
            return Ok(out);
        };
        let inside = &rest[at + OPEN.len()..];
        let left =
            inside.starts_with("- ") || inside.starts_with("-\n") || inside.starts_with("-\t");
        push(&mut out, &rest[..at], trim, left);
        let line = line + rest[..at].matches('\n').count();
        let inside = if left { &inside[1..] } else { inside };
        let end = action_end(inside).ok_or_else(|| format!("{line}: unclosed action"))?;
        let (mut body, after) = (&inside[..end], &inside[end + CLOSE.len()..]);
        trim = body.ends_with('-') && body[..body.len() - 1].ends_with(char::is_whitespace);
        if trim {
            body = &body[..body.len() - 1];
        }
        let body = body.trim();
        let comment = body.strip_prefix("/*").and_then(|b| b.strip_suffix("*/"));
        if comment.is_none() {
            let tokens = tokens(body).map_err(|why| format!("{line}: {why}"))?;
            out.push(Piece::Action(tokens, line));
        }
        rest = after;
    }
}

fn push(out: &mut Vec<Piece>, text: &str, trim_start: bool, trim_end: bool) {
    let text = if trim_start { text.trim_start() } else { text };
    let text = if trim_end { text.trim_end() } else { text };
    if !text.is_empty() {
        out.push(Piece::Text(text.to_string()));
    }
}

/// Where an action's `}}` stands: not within a text or comment.
fn action_end(inside: &str) -> Option<usize> {
    let trimmed = inside.trim_start();
    if trimmed.starts_with("/*") {
        let from = inside.find("*/")?;
        return inside[from..].find(CLOSE).map(|at| from + at);
    }
    let mut quote: Option<char> = None;
    let mut escaped = false;
    for (at, letter) in inside.char_indices() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(q) if letter == '\\' && q != '`' => escaped = true,
            Some(q) if letter == q => quote = None,
            Some(_) => {}
            None if ['"', '`', '\''].contains(&letter) => quote = Some(letter),
            None if inside[at..].starts_with(CLOSE) => return Some(at),
            None => {}
        }
    }
    None
}

fn tokens(body: &str) -> Result<Vec<Token>, String> {
    let mut out = Vec::new();
    let mut rest = body;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            c if c.is_whitespace() => {
                out.push(Token::Space);
                rest.len() - rest.trim_start().len()
            }
            '"' | '`' | '\'' => {
                let length = quoted_length(rest, first)?;
                out.push(quoted(&rest[..length], first)?);
                length
            }
            ':' if rest.starts_with(":=") => sign(&mut out, ":="),
            '(' => sign(&mut out, "("),
            ')' => sign(&mut out, ")"),
            '|' => sign(&mut out, "|"),
            ',' => sign(&mut out, ","),
            '=' => sign(&mut out, "="),
            '.' if !rest[1..].starts_with(|c: char| c.is_ascii_digit()) => {
                let length = 1 + name_length(&rest[1..]);
                out.push(Token::Dot(rest[1..length].to_string()));
                length
            }
            '$' => {
                let length = 1 + name_length(&rest[1..]);
                out.push(Token::Variable(rest[..length].to_string()));
                length
            }
            c if c.is_ascii_digit() || ['+', '-', '.'].contains(&c) => {
                let (number, length) = number(rest)?;
                out.push(Token::Number(number));
                length
            }
            c if c == '_' || c.is_alphabetic() => {
                let length = name_length(rest);
                out.push(Token::Word(rest[..length].to_string()));
                length
            }
            other => return Err(format!("unexpected {other:?} in command")),
        };
        rest = &rest[length..];
    }
    Ok(out)
}

fn sign(out: &mut Vec<Token>, sign: &'static str) -> usize {
    out.push(Token::Sign(sign));
    sign.len()
}

fn name_length(text: &str) -> usize {
    let end = text.find(|c: char| c != '_' && !c.is_alphanumeric());
    end.unwrap_or(text.len())
}

fn quoted_length(text: &str, quote: char) -> Result<usize, String> {
    let mut escaped = false;
    for (at, letter) in text.char_indices().skip(1) {
        match letter {
            _ if escaped => escaped = false,
            '\\' if quote != '`' => escaped = true,
            c if c == quote => return Ok(at + 1),
            _ => {}
        }
    }
    Err("unterminated quoted string".into())
}

fn quoted(text: &str, quote: char) -> Result<Token, String> {
    let inside = &text[1..text.len() - 1];
    if quote == '`' {
        return Ok(Token::Text(inside.to_string()));
    }
    let mut out = String::new();
    let mut letters = inside.chars();
    while let Some(letter) = letters.next() {
        if letter != '\\' {
            out.push(letter);
            continue;
        }
        out.push(match letters.next() {
            Some('n') => '\n',
            Some('t') => '\t',
            Some('r') => '\r',
            Some(c @ ('\\' | '"' | '\'')) => c,
            Some('u') => {
                let digits: String = letters.by_ref().take(4).collect();
                let code = u32::from_str_radix(&digits, 16).ok();
                code.and_then(char::from_u32)
                    .ok_or("invalid escape in a string")?
            }
            _ => return Err("invalid escape in a string".into()),
        });
    }
    if quote == '"' {
        return Ok(Token::Text(out));
    }
    let mut all = out.chars();
    match (all.next(), all.next()) {
        (Some(one), None) => Ok(Token::Number(u32::from(one).into())),
        _ => Err(format!("malformed character constant: {text}")),
    }
}

fn number(text: &str) -> Result<(Number, usize), String> {
    let part = |c: char| c.is_ascii_alphanumeric() || ['+', '-', '.', '_'].contains(&c);
    let length = text.find(|c: char| !part(c)).unwrap_or(text.len());
    let word = text[..length].replace('_', "");
    let whole = match word.strip_prefix("0x") {
        Some(hex) => i64::from_str_radix(hex, 16).ok(),
        None => word.parse().ok(),
    };
    let float = || Number::from_f64(word.parse().ok()?);
    let value = whole.map(Number::from).or_else(float);
    value
        .map(|n| (n, length))
        .ok_or_else(|| format!("bad number syntax: {:?}", &text[..length]))
}
