//! Sandboxes: namespaces, files, life and end.

use cri::{NamespaceMode, PodSandboxState, Runtime as _};

use crate::Test;
use crate::world::{script, world};

pub const TESTS: &[Test] = &[
    Test {
        name: "sandbox_has_its_own_namespaces_and_files",
        run: own_namespaces,
    },
    Test {
        name: "sandbox_on_the_node_s_namespaces",
        run: node_namespaces,
    },
    Test {
        name: "sandbox_shares_its_pid_namespace",
        run: shared_pid,
    },
    Test {
        name: "sandbox_with_sysctls",
        run: sysctls,
    },
    Test {
        name: "failed_network_leaves_nothing",
        run: failed_network,
    },
    Test {
        name: "lost_keeper_ends_its_containers",
        run: lost_keeper,
    },
];

fn own_namespaces() {
    world(async |w| {
        let id = w.sandbox("a").await;
        assert_eq!(w.sandbox("a").await, id, "idempotent");
        let status = w.runtime.pod_sandbox_status(&id).await.unwrap();
        assert_eq!(status.state, PodSandboxState::Ready);
        assert_eq!(status.ips, ["10.9.8.7"]);
        let netns = std::fs::metadata(&status.netns_path).unwrap();
        let node = std::fs::metadata("/proc/self/ns/net").unwrap();
        use std::os::unix::fs::MetadataExt;
        assert_ne!(netns.ino(), node.ino());
        let out = w
            .script(
                &id,
                "hostname; cat /etc/hostname /etc/resolv.conf; ls /sys/class/net; echo x > /dev/shm/shared",
            )
            .await;
        assert_eq!(
            out,
            "host-a\nhost-a\nsearch cluster.local\nnameserver 10.96.0.10\noptions ndots:5\nlo"
        );
        assert_eq!(w.script(&id, "cat /dev/shm/shared").await, "x");
        let memory = keeper_memory(status.keeper_pid);
        assert!(memory < 1024, "keeper has {memory} KiB of its own");
        w.runtime.stop_pod_sandbox(&id).await.unwrap();
        w.runtime.stop_pod_sandbox(&id).await.unwrap();
        let status = w.runtime.pod_sandbox_status(&id).await.unwrap();
        assert_eq!(status.state, PodSandboxState::NotReady);
        w.runtime.remove_pod_sandbox(&id).await.unwrap();
        w.runtime.remove_pod_sandbox(&id).await.unwrap();
        assert!(w.runtime.pod_sandbox_status(&id).await.is_err());
    });
}

/// Private memory in KiB.
fn keeper_memory(pid: i32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let of = |name: &str| {
        let line = text.lines().find(|l| l.starts_with(name)).unwrap();
        let number = line.split_whitespace().nth(1).unwrap();
        number.parse::<u64>().unwrap()
    };
    of("Private_Dirty:") + of("Private_Clean:").min(64)
}

fn node_namespaces() {
    world(async |w| {
        let mut config = w.sandbox_config("node");
        config.hostname.clear();
        config.namespaces.network = NamespaceMode::Node;
        config.namespaces.ipc = NamespaceMode::Node;
        config.namespaces.pid = NamespaceMode::Node;
        let id = w.runtime.run_pod_sandbox(config).await.unwrap();
        let status = w.runtime.pod_sandbox_status(&id).await.unwrap();
        assert!(status.ips.is_empty() && status.netns_path.is_empty());
        let mut container = script(
            "for n in net ipc uts pid; do ls -l /proc/self/ns/$n; done; sleep 0.01 & echo $$",
        );
        container.security.pid = NamespaceMode::Node;
        let out = w.output(&id, container).await;
        for name in ["net", "ipc", "uts", "pid"] {
            let own = std::fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
            assert!(out.contains(own.to_str().unwrap()), "{name}: {out}");
        }
    });
}

