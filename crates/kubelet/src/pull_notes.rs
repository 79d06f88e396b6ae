//! What is told of a pull that takes a while: an event of the pod and a line of the log, now and then.
//! Upstream tells only of a pull's begin and end.

use std::sync::Arc;

use api::core::v1::ObjectReference;
use client::{EventType, Recorder};
use cri::{ProgressSink, PullProgress};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::limits;

/// What was told last of one pull.
struct Told {
    at: Instant,
    /// The first note comes sooner than those after it.
    first: bool,
    percent: u64,
}

// === Told ===

impl Told {
    fn new(now: Instant) -> Self {
        Self {
            at: now,
            first: true,
            percent: 0,
        }
    }

    /// The note that is due now.
    fn due(&mut self, now: Instant, p: &PullProgress) -> Option<String> {
        let wait = match self.first {
            true => limits::PULL_NOTE_FIRST,
            false => limits::PULL_NOTE_EVERY,
        };
        let percent = (p.bytes_done * 100).checked_div(p.bytes)?;
        if now.duration_since(self.at) < wait || percent == self.percent || percent >= 100 {
            return None;
        }
        *self = Self {
            at: now,
            first: false,
            percent,
        };
        Some(format!(
            "{percent}%: {} of {}, {} of {} layers",
            mebibytes(p.bytes_done),
            mebibytes(p.bytes),
            p.layers_done,
            p.layers
        ))
    }
}

fn mebibytes(bytes: u64) -> String {
    let tenths = bytes * 10 / (1 << 20);
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

/// A sink that tells of one pull.
pub fn sink(image: &str, about: ObjectReference, recorder: Recorder) -> ProgressSink {
    let image = image.to_string();
    let told = Mutex::new(Told::new(Instant::now()));
    Arc::new(move |p: PullProgress| {
        let Some(note) = told.lock().due(Instant::now(), &p) else {
            return;
        };
        tracing::info!(image, progress = note, "pulling");
        let message = format!("Pulling image \"{image}\": {note}");
        recorder.event(about.clone(), EventType::Normal, "Pulling", &message);
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn long_pulls_are_told_of_now_and_then() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let progress = |bytes_done| PullProgress {
            layers_done: 1,
            layers: 3,
            bytes_done,
            bytes: 100 << 20,
        };
        let mut told = Told::new(begun);
        assert_eq!(told.due(at(1), &progress(1 << 20)), None);
        let first = told.due(at(5), &progress(10 << 20));
        assert_eq!(
            first.as_deref(),
            Some("10%: 10.0 MiB of 100.0 MiB, 1 of 3 layers")
        );
        assert_eq!(told.due(at(6), &progress(20 << 20)), None);
        assert_eq!(told.due(at(30), &progress(10 << 20)), None, "nothing new");
        assert!(told.due(at(30), &progress(50 << 20)).is_some());
        assert_eq!(
            told.due(at(90), &progress(100 << 20)),
            None,
            "the end is told"
        );
        let unknown = PullProgress {
            bytes: 0,
            ..progress(1)
        };
        assert_eq!(told.due(at(99), &unknown), None);
    }
}
