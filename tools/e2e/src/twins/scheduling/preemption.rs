//! SchedulerPreemption.

use super::*;

const CLASSES: &str = "/apis/scheduling.k8s.io/v1/priorityclasses";
const FOO: &str = "scheduling.k8s.io/foo";
const PREFIX: &str = "sched-preemption-";

/// The classes of these tests, by the last part of their names.
const VALUES: &[(&str, i32)] = &[
    ("low-priority", 1),
    ("medium-priority", 100),
    ("high-priority", 1000),
];

async fn create_class(cx: &Cx, name: &str, value: i32, labels: Value) -> Result<()> {
    let class = json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
        "metadata": {"name": name, "labels": labels}, "value": value});
    match cx
        .send(Method::POST, CLASSES, "application/json", Some(&class))
        .await?
    {
        Ok(_) => Ok(()),
        Err(f) if f.reason == "AlreadyExists" => Ok(()),
        Err(f) => bail!("{name}: {f:?}"),
    }
}

async fn set_up(cx: &Cx) -> Result<Vec<String>> {
    for (name, value) in VALUES {
        create_class(cx, &format!("{PREFIX}{name}"), *value, json!({})).await?;
    }
    let nodes = ready_nodes(cx).await?;
    Ok(nodes.iter().map(|n| name(n).to_string()).collect())
}

async fn tear_down(cx: &Cx, nodes: &[String], resource: &str) -> Result<()> {
    for node in nodes {
        set_resource(cx, node, resource, None).await?;
    }
    for (name, _) in VALUES {
        cx.delete(&format!("{CLASSES}/{PREFIX}{name}")).await?;
    }
    Ok(())
}

/// Sets or removes an extended resource of a node.
async fn set_resource(cx: &Cx, node: &str, resource: &str, amount: Option<&str>) -> Result<()> {
    let path = format!("/api/v1/nodes/{node}/status");
    if let Some(amount) = amount {
        let list = json!({resource: amount});
        let patch = json!({"status": {"capacity": list, "allocatable": list}});
        cx.patch(&path, "strategic-merge", &patch).await?;
        return Ok(());
    }
    let end = tokio::time::Instant::now() + POD_START_SHORT;
    loop {
        let mut object = cx.get(&format!("/api/v1/nodes/{node}")).await?;
        for list in ["capacity", "allocatable"] {
            if let Some(list) = object["status"][list].as_object_mut() {
                list.remove(resource);
            }
        }
        match cx
            .send(Method::PUT, &path, "application/json", Some(&object))
            .await?
        {
            Ok(_) => return Ok(()),
            Err(f) if f.code == 409 && tokio::time::Instant::now() < end => {}
            Err(f) => bail!("{path}: {f:?}"),
        }
    }
}

fn pinned(node: &str) -> Value {
    json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms":
        [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}]}}})
}

fn with_class(name: &str, class: &str, amount: &str) -> Value {
    let mut pod = pause_pod(name, json!({"priorityClassName": class}));
    ask(&mut pod, json!({FOO: amount}));
    pod
}

/// Two pods on each node, of which the very first has the low class; gives their paths, in order.
async fn fill(cx: &Cx, nodes: &[String]) -> Result<Vec<String>> {
    let mut paths = Vec::new();
    for (i, node) in nodes.iter().enumerate() {
        set_resource(cx, node, FOO, Some("5")).await?;
        for j in 0..2 {
            let class = if i + j == 0 {
                "low-priority"
            } else {
                "medium-priority"
            };
            let name = format!("pod{i}-{j}-{PREFIX}{class}");
            let mut pod = with_class(&name, &format!("{PREFIX}{class}"), "2");
            pod["spec"]["affinity"] = pinned(node);
            create_pod(cx, &pod).await?;
            paths.push(cx.core(&format!("pods/{name}")));
        }
    }
    for path in &paths {
        running(cx, path, POD_START).await?;
    }
    Ok(paths)
}

/// The first pod has gone or is going; none of the others is.
async fn check_victims(cx: &Cx, paths: &[String]) -> Result<()> {
    let (first, others) = paths.split_first().context("pods")?;
    let sent = cx
        .send(Method::GET, first, "application/json", None)
        .await?;
    let going = match &sent {
        Ok(pod) => pod["metadata"]["deletionTimestamp"].is_string(),
        Err(f) => f.code == 404,
    };
    ensure!(going, "the pod of lowest priority stays: {sent:?}");
    for path in others {
        let pod = cx.get(path).await?;
        let stays = pod["metadata"].get("deletionTimestamp").is_none();
        ensure!(stays, "{path} is going");
    }
    Ok(())
}

