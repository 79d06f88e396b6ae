//! `kubectl cp`: files and folders to and from containers, through `tar` within the container.
//! Upstream: kubectl/pkg/cmd/cp.

mod archive;
mod spec;

use clap::Args;
use tokio::sync::mpsc;

use self::spec::Spec;
use super::exec::{container, stream_query};
use super::{Command, Run};
use crate::builder::{self, Info};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::rest::Call;
use crate::streaming::{self, Outputs};

pub const COMMAND: Command = Command::of::<Flags>(
    "cp",
    &[],
    "Copy files and directories to and from containers",
);

const PROTOCOL: &str = "v5.channel.k8s.io";
/// Pieces of an archive that wait at once.
const PIECES: usize = 16;

/// Flags of `cp`.
#[derive(Clone, Debug, Args)]
pub struct Flags {
    words: Vec<String>,
    /// Container name
    #[arg(short, long)]
    container: Option<String>,
    /// The copied file/directory's ownership and permissions will not be preserved in the container
    #[arg(long)]
    no_preserve: bool,
    /// Number of retries to complete a copy operation from a container; only 0 is there yet
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    retries: i64,
}

impl Run for Flags {
    async fn run(self, cx: Context) -> Result<()> {
        let [source, target] = self.words.as_slice() else {
            return Err(Error::text("source and destination are required"));
        };
        if self.retries != 0 {
            return Err(Error::text("cp --retries is not there yet in this version"));
        }
        let (source, target) = (Spec::parse(source)?, Spec::parse(target)?);
        if source.path.is_empty() || target.path.is_empty() {
            return Err(Error::text("filepath can not be empty"));
        }
        match (&source.pod, &target.pod) {
            (Some(_), Some(_)) => Err(Error::text(
                "one of src or dest must be a local file specification",
            )),
            (Some(pod), None) => self.download(&cx, pod, &source, &target).await,
            (None, Some(pod)) => self.upload(&cx, pod, &source, &target).await,
            (None, None) => Err(Error::text(
                "one of src or dest must be a remote file specification",
            )),
        }
    }
}

// === Flags ===

impl Flags {
    async fn pod(&self, cx: &Context, spec: &Spec, name: &str) -> Result<Info> {
        let resource = cx.discovery().await?.resolve("pods")?.clone();
        let namespace = match &spec.namespace {
            Some(ns) => ns.clone(),
            None => cx.namespace()?,
        };
        let mut info = Info {
            resource,
            namespace: Some(namespace),
            name: name.to_string(),
            object: serde_json::Value::Null,
            source: String::new(),
        };
        info.object = info.read(cx).await?;
        builder::is_live(&info)?;
        Ok(info)
    }

    /// Runs a command in the pod.
    async fn run_there(
        &self,
        cx: &Context,
        pod: &Info,
        command: &[&str],
        input: Option<mpsc::Receiver<Vec<u8>>>,
        outputs: Outputs,
    ) -> Result<()> {
        let container = container(&pod.object, self.container.as_deref(), true)?;
        let mut call = Call::get(format!("{}/exec", pod.path()));
        for word in command {
            call = call.query("command", *word);
        }
        let call = stream_query(call, &container, input.is_some(), false);
        let socket = streaming::connect(cx.rest().await?, call, PROTOCOL).await?;
        streaming::piped_command(socket, input, outputs).await
    }

    async fn upload(&self, cx: &Context, name: &str, from: &Spec, to: &Spec) -> Result<()> {
        if std::fs::symlink_metadata(&from.path).is_err() {
            return Err(Error::text(format!(
                "{} doesn't exist in local filesystem",
                from.path
            )));
        }
        let pod = self.pod(cx, to, name).await?;
        // Said once, where the container is not named.
        container(&pod.object, self.container.as_deref(), false)?;
        let nothing = || Outputs {
            stdout: Box::new(tokio::io::sink()),
            stderr: Box::new(tokio::io::sink()),
        };
        let is_folder = self
            .run_there(cx, &pod, &["test", "-d", &to.path], None, nothing())
            .await
            .is_ok();
        let target = match is_folder {
            true => spec::join(&to.path, &spec::base(&from.path)),
            false => spec::clean(&to.path),
        };
        let mut command = vec!["tar"];
        if self.no_preserve {
            command.extend(["--no-same-permissions", "--no-same-owner"]);
        }
        command.extend(["-xmf", "-"]);
        let folder = spec::folder(&target);
        if !folder.is_empty() {
            command.extend(["-C", folder.as_str()]);
        }
        let (send, pieces) = mpsc::channel(PIECES);
        let (path, inside) = (from.path.clone(), spec::base(&target));
        let packing = tokio::task::spawn_blocking(move || archive::pack(&path, &inside, send));
        let outputs = Outputs {
            stdout: Box::new(tokio::io::stdout()),
            stderr: Box::new(tokio::io::stderr()),
        };
        let done = self
            .run_there(cx, &pod, &command, Some(pieces), outputs)
            .await;
        let packed = packing
            .await
            .map_err(|e| Error::text(format!("packing {} broke: {e}", from.path)))?;
        // What broke first is in the command's own words.
        done.and(packed)
    }

    async fn download(&self, cx: &Context, name: &str, from: &Spec, to: &Spec) -> Result<()> {
        let pod = self.pod(cx, from, name).await?;
        container(&pod.object, self.container.as_deref(), false)?;
        let prefix = spec::stripped(&from.path);
        let (there, here) = tokio::io::duplex(crate::limits::READ_BYTES);
        let target = to.path.clone();
        let reader = tokio_util::io::SyncIoBridge::new(there);
        let hint = format!(
            "kubectl exec -n {:?} {:?} -- tar cf - {:?} | tar xf -",
            pod.namespace.clone().unwrap_or_default(),
            pod.name,
            from.path
        );
        let unpacking =
            tokio::task::spawn_blocking(move || archive::unpack(reader, &prefix, &target, &hint));
        let outputs = Outputs {
            stdout: Box::new(here),
            stderr: Box::new(tokio::io::stdout()),
        };
        let command = ["tar", "cf", "-", &from.path];
        let done = self.run_there(cx, &pod, &command, None, outputs).await;
        let unpacked = unpacking
            .await
            .map_err(|e| Error::text(format!("unpacking to {} broke: {e}", to.path)))?;
        done.and(unpacked)
    }
}
