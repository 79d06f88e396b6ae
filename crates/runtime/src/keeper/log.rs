//! A container's log file in CRI's format: `<RFC 3339 time> <stream> <F|P> <text>`, a line each. Splitting
//! as containerd's `redirectLogs`: pieces of 16 KiB are marked `P`, as is text that ends without a newline.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;

use crate::limits::LOG_LINE_BYTES_MAX;

/// Which stream of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

/// Formats output; keeps the last unfinished line of each stream.
#[derive(Debug, Default)]
pub struct Lines {
    partial: [Vec<u8>; 2],
}

/// The file.
#[derive(Debug)]
pub struct Log {
    path: Option<PathBuf>,
    file: Option<File>,
    lines: Lines,
}

// === Stream ===

impl Stream {
    fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

// === Lines ===

impl Lines {
    /// The entries that `data` completes.
    pub fn push(&mut self, stream: Stream, mut data: &[u8], time: &str) -> Vec<u8> {
        let mut out = Vec::with_capacity(data.len() + 64);
        let partial = &mut self.partial[stream as usize];
        while !data.is_empty() {
            let end = data.iter().position(|b| *b == b'\n');
            partial.extend_from_slice(&data[..end.unwrap_or(data.len())]);
            while partial.len() > LOG_LINE_BYTES_MAX {
                let rest = partial.split_off(LOG_LINE_BYTES_MAX);
                entry(&mut out, time, stream, 'P', partial);
                *partial = rest;
            }
            match end {
                Some(end) => {
                    entry(&mut out, time, stream, 'F', partial);
                    partial.clear();
                    data = &data[end + 1..];
                }
                None => break,
            }
        }
        out
    }

    /// The entry of a stream's last, unfinished line.
    pub fn finish(&mut self, stream: Stream, time: &str) -> Vec<u8> {
        let mut out = Vec::new();
        let partial = std::mem::take(&mut self.partial[stream as usize]);
        if !partial.is_empty() {
            entry(&mut out, time, stream, 'P', &partial);
        }
        out
    }
}

fn entry(out: &mut Vec<u8>, time: &str, stream: Stream, tag: char, text: &[u8]) {
    out.extend_from_slice(time.as_bytes());
    out.push(b' ');
    out.extend_from_slice(stream.name().as_bytes());
    out.extend_from_slice(&[b' ', tag as u8, b' ']);
    out.extend_from_slice(text);
    out.push(b'\n');
}

// === Log ===

impl Log {
    /// Opens the file for appending; without a path, output is dropped.
    pub fn open(path: Option<PathBuf>) -> io::Result<Self> {
        let file = path.as_ref().map(open_file).transpose()?;
        Ok(Self {
            path,
            file,
            lines: Lines::default(),
        })
    }

    /// Opens the path anew, after a rotation.
    pub fn reopen(&mut self) -> io::Result<()> {
        if let Some(path) = &self.path {
            self.file = Some(open_file(path)?);
        }
        Ok(())
    }

    /// Writes output. What a full disk refuses is lost, the container goes on.
    pub fn write(&mut self, stream: Stream, data: &[u8]) -> io::Result<()> {
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        file.write_all(&self.lines.push(stream, data, &now()))
    }

    /// Writes what is left of a stream.
    pub fn finish(&mut self, stream: Stream) -> io::Result<()> {
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        file.write_all(&self.lines.finish(stream, &now()))
    }
}

fn open_file(path: &PathBuf) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o640)
        .open(path)
}

fn now() -> String {
    rfc3339(crate::clock::now())
}

/// Time in UTC with nanoseconds.
fn rfc3339(nanoseconds: i64) -> String {
    let (seconds, fraction) = (
        nanoseconds.div_euclid(1_000_000_000),
        nanoseconds.rem_euclid(1_000_000_000),
    );
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Days to a date of the Gregorian calendar, in eras of 400 years from 1 March 0.
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{fraction:09}Z",
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn lines_are_entries_and_streams_do_not_mix() {
        let mut lines = Lines::default();
        assert_eq!(
            text(lines.push(Stream::Stdout, b"one\n\ntw", "T")),
            "T stdout F one\nT stdout F \n"
        );
        assert_eq!(
            text(lines.push(Stream::Stderr, b"oops\r\n", "T")),
            "T stderr F oops\r\n"
        );
        assert_eq!(
            text(lines.push(Stream::Stdout, b"o\nlast", "T")),
            "T stdout F two\n"
        );
        assert_eq!(text(lines.finish(Stream::Stdout, "T")), "T stdout P last\n");
        assert_eq!(text(lines.finish(Stream::Stdout, "T")), "");
    }

    #[test]
    fn long_lines_come_in_pieces_of_16_kib() {
        let mut lines = Lines::default();
        let long = vec![b'x'; 2 * LOG_LINE_BYTES_MAX];
        let mut out = text(lines.push(Stream::Stdout, &long, "T"));
        out.push_str(&text(lines.push(Stream::Stdout, b"y\n", "T")));
        let pieces: Vec<_> = out.lines().map(|l| (&l[9..10], l.len() - 11)).collect();
        assert_eq!(
            pieces,
            [
                ("P", LOG_LINE_BYTES_MAX),
                ("P", LOG_LINE_BYTES_MAX),
                ("F", 1)
            ]
        );
    }

    #[test]
    fn times_are_written_as_rfc3339() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(
            rfc3339(1_709_210_096_000_000_007),
            "2024-02-29T12:34:56.000000007Z"
        );
        assert_eq!(
            rfc3339(1_767_225_599_999_999_999),
            "2025-12-31T23:59:59.999999999Z"
        );
    }
}
