//! Turns layers into directories that overlayfs takes as lower ones. Follows containerd's archive.Apply with
//! OverlayConvertWhiteout: `.wh.NAME` becomes a character device 0:0, `.wh..wh..opq` the opaque attribute.

mod apply;
mod tape;
mod tree;

use std::cell::Cell;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;

pub use apply::Unpacked;
pub(crate) use tape::Tape;
pub(crate) use tree::OPAQUE;

use crate::digest::{Digest, Hashing};
use crate::error::Error;
use crate::limits;

/// How the bytes of a layer are packed, found from their first ones as containerd does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    None,
    Gzip,
    Zstd,
}

/// A layer to unpack.
pub struct Layer<'a> {
    /// Digest of the packed bytes.
    pub blob: &'a Digest,
    /// Digest of the tar within.
    pub diff_id: &'a Digest,
    /// Unpacked layers below, nearest first.
    pub lowers: &'a [PathBuf],
}

// === Compression ===

impl Compression {
    /// From the first bytes.
    pub fn of(head: &[u8]) -> Self {
        if head.starts_with(&[0x1f, 0x8b, 0x08]) {
            Self::Gzip
        } else if head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd])
            || (head.len() >= 4 && head[0] & 0xf0 == 0x50 && head[1..4] == [0x2a, 0x4d, 0x18])
        {
            Self::Zstd
        } else {
            Self::None
        }
    }
}

/// Reads through whatever compression there is.
pub(crate) fn decompress<'a>(mut packed: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut head = Vec::with_capacity(4);
    packed.by_ref().take(4).read_to_end(&mut head)?;
    let compression = Compression::of(&head);
    let whole = BufReader::with_capacity(1 << 16, io::Cursor::new(head).chain(packed));
    Ok(match compression {
        Compression::None => Box::new(whole),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(whole)),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(whole)?;
            // As zstd's own default: windows of 128 MiB at most.
            decoder.window_log_max(27)?;
            Box::new(decoder)
        }
    })
}

/// Unpacks a layer into the empty directory `to`. On an error `to` holds rubbish, which the caller removes.
pub fn unpack(packed: impl Read, layer: &Layer<'_>, to: &Path) -> Result<Unpacked, Error> {
    let failed = |cause: String| Error::Extract {
        layer: layer.blob.to_string(),
        cause,
    };
    let mut outer = Hashing::new(packed, layer.blob);
    let (unpacked, found) = {
        let guarded = bounded(&mut outer, limits::LAYER_BYTES);
        let guarded = guarded.map_err(|e| failed(e.to_string()))?;
        let mut inner = Hashing::new(guarded, layer.diff_id);
        let unpacked =
            apply::apply(&mut inner, layer.lowers, to).map_err(|e| failed(e.to_string()))?;
        let (found, _) = inner.finish().map_err(|e| failed(e.to_string()))?;
        (unpacked, found)
    };
    let (blob, _) = outer.finish().map_err(|e| failed(e.to_string()))?;
    if blob != *layer.blob {
        return Err(mismatch(layer, layer.blob, blob));
    }
    if found != *layer.diff_id {
        return Err(failed(format!(
            "wrong diff id calculated on extraction {found}, expected {}",
            layer.diff_id
        )));
    }
    Ok(unpacked)
}

fn mismatch(layer: &Layer<'_>, expected: &Digest, found: Digest) -> Error {
    Error::Mismatch {
        what: format!("layer-{}", layer.blob),
        expected: expected.to_string(),
        found: found.to_string(),
    }
}

/// As [`decompress`]; the stream fails where it gives more than `most` bytes, or more than a honest archive would for
/// the packed bytes it took.
pub(crate) fn bounded<'a>(packed: impl Read + 'a, most: u64) -> io::Result<impl Read + 'a> {
    let taken = Rc::new(Cell::new(0));
    let counted = Counted {
        inner: packed,
        taken: taken.clone(),
    };
    Ok(Guard {
        inner: decompress(counted)?,
        given: 0,
        taken,
        most,
        ratio: (limits::RATIO_AFTER, limits::RATIO),
    })
}

/// Counts what is read.
struct Counted<R> {
    inner: R,
    taken: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.taken.set(self.taken.get() + n as u64);
        Ok(n)
    }
}

/// Ends a stream that is longer than it may be.
struct Guard<R> {
    inner: R,
    given: u64,
    /// Packed bytes so far.
    taken: Rc<Cell<u64>>,
    most: u64,
    /// From which length on which ratio of given to taken bytes is too high.
    ratio: (u64, u64),
}

impl<R: Read> Read for Guard<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.given += n as u64;
        if self.given > self.most {
            return Err(io::Error::other("unpacks to more than the limit"));
        }
        let (after, ratio) = self.ratio;
        if self.given > after && self.given / self.taken.get().max(1) > ratio {
            let text = format!("unpacks to more than {ratio} times its size");
            return Err(io::Error::other(text));
        }
        Ok(n)
    }
}

#[cfg(test)]
mod tests;
