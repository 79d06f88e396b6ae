//! Counters under upstream's stable names, as Prometheus text.
//! Upstream: apiserver/pkg/endpoints/metrics; api-semantics §18.

pub mod admission;
pub mod cel;
pub mod family;
pub mod streams;
mod text;

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use machinery::{GroupResource, exposition};
use parking_lot::RwLock;

use crate::request_info::RequestInfo;

/// Upper bounds of the request latency histogram in seconds, as upstream's.
const BUCKETS: [f64; 23] = [
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0,
    10.0, 15.0, 20.0, 30.0, 45.0, 60.0,
];

/// Upper bounds of the response size histogram in bytes, as upstream's.
const SIZES: [(u64, &str); 7] = [
    (1_000, "1000"),
    (10_000, "10000"),
    (100_000, "100000"),
    (1_000_000, "1e+06"),
    (10_000_000, "1e+07"),
    (100_000_000, "1e+08"),
    (1_000_000_000, "1e+09"),
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
    /// Answers of a known size.
    sized: AtomicU64,
    bytes: AtomicU64,
    sizes: [AtomicU64; 7],
}

/// What else is told with the counters.
#[derive(Default)]
pub struct Facts {
    /// Number of stored objects by resource.
    pub objects: Vec<(GroupResource, usize)>,
    pub storage_bytes: Option<u64>,
    /// Availability of APIServices.
    pub aggregated: crate::aggregate::Counts,
    pub process: Option<linux::host::Usage>,
    pub version: String,
    pub commit: String,
    pub date: String,
    /// Changes that were read from the store, by resource.
    pub received: Vec<(GroupResource, u64)>,
}

/// The server's counters. Counting takes a shared lock and no memory.
#[derive(Default)]
pub struct Metrics {
    requests: RwLock<HashMap<u64, Arc<Series>>>,
    reading: Arc<AtomicI64>,
    mutating: Arc<AtomicI64>,
    /// By their labels.
    long_running: RwLock<BTreeMap<String, Arc<AtomicI64>>>,
}

/// What is counted seldom.
pub struct Counts {
    deprecated: family::Family,
    health: family::Family,
    healths: family::Family,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            deprecated: family::Family::gauge(
                "apiserver_requested_deprecated_apis",
                "[STABLE] 1 for each deprecated API that was asked for.",
            ),
            health: family::Family::gauge(
                "kubernetes_healthcheck",
                "[STABLE] 1 for each health check that succeeded when it was made last.",
            ),
            healths: family::Family::counter(
                "kubernetes_healthchecks_total",
                "[STABLE] Health checks made.",
            ),
        }
    }
}

impl Counts {
    /// Notes a request for something deprecated; upstream's text of the warning says until when it is served.
    pub fn deprecated(&self, info: &RequestInfo, warning: &str) {
        let removed = warning
            .split_once("unavailable in v")
            .map_or("", |(_, v)| v);
        let end = removed.find(|c: char| !c.is_ascii_digit() && c != '.');
        let removed = &removed[..end.unwrap_or(removed.len())];
        let labels = [
            ("group", info.group.as_str()),
            ("removed_release", removed),
            ("resource", &info.resource),
            ("subresource", &info.subresource),
            ("version", &info.version),
        ];
        self.deprecated.set(&labels, 1.0);
    }

    /// Notes the result of a health check.
    pub fn checked(&self, name: &str, kind: &str, well: bool) {
        let labels = [("name", name), ("type", kind)];
        self.health.set(&labels, f64::from(u8::from(well)));
        let status = if well { "success" } else { "error" };
        let labels = [labels[0], ("status", status), labels[1]];
        self.healths.increment(&labels);
    }

    /// What stands among the other counters.
    pub fn text(&self) -> String {
        let mut out = String::new();
        self.deprecated.write(&mut out);
        out
    }

