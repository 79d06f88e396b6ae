//! How long the rules of custom resources take, under upstream's names. The process has one server, so they are counted
//! for the process. Upstream: apiserver/pkg/cel/metrics.

use machinery::metrics::Family;
use machinery::series::DEFAULT;

/// Compiling the rules of one part of a schema.
pub static COMPILATION: Family = Family::histogram(
    "apiserver_cel_compilation_duration_seconds",
    "[BETA] Seconds that compiling rules in CEL took.",
    DEFAULT,
);
/// Running all rules of a schema on an object.
pub static EVALUATION: Family = Family::histogram(
    "apiserver_cel_evaluation_duration_seconds",
    "[BETA] Seconds that running rules in CEL took.",
    DEFAULT,
);

/// Both as Prometheus text.
pub fn text() -> String {
    let mut out = String::new();
    COMPILATION.write(&mut out);
    EVALUATION.write(&mut out);
    out
}
