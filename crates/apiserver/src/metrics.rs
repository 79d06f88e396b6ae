//! Counters under upstream's stable names, as Prometheus text.
//! Upstream: apiserver/pkg/endpoints/metrics; api-semantics §18.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::RwLock;

use crate::request_info::RequestInfo;

/// Upper bounds of the request latency histogram in seconds, as upstream's.
const BUCKETS: [f64; 23] = [
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0,
    10.0, 15.0, 20.0, 30.0, 45.0, 60.0,
];

/// Label sets that are told apart; beyond that requests are counted under `other`.
const SERIES: usize = 2_000;

/// What tells requests apart.
struct Labels {
    verb: &'static str,
    group: String,
    version: String,
    resource: String,
    subresource: String,
    scope: &'static str,
    dry_run: bool,
    code: u16,
}

struct Series {
    labels: Labels,
    count: AtomicU64,
    microseconds: AtomicU64,
    buckets: [AtomicU64; 23],
}

/// The server's counters. Counting takes a shared lock and no memory.
#[derive(Default)]
pub struct Metrics {
    requests: RwLock<HashMap<u64, Arc<Series>>>,
    pub reading: AtomicI64,
    pub mutating: AtomicI64,
    pub long_running: AtomicI64,
}

/// A request being carried out; it is counted as current until this is dropped.
pub struct Current<'a>(&'a AtomicI64);

impl Drop for Current<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Upstream's name of what a request does.
fn verb(info: &RequestInfo, applies: bool) -> &'static str {
    let connects = ["attach", "exec", "log", "portforward", "proxy"];
    if info.is_resource && connects.contains(&info.subresource.as_str()) {
        return "CONNECT";
    }
    match info.verb.as_str() {
        "create" | "post" => "POST",
        "update" | "put" => "PUT",
        "patch" if applies => "APPLY",
        "patch" => "PATCH",
        "get" => "GET",
        "list" => "LIST",
        "watch" => "WATCH",
        "delete" => "DELETE",
        "deletecollection" => "DELETECOLLECTION",
        "head" => "HEAD",
        "options" => "OPTIONS",
        _ => "other",
    }
}

fn scope(info: &RequestInfo) -> &'static str {
    match info {
        i if !i.is_resource => "",
        i if !i.name.is_empty() || i.verb == "create" => "resource",
        i if !i.namespace.is_empty() => "namespace",
        _ => "cluster",
    }
}

// === Metrics ===

impl Metrics {
    /// Counts a request as current.
    pub fn begin(&self, info: &RequestInfo) -> Current<'_> {
        let gauge = if info.is_long_running() {
            &self.long_running
        } else if info.is_read_only() {
            &self.reading
        } else {
            &self.mutating
        };
        gauge.fetch_add(1, Ordering::Relaxed);
        Current(gauge)
    }

    /// Counts an answered request.
    pub fn count(&self, info: &RequestInfo, facts: (bool, bool), code: u16, took: Duration) {
        let (applies, dry_run) = facts;
        let verb = verb(info, applies);
        let scope = scope(info);
        let mut hasher = DefaultHasher::new();
        (verb, scope, dry_run, code).hash(&mut hasher);
        (
            &info.group,
            &info.version,
            &info.resource,
            &info.subresource,
        )
            .hash(&mut hasher);
        let key = hasher.finish();
        let known = self.requests.read().get(&key).cloned();
        let series = known.unwrap_or_else(|| {
            let labels = Labels {
                verb,
                group: info.group.clone(),
                version: info.version.clone(),
                resource: info.resource.clone(),
                subresource: info.subresource.clone(),
                scope,
                dry_run,
                code,
            };
            self.add(key, labels)
        });
        let seconds = took.as_secs_f64();
        series.count.fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        series.microseconds.fetch_add(micros, Ordering::Relaxed);
        if let Some(i) = BUCKETS.iter().position(|bound| seconds <= *bound) {
            series.buckets[i].fetch_add(1, Ordering::Relaxed);
        }
    }

    fn add(&self, key: u64, labels: Labels) -> Arc<Series> {
        let mut all = self.requests.write();
        let (key, labels) = if all.len() < SERIES {
            (key, labels)
        } else {
            let other = Labels {
                verb: "other",
                group: String::new(),
                version: String::new(),
                resource: String::new(),
                subresource: String::new(),
                scope: "",
                dry_run: false,
                code: labels.code,
            };
            (u64::from(labels.code), other)
        };
        let make = || {
            Arc::new(Series {
                labels,
                count: AtomicU64::new(0),
                microseconds: AtomicU64::new(0),
                buckets: Default::default(),
            })
        };
        all.entry(key).or_insert_with(make).clone()
    }

    /// The exposition text; `objects` are the numbers of stored objects by resource.
    pub fn text(&self, objects: &[(String, usize)]) -> String {
        let mut all: Vec<Arc<Series>> = self.requests.read().values().cloned().collect();
        all.sort_by_key(|s| labels(&s.labels, true));
        let mut out = String::new();
        // Writing to a String cannot fail.
        let mut family = |name: &str, kind: &str, help: &str| {
            let _ = writeln!(out, "# HELP {name} [STABLE] {help}\n# TYPE {name} {kind}");
        };
        family(
            "apiserver_request_total",
            "counter",
            "Requests answered, by what they asked for and the code of the answer.",
        );
        for s in &all {
            let n = s.count.load(Ordering::Relaxed);
            let _ = writeln!(
                out,
                "apiserver_request_total{{{}}} {n}",
                labels(&s.labels, true)
            );
        }
        let name = "apiserver_request_duration_seconds";
        let _ = writeln!(
            out,
            "# HELP {name} [STABLE] Seconds until requests were answered.\n# TYPE {name} histogram"
        );
        // Codes are not told apart here.
        let mut merged: BTreeMap<String, Vec<&Series>> = BTreeMap::new();
        for s in &all {
            merged.entry(labels(&s.labels, false)).or_default().push(s);
        }
        for (text, series) in &merged {
            histogram(&mut out, name, text, series);
        }
        let name = "apiserver_current_inflight_requests";
        let _ = writeln!(
            out,
            "# HELP {name} [STABLE] Requests being carried out.\n# TYPE {name} gauge"
        );
        for (kind, gauge) in [("mutating", &self.mutating), ("readOnly", &self.reading)] {
            let n = gauge.load(Ordering::Relaxed);
            let _ = writeln!(out, "{name}{{request_kind=\"{kind}\"}} {n}");
        }
        let name = "apiserver_longrunning_requests";
        let n = self.long_running.load(Ordering::Relaxed);
        let _ = writeln!(
            out,
            "# HELP {name} [STABLE] Watches and streams being served.\n# TYPE {name} gauge\n{name}{{component=\"apiserver\"}} {n}"
        );
        let name = "apiserver_storage_objects";
        let _ = writeln!(
            out,
            "# HELP {name} [STABLE] Stored objects, by resource.\n# TYPE {name} gauge"
        );
        for (resource, n) in objects {
            let _ = writeln!(out, "{name}{{resource=\"{resource}\"}} {n}");
        }
        out
    }
}

