//! Use of a group, and how many of its processes the OOM killer took.

use std::fs;
use std::path::{Path, PathBuf};

use super::Cgroups;

/// What a group uses now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub cpu_usage_nanoseconds: u64,
    pub memory_usage_bytes: u64,
    /// Usage without file pages that could be dropped at once.
    pub memory_working_set_bytes: u64,
    pub memory_rss_bytes: u64,
    pub processes: u64,
}

impl Cgroups {
    /// Use of a group; zero where it is gone or a controller is missing.
    pub fn stats(&self, path: &str) -> Stats {
        let unified = self.is_unified();
        let read = |controller, file: &str| {
            let dir = self.directory(path, controller);
            dir.and_then(|d| fs::read_to_string(d.join(file)).ok())
                .unwrap_or_default()
        };
        let number = |text: String| text.trim().parse::<u64>().unwrap_or(0);
        let stat = read("memory", "memory.stat");
        let (usage, inactive, rss, cpu) = if unified {
            (
                number(read("memory", "memory.current")),
                field(&stat, "inactive_file"),
                field(&stat, "anon"),
                field(&read("cpu", "cpu.stat"), "usage_usec").unwrap_or(0) * 1000,
            )
        } else {
            (
                number(read("memory", "memory.usage_in_bytes")),
                field(&stat, "total_inactive_file"),
                field(&stat, "total_rss"),
                number(read("cpuacct", "cpuacct.usage")),
            )
        };
        Stats {
            cpu_usage_nanoseconds: cpu,
            memory_usage_bytes: usage,
            memory_working_set_bytes: usage.saturating_sub(inactive.unwrap_or(0)),
            memory_rss_bytes: rss.unwrap_or(0),
            processes: number(read("pids", "pids.current")),
        }
    }

    /// The file in which `oom_kills` counts for a group.
    pub fn oom_file(&self, path: &str) -> Option<PathBuf> {
        let name = if self.is_unified() {
            "memory.events"
        } else {
            "memory.oom_control"
        };
        Some(self.directory(path, "memory")?.join(name))
    }
}

/// Processes of a group that the OOM killer ended, from its `oom_file`.
pub fn oom_kills(file: &Path) -> u64 {
    let text = fs::read_to_string(file).unwrap_or_default();
    field(&text, "oom_kill").unwrap_or(0)
}

fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(' ')?;
        (key == name).then(|| value.trim().parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::field;

    #[test]
    fn fields_are_matched_whole() {
        let text = "oom 5\noom_kill 2\noom_kill_disable 0\n";
        assert_eq!(field(text, "oom_kill"), Some(2));
        assert_eq!(field(text, "kill"), None);
    }
}
