//! Security contexts as the runtime wants them. Upstream: pkg/kubelet/kuberuntime security_context.go.

use std::path::Path;

use api::core::v1::{Container, Pod, PodSecurityContext, SeccompProfile, SecurityContext};
use cri::{
    Capabilities, Image, LinuxContainerSecurityContext, NamespaceMode, NamespaceOption,
    SecurityProfile, SupplementalGroupsPolicy,
};

use crate::pod;

const MASKED: &[&str] = &[
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
const READONLY: &[&str] = &[
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// Namespaces of a pod.
pub fn namespaces(p: &Pod) -> NamespaceOption {
    let spec = pod::spec(p);
    let node = |on: Option<bool>, other| {
        if on == Some(true) {
            NamespaceMode::Node
        } else {
            other
        }
    };
    let pid = if spec.share_process_namespace == Some(true) {
        NamespaceMode::Pod
    } else {
        NamespaceMode::Container
    };
    NamespaceOption {
        network: node(spec.host_network, NamespaceMode::Pod),
        pid: node(spec.host_pid, pid),
        ipc: node(spec.host_ipc, NamespaceMode::Pod),
    }
}

fn contexts<'a>(
    p: &'a Pod,
    c: &'a Container,
) -> (Option<&'a PodSecurityContext>, Option<&'a SecurityContext>) {
    (
        pod::spec(p).security_context.as_ref(),
        c.security_context.as_ref(),
    )
}

/// The user a container runs as, where the spec says.
pub fn run_as_user(p: &Pod, c: &Container) -> Option<i64> {
    let (of_pod, own) = contexts(p, c);
    own.and_then(|s| s.run_as_user)
        .or(of_pod.and_then(|s| s.run_as_user))
}

/// Refuses what runAsNonRoot forbids.
pub fn verify_non_root(p: &Pod, c: &Container, image: &Image) -> Result<(), String> {
    let (of_pod, own) = contexts(p, c);
    let wanted = own
        .and_then(|s| s.run_as_non_root)
        .or(of_pod.and_then(|s| s.run_as_non_root));
    if wanted != Some(true) {
        return Ok(());
    }
    let place = format!("(pod: {:?}, container: {})", pod::format(p), c.name);
    if let Some(user) = run_as_user(p, c) {
        if user == 0 {
            return Err(format!(
                "container's runAsUser breaks non-root policy {place}"
            ));
        }
        return Ok(());
    }
    match (image.uid, image.username.as_str()) {
        (Some(0), _) | (None, "") => Err(format!(
            "container has runAsNonRoot and image will run as root {place}"
        )),
        (None, name) => Err(format!(
            "container has runAsNonRoot and image has non-numeric user ({name}), cannot verify user is non-root {place}"
        )),
        (Some(_), _) => Ok(()),
    }
}

/// The security context of one container. `seccomp_root` holds localhost profiles.
pub fn container(
    p: &Pod,
    c: &Container,
    image: &Image,
    seccomp_root: &Path,
) -> LinuxContainerSecurityContext {
    let (of_pod, own) = contexts(p, c);
    let user = run_as_user(p, c);
    let unmasked = own.and_then(|s| s.proc_mount.as_deref()) == Some("Unmasked");
    let paths = |list: &[&str]| -> Vec<String> {
        if unmasked {
            return Vec::new();
        }
        list.iter().map(|s| (*s).to_string()).collect()
    };
    let caps = own.and_then(|s| s.capabilities.clone()).unwrap_or_default();
    let seccomp = own
        .and_then(|s| s.seccomp_profile.as_ref())
        .or(of_pod.and_then(|s| s.seccomp_profile.as_ref()));
    LinuxContainerSecurityContext {
        capabilities: Capabilities {
            add: caps.add.unwrap_or_default(),
            drop: caps.drop.unwrap_or_default(),
        },
        privileged: own.and_then(|s| s.privileged) == Some(true),
        run_as_user: user.or(image.uid),
        run_as_group: own
            .and_then(|s| s.run_as_group)
            .or(of_pod.and_then(|s| s.run_as_group)),
        run_as_username: if user.is_none() && image.uid.is_none() {
            image.username.clone()
        } else {
            String::new()
        },
        readonly_rootfs: own.and_then(|s| s.read_only_root_filesystem) == Some(true),
        supplemental_groups: groups(of_pod),
        supplemental_groups_policy: match of_pod
            .and_then(|s| s.supplemental_groups_policy.as_deref())
        {
            Some("Strict") => SupplementalGroupsPolicy::Strict,
            _ => SupplementalGroupsPolicy::Merge,
        },
        no_new_privs: own.and_then(|s| s.allow_privilege_escalation) == Some(false),
        masked_paths: paths(MASKED),
        readonly_paths: paths(READONLY),
        seccomp: profile(seccomp, seccomp_root),
        pid: namespaces(p).pid,
        target_container: None,
    }
}

fn groups(of_pod: Option<&PodSecurityContext>) -> Vec<i64> {
    let fs_group = of_pod.and_then(|s| s.fs_group);
    let more = of_pod.and_then(|s| s.supplemental_groups.as_ref());
    fs_group
        .into_iter()
        .chain(more.into_iter().flatten().copied())
        .collect()
}

fn profile(p: Option<&SeccompProfile>, root: &Path) -> SecurityProfile {
    let Some(p) = p else {
        return SecurityProfile::Unconfined;
    };
    match (p.type_.as_str(), p.localhost_profile.as_deref()) {
        ("RuntimeDefault", _) => SecurityProfile::RuntimeDefault,
        ("Localhost", Some(file)) => {
            SecurityProfile::Localhost(root.join(file).display().to_string())
        }
        _ => SecurityProfile::Unconfined,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod_of(of_pod: serde_json::Value, own: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata":{"name":"p","namespace":"n","uid":"u"},
            "spec":{"securityContext":of_pod,"containers":[{"name":"c","securityContext":own}]}}))
        .unwrap()
    }

    #[test]
    fn non_root_is_checked_against_spec_and_image() {
        let root = Image::default();
        let named = Image {
            username: "web".into(),
            ..Image::default()
        };
        let numeric = Image {
            uid: Some(7),
            ..Image::default()
        };
        let check = |of_pod, own, image: &Image| {
            let p = pod_of(of_pod, own);
            verify_non_root(&p, &pod::containers(&p)[0], image)
        };
        let on = json!({"runAsNonRoot":true});
        assert_eq!(
            check(on.clone(), json!({}), &root).unwrap_err(),
            "container has runAsNonRoot and image will run as root (pod: \"p_n(u)\", container: c)"
        );
        assert!(
            check(on.clone(), json!({}), &named)
                .unwrap_err()
                .contains("non-numeric user (web)")
        );
        assert!(check(on.clone(), json!({}), &numeric).is_ok());
        assert!(check(on.clone(), json!({"runAsUser":5}), &root).is_ok());
        assert_eq!(
            check(on, json!({"runAsUser":0}), &numeric).unwrap_err(),
            "container's runAsUser breaks non-root policy (pod: \"p_n(u)\", container: c)"
        );
    }

    #[test]
    fn own_settings_win_and_groups_add_up() {
        let p = pod_of(
            json!({"runAsUser":1,"runAsGroup":2,"fsGroup":3,"supplementalGroups":[4],"seccompProfile":{"type":"RuntimeDefault"}}),
            json!({"runAsUser":9,"allowPrivilegeEscalation":false,"procMount":"Unmasked","capabilities":{"drop":["ALL"]}}),
        );
        let s = container(
            &p,
            &pod::containers(&p)[0],
            &Image::default(),
            Path::new("/s"),
        );
        assert_eq!((s.run_as_user, s.run_as_group), (Some(9), Some(2)));
        assert_eq!(s.supplemental_groups, [3, 4]);
        assert!(s.no_new_privs && s.masked_paths.is_empty());
        assert_eq!(s.seccomp, SecurityProfile::RuntimeDefault);
        assert_eq!(s.capabilities.drop, ["ALL"]);
    }
}
