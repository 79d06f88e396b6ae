//! The longer tokens of a YAML text: scalars, tags, directives. Upstream: scannerc.go.

use super::Fault;
use super::reader::{is_alpha, is_blank, is_blankz, is_break, is_breakz};
use super::scanner::{Done, Kind, Scanner};

/// What the lines of a scalar are joined by.
#[derive(Default)]
struct Breaks {
    blanks: String,
    leading: String,
    trailing: String,
    /// Whether a break was seen.
    broken: bool,
}

impl Breaks {
    /// Writes what stands between two parts, and forgets it.
    fn join(&mut self, out: &mut String) {
        if self.broken {
            if self.leading.starts_with('\n') {
                let folded = if self.trailing.is_empty() { " " } else { "" };
                out.push_str(folded);
            } else {
                out.push_str(&self.leading);
            }
            out.push_str(&self.trailing);
        } else {
            out.push_str(&self.blanks);
        }
        *self = Self::default();
    }
}

impl Scanner<'_> {
    pub(super) fn scan_directive(&mut self) -> Result<Kind, Fault> {
        self.reader.skip();
        let mut name = String::new();
        while is_alpha(self.reader.peek(0)?) {
            self.reader.take(&mut name)?;
        }
        if name.is_empty() {
            return Err(self.fault("could not find expected directive name"));
        }
        if !is_blankz(self.reader.peek(0)?) {
            return Err(self.fault("found unexpected non-alphabetical character"));
        }
        let kind = match name.as_str() {
            "YAML" => {
                self.blanks()?;
                let major = self.version_number()?;
                if self.reader.peek(0)? != '.' {
                    return Err(self.fault("did not find expected digit or '.' character"));
                }
                self.reader.skip();
                Kind::Version(major, self.version_number()?)
            }
            "TAG" => {
                self.blanks()?;
                let handle = self.tag_handle(true)?;
                if !is_blank(self.reader.peek(0)?) {
                    return Err(self.fault("did not find expected whitespace"));
                }
                self.blanks()?;
                let prefix = self.tag_uri("")?;
                if !is_blankz(self.reader.peek(0)?) {
                    return Err(self.fault("did not find expected whitespace or line break"));
                }
                Kind::TagDirective(handle, prefix)
            }
            _ => return Err(self.fault("found unknown directive name")),
        };
        self.line_end()?;
        Ok(kind)
    }

    fn blanks(&mut self) -> Done {
        while is_blank(self.reader.peek(0)?) {
            self.reader.skip();
        }
        Ok(())
    }

    /// Moves on over the rest of a line, which is blank or a comment.
    fn line_end(&mut self) -> Done {
        self.reader.skip_comment()?;
        if !is_breakz(self.reader.peek(0)?) {
            return Err(self.fault("did not find expected comment or line break"));
        }
        self.reader.take_break(&mut String::new())
    }

    fn version_number(&mut self) -> Result<u8, Fault> {
        let (mut value, mut length) = (0, 0);
        while let Some(digit) = self.reader.peek(0)?.to_digit(10) {
            length += 1;
            if length > 2 {
                return Err(self.fault("found extremely long version number"));
            }
            value = value * 10 + u8::try_from(digit).unwrap_or(0);
            self.reader.skip();
        }
        match length {
            0 => Err(self.fault("did not find expected version number")),
            _ => Ok(value),
        }
    }

    pub(super) fn tag(&mut self) -> Result<Kind, Fault> {
        let (mut handle, mut suffix);
        if self.reader.peek(1)? == '<' {
            self.reader.skip();
            self.reader.skip();
            handle = String::new();
            suffix = self.tag_uri("")?;
            if self.reader.peek(0)? != '>' {
                return Err(self.fault("did not find the expected '>'"));
            }
            self.reader.skip();
        } else {
            handle = self.tag_handle(false)?;
            if handle.len() > 1 && handle.ends_with('!') {
                suffix = self.tag_uri("")?;
            } else {
                suffix = self.tag_uri(&handle)?;
                handle = "!".into();
                if suffix.is_empty() {
                    std::mem::swap(&mut handle, &mut suffix);
                }
            }
        }
        if !is_blankz(self.reader.peek(0)?) {
            return Err(self.fault("did not find expected whitespace or line break"));
        }
        Ok(Kind::Tag(handle, suffix))
    }

    fn tag_handle(&mut self, directive: bool) -> Result<String, Fault> {
        let mut out = String::new();
        if self.reader.peek(0)? != '!' {
            return Err(self.fault("did not find expected '!'"));
        }
        self.reader.take(&mut out)?;
        while is_alpha(self.reader.peek(0)?) {
            self.reader.take(&mut out)?;
        }
        if self.reader.peek(0)? == '!' {
            self.reader.take(&mut out)?;
        } else if directive && out != "!" {
            return Err(self.fault("did not find expected '!'"));
        }
        Ok(out)
    }

    /// The rest of a tag behind what was taken for its handle.
    fn tag_uri(&mut self, head: &str) -> Result<String, Fault> {
        let mut out = head.get(1..).unwrap_or("").to_string();
        let mut found = !head.is_empty();
        loop {
            let c = self.reader.peek(0)?;
            if c == '%' {
                self.uri_escape(&mut out)?;
            } else if is_alpha(c) || ";/?:@&=+$,.!~*'()[]".contains(c) {
                self.reader.take(&mut out)?;
            } else {
                break;
            }
            found = true;
        }
        match found {
            true => Ok(out),
            false => Err(self.fault("did not find expected tag URI")),
        }
    }

    fn uri_escape(&mut self, out: &mut String) -> Done {
        let mut octets: Vec<u8> = Vec::new();
        let mut width = 1;
        while octets.len() < width {
            let high = self.reader.peek(1)?.to_digit(16);
            let low = self.reader.peek(2)?.to_digit(16);
            let (Some(high), Some(low), '%') = (high, low, self.reader.peek(0)?) else {
                return Err(self.fault("did not find URI escaped octet"));
            };
            let octet = u8::try_from(high * 16 + low).unwrap_or(0);
            if octets.is_empty() {
                width = match octet {
                    0..0x80 => 1,
                    0xc0..0xe0 => 2,
                    0xe0..0xf0 => 3,
                    0xf0..0xf8 => 4,
                    _ => return Err(self.fault("found an incorrect leading UTF-8 octet")),
                };
            } else if octet & 0xc0 != 0x80 {
                return Err(self.fault("found an incorrect trailing UTF-8 octet"));
            }
            octets.push(octet);
            (0..3).for_each(|_| self.reader.skip());
        }
        out.push_str(&String::from_utf8_lossy(&octets));
        Ok(())
    }

    /// Chomping (-1, 0 or 1) and indentation that the head of a block scalar says.
    fn block_head(&mut self) -> Result<(i8, usize), Fault> {
        let (mut chomping, mut increment) = (0, 0);
        for turn in 0..2 {
            let c = self.reader.peek(0)?;
            match c {
                '+' | '-' if chomping == 0 => chomping = if c == '+' { 1 } else { -1 },
                '0'..='9' if increment == 0 => {
                    if c == '0' {
                        return Err(self.fault("found an indentation indicator equal to 0"));
                    }
                    increment = c.to_digit(10).map_or(0, |d| d as usize);
                }
                _ if turn == 0 => break,
                _ => continue,
            }
            self.reader.skip();
        }
        self.line_end()?;
        Ok((chomping, increment))
    }

    pub(super) fn block_scalar(&mut self, literal: bool) -> Result<String, Fault> {
        self.reader.skip();
        let (chomping, increment) = self.block_head()?;
        let outer = usize::try_from(self.indent).unwrap_or(0);
        let mut indent = match increment {
            0 => 0,
            n => outer + n,
        };
        let (mut out, mut leading, mut trailing) = (String::new(), String::new(), String::new());
        self.block_breaks(&mut indent, &mut trailing)?;
        let mut was_blank = false;
        while self.reader.column == indent && self.reader.peek(0)? != '\0' {
            let blank = is_blank(self.reader.peek(0)?);
            if !literal && !was_blank && !blank && leading.starts_with('\n') {
                if trailing.is_empty() {
                    out.push(' ');
                }
            } else {
                out.push_str(&leading);
            }
            leading.clear();
            out.push_str(&trailing);
            trailing.clear();
            was_blank = blank;
            while !is_breakz(self.reader.peek(0)?) {
                self.reader.take(&mut out)?;
            }
            self.reader.take_break(&mut leading)?;
            self.block_breaks(&mut indent, &mut trailing)?;
        }
        if chomping != -1 {
            out.push_str(&leading);
        }
        if chomping == 1 {
            out.push_str(&trailing);
        }
        Ok(out)
    }

    /// Moves on over indentation and empty lines; finds out the indentation where it is not known.
    fn block_breaks(&mut self, indent: &mut usize, breaks: &mut String) -> Done {
        let mut deepest = 0;
        loop {
            let outside = |column: usize| *indent == 0 || column < *indent;
            while outside(self.reader.column) && self.reader.peek(0)? == ' ' {
                self.reader.skip();
            }
            deepest = deepest.max(self.reader.column);
            if outside(self.reader.column) && self.reader.peek(0)? == '\t' {
                let why = "found a tab character where an indentation space is expected";
                return Err(self.fault(why));
            }
            if !is_break(self.reader.peek(0)?) {
                break;
            }
            self.reader.take_break(breaks)?;
        }
        if *indent == 0 {
            let least = usize::try_from(self.indent + 1).unwrap_or(0);
            *indent = deepest.max(least).max(1);
        }
        Ok(())
    }

    pub(super) fn quoted(&mut self, quote: char) -> Result<String, Fault> {
        self.reader.skip();
        let (mut out, mut between) = (String::new(), Breaks::default());
        loop {
            if self.at_mark("---")? || self.at_mark("...")? {
                return Err(self.fault("found unexpected document indicator"));
            }
            if self.reader.peek(0)? == '\0' {
                return Err(self.fault("found unexpected end of stream"));
            }
            let joined = self.quoted_part(quote, &mut out)?;
            between.broken = joined;
            if self.reader.peek(0)? == quote {
                self.reader.skip();
                return Ok(out);
            }
            self.between(&mut between)?;
            between.join(&mut out);
        }
    }

    /// A part of a quoted scalar up to a blank or its end; whether an escaped break ends it.
    fn quoted_part(&mut self, quote: char, out: &mut String) -> Result<bool, Fault> {
        loop {
            let c = self.reader.peek(0)?;
            if is_blankz(c) {
                return Ok(false);
            }
            let next = self.reader.peek(1)?;
            match (quote, c) {
                ('\'', '\'') if next == '\'' => {
                    out.push('\'');
                    self.reader.skip();
                    self.reader.skip();
                }
                (quote, c) if quote == c => return Ok(false),
                ('"', '\\') if is_break(next) => {
                    self.reader.skip();
                    self.reader.take_break(&mut String::new())?;
                    return Ok(true);
                }
                ('"', '\\') => self.escape(next, out)?,
                _ => self.reader.take(out)?,
            }
        }
    }

    fn escape(&mut self, code: char, out: &mut String) -> Done {
        let length = match code {
            'x' => 2,
            'u' => 4,
            'U' => 8,
            _ => 0,
        };
        let plain = match code {
            '0' => '\0',
            'a' => '\x07',
            'b' => '\x08',
            't' | '\t' => '\t',
            'n' => '\n',
            'v' => '\x0b',
            'f' => '\x0c',
            'r' => '\r',
            'e' => '\x1b',
            ' ' | '"' | '\'' | '\\' => code,
            'N' => '\u{85}',
            '_' => '\u{a0}',
            'L' => '\u{2028}',
            'P' => '\u{2029}',
            _ if length > 0 => '\0',
            _ => return Err(self.fault("found unknown escape character")),
        };
        self.reader.skip();
        self.reader.skip();
        if length == 0 {
            out.push(plain);
            return Ok(());
        }
        let mut value = 0;
        for i in 0..length {
            let digit = self.reader.peek(i)?.to_digit(16);
            let Some(digit) = digit else {
                return Err(self.fault("did not find expected hexdecimal number"));
            };
            value = value << 4 | digit;
        }
        let Some(c) = char::from_u32(value) else {
            return Err(self.fault("found invalid Unicode character escape code"));
        };
        out.push(c);
        (0..length).for_each(|_| self.reader.skip());
        Ok(())
    }

    /// Blanks and breaks between two parts of a scalar.
    fn between(&mut self, found: &mut Breaks) -> Done {
        loop {
            let c = self.reader.peek(0)?;
            if is_blank(c) {
                match found.broken {
                    true => self.reader.skip(),
                    false => self.reader.take(&mut found.blanks)?,
                }
            } else if !is_break(c) {
                return Ok(());
            } else if found.broken {
                self.reader.take_break(&mut found.trailing)?;
            } else {
                found.blanks.clear();
                self.reader.take_break(&mut found.leading)?;
                found.broken = true;
            }
        }
    }

    pub(super) fn plain(&mut self) -> Result<String, Fault> {
        let least = usize::try_from(self.indent + 1).unwrap_or(0);
        let (mut out, mut between) = (String::new(), Breaks::default());
        loop {
            if self.at_mark("---")? || self.at_mark("...")? || self.reader.peek(0)? == '#' {
                break;
            }
            loop {
                let c = self.reader.peek(0)?;
                let ends = c == ':' && is_blankz(self.reader.peek(1)?);
                if is_blankz(c) || ends || (self.flow > 0 && ",?[]{}".contains(c)) {
                    break;
                }
                between.join(&mut out);
                self.reader.take(&mut out)?;
            }
            let c = self.reader.peek(0)?;
            if !is_blank(c) && !is_break(c) {
                break;
            }
            self.plain_between(least, &mut between)?;
            if self.flow == 0 && self.reader.column < least {
                break;
            }
        }
        self.key_allowed |= between.broken;
        Ok(out)
    }

    fn plain_between(&mut self, least: usize, between: &mut Breaks) -> Done {
        loop {
            let c = self.reader.peek(0)?;
            if c == '\t' && between.broken && self.reader.column < least {
                return Err(self.fault("found a tab character that violates indentation"));
            }
            match (is_blank(c), between.broken) {
                (true, true) => self.reader.skip(),
                (true, false) => self.reader.take(&mut between.blanks)?,
                (false, _) if !is_break(c) => return Ok(()),
                (false, true) => self.reader.take_break(&mut between.trailing)?,
                (false, false) => {
                    between.blanks.clear();
                    self.reader.take_break(&mut between.leading)?;
                    between.broken = true;
                }
            }
        }
    }
}
