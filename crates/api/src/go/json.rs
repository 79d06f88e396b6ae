//! What Go's `encoding/json` says of a text that is no JSON: its scanner, state by state.

/// Deepest nesting that Go reads.
const DEPTH: usize = 10_000;

/// The message of Go's syntax error; nothing where the text is one JSON value.
pub fn syntax_error(text: &[u8]) -> Option<String> {
    let mut s = Scanner {
        text,
        at: 0,
        open: Vec::new(),
    };
    s.value().err()
}

struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
    /// What is open, as the character that closes it.
    open: Vec<u8>,
}

type Scanned<T> = Result<T, String>;

// === Scanner ===

impl Scanner<'_> {
    fn peek(&self) -> Scanned<u8> {
        let end = "unexpected end of JSON input";
        self.text.get(self.at).copied().ok_or_else(|| end.into())
    }

    /// The next byte within a literal, a number or an escape: where the text is cut off there, Go's scanner stumbles
    /// over the blank that it ends every text with.
    fn within(&self) -> u8 {
        self.text.get(self.at).copied().unwrap_or(b' ')
    }

    fn spaces(&mut self) {
        while matches!(self.text.get(self.at), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn unexpected<T>(&self, c: u8, context: &str) -> Scanned<T> {
        let c = super::quoted_char(char::from(c));
        Err(format!("invalid character {c} {context}"))
    }

    /// All of the text, value by value.
    fn value(&mut self) -> Scanned<()> {
        loop {
            self.spaces();
            let c = self.peek()?;
            match c {
                b'{' | b'[' => {
                    self.at += 1;
                    if self.open.len() == DEPTH {
                        return Err("exceeded max depth".into());
                    }
                    self.open.push(if c == b'{' { b'}' } else { b']' });
                    self.spaces();
                    if self.peek()? == if c == b'{' { b'}' } else { b']' } {
                        self.at += 1;
                        self.open.pop();
                    } else {
                        if c == b'{' {
                            self.key()?;
                        }
                        continue;
                    }
                }
                _ => self.scalar(c)?,
            }
            if self.after()? {
                return Ok(());
            }
        }
    }

    /// What follows a value; true at the end.
    fn after(&mut self) -> Scanned<bool> {
        loop {
            self.spaces();
            let Some(close) = self.open.last().copied() else {
                return match self.text.get(self.at) {
                    None => Ok(true),
                    Some(c) => self.unexpected(*c, "after top-level value"),
                };
            };
            let c = self.peek()?;
            self.at += 1;
            match (c, close) {
                (b',', b'}') => {
                    self.spaces();
                    self.key()?;
                    return Ok(false);
                }
                (b',', _) => return Ok(false),
                (c, close) if c == close => {
                    self.open.pop();
                }
                (c, b'}') => return self.unexpected(c, "after object key:value pair"),
                (c, _) => return self.unexpected(c, "after array element"),
            }
        }
    }

    fn key(&mut self) -> Scanned<()> {
        let c = self.peek()?;
        if c != b'"' {
            return self.unexpected(c, "looking for beginning of object key string");
        }
        self.string()?;
        self.spaces();
        let c = self.peek()?;
        if c != b':' {
            return self.unexpected(c, "after object key");
        }
        self.at += 1;
        Ok(())
    }

    fn scalar(&mut self, c: u8) -> Scanned<()> {
        match c {
            b'"' => self.string(),
            b't' => self.word("true"),
            b'f' => self.word("false"),
            b'n' => self.word("null"),
            b'-' | b'0'..=b'9' => self.number(),
            c => self.unexpected(c, "looking for beginning of value"),
        }
    }

    fn word(&mut self, word: &str) -> Scanned<()> {
        for expected in word.bytes() {
            let c = self.within();
            if c != expected {
                let expected = char::from(expected);
                return self.unexpected(c, &format!("in literal {word} (expecting '{expected}')"));
            }
            self.at += 1;
        }
        Ok(())
    }

    fn string(&mut self) -> Scanned<()> {
        self.at += 1;
        loop {
            let c = self.peek()?;
            match c {
                b'"' => {
                    self.at += 1;
                    return Ok(());
                }
                0..0x20 => return self.unexpected(c, "in string literal"),
                b'\\' => {
                    self.at += 1;
                    self.escape()?;
                }
                _ => self.at += 1,
            }
        }
    }

    fn escape(&mut self) -> Scanned<()> {
        let c = self.within();
        self.at += 1;
        match c {
            b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"' => Ok(()),
            b'u' => {
                for _ in 0..4 {
                    let c = self.within();
                    if !c.is_ascii_hexdigit() {
                        return self.unexpected(c, "in \\u hexadecimal character escape");
                    }
                    self.at += 1;
                }
                Ok(())
            }
            c => self.unexpected(c, "in string escape code"),
        }
    }

    fn digits(&mut self) {
        while self.text.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
    }

    fn number(&mut self) -> Scanned<()> {
        if self.peek()? == b'-' {
            self.at += 1;
            let c = self.within();
            if !c.is_ascii_digit() {
                return self.unexpected(c, "in numeric literal");
            }
        }
        if self.peek()? == b'0' {
            self.at += 1;
        } else {
            self.digits();
        }
        if self.text.get(self.at) == Some(&b'.') {
            self.at += 1;
            let c = self.within();
            if !c.is_ascii_digit() {
                return self.unexpected(c, "after decimal point in numeric literal");
            }
            self.digits();
        }
        if matches!(self.text.get(self.at), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.within(), b'+' | b'-') {
                self.at += 1;
            }
            let c = self.within();
            if !c.is_ascii_digit() {
                return self.unexpected(c, "in exponent of numeric literal");
            }
            self.digits();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::syntax_error;

    #[test]
    fn texts_are_refused_in_gos_words() {
        for (text, expected) in [
            (
                "{\"a\": [1, {}, -0.5e+3, \"\\u00e9\\n\"], \"b\": null} ",
                "",
            ),
            ("", "unexpected end of JSON input"),
            ("{\"a\"", "unexpected end of JSON input"),
            ("{\"a", "unexpected end of JSON input"),
            ("[12", "unexpected end of JSON input"),
            (
                "nul",
                "invalid character ' ' in literal null (expecting 'l')",
            ),
            ("\"\\", "invalid character ' ' in string escape code"),
            (
                "\"\\u0",
                "invalid character ' ' in \\u hexadecimal character escape",
            ),
            ("-", "invalid character ' ' in numeric literal"),
            (
                "1.",
                "invalid character ' ' after decimal point in numeric literal",
            ),
            (
                "1e+",
                "invalid character ' ' in exponent of numeric literal",
            ),
            ("x", "invalid character 'x' looking for beginning of value"),
            (
                "'",
                "invalid character '\\'' looking for beginning of value",
            ),
            (
                "{a",
                "invalid character 'a' looking for beginning of object key string",
            ),
            (
                "{\"a\":1,}",
                "invalid character '}' looking for beginning of object key string",
            ),
            ("{\"a\" 1}", "invalid character '1' after object key"),
            (
                "{\"a\":1 \"",
                "invalid character '\"' after object key:value pair",
            ),
            ("[1 2]", "invalid character '2' after array element"),
            (
                "[1,]",
                "invalid character ']' looking for beginning of value",
            ),
            ("{} x", "invalid character 'x' after top-level value"),
            ("01", "invalid character '1' after top-level value"),
            ("-x", "invalid character 'x' in numeric literal"),
            (
                "1.x",
                "invalid character 'x' after decimal point in numeric literal",
            ),
            (
                "1ex",
                "invalid character 'x' in exponent of numeric literal",
            ),
            (
                "trux",
                "invalid character 'x' in literal true (expecting 'e')",
            ),
            ("\"\n\"", "invalid character '\\n' in string literal"),
            ("\"\\x\"", "invalid character 'x' in string escape code"),
            (
                "\"\\u00x\"",
                "invalid character 'x' in \\u hexadecimal character escape",
            ),
            (
                "{\"a\":}",
                "invalid character '}' looking for beginning of value",
            ),
        ] {
            let found = syntax_error(text.as_bytes()).unwrap_or_default();
            assert_eq!(found, expected, "{text}");
        }
        assert!(syntax_error("[".repeat(10_001).as_bytes()).is_some_and(|e| e.contains("depth")));
    }
}
