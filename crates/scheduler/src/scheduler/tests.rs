//! The whole scheduler over memory caches and a small API server.

use std::sync::Arc;
use std::time::Duration;

use client::Cache;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::Config;
use crate::testing::KINDS;
use crate::testing::fake_api::FakeApi;

/// A running scheduler and its server.
struct Running {
    api: Arc<FakeApi>,
    _shutdown: watch::Sender<bool>,
}

const DEADLINE: Duration = Duration::from_secs(30);

impl Running {
    fn start(objects: &[(&'static str, Value)]) -> Self {
        let api = FakeApi::new(KINDS, true);
        for (plural, object) in objects {
            api.put(group(plural), plural, object.clone());
        }
        let (shutdown, watch) = watch::channel(false);
        tokio::spawn(crate::run(api.client(), Config::new("host"), watch));
        Self {
            api,
            _shutdown: shutdown,
        }
    }

    fn put(&self, plural: &'static str, object: Value) {
        self.api.put(group(plural), plural, object);
    }

    /// Waits until a pod is as wanted; gives it.
    async fn pod(&self, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.object("pods", "default", name, wanted).await
    }

    /// Waits until an object is as wanted; gives it.
    async fn object(
        &self,
        plural: &'static str,
        namespace: &str,
        name: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        let cache = self.api.reads.memory("", plural).unwrap().clone();
        let mut changes = cache.subscribe().changes;
        let now = || cache.get(namespace, name).map(|e| e.value().unwrap());
        let found = async {
            loop {
                if let Some(object) = now().filter(|p| wanted(p)) {
                    return object;
                }
                changes.recv().await;
            }
        };
        match tokio::time::timeout(DEADLINE, found).await {
            Ok(object) => object,
            Err(_) => panic!("{name} is {:?}", now()),
        }
    }

    async fn node_of(&self, name: &str) -> String {
        let pod = self.pod(name, |p| p["spec"]["nodeName"].is_string()).await;
        pod["spec"]["nodeName"].as_str().unwrap().into()
    }

    /// Waits for the message of a pod's PodScheduled condition.
    async fn message(&self, name: &str) -> String {
        let pod = self.pod(name, |p| scheduled(p)["status"] == "False").await;
        assert_eq!(scheduled(&pod)["reason"], "Unschedulable");
        scheduled(&pod)["message"].as_str().unwrap().into()
    }

    async fn event(&self, reason: &str, pod: &str) -> Value {
        let mut events = self.api.events.subscribe();
        let is = |e: &&Value| e["reason"] == reason && e["involvedObject"]["name"] == pod;
        let found = events.wait_for(|all| all.iter().any(|e| is(&e)));
        let all = tokio::time::timeout(DEADLINE, found).await;
        let all = all.expect("no such event").unwrap();
        all.iter().find(is).unwrap().clone()
    }
}

fn group(plural: &str) -> &'static str {
    KINDS.iter().find(|(_, p)| *p == plural).unwrap().0
}

fn scheduled(pod: &Value) -> Value {
    let all = pod["status"]["conditions"].as_array();
    let mut all = all.into_iter().flatten();
    all.find(|c| c["type"] == "PodScheduled")
        .cloned()
        .unwrap_or_default()
}

fn node(name: &str, cpu: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "status": {"allocatable": {"cpu": cpu, "memory": "4Gi", "pods": "110"}}})
}

