//! `kubectl logs`. Upstream: kubectl/pkg/cmd/logs.

use clap::Args;
use futures::StreamExt;
use serde_json::Value;
use tokio::io::AsyncWriteExt;

use super::exec::{container, pods_of};
use super::{Command, Run};
use crate::builder::{self, Info, Narrow};
use crate::context::{Context, duration};
use crate::error::{Error, Result};
use crate::object;
use crate::rest::{Call, Rest};

pub const COMMAND: Command =
    Command::of::<Flags>("logs", &["log"], "Print the logs for a container in a pod");

/// Flags of `logs`.
#[derive(Clone, Debug, Args)]
pub struct Flags {
    target: Vec<String>,
    /// Print the logs of this container
    #[arg(short, long)]
    container: Option<String>,
    /// Specify if the logs should be streamed
    #[arg(short, long)]
    follow: bool,
    /// If true, print the logs for the previous instance of the container in a pod if it exists
    #[arg(short, long)]
    previous: bool,
    /// Include timestamps on each line in the log output
    #[arg(long)]
    timestamps: bool,
    /// Get all containers' logs in the pod(s)
    #[arg(long)]
    all_containers: bool,
    /// Get logs from all pod(s)
    #[arg(long)]
    all_pods: bool,
    /// Prefix each log line with the log source
    #[arg(long)]
    prefix: bool,
    /// Lines of recent log file to display
    #[arg(long, allow_negative_numbers = true)]
    tail: Option<i64>,
    /// Only return logs newer than a relative duration like 5s, 2m, or 3h
    #[arg(long)]
    since: Option<String>,
    /// Only return logs after a specific date (RFC3339)
    #[arg(long)]
    since_time: Option<String>,
    /// Maximum bytes of logs to return
    #[arg(long)]
    limit_bytes: Option<u64>,
    /// Selector (label query) to filter on
    #[arg(short = 'l', long, default_value = "", hide_default_value = true)]
    selector: String,
    /// If watching / following pod logs, allow for any errors that occur to be non-fatal
    #[arg(long)]
    ignore_errors: bool,
    /// Specify maximum number of concurrent logs to follow when using by a selector
    #[arg(long, default_value_t = 5)]
    max_log_requests: usize,
}

impl Run for Flags {
    async fn run(mut self, cx: Context) -> Result<()> {
        if self.target.len() == 2 && !self.target[0].contains('/') && self.container.is_none() {
            // The old form `logs POD CONTAINER`.
            self.container = self.target.pop();
        }
        let pods = self.pods(&cx).await?;
        let mut wanted: Vec<(Info, String)> = Vec::new();
        for pod in pods {
            for name in self.containers(&pod.object)? {
                wanted.push((pod.clone(), name));
            }
        }
        let prefix = self.prefix;
        let rest = cx.rest().await?;
        if !self.follow || wanted.len() == 1 {
            for (pod, name) in &wanted {
                self.copy(rest, pod, name, prefix).await?;
            }
            return Ok(());
        }
        if wanted.len() > self.max_log_requests {
            return Err(Error::text(format!(
                "you are attempting to follow {} log streams, but maximum allowed concurrency is {}, use --max-log-requests to increase the limit",
                wanted.len(),
                self.max_log_requests
            )));
        }
        let copies = wanted
            .iter()
            .map(|(pod, name)| self.copy(rest, pod, name, prefix));
        futures::future::try_join_all(copies).await.map(|_| ())
    }
}

// === Flags ===

