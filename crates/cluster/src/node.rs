//! A node from start to stop: the parts in their order, and the wait for a signal.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::config::ClusterConfig;
use crate::control_plane;
use crate::encryption::Keeper;
use crate::paths::Paths;
use crate::progress::Progress;
use crate::storage::Fatal;
use crate::{host, status, worker};

/// How long the parts may take to stop.
const STOP: Duration = Duration::from_secs(5);

/// What the command line says.
#[derive(Clone, Debug)]
pub struct Options {
    pub config: ClusterConfig,
    pub paths: Paths,
    pub single: bool,
    /// Whether this process runs workloads too.
    pub worker: bool,
    /// The worker profile this node takes; `None` is `default`.
    pub profile: Option<String>,
    pub args: Vec<String>,
    pub version: String,
}

/// Why a node does not start or cannot go on.
#[derive(Debug, thiserror::Error)]
#[error("{operation}: {why}")]
pub struct Error {
    operation: &'static str,
    why: String,
}

pub(crate) fn failed(operation: &'static str) -> impl Fn(&dyn std::fmt::Display) -> Error {
    move |why| Error {
        operation,
        why: why.to_string(),
    }
}

/// Runs a controller until SIGTERM or SIGINT.
pub async fn controller(options: Options) -> Result<(), Error> {
    let progress = Progress::begin();
    if let Err(error) = linux::host::raise_open_files() {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
    make_dirs(&options.paths)?;
    let (end, shutdown) = watch::channel(false);
    let mut plane = control_plane::start(&options, &progress).await?;
    let fatal = plane.fatal.take();
    let mut parts = JoinSet::new();
    control_plane::spawn(&plane, &options, &shutdown, &mut parts);
    let images = match options.worker {
        true => Some(worker::start(&plane, &options, &shutdown, &mut parts, &progress).await?),
        false => None,
    };
    let own = plane
        .server
        .client_for(auth::identity::node(&host::node_name()));
    let keys = plane.encryption.clone();
    let status_task = tokio::spawn(serve_status(options.clone(), images, own, keys));
    progress.ready("node", "press Ctrl-C to stop");
    let ended = wait(fatal).await;
    plane.server.leave();
    end.send_replace(true);
    stop(&mut parts).await;
    plane.server.drain().await;
    status_task.abort();
    // The next start removes a socket that is left behind.
    let _ = std::fs::remove_file(options.paths.status_socket());
    ended
}

async fn serve_status(
    options: Options,
    images: Option<oci::ImageStore>,
    client: client::Client,
    keys: Arc<Keeper>,
) {
    let socket = options.paths.status_socket();
    let node = status::Node {
        describe: Arc::new(move || describe(&options, &client)),
        images,
        keys: Some(keys),
    };
    if let Err(error) = status::serve(&socket, node).await {
        tracing::error!(%error, "the status socket is not served");
    }
}

/// Gives the parts a moment to end by themselves.
async fn stop(parts: &mut JoinSet<()>) {
    let all = async { while parts.join_next().await.is_some() {} };
    if tokio::time::timeout(STOP, all).await.is_err() {
        tracing::warn!("some parts did not stop in time");
        parts.abort_all();
    }
}

fn make_dirs(paths: &Paths) -> Result<(), Error> {
    let all = [
        (paths.data.clone(), 0o755),
        (paths.run.clone(), 0o755),
        (paths.data.join("db"), 0o750),
        (paths.data.join("audit"), 0o700),
        (paths.manifests(), 0o755),
        (paths.images(), 0o755),
    ];
    for (dir, mode) in all {
        pki::file::make_dir(&dir, mode).map_err(|e| failed("make the data directory")(&e))?;
    }
    Ok(())
}

/// What `k0s status -o json` prints, under k0s's names.
fn describe(options: &Options, client: &client::Client) -> Value {
    let problem = match options.worker {
        true => worker::problem(client),
        false => Some("this controller runs no worker".to_string()),
    };
    json!({
        "Version": options.version,
        "Pid": std::process::id(),
        "PPid": std::os::unix::process::parent_id(),
        "Role": "controller",
        "NodeName": host::node_name(),
        "SysInit": "",
        "StubFile": "",
        "Output": "",
        "Workloads": options.worker,
        "SingleNode": options.single,
        "Args": options.args,
        "WorkerToAPIConnectionStatus": {
            "Success": problem.is_none(),
            "Message": problem.unwrap_or_default(),
        },
        "ClusterConfig": options.config,
        "K0sVars": {
            "AdminKubeConfigPath": options.paths.admin_conf(),
            "CertRootDir": options.paths.pki(),
            "DataDir": options.paths.data,
            "RunDir": options.paths.run,
            "ManifestsDir": options.paths.manifests(),
            "OCIBundleDir": options.paths.images(),
            "StatusSocketPath": options.paths.status_socket(),
        },
    })
}

/// Waits for a signal, or for a store that cannot go on.
async fn wait(fatal: Fatal) -> Result<(), Error> {
    let signals = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    );
    let (Ok(mut term), Ok(mut int)) = signals else {
        return Err(failed("wait for signals")(&"no signal handler"));
    };
    let fatal = async {
        match fatal {
            Some(reason) => reason.await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = term.recv() => Ok(()),
        _ = int.recv() => Ok(()),
        reason = fatal => match reason {
            Ok(reason) => Err(failed("store")(&reason)),
            Err(_) => Err(failed("store")(&"the writer ended")),
        },
    }
}
