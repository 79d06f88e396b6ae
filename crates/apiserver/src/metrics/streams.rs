//! What watches were sent. Upstream: watch_events_total, watch_events_sizes and watch_list_duration_seconds of
//! apiserver/pkg/endpoints/metrics. A watch finds its series once; counting an event takes no lock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use machinery::{Descriptor, exposition};
use parking_lot::RwLock;

use super::family::Histograms;
use crate::limits;

/// Upper bounds of events' sizes in bytes, as upstream's ExponentialBuckets(1024, 2, 8).
const SIZES: [u64; 8] = [1_024, 2_048, 4_096, 8_192, 16_384, 32_768, 65_536, 131_072];

/// The events of one version of a resource.
#[derive(Default)]
pub struct Sent {
    count: AtomicU64,
    bytes: AtomicU64,
    below: [AtomicU64; 8],
}

/// The events of all watches.
pub struct Streams {
    sent: RwLock<BTreeMap<(String, String, String), Arc<Sent>>>,
    lists: Histograms,
}

impl Default for Streams {
    fn default() -> Self {
        // Upstream's bounds of watch lists.
        let bounds = [
            0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 2.0, 4.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0, 45.0,
            60.0,
        ];
        Self {
            sent: RwLock::default(),
            lists: Histograms::new(
                "apiserver_watch_list_duration_seconds",
                "[BETA] Seconds until a watch had sent what was there when it began.",
                bounds.to_vec(),
            ),
        }
    }
}

impl Sent {
    /// Counts an event of this size.
    pub fn event(&self, bytes: usize) {
        let bytes = bytes as u64;
        self.count.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if let Some(i) = SIZES.iter().position(|b| bytes <= *b) {
            self.below[i].fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Streams {
    /// The counters of a resource's watches.
    pub fn of(&self, d: &Descriptor) -> Arc<Sent> {
        let key = (
            d.group.to_string(),
            d.resource.to_string(),
            d.version.to_string(),
        );
        if let Some(known) = self.sent.read().get(&key) {
            return known.clone();
        }
        let mut sent = self.sent.write();
        if sent.len() >= limits::FAMILY_SERIES && !sent.contains_key(&key) {
            // Counted for nobody.
            return Arc::default();
        }
        sent.entry(key).or_default().clone()
    }

    /// Counts the time that the first part of a watch took.
    pub fn listed(&self, d: &Descriptor, scope: &str, took: std::time::Duration) {
        let labels = [
            ("group", &*d.group),
            ("resource", &*d.resource),
            ("scope", scope),
            ("version", &*d.version),
        ];
        self.lists.observe(&labels, took.as_secs_f64());
    }

    /// The counters as text.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let sent = self.sent.read();
        let labels = |(group, resource, version): &(String, String, String)| {
            exposition::labels([
                ("group", group.as_str()),
                ("resource", resource.as_str()),
                ("version", version.as_str()),
            ])
        };
        let load = |n: &AtomicU64| n.load(Ordering::Relaxed);
        if !sent.is_empty() {
            let name = "apiserver_watch_events_sizes";
            let help = "[BETA] Bytes of the events that watches were sent.";
            exposition::heading(&mut out, name, "histogram", help);
            for (key, s) in &*sent {
                let buckets = SIZES.iter().zip(s.below.iter().map(load));
                let totals = (load(&s.count), load(&s.bytes));
                exposition::histogram(&mut out, name, &labels(key), buckets, totals);
            }
            let name = "apiserver_watch_events_total";
            let help = "[BETA] Events that watches were sent.";
            exposition::heading(&mut out, name, "counter", help);
            for (key, s) in &*sent {
                exposition::sample(&mut out, name, &labels(key), load(&s.count));
            }
        }
        self.lists.write(&mut out);
        out
    }
}
