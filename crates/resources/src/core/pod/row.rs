//! The table row of a pod. Upstream: pkg/printers/internalversion printPod; printing §3.1.

use jiff::Timestamp;
use machinery::object::{bool_at, i64_at, is_deleting, list_at, str_at};
use machinery::{Column, Row};
use serde_json::{Value, json};

use crate::cells;

/// The columns.
pub fn columns() -> Vec<Column> {
    vec![
        Column::name(),
        Column::new("Ready"),
        Column::new("Status"),
        Column::new("Restarts"),
        Column::new("Age"),
        Column::new("IP").wide(),
        Column::new("Node").wide(),
        Column::new("Nominated Node").wide(),
        Column::new("Readiness Gates").wide(),
    ]
}

/// The cells.
pub fn row(pod: &Value, now: Timestamp) -> Row {
    let seen = Seen::of(pod);
    let restarts = match &seen.last_restart {
        Some(at) if seen.restarts != 0 => {
            let ago = machinery::strategy::human_duration(now.as_second() - at.as_second());
            format!("{} ({ago} ago)", seen.restarts)
        }
        _ => seen.restarts.to_string(),
    };
    vec![
        cells::name(pod),
        json!(format!("{}/{}", seen.ready, seen.total)),
        json!(seen.reason),
        json!(restarts),
        cells::age(pod, now),
        cells::or_none(super::first_address(pod)),
        cells::or_none(str_at(pod, "spec.nodeName")),
        cells::or_none(str_at(pod, "status.nominatedNodeName")),
        readiness_gates(pod),
    ]
}

fn readiness_gates(pod: &Value) -> Value {
    let gates = list_at(pod, "spec.readinessGates");
    if gates.is_empty() {
        return json!("<none>");
    }
    let fine = gates
        .iter()
        .filter(|g| condition(pod, str_at(g, "conditionType")) == Some("True"));
    json!(format!("{}/{}", fine.count(), gates.len()))
}

/// Status of the first condition of a type.
fn condition<'a>(pod: &'a Value, kind: &str) -> Option<&'a str> {
    let mut all = list_at(pod, "status.conditions").iter();
    let found = all.find(|c| str_at(c, "type") == kind)?;
    Some(str_at(found, "status"))
}

/// What the containers of a pod add up to.
struct Seen {
    ready: usize,
    total: usize,
    reason: String,
    restarts: i64,
    last_restart: Option<Timestamp>,
}

impl Seen {
    fn of(pod: &Value) -> Self {
        let sidecars = list_at(pod, "spec.initContainers")
            .iter()
            .filter(|c| is_sidecar(c));
        let mut seen = Self {
            ready: 0,
            total: list_at(pod, "spec.containers").len() + sidecars.count(),
            reason: str_at(pod, "status.phase").to_string(),
            restarts: 0,
            last_restart: None,
        };
        if !str_at(pod, "status.reason").is_empty() {
            seen.reason = str_at(pod, "status.reason").to_string();
        }
        let gated = |c: &Value| {
            str_at(c, "type") == "PodScheduled" && str_at(c, "reason") == "SchedulingGated"
        };
        if list_at(pod, "status.conditions").iter().any(gated) {
            seen.reason = "SchedulingGated".into();
        }
        let (initializing, sidecar_restarts, sidecar_last) = seen.init_containers(pod);
        if !initializing || condition(pod, "Initialized") == Some("True") {
            seen.restarts = sidecar_restarts;
            seen.last_restart = sidecar_last;
            seen.containers(pod);
        }
        let over = ["Succeeded", "Failed"].contains(&str_at(pod, "status.phase"));
        if is_deleting(pod) {
            if str_at(pod, "status.reason") == "NodeLost" {
                seen.reason = "Unknown".into();
            } else if !over {
                seen.reason = "Terminating".into();
            }
        }
        seen
    }

    /// Walks the init containers up to the first that is not done.
    fn init_containers(&mut self, pod: &Value) -> (bool, i64, Option<Timestamp>) {
        let specs = list_at(pod, "spec.initContainers");
        let (mut restarts, mut last) = (0, None);
        for (i, s) in list_at(pod, "status.initContainerStatuses")
            .iter()
            .enumerate()
        {
            self.count(s);
            let spec = specs
                .iter()
                .find(|c| str_at(c, "name") == str_at(s, "name"));
            let sidecar = spec.is_some_and(is_sidecar);
            if sidecar {
                restarts += restart_count(s);
                last = later(last, finished(s));
            }
            if let Some(t) = s.pointer("/state/terminated") {
                if i64_at(t, "exitCode").unwrap_or(0) == 0 {
                    continue;
                }
                self.reason = format!("Init:{}", ended(t));
                return (true, restarts, last);
            }
            if sidecar && bool_at(s, "started") == Some(true) {
                self.ready += usize::from(bool_at(s, "ready") == Some(true));
                continue;
            }
            let waiting = str_at(s, "state.waiting.reason");
            self.reason = match waiting {
                "" | "PodInitializing" => format!("Init:{i}/{}", specs.len()),
                why => format!("Init:{why}"),
            };
            return (true, restarts, last);
        }
        (false, restarts, last)
    }

    /// Walks the containers from last to first: the first in the list has the last word.
    fn containers(&mut self, pod: &Value) {
        let (mut running, mut error) = (false, String::new());
        for s in list_at(pod, "status.containerStatuses").iter().rev() {
            self.count(s);
            let waiting = str_at(s, "state.waiting.reason");
            if !waiting.is_empty() {
                self.reason = waiting.into();
            } else if let Some(t) = s.pointer("/state/terminated") {
                self.reason = ended(t);
                if i64_at(t, "exitCode").unwrap_or(0) != 0 {
                    error = self.reason.clone();
                }
            } else if bool_at(s, "ready") == Some(true) && s.pointer("/state/running").is_some() {
                running = true;
                self.ready += 1;
            }
        }
        if self.reason == "Completed" {
            if running && condition(pod, "Ready") == Some("True") {
                self.reason = "Running".into();
            } else if !error.is_empty() {
                self.reason = error;
            } else if running {
                self.reason = "NotReady".into();
            }
        }
    }

    fn count(&mut self, status: &Value) {
        self.restarts += restart_count(status);
        self.last_restart = later(self.last_restart, finished(status));
    }
}

fn is_sidecar(container: &Value) -> bool {
    str_at(container, "restartPolicy") == "Always"
}

fn restart_count(status: &Value) -> i64 {
    i64_at(status, "restartCount").unwrap_or(0)
}

fn finished(status: &Value) -> Option<Timestamp> {
    str_at(status, "lastState.terminated.finishedAt")
        .parse()
        .ok()
}

fn later(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    a.max(b)
}

/// How a container ended: its reason, signal or exit code.
fn ended(terminated: &Value) -> String {
    let reason = str_at(terminated, "reason");
    let number = |field| i64_at(terminated, field).unwrap_or(0);
    match (reason, number("signal")) {
        ("", 0) => format!("ExitCode:{}", number("exitCode")),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.into(),
    }
}
