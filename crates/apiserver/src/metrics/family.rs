//! Families of counters, gauges and histograms whose label sets come and go, for everything but the requests
//! themselves. What a family holds is bounded; label sets beyond that are not counted.

use std::collections::BTreeMap;
use std::fmt::Write;

use parking_lot::Mutex;

use crate::limits;

/// Name and value of each label, in the order in which they are shown.
pub type LabelSet<'a> = [(&'a str, &'a str)];

/// What the text says about a family.
#[derive(Clone, Copy)]
pub struct About {
    pub name: &'static str,
    /// With upstream's stability in brackets.
    pub help: &'static str,
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

/// A label's value within quotes.
pub fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

fn rendered(labels: &LabelSet<'_>) -> String {
    let one = |(name, value): &(&str, &str)| format!("{name}=\"{}\"", escaped(value));
    let all: Vec<String> = labels.iter().map(one).collect();
    all.join(",")
}

/// A family's help and type.
pub fn heading(out: &mut String, about: About, kind: &str) {
    let About { name, help } = about;
    // Writing to a String cannot fail, here and below.
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
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
        let key = rendered(labels);
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
        heading(out, self.about, self.kind);
        for (labels, n) in &*series {
            let _ = match labels.is_empty() {
                true => writeln!(out, "{} {n}", self.about.name),
                false => writeln!(out, "{}{{{labels}}} {n}", self.about.name),
            };
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
        let key = rendered(labels);
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
        heading(out, self.about, "histogram");
        let name = self.about.name;
        for (labels, counts) in &*series {
            let (comma, bare) = match labels.is_empty() {
                true => ("", String::new()),
                false => (",", format!("{{{labels}}}")),
            };
            let mut below = 0;
            for (bound, n) in self.bounds.iter().zip(&counts.below) {
                below += n;
                let _ = writeln!(
                    out,
                    "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {below}"
                );
            }
            let (count, sum) = (counts.count, counts.sum);
            let _ = writeln!(out, "{name}_bucket{{{labels}{comma}le=\"+Inf\"}} {count}");
            let _ = writeln!(out, "{name}_sum{bare} {sum}\n{name}_count{bare} {count}");
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
