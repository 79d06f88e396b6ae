//! The log backend: lines in a file of mode 0600, rotated by size, bounded by number and age, compressed if wanted.
//! Upstream: plugin/pkg/audit/log over lumberjack, whose names of old files are kept.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::counters::Counters;
use super::event::Form;
use super::sink::{Sink, SinkOptions};
use crate::limits;

/// Where and how much, as kube-apiserver's `--audit-log-*`.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// `-` is the standard output.
    pub path: String,
    /// Largest file; 0 for no bound.
    pub max_bytes: u64,
    /// Old files that are kept; 0 keeps all.
    pub max_backups: usize,
    /// Days that old files are kept; 0 keeps them for ever.
    pub max_age_days: u64,
    /// Whether lines are upstream's `legacy` ones; else they are JSON.
    pub legacy: bool,
    /// Whether old files are compressed.
    pub compress: bool,
}

/// An open file, or the standard output.
struct Target {
    options: LogOptions,
    out: Box<dyn Write + Send>,
    written: u64,
}

/// Starts the thread that writes lines. It ends when nobody can send any more.
pub fn start(
    options: LogOptions,
    sink: SinkOptions,
    counters: &Arc<Counters>,
) -> std::io::Result<Sink> {
    let form = match options.legacy {
        true => Form::Legacy,
        false => Form::Json,
    };
    let mut target = Target::open(options)?;
    let (sink, mut lines) = Sink::new(form, sink, counters);
    let counters = counters.clone();
    let work = move || {
        while let Some(line) = lines.blocking_recv() {
            // Waking this thread and writing cost a request more than being served: others come meanwhile.
            if line.written.is_none() {
                std::thread::sleep(limits::AUDIT_GATHER);
            }
            let mut told = Vec::new();
            let mut next = Some(line);
            let mut well = true;
            // What came together is written together.
            while let Some(line) = next.take() {
                if let Err(error) = target.write(&line.text) {
                    well = false;
                    counters.failed("log", 1);
                    tracing::error!(%error, "an audit event is not written");
                }
                told.extend(line.written);
                next = lines.try_recv().ok();
            }
            if let Err(error) = target.out.flush() {
                well = false;
                counters.failed("log", 1);
                tracing::error!(%error, "the audit log is not written");
            }
            for written in told {
                // Whoever asked may have gone.
                let _ = written.send(well);
            }
        }
    };
    let thread = std::thread::Builder::new().name("audit".into());
    thread.spawn(work)?;
    Ok(sink)
}

impl Target {
    fn open(options: LogOptions) -> std::io::Result<Self> {
        if options.path == "-" {
            let out = Box::new(BufWriter::new(std::io::stdout()));
            return Ok(Self {
                options,
                out,
                written: 0,
            });
        }
        let path = Path::new(&options.path);
        if let Some(dir) = path.parent().filter(|d| !d.as_os_str().is_empty()) {
            std::fs::create_dir_all(dir)?;
        }
        let file = open(path)?;
        let written = file.metadata()?.len();
        Ok(Self {
            options,
            out: Box::new(BufWriter::with_capacity(64 << 10, file)),
            written,
        })
    }

    fn write(&mut self, line: &[u8]) -> std::io::Result<()> {
        let size = line.len() as u64;
        let max = self.options.max_bytes;
        let full = max > 0 && self.written > 0 && self.written + size > max;
        if full && self.options.path != "-" {
            self.rotate()?;
        }
        self.written += size;
        self.out.write_all(line)
    }

    fn rotate(&mut self) -> std::io::Result<()> {
        self.out.flush()?;
        let path = PathBuf::from(&self.options.path);
        std::fs::rename(&path, backup(&path, jiff::Timestamp::now()))?;
        self.out = Box::new(BufWriter::with_capacity(64 << 10, open(&path)?));
        self.written = 0;
        let names = backups(&path)?;
        for old in surplus(&names, &self.options, jiff::Timestamp::now()) {
            std::fs::remove_file(old)?;
        }
        if self.options.compress {
            let work = move || {
                if let Err(error) = compress_all(&path) {
                    tracing::error!(%error, "old audit logs are not compressed");
                }
            };
            let thread = std::thread::Builder::new().name("audit-gzip".into());
            thread.spawn(work)?;
        }
        Ok(())
    }
}

/// Compresses the old files that are not; one thread at a time.
fn compress_all(log: &Path) -> std::io::Result<()> {
    static ONE: parking_lot::Mutex<()> = parking_lot::Mutex::new(());
    let Some(_one) = ONE.try_lock() else {
        // Whoever is at it, or the next one, takes the new file too.
        return Ok(());
    };
    for (path, _) in backups(log)? {
        if path.extension().is_some_and(|e| e == "gz") {
            continue;
        }
        let mut to = path.clone().into_os_string();
        to.push(".gz");
        let to = PathBuf::from(to);
        let mut options = OpenOptions::new();
        options.create(true).write(true).truncate(true).mode(0o600);
        let out = BufWriter::new(options.open(&to)?);
        let mut out = flate2::write::GzEncoder::new(out, flate2::Compression::default());
        std::io::copy(&mut File::open(&path)?, &mut out)?;
        out.finish()?.flush()?;
        std::fs::remove_file(&path)?;
    }
    Ok(())
}

