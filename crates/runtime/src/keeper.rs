//! The keeper of a pod: one small, single-threaded process that holds the pod's namespaces and, for every
//! container, its streams, its log and its exit code. It outlives the daemon; what it knows is on disk or
//! asked for over its socket. Upstream's counterpart is containerd-shim.

mod container;
mod log;
mod sandbox;
mod serve;
mod stage;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use linux::packet;
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::process::{Signal, WaitOptions, WaitStatus};

use crate::limits::{KEEPER_READ_BYTES, PLAN_BYTES_MAX};
use crate::plan::KeeperPlan;
use crate::protocol::{self, Exit, KeeperReady, Reply, SOCKET};
use container::{Container, report};
use log::Stream;
use stage::Stage;

/// A keeper at work.
struct Keeper {
    listener: OwnedFd,
    signals: OwnedFd,
    pause: Option<sandbox::Pause>,
    connections: BTreeMap<u64, Connection>,
    containers: BTreeMap<String, Container>,
    /// Starts and commands that have not begun yet.
    stages: BTreeMap<u64, Stage>,
    /// Connection of each running command.
    commands: BTreeMap<i32, u64>,
    /// Children that ended before their stage told whose they are.
    unclaimed: BTreeMap<i32, i32>,
    next: u64,
    ending: bool,
    buffer: Vec<u8>,
}

/// A daemon that asks.
struct Connection {
    socket: OwnedFd,
    watches: bool,
}

/// What a descriptor belongs to.
#[derive(Clone, Debug)]
enum Source {
    Listener,
    Signals,
    Connection(u64),
    Stage(u64),
    Output(String, usize),
    /// Input of an attachment.
    Input(String, u64),
    /// The container's standard input has room again.
    Stdin(String, u64),
    /// An attached reader has room again, or is gone.
    Reader(String, u64, Stream),
}

/// Runs the keeper; its standard input is the plan, its standard output waits for one message.
pub fn run() -> u8 {
    let keeper = read_plan().and_then(|plan| {
        let keeper = Keeper::start(&plan);
        keeper.map_err(|e| format!("sandbox {}: {e}", plan.id))
    });
    let (message, keeper) = match keeper {
        Ok(keeper) => (KeeperReady::Ready, Some(keeper)),
        Err(message) => (KeeperReady::Failed { message }, None),
    };
    let mut out = std::io::stdout();
    let told = out
        .write_all(&protocol::encode(&message))
        .and_then(|()| out.write_all(b"\n"))
        .and_then(|()| out.flush());
    let Some(mut keeper) = keeper.filter(|_| told.is_ok()) else {
        return 1;
    };
    if let Err(e) = close_standard_streams() {
        eprintln!("close standard streams: {e}");
    }
    match keeper.serve() {
        Ok(()) => 0,
        Err(e) => {
            eprintln!("keeper: {e}");
            1
        }
    }
}

fn read_plan() -> Result<KeeperPlan, String> {
    let mut bytes = Vec::new();
    let mut input = std::io::stdin().lock().take(PLAN_BYTES_MAX as u64);
    input
        .read_to_end(&mut bytes)
        .map_err(|e| format!("read plan: {e}"))?;
    protocol::decode(&bytes).map_err(|e| format!("read plan: {e}"))
}

fn close_standard_streams() -> Result<(), String> {
    let null = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null");
    let null = null.map_err(|e| format!("open /dev/null: {e}"))?;
    for stream in 0..=1 {
        linux::process::set_standard_stream(stream, null.as_fd()).map_err(|e| e.to_string())?;
    }
    Ok(())
}

// === Keeper ===

impl Keeper {
    fn start(plan: &KeeperPlan) -> Result<Self, String> {
        let fail = |what: &'static str| move |e: Errno| format!("{what}: {e}");
        let _unnamed = rustix::thread::set_name(c"k0s-keeper");
        rustix::process::setsid().map_err(fail("setsid"))?;
        rustix::process::chdir("/").map_err(fail("chdir"))?;
        let own = Some(rustix::process::getpid());
        rustix::process::set_child_subreaper(own).map_err(fail("become subreaper"))?;
        sandbox::enter(plan)?;
        let pause = match plan.shared_pid {
            true => Some(sandbox::start_pause()?),
            false => None,
        };
        let signals = [Signal::CHILD, Signal::TERM, Signal::INT];
        let signals = linux::process::signal_descriptor(&signals).map_err(fail("signals"))?;
        let listener = packet::listen(&plan.run, SOCKET).map_err(fail("listen"))?;
        container::set_nonblocking(&listener).map_err(fail("listen"))?;
        Ok(Self {
            listener,
            signals,
            pause,
            connections: BTreeMap::new(),
            containers: BTreeMap::new(),
            stages: BTreeMap::new(),
            commands: BTreeMap::new(),
            unclaimed: BTreeMap::new(),
            next: 0,
            ending: false,
            buffer: vec![0; KEEPER_READ_BYTES],
        })
    }

