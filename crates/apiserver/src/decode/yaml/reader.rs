//! Characters of a YAML text, read in pieces as upstream reads them: what is no text is found with the piece it stands in.
//! Upstream: readerc.go.

use super::Fault;

/// Bytes that are read at once.
const PIECE: usize = 512;

/// The characters, and where reading stands.
pub struct Reader<'a> {
    bytes: &'a [u8],
    /// Bytes that are read.
    read: usize,
    text: Vec<char>,
    at: usize,
    /// Place in the text; both from 0.
    pub line: usize,
    pub column: usize,
}

pub fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t')
}

pub fn is_break(c: char) -> bool {
    matches!(c, '\r' | '\n' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// Whether a character is a break or the end.
pub fn is_breakz(c: char) -> bool {
    c == '\0' || is_break(c)
}

/// Whether a character is a blank, a break or the end.
pub fn is_blankz(c: char) -> bool {
    is_blank(c) || is_breakz(c)
}

pub fn is_alpha(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-')
}

/// Whether a document may have a character.
fn is_allowed(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='~' | '\u{85}' | '\u{a0}'..='\u{fffd}' | '\u{10000}'..)
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes: bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes),
            read: 0,
            text: Vec::new(),
            at: 0,
            line: 0,
            column: 0,
        }
    }

    /// How many characters lie behind.
    pub fn index(&self) -> usize {
        self.at
    }

    /// The character so many places ahead; NUL at the end.
    pub fn peek(&mut self, ahead: usize) -> Result<char, Fault> {
        while self.at + ahead >= self.text.len() && self.read < self.bytes.len() {
            self.more()?;
        }
        Ok(self.text.get(self.at + ahead).copied().unwrap_or('\0'))
    }

    /// Whether the next characters are these.
    pub fn begins(&mut self, with: &str) -> Result<bool, Fault> {
        for (i, c) in with.chars().enumerate() {
            if self.peek(i)? != c {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Moves on over a character that is no break.
    pub fn skip(&mut self) {
        self.at += 1;
        self.column += 1;
    }

    /// Takes a character that is no break.
    pub fn take(&mut self, into: &mut String) -> Result<(), Fault> {
        into.push(self.peek(0)?);
        self.skip();
        Ok(())
    }

    /// Takes a break as a text has it; nothing where there is none.
    pub fn take_break(&mut self, into: &mut String) -> Result<(), Fault> {
        let c = self.peek(0)?;
        match c {
            '\r' if self.peek(1)? == '\n' => {
                self.at += 1;
                into.push('\n');
            }
            '\r' | '\n' | '\u{85}' => into.push('\n'),
            '\u{2028}' | '\u{2029}' => into.push(c),
            _ => return Ok(()),
        }
        self.at += 1;
        self.column = 0;
        self.line += 1;
        Ok(())
    }

    /// Moves on over blanks and a comment.
    pub fn skip_comment(&mut self) -> Result<(), Fault> {
        while is_blank(self.peek(0)?) {
            self.skip();
        }
        if self.peek(0)? == '#' {
            while !is_breakz(self.peek(0)?) {
                self.skip();
            }
        }
        Ok(())
    }

    /// Reads a piece.
    fn more(&mut self) -> Result<(), Fault> {
        let fault = |why: &str| Err(Fault(why.to_string()));
        let begin = self.read;
        let end = self.bytes.len().min(begin + PIECE);
        while self.read < end {
            let first = self.bytes[self.read];
            let width = match first {
                0..0x80 => 1,
                0xc0..0xe0 => 2,
                0xe0..0xf0 => 3,
                0xf0..0xf8 => 4,
                _ => return fault("invalid leading UTF-8 octet"),
            };
            let Some(octets) = self.bytes.get(self.read..self.read + width) else {
                if self.read > begin {
                    break;
                }
                return fault("incomplete UTF-8 octet sequence");
            };
            if octets[1..].iter().any(|o| o & 0xc0 != 0x80) {
                return fault("invalid trailing UTF-8 octet");
            }
            let Some(c) = std::str::from_utf8(octets)
                .ok()
                .and_then(|t| t.chars().next())
            else {
                return fault(match first {
                    0xc0 | 0xc1 => "invalid length of a UTF-8 sequence",
                    0xe0 if octets[1] < 0xa0 => "invalid length of a UTF-8 sequence",
                    0xf0 if octets[1] < 0x90 => "invalid length of a UTF-8 sequence",
                    _ => "invalid Unicode character",
                });
            };
            if !is_allowed(c) {
                return fault("control characters are not allowed");
            }
            self.text.push(c);
            self.read += width;
        }
        Ok(())
    }
}
