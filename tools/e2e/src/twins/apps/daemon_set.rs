//! Twins of daemon_set.go.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use http::Method;
use serde_json::{Value, json};

use super::super::Twin;
use super::status_endpoints;
use crate::fixtures::grace;
use crate::images::{AGNHOST_IMAGE, OLD_AGNHOST_IMAGE};
use crate::rest::{Cx, labelled, version};
use crate::waits::{self, name, number};

pub const TWINS: &[Twin] = &[
    twin!(
        "[sig-apps] Daemon set should run and stop simple daemon [Conformance] [Serial]",
        "daemonsets",
        simple
    ),
    twin!(
        "[sig-apps] Daemon set should run and stop complex daemon [Conformance] [Serial]",
        "daemonsets",
        complex
    ),
    twin!(
        "[sig-apps] Daemon set should retry creating failed daemon pods [Conformance] [Serial]",
        "daemonsets",
        retries
    ),
    twin!(
        "[sig-apps] Daemon set should update pod when spec was updated and update strategy is RollingUpdate [Conformance] [Serial]",
        "daemonsets",
        rolling_update
    ),
    twin!(
        "[sig-apps] Daemon set should rollback without unnecessary restarts [Conformance] [Serial]",
        "daemonsets",
        rollback
    ),
    twin!(
        "[sig-apps] Daemon set should list and delete a collection of DaemonSets [Conformance] [Serial]",
        "daemonsets",
        collection
    ),
    twin!(
        "[sig-apps] Daemon set should verify changes to a daemon set status [Conformance] [Serial]",
        "daemonsets",
        status
    ),
];

pub(super) const RETRY: Duration = Duration::from_secs(1);
pub(super) const WITHIN: Duration = Duration::from_secs(300);
const NAME: &str = "daemon-set";
const SELECTOR: &str = "daemonset-name=daemon-set";
const COLOR: &str = "daemonset-color";
/// Labels of nodes that these tests set.
const PREFIX: &str = "daemonset-";
pub(super) const HASH: &str = "controller-revision-hash";

/// A DaemonSet; its own labels are the same as its pods'.
pub(super) fn daemon_set(name: &str, labels: &Value) -> Value {
    let container = json!({"name": "app", "image": AGNHOST_IMAGE, "securityContext": {},
        "ports": [{"containerPort": 9376}]});
    json!({"apiVersion": "apps/v1", "kind": "DaemonSet",
        "metadata": {"name": name, "labels": labels},
        "spec": {"selector": {"matchLabels": labels}, "template": {
            "metadata": {"labels": labels},
            "spec": {"containers": [container], "securityContext": {}}}}})
}

fn labelled_set() -> Value {
    daemon_set(NAME, &json!({"daemonset-name": NAME}))
}

/// The DaemonSet of most tests: without labels of its own.
fn plain_set() -> Value {
    let mut set = labelled_set();
    set["metadata"]["labels"] = json!({});
    set
}

pub(super) fn path(cx: &Cx, name: &str) -> String {
    cx.group("apps/v1", &format!("daemonsets/{name}"))
}

pub(super) async fn create(cx: &Cx, object: &Value) -> Result<Value> {
    cx.ok(Method::POST, &cx.group("apps/v1", "daemonsets"), object)
        .await
}

/// Prepares the namespace and the nodes, runs a test and takes its daemons down, which must succeed too.
pub(super) async fn around(cx: &Cx, test: impl Future<Output = Result<()>>) -> Result<()> {
    let selector = json!({"metadata": {"annotations":
        {"scheduler.alpha.kubernetes.io/node-selector": ""}}});
    let namespace = format!("/api/v1/namespaces/{}", cx.namespace);
    cx.patch(&namespace, "strategic-merge", &selector).await?;
    clear_nodes(cx).await?;
    let done = test.await;
    let down = take_down(cx).await.context("taking the daemons down");
    done.and(down)
}

async fn take_down(cx: &Cx) -> Result<()> {
    for set in cx.items(&cx.group("apps/v1", "daemonsets")).await? {
        let labels = set["spec"]["selector"]["matchLabels"].as_object();
        let selector = labels.into_iter().flatten();
        let selector: Vec<String> = selector
            .map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default()))
            .collect();
        waits::deleted_with_pods(cx, &path(cx, name(&set)), &selector.join(",")).await?;
        nowhere(cx, &set).await?;
    }
    clear_nodes(cx).await
}

async fn clear_nodes(cx: &Cx) -> Result<()> {
    let nodes = cx.items("/api/v1/nodes").await?;
    for node in nodes.iter().filter(|n| waits::node_is_usable(n)) {
        label_node(cx, name(node), None).await?;
    }
    Ok(())
}

