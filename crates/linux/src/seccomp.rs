//! Seccomp: profiles by system call name become one BPF program. Meaning as libseccomp gives OCI profiles
//! (opencontainers/runtime-spec config-linux.md): the conditions of a rule hold together, rules of the same
//! call are alternatives, two conditions on one argument are alternatives too.
//! Upstream: calls of other ABIs of the machine (32 bit) are answered with ENOSYS.
#![allow(unsafe_code)]

pub mod default;
mod syscalls;

use std::collections::BTreeMap;

use rustix::io::Errno;

pub use default::default_profile;
use syscalls::SYSCALLS;

/// Instructions the kernel takes at most.
const INSTRUCTIONS_MAX: usize = 4096;

/// What happens to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Allow,
    Log,
    Errno(u16),
    Trace(u16),
    Trap,
    KillThread,
    KillProcess,
}

/// How an argument is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compare {
    NotEqual,
    Less,
    LessOrEqual,
    Equal,
    GreaterOrEqual,
    Greater,
    /// Bits under this mask equal the value.
    MaskedEqual(u64),
}

/// A condition on one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition {
    /// 0 to 5.
    pub index: u32,
    pub compare: Compare,
    pub value: u64,
}

/// Calls that share an action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Names that this architecture does not have are passed over.
    pub names: Vec<String>,
    pub action: Action,
    pub conditions: Vec<Condition>,
}

/// What a process may call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    pub default: Action,
    pub rules: Vec<Rule>,
}

/// One BPF instruction (`struct sock_filter`).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    pub code: u16,
    pub jt: u8,
    pub jf: u8,
    pub k: u32,
}

/// A profile that cannot be compiled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("seccomp profile needs {0} instructions, more than the kernel takes")]
    TooLong(usize),
    #[error("seccomp condition on argument {0}: calls have 6 arguments")]
    Argument(u32),
}

const LOAD: u16 = 0x20;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const JUMP_GREATER_EQUAL: u16 = 0x35;
const AND: u16 = 0x54;
const RETURN: u16 = 0x06;

const OFFSET_NUMBER: u32 = 0;
const OFFSET_ARCHITECTURE: u32 = 4;
const OFFSET_ARGUMENTS: u32 = 16;

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;
/// Calls from here on are of the x32 ABI on x86_64, and unused elsewhere.
const X32: u32 = 0x4000_0000;

/// What is done for one call number: alternatives in order, then the default.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Block {
    alternatives: Vec<(Vec<Condition>, Action)>,
    otherwise: Action,
}

// === Action ===

impl Action {
    fn code(self) -> u32 {
        match self {
            Self::Allow => 0x7fff_0000,
            Self::Log => 0x7ffc_0000,
            Self::Errno(errno) => 0x0005_0000 | u32::from(errno),
            Self::Trace(value) => 0x7ff0_0000 | u32::from(value),
            Self::Trap => 0x0003_0000,
            Self::KillThread => 0,
            Self::KillProcess => 0x8000_0000,
        }
    }
}

// === Profile ===

impl Profile {
    /// The program that enforces this profile.
    pub fn compile(&self) -> Result<Vec<Instruction>, Error> {
        let ranges = self.ranges()?;
        let mut program = vec![
            load(OFFSET_ARCHITECTURE),
            jump(JUMP_EQUAL, ARCHITECTURE, 1, 0),
            ret(Action::Errno(libc::ENOSYS as u16)),
            load(OFFSET_NUMBER),
        ];
        program.extend(search(&ranges));
        if program.len() > INSTRUCTIONS_MAX {
            return Err(Error::TooLong(program.len()));
        }
        Ok(program)
    }

    /// First numbers of ranges that share a block; the first is 0, each reaches to the next.
    fn ranges(&self) -> Result<Vec<(u32, Block)>, Error> {
        let mut blocks: BTreeMap<u32, Block> = BTreeMap::new();
        for rule in &self.rules {
            for sets in condition_sets(&rule.conditions)? {
                for name in &rule.names {
                    let Some(number) = number(name) else { continue };
                    let block = blocks.entry(number).or_insert_with(|| Block {
                        alternatives: Vec::new(),
                        otherwise: self.default,
                    });
                    block.alternatives.push((sets.clone(), rule.action));
                }
            }
        }
        let mut ranges: Vec<(u32, Block)> = Vec::new();
        let mut push = |start: u32, block: Block| match ranges.last_mut() {
            Some((_, last)) if *last == block => {}
            _ => ranges.push((start, block)),
        };
        let default = Block {
            alternatives: Vec::new(),
            otherwise: self.default,
        };
        let mut next = 0;
        for (number, block) in blocks {
            if number > next {
                push(next, default.clone());
            }
            push(number, block.simplified());
            next = number + 1;
        }
        push(next, default.clone());
        push(X32, default);
        Ok(ranges)
    }
}

// === Block ===

impl Block {
    /// Everything after an unconditional alternative is out of reach.
    fn simplified(mut self) -> Self {
        if let Some(at) = self.alternatives.iter().position(|(c, _)| c.is_empty()) {
            self.otherwise = self.alternatives[at].1;
            self.alternatives.truncate(at);
        }
        self
    }

    fn emit(&self) -> Vec<Instruction> {
        let mut code = Vec::new();
        for (conditions, action) in &self.alternatives {
            // Each condition falls through where it holds, else jumps behind the alternative's return.
            let mut tail = vec![ret(*action)];
            for condition in conditions.iter().rev() {
                let mut test = condition.emit(tail.len());
                test.extend(tail);
                tail = test;
            }
            code.extend(tail);
        }
        code.push(ret(self.otherwise));
        code
    }
}

