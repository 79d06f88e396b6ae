//! Commands in running containers, attaching to containers, and connections into a sandbox's network.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use cri::{
    AttachRequest, DuplexStream, Error, ErrorKind, ExecExit, ExecRequest, ExecSession,
    ExecSyncResponse, Reader, TerminalSize, Writer,
};
use tokio::io::AsyncReadExt;
use tokio::sync::{mpsc, oneshot};

use crate::Core;
use crate::client::{self, Call};
use crate::container::Container;
use crate::limits::EXEC_SYNC_BYTES_MAX;
use crate::plan::{ExecPlan, UserPlan};
use crate::protocol::{Reply, Request, Started};
use crate::sandbox::memory_file;
use crate::streams::{self, Terminal};

/// Sizes of a terminal that wait to be taken on.
const RESIZES_MAX: usize = 8;

/// A command that runs.
struct Command {
    call: Call,
    terminal: Option<OwnedFd>,
}

/// Our and the command's sides of its streams.
#[derive(Default)]
struct Pipes {
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    theirs: [Option<OwnedFd>; 3],
}

// === Pipes ===

impl Pipes {
    fn new(wanted: [bool; 3]) -> io::Result<Self> {
        let mut pipes = Self::default();
        if wanted[0] {
            let (read, write) = streams::pipe()?;
            (pipes.theirs[0], pipes.stdin) = (Some(read), Some(write));
        }
        for (at, ours) in [(1, &mut pipes.stdout), (2, &mut pipes.stderr)] {
            if wanted[at] {
                let (read, write) = streams::pipe()?;
                (pipes.theirs[at], *ours) = (Some(write), Some(read));
            }
        }
        Ok(pipes)
    }

    fn given(&self) -> [bool; 3] {
        [
            self.theirs[0].is_some(),
            self.theirs[1].is_some(),
            self.theirs[2].is_some(),
        ]
    }
}

// === Core ===

impl Core {
    /// Starts a command; an error where it cannot be run.
    async fn command(
        &self,
        container: &Container,
        command: Vec<String>,
        terminal: bool,
        pipes: &mut Pipes,
    ) -> Result<Command, Error> {
        let started = container.running()?;
        let plan = self.exec_plan(container, &started, command, terminal);
        let plan = memory_file("k0s-exec", &plan)?;
        let request = Request::Exec {
            container: container.record.id.clone(),
            terminal,
            streams: pipes.given(),
        };
        let theirs = std::mem::take(&mut pipes.theirs);
        let mut fds: Vec<BorrowedFd<'_>> = vec![plan.as_fd()];
        fds.extend(theirs.iter().flatten().map(AsFd::as_fd));
        let run = self.disk.sandbox_run(&container.record.sandbox);
        let call = Call::open(&run, &request, &fds).await?;
        drop(theirs);
        match call.answer().await? {
            (Reply::Started(_), fds) => Ok(Command {
                call,
                terminal: fds.into_iter().next(),
            }),
            (Reply::Failed { message }, _) => Err(Error::internal(format!(
                "failed to exec in container: failed to start exec: OCI runtime exec failed: exec failed: unable to start container process: {message}"
            ))),
            (other, _) => Err(Error::internal(format!(
                "keeper answers exec with {other:?}"
            ))),
        }
    }

    fn exec_plan(
        &self,
        container: &Container,
        started: &Started,
        command: Vec<String>,
        terminal: bool,
    ) -> ExecPlan {
        let mut process = container.record.process.clone();
        process.arguments = command;
        process.user = UserPlan::Known(started.user.clone());
        process.terminal = terminal;
        let has_term = process.environment.iter().any(|e| e.starts_with("TERM="));
        if terminal && !has_term {
            process.environment.push("TERM=xterm".into());
        }
        ExecPlan {
            cgroup_procs: self.cgroups.procs_files(&container.record.cgroup),
            process,
        }
    }

    pub(crate) async fn run_command(
        &self,
        id: &str,
        command: Vec<String>,
        timeout_seconds: i64,
    ) -> Result<ExecSyncResponse, Error> {
        let container = self.container(id)?;
        let mut pipes = Pipes::new([false, true, true]).map_err(broken)?;
        let command = self.command(&container, command, false, &mut pipes).await?;
        let whole = collect(&command.call, pipes);
        let seconds = u64::try_from(timeout_seconds).unwrap_or(0);
        if seconds == 0 {
            return whole.await;
        }
        if let Ok(done) = tokio::time::timeout(Duration::from_secs(seconds), whole).await {
            return done;
        }
        // Ended or not, nobody waits for it any more.
        let _ended = command
            .call
            .send(&Request::SignalExec { signal: 9 }, &[])
            .await;
        Err(Error::new(
            ErrorKind::DeadlineExceeded,
            format!(
                "failed to exec in container: timeout {seconds}s exceeded: context deadline exceeded"
            ),
        ))
    }

