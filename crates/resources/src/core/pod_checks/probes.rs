//! Probes and lifecycle hooks. validation-pod §8.11.

use machinery::Causes;
use machinery::object::{at, i64_at, list_at, str_at};
use serde_json::{Value, json};

use super::Shared;
use crate::checks;

/// Checks the three probes, at the container's path.
pub fn all(s: &Shared<'_>, one: &Value, c: &mut Causes) {
    for which in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(p) = at(one, which) {
            c.at(which, |c| {
                handler(s, p, true, c);
                numbers(p, which == "readinessProbe", c);
            });
        }
    }
}

fn numbers(p: &Value, readiness: bool, c: &mut Causes) {
    for field in [
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
    ] {
        checks::non_negative(p, field, c);
    }
    let grace = i64_at(p, "terminationGracePeriodSeconds");
    if let Some(n) = grace.filter(|n| *n <= 0) {
        c.at("terminationGracePeriodSeconds", |c| {
            c.invalid(&json!(n), "must be greater than 0");
        });
    }
    let success = i64_at(p, "successThreshold").unwrap_or(1);
    if !readiness && success != 1 {
        c.at("successThreshold", |c| {
            c.invalid(&json!(success), "must be 1");
        });
    }
    if let Some(n) = grace.filter(|_| readiness) {
        c.at("terminationGracePeriodSeconds", |c| {
            c.invalid(&json!(n), "must not be set for readinessProbes");
        });
    }
}

/// Checks the hooks, at the container's path.
pub fn lifecycle(s: &Shared<'_>, one: &Value, c: &mut Causes) {
    let Some(lifecycle) = at(one, "lifecycle") else {
        return;
    };
    c.at("lifecycle", |c| {
        for which in ["postStart", "preStop"] {
            if let Some(h) = at(lifecycle, which) {
                c.at(which, |c| handler(s, h, false, c));
            }
        }
    });
}

fn handler(s: &Shared<'_>, h: &Value, probe: bool, c: &mut Causes) {
    let last = if probe { "grpc" } else { "sleep" };
    let mut found = false;
    for field in ["exec", "httpGet", "tcpSocket", last] {
        let Some(v) = at(h, field) else { continue };
        c.at(field, |c| {
            if found {
                c.forbidden("may not specify more than 1 handler type");
            } else {
                action(s, field, v, c);
            }
        });
        found = true;
    }
    if !found {
        c.required("must specify a handler type");
    }
}

fn action(s: &Shared<'_>, field: &str, v: &Value, c: &mut Causes) {
    let port = |c: &mut Causes| {
        c.at("port", |c| {
            checks::port(at(v, "port").unwrap_or(&json!(0)), c)
        });
    };
    match field {
        "exec" => {
            if list_at(v, "command").is_empty() {
                c.at("command", |c| c.required(""));
            }
        }
        "httpGet" => {
            checks::present(v, "path", c);
            port(c);
            checks::optional_one_of(v, "scheme", &["HTTP", "HTTPS"], c);
            for header in list_at(v, "httpHeaders") {
                let name = str_at(header, "name");
                let fine = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
                if name.is_empty() || !name.bytes().all(fine) {
                    c.at("httpHeaders", |c| c.invalid(&json!(name), "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')"));
                }
            }
        }
        "tcpSocket" => port(c),
        "grpc" => port(c),
        _ => {
            let seconds = i64_at(v, "seconds").unwrap_or(0);
            let grace = i64_at(s.spec, "terminationGracePeriodSeconds").unwrap_or(0);
            if seconds < 0 || seconds > grace {
                c.invalid(
                    &json!(seconds),
                    format!(
                        "must be non-negative and less than terminationGracePeriodSeconds ({grace})"
                    ),
                );
            }
        }
    }
}
