//! Whether and when a container is started again. Upstream: kubecontainer.ShouldContainerBeRestarted,
//! client-go flowcontrol.Backoff.

use std::collections::HashMap;
use std::time::Duration;

use api::core::v1::{Container, Pod};
use cri::{ContainerState, ContainerStatus};
use jiff::Timestamp;

use crate::limits;
use crate::pod;

/// Whether a container that ended with `exit_code` is started again: its rules, its own policy, the pod's.
pub fn restarts_after(p: &Pod, c: &Container, exit_code: i32) -> bool {
    for rule in c.restart_policy_rules.iter().flatten() {
        let Some(codes) = &rule.exit_codes else {
            continue;
        };
        let listed = codes.values.iter().flatten().any(|v| *v == exit_code);
        let matches = match codes.operator.as_str() {
            "In" => listed,
            "NotIn" => !listed,
            _ => false,
        };
        if matches {
            return matches!(rule.action.as_str(), "Restart" | "RestartAllContainers");
        }
    }
    match policy(p, c) {
        "Never" => false,
        "OnFailure" => exit_code != 0,
        _ => true,
    }
}

/// The container's policy, else the pod's.
pub fn policy<'a>(p: &'a Pod, c: &'a Container) -> &'a str {
    let own = c.restart_policy.as_deref();
    own.or(pod::spec(p).restart_policy.as_deref())
        .unwrap_or("Always")
}

/// Whether the next sync should start the container.
pub fn should_start(p: &Pod, c: &Container, latest: Option<&ContainerStatus>) -> bool {
    if p.metadata.deletion_timestamp.is_some() {
        return false;
    }
    match latest {
        None => true,
        Some(s) => match s.state {
            ContainerState::Running => false,
            ContainerState::Unknown | ContainerState::Created => true,
            ContainerState::Exited => restarts_after(p, c, s.exit_code),
        },
    }
}

/// How long things wait between attempts, by key.
#[derive(Debug)]
pub struct Backoff<K> {
    entries: HashMap<K, Entry>,
    first: Duration,
    max: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    delay: Duration,
    updated: Timestamp,
}

// === Backoff ===

impl<K: std::hash::Hash + Eq> Backoff<K> {
    /// Waits from `first`, doubling to `max`.
    pub fn new(first: Duration, max: Duration) -> Self {
        Self {
            entries: HashMap::new(),
            first,
            max,
        }
    }

    /// How long is still to wait after something that happened at `since`, and the whole wait.
    pub fn remaining(
        &self,
        key: &K,
        since: Timestamp,
        now: Timestamp,
    ) -> Option<(Duration, Duration)> {
        let entry = self.entries.get(key)?;
        if between(entry.updated, since) > self.max * 2 {
            return None;
        }
        let gone = between(since, now);
        (gone < entry.delay).then(|| (entry.delay - gone, entry.delay))
    }

    /// Notes an attempt after something that happened at `since`.
    pub fn next(&mut self, key: K, since: Timestamp) {
        if self.entries.len() >= limits::PULL_BACKOFF_ENTRIES {
            let stale = self.max * 2;
            self.entries
                .retain(|_, e| between(e.updated, since) <= stale);
        }
        let delay = match self.entries.get(&key) {
            Some(e) if between(e.updated, since) <= self.max * 2 => (e.delay * 2).min(self.max),
            _ => self.first,
        };
        self.entries.insert(
            key,
            Entry {
                delay,
                updated: since,
            },
        );
    }

    /// Forgets keys that are not wanted any more.
    pub fn retain(&mut self, mut keep: impl FnMut(&K) -> bool) {
        self.entries.retain(|k, _| keep(k));
    }
}

fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

/// Go's text of a duration in whole seconds, such as `1m20s`.
pub fn go_duration(d: Duration) -> String {
    let s = d.as_secs();
    match (s / 3600, s / 60 % 60, s % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, s) => format!("{m}m{s}s"),
        (h, m, s) => format!("{h}h{m}m{s}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn policies_and_rules() {
        let p: Pod = serde_json::from_value(json!({"spec":{"restartPolicy":"Never","containers":[
            {"name":"plain"},
            {"name":"own","restartPolicy":"OnFailure"},
            {"name":"rules","restartPolicy":"Never","restartPolicyRules":[
                {"action":"Restart","exitCodes":{"operator":"In","values":[42]}}]}]}}))
        .unwrap();
        let c = pod::containers(&p);
        assert!(!restarts_after(&p, &c[0], 1));
        assert!(restarts_after(&p, &c[1], 1) && !restarts_after(&p, &c[1], 0));
        assert!(restarts_after(&p, &c[2], 42) && !restarts_after(&p, &c[2], 1));
    }

    #[test]
    fn doubles_and_resets_after_a_long_run() {
        let mut b = Backoff::new(limits::CRASH_BACKOFF_FIRST, limits::CRASH_BACKOFF_MAX);
        let at = |s: i64| Timestamp::from_second(s).unwrap();
        assert_eq!(b.remaining(&"c", at(0), at(0)), None);
        b.next("c", at(0));
        let s = Duration::from_secs;
        assert_eq!(b.remaining(&"c", at(1), at(3)), Some((s(8), s(10))));
        assert_eq!(b.remaining(&"c", at(1), at(11)), None);
        b.next("c", at(1));
        assert_eq!(b.remaining(&"c", at(12), at(12)), Some((s(20), s(20))));
        for _ in 0..10 {
            b.next("c", at(12));
        }
        assert_eq!(b.remaining(&"c", at(12), at(12)).unwrap().1, s(300));
        assert_eq!(b.remaining(&"c", at(700), at(700)), None);
        b.next("c", at(700));
        assert_eq!(b.remaining(&"c", at(700), at(700)).unwrap().1, s(10));
        assert_eq!(go_duration(s(80)), "1m20s");
    }
}
