//! Logs of containers, and of the node. Upstream: pkg/kubelet/kuberuntime/logs.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use http::{Response, StatusCode};
use jiff::{SignedDuration, Timestamp};
use linux::inotify::Interest;
use tokio::sync::mpsc;

use super::body::{self, Body, query};
use super::info::find_worker;
use crate::kubelet::Kubelet;
use crate::limits;
use crate::pod;
use crate::worker::PodWorker;

/// Bytes that are gathered before they are sent.
const CHUNK: usize = 32 * 1024;
/// Chunks that wait for the client.
const WAITING: usize = 4;

/// Upstream's PodLogOptions, as far as the node looks at them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    pub follow: bool,
    pub previous: bool,
    pub since: Option<Timestamp>,
    pub timestamps: bool,
    pub tail: Option<u64>,
    pub limit: Option<u64>,
}

// === Options ===

impl Options {
    /// Reads a query; an error is the text of a 400 or 422.
    pub fn parse(text: &str, now: Timestamp) -> Result<Self, (StatusCode, String)> {
        let undecodable = || {
            let text = r#"{"message": "Unable to decode query."}"#;
            (StatusCode::BAD_REQUEST, text.to_string())
        };
        let invalid = || {
            let text = r#"{"message": "Invalid request."}"#;
            (StatusCode::UNPROCESSABLE_ENTITY, text.to_string())
        };
        let one = |name: &str| query(text, name).next().filter(|v| !v.is_empty());
        let flag = |name: &str| match one(name).as_deref() {
            None | Some("false" | "0" | "f" | "F" | "FALSE" | "False") => Ok(false),
            Some("true" | "1" | "t" | "T" | "TRUE" | "True") => Ok(true),
            Some(_) => Err(undecodable()),
        };
        let number = |name: &str| {
            let value = one(name).map(|v| v.parse::<i64>());
            value.transpose().map_err(|_| undecodable())
        };
        let tail = match one("tailLines").or_else(|| one("tail")).as_deref() {
            None | Some("all") => None,
            Some(n) => Some(n.parse::<i64>().map_err(|_| undecodable())?),
        };
        let tail = tail.map(u64::try_from).transpose().map_err(|_| invalid())?;
        let limit = number("limitBytes")?;
        let limit = limit.map(|n| u64::try_from(n).ok().filter(|n| *n > 0).ok_or_else(invalid));
        let stream = one("stream");
        if let Some(other) = stream.filter(|s| s != "All") {
            let text = format!(
                "unable to return the given log stream: {other:?}. Please enable PodLogsQuerySplitStreams feature gate in kubelet"
            );
            return Err((StatusCode::BAD_REQUEST, text));
        }
        let seconds = number("sinceSeconds")?;
        if seconds.is_some_and(|s| s < 1) {
            return Err(invalid());
        }
        let ago = seconds.and_then(|s| now.checked_sub(SignedDuration::from_secs(s)).ok());
        let at = one("sinceTime").map(|t| t.parse::<Timestamp>());
        let at = at.transpose().map_err(|_| undecodable())?;
        Ok(Self {
            follow: flag("follow")?,
            previous: flag("previous")?,
            timestamps: flag("timestamps")?,
            since: at.or(ago),
            tail,
            limit: limit.transpose()?,
        })
    }
}

/// Serves the log of one container.
pub async fn container(
    kubelet: &Arc<Kubelet>,
    ns: &str,
    name: &str,
    container: &str,
    text: &str,
) -> Response<Body> {
    let options = match Options::parse(text, Timestamp::now()) {
        Ok(options) => options,
        Err((status, text)) => return body::text(status, text),
    };
    let Some(worker) = find_worker(kubelet, ns, name) else {
        return body::text(
            StatusCode::NOT_FOUND,
            format!("pod {name:?} does not exist\n"),
        );
    };
    let p = worker.pod();
    if pod::find_container(&p, container).is_none() {
        let text = format!("container {container:?} not found in pod {name:?}\n");
        return body::text(StatusCode::NOT_FOUND, text);
    }
    let (path, id) = match locate(&worker, name, container, options.previous) {
        Ok(found) => found,
        Err(why) => return body::text(StatusCode::BAD_REQUEST, why),
    };
    let (out, chunks) = mpsc::channel(WAITING);
    let watched = worker.clone();
    tokio::spawn(async move {
        let reader = Follower {
            path,
            options,
            out,
            written: 0,
        };
        if let Err(error) = reader.run(&watched, &id).await {
            tracing::debug!(%error, "log not read to its end");
        }
    });
    let stream = received(chunks);
    body::answer(StatusCode::OK, "text/plain", body::stream(stream))
}

