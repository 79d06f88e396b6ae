//! A command whose exit code answers. Upstream: pkg/probe/exec.

use std::time::Duration;

use cri::{ErrorKind, Runtime};

use super::Outcome;
use crate::limits;
use crate::restart::go_duration;

/// Runs a command in a container; exit code 0 is success.
pub async fn probe(
    runtime: &dyn Runtime,
    id: &str,
    command: Vec<String>,
    limit: Duration,
) -> Outcome {
    let text = command.join(" ");
    let seconds = i64::try_from(limit.as_secs()).unwrap_or(1);
    let timed_out = || {
        Outcome::Failure(format!(
            "command timed out: {text:?} timed out after {}",
            go_duration(limit)
        ))
    };
    // The runtime enforces the timeout; the second bound is for a runtime that hangs.
    let call = runtime.exec_sync(id, command, seconds);
    match tokio::time::timeout(limit + Duration::from_secs(2), call).await {
        Err(_) => timed_out(),
        Ok(Err(e)) if e.kind == ErrorKind::DeadlineExceeded => timed_out(),
        Ok(Err(e)) => Outcome::Error(e.to_string()),
        Ok(Ok(done)) if done.exit_code == 0 => Outcome::Success,
        Ok(Ok(mut done)) => {
            done.stdout.extend_from_slice(&done.stderr);
            done.stdout.truncate(limits::PROBE_BODY);
            Outcome::Failure(String::from_utf8_lossy(&done.stdout).into_owned())
        }
    }
}
