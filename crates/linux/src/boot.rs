//! What only the first process of a machine does: file systems of the kernel, the host's name, waiting for
//! orphans, the end of the machine.

use std::io;
use std::path::Path;

use rustix::io::Errno;
use rustix::mount::MountFlags;
use rustix::process::{Pid, WaitOptions};
use rustix::system::RebootCommand;

/// Mounts a file system of the kernel's own; one that is there already is as good.
pub fn mount(kind: &str, target: &Path, options: &str, executable: bool) -> io::Result<()> {
    let mut flags = MountFlags::NOSUID;
    if !executable {
        flags |= MountFlags::NOEXEC;
    }
    let options = std::ffi::CString::new(options)?;
    match rustix::mount::mount(kind, target, kind, flags, options.as_c_str()) {
        Ok(()) | Err(Errno::BUSY) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// Sets the host's name.
pub fn set_host_name(name: &str) -> io::Result<()> {
    Ok(rustix::system::sethostname(name.as_bytes())?)
}

/// Buries every process that ends, until it is `child`: its exit code, 128 and the signal where one ended it.
pub fn bury_until(child: u32) -> io::Result<i32> {
    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if is(pid, child) => {
                let killed = status.terminating_signal().map(|s| 128 + s);
                return Ok(status.exit_status().or(killed).unwrap_or(1));
            }
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

fn is(pid: Pid, child: u32) -> bool {
    u32::try_from(pid.as_raw_nonzero().get()) == Ok(child)
}

/// Writes out what is not on the disk yet and switches the machine off.
pub fn power_off() -> io::Result<()> {
    rustix::fs::sync();
    Ok(rustix::system::reboot(RebootCommand::PowerOff)?)
}
