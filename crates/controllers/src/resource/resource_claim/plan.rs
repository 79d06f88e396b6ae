//! What pods want of claims, and what claims still owe to pods. Pure.
//! Upstream: k8s.io/dynamic-resource-allocation/resourceclaim, pkg/controller/resourceclaim.

use std::collections::BTreeMap;

use api::core::v1::{Pod, PodResourceClaim, PodResourceClaimStatus};
use api::meta::{ObjectMeta, OwnerReference};
use api::resource::v1::{ResourceClaim, ResourceClaimConsumerReference, ResourceClaimTemplate};

use crate::common::object::Object;
use crate::common::pods;

/// Keeps allocated claims until their devices are free.
pub const FINALIZER: &str = "resource.kubernetes.io/delete-protection";
/// Names the pod's claim that a claim was made for.
const ANNOTATION: &str = "resource.kubernetes.io/pod-claim-name";
/// Most consumers of a claim.
const RESERVED_MAX: usize = 256;
/// What a generated name may have before five random letters.
const BASE_MAX: usize = 57;

/// The claim that stands behind a pod's claim.
#[derive(Debug, PartialEq, Eq)]
pub enum ByName<'a> {
    /// The pod's status does not tell yet.
    Unknown,
    NotNeeded,
    /// `made`: by this controller, for this pod.
    Of {
        name: &'a str,
        made: bool,
    },
}

/// How a pod stands to a claim that is reserved for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Needs,
    Gone,
}

/// The node a pod is bound to.
pub fn node(pod: &Pod) -> &str {
    pods::node(pod)
}

/// A pod's claims.
pub fn claims(pod: &Pod) -> &[PodResourceClaim] {
    let claims = pod.spec.as_ref().and_then(|s| s.resource_claims.as_ref());
    claims.map_or(&[], Vec::as_slice)
}

fn told(pod: &Pod) -> &[PodResourceClaimStatus] {
    let status = pod.status.as_ref();
    let told = status.and_then(|s| s.resource_claim_statuses.as_ref());
    told.map_or(&[], Vec::as_slice)
}

/// Which claim stands behind one of a pod's claims.
pub fn name<'a>(pod: &'a Pod, claim: &'a PodResourceClaim) -> ByName<'a> {
    if let Some(name) = &claim.resource_claim_name {
        return ByName::Of { name, made: false };
    }
    match told(pod).iter().find(|s| s.name == claim.name) {
        None => ByName::Unknown,
        Some(status) => match &status.resource_claim_name {
            None => ByName::NotNeeded,
            Some(name) => ByName::Of { name, made: true },
        },
    }
}

/// The names of all claims that are known to belong to a pod.
pub fn claim_names(pod: &Pod) -> Vec<String> {
    let own = claims(pod).iter().filter_map(|c| match name(pod, c) {
        ByName::Of { name, .. } => Some(name.to_string()),
        _ => None,
    });
    let extended = pod
        .status
        .as_ref()
        .and_then(|s| s.extended_resource_claim_status.as_ref());
    own.chain(extended.map(|e| e.resource_claim_name.clone()))
        .collect()
}

/// Whether no container of a pod will run any more.
pub fn is_done(pod: &Pod) -> bool {
    pods::terminal(pod) || (pod.deleting() && node(pod).is_empty())
}

/// Whether a pod is the one of this UID, and may run.
pub fn standing(pod: &Pod, uid: &str) -> Standing {
    if pod.uid() != uid || is_done(pod) {
        Standing::Gone
    } else {
        Standing::Needs
    }
}

/// Whether a claim was made for one of a pod's claims.
pub fn is_made_for(claim: &ResourceClaim, pod: &Pod, wanted: &str) -> bool {
    owning_pod(claim).is_some_and(|o| o.uid == pod.uid()) && claim.annotation(ANNOTATION) == wanted
}

/// What upstream says of a claim that another owns.
pub fn not_owner(pod: &Pod, claim: &ResourceClaim) -> String {
    let (namespace, claim, pod) = (claim.namespace(), claim.name(), pod.name());
    format!(
        "ResourceClaim {namespace}/{claim} was not created for pod {namespace}/{pod} (pod is not owner)"
    )
}

/// The pod that a claim was made for.
pub fn owning_pod(claim: &ResourceClaim) -> Option<&OwnerReference> {
    let owners = claim.metadata.owner_references.iter().flatten();
    let mut pods = owners.filter(|o| o.kind == "Pod" && o.api_version == "v1");
    pods.find(|o| o.controller == Some(true))
}

