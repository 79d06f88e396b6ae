//! How a string must be written so that YAML 1.1 reads the same string.

/// The styles of a scalar.
#[derive(Debug, PartialEq, Eq)]
pub enum Scalar {
    Plain,
    Single,
    Double,
    Literal,
}

/// The style upstream's emitter chooses.
pub fn style(text: &str, key: bool) -> Scalar {
    let seen = Seen::of(text);
    if text.contains('\n') {
        if seen.special || seen.space_break || seen.space_last || key {
            return Scalar::Double;
        }
        return Scalar::Literal;
    }
    if !is_string(text) {
        return Scalar::Double;
    }
    if seen.special {
        Scalar::Double
    } else if seen.space_first || seen.space_last || seen.indicators {
        Scalar::Single
    } else {
        Scalar::Plain
    }
}

/// What matters of the characters of a text.
#[derive(Default)]
struct Seen {
    indicators: bool,
    special: bool,
    space_first: bool,
    space_last: bool,
    space_break: bool,
}

// === Seen ===

impl Seen {
    fn of(text: &str) -> Self {
        let mut seen = Self {
            indicators: text.starts_with("---") || text.starts_with("..."),
            space_first: text.starts_with(' '),
            space_last: text.ends_with(' '),
            space_break: text.contains(" \n"),
            special: false,
        };
        let mut before = None;
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            let ends = matches!(chars.peek(), None | Some(' ' | '\t' | '\n' | '\r'));
            seen.indicators |= match (before, c) {
                (
                    None,
                    '#' | ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>' | '\'' | '"'
                    | '%' | '@' | '`',
                ) => true,
                (None, '?' | '-') | (_, ':') => ends,
                (Some(' ' | '\t' | '\n'), '#') => true,
                _ => false,
            };
            seen.special |= !printable(c);
            before = Some(c);
        }
        seen
    }
}

fn printable(c: char) -> bool {
    matches!(c, '\n' | ' '..='~' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fefe}' | '\u{ff00}'..='\u{fffd}')
        && !matches!(c, '\u{2028}' | '\u{2029}')
}

/// The escape of a character within double quotes, where it needs one.
pub fn escape(c: char) -> Option<String> {
    let short = match c {
        '\0' => "\\0",
        '\u{7}' => "\\a",
        '\u{8}' => "\\b",
        '\t' => "\\t",
        '\n' => "\\n",
        '\u{b}' => "\\v",
        '\u{c}' => "\\f",
        '\r' => "\\r",
        '\u{1b}' => "\\e",
        '"' => "\\\"",
        '\\' => "\\\\",
        '\u{85}' => "\\N",
        '\u{2028}' => "\\L",
        '\u{2029}' => "\\P",
        c if printable(c) => return None,
        c => {
            let n = c as u32;
            return Some(match n {
                0..=0xff => format!("\\x{n:02X}"),
                0x100..=0xffff => format!("\\u{n:04X}"),
                _ => format!("\\U{n:08X}"),
            });
        }
    };
    Some(short.to_string())
}

/// Whether YAML 1.1 reads an unquoted text as this string.
fn is_string(text: &str) -> bool {
    const WORDS: &[&str] = &[
        "", "~", "null", "Null", "NULL", "y", "Y", "yes", "Yes", "YES", "on", "On", "ON", "true",
        "True", "TRUE", "n", "N", "no", "No", "NO", "off", "Off", "OFF", "false", "False", "FALSE",
        ".nan", ".NaN", ".NAN", ".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF", "-.inf",
        "-.Inf", "-.INF", "<<",
    ];
    !WORDS.contains(&text) && !is_number(text) && !is_base60(text) && !is_timestamp(text)
}

fn is_number(text: &str) -> bool {
    let starts = text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.'));
    if !starts {
        return false;
    }
    let text = text.replace('_', "");
    let digits = text.strip_prefix(['+', '-']).unwrap_or(&text);
    for (prefix, base) in [
        ("0x", 16),
        ("0X", 16),
        ("0b", 2),
        ("0B", 2),
        ("0o", 8),
        ("0O", 8),
    ] {
        if let Some(rest) = digits.strip_prefix(prefix) {
            return !rest.is_empty() && rest.chars().all(|c| c.is_digit(base));
        }
    }
    is_float(digits)
}

/// `\.[0-9]+|[0-9]+(\.[0-9]*)?` and an exponent.
fn is_float(text: &str) -> bool {
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let all = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
    let mantissa_good = match mantissa.split_once('.') {
        Some((whole, part)) => all(whole) && all(part) && !(whole.is_empty() && part.is_empty()),
        None => !mantissa.is_empty() && all(mantissa),
    };
    let exponent_good = exponent.is_none_or(|e| {
        let e = e.strip_prefix(['+', '-']).unwrap_or(e);
        !e.is_empty() && all(e)
    });
    mantissa_good && exponent_good
}

/// Numbers of YAML 1.1 such as `12:30:45`.
fn is_base60(text: &str) -> bool {
    let text = text.strip_prefix(['+', '-']).unwrap_or(text);
    let mut parts = text.split(':');
    let first = parts.next().unwrap_or_default();
    let first_good = first.starts_with(|c: char| c.is_ascii_digit())
        && first.bytes().all(|b| b.is_ascii_digit() || b == b'_');
    let rest: Vec<&str> = parts.collect();
    let Some((last, middle)) = rest.split_last() else {
        return false;
    };
    let sixty = |t: &str| match t.as_bytes() {
        [a] => a.is_ascii_digit(),
        [a, b] => (b'0'..=b'5').contains(a) && b.is_ascii_digit(),
        _ => false,
    };
    let last_good = match last.split_once('.') {
        Some((whole, part)) => {
            sixty(whole) && part.bytes().all(|b| b.is_ascii_digit() || b == b'_')
        }
        None => sixty(last),
    };
    first_good && last_good && middle.iter().all(|t| sixty(t))
}

fn is_timestamp(text: &str) -> bool {
    let b = text.as_bytes();
    if b.len() < 8 || b[4] != b'-' || !b[..4].iter().all(u8::is_ascii_digit) {
        return false;
    }
    let (date, time) = match text.find(['T', 't', ' ']) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let short = |t: &str| (1..=2).contains(&t.len()) && t.bytes().all(|b| b.is_ascii_digit());
    let date_good = matches!(date.splitn(3, '-').collect::<Vec<_>>().as_slice(), [_, m, d] if short(m) && short(d));
    let Some(time) = time else {
        return date_good;
    };
    let spaced = text.as_bytes().get(date.len()) == Some(&b' ');
    let clock = match time.find(['Z', '+', '-']) {
        Some(at) if !spaced => &time[..at],
        None if spaced => time,
        _ => return false,
    };
    let mut parts = clock.split(':');
    let whole = |t: Option<&str>| t.is_some_and(short);
    let seconds = |t: Option<&str>| {
        t.is_some_and(|t| {
            let (s, part) = t.split_once('.').unwrap_or((t, ""));
            short(s) && part.bytes().all(|b| b.is_ascii_digit())
        })
    };
    date_good && whole(parts.next()) && whole(parts.next()) && seconds(parts.next())
}