    /// Until told to end and all containers are gone.
    fn serve(&mut self) -> Result<(), String> {
        loop {
            self.forget_over();
            if self.ending && self.containers.is_empty() && self.stages.is_empty() {
                self.end_pause();
                return Ok(());
            }
            for (source, flags) in self.wait()? {
                self.react(source, flags);
            }
        }
    }

    fn wait(&self) -> Result<Vec<(Source, PollFlags)>, String> {
        let mut wanted: Vec<(Source, BorrowedFd<'_>, PollFlags)> = vec![
            (Source::Signals, self.signals.as_fd(), PollFlags::IN),
            (Source::Listener, self.listener.as_fd(), PollFlags::IN),
        ];
        for (id, connection) in &self.connections {
            let fd = connection.socket.as_fd();
            wanted.push((Source::Connection(*id), fd, PollFlags::IN));
        }
        for (id, stage) in &self.stages {
            wanted.push((Source::Stage(*id), stage.socket.as_fd(), PollFlags::IN));
        }
        for (name, container) in &self.containers {
            want_container(name, container, &mut wanted);
        }
        let mut fds: Vec<PollFd<'_>> = wanted
            .iter()
            .map(|(_, fd, flags)| PollFd::from_borrowed_fd(*fd, *flags))
            .collect();
        match rustix::event::poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(format!("poll: {e}")),
        }
        let ready: Vec<PollFlags> = fds.iter().map(PollFd::revents).collect();
        drop(fds);
        let all = wanted.into_iter().zip(ready);
        let seen = all.filter(|(_, flags)| !flags.is_empty());
        Ok(seen
            .map(|((source, _, _), flags)| (source, flags))
            .collect())
    }

    fn react(&mut self, source: Source, flags: PollFlags) {
        match source {
            Source::Listener => self.accept(),
            Source::Signals => self.signals(),
            Source::Connection(id) => self.hear(id),
            Source::Stage(id) => self.hear_stage(id),
            Source::Output(name, at) => {
                let mut buffer = std::mem::take(&mut self.buffer);
                if let Some(container) = self.containers.get_mut(&name) {
                    container.read_output(at, &mut buffer);
                }
                self.buffer = buffer;
            }
            Source::Input(name, connection) => {
                let mut buffer = std::mem::take(&mut self.buffer);
                if let Some((container, at)) = self.attachment(&name, connection) {
                    container.read_input(at, &mut buffer);
                }
                self.buffer = buffer;
            }
            Source::Stdin(name, connection) => {
                if let Some((container, at)) = self.attachment(&name, connection) {
                    container.feed(at);
                }
            }
            Source::Reader(name, connection, stream) => {
                if let Some((container, at)) = self.attachment(&name, connection) {
                    let attachment = &mut container.attachments[at];
                    if flags.contains(PollFlags::ERR) {
                        attachment.outputs[stream as usize] = None;
                    } else {
                        attachment.flush(stream);
                    }
                }
            }
        }
    }

    fn attachment(&mut self, name: &str, connection: u64) -> Option<(&mut Container, usize)> {
        let container = self.containers.get_mut(name)?;
        let mut all = container.attachments.iter();
        let at = all.position(|a| a.connection == connection)?;
        Some((container, at))
    }

    fn signals(&mut self) {
        loop {
            match linux::process::next_signal(self.signals.as_fd()) {
                Ok(Some(signal)) if signal == Signal::CHILD.as_raw() => self.reap(),
                Ok(Some(_)) => self.end(),
                Ok(None) => return,
                Err(e) => return report("read signals", Err(e.into())),
            }
        }
    }

    fn reap(&mut self) {
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => self.ended(pid.as_raw_pid(), exit_code(status)),
                Err(Errno::INTR) => {}
                _ => return,
            }
        }
    }

    /// A child ended: a container, a command, a stage, or somebody's orphan.
    fn ended(&mut self, pid: i32, code: i32) {
        if let Some(connection) = self.commands.remove(&pid) {
            let container = String::new();
            self.reply(connection, &Reply::Exited { container, code }, &[]);
            return;
        }
        let mut all = self.containers.iter();
        let name = all.find(|(_, c)| c.pid == pid && c.exit.is_none());
        if let Some(name) = name.map(|(name, _)| name.clone()) {
            return self.container_ended(&name, code);
        }
        if self.pause.as_ref().is_some_and(|p| p.pid == pid) {
            eprintln!("the pod's pid namespace ended with {code}");
            self.pause = None;
        } else if !self.stages.is_empty() {
            self.unclaimed.insert(pid, code);
        }
    }

    fn container_ended(&mut self, name: &str, code: i32) {
        let mut buffer = std::mem::take(&mut self.buffer);
        if let Some(container) = self.containers.get_mut(name) {
            // In its own pid namespace nothing outlives it; elsewhere its group is ended here.
            report(
                "end processes left behind",
                linux::cgroup::kill::kill_in(&container.request.cgroup),
            );
            container.drain(&mut buffer);
            let oom = container.request.oom.as_deref();
            let exit = Exit {
                code,
                finished_at: crate::clock::now(),
                oom_kills: oom.map_or(0, linux::cgroup::stats::oom_kills),
                ..Exit::default()
            };
            if let Err(e) = container.record_exit(&exit) {
                eprintln!("{e}");
            }
            container.exit = Some(exit);
            container.stdin = None;
        }
        self.buffer = buffer;
        let watchers: Vec<u64> = self
            .connections
            .iter()
            .filter(|(_, c)| c.watches)
            .map(|(id, _)| *id)
            .collect();
        for id in watchers {
            let container = name.to_owned();
            self.reply(id, &Reply::Exited { container, code }, &[]);
        }
    }

    /// Lets go of containers whose last byte is delivered, and tells those who were attached.
    fn forget_over(&mut self) {
        let over = |(name, c): (&String, &Container)| c.is_over().then(|| name.clone());
        let over: Vec<String> = self.containers.iter().filter_map(over).collect();
        for name in over {
            let Some(container) = self.containers.remove(&name) else {
                continue;
            };
            let code = container.exit.as_ref().map_or(0, |e| e.code);
            for attachment in container.attachments {
                let exited = Reply::Exited {
                    container: name.clone(),
                    code,
                };
                self.reply(attachment.connection, &exited, &[]);
            }
        }
        if self.stages.is_empty() {
            self.unclaimed.clear();
        }
    }

    /// Kills everything; `serve` ends when all is on disk.
    fn end(&mut self) {
        self.ending = true;
        for container in self.containers.values_mut() {
            if container.exit.is_none() {
                // It may have ended this moment, which is what is wanted.
                let _ended = linux::process::signal(container.pid, Signal::KILL.as_raw());
            }
            report(
                "kill container",
                linux::cgroup::kill::kill_in(&container.request.cgroup),
            );
            // Nobody waits for readers any more.
            container.attachments.clear();
        }
    }

    fn end_pause(&mut self) {
        if let Some(pause) = self.pause.take() {
            let _ended = linux::process::signal(pause.pid, Signal::KILL.as_raw());
        }
    }
}