fn pod(name: &str, cpu: &str, priority: i32) -> Value {
    json!({"metadata": {"name": name, "namespace": "default", "uid": format!("uid-{name}")},
        "spec": {"schedulerName": "default-scheduler", "priority": priority,
            "containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}}]},
        "status": {"phase": "Pending"}})
}

#[tokio::test]
async fn pods_get_nodes_that_fit_and_events_say_so() {
    let s = Running::start(&[
        ("nodes", node("small", "1")),
        ("nodes", node("big", "4")),
        ("pods", pod("a", "2", 0)),
    ]);
    assert_eq!(s.node_of("a").await, "big");
    let event = s.event("Scheduled", "a").await;
    assert_eq!(event["message"], "Successfully assigned default/a to big");
    assert_eq!(event["action"], "Binding");
    assert_eq!(event["reportingComponent"], "default-scheduler");
    let mut foreign = pod("foreign", "100m", 0);
    foreign["spec"]["schedulerName"] = json!("other");
    s.put("pods", foreign);
    s.put("pods", pod("b", "3", 0));
    assert_eq!(
        s.message("b").await,
        "0/2 nodes are available: 2 Insufficient cpu. no new claims to deallocate, preemption: 0/2 nodes are available: 1 No preemption victims found for incoming pod, 1 Preemption is not helpful for scheduling."
    );
    let event = s.event("FailedScheduling", "b").await;
    assert_eq!(
        (&event["type"], &event["action"]),
        (&json!("Warning"), &json!("Scheduling"))
    );
    // Room on a new node wakes the pod.
    s.put("nodes", node("bigger", "8"));
    assert_eq!(s.node_of("b").await, "bigger");
    assert!(s.api.pod("default", "foreign").unwrap()["spec"]["nodeName"].is_null());
}

#[tokio::test]
async fn without_nodes_the_message_says_so_and_a_node_helps() {
    let s = Running::start(&[("pods", pod("a", "1", 0))]);
    assert_eq!(s.message("a").await, "no nodes available to schedule pods");
    s.put("nodes", node("n", "2"));
    assert_eq!(s.node_of("a").await, "n");
}

#[tokio::test]
async fn gates_hold_a_pod_until_they_are_gone() {
    let mut gated = pod("g", "1", 0);
    gated["spec"]["schedulingGates"] = json!([{"name": "example.com/wait"}]);
    let s = Running::start(&[("nodes", node("n", "2")), ("pods", gated)]);
    s.put("pods", pod("a", "1", 0));
    assert_eq!(s.node_of("a").await, "n");
    assert!(s.api.pod("default", "g").unwrap()["spec"]["nodeName"].is_null());
    s.put("pods", pod("g", "1", 0));
    assert_eq!(s.node_of("g").await, "n");
}

#[tokio::test]
async fn the_least_important_pods_make_room() {
    let victim = |name: &str, priority: i32| {
        let mut p = pod(name, "2", priority);
        p["spec"]["nodeName"] = json!("n");
        p
    };
    let s = Running::start(&[
        ("nodes", node("n", "4")),
        ("pods", victim("low", 1)),
        ("pods", victim("medium", 100)),
        ("pods", pod("high", "2", 1000)),
    ]);
    assert_eq!(s.node_of("high").await, "n");
    assert!(s.api.pod("default", "low").is_none());
    assert!(s.api.pod("default", "medium").is_some());
    let event = s.event("Preempted", "low").await;
    assert_eq!(event["message"], "Preempted by pod uid-high on node n");
    assert_eq!(event["related"]["name"], "high");
}

#[tokio::test]
async fn a_deleted_pod_makes_room() {
    let mut placed = pod("first", "3", 0);
    placed["spec"]["nodeName"] = json!("n");
    let s = Running::start(&[
        ("nodes", node("n", "4")),
        ("pods", placed),
        ("pods", pod("second", "3", 0)),
    ]);
    s.message("second").await;
    s.api.delete_pod("default", "first");
    assert_eq!(s.node_of("second").await, "n");
}

#[tokio::test]
async fn a_claim_that_waits_gets_its_volume_before_the_pod_is_bound() {
    let on_n2 = json!({"required": {"nodeSelectorTerms": [{"matchExpressions":
        [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["n2"]}]}]}});
    let volume = json!({"metadata": {"name": "local"}, "status": {"phase": "Available"},
        "spec": {"storageClassName": "local", "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
            "nodeAffinity": on_n2}});
    let claim = json!({"metadata": {"name": "data", "namespace": "default", "uid": "claim-uid"},
        "spec": {"storageClassName": "local", "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}}}});
    let class = json!({"metadata": {"name": "local"}, "provisioner": "kubernetes.io/no-provisioner",
        "volumeBindingMode": "WaitForFirstConsumer"});
    let mut wants = pod("a", "1", 0);
    wants["spec"]["volumes"] =
        json!([{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]);
    let s = Running::start(&[
        ("nodes", node("n1", "4")),
        ("nodes", node("n2", "4")),
        ("storageclasses", class),
        ("pods", wants),
    ]);
    assert_eq!(
        s.message("a").await,
        "0/2 nodes are available: persistentvolumeclaim \"data\" not found. no new claims to deallocate, preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."
    );
    s.put("persistentvolumes", volume);
    s.put("persistentvolumeclaims", claim.clone());
    let taken = |v: &Value| v["spec"]["claimRef"]["uid"] == "claim-uid";
    let volume = s.object("persistentvolumes", "", "local", taken).await;
    assert_eq!(
        volume["metadata"]["annotations"]["pv.kubernetes.io/bound-by-controller"],
        "yes"
    );
    assert!(s.api.pod("default", "a").unwrap()["spec"]["nodeName"].is_null());
    // What the volume controller does.
    let mut bound = claim;
    bound["spec"]["volumeName"] = json!("local");
    bound["metadata"]["annotations"] = json!({"pv.kubernetes.io/bind-completed": "yes"});
    s.put("persistentvolumeclaims", bound);
    assert_eq!(s.node_of("a").await, "n2");
}
