//! Containers: what their processes see and may do, and how they end.

use cri::{
    ContainerConfig, ContainerState, LinuxContainerResources, Mount, MountPropagation,
    Runtime as _, SecurityProfile, SupplementalGroupsPolicy,
};

use crate::Test;
use crate::world::{IMAGE, World, log, script, world};

pub const TESTS: &[Test] = &[
    Test {
        name: "container_runs_logs_and_ends",
        run: life,
    },
    Test {
        name: "process_has_environment_user_and_directory",
        run: process,
    },
    Test {
        name: "commands_that_cannot_run",
        run: cannot_run,
    },
    Test {
        name: "capabilities_and_filters",
        run: security,
    },
    Test {
        name: "paths_are_masked_and_read_only",
        run: paths,
    },
    Test {
        name: "privileged_container",
        run: privileged,
    },
    Test {
        name: "mounts_of_the_node_and_of_images",
        run: mounts,
    },
    Test {
        name: "limits_hold_and_change",
        run: limits,
    },
    Test {
        name: "memory_beyond_the_limit_is_oomkilled",
        run: oom,
    },
    Test {
        name: "stop_waits_then_kills",
        run: stop,
    },
    Test {
        name: "start_is_quick",
        run: quick,
    },
];

fn life() {
    world(async |w| {
        let id = w.sandbox("a").await;
        let config = script("echo out; echo err >&2; printf partial; exit 3");
        let created = w
            .runtime
            .create_container(&id, config.clone())
            .await
            .unwrap();
        let status = w.runtime.container_status(&created).await.unwrap();
        assert_eq!(status.state, ContainerState::Created);
        w.runtime.start_container(&created).await.unwrap();
        let again = w.runtime.start_container(&created).await.unwrap_err();
        assert_eq!(again.kind, cri::ErrorKind::FailedPrecondition);
        let status = w.ended(&created).await;
        assert_eq!((status.exit_code, status.reason.as_str()), (3, "Error"));
        assert!(status.created_at <= status.started_at && status.started_at <= status.finished_at);
        assert!(status.image_ref.contains("sha256:"), "{}", status.image_ref);
        let text = log(&status);
        for line in ["out", "stderr F err", "stdout P partial"] {
            assert!(text.lines().any(|l| l == line), "{text}");
        }
        w.runtime.remove_container(&created).await.unwrap();
        w.runtime.remove_container(&created).await.unwrap();
        assert!(w.runtime.container_status(&created).await.is_err());
        let status = w.run(&id, script("true")).await;
        assert_eq!((status.exit_code, status.reason.as_str()), (0, "Completed"));
        let missing = ContainerConfig {
            image: "nowhere/nothing:1".into(),
            ..script("true")
        };
        let error = w.runtime.create_container(&id, missing).await.unwrap_err();
        assert_eq!(error.kind, cri::ErrorKind::NotFound);
    });
}

fn process() {
    world(async |w| {
        let id = w.sandbox("a").await;
        let mut config = script("env; pwd; id; cat /proc/1/oom_score_adj; echo $$");
        config.envs = vec![("FROM".into(), "pod".into()), ("#@!a".into(), "odd".into())];
        config.security.run_as_username = "web".into();
        config.security.supplemental_groups = vec![3000];
        config.working_dir = "/made/here".into();
        config.resources.oom_score_adj = 700;
        let status = w.run(&id, config.clone()).await;
        let out = log(&status);
        for line in [
            "PATH=/bin",
            "HOSTNAME=host-a",
            "FROM=pod",
            "HOME=/data",
            "/made/here",
            "700",
            "1",
        ] {
            assert!(out.lines().any(|l| l == line), "{line}: {out}");
        }
        assert!(
            out.contains("uid=1000(web) gid=1001(web) groups=1001(web),2000(more),3000"),
            "{out}"
        );
        assert_eq!(status.user, Some((1000, 1001, vec![1001, 2000, 3000])));
        // A shell would leave out names that it cannot use.
        config.command = vec!["env".into()];
        let out = w.output(&id, config.clone()).await;
        assert!(out.lines().any(|l| l == "#@!a=odd"), "{out}");
        config.metadata.attempt += 1;
        config.security.supplemental_groups_policy = SupplementalGroupsPolicy::Strict;
        config.security.run_as_username.clear();
        config.security.run_as_user = Some(1000);
        config.security.run_as_group = Some(5);
        let status = w.run(&id, config).await;
        assert_eq!(status.user, Some((1000, 5, vec![5, 3000])));
    });
}