fn want_container<'a>(
    name: &str,
    container: &'a Container,
    wanted: &mut Vec<(Source, BorrowedFd<'a>, PollFlags)>,
) {
    for (at, output) in container.outputs.iter().enumerate() {
        if !output.ended && container.may_read(output.stream) {
            let source = Source::Output(name.to_owned(), at);
            wanted.push((source, output.fd.as_fd(), PollFlags::IN));
        }
    }
    for attachment in &container.attachments {
        let id = attachment.connection;
        if !attachment.input.is_empty() {
            if let Some(stdin) = &container.stdin {
                let source = Source::Stdin(name.to_owned(), id);
                wanted.push((source, stdin.as_fd(), PollFlags::OUT));
            }
        } else if let Some(stdin) = &attachment.stdin {
            let source = Source::Input(name.to_owned(), id);
            wanted.push((source, stdin.as_fd(), PollFlags::IN));
        }
        for stream in [Stream::Stdout, Stream::Stderr] {
            if let Some(reader) = &attachment.outputs[stream as usize] {
                let source = Source::Reader(name.to_owned(), id, stream);
                let flags = match reader.pending.is_empty() {
                    true => PollFlags::empty(),
                    false => PollFlags::OUT,
                };
                wanted.push((source, reader.fd.as_fd(), flags));
            }
        }
    }
}

/// The code as shells count it.
fn exit_code(status: WaitStatus) -> i32 {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code,
        (_, Some(signal)) => 128 + signal,
        _ => 255,
    }
}
