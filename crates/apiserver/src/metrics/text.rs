//! The counters as Prometheus text, format 0.0.4.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use machinery::exposition::{self, escaped, heading};

use crate::aggregate::Counts;

use super::{BUCKETS, Facts, Labels, Metrics, SIZES, Series};

/// Which labels a family has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// All of them.
    WithCode,
    WithDryRun,
    Plain,
}

/// A family of one sample without labels.
fn single(out: &mut String, name: &str, kind: &str, help: &str, value: impl std::fmt::Display) {
    heading(out, name, kind, help);
    exposition::sample(out, name, "", value);
}

impl Metrics {
    /// The exposition text.
    pub fn text(&self, facts: &Facts) -> String {
        let mut out = String::new();
        let mut all: Vec<Arc<Series>> = self.requests.read().values().cloned().collect();
        all.sort_by_key(|s| labels(&s.labels, Kind::WithCode));
        self.current(&mut out);
        durations(&mut out, &all);
        let name = "apiserver_request_total";
        let help = "[STABLE] Requests answered, by what they asked for and the code of the answer.";
        heading(&mut out, name, "counter", help);
        for s in &all {
            let n = s.count.load(Ordering::Relaxed);
            let _ = writeln!(out, "{name}{{{}}} {n}", labels(&s.labels, Kind::WithCode));
        }
        let name = "apiserver_resource_objects";
        heading(
            &mut out,
            name,
            "gauge",
            "[ALPHA] Stored objects, by resource.",
        );
        for (of, n) in &facts.objects {
            let (group, resource) = (escaped(&of.group), escaped(&of.resource));
            let _ = writeln!(
                out,
                "{name}{{group=\"{group}\",resource=\"{resource}\"}} {n}"
            );
        }
        let name = "apiserver_storage_events_received_total";
        let help = "[BETA] Changes that were read from the store, by resource.";
        heading(&mut out, name, "counter", help);
        for (of, n) in &facts.received {
            let (group, resource) = (escaped(&of.group), escaped(&of.resource));
            let _ = writeln!(
                out,
                "{name}{{group=\"{group}\",resource=\"{resource}\"}} {n}"
            );
        }
        sizes(&mut out, &all);
        if let Some(bytes) = facts.storage_bytes {
            let name = "apiserver_storage_size_bytes";
            heading(
                &mut out,
                name,
                "gauge",
                "[STABLE] Bytes of the store on disk.",
            );
            let _ = writeln!(out, "{name}{{storage_cluster_id=\"etcd-0\"}} {bytes}");
        }
        aggregated(&mut out, &facts.aggregated);
        build(&mut out, facts);
        if let Some(usage) = &facts.process {
            process(&mut out, usage);
        }
        out
    }

    fn current(&self, out: &mut String) {
        let name = "apiserver_current_inflight_requests";
        heading(out, name, "gauge", "[STABLE] Requests being carried out.");
        for (kind, gauge) in [("mutating", &self.mutating), ("readOnly", &self.reading)] {
            let n = gauge.load(Ordering::Relaxed);
            let _ = writeln!(out, "{name}{{request_kind=\"{kind}\"}} {n}");
        }
        let name = "apiserver_longrunning_requests";
        let help = "[STABLE] Watches and streams being served, by what they asked for.";
        heading(out, name, "gauge", help);
        for (labels, gauge) in &*self.long_running.read() {
            let n = gauge.load(Ordering::Relaxed);
            let _ = writeln!(out, "{name}{{{labels}}} {n}");
        }
    }
}

/// A label set as the text has it.
pub fn labels(l: &Labels, kind: Kind) -> String {
    let mut out = String::new();
    if kind == Kind::WithCode {
        let _ = write!(out, "code=\"{}\",", l.code);
    }
    let component = if l.resource.is_empty() {
        ""
    } else {
        "apiserver"
    };
    let _ = write!(out, "component=\"{component}\",");
    if kind != Kind::Plain {
        let dry_run = if l.dry_run { "All" } else { "" };
        let _ = write!(out, "dry_run=\"{dry_run}\",");
    }
    let _ = write!(
        out,
        "group=\"{}\",resource=\"{}\",scope=\"{}\",subresource=\"{}\",verb=\"{}\",version=\"{}\"",
        escaped(&l.group),
        escaped(&l.resource),
        l.scope,
        escaped(&l.subresource),
        l.verb,
        escaped(&l.version)
    );
    out
}