fn open(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).append(true).mode(0o600).open(path)
}

/// The file's name without its ending, and that.
fn split(path: &Path) -> (String, String) {
    let text = |o: Option<&std::ffi::OsStr>| {
        o.map(|s| s.to_string_lossy().into_owned())
            .unwrap_or_default()
    };
    let ending = match text(path.extension()) {
        e if e.is_empty() => e,
        e => format!(".{e}"),
    };
    (text(path.file_stem()), ending)
}

fn backup(path: &Path, now: jiff::Timestamp) -> PathBuf {
    let (stem, ending) = split(path);
    let at = now.strftime("%Y-%m-%dT%H-%M-%S%.3f");
    path.with_file_name(format!("{stem}-{at}{ending}"))
}

/// When a backup was made, by its name.
fn made(path: &Path, log: &Path) -> Option<jiff::Timestamp> {
    let (stem, ending) = split(log);
    let name = path.file_name()?.to_str()?;
    let name = name.strip_suffix(".gz").unwrap_or(name);
    let at = name
        .strip_prefix(&stem)?
        .strip_prefix('-')?
        .strip_suffix(&ending)?;
    let civil = jiff::civil::DateTime::strptime("%Y-%m-%dT%H-%M-%S%.f", at).ok()?;
    Some(civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
}

/// All backups, newest first.
fn backups(log: &Path) -> std::io::Result<Vec<(PathBuf, jiff::Timestamp)>> {
    let dir = log.parent().filter(|d| !d.as_os_str().is_empty());
    let mut out = Vec::new();
    for entry in std::fs::read_dir(dir.unwrap_or(Path::new(".")))? {
        let path = entry?.path();
        if let Some(at) = made(&path, log) {
            out.push((path, at));
        }
    }
    out.sort_by_key(|(_, at)| std::cmp::Reverse(*at));
    Ok(out)
}

/// Backups that are too many or too old.
fn surplus<'a>(
    newest_first: &'a [(PathBuf, jiff::Timestamp)],
    options: &LogOptions,
    now: jiff::Timestamp,
) -> Vec<&'a Path> {
    let days = i64::try_from(options.max_age_days).unwrap_or(i64::MAX);
    let oldest = now.as_second().saturating_sub(days.saturating_mul(86_400));
    let goes = |i: usize, at: &jiff::Timestamp| {
        (options.max_backups > 0 && i >= options.max_backups)
            || (options.max_age_days > 0 && at.as_second() < oldest)
    };
    let all = newest_first.iter().enumerate();
    all.filter(|(i, (_, at))| goes(*i, at))
        .map(|(_, (path, _))| path.as_path())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn options(path: &Path) -> LogOptions {
        LogOptions {
            path: path.display().to_string(),
            max_bytes: 100,
            max_backups: 2,
            max_age_days: 1,
            legacy: false,
            compress: false,
        }
    }

    #[test]
    fn the_log_is_rotated_and_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        let mut target = Target::open(options(&path)).unwrap();
        for _ in 0..20 {
            target.write(&[b'x'; 60]).unwrap();
        }
        target.out.flush().unwrap();
        let all: Vec<_> = std::fs::read_dir(dir.path()).unwrap().flatten().collect();
        assert!(all.len() <= 3, "{all:?}");
        for file in all {
            let meta = file.metadata().unwrap();
            assert_eq!((meta.mode() & 0o777, meta.len()), (0o600, 60));
        }
    }

    #[test]
    fn old_files_are_compressed() {
        use std::io::Read;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        let old = backup(&path, jiff::Timestamp::now());
        std::fs::write(&old, b"an old event\n").unwrap();
        std::fs::write(&path, b"a new one\n").unwrap();
        compress_all(&path).unwrap();
        let gz = PathBuf::from(format!("{}.gz", old.display()));
        assert!(!old.exists() && path.exists());
        let mut text = String::new();
        let mut read = flate2::read::GzDecoder::new(File::open(&gz).unwrap());
        read.read_to_string(&mut text).unwrap();
        assert_eq!(text, "an old event\n");
        assert_eq!(made(&gz, &path), made(&old, &path));
        assert_eq!(gz.metadata().unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn old_files_are_told_by_their_names() {
        let log = Path::new("/x/audit.log");
        let now: jiff::Timestamp = "2026-11-26T03:04:05.678Z".parse().unwrap();
        let name = backup(log, now);
        assert_eq!(name, Path::new("/x/audit-2026-11-26T03-04-05.678.log"));
        assert_eq!(made(&name, log), Some(now));
        assert_eq!(made(Path::new("/x/audit-notes.log"), log), None);
        let at = |hours: i64| now - jiff::SignedDuration::from_hours(hours);
        let three = [1, 2, 3].map(|h| (PathBuf::from(h.to_string()), at(h)));
        assert_eq!(surplus(&three, &options(log), now), [Path::new("3")]);
        let old = [(PathBuf::from("old"), at(25))];
        assert_eq!(surplus(&old, &options(log), now), [Path::new("old")]);
    }
}