// === Condition ===

impl Condition {
    /// Falls through where the condition holds; else jumps over the `skip` instructions that follow.
    fn emit(&self, skip: usize) -> Vec<Instruction> {
        let low = OFFSET_ARGUMENTS + self.index * 8;
        let high = low + 4;
        let (value_low, value_high) = (self.value as u32, (self.value >> 32) as u32);
        let no = skip as u8;
        match self.compare {
            Compare::Equal => vec![
                load(high),
                jump(JUMP_EQUAL, value_high, 0, no + 2),
                load(low),
                jump(JUMP_EQUAL, value_low, 0, no),
            ],
            Compare::NotEqual => vec![
                load(high),
                jump(JUMP_EQUAL, value_high, 0, 2),
                load(low),
                jump(JUMP_EQUAL, value_low, no, 0),
            ],
            Compare::MaskedEqual(mask) => vec![
                load(high),
                and((mask >> 32) as u32),
                jump(JUMP_EQUAL, value_high, 0, no + 3),
                load(low),
                and(mask as u32),
                jump(JUMP_EQUAL, value_low, 0, no),
            ],
            Compare::Greater => self.ordered(JUMP_GREATER, false, no),
            Compare::GreaterOrEqual => self.ordered(JUMP_GREATER_EQUAL, false, no),
            Compare::Less => self.ordered(JUMP_GREATER_EQUAL, true, no),
            Compare::LessOrEqual => self.ordered(JUMP_GREATER, true, no),
        }
    }

    /// `inverted`: holds where the low-word test does not.
    fn ordered(&self, test: u16, inverted: bool, no: u8) -> Vec<Instruction> {
        let low = OFFSET_ARGUMENTS + self.index * 8;
        let (value_low, value_high) = (self.value as u32, (self.value >> 32) as u32);
        let (greater, less) = if inverted { (no + 3, 3) } else { (3, no + 3) };
        let (yes, not) = if inverted { (no, 0) } else { (0, no) };
        // A greater high word decides, so does a smaller one; else the low words do.
        vec![
            load(low + 4),
            jump(JUMP_GREATER, value_high, greater, 0),
            jump(JUMP_EQUAL, value_high, 0, less - 1),
            load(low),
            jump(test, value_low, yes, not),
        ]
    }
}

/// The number of a call on this architecture.
pub fn number(name: &str) -> Option<u32> {
    let found = SYSCALLS.iter().find(|(n, _)| *n == name);
    found.map(|(_, number)| *number)
}

/// Puts the calling thread under a program for good. Needs CAP_SYS_ADMIN or no_new_privs.
pub fn install(program: &[Instruction]) -> Result<(), Errno> {
    let len = u16::try_from(program.len()).map_err(|_| Errno::INVAL)?;
    let filter = libc::sock_fprog {
        len,
        filter: program.as_ptr().cast_mut().cast(),
    };
    // SAFETY: the program outlives the call, which only reads it; `Instruction` is laid out as sock_filter.
    let done = unsafe {
        libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::SECCOMP_MODE_FILTER as libc::c_ulong,
            std::ptr::from_ref(&filter),
            0,
            0,
        )
    };
    if done == 0 {
        return Ok(());
    }
    let raw = std::io::Error::last_os_error().raw_os_error();
    Err(Errno::from_raw_os_error(raw.unwrap_or(libc::EINVAL)))
}

/// Conditions as alternatives of conjunctions: where an argument is named twice, each stands alone.
fn condition_sets(conditions: &[Condition]) -> Result<Vec<Vec<Condition>>, Error> {
    if let Some(bad) = conditions.iter().find(|c| c.index > 5) {
        return Err(Error::Argument(bad.index));
    }
    let twice = (0..6).any(|i| conditions.iter().filter(|c| c.index == i).count() > 1);
    if twice {
        return Ok(conditions.iter().map(|c| vec![*c]).collect());
    }
    Ok(vec![conditions.to_vec()])
}

/// Binary search over ranges; the number is in the accumulator.
fn search(ranges: &[(u32, Block)]) -> Vec<Instruction> {
    match ranges {
        [] => Vec::new(),
        [(_, block)] => block.emit(),
        _ => {
            let (left, right) = ranges.split_at(ranges.len() / 2);
            let low = search(left);
            let mut code = Vec::new();
            let pivot = right[0].0;
            match u8::try_from(low.len()) {
                Ok(distance) => code.push(jump(JUMP_GREATER_EQUAL, pivot, distance, 0)),
                Err(_) => {
                    code.push(jump(JUMP_GREATER_EQUAL, pivot, 0, 1));
                    code.push(Instruction {
                        code: JUMP,
                        jt: 0,
                        jf: 0,
                        k: low.len() as u32,
                    });
                }
            }
            code.extend(low);
            code.extend(search(right));
            code
        }
    }
}

fn load(offset: u32) -> Instruction {
    Instruction {
        code: LOAD,
        jt: 0,
        jf: 0,
        k: offset,
    }
}

fn and(mask: u32) -> Instruction {
    Instruction {
        code: AND,
        jt: 0,
        jf: 0,
        k: mask,
    }
}

fn jump(code: u16, k: u32, jt: u8, jf: u8) -> Instruction {
    Instruction { code, jt, jf, k }
}

fn ret(action: Action) -> Instruction {
    Instruction {
        code: RETURN,
        jt: 0,
        jf: 0,
        k: action.code(),
    }
}

#[cfg(test)]
mod tests;