/// Series that differ in labels which a family does not have.
fn merged(all: &[Arc<Series>], kind: Kind) -> BTreeMap<String, Vec<&Series>> {
    let mut merged: BTreeMap<String, Vec<&Series>> = BTreeMap::new();
    for s in all {
        merged.entry(labels(&s.labels, kind)).or_default().push(s);
    }
    merged
}

fn sum(series: &[&Series], of: impl Fn(&Series) -> &AtomicU64) -> u64 {
    series.iter().map(|s| of(s).load(Ordering::Relaxed)).sum()
}

fn durations(out: &mut String, all: &[Arc<Series>]) {
    let name = "apiserver_request_duration_seconds";
    heading(
        out,
        name,
        "histogram",
        "[STABLE] Seconds until requests were answered.",
    );
    for (labels, series) in merged(all, Kind::WithDryRun) {
        let below = (0..BUCKETS.len()).map(|i| sum(&series, |s| &s.buckets[i]));
        let count = sum(&series, |s| &s.count);
        let seconds = sum(&series, |s| &s.microseconds) as f64 / 1e6;
        exposition::histogram(
            out,
            name,
            &labels,
            BUCKETS.iter().zip(below),
            (count, seconds),
        );
    }
}

fn sizes(out: &mut String, all: &[Arc<Series>]) {
    let name = "apiserver_response_sizes";
    heading(
        out,
        name,
        "histogram",
        "[STABLE] Bytes of the answers to reads.",
    );
    for (labels, series) in merged(all, Kind::Plain) {
        let count = sum(&series, |s| &s.sized);
        if count == 0 {
            continue;
        }
        let bounds = SIZES.iter().map(|(_, bound)| bound);
        let below = (0..SIZES.len()).map(|i| sum(&series, |s| &s.sizes[i]));
        let bytes = sum(&series, |s| &s.bytes);
        exposition::histogram(out, name, &labels, bounds.zip(below), (count, bytes));
    }
}

fn aggregated(out: &mut String, counts: &Counts) {
    let name = "aggregator_unavailable_apiservice";
    let help = "[ALPHA] 1 for each APIService that is not available.";
    heading(out, name, "gauge", help);
    for (service, available) in &counts.available {
        let (service, n) = (escaped(service), u8::from(!available));
        let _ = writeln!(out, "{name}{{name=\"{service}\"}} {n}");
    }
    let name = "aggregator_unavailable_apiservice_total";
    let help = "[ALPHA] How often APIServices became unavailable, by the reason.";
    heading(out, name, "counter", help);
    for ((service, reason), n) in &counts.unavailable {
        let (service, reason) = (escaped(service), escaped(reason));
        let _ = writeln!(out, "{name}{{name=\"{service}\",reason=\"{reason}\"}} {n}");
    }
}

fn build(out: &mut String, facts: &Facts) {
    let name = "kubernetes_build_info";
    heading(out, name, "gauge", "[BETA] 1, with the version as labels.");
    let (version, commit) = (escaped(&facts.version), escaped(&facts.commit));
    let date = escaped(&facts.date);
    let _ = writeln!(
        out,
        "{name}{{build_date=\"{date}\",compiler=\"rustc\",git_commit=\"{commit}\",git_tree_state=\"clean\",git_version=\"{version}\",go_version=\"\",major=\"1\",minor=\"37\",platform=\"linux/{}\"}} 1",
        crate::paths::ARCHITECTURE
    );
}

fn process(out: &mut String, u: &linux::host::Usage) {
    let name = "process_cpu_seconds_total";
    single(out, name, "counter", "Seconds of CPU time used.", u.cpu);
    let name = "process_open_fds";
    single(out, name, "gauge", "Open file descriptors.", u.open_files);
    if let (Some(most), _) = linux::host::open_files() {
        let help = "Most open file descriptors.";
        single(out, "process_max_fds", "gauge", help, most);
    }
    let name = "process_resident_memory_bytes";
    single(out, name, "gauge", "Resident memory.", u.resident_bytes);
    let name = "process_start_time_seconds";
    single(out, name, "gauge", "Start, seconds since 1970.", u.started);
    let name = "process_virtual_memory_bytes";
    single(out, name, "gauge", "Virtual memory.", u.virtual_bytes);
}
