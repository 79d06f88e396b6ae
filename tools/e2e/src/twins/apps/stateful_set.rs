//! Twins of statefulset.go.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use http::Method;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::super::Twin;
use super::{scale_subresource, status_endpoints};
use crate::fixtures::grace;
use crate::images::{AGNHOST_IMAGE, OLD_AGNHOST_IMAGE, PAUSE_IMAGE};
use crate::rest::{Cx, POLL, Watch, labelled, version};
use crate::waits::{self, name, number};

pub const TWINS: &[Twin] = &[
    twin!(
        "[sig-apps] StatefulSet Basic StatefulSet functionality [StatefulSetBasic] should perform rolling updates and roll backs of template modifications [Conformance]",
        "statefulset",
        rolling_update
    ),
    twin!(
        "[sig-apps] StatefulSet Basic StatefulSet functionality [StatefulSetBasic] should perform canary updates and phased rolling updates of template modifications [Conformance]",
        "statefulset",
        canary
    ),
    twin!(
        "[sig-apps] StatefulSet Basic StatefulSet functionality [StatefulSetBasic] Scaling should happen in predictable order and halt if any stateful pod is unhealthy [Conformance] [Slow]",
        "statefulset",
        ordered_scaling
    ),
    twin!(
        "[sig-apps] StatefulSet Basic StatefulSet functionality [StatefulSetBasic] Burst scaling should run to completion even with unhealthy pods [Conformance] [Slow]",
        "statefulset",
        burst_scaling
    ),
    twin!(
        "[sig-apps] StatefulSet Basic StatefulSet functionality [StatefulSetBasic] Should recreate evicted statefulset [Conformance]",
        "statefulset",
        recreates
    ),
    twin!(
        "[sig-apps] StatefulSet Basic StatefulSet functionality [StatefulSetBasic] should have a working scale subresource [Conformance]",
        "statefulset",
        scale
    ),
    twin!(
        "[sig-apps] StatefulSet Basic StatefulSet functionality [StatefulSetBasic] should list, patch and delete a collection of StatefulSets [Conformance]",
        "statefulset",
        collection
    ),
    twin!(
        "[sig-apps] StatefulSet Basic StatefulSet functionality [StatefulSetBasic] should validate Statefulset Status endpoints [Conformance]",
        "statefulset",
        status
    ),
];

const SET: Duration = Duration::from_secs(600);
const POD: Duration = Duration::from_secs(300);
/// How long a number of pods must stay.
const STAYS: Duration = Duration::from_secs(10);
const LABELS: &str = "foo=bar,baz=blah";
const CONTAINER: &str = "webserver";
/// What the readiness probe asks for; commands move it away and back.
const PROBED: &str = "/localhost.crt";
const HASH: &str = "controller-revision-hash";

/// A StatefulSet of web servers, and where its pods are found.
struct Set<'a> {
    cx: &'a Cx,
    name: &'static str,
    selector: &'static str,
}

fn labels() -> Value {
    json!({"foo": "bar", "baz": "blah"})
}

fn stateful_set(name: &str, replicas: u32, labels: Value) -> Value {
    let container =
        json!({"name": CONTAINER, "image": OLD_AGNHOST_IMAGE, "args": ["test-webserver"]});
    json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": name},
        "spec": {"replicas": replicas, "serviceName": "test",
            "selector": {"matchLabels": labels}, "updateStrategy": {"type": "RollingUpdate"},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}}}})
}

/// One whose pods are ready while the server's certificate is where it belongs.
fn probed(name: &str, replicas: u32, labels: Value) -> Value {
    let mut set = stateful_set(name, replicas, labels);
    set["spec"]["template"]["spec"]["containers"][0]["readinessProbe"] = json!({"httpGet": {"path": PROBED, "port": 80}, "periodSeconds": 1,
            "successThreshold": 1, "failureThreshold": 1});
    set
}

