//! Families of counters, gauges and histograms whose label sets come and go, for everything but the requests
//! themselves. What a family holds is bounded; label sets beyond that are not counted.

use std::collections::BTreeMap;

use machinery::exposition;
use parking_lot::Mutex;

use crate::limits;

/// Name and value of each label, in the order in which they are shown.
pub type LabelSet<'a> = [(&'a str, &'a str)];

/// What the text says about a family.
#[derive(Clone, Copy)]
struct About {
    name: &'static str,
    /// With upstream's stability in brackets.
    help: &'static str,
}

/// Numbers by label sets: a counter or a gauge.
pub struct Family {
    about: About,
    kind: &'static str,
    series: Mutex<BTreeMap<String, f64>>,
}

/// Counts of numbers up to bounds, by label sets.
pub struct Histograms {
    about: About,
    bounds: Vec<f64>,
    series: Mutex<BTreeMap<String, Counts>>,
}

#[derive(Default)]
struct Counts {
    below: Vec<u64>,
    count: u64,
    sum: f64,
}

/// Bounds that grow by a factor, as upstream's ExponentialBuckets.
pub fn exponential(start: f64, factor: f64, count: usize) -> Vec<f64> {
    let mut next = start;
    let mut out = Vec::with_capacity(count);
    for _ in 0..count {
        out.push(next);
        next *= factor;
    }
    out
}

// === Family ===

impl Family {
    pub fn counter(name: &'static str, help: &'static str) -> Self {
        Self::new("counter", name, help)
    }

    pub fn gauge(name: &'static str, help: &'static str) -> Self {
        Self::new("gauge", name, help)
    }

    fn new(kind: &'static str, name: &'static str, help: &'static str) -> Self {
        Self {
            about: About { name, help },
            kind,
            series: Mutex::default(),
        }
    }

    /// Counts one more.
    pub fn increment(&self, labels: &LabelSet<'_>) {
        self.add(labels, 1.0);
    }

    /// Counts so many more, or fewer.
    pub fn add(&self, labels: &LabelSet<'_>, by: f64) {
        self.change(labels, |n| *n += by);
    }

    /// Sets a gauge.
    pub fn set(&self, labels: &LabelSet<'_>, to: f64) {
        self.change(labels, |n| *n = to);
    }

    fn change(&self, labels: &LabelSet<'_>, change: impl FnOnce(&mut f64)) {
        let key = exposition::labels(labels.iter().copied());
        let mut series = self.series.lock();
        if let Some(n) = series.get_mut(&key) {
            return change(n);
        }
        if series.len() < limits::FAMILY_SERIES {
            change(series.entry(key).or_default());
        }
    }

    /// Forgets all series.
    pub fn clear(&self) {
        self.series.lock().clear();
    }

    /// The family as text; nothing where nothing was counted.
    pub fn write(&self, out: &mut String) {
        let series = self.series.lock();
        if series.is_empty() {
            return;
        }
        let About { name, help } = self.about;
        exposition::heading(out, name, self.kind, help);
        for (labels, n) in &*series {
            exposition::sample(out, name, labels, n);
        }
    }
}

// === Histograms ===

impl Histograms {
    pub fn new(name: &'static str, help: &'static str, bounds: Vec<f64>) -> Self {
        Self {
            about: About { name, help },
            bounds,
            series: Mutex::default(),
        }
    }

    /// Counts a number.
    pub fn observe(&self, labels: &LabelSet<'_>, value: f64) {
        let key = exposition::labels(labels.iter().copied());
        let mut series = self.series.lock();
        if !series.contains_key(&key) && series.len() >= limits::FAMILY_SERIES {
            return;
        }
        let counts = series.entry(key).or_insert_with(|| Counts {
            below: vec![0; self.bounds.len()],
            ..Counts::default()
        });
        if let Some(i) = self.bounds.iter().position(|b| value <= *b) {
            counts.below[i] += 1;
        }
        counts.count += 1;
        counts.sum += value;
    }

    /// The family as text; nothing where nothing was counted.
    pub fn write(&self, out: &mut String) {
        let series = self.series.lock();
        if series.is_empty() {
            return;
        }
        let About { name, help } = self.about;
        exposition::heading(out, name, "histogram", help);
        for (labels, counts) in &*series {
            let buckets = self.bounds.iter().zip(counts.below.iter().copied());
            exposition::histogram(out, name, labels, buckets, (counts.count, counts.sum));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_told_as_prometheus_wants_them_and_are_bounded() {
        let family = Family::counter("a_total", "[ALPHA] Things.");
        let mut text = String::new();
        family.write(&mut text);
        assert_eq!(text, "");
        family.increment(&[("of", "x\"y")]);
        family.add(&[("of", "x\"y")], 2.0);
        for i in 0..limits::FAMILY_SERIES + 10 {
            family.increment(&[("of", &i.to_string())]);
        }
        family.write(&mut text);
        assert!(text.starts_with("# HELP a_total [ALPHA] Things.\n# TYPE a_total counter\n"));
        assert!(text.contains("a_total{of=\"x\\\"y\"} 3\n"), "{text}");
        assert_eq!(text.lines().count(), limits::FAMILY_SERIES + 2);
        let times = Histograms::new("t", "[ALPHA] Times.", exponential(0.5, 2.0, 2));
        times.observe(&[], 0.75);
        times.observe(&[], 5.0);
        let mut text = String::new();
        times.write(&mut text);
        for line in [
            "t_bucket{le=\"0.5\"} 0",
            "t_bucket{le=\"1\"} 1",
            "t_bucket{le=\"+Inf\"} 2",
            "t_sum 5.75",
            "t_count 2",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} not in {text}");
        }
    }
}
