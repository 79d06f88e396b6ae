//! kube-apiserver's `--audit-*` flags. Upstream: apiserver/pkg/server/options/audit.go, whose defaults and texts
//! these are, but for the node's own log: it is always on, small, and nobody waits for it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use apiserver::audit::{
    Audit, BatchOptions, DEFAULT_POLICY, LogOptions, Mode, Policy, SinkOptions, TruncateOptions,
};

use super::{ApiArgs, duration};
use crate::audit_webhook::AuditWebhook;
use crate::paths::Paths;

/// Flags of the policy, the log and both backends.
pub const FLAGS: &[&str] = &[
    "audit-log-compress",
    "audit-log-format",
    "audit-log-maxage",
    "audit-log-maxbackup",
    "audit-log-maxsize",
    "audit-log-path",
    "audit-log-version",
    "audit-policy-file",
    "audit-webhook-batch-initial-backoff",
    "audit-webhook-config-file",
    "audit-webhook-initial-backoff",
    "audit-webhook-version",
];
/// What is said of a backend, behind `audit-log-` and `audit-webhook-`.
const OF_BACKENDS: &[&str] = &[
    "batch-buffer-size",
    "batch-max-size",
    "batch-max-wait",
    "batch-throttle-burst",
    "batch-throttle-enable",
    "batch-throttle-qps",
    "mode",
    "truncate-enabled",
    "truncate-max-batch-size",
    "truncate-max-event-size",
];
/// Megabytes of the audit log and of each old file, old files, and their days, where nothing is said: of the node's
/// own log, whose disk has an end, and of one that the user names, upstream's.
const OWN_LOG: (u64, u64, u64) = (10, 4, 30);
const NAMED_LOG: (u64, u64, u64) = (100, 100, 366);

/// Before the first repetition of a webhook's call, upstream's.
const BACKOFF: Duration = Duration::from_secs(10);

/// Whether a flag is one of audit's.
pub fn knows(name: &str) -> bool {
    let of = |prefix: &str| {
        let rest = name.strip_prefix(prefix);
        rest.is_some_and(|r| OF_BACKENDS.contains(&r))
    };
    FLAGS.contains(&name) || of("audit-log-") || of("audit-webhook-")
}

/// What a backend does where nothing is said.
fn defaults(backend: &str) -> SinkOptions {
    match backend {
        "webhook" => SinkOptions {
            mode: Mode::Batch,
            batch: BatchOptions {
                buffer_size: 10_000,
                max_size: 400,
                max_wait: Duration::from_secs(30),
                throttle: Some((10.0, 15)),
            },
            truncate: None,
        },
        _ => SinkOptions::queued(),
    }
}

