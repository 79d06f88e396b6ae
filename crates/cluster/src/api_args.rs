//! `spec.api.extraArgs`: the flags of kube-apiserver that take effect. Others are refused by name.

use std::collections::BTreeMap;

use apiserver::audit::{Audit, DEFAULT_POLICY, LogOptions, Policy};

use crate::paths::Paths;

/// Flags that are known.
const KNOWN: &[&str] = &[
    "audit-log-format",
    "audit-log-maxage",
    "audit-log-maxbackup",
    "audit-log-maxsize",
    "audit-log-path",
    "audit-policy-file",
    "encryption-provider-config",
];
/// Megabytes of the audit log and of each old file, old files, and their days, where nothing is said.
/// Upstream keeps everything for ever; a node's disk has an end.
const OWN_LOG: (u64, u64, u64) = (10, 4, 30);
const NAMED_LOG: (u64, u64, u64) = (100, 10, 0);

/// Flags as they are given.
#[derive(Clone, Copy)]
pub struct ApiArgs<'a>(pub &'a BTreeMap<String, String>);

impl ApiArgs<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        self.0
            .get(name)
            .map(String::as_str)
            .filter(|v| !v.is_empty())
    }

    fn number(&self, name: &str) -> Result<Option<u64>, String> {
        let parse = |text: &str| {
            text.parse()
                .map_err(|_| format!("{text:?} is no whole number"))
        };
        self.get(name).map(parse).transpose()
    }

    /// What is wrong, by flag.
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut out = Vec::new();
        for name in self.0.keys() {
            if !KNOWN.contains(&name.as_str()) {
                let known = KNOWN.join(", ");
                let why = format!("this flag is not supported yet; supported are {known}");
                out.push((name.clone(), why));
            }
        }
        for name in [
            "audit-log-maxage",
            "audit-log-maxbackup",
            "audit-log-maxsize",
        ] {
            if let Err(why) = self.number(name) {
                out.push((name.to_string(), why));
            }
        }
        if let Some(other) = self.get("audit-log-format").filter(|f| *f != "json") {
            let why = format!("{other:?} is not supported; use json");
            out.push(("audit-log-format".into(), why));
        }
        out
    }

    /// The file with the keys for encryption at rest, where one is named.
    pub fn encryption_config(&self) -> Option<&str> {
        self.get("encryption-provider-config")
    }

    /// Where audit events go and how much of them is kept.
    fn log(&self, paths: &Paths) -> Result<LogOptions, String> {
        let (path, (megabytes, backups, days)) = match self.get("audit-log-path") {
            Some(path) => (path.to_string(), NAMED_LOG),
            None => (paths.audit_log().display().to_string(), OWN_LOG),
        };
        let megabytes = self
            .number("audit-log-maxsize")?
            .filter(|n| *n > 0)
            .unwrap_or(megabytes);
        let backups = self.number("audit-log-maxbackup")?.unwrap_or(backups);
        Ok(LogOptions {
            path,
            max_bytes: megabytes.saturating_mul(1 << 20),
            max_backups: usize::try_from(backups).unwrap_or(usize::MAX),
            max_age_days: self.number("audit-log-maxage")?.unwrap_or(days),
        })
    }

    /// Audit is always on: without a policy file at the level that is the default here.
    pub fn audit(&self, paths: &Paths) -> Result<Audit, String> {
        let text = match self.get("audit-policy-file") {
            None => DEFAULT_POLICY.to_string(),
            Some(path) => std::fs::read_to_string(path)
                .map_err(|e| format!("failed to read file path {path:?}: {e}"))?,
        };
        let policy = Policy::parse(&text);
        let file = self.get("audit-policy-file").unwrap_or("the default");
        let policy = policy.map_err(|e| format!("{e}: from file {file}"))?;
        let log = self.log(paths)?;
        let path = log.path.clone();
        Audit::new(policy, Some(log)).map_err(|e| format!("{path}: {e}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_flags_are_named_and_known_ones_read() {
        let args = |all: &[(&str, &str)]| -> BTreeMap<String, String> {
            let text = |(k, v): &(&str, &str)| ((*k).to_string(), (*v).to_string());
            all.iter().map(text).collect()
        };
        let bad = args(&[
            ("v", "2"),
            ("audit-log-maxage", "x"),
            ("audit-log-format", "legacy"),
        ]);
        let problems = ApiArgs(&bad).problems();
        let named: Vec<&str> = problems.iter().map(|(n, _)| n.as_str()).collect();
        assert_eq!(named, ["v", "audit-log-maxage", "audit-log-format"]);
        let paths = Paths::new(std::path::Path::new("/x"));
        let log = ApiArgs(&args(&[])).log(&paths).expect("the default");
        assert_eq!(
            (log.path.as_str(), log.max_bytes),
            ("/x/audit/audit.log", 10 << 20)
        );
        let given = args(&[("audit-log-path", "-"), ("audit-log-maxsize", "1")]);
        let log = ApiArgs(&given).log(&paths).expect("numbers");
        assert_eq!(
            (log.path.as_str(), log.max_bytes, log.max_backups),
            ("-", 1 << 20, 10)
        );
    }
}
