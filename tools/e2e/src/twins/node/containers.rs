//! Containers: what they run, as whom, how they end, what they leave.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use http::Method;
use serde_json::{Value, json};

use crate::connect::escape;
use crate::pods::{self, AGNHOST, BUSYBOX, DELETED, START, uuid};
use crate::rest::{Cx, POLL};

const MINUTE: Duration = Duration::from_secs(60);

/// A busybox pod whose container has the pod's name.
fn busybox(begin: &str, container: Value) -> Value {
    let name = format!("{begin}{}", uuid());
    let mut all = json!({"name": name, "image": BUSYBOX});
    for (key, value) in container.as_object().into_iter().flatten() {
        all[key] = value.clone();
    }
    pods::pod(
        &name,
        json!({"restartPolicy": "Never", "containers": [all]}),
    )
}

// === Containers ===

fn client_containers(command: Value, args: Value) -> Value {
    let mut pod = pods::agnhost(&format!("client-containers-{}", uuid()), &[]);
    pod["spec"]["restartPolicy"] = json!("Never");
    pod["spec"]["terminationGracePeriodSeconds"] = json!(1);
    if !command.is_null() {
        pod["spec"]["containers"][0]["command"] = command;
    }
    if !args.is_null() {
        pod["spec"]["containers"][0]["args"] = args;
    }
    pod
}

pub async fn image_defaults(cx: Cx) -> Result<()> {
    let made = pods::create(&cx, &client_containers(Value::Null, Value::Null)).await?;
    let name = pods::name(&made);
    pods::running(&cx, name, START).await?;
    pods::log_has(
        &cx,
        name,
        "agnhost-container",
        "Paused",
        Duration::from_secs(3),
    )
    .await
}

pub async fn overridden(cx: Cx, command: Option<&str>, args: &[&str], shown: &str) -> Result<()> {
    let pod = client_containers(command.map_or(Value::Null, |c| json!([c])), json!(args));
    pods::output(&cx, &pod, "agnhost-container", &[shown]).await
}

// === Container Runtime ===

/// What becomes of a container that fails once, succeeds once and then runs on.
struct Blackbox {
    container: &'static str,
    policy: &'static str,
    restarts: i64,
    phase: &'static str,
    ready: bool,
    state: &'static str,
}

const BLACKBOX: [Blackbox; 3] = [
    Blackbox {
        container: "terminate-cmd-rpa",
        policy: "Always",
        restarts: 2,
        phase: "Running",
        ready: true,
        state: "running",
    },
    Blackbox {
        container: "terminate-cmd-rpof",
        policy: "OnFailure",
        restarts: 1,
        phase: "Succeeded",
        ready: false,
        state: "terminated",
    },
    Blackbox {
        container: "terminate-cmd-rpn",
        policy: "Never",
        restarts: 0,
        phase: "Failed",
        ready: false,
        state: "terminated",
    },
];

pub async fn expected_status(cx: Cx) -> Result<()> {
    let script = "f=/restart-count/restartCount; echo x >> $f; n=$(wc -l < $f); \
        if [ $n -eq 1 ]; then exit 1; fi; if [ $n -eq 2 ]; then exit 0; fi; while true; do sleep 1; done";
    for case in BLACKBOX {
        let name = format!("{}{}", case.container, uuid());
        let pod = pods::pod(
            &name,
            json!({"restartPolicy": case.policy,
                "volumes": [{"name": "restart-count", "emptyDir": {"medium": "Memory"}}],
                "containers": [{"name": case.container, "image": BUSYBOX, "command": ["sh", "-c", script],
                    "volumeMounts": [{"name": "restart-count", "mountPath": "/restart-count"}]}]}),
        );
        pods::create(&cx, &pod).await?;
        let restarted = |pod: &Value| {
            let Some(all) = pod["status"]["containerStatuses"].as_array() else {
                return Ok(false);
            };
            ensure!(
                all.len() == 1 && all[0]["name"] == case.container,
                "{all:?}"
            );
            Ok(all[0]["restartCount"] == case.restarts)
        };
        pods::wait(&cx, &name, START, "restarted as often as wanted", restarted).await?;
        let reached = |pod: &Value| Ok(pod["status"]["phase"] == case.phase);
        let pod = pods::wait(&cx, &name, START, case.phase, reached).await?;
        ensure!(
            pods::condition(&pod, "Ready") == case.ready,
            "{}",
            pod["status"]
        );
        let state = &pod["status"]["containerStatuses"][0]["state"];
        ensure!(
            state.get(case.state).is_some(),
            "{state} is not {}",
            case.state
        );
        pods::remove(&cx, &name, json!({"gracePeriodSeconds": 0})).await?;
    }
    Ok(())
}

