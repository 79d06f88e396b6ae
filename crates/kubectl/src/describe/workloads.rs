//! Deployments, replica sets, replication controllers, daemon sets, stateful sets.

use serde_json::Value;

use super::lines::{Lines, labels_or_none, number, or_none, selector, time};
use super::{Describer, Seen, containers};
use crate::builder::Info;
use crate::object;
use crate::rest::Call;

pub const DEPLOYMENT: Describer =
    Describer::of("apps", "Deployment", deployment).with(replica_sets);
pub const REPLICA_SET: Describer = Describer::of("apps", "ReplicaSet", replica_set).with(pods);
pub const REPLICATION_CONTROLLER: Describer =
    Describer::of("", "ReplicationController", replication_controller).with(pods);
pub const DAEMON_SET: Describer = Describer::of("apps", "DaemonSet", daemon_set).with(pods);
pub const STATEFUL_SET: Describer = Describer::of("apps", "StatefulSet", stateful_set).with(pods);

type More = Vec<(&'static str, Call)>;

fn of_selector(info: &Info, root: &str, plural: &str) -> Call {
    let spec = &info.object["spec"]["selector"];
    let labels = if info.resource.kind == "ReplicationController" {
        object::selector(spec)
    } else {
        selector(spec)
    };
    let ns = info.namespace.as_deref().unwrap_or_default();
    Call::get(format!("{root}/namespaces/{ns}/{plural}")).query_some("labelSelector", &labels)
}

fn pods(info: &Info) -> More {
    vec![("pods", of_selector(info, "/api/v1", "pods"))]
}

fn replica_sets(info: &Info) -> More {
    let call = of_selector(info, "/apis/apps/v1", "replicasets");
    vec![("replicasets", call)]
}

/// Whether an object is managed by another.
fn is_owned(o: &Value, by: &Value) -> bool {
    let uid = &by["metadata"]["uid"];
    let owners = object::items(o, "/metadata/ownerReferences");
    owners
        .iter()
        .any(|r| r["controller"] == true && r["uid"] == *uid)
}

/// How many pods of a workload are in each phase.
fn pod_phases(seen: &Seen<'_>) -> String {
    let own = seen
        .items("pods")
        .iter()
        .filter(|p| is_owned(p, seen.object));
    let phases: Vec<&str> = own.map(|p| object::text(p, "/status/phase")).collect();
    let count = |phase| phases.iter().filter(|p| **p == phase).count();
    let (running, waiting) = (count("Running"), count("Pending"));
    let (succeeded, failed) = (count("Succeeded"), count("Failed"));
    format!("{running} Running / {waiting} Waiting / {succeeded} Succeeded / {failed} Failed")
}

fn conditions(o: &Value, w: &mut Lines) {
    let all = object::items(o, "/status/conditions");
    if all.is_empty() {
        return;
    }
    w.put(0, "Conditions:");
    w.table(1, &["Type", "Status", "Reason"]);
    for c in all {
        let (kind, status) = (object::text(c, "/type"), object::text(c, "/status"));
        w.put(
            1,
            format!("{kind} \t{status}\t{}", object::text(c, "/reason")),
        );
    }
}

fn created(o: &Value, w: &mut Lines) {
    let at = time(&o["metadata"]["creationTimestamp"]);
    w.put(0, format!("CreationTimestamp:\t{at}"));
}

fn deployment(seen: &Seen<'_>, w: &mut Lines) {
    let d = seen.object;
    let (spec, status) = (&d["spec"], &d["status"]);
    seen.head(w);
    created(d, w);
    seen.marks(w);
    w.put(0, format!("Selector:\t{}", selector(&spec["selector"])));
    w.put(
        0,
        format!(
            "Replicas:\t{} desired | {} updated | {} total | {} available | {} unavailable",
            number(&spec["replicas"]),
            number(&status["updatedReplicas"]),
            number(&status["replicas"]),
            number(&status["availableReplicas"]),
            number(&status["unavailableReplicas"])
        ),
    );
    w.put(
        0,
        format!("StrategyType:\t{}", object::text(spec, "/strategy/type")),
    );
    w.put(
        0,
        format!("MinReadySeconds:\t{}", number(&spec["minReadySeconds"])),
    );
    let rolling = &spec["strategy"]["rollingUpdate"];
    if rolling.is_object() {
        let (down, up) = (&rolling["maxUnavailable"], &rolling["maxSurge"]);
        w.put(
            0,
            format!(
                "RollingUpdateStrategy:\t{} max unavailable, {} max surge",
                object::plain(down),
                object::plain(up)
            ),
        );
    }
    containers::template(&spec["template"], w);
    conditions(d, w);
    let mut own: Vec<&Value> = seen
        .items("replicasets")
        .iter()
        .filter(|rs| is_owned(rs, d))
        .collect();
    if own.is_empty() {
        return;
    }
    own.sort_by_key(|rs| object::text(rs, "/metadata/creationTimestamp"));
    let new = own.iter().position(|rs| is_new(rs, d));
    let mut new: Vec<&Value> = new.map(|at| own.remove(at)).into_iter().collect();
    own.sort_by_key(|rs| object::name(rs));
    w.put(0, format!("OldReplicaSets:\t{}", sets(&own)));
    w.put(
        0,
        format!("NewReplicaSet:\t{}", sets(&std::mem::take(&mut new))),
    );
}

/// Whether a replica set has the deployment's template, but for the label of its hash.
fn is_new(rs: &Value, deployment: &Value) -> bool {
    let mut template = rs["spec"]["template"].clone();
    if let Some(labels) = template["metadata"]["labels"].as_object_mut() {
        labels.remove("pod-template-hash");
    }
    template == deployment["spec"]["template"]
}

fn sets(all: &[&Value]) -> String {
    let texts = all.iter().map(|rs| {
        format!(
            "{} ({}/{} replicas created)",
            object::name(rs),
            number(&rs["status"]["replicas"]),
            number(&rs["spec"]["replicas"])
        )
    });
    or_none(texts.collect::<Vec<_>>().join(", "))
}

fn replica_set(seen: &Seen<'_>, w: &mut Lines) {
    replicas(seen, or_none(selector(&seen.object["spec"]["selector"])), w);
}

fn replication_controller(seen: &Seen<'_>, w: &mut Lines) {
    replicas(seen, labels_or_none(&seen.object["spec"]["selector"]), w);
}

fn replicas(seen: &Seen<'_>, selector: String, w: &mut Lines) {
    let o = seen.object;
    seen.head(w);
    w.put(0, format!("Selector:\t{selector}"));
    seen.marks(w);
    seen.owner(w);
    let (current, desired) = (
        number(&o["status"]["replicas"]),
        number(&o["spec"]["replicas"]),
    );
    w.put(
        0,
        format!("Replicas:\t{current} current / {desired} desired"),
    );
    w.put(0, format!("Pods Status:\t{}", pod_phases(seen)));
    containers::template(&o["spec"]["template"], w);
    conditions(o, w);
}

fn daemon_set(seen: &Seen<'_>, w: &mut Lines) {
    let (spec, status) = (&seen.object["spec"], &seen.object["status"]);
    seen.head(w);
    w.put(0, format!("Selector:\t{}", selector(&spec["selector"])));
    let nodes = labels_or_none(&spec["template"]["spec"]["nodeSelector"]);
    w.put(0, format!("Node-Selector:\t{nodes}"));
    seen.marks(w);
    for (title, field) in [
        (
            "Desired Number of Nodes Scheduled",
            "desiredNumberScheduled",
        ),
        (
            "Current Number of Nodes Scheduled",
            "currentNumberScheduled",
        ),
        (
            "Number of Nodes Scheduled with Up-to-date Pods",
            "updatedNumberScheduled",
        ),
        (
            "Number of Nodes Scheduled with Available Pods",
            "numberAvailable",
        ),
        ("Number of Nodes Misscheduled", "numberMisscheduled"),
    ] {
        w.put(0, format!("{title}: {}", number(&status[field])));
    }
    w.put(0, format!("Pods Status:\t{}", pod_phases(seen)));
    containers::template(&spec["template"], w);
}

fn stateful_set(seen: &Seen<'_>, w: &mut Lines) {
    let o = seen.object;
    let spec = &o["spec"];
    seen.head(w);
    created(o, w);
    w.put(0, format!("Selector:\t{}", selector(&spec["selector"])));
    seen.marks(w);
    w.put(
        0,
        format!("Service Name:\t{}", object::text(spec, "/serviceName")),
    );
    let policy = object::text(spec, "/podManagementPolicy");
    w.put(0, format!("Pod Management Policy:\t{policy}"));
    let (desired, total) = (number(&spec["replicas"]), number(&o["status"]["replicas"]));
    w.put(0, format!("Replicas:\t{desired} desired | {total} total"));
    let strategy = &spec["updateStrategy"];
    w.put(
        0,
        format!("Update Strategy:\t{}", object::text(strategy, "/type")),
    );
    w.some(1, "Partition", &strategy["rollingUpdate"]["partition"]);
    w.some(
        1,
        "MaxUnavailable",
        &strategy["rollingUpdate"]["maxUnavailable"],
    );
    let retention = &spec["persistentVolumeClaimRetentionPolicy"];
    if retention.is_object() {
        w.put(0, "Persistent Volume Claim Retention Policy:");
        w.some(1, "WhenDeleted", &retention["whenDeleted"]);
        w.some(1, "WhenScaled", &retention["whenScaled"]);
    }
    w.put(0, format!("Pods Status:\t{}", pod_phases(seen)));
    containers::template(&spec["template"], w);
    claims(object::items(spec, "/volumeClaimTemplates"), w);
}

fn claims(templates: &[Value], w: &mut Lines) {
    if templates.is_empty() {
        return w.put(0, "Volume Claims:\t<none>");
    }
    w.put(0, "Volume Claims:");
    for claim in templates {
        w.put(1, format!("Name:\t{}", object::name(claim)));
        w.put(
            1,
            format!(
                "StorageClass:\t{}",
                object::text(claim, "/spec/storageClassName")
            ),
        );
        for (title, map) in [("  Labels", "labels"), ("  Annotations", "annotations")] {
            w.labels(title, &claim["metadata"][map]);
        }
        let size = object::text(claim, "/spec/resources/requests/storage");
        let size = if size.is_empty() { "<default>" } else { size };
        w.put(1, format!("Capacity:\t{size}"));
        let modes = object::items(claim, "/spec/accessModes")
            .iter()
            .map(object::plain);
        let modes = modes.collect::<Vec<_>>().join(" ");
        w.put(1, format!("Access Modes:\t[{modes}]"));
    }
}
