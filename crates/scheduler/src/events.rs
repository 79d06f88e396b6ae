//! The events users see. Reasons, actions and notes are upstream's.

use api::core::v1::ObjectReference;
use client::recorder::Report;
use client::{EventType, Recorder};

use crate::limits;
use crate::pod::Pod;

/// Records events about pods. Cheap to clone.
#[derive(Clone)]
pub struct Events {
    recorder: Recorder,
}

// === Events ===

impl Events {
    /// Events through a recorder.
    pub fn new(recorder: Recorder) -> Self {
        Self { recorder }
    }

    /// The pod has got its node.
    pub fn scheduled(&self, pod: &Pod, node: &str) {
        let note = format!("Successfully assigned {} to {node}", pod.key);
        self.report(pod, None, (EventType::Normal, "Scheduled", "Binding"), note);
    }

    /// The pod has got no node.
    pub fn failed(&self, pod: &Pod, message: &str) {
        let kind = (EventType::Warning, "FailedScheduling", "Scheduling");
        self.report(pod, None, kind, truncated(message));
    }

    /// A pod had to make room for another.
    pub fn preempted(&self, victim: &Pod, preemptor: &Pod, node: &str) {
        let note = format!("Preempted by pod {} on node {node}", preemptor.uid);
        let kind = (EventType::Normal, "Preempted", "Preempting");
        self.report(victim, Some(preemptor), kind, note);
    }

    fn report(
        &self,
        about: &Pod,
        related: Option<&Pod>,
        (kind, reason, action): (EventType, &str, &str),
        note: String,
    ) {
        self.recorder.report(Report {
            about: reference(about),
            related: related.map(reference),
            kind,
            reason: reason.into(),
            action: action.into(),
            note,
        });
    }
}

fn reference(pod: &Pod) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Pod".into()),
        name: Some(pod.key.name.to_string()),
        namespace: Some(pod.key.namespace.to_string()),
        uid: Some(pod.uid.to_string()),
        ..ObjectReference::default()
    }
}

/// At most as long as a note may be, with dots for what is cut.
fn truncated(message: &str) -> String {
    const DOTS: &str = " ...";
    if message.len() <= limits::NOTE_BYTES {
        return message.into();
    }
    let mut end = limits::NOTE_BYTES - DOTS.len();
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{DOTS}", &message[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_notes_are_cut() {
        assert_eq!(truncated("short"), "short");
        let cut = truncated(&"é".repeat(600));
        assert!(cut.len() <= 1024 && cut.ends_with("é ..."));
    }
}
