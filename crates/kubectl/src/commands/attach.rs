//! `kubectl attach`.

use clap::Args;

use super::exec::{container, pod_of, stream_query, terminal};
use super::{Command, Run};
use crate::context::Context;
use crate::error::Result;
use crate::rest::Call;
use crate::streaming::{self, Streams};

pub const COMMAND: Command = Command::of::<Flags>("attach", &[], "Attach to a running container");

/// Flags of `attach`.
#[derive(Clone, Debug, Args)]
pub struct Flags {
    #[arg(required = true)]
    target: Vec<String>,
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
}

impl Run for Flags {
    async fn run(self, cx: Context) -> Result<()> {
        let pod = pod_of(&cx, &self.target).await?;
        let container = container(&pod.object, self.container.as_deref(), self.quiet)?;
        let tty = terminal(self.tty, self.stdin);
        if !self.quiet && self.stdin && tty {
            eprintln!("If you don't see a command prompt, try pressing enter.");
        }
        let call = Call::get(format!("{}/attach", pod.path()));
        let call = stream_query(call, &container, self.stdin, tty);
        let socket = streaming::connect(cx.rest().await?, call, "v5.channel.k8s.io").await?;
        let streams = Streams {
            stdin: self.stdin,
            tty,
        };
        streaming::remote_command(socket, streams).await
    }
}