impl Flags {
    async fn pods(&self, cx: &Context) -> Result<Vec<Info>> {
        if !self.selector.is_empty() {
            let pods = cx.discovery().await?.resolve("pods")?.clone();
            let narrow = Narrow {
                labels: self.selector.clone(),
                ..Narrow::default()
            };
            let found = builder::list(cx, &pods, &narrow).await?;
            if found.is_empty() {
                eprintln!("No resources found in {} namespace.", cx.namespace()?);
            }
            return Ok(found);
        }
        if self.target.is_empty() {
            return Err(Error::text(
                "expected 'logs [-f] [-p] (POD | TYPE/NAME) [-c CONTAINER]'.\nPOD or TYPE/NAME is a required argument for the logs command",
            ));
        }
        let named = builder::one(cx, &self.target, "pod").await;
        let info = named.map_err(|e| match &e {
            Error::Status { status, .. } if e.is_not_found() => Error::text(format!(
                "error from server (NotFound): {} in namespace \"{}\"",
                object::text(status, "/message"),
                cx.namespace().unwrap_or_default()
            )),
            _ => e,
        })?;
        if info.resource.kind == "Pod" {
            return Ok(vec![info]);
        }
        let mut pods = pods_of(cx, &info).await?;
        pods.sort_by_key(|p| object::text(&p.object, "/status/phase") != "Running");
        if pods.len() > 1 && !self.all_pods {
            eprintln!("Found {} pods, using pod/{}", pods.len(), pods[0].name);
            pods.truncate(1);
        }
        Ok(pods)
    }

    fn containers(&self, pod: &Value) -> Result<Vec<String>> {
        if !self.all_containers {
            let known = super::exec::named(pod);
            if let Some(asked) = &self.container
                && !known
                    .iter()
                    .any(|n| n.split(' ').next() == Some(asked.as_str()))
            {
                return Err(Error::text(format!(
                    "container {asked} is not valid for pod {} out of: {}",
                    object::name(pod),
                    known.join(", ")
                )));
            }
            return Ok(vec![container(pod, self.container.as_deref(), false)?]);
        }
        Ok(["initContainers", "containers", "ephemeralContainers"]
            .iter()
            .flat_map(|l| object::items(pod, &format!("/spec/{l}")))
            .map(|c| object::text(c, "/name").to_string())
            .collect())
    }

    fn call(&self, pod: &Info, container: &str) -> Result<Call> {
        let mut call = Call::get(format!("{}/log", pod.path())).query("container", container);
        call.accept = "*/*";
        for (set, name) in [
            (self.follow, "follow"),
            (self.previous, "previous"),
            (self.timestamps, "timestamps"),
        ] {
            if set {
                call = call.query(name, "true");
            }
        }
        let tail = match self.tail {
            None if !self.selector.is_empty() => Some(10),
            other => other.filter(|t| *t >= 0),
        };
        if let Some(lines) = tail {
            call = call.query("tailLines", lines.to_string());
        }
        if let Some(since) = &self.since {
            call = call.query(
                "sinceSeconds",
                duration(since)?.as_secs_f64().ceil().to_string(),
            );
        }
        if let Some(time) = &self.since_time {
            call = call.query("sinceTime", time.clone());
        }
        if let Some(bytes) = self.limit_bytes {
            call = call.query("limitBytes", bytes.to_string());
        }
        Ok(call)
    }

    async fn copy(&self, rest: &Rest, pod: &Info, container: &str, prefix: bool) -> Result<()> {
        let mut chunks = match rest.stream(&self.call(pod, container)?).await {
            Err(e) if self.ignore_errors => {
                eprintln!("{e}");
                return Ok(());
            }
            other => other?,
        };
        let mut stdout = tokio::io::stdout();
        let mut at_start = true;
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk?;
            if !prefix {
                stdout.write_all(&chunk).await?;
                stdout.flush().await?;
                continue;
            }
            for line in chunk.split_inclusive(|b| *b == b'\n') {
                if at_start {
                    let head = format!("[pod/{}/{container}] ", pod.name);
                    stdout.write_all(head.as_bytes()).await?;
                }
                stdout.write_all(line).await?;
                at_start = line.ends_with(b"\n");
            }
            stdout.flush().await?;
        }
        stdout.flush().await?;
        Ok(())
    }
}
