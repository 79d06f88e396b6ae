//! `kubectl debug`: a container beside those of a running pod. Upstream: kubectl/pkg/cmd/debug.
//! Copies of pods (`--copy-to`) and nodes are not there yet.

use clap::Args;
use futures::StreamExt;
use serde_json::{Value, json};

use super::exec::terminal;
use super::{Command, Run};
use crate::builder::{self, Info};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::object;
use crate::rest::Call;
use crate::streaming::Streams;

pub const COMMAND: Command = Command::of::<Flags>(
    "debug",
    &[],
    "Create debugging sessions for troubleshooting workloads and nodes",
);

/// Letters of a name that is made up.
const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// Flags of `debug`.
#[derive(Clone, Debug, Args)]
pub struct Flags {
    words: Vec<String>,
    /// Container image to use for debug container
    #[arg(long)]
    image: Option<String>,
    /// Container name to use for debug container
    #[arg(short, long)]
    container: Option<String>,
    /// Target processes in this container name
    #[arg(long)]
    target: Option<String>,
    /// Environment variables to set in the container
    #[arg(long, value_delimiter = ',')]
    env: Vec<String>,
    /// The image pull policy for the container
    #[arg(long)]
    image_pull_policy: Option<String>,
    /// Options are "general", "baseline", "restricted", "netadmin" or "sysadmin"
    #[arg(long, default_value = "general")]
    profile: String,
    /// If true, wait for the container to start running, and then attach; the default with --stdin
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    attach: Option<bool>,
    /// Keep stdin open on the container in the pod, even if nothing is attached
    #[arg(short = 'i', long)]
    stdin: bool,
    /// Allocate a TTY for the debugging container
    #[arg(short, long)]
    tty: bool,
    /// If true, suppress informational messages
    #[arg(short, long)]
    quiet: bool,
    /// Everything after -- will be passed to the new container as Args instead of Command
    #[arg(long)]
    arguments_only: bool,
    /// Create a copy of the target Pod with this name; not there yet
    #[arg(long)]
    copy_to: Option<String>,
    #[arg(last = true)]
    args: Vec<String>,
}

impl Run for Flags {
    async fn run(self, cx: Context) -> Result<()> {
        if self.copy_to.is_some() {
            return Err(Error::text(
                "debug --copy-to is not there yet in this version",
            ));
        }
        if self.words.is_empty() {
            return Err(Error::text("NAME or filename is required for debug"));
        }
        let Some(image) = &self.image else {
            return Err(Error::text(
                "you must specify --image when not using --copy-to.",
            ));
        };
        if self.tty && !self.stdin {
            return Err(Error::text(
                "-i/--stdin is required for containers with -t/--tty=true",
            ));
        }
        if let (Some(target), false) = (&self.target, self.quiet) {
            println!(
                "Targeting container \"{target}\". If you don't see processes from this container it may be because the container runtime doesn't support this feature."
            );
        }
        let pod = builder::one(&cx, &self.words, "pod").await?;
        if pod.resource.kind == "Node" {
            return Err(Error::text(
                "debugging of nodes is not there yet in this version",
            ));
        }
        if pod.resource.kind != "Pod" {
            return Err(Error::text(format!(
                "\"{}, Kind={}\" not supported by debug",
                pod.resource.api_version(),
                pod.resource.kind
            )));
        }
        let name = self.name(&pod)?;
        let patch = json!({"spec": {"ephemeralContainers": [self.debugger(&name, image)?]}});
        let call = Call::new("PATCH", format!("{}/ephemeralcontainers", pod.path())).body(
            "application/strategic-merge-patch+json",
            patch.to_string().into_bytes(),
        );
        cx.rest().await?.json(&call).await?;
        if !self.attach.unwrap_or(self.stdin) {
            return Ok(());
        }
        self.follow(&cx, &pod, &name).await
    }
}

// === Flags ===

impl Flags {
    /// The name asked for, or one that no container of the pod has.
    fn name(&self, pod: &Info) -> Result<String> {
        if let Some(name) = &self.container {
            return Ok(name.clone());
        }
        let taken = super::exec::named(&pod.object);
        loop {
            let name = format!("debugger-{}", random()?);
            if !taken.iter().any(|t| t.split(' ').next() == Some(&name)) {
                if !self.quiet {
                    println!("Defaulting debug container name to {name}.");
                }
                return Ok(name);
            }
        }
    }

