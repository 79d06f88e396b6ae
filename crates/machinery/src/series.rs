//! Counters, gauges and histograms whose series come and go with configuration, in a registry that is given to who
//! counts (`metrics` has families that are static). Who counts often keeps the series. Upstream: k8s.io/component-base/metrics.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::RwLock;

use crate::{exposition, limits};

/// Upper bounds that double from a millisecond, as upstream's ExponentialBuckets(0.001, 2, 15).
pub const DOUBLING: &[f64] = &[
    0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096,
    8.192, 16.384,
];
/// Prometheus's own bounds.
pub const DEFAULT: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// What a family's samples are.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Counter,
    Gauge,
    /// Of seconds, with these upper bounds.
    Histogram(&'static [f64]),
}

/// A metric and its labels. One `static` each.
#[derive(Debug)]
pub struct Family {
    pub name: &'static str,
    pub kind: Kind,
    /// Upstream's stability and what is counted: `[ALPHA] …`.
    pub help: &'static str,
    pub labels: &'static [&'static str],
}

/// One set of label values.
#[derive(Debug, Default)]
pub struct Series {
    /// A count, or a gauge's bits.
    value: AtomicU64,
    microseconds: AtomicU64,
    buckets: Vec<AtomicU64>,
}

/// All series of some families.
#[derive(Debug, Default)]
pub struct Registry(RwLock<BTreeMap<&'static str, Known>>);

#[derive(Debug)]
struct Known {
    family: &'static Family,
    series: BTreeMap<String, Arc<Series>>,
}

// === Series ===

impl Series {
    /// Counts one more.
    pub fn inc(&self) {
        self.value.fetch_add(1, Ordering::Relaxed);
    }

    /// Sets a gauge.
    pub fn set(&self, value: f64) {
        self.value.store(value.to_bits(), Ordering::Relaxed);
    }

    /// Sets a gauge to the present time.
    pub fn set_now(&self) {
        self.set(jiff::Timestamp::now().as_millisecond() as f64 / 1e3);
    }

    /// Counts something that took so long.
    pub fn observe(&self, bounds: &[f64], took: Duration) {
        self.inc();
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.microseconds.fetch_add(micros, Ordering::Relaxed);
        let seconds = took.as_secs_f64();
        let at = bounds.iter().position(|b| seconds <= *b);
        if let Some(bucket) = at.and_then(|i| self.buckets.get(i)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
    }
}

// === Registry ===

impl Registry {
    /// The series of these label values, in the order of the family's labels. Beyond a bound new ones are counted
    /// together, without values.
    pub fn series(&self, family: &'static Family, values: &[&str]) -> Arc<Series> {
        let labels = labels(family.labels, values);
        if let Some(found) = self.0.read().get(family.name)
            && let Some(series) = found.series.get(&labels)
        {
            return series.clone();
        }
        let mut all = self.0.write();
        let known = all.entry(family.name).or_insert_with(|| Known {
            family,
            series: BTreeMap::new(),
        });
        let labels = if known.series.len() < limits::METRIC_SERIES_MAX {
            labels
        } else {
            self::labels(family.labels, &vec![""; values.len()])
        };
        let bounds = match family.kind {
            Kind::Histogram(bounds) => bounds.len(),
            Kind::Counter | Kind::Gauge => 0,
        };
        let made = || {
            Arc::new(Series {
                buckets: (0..bounds).map(|_| AtomicU64::new(0)).collect(),
                ..Series::default()
            })
        };
        known.series.entry(labels).or_insert_with(made).clone()
    }

    /// Counts one more.
    pub fn inc(&self, family: &'static Family, values: &[&str]) {
        self.series(family, values).inc();
    }

    /// Counts something that took so long.
    pub fn observe(&self, family: &'static Family, values: &[&str], took: Duration) {
        if let Kind::Histogram(bounds) = family.kind {
            self.series(family, values).observe(bounds, took);
        }
    }

    /// Forgets the series in which a label has this value.
    pub fn forget(&self, family: &'static Family, label: &str, value: &str) {
        let wanted = exposition::labels([(label, value)]);
        if let Some(known) = self.0.write().get_mut(family.name) {
            known
                .series
                .retain(|l, _| !l.split(',').any(|part| part == wanted));
        }
    }

    /// The exposition text, format 0.0.4.
    pub fn text(&self) -> String {
        let mut out = String::new();
        for (name, known) in &*self.0.read() {
            let kind = match known.family.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram(_) => "histogram",
            };
            exposition::heading(&mut out, name, kind, known.family.help);
            for (labels, series) in &known.series {
                write(&mut out, known.family, labels, series);
            }
        }
        out
    }
}

fn write(out: &mut String, family: &Family, labels: &str, series: &Series) {
    let name = family.name;
    let value = series.value.load(Ordering::Relaxed);
    match family.kind {
        Kind::Counter => exposition::sample(out, name, labels, value),
        Kind::Gauge => exposition::sample(out, name, labels, f64::from_bits(value)),
        Kind::Histogram(bounds) => {
            let counts = series.buckets.iter().map(|n| n.load(Ordering::Relaxed));
            let seconds = series.microseconds.load(Ordering::Relaxed) as f64 / 1e6;
            exposition::histogram(
                out,
                name,
                labels,
                bounds.iter().zip(counts),
                (value, seconds),
            );
        }
    }
}

fn labels(names: &[&str], values: &[&str]) -> String {
    exposition::labels(names.iter().copied().zip(values.iter().copied()))
}

#[cfg(test)]
mod tests {
    use super::*;

    static CALLS: Family = Family {
        name: "calls_total",
        kind: Kind::Counter,
        help: "[ALPHA] Calls.",
        labels: &["name", "result"],
    };
    static TIMES: Family = Family {
        name: "call_seconds",
        kind: Kind::Histogram(&[0.5, 1.0]),
        help: "[ALPHA] Their time.",
        labels: &["name"],
    };

    #[test]
    fn the_text_is_prometheus_own() {
        let r = Registry::default();
        r.inc(&CALLS, &["a\"", "ok"]);
        r.inc(&CALLS, &["a\"", "ok"]);
        r.inc(&CALLS, &["b", "error"]);
        r.observe(&TIMES, &["a"], Duration::from_millis(700));
        r.observe(&TIMES, &["a"], Duration::from_secs(2));
        assert_eq!(
            r.text(),
            "# HELP call_seconds [ALPHA] Their time.\n# TYPE call_seconds histogram\n\
             call_seconds_bucket{name=\"a\",le=\"0.5\"} 0\ncall_seconds_bucket{name=\"a\",le=\"1\"} 1\n\
             call_seconds_bucket{name=\"a\",le=\"+Inf\"} 2\ncall_seconds_sum{name=\"a\"} 2.7\ncall_seconds_count{name=\"a\"} 2\n\
             # HELP calls_total [ALPHA] Calls.\n# TYPE calls_total counter\n\
             calls_total{name=\"a\\\"\",result=\"ok\"} 2\ncalls_total{name=\"b\",result=\"error\"} 1\n"
        );
        r.forget(&CALLS, "name", "b");
        assert!(!r.text().contains("\"b\""));
        for i in 0..2 * limits::METRIC_SERIES_MAX {
            r.inc(&CALLS, &[&i.to_string(), "ok"]);
        }
        let lines = r.text().lines().count();
        assert!(lines < limits::METRIC_SERIES_MAX + 20, "{lines}");
    }
}
