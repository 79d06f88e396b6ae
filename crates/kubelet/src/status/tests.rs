use cri::ContainerState as Rs;
use serde_json::{Value, json};

use super::*;
use crate::probes::ProbeKind;
use crate::testing::{container, sandbox};

struct Case {
    pod: Pod,
    seen: Observed,
    old: PodStatus,
    probes: Results,
    errors: StartErrors,
    finished: bool,
    verdict: Option<Verdict>,
}

fn case(spec: Value, containers: Vec<cri::ContainerStatus>) -> Case {
    let pod = serde_json::from_value(
        json!({"metadata":{"name":"p","namespace":"n","uid":"u","generation":1},"spec":spec}),
    );
    Case {
        pod: pod.unwrap(),
        seen: Observed::of("u", &[sandbox("s0", "u", 0, true)], &containers),
        old: PodStatus::default(),
        probes: Results::default(),
        errors: StartErrors::new(),
        finished: false,
        verdict: None,
    }
}

impl Case {
    fn generated(&self) -> Generated {
        generate(&Input {
            pod: &self.pod,
            seen: &self.seen,
            old: &self.old,
            probes: &self.probes,
            errors: &self.errors,
            messages: &HashMap::new(),
            runtime: "k0s",
            host_ips: &["1.2.3.4".to_string()],
            verdict: self.verdict.as_ref(),
            resize: None,
            resize_error: None,
            finished: self.finished,
            now: Timestamp::from_second(100).unwrap(),
        })
    }

    fn run(&self) -> Value {
        serde_json::to_value(self.generated().status).unwrap()
    }

    fn phase(&self) -> String {
        self.run()["phase"].as_str().unwrap().to_string()
    }
}

fn condition(status: &Value, kind: &str) -> (String, String, String) {
    let list = status["conditions"].as_array().unwrap();
    let c = list.iter().find(|c| c["type"] == kind).unwrap();
    let text = |k: &str| c[k].as_str().unwrap_or_default().to_string();
    (text("status"), text("reason"), text("message"))
}

fn running(name: &str) -> cri::ContainerStatus {
    container(name, "s0", 0, Rs::Running, 0)
}

fn exited(name: &str, code: i32) -> cri::ContainerStatus {
    container(name, "s0", 0, Rs::Exited, code)
}

fn ab(policy: &str) -> Value {
    json!({"restartPolicy":policy,"containers":[{"name":"a","image":"i"},{"name":"b","image":"i"}]})
}

#[test]
fn phases_of_worked_cases() {
    let cases: [(&str, Vec<cri::ContainerStatus>, &str); 8] = [
        ("Always", vec![], "Pending"),
        ("Always", vec![running("a")], "Pending"),
        ("Always", vec![running("a"), running("b")], "Running"),
        ("Never", vec![running("a"), exited("b", 0)], "Running"),
        ("Never", vec![exited("a", 0), exited("b", 0)], "Succeeded"),
        ("OnFailure", vec![exited("a", 0), exited("b", 1)], "Running"),
        ("Never", vec![exited("a", 1), exited("b", 0)], "Failed"),
        ("Always", vec![exited("a", 0), exited("b", 0)], "Running"),
    ];
    for (policy, containers, want) in cases {
        let mut c = case(ab(policy), containers);
        c.old.phase = Some("Running".into());
        let made = c.generated();
        let terminal = matches!(want, "Succeeded" | "Failed");
        assert_eq!(made.terminal, terminal, "{policy} {want}");
        // The phase is withheld until everything is down.
        let shown = if terminal { "Running" } else { want };
        assert_eq!(made.status.phase.as_deref(), Some(shown), "{policy} {want}");
        c.finished = terminal;
        assert_eq!(c.phase(), want);
    }
}

#[test]
fn a_failed_init_container_ends_a_pod_that_never_restarts() {
    let spec = json!({"restartPolicy":"Never","initContainers":[{"name":"i1"},{"name":"i2"}],"containers":[{"name":"m"}]});
    let mut c = case(spec, vec![exited("i1", 0), exited("i2", 1)]);
    c.old.phase = Some("Pending".into());
    assert!(c.generated().terminal);
    c.finished = true;
    let s = c.run();
    assert_eq!(s["phase"], "Failed");
    let want = (
        "False".into(),
        "ContainersNotInitialized".into(),
        "containers with incomplete status: [i2]".into(),
    );
    assert_eq!(condition(&s, "Initialized"), want);
    assert_eq!(
        s["containerStatuses"][0]["state"]["waiting"]["reason"],
        "PodInitializing"
    );
    assert_eq!(s["initContainerStatuses"][0]["ready"], true);
}

#[test]
fn a_crashing_init_container_keeps_the_pod_pending() {
    let spec = json!({"initContainers":[{"name":"i1"},{"name":"i2"}],"containers":[{"name":"m"}]});
    let mut c = case(
        spec,
        vec![container("i1", "s0", 1, Rs::Exited, 1), exited("i1", 1)],
    );
    c.errors
        .insert("i1".into(), ("CrashLoopBackOff".into(), "back-off".into()));
    let s = c.run();
    assert_eq!(s["phase"], "Pending");
    let i1 = &s["initContainerStatuses"][0];
    assert_eq!(i1["state"]["waiting"]["reason"], "CrashLoopBackOff");
    assert_eq!(i1["lastState"]["terminated"]["exitCode"], 1);
    assert_eq!(i1["restartCount"], 1);
    assert_eq!(
        s["initContainerStatuses"][1]["state"]["waiting"]["reason"],
        "PodInitializing"
    );
    assert_eq!(
        condition(&s, "Initialized").2,
        "containers with incomplete status: [i1 i2]"
    );
}

