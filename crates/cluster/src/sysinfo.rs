//! `k0s sysinfo`: whether this host can run a node. k0s: internal/pkg/sysinfo. The checks name what this
//! binary needs of the kernel; executables of the host are not among them, as none is ever run.

mod kernel_config;
mod probes;

use std::path::Path;

use serde::Serialize;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Category {
    Pass,
    Warning,
    Rejected,
    Error,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Probe {
    pub path: Vec<String>,
    pub display_name: String,
    /// What was found.
    pub prop: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    pub category: Category,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub error: String,
}

/// For which role the host is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Role {
    pub controller: bool,
    pub worker: bool,
}

/// Looks at the host.
pub fn probe(role: Role, data_dir: &Path) -> Vec<Probe> {
    probes::all(role, data_dir)
}

/// Whether a node may not start.
pub fn failed(probes: &[Probe]) -> bool {
    probes
        .iter()
        .any(|p| matches!(p.category, Category::Rejected | Category::Error))
}

/// The lines that `k0s sysinfo` prints.
pub fn text(probes: &[Probe]) -> String {
    probes.iter().map(|p| p.line() + "\n").collect()
}

// === Probe ===

impl Probe {
    fn new(path: &[&str], display_name: &str, prop: impl Into<String>) -> Self {
        Self {
            path: path.iter().map(|p| (*p).to_string()).collect(),
            display_name: display_name.into(),
            prop: prop.into(),
            message: String::new(),
            category: Category::Pass,
            error: String::new(),
        }
    }

    fn end(self, category: Category, message: impl Into<String>) -> Self {
        Self {
            category,
            message: message.into(),
            ..self
        }
    }

    fn failed(self, error: impl std::fmt::Display) -> Self {
        Self {
            category: Category::Error,
            error: error.to_string(),
            ..self
        }
    }

    /// `category` where `good` does not hold.
    fn unless(self, good: bool, category: Category, message: impl Into<String>) -> Self {
        if good {
            self
        } else {
            self.end(category, message)
        }
    }

    fn line(&self) -> String {
        let indent = "  ".repeat(self.path.len().saturating_sub(1));
        let message = match self.message.as_str() {
            "" => String::new(),
            m => format!(": {m}"),
        };
        let end = match self.category {
            Category::Pass => " (pass)".to_string(),
            Category::Warning => format!(" (warning{message})"),
            Category::Rejected => format!(" (rejected{message})"),
            Category::Error => {
                return format!("{indent}{}: error: {}", self.display_name, self.error);
            }
        };
        format!("{indent}{}: {}{end}", self.display_name, self.prop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_read_as_k0ss() {
        let p = Probe::new(&["os", "kernelRelease"], "Linux kernel release", "6.1.0");
        assert_eq!(p.line(), "  Linux kernel release: 6.1.0 (pass)");
        let p = Probe::new(&["memory"], "Total memory", "256.0 MiB")
            .end(Category::Warning, "1.0 GiB recommended");
        assert_eq!(
            p.line(),
            "Total memory: 256.0 MiB (warning: 1.0 GiB recommended)"
        );
        assert!(!failed(std::slice::from_ref(&p)));
        let p = p.end(Category::Rejected, "");
        assert_eq!(p.line(), "Total memory: 256.0 MiB (rejected)");
        assert!(failed(&[p]));
    }

    #[test]
    fn this_host_is_looked_at() {
        let role = Role {
            controller: true,
            worker: true,
        };
        let probes = probe(role, Path::new("/nowhere/yet"));
        for id in ["memory", "os", "procfs", "cgroups"] {
            assert!(probes.iter().any(|p| p.path == [id]), "{id}");
        }
        let role = Role {
            worker: false,
            ..role
        };
        let fewer = probe(role, Path::new("/"));
        assert!(fewer.iter().all(|p| p.path[0] != "cgroups"));
    }
}
