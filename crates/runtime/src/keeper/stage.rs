//! Starting stages and following them until a container or command runs.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use linux::packet;
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, PidfdFlags};

use super::Keeper;
use super::container::{Container, Output, set_nonblocking};
use super::log::{Log, Stream};
use super::serve::not_running;
use crate::limits::MESSAGE_BYTES_MAX;
use crate::plan::User;
use crate::protocol::{self, PidSource, Reply, StageInput, StageMessage, StartRequest, Started};

/// A container or command on its way.
pub struct Stage {
    pub socket: OwnedFd,
    connection: u64,
    purpose: Purpose,
    pid: Option<i32>,
    ready: Option<(User, Vec<String>)>,
    failed: Option<String>,
    terminal: Option<OwnedFd>,
}

enum Purpose {
    Start(Box<StartRequest>, Ours),
    Exec,
}

/// Our sides of a container's streams.
#[derive(Default)]
struct Ours {
    stdin: Option<OwnedFd>,
    outputs: Vec<Output>,
}

// === Stage ===

impl Stage {
    /// Starts a container; the answer is sent when it runs or has failed.
    pub fn start(
        keeper: &mut Keeper,
        connection: u64,
        request: StartRequest,
        fds: Vec<OwnedFd>,
    ) -> Result<(), String> {
        let plan = fds.into_iter().next().ok_or("no plan was sent")?;
        if keeper.ending {
            return Err("the sandbox is being stopped".into());
        }
        let namespace = match &request.pid {
            PidSource::New | PidSource::Host => None,
            PidSource::Sandbox => {
                let pause = keeper.pause.as_ref();
                let pause = pause.ok_or("the sandbox has no pid namespace of its own")?;
                Some(pause.namespace.try_clone().map_err(|e| e.to_string())?)
            }
            PidSource::Container(target) => {
                let path = format!("/proc/{}/ns/pid", keeper.running(target)?);
                Some(
                    fs::File::open(&path)
                        .map_err(|e| format!("open {path}: {e}"))?
                        .into(),
                )
            }
        };
        let (ours, theirs) = streams(&request).map_err(|e| format!("make streams: {e}"))?;
        let socket = spawn(false, &plan, &theirs, namespace.as_ref())?;
        keeper.add_stage(socket, connection, Purpose::Start(Box::new(request), ours));
        Ok(())
    }

    /// Runs a command in a container.
    pub fn exec(
        keeper: &mut Keeper,
        connection: u64,
        container: &str,
        terminal: bool,
        given: [bool; 3],
        fds: Vec<OwnedFd>,
    ) -> Result<(), String> {
        let mut fds = fds.into_iter();
        let plan = fds.next().ok_or("no plan was sent")?;
        let pid = keeper.running(container)?;
        let mut streams = [None, None, None];
        for (stream, given) in streams.iter_mut().zip(given) {
            if given && !terminal {
                *stream = Some(fds.next().ok_or("a stream is missing")?);
            }
        }
        let pid = Pid::from_raw(pid).ok_or_else(|| not_running(container))?;
        let first = rustix::process::pidfd_open(pid, PidfdFlags::empty())
            .map_err(|e| format!("open first process of {container}: {e}"))?;
        let socket = spawn(true, &plan, &streams, Some(&first))?;
        keeper.add_stage(socket, connection, Purpose::Exec);
        Ok(())
    }
}

// === Keeper ===

impl Keeper {
    /// Process id of a running container.
    fn running(&self, container: &str) -> Result<i32, String> {
        let found = self.containers.get(container);
        let found = found.filter(|c| c.exit.is_none());
        found.map(|c| c.pid).ok_or_else(|| not_running(container))
    }

    fn add_stage(&mut self, socket: OwnedFd, connection: u64, purpose: Purpose) {
        self.next += 1;
        let stage = Stage {
            socket,
            connection,
            purpose,
            pid: None,
            ready: None,
            failed: None,
            terminal: None,
        };
        self.stages.insert(self.next, stage);
    }

    /// Reads one message of a stage, or its end.
    pub(super) fn hear_stage(&mut self, id: u64) {
        let Some(stage) = self.stages.get_mut(&id) else {
            return;
        };
        match packet::receive(stage.socket.as_fd(), MESSAGE_BYTES_MAX) {
            Ok(Some((bytes, fds))) => match protocol::decode(&bytes) {
                Ok(StageMessage::Pid { pid }) => stage.pid = Some(pid),
                Ok(StageMessage::Terminal) => stage.terminal = fds.into_iter().next(),
                Ok(StageMessage::Ready { user, warnings }) => stage.ready = Some((user, warnings)),
                Ok(StageMessage::Failed { message }) => stage.failed = Some(message),
                Err(e) => stage.failed = Some(format!("stage is not understood: {e}")),
            },
            Err(Errno::AGAIN | Errno::INTR) => {}
            // The program was executed, or the stage ended: its messages say which.
            Ok(None) | Err(_) => {
                if let Some(stage) = self.stages.remove(&id) {
                    self.stage_over(stage);
                }
            }
        }
    }

