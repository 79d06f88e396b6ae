//! The stage that becomes a container's or a command's first process. The keeper re-executes this program
//! with one socket as its standard input and tells it a plan; it enters and makes namespaces, forks once
//! (a pid namespace holds only children), builds the root file system in a mount namespace of its own and
//! executes the command. Order of steps as in runc. What goes wrong is told over the socket, which the
//! command's program never sees.

mod devices;
mod mounts;
mod paths;
mod process;
mod rootfs;
mod user;

use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use linux::packet;
use linux::process::Fork;
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::thread::{LinkNameSpaceType, ThreadNameSpaceType, UnshareFlags};
use serde::de::DeserializeOwned;

use crate::limits::{MESSAGE_BYTES_MAX, PLAN_BYTES_MAX};
use crate::plan::{ContainerPlan, ExecPlan, PidPlan, ProcessPlan, User};
use crate::protocol::{self, StageInput, StageMessage};

/// What came over the socket.
struct Input {
    message: StageInput,
    plan: OwnedFd,
    streams: [Option<OwnedFd>; 3],
    namespace: Option<OwnedFd>,
}

/// Runs the stage; its standard input is the socket to the keeper.
pub fn run() -> u8 {
    let socket = match rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3) {
        Ok(socket) => socket,
        Err(_) => return 1,
    };
    // Our own program file must not be reachable from within the container: CVE-2019-5736.
    let hidden =
        rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    let done = hidden
        .map_err(|e| format!("set not dumpable: {e}"))
        .and_then(|()| receive(socket.as_fd()))
        .and_then(|input| {
            if input.message.exec {
                exec(&socket, input)
            } else {
                start(&socket, input)
            }
        });
    match done {
        Ok(()) => 0,
        Err(message) => {
            tell(socket.as_fd(), &StageMessage::Failed { message });
            1
        }
    }
}

/// Becomes a container.
fn start(socket: &OwnedFd, input: Input) -> Result<(), String> {
    let plan: ContainerPlan = read_plan(&input.plan)?;
    join_cgroups(&plan.cgroup_procs)?;
    let mut warnings = Vec::new();
    warnings.extend(set_oom_score(plan.process.oom_score_adj)?);
    // Trees are cloned before the mount namespace changes: they stay in their peer groups.
    let sources = mounts::open_sources(&plan.mounts)?;
    let mut flags = UnshareFlags::NEWNS;
    if plan.cgroup_namespace {
        flags |= UnshareFlags::NEWCGROUP;
    }
    if plan.pid == PidPlan::New {
        flags |= UnshareFlags::NEWPID;
    }
    linux::process::unshare(flags).map_err(|e| format!("unshare namespaces: {e}"))?;
    if plan.pid == PidPlan::Join {
        let namespace = input.namespace.as_ref().ok_or("no pid namespace given")?;
        let kind = Some(LinkNameSpaceType::ProcessID);
        rustix::thread::move_into_link_name_space(namespace.as_fd(), kind)
            .map_err(|e| format!("join pid namespace: {e}"))?;
    }
    if fork(socket)? {
        return Ok(());
    }
    child(
        socket,
        || {
            start_session()?;
            rootfs::build(&plan, sources)?;
            let streams = attach_streams(socket, &plan.process, input.streams)?;
            if streams && plan.device_links {
                rootfs::bind_console()?;
            }
            rustix::process::umask(Mode::from_raw_mode(0o22));
            process::make_working_dir(&plan.process.working_dir)?;
            rootfs::seal(&plan)?;
            Ok(())
        },
        &plan.process,
        warnings,
    )
}

/// Becomes a command in a running container.
fn exec(socket: &OwnedFd, input: Input) -> Result<(), String> {
    let plan: ExecPlan = read_plan(&input.plan)?;
    join_cgroups(&plan.cgroup_procs)?;
    let mut warnings = Vec::new();
    warnings.extend(set_oom_score(plan.process.oom_score_adj)?);
    let first = input.namespace.as_ref().ok_or("no container given")?;
    let kinds = ThreadNameSpaceType::MOUNT
        | ThreadNameSpaceType::CONTROL_GROUP
        | ThreadNameSpaceType::PROCESS_ID;
    rustix::thread::move_into_thread_name_spaces(first.as_fd(), kinds)
        .map_err(|e| format!("enter the container's namespaces: {e}"))?;
    if fork(socket)? {
        return Ok(());
    }
    child(
        socket,
        || {
            start_session()?;
            rustix::process::umask(Mode::from_raw_mode(0o22));
            attach_streams(socket, &plan.process, input.streams)?;
            Ok(())
        },
        &plan.process,
        warnings,
    )
}

/// The forked side: prepares, then takes on the user and executes. Never comes back.
fn child(
    socket: &OwnedFd,
    prepare: impl FnOnce() -> Result<(), String>,
    plan: &ProcessPlan,
    warnings: Vec<String>,
) -> Result<(), String> {
    let go = || -> Result<String, String> {
        prepare()?;
        let user = user::resolve(&plan.user)?;
        let environment = process::environment(plan, &user);
        process::own_streams(&user);
        process::become_user(plan, &user)?;
        let program = match plan.arguments.first() {
            Some(name) => process::find_program(name, &environment)?,
            None => return Err("no command specified".into()),
        };
        ready(socket.as_fd(), user, warnings)?;
        // Marked one by one where the call is missing (before 5.11): all of ours are already.
        let _missing = linux::process::close_on_exec_from(3);
        Ok(process::execute(&program, plan, &environment))
    };
    let message = go().unwrap_or_else(|message| message);
    tell(socket.as_fd(), &StageMessage::Failed { message });
    linux::process::exit_now(1)
}

