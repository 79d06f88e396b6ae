//! Processes by id.

use rustix::process::{Pid, Signal, kill_process};

/// Sends TERM to a process; an error where there is none or we may not.
pub fn terminate(pid: i32) -> std::io::Result<()> {
    // Negative numbers name groups; `Pid` does not take them.
    let pid = (pid > 1).then(|| Pid::from_raw(pid)).flatten();
    let pid =
        pid.ok_or_else(|| std::io::Error::other("not the id of a process that may be ended"))?;
    Ok(kill_process(pid, Signal::TERM)?)
}

#[cfg(test)]
mod tests {
    use super::terminate;

    #[test]
    fn ids_that_mean_other_things_are_refused() {
        // 0 is the own group, negative ids are groups, 1 is init.
        assert!(terminate(0).is_err());
        assert!(terminate(1).is_err());
        assert!(terminate(-5).is_err());
    }
}
