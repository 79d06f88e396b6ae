//! Go's regular expressions (RE2): the same syntax, the same words for what is wrong with one, matched by
//! the crate `regex`. Upstream: Go's regexp/syntax/parse.go with the flags `Perl`.

use regex::{Regex, RegexBuilder};

/// Nesting of groups that is read.
const DEPTH_MAX: usize = 200;
/// Largest number of repetitions.
const REPEAT_MAX: i64 = 1000;

/// Compiles an expression whose program is at most so large. The error is Go's text.
pub fn compile(text: &str, size_limit: usize) -> Result<Regex, String> {
    let translated = Parser::of(text).whole()?;
    let built = RegexBuilder::new(&translated)
        .size_limit(size_limit)
        .build();
    built.map_err(|_| error("expression too large", text))
}

/// An expression in the syntax of the crate `regex`; the error is Go's text.
pub fn translated(text: &str) -> Result<String, String> {
    Parser::of(text).whole()
}

fn error(what: &str, part: &str) -> String {
    format!("error parsing regexp: {what}: `{part}`")
}

/// A group that is open, or the whole.
#[derive(Default)]
struct Level {
    /// Something stands here that can be repeated.
    atom: bool,
    /// Product of nested repetitions in what stands last, and the largest of all before it.
    last: i64,
    largest: i64,
}

impl Level {
    fn push(&mut self, weight: i64) {
        self.largest = self.largest.max(self.last);
        self.last = weight;
        self.atom = true;
    }

    fn weight(&self) -> i64 {
        self.largest.max(self.last).max(1)
    }
}

struct Parser<'a> {
    whole: &'a str,
    rest: &'a str,
    out: String,
    open: Vec<Level>,
}

type Read<T> = Result<T, String>;

impl<'a> Parser<'a> {
    fn of(text: &'a str) -> Self {
        Self {
            whole: text,
            rest: text,
            out: String::with_capacity(text.len() + 16),
            open: vec![Level::default()],
        }
    }

    fn level(&mut self) -> &mut Level {
        let last = self.open.len() - 1;
        &mut self.open[last]
    }

    fn skip(&mut self, bytes: usize) {
        self.rest = &self.rest[bytes..];
    }

    fn atom(&mut self, text: &str) {
        self.out.push_str(text);
        self.level().push(1);
    }

    fn literal(&mut self, c: char) {
        let mut buffer = [0; 4];
        let text = regex::escape(c.encode_utf8(&mut buffer));
        self.atom(&text);
    }

    fn whole(mut self) -> Read<String> {
        let mut last_repeat = "";
        while let Some(c) = self.rest.chars().next() {
            let before = self.rest;
            let mut repeated = false;
            match c {
                '(' => self.group()?,
                '|' => {
                    self.skip(1);
                    self.out.push('|');
                    let level = self.level();
                    level.push(1);
                    level.atom = false;
                }
                ')' => self.close()?,
                '^' | '$' | '.' => {
                    self.skip(1);
                    self.atom(&c.to_string());
                }
                '[' => self.class()?,
                '*' | '+' | '?' => {
                    self.skip(1);
                    self.repeat(before, last_repeat, 1)?;
                    repeated = true;
                }
                '{' => match counted(before) {
                    None => {
                        self.skip(1);
                        self.literal('{');
                    }
                    Some((min, max, after)) => {
                        let part = &before[..before.len() - after.len()];
                        if !(0..=REPEAT_MAX).contains(&min)
                            || max > REPEAT_MAX
                            || (max >= 0 && min > max)
                        {
                            return Err(error("invalid repeat count", part));
                        }
                        self.rest = after;
                        self.repeat(before, last_repeat, if max < 0 { min } else { max })?;
                        repeated = true;
                    }
                },
                '\\' => self.escaped()?,
                c => {
                    self.skip(c.len_utf8());
                    self.literal(c);
                }
            }
            last_repeat = if repeated { before } else { "" };
        }
        match self.open.len() {
            1 => Ok(self.out),
            _ => Err(error("missing closing )", self.whole)),
        }
    }

    fn close(&mut self) -> Read<()> {
        self.skip(1);
        let Some(level) = self.open.pop().filter(|_| !self.open.is_empty()) else {
            return Err(error("unexpected )", self.whole));
        };
        self.out.push(')');
        self.level().push(level.weight());
        Ok(())
    }

