//! What a scalar stands for, by its tag and its text, as YAML 1.1 has it. Upstream: resolve.go.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::general_purpose::{GeneralPurpose, PAD};

use super::Fault;
use super::tree::Tree;

/// Where the tags of YAML itself begin.
pub const PREFIX: &str = "tag:yaml.org,2002:";

/// A scalar whose text, or whose tag, says what it is.
pub fn scalar(tag: &str, text: &str) -> Result<Tree, Fault> {
    let short = match tag.strip_prefix(PREFIX) {
        Some(short) => short,
        None if tag.is_empty() => "",
        // Tags of others mean nothing.
        None => return Ok(Tree::String(text.into())),
    };
    match short {
        "binary" => return binary(text),
        "str" => return Ok(Tree::String(text.into())),
        "" | "bool" | "int" | "float" | "null" | "timestamp" => {}
        _ => return Ok(Tree::String(text.into())),
    }
    let (found, value) = plain(short == "timestamp", text);
    match (short, value) {
        (short, value) if short.is_empty() || short == found => Ok(value),
        #[allow(clippy::cast_precision_loss)] // As upstream does it.
        ("float", Tree::Int(n)) => Ok(Tree::Float(n as f64)),
        _ => Err(Fault(format!(
            "cannot decode !!{found} `{text}` as a !!{short}"
        ))),
    }
}

/// As Go's: what the last bits are does not matter.
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, PAD.with_decode_allow_trailing_bits(true));

fn binary(text: &str) -> Result<Tree, Fault> {
    let packed: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    match BASE64.decode(packed) {
        Ok(data) => Ok(Tree::String(String::from_utf8_lossy(&data).into_owned())),
        Err(_) => Err(Fault("!!binary value contains invalid base64 data".into())),
    }
}

/// The tag and the value of a text.
fn plain(timestamp: bool, text: &str) -> (&'static str, Tree) {
    let string = || ("str", Tree::String(text.into()));
    let first = text.chars().next().unwrap_or('~');
    if !(first.is_ascii_digit() || "+-.yYnNtTfFoO~<".contains(first)) {
        return string();
    }
    match text {
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            ("bool", Tree::Bool(true))
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            ("bool", Tree::Bool(false))
        }
        "" | "~" | "null" | "Null" | "NULL" => ("null", Tree::Null),
        ".nan" | ".NaN" | ".NAN" => ("float", Tree::Float(f64::NAN)),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => {
            ("float", Tree::Float(f64::INFINITY))
        }
        "-.inf" | "-.Inf" | "-.INF" => ("float", Tree::Float(f64::NEG_INFINITY)),
        "<<" => string(),
        _ if first == '.' => match spaced(text).as_deref().and_then(float) {
            Some(n) => ("float", Tree::Float(n)),
            None => string(),
        },
        _ if timestamp && is_timestamp(text) => ("timestamp", Tree::String(text.into())),
        _ if first.is_ascii_digit() || "+-".contains(first) => {
            number(&text.replace('_', "")).unwrap_or_else(string)
        }
        _ => string(),
    }
}

fn number(text: &str) -> Option<(&'static str, Tree)> {
    if let Some(n) = integer(text) {
        return Some(("int", n));
    }
    if is_decimal(text)
        && let Some(n) = float(text)
    {
        return Some(("float", Tree::Float(n)));
    }
    // What Go does not take for a number of base 2, such as a sign behind the base.
    let (sign, digits) = match (text.strip_prefix("0b"), text.strip_prefix("-0b")) {
        (Some(digits), _) => ("", digits),
        (_, Some(digits)) => ("-", digits),
        _ => return None,
    };
    let signed = i64::from_str_radix(&format!("{sign}{digits}"), 2).ok();
    let n = signed.filter(|_| !digits.is_empty());
    n.map(|n| ("int", Tree::Int(n)))
}

