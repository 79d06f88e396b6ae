//! How long admission took, as a whole and by plug-in. Upstream: apiserver/pkg/admission/metrics.
//! Every series is there from the start, so that counting takes no lock and no memory.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use machinery::exposition;
use machinery::request::Operation;

/// Upper bounds in seconds, as upstream's.
const BOUNDS: [f64; 6] = [0.005, 0.025, 0.1, 0.5, 1.0, 2.5];
const OPERATIONS: [(Operation, &str); 4] = [
    (Operation::Create, "CREATE"),
    (Operation::Update, "UPDATE"),
    (Operation::Delete, "DELETE"),
    (Operation::Connect, "CONNECT"),
];
const STEPS: [&str; 2] = ["admit", "validate"];

#[derive(Default)]
struct Times {
    below: [AtomicU64; 6],
    count: AtomicU64,
    microseconds: AtomicU64,
}

/// Times by step, operation, and whether the request was refused.
#[derive(Default)]
struct Set([Times; 16]);

/// The times of a server's plug-ins.
pub struct Admission {
    steps: Set,
    plugins: Vec<(&'static str, Set)>,
}

/// What is timed.
#[derive(Clone, Copy)]
pub struct Step {
    /// Else it changes.
    pub validates: bool,
    pub operation: Operation,
}

fn index(step: Step, refused: bool) -> usize {
    let operation = OPERATIONS.iter().position(|(o, _)| *o == step.operation);
    usize::from(step.validates) * 8 + operation.unwrap_or(0) * 2 + usize::from(refused)
}

impl Times {
    fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        if let Some(i) = BOUNDS.iter().position(|b| seconds <= *b) {
            self.below[i].fetch_add(1, Ordering::Relaxed);
        }
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.microseconds.fetch_add(micros, Ordering::Relaxed);
        self.count.fetch_add(1, Ordering::Relaxed);
    }
}

impl Set {
    fn write(&self, out: &mut String, name: &str, labels: &str) {
        for (i, times) in self.0.iter().enumerate() {
            let count = times.count.load(Ordering::Relaxed);
            if count == 0 {
                continue;
            }
            let (_, operation) = OPERATIONS[i % 8 / 2];
            let (step, refused) = (STEPS[i / 8], i % 2 == 1);
            let labels =
                format!("{labels}operation=\"{operation}\",rejected=\"{refused}\",type=\"{step}\"");
            let counts = times.below.iter().map(|n| n.load(Ordering::Relaxed));
            let sum = times.microseconds.load(Ordering::Relaxed) as f64 / 1e6;
            exposition::histogram(out, name, &labels, BOUNDS.iter().zip(counts), (count, sum));
        }
    }

    fn is_empty(&self) -> bool {
        let mut all = self.0.iter();
        all.all(|t| t.count.load(Ordering::Relaxed) == 0)
    }
}

// === Admission ===

impl Admission {
    /// Times of these plug-ins, in the order of the chain.
    pub fn new(plugins: impl IntoIterator<Item = &'static str>) -> Self {
        let one = |name| (name, Set::default());
        Self {
            steps: Set::default(),
            plugins: plugins.into_iter().map(one).collect(),
        }
    }

    /// Counts a plug-in of the chain, by its place.
    pub fn plugin(&self, place: usize, step: Step, took: Duration, refused: bool) {
        if let Some((_, set)) = self.plugins.get(place) {
            set.0[index(step, refused)].observe(took);
        }
    }

    /// Counts a whole step.
    pub fn step(&self, step: Step, took: Duration, refused: bool) {
        self.steps.0[index(step, refused)].observe(took);
    }

    /// The times as text.
    pub fn text(&self) -> String {
        let mut out = String::new();
        if self.steps.is_empty() {
            return out;
        }
        let name = "apiserver_admission_controller_admission_duration_seconds";
        let help = "[STABLE] Seconds that admission plug-ins took.";
        if self.plugins.iter().any(|(_, set)| !set.is_empty()) {
            exposition::heading(&mut out, name, "histogram", help);
        }
        for (plugin, set) in &self.plugins {
            let labels = exposition::labels([("name", *plugin)]) + ",";
            set.write(&mut out, name, &labels);
        }
        let name = "apiserver_admission_step_admission_duration_seconds";
        let help = "[STABLE] Seconds that all plug-ins of a step of admission took.";
        exposition::heading(&mut out, name, "histogram", help);
        self.steps.write(&mut out, name, "");
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_under_upstreams_labels() {
        let admission = Admission::new(["LimitRanger", "Priority"]);
        assert_eq!(admission.text(), "");
        let step = |validates, operation| Step {
            validates,
            operation,
        };
        let took = Duration::from_millis(30);
        admission.plugin(1, step(true, Operation::Update), took, true);
        admission.step(step(false, Operation::Connect), took, false);
        let text = admission.text();
        for line in [
            "apiserver_admission_controller_admission_duration_seconds_bucket{name=\"Priority\",operation=\"UPDATE\",rejected=\"true\",type=\"validate\",le=\"0.025\"} 0",
            "apiserver_admission_controller_admission_duration_seconds_bucket{name=\"Priority\",operation=\"UPDATE\",rejected=\"true\",type=\"validate\",le=\"0.1\"} 1",
            "apiserver_admission_step_admission_duration_seconds_sum{operation=\"CONNECT\",rejected=\"false\",type=\"admit\"} 0.03",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} not in {text}");
        }
    }
}