/// Leaves a node with this color alone, of all labels that these tests set.
async fn label_node(cx: &Cx, node: &str, color: Option<&str>) -> Result<()> {
    let path = format!("/api/v1/nodes/{node}");
    let updated = cx
        .update(&path, |o| {
            if let Some(labels) = o["metadata"]["labels"].as_object_mut() {
                labels.retain(|k, _| !k.starts_with(PREFIX));
                labels.extend(color.map(|c| (COLOR.to_string(), json!(c))));
            }
        })
        .await?;
    let labels = updated["metadata"]["labels"].as_object();
    let ours = labels.into_iter().flatten();
    let ours: Vec<_> = ours.filter(|(k, _)| k.starts_with(PREFIX)).collect();
    ensure!(ours.len() == usize::from(color.is_some()), "{ours:?}");
    Ok(())
}

/// Should a node run a daemon? Its labels and taints say so.
fn should_run(node: &Value, set: &Value) -> bool {
    const TOLERATED: [(&str, &str); 6] = [
        ("not-ready", "NoExecute"),
        ("unreachable", "NoExecute"),
        ("disk-pressure", "NoSchedule"),
        ("memory-pressure", "NoSchedule"),
        ("pid-pressure", "NoSchedule"),
        ("unschedulable", "NoSchedule"),
    ];
    let labels = &node["metadata"]["labels"];
    let selector = set["spec"]["template"]["spec"]["nodeSelector"].as_object();
    let selected = selector.into_iter().flatten().all(|(k, v)| &labels[k] == v);
    let tolerated = |t: &Value| {
        let key = t["key"].as_str().unwrap_or_default();
        let key = key.strip_prefix("node.kubernetes.io/").unwrap_or_default();
        t["effect"] == "PreferNoSchedule"
            || TOLERATED
                .iter()
                .any(|(k, e)| *k == key && t["effect"] == *e)
    };
    let mut taints = node["spec"]["taints"].as_array().into_iter().flatten();
    selected && taints.all(tolerated)
}

async fn suitable_nodes(cx: &Cx, set: &Value) -> Result<Vec<String>> {
    let nodes = cx.items("/api/v1/nodes").await?;
    let nodes = nodes.iter().filter(|n| should_run(n, set));
    Ok(nodes.map(|n| name(n).to_string()).collect())
}

/// The pods of a DaemonSet that are not being deleted.
async fn live_pods(cx: &Cx, set: &Value) -> Result<Vec<Value>> {
    let mut pods = cx.items(&cx.core("pods")).await?;
    let uid = &set["metadata"]["uid"];
    pods.retain(|p| {
        waits::controller(p).is_some_and(|c| &c["uid"] == uid)
            && p["metadata"]["deletionTimestamp"].is_null()
    });
    Ok(pods)
}

/// Has each of these nodes exactly one available daemon, and no other node one?
async fn is_on(cx: &Cx, set: &Value, nodes: &[String]) -> Result<bool> {
    let mut count: BTreeMap<String, usize> = BTreeMap::new();
    for pod in live_pods(cx, set).await? {
        if waits::is_true(&pod, "Ready") {
            let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
            *count.entry(node.into()).or_default() += 1;
        }
    }
    Ok(count.len() == nodes.len() && nodes.iter().all(|n| count.get(n) == Some(&1)))
}

/// Waits until the daemons run on these nodes alone.
async fn on(cx: &Cx, set: &Value, nodes: &[String]) -> Result<()> {
    let what = format!("daemons on {nodes:?}");
    cx.eventually(RETRY, WITHIN, &what, || is_on(cx, set, nodes))
        .await
}

async fn nowhere(cx: &Cx, set: &Value) -> Result<()> {
    on(cx, set, &[]).await
}

/// Waits until daemons run on all nodes where they should.
pub(super) async fn everywhere(cx: &Cx, set: &Value) -> Result<()> {
    cx.eventually(RETRY, WITHIN, "daemons on all nodes", || async {
        is_on(cx, set, &suitable_nodes(cx, set).await?).await
    })
    .await
}

/// Waits until the status says that all daemons are scheduled and ready.
pub(super) async fn status_ok(cx: &Cx, name: &str) -> Result<()> {
    let fits = |o: &Value| {
        let count = |c: &str| number(&o["status"][c]);
        let scheduled = count("currentNumberScheduled");
        count("desiredNumberScheduled") == scheduled && scheduled == count("numberReady")
    };
    waits::object(cx, &path(cx, name), WITHIN, "all ready", fits).await?;
    Ok(())
}

/// The daemons that are not over; there must be some.
async fn daemon_pods(cx: &Cx) -> Result<Vec<Value>> {
    let fields = "fieldSelector=status.phase%21%3DFailed%2Cstatus.phase%21%3DSucceeded";
    let path = cx.core(&format!("pods?{}&{fields}", labelled(SELECTOR)));
    let pods = cx.items(&path).await?;
    ensure!(!pods.is_empty(), "no daemon pods");
    Ok(pods)
}

