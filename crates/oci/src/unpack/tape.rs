//! Reads tar: ustar, GNU long names and sparse files, pax. Every length is bounded before anything is kept, which is
//! why this is not the `tar` crate's reader: that one keeps a long name of any length.

use std::io::{self, Read};

use tar::{EntryType, Header};

use crate::limits;

const BLOCK: u64 = 512;

/// One member of an archive.
#[derive(Clone, Debug)]
pub struct Member {
    pub kind: EntryType,
    pub path: Vec<u8>,
    pub link: Vec<u8>,
    /// Bytes of data in the archive.
    pub stored: u64,
    /// Bytes of the file.
    pub size: u64,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Seconds and nanoseconds since the epoch.
    pub mtime: (i64, u32),
    pub device: (u32, u32),
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where the stored data goes: offset and length; `None` for a file stored whole.
    pub pieces: Option<Vec<(u64, u64)>>,
}

/// What the archive is read from.
pub trait Source: Read {
    /// Passes over bytes.
    fn skip(&mut self, bytes: u64) -> io::Result<()>;
}

/// A source that can only be read.
pub struct Stream<R>(pub R);

/// The members of an archive, one after the other.
pub struct Tape<S> {
    source: S,
    /// Data and padding of the current member not yet read.
    left: u64,
    padding: u64,
    position: u64,
}

/// Extended headers in front of a member.
#[derive(Default)]
struct Extended {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u32>,
    gid: Option<u32>,
    mtime: Option<(i64, u32)>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    sparse: bool,
}

// === Source ===

impl<R: Read> Read for Stream<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }
}

impl<R: Read> Source for Stream<R> {
    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        let passed = io::copy(&mut (&mut self.0).take(bytes), &mut io::sink())?;
        if passed == bytes {
            Ok(())
        } else {
            Err(truncated())
        }
    }
}

impl Source for io::BufReader<std::fs::File> {
    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        self.seek_relative(i64::try_from(bytes).map_err(|_| invalid("a size that is no size"))?)
    }
}

// === Tape ===

impl<S: Source> Tape<S> {
    /// Reads from the start of an archive.
    pub fn new(source: S) -> Self {
        Self {
            source,
            left: 0,
            padding: 0,
            position: 0,
        }
    }

    /// Where in the archive the current member's data begins.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The next member, or `None` at the end.
    pub fn advance(&mut self) -> io::Result<Option<Member>> {
        let mut extended = Extended::default();
        loop {
            self.pass(self.left + self.padding)?;
            (self.left, self.padding) = (0, 0);
            let Some(header) = self.header()? else {
                return Ok(None);
            };
            let stored = header.entry_size()?;
            self.left = stored;
            self.padding = (BLOCK - stored % BLOCK) % BLOCK;
            match header.entry_type() {
                EntryType::XGlobalHeader => {}
                EntryType::XHeader => {
                    let data = self.text(limits::PAX_BYTES, "an extended header")?;
                    extended.read(&data)?;
                }
                EntryType::GNULongName => {
                    let data = self.text(limits::PATH_BYTES as u64 + 1, "a path")?;
                    extended.path.get_or_insert(until_nul(data));
                }
                EntryType::GNULongLink => {
                    let data = self.text(limits::PATH_BYTES as u64 + 1, "a link name")?;
                    extended.link.get_or_insert(until_nul(data));
                }
                _ => return self.member(&header, extended).map(Some),
            }
        }
    }

    fn member(&mut self, header: &Header, extended: Extended) -> io::Result<Member> {
        if extended.sparse {
            return Err(invalid("sparse files in pax format are not supported"));
        }
        if let Some(size) = extended.size {
            self.left = size;
            self.padding = (BLOCK - size % BLOCK) % BLOCK;
        }
        let kind = header.entry_type();
        let mut size = self.left;
        let mut pieces = None;
        if kind == EntryType::GNUSparse {
            let (list, real) = self.sparse(header)?;
            size = real;
            pieces = Some(list);
        }
        let path = extended
            .path
            .unwrap_or_else(|| header.path_bytes().into_owned());
        let link = extended
            .link
            .or_else(|| header.link_name_bytes().map(|l| l.into_owned()))
            .unwrap_or_default();
        if path.len() > limits::PATH_BYTES || link.len() > limits::PATH_BYTES {
            return Err(invalid("a path longer than the limit"));
        }
        let old = header.as_old();
        let narrow = |id: u64| u32::try_from(id).map_err(|_| invalid("an owner that is no id"));
        Ok(Member {
            kind,
            path,
            link,
            stored: self.left,
            size,
            mode: number(&old.mode, header.mode())? & 0o7777,
            uid: extended
                .uid
                .map_or_else(|| narrow(number(&old.uid, header.uid())?), Ok)?,
            gid: extended
                .gid
                .map_or_else(|| narrow(number(&old.gid, header.gid())?), Ok)?,
            mtime: extended
                .mtime
                .unwrap_or((i64::try_from(header.mtime().unwrap_or(0)).unwrap_or(0), 0)),
            device: (
                header.device_major().ok().flatten().unwrap_or(0),
                header.device_minor().ok().flatten().unwrap_or(0),
            ),
            xattrs: extended.xattrs,
            pieces,
        })
    }

