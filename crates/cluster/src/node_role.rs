//! Gives nodes their role label: a node that says `node.k0sproject.io/role: control-plane` of itself is
//! labelled `node-role.kubernetes.io/control-plane`, which kubelets may not set. k0s: pkg/component/controller/noderole.

use client::{Client, Entry};
use http::Method;
use machinery::GroupResource;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::rest;

const SAYS: &str = "node.k0sproject.io/role";
const ROLE: &str = "node-role.kubernetes.io/";

/// Labels nodes until `shutdown` becomes true. `client` must be allowed to patch them.
pub async fn run(client: Client, mut shutdown: watch::Receiver<bool>) {
    let nodes = match client.cache(&GroupResource::new("", "nodes")) {
        Ok(nodes) => nodes,
        Err(error) => return tracing::error!(%error, "nodes get no role labels"),
    };
    loop {
        let mut subscription = nodes.subscribe();
        for entry in &subscription.snapshot {
            label(&client, entry).await;
        }
        loop {
            let change = tokio::select! {
                _ = shutdown.wait_for(|s| *s) => return,
                change = subscription.changes.recv() => change,
            };
            match change {
                Some(c) => label(&client, &c.entry).await,
                None => break,
            }
        }
    }
}

async fn label(client: &Client, entry: &Entry) {
    let Some(patch) = plan(entry) else {
        return;
    };
    let path = format!("/api/v1/nodes/{}", entry.name);
    match rest::send(client, Method::PATCH, &path, Some(&patch)).await {
        Ok(_) => {}
        Err(e) if client::is_not_found(&e.source) => {}
        Err(error) => tracing::warn!(%error, "a node did not get its role label"),
    }
}

/// The patch that a node needs, if any.
fn plan(entry: &Entry) -> Option<Value> {
    let role = entry.labels.get(SAYS)?;
    let label = format!("{ROLE}{role}");
    let there = entry.labels.get(&*label).is_some_and(|v| &**v == "true");
    (!there).then(|| json!({"metadata": {"labels": {label: "true"}}}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_nodes_that_say_so_are_labelled() {
        let node = |labels: Value| {
            let object = json!({"metadata": {"name": "n", "labels": labels}});
            Entry::new(object.to_string().into(), 1, Vec::new()).expect("an entry")
        };
        assert_eq!(plan(&node(json!({}))), None);
        let label = "node-role.kubernetes.io/control-plane";
        let says = node(json!({SAYS: "control-plane"}));
        let wanted = json!({"metadata": {"labels": {label: "true"}}});
        assert_eq!(plan(&says), Some(wanted));
        let done = node(json!({SAYS: "control-plane", label: "true"}));
        assert_eq!(plan(&done), None);
    }
}