/// Makes the governing service, runs a test and takes its sets down, which must succeed too.
async fn around(cx: &Cx, test: impl Future<Output = Result<()>>) -> Result<()> {
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "test"},
        "spec": {"clusterIP": "None", "selector": labels(),
            "ports": [{"port": 80, "name": "http", "protocol": "TCP"}]}});
    cx.ok(Method::POST, &cx.core("services"), &service).await?;
    let done = test.await;
    let down = take_down(cx).await.context("taking the sets down");
    done.and(down)
}

async fn take_down(cx: &Cx) -> Result<()> {
    let all = cx.group("apps/v1", "statefulsets");
    for set in cx.items(&all).await? {
        let path = format!("{all}/{}", name(&set));
        cx.update(&path, |o| o["spec"]["replicas"] = json!(0))
            .await?;
        waits::object(cx, &path, SET, "no replicas", |o| {
            observed(o) && number(&o["status"]["replicas"]) == 0
        })
        .await?;
        let options = json!({"apiVersion": "v1", "kind": "DeleteOptions",
            "orphanDependents": false});
        cx.ok(Method::DELETE, &path, &options).await?;
    }
    let claims = cx.items(&cx.core("persistentvolumeclaims")).await?;
    ensure!(claims.is_empty(), "{claims:?}");
    Ok(())
}

fn observed(set: &Value) -> bool {
    number(&set["status"]["observedGeneration"]) >= number(&set["metadata"]["generation"])
}

fn is_ready(pod: &Value) -> bool {
    waits::is_true(pod, "Ready")
}

fn image(pod: &Value) -> &Value {
    &pod["spec"]["containers"][0]["image"]
}

fn hash(pod: &Value) -> &Value {
    &pod["metadata"]["labels"][HASH]
}

/// The current and the update revision of a set.
fn revisions(set: &Value) -> (Value, Value) {
    let status = &set["status"];
    (
        status["currentRevision"].clone(),
        status["updateRevision"].clone(),
    )
}

// === Set ===

