//! Header blocks: name-value pairs in one zlib stream per direction, with SPDY/3's preset dictionary.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use crate::limits;

/// Words of SPDY/3's dictionary, each of which stands there behind its length in four bytes.
const WORDS: &[&str] = &[
    "options",
    "head",
    "post",
    "put",
    "delete",
    "trace",
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "accept-ranges",
    "age",
    "allow",
    "authorization",
    "cache-control",
    "connection",
    "content-base",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-md5",
    "content-range",
    "content-type",
    "date",
    "etag",
    "expect",
    "expires",
    "from",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-modified",
    "location",
    "max-forwards",
    "pragma",
    "proxy-authenticate",
    "proxy-authorization",
    "range",
    "referer",
    "retry-after",
    "server",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "vary",
    "via",
    "warning",
    "www-authenticate",
    "method",
    "get",
    "status",
    "200 OK",
    "version",
    "HTTP/1.1",
    "url",
    "public",
    "set-cookie",
    "keep-alive",
    "origin",
];

/// What follows the words.
const TAIL: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416417\
502504505203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request\
401 Unauthorized403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented\
503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, \
Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,\
application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdch\
charset=utf-8charset=iso-8859-1,utf-,*,enq=0.";

/// Headers of one stream, names in lower case.
pub type Headers = BTreeMap<String, String>;

fn dictionary() -> Vec<u8> {
    let mut out = Vec::with_capacity(1423);
    for word in WORDS {
        out.put_u32(word.len() as u32);
        out.put_slice(word.as_bytes());
    }
    out.put_slice(TAIL.as_bytes());
    out
}

/// Reads the blocks of one direction, in order.
pub struct Inflater {
    zlib: Decompress,
}

/// Writes the blocks of one direction, in order.
pub struct Deflater {
    zlib: Compress,
}

// === Inflater ===

impl Default for Inflater {
    /// For a new connection.
    fn default() -> Self {
        Self {
            zlib: Decompress::new(true),
        }
    }
}

impl Inflater {
    /// The headers of a block.
    pub fn headers(&mut self, block: &[u8]) -> Result<Headers, String> {
        let plain = self.inflate(block)?;
        parse(plain.into())
    }

    fn inflate(&mut self, block: &[u8]) -> Result<Vec<u8>, String> {
        let mut out = vec![0; limits::HEADER_BYTES];
        let (mut read, mut written) = (0, 0);
        while read < block.len() {
            let before = (self.zlib.total_in(), self.zlib.total_out());
            let done =
                self.zlib
                    .decompress(&block[read..], &mut out[written..], FlushDecompress::Sync);
            read += (self.zlib.total_in() - before.0) as usize;
            written += (self.zlib.total_out() - before.1) as usize;
            match done {
                Ok(Status::Ok) if written < out.len() => {}
                Ok(Status::BufError) if read == block.len() => {}
                Ok(_) => return Err("header block is too large or ends early".into()),
                Err(e) if e.needs_dictionary().is_some() => {
                    let set = self.zlib.set_dictionary(&dictionary());
                    set.map_err(|e| format!("header block: {e}"))?;
                }
                Err(e) => return Err(format!("header block: {e}")),
            }
        }
        out.truncate(written);
        Ok(out)
    }
}

fn parse(mut plain: Bytes) -> Result<Headers, String> {
    let short = || "header block is too short".to_string();
    let number = |b: &mut Bytes| b.try_get_u32().map_err(|_| short());
    let mut headers = Headers::new();
    for _ in 0..number(&mut plain)? {
        let mut text = || {
            let n = number(&mut plain)? as usize;
            if n > plain.len() {
                return Err(short());
            }
            let bytes = plain.split_to(n);
            String::from_utf8(bytes.to_vec()).map_err(|_| "header is not text".to_string())
        };
        let (name, value) = (text()?, text()?);
        headers.insert(name.to_ascii_lowercase(), value);
    }
    Ok(headers)
}

// === Deflater ===

impl Deflater {
    /// For a new connection.
    pub fn new() -> Result<Self, String> {
        let mut zlib = Compress::new(Compression::default(), true);
        let set = zlib.set_dictionary(&dictionary());
        set.map_err(|e| format!("header dictionary: {e}"))?;
        Ok(Self { zlib })
    }

    /// The block of these headers.
    pub fn block(&mut self, headers: &Headers) -> Result<Bytes, String> {
        let mut plain = Vec::new();
        plain.put_u32(headers.len() as u32);
        for (name, value) in headers {
            for text in [name, value] {
                plain.put_u32(text.len() as u32);
                plain.put_slice(text.as_bytes());
            }
        }
        let mut out = Vec::with_capacity(plain.len() + 256);
        let mut read = 0;
        loop {
            let before = self.zlib.total_in();
            self.zlib
                .compress_vec(&plain[read..], &mut out, FlushCompress::Sync)
                .map_err(|e| format!("header block: {e}"))?;
            read += (self.zlib.total_in() - before) as usize;
            if read == plain.len() && out.len() < out.capacity() {
                return Ok(out.into());
            }
            out.reserve(256);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dictionary_is_spdys() {
        // Adler-32 that every SPDY/3 zlib header names.
        let (mut a, mut b) = (1u32, 0u32);
        for byte in dictionary() {
            a = (a + u32::from(byte)) % 65521;
            b = (b + a) % 65521;
        }
        assert_eq!(b << 16 | a, 0xe3c6_a7c2);
    }

    #[test]
    fn blocks_of_one_connection_share_a_stream() {
        let mut deflater = Deflater::new().unwrap();
        let mut inflater = Inflater::default();
        for n in 0..5 {
            let headers = Headers::from([
                ("streamtype".into(), "data".into()),
                ("port".into(), n.to_string()),
            ]);
            let block = deflater.block(&headers).unwrap();
            assert_eq!(inflater.headers(&block).unwrap(), headers);
        }
        assert!(inflater.headers(b"garbage").is_err());
    }

    #[test]
    fn a_bomb_is_refused() {
        let mut deflater = Deflater::new().unwrap();
        let headers = Headers::from([("x".into(), "0".repeat(limits::HEADER_BYTES))]);
        let block = deflater.block(&headers).unwrap();
        assert!(block.len() < 1000);
        assert!(Inflater::default().headers(&block).is_err());
    }
}
