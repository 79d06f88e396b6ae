//! The last steps: identity, capabilities, filter, and the program. Order and messages as runc's init.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use linux::capability::CapabilityMask;
use linux::process;
use linux::seccomp::Instruction;
use rustix::fs::{Gid, Uid};
use rustix::io::Errno;

use crate::plan::{ProcessPlan, User};

/// Takes on the identity and limits of `plan`. After this, files are opened as the user.
pub fn become_user(plan: &ProcessPlan, user: &User) -> Result<(), String> {
    let fail = |what: &'static str| move |e: Errno| format!("{what}: {e}");
    if plan.no_new_privs {
        rustix::thread::set_no_new_privs(true).map_err(fail("set no_new_privs"))?;
    } else {
        // Needs CAP_SYS_ADMIN, which is gone further down.
        install_seccomp(plan)?;
    }
    let entered = enter_working_dir(&plan.working_dir)?;
    let held = CapabilityMask::permitted().map_err(fail("read capabilities"))?;
    let wanted = CapabilityMask(plan.capabilities & held.0);
    wanted.bound().map_err(fail("drop bounding capabilities"))?;
    rustix::thread::set_keep_capabilities(true).map_err(fail("keep capabilities"))?;
    let groups: Vec<Gid> = user.groups.iter().map(|g| Gid::from_raw(*g)).collect();
    rustix::thread::set_thread_groups(&groups).map_err(fail("setgroups"))?;
    let gid = Gid::from_raw(user.gid);
    rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(fail("setgid"))?;
    let uid = Uid::from_raw(user.uid);
    rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(fail("setuid"))?;
    if !entered {
        rustix::process::chdir(plan.working_dir.as_str())
            .map_err(|e| cannot_enter(&plan.working_dir, e))?;
    }
    rustix::thread::set_keep_capabilities(false).map_err(fail("keep capabilities"))?;
    wanted.set().map_err(fail("set capabilities"))?;
    if plan.no_new_privs {
        install_seccomp(plan)?;
    }
    Ok(())
}

/// The environment with what every process is given.
pub fn environment(plan: &ProcessPlan, user: &User) -> Vec<String> {
    let mut environment = plan.environment.clone();
    if !environment.iter().any(|e| e.starts_with("HOME=")) {
        environment.push(format!("HOME={}", user.home));
    }
    environment
}

/// Finds the program as `exec.LookPath` of Go does, with its words for what is wrong.
pub fn find_program(name: &str, environment: &[String]) -> Result<String, String> {
    if name.is_empty() {
        return Err("no command specified".into());
    }
    if name.contains('/') {
        return match check_program(name) {
            Ok(()) => Ok(name.to_owned()),
            Err(Refusal::Stat(e)) => Err(format!("exec: \"{name}\": stat {name}: {}", words(e))),
            Err(Refusal::Directory) => Err(format!("exec: \"{name}\": is a directory")),
            Err(Refusal::Mode) => Err(format!("exec: \"{name}\": permission denied")),
        };
    }
    let path = environment.iter().find_map(|e| e.strip_prefix("PATH="));
    let mut denied = false;
    for dir in path.unwrap_or_default().split(':') {
        let dir = if dir.is_empty() { "." } else { dir };
        let full = format!("{}/{name}", dir.trim_end_matches('/'));
        match check_program(&full) {
            Ok(()) => return Ok(full),
            Err(Refusal::Mode) => denied = true,
            Err(_) => {}
        }
    }
    if denied {
        return Err(format!("exec: \"{name}\": permission denied"));
    }
    Err(format!(
        "exec: \"{name}\": executable file not found in $PATH"
    ))
}

/// Becomes the program; comes back only with what went wrong.
pub fn execute(program: &str, plan: &ProcessPlan, environment: &[String]) -> String {
    let strings = |all: &[String]| -> Result<Vec<CString>, String> {
        let convert = |s: &String| CString::new(s.as_bytes());
        let all: Result<_, _> = all.iter().map(convert).collect();
        all.map_err(|_| "exec: argument or environment holds a zero byte".to_owned())
    };
    let run = || -> Result<Errno, String> {
        let path = CString::new(Path::new(program).as_os_str().as_bytes())
            .map_err(|_| "exec: program name holds a zero byte".to_owned())?;
        let (arguments, environment) = (strings(&plan.arguments)?, strings(environment)?);
        process::reset_signals();
        Ok(process::execute(&path, &arguments, &environment))
    };
    match run() {
        Ok(errno) => format!("exec {program}: {}", words(errno)),
        Err(message) => message,
    }
}