#[test]
fn readiness_needs_start_and_probes() {
    let spec = json!({"readinessGates":[{"conditionType":"g"}],
        "containers":[{"name":"a","image":"i","readinessProbe":{"exec":{"command":["x"]}},"startupProbe":{"exec":{"command":["x"]}}}]});
    let mut c = case(spec, vec![running("a")]);
    let first = |s: &Value, key: &str| s["containerStatuses"][0][key].clone();
    let s = c.run();
    assert_eq!(
        (first(&s, "started"), first(&s, "ready")),
        (json!(false), json!(false))
    );
    c.probes.set("a-0", ProbeKind::Startup, true);
    assert_eq!(first(&c.run(), "started"), true);
    c.probes.set("a-0", ProbeKind::Readiness, true);
    let s = c.run();
    assert_eq!(first(&s, "ready"), true);
    assert_eq!(condition(&s, "ContainersReady").0, "True");
    assert_eq!(
        condition(&s, "Ready"),
        (
            "False".into(),
            "ReadinessGatesNotReady".into(),
            "corresponding condition of pod readiness gate \"g\" does not exist.".into()
        )
    );
}

#[test]
fn a_pod_deleted_before_it_ran_fails_with_unknown_containers() {
    let mut c = case(ab("Always"), vec![]);
    c.old = c.generated().status;
    c.finished = true;
    let s = c.run();
    assert_eq!(s["phase"], "Failed");
    let t = &s["containerStatuses"][0]["state"]["terminated"];
    assert_eq!(
        (t["reason"].as_str(), t["exitCode"].as_i64()),
        (Some("ContainerStatusUnknown"), Some(137))
    );
}

#[test]
fn a_lost_running_container_counts_as_restarted() {
    let mut c = case(ab("Always"), vec![running("a"), running("b")]);
    c.old = c.generated().status;
    c.seen = Observed::default();
    let s = c.run();
    let a = &s["containerStatuses"][0];
    assert_eq!(a["restartCount"], 1);
    assert_eq!(
        a["lastState"]["terminated"]["reason"],
        "ContainerStatusUnknown"
    );
    assert_eq!(a["state"]["waiting"]["reason"], "ContainerCreating");
}

#[test]
fn deadlines_show_once_everything_is_down() {
    let mut c = case(ab("Always"), vec![running("a"), running("b")]);
    c.old.phase = Some("Running".into());
    c.verdict = Some(Verdict {
        reason: "DeadlineExceeded".into(),
        message: "m".into(),
        disruption: false,
    });
    assert_eq!(c.phase(), "Running");
    c.seen = Observed::of("u", &[], &[exited("a", 137), exited("b", 137)]);
    c.finished = true;
    let s = c.run();
    assert_eq!(
        (s["phase"].as_str(), s["reason"].as_str()),
        (Some("Failed"), Some("DeadlineExceeded"))
    );
    assert_eq!(condition(&s, "Ready").1, "PodFailed");
}

#[test]
fn patches_hold_only_what_differs_and_leave_others_alone() {
    let c = case(ab("Always"), vec![running("a"), running("b")]);
    let new = c.generated().status;
    assert_eq!(status_patch("u", &new, &new), None);
    let mut old = new.clone();
    old.phase = Some("Pending".into());
    old.reason = Some("x".into());
    let foreign = json!({"type":"mine","status":"True"});
    let list = old.conditions.as_mut().unwrap();
    list.push(serde_json::from_value(foreign).unwrap());
    list[0].reason = Some("gone".into());
    let patch = status_patch("u", &old, &new).unwrap();
    assert_eq!(patch["metadata"]["uid"], "u");
    let status = patch["status"].as_object().unwrap();
    assert_eq!(
        status.keys().collect::<Vec<_>>(),
        ["conditions", "phase", "reason"]
    );
    assert_eq!(status["reason"], Value::Null);
    let conditions = status["conditions"].as_array().unwrap();
    assert_eq!(conditions.len(), 1);
    assert_eq!(conditions[0]["reason"], Value::Null);
}

#[test]
fn a_container_that_is_made_and_not_started_is_no_news() {
    let spec = json!({"initContainers":[{"name":"i"}],"containers":[{"name":"m"}]});
    let mut c = case(spec, vec![container("i", "s0", 0, Rs::Created, 0)]);
    let state = |c: &Case| c.run()["initContainerStatuses"][0].clone();
    assert_eq!(state(&c)["state"]["waiting"]["reason"], "PodInitializing");
    // Before a restart the last run stays what is seen.
    c.seen
        .containers
        .insert(0, container("i", "s0", 1, Rs::Created, 0));
    c.seen.containers[1] = exited("i", 1);
    assert_eq!(state(&c)["state"]["terminated"]["exitCode"], 1);
    assert_eq!(state(&c)["restartCount"], 0);
    // A start that failed is told.
    let error = ("RunContainerError".to_string(), "no".to_string());
    c.errors.insert("i".into(), error);
    assert_eq!(state(&c)["state"]["waiting"]["reason"], "RunContainerError");
    assert_eq!(state(&c)["restartCount"], 1);
}
