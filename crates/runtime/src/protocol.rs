//! What daemon, keeper and stages say to each other: one JSON message a packet. Old keepers live on under
//! new daemons, so messages only ever gain variants and optional fields.

use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::plan::User;

/// Name of a keeper's socket in its sandbox's run directory.
pub const SOCKET: &str = "keeper.sock";

/// Daemon to keeper; one a connection, followed by `More` of the same kind of session.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Request {
    /// Starts a container; carries the plan. Answered with `Started` or `Failed`.
    Start(StartRequest),
    /// Runs a command in a container; carries the plan and the streams that are given. Answered with
    /// `Started` (with the terminal, if one was asked for) or `Failed`, then with `Exited`.
    Exec {
        container: String,
        terminal: bool,
        /// Which of stdin, stdout, stderr come along.
        streams: [bool; 3],
    },
    /// Sends a signal to the command of this connection.
    SignalExec { signal: i32 },
    /// Connects streams (carried) to a container's. Answered with `Done` or `Failed`, then with `Exited`.
    Attach {
        container: String,
        streams: [bool; 3],
    },
    /// New size of a container's terminal.
    Resize {
        container: String,
        width: u16,
        height: u16,
    },
    /// Sends a signal to a container's first process.
    Signal { container: String, signal: i32 },
    /// Opens the log file anew.
    Reopen { container: String },
    /// `Done` now, then `Exited` for every container that ends.
    Watch,
    /// Kills all containers and ends, once their exits are on disk.
    Shutdown,
}

/// What a keeper must know of a container beyond its plan.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StartRequest {
    pub container: String,
    /// Where `started.json` and `exit.json` are written.
    pub state: PathBuf,
    /// `None`: output is not kept.
    pub log: Option<PathBuf>,
    pub terminal: bool,
    pub stdin: bool,
    pub stdin_once: bool,
    pub pid: PidSource,
    /// Directories of the cgroup, to end what its first process leaves behind.
    pub cgroup: Vec<PathBuf>,
    /// Counts OOM kills.
    pub oom: Option<PathBuf>,
}

/// The process id namespace a container gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PidSource {
    New,
    Host,
    Sandbox,
    Container(String),
}

/// Keeper to daemon.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Reply {
    Done,
    Failed { message: String },
    Started(Started),
    Exited { container: String, code: i32 },
}

/// What is known of a container that runs. Also the file `started.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    pub pid: i32,
    /// Nanoseconds since the epoch.
    pub started_at: i64,
    pub user: User,
    /// What could not be done and is no reason to fail.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// How a container ended. Also the file `exit.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    pub code: i32,
    /// Nanoseconds since the epoch.
    pub finished_at: i64,
    /// Processes that the OOM killer took.
    #[serde(default)]
    pub oom_kills: u64,
    /// Set where it did not simply end: `StartError`, `Unknown`.
    #[serde(default)]
    pub reason: String,
    #[serde(default)]
    pub message: String,
}

/// Keeper to stage, with the plan, the given streams and the namespace (in this order) as descriptors.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct StageInput {
    pub exec: bool,
    pub streams: [bool; 3],
    /// A pid namespace, or for `exec` the pidfd of the container's first process.
    pub namespace: bool,
}

/// Stage to keeper.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum StageMessage {
    /// The process that will become the command.
    Pid {
        pid: i32,
    },
    /// Carries the master side of the terminal.
    Terminal,
    /// All is ready; what follows is the command's program, or `Failed`.
    Ready {
        user: User,
        warnings: Vec<String>,
    },
    Failed {
        message: String,
    },
}

/// A keeper's first words on its standard output.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum KeeperReady {
    Ready,
    Failed { message: String },
}

/// A message as bytes.
pub fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    // Maps have string keys and nothing here can fail to be written.
    serde_json::to_vec(message).unwrap_or_default()
}

/// A message from bytes.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice(bytes)
}
