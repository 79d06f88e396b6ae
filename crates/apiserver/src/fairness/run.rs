//! The loop that follows the objects of flow control and shares out seats anew.

use std::time::Duration;

use client::Reads;
use machinery::GroupResource;
use machinery::object::name;
use machinery::request::User;
use serde_json::Value;

use super::status::Writer;
use crate::server::{Inner, Server};

const GROUP: &str = "flowcontrol.apiserver.k8s.io";
/// Between two sharings of seats.
const SHARE_EVERY: Duration = Duration::from_secs(10);

/// The stored objects: schemas, levels.
fn objects(inner: &Inner) -> Option<(Vec<Value>, Vec<Value>)> {
    let all = |resource: &'static str| {
        let cache = inner.registry.cache(&GroupResource::new(GROUP, resource))?;
        let entries = cache.list(None);
        Some(entries.iter().filter_map(|e| e.value().ok()).collect())
    };
    Some((all("flowschemas")?, all("prioritylevelconfigurations")?))
}

/// Takes over what is stored now.
pub fn load(inner: &Inner) {
    if let Some((schemas, levels)) = objects(inner) {
        inner.fairness.configure(&schemas, &levels);
    }
}

/// Runs until the server shuts down.
pub async fn run(server: Server) {
    let mut down = server.inner.shutdown.subscribe();
    tokio::select! {
        () = follow(&server) => {}
        // The sender lives in the server, so this ends only by the value.
        _ = down.wait_for(|down| *down) => {}
    }
}

async fn follow(server: &Server) {
    let user = User::new("system:apiserver", &["system:masters"]);
    let client = server.client_for(user);
    let inner = &server.inner;
    let mut writer = Writer::default();
    let mut tick = tokio::time::interval(SHARE_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let cache =
            |resource: &'static str| inner.registry.cache(&GroupResource::new(GROUP, resource));
        let (Some(schemas), Some(levels)) =
            (cache("flowschemas"), cache("prioritylevelconfigurations"))
        else {
            return;
        };
        let (mut schemas, mut levels) = (schemas.subscribe(), levels.subscribe());
        let mut again = take_over(inner, &client, &mut writer).await;
        inner.hooks.finish("priority-and-fairness-config-consumer");
        loop {
            let changed = tokio::select! {
                change = schemas.changes.recv() => change.is_some(),
                change = levels.changes.recv() => change.is_some(),
                _ = tick.tick() => {
                    inner.fairness.share_out();
                    if again || leftovers(inner) {
                        again = take_over(inner, &client, &mut writer).await;
                    }
                    continue;
                }
            };
            if !changed {
                break;
            }
            // Several changes are one look.
            while schemas.changes.try_recv().is_ok() || levels.changes.try_recv().is_ok() {}
            again = take_over(inner, &client, &mut writer).await;
        }
    }
}

fn leftovers(inner: &Inner) -> bool {
    let Some((_, levels)) = objects(inner) else {
        return false;
    };
    let names: Vec<String> = levels.iter().map(|l| name(l).to_string()).collect();
    inner.fairness.has_leftovers(&names)
}

async fn take_over(inner: &Inner, client: &client::Client, writer: &mut Writer) -> bool {
    let Some((schemas, levels)) = objects(inner) else {
        return false;
    };
    inner.fairness.configure(&schemas, &levels);
    let names: Vec<String> = levels.iter().map(|l| name(l).to_string()).collect();
    writer.write(client, &schemas, &names).await
}