    /// What `/metrics/slis` shows.
    pub fn slis(&self, started: Option<f64>) -> String {
        let mut out = String::new();
        self.health.write(&mut out);
        self.healths.write(&mut out);
        if let Some(started) = started {
            let name = "process_start_time_seconds";
            let help = "[ALPHA] Start, seconds since 1970.";
            exposition::heading(&mut out, name, "gauge", help);
            exposition::sample(&mut out, name, "", started);
        }
        out
    }
}

/// A request being carried out; it is counted as current until this is dropped.
pub struct Current(Arc<AtomicI64>);

impl Drop for Current {
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

/// The subresource, or what upstream has in its place for the paths of a server's health.
fn subresource(info: &RequestInfo) -> &str {
    let known = ["/healthz", "/livez", "/readyz"];
    match info.is_resource {
        true => &info.subresource,
        false => known
            .into_iter()
            .find(|k| info.path == *k)
            .unwrap_or_default(),
    }
}

impl Labels {
    fn of(info: &RequestInfo, (applies, dry_run): (bool, bool), code: u16) -> Self {
        Self {
            verb: verb(info, applies),
            group: info.group.clone(),
            version: info.version.clone(),
            resource: info.resource.clone(),
            subresource: subresource(info).to_string(),
            scope: scope(info),
            dry_run,
            code,
        }
    }
}

// === Metrics ===

impl Metrics {
    /// Counts a request as current.
    pub fn begin(&self, info: &RequestInfo) -> Current {
        let gauge = if info.is_long_running() {
            self.long_running(info)
        } else if info.is_read_only() {
            self.reading.clone()
        } else {
            self.mutating.clone()
        };
        gauge.fetch_add(1, Ordering::Relaxed);
        Current(gauge)
    }

    fn long_running(&self, info: &RequestInfo) -> Arc<AtomicI64> {
        let labels = text::labels(&Labels::of(info, (false, false), 0), text::Kind::Plain);
        if let Some(known) = self.long_running.read().get(&labels) {
            return known.clone();
        }
        let mut all = self.long_running.write();
        let labels = if all.len() < SERIES {
            labels
        } else {
            String::new()
        };
        all.entry(labels).or_default().clone()
    }

