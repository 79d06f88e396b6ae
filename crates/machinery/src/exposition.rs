//! Prometheus's text, format 0.0.4, for whoever counts something. Upstream: prometheus/common/expfmt.

use std::fmt::{Display, Write};

/// A label's value within quotes.
pub fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

/// Names and values of labels as they stand between braces.
pub fn labels<'a>(all: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let one = |(name, value)| format!("{name}=\"{}\"", escaped(value));
    let all: Vec<String> = all.into_iter().map(one).collect();
    all.join(",")
}

/// A family's help, which has upstream's stability in brackets, and type.
pub fn heading(out: &mut String, name: &str, kind: &str, help: &str) {
    // Writing to a String cannot fail, here and below.
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

/// One sample.
pub fn sample(out: &mut String, name: &str, labels: &str, value: impl Display) {
    let _ = match labels {
        "" => writeln!(out, "{name} {value}"),
        labels => writeln!(out, "{name}{{{labels}}} {value}"),
    };
}

/// The samples of a histogram: how many lie between each bound and the one before it, how many there are, and their sum.
pub fn histogram<B: Display>(
    out: &mut String,
    name: &str,
    labels: &str,
    buckets: impl IntoIterator<Item = (B, u64)>,
    (count, sum): (u64, impl Display),
) {
    let comma = if labels.is_empty() { "" } else { "," };
    let mut bucket = |bound: &dyn Display, below: u64| {
        let _ = writeln!(
            out,
            "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {below}"
        );
    };
    let mut below = 0;
    for (bound, n) in buckets {
        below += n;
        bucket(&bound, below);
    }
    bucket(&"+Inf", count);
    sample(out, &format!("{name}_sum"), labels, sum);
    sample(out, &format!("{name}_count"), labels, count);
}
