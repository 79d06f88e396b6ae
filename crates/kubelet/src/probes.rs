//! Probes of containers. Upstream: pkg/kubelet/prober, pkg/probe.

pub mod exec;
pub mod grpc;
pub mod http;
pub mod tcp;
pub mod worker;

use std::collections::HashMap;
use std::time::Duration;

use api::core::v1::{Container, Pod, Probe};
use api::k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::expansion::expand;

/// Upstream's three kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProbeKind {
    Startup,
    Readiness,
    Liveness,
}

// === ProbeKind ===

impl ProbeKind {
    /// As events write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Readiness => "Readiness",
            Self::Liveness => "Liveness",
        }
    }
}

/// What one probe said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Success,
    /// A success worth an event.
    Warning(String),
    Failure(String),
    /// The probe could not be carried out.
    Error(String),
}

/// Published results by container id. No entry: not known (yet).
#[derive(Clone, Debug, Default)]
pub struct Results {
    known: HashMap<(String, ProbeKind), bool>,
}

// === Results ===

impl Results {
    /// The result for a container.
    pub fn get(&self, id: &str, kind: ProbeKind) -> Option<bool> {
        self.known.get(&(id.to_string(), kind)).copied()
    }

    /// Notes a result; whether it is news.
    pub fn set(&mut self, id: &str, kind: ProbeKind, ok: bool) -> bool {
        self.known.insert((id.to_string(), kind), ok) != Some(ok)
    }

    /// Forgets containers that are gone.
    pub fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.known.retain(|(id, _), _| keep(id));
    }
}

/// How often probes said what: by pod uid, container, kind and result (`successful`, `failed`, `unknown`).
pub(crate) type Counts =
    std::collections::BTreeMap<(String, String, &'static str, &'static str), u64>;

/// Counts equal answers until a threshold is reached.
#[derive(Debug, Default)]
pub struct Counter {
    last: Option<bool>,
    run: i32,
}

// === Counter ===

impl Counter {
    /// Notes an answer; gives it once it was given often enough in a row.
    pub fn count(&mut self, ok: bool, probe: &Probe) -> Option<bool> {
        if self.last == Some(ok) {
            self.run = self.run.saturating_add(1);
        } else {
            self.last = Some(ok);
            self.run = 1;
        }
        let threshold = if ok {
            probe.success_threshold.unwrap_or(1)
        } else {
            probe.failure_threshold.unwrap_or(3)
        };
        (self.run >= threshold.max(1)).then_some(ok)
    }
}

/// The time one probe may take.
pub fn timeout(probe: &Probe) -> Duration {
    Duration::from_secs(u64::try_from(probe.timeout_seconds.unwrap_or(1).max(1)).unwrap_or(1))
}

/// A port by number or by the name of one of the container's ports.
pub fn port(port: &IntOrString, c: &Container) -> Result<u16, String> {
    let found = match port {
        IntOrString::Int(n) => u16::try_from(*n).ok(),
        IntOrString::String(name) => c
            .ports
            .iter()
            .flatten()
            .find(|p| p.name.as_deref() == Some(name))
            .and_then(|p| u16::try_from(p.container_port).ok())
            .or_else(|| name.parse().ok()),
    };
    let found = found.filter(|p| *p > 0);
    found.ok_or_else(|| match port {
        IntOrString::Int(n) => format!("invalid port number: {n}"),
        IntOrString::String(name) => format!("couldn't find port: {name:?}"),
    })
}

/// Where a probe is carried out.
pub struct Target<'a> {
    pub pod: &'a Pod,
    pub container: &'a Container,
    pub container_id: &'a str,
    pub pod_ip: &'a str,
    pub runtime: &'a dyn cri::Runtime,
}

/// Carries a probe out, again while it cannot be.
pub async fn run(t: &Target<'_>, probe: &Probe) -> Outcome {
    let mut outcome = once(t, probe).await;
    for _ in 1..crate::limits::PROBE_ATTEMPTS {
        if !matches!(outcome, Outcome::Error(_)) {
            break;
        }
        outcome = once(t, probe).await;
    }
    outcome
}

async fn once(t: &Target<'_>, probe: &Probe) -> Outcome {
    let limit = timeout(probe);
    let unknown = |why: String| Outcome::Error(why);
    if let Some(action) = &probe.exec {
        let env = t.container.env.as_deref().unwrap_or_default();
        let value = |name: &str| {
            let found = env.iter().rfind(|e| e.name == name)?;
            found.value.as_deref()
        };
        let command = action.command.iter().flatten();
        let command = command.map(|a| expand(a, value)).collect();
        return exec::probe(t.runtime, t.container_id, command, limit).await;
    }
    if let Some(action) = &probe.http_get {
        return match port(&action.port, t.container) {
            Ok(port) => http::probe(action, t.pod_ip, port, limit).await,
            Err(e) => unknown(e),
        };
    }
    if let Some(action) = &probe.tcp_socket {
        let host = action.host.as_deref().filter(|h| !h.is_empty());
        return match port(&action.port, t.container) {
            Ok(port) => tcp::probe(host.unwrap_or(t.pod_ip), port, limit).await,
            Err(e) => unknown(e),
        };
    }
    if let Some(action) = &probe.grpc {
        let service = action.service.as_deref().unwrap_or_default();
        return match u16::try_from(action.port) {
            Ok(port) => grpc::probe(t.pod_ip, port, service, limit).await,
            Err(_) => unknown(format!("invalid port number: {}", action.port)),
        };
    }
    unknown(format!(
        "missing probe handler for {}:{}",
        crate::pod::format(t.pod),
        t.container.name
    ))
}

#[cfg(test)]
mod tests;