fn shared_pid() {
    world(async |w| {
        let mut config = w.sandbox_config("shared");
        config.namespaces.pid = NamespaceMode::Pod;
        let id = w.runtime.run_pod_sandbox(config).await.unwrap();
        let shared = |text: &str| {
            let mut container = script(text);
            container.security.pid = NamespaceMode::Pod;
            container
        };
        let first = w.start(&id, shared("echo up; exec sleep 1000")).await;
        let out = w.output(&id, shared("ps -o args; echo me $$")).await;
        assert!(out.contains("sleep 1000"), "{out}");
        assert!(out.contains("k0s-keeper"), "{out}");
        // What a container leaves behind ends with it.
        let out = w.output(&id, shared("sleep 2000 & echo left")).await;
        assert_eq!(out, "left");
        let out = w.output(&id, shared("ps -o args")).await;
        assert!(!out.contains("sleep 2000"), "{out}");
        w.runtime.stop_container(&first, 10).await.unwrap();
        let status = w.runtime.container_status(&first).await.unwrap();
        assert_eq!((status.exit_code, status.reason.as_str()), (143, "Error"));
        // A debugging container joins the pid namespace of another.
        let mut target = script("exec sleep 1000");
        target.security.pid = NamespaceMode::Container;
        let target = w.start(&id, target).await;
        let mut debug = script("ps -o pid,args");
        debug.security.target_container = Some(target.clone());
        let out = w.output(&id, debug).await;
        assert!(out.contains("1 sleep 1000"), "{out}");
    });
}

fn sysctls() {
    world(async |w| {
        let mut config = w.sandbox_config("sysctl");
        config
            .sysctls
            .insert("kernel.shm_rmid_forced".into(), "1".into());
        config
            .sysctls
            .insert("net.ipv4.tcp_syncookies".into(), "0".into());
        let id = w.runtime.run_pod_sandbox(config).await.unwrap();
        let out = w
            .script(&id, "cd /proc/sys; cat kernel/shm_rmid_forced net/ipv4/tcp_syncookies net/ipv4/ip_unprivileged_port_start")
            .await;
        assert_eq!(out, "1\n0\n0");
        let mut config = w.sandbox_config("bad");
        config
            .sysctls
            .insert("kernel.no_such_thing".into(), "1".into());
        let error = w.runtime.run_pod_sandbox(config).await.unwrap_err();
        assert!(error.message.contains("kernel.no_such_thing"), "{error}");
    });
}

fn failed_network() {
    world(async |w| {
        *w.network.refuses.lock().unwrap() = Some("no addresses left".into());
        let config = w.sandbox_config("a");
        let error = w.runtime.run_pod_sandbox(config.clone()).await.unwrap_err();
        assert!(
            error
                .message
                .starts_with("failed to setup network for sandbox"),
            "{error}"
        );
        assert!(w.runtime.list_pod_sandboxes().await.unwrap().is_empty());
        *w.network.refuses.lock().unwrap() = None;
        w.runtime.run_pod_sandbox(config).await.unwrap();
    });
}

fn lost_keeper() {
    world(async |w| {
        let id = w.sandbox("a").await;
        let container = w.start(&id, script("sleep 1000")).await;
        let mut events = w.runtime.events();
        let keeper = w.runtime.pod_sandbox_status(&id).await.unwrap().keeper_pid;
        linux::process::signal(keeper, 9).unwrap();
        let lost = async {
            loop {
                let event = events.recv().await.unwrap();
                if event.kind == cri::ContainerEventKind::SandboxLost {
                    return event;
                }
            }
        };
        let event = tokio::time::timeout(crate::world::PATIENCE, lost)
            .await
            .unwrap();
        assert_eq!(event.pod_uid, "uid-a");
        let status = w.ended(&container).await;
        assert_eq!((status.exit_code, status.reason.as_str()), (255, "Unknown"));
        let status = w.runtime.pod_sandbox_status(&id).await.unwrap();
        assert_eq!(status.state, PodSandboxState::NotReady);
    });
}