    /// After an operator that repeats what stands before it.
    fn repeat(&mut self, before: &str, last_repeat: &str, times: i64) -> Read<()> {
        if self.rest.starts_with('?') {
            self.skip(1);
        }
        let end = self.rest.len();
        if !last_repeat.is_empty() {
            let part = &last_repeat[..last_repeat.len() - end];
            return Err(error("invalid nested repetition operator", part));
        }
        let part = &before[..before.len() - end];
        let level = self.level();
        if !level.atom {
            return Err(error("missing argument to repetition operator", part));
        }
        if times >= 2 {
            level.last = level.last.max(1).saturating_mul(times);
            if level.last > REPEAT_MAX {
                return Err(error("invalid repeat count", part));
            }
        }
        self.out.push_str(part);
        Ok(())
    }

    fn opened(&mut self, text: &str) -> Read<()> {
        if self.open.len() > DEPTH_MAX {
            return Err(error("expression nests too deeply", self.whole));
        }
        self.out.push_str(text);
        self.open.push(Level::default());
        Ok(())
    }

    fn group(&mut self) -> Read<()> {
        let t = self.rest;
        if !t.starts_with("(?") {
            self.skip(1);
            return self.opened("(");
        }
        let start = match t {
            _ if t.starts_with("(?P<") && t.len() > 4 => 4,
            _ if t.starts_with("(?<") && t.len() > 3 => 3,
            _ => return self.flags(),
        };
        let Some(end) = t.find('>') else {
            return Err(error("invalid named capture", t));
        };
        let name = &t[start..end];
        let good = |c: char| c == '_' || c.is_ascii_alphanumeric();
        if name.is_empty() || !name.chars().all(good) {
            return Err(error("invalid named capture", &t[..=end]));
        }
        self.skip(end + 1);
        // Nothing asks for names.
        self.opened("(")
    }

    /// `(?flags)` and `(?flags:`.
    fn flags(&mut self) -> Read<()> {
        let t = self.rest;
        let (mut negative, mut seen) = (false, false);
        for (i, c) in t.char_indices().skip(2) {
            let end = i + c.len_utf8();
            match c {
                'i' | 'm' | 's' | 'U' => seen = true,
                '-' if !negative => (negative, seen) = (true, false),
                ':' | ')' if !negative || seen => {
                    self.skip(end);
                    return match (c, &t[..end]) {
                        (':', text) => self.opened(text),
                        (_, "(?)") => Ok(()),
                        (_, text) => {
                            self.out.push_str(text);
                            Ok(())
                        }
                    };
                }
                _ => return Err(error("invalid or unsupported Perl syntax", &t[..end])),
            }
        }
        Err(error("invalid or unsupported Perl syntax", t))
    }

    fn escaped(&mut self) -> Read<()> {
        let t = self.rest;
        let whole = match t.as_bytes().get(1) {
            Some(b'A') => r"\A",
            Some(b'b') => r"(?-u:\b)",
            Some(b'B') => r"\B",
            Some(b'z') => r"\z",
            Some(b'C') => return Err(error("invalid escape sequence", &t[..2])),
            Some(b'Q') => {
                let (quoted, after) = t[2..].split_once(r"\E").unwrap_or((&t[2..], ""));
                quoted.chars().for_each(|c| self.literal(c));
                self.rest = after;
                return Ok(());
            }
            _ => "",
        };
        if !whole.is_empty() {
            self.skip(2);
            self.atom(whole);
            return Ok(());
        }
        if let Some((class, after)) = named(t)? {
            self.rest = after;
            self.atom(&format!("[{class}]"));
            return Ok(());
        }
        let (c, after) = escape(t)?;
        self.rest = after;
        self.literal(c);
        Ok(())
    }

    fn class(&mut self) -> Read<()> {
        let whole = self.rest;
        let mut t = &whole[1..];
        let mut out = String::from("[");
        if let Some(after) = t.strip_prefix('^') {
            out.push('^');
            t = after;
        }
        let mut first = true;
        while first || !t.starts_with(']') {
            first = false;
            if let Some((class, after)) = posix(t)? {
                out.push_str(class);
                t = after;
                continue;
            }
            if let Some((class, after)) = named(t)? {
                out.push_str(&class);
                t = after;
                continue;
            }
            let range = t;
            let (low, after) = class_char(t, whole)?;
            t = after;
            let mut high = low;
            if t.len() >= 2 && t.starts_with('-') && !t.starts_with("-]") {
                (high, t) = class_char(&t[1..], whole)?;
                if high < low {
                    let part = &range[..range.len() - t.len()];
                    return Err(error("invalid character class range", part));
                }
            }
            out.push_str(&format!(
                "\\x{{{:X}}}-\\x{{{:X}}}",
                u32::from(low),
                u32::from(high)
            ));
        }
        out.push(']');
        self.rest = &t[1..];
        self.atom(&out);
        Ok(())
    }
}

