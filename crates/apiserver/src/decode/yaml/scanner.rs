//! Tokens of a YAML text. Upstream: scannerc.go.

use std::collections::{HashMap, VecDeque};

use super::Fault;
use super::reader::{Reader, is_alpha, is_blank, is_blankz, is_break};

/// Most characters of a key that no `?` announces.
const KEY_LENGTH: usize = 1_024;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    StreamEnd,
    /// `%YAML` with its numbers.
    Version(u8, u8),
    /// `%TAG` with handle and prefix.
    TagDirective(String, String),
    DocumentStart,
    DocumentEnd,
    BlockSequenceStart,
    BlockMappingStart,
    BlockEnd,
    FlowSequenceStart,
    FlowSequenceEnd,
    FlowMappingStart,
    FlowMappingEnd,
    BlockEntry,
    FlowEntry,
    Key,
    Value,
    Alias(String),
    Anchor(String),
    /// Handle and suffix.
    Tag(String, String),
    Scalar {
        text: String,
        plain: bool,
    },
}

/// A token, and the line that it begins in.
#[derive(Clone, Debug)]
pub struct Token {
    pub kind: Kind,
    pub line: usize,
}

/// What may turn out to be a key, once a `:` follows.
struct SimpleKey {
    possible: bool,
    required: bool,
    /// The number of its token.
    token: usize,
    index: usize,
    line: usize,
    column: usize,
}

/// Reads tokens; a few at once, as a key is known for one only after its end.
pub struct Scanner<'a> {
    pub(super) reader: Reader<'a>,
    tokens: VecDeque<Token>,
    /// Tokens that were given away.
    given: usize,
    ended: bool,
    pub(super) flow: usize,
    /// The column of the innermost block; -1 outside of all.
    pub(super) indent: isize,
    indents: Vec<isize>,
    pub(super) key_allowed: bool,
    /// One for each level of flow collections, and one for blocks.
    keys: Vec<SimpleKey>,
    /// Their places by the numbers of their tokens. As upstream's, it forgets more than it should.
    by_token: HashMap<usize, usize>,
}

pub(super) type Done = Result<(), Fault>;