pub async fn basic(cx: Cx) -> Result<()> {
    let nodes = set_up(&cx).await?;
    let paths = fill(&cx, &nodes).await?;
    let preemptor = with_class("preemptor-pod", &format!("{PREFIX}high-priority"), "2");
    create_pod(&cx, &preemptor).await?;
    running(&cx, &cx.core("pods/preemptor-pod"), POD_START_SHORT).await?;
    check_victims(&cx, &paths).await?;
    ensure!(paths.len() == 2 * nodes.len());
    tear_down(&cx, &nodes, FOO).await
}

pub async fn critical(cx: Cx) -> Result<()> {
    let nodes = set_up(&cx).await?;
    let paths = fill(&cx, &nodes).await?;
    let pods = "/api/v1/namespaces/kube-system/pods";
    let critical = with_class("critical-pod", "system-cluster-critical", "2");
    cx.ok(Method::POST, pods, &critical).await?;
    let path = format!("{pods}/critical-pod");
    running(&cx, &path, POD_START_SHORT).await?;
    check_victims(&cx, &paths).await?;
    let now = json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0});
    let gone = cx
        .send(Method::DELETE, &path, "application/json", Some(&now))
        .await?;
    ensure!(gone.is_ok(), "{gone:?}");
    tear_down(&cx, &nodes, FOO).await
}

pub async fn disruption_condition(cx: Cx) -> Result<()> {
    let nodes = set_up(&cx).await?;
    let node = &nodes[0];
    set_resource(&cx, node, FOO, Some("1")).await?;
    let mut victim = with_class("victim-pod", &format!("{PREFIX}low-priority"), "1");
    victim["metadata"]["finalizers"] = json!(["example.com/test-finalizer"]);
    victim["spec"]["affinity"] = pinned(node);
    create_pod(&cx, &victim).await?;
    let path = cx.core("pods/victim-pod");
    running(&cx, &path, POD_START).await?;
    let mut preemptor = with_class("preemptor-pod", &format!("{PREFIX}high-priority"), "1");
    preemptor["spec"]["affinity"] = pinned(node);
    create_pod(&cx, &preemptor).await?;
    cx.eventually(POLL, POD_START, "the victim being deleted", || async {
        Ok(cx.get(&path).await?["metadata"]["deletionTimestamp"].is_string())
    })
    .await?;
    let victim = cx.get(&path).await?;
    let mut conditions = victim["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten();
    ensure!(
        conditions.any(|c| c["type"] == "DisruptionTarget"),
        "{victim}"
    );
    let none = json!({"metadata": {"finalizers": null}});
    cx.patch(&path, "merge", &none).await?;
    tear_down(&cx, &nodes, FOO).await
}

const FAKE_CPU: &str = "example.com/fakecpu";

fn replica_set(name: &str, class: &str, amount: &str, hostname: &str) -> Value {
    let mut pod = pause_pod(
        name,
        json!({"priorityClassName": class,
        "nodeSelector": {"kubernetes.io/hostname": hostname}}),
    );
    ask(&mut pod, json!({FAKE_CPU: amount}));
    json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": name},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"name": name}},
            "template": {"metadata": {"labels": {"name": name}}, "spec": pod["spec"]}}})
}

