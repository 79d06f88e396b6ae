//! The events at the end of a description.

use serde_json::Value;

use super::lines::{Lines, since};
use crate::builder::Info;
use crate::context::Context;
use crate::error::Result;
use crate::limits;
use crate::object;
use crate::rest::Call;

/// The events of an object, the oldest first.
pub async fn of(cx: &Context, info: &Info) -> Result<Vec<Value>> {
    let uid = object::text(&info.object, "/metadata/uid");
    let mut all = find(cx, info, uid).await?;
    // Some reporters of events of a node give its name as its uid.
    if info.resource.kind == "Node" && uid != info.name {
        all.extend(find(cx, info, &info.name).await?);
    }
    all.sort_by_key(|e| object::text(e, "/lastTimestamp").to_string());
    Ok(all)
}

async fn find(cx: &Context, info: &Info, uid: &str) -> Result<Vec<Value>> {
    let mut fields = format!(
        "involvedObject.name={},involvedObject.kind={},involvedObject.uid={uid}",
        info.name, info.resource.kind
    );
    let path = match &info.namespace {
        Some(ns) => {
            fields.push_str(&format!(",involvedObject.namespace={ns}"));
            format!("/api/v1/namespaces/{ns}/events")
        }
        None => "/api/v1/events".into(),
    };
    let call = Call::get(path)
        .query("fieldSelector", fields)
        .query("limit", limits::PAGE.to_string());
    let list = cx.rest().await?.json(&call).await?;
    Ok(object::items(&list, "/items").to_vec())
}

/// The table of events.
pub fn put(events: &[Value], w: &mut Lines) {
    if events.is_empty() {
        return w.put(0, "Events:\t<none>");
    }
    w.put(0, "Events:");
    w.put(1, "Type\tReason\tAge\tFrom\tMessage");
    w.put(1, "----\t------\t----\t----\t-------");
    for e in events {
        let from = ["/source/component", "/reportingComponent"].map(|p| object::text(e, p));
        let from = from.into_iter().find(|f| !f.is_empty()).unwrap_or_default();
        let mut message = object::text(e, "/message").trim().to_string();
        let field = object::text(e, "/involvedObject/fieldPath");
        if !field.is_empty() {
            message = format!("{field}: {message}");
        }
        w.put(
            1,
            format!(
                "{}\t{}\t{}\t{from}\t{message}",
                object::text(e, "/type"),
                object::text(e, "/reason"),
                age(e)
            ),
        );
    }
}

fn age(e: &Value) -> String {
    let first = if e["eventTime"].is_null() {
        since(&e["firstTimestamp"])
    } else {
        since(&e["eventTime"])
    };
    let count = e["count"].as_i64().unwrap_or_default();
    if let Some(series) = e["series"].as_object() {
        let last = since(series.get("lastObservedTime").unwrap_or(&Value::Null));
        let count = series.get("count").and_then(Value::as_i64);
        format!("{last} (x{} over {first})", count.unwrap_or_default())
    } else if count > 1 {
        format!("{} (x{count} over {first})", since(&e["lastTimestamp"]))
    } else {
        first
    }
}