/// What a container leaves as its last message.
pub struct Message {
    pub script: &'static str,
    pub path: &'static str,
    pub fallback: bool,
    pub user: Option<i64>,
    pub phase: &'static str,
    pub text: &'static str,
}

pub async fn termination_message(cx: Cx, case: Message) -> Result<()> {
    let container = "termination-message-container";
    let name = format!("{container}{}", uuid());
    let mut all = json!({"name": container, "image": BUSYBOX, "command": ["/bin/sh", "-c"],
        "args": [case.script], "terminationMessagePath": case.path});
    if case.fallback {
        all["terminationMessagePolicy"] = json!("FallbackToLogsOnError");
    }
    if let Some(user) = case.user {
        all["securityContext"] = json!({"runAsUser": user});
    }
    pods::create(
        &cx,
        &pods::pod(
            &name,
            json!({"restartPolicy": "Never", "containers": [all]}),
        ),
    )
    .await?;
    let over = |pod: &Value| Ok(pod["status"]["phase"] == case.phase);
    let pod = pods::wait(&cx, &name, START, case.phase, over).await?;
    let ended = &pod["status"]["containerStatuses"][0]["state"]["terminated"];
    ensure!(ended.is_object(), "{}", pod["status"]);
    let message = ended["message"].as_str().unwrap_or_default();
    ensure!(
        message == case.text,
        "message {message:?}, expected {:?}",
        case.text
    );
    pods::remove(&cx, &name, json!({"gracePeriodSeconds": 0})).await
}

// === Security Context ===

pub async fn run_as_user(cx: Cx) -> Result<()> {
    let pod = busybox(
        "busybox-user-65534-",
        json!({"command": ["sh", "-c", "test $(id -u) -eq 65534"], "securityContext": {"runAsUser": 65534}}),
    );
    let made = pods::create(&cx, &pod).await?;
    let pod = pods::succeeded(&cx, pods::name(&made)).await?;
    ensure!(pod["status"]["phase"] == "Succeeded", "{pod}");
    Ok(())
}

pub async fn unprivileged(cx: Cx) -> Result<()> {
    let pod = busybox(
        "busybox-privileged-false-",
        json!({"command": ["sh", "-c", "ip link add dummy0 type dummy || true"],
            "securityContext": {"privileged": false}}),
    );
    let name = pods::name(&pod).to_string();
    pods::output(&cx, &pod, &name, &["Operation not permitted"]).await
}

pub async fn writable_root(cx: Cx) -> Result<()> {
    let pod = busybox(
        "busybox-readonly-false-",
        json!({"command": ["sh", "-c", "touch checkfile"], "securityContext": {"readOnlyRootFilesystem": false}}),
    );
    let made = pods::create(&cx, &pod).await?;
    let pod = pods::succeeded(&cx, pods::name(&made)).await?;
    ensure!(pod["status"]["phase"] == "Succeeded", "{pod}");
    Ok(())
}

pub async fn no_new_privileges(cx: Cx) -> Result<()> {
    let mut pod = busybox(
        "alpine-nnp-false-",
        json!({"securityContext": {"allowPrivilegeEscalation": false, "runAsUser": 1000}}),
    );
    pod["spec"]["containers"][0]["image"] = json!("registry.k8s.io/e2e-test-images/nonewprivs:1.4");
    let name = pods::name(&pod).to_string();
    pods::output(&cx, &pod, &name, &["Effective uid: 1000"]).await
}

/// User and group of the pod, or of the container, which wins.
pub async fn ids(cx: Cx, of_pod: Value, of_container: Value, texts: [&str; 2]) -> Result<()> {
    let name = format!("security-context-{}", uuid());
    let mut pod = pods::pod(
        &name,
        json!({"restartPolicy": "Never", "hostIPC": false, "hostPID": false, "securityContext": of_pod,
            "containers": [{"name": "test-container", "image": BUSYBOX, "command": ["sh", "-c", "id"],
                "securityContext": of_container}]}),
    );
    pod["metadata"]["labels"] = json!({"name": name});
    pods::output(&cx, &pod, "test-container", &texts).await
}

// === Kubelet ===