fn received(
    mut chunks: mpsc::Receiver<Bytes>,
) -> impl futures::Stream<Item = Result<Bytes, io::Error>> {
    futures::stream::poll_fn(move |cx| chunks.poll_recv(cx).map(|c| c.map(Ok)))
}

/// The log file of a container and its id, or why there is none. Upstream: validateContainerLogStatus.
fn locate(
    worker: &PodWorker,
    name: &str,
    container: &str,
    previous: bool,
) -> Result<(PathBuf, String), String> {
    let seen = worker.observed.borrow().clone();
    let mut runs = seen.named(container).filter(|c| c.started_at > 0);
    let newest = runs.next();
    if previous {
        let status = worker.state.lock().status.clone();
        let current = seen
            .latest(container)
            .filter(|c| c.state == cri::ContainerState::Running);
        // A container that waits for its restart shows its last run as the previous one.
        let waiting = status
            .container_statuses
            .iter()
            .chain(&status.init_container_statuses)
            .flatten()
            .any(|s| {
                s.name == container && s.state.as_ref().is_some_and(|st| st.waiting.is_some())
            });
        let found = if current.is_none() && waiting {
            newest
        } else {
            runs.next()
        };
        return found
            .map(|c| (PathBuf::from(&c.log_path), c.id.clone()))
            .ok_or_else(|| {
                format!("previous terminated container {container:?} in pod {name:?} not found")
            });
    }
    if let Some(c) = newest {
        return Ok((PathBuf::from(&c.log_path), c.id.clone()));
    }
    let state = worker.state.lock();
    let lists = [
        &state.status.init_container_statuses,
        &state.status.container_statuses,
        &state.status.ephemeral_container_statuses,
    ];
    let all = lists.into_iter().flatten().flatten();
    let reason = all
        .filter(|s| s.name == container)
        .find_map(|s| s.state.as_ref()?.waiting.as_ref()?.reason.clone());
    let named = format!("container {container:?} in pod {name:?}");
    Err(match reason.as_deref() {
        Some("ErrImagePull") => format!("{named} is waiting to start: image can't be pulled"),
        Some("ImagePullBackOff") => {
            format!("{named} is waiting to start: trying and failing to pull image")
        }
        Some(reason) => format!("{named} is waiting to start: {reason}"),
        None => format!("{named} is not available"),
    })
}

struct Follower {
    path: PathBuf,
    options: Options,
    out: mpsc::Sender<Bytes>,
    written: u64,
}