fn labels(l: &Labels, code: bool) -> String {
    let mut out = String::new();
    if code {
        out.push_str(&format!("code=\"{}\",", l.code));
    }
    let dry_run = if l.dry_run { "All" } else { "" };
    out.push_str(&format!(
        "component=\"apiserver\",dry_run=\"{dry_run}\",group=\"{}\",resource=\"{}\",scope=\"{}\",subresource=\"{}\",verb=\"{}\",version=\"{}\"",
        l.group, l.resource, l.scope, l.subresource, l.verb, l.version
    ));
    out
}

fn histogram(out: &mut String, name: &str, text: &str, series: &[&Series]) {
    let sum = |f: &dyn Fn(&Series) -> u64| series.iter().map(|s| f(s)).sum::<u64>();
    let mut below = 0;
    for (i, bound) in BUCKETS.iter().enumerate() {
        below += sum(&|s| s.buckets[i].load(Ordering::Relaxed));
        let _ = writeln!(out, "{name}_bucket{{{text},le=\"{bound}\"}} {below}");
    }
    let count = sum(&|s| s.count.load(Ordering::Relaxed));
    let seconds = sum(&|s| s.microseconds.load(Ordering::Relaxed)) as f64 / 1e6;
    let _ = writeln!(out, "{name}_bucket{{{text},le=\"+Inf\"}} {count}");
    let _ = writeln!(out, "{name}_sum{{{text}}} {seconds}");
    let _ = writeln!(out, "{name}_count{{{text}}} {count}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_under_upstreams_names() {
        let metrics = Metrics::default();
        let info = RequestInfo {
            is_resource: true,
            verb: "patch".into(),
            version: "v1".into(),
            namespace: "d".into(),
            resource: "pods".into(),
            name: "p".into(),
            ..RequestInfo::default()
        };
        let current = metrics.begin(&info);
        metrics.count(&info, (true, false), 200, Duration::from_millis(30));
        let text = metrics.text(&[("pods".into(), 3)]);
        let labels = "component=\"apiserver\",dry_run=\"\",group=\"\",resource=\"pods\",scope=\"resource\",subresource=\"\",verb=\"APPLY\",version=\"v1\"";
        for line in [
            format!("apiserver_request_total{{code=\"200\",{labels}}} 1"),
            format!("apiserver_request_duration_seconds_bucket{{{labels},le=\"0.025\"}} 0"),
            format!("apiserver_request_duration_seconds_bucket{{{labels},le=\"0.05\"}} 1"),
            "apiserver_current_inflight_requests{request_kind=\"mutating\"} 1".to_string(),
            "apiserver_storage_objects{resource=\"pods\"} 3".to_string(),
        ] {
            assert!(text.lines().any(|l| l == line), "{line} not in {text}");
        }
        drop(current);
        assert!(metrics.text(&[]).contains("request_kind=\"mutating\"} 0"));
    }
}