impl<'a> Scanner<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        let mut scanner = Self {
            reader: Reader::new(bytes),
            tokens: VecDeque::new(),
            given: 0,
            ended: false,
            flow: 0,
            indent: -1,
            indents: Vec::new(),
            key_allowed: true,
            keys: Vec::new(),
            by_token: HashMap::new(),
        };
        scanner.keys.push(scanner.no_key());
        scanner
    }

    /// The next token, which stays.
    pub fn peek(&mut self) -> Result<&Token, Fault> {
        // At the end too: a key that was begun may be none.
        while self.needs_more()? && !self.ended {
            self.fetch()?;
        }
        let none = || Fault("unknown problem parsing YAML content".into());
        self.tokens.front().ok_or_else(none)
    }

    /// Takes the next token.
    pub fn next(&mut self) -> Result<Token, Fault> {
        let token = self.peek()?.clone();
        if token.kind != Kind::StreamEnd {
            self.tokens.pop_front();
            self.given += 1;
        }
        Ok(token)
    }

    /// A problem of the text where reading stands.
    pub(super) fn fault(&self, why: &str) -> Fault {
        match self.reader.line {
            0 => Fault(why.into()),
            line => Fault(format!("line {}: {why}", line + 1)),
        }
    }

    fn no_key(&self) -> SimpleKey {
        SimpleKey {
            possible: false,
            required: false,
            token: self.given + self.tokens.len(),
            index: self.reader.index(),
            line: self.reader.line,
            column: self.reader.column,
        }
    }

    /// Whether what was read may still become a key.
    fn needs_more(&mut self) -> Result<bool, Fault> {
        if self.tokens.is_empty() {
            return Ok(true);
        }
        let key = self.by_token.get(&self.given).copied();
        key.map_or(Ok(false), |i| self.is_valid(i))
    }

    /// Whether a key can still be one.
    fn is_valid(&mut self, i: usize) -> Result<bool, Fault> {
        let (line, index) = (self.reader.line, self.reader.index());
        let Some(key) = self.keys.get(i).filter(|k| k.possible) else {
            return Ok(false);
        };
        if key.line < line || key.index + KEY_LENGTH < index {
            if key.required {
                return Err(self.fault("could not find expected ':'"));
            }
            self.keys[i].possible = false;
            return Ok(false);
        }
        Ok(true)
    }

    fn save_key(&mut self) -> Done {
        if !self.key_allowed {
            return Ok(());
        }
        let required = self.flow == 0 && self.indent == self.column();
        self.remove_key()?;
        let key = SimpleKey {
            possible: true,
            required,
            ..self.no_key()
        };
        let place = self.keys.len() - 1;
        self.by_token.insert(key.token, place);
        self.keys[place] = key;
        Ok(())
    }

    fn remove_key(&mut self) -> Done {
        let Some(key) = self.keys.last_mut().filter(|k| k.possible) else {
            return Ok(());
        };
        if key.required {
            return Err(self.fault("could not find expected ':'"));
        }
        key.possible = false;
        self.by_token.remove(&key.token);
        Ok(())
    }

    fn column(&self) -> isize {
        isize::try_from(self.reader.column).unwrap_or(isize::MAX)
    }

    fn push(&mut self, kind: Kind, line: usize) {
        self.tokens.push_back(Token { kind, line });
    }

    /// Opens a block at a column where it is further in, before a token of a number.
    fn roll(&mut self, column: usize, at: Option<usize>, kind: Kind, line: usize) {
        let column = isize::try_from(column).unwrap_or(isize::MAX);
        if self.flow > 0 || self.indent >= column {
            return;
        }
        self.indents.push(self.indent);
        self.indent = column;
        self.insert(at, Token { kind, line });
    }

    /// Puts a token before that of a number, where it was not given away yet.
    fn insert(&mut self, before: Option<usize>, token: Token) {
        let place = before.and_then(|n| n.checked_sub(self.given));
        let place = place.filter(|p| *p < self.tokens.len());
        self.tokens
            .insert(place.unwrap_or(self.tokens.len()), token);
    }

    /// Closes the blocks that are further in than a column.
    fn unroll(&mut self, column: isize) {
        while self.flow == 0 && self.indent > column {
            self.push(Kind::BlockEnd, self.reader.line);
            self.indent = self.indents.pop().unwrap_or(-1);
        }
    }

    /// Whether a mark of documents stands here.
    pub(super) fn at_mark(&mut self, mark: &str) -> Result<bool, Fault> {
        let here = self.reader.column == 0 && self.reader.begins(mark)?;
        Ok(here && is_blankz(self.reader.peek(3)?))
    }

    /// Reads a token.
    fn fetch(&mut self) -> Done {
        self.skip_to_token()?;
        self.unroll(self.column());
        let c = self.reader.peek(0)?;
        if c == '\0' {
            return self.stream_end();
        }
        if self.reader.column == 0 && c == '%' {
            return self.directive();
        }
        if self.at_mark("---")? {
            return self.document_mark(Kind::DocumentStart);
        }
        if self.at_mark("...")? {
            return self.document_mark(Kind::DocumentEnd);
        }
        let ends = is_blankz(self.reader.peek(1)?);
        let block = self.flow == 0;
        match c {
            '[' => self.flow_start(Kind::FlowSequenceStart),
            '{' => self.flow_start(Kind::FlowMappingStart),
            ']' => self.flow_end(Kind::FlowSequenceEnd),
            '}' => self.flow_end(Kind::FlowMappingEnd),
            ',' => self.flow_entry(),
            '-' if ends => self.block_entry(),
            '?' if !block || ends => self.key(),
            ':' if !block || ends => self.value(),
            '*' | '&' => self.anchor(c == '*'),
            '!' => {
                self.before_node()?;
                let line = self.reader.line;
                let kind = self.tag()?;
                self.push(kind, line);
                Ok(())
            }
            '|' | '>' if block => {
                self.remove_key()?;
                self.key_allowed = true;
                let line = self.reader.line;
                let text = self.block_scalar(c == '|')?;
                self.push(Kind::Scalar { text, plain: false }, line);
                Ok(())
            }
            '\'' | '"' => {
                self.before_node()?;
                let line = self.reader.line;
                let text = self.quoted(c)?;
                self.push(Kind::Scalar { text, plain: false }, line);
                Ok(())
            }
            c if self.is_plain(c)? => {
                self.before_node()?;
                let line = self.reader.line;
                let text = self.plain()?;
                self.push(Kind::Scalar { text, plain: true }, line);
                Ok(())
            }
            _ => Err(self.fault("found character that cannot start any token")),
        }
    }

    /// What comes now may be a key.
    fn before_node(&mut self) -> Done {
        self.save_key()?;
        self.key_allowed = false;
        Ok(())
    }

    /// Whether a plain scalar can begin so.
    fn is_plain(&mut self, c: char) -> Result<bool, Fault> {
        let next = self.reader.peek(1)?;
        Ok(match c {
            '-' => !is_blank(next),
            '?' | ':' => self.flow == 0 && !is_blankz(next),
            c => !is_blankz(c) && !"-?:,[]{}#&*!|>'\"%@`".contains(c),
        })
    }

    fn skip_to_token(&mut self) -> Done {
        loop {
            let tabs = self.flow > 0 || !self.key_allowed;
            while matches!(self.reader.peek(0)?, ' ') || (tabs && self.reader.peek(0)? == '\t') {
                self.reader.skip();
            }
            if self.reader.peek(0)? == '#' {
                self.reader.skip_comment()?;
            }
            if !is_break(self.reader.peek(0)?) {
                return Ok(());
            }
            self.reader.take_break(&mut String::new())?;
            self.key_allowed |= self.flow == 0;
        }
    }

    fn stream_end(&mut self) -> Done {
        if self.reader.column != 0 {
            self.reader.column = 0;
            self.reader.line += 1;
        }
        self.unroll(-1);
        self.remove_key()?;
        self.key_allowed = false;
        self.ended = true;
        self.push(Kind::StreamEnd, self.reader.line);
        Ok(())
    }

    fn directive(&mut self) -> Done {
        self.unroll(-1);
        self.remove_key()?;
        self.key_allowed = false;
        let line = self.reader.line;
        let kind = self.scan_directive()?;
        self.push(kind, line);
        Ok(())
    }

    fn document_mark(&mut self, kind: Kind) -> Done {
        self.unroll(-1);
        self.remove_key()?;
        self.key_allowed = false;
        let line = self.reader.line;
        (0..3).for_each(|_| self.reader.skip());
        self.push(kind, line);
        Ok(())
    }

    /// A token of one character.
    fn one(&mut self, kind: Kind) -> Done {
        let line = self.reader.line;
        self.reader.skip();
        self.push(kind, line);
        Ok(())
    }

    fn flow_start(&mut self, kind: Kind) -> Done {
        self.save_key()?;
        self.keys.push(self.no_key());
        self.flow += 1;
        self.key_allowed = true;
        self.one(kind)
    }

    fn flow_end(&mut self, kind: Kind) -> Done {
        self.remove_key()?;
        if self.flow > 0 {
            self.flow -= 1;
            let key = self.keys.pop();
            key.and_then(|k| self.by_token.remove(&k.token));
        }
        self.key_allowed = false;
        self.one(kind)
    }

    fn flow_entry(&mut self) -> Done {
        self.remove_key()?;
        self.key_allowed = true;
        self.one(Kind::FlowEntry)
    }

    fn block_entry(&mut self) -> Done {
        if self.flow == 0 {
            if !self.key_allowed {
                let why = "block sequence entries are not allowed in this context";
                return Err(self.fault(why));
            }
            let (line, column) = (self.reader.line, self.reader.column);
            self.roll(column, None, Kind::BlockSequenceStart, line);
        }
        self.remove_key()?;
        self.key_allowed = true;
        self.one(Kind::BlockEntry)
    }

    fn key(&mut self) -> Done {
        if self.flow == 0 {
            if !self.key_allowed {
                return Err(self.fault("mapping keys are not allowed in this context"));
            }
            let (line, column) = (self.reader.line, self.reader.column);
            self.roll(column, None, Kind::BlockMappingStart, line);
        }
        self.remove_key()?;
        self.key_allowed = self.flow == 0;
        self.one(Kind::Key)
    }

    fn value(&mut self) -> Done {
        let last = self.keys.len() - 1;
        if self.is_valid(last)? {
            let key = &mut self.keys[last];
            key.possible = false;
            let (token, line, column) = (key.token, key.line, key.column);
            self.by_token.remove(&token);
            let kind = Kind::Key;
            self.insert(Some(token), Token { kind, line });
            self.roll(column, Some(token), Kind::BlockMappingStart, line);
            self.key_allowed = false;
        } else {
            if self.flow == 0 {
                if !self.key_allowed {
                    return Err(self.fault("mapping values are not allowed in this context"));
                }
                let (line, column) = (self.reader.line, self.reader.column);
                self.roll(column, None, Kind::BlockMappingStart, line);
            }
            self.key_allowed = self.flow == 0;
        }
        self.one(Kind::Value)
    }

    fn anchor(&mut self, alias: bool) -> Done {
        self.before_node()?;
        let line = self.reader.line;
        self.reader.skip();
        let mut name = String::new();
        while is_alpha(self.reader.peek(0)?) {
            self.reader.take(&mut name)?;
        }
        let next = self.reader.peek(0)?;
        if name.is_empty() || !(is_blankz(next) || "?:,]}%@`".contains(next)) {
            return Err(self.fault("did not find expected alphabetic or numeric character"));
        }
        let kind = if alias {
            Kind::Alias(name)
        } else {
            Kind::Anchor(name)
        };
        self.push(kind, line);
        Ok(())
    }
}