impl ApiArgs<'_> {
    /// What is wrong with audit's flags, by flag.
    pub(super) fn audit_problems(&self, out: &mut Vec<(String, String)>) {
        let mut problem = |flag: &str, why: Result<(), String>| {
            out.extend(why.err().map(|why| (flag.to_string(), why)));
        };
        for name in [
            "audit-log-maxage",
            "audit-log-maxbackup",
            "audit-log-maxsize",
        ] {
            problem(name, self.number(name).map(drop));
        }
        let format = self.get("audit-log-format").unwrap_or("json");
        if !["json", "legacy"].contains(&format) {
            let why =
                format!("invalid audit log format {format}, allowed formats are \"legacy,json\"");
            problem("audit-log-format", Err(why));
        }
        let compress = "audit-log-compress";
        problem(compress, self.flag(compress).map(drop));
        for version in ["audit-log-version", "audit-webhook-version"] {
            if self.get(version).is_some_and(|v| v != "audit.k8s.io/v1") {
                let why = "invalid group version, allowed versions are [\"audit.k8s.io/v1\"]";
                problem(version, Err(why.into()));
            }
        }
        problem("audit-log-mode", self.sink("log").map(drop));
        problem("audit-webhook-mode", self.sink("webhook").map(drop));
        let backoff = "audit-webhook-initial-backoff";
        problem(backoff, self.backoff().map(drop));
    }

    /// What is said of a backend.
    fn sink(&self, backend: &str) -> Result<SinkOptions, String> {
        let mut out = defaults(backend);
        let named = |what: &str| format!("audit-{backend}-{what}");
        let number = |what: &str| -> Result<Option<usize>, String> {
            let given = self.number(&named(what));
            let given = given.map_err(|e| format!("{}: {e}", named(what)))?;
            Ok(given.map(|n| usize::try_from(n).unwrap_or(usize::MAX)))
        };
        if let Some(mode) = self.get(&named("mode")) {
            out.mode = match mode {
                "batch" => Mode::Batch,
                "blocking" => Mode::Blocking,
                "blocking-strict" => Mode::BlockingStrict,
                other => {
                    return Err(format!(
                        "invalid audit {backend} mode {other}, allowed modes are \"batch,blocking,blocking-strict\""
                    ));
                }
            };
        }
        let positive = |what: &str, n: usize| match n {
            0 => Err(format!(
                "invalid audit batch {backend} {what} 0, must be a positive number"
            )),
            n => Ok(n),
        };
        if let Some(n) = number("batch-buffer-size")? {
            // A bound of the server's own stands above the user's.
            out.batch.buffer_size =
                positive("buffer size", n)?.min(apiserver::limits::AUDIT_BUFFER);
        }
        if let Some(n) = number("batch-max-size")? {
            out.batch.max_size = positive("max batch size", n)?;
        }
        if let Some(text) = self.get(&named("batch-max-wait")) {
            out.batch.max_wait =
                duration(text).map_err(|e| format!("{}: {e}", named("batch-max-wait")))?;
        }
        out.batch.throttle = self.throttle(backend, out.batch.throttle)?;
        out.truncate = self.truncate(backend, number)?;
        Ok(out)
    }

    fn throttle(
        &self,
        backend: &str,
        default: Option<(f64, u32)>,
    ) -> Result<Option<(f64, u32)>, String> {
        let named = |what: &str| format!("audit-{backend}-batch-throttle-{what}");
        let enabled = self.flag(&named("enable"))?;
        if !enabled.unwrap_or(default.is_some()) {
            return Ok(None);
        }
        let (mut rate, mut burst) = default.unwrap_or((0.0, 0));
        if let Some(text) = self.get(&named("qps")) {
            rate = text.parse().map_err(|_| format!("{text:?} is no number"))?;
        }
        if let Some(n) = self.number(&named("burst"))? {
            burst = u32::try_from(n).unwrap_or(u32::MAX);
        }
        let bad = |what: &str, n: f64| {
            Err(format!(
                "invalid audit batch {backend} throttle {what} {n}, must be a positive number"
            ))
        };
        if !(rate > 0.0 && rate.is_finite()) {
            return bad("QPS", rate);
        }
        if burst == 0 {
            return bad("burst", 0.0);
        }
        Ok(Some((rate, burst)))
    }

    fn truncate(
        &self,
        backend: &str,
        number: impl Fn(&str) -> Result<Option<usize>, String>,
    ) -> Result<Option<TruncateOptions>, String> {
        let out = TruncateOptions {
            max_event_bytes: number("truncate-max-event-size")?.unwrap_or(100 << 10),
            max_batch_bytes: number("truncate-max-batch-size")?.unwrap_or(10 << 20),
        };
        let (event, batch) = (out.max_event_bytes, out.max_batch_bytes);
        if event == 0 {
            return Err(format!(
                "invalid audit truncate {backend} max event size 0, must be a positive number"
            ));
        }
        if batch < event {
            return Err(format!(
                "invalid audit truncate {backend} max batch size {batch}, must be greater than max event size ({event})"
            ));
        }
        let enabled = self.flag(&format!("audit-{backend}-truncate-enabled"))?;
        Ok(enabled.unwrap_or(false).then_some(out))
    }

    /// Before the first repetition of a webhook's call.
    fn backoff(&self) -> Result<Duration, String> {
        let old = self.get("audit-webhook-batch-initial-backoff");
        let given = self.get("audit-webhook-initial-backoff").or(old);
        given.map_or(Ok(BACKOFF), duration)
    }

    /// Where audit events go and how much of them is kept.
    fn log(&self, paths: &Paths) -> Result<LogOptions, String> {
        let (path, (megabytes, backups, days)) = match self.get("audit-log-path") {
            Some(path) => (path.to_string(), NAMED_LOG),
            None => (paths.audit_log().display().to_string(), OWN_LOG),
        };
        let megabytes = self.number("audit-log-maxsize")?.unwrap_or(megabytes);
        let backups = self.number("audit-log-maxbackup")?.unwrap_or(backups);
        Ok(LogOptions {
            path,
            max_bytes: megabytes.saturating_mul(1 << 20),
            max_backups: usize::try_from(backups).unwrap_or(usize::MAX),
            max_age_days: self.number("audit-log-maxage")?.unwrap_or(days),
            legacy: self.get("audit-log-format") == Some("legacy"),
            compress: self.flag("audit-log-compress")?.unwrap_or(false),
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
        let audit = Audit::new(policy).log(log, self.sink("log")?);
        let audit = audit.map_err(|e| format!("{path}: {e}"))?;
        let Some(path) = self.get("audit-webhook-config-file") else {
            return Ok(audit);
        };
        let to = Arc::new(AuditWebhook::open(Path::new(path))?);
        Ok(audit.webhook(to, self.backoff()?, self.sink("webhook")?))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn args(all: &[(&str, &str)]) -> BTreeMap<String, String> {
        let text = |(k, v): &(&str, &str)| ((*k).to_string(), (*v).to_string());
        all.iter().map(text).collect()
    }

    #[test]
    fn the_log_is_bounded_unless_the_user_says_otherwise() {
        let paths = Paths::new(std::path::Path::new("/x"));
        let log = ApiArgs(&args(&[])).log(&paths).expect("the default");
        assert_eq!(
            (log.path.as_str(), log.max_bytes, log.max_backups),
            ("/x/audit/audit.log", 10 << 20, 4)
        );
        let given = args(&[("audit-log-path", "-"), ("audit-log-maxsize", "0")]);
        let log = ApiArgs(&given).log(&paths).expect("numbers");
        assert_eq!(
            (
                log.path.as_str(),
                log.max_bytes,
                log.max_backups,
                log.max_age_days
            ),
            ("-", 0, 100, 366)
        );
    }

    #[test]
    fn backends_are_told_as_upstream_is_told_them() {
        let given = args(&[
            ("audit-log-mode", "blocking-strict"),
            ("audit-log-truncate-enabled", "true"),
            ("audit-log-truncate-max-event-size", "1000"),
            ("audit-webhook-batch-max-wait", "5s"),
            ("audit-webhook-batch-throttle-qps", "0.5"),
        ]);
        let args_given = ApiArgs(&given);
        let log = args_given.sink("log").expect("options");
        assert_eq!(log.mode, Mode::BlockingStrict);
        let truncate = log.truncate.expect("sizes");
        assert_eq!(truncate.max_event_bytes, 1_000);
        assert_eq!(truncate.max_batch_bytes, 10 << 20);
        let webhook = args_given.sink("webhook").expect("options");
        assert_eq!(webhook.batch.max_wait, Duration::from_secs(5));
        assert_eq!(webhook.batch.throttle, Some((0.5, 15)));
        assert_eq!((webhook.batch.max_size, webhook.mode), (400, Mode::Batch));
        for (flag, value, why) in [
            (
                "audit-log-mode",
                "lazy",
                "invalid audit log mode lazy, allowed modes are \"batch,blocking,blocking-strict\"",
            ),
            (
                "audit-log-batch-buffer-size",
                "0",
                "invalid audit batch log buffer size 0, must be a positive number",
            ),
            (
                "audit-log-truncate-max-batch-size",
                "10",
                "invalid audit truncate log max batch size 10, must be greater than max event size (102400)",
            ),
            (
                "audit-log-batch-throttle-enable",
                "1",
                "invalid audit batch log throttle QPS 0, must be a positive number",
            ),
        ] {
            let given = args(&[(flag, value)]);
            let error = ApiArgs(&given).sink("log").expect_err("a mistake");
            assert_eq!(error, why);
        }
    }
}
