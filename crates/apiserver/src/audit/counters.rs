//! What was recorded and what was lost, under upstream's names. Upstream: apiserver/pkg/audit/metrics.go.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Level;

/// The parts of the way that lose events, by upstream's names of its plug-ins.
const PLUGINS: [&str; 4] = ["buffered", "log", "truncate", "webhook"];
const LEVELS: [&str; 4] = ["None", "Metadata", "Request", "RequestResponse"];

/// All counters of audit.
#[derive(Default)]
pub struct Counters {
    events: AtomicU64,
    levels: [AtomicU64; 4],
    lost: [AtomicU64; 4],
    rejected: AtomicU64,
}

impl Counters {
    /// Counts a request.
    pub fn level(&self, level: Level) {
        self.levels[level as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an event.
    pub fn event(&self) {
        self.events.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts events that a part of the way lost.
    pub fn failed(&self, plugin: &str, events: u64) {
        for (name, n) in PLUGINS.iter().zip(&self.lost) {
            if *name == plugin {
                n.fetch_add(events, Ordering::Relaxed);
            }
        }
    }

    /// Counts a request that was refused because it could not be recorded.
    pub fn reject(&self) {
        self.rejected.fetch_add(1, Ordering::Relaxed);
    }

    /// The counters as text.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let mut family = |name: &str, help: &str, samples: &[(String, &AtomicU64)]| {
            let name = format!("apiserver_audit_{name}");
            // Writing to a String cannot fail, here and below.
            let _ = writeln!(out, "# HELP {name} [ALPHA] {help}\n# TYPE {name} counter");
            for (labels, n) in samples {
                let _ = writeln!(out, "{name}{labels} {}", n.load(Ordering::Relaxed));
            }
        };
        let labelled = |label: &str, names: &[&str; 4], counts| {
            let one = |(name, n)| (format!("{{{label}=\"{name}\"}}"), n);
            let counts: &[AtomicU64; 4] = counts;
            names.iter().zip(counts).map(one).collect::<Vec<_>>()
        };
        family(
            "error_total",
            "Audit events that were lost.",
            &labelled("plugin", &PLUGINS, &self.lost),
        );
        let bare = |n| [(String::new(), n)];
        family("event_total", "Audit events made.", &bare(&self.events));
        let levels = labelled("level", &LEVELS, &self.levels);
        family("level_total", "Requests by audit level.", &levels);
        family(
            "requests_rejected_total",
            "Requests refused because they could not be recorded.",
            &bare(&self.rejected),
        );
        out
    }
}