/// `{min}`, `{min,}` or `{min,max}` and what follows; -1 for no maximum and, as minimum, for numbers too big.
fn counted(t: &str) -> Option<(i64, i64, &str)> {
    let (mut min, t) = integer(t.strip_prefix('{')?)?;
    let (max, t) = match t.strip_prefix(',') {
        None => (min, t),
        Some(t) if t.starts_with('}') => (-1, t),
        Some(t) => {
            let (max, t) = integer(t)?;
            if max < 0 {
                min = -1;
            }
            (max, t)
        }
    };
    Some((min, max, t.strip_prefix('}')?))
}

fn integer(t: &str) -> Option<(i64, &str)> {
    let rest = t.trim_start_matches(|c: char| c.is_ascii_digit());
    let digits = &t[..t.len() - rest.len()];
    if digits.is_empty() || (digits.len() > 1 && digits.starts_with('0')) {
        return None;
    }
    let n = digits.parse().unwrap_or(-1);
    Some((if n > 999_999_999 { -1 } else { n }, rest))
}

/// `\d` and its like, and `\p{…}`, as the inside of a class.
fn named(t: &str) -> Read<Option<(String, &str)>> {
    let mut chars = t.chars();
    if chars.next() != Some('\\') {
        return Ok(None);
    }
    let Some(c) = chars.next() else {
        return Ok(None);
    };
    let plain = match c {
        'd' => "0-9",
        'D' => "[^0-9]",
        's' => r"\t\n\f\r ",
        'S' => r"[^\t\n\f\r ]",
        'w' => "0-9A-Za-z_",
        'W' => "[^0-9A-Za-z_]",
        'p' | 'P' => return unicode(t).map(Some),
        _ => return Ok(None),
    };
    Ok(Some((plain.into(), &t[2..])))
}

fn unicode(t: &str) -> Read<(String, &str)> {
    let bad = |part: &str| error("invalid character class range", part);
    let Some(c) = t[2..].chars().next() else {
        return Err(bad(t));
    };
    let (name, end) = if c == '{' {
        let end = t.find('}').ok_or_else(|| bad(t))?;
        (&t[3..end], end + 1)
    } else {
        (&t[2..2 + c.len_utf8()], 2 + c.len_utf8())
    };
    let bare = name.strip_prefix('^').unwrap_or(name);
    let negative = t.starts_with("\\P") != (bare.len() != name.len());
    let class = format!("\\{}{{{bare}}}", if negative { 'P' } else { 'p' });
    let plain = !bare.is_empty()
        && bare
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_- ".contains(c));
    if !plain || Regex::new(&class).is_err() {
        return Err(bad(&t[..end]));
    }
    Ok((class, &t[end..]))
}

/// `[:alpha:]` and its like.
fn posix(t: &str) -> Read<Option<(&str, &str)>> {
    const NAMES: [&str; 14] = [
        "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct",
        "space", "upper", "word", "xdigit",
    ];
    let Some(end) = t.strip_prefix("[:").and_then(|inner| inner.find(":]")) else {
        return Ok(None);
    };
    let (part, after) = t.split_at(end + 4);
    let name = &t[2..end + 2];
    if !NAMES.contains(&name.strip_prefix('^').unwrap_or(name)) {
        return Err(error("invalid character class range", part));
    }
    Ok(Some((part, after)))
}

fn class_char<'a>(t: &'a str, whole: &str) -> Read<(char, &'a str)> {
    match t.chars().next() {
        None => Err(error("missing closing ]", whole)),
        Some('\\') => escape(t),
        Some(c) => Ok((c, &t[c.len_utf8()..])),
    }
}

/// The character that an escape stands for.
fn escape(s: &str) -> Read<(char, &str)> {
    let mut chars = s[1..].chars();
    let Some(c) = chars.next() else {
        return Err(error("trailing backslash at end of expression", ""));
    };
    let t = chars.as_str();
    let bad = |t: &str| Err(error("invalid escape sequence", &s[..s.len() - t.len()]));
    match c {
        '1'..='7' if !t.starts_with(|c| ('0'..='7').contains(&c)) => bad(t),
        '0'..='7' => {
            let more = t
                .bytes()
                .take(2)
                .take_while(|b| (b'0'..=b'7').contains(b))
                .count();
            let digits = &s[1..2 + more];
            let n = u32::from_str_radix(digits, 8).unwrap_or(0);
            Ok((char::from_u32(n).unwrap_or('\0'), &t[more..]))
        }
        'x' => hexadecimal(s, t),
        'a' => Ok(('\x07', t)),
        'f' => Ok(('\x0c', t)),
        'n' => Ok(('\n', t)),
        'r' => Ok(('\r', t)),
        't' => Ok(('\t', t)),
        'v' => Ok(('\x0b', t)),
        c if c.is_ascii() && !c.is_ascii_alphanumeric() => Ok((c, t)),
        _ => bad(t),
    }
}

