use super::*;
use crate::capability::CapabilityMask;

/// Runs a program on one call, as the kernel does.
fn run(program: &[Instruction], architecture: u32, number: u32, arguments: [u64; 6]) -> u32 {
    let mut data = Vec::new();
    data.extend(number.to_ne_bytes());
    data.extend(architecture.to_ne_bytes());
    data.extend(0u64.to_ne_bytes());
    for a in arguments {
        data.extend(a.to_ne_bytes());
    }
    let (mut at, mut accumulator) = (0, 0u32);
    loop {
        let i = program[at];
        at += 1;
        let branch = |holds: bool| usize::from(if holds { i.jt } else { i.jf });
        match i.code {
            LOAD => {
                let b = &data[i.k as usize..i.k as usize + 4];
                accumulator = u32::from_ne_bytes(b.try_into().unwrap());
            }
            AND => accumulator &= i.k,
            JUMP => at += i.k as usize,
            JUMP_EQUAL => at += branch(accumulator == i.k),
            JUMP_GREATER => at += branch(accumulator > i.k),
            JUMP_GREATER_EQUAL => at += branch(accumulator >= i.k),
            RETURN => return i.k,
            other => panic!("instruction {other:#x}"),
        }
    }
}

fn call(program: &[Instruction], name: &str, first: u64) -> u32 {
    let number = number(name).unwrap();
    run(program, ARCHITECTURE, number, [first, 0, 0, 0, 0, 0])
}

const EPERM: u32 = 0x0005_0001;
const ENOSYS: u32 = 0x0005_0026;
const ALLOW: u32 = 0x7fff_0000;

#[test]
fn default_profile_answers_as_containerd_does() {
    let program = default_profile(CapabilityMask::default())
        .compile()
        .unwrap();
    assert_eq!(call(&program, "read", 0), ALLOW);
    assert_eq!(call(&program, "futex_waitv", 0), ALLOW);
    assert_eq!(call(&program, "mount", 0), EPERM);
    assert_eq!(call(&program, "unshare", 0), EPERM);
    assert_eq!(call(&program, "clone3", 0), ENOSYS);
    assert_eq!(call(&program, "clone", 0x11), ALLOW);
    assert_eq!(call(&program, "clone", 0x1000_0000), EPERM);
    assert_eq!(call(&program, "personality", 8), ALLOW);
    assert_eq!(call(&program, "personality", 9), EPERM);
    assert_eq!(call(&program, "socket", 2), ALLOW);
    assert_eq!(call(&program, "socket", 40), EPERM);
    assert_eq!(
        run(&program, ARCHITECTURE, 100_000, [0; 6]),
        EPERM,
        "unknown"
    );
    assert_eq!(run(&program, ARCHITECTURE, X32 + 1, [0; 6]), EPERM);
    assert_eq!(run(&program, 0x4000_0003, 3, [0; 6]), ENOSYS, "other ABI");

    let admin = CapabilityMask::of(&["SYS_ADMIN"]).unwrap();
    let program = default_profile(admin).compile().unwrap();
    assert_eq!(call(&program, "mount", 0), ALLOW);
    assert_eq!(call(&program, "clone3", 0), ALLOW);
    assert_eq!(call(&program, "clone", 0x1000_0000), ALLOW);
    assert_eq!(call(&program, "reboot", 0), EPERM);
}

#[test]
fn conditions_compare_all_64_bits() {
    let big = 0x5_0000_0010u64;
    let cases: &[(Compare, u64, bool)] = &[
        (Compare::Equal, big, true),
        (Compare::Equal, 0x10, false),
        (Compare::NotEqual, big, false),
        (Compare::NotEqual, 0x10, true),
        (Compare::Less, big - 1, true),
        (Compare::Less, big, false),
        (Compare::Less, 0xffff_ffff, true),
        (Compare::Less, 0x6_0000_0000, false),
        (Compare::LessOrEqual, big, true),
        (Compare::LessOrEqual, big + 1, false),
        (Compare::Greater, big + 1, true),
        (Compare::Greater, big, false),
        (Compare::Greater, 0x6_0000_0000, true),
        (Compare::Greater, 0xffff_ffff, false),
        (Compare::GreaterOrEqual, big, true),
        (Compare::GreaterOrEqual, big - 1, false),
        (Compare::MaskedEqual(0xf_0000_00ff), big | 0xff00, true),
        (Compare::MaskedEqual(0xf_0000_00ff), 0x10, false),
    ];
    for (compare, argument, holds) in cases {
        let rule = Rule {
            names: vec!["read".into()],
            action: Action::Allow,
            conditions: vec![Condition {
                index: 0,
                compare: *compare,
                value: big,
            }],
        };
        let profile = Profile {
            default: Action::KillProcess,
            rules: vec![rule],
        };
        let program = profile.compile().unwrap();
        let got = call(&program, "read", *argument) == ALLOW;
        assert_eq!(got, *holds, "{compare:?} {argument:#x}");
    }
}

#[test]
fn two_conditions_on_one_argument_are_alternatives() {
    let condition = |value| Condition {
        index: 0,
        compare: Compare::Equal,
        value,
    };
    let profile = Profile {
        default: Action::Errno(1),
        rules: vec![Rule {
            names: vec!["read".into(), "no_such_call".into()],
            action: Action::Allow,
            conditions: vec![condition(1), condition(2)],
        }],
    };
    let program = profile.compile().unwrap();
    assert_eq!(call(&program, "read", 1), ALLOW);
    assert_eq!(call(&program, "read", 2), ALLOW);
    assert_eq!(call(&program, "read", 3), EPERM);
}
