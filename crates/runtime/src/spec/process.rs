//! The process of a container: command line, environment, user, capabilities, filter.

use cri::{ContainerConfig, SecurityProfile, SupplementalGroupsPolicy};
use linux::capability::{self, CapabilityMask};
use linux::seccomp::{Instruction, Profile};
use oci_spec::image::ImageConfiguration;

use super::Facts;
use crate::plan::{Filter, ProcessPlan, UserPlan};

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a container may do that asks for nothing. containerd's default.
const CAPABILITIES: &[&str] = &[
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// Signals by name, without `SIG`. signal(7).
const SIGNALS: &[(&str, i32)] = &[
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("IOT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("POLL", 29),
    ("PWR", 30),
    ("SYS", 31),
    ("RTMIN", 34),
    ("RTMAX", 64),
];

/// The process of a container.
pub fn plan(facts: &Facts<'_>) -> Result<ProcessPlan, String> {
    let (config, image) = (facts.config, &facts.image.config);
    let security = &config.security;
    let capabilities = capabilities(config)?;
    Ok(ProcessPlan {
        arguments: arguments(config, image)?,
        environment: environment(config, image, facts.hostname),
        working_dir: working_dir(config, image),
        user: user(config, image)?,
        capabilities: capabilities.0,
        no_new_privs: security.no_new_privs,
        seccomp: seccomp(config, capabilities)?,
        oom_score_adj: Some(config.resources.oom_score_adj),
        terminal: config.tty,
    })
}

fn arguments(config: &ContainerConfig, image: &ImageConfiguration) -> Result<Vec<String>, String> {
    let image = image.config().as_ref();
    let entrypoint = image.and_then(|c| c.entrypoint().clone());
    let cmd = image.and_then(|c| c.cmd().clone());
    let mut all = config.command.clone();
    let mut args = config.args.clone();
    if all.is_empty() {
        all = entrypoint.unwrap_or_default();
        if args.is_empty() {
            args = cmd.unwrap_or_default();
        }
    }
    all.extend(args);
    if all.is_empty() {
        return Err("no command specified".into());
    }
    Ok(all)
}

fn environment(
    config: &ContainerConfig,
    image: &ImageConfiguration,
    hostname: &str,
) -> Vec<String> {
    let mut all: Vec<String> = vec![PATH.into()];
    if config.tty {
        all.push("TERM=xterm".into());
    }
    all.push(format!("HOSTNAME={hostname}"));
    let image = image.config().as_ref();
    let of_image = image.and_then(|c| c.env().clone()).unwrap_or_default();
    let of_config = config.envs.iter().map(|(k, v)| format!("{k}={v}"));
    for entry in of_image.into_iter().chain(of_config) {
        let name = entry.split('=').next().unwrap_or_default();
        let same = |e: &&mut String| e.split('=').next() == Some(name);
        match all.iter_mut().find(same) {
            Some(there) => *there = entry,
            None => all.push(entry),
        }
    }
    all
}

fn working_dir(config: &ContainerConfig, image: &ImageConfiguration) -> String {
    if !config.working_dir.is_empty() {
        return config.working_dir.clone();
    }
    let image = image.config().as_ref();
    let dir = image.and_then(|c| c.working_dir().clone());
    dir.filter(|d| !d.is_empty()).unwrap_or_else(|| "/".into())
}

fn user(config: &ContainerConfig, image: &ImageConfiguration) -> Result<UserPlan, String> {
    let security = &config.security;
    let of_image = image.config().as_ref().and_then(|c| c.user().clone());
    let mut user = match security.run_as_user {
        Some(uid) => uid.to_string(),
        None if !security.run_as_username.is_empty() => security.run_as_username.clone(),
        None => {
            if let Some(gid) = security.run_as_group {
                let user = of_image.unwrap_or_default();
                let user = user.split(':').next().unwrap_or_default();
                return lookup(config, format!("{user}:{gid}"));
            }
            return lookup(config, of_image.unwrap_or_default());
        }
    };
    if let Some(gid) = security.run_as_group {
        user.push_str(&format!(":{gid}"));
    }
    lookup(config, user)
}

fn lookup(config: &ContainerConfig, user: String) -> Result<UserPlan, String> {
    let groups = config.security.supplemental_groups.iter();
    let supplemental: Result<Vec<u32>, String> = groups
        .map(|g| u32::try_from(*g).map_err(|_| format!("supplemental group {g} is not a group id")))
        .collect();
    Ok(UserPlan::Lookup {
        user,
        supplemental: supplemental?,
        strict: config.security.supplemental_groups_policy == SupplementalGroupsPolicy::Strict,
    })
}

/// The capabilities a container asks for; what the node itself lacks is left out by the init stage.
pub fn capabilities(config: &ContainerConfig) -> Result<CapabilityMask, String> {
    let security = &config.security;
    if security.privileged {
        return Ok(CapabilityMask::all());
    }
    let all = |names: &[String]| names.iter().any(|n| n.eq_ignore_ascii_case("ALL"));
    let mut mask = CapabilityMask::of(CAPABILITIES).unwrap_or_default();
    if all(&security.capabilities.add) {
        mask = CapabilityMask::all();
    }
    if all(&security.capabilities.drop) {
        mask = CapabilityMask::default();
    }
    let named = |names: &[String]| -> Result<u64, String> {
        let mut bits = 0;
        for name in names.iter().filter(|n| !n.eq_ignore_ascii_case("ALL")) {
            let number = capability::number(name);
            let number = number.ok_or_else(|| format!("unknown capability \"CAP_{name}\""))?;
            bits |= 1 << number;
        }
        Ok(bits)
    };
    mask.0 |= named(&security.capabilities.add)?;
    mask.0 &= !named(&security.capabilities.drop)?;
    Ok(mask)
}

fn seccomp(
    config: &ContainerConfig,
    capabilities: CapabilityMask,
) -> Result<Option<Filter>, String> {
    if config.security.privileged {
        return Ok(None);
    }
    let profile: Profile = match &config.security.seccomp {
        SecurityProfile::Unconfined => return Ok(None),
        SecurityProfile::RuntimeDefault => linux::seccomp::default_profile(capabilities),
        SecurityProfile::Localhost(path) => crate::seccomp::load(std::path::Path::new(path))?,
    };
    let program = profile.compile().map_err(|e| e.to_string())?;
    let tuple = |i: &Instruction| (i.code, i.jt, i.jf, i.k);
    Ok(Some(program.iter().map(tuple).collect()))
}

/// The number of a stop signal: of the container, else of its image, else TERM.
pub fn stop_signal(of_container: &str, of_image: &str) -> Result<i32, String> {
    for name in [of_container, of_image] {
        if !name.is_empty() {
            return signal_number(name).ok_or_else(|| format!("invalid signal: {name}"));
        }
    }
    Ok(15)
}

fn signal_number(name: &str) -> Option<i32> {
    if let Ok(number) = name.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some((_, number)) = SIGNALS.iter().find(|(n, _)| *n == bare) {
        return Some(*number);
    }
    let offset = |text: &str| text.parse::<i32>().ok().filter(|n| (0..=30).contains(n));
    match (bare.strip_prefix("RTMIN+"), bare.strip_prefix("RTMAX-")) {
        (Some(n), _) => Some(34 + offset(n)?),
        (_, Some(n)) => Some(64 - offset(n)?),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(json: &str) -> ImageConfiguration {
        let text = format!(
            r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":[]}},"config":{json}}}"#
        );
        ImageConfiguration::from_reader(text.as_bytes()).unwrap()
    }

    fn strings(all: &[&str]) -> Vec<String> {
        all.iter().map(|s| (*s).to_owned()).collect()
    }

    #[test]
    fn command_and_arguments_replace_those_of_the_image() {
        let image = image(r#"{"Entrypoint":["/e"],"Cmd":["c"]}"#);
        let case = |command: &[&str], args: &[&str]| {
            let config = ContainerConfig {
                command: strings(command),
                args: strings(args),
                ..Default::default()
            };
            arguments(&config, &image).unwrap().join(" ")
        };
        assert_eq!(case(&[], &[]), "/e c");
        assert_eq!(case(&[], &["a"]), "/e a");
        assert_eq!(case(&["/x"], &[]), "/x");
        assert_eq!(case(&["/x"], &["a"]), "/x a");
        let empty = self::image("{}");
        let refused = arguments(&ContainerConfig::default(), &empty);
        assert_eq!(refused.unwrap_err(), "no command specified");
    }

    #[test]
    fn environment_is_that_of_the_image_then_of_the_container() {
        let image = image(r#"{"Env":["PATH=/bin","A=1","B=2"]}"#);
        let config = ContainerConfig {
            envs: vec![("B".into(), "x=y".into()), ("#@!".into(), "odd".into())],
            ..Default::default()
        };
        let all = environment(&config, &image, "web-0");
        assert_eq!(
            all,
            ["PATH=/bin", "HOSTNAME=web-0", "A=1", "B=x=y", "#@!=odd"]
        );
    }

    #[test]
    fn capabilities_are_added_to_and_dropped_from_the_default() {
        let case = |add: &[&str], drop: &[&str]| {
            let mut config = ContainerConfig::default();
            config.security.capabilities.add = strings(add);
            config.security.capabilities.drop = strings(drop);
            capabilities(&config).map(|m| m.0)
        };
        let default = CapabilityMask::of(CAPABILITIES).unwrap().0;
        assert_eq!(case(&[], &[]), Ok(default));
        assert_eq!(case(&["NET_ADMIN"], &["ALL"]), Ok(1 << 12));
        assert_eq!(case(&["ALL"], &["CHOWN"]), Ok(CapabilityMask::all().0 & !1));
        assert_eq!(
            case(&["NOPE"], &[]).unwrap_err(),
            "unknown capability \"CAP_NOPE\""
        );
    }

    #[test]
    fn users_come_from_container_or_image() {
        let image = image(r#"{"User":"web:web"}"#);
        let case = |uid: Option<i64>, gid: Option<i64>, name: &str| {
            let mut config = ContainerConfig::default();
            config.security.run_as_user = uid;
            config.security.run_as_group = gid;
            config.security.run_as_username = name.into();
            match user(&config, &image).unwrap() {
                UserPlan::Lookup { user, .. } => user,
                UserPlan::Known(_) => panic!("looked up"),
            }
        };
        assert_eq!(case(None, None, ""), "web:web");
        assert_eq!(case(Some(5), None, ""), "5");
        assert_eq!(case(Some(5), Some(6), ""), "5:6");
        assert_eq!(case(None, Some(6), ""), "web:6");
        assert_eq!(case(None, None, "bob"), "bob");
    }

    #[test]
    fn stop_signals_have_many_names() {
        assert_eq!(stop_signal("", ""), Ok(15));
        assert_eq!(stop_signal("", "SIGQUIT"), Ok(3));
        assert_eq!(stop_signal("SIGUSR1", "SIGQUIT"), Ok(10));
        assert_eq!(stop_signal("", "9"), Ok(9));
        assert_eq!(stop_signal("SIGRTMIN+3", ""), Ok(37));
        assert!(stop_signal("SIGNOPE", "").is_err());
    }
}