fn hexadecimal<'a>(s: &'a str, t: &'a str) -> Read<(char, &'a str)> {
    let bad = |t: &str| Err(error("invalid escape sequence", &s[..s.len() - t.len()]));
    let Some(inner) = t.strip_prefix('{') else {
        let mut chars = t.chars();
        let (x, y) = (chars.next(), chars.next());
        let rest = chars.as_str();
        let digit = |c: Option<char>| c.and_then(|c| c.to_digit(16));
        return match (digit(x), digit(y)) {
            (Some(x), Some(y)) => Ok((char::from_u32(x * 16 + y).unwrap_or('\0'), rest)),
            _ => bad(rest),
        };
    };
    let mut n = 0;
    let mut rest = inner;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        if c == '}' {
            let c = char::from_u32(n).filter(|_| !inner.starts_with('}'));
            return c.map_or_else(|| bad(rest), |c| Ok((c, rest)));
        }
        n = match c.to_digit(16) {
            Some(d) if n * 16 + d <= 0x10_FFFF => n * 16 + d,
            _ => return bad(rest),
        };
    }
    bad(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_gos() {
        for (text, expected) in [
            ("[", "missing closing ]: `[`"),
            ("a[b", "missing closing ]: `[b`"),
            ("(", "missing closing ): `(`"),
            ("a)", "unexpected ): `a)`"),
            ("*a", "missing argument to repetition operator: `*`"),
            ("a|*", "missing argument to repetition operator: `*`"),
            ("(+)", "missing argument to repetition operator: `+`"),
            ("a**", "invalid nested repetition operator: `**`"),
            ("a{2}{3}", "invalid nested repetition operator: `{2}{3}`"),
            ("a{1001}", "invalid repeat count: `{1001}`"),
            ("(a{100}){100}", "invalid repeat count: `{100}`"),
            ("a{3,2}", "invalid repeat count: `{3,2}`"),
            ("\\", "trailing backslash at end of expression: ``"),
            ("\\8", "invalid escape sequence: `\\8`"),
            ("\\q", "invalid escape sequence: `\\q`"),
            ("\\1", "invalid escape sequence: `\\1`"),
            ("\\xg0", "invalid escape sequence: `\\xg0`"),
            ("[z-a]", "invalid character class range: `z-a`"),
            ("[[:odd:]]", "invalid character class range: `[:odd:]`"),
            ("\\p{Odd}", "invalid character class range: `\\p{Odd}`"),
            ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
            ("(?<=a)", "invalid named capture: `(?<=a)`"),
            ("(?P<a b>c)", "invalid named capture: `(?P<a b>`"),
        ] {
            let found = translated(text).unwrap_err();
            assert_eq!(found, format!("error parsing regexp: {expected}"), "{text}");
        }
    }

    #[test]
    fn what_go_reads_matches_as_in_go() {
        for (text, yes, no) in [
            ("^[a&&b]$", "&", "c"),
            ("^[[a]$", "[", "b"),
            ("^\\d+$", "12", "١"),
            ("^\\w$", "_", "é"),
            ("^a{,2}$", "a{,2}", "aa"),
            ("^\\Qa.b\\E$", "a.b", "axb"),
            ("^[]a]$", "]", "b"),
            ("^[^\\d\\s]$", "x", "1"),
            ("^(?i)abc$", "ABC", "abd"),
            ("^(?P<n>a)(?:b)?$", "ab", "b"),
            ("^\\x41\\x{42}\\101$", "ABA", "AB"),
            ("^[[:alpha:]-]$", "-", "1"),
            ("\\bend\\b", "the end.", "bend"),
            ("^[a-]$", "-", "b"),
            ("^\\/$", "/", "a"),
        ] {
            let r = compile(text, 1 << 20).unwrap();
            assert!(r.is_match(yes), "{text} {yes}");
            assert!(!r.is_match(no), "{text} {no}");
        }
    }
}