/// What a generated name begins with, cut so that both parts can be told.
fn base_name(pod: &str, claim: &str) -> String {
    let whole = format!("{pod}-{claim}-");
    if whole.len() <= BASE_MAX {
        return whole;
    }
    let part = |text: &str, of: usize| text[..text.len() * BASE_MAX / of].to_string();
    let base = format!("{}-", part(pod, whole.len()));
    let claim = part(claim, whole.len());
    format!("{base}{claim}")
}

/// The claim that a template makes for a pod.
pub fn claim_of(pod: &Pod, wanted: &PodResourceClaim, of: &ResourceClaimTemplate) -> ResourceClaim {
    let template = of.spec.clone().unwrap_or_default();
    let meta = template.metadata.unwrap_or_default();
    let mut annotations = meta.annotations.unwrap_or_default();
    annotations.insert(ANNOTATION.into(), wanted.name.clone());
    ResourceClaim {
        metadata: ObjectMeta {
            generate_name: Some(base_name(pod.name(), &wanted.name)),
            namespace: pod.metadata.namespace.clone(),
            owner_references: Some(vec![OwnerReference {
                api_version: "v1".into(),
                kind: "Pod".into(),
                name: pod.name().into(),
                uid: pod.uid().into(),
                controller: Some(true),
                block_owner_deletion: None,
            }]),
            annotations: Some(annotations),
            labels: meta.labels,
            ..ObjectMeta::default()
        },
        spec: template.spec,
        status: None,
    }
}

/// All that a pod's status is to tell: what was made now, and what it told before.
pub fn statuses(pod: &Pod, made: BTreeMap<String, String>) -> Vec<PodResourceClaimStatus> {
    let mut all: BTreeMap<String, String> = told(pod)
        .iter()
        .filter_map(|s| Some((s.name.clone(), s.resource_claim_name.clone()?)))
        .collect();
    all.extend(made);
    let one = |(name, claim): (String, String)| PodResourceClaimStatus {
        name,
        resource_claim_name: Some(claim),
    };
    all.into_iter().map(one).collect()
}

/// Whom a claim is reserved for.
pub fn consumers(claim: &ResourceClaim) -> &[ResourceClaimConsumerReference] {
    let status = claim.status.as_ref();
    let reserved = status.and_then(|s| s.reserved_for.as_ref());
    reserved.map_or(&[], Vec::as_slice)
}

/// Whether a consumer is a pod.
pub fn is_pod(consumer: &ResourceClaimConsumerReference) -> bool {
    consumer.api_group.as_deref().unwrap_or("").is_empty() && consumer.resource == "pods"
}

/// An allocated claim with a pod among its consumers, if it was not and there is room.
pub fn reserved(claim: &ResourceClaim, pod: &Pod) -> Option<ResourceClaim> {
    let known = consumers(claim);
    let allocated = claim.status.as_ref()?.allocation.is_some();
    let there = known.iter().any(|c| c.uid == pod.uid());
    if !allocated || there || known.len() >= RESERVED_MAX {
        return None;
    }
    let mut claim = claim.clone();
    let status = claim.status.get_or_insert_default();
    let consumers = status.reserved_for.get_or_insert_default();
    consumers.push(ResourceClaimConsumerReference {
        api_group: None,
        resource: "pods".into(),
        name: pod.name().into(),
        uid: pod.uid().into(),
    });
    Some(claim)
}

/// A claim without the consumers that are gone, and without devices once nobody is left; `None` where nothing changes.
pub fn released(claim: &ResourceClaim, standings: &[Standing]) -> Option<ResourceClaim> {
    let known = consumers(claim);
    let stays = |(i, _): &(usize, &ResourceClaimConsumerReference)| {
        standings.get(*i) != Some(&Standing::Gone)
    };
    let left: Vec<ResourceClaimConsumerReference> = known
        .iter()
        .enumerate()
        .filter(stays)
        .map(|(_, c)| c.clone())
        .collect();
    let ours = claim.has_finalizer(FINALIZER);
    let unused = left.is_empty() && ours && claim.deleting();
    if left.len() == known.len() && !unused {
        return None;
    }
    let mut claim = claim.clone();
    if let Some(status) = &mut claim.status {
        if left.is_empty() && ours {
            status.allocation = None;
        }
        status.reserved_for = (!left.is_empty()).then_some(left);
    }
    Some(claim)
}

