//! Claims of pods.

use serde_json::{Value, json};

use crate::world::World;

const PODS: &str = "/api/v1/namespaces/d/pods";

fn pod(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "d"},
        "spec": {"containers": [{"name": "c", "image": "i", "resources": {"claims": [{"name": "gpu"}]}}],
            "resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "one-gpu"}]}})
}

fn template() -> Value {
    json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaimTemplate",
        "metadata": {"name": "one-gpu", "namespace": "d"},
        "spec": {"metadata": {"labels": {"from": "template"}}, "spec": {"devices": {"requests": [
            {"name": "r", "exactly": {"deviceClassName": "gpu"}}]}}}})
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_are_made_from_templates_and_go_when_they_are_not_needed() {
    let world = World::start().await;
    world.create(&pod("early")).await;
    world
        .until("the event about a missing template", |w| {
            let all = w.list("", "events").into_iter();
            let mut all = all.filter(|e| e["reason"] == "FailedResourceClaimCreation");
            let text = "PodResourceClaim gpu: resource claim template \"one-gpu\": resourceclaimtemplate.resource.k8s.io \"one-gpu\" not found";
            all.find(|e| e["message"] == text)
        })
        .await;
    world.create(&template()).await;
    world.create(&pod("late")).await;
    let told = |w: &World, pod: &str| {
        let all = w.list("", "pods").into_iter();
        let pod = all.into_iter().find(|p| p["metadata"]["name"] == pod)?;
        let name = pod.pointer("/status/resourceClaimStatuses/0/resourceClaimName")?;
        let mut claims = w.list("resource.k8s.io", "resourceclaims").into_iter();
        claims.find(|c| &c["metadata"]["name"] == name)
    };
    let claim = world
        .until("a claim for the early pod", |w| told(w, "early"))
        .await;
    let meta = &claim["metadata"];
    assert_eq!(meta["labels"]["from"], "template");
    assert_eq!(
        meta["annotations"]["resource.kubernetes.io/pod-claim-name"],
        "gpu"
    );
    assert_eq!(meta["ownerReferences"][0]["name"], "early");
    world
        .until("a claim for the late pod", |w| told(w, "late"))
        .await;

    // One pod ends, the other is deleted: neither's claim is needed.
    let ended = json!({"status": {"phase": "Succeeded"}});
    world.merge(&format!("{PODS}/early/status"), &ended).await;
    world.delete(&format!("{PODS}/late"), "Background").await;
    world
        .until("both claims to go", |w| {
            let left = w.list("resource.k8s.io", "resourceclaims");
            left.is_empty().then_some(())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn consumers_that_are_gone_free_a_claim() {
    let world = World::start().await;
    let claim = json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim",
        "metadata": {"name": "shared", "namespace": "d",
            "finalizers": ["resource.kubernetes.io/delete-protection"]},
        "spec": {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "gpu"}}]}}});
    world.create(&claim).await;
    let path = "/apis/resource.k8s.io/v1/namespaces/d/resourceclaims/shared";
    let status = json!({"status": {"allocation": {"devices": {"results": [
            {"request": "r", "driver": "d.example.com", "pool": "p", "device": "x"}]}},
        "reservedFor": [{"resource": "pods", "name": "ghost", "uid": "00000000-0000-0000-0000-000000000001"}]}});
    world.merge(&format!("{path}/status"), &status).await;
    world
        .until("the reservation and the allocation to go", |w| {
            let claim = w.list("resource.k8s.io", "resourceclaims").pop()?;
            let free = claim.pointer("/status/reservedFor").is_none()
                && claim.pointer("/status/allocation").is_none()
                && claim.pointer("/metadata/finalizers").is_none();
            free.then_some(())
        })
        .await;
}