/// Creates a DaemonSet and waits until it runs everywhere and says so.
async fn create_everywhere(cx: &Cx, object: &Value) -> Result<Value> {
    let set = create(cx, object).await?;
    everywhere(cx, &set).await?;
    status_ok(cx, NAME).await?;
    Ok(set)
}

async fn simple(cx: Cx) -> Result<()> {
    around(&cx, async {
        let set = create_everywhere(&cx, &plain_set()).await?;
        let pods = daemon_pods(&cx).await?;
        cx.delete(&cx.core(&format!("pods/{}", name(&pods[0]))))
            .await?;
        everywhere(&cx, &set).await
    })
    .await
}

async fn complex(cx: Cx) -> Result<()> {
    around(&cx, async {
        let mut object = plain_set();
        object["spec"]["template"]["spec"]["nodeSelector"] = json!({COLOR: "blue"});
        let set = create(&cx, &object).await?;
        nowhere(&cx, &set).await?;
        let node = name(&waits::ready_node(&cx).await?).to_string();
        let nodes = [node.clone()];
        label_node(&cx, &node, Some("blue")).await?;
        on(&cx, &set, &nodes).await?;
        status_ok(&cx, NAME).await?;
        label_node(&cx, &node, Some("green")).await?;
        nowhere(&cx, &set).await?;
        let patch = json!({"spec": {"template": {"spec": {"nodeSelector": {COLOR: "green"}}},
            "updateStrategy": {"type": "RollingUpdate"}}});
        let set = cx
            .patch(&path(&cx, NAME), "strategic-merge", &patch)
            .await?;
        on(&cx, &set, &nodes).await?;
        status_ok(&cx, NAME).await
    })
    .await
}

async fn retries(cx: Cx) -> Result<()> {
    around(&cx, async {
        let set = create_everywhere(&cx, &plain_set()).await?;
        let mut pod = daemon_pods(&cx).await?.remove(0);
        pod["metadata"]["resourceVersion"] = json!("");
        pod["status"]["phase"] = json!("Failed");
        // A list's items do not say what they are.
        pod["apiVersion"] = json!("v1");
        pod["kind"] = json!("Pod");
        let at = cx.core(&format!("pods/{}", name(&pod)));
        cx.ok(Method::PUT, &format!("{at}/status"), &pod).await?;
        everywhere(&cx, &set).await?;
        cx.gone(&at, WITHIN).await
    })
    .await
}

/// Waits until there are so many revisions; the one of the current template.
async fn history(cx: &Cx, n: usize) -> Result<Value> {
    let all = cx.group(
        "apps/v1",
        &format!("controllerrevisions?{}", labelled(SELECTOR)),
    );
    let what = format!("{n} ControllerRevisions");
    cx.eventually(RETRY, WITHIN, &what, || async {
        Ok(cx.items(&all).await?.len() == n)
    })
    .await?;
    let mut template = cx.get(&path(cx, NAME)).await?["spec"]["template"].take();
    template["$patch"] = json!("replace");
    let data = json!({"spec": {"template": template}});
    let mut found = cx.items(&all).await?;
    for revision in &found {
        let hash = revision["metadata"]["labels"][HASH].as_str();
        ensure!(hash.is_some_and(|h| !h.is_empty()), "{revision}");
    }
    found.retain(|r| r["data"] == data);
    ensure!(found.len() == 1, "{} are of {data}", found.len());
    Ok(found.remove(0))
}

/// Waits for the history, whose current revision must have a number, and all daemons its hash.
async fn at_revision(cx: &Cx, n: usize) -> Result<()> {
    let revision = history(cx, n).await?;
    ensure!(revision["revision"] == n, "{revision}");
    let hash = &revision["metadata"]["labels"][HASH];
    let mut pods = daemon_pods(cx).await?;
    pods.retain(|p| p["metadata"]["deletionTimestamp"].is_null());
    let other = pods.iter().find(|p| &p["metadata"]["labels"][HASH] != hash);
    ensure!(other.is_none(), "{hash} is not the hash of {other:?}");
    Ok(())
}

fn image(object: &Value) -> &Value {
    &object["spec"]["containers"][0]["image"]
}

/// Waits until each suitable node has a daemon of an image; never may more than one be unavailable.
async fn rolled_out(cx: &Cx, set: &Value, wanted: &str, within: Duration) -> Result<()> {
    let what = format!("daemons of {wanted} on all nodes");
    cx.eventually(RETRY, within, &what, || async {
        let pods = live_pods(cx, set).await?;
        let unavailable = pods.iter().filter(|p| !waits::is_true(p, "Ready")).count();
        ensure!(unavailable <= 1, "{unavailable} are unavailable");
        let has = |node: &String| {
            let is = |p: &&Value| image(p) == wanted && p["spec"]["nodeName"] == *node;
            pods.iter().find(is).is_some()
        };
        Ok(suitable_nodes(cx, set).await?.iter().all(has))
    })
    .await
}