    pub(crate) async fn open_command(
        self: &Arc<Self>,
        request: ExecRequest,
    ) -> Result<ExecSession, Error> {
        let container = self.container(&request.container)?;
        let wanted = match request.tty {
            true => [false; 3],
            false => [request.stdin, request.stdout, request.stderr],
        };
        let mut pipes = Pipes::new(wanted).map_err(broken)?;
        let command = self
            .command(&container, request.command, request.tty, &mut pipes)
            .await?;
        let terminal = command.terminal.map(Terminal::new);
        let terminal = terminal.transpose().map_err(broken)?;
        let (stdin, stdout, stderr) = match &terminal {
            Some(t) => (
                request.stdin.then(|| Box::new(t.clone()) as Writer),
                request.stdout.then(|| Box::new(t.clone()) as Reader),
                None,
            ),
            None => ours(pipes).map_err(broken)?,
        };
        let (resize, mut sizes) = mpsc::channel::<TerminalSize>(RESIZES_MAX);
        let (mut told, exit) = oneshot::channel();
        let call = command.call;
        tokio::spawn(async move {
            let mut resizable = terminal.is_some();
            let exit = loop {
                tokio::select! {
                    answer = call.receive() => break exit_of(answer),
                    size = sizes.recv(), if resizable => match (size, &terminal) {
                        (Some(size), Some(terminal)) => {
                            if let Err(error) = terminal.resize(size) {
                                tracing::debug!(%error, "resize a terminal");
                            }
                        }
                        _ => resizable = false,
                    },
                    () = told.closed() => return,
                }
            };
            // Nobody may be left to hear it.
            let _unheard = told.send(exit);
        });
        Ok(ExecSession {
            stdin,
            stdout,
            stderr,
            resize,
            exit,
        })
    }

    pub(crate) async fn open_attach(
        self: &Arc<Self>,
        request: AttachRequest,
    ) -> Result<ExecSession, Error> {
        let container = self.container(&request.container)?;
        container.running()?;
        let tty = container.record.config.tty;
        let wanted = [request.stdin, request.stdout, request.stderr && !tty];
        let mut pipes = Pipes::new(wanted).map_err(broken)?;
        let id = container.record.id.clone();
        let run = self.disk.sandbox_run(&container.record.sandbox);
        let asked = Request::Attach {
            container: id.clone(),
            streams: pipes.given(),
        };
        let theirs = std::mem::take(&mut pipes.theirs);
        let fds: Vec<BorrowedFd<'_>> = theirs.iter().flatten().map(AsFd::as_fd).collect();
        let call = Call::open(&run, &asked, &fds).await?;
        drop(fds);
        drop(theirs);
        if let Reply::Failed { message } = call.answer().await?.0 {
            return Err(Error::internal(message));
        }
        let (stdin, stdout, stderr) = ours(pipes).map_err(broken)?;
        let (resize, mut sizes) = mpsc::channel::<TerminalSize>(RESIZES_MAX);
        let (mut told, exit) = oneshot::channel();
        tokio::spawn(async move {
            let mut resizable = tty;
            let exit = loop {
                tokio::select! {
                    answer = call.receive() => break exit_of(answer),
                    size = sizes.recv(), if resizable => match size {
                        Some(size) => {
                            let request = Request::Resize {
                                container: id.clone(),
                                width: size.width,
                                height: size.height,
                            };
                            if let Err(error) = client::ask(&run, &request).await {
                                tracing::debug!(%error, "resize a terminal");
                            }
                        }
                        None => resizable = false,
                    },
                    () = told.closed() => return,
                }
            };
            let _unheard = told.send(exit);
        });
        Ok(ExecSession {
            stdin,
            stdout,
            stderr,
            resize,
            exit,
        })
    }

    pub(crate) async fn open_port(
        self: &Arc<Self>,
        sandbox: &str,
        port: u16,
    ) -> Result<DuplexStream, Error> {
        let sandbox = self.sandbox(sandbox)?;
        if !*sandbox.alive.borrow() {
            let text = format!("sandbox container {:?} is not running", sandbox.id);
            return Err(Error::new(ErrorKind::FailedPrecondition, text));
        }
        let netns = sandbox.record.lock().netns.clone();
        let mut failures = Vec::new();
        for ip in [
            IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(Ipv6Addr::LOCALHOST),
        ] {
            match connect(netns.clone(), SocketAddr::new(ip, port)).await {
                Ok(stream) => return Ok(Box::new(stream)),
                Err(e) => failures.push(e),
            }
        }
        let place = netns.map_or_else(|| "host".to_owned(), |p| p.display().to_string());
        Err(Error::internal(format!(
            "failed to execute portforward in network namespace {place:?}: failed to connect to localhost:{port} inside namespace {:?}, IPv4: {} IPv6 {}",
            sandbox.id, failures[0], failures[1]
        )))
    }
}

