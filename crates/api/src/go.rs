//! Texts as Go's standard library writes them, where they reach clients: quoted strings, numbers, and what its
//! JSON and base64 decoders say of texts that are none. Upstream: strconv, encoding/json, encoding/base64.

pub mod json;

/// Go's `%q` of a string.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    text.chars().for_each(|c| escape(c, '"', &mut out));
    out.push('"');
    out
}

/// A character as Go's JSON decoder names it.
fn quoted_char(c: char) -> String {
    match c {
        '\'' => r"'\''".into(),
        '"' => "'\"'".into(),
        c => {
            let mut out = String::from("'");
            escape(c, '"', &mut out);
            out.push('\'');
            out
        }
    }
}

fn escape(c: char, quote: char, out: &mut String) {
    let short = match c {
        '\\' => "\\\\",
        '\u{7}' => "\\a",
        '\u{8}' => "\\b",
        '\t' => "\\t",
        '\n' => "\\n",
        '\u{b}' => "\\v",
        '\u{c}' => "\\f",
        '\r' => "\\r",
        c if c == quote => {
            out.push('\\');
            out.push(c);
            return;
        }
        c if printable(c) => {
            out.push(c);
            return;
        }
        c => {
            let n = u32::from(c);
            out.push_str(&match n {
                0..0x20 | 0x7f => format!("\\x{n:02x}"),
                0x80..0x1_0000 => format!("\\u{n:04x}"),
                _ => format!("\\U{n:08x}"),
            });
            return;
        }
    };
    out.push_str(short);
}

/// Go's `unicode.IsPrint`, without the unassigned.
fn printable(c: char) -> bool {
    let hidden = matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{e000}'..='\u{f8ff}' | '\u{feff}' | '\u{fff0}'..='\u{fffb}' | '\u{fffe}' | '\u{ffff}');
    c == ' ' || !(c.is_control() || c.is_whitespace() || hidden)
}

/// Go's `FormatFloat(n, 'g', -1, 64)`: the shortest digits, with an exponent where that is below -4 or above 5.
pub fn float(n: f64) -> String {
    if n == 0.0 || !n.is_finite() {
        return match n {
            n if n.is_nan() => "NaN".into(),
            n if n == f64::INFINITY => "+Inf".into(),
            n if n == f64::NEG_INFINITY => "-Inf".into(),
            n if n.is_sign_negative() => "-0".into(),
            _ => "0".into(),
        };
    }
    // Rust writes the same shortest digits.
    let scientific = format!("{n:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if !(-4..6).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    n.to_string()
}

/// What Go's unpadded URL-safe base64 decoder says of a text that is none.
pub fn base64_error(text: &str) -> Option<String> {
    let mut count = 0;
    let mut last = 0;
    for (i, b) in text.bytes().enumerate() {
        match b {
            b'\r' | b'\n' => continue,
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => {}
            _ => return Some(format!("illegal base64 data at input byte {i}")),
        }
        count += 1;
        last = i;
    }
    (count % 4 == 1).then(|| format!("illegal base64 data at input byte {last}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_quoted_as_go_does() {
        for (text, expected) in [
            ("a\"b\\", r#""a\"b\\""#),
            ("\u{7}\u{b}\t\n\u{1}\u{7f}", r#""\a\v\t\n\x01\x7f""#),
            ("é \u{81}\u{a0}\u{2028}", r#""é \u0081\u00a0\u2028""#),
        ] {
            assert_eq!(quote(text), expected);
        }
    }

    #[test]
    fn numbers_are_written_as_go_does() {
        for (n, expected) in [
            (1.5, "1.5"),
            (100_000.0, "100000"),
            (1_000_000.0, "1e+06"),
            (1_234_567.5, "1.2345675e+06"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (-2.5e100, "-2.5e+100"),
        ] {
            assert_eq!(float(n), expected);
        }
    }

    #[test]
    fn base64_is_refused_where_go_refuses_it() {
        for (text, expected) in [
            ("garbage", None),
            ("e30", None),
            ("e30=", Some(3)),
            ("a", Some(0)),
            ("abcde", Some(4)),
            ("ab+d", Some(2)),
            ("", None),
        ] {
            let expected =
                expected.map(|n: usize| format!("illegal base64 data at input byte {n}"));
            assert_eq!(base64_error(text), expected, "{text}");
        }
    }
}