/// Whether nothing is allocated that the finalizer would keep.
pub fn may_lose_finalizer(claim: &ResourceClaim) -> bool {
    let allocated = claim
        .status
        .as_ref()
        .is_some_and(|s| s.allocation.is_some());
    claim.has_finalizer(FINALIZER) && !allocated
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(more: &Value) -> Pod {
        let mut v = json!({"metadata": {"name": "p", "namespace": "n", "uid": "1"},
            "spec": {"containers": [], "resourceClaims": [
                {"name": "a", "resourceClaimTemplateName": "t"}, {"name": "b", "resourceClaimName": "own"}]}});
        for (key, value) in more.as_object().unwrap() {
            v[key] = value.clone();
        }
        serde_json::from_value(v).unwrap()
    }

    fn claim(finalizers: &[&str], deleted: bool, reserved: &[&str]) -> ResourceClaim {
        let consumers: Vec<Value> = reserved
            .iter()
            .map(|uid| json!({"resource": "pods", "name": "p", "uid": uid}))
            .collect();
        let mut v = json!({"metadata": {"name": "c", "namespace": "n", "finalizers": finalizers,
            "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "1", "controller": true}]},
            "spec": {}, "status": {"allocation": {}, "reservedFor": consumers}});
        if deleted {
            v["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        serde_json::from_value(v).unwrap()
    }

    #[test]
    fn claims_are_made_once_and_told() {
        let new = pod(&json!({}));
        assert_eq!(name(&new, &claims(&new)[0]), ByName::Unknown);
        assert_eq!(claim_names(&new), ["own"]);
        let template: ResourceClaimTemplate =
            serde_json::from_value(json!({"metadata": {"name": "t"},
            "spec": {"metadata": {"labels": {"l": "v"}}, "spec": {"devices": {}}}}))
            .unwrap();
        let made = claim_of(&new, &claims(&new)[0], &template);
        assert_eq!(made.metadata.generate_name.as_deref(), Some("p-a-"));
        assert_eq!(made.labels()["l"], "v");
        assert!(is_made_for(&made, &new, "a") && !is_made_for(&made, &new, "b"));
        let told = statuses(&new, BTreeMap::from([("a".into(), "p-a-xyz".into())]));
        let old = pod(&json!({"status": {"resourceClaimStatuses": told}}));
        let expected = ByName::Of {
            name: "p-a-xyz",
            made: true,
        };
        assert_eq!(name(&old, &claims(&old)[0]), expected);
        assert_eq!(claim_names(&old), ["p-a-xyz", "own"]);
    }

    #[test]
    fn long_names_are_cut_on_both_sides() {
        let name = base_name(&"p".repeat(60), &"c".repeat(60));
        assert_eq!(name, format!("{}-{}", "p".repeat(28), "c".repeat(28)));
    }

    #[test]
    fn pods_that_will_not_run_need_no_claims() {
        let running = pod(&json!({}));
        assert_eq!(standing(&running, "1"), Standing::Needs);
        assert_eq!(standing(&running, "2"), Standing::Gone);
        let ended = pod(&json!({"status": {"phase": "Succeeded"}}));
        assert_eq!(standing(&ended, "1"), Standing::Gone);
    }

    #[test]
    fn the_last_consumer_takes_the_devices_with_it() {
        let both = claim(&[FINALIZER], false, &["1", "2"]);
        assert_eq!(released(&both, &[Standing::Needs, Standing::Needs]), None);
        let one = released(&both, &[Standing::Needs, Standing::Gone]).unwrap();
        assert_eq!(consumers(&one).len(), 1);
        assert!(!may_lose_finalizer(&one));
        let none = released(&both, &[Standing::Gone, Standing::Gone]).unwrap();
        assert!(consumers(&none).is_empty() && may_lose_finalizer(&none));
        // What others allocated is theirs to free.
        let others = claim(&[], false, &["1"]);
        let left = released(&others, &[Standing::Gone]).unwrap();
        assert!(left.status.unwrap().allocation.is_some());
        let deleted = released(&claim(&[FINALIZER], true, &[]), &[]).unwrap();
        assert!(may_lose_finalizer(&deleted));
    }

    #[test]
    fn only_allocated_claims_with_room_are_reserved() {
        let free = claim(&[], false, &["2"]);
        let taken = reserved(&free, &pod(&json!({}))).unwrap();
        assert_eq!(consumers(&taken).len(), 2);
        assert_eq!(reserved(&taken, &pod(&json!({}))), None);
        let mut bare = free;
        bare.status = None;
        assert_eq!(reserved(&bare, &pod(&json!({}))), None);
    }
}
