//! Counters under upstream's stable names, as Prometheus text.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use parking_lot::Mutex;

/// Upper bounds of the request latency histogram in seconds, as upstream's.
const BUCKETS: &[f64] = &[
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0,
    10.0, 15.0, 20.0, 30.0, 45.0, 60.0,
];

/// Label sets that are told apart; beyond that requests are counted under `other`.
const SERIES: usize = 2_000;

/// verb, group, version, resource, subresource, code.
type Labels = (String, String, String, String, String, u16);

#[derive(Default)]
struct Series {
    count: u64,
    sum: f64,
    buckets: [u64; 23],
}

/// The server's counters.
#[derive(Default)]
pub struct Metrics {
    requests: Mutex<BTreeMap<Labels, Series>>,
}

// === Metrics ===

impl Metrics {
    /// Counts an answered request.
    pub fn count(&self, info: &crate::request_info::RequestInfo, code: u16, took: Duration) {
        let labels = (
            info.verb.to_uppercase(),
            info.group.clone(),
            info.version.clone(),
            info.resource.clone(),
            info.subresource.clone(),
            code,
        );
        let mut all = self.requests.lock();
        let full = all.len() >= SERIES && !all.contains_key(&labels);
        let labels = if full {
            (
                "other".into(),
                String::new(),
                String::new(),
                String::new(),
                String::new(),
                code,
            )
        } else {
            labels
        };
        let series = all.entry(labels).or_default();
        let seconds = took.as_secs_f64();
        series.count += 1;
        series.sum += seconds;
        for (i, bound) in BUCKETS.iter().enumerate() {
            series.buckets[i] += u64::from(seconds <= *bound);
        }
    }

    /// The exposition text.
    pub fn text(&self) -> String {
        let all = self.requests.lock();
        let mut out = String::from("# TYPE apiserver_request_total counter\n");
        for ((verb, group, version, resource, sub, code), s) in all.iter() {
            // Writing to a String cannot fail.
            let _ = writeln!(
                out,
                "apiserver_request_total{{code=\"{code}\",component=\"apiserver\",group=\"{group}\",resource=\"{resource}\",subresource=\"{sub}\",verb=\"{verb}\",version=\"{version}\"}} {}",
                s.count
            );
        }
        out.push_str("# TYPE apiserver_request_duration_seconds histogram\n");
        for ((verb, group, version, resource, sub, _), s) in all.iter() {
            let labels = format!(
                "component=\"apiserver\",group=\"{group}\",resource=\"{resource}\",subresource=\"{sub}\",verb=\"{verb}\",version=\"{version}\""
            );
            let name = "apiserver_request_duration_seconds";
            for (i, bound) in BUCKETS.iter().enumerate() {
                let _ = writeln!(
                    out,
                    "{name}_bucket{{{labels},le=\"{bound}\"}} {}",
                    s.buckets[i]
                );
            }
            let _ = writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {}", s.count);
            let _ = writeln!(out, "{name}_sum{{{labels}}} {}", s.sum);
            let _ = writeln!(out, "{name}_count{{{labels}}} {}", s.count);
        }
        out
    }
}
