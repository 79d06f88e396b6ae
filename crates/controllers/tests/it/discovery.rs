//! Endpoints and EndpointSlices of a service, and mirrored ones.

use serde_json::{Value, json};

use crate::world::World;

fn pod(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "d", "labels": {"app": "web"}},
        "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i", "ports": [{"name": "http", "containerPort": 8080}]}]}})
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_follow_services_and_pods() {
    let world = World::start().await;
    world.play_kubelet();
    world
        .create(&json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}}))
        .await;
    world
        .create(&json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "d"},
            "spec": {"selector": {"app": "web"}, "ports": [{"name": "web", "port": 80, "targetPort": "http"}]}}))
        .await;
    let slice = |w: &World| w.list("discovery.k8s.io", "endpointslices").pop();
    let count = |w: &World| slice(w).map(|s| s["endpoints"].as_array().map_or(0, Vec::len));
    world
        .until("a placeholder", |w| (count(w) == Some(0)).then_some(()))
        .await;
    world.create(&pod("a")).await;
    let s = world
        .until("an endpoint", |w| {
            slice(w).filter(|s| s["endpoints"][0]["conditions"]["ready"] == true)
        })
        .await;
    assert_eq!(s["ports"][0]["port"], 8080);
    assert_eq!(s["metadata"]["labels"]["kubernetes.io/service-name"], "web");
    let ready = |w: &World| {
        let e = w.list("", "endpoints").pop()?;
        (e["subsets"][0]["addresses"][0]["ip"] == "10.244.0.9"
            && e["subsets"][0]["ports"][0]["port"] == 8080)
            .then_some(())
    };
    world.until("the endpoints", ready).await;
    world
        .delete("/api/v1/namespaces/d/pods/a", "Background")
        .await;
    world
        .until("no endpoint", |w| (count(w) == Some(0)).then_some(()))
        .await;
    world
        .until("empty endpoints", |w| {
            let e = w.list("", "endpoints").pop()?;
            e["subsets"]
                .as_array()
                .is_none_or(Vec::is_empty)
                .then_some(())
        })
        .await;
    world
        .delete("/api/v1/namespaces/d/services/web", "Background")
        .await;
    world
        .until("nothing to be left", |w| {
            (slice(w).is_none() && w.list("", "endpoints").is_empty()).then_some(())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_written_by_hand_are_mirrored() {
    let world = World::start().await;
    world
        .create(&json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "ext", "namespace": "d"},
            "spec": {"ports": [{"name": "web", "port": 80}]}}))
        .await;
    world
        .create(&json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "ext", "namespace": "d"},
            "subsets": [{"addresses": [{"ip": "10.1.2.3"}], "ports": [{"name": "web", "port": 9000}]}]}))
        .await;
    let slice = |w: &World| w.list("discovery.k8s.io", "endpointslices").pop();
    let s = world.until("a slice", slice).await;
    assert_eq!(s["endpoints"][0]["addresses"], json!(["10.1.2.3"]));
    assert_eq!(s["ports"][0]["port"], 9000);
    world
        .delete("/api/v1/namespaces/d/endpoints/ext", "Background")
        .await;
    world
        .until("the slice to go", |w| slice(w).is_none().then_some(()))
        .await;
}
