//! Seccomp profiles of OCI's JSON form, from files of the node (`Localhost`). opencontainers/runtime-spec
//! config-linux.md; names of libseccomp.

use std::io::Read;
use std::path::Path;

use linux::seccomp::{Action, Compare, Condition, Profile, Rule};
use serde::Deserialize;

use crate::limits::SECCOMP_PROFILE_BYTES_MAX;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    default_action: String,
    default_errno_ret: Option<u32>,
    #[serde(default)]
    syscalls: Vec<Syscalls>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Syscalls {
    #[serde(default)]
    names: Vec<String>,
    action: String,
    errno_ret: Option<u32>,
    #[serde(default)]
    args: Option<Vec<Argument>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: u32,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

/// Reads a profile from a file.
pub fn load(path: &Path) -> Result<Profile, String> {
    let fail = |e: std::io::Error| {
        let why = match e.kind() {
            std::io::ErrorKind::NotFound => "no such file or directory".into(),
            _ => e.to_string(),
        };
        format!(
            "cannot load seccomp profile \"{}\": open {0}: {why}",
            path.display()
        )
    };
    let file = std::fs::File::open(path).map_err(fail)?;
    let mut bytes = Vec::new();
    file.take(SECCOMP_PROFILE_BYTES_MAX)
        .read_to_end(&mut bytes)
        .map_err(fail)?;
    parse(&bytes).map_err(|e| {
        format!(
            "decoding seccomp profile failed \"{}\": {e}",
            path.display()
        )
    })
}

fn parse(bytes: &[u8]) -> Result<Profile, String> {
    let document: Document = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    let default = action(&document.default_action, document.default_errno_ret)?;
    let rules = document.syscalls.into_iter().map(rule);
    Ok(Profile {
        default,
        rules: rules.collect::<Result<_, _>>()?,
    })
}

fn rule(syscalls: Syscalls) -> Result<Rule, String> {
    let conditions = syscalls.args.unwrap_or_default().into_iter().map(|a| {
        Ok(Condition {
            index: a.index,
            compare: compare(&a.op, a.value)?,
            value: if a.op == "SCMP_CMP_MASKED_EQ" {
                a.value_two
            } else {
                a.value
            },
        })
    });
    Ok(Rule {
        names: syscalls.names,
        action: action(&syscalls.action, syscalls.errno_ret)?,
        conditions: conditions.collect::<Result<_, String>>()?,
    })
}

fn action(name: &str, errno: Option<u32>) -> Result<Action, String> {
    let value = |default: u32| {
        let value = errno.unwrap_or(default);
        u16::try_from(value).map_err(|_| format!("errno {value} of seccomp action is too large"))
    };
    // EPERM, as runc's default.
    Ok(match name {
        "SCMP_ACT_ALLOW" => Action::Allow,
        "SCMP_ACT_LOG" => Action::Log,
        "SCMP_ACT_ERRNO" => Action::Errno(value(1)?),
        "SCMP_ACT_TRACE" => Action::Trace(value(1)?),
        "SCMP_ACT_TRAP" => Action::Trap,
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Action::KillThread,
        "SCMP_ACT_KILL_PROCESS" => Action::KillProcess,
        other => return Err(format!("seccomp action {other} is not supported")),
    })
}

fn compare(name: &str, mask: u64) -> Result<Compare, String> {
    Ok(match name {
        "SCMP_CMP_NE" => Compare::NotEqual,
        "SCMP_CMP_LT" => Compare::Less,
        "SCMP_CMP_LE" => Compare::LessOrEqual,
        "SCMP_CMP_EQ" => Compare::Equal,
        "SCMP_CMP_GE" => Compare::GreaterOrEqual,
        "SCMP_CMP_GT" => Compare::Greater,
        "SCMP_CMP_MASKED_EQ" => Compare::MaskedEqual(mask),
        other => return Err(format!("seccomp comparison {other} is not supported")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oci_profiles_are_read() {
        let profile = parse(
            br#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":38,"architectures":["SCMP_ARCH_X86_64"],
            "syscalls":[{"names":["clone"],"action":"SCMP_ACT_ALLOW",
              "args":[{"index":0,"value":2114060288,"valueTwo":0,"op":"SCMP_CMP_MASKED_EQ"}]},
              {"names":["read","write"],"action":"SCMP_ACT_ALLOW","args":null}]}"#,
        )
        .unwrap();
        assert_eq!(profile.default, Action::Errno(38));
        assert_eq!(
            profile.rules[0].conditions[0].compare,
            Compare::MaskedEqual(0x7e02_0000)
        );
        assert_eq!(profile.rules[0].conditions[0].value, 0);
        assert_eq!(profile.rules[1].names, ["read", "write"]);
        assert!(parse(br#"{"defaultAction":"SCMP_ACT_NOTIFY"}"#).is_err());
    }
}
