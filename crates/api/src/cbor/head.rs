//! The first bytes of a data item: its major type and argument.

use super::CborError;

/// The eight major types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Major {
    Positive,
    Negative,
    Bytes,
    Text,
    Array,
    Map,
    Tag,
    Primitive,
}

impl Major {
    /// Of an initial byte.
    pub fn of(byte: u8) -> Self {
        match byte >> 5 {
            0 => Self::Positive,
            1 => Self::Negative,
            2 => Self::Bytes,
            3 => Self::Text,
            4 => Self::Array,
            5 => Self::Map,
            6 => Self::Tag,
            _ => Self::Primitive,
        }
    }

    /// As error texts name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Positive => "positive integer",
            Self::Negative => "negative integer",
            Self::Bytes => "byte string",
            Self::Text => "UTF-8 text string",
            Self::Array => "array",
            Self::Map => "map",
            Self::Tag => "tag",
            Self::Primitive => "primitives",
        }
    }
}

/// A data item's head.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    pub major: Major,
    /// The low five bits of the initial byte.
    pub info: u8,
    pub argument: u64,
}

impl Head {
    /// Whether the item goes on until a break.
    pub fn is_indefinite(&self) -> bool {
        self.info == 31
    }
}

/// What ends an item of indefinite length.
pub const BREAK: u8 = 0xff;

/// Bytes that are read from the front.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    pub data: &'a [u8],
    pub at: usize,
}

fn ended() -> CborError {
    CborError::new("unexpected EOF")
}

impl<'a> Input<'a> {
    /// The next byte, which stays.
    pub fn peek(&self) -> Result<u8, CborError> {
        self.data.get(self.at).copied().ok_or_else(ended)
    }

    /// The next bytes.
    pub fn take(&mut self, n: usize) -> Result<&'a [u8], CborError> {
        let end = self.at.checked_add(n).ok_or_else(ended)?;
        let bytes = self.data.get(self.at..end).ok_or_else(ended)?;
        self.at = end;
        Ok(bytes)
    }

    /// Goes past a break, if one comes.
    pub fn found_break(&mut self) -> Result<bool, CborError> {
        let found = self.peek()? == BREAK;
        self.at += usize::from(found);
        Ok(found)
    }

    /// The head of the next item.
    pub fn head(&mut self) -> Result<Head, CborError> {
        let first = self.peek()?;
        self.at += 1;
        let (major, info) = (Major::of(first), first & 0x1f);
        let invalid = || {
            let kind = major.name();
            CborError(format!(
                "cbor: invalid additional information {info} for type {kind}"
            ))
        };
        let argument = match info {
            0..=23 => u64::from(info),
            24..=27 => self
                .take(1 << (info - 24))?
                .iter()
                .fold(0, |n, byte| n << 8 | u64::from(*byte)),
            31 => match major {
                Major::Positive | Major::Negative | Major::Tag => return Err(invalid()),
                Major::Primitive => return Err(CborError::new("cbor: unexpected \"break\" code")),
                _ => 0,
            },
            _ => return Err(invalid()),
        };
        Ok(Head {
            major,
            info,
            argument,
        })
    }
}