/// A number of Go's: with a base, and a leading zero for base 8.
fn integer(text: &str) -> Option<Tree> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let lower = digits.to_ascii_lowercase();
    let (base, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, &lower[..]),
    };
    if digits.is_empty() || !digits.bytes().all(|c| c.is_ascii_alphanumeric()) {
        return None;
    }
    let n = i128::from(u64::from_str_radix(digits, base).ok()?);
    let n = if negative { -n } else { n };
    if let Ok(n) = i64::try_from(n) {
        return Some(Tree::Int(n));
    }
    // Without a sign only.
    let bare = text.as_bytes()[0].is_ascii_digit();
    u64::try_from(n).ok().filter(|_| bare).map(Tree::Uint)
}

/// Whether a text is `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`.
fn is_decimal(text: &str) -> bool {
    let digits = |t: &str| t.len() - t.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let text = text.strip_prefix(['+', '-']).unwrap_or(text);
    let whole = digits(text);
    let rest = &text[whole..];
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(more) => (digits(more), &more[digits(more)..]),
        None => (0, rest),
    };
    let exponent = rest.strip_prefix(['e', 'E']).map(|e| {
        let e = e.strip_prefix(['+', '-']).unwrap_or(e);
        !e.is_empty() && digits(e) == e.len()
    });
    (whole > 0 || fraction > 0) && (rest.is_empty() || exponent == Some(true))
}

fn float(text: &str) -> Option<f64> {
    if !is_decimal(text) {
        return None;
    }
    text.parse().ok().filter(|n: &f64| n.is_finite())
}

/// A number without the underscores that stand between its digits; nothing where others are.
fn spaced(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let digit = |i: Option<usize>| i.and_then(|i| bytes.get(i)).is_some_and(u8::is_ascii_digit);
    let mut places = (0..bytes.len()).filter(|i| bytes[*i] == b'_');
    let good = places.all(|i| digit(i.checked_sub(1)) && digit(Some(i + 1)));
    good.then(|| text.replace('_', ""))
}

/// Whether a text is a date, or a date with a time.
fn is_timestamp(text: &str) -> bool {
    fn part<'a>(rest: &mut &'a str, max: usize) -> &'a str {
        let n = rest
            .bytes()
            .take(max)
            .take_while(u8::is_ascii_digit)
            .count();
        let (head, tail) = rest.split_at(n);
        *rest = tail;
        head
    }
    fn after(rest: &mut &str, what: &[char]) -> bool {
        let found = rest.strip_prefix(what);
        *rest = found.unwrap_or(rest);
        found.is_some()
    }
    let mut rest = text;
    let (year, month, day, begins);
    year = part(&mut rest, 4).parse::<i16>();
    if text.len() < 4 || !after(&mut rest, &['-']) {
        return false;
    }
    month = part(&mut rest, 2).parse::<i8>();
    if !after(&mut rest, &['-']) {
        return false;
    }
    day = part(&mut rest, 2).parse::<i8>();
    let (Ok(year), Ok(month), Ok(day)) = (year, month, day) else {
        return false;
    };
    if jiff::civil::Date::new(year, month, day).is_err() {
        return false;
    }
    if rest.is_empty() {
        return true;
    }
    begins = rest.chars().next();
    if !after(&mut rest, &['T', 't', ' ']) {
        return false;
    }
    for (limit, mark) in [(24, ':'), (60, ':'), (60, '\0')] {
        let fits = part(&mut rest, 2).parse::<u8>().is_ok_and(|n| n < limit);
        if !fits || (mark != '\0' && !after(&mut rest, &[mark])) {
            return false;
        }
    }
    if after(&mut rest, &['.', ',']) && part(&mut rest, usize::MAX).is_empty() {
        return false;
    }
    match begins {
        Some(' ') => rest.is_empty(),
        _ if rest == "Z" => true,
        _ => {
            let zone = rest.as_bytes();
            zone.len() == 6 && b"+-".contains(&zone[0]) && zone[3] == b':'
        }
    }
}