enum Refusal {
    Stat(Errno),
    Directory,
    Mode,
}

fn check_program(path: &str) -> Result<(), Refusal> {
    let stat = rustix::fs::stat(path).map_err(Refusal::Stat)?;
    if rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Directory {
        return Err(Refusal::Directory);
    }
    let execute = rustix::fs::Access::EXEC_OK;
    let flags = rustix::fs::AtFlags::EACCESS;
    match rustix::fs::accessat(rustix::fs::CWD, path, execute, flags) {
        Ok(()) => Ok(()),
        // faccessat2 is missing before kernel 5.8, or not in the filter; the mode then says it.
        Err(Errno::NOSYS | Errno::INVAL | Errno::PERM) if stat.st_mode & 0o111 != 0 => Ok(()),
        Err(_) => Err(Refusal::Mode),
    }
}

/// The kernel's error in the words of Go's standard library.
fn words(errno: Errno) -> String {
    match errno {
        Errno::NOENT => "no such file or directory".into(),
        Errno::ACCESS => "permission denied".into(),
        Errno::PERM => "operation not permitted".into(),
        Errno::NOTDIR => "not a directory".into(),
        Errno::NOEXEC => "exec format error".into(),
        Errno::TOOBIG => "argument list too long".into(),
        Errno::LOOP => "too many levels of symbolic links".into(),
        Errno::NAMETOOLONG => "file name too long".into(),
        Errno::TXTBSY => "text file busy".into(),
        Errno::ISDIR => "is a directory".into(),
        Errno::NOMEM => "cannot allocate memory".into(),
        other => other.to_string(),
    }
}

/// As root, which may enter what the user may not; a refused entry (NFS) is tried again as the user.
fn enter_working_dir(dir: &str) -> Result<bool, String> {
    let dir = if dir.is_empty() { "/" } else { dir };
    match rustix::process::chdir(dir) {
        Ok(()) => Ok(true),
        Err(Errno::ACCESS | Errno::PERM) => Ok(false),
        Err(e) => Err(cannot_enter(dir, e)),
    }
}

fn cannot_enter(dir: &str, errno: Errno) -> String {
    format!(
        "chdir to cwd (\"{dir}\") set in config.json failed: {}",
        words(errno)
    )
}

/// Makes the working directory where the image lacks it, owned by root.
pub fn make_working_dir(dir: &str) -> Result<(), String> {
    if dir.is_empty() || Path::new(dir).exists() {
        return Ok(());
    }
    std::fs::create_dir_all(dir).map_err(|e| format!("mkdir {dir}: {e}"))
}

fn install_seccomp(plan: &ProcessPlan) -> Result<(), String> {
    let Some(program) = &plan.seccomp else {
        return Ok(());
    };
    let instruction = |&(code, jt, jf, k): &(u16, u8, u8, u32)| Instruction { code, jt, jf, k };
    let program: Vec<Instruction> = program.iter().map(instruction).collect();
    linux::seccomp::install(&program).map_err(|e| format!("install seccomp filter: {e}"))
}

/// Lets the user open its own streams anew (`/dev/stdout`), as runc does.
pub fn own_streams(user: &User) {
    if user.uid == 0 {
        return;
    }
    for stream in [
        rustix::stdio::stdin(),
        rustix::stdio::stdout(),
        rustix::stdio::stderr(),
    ] {
        let is_ours = rustix::fs::fstat(stream).is_ok_and(|s| {
            let kind = rustix::fs::FileType::from_raw_mode(s.st_mode);
            kind == rustix::fs::FileType::Fifo || kind == rustix::fs::FileType::CharacterDevice
        });
        let is_null = rustix::fs::fstat(stream).is_ok_and(|s| s.st_rdev == 0x103);
        if is_ours && !is_null {
            // A read-only file system can refuse it; the stream itself works all the same.
            let _refused = rustix::fs::fchown(stream, Some(Uid::from_raw(user.uid)), None);
        }
    }
}