    fn debugger(&self, name: &str, image: &str) -> Result<Value> {
        let mut container = json!({"name": name, "image": image,
            "terminationMessagePolicy": "File", "resources": {}});
        if let Some(target) = &self.target {
            container["targetContainerName"] = target.clone().into();
        }
        if let Some(policy) = &self.image_pull_policy {
            container["imagePullPolicy"] = policy.clone().into();
        }
        if self.stdin {
            container["stdin"] = true.into();
        }
        if self.tty {
            container["tty"] = true.into();
        }
        if !self.args.is_empty() {
            let field = if self.arguments_only {
                "args"
            } else {
                "command"
            };
            container[field] = json!(self.args);
        }
        let mut env = Vec::new();
        for pair in &self.env {
            let (name, value) = pair
                .split_once('=')
                .ok_or_else(|| Error::text(format!("invalid env: {pair}")))?;
            env.push(json!({"name": name, "value": value}));
        }
        if !env.is_empty() {
            container["env"] = env.into();
        }
        match profile(&self.profile)? {
            Value::Null => {}
            context => container["securityContext"] = context,
        }
        Ok(container)
    }

    /// Waits until the container runs or has run, then attaches, or prints its log.
    async fn follow(&self, cx: &Context, pod: &Info, name: &str) -> Result<()> {
        let rest = cx.rest().await?;
        let watch = Call::get(pod.resource.path(pod.namespace.as_deref()))
            .query("watch", "true")
            .query("fieldSelector", format!("metadata.name={}", pod.name));
        let mut events = rest.watch(&watch).await?;
        let running = loop {
            let Some(event) = events.next().await else {
                return Err(Error::text("the watch ended before the container ran"));
            };
            let event = event?;
            let statuses = object::items(&event, "/object/status/ephemeralContainerStatuses");
            let Some(own) = statuses.iter().find(|s| s["name"] == name) else {
                continue;
            };
            if !own["state"]["running"].is_null() {
                break true;
            }
            if !own["state"]["terminated"].is_null() {
                break false;
            }
        };
        drop(events);
        if !running {
            let log = Call::get(format!("{}/log", pod.path())).query("container", name);
            print!("{}", rest.text(&log).await?);
            return Ok(());
        }
        if !self.quiet && self.stdin {
            eprintln!(
                "All commands and output from this session will be recorded in container logs, including credentials and sensitive information passed through the command prompt."
            );
            eprintln!("If you don't see a command prompt, try pressing enter.");
        }
        let streams = Streams {
            stdin: self.stdin,
            tty: terminal(self.tty, self.stdin),
        };
        super::run::attach(rest, pod, name, streams).await
    }
}

/// What a profile lets the container do.
fn profile(name: &str) -> Result<Value> {
    let adds = |all: &[&str]| json!({"capabilities": {"add": all}});
    Ok(match name {
        "general" => adds(&["SYS_PTRACE"]),
        "baseline" => Value::Null,
        "restricted" => json!({"allowPrivilegeEscalation": false, "runAsNonRoot": true,
            "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"}}),
        "netadmin" => adds(&["NET_ADMIN", "NET_RAW"]),
        "sysadmin" => json!({"privileged": true}),
        other => return Err(Error::text(format!("unknown profile: {other}"))),
    })
}

fn random() -> Result<String> {
    use std::io::Read;
    let mut bytes = [0u8; 5];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    let letter = |b: u8| char::from(LETTERS[usize::from(b) % LETTERS.len()]);
    Ok(bytes.into_iter().map(letter).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_say_what_a_debugger_may_do() {
        assert_eq!(
            profile("general").unwrap()["capabilities"]["add"],
            json!(["SYS_PTRACE"])
        );
        assert_eq!(profile("sysadmin").unwrap()["privileged"], true);
        assert!(profile("root").is_err());
        assert_eq!(random().unwrap().len(), 5);
    }
}
