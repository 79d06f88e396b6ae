//! Twins of [sig-instrumentation] on `events.k8s.io/v1`.

use anyhow::{Context, Result, ensure};
use http::Method;
use serde_json::{Value, json};

use super::Twin;
use crate::rest::{Cx, labelled, version};
use crate::waits::name;

pub const TWINS: &[Twin] = &[
    twin!(
        "[sig-instrumentation] Events API should ensure that an event can be fetched, patched, deleted, and listed [Conformance]",
        "events",
        lifecycle
    ),
    twin!(
        "[sig-instrumentation] Events API should delete a collection of events [Conformance]",
        "events",
        collection
    ),
];

const TIME: &str = "2017-09-19T13:49:16.000000Z";

fn event(cx: &Cx, name: &str, label: &str) -> Value {
    json!({"apiVersion": "events.k8s.io/v1", "kind": "Event",
        "metadata": {"name": name, "labels": {label: "true"}},
        "regarding": {"namespace": cx.namespace}, "eventTime": TIME, "note": format!("This is {name}"),
        "action": "Do", "reason": "Test", "type": "Normal",
        "reportingController": "test-controller", "reportingInstance": "test-node"})
}

/// An object without what every write changes.
fn plain(mut object: Value) -> Value {
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("resourceVersion");
        metadata.remove("managedFields");
    }
    object
}

/// Is the event in the lists of all namespaces and of its own?
async fn listed(cx: &Cx) -> Result<[bool; 2]> {
    let selector = labelled("testevent-constant=true");
    let here =
        |e: &Value| name(e) == "event-test" && e["metadata"]["namespace"] == json!(cx.namespace);
    let all = format!("/apis/events.k8s.io/v1/events?{selector}");
    let own = cx.group("events.k8s.io/v1", &format!("events?{selector}"));
    Ok([
        cx.items(&all).await?.iter().any(here),
        cx.items(&own).await?.iter().any(here),
    ])
}

async fn lifecycle(cx: Cx) -> Result<()> {
    let events = cx.group("events.k8s.io/v1", "events");
    let path = format!("{events}/event-test");
    let object = event(&cx, "event-test", "testevent-constant");
    cx.ok(Method::POST, &events, &object).await?;
    ensure!(
        listed(&cx).await? == [true, true],
        "the event is not listed"
    );
    let by_source = cx.core("events?fieldSelector=source%3Dtest-controller");
    let by_controller = format!("{events}?fieldSelector=reportingController%3Dtest-controller");
    for selected in [by_source, by_controller] {
        let found = cx.items(&selected).await?;
        ensure!(
            found.len() == 1 && name(&found[0]) == "event-test",
            "{selected}: {found:?}"
        );
    }

    let before = cx.get(&path).await?;
    let series = json!({"series": {"count": 2, "lastObservedTime": "2017-09-19T13:49:11.000000Z"}});
    cx.patch(&path, "strategic-merge", &series).await?;
    let found = cx.get(&path).await?;
    ensure!(version(&found)? > version(&before)?, "{found}");
    let mut wanted = plain(before);
    wanted["series"] = series["series"].clone();
    let found = plain(found);
    ensure!(found == wanted, "{found} is not {wanted}");

    wanted["series"] = json!({"count": 100, "lastObservedTime": TIME});
    cx.ok(Method::PUT, &path, &wanted).await?;
    let found = plain(cx.get(&path).await?);
    ensure!(found == wanted, "{found} is not {wanted}");

    cx.delete(&path).await.context("delete")?;
    ensure!(
        listed(&cx).await? == [false, false],
        "the event is still listed"
    );
    Ok(())
}

async fn collection(cx: Cx) -> Result<()> {
    let events = cx.group("events.k8s.io/v1", "events");
    for i in 1..=3 {
        let object = event(&cx, &format!("test-event-{i}"), "testevent-set");
        cx.ok(Method::POST, &events, &object).await?;
    }
    let selected = format!("{events}?{}", labelled("testevent-set=true"));
    ensure!(cx.items(&selected).await?.len() == 3, "three events");
    cx.delete(&selected).await?;
    let left = cx.items(&selected).await?;
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}