impl Set<'_> {
    fn path(&self) -> String {
        self.cx
            .group("apps/v1", &format!("statefulsets/{}", self.name))
    }

    async fn get(&self) -> Result<Value> {
        self.cx.get(&self.path()).await
    }

    async fn create(&self, object: &Value) -> Result<Value> {
        let all = self.cx.group("apps/v1", "statefulsets");
        self.cx.ok(Method::POST, &all, object).await
    }

    fn ordinal(&self, pod: &Value) -> Option<usize> {
        let rest = name(pod).strip_prefix(self.name)?;
        rest.strip_prefix('-')?.parse().ok()
    }

    /// The pods, by their ordinals.
    async fn pods(&self) -> Result<Vec<Value>> {
        let mut pods = waits::pods(self.cx, self.selector).await?;
        pods.sort_by_key(|p| self.ordinal(p));
        Ok(pods)
    }

    /// Waits until exactly `n` pods run, of which the first `ready` alone are ready.
    async fn running(&self, n: usize, ready: usize) -> Result<()> {
        let what = format!("{n} pods of {} run, {ready} ready", self.name);
        self.cx
            .eventually(POLL, SET, &what, || async {
                let pods = self.pods().await?;
                ensure!(pods.len() <= n, "{} pods, not {n}", pods.len());
                let fits = |p: &Value| {
                    let wanted = self.ordinal(p).is_some_and(|o| o < ready);
                    p["status"]["phase"] == "Running" && is_ready(p) == wanted
                };
                Ok(pods.len() == n && pods.iter().all(fits))
            })
            .await
    }

    /// Waits until exactly `n` pods run and are ready.
    async fn all_ready(&self, n: usize) -> Result<()> {
        self.running(n, n).await
    }

    /// Waits until the controller has seen the newest generation.
    async fn status(&self) -> Result<Value> {
        waits::object(self.cx, &self.path(), SET, "observed", observed).await
    }

    async fn status_count(&self, field: &str, n: i64) -> Result<()> {
        let fits = |o: &Value| observed(o) && number(&o["status"][field]) == n;
        let what = format!("{field} {n}");
        waits::object(self.cx, &self.path(), SET, &what, fits).await?;
        Ok(())
    }

    async fn set_replicas(&self, n: u32) -> Result<()> {
        self.cx
            .update(&self.path(), |o| o["spec"]["replicas"] = json!(n))
            .await?;
        Ok(())
    }

    async fn set_image(&self, image: &str) -> Result<Value> {
        self.cx
            .update(&self.path(), |o| {
                o["spec"]["template"]["spec"]["containers"][0]["image"] = json!(image);
            })
            .await?;
        self.status().await
    }

    async fn pod_count(&self, n: usize) -> Result<()> {
        let what = format!("{n} pods of {}", self.name);
        self.cx
            .eventually(POLL, SET, &what, || async {
                Ok(self.pods().await?.len() == n)
            })
            .await
    }

    /// The number of pods must not change for a while.
    async fn stays_at(&self, n: usize) -> Result<()> {
        let end = tokio::time::Instant::now() + STAYS;
        while tokio::time::Instant::now() < end {
            let found = self.pods().await?.len();
            ensure!(found == n, "{found} pods, not {n}");
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    async fn shell(&self, pod: &str, line: &str) -> Result<()> {
        self.cx.shell(pod, CONTAINER, line).await?;
        Ok(())
    }

    async fn break_pod(&self, pod: &str) -> Result<()> {
        let line = format!("mv -v {PROBED} /tmp/ || true");
        self.shell(pod, &line).await
    }

    async fn restore_pod(&self, pod: &str) -> Result<()> {
        let line = format!("mv -v /tmp{PROBED} / || true");
        self.shell(pod, &line).await
    }

    async fn break_all(&self) -> Result<()> {
        for pod in self.pods().await? {
            self.break_pod(name(&pod)).await?;
        }
        Ok(())
    }

    async fn restore_all(&self) -> Result<()> {
        for pod in self.pods().await? {
            self.restore_pod(name(&pod)).await?;
        }
        Ok(())
    }

    /// Waits until a pod is ready, or is not.
    async fn pod_ready(&self, pod: &str, wanted: bool) -> Result<()> {
        let path = self.cx.core(&format!("pods/{pod}"));
        let fits = |o: &Value| is_ready(o) == wanted;
        let what = format!("ready is {wanted}");
        waits::object(self.cx, &path, SET, &what, fits).await?;
        Ok(())
    }

    /// Waits until all pods are there and the update is complete.
    async fn rolled_out(&self, n: usize) -> Result<Value> {
        self.cx
            .eventually(POLL, SET, "the update is complete", || async {
                let (current, update) = revisions(&self.get().await?);
                Ok(self.pods().await?.len() >= n && current == update)
            })
            .await?;
        self.get().await
    }

    /// All pods must have an image and a revision.
    async fn all_have(&self, wanted: &str, revision: &Value) -> Result<()> {
        self.split_at(0, ("", &Value::Null), (wanted, revision))
            .await
    }

    /// Pods below a partition must have the one image and revision, the others the other.
    async fn split_at(
        &self,
        partition: usize,
        below: (&str, &Value),
        above: (&str, &Value),
    ) -> Result<()> {
        for (i, pod) in self.pods().await?.iter().enumerate() {
            let (wanted, revision) = if i < partition { below } else { above };
            ensure!(
                image(pod) == wanted && hash(pod) == revision,
                "{} has {} and {}, not {wanted} and {revision}",
                name(pod),
                image(pod),
                hash(pod)
            );
        }
        Ok(())
    }

    /// Sets the partition and waits until the pods from there on are updated.
    async fn partition(&self, partition: usize, n: usize) -> Result<Value> {
        let strategy = json!({"type": "RollingUpdate", "rollingUpdate": {"partition": partition}});
        self.cx
            .update(&self.path(), |o| {
                o["spec"]["updateStrategy"] = strategy.clone();
            })
            .await?;
        let what = format!("updated from {partition} on");
        self.cx
            .eventually(POLL, SET, &what, || async {
                let (current, update) = revisions(&self.get().await?);
                let pods = self.pods().await?;
                Ok(pods.len() >= n
                    && (partition > 0 || current == update)
                    && pods.iter().skip(partition).all(|p| hash(p) == &update))
            })
            .await?;
        self.get().await
    }
}

/// Watches until these pods, in this order, had an event of a kind.
fn in_order(
    mut watch: Watch,
    kind: &'static str,
    pods: [&'static str; 3],
) -> JoinHandle<Result<()>> {
    tokio::spawn(async move {
        for pod in pods {
            let fits = |k: &str, o: &Value| k == kind && name(o) == pod;
            watch.until(SET, &format!("{kind} of {pod}"), fits).await?;
        }
        Ok(())
    })
}

async fn rolling_update(cx: Cx) -> Result<()> {
    around(&cx, rollback(&cx)).await
}

async fn rollback(cx: &Cx) -> Result<()> {
    let set = Set {
        cx,
        name: "ss2",
        selector: LABELS,
    };
    set.create(&probed(set.name, 3, labels())).await?;
    set.all_ready(3).await?;
    let (first, update) = revisions(&set.status().await?);
    ensure!(first == update, "{first} and {update} at first");
    set.all_have(OLD_AGNHOST_IMAGE, &first).await?;

    set.break_pod("ss2-1").await?;
    set.pod_ready("ss2-1", false).await?;
    let (current, second) = revisions(&set.set_image(AGNHOST_IMAGE).await?);
    ensure!(current != second, "no new revision {second}");
    set.restore_pod("ss2-1").await?;
    set.pod_ready("ss2-1", true).await?;
    let (current, _) = revisions(&set.rolled_out(3).await?);
    ensure!(current == second, "{current} is not {second}");
    set.all_have(AGNHOST_IMAGE, &second).await?;

    set.break_pod("ss2-1").await?;
    set.pod_ready("ss2-1", false).await?;
    let (current, update) = revisions(&set.set_image(OLD_AGNHOST_IMAGE).await?);
    ensure!(update == first, "{update} is not the first, {first}");
    ensure!(current != update, "{current} is current already");
    set.restore_pod("ss2-1").await?;
    set.pod_ready("ss2-1", true).await?;
    let (current, _) = revisions(&set.rolled_out(3).await?);
    ensure!(current == first, "{current} is not the first, {first}");
    set.all_have(OLD_AGNHOST_IMAGE, &first).await
}

async fn canary(cx: Cx) -> Result<()> {
    around(&cx, phases(&cx)).await
}

async fn phases(cx: &Cx) -> Result<()> {
    let set = Set {
        cx,
        name: "ss2",
        selector: LABELS,
    };
    let mut object = probed(set.name, 3, labels());
    object["spec"]["updateStrategy"]["rollingUpdate"] = json!({"partition": 3});
    set.create(&object).await?;
    set.all_ready(3).await?;
    let (first, update) = revisions(&set.status().await?);
    ensure!(first == update, "{first} and {update} at first");
    let old = (OLD_AGNHOST_IMAGE, &first);
    set.split_at(3, old, old).await?;

    let (current, second) = revisions(&set.set_image(AGNHOST_IMAGE).await?);
    ensure!(current == first && second != first, "{current}, {second}");
    let new = (AGNHOST_IMAGE, &second);
    set.split_at(3, old, old).await.context("at partition 3")?;

    set.partition(2, 3).await?;
    set.split_at(2, old, new).await.context("at partition 2")?;
    for pod in ["ss2-0", "ss2-2"] {
        let path = cx.core(&format!("pods/{pod}"));
        cx.ok(Method::DELETE, &path, &grace(0)).await?;
    }
    set.all_ready(3).await?;
    set.split_at(2, old, new).await.context("made anew")?;

    for partition in [1, 0] {
        let found = set.partition(partition, 3).await?;
        set.split_at(partition, old, new).await?;
        let (current, update) = revisions(&found);
        ensure!(partition > 0 || current == update, "{current}, {update}");
    }
    Ok(())
}

async fn watch_pods(cx: &Cx) -> Result<Watch> {
    let selector = labelled(LABELS);
    let pods = cx.core("pods");
    let since = version(&cx.get(&format!("{pods}?{selector}")).await?)?;
    cx.watch(&pods, &format!("{selector}&resourceVersion={since}"))
        .await
}

async fn ordered_scaling(cx: Cx) -> Result<()> {
    around(&cx, in_turn(&cx)).await
}

async fn in_turn(cx: &Cx) -> Result<()> {
    let up = in_order(watch_pods(cx).await?, "ADDED", ["ss-0", "ss-1", "ss-2"]);
    let set = Set {
        cx,
        name: "ss",
        selector: LABELS,
    };
    set.create(&probed(set.name, 1, labels())).await?;
    set.all_ready(1).await?;
    set.break_all().await?;
    set.running(1, 0).await?;
    set.status_count("readyReplicas", 0).await?;
    set.set_replicas(3).await?;
    set.stays_at(1).await?;
    set.restore_all().await?;
    set.all_ready(3).await?;
    up.await?.context("scaling up")?;

    let down = in_order(watch_pods(cx).await?, "DELETED", ["ss-2", "ss-1", "ss-0"]);
    set.break_all().await?;
    set.status_count("readyReplicas", 0).await?;
    set.running(3, 0).await?;
    set.set_replicas(0).await?;
    set.stays_at(3).await?;
    set.restore_all().await?;
    set.pod_count(0).await?;
    down.await?.context("scaling down")
}

async fn burst_scaling(cx: Cx) -> Result<()> {
    around(&cx, at_once(&cx)).await
}

async fn at_once(cx: &Cx) -> Result<()> {
    let set = Set {
        cx,
        name: "ss",
        selector: LABELS,
    };
    let mut object = probed(set.name, 1, labels());
    object["spec"]["podManagementPolicy"] = json!("Parallel");
    set.create(&object).await?;
    set.all_ready(1).await?;
    set.break_all().await?;
    set.running(1, 0).await?;
    set.status_count("readyReplicas", 0).await?;
    set.set_replicas(3).await?;
    set.pod_count(3).await.context("with an unhealthy pod")?;
    set.restore_all().await?;
    set.all_ready(3).await?;
    set.break_all().await?;
    set.status_count("readyReplicas", 0).await?;
    set.running(3, 0).await?;
    set.set_replicas(0).await?;
    set.pod_count(0).await.context("with unhealthy pods")?;
    set.status_count("replicas", 0).await
}

async fn recreates(cx: Cx) -> Result<()> {
    around(&cx, evicted(&cx)).await
}

async fn evicted(cx: &Cx) -> Result<()> {
    let node = waits::ready_node(cx).await?;
    let port = json!({"hostPort": 21017, "containerPort": 21017, "name": "conflict"});
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "test-pod"},
        "spec": {"nodeName": name(&node), "containers": [
            {"name": "agnhost", "image": AGNHOST_IMAGE, "ports": [port]}]}});
    cx.ok(Method::POST, &cx.core("pods"), &pod).await?;
    waits::running(cx, "test-pod").await?;
    let set = Set {
        cx,
        name: "ss",
        selector: LABELS,
    };
    let mut object = stateful_set(set.name, 1, labels());
    let template = &mut object["spec"]["template"]["spec"];
    template["nodeName"] = json!(name(&node));
    template["containers"][0]["ports"] = json!([port]);
    set.create(&object).await?;

    let fields = "fieldSelector=metadata.name%3Dss-0";
    let pods = cx.core("pods");
    let list = cx.get(&format!("{pods}?{fields}")).await?;
    let mut first = list["items"][0]["metadata"]["uid"].clone();
    let query = format!("{fields}&resourceVersion={}", version(&list)?);
    let mut watch = cx.watch(&pods, &query).await?;
    let end = tokio::time::Instant::now() + POD;
    loop {
        let left = end.saturating_duration_since(tokio::time::Instant::now());
        let (kind, seen) = watch.next(left).await.context("ss-0 goes away")?;
        match kind.as_str() {
            "DELETED" if first.is_string() => break,
            "DELETED" => {}
            _ => first = seen["metadata"]["uid"].clone(),
        }
    }
    let path = cx.core("pods/test-pod");
    cx.ok(Method::DELETE, &path, &grace(0)).await?;
    let path = cx.core("pods/ss-0");
    let every = Duration::from_secs(2);
    cx.eventually(every, POD, "ss-0 runs anew", || async {
        let found = cx.find(&path).await?;
        Ok(found
            .is_some_and(|p| p["status"]["phase"] == "Running" && p["metadata"]["uid"] != first))
    })
    .await
}

