//! `kubectl run`: one pod. `--attach`, `-i` and `--rm` follow it.

use clap::Args;
use futures::StreamExt;
use serde_json::{Value, json};

use super::{Command, Run};
use crate::builder::Info;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::object;
use crate::output::{DryRun, Output};
use crate::rest::{Call, Rest};
use crate::streaming::{self, Streams};

pub const COMMAND: Command =
    Command::of::<Flags>("run", &[], "Run a particular image on the cluster");

/// Flags of `run`.
#[derive(Clone, Debug, Args)]
pub struct Flags {
    name: String,
    /// The image for the container to run
    #[arg(long)]
    image: String,
    #[command(flatten)]
    output: Output,
    /// Environment variables to set in the container
    #[arg(long)]
    env: Vec<String>,
    /// Comma separated labels to apply to the pod
    #[arg(short, long, value_delimiter = ',')]
    labels: Vec<String>,
    /// Annotations to apply to the pod
    #[arg(long)]
    annotations: Vec<String>,
    /// The port that this container exposes
    #[arg(long)]
    port: Option<u16>,
    /// The restart policy for this Pod
    #[arg(long, default_value = "Always")]
    restart: String,
    /// The image pull policy for the container
    #[arg(long)]
    image_pull_policy: Option<String>,
    /// An inline JSON override for the generated object
    #[arg(long)]
    overrides: Option<String>,
    /// If true, use extra arguments as the 'command' field in the container
    #[arg(long)]
    command: bool,
    /// Keep stdin open on the container in the pod
    #[arg(short = 'i', long)]
    stdin: bool,
    /// Allocate a TTY for the container in the pod
    #[arg(short, long)]
    tty: bool,
    /// If true, wait for the Pod to start running, and then attach to the Pod
    #[arg(long)]
    attach: bool,
    /// If true, delete the pod after it exits
    #[arg(long)]
    rm: bool,
    /// If true, suppress prompt messages
    #[arg(short, long)]
    quiet: bool,
    /// If true, create a ClusterIP service associated with the pod
    #[arg(long)]
    expose: bool,
    /// The length of time to wait until at least one pod is running
    #[arg(long, default_value = "1m0s")]
    pod_running_timeout: String,
    /// If true, run the container in privileged mode
    #[arg(long)]
    privileged: bool,
    #[arg(last = true)]
    args: Vec<String>,
}

impl Run for Flags {
    async fn run(self, cx: Context) -> Result<()> {
        let attach = self.attach || self.stdin;
        if self.rm && !attach {
            return Err(Error::text(
                "--rm should only be used for attached containers",
            ));
        }
        let service = self.service()?;
        let info = super::create::generated(&cx, self.pod()?)?;
        let mut created = info.object.clone();
        let dry = self.output.dry_run()?;
        if dry != DryRun::Client {
            let mut call = Call::new("POST", info.resource.path(info.namespace.as_deref()))
                .json(&info.object)
                .query("fieldManager", "kubectl-run");
            if dry == DryRun::Server {
                call = call.query("dryRun", "All");
            }
            created = cx.rest().await?.json(&call).await?;
        }
        if let Some(service) = service {
            self.output.print(&info, &created, "created")?;
            return self.expose(&cx, service).await;
        }
        if !attach || dry != DryRun::No {
            return self.output.print(&info, &created, "created");
        }
        let result = self.follow(&cx, &info).await;
        if self.rm {
            cx.rest()
                .await?
                .json(&Call::new("DELETE", info.path()))
                .await?;
            if !self.quiet {
                let ns = info.namespace.as_deref().unwrap_or_default();
                println!("pod \"{}\" deleted from {ns} namespace", info.name);
            }
        }
        result
    }
}

// === Flags ===

