//! Varints, tags and length-delimited fields.

use super::ProtobufError;

/// How a field's payload is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    Varint,
    Fixed64,
    Bytes,
}

/// One field read from a message.
#[derive(Clone, Copy, Debug)]
pub enum Payload<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32(u32),
}

/// Appends a varint.
pub fn put_varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push((n as u8) | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// Appends a field's tag.
pub fn put_tag(out: &mut Vec<u8>, number: u32, wire: Wire) {
    let kind = match wire {
        Wire::Varint => 0,
        Wire::Fixed64 => 1,
        Wire::Bytes => 2,
    };
    put_varint(out, u64::from(number) << 3 | kind);
}

/// Appends a length-delimited field.
pub fn put_bytes(out: &mut Vec<u8>, number: u32, data: &[u8]) {
    put_tag(out, number, Wire::Bytes);
    put_varint(out, data.len() as u64);
    out.extend_from_slice(data);
}

/// Appends a field whose payload `f` writes, its length in front.
pub fn put_nested<E>(
    out: &mut Vec<u8>,
    number: u32,
    f: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    put_tag(out, number, Wire::Bytes);
    let at = out.len();
    f(out)?;
    let mut length = Vec::with_capacity(5);
    put_varint(&mut length, (out.len() - at) as u64);
    out.splice(at..at, length);
    Ok(())
}

/// The fields of a message, in the order of its bytes.
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads a message.
    pub fn new(data: &'a [u8]) -> Self {
        Self { rest: data }
    }

    /// The next field's number and payload.
    pub fn field(&mut self) -> Result<Option<(u32, Payload<'a>)>, ProtobufError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).map_err(|_| bad("field number"))?;
        if number == 0 {
            return Err(bad("field number 0"));
        }
        let payload = match tag & 7 {
            0 => Payload::Varint(self.varint()?),
            1 => Payload::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let n = usize::try_from(self.varint()?).map_err(|_| bad("length"))?;
                Payload::Bytes(self.take(n)?)
            }
            5 => Payload::Fixed32(u32::from_le_bytes(self.array()?)),
            other => return Err(bad(&format!("wire type {other}"))),
        };
        Ok(Some((number, payload)))
    }

    /// A bare varint, as packed lists hold them.
    pub fn varint(&mut self) -> Result<u64, ProtobufError> {
        let mut out = 0u64;
        for (i, byte) in self.rest.iter().enumerate().take(10) {
            out |= u64::from(byte & 0x7f) << (7 * i);
            if byte & 0x80 == 0 {
                self.rest = &self.rest[i + 1..];
                return Ok(out);
            }
        }
        Err(bad("varint"))
    }

    /// Whether everything was read.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8], ProtobufError> {
        if n > self.rest.len() {
            return Err(ProtobufError::new("unexpected EOF"));
        }
        let (head, rest) = self.rest.split_at(n);
        self.rest = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ProtobufError> {
        let head = self.take(N)?;
        head.try_into().map_err(|_| bad("fixed width"))
    }
}

fn bad(what: &str) -> ProtobufError {
    ProtobufError(format!("proto: illegal {what}"))
}