    fn stage_over(&mut self, stage: Stage) {
        let connection = stage.connection;
        let began = match (stage.failed, stage.ready, stage.pid) {
            (Some(message), _, _) => Err(message),
            (None, Some((user, warnings)), Some(pid)) => Ok(Started {
                pid,
                started_at: crate::clock::now(),
                user,
                warnings,
            }),
            _ => Err("the init stage ended early".into()),
        };
        let started = match began {
            Ok(started) => started,
            Err(message) => return self.refuse(connection, message),
        };
        let ended = self.unclaimed.remove(&started.pid);
        match stage.purpose {
            Purpose::Exec => {
                self.commands.insert(started.pid, connection);
                let terminal: Vec<BorrowedFd<'_>> =
                    stage.terminal.iter().map(AsFd::as_fd).collect();
                self.reply(connection, &Reply::Started(started.clone()), &terminal);
            }
            Purpose::Start(request, ours) => {
                let name = request.container.clone();
                let begun = begin(*request, ours, stage.terminal, &started);
                match begun.and_then(|c| c.record_start(&started).map(|()| c)) {
                    Ok(container) => {
                        self.containers.insert(name, container);
                        self.reply(connection, &Reply::Started(started.clone()), &[]);
                    }
                    Err(message) => {
                        let _ended = linux::process::signal(started.pid, 9);
                        self.refuse(connection, message);
                    }
                }
            }
        }
        if let Some(code) = ended {
            self.ended(started.pid, code);
        }
        if self.ending {
            self.end();
        }
    }
}

/// A container that runs.
fn begin(
    request: StartRequest,
    ours: Ours,
    terminal: Option<OwnedFd>,
    started: &Started,
) -> Result<Container, String> {
    let log = Log::open(request.log.clone()).map_err(|e| match &request.log {
        Some(path) => format!("open log {}: {e}", path.display()),
        None => e.to_string(),
    })?;
    let mut ours = ours;
    if let Some(terminal) = terminal {
        set_nonblocking(&terminal).map_err(|e| format!("set up terminal: {e}"))?;
        let fd = terminal
            .try_clone()
            .map_err(|e| format!("set up terminal: {e}"))?;
        ours.stdin = Some(terminal);
        ours.outputs = vec![Output {
            fd,
            stream: Stream::Stdout,
            ended: false,
        }];
    }
    Ok(Container {
        request,
        pid: started.pid,
        stdin: ours.stdin,
        outputs: ours.outputs,
        log,
        attachments: Vec::new(),
        exit: None,
    })
}

/// Pipes for a container without a terminal.
fn streams(request: &StartRequest) -> Result<(Ours, [Option<OwnedFd>; 3]), Errno> {
    if request.terminal {
        return Ok((Ours::default(), [None, None, None]));
    }
    let mut ours = Ours::default();
    let mut theirs = [None, None, None];
    if request.stdin {
        let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        set_nonblocking(&write)?;
        ours.stdin = Some(write);
        theirs[0] = Some(read);
    }
    for (at, stream) in [(1, Stream::Stdout), (2, Stream::Stderr)] {
        let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        set_nonblocking(&read)?;
        ours.outputs.push(Output {
            fd: read,
            stream,
            ended: false,
        });
        theirs[at] = Some(write);
    }
    Ok((ours, theirs))
}

/// Re-executes this program as a stage and tells it what to do; gives our side of its socket.
fn spawn(
    exec: bool,
    plan: &OwnedFd,
    streams: &[Option<OwnedFd>; 3],
    namespace: Option<&OwnedFd>,
) -> Result<OwnedFd, String> {
    let fail = |e: Errno| format!("start the init stage: {e}");
    let (ours, theirs) = packet::pair().map_err(fail)?;
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0(crate::stages::INIT)
        .env_clear()
        .envs(crate::stages::ENVIRONMENT.iter().copied())
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    // Reaped with all other children.
    let child = command.spawn();
    child.map_err(|e| format!("start the init stage: {e}"))?;
    let input = StageInput {
        exec,
        streams: [
            streams[0].is_some(),
            streams[1].is_some(),
            streams[2].is_some(),
        ],
        namespace: namespace.is_some(),
    };
    let mut fds = vec![plan.as_fd()];
    fds.extend(streams.iter().flatten().map(AsFd::as_fd));
    fds.extend(namespace.map(AsFd::as_fd));
    packet::send(ours.as_fd(), &protocol::encode(&input), &fds).map_err(fail)?;
    Ok(ours)
}