    /// Counts an answered request; `facts` are whether it is an apply, whether a dry run, and the answer's bytes.
    pub fn count(
        &self,
        info: &RequestInfo,
        facts: (bool, bool, Option<u64>),
        code: u16,
        took: Duration,
    ) {
        let (applies, dry_run, bytes) = facts;
        let verb = verb(info, applies);
        let scope = scope(info);
        let mut hasher = DefaultHasher::new();
        (verb, scope, dry_run, code).hash(&mut hasher);
        (
            &info.group,
            &info.version,
            &info.resource,
            subresource(info),
        )
            .hash(&mut hasher);
        let key = hasher.finish();
        let known = self.requests.read().get(&key).cloned();
        let series = known.unwrap_or_else(|| {
            let labels = Labels::of(info, (applies, dry_run), code);
            self.add(key, labels)
        });
        let seconds = took.as_secs_f64();
        series.count.fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        series.microseconds.fetch_add(micros, Ordering::Relaxed);
        if let Some(i) = BUCKETS.iter().position(|bound| seconds <= *bound) {
            series.buckets[i].fetch_add(1, Ordering::Relaxed);
        }
        // As upstream, of reads alone.
        if let Some(bytes) = bytes.filter(|_| ["GET", "LIST"].contains(&verb)) {
            series.sized.fetch_add(1, Ordering::Relaxed);
            series.bytes.fetch_add(bytes, Ordering::Relaxed);
            if let Some(i) = SIZES.iter().position(|(bound, _)| bytes <= *bound) {
                series.sizes[i].fetch_add(1, Ordering::Relaxed);
            }
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
                sized: AtomicU64::new(0),
                bytes: AtomicU64::new(0),
                sizes: Default::default(),
            })
        };
        all.entry(key).or_insert_with(make).clone()
    }
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
        let live = RequestInfo {
            verb: "get".into(),
            path: "/livez".into(),
            ..RequestInfo::default()
        };
        let watch = RequestInfo {
            verb: "watch".into(),
            name: String::new(),
            ..info.clone()
        };
        let current = (metrics.begin(&info), metrics.begin(&watch));
        let took = Duration::from_millis(30);
        metrics.count(&info, (true, false, Some(9)), 200, took);
        metrics.count(&live, (false, false, Some(2_000)), 200, took);
        let group = |resource: &'static str, group: &'static str| GroupResource {
            group: group.into(),
            resource: resource.into(),
        };
        let facts = Facts {
            objects: vec![(group("pods", ""), 3), (group("a\"b", "x"), 1)],
            storage_bytes: Some(4_096),
            version: "v1.37.0+k0s".into(),
            ..Facts::default()
        };
        let text = metrics.text(&facts);
        let labels = "component=\"apiserver\",dry_run=\"\",group=\"\",resource=\"pods\",scope=\"resource\",subresource=\"\",verb=\"APPLY\",version=\"v1\"";
        let sizes = "component=\"\",group=\"\",resource=\"\",scope=\"\",subresource=\"/livez\",verb=\"GET\",version=\"\"";
        for line in [
            format!("apiserver_request_total{{code=\"200\",{labels}}} 1"),
            format!("apiserver_request_duration_seconds_bucket{{{labels},le=\"0.025\"}} 0"),
            format!("apiserver_request_duration_seconds_bucket{{{labels},le=\"0.05\"}} 1"),
            format!("apiserver_response_sizes_bucket{{{sizes},le=\"1000\"}} 0"),
            format!("apiserver_response_sizes_bucket{{{sizes},le=\"10000\"}} 1"),
            format!("apiserver_response_sizes_bucket{{{sizes},le=\"1e+06\"}} 1"),
            format!("apiserver_response_sizes_sum{{{sizes}}} 2000"),
            "apiserver_current_inflight_requests{request_kind=\"mutating\"} 1".to_string(),
            "apiserver_longrunning_requests{component=\"apiserver\",group=\"\",resource=\"pods\",scope=\"namespace\",subresource=\"\",verb=\"WATCH\",version=\"v1\"} 1".to_string(),
            "apiserver_resource_objects{group=\"\",resource=\"pods\"} 3".to_string(),
            "apiserver_resource_objects{group=\"x\",resource=\"a\\\"b\"} 1".to_string(),
            "apiserver_storage_size_bytes{storage_cluster_id=\"etcd-0\"} 4096".to_string(),
        ] {
            assert!(text.lines().any(|l| l == line), "{line} not in {text}");
        }
        drop(current);
        let text = metrics.text(&Facts::default());
        assert!(text.contains("request_kind=\"mutating\"} 0"));
        assert!(text.contains("verb=\"WATCH\",version=\"v1\"} 0"));
    }

    /// Each family is told once, its type before its samples, and every sample belongs to one.
    #[test]
    fn the_text_is_well_formed() {
        let metrics = Metrics::default();
        let facts = Facts {
            process: linux::host::usage().ok(),
            ..Facts::default()
        };
        metrics.count(
            &RequestInfo::default(),
            (false, false, None),
            404,
            Duration::ZERO,
        );
        let text = metrics.text(&facts);
        let mut families: Vec<&str> = Vec::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let name = rest.split(' ').next().unwrap_or_default();
                assert!(!families.contains(&name), "{name} is told twice");
                families.push(name);
            } else if !line.starts_with("# HELP ") {
                let name = line.split(['{', ' ']).next().unwrap_or_default();
                let family = families.last().unwrap();
                assert!(name.starts_with(family), "{line} under {family}");
                let value = line.rsplit(' ').next().unwrap_or_default();
                assert!(value.parse::<f64>().is_ok(), "{line}");
            }
        }
        assert!(families.contains(&"process_resident_memory_bytes"));
    }
}
