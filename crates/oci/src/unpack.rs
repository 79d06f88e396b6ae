//! Turns layers into directories that overlayfs takes as lower ones. Follows containerd's archive.Apply with
//! OverlayConvertWhiteout: `.wh.NAME` becomes a character device 0:0, `.wh..wh..opq` the opaque attribute.

mod apply;
mod tape;
mod tree;

use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

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
        let stream = decompress(&mut outer).map_err(|e| failed(e.to_string()))?;
        let guarded = Guard {
            inner: stream,
            left: limits::LAYER_BYTES,
        };
        let mut inner = Hashing::new(guarded, layer.diff_id);
        let unpacked =
            apply::apply(&mut inner, layer.lowers, to).map_err(|e| failed(e.to_string()))?;
        let (found, _) = inner.finish().map_err(|e| failed(e.to_string()))?;
        (unpacked, found)
    };
    let (blob, bytes) = outer.finish().map_err(|e| failed(e.to_string()))?;
    if blob != *layer.blob {
        return Err(mismatch(layer, layer.blob, blob));
    }
    if found != *layer.diff_id {
        return Err(failed(format!(
            "wrong diff id calculated on extraction {found}, expected {}",
            layer.diff_id
        )));
    }
    if unpacked.bytes > limits::RATIO_AFTER && unpacked.bytes / bytes.max(1) > limits::RATIO {
        return Err(Error::Limit {
            what: format!(
                "the ratio of unpacked to packed bytes of layer {}",
                layer.blob
            ),
            limit: limits::RATIO,
        });
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

/// Ends a stream that is longer than it may be.
struct Guard<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Guard<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.left = self
            .left
            .checked_sub(n as u64)
            .ok_or_else(|| io::Error::other("the layer unpacks to more than the limit"))?;
        Ok(n)
    }
}

#[cfg(test)]
mod tests;