async fn rolling_update(cx: Cx) -> Result<()> {
    around(&cx, async {
        let mut object = plain_set();
        object["spec"]["updateStrategy"] = json!({"type": "RollingUpdate"});
        let set = create(&cx, &object).await?;
        version(&set)?;
        everywhere(&cx, &set).await?;
        let before = cx.get(&path(&cx, NAME)).await?;
        at_revision(&cx, 1).await?;
        let container = json!({"name": "app", "image": OLD_AGNHOST_IMAGE});
        let patch = json!({"spec": {"template": {"spec": {"containers": [container]}}}});
        let patched = cx
            .patch(&path(&cx, NAME), "strategic-merge", &patch)
            .await?;
        ensure!(version(&patched)? > version(&before)?, "{patched}");
        let nodes = u32::try_from(cx.items("/api/v1/nodes").await?.len())?;
        let within = WITHIN + nodes * Duration::from_secs(30);
        rolled_out(&cx, &patched, OLD_AGNHOST_IMAGE, within).await?;
        everywhere(&cx, &patched).await?;
        at_revision(&cx, 2).await
    })
    .await
}

async fn set_image(cx: &Cx, image: &str) -> Result<Value> {
    cx.update(&path(cx, NAME), |o| {
        o["spec"]["template"]["spec"]["containers"][0]["image"] = json!(image);
    })
    .await
}

async fn rollback(cx: Cx) -> Result<()> {
    const MISSING: &str = "foo:non-existent";
    around(&cx, async {
        let nodes = cx.items("/api/v1/nodes").await?;
        let usable = nodes.iter().filter(|n| waits::node_is_usable(n)).count();
        ensure!(usable > 1, "{usable} nodes; the test needs two");
        let mut object = plain_set();
        object["spec"]["updateStrategy"] = json!({"type": "RollingUpdate"});
        let set = create(&cx, &object).await?;
        everywhere(&cx, &set).await?;
        set_image(&cx, MISSING).await?;
        cx.eventually(RETRY, WITHIN, "a pod of the new image", || async {
            Ok(daemon_pods(&cx).await?.iter().any(|p| image(p) == MISSING))
        })
        .await?;
        let (mut old, mut new) = (Vec::new(), 0);
        for pod in daemon_pods(&cx).await? {
            match image(&pod).as_str() {
                Some(AGNHOST_IMAGE) => old.push(name(&pod).to_string()),
                Some(MISSING) => new += 1,
                other => bail!("{} has image {other:?}", name(&pod)),
            }
        }
        ensure!(!old.is_empty() && new > 0, "{old:?}, {new} new ones");
        let set = set_image(&cx, AGNHOST_IMAGE).await?;
        rolled_out(&cx, &set, AGNHOST_IMAGE, WITHIN).await?;
        let pods = daemon_pods(&cx).await?;
        let lost = |n: &&String| !pods.iter().any(|p| name(p) == n.as_str());
        let lost: Vec<&String> = old.iter().filter(lost).collect();
        ensure!(lost.is_empty(), "{lost:?} were restarted");
        Ok(())
    })
    .await
}

async fn collection(cx: Cx) -> Result<()> {
    around(&cx, async {
        create_everywhere(&cx, &labelled_set()).await?;
        let selector = labelled(SELECTOR);
        let everywhere = format!("/apis/apps/v1/daemonsets?{selector}");
        let found = cx.items(&everywhere).await?;
        ensure!(found.len() == 1, "{found:?}");
        let here = cx.group("apps/v1", &format!("daemonsets?{selector}"));
        cx.ok(Method::DELETE, &here, &grace(1)).await?;
        let left = cx.items(&everywhere).await?;
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })
    .await
}

async fn status(cx: Cx) -> Result<()> {
    around(&cx, async {
        let selector = labelled(SELECTOR);
        let everywhere = format!("/apis/apps/v1/daemonsets?{selector}");
        let since = version(&cx.get(&everywhere).await?)?;
        create_everywhere(&cx, &labelled_set()).await?;
        // What upstream's client makes of an empty DaemonSet.
        let nothing = json!({"metadata": {"creationTimestamp": null}, "spec": {"selector": null,
            "template": {"metadata": {"creationTimestamp": null}, "spec": {"containers": null}},
            "updateStrategy": {}}, "status": {"currentNumberScheduled": 0,
            "numberMisscheduled": 0, "desiredNumberScheduled": 0, "numberReady": 0}});
        status_endpoints(
            &cx,
            ("DaemonSet", "daemonsets"),
            NAME,
            (selector, since),
            WITHIN,
            nothing,
        )
        .await
    })
    .await
}
