//! emptyDir volumes.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::pods::{self, AGNHOST, BUSYBOX, uuid};
use crate::rest::Cx;

/// The pod that looks at an emptyDir.
fn pod(memory: bool, user: Option<i64>, args: &[&str]) -> Value {
    let source = if memory {
        json!({"medium": "Memory"})
    } else {
        json!({})
    };
    let mut all = vec!["mounttest", "--fs_type=/test-volume"];
    all.extend(args);
    let mut context = json!({"seLinuxOptions": {"level": "s0"}});
    if let Some(user) = user {
        context["runAsUser"] = json!(user);
    }
    pods::pod(
        &format!("pod-{}", uuid()),
        json!({"restartPolicy": "Never", "securityContext": context,
            "volumes": [{"name": "test-volume", "emptyDir": source}],
            "containers": [{"name": "test-container", "image": AGNHOST, "args": all,
                "volumeMounts": [{"name": "test-volume", "mountPath": "/test-volume"}]}]}),
    )
}

async fn shown(cx: &Cx, memory: bool, pod: &Value, texts: &[&str]) -> Result<()> {
    let mut all = texts.to_vec();
    if memory {
        all.push("mount type of \"/test-volume\": tmpfs");
    }
    pods::output(cx, pod, "test-container", &all).await
}

/// The volume itself may be written by everybody.
pub async fn volume_mode(cx: Cx, memory: bool) -> Result<()> {
    let pod = pod(memory, None, &["--file_perm=/test-volume"]);
    shown(
        &cx,
        memory,
        &pod,
        &["perms of file \"/test-volume\": -rwxrwxrwx"],
    )
    .await
}

/// A new file has the mode that its maker wants.
pub async fn file(cx: Cx, root: bool, mode: &str, memory: bool) -> Result<()> {
    let new = format!("--new_file_{mode}=/test-volume/test-file");
    let args = [new.as_str(), "--file_perm=/test-volume/test-file"];
    let pod = pod(memory, (!root).then_some(1001), &args);
    let permissions = match mode {
        "0644" => "-rw-r--r--",
        "0666" => "-rw-rw-rw-",
        _ => "-rwxrwxrwx",
    };
    let mode = format!("perms of file \"/test-volume/test-file\": {permissions}");
    let content = "content of file \"/test-volume/test-file\": mount-tester new file";
    shown(&cx, memory, &pod, &[&mode, content]).await
}

/// What one container writes another reads.
pub async fn shared(cx: Cx) -> Result<()> {
    let container = |name: &str, script: &str, place: &str| {
        json!({"name": name, "image": BUSYBOX, "command": ["/bin/sh"], "args": ["-c", script],
            "volumeMounts": [{"name": "shared-data", "mountPath": place}]})
    };
    let name = format!("pod-sharedvolume-{}", uuid());
    let pod = pods::pod(
        &name,
        json!({"restartPolicy": "Never", "terminationGracePeriodSeconds": 0,
            "volumes": [{"name": "shared-data", "emptyDir": {}}],
            "containers": [
                container("busybox-main-container", "trap exit TERM; while true; do sleep 1; done", "/usr/share/volumeshare"),
                container("busybox-sub-container",
                    "echo Hello from the busy-box sub-container > /pod-data/shareddata.txt", "/pod-data")]}),
    );
    pods::create(&cx, &pod).await?;
    pods::running(&cx, &name, pods::START).await?;
    let line = "cat /usr/share/volumeshare/shareddata.txt";
    let text = cx.shell(&name, "busybox-main-container", line).await?;
    ensure!(text == "Hello from the busy-box sub-container", "{text:?}");
    Ok(())
}