/// The log becomes exactly a text.
async fn exact_log(cx: &Cx, pod: &str, query: &str, text: &str) -> Result<()> {
    let what = format!("the log of {pod} is {text:?}");
    cx.eventually(POLL, MINUTE, &what, || async {
        Ok(pods::log_with(cx, pod, query).await? == text)
    })
    .await
}

pub async fn output_in_log(cx: Cx) -> Result<()> {
    let pod = busybox(
        "busybox-scheduling-",
        json!({"command": ["sh", "-c", "echo 'Hello World' ; sleep 240"]}),
    );
    let pod = pods::create_ready(&cx, &pod).await?;
    let since = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(1);
    let query = format!(
        "sinceTime={}",
        escape(&since.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
    );
    let exact = exact_log(&cx, pods::name(&pod), &query, "Hello World\n").await;
    ensure!(exact.is_ok(), "{exact:?}");
    Ok(())
}

pub async fn terminated_reason(cx: Cx) -> Result<()> {
    let made = pods::create(
        &cx,
        &busybox("bin-false", json!({"command": ["/bin/false"]})),
    )
    .await?;
    let over = |pod: &Value| {
        let all = pod["status"]["containerStatuses"].as_array();
        let Some([status]) = all.map(Vec::as_slice) else {
            return Ok(false);
        };
        let ended = &status["state"]["terminated"];
        let reason = ended["reason"].as_str().unwrap_or_default();
        Ok(ended["exitCode"].as_i64().is_some_and(|c| c != 0) && !reason.is_empty())
    };
    let pod = pods::wait(
        &cx,
        pods::name(&made),
        START,
        "terminated with a reason",
        over,
    )
    .await?;
    ensure!(pods::restarts(&pod) == 0, "{pod}");
    Ok(())
}

pub async fn failing_deleted(cx: Cx) -> Result<()> {
    let made = pods::create(
        &cx,
        &busybox("bin-false", json!({"command": ["/bin/false"]})),
    )
    .await?;
    let path = pods::path(&cx, pods::name(&made));
    cx.delete(&path).await?;
    // Upstream does not wait for the end; a pod that can be deleted goes, though.
    pods::gone(&cx, &path, DELETED).await?;
    ensure!(!pods::name(&made).is_empty(), "{made}");
    Ok(())
}

pub async fn host_aliases(cx: Cx) -> Result<()> {
    let mut pod = pods::agnhost(&format!("agnhost-host-aliases{}", uuid()), &["etc-hosts"]);
    pod["spec"]["restartPolicy"] = json!("Never");
    pod["spec"]["hostAliases"] = json!([{"ip": "123.45.67.89", "hostnames": ["foo", "bar"]}]);
    pods::output(&cx, &pod, "agnhost-container", &["123.45.67.89\tfoo\tbar"]).await
}

pub async fn read_only_root(cx: Cx) -> Result<()> {
    let pod = busybox(
        "busybox-readonly-fs",
        json!({"command": ["/bin/sh", "-c", "echo test > /file; sleep 240"],
            "securityContext": {"readOnlyRootFilesystem": true}}),
    );
    let pod = pods::create_ready(&cx, &pod).await?;
    let text = "/bin/sh: can't create /file: Read-only file system\n";
    let exact = exact_log(&cx, pods::name(&pod), "", text).await;
    ensure!(exact.is_ok(), "{exact:?}");
    Ok(())
}

// === Sysctls, image volumes ===

fn sysctl_pod(sysctls: Value) -> Value {
    pods::pod(
        &format!("sysctl-{}", uuid()),
        json!({"restartPolicy": "Never", "securityContext": {"sysctls": sysctls},
            "containers": [{"name": "test-container", "image": BUSYBOX,
                "command": ["/bin/sysctl", "kernel.shm_rmid_forced"]}]}),
    )
}

pub async fn sysctl(cx: Cx) -> Result<()> {
    let pod = sysctl_pod(json!([{"name": "kernel.shm_rmid_forced", "value": "1"}]));
    let made = pods::create(&cx, &pod).await?;
    let (name, uid) = (
        pods::name(&made),
        made["metadata"]["uid"].as_str().unwrap_or_default(),
    );
    let selector = format!(
        "involvedObject.kind=Pod,involvedObject.name={name},involvedObject.namespace={},involvedObject.uid={uid}",
        cx.namespace
    );
    let events = cx.core(&format!("events?fieldSelector={}", escape(&selector)));
    cx.eventually(POLL, START, "an event that it started", || async {
        let all = cx.get(&events).await?;
        for event in all["items"].as_array().into_iter().flatten() {
            match event["reason"].as_str().unwrap_or_default() {
                "Started" => return Ok(true),
                "Killing" | "Failed" | "SysctlForbidden" => bail!("{event}"),
                _ => {}
            }
        }
        Ok(false)
    })
    .await?;
    pods::succeeded(&cx, name).await?;
    pods::log_has(
        &cx,
        name,
        "test-container",
        "kernel.shm_rmid_forced = 1",
        MINUTE,
    )
    .await
}

pub async fn invalid_sysctls(cx: Cx) -> Result<()> {
    let pod = sysctl_pod(json!([{"name": "foo-", "value": "bar"},
        {"name": "kernel.shmmax", "value": "100000000"},
        {"name": "safe-and-unsafe", "value": "100000000"}, {"name": "bar..", "value": "42"}]));
    let refused = cx.refused(Method::POST, &cx.core("pods"), &pod).await?;
    let text = &refused.message;
    for part in ["Invalid value: \"foo-\"", "Invalid value: \"bar..\""] {
        ensure!(text.contains(part), "{refused:?} has no {part}");
    }
    for part in ["safe-and-unsafe", "kernel.shmmax"] {
        ensure!(!text.contains(part), "{refused:?} has {part}");
    }
    Ok(())
}

pub async fn image_volume(cx: Cx) -> Result<()> {
    let pod = pods::pod(
        "test-pod",
        json!({"restartPolicy": "Always",
            "volumes": [{"name": "volume", "image":
                {"reference": "registry.k8s.io/e2e-test-images/kitten:1.8", "pullPolicy": "Always"}}],
            "containers": [{"name": "test-container", "image": BUSYBOX,
                "command": ["/bin/sh", "-c", "while true; do echo test; sleep 1; done"],
                "volumeMounts": [{"name": "volume", "mountPath": "/volume"}]}]}),
    );
    pods::create(&cx, &pod).await?;
    pods::running(&cx, "test-pod", START).await?;
    for (file, text) in [
        ("/volume/data.json", "kitten.jpg"),
        ("/volume/etc/os-release", "Alpine Linux"),
    ] {
        let found = cx
            .exec_ok("test-pod", "test-container", &["/bin/cat", file])
            .await?;
        ensure!(found.contains(text), "{file}: {found}");
    }
    Ok(())
}

/// Whose /etc/hosts a container has.
pub async fn etc_hosts(cx: Cx) -> Result<()> {
    let original = json!({"name": "host-etc-hosts", "mountPath": "/etc/hosts-original"});
    let container = |name: &str, mounts: Value| {
        json!({"name": name, "image": AGNHOST, "imagePullPolicy": "IfNotPresent", "args": ["pause"],
            "volumeMounts": mounts})
    };
    let volumes = json!([{"name": "host-etc-hosts", "hostPath": {"path": "/etc/hosts", "type": "FileOrCreate"}}]);
    let own = json!([original, {"name": "host-etc-hosts", "mountPath": "/etc/hosts"}]);
    let mut pod = pods::pod(
        "test-pod",
        json!({"volumes": volumes, "containers": [
            container("busybox-1", json!([original])), container("busybox-2", json!([original])),
            container("busybox-3", own)]}),
    );
    pods::create_ready(&cx, &pod).await?;
    pod = pods::pod(
        "test-host-network-pod",
        json!({"hostNetwork": true, "securityContext": {}, "volumes": volumes, "containers": [
            container("busybox-1", json!([original])), container("busybox-2", json!([original]))]}),
    );
    pods::create_ready(&cx, &pod).await?;
    for (pod, container, managed) in [
        ("test-pod", "busybox-1", true),
        ("test-pod", "busybox-2", true),
        ("test-pod", "busybox-3", false),
        ("test-host-network-pod", "busybox-1", false),
        ("test-host-network-pod", "busybox-2", false),
    ] {
        let hosts = cx.exec_ok(pod, container, &["cat", "/etc/hosts"]).await?;
        let original = cx
            .exec_ok(pod, container, &["cat", "/etc/hosts-original"])
            .await?;
        ensure!(
            !hosts.is_empty() && !original.is_empty(),
            "{pod} {container}: empty"
        );
        let is = hosts.starts_with("# Kubernetes-managed hosts file.") && hosts != original;
        ensure!(is == managed, "{pod} {container}: {hosts}");
    }
    Ok(())
}
