//! Counters and histograms as Prometheus text, told apart by labels. Upstream: component-base/metrics.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;

use crate::exposition;
use crate::limits::METRIC_SERIES_MAX;

/// A family of samples with one name.
pub struct Family {
    name: &'static str,
    /// With its stability level.
    help: &'static str,
    /// Upper bounds in seconds; none for counters.
    bounds: &'static [f64],
    series: Mutex<BTreeMap<String, Series>>,
}

#[derive(Default)]
struct Series {
    count: u64,
    seconds: f64,
    /// One more than there are bounds below which a sample lies.
    buckets: Vec<u64>,
}

impl Family {
    /// Counts things.
    pub const fn counter(name: &'static str, help: &'static str) -> Self {
        Self::histogram(name, help, &[])
    }

    /// Sorts durations by these bounds.
    pub const fn histogram(name: &'static str, help: &'static str, bounds: &'static [f64]) -> Self {
        Self {
            name,
            help,
            bounds,
            series: Mutex::new(BTreeMap::new()),
        }
    }

    /// Counts one more under these labels, which are in the order of their names.
    pub fn add(&self, labels: &[(&str, &str)]) {
        self.observe(labels, Duration::ZERO);
    }

    /// Notes a duration. Labels beyond the most that are kept are not told apart.
    pub fn observe(&self, labels: &[(&str, &str)], took: Duration) {
        let mut text = exposition::labels(labels.iter().copied());
        let mut all = self.series.lock();
        if all.len() >= METRIC_SERIES_MAX && !all.contains_key(&text) {
            text.clear();
        }
        let s = all.entry(text).or_default();
        let seconds = took.as_secs_f64();
        s.count += 1;
        s.seconds += seconds;
        s.buckets.resize(self.bounds.len(), 0);
        if let Some(i) = self.bounds.iter().position(|b| seconds <= *b) {
            s.buckets[i] += 1;
        }
    }

    /// Adds the family to a text.
    pub fn write(&self, out: &mut String) {
        let (name, histogram) = (self.name, !self.bounds.is_empty());
        let kind = if histogram { "histogram" } else { "counter" };
        exposition::heading(out, name, kind, self.help);
        for (labels, s) in &*self.series.lock() {
            if !histogram {
                exposition::sample(out, name, labels, s.count);
                continue;
            }
            let bounds = self.bounds.iter().map(|b| bound_text(*b));
            let buckets = bounds.zip(s.buckets.iter().copied());
            exposition::histogram(out, name, labels, buckets, (s.count, s.seconds));
        }
    }
}

/// As Go writes it.
fn bound_text(bound: f64) -> String {
    if bound >= 1e-4 {
        return bound.to_string();
    }
    let text = format!("{bound:e}");
    match text.split_once("e-") {
        Some((mantissa, exponent)) => format!("{mantissa}e-{exponent:0>2}"),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_have_prometheus_text() {
        let counter = Family::counter("a_total", "[ALPHA] A.");
        counter.add(&[("x", "1\"")]);
        counter.add(&[("x", "1\"")]);
        let times = Family::histogram("t_seconds", "[BETA] T.", &[5e-7, 0.1]);
        times.observe(&[], Duration::from_millis(50));
        let mut text = String::new();
        counter.write(&mut text);
        times.write(&mut text);
        assert_eq!(
            text,
            "# HELP a_total [ALPHA] A.\n# TYPE a_total counter\na_total{x=\"1\\\"\"} 2\n# HELP t_seconds [BETA] T.\n# TYPE t_seconds histogram\nt_seconds_bucket{le=\"5e-07\"} 0\nt_seconds_bucket{le=\"0.1\"} 1\nt_seconds_bucket{le=\"+Inf\"} 1\nt_seconds_sum 0.05\nt_seconds_count 1\n"
        );
    }
}
