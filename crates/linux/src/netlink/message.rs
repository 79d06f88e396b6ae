//! Building and reading netlink messages: header, fixed part, attributes (all in host byte order but
//! where a name says `be`).

/// A message under construction.
#[derive(Clone, Debug)]
pub struct Message {
    bytes: Vec<u8>,
}

/// The fields of a received header that anybody looks at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    pub kind: u16,
    pub flags: u16,
    pub sequence: u32,
}

/// Bytes of `nlmsghdr`.
pub(crate) const HEADER_BYTES: usize = 16;
const NLA_F_NESTED: u16 = 0x8000;
const NLA_TYPE_MASK: u16 = 0x3fff;

/// Rounds up to netlink's alignment of 4.
pub(crate) const fn align(n: usize) -> usize {
    (n + 3) & !3
}

// === Message ===

impl Message {
    /// A message of a type with flags and the subsystem's fixed part.
    pub fn new(kind: u16, flags: u16, fixed: &[u8]) -> Self {
        let mut m = Self {
            bytes: Vec::with_capacity(256),
        };
        m.begin(kind, flags, 0, fixed);
        m
    }

    /// An empty run of messages, for batches.
    pub(crate) fn empty() -> Self {
        Self { bytes: Vec::new() }
    }

    /// Starts a message at the end of a batch; gives where it starts.
    pub(crate) fn begin(&mut self, kind: u16, flags: u16, sequence: u32, fixed: &[u8]) -> usize {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(&0u32.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(&sequence.to_ne_bytes());
        self.bytes.extend_from_slice(&0u32.to_ne_bytes());
        self.bytes.extend_from_slice(fixed);
        self.pad();
        at
    }

    /// Writes the length of the message that starts at `at`.
    pub(crate) fn end(&mut self, at: usize) {
        let length = (self.bytes.len() - at) as u32;
        self.bytes[at..at + 4].copy_from_slice(&length.to_ne_bytes());
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    pub(crate) fn add_flags(&mut self, flags: u16) {
        let now = u16::from_ne_bytes([self.bytes[6], self.bytes[7]]) | flags;
        self.bytes[6..8].copy_from_slice(&now.to_ne_bytes());
    }

    /// The bytes to send, with length and sequence written.
    pub(crate) fn finish(mut self, sequence: u32) -> Vec<u8> {
        self.end(0);
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.bytes
    }

    /// Appends an attribute.
    pub fn attr(&mut self, kind: u16, value: &[u8]) {
        let length = (value.len() + 4) as u16;
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.pad();
    }

    /// Appends a zero-terminated string.
    pub fn attr_str(&mut self, kind: u16, value: &str) {
        let length = (value.len() + 5) as u16;
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.push(0);
        self.pad();
    }

    pub fn attr_u8(&mut self, kind: u16, value: u8) {
        self.attr(kind, &[value]);
    }

    pub fn attr_u16_be(&mut self, kind: u16, value: u16) {
        self.attr(kind, &value.to_be_bytes());
    }

    pub fn attr_u32(&mut self, kind: u16, value: u32) {
        self.attr(kind, &value.to_ne_bytes());
    }

    pub fn attr_u32_be(&mut self, kind: u16, value: u32) {
        self.attr(kind, &value.to_be_bytes());
    }

    pub fn attr_u64_be(&mut self, kind: u16, value: u64) {
        self.attr(kind, &value.to_be_bytes());
    }

    /// Appends an attribute whose value is more attributes.
    pub fn nest(&mut self, kind: u16, inside: impl FnOnce(&mut Self)) {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(&[0, 0]);
        self.bytes
            .extend_from_slice(&(kind | NLA_F_NESTED).to_ne_bytes());
        inside(self);
        let length = (self.bytes.len() - at) as u16;
        self.bytes[at..at + 2].copy_from_slice(&length.to_ne_bytes());
    }

    /// Appends bytes as they are, padded.
    pub fn raw(&mut self, value: &[u8]) {
        self.bytes.extend_from_slice(value);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(align(self.bytes.len()), 0);
    }
}

/// Reads attributes; ends at the first malformed one.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a> {
    rest: &'a [u8],
}

// === Attributes ===

impl<'a> Attributes<'a> {
    /// Attributes of a payload (after the fixed part).
    pub fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    /// The first attribute of a type.
    pub fn find(self, kind: u16) -> Option<&'a [u8]> {
        let mut all = self;
        all.find_map(|(k, v)| (k == kind).then_some(v))
    }

    /// A nested attribute's content; empty where absent.
    pub fn nested(self, kind: u16) -> Attributes<'a> {
        Attributes::new(self.find(kind).unwrap_or_default())
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let head = self.rest.get(..4)?;
        let length = u16::from_ne_bytes([head[0], head[1]]) as usize;
        let kind = u16::from_ne_bytes([head[2], head[3]]) & NLA_TYPE_MASK;
        let value = self.rest.get(4..length)?;
        self.rest = self.rest.get(align(length)..).unwrap_or_default();
        Some((kind, value))
    }
}

/// The messages of one datagram: header and payload. Ends at the first malformed one.
pub(crate) fn split(bytes: &[u8]) -> impl Iterator<Item = (Header, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let head = rest.get(..HEADER_BYTES)?;
        let length = u32::from_ne_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let body = rest.get(HEADER_BYTES..length)?;
        let header = Header {
            kind: u16::from_ne_bytes([head[4], head[5]]),
            flags: u16::from_ne_bytes([head[6], head[7]]),
            sequence: u32::from_ne_bytes([head[8], head[9], head[10], head[11]]),
        };
        rest = rest.get(align(length)..).unwrap_or_default();
        Some((header, body))
    })
}

/// A zero-terminated string attribute.
pub(crate) fn text(value: &[u8]) -> String {
    let end = value.iter().position(|b| *b == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

/// A `u32` in host order; 0 where the attribute is too short.
pub(crate) fn u32_of(value: &[u8]) -> u32 {
    value
        .get(..4)
        .map_or(0, |b| u32::from_ne_bytes([b[0], b[1], b[2], b[3]]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_come_back_as_written() {
        let mut m = Message::new(16, 0, &[0; 4]);
        m.attr_str(3, "eth0");
        m.nest(18, |m| m.attr_u32(1, 7));
        let bytes = m.finish(9);
        let (header, body) = split(&bytes).next().unwrap();
        assert_eq!((header.kind, header.sequence), (16, 9));
        let attributes = Attributes::new(&body[4..]);
        assert_eq!(text(attributes.find(3).unwrap()), "eth0");
        assert_eq!(u32_of(attributes.nested(18).find(1).unwrap()), 7);
    }

    #[test]
    fn malformed_bytes_end_the_iteration() {
        for length in 0..40 {
            let bytes = vec![0xffu8; length];
            assert_eq!(Attributes::new(&bytes).count(), 0);
            assert_eq!(split(&bytes).count(), 0);
        }
        // A length of 0 must not loop.
        assert_eq!(Attributes::new(&[0; 64]).count(), 0);
    }
}