async fn scale(cx: Cx) -> Result<()> {
    around(&cx, async {
        let set = Set {
            cx: &cx,
            name: "ss",
            selector: LABELS,
        };
        set.create(&probed(set.name, 1, labels())).await?;
        set.all_ready(1).await?;
        set.status().await?;
        scale_subresource(&cx, &set.path()).await
    })
    .await
}

async fn collection(cx: Cx) -> Result<()> {
    around(&cx, patched_collection(&cx)).await
}

async fn patched_collection(cx: &Cx) -> Result<()> {
    let set = Set {
        cx,
        name: "test-ss",
        selector: "name=sample-pod,pod=agnhost",
    };
    let labels = json!({"name": "sample-pod", "pod": "agnhost"});
    let made = set.create(&probed(set.name, 1, labels)).await?;
    let before = version(&made)?;
    set.all_ready(1).await?;
    set.status().await?;
    let container = json!({"name": set.name, "image": PAUSE_IMAGE});
    let patch = json!({"metadata": {"labels": {"test-ss": "patched"}}, "spec": {"replicas": 2,
        "template": {"spec": {"terminationGracePeriodSeconds": 1, "containers": [container]}}}});
    let patched = cx.patch(&set.path(), "strategic-merge", &patch).await?;
    ensure!(version(&patched)? > before, "{patched}");
    let found = set.get().await?;
    ensure!(
        found["spec"]["replicas"] == 2 && image(&found["spec"]["template"]) == PAUSE_IMAGE,
        "{found}"
    );
    set.all_ready(2).await?;
    set.status().await?;
    let selector = labelled("test-ss=patched");
    let everywhere = format!("/apis/apps/v1/statefulsets?{selector}");
    let found = cx.items(&everywhere).await?;
    ensure!(found.len() == 1, "{found:?}");
    let here = cx.group("apps/v1", &format!("statefulsets?{selector}"));
    cx.ok(Method::DELETE, &here, &grace(1)).await?;
    let left = cx.items(&everywhere).await?;
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}

async fn status(cx: Cx) -> Result<()> {
    around(&cx, async {
        let selector = labelled("e2e=testing");
        let everywhere = format!("/apis/apps/v1/statefulsets?{selector}");
        let since = version(&cx.get(&everywhere).await?)?;
        let set = Set {
            cx: &cx,
            name: "ss",
            selector: LABELS,
        };
        set.create(&probed(set.name, 1, labels())).await?;
        set.all_ready(1).await?;
        set.status().await?;
        let patch = json!({"metadata": {"labels": {"e2e": "testing"}}});
        cx.patch(&set.path(), "strategic-merge", &patch).await?;
        let nothing = json!({});
        status_endpoints(
            &cx,
            ("StatefulSet", "statefulsets"),
            set.name,
            (selector, since),
            SET,
            nothing,
        )
        .await
    })
    .await
}
