//! Processes: by id, and what single-threaded stages do to themselves before they become another program.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::UnshareFlags;

/// Sends TERM to a process; an error where there is none or we may not.
pub fn terminate(pid: i32) -> std::io::Result<()> {
    // Negative numbers name groups; `Pid` does not take them.
    let pid = (pid > 1).then(|| Pid::from_raw(pid)).flatten();
    let pid =
        pid.ok_or_else(|| std::io::Error::other("not the id of a process that may be ended"))?;
    Ok(kill_process(pid, Signal::TERM)?)
}

/// Whether the calling process has one thread. Needs no `/proc`, which may be another namespace's.
pub fn is_single_threaded() -> bool {
    // SAFETY: to leave one's thread group is refused where there are other threads, and else does nothing.
    unsafe { libc::unshare(libc::CLONE_THREAD) == 0 }
}

/// Which side of a fork this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fork {
    Parent { child: i32 },
    Child,
}

/// Forks. Refused with EINVAL in a process with more than one thread.
pub fn fork() -> Result<Fork, Errno> {
    if !is_single_threaded() {
        return Err(Errno::INVAL);
    }
    // SAFETY: there is no other thread whose locks or state the child could find half-changed.
    match unsafe { libc::fork() } {
        -1 => Err(last()),
        0 => Ok(Fork::Child),
        child => Ok(Fork::Parent { child }),
    }
}

/// Ends at once, running no destructors or exit handlers.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit only ends the process.
    unsafe { libc::_exit(code) }
}

/// Leaves namespaces for new ones. Refused with EINVAL in a process with more than one thread.
pub fn unshare(flags: UnshareFlags) -> Result<(), Errno> {
    if flags.contains(UnshareFlags::FILES) || !is_single_threaded() {
        return Err(Errno::INVAL);
    }
    // SAFETY: no other thread shares what is unshared, and the descriptor table stays.
    unsafe { rustix::thread::unshare_unsafe(flags) }
}

/// Becomes another program; comes back only with an error.
pub fn execute(path: &CStr, arguments: &[CString], environment: &[CString]) -> Errno {
    let list = |strings: &[CString]| {
        let mut pointers: Vec<*const libc::c_char> = strings.iter().map(|s| s.as_ptr()).collect();
        pointers.push(std::ptr::null());
        pointers
    };
    let (arguments, environment) = (list(arguments), list(environment));
    // SAFETY: both lists are null-terminated and their strings live through the call.
    unsafe { libc::execve(path.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    last()
}

/// Gives every signal its default action and unblocks all.
pub fn reset_signals() {
    // SAFETY: default actions run no code of ours, and the set is initialised by sigemptyset.
    unsafe {
        for signal in 1..=64 {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &set, std::ptr::null_mut());
    }
}

/// Marks all descriptors from `first` on as not inherited by a program executed later.
pub fn close_on_exec_from(first: u32) -> Result<(), Errno> {
    const CLOSE_RANGE_CLOEXEC: u32 = 4;
    // SAFETY: marking descriptors closes none of them.
    let done =
        unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, CLOSE_RANGE_CLOEXEC) };
    if done == 0 { Ok(()) } else { Err(last()) }
}

/// Makes `fd` the standard stream `number` (0 to 2), inherited by programs executed later.
pub fn set_standard_stream(number: i32, fd: BorrowedFd<'_>) -> Result<(), Errno> {
    if !(0..=2).contains(&number) {
        return Err(Errno::INVAL);
    }
    // SAFETY: the standard streams are never owned by an `OwnedFd` here.
    if unsafe { libc::dup2(fd.as_raw_fd(), number) } < 0 {
        return Err(last());
    }
    Ok(())
}

/// A descriptor that becomes readable when one of these signals arrives; they are blocked from now on.
pub fn signal_descriptor(signals: &[Signal]) -> Result<OwnedFd, Errno> {
    // SAFETY: the set is initialised by sigemptyset, and the new descriptor is owned by nobody else.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        for signal in signals {
            libc::sigaddset(&mut set, signal.as_raw());
        }
        if libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) != 0 {
            return Err(last());
        }
        let fd = libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        if fd < 0 {
            return Err(last());
        }
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Number of the next signal of a `signal_descriptor`; `None` where there is none now.
pub fn next_signal(fd: BorrowedFd<'_>) -> Result<Option<i32>, Errno> {
    let mut record = [0u8; 128];
    match rustix::io::read(fd.as_fd(), &mut record) {
        Ok(n) if n >= 4 => Ok(Some(i32::from_ne_bytes([
            record[0], record[1], record[2], record[3],
        ]))),
        Ok(_) => Err(Errno::IO),
        Err(Errno::AGAIN | Errno::INTR) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Sends a signal to a process that is a child of the caller and not waited for yet.
pub fn signal(pid: i32, number: i32) -> Result<(), Errno> {
    if pid <= 1 {
        return Err(Errno::INVAL);
    }
    // SAFETY: kill takes numbers only.
    if unsafe { libc::kill(pid, number) } == 0 {
        Ok(())
    } else {
        Err(last())
    }
}

fn last() -> Errno {
    let raw = std::io::Error::last_os_error().raw_os_error();
    Errno::from_raw_os_error(raw.unwrap_or(libc::EINVAL))
}

#[cfg(test)]
mod tests {
    use super::{fork, signal, terminate};

    #[test]
    fn ids_that_mean_other_things_are_refused() {
        // 0 is the own group, negative ids are groups, 1 is init.
        assert!(terminate(0).is_err());
        assert!(terminate(1).is_err());
        assert!(terminate(-5).is_err());
        assert!(signal(-1, 9).is_err());
    }

    #[test]
    fn a_process_with_threads_does_not_fork() {
        let (done, wait) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || wait.recv());
        assert!(fork().is_err());
        drop(done);
        assert!(thread.join().unwrap().is_err());
    }
}
