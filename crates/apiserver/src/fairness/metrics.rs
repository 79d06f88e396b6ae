//! What was classified, queued, run and refused, under upstream's names. Upstream: flowcontrol/metrics.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use machinery::exposition;
use parking_lot::Mutex;

use super::Level;
use super::queues::Refusal;

const SECONDS: &[f64] = &[
    0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0,
];
const SEATS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 100.0];
const REFUSALS: [(Refusal, &str); 4] = [
    (Refusal::QueueFull, "queue-full"),
    (Refusal::ConcurrencyLimit, "concurrency-limit"),
    (Refusal::TimeOut, "time-out"),
    (Refusal::Cancelled, "cancelled"),
];

/// Counts of numbers up to bounds.
pub struct Histogram {
    bounds: &'static [f64],
    counts: Vec<AtomicU64>,
    count: AtomicU64,
    /// Millionths.
    sum: AtomicU64,
}

/// What happened to the requests of one schema in one level.
pub struct Counters {
    refused: [AtomicU64; 4],
    pub dispatched: AtomicU64,
    pub queued: AtomicI64,
    pub queued_seats: AtomicI64,
    pub executing: AtomicI64,
    pub executing_seats: AtomicI64,
    waited: [Histogram; 2],
    executed: [Histogram; 2],
    pub width: Histogram,
}

/// The counters of every level and schema there was.
#[derive(Default)]
pub struct All(Mutex<BTreeMap<(String, String), Arc<Counters>>>);

impl Histogram {
    fn new(bounds: &'static [f64]) -> Self {
        Self {
            bounds,
            counts: bounds.iter().map(|_| AtomicU64::new(0)).collect(),
            count: AtomicU64::new(0),
            sum: AtomicU64::new(0),
        }
    }

    /// Counts a number.
    pub fn observe(&self, value: f64) {
        if let Some(i) = self.bounds.iter().position(|b| value <= *b) {
            self.counts[i].fetch_add(1, Ordering::Relaxed);
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add((value * 1e6) as u64, Ordering::Relaxed);
    }

    fn write(&self, out: &mut String, name: &str, labels: &str) {
        let counts = self.counts.iter().map(|n| n.load(Ordering::Relaxed));
        let count = self.count.load(Ordering::Relaxed);
        let sum = self.sum.load(Ordering::Relaxed) as f64 / 1e6;
        exposition::histogram(
            out,
            name,
            labels,
            self.bounds.iter().zip(counts),
            (count, sum),
        );
    }
}

impl Counters {
    fn new() -> Self {
        Self {
            refused: Default::default(),
            dispatched: AtomicU64::new(0),
            queued: AtomicI64::new(0),
            queued_seats: AtomicI64::new(0),
            executing: AtomicI64::new(0),
            executing_seats: AtomicI64::new(0),
            waited: [Histogram::new(SECONDS), Histogram::new(SECONDS)],
            executed: [Histogram::new(SECONDS), Histogram::new(SECONDS)],
            width: Histogram::new(SEATS),
        }
    }

