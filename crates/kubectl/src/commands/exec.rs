//! `kubectl exec`. Upstream: kubectl/pkg/cmd/exec.

use clap::Args;
use serde_json::Value;

use super::{Command, Run};
use crate::builder::{self, Info};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::object;
use crate::rest::Call;
use crate::streaming::{self, Streams};

pub const COMMAND: Command = Command::of::<Flags>("exec", &[], "Execute a command in a container");

const PROTOCOL: &str = "v5.channel.k8s.io";

/// Flags of `exec`.
#[derive(Clone, Debug, Args)]
pub struct Flags {
    target: String,
    /// Container name
    #[arg(short, long)]
    container: Option<String>,
    /// Pass stdin to the container
    #[arg(short = 'i', long)]
    stdin: bool,
    /// Stdin is a TTY
    #[arg(short, long)]
    tty: bool,
    /// Only print output from the remote session
    #[arg(short, long)]
    quiet: bool,
    /// The length of time to wait until at least one pod is running
    #[arg(long, default_value = "1m0s")]
    pod_running_timeout: String,
    #[arg(last = true)]
    command: Vec<String>,
}

impl Run for Flags {
    async fn run(self, cx: Context) -> Result<()> {
        if self.command.is_empty() {
            return Err(Error::text(
                "you must specify at least one command for the container",
            ));
        }
        let pod = pod_of(&cx, std::slice::from_ref(&self.target)).await?;
        builder::is_live(&pod)?;
        let container = container(&pod.object, self.container.as_deref(), self.quiet)?;
        let tty = terminal(self.tty, self.stdin);
        let mut call = Call::get(format!("{}/exec", pod.path()));
        for word in &self.command {
            call = call.query("command", word.clone());
        }
        let call = stream_query(call, &container, self.stdin, tty);
        let socket = streaming::connect(cx.rest().await?, call, PROTOCOL).await?;
        let streams = Streams {
            stdin: self.stdin,
            tty,
        };
        streaming::remote_command(socket, streams).await
    }
}

/// Whether a terminal is used: asked for, and there is one.
pub fn terminal(tty: bool, stdin: bool) -> bool {
    use std::io::IsTerminal;
    if tty && stdin && !std::io::stdin().is_terminal() {
        eprintln!("Unable to use a TTY - input is not a terminal or the right kind of file");
        return false;
    }
    tty
}

/// The parameters exec and attach share.
pub fn stream_query(call: Call, container: &str, stdin: bool, tty: bool) -> Call {
    let mut call = call.query("container", container).query("stdout", "true");
    if stdin {
        call = call.query("stdin", "true");
    }
    if tty {
        call.query("tty", "true")
    } else {
        call.query("stderr", "true")
    }
}

/// The container asked for, the annotated default, or the first.
pub fn container(pod: &Value, asked: Option<&str>, quiet: bool) -> Result<String> {
    let name = object::name(pod);
    let all: Vec<&str> = ["containers", "initContainers", "ephemeralContainers"]
        .iter()
        .flat_map(|l| object::items(pod, &format!("/spec/{l}")))
        .map(|c| object::text(c, "/name"))
        .collect();
    if let Some(asked) = asked {
        if all.contains(&asked) {
            return Ok(asked.to_string());
        }
        return Err(Error::text(format!(
            "container {asked} not found in pod {name}"
        )));
    }
    let default = pod["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"]
        .as_str()
        .filter(|d| all.contains(d));
    if let Some(default) = default {
        return Ok(default.to_string());
    }
    let first = all
        .first()
        .ok_or_else(|| Error::text(format!("pod {name} has no containers")))?;
    if all.len() > 1 && !quiet {
        eprintln!(
            "Defaulted container \"{first}\" out of: {}",
            named(pod).join(", ")
        );
    }
    Ok((*first).to_string())
}

/// The names of all containers, with what kind they are.
pub fn named(pod: &Value) -> Vec<String> {
    let mut out = Vec::new();
    for (list, mark) in [
        ("containers", ""),
        ("ephemeralContainers", " (ephem)"),
        ("initContainers", " (init)"),
    ] {
        let names = object::items(pod, &format!("/spec/{list}")).iter();
        out.extend(names.map(|c| format!("{}{mark}", object::text(c, "/name"))));
    }
    out
}

/// A pod by name, or the first running pod of a workload.
pub async fn pod_of(cx: &Context, args: &[String]) -> Result<Info> {
    let info = builder::one(cx, args, "pod").await?;
    if info.resource.kind == "Pod" {
        return Ok(info);
    }
    let mut pods = pods_of(cx, &info).await?;
    pods.sort_by_key(|p| object::text(&p.object, "/status/phase") != "Running");
    if pods.is_empty() {
        return Err(Error::text(format!("no pods found for {}", info.display())));
    }
    Ok(pods.remove(0))
}

/// The pods a workload or service selects.
pub async fn pods_of(cx: &Context, info: &Info) -> Result<Vec<Info>> {
    let selector = &info.object["spec"]["selector"];
    let labels = if selector["matchLabels"].is_object() {
        object::selector(&selector["matchLabels"])
    } else {
        object::selector(selector)
    };
    if labels.is_empty() {
        return Err(Error::text(format!(
            "cannot attach to {}: it selects no pods",
            info.display()
        )));
    }
    let pods = cx.discovery().await?.resolve("pods")?.clone();
    let call = Call::get(pods.path(info.namespace.as_deref())).query("labelSelector", labels);
    let list = cx.rest().await?.json(&call).await?;
    let info = |o: &Value| Info {
        resource: pods.clone(),
        namespace: info.namespace.clone(),
        name: object::name(o).to_string(),
        object: o.clone(),
        source: String::new(),
    };
    Ok(object::items(&list, "/items").iter().map(info).collect())
}
