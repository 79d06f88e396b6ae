//! Twins of [sig-instrumentation].

use std::time::Duration;

use anyhow::{Result, ensure};
use http::Method;
use serde_json::{Value, json};

use super::Twin;
use crate::rest::Cx;

pub const TWINS: &[Twin] = &[
    Twin {
        name: "[sig-instrumentation] Events should manage the lifecycle of an event [Conformance]",
        base: "events",
        run: |cx| Box::pin(lifecycle(cx)),
    },
    Twin {
        name: "[sig-instrumentation] Events should delete a collection of events [Conformance]",
        base: "events",
        run: |cx| Box::pin(collection(cx)),
    },
];

fn event(cx: &Cx, name: &str, label: &str, message: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": name, "labels": {label: "true"}},
        "message": message, "reason": "Test", "type": "Normal", "count": 1,
        "involvedObject": {"namespace": cx.namespace}})
}

async fn lifecycle(cx: Cx) -> Result<()> {
    let (name, label) = ("event-test", "testevent-constant");
    let events = cx.core("events");
    cx.ok(
        Method::POST,
        &events,
        &event(&cx, name, label, "This is a test event"),
    )
    .await?;
    let everywhere = format!("/api/v1/events?labelSelector={label}%3Dtrue");
    let listed = async || -> Result<bool> {
        let all = cx.get(&everywhere).await?;
        Ok(all["items"].as_array().into_iter().flatten().any(|e| {
            e["metadata"]["name"] == name && e["metadata"]["namespace"] == json!(cx.namespace)
        }))
    };
    ensure!(listed().await?, "the event is not listed");
    let path = format!("{events}/{name}");
    let message = "This is a test event - patched";
    cx.patch(&path, "strategic-merge", &json!({"message": message}))
        .await?;
    let mut sent = cx.get(&path).await?;
    ensure!(sent["message"] == message, "{sent}");
    sent["series"] = json!({"count": 100, "lastObservedTime": "2023-01-13T10:15:30.000000Z"});
    let bare = |o: &Value| {
        let mut o = o.clone();
        if let Some(m) = o["metadata"].as_object_mut() {
            m.remove("resourceVersion");
            m.remove("managedFields");
        }
        o
    };
    let sent = bare(&sent);
    cx.ok(Method::PUT, &path, &sent).await?;
    let found = bare(&cx.get(&path).await?);
    ensure!(found == sent, "{found} differs from {sent}");
    cx.delete(&path).await?;
    ensure!(!listed().await?, "the event is still listed");
    Ok(())
}

async fn collection(cx: Cx) -> Result<()> {
    let label = "testevent-set";
    let events = cx.core("events");
    for i in 1..=3 {
        let name = format!("test-event-{i}");
        let object = event(&cx, &name, label, &format!("This is {name}"));
        cx.ok(Method::POST, &events, &object).await?;
    }
    let selected = format!("{events}?labelSelector={label}%3Dtrue");
    let count = async || -> Result<usize> {
        Ok(cx.get(&selected).await?["items"]
            .as_array()
            .map_or(0, Vec::len))
    };
    ensure!(count().await? == 3, "not three events");
    cx.delete(&selected).await?;
    cx.eventually(
        Duration::from_secs(1),
        Duration::from_secs(60),
        "no event is left",
        || async { Ok(count().await? == 0) },
    )
    .await
}