    /// Counts a refusal.
    pub fn refuse(&self, why: Refusal) {
        for ((kind, _), n) in REFUSALS.iter().zip(&self.refused) {
            if *kind == why {
                n.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Counts what was waited, and whether the request ran then.
    pub fn waited(&self, ran: bool, took: Duration) {
        self.waited[usize::from(ran)].observe(took.as_secs_f64());
    }

    /// Counts a request that ran.
    pub fn executed(&self, watch: bool, took: Duration) {
        self.executed[usize::from(watch)].observe(took.as_secs_f64());
    }

    /// Counts a change of what waits.
    pub fn queue(&self, requests: i64, seats: usize) {
        self.queued.fetch_add(requests, Ordering::Relaxed);
        let seats = requests * seats as i64;
        self.queued_seats.fetch_add(seats, Ordering::Relaxed);
    }

    /// Counts a change of what runs.
    pub fn execute(&self, requests: i64, seats: usize) {
        self.executing.fetch_add(requests, Ordering::Relaxed);
        let seats = requests * seats as i64;
        self.executing_seats.fetch_add(seats, Ordering::Relaxed);
    }
}

fn family(out: &mut String, name: &str, kind: &str, help: &str) -> String {
    let name = format!("apiserver_flowcontrol_{name}");
    exposition::heading(out, &name, kind, help);
    name
}

impl All {
    /// The counters of a schema in a level.
    pub fn of(&self, level: &str, schema: &str) -> Arc<Counters> {
        let mut all = self.0.lock();
        let full = all.len() >= crate::limits::FLOW_SERIES;
        let key = match full && !all.contains_key(&(level.into(), schema.into())) {
            true => ("other".to_string(), "other".to_string()),
            false => (level.to_string(), schema.to_string()),
        };
        let made = || Arc::new(Counters::new());
        all.entry(key).or_insert_with(made).clone()
    }

    /// How many requests of a level ran, were refused for want of room, waited in vain, and went away.
    pub fn of_level(&self, level: &str) -> [u64; 4] {
        let mut out = [0; 4];
        for ((name, _), counters) in &*self.0.lock() {
            if name != level {
                continue;
            }
            out[0] += counters.dispatched.load(Ordering::Relaxed);
            for ((why, _), n) in REFUSALS.iter().zip(&counters.refused) {
                let at = match why {
                    Refusal::QueueFull | Refusal::ConcurrencyLimit => 1,
                    Refusal::TimeOut => 2,
                    Refusal::Cancelled => 3,
                };
                out[at] += n.load(Ordering::Relaxed);
            }
        }
        out
    }

    /// The exposition text.
    pub fn text(&self, levels: &[Arc<Level>], fair_fraction: f64) -> String {
        let mut out = String::new();
        let all: Vec<(String, Arc<Counters>)> = self
            .0
            .lock()
            .iter()
            .map(|((level, schema), c)| {
                let labels = format!("flow_schema=\"{schema}\",priority_level=\"{level}\"");
                (labels, c.clone())
            })
            .collect();
        gauges(&mut out, &all);
        counters(&mut out, &all);
        histograms(&mut out, &all);
        seats(&mut out, levels);
        let help = "[ALPHA] Fraction of each level's target that the seats suffice for.";
        let name = family(&mut out, "seat_fair_frac", "gauge", help);
        let _ = writeln!(out, "{name} {fair_fraction}");
        out
    }
}

type Labelled = [(String, Arc<Counters>)];

fn gauges(out: &mut String, all: &Labelled) {
    type Of = fn(&Counters) -> &AtomicI64;
    let table: [(&str, &str, Of); 4] = [
        (
            "current_executing_requests",
            "[BETA] Requests that run.",
            |c| &c.executing,
        ),
        (
            "current_executing_seats",
            "[BETA] Seats of the requests that run.",
            |c| &c.executing_seats,
        ),
        (
            "current_inqueue_requests",
            "[BETA] Requests that wait.",
            |c| &c.queued,
        ),
        (
            "current_inqueue_seats",
            "[ALPHA] Seats of the requests that wait.",
            |c| &c.queued_seats,
        ),
    ];
    for (name, help, of) in table {
        let name = family(out, name, "gauge", help);
        for (labels, c) in all {
            let _ = writeln!(out, "{name}{{{labels}}} {}", of(c).load(Ordering::Relaxed));
        }
    }
}

fn counters(out: &mut String, all: &Labelled) {
    let help = "[BETA] Requests that were given seats.";
    let name = family(out, "dispatched_requests_total", "counter", help);
    for (labels, c) in all {
        let n = c.dispatched.load(Ordering::Relaxed);
        let _ = writeln!(out, "{name}{{{labels}}} {n}");
    }
    let help = "[BETA] Requests that were refused, and why.";
    let name = family(out, "rejected_requests_total", "counter", help);
    for (labels, c) in all {
        for ((_, why), n) in REFUSALS.iter().zip(&c.refused) {
            let n = n.load(Ordering::Relaxed);
            if n > 0 {
                let _ = writeln!(out, "{name}{{{labels},reason=\"{why}\"}} {n}");
            }
        }
    }
}

fn histograms(out: &mut String, all: &Labelled) {
    let help = "[ALPHA] Seconds that requests ran; of watches, until they had begun.";
    let name = family(out, "request_execution_seconds", "histogram", help);
    for (labels, c) in all {
        for (kind, h) in ["regular", "watch"].iter().zip(&c.executed) {
            if h.count.load(Ordering::Relaxed) > 0 {
                h.write(out, &name, &format!("{labels},type=\"{kind}\""));
            }
        }
    }
    let help = "[BETA] Seconds that requests waited for their turn.";
    let name = family(out, "request_wait_duration_seconds", "histogram", help);
    for (labels, c) in all {
        for (ran, h) in ["false", "true"].iter().zip(&c.waited) {
            if h.count.load(Ordering::Relaxed) > 0 {
                h.write(out, &name, &format!("execute=\"{ran}\",{labels}"));
            }
        }
    }
    let help = "[ALPHA] Seats that requests were taken to need.";
    let name = family(out, "work_estimated_seats", "histogram", help);
    for (labels, c) in all {
        c.width.write(out, &name, labels);
    }
}

fn seats(out: &mut String, levels: &[Arc<Level>]) {
    type Of = fn(&super::State) -> f64;
    let table: [(&str, &str, Of); 9] = [
        ("nominal_limit_seats", "[BETA] Seats by shares.", |s| {
            s.limits.nominal as f64
        }),
        (
            "lower_limit_seats",
            "[ALPHA] Seats that are never lent.",
            |s| s.limits.lower as f64,
        ),
        (
            "upper_limit_seats",
            "[ALPHA] Most seats, borrowed ones included.",
            |s| s.limits.upper as f64,
        ),
        ("current_limit_seats", "[ALPHA] Seats at the moment.", |s| {
            s.seats as f64
        }),
        (
            "demand_seats_high_watermark",
            "[ALPHA] Most seats wanted in the last period.",
            |s| s.demand.seen.high,
        ),
        (
            "demand_seats_average",
            "[ALPHA] Average of the seats wanted in the last period.",
            |s| s.demand.seen.average,
        ),
        (
            "demand_seats_stdev",
            "[ALPHA] Deviation of the seats wanted in the last period.",
            |s| s.demand.seen.deviation,
        ),
        (
            "demand_seats_smoothed",
            "[ALPHA] Seats wanted, smoothed over periods.",
            |s| s.demand.smoothed,
        ),
        (
            "target_seats",
            "[ALPHA] Seats that the sharing aims at.",
            |s| s.target,
        ),
    ];
    for (name, help, of) in table {
        let name = family(out, name, "gauge", help);
        for level in levels {
            let value = of(&level.state());
            let _ = writeln!(out, "{name}{{priority_level=\"{}\"}} {value}", level.name);
        }
    }
    let help = "[ALPHA] Virtual time of a level.";
    let name = family(out, "current_r", "gauge", help);
    for level in levels {
        let r = level.virtual_now();
        let _ = writeln!(out, "{name}{{priority_level=\"{}\"}} {r}", level.name);
    }
}
