//! Which devices the processes of a group may open and make. Version 1 has a controller with a list; version
//! 2 runs a program (BPF_PROG_TYPE_CGROUP_DEVICE). cgroup-v1/devices.rst, cgroup-v2.rst, bpf(2).
#![allow(unsafe_code)]

use std::fs;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use super::{Cgroups, Error, Version};

/// A device that may be used. All that no rule names is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceRule {
    /// `c`, `b`, or `a` for both.
    pub kind: char,
    /// `None`: any.
    pub major: Option<u32>,
    pub minor: Option<u32>,
    /// Of `r`, `w`, `m`.
    pub access: String,
}

/// `struct bpf_insn`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Instruction {
    code: u8,
    /// Source register in the upper half.
    registers: u8,
    offset: i16,
    immediate: i32,
}

/// The part of `union bpf_attr` that loads a program.
#[repr(C)]
#[derive(Default)]
struct LoadAttributes {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
    kernel_version: u32,
    flags: u32,
}

/// The part of `union bpf_attr` that attaches a program.
#[repr(C)]
#[derive(Default)]
struct AttachAttributes {
    target: u32,
    program: u32,
    attach_type: u32,
    flags: u32,
}

const BPF_PROG_LOAD: i32 = 5;
const BPF_PROG_ATTACH: i32 = 8;
const PROGRAM_TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
const ALLOW_MULTI: u32 = 2;

const ACCESS_MAKE: i32 = 1;
const ACCESS_READ: i32 = 2;
const ACCESS_WRITE: i32 = 4;
const KIND_BLOCK: i32 = 1;
const KIND_CHARACTER: i32 = 2;

impl Cgroups {
    /// Refuses a group all devices but these. Without a way to do so (version 1 without the controller, a
    /// kernel without BPF) nothing is refused.
    pub fn allow_devices(&self, path: &str, rules: &[DeviceRule]) -> Result<(), Error> {
        let dirs = self.directories(path);
        if let Some((_, dir)) = dirs.iter().find(|(h, _)| h.controls("devices")) {
            return allow_v1(dir, rules);
        }
        let unified = dirs.iter().find(|(h, _)| h.version == Version::V2);
        match unified {
            Some((_, dir)) if self.is_unified() => allow_v2(dir, rules),
            _ => Ok(()),
        }
    }
}

fn allow_v1(dir: &Path, rules: &[DeviceRule]) -> Result<(), Error> {
    let write = |file: &str, text: &str| {
        let file = dir.join(file);
        fs::write(&file, text).map_err(|e| Error::new("write", &file, e))
    };
    write("devices.deny", "a")?;
    let number = |n: Option<u32>| n.map_or_else(|| "*".to_owned(), |n| n.to_string());
    for rule in rules {
        let kinds: &[char] = if rule.kind == 'a' {
            &['b', 'c']
        } else {
            &[rule.kind]
        };
        for kind in kinds {
            let (major, minor) = (number(rule.major), number(rule.minor));
            let text = format!("{kind} {major}:{minor} {}", rule.access);
            write("devices.allow", &text)?;
        }
    }
    Ok(())
}

fn allow_v2(dir: &Path, rules: &[DeviceRule]) -> Result<(), Error> {
    let program = compile(rules);
    let group = fs::File::open(dir).map_err(|e| Error::new("open", dir, e))?;
    let license = c"Apache-2.0";
    let load = LoadAttributes {
        program_type: PROGRAM_TYPE_CGROUP_DEVICE,
        instruction_count: program.len() as u32,
        instructions: program.as_ptr() as u64,
        license: license.as_ptr() as u64,
        ..LoadAttributes::default()
    };
    let failed = |what| Error::new(what, dir, std::io::Error::last_os_error());
    // SAFETY: the attributes, the program and the licence live through the call, which only reads them.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_LOAD,
            std::ptr::from_ref(&load),
            size_of::<LoadAttributes>(),
        )
    };
    if fd < 0 {
        return Err(failed("load device program for"));
    }
    // SAFETY: the kernel just gave this descriptor, and nobody else owns it.
    let program = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    let attach = AttachAttributes {
        target: group.as_raw_fd() as u32,
        program: program.as_raw_fd() as u32,
        attach_type: ATTACH_CGROUP_DEVICE,
        flags: ALLOW_MULTI,
    };
    // SAFETY: the attributes live through the call, which only reads them.
    let done = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_ATTACH,
            std::ptr::from_ref(&attach),
            size_of::<AttachAttributes>(),
        )
    };
    if done < 0 {
        return Err(failed("attach device program to"));
    }
    Ok(())
}

