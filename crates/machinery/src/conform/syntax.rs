//! What Go's JSON package says of a text that it cannot read, and what it reads though it is odd.
//! Upstream: Go's encoding/json/scanner.go and decode.go.

use crate::causes::go_quote;

/// Why a text is no JSON, in Go's words; nothing where it is.
pub fn syntax_error(data: &[u8]) -> Option<String> {
    let mut scan = Scan { data, at: 0 };
    scan.document().err()
}

/// The text with replacement characters for half surrogates and bytes that are no UTF-8, as Go reads it.
pub fn repaired(data: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(data);
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_ref();
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        out.push_str(before);
        let high = unit(escape).filter(|u| (0xd800..0xdc00).contains(u));
        let low = |t: &str| unit(t).is_some_and(|u| (0xdc00..0xe000).contains(&u));
        let (text, length) = match unit(escape) {
            Some(_) if high.is_some() && low(&escape[6..]) => (&escape[..12], 12),
            Some(0xd800..0xe000) => ("\\ufffd", 6),
            _ => {
                let next = escape.chars().nth(1).map_or(0, char::len_utf8);
                (&escape[..1 + next], 1 + next)
            }
        };
        out.push_str(text);
        rest = &escape[length..];
    }
    out.push_str(rest);
    out.into_bytes()
}

/// The number of a `\uXXXX` at the begin of a text.
fn unit(text: &str) -> Option<u32> {
    u32::from_str_radix(text.strip_prefix("\\u")?.get(..4)?, 16).ok()
}

struct Scan<'a> {
    data: &'a [u8],
    at: usize,
}

type Done = Result<(), String>;

const END: &str = "unexpected end of JSON input";
const VALUE: &str = "looking for beginning of value";
const KEY: &str = "looking for beginning of object key string";

impl Scan<'_> {
    fn peek(&self) -> Option<u8> {
        self.data.get(self.at).copied()
    }

    fn blank(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn bad(&self, context: &str) -> String {
        let Some(c) = self.peek() else {
            return END.into();
        };
        let shown = match c {
            b'\'' => "'\\''".to_string(),
            b'"' => "'\"'".to_string(),
            c => {
                let quoted = go_quote(&char::from(c).to_string());
                format!("'{}'", &quoted[1..quoted.len() - 1])
            }
        };
        format!("invalid character {shown} {context}")
    }

    /// Moves on over one of some bytes.
    fn one(&mut self, of: &[u8], context: &str) -> Result<u8, String> {
        match self.peek() {
            Some(c) if of.contains(&c) => {
                self.at += 1;
                Ok(c)
            }
            _ => Err(self.bad(context)),
        }
    }

    fn document(&mut self) -> Done {
        self.blank();
        // The ends of what is open.
        let mut open: Vec<u8> = Vec::new();
        loop {
            // A value begins here.
            match self.peek() {
                Some(b'{') => {
                    self.at += 1;
                    self.blank();
                    if self.peek() != Some(b'}') {
                        self.key()?;
                        open.push(b'}');
                        continue;
                    }
                    self.at += 1;
                }
                Some(b'[') => {
                    self.at += 1;
                    self.blank();
                    if self.peek() != Some(b']') {
                        open.push(b']');
                        continue;
                    }
                    self.at += 1;
                }
                _ => self.scalar()?,
            }
            // A value has ended.
            loop {
                self.blank();
                match open.last() {
                    None => {
                        return match self.peek() {
                            None => Ok(()),
                            Some(_) => Err(self.bad("after top-level value")),
                        };
                    }
                    Some(b'}') => {
                        if self.one(b",}", "after object key:value pair")? == b',' {
                            self.blank();
                            self.key()?;
                            break;
                        }
                    }
                    Some(_) => {
                        if self.one(b",]", "after array element")? == b',' {
                            self.blank();
                            break;
                        }
                    }
                }
                open.pop();
            }
        }
    }

    fn key(&mut self) -> Done {
        match self.peek() {
            Some(b'"') => self.string()?,
            _ => return Err(self.bad(KEY)),
        }
        self.blank();
        self.one(b":", "after object key")?;
        self.blank();
        Ok(())
    }

    fn scalar(&mut self) -> Done {
        match self.peek() {
            Some(b'"') => self.string(),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true"),
            Some(b'f') => self.word("false"),
            Some(b'n') => self.word("null"),
            _ => Err(self.bad(VALUE)),
        }
    }

    fn word(&mut self, word: &str) -> Done {
        for c in word.bytes() {
            let shown = char::from(c);
            self.one(&[c], &format!("in literal {word} (expecting '{shown}')"))?;
        }
        Ok(())
    }

    fn digits(&mut self) {
        while self.peek().is_some_and(|c| c.is_ascii_digit()) {
            self.at += 1;
        }
    }

    fn number(&mut self) -> Done {
        const DIGITS: &[u8] = b"0123456789";
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.one(DIGITS, "in numeric literal")? != b'0' {
            self.digits();
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.one(DIGITS, "after decimal point in numeric literal")?;
            self.digits();
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.one(DIGITS, "in exponent of numeric literal")?;
            self.digits();
        }
        Ok(())
    }

    fn string(&mut self) -> Done {
        self.at += 1;
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => {
                    self.at += 1;
                    if self.one(b"bfnrt\\/\"u", "in string escape code")? == b'u' {
                        for _ in 0..4 {
                            let hex = b"0123456789abcdefABCDEF";
                            self.one(hex, "in \\u hexadecimal character escape")?;
                        }
                    }
                }
                Some(c) if c >= 0x20 => self.at += 1,
                _ => return Err(self.bad("in string literal")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_told_as_go_tells_it() {
        for (text, expected) in [
            ("", "unexpected end of JSON input"),
            ("{", "unexpected end of JSON input"),
            (
                "{\"a\":}",
                "invalid character '}' looking for beginning of value",
            ),
            (
                "{a}",
                "invalid character 'a' looking for beginning of object key string",
            ),
            ("{\"a\" 1}", "invalid character '1' after object key"),
            (
                "{\"a\":1 2}",
                "invalid character '2' after object key:value pair",
            ),
            ("[1 2]", "invalid character '2' after array element"),
            ("{} x", "invalid character 'x' after top-level value"),
            ("nul", "unexpected end of JSON input"),
            (
                "nuxl",
                "invalid character 'x' in literal null (expecting 'l')",
            ),
            ("-x", "invalid character 'x' in numeric literal"),
            (
                "1.x",
                "invalid character 'x' after decimal point in numeric literal",
            ),
            ("01", "invalid character '1' after top-level value"),
            ("\"\u{1}\"", "invalid character '\\x01' in string literal"),
            ("\"\\q\"", "invalid character 'q' in string escape code"),
            (
                "'a'",
                "invalid character '\\'' looking for beginning of value",
            ),
            (
                "[1,]",
                "invalid character ']' looking for beginning of value",
            ),
        ] {
            assert_eq!(
                syntax_error(text.as_bytes()).as_deref(),
                Some(expected),
                "{text}"
            );
        }
        assert_eq!(
            syntax_error(b" {\"a\": [1, -0.5e3, \"\\u00e9\\n\", true, null, {}]} "),
            None
        );
    }

    #[test]
    fn half_surrogates_are_replaced() {
        let read =
            |text: &str| serde_json::from_slice::<String>(&repaired(text.as_bytes())).unwrap();
        assert_eq!(read("\"a\\ud800b\""), "a\u{fffd}b");
        assert_eq!(read("\"\\ud83d\\ude00\""), "😀");
        assert_eq!(read("\"\\\\ud800\""), "\\ud800");
    }
}