/// Connects from within a network namespace: only the socket is made there.
async fn connect(
    netns: Option<std::path::PathBuf>,
    address: SocketAddr,
) -> Result<tokio::net::TcpStream, String> {
    let family = if address.is_ipv4() { "tcp4" } else { "tcp6" };
    let fail = move |e: io::Error| {
        let why = match e.kind() {
            io::ErrorKind::ConnectionRefused => "connect: connection refused".into(),
            _ => e.to_string(),
        };
        format!("dial {family} {address}: {why}")
    };
    let Some(netns) = netns else {
        return tokio::net::TcpStream::connect(address).await.map_err(fail);
    };
    let made = tokio::task::spawn_blocking(move || {
        let namespace = linux::netlink::namespace::open(&netns).map_err(|e| e.to_string())?;
        linux::netlink::namespace::run_in(namespace.as_fd(), || Ok(socket(address)))
            .map_err(|e| e.to_string())?
            .map_err(|e| e.to_string())
    });
    let socket = made.await.map_err(|e| e.to_string())??;
    let socket = tokio::net::TcpSocket::from_std_stream(std::net::TcpStream::from(socket));
    socket.connect(address).await.map_err(fail)
}

fn socket(address: SocketAddr) -> Result<OwnedFd, rustix::io::Errno> {
    let family = match address {
        SocketAddr::V4(_) => rustix::net::AddressFamily::INET,
        SocketAddr::V6(_) => rustix::net::AddressFamily::INET6,
    };
    let flags = rustix::net::SocketFlags::CLOEXEC | rustix::net::SocketFlags::NONBLOCK;
    rustix::net::socket_with(family, rustix::net::SocketType::STREAM, flags, None)
}

/// All output of a command, and its exit code. What its children write after its own end is not waited for.
async fn collect(call: &Call, pipes: Pipes) -> Result<ExecSyncResponse, Error> {
    let (Some(stdout), Some(stderr)) = (pipes.stdout, pipes.stderr) else {
        return Err(Error::internal("command without streams"));
    };
    let mut stdout = streams::reader(stdout).map_err(broken)?;
    let mut stderr = streams::reader(stderr).map_err(broken)?;
    let mut response = ExecSyncResponse::default();
    let (mut out_open, mut err_open) = (true, true);
    let (mut out_buffer, mut err_buffer) = ([0; 8192], [0; 8192]);
    let exit = loop {
        tokio::select! {
            n = stdout.read(&mut out_buffer), if out_open => {
                out_open = keep(&mut response.stdout, &out_buffer, n);
            }
            n = stderr.read(&mut err_buffer), if err_open => {
                err_open = keep(&mut response.stderr, &err_buffer, n);
            }
            answer = call.receive() => break exit_of(answer),
        }
    };
    for (pipe, kept) in [
        (&stdout, &mut response.stdout),
        (&stderr, &mut response.stderr),
    ] {
        drain(pipe, kept);
    }
    match exit {
        ExecExit::Code(code) => {
            response.exit_code = code;
            Ok(response)
        }
        ExecExit::Failed(message) => Err(Error::new(ErrorKind::Unavailable, message)),
    }
}

/// Keeps what was read, up to the bound; whether there may be more.
fn keep(kept: &mut Vec<u8>, buffer: &[u8], read: io::Result<usize>) -> bool {
    match read {
        Ok(0) | Err(_) => false,
        Ok(n) => {
            let room = EXEC_SYNC_BYTES_MAX.saturating_sub(kept.len());
            kept.extend_from_slice(&buffer[..n.min(room)]);
            true
        }
    }
}

/// Takes what is in a pipe now.
fn drain(pipe: &tokio::net::unix::pipe::Receiver, kept: &mut Vec<u8>) {
    let mut buffer = [0; 8192];
    loop {
        // Past tokio's readiness, which may not have heard of the last bytes yet.
        let read = rustix::io::read(pipe.as_fd(), &mut buffer).map_err(io::Error::from);
        if !keep(kept, &buffer, read) {
            return;
        }
    }
}

fn exit_of(answer: Result<Option<(Reply, Vec<OwnedFd>)>, Error>) -> ExecExit {
    match answer {
        Ok(Some((Reply::Exited { code, .. }, _))) => ExecExit::Code(code),
        Ok(Some((Reply::Failed { message }, _))) => ExecExit::Failed(message),
        Ok(Some((other, _))) => ExecExit::Failed(format!("keeper says {other:?}")),
        Ok(None) => ExecExit::Failed("the container's sandbox ended".into()),
        Err(e) => ExecExit::Failed(e.message),
    }
}

type Ours = (Option<Writer>, Option<Reader>, Option<Reader>);

fn ours(pipes: Pipes) -> io::Result<Ours> {
    let read = |fd: Option<OwnedFd>| -> io::Result<Option<Reader>> {
        let reader = fd.map(streams::reader).transpose()?;
        Ok(reader.map(|r| Box::new(r) as Reader))
    };
    let stdin = pipes.stdin.map(streams::writer).transpose()?;
    Ok((
        stdin.map(|w| Box::new(w) as Writer),
        read(pipes.stdout)?,
        read(pipes.stderr)?,
    ))
}

fn broken(e: io::Error) -> Error {
    Error::internal(format!("make streams: {e}"))
}
