//! Capabilities by name and number. capabilities(7).

use rustix::io::Errno;
use rustix::thread::{CapabilitySet, CapabilitySets};

/// Names without `CAP_`; the position is the number.
#[rustfmt::skip]
pub static NAMES: &[&str] = &[
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
    "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK",
    "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN",
    "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE",
    "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND",
    "AUDIT_READ", "PERFMON", "BPF", "CHECKPOINT_RESTORE",
];

/// A set of capabilities, a bit per number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CapabilityMask(pub u64);

// === CapabilityMask ===

impl CapabilityMask {
    /// All that are known here.
    pub fn all() -> Self {
        Self((1 << NAMES.len()) - 1)
    }

    /// The set of these names; `None` where one is unknown.
    pub fn of(names: &[&str]) -> Option<Self> {
        let mut mask = Self::default();
        for name in names {
            mask.0 |= 1 << number(name)?;
        }
        Some(mask)
    }

    /// Whether capability `number` is in it.
    pub fn has(self, number: u32) -> bool {
        self.0 & (1 << number) != 0
    }

    /// What the calling process may hold.
    pub fn permitted() -> Result<Self, Errno> {
        Ok(Self(rustix::thread::capabilities(None)?.permitted.bits()))
    }

    /// Takes everything outside of this set from the bounding set.
    pub fn bound(self) -> Result<(), Errno> {
        for number in 0..64 {
            let one = CapabilitySet::from_bits_retain(1 << number);
            match rustix::thread::capability_is_in_bounding_set(one) {
                Ok(true) if !self.has(number) => {
                    rustix::thread::remove_capability_from_bounding_set(one)?;
                }
                Ok(_) => {}
                // The first number the kernel does not know.
                Err(Errno::INVAL) => break,
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Makes this the calling thread's permitted and effective set; nothing is inheritable or ambient.
    pub fn set(self) -> Result<(), Errno> {
        let set = CapabilitySet::from_bits_retain(self.0);
        rustix::thread::set_capabilities(
            None,
            CapabilitySets {
                effective: set,
                permitted: set,
                inheritable: CapabilitySet::empty(),
            },
        )?;
        rustix::thread::clear_ambient_capability_set()
    }
}

/// The number of a capability by name, with or without `CAP_`, in any case.
pub fn number(name: &str) -> Option<u32> {
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
    NAMES.iter().position(|n| *n == bare).map(|n| n as u32)
}

#[cfg(test)]
mod tests {
    use super::{CapabilityMask, number};

    #[test]
    fn names_are_found_however_written() {
        assert_eq!(number("CAP_SYS_RESOURCE"), Some(24));
        assert_eq!(number("net_admin"), Some(12));
        assert_eq!(number("CHECKPOINT_RESTORE"), Some(40));
        assert_eq!(number("nonsense"), None);
        assert!(CapabilityMask::of(&["CHOWN", "BPF"]).is_some_and(|m| m.0 == 1 | 1 << 39));
    }
}