    /// The map of a GNU sparse file and its real size.
    fn sparse(&mut self, header: &Header) -> io::Result<(Vec<(u64, u64)>, u64)> {
        let gnu = header
            .as_gnu()
            .ok_or_else(|| invalid("a sparse file without its map"))?;
        let mut pieces = Vec::new();
        for piece in gnu.sparse.iter().filter(|p| !p.is_empty()) {
            pieces.push((piece.offset()?, piece.length()?));
        }
        let mut more = gnu.is_extended();
        while more {
            let mut block = tar::GnuExtSparseHeader::new();
            self.source.read_exact(block.as_mut_bytes())?;
            self.position += BLOCK;
            for piece in block.sparse().iter().filter(|p| !p.is_empty()) {
                pieces.push((piece.offset()?, piece.length()?));
            }
            if pieces.len() > limits::SPARSE_PIECES {
                return Err(invalid("a sparse file of too many pieces"));
            }
            more = block.is_extended();
        }
        let real = gnu.real_size()?;
        let mut end = 0u64;
        let mut stored = 0u64;
        for (offset, length) in &pieces {
            let stop = offset.checked_add(*length).filter(|s| *s <= real);
            if *offset < end || stop.is_none() {
                return Err(invalid("a sparse file whose pieces overlap"));
            }
            end = stop.unwrap_or(end);
            stored += length;
        }
        if stored != self.left {
            return Err(invalid("a sparse file whose pieces are not its data"));
        }
        Ok((pieces, real))
    }

    fn header(&mut self) -> io::Result<Option<Header>> {
        let mut header = Header::new_old();
        if !self.block(header.as_mut_bytes())? {
            return Ok(None);
        }
        if header.as_bytes().iter().all(|b| *b == 0) {
            // Two empty blocks end an archive; one is taken for an end too, as Go does at the end of the file.
            return Ok(None);
        }
        let sum: u32 = header.as_bytes()[..148]
            .iter()
            .chain(&header.as_bytes()[156..])
            .map(|b| u32::from(*b))
            .sum::<u32>()
            + 8 * 32;
        if header.cksum()? != sum {
            return Err(invalid("invalid tar header"));
        }
        Ok(Some(header))
    }

    /// Reads a block; false where the archive ends before it.
    fn block(&mut self, block: &mut [u8]) -> io::Result<bool> {
        let mut filled = 0;
        while filled < block.len() {
            match self.source.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(false),
                Ok(0) => return Err(truncated()),
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        self.position += BLOCK;
        Ok(true)
    }

    fn text(&mut self, most: u64, what: &str) -> io::Result<Vec<u8>> {
        if self.left > most {
            return Err(invalid(&format!("{what} longer than the limit")));
        }
        let mut data = vec![0; usize::try_from(self.left).unwrap_or(0)];
        self.read_exact(&mut data)?;
        Ok(data)
    }

    fn pass(&mut self, bytes: u64) -> io::Result<()> {
        if bytes > 0 {
            self.source.skip(bytes)?;
            self.position += bytes;
        }
        Ok(())
    }
}

/// The data of the current member.
impl<S: Source> Read for Tape<S> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(buf.len());
        if most == 0 {
            return Ok(0);
        }
        let n = self.source.read(&mut buf[..most])?;
        if n == 0 {
            return Err(truncated());
        }
        self.left -= n as u64;
        self.position += n as u64;
        Ok(n)
    }
}

// === Extended ===

impl Extended {
    /// Reads the records of a pax header: `length key=value\n`.
    fn read(&mut self, mut data: &[u8]) -> io::Result<()> {
        while !data.is_empty() {
            let bad = || invalid("an extended header that is none");
            let blank = data.iter().position(|b| *b == b' ').ok_or_else(bad)?;
            let length: usize = std::str::from_utf8(&data[..blank])
                .ok()
                .and_then(|t| t.parse().ok())
                .filter(|n| *n > blank + 1 && *n <= data.len())
                .ok_or_else(bad)?;
            let record = data[blank + 1..length]
                .strip_suffix(b"\n")
                .ok_or_else(bad)?;
            let equals = record.iter().position(|b| *b == b'=').ok_or_else(bad)?;
            self.set(&record[..equals], &record[equals + 1..])?;
            data = &data[length..];
        }
        Ok(())
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        let text = || std::str::from_utf8(value).unwrap_or_default();
        let bad = || invalid("an extended header with a value that is none");
        match key {
            b"path" => self.path = Some(value.to_vec()),
            b"linkpath" => self.link = Some(value.to_vec()),
            b"size" => self.size = Some(text().parse().map_err(|_| bad())?),
            b"uid" => self.uid = Some(text().parse().map_err(|_| bad())?),
            b"gid" => self.gid = Some(text().parse().map_err(|_| bad())?),
            b"mtime" => self.mtime = Some(time(text()).ok_or_else(bad)?),
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.xattrs.push((name.to_vec(), value.to_vec()));
                } else if key.starts_with(b"GNU.sparse.") {
                    self.sparse = true;
                }
            }
        }
        Ok(())
    }
}

/// A field of a header; an empty one is 0, as Go reads it.
fn number<T: Default>(field: &[u8], value: io::Result<T>) -> io::Result<T> {
    if field.iter().all(|b| matches!(b, 0 | b' ')) {
        return Ok(T::default());
    }
    value
}

/// `seconds[.fraction]`, negative before 1970.
fn time(text: &str) -> Option<(i64, u32)> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    let mut digits: String = fraction.chars().take(9).collect();
    if !digits.chars().all(|c| c.is_ascii_digit()) {
        return None;
    }
    while digits.len() < 9 {
        digits.push('0');
    }
    let nanos: u32 = digits.parse().ok()?;
    if whole.starts_with('-') && nanos > 0 {
        return Some((seconds - 1, 1_000_000_000 - nanos));
    }
    Some((seconds, nanos))
}

fn until_nul(mut data: Vec<u8>) -> Vec<u8> {
    if let Some(end) = data.iter().position(|b| *b == 0) {
        data.truncate(end);
    }
    data
}

fn invalid(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("archive/tar: {text}"))
}

fn truncated() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "unexpected EOF")
}
