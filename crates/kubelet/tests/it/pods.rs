//! Life of pods from their binding to their end.

use serde_json::{Value, json};

use crate::Env;

fn pod(spec: Value) -> Value {
    let mut spec = spec;
    spec["nodeName"] = json!("n1");
    json!({"apiVersion":"v1","kind":"Pod","metadata":{"name":"p","namespace":"ns","uid":"u1","generation":1,
        "labels":{"app":"web"}},"spec":spec,"status":{"phase":"Pending"}})
}

fn one(command: &[&str]) -> Value {
    json!({"restartPolicy":"Always","terminationGracePeriodSeconds":7,"containers":[{"name":"a","image":"img","command":command}]})
}

#[tokio::test]
async fn a_pod_runs_and_is_deleted() {
    let env = Env::start().await;
    let map = json!({"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"m","namespace":"ns"},"data":{"k":"v1"}});
    env.api.put("configmaps", map.clone());
    let mut spec = one(&["run", "$(FROM_MAP)"]);
    spec["volumes"] = json!([{"name":"cm","configMap":{"name":"m"}},{"name":"tmp","emptyDir":{}}]);
    spec["containers"][0]["env"] = json!([
        {"name":"FROM_MAP","valueFrom":{"configMapKeyRef":{"name":"m","key":"k"}}},
        {"name":"IP","valueFrom":{"fieldRef":{"fieldPath":"status.podIP"}}}]);
    spec["containers"][0]["volumeMounts"] =
        json!([{"name":"cm","mountPath":"/cm"},{"name":"tmp","mountPath":"/tmp"}]);
    env.api.put("pods", pod(spec));
    env.phase("Running").await;
    env.until("ready", || {
        let p = env.pod();
        let list = p["status"]["conditions"].as_array().unwrap().clone();
        list.iter()
            .any(|c| c["type"] == "Ready" && c["status"] == "True")
    })
    .await;
    let status = env.pod()["status"].clone();
    assert_eq!(status["podIP"], "127.0.0.2");
    assert_eq!(status["hostIP"], "127.0.0.1");
    assert_eq!(status["qosClass"], "BestEffort");
    let c = &status["containerStatuses"][0];
    assert_eq!(
        (c["ready"].as_bool(), c["restartCount"].as_i64()),
        (Some(true), Some(0))
    );
    assert!(c["containerID"].as_str().unwrap().starts_with("fake://a-0"));
    let config = env.runtime.config("a");
    assert_eq!(config.command, ["run", "v1"]);
    assert!(config.envs.contains(&("IP".into(), "127.0.0.2".into())));
    let at = |path: &str| {
        config
            .mounts
            .iter()
            .find(|m| m.container_path == path)
            .unwrap()
            .host_path
            .clone()
    };
    assert_eq!(
        std::fs::read_to_string(format!("{}/k", at("/cm"))).unwrap(),
        "v1"
    );
    assert!(
        std::fs::read_to_string(at("/etc/hosts"))
            .unwrap()
            .contains("127.0.0.2\tp\n")
    );
    // A change of the map reaches the volume without a restart.
    let mut changed = map;
    changed["data"]["k"] = json!("v2");
    env.api.put("configmaps", changed);
    let file = format!("{}/k", at("/cm"));
    env.until("new content", || {
        std::fs::read_to_string(&file).unwrap() == "v2"
    })
    .await;
    env.api.delete_pod("p", 7);
    env.until("gone", || env.api.get("pods", "ns", "p").is_none())
        .await;
    env.until("runtime clean", || {
        env.runtime.state.lock().sandboxes.is_empty()
    })
    .await;
    assert_eq!(env.runtime.state.lock().log, ["stop a 7"]);
    env.until("files removed", || {
        !env.dir.path().join("kubelet/pods/u1").exists()
    })
    .await;
    env.until("logs removed", || {
        !env.dir.path().join("pods/ns_p_u1").exists()
    })
    .await;
    for wanted in [
        "Pulling: Pulling image \"img\"",
        "Created: Container created",
        "Started: Container started",
        "Killing: Stopping container a",
    ] {
        env.until(wanted, || env.api.events().contains(&wanted.to_string()))
            .await;
    }
}

#[tokio::test]
async fn exits_follow_the_restart_policy() {
    let env = Env::start().await;
    let mut spec = one(&["exit", "0"]);
    spec["restartPolicy"] = json!("Never");
    env.api.put("pods", pod(spec));
    env.phase("Succeeded").await;
    let c = env.pod()["status"]["containerStatuses"][0].clone();
    assert_eq!(c["state"]["terminated"]["reason"], "Completed");
    // The pod stays until someone deletes it, then goes at once.
    env.api.delete_pod("p", 30);
    env.until("gone", || env.api.get("pods", "ns", "p").is_none())
        .await;
}

#[tokio::test]
async fn a_crashing_container_backs_off() {
    let env = Env::start().await;
    env.api.put("pods", pod(one(&["exit", "1"])));
    env.until("back-off", || {
        let p = env.pod();
        p["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    })
    .await;
    let p = env.pod();
    let c = &p["status"]["containerStatuses"][0];
    assert_eq!(c["restartCount"], 1);
    assert_eq!(c["lastState"]["terminated"]["exitCode"], 1);
    assert_eq!(
        c["state"]["waiting"]["message"],
        "back-off 10s restarting failed container=a pod=p_ns(u1)"
    );
    assert_eq!(p["status"]["phase"], "Running");
}

#[tokio::test]
async fn a_missing_image_is_told() {
    let env = Env::start().await;
    let mut spec = one(&["run"]);
    spec["containers"][0]["image"] = json!("missing:1");
    env.api.put("pods", pod(spec));
    env.until("back-off", || {
        let p = env.pod();
        let reason = p["status"]["containerStatuses"][0]["state"]["waiting"]["reason"].clone();
        reason == "ImagePullBackOff" || reason == "ErrImagePull"
    })
    .await;
    let text = "Failed: Failed to pull image \"missing:1\": missing:1: not found".to_string();
    env.until("event", || env.api.events().contains(&text))
        .await;
    env.api.delete_pod("p", 1);
    env.until("gone", || env.api.get("pods", "ns", "p").is_none())
        .await;
}

#[tokio::test]
async fn a_restart_of_the_kubelet_adopts_what_runs() {
    let mut env = Env::start().await;
    env.api.put("pods", pod(one(&["run"])));
    env.phase("Running").await;
    env.until("ready", || {
        env.pod()["status"]["containerStatuses"][0]["ready"] == true
    })
    .await;
    let before = env.pod()["status"]["containerStatuses"][0]["containerID"].clone();
    env.restart().await;
    env.runtime.exit("a", 1);
    env.until("restarted", || {
        env.pod()["status"]["containerStatuses"][0]["restartCount"] == 1
    })
    .await;
    assert_ne!(
        env.pod()["status"]["containerStatuses"][0]["containerID"],
        before
    );
    assert_eq!(env.runtime.state.lock().sandboxes.len(), 1);
    // A pod that vanished meanwhile is ended.
    let (stop, task) = env.running.take().unwrap();
    stop.send_replace(true);
    task.await.unwrap();
    env.api.remove("pods", "ns", "p");
    env.run();
    env.until("orphan ended", || {
        env.runtime.state.lock().sandboxes.is_empty()
    })
    .await;
    assert!(env.runtime.running().is_empty());
}

#[tokio::test]
async fn probes_decide_readiness_and_restarts() {
    let env = Env::start().await;
    let mut spec = one(&["run"]);
    spec["containers"][0]["readinessProbe"] =
        json!({"exec":{"command":["ready"]},"periodSeconds":1});
    spec["containers"][0]["livenessProbe"] =
        json!({"exec":{"command":["alive"]},"periodSeconds":1,"failureThreshold":1});
    env.runtime.state.lock().exec.insert("ready".into(), 1);
    env.api.put("pods", pod(spec));
    env.phase("Running").await;
    let text = "Unhealthy: Readiness probe failed: ".to_string();
    env.until("unhealthy", || env.api.events().contains(&text))
        .await;
    assert_eq!(env.pod()["status"]["containerStatuses"][0]["ready"], false);
    env.runtime.state.lock().exec.insert("ready".into(), 0);
    env.until("ready", || {
        env.pod()["status"]["containerStatuses"][0]["ready"] == true
    })
    .await;
    env.runtime.state.lock().exec.insert("alive".into(), 1);
    env.until("restarted", || {
        env.pod()["status"]["containerStatuses"][0]["restartCount"] == 1
    })
    .await;
    let text = "Killing: Container a failed liveness probe, will be restarted".to_string();
    env.until("event", || env.api.events().contains(&text))
        .await;
}

#[tokio::test]
async fn hooks_run_and_a_pod_that_does_not_fit_is_refused() {
    let env = Env::start().await;
    let mut spec = one(&["run"]);
    spec["containers"][0]["lifecycle"] =
        json!({"postStart":{"exec":{"command":["began"]}},"preStop":{"exec":{"command":["ends"]}}});
    env.api.put("pods", pod(spec));
    env.phase("Running").await;
    env.api.delete_pod("p", 5);
    env.until("gone", || env.api.get("pods", "ns", "p").is_none())
        .await;
    assert_eq!(
        env.runtime.state.lock().log,
        ["exec began", "exec ends", "stop a 5"]
    );
    let mut spec = one(&["run"]);
    spec["containers"][0]["resources"] = json!({"requests":{"cpu":"100000"}});
    let mut big = pod(spec);
    big["metadata"]["uid"] = json!("u2");
    env.api.put("pods", big);
    env.phase("Failed").await;
    let status = env.pod()["status"].clone();
    assert_eq!(status["reason"], "OutOfcpu");
    assert!(
        status["message"]
            .as_str()
            .unwrap()
            .starts_with("Pod was rejected: Node didn't have enough resource: cpu")
    );
}