/// Forks; `true` in the parent, which has told the keeper who its child is.
fn fork(socket: &OwnedFd) -> Result<bool, String> {
    match linux::process::fork().map_err(|e| format!("fork: {e}"))? {
        Fork::Child => Ok(false),
        Fork::Parent { child } => {
            tell(socket.as_fd(), &StageMessage::Pid { pid: child });
            Ok(true)
        }
    }
}

fn start_session() -> Result<(), String> {
    let done = rustix::process::setsid();
    done.map(drop).map_err(|e| format!("setsid: {e}"))
}

fn ready(socket: BorrowedFd<'_>, user: User, warnings: Vec<String>) -> Result<(), String> {
    let message = protocol::encode(&StageMessage::Ready { user, warnings });
    packet::send(socket, &message, &[]).map_err(|e| format!("tell the keeper: {e}"))
}

/// The keeper notices by itself when a stage ends without a word.
fn tell(socket: BorrowedFd<'_>, message: &StageMessage) {
    let _gone = packet::send(socket, &protocol::encode(message), &[]);
}

fn receive(socket: BorrowedFd<'_>) -> Result<Input, String> {
    let packet = packet::receive(socket, MESSAGE_BYTES_MAX).map_err(|e| format!("receive: {e}"))?;
    let (bytes, fds) = packet.ok_or("no plan was sent")?;
    let message: StageInput = protocol::decode(&bytes).map_err(|e| format!("read input: {e}"))?;
    let mut fds = fds.into_iter();
    let plan = fds.next().ok_or("no plan was sent")?;
    let mut streams = [None, None, None];
    for (stream, given) in streams.iter_mut().zip(message.streams) {
        if given {
            *stream = Some(fds.next().ok_or("a stream is missing")?);
        }
    }
    let namespace = match message.namespace {
        true => Some(fds.next().ok_or("a namespace is missing")?),
        false => None,
    };
    Ok(Input {
        message,
        plan,
        streams,
        namespace,
    })
}

fn read_plan<T: DeserializeOwned>(plan: &OwnedFd) -> Result<T, String> {
    let file = plan.try_clone().map_err(|e| format!("read plan: {e}"))?;
    let mut bytes = Vec::new();
    let mut file = fs::File::from(file).take(PLAN_BYTES_MAX as u64);
    file.read_to_end(&mut bytes)
        .map_err(|e| format!("read plan: {e}"))?;
    protocol::decode(&bytes).map_err(|e| format!("read plan: {e}"))
}

fn join_cgroups(files: &[PathBuf]) -> Result<(), String> {
    for file in files {
        fs::write(file, "0").map_err(|e| format!("join cgroup {}: {e}", file.display()))?;
    }
    Ok(())
}

/// A warning where the kernel refuses: lowering needs CAP_SYS_RESOURCE, which a nested node lacks.
fn set_oom_score(score: Option<i64>) -> Result<Option<String>, String> {
    let Some(score) = score else { return Ok(None) };
    match fs::write("/proc/self/oom_score_adj", score.to_string()) {
        Ok(()) => Ok(None),
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => Ok(Some(format!(
            "oom_score_adj {score} was refused by the kernel: {e}"
        ))),
        Err(e) => Err(format!("set oom_score_adj {score}: {e}")),
    }
}

/// Puts streams or a new terminal in place; whether it is a terminal.
fn attach_streams(
    socket: &OwnedFd,
    plan: &ProcessPlan,
    streams: [Option<OwnedFd>; 3],
) -> Result<bool, String> {
    let fail = |what: &'static str| move |e: Errno| format!("{what}: {e}");
    if !plan.terminal {
        for (number, stream) in streams.into_iter().enumerate() {
            let stream = match stream {
                Some(stream) => stream,
                None => open_null()?,
            };
            linux::process::set_standard_stream(number as i32, stream.as_fd())
                .map_err(fail("set standard stream"))?;
        }
        return Ok(false);
    }
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC;
    let master = rustix::fs::open("/dev/pts/ptmx", flags, Mode::empty())
        .or_else(|_| rustix::fs::open("/dev/ptmx", flags, Mode::empty()))
        .map_err(fail("open terminal"))?;
    rustix::pty::unlockpt(&master).map_err(fail("unlock terminal"))?;
    let peer = rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, peer).map_err(fail("open terminal"))?;
    for number in 0..=2 {
        linux::process::set_standard_stream(number, slave.as_fd())
            .map_err(fail("set standard stream"))?;
    }
    rustix::process::ioctl_tiocsctty(&slave).map_err(fail("set controlling terminal"))?;
    let message = protocol::encode(&StageMessage::Terminal);
    packet::send(socket.as_fd(), &message, &[master.as_fd()])
        .map_err(fail("hand the terminal over"))?;
    Ok(true)
}

fn open_null() -> Result<OwnedFd, String> {
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC;
    rustix::fs::open("/dev/null", flags, Mode::empty()).map_err(|e| format!("open /dev/null: {e}"))
}