impl Follower {
    async fn run(mut self, worker: &PodWorker, id: &str) -> io::Result<()> {
        let watch = linux::inotify::Watch::new()?;
        if let Some(dir) = self.path.parent() {
            let writes = Interest::MODIFY | linux::inotify::ENTRIES;
            watch.add(dir, writes)?;
        }
        let mut observed = worker.observed.subscribe();
        let mut file = self.open()?;
        loop {
            let running = {
                let seen = observed.borrow_and_update();
                let own = seen.containers.iter().find(|c| c.id == id);
                own.is_some_and(|c| c.state == cri::ContainerState::Running)
            };
            // First what there is, then the question whether more can come.
            if !self.drain(&mut file).await? {
                return Ok(());
            }
            if !self.options.follow {
                return Ok(());
            }
            if self.rotated(&file)? {
                file = BufReader::new(File::open(&self.path)?);
                continue;
            }
            if !running {
                return Ok(());
            }
            tokio::select! {
                events = watch.next() => {
                    events?;
                }
                changed = observed.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                }
                () = self.out.closed() => return Ok(()),
            }
        }
    }

    fn open(&self) -> io::Result<BufReader<File>> {
        let mut file = File::open(&self.path)?;
        if let Some(lines) = self.options.tail {
            let start = tail_offset(&mut file, lines)?;
            file.seek(SeekFrom::Start(start))?;
        }
        Ok(BufReader::new(file))
    }

    fn rotated(&self, file: &BufReader<File>) -> io::Result<bool> {
        let Ok(now) = std::fs::metadata(&self.path) else {
            return Ok(false);
        };
        Ok(now.ino() != file.get_ref().metadata()?.ino())
    }

    /// Sends all whole lines; whether the client wants more.
    async fn drain(&mut self, file: &mut BufReader<File>) -> io::Result<bool> {
        let (mut line, mut chunk) = (Vec::new(), Vec::new());
        loop {
            line.clear();
            let bound = u64::try_from(limits::LOG_LINE).unwrap_or(u64::MAX);
            let n = file.by_ref().take(bound).read_until(b'\n', &mut line)?;
            let whole = line.last() == Some(&b'\n');
            if n > 0 && !whole && line.len() < limits::LOG_LINE {
                // The rest of the line is not written yet.
                file.seek_relative(-i64::try_from(n).unwrap_or(0))?;
            }
            let ended = n == 0 || !whole;
            if !ended {
                self.format(&line, &mut chunk);
            }
            let full = self.options.limit.is_some_and(|l| self.written >= l);
            if (ended || full || chunk.len() >= CHUNK) && !chunk.is_empty() {
                let bytes = Bytes::from(std::mem::take(&mut chunk));
                if self.out.send(bytes).await.is_err() {
                    return Ok(false);
                }
            }
            if full {
                return Ok(false);
            }
            if ended {
                return Ok(true);
            }
        }
    }

    /// One line of the file as the client sees it.
    fn format(&mut self, line: &[u8], out: &mut Vec<u8>) {
        let Some(entry) = parse(line) else { return };
        if let Some(since) = self.options.since
            && entry.time.parse::<Timestamp>().is_ok_and(|t| t < since)
        {
            return;
        }
        let start = out.len();
        if self.options.timestamps {
            out.extend_from_slice(entry.time.as_bytes());
            out.push(b' ');
        }
        out.extend_from_slice(entry.content);
        if !entry.partial {
            out.push(b'\n');
        }
        let mut length = u64::try_from(out.len() - start).unwrap_or(0);
        if let Some(limit) = self.options.limit {
            let left = limit.saturating_sub(self.written);
            if length > left {
                out.truncate(start + usize::try_from(left).unwrap_or(0));
                length = left;
            }
        }
        self.written += length;
    }
}

struct Entry<'a> {
    time: &'a str,
    partial: bool,
    content: &'a [u8],
}

/// `<time> <stream> <tags> <content>\n`.
fn parse(line: &[u8]) -> Option<Entry<'_>> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let mut parts = line.splitn(4, |b| *b == b' ');
    let time = std::str::from_utf8(parts.next()?).ok()?;
    parts.next()?;
    let tags = parts.next()?;
    Some(Entry {
        time,
        partial: tags.split(|b| *b == b':').next() == Some(b"P"),
        content: parts.next().unwrap_or_default(),
    })
}

/// Where the last lines begin.
fn tail_offset(file: &mut File, lines: u64) -> io::Result<u64> {
    let length = file.metadata()?.len();
    if lines == 0 {
        return Ok(length);
    }
    let (mut end, mut found) = (length, 0);
    let mut buffer = vec![0; 64 * 1024];
    while end > 0 {
        let n = end.min(buffer.len() as u64);
        let start = end - n;
        let part = &mut buffer[..usize::try_from(n).unwrap_or(0)];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(part)?;
        for (i, byte) in part.iter().enumerate().rev() {
            let at = start + i as u64;
            // The newline that ends the file begins no line.
            if *byte == b'\n' && at + 1 < length {
                found += 1;
                if found == lines {
                    return Ok(at + 1);
                }
            }
        }
        end = start;
    }
    Ok(0)
}

#[cfg(test)]
mod tests;