fn cannot_run() {
    world(async |w| {
        let id = w.sandbox("a").await;
        let case = async |command: &str| {
            let config = ContainerConfig {
                command: vec![command.into()],
                ..script("")
            };
            let created = w.runtime.create_container(&id, config).await.unwrap();
            let error = w.runtime.start_container(&created).await.unwrap_err();
            let status = w.runtime.container_status(&created).await.unwrap();
            assert_eq!(status.message, error.message);
            assert_eq!(
                (status.exit_code, status.reason.as_str()),
                (128, "StartError")
            );
            assert!(
                error
                    .message
                    .starts_with("failed to create containerd task: ")
            );
            error.message
        };
        for (command, end) in [
            ("/x", r#"exec: "/x": stat /x: no such file or directory"#),
            ("x", r#"exec: "x": executable file not found in $PATH"#),
            ("/etc", r#"exec: "/etc": is a directory"#),
            (
                "/bin/not-executable",
                r#"exec: "/bin/not-executable": permission denied"#,
            ),
            (
                "/bin/not-a-program",
                "exec /bin/not-a-program: exec format error",
            ),
        ] {
            let message = case(command).await;
            assert!(message.ends_with(end), "{message}");
        }
        let mut config = script("true");
        config.security.run_as_username = "stranger".into();
        let created = w.runtime.create_container(&id, config).await.unwrap();
        let error = w.runtime.start_container(&created).await.unwrap_err();
        assert!(
            error
                .message
                .ends_with("unable to find user stranger: no matching entries in passwd file"),
            "{error}"
        );
    });
}

fn security() {
    world(async |w| {
        let id = w.sandbox("a").await;
        let show = "grep -E 'CapEff|CapBnd|CapPrm|CapInh|NoNewPrivs|Seccomp:' /proc/self/status | tr '\\t\\n' ' ,'; echo";
        let out = w.script(&id, show).await;
        assert_eq!(
            out,
            "CapInh: 0000000000000000,CapPrm: 00000000a80425fb,CapEff: 00000000a80425fb,CapBnd: 00000000a80425fb,NoNewPrivs: 0,Seccomp: 0,"
        );
        let mut config = script(&format!(
            "{show}; unshare -n true 2>&1; mount -t tmpfs x /tmp 2>&1; ls /tmp"
        ));
        config.security.run_as_user = Some(1000);
        config.security.no_new_privs = true;
        config.security.seccomp = SecurityProfile::RuntimeDefault;
        config.security.capabilities.drop = vec!["ALL".into()];
        config.security.capabilities.add = vec!["NET_BIND_SERVICE".into()];
        let out = w.output(&id, config).await;
        assert!(
            out.contains(
                "CapEff: 0000000000000000,CapBnd: 0000000000000400,NoNewPrivs: 1,Seccomp: 2,"
            ),
            "{out}"
        );
        assert!(out.contains("Operation not permitted"), "{out}");

        // Without no_new_privs the filter is loaded before capabilities are dropped.
        let mut config = script("grep Seccomp: /proc/self/status; echo fine");
        config.security.seccomp = SecurityProfile::RuntimeDefault;
        assert_eq!(w.output(&id, config).await, "Seccomp:\t2\nfine");

        let profile = w.dir.join("profile.json");
        std::fs::write(&profile, r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":28}]}"#).unwrap();
        let mut config = script("mkdir /tmp/x 2>&1; touch /tmp/y && echo touched");
        config.security.seccomp = SecurityProfile::Localhost(profile.display().to_string());
        let out = w.output(&id, config).await;
        assert!(
            out.contains("No space left on device") && out.contains("touched"),
            "{out}"
        );
        let mut config = script("true");
        config.security.seccomp = SecurityProfile::Localhost("/no/such.json".into());
        let error = w.runtime.create_container(&id, config).await.unwrap_err();
        assert!(
            error
                .message
                .contains("cannot load seccomp profile \"/no/such.json\""),
            "{error}"
        );

        // Devices: those of every container work, others cannot be opened even when made.
        let out = w
            .script(&id, "echo x > /dev/null; head -c 4 /dev/urandom | wc -c; mknod /tmp/kmsg c 1 11 && cat /tmp/kmsg 2>&1; ls /dev | sort | tr '\\n' ' '")
            .await;
        assert!(
            out.starts_with("4\n") && out.contains("Operation not permitted"),
            "{out}"
        );
        assert!(
            out.ends_with(
                "core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero "
            ),
            "{out}"
        );
    });
}

fn paths() {
    world(async |w| {
        let id = w.sandbox("a").await;
        let mut config = script(
            "cat /proc/kcore | wc -c; ls /proc/acpi 2>/dev/null | wc -l; echo 1 > /proc/sys/kernel/domainname; touch /file; touch /tmp/x; touch /sys/x; echo 0 > /sys/fs/cgroup/pids/cgroup.procs; echo $$; cat /proc/self/cgroup | sort | tail -1",
        );
        config.security.masked_paths = vec![
            "/proc/kcore".into(),
            "/proc/acpi".into(),
            "/proc/none".into(),
        ];
        config.security.readonly_paths = vec!["/proc/sys".into()];
        config.security.readonly_rootfs = true;
        config.mounts = vec![bind(&w.dir.join("tmp"), "/tmp", false)];
        let status = w.run(&id, config).await;
        let out = log(&status);
        let shown: Vec<_> = out.lines().filter(|l| !l.starts_with("stderr")).collect();
        assert_eq!(shown[..3], ["0", "0", "1"], "{out}");
        for what in ["domainname", "/file", "/sys/x"] {
            let refused = |l: &str| l.contains(what) && l.contains("Read-only file system");
            assert!(out.lines().any(refused), "{what}: {out}");
        }
        assert!(shown[3].ends_with(":/"), "own group is the root: {out}");
        assert!(w.dir.join("tmp/x").exists());
    });
}

fn privileged() {
    world(async |w| {
        let id = w.sandbox("a").await;
        let mut config = script(
            "mkdir /mnt; mount -t tmpfs x /mnt && echo mounted; ls /dev/kmsg; touch /sys/fs/cgroup 2>&1; grep CapEff /proc/self/status",
        );
        config.security.privileged = true;
        config.security.masked_paths = vec!["/proc/kcore".into()];
        let out = w.output(&id, config).await;
        assert!(out.contains("mounted\n/dev/kmsg"), "{out}");
        let own = std::fs::read_to_string("/proc/self/status").unwrap();
        let own = own.lines().find(|l| l.starts_with("CapEff")).unwrap();
        assert!(out.contains(own), "{out} is not {own}");
        assert!(!out.contains("Read-only"), "{out}");
    });
}

fn bind(host: &std::path::Path, target: &str, readonly: bool) -> Mount {
    Mount {
        host_path: host.display().to_string(),
        container_path: target.into(),
        readonly,
        ..Mount::default()
    }
}

fn mounts() {
    world(async |w| {
        let id = w.sandbox("a").await;
        let host = w.dir.join("host");
        std::fs::create_dir_all(host.join("below")).unwrap();
        std::fs::write(host.join("file"), "text").unwrap();
        tmpfs(&host.join("below"));
        let mut config = script(
            "cat /v/file; touch /v/no 2>&1; touch /v/below/yes && echo below; touch /rro/below/no 2>&1; cat /etc/one; ls /img/bin/busybox; ls /sub/busybox; touch /img/no 2>&1; /img/bin/busybox true 2>&1; ls /made",
        );
        config.mounts = vec![
            bind(&host, "/v", true),
            Mount {
                recursive_read_only: true,
                ..bind(&host, "/rro", true)
            },
            bind(&host.join("file"), "/etc/one", false),
            bind(&w.dir.join("created"), "/made", false),
            Mount {
                container_path: "/img".into(),
                image: Some(IMAGE.into()),
                ..Mount::default()
            },
            Mount {
                container_path: "/sub".into(),
                image: Some(IMAGE.into()),
                image_sub_path: "bin".into(),
                ..Mount::default()
            },
        ];
        let out = w.output(&id, config.clone()).await;
        let lines: Vec<_> = out.lines().collect();
        assert!(
            lines[0].starts_with("texttouch: /v/no: Read-only file system"),
            "{out}"
        );
        assert_eq!(lines[1], "below", "{out}");
        assert!(lines[2].contains("/rro/below/no: Read-only"), "{out}");
        assert_eq!(lines[3], "text/img/bin/busybox", "{out}");
        assert_eq!(lines[4], "/sub/busybox", "{out}");
        assert!(lines[5].contains("/img/no: Read-only"), "{out}");
        assert!(out.contains("Permission denied"), "{out}");
        assert!(w.dir.join("created").is_dir());
        propagation(w, &id).await;
        rustix::mount::unmount(host.join("below"), rustix::mount::UnmountFlags::DETACH).unwrap();
    });
}

async fn propagation(w: &World, id: &str) {
    let shared = w.dir.join("shared");
    std::fs::create_dir_all(&shared).unwrap();
    let both = |propagation| Mount {
        propagation,
        ..bind(&shared, "/s", false)
    };
    let mut config = script("true");
    config.mounts = vec![both(MountPropagation::Bidirectional)];
    let error = w
        .runtime
        .create_container(id, config.clone())
        .await
        .unwrap_err();
    assert!(
        error.message.ends_with("but it is not a shared mount"),
        "{error}"
    );
    tmpfs(&shared);
    rustix::mount::mount_change(&shared, rustix::mount::MountPropagationFlags::SHARED).unwrap();
    let mut config = script(
        "mkdir /s/in; mount -t tmpfs in /s/in; touch /s/in/file; while ! [ -e /s/out/go ]; do sleep 0.01; done; echo seen",
    );
    config.security.privileged = true;
    config.mounts = vec![both(MountPropagation::Bidirectional)];
    std::fs::create_dir(shared.join("out")).unwrap();
    let container = w.start(id, config).await;
    tmpfs(&shared.join("out"));
    std::fs::write(shared.join("out/go"), "").unwrap();
    let status = w.ended(&container).await;
    assert_eq!(log(&status), "seen");
    assert!(shared.join("in/file").exists(), "a mount came out");
    for dir in ["in", "out", ""] {
        rustix::mount::unmount(shared.join(dir), rustix::mount::UnmountFlags::DETACH).unwrap();
    }
}

fn tmpfs(at: &std::path::Path) {
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount("test", at, "tmpfs", flags, None).unwrap();
}

fn limits() {
    world(async |w| {
        let mut pod = w.sandbox_config("a");
        pod.pod_resources = Some(cri::LinuxPodResources {
            cpu_shares: 512,
            cpu_quota: 150_000,
            memory_limit_bytes: 256 << 20,
            pids_limit: 100,
        });
        let id = w.runtime.run_pod_sandbox(pod).await.unwrap();
        let mut config = script("exec sleep 1000");
        config.resources = LinuxContainerResources {
            cpu_period: 100_000,
            cpu_quota: 50_000,
            cpu_shares: 1024,
            memory_limit_bytes: 64 << 20,
            pids_limit: 20,
            ..LinuxContainerResources::default()
        };
        let container = w.start(&id, config.clone()).await;
        let groups = linux::cgroup::Cgroups::open(std::path::Path::new(&w.cgroup_root)).unwrap();
        let read = |group: &str, controller: &str, v1: &str, v2: &str| {
            let file = if groups.is_unified() { v2 } else { v1 };
            let dir = groups.directory(group, controller).unwrap();
            std::fs::read_to_string(dir.join(file))
                .unwrap()
                .trim()
                .to_owned()
        };
        let own = format!("kubepods/poda/{container}");
        let memory = |group: &str| read(group, "memory", "memory.limit_in_bytes", "memory.max");
        assert_eq!(memory(&own), (64 << 20).to_string());
        assert_eq!(memory("kubepods/poda"), (256 << 20).to_string());
        assert_eq!(read(&own, "pids", "pids.max", "pids.max"), "20");
        let quota = || read(&own, "cpu", "cpu.cfs_quota_us", "cpu.max");
        assert!(quota().starts_with("50000"));
        config.resources.cpu_quota = 70_000;
        config.resources.memory_limit_bytes = 128 << 20;
        let update = w
            .runtime
            .update_container_resources(&container, config.resources.clone());
        update.await.unwrap();
        assert!(quota().starts_with("70000"));
        assert_eq!(memory(&own), (128 << 20).to_string());
        let status = w.runtime.container_status(&container).await.unwrap();
        assert_eq!(status.resources, config.resources);
        let out = w
            .runtime
            .exec_sync(
                &container,
                vec![
                    "/bin/sh".into(),
                    "-c".into(),
                    "for i in $(seq 40); do sleep 5 & done 2>&1; true".into(),
                ],
                5,
            )
            .await
            .unwrap();
        let text = String::from_utf8_lossy(&out.stdout).into_owned()
            + &String::from_utf8_lossy(&out.stderr);
        assert!(text.contains("can't fork"), "{text}");
        let stats = w.runtime.list_container_stats().await.unwrap();
        let of = stats.iter().find(|s| s.container_id == container).unwrap();
        assert!(
            of.cpu_usage_nanoseconds > 0 && of.memory_working_set_bytes > 0 && of.processes > 0,
            "{of:?}"
        );
    });
}

fn oom() {
    world(async |w| {
        let id = w.sandbox("a").await;
        let mut config = script("exec tail /dev/zero");
        config.resources.memory_limit_bytes = 32 << 20;
        let status = w.run(&id, config).await;
        assert_eq!(
            (status.exit_code, status.reason.as_str()),
            (137, "OOMKilled")
        );
    });
}

fn stop() {
    world(async |w| {
        let id = w.sandbox("a").await;
        let stubborn = w
            .start(
                &id,
                script("trap '' TERM; echo up; while true; do sleep 0.1; done"),
            )
            .await;
        w.runtime.stop_container(&stubborn, 1).await.unwrap();
        let status = w.runtime.container_status(&stubborn).await.unwrap();
        assert_eq!((status.exit_code, status.reason.as_str()), (137, "Error"));
        w.runtime.stop_container(&stubborn, 1).await.unwrap();
        let mut polite =
            script("trap 'echo bye; exit 7' USR1; touch /tmp/up; while true; do sleep 0.01; done");
        polite.stop_signal = "SIGUSR1".into();
        let polite = w.start(&id, polite).await;
        let up = vec![
            "/bin/sh".into(),
            "-c".into(),
            "while ! [ -e /tmp/up ]; do sleep 0.01; done".into(),
        ];
        w.runtime.exec_sync(&polite, up, 10).await.unwrap();
        w.runtime.stop_container(&polite, 30).await.unwrap();
        let status = w.runtime.container_status(&polite).await.unwrap();
        assert_eq!(status.exit_code, 7);
        assert_eq!(log(&status), "bye");
    });
}

fn quick() {
    world(async |w| {
        let id = w.sandbox("a").await;
        let mut times = Vec::new();
        for _ in 0..20 {
            let begun = std::time::Instant::now();
            w.start(&id, script("true")).await;
            times.push(begun.elapsed());
        }
        times.sort();
        println!(
            "  create + start: median {:?}, slowest {:?}",
            times[10], times[19]
        );
    });
}
