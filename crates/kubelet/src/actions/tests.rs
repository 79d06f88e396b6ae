use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::testing::{container, sandbox};

fn pod_of(spec: Value) -> Pod {
    serde_json::from_value(json!({"metadata":{"name":"p","namespace":"n","uid":"u"},"spec":spec}))
        .unwrap()
}

fn seen(containers: Vec<ContainerStatus>) -> Observed {
    Observed::of("u", &[sandbox("s0", "u", 0, true)], &containers)
}

fn run(p: &Pod, containers: Vec<ContainerStatus>) -> Actions {
    compute(p, &seen(containers), &Results::default())
}

fn running(name: &str) -> ContainerStatus {
    container(name, "s0", 0, ContainerState::Running, 0)
}

fn exited(name: &str, code: i32) -> ContainerStatus {
    container(name, "s0", 0, ContainerState::Exited, code)
}

fn one(policy: &str) -> Pod {
    pod_of(json!({"restartPolicy":policy,"containers":[{"name":"a"},{"name":"b"}]}))
}

#[test]
fn a_new_pod_gets_a_sandbox_and_its_containers() {
    let a = compute(&one("Always"), &Observed::default(), &Results::default());
    assert!(a.create_sandbox);
    assert_eq!((a.attempt, a.start_main), (0, vec!["a".into(), "b".into()]));
}

#[test]
fn exited_containers_follow_the_policy() {
    let cases: [(&str, i32, i32, &[&str], bool); 5] = [
        ("Always", 0, 1, &["a", "b"], false),
        ("OnFailure", 0, 1, &["b"], false),
        ("OnFailure", 0, 0, &[], true),
        ("Never", 0, 1, &[], true),
        ("Never", 1, 1, &[], true),
    ];
    for (policy, a, b, start, kill) in cases {
        let got = run(&one(policy), vec![exited("a", a), exited("b", b)]);
        assert_eq!(got.start_main, start, "{policy} {a} {b}");
        assert_eq!(got.kill_pod, kill, "{policy} {a} {b}");
    }
    let got = run(&one("Never"), vec![exited("a", 1), running("b")]);
    assert_eq!(
        got,
        Actions {
            sandbox_id: Some("s0".into()),
            ..Actions::default()
        }
    );
}

#[test]
fn a_dead_sandbox_is_made_anew_unless_nothing_may_run_again() {
    let dead = |p: &Pod, c: Vec<ContainerStatus>| {
        let seen = Observed::of("u", &[sandbox("s0", "u", 0, false)], &c);
        compute(p, &seen, &Results::default())
    };
    let got = dead(&one("Always"), vec![exited("a", 1), exited("b", 0)]);
    assert!(got.kill_pod && got.create_sandbox && got.attempt == 1);
    assert_eq!(got.start_main, ["a", "b"]);
    let got = dead(&one("OnFailure"), vec![exited("a", 1), exited("b", 0)]);
    assert_eq!(got.start_main, ["a"]);
    let got = dead(&one("Never"), vec![exited("a", 1), exited("b", 0)]);
    assert!(got.kill_pod && !got.create_sandbox);
}

#[test]
fn a_changed_image_or_a_failed_liveness_probe_restarts() {
    let p = pod_of(json!({"containers":[{"name":"a","image":"new"}]}));
    let mut old = running("a");
    old.annotations = BTreeMap::from([(crate::labels::CONTAINER_HASH.into(), "0".into())]);
    let got = run(&p, vec![old]);
    assert_eq!(
        got.kill[0].message,
        "Container a definition changed, will be restarted"
    );
    assert_eq!(got.start_main, ["a"]);
    let mut probes = Results::default();
    let alive = running("a");
    probes.set(&alive.id, ProbeKind::Liveness, false);
    let never = pod_of(json!({"restartPolicy":"Never","containers":[{"name":"a"}]}));
    let got = compute(&never, &seen(vec![alive]), &probes);
    assert_eq!(got.kill[0].message, "Container a failed liveness probe");
    assert_eq!(got.kill[0].reason, KillReason::Liveness);
    assert!(got.start_main.is_empty());
}

fn with_init(policy: &str) -> Pod {
    pod_of(
        json!({"restartPolicy":policy,"initContainers":[{"name":"i1"},{"name":"i2"}],"containers":[{"name":"m"}]}),
    )
}

#[test]
fn init_containers_run_one_after_the_other() {
    let p = with_init("Always");
    assert_eq!(run(&p, vec![]).start_init, ["i1"]);
    assert_eq!(run(&p, vec![running("i1")]).start_init, [""; 0]);
    assert_eq!(run(&p, vec![exited("i1", 1)]).start_init, ["i1"]);
    assert_eq!(run(&p, vec![exited("i1", 0)]).start_init, ["i2"]);
    let got = run(&p, vec![exited("i1", 0), exited("i2", 0)]);
    assert_eq!(got.start_main, ["m"]);
    // The first one was collected: the later one proves that it had ended well.
    assert_eq!(run(&p, vec![exited("i2", 0)]).start_main, ["m"]);
    // Once a main container was made, init containers never run again.
    let got = run(&p, vec![exited("i1", 1), exited("m", 1)]);
    assert_eq!(
        (got.start_init.len(), got.start_main),
        (0, vec!["m".to_string()])
    );
    let got = run(&with_init("Never"), vec![exited("i1", 0), exited("i2", 1)]);
    assert!(got.kill_pod && got.start_init.is_empty() && got.start_main.is_empty());
}

#[test]
fn sidecars_gate_the_start_and_are_kept_running() {
    let p = pod_of(json!({"initContainers":[
        {"name":"s","restartPolicy":"Always","startupProbe":{"exec":{"command":["x"]}}},{"name":"i"}],
        "containers":[{"name":"m"}]}));
    let sidecar = running("s");
    assert_eq!(run(&p, vec![sidecar.clone()]).start_init, [""; 0]);
    let mut probes = Results::default();
    probes.set(&sidecar.id, ProbeKind::Startup, true);
    let got = compute(&p, &seen(vec![sidecar.clone()]), &probes);
    assert_eq!(got.start_init, ["i"]);
    let got = compute(&p, &seen(vec![sidecar, exited("i", 0)]), &probes);
    assert_eq!(got.start_main, ["m"]);
    let got = run(&p, vec![exited("s", 0), running("i")]);
    assert_eq!(got.start_init, ["s"]);
    let got = run(&p, vec![exited("s", 0), exited("i", 0), running("m")]);
    assert_eq!(got.start_init, ["s"]);
    // With all main containers done the sidecar is not restarted.
    let never = pod_of(
        json!({"restartPolicy":"Never","initContainers":[{"name":"s","restartPolicy":"Always"}],
        "containers":[{"name":"m"}]}),
    );
    let got = run(&never, vec![exited("s", 0), exited("m", 0)]);
    assert!(got.kill_pod && got.start_init.is_empty());
}

#[test]
fn ephemeral_containers_start_once() {
    let p = pod_of(json!({"containers":[{"name":"a"}],"ephemeralContainers":[{"name":"e"}]}));
    assert_eq!(run(&p, vec![running("a")]).start_ephemeral, ["e"]);
    let got = run(&p, vec![running("a"), exited("e", 1)]);
    assert!(got.start_ephemeral.is_empty());
}

#[test]
fn a_pod_being_deleted_starts_nothing() {
    let mut p = one("Always");
    p.metadata.deletion_timestamp = Some(api::meta::Time(jiff::Timestamp::UNIX_EPOCH));
    let got = run(&p, vec![exited("a", 1), running("b")]);
    assert!(got.start_main.is_empty() && !got.kill_pod);
}
