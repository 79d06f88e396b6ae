//! Limits of a group as the files to write. Conversions as runc makes them; values of pod and QoS groups as
//! the kubelet does (reference: kubelet cm/helpers_linux.go, opencontainers/cgroups).

use std::collections::BTreeMap;

/// How CPU shares become a version 2 weight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Weight {
    /// The kubelet's line through (2, 1) and (262144, 10000).
    Linear,
    /// The runtime's curve through (2, 1), (1024, 100) and (262144, 10000).
    #[default]
    Curve,
}

/// What a group may use; `None` leaves a value as it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Limits {
    pub cpu_shares: Option<u64>,
    pub cpu_weight: Weight,
    /// Microseconds a period; negative is no limit.
    pub cpu_quota: Option<i64>,
    /// Microseconds.
    pub cpu_period: Option<u64>,
    /// Bytes; negative is no limit.
    pub memory_max: Option<i64>,
    /// Negative is no limit.
    pub pids_max: Option<i64>,
    pub cpuset_cpus: Option<String>,
    pub cpuset_mems: Option<String>,
    /// Further files of version 2.
    pub unified: BTreeMap<String, String>,
}

/// One value for one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    pub controller: &'static str,
    pub file: String,
    pub value: String,
    /// Whether a kernel without the file does no harm.
    pub optional: bool,
}

// === Limits ===

impl Limits {
    /// The files to write, in order.
    pub fn plan(&self, unified: bool) -> Vec<Write> {
        let mut plan = Vec::new();
        let mut push = |controller, file: &str, value: String| {
            plan.push(Write {
                controller,
                file: file.to_owned(),
                value,
                optional: false,
            });
        };
        if let Some(shares) = self.cpu_shares.filter(|s| *s > 0) {
            if unified {
                push("cpu", "cpu.weight", self.cpu_weight.of(shares).to_string());
            } else {
                push("cpu", "cpu.shares", shares.to_string());
            }
        }
        self.plan_quota(unified, &mut push);
        if let Some(max) = self.memory_max {
            match (unified, max < 0) {
                (true, true) => push("memory", "memory.max", "max".into()),
                (true, false) => push("memory", "memory.max", max.to_string()),
                (false, _) => push("memory", "memory.limit_in_bytes", max.max(-1).to_string()),
            }
        }
        if let Some(max) = self.pids_max {
            let text = if max < 0 {
                "max".into()
            } else {
                max.to_string()
            };
            push("pids", "pids.max", text);
        }
        for (file, value) in [
            ("cpuset.cpus", &self.cpuset_cpus),
            ("cpuset.mems", &self.cpuset_mems),
        ] {
            if let Some(value) = value.as_ref().filter(|v| !v.is_empty()) {
                push("cpuset", file, value.clone());
            }
        }
        if unified {
            for (file, value) in &self.unified {
                plan.push(Write {
                    controller: "unified",
                    file: file.clone(),
                    value: value.clone(),
                    // Swap accounting and OOM groups are build options of the kernel.
                    optional: file.contains("swap") || file == "memory.oom.group",
                });
            }
        }
        plan
    }

    fn plan_quota(&self, unified: bool, push: &mut impl FnMut(&'static str, &str, String)) {
        let period = self.cpu_period.filter(|p| *p > 0);
        if unified {
            if self.cpu_quota.is_none() && period.is_none() {
                return;
            }
            let quota = match self.cpu_quota {
                Some(q) if q > 0 => q.to_string(),
                _ => "max".into(),
            };
            push(
                "cpu",
                "cpu.max",
                format!("{quota} {}", period.unwrap_or(100_000)),
            );
            return;
        }
        if let Some(period) = period {
            push("cpu", "cpu.cfs_period_us", period.to_string());
        }
        if let Some(quota) = self.cpu_quota {
            let quota = if quota > 0 { quota } else { -1 };
            push("cpu", "cpu.cfs_quota_us", quota.to_string());
        }
    }
}

// === Weight ===

impl Weight {
    /// The weight, 1 to 10000, of these shares.
    pub fn of(self, shares: u64) -> u64 {
        if shares <= 2 {
            return 1;
        }
        if shares >= 262_144 {
            return 10_000;
        }
        match self {
            Self::Linear => 1 + (shares - 2) * 9999 / 262_142,
            Self::Curve => {
                let l = (shares as f64).log2();
                let exponent = (l * l + 125.0 * l) / 612.0 - 7.0 / 34.0;
                10f64.powf(exponent).ceil() as u64
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(limits: &Limits, unified: bool) -> Vec<String> {
        let plan = limits.plan(unified);
        plan.iter()
            .map(|w| format!("{}={}", w.file, w.value))
            .collect()
    }

    #[test]
    fn limits_become_the_files_of_each_version() {
        let limits = Limits {
            cpu_shares: Some(1024),
            cpu_quota: Some(50_000),
            cpu_period: Some(100_000),
            memory_max: Some(64 << 20),
            pids_max: Some(20),
            cpuset_cpus: Some("0-1".into()),
            unified: BTreeMap::from([("memory.oom.group".into(), "1".into())]),
            ..Limits::default()
        };
        assert_eq!(
            text(&limits, false),
            [
                "cpu.shares=1024",
                "cpu.cfs_period_us=100000",
                "cpu.cfs_quota_us=50000",
                "memory.limit_in_bytes=67108864",
                "pids.max=20",
                "cpuset.cpus=0-1",
            ]
        );
        assert_eq!(
            text(&limits, true),
            [
                "cpu.weight=100",
                "cpu.max=50000 100000",
                "memory.max=67108864",
                "pids.max=20",
                "cpuset.cpus=0-1",
                "memory.oom.group=1",
            ]
        );
    }

    #[test]
    fn lifted_limits_are_written_as_such() {
        let limits = Limits {
            cpu_quota: Some(-1),
            memory_max: Some(-1),
            pids_max: Some(-1),
            ..Limits::default()
        };
        assert_eq!(
            text(&limits, true),
            ["cpu.max=max 100000", "memory.max=max", "pids.max=max"]
        );
        assert_eq!(
            text(&limits, false),
            [
                "cpu.cfs_quota_us=-1",
                "memory.limit_in_bytes=-1",
                "pids.max=max"
            ]
        );
    }

    #[test]
    fn shares_become_weights_as_upstream_converts_them() {
        assert_eq!(Weight::Linear.of(1024), 39);
        assert_eq!(Weight::Curve.of(1024), 100);
        assert_eq!(Weight::Curve.of(2), 1);
        assert_eq!(Weight::Curve.of(262_144), 10_000);
        assert_eq!(Weight::Linear.of(0), 1);
    }
}