impl Flags {
    /// The service of `--expose`.
    fn service(&self) -> Result<Option<Value>> {
        if !self.expose {
            return Ok(None);
        }
        let Some(port) = self.port else {
            return Err(Error::text("--port must be set when exposing a service"));
        };
        let labels = self.pod()?["metadata"]["labels"].clone();
        let mut service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": self.name},
            "spec": {"ports": [{"port": port, "protocol": "TCP", "targetPort": port}], "selector": labels},
            "status": {"loadBalancer": {}}});
        if !self.labels.is_empty() {
            service["metadata"]["labels"] = labels;
        }
        Ok(Some(service))
    }

    async fn expose(&self, cx: &Context, service: Value) -> Result<()> {
        let info = super::create::generated(cx, service)?;
        if matches!(self.output.output.as_deref(), Some("yaml")) {
            println!("---");
        }
        let dry = self.output.dry_run()?;
        let mut done = info.object.clone();
        if dry != DryRun::Client {
            let mut call = Call::new("POST", info.resource.path(info.namespace.as_deref()))
                .json(&info.object)
                .query("fieldManager", "kubectl-run");
            if dry == DryRun::Server {
                call = call.query("dryRun", "All");
            }
            done = cx.rest().await?.json(&call).await?;
        }
        self.output.print(&info, &done, "created")
    }

    fn pod(&self) -> Result<Value> {
        let mut container = json!({"name": self.name, "image": self.image, "resources": {}});
        if !self.args.is_empty() {
            container[if self.command { "command" } else { "args" }] = json!(self.args);
        }
        let mut env = Vec::new();
        for pair in &self.env {
            let Some((name, value)) = pair.split_once('=') else {
                return Err(Error::text(format!("invalid env: {pair}")));
            };
            env.push(json!({"name": name, "value": value}));
        }
        if !env.is_empty() {
            container["env"] = env.into();
        }
        if let Some(port) = self.port {
            container["ports"] = json!([{"containerPort": port}]);
        }
        if let Some(policy) = &self.image_pull_policy {
            container["imagePullPolicy"] = policy.clone().into();
        }
        if self.stdin {
            container["stdin"] = true.into();
            container["stdinOnce"] = true.into();
        }
        if self.tty {
            container["tty"] = true.into();
        }
        if self.privileged {
            container["securityContext"] = json!({"privileged": true});
        }
        let mut pod = json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": self.name, "labels": {"run": self.name}},
            "spec": {"containers": [container], "restartPolicy": self.restart, "dnsPolicy": "ClusterFirst"},
            "status": {}});
        if !self.labels.is_empty() {
            pod["metadata"]["labels"] = json!({});
        }
        for (words, field) in [(&self.labels, "labels"), (&self.annotations, "annotations")] {
            for pair in words {
                let (k, v) = pair.split_once('=').unwrap_or((pair, ""));
                pod["metadata"][field][k] = v.into();
            }
        }
        if let Some(text) = &self.overrides {
            let patched = machinery::patch::merge_patch(&pod, text.as_bytes());
            pod = patched.map_err(|e| Error::text(format!("Invalid overrides: {e}")))?;
        }
        Ok(pod)
    }

    /// Waits until the pod runs or has run, then attaches, or prints its log.
    async fn follow(&self, cx: &Context, info: &Info) -> Result<()> {
        let rest = cx.rest().await?;
        let watch = Call::get(info.resource.path(info.namespace.as_deref()))
            .query("watch", "true")
            .query("fieldSelector", format!("metadata.name={}", info.name));
        let mut events = rest.watch(&watch).await?;
        let mut phase = String::new();
        while !["Running", "Succeeded", "Failed"].contains(&phase.as_str()) {
            let Some(event) = events.next().await else {
                return Err(Error::text("the watch ended before the pod ran"));
            };
            phase = object::text(&event?, "/object/status/phase").to_string();
        }
        drop(events);
        if phase != "Running" {
            let log = rest
                .text(&Call::get(format!("{}/log", info.path())))
                .await?;
            print!("{log}");
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
            tty: super::exec::terminal(self.tty, self.stdin),
        };
        attach(rest, info, &self.name, streams).await
    }
}

/// Attaches to a container; where it ended meanwhile, its log tells what it said.
pub async fn attach(rest: &Rest, pod: &Info, container: &str, streams: Streams) -> Result<()> {
    let call = Call::get(format!("{}/attach", pod.path()));
    let call = super::exec::stream_query(call, container, streams.stdin, streams.tty);
    let e = match streaming::connect(rest, call, "v5.channel.k8s.io").await {
        Ok(socket) => return streaming::remote_command(socket, streams).await,
        Err(e) => e.to_string(),
    };
    eprintln!(
        "warning: couldn't attach to pod/{}, falling back to streaming logs: {}",
        pod.name,
        e.trim_start_matches("error: ")
    );
    let log = Call::get(format!("{}/log", pod.path()))
        .query("container", container)
        .query("follow", "true");
    let mut chunks = rest.stream(&log).await?;
    while let Some(chunk) = chunks.next().await {
        use std::io::Write;
        std::io::stdout().write_all(&chunk?)?;
    }
    Ok(())
}