/// Counts the pods that each replica set has made so far, from the watch.
async fn count(
    watch: &mut crate::rest::Watch,
    counts: &mut [usize; 3],
    until: Duration,
) -> Result<()> {
    let end = tokio::time::Instant::now() + until;
    loop {
        let left = end.saturating_duration_since(tokio::time::Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        // No event in time means that counting is over for now.
        let Ok((kind, pod)) = watch.next(left).await else {
            return Ok(());
        };
        for (i, prefix) in ["rs-pod1", "rs-pod2", "rs-pod3"].iter().enumerate() {
            if kind == "ADDED" && name(&pod).starts_with(prefix) {
                counts[i] += 1;
            }
        }
    }
}

pub async fn execution_path(cx: Cx) -> Result<()> {
    set_up(&cx).await?;
    let node = node_that_runs_a_pod(&cx).await?;
    let object = cx.get(&format!("/api/v1/nodes/{node}")).await?;
    let hostname = object["metadata"]["labels"]["kubernetes.io/hostname"].as_str();
    let hostname = hostname.context("the node's hostname label")?;
    set_resource(&cx, &node, FAKE_CPU, Some("1000")).await?;
    for value in 1..=4 {
        create_class(&cx, &format!("p{value}"), value, json!({})).await?;
    }
    let list = cx.get(&cx.core("pods")).await?;
    let from = list["metadata"]["resourceVersion"].as_str().unwrap_or("");
    let mut watch = cx
        .watch(&cx.core("pods"), &format!("resourceVersion={from}"))
        .await?;
    let sets = "/apis/apps/v1/namespaces";
    let sets = format!("{sets}/{}/replicasets", cx.namespace);
    for (name, class, amount) in [
        ("rs-pod1", "p1", "200"),
        ("rs-pod2", "p2", "300"),
        ("rs-pod3", "p3", "450"),
    ] {
        cx.ok(
            Method::POST,
            &sets,
            &replica_set(name, class, amount, hostname),
        )
        .await?;
        let path = format!("{sets}/{name}");
        cx.eventually(
            POLL,
            POD_START_SHORT,
            &format!("{name} available"),
            || async { Ok(cx.get(&path).await?["status"]["availableReplicas"] == 1) },
        )
        .await?;
    }
    let mut pod = pause_pod(
        "pod4",
        json!({"priorityClassName": "p4",
        "nodeSelector": {"kubernetes.io/hostname": hostname}}),
    );
    ask(&mut pod, json!({FAKE_CPU: "500"}));
    create_pod(&cx, &pod).await?;
    let path = cx.core("pods/pod4");
    cx.eventually(POLL, POD_START_SHORT, "pod4 scheduled", || async {
        Ok(cx.get(&path).await?["spec"]["nodeName"].is_string())
    })
    .await?;
    let mut counts = [0; 3];
    let end = tokio::time::Instant::now() + Duration::from_secs(60);
    while counts != [2, 2, 1] {
        count(&mut watch, &mut counts, POLL).await?;
        let more = counts
            .iter()
            .zip([2, 2, 1])
            .any(|(is, wanted)| *is > wanted);
        ensure!(
            !more && tokio::time::Instant::now() < end,
            "pods made: {counts:?}"
        );
    }
    count(&mut watch, &mut counts, Duration::from_secs(5)).await?;
    ensure!(counts == [2, 2, 1], "pods made: {counts:?}");
    for set in ["rs-pod1", "rs-pod2", "rs-pod3"] {
        cx.delete(&format!("{sets}/{set}")).await?;
    }
    for value in 1..=4 {
        cx.delete(&format!("{CLASSES}/p{value}")).await?;
    }
    tear_down(&cx, &[node], FAKE_CPU).await
}

pub async fn priority_class_endpoints(cx: Cx) -> Result<()> {
    let label = uuid();
    for value in [1, 2] {
        create_class(&cx, &format!("p{value}"), value, json!({"e2e": label})).await?;
    }
    let (p1, p2) = (format!("{CLASSES}/p1"), format!("{CLASSES}/p2"));
    let (before1, before2) = (cx.get(&p1).await?, cx.get(&p2).await?);
    let patched = cx
        .send(
            Method::PATCH,
            &p1,
            "application/strategic-merge-patch+json",
            Some(&json!({"value": 10})),
        )
        .await?;
    ensure!(patched.is_err(), "the value was patched");
    let mut changed = before2.clone();
    changed["value"] = json!(20);
    cx.refused(Method::PUT, &p2, &changed).await?;
    let text = "updated description";
    cx.patch(&p1, "strategic-merge", &json!({"description": text}))
        .await?;
    let mut described = before2.clone();
    described["description"] = json!(text);
    cx.ok(Method::PUT, &p2, &described).await?;
    let list = cx.get(CLASSES).await?;
    ensure!(
        list["items"].as_array().is_some_and(|i| i.len() >= 2),
        "{list}"
    );
    for (path, before, value) in [(&p1, &before1, 1), (&p2, &before2, 2)] {
        let found = cx.get(path).await?;
        ensure!(
            found["value"] == value && found["description"] == text,
            "{found}"
        );
        ensure!(
            version(&found)? > version(before)?,
            "the version did not grow"
        );
    }
    cx.delete(&format!("{CLASSES}?labelSelector=e2e%3D{label}"))
        .await?;
    Ok(())
}
