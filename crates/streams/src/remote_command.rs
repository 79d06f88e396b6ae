//! Exec and attach. Upstream: apimachinery remotecommand, cri-streaming.

use cri::{ExecExit, Reader, TerminalSize, Writer};

/// Which streams the client asked for (`stdin`, `stdout`, `stderr`, `tty` of the query).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub tty: bool,
}

/// The client's ends of the streams.
pub struct RemoteStreams {
    /// What the client types.
    pub stdin: Option<Reader>,
    pub stdout: Option<Writer>,
    /// `None` with a terminal.
    pub stderr: Option<Writer>,
    pub resize: tokio::sync::mpsc::Receiver<TerminalSize>,
    /// Tells the client how it ended; sent once, then the connection is closed.
    pub exit: tokio::sync::oneshot::Sender<ExecExit>,
}