/// The context (r1) is `struct bpf_cgroup_dev_ctx`: kind and access in one word, major, minor. The answer
/// (r0) is 1 where a rule allows all of the asked access.
fn compile(rules: &[DeviceRule]) -> Vec<Instruction> {
    const LOAD: u8 = 0x61;
    const MOVE: u8 = 0xbc;
    const AND: u8 = 0x54;
    const SHIFT_RIGHT: u8 = 0x74;
    const NOT_EQUAL: u8 = 0x55;
    const MOVE_IMMEDIATE: u8 = 0xb7;
    const EXIT: u8 = 0x95;
    let ins = |code, to: u8, from: u8, offset, immediate| Instruction {
        code,
        registers: to | from << 4,
        offset,
        immediate,
    };
    // r2 = kind, r3 = access, r4 = major, r5 = minor.
    let mut program = vec![
        ins(LOAD, 2, 1, 0, 0),
        ins(MOVE, 3, 2, 0, 0),
        ins(AND, 2, 0, 0, 0xffff),
        ins(SHIFT_RIGHT, 3, 0, 0, 16),
        ins(LOAD, 4, 1, 4, 0),
        ins(LOAD, 5, 1, 8, 0),
    ];
    for rule in rules {
        let mut tests = Vec::new();
        match rule.kind {
            'c' => tests.push((2, KIND_CHARACTER)),
            'b' => tests.push((2, KIND_BLOCK)),
            _ => {}
        }
        tests.extend(rule.major.map(|n| (4, n as i32)));
        tests.extend(rule.minor.map(|n| (5, n as i32)));
        let bit = |c, bit| if rule.access.contains(c) { bit } else { 0 };
        let access = bit('r', ACCESS_READ) | bit('w', ACCESS_WRITE) | bit('m', ACCESS_MAKE);
        let mut code: Vec<Instruction> = Vec::new();
        // Anything asked that is not granted leaves a bit.
        code.push(ins(MOVE, 6, 3, 0, 0));
        code.push(ins(AND, 6, 0, 0, !access & 0x7));
        tests.push((6, 0));
        for (register, value) in tests {
            code.push(ins(NOT_EQUAL, register, 0, 0, value));
        }
        code.push(ins(MOVE_IMMEDIATE, 0, 0, 0, 1));
        code.push(ins(EXIT, 0, 0, 0, 0));
        let end = code.len();
        for (at, i) in code.iter_mut().enumerate() {
            if i.code == NOT_EQUAL {
                i.offset = (end - at - 1) as i16;
            }
        }
        program.extend(code);
    }
    program.push(ins(MOVE_IMMEDIATE, 0, 0, 0, 0));
    program.push(ins(EXIT, 0, 0, 0, 0));
    program
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a program as the kernel does.
    fn allowed(program: &[Instruction], kind: i32, access: i32, major: i32, minor: i32) -> bool {
        let mut r = [0i64; 8];
        let mut at = 0;
        loop {
            let i = program[at];
            at += 1;
            let (to, from) = ((i.registers & 15) as usize, (i.registers >> 4) as usize);
            match i.code {
                0x61 => {
                    r[to] = i64::from([kind | access << 16, major, minor][i.offset as usize / 4]);
                }
                0xbc => r[to] = r[from],
                0x54 => r[to] &= i64::from(i.immediate as u32),
                0x74 => r[to] >>= i.immediate,
                0x55 if r[to] != i64::from(i.immediate) => at += i.offset as usize,
                0x55 => {}
                0xb7 => r[to] = i64::from(i.immediate),
                0x95 => return r[0] == 1,
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    #[test]
    fn only_what_a_rule_names_is_allowed() {
        let rules = [
            DeviceRule {
                kind: 'c',
                major: Some(1),
                minor: Some(3),
                access: "rw".into(),
            },
            DeviceRule {
                kind: 'a',
                major: None,
                minor: None,
                access: "m".into(),
            },
        ];
        let program = compile(&rules);
        let (c, b) = (KIND_CHARACTER, KIND_BLOCK);
        assert!(allowed(&program, c, ACCESS_READ | ACCESS_WRITE, 1, 3));
        assert!(!allowed(&program, c, ACCESS_READ | ACCESS_MAKE, 1, 3));
        assert!(!allowed(&program, b, ACCESS_READ, 1, 3));
        assert!(!allowed(&program, c, ACCESS_READ, 1, 5));
        assert!(allowed(&program, b, ACCESS_MAKE, 8, 0));
    }
}
