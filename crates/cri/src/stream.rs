//! Streams of exec, attach and port-forward.

use tokio::io::{AsyncRead, AsyncWrite};

/// A byte stream both ways.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A boxed two-way stream.
pub type DuplexStream = Box<dyn Duplex>;
/// A boxed reader.
pub type Reader = Box<dyn AsyncRead + Send + Unpin>;
/// A boxed writer.
pub type Writer = Box<dyn AsyncWrite + Send + Unpin>;

/// Which command to run with which streams.
#[derive(Clone, Debug, Default)]
pub struct ExecRequest {
    pub container: String,
    pub command: Vec<String>,
    pub tty: bool,
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

/// Which streams of a running container to connect.
#[derive(Clone, Debug, Default)]
pub struct AttachRequest {
    pub container: String,
    pub tty: bool,
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

/// Size of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TerminalSize {
    pub width: u16,
    pub height: u16,
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExecExit {
    /// The command's exit code (128 + signal where it was killed).
    Code(i32),
    /// It could not be run; the text is what the user is told.
    Failed(String),
}

/// A running exec or attach. Dropping it disconnects the streams; an exec'd command then gets
/// SIGHUP or a closed stdin, an attached container goes on.
pub struct ExecSession {
    pub stdin: Option<Writer>,
    pub stdout: Option<Reader>,
    /// `None` with a terminal.
    pub stderr: Option<Reader>,
    /// New sizes of the terminal.
    pub resize: tokio::sync::mpsc::Sender<TerminalSize>,
    /// Resolves when the command ended (exec) or the container ended or was detached (attach).
    pub exit: tokio::sync::oneshot::Receiver<ExecExit>,
}

/// Collected output of a command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecSyncResponse {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub exit_code: i32,
}
